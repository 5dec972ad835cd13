//! The place index: under which keys a post stands, so that it is found by where it happens, by its category and by its
//! author; and the way from there to every list.

use std::{cmp::Reverse, collections::BTreeSet, future::Future};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    audience::AudienceKey,
    category::CategoryName,
    cover::{self, Region},
    friendship::HiddenPeople,
    ids::{PostId, UserId},
    merge::{Merged, Ordered},
    place::{Cell, Circle, Point},
    post::{Post, Severity, Tags},
    subscription::{Happening, Wish},
    time::Timestamp,
};

/// Reads posts by place.
pub trait PlaceIndex: Sync {
    /// Up to `limit` entries under a key, the newest first, from the first one before `before` on. Read consistently.
    fn newest(
        &self,
        key: &PlaceKey,
        before: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PlaceEntry>>> + Send;
}

/// Where in the place index a post stands: in its cell of each of [`PlaceKey::RESOLUTIONS`], if it is somewhere, in its
/// category, and under its author, if it has one.
///
/// A post with an area stands in each cell of a cover of it, and in the cells around that. Where a cell of the cover is
/// coarse, all cells in it would have the post as well: who looks into one of these looks for [`PlaceKey::Wide`] posts in
/// the cells around it. A post as wide as a country stands in no cell of the index, but only as a wide one, in few cells
/// that are coarser than all of those.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlaceKey {
    /// All posts in a cell, but those that are as wide as a cell around it.
    Cell(Cell),
    /// The posts with an area that covers a cell.
    Wide(Cell),
    /// All posts of a category, anywhere.
    Anywhere(CategoryName),
    /// All posts of a person.
    By(UserId),
}

/// What the place index knows of a post: enough to tell whether it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceEntry {
    /// The post.
    pub post_id: PostId,
    /// Its category.
    pub category: CategoryName,
    /// Its tags.
    pub tags: Tags,
    /// How bad it is.
    pub severity: Severity,
    /// Where it happens, where it does somewhere.
    pub location: Option<Point>,
    /// How far from there it reaches, in metres: 0 unless it has an area.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reach_m: f64,
    /// Who wrote it, so that posts of hidden people are passed over here. An entry from before this was told has none.
    #[serde(default)]
    pub author: Option<UserId>,
    /// From when on it is no longer listed, so that what has expired is passed over here. An entry from before this was told
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Happening for PlaceEntry {
    fn category(&self) -> &CategoryName {
        &self.category
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }

    fn severity(&self) -> Severity {
        self.severity
    }
}

/// What is known of an area here: it is never farther away than this says.
impl Region for PlaceEntry {
    fn signed_distance_m(&self, point: Point) -> f64 {
        self.location.map_or(f64::INFINITY, |location| location.distance_m(point) - self.reach_m)
    }

    fn may_touch(&self, cell: &Cell) -> bool {
        if self.reach_m > 0.0 {
            cover::may_touch(self, cell)
        } else {
            self.location.is_some_and(|location| cell.holds(location))
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl PlaceEntry {
    /// A post's entry.
    #[must_use]
    pub fn of(post: &Post) -> Self {
        let reach_m =
            post.location.zip(post.area.as_ref()).map_or(0.0, |(location, area)| area.reach_m(location));
        Self {
            post_id: post.post_id,
            category: post.category.clone(),
            tags: post.tags.clone(),
            severity: post.severity,
            location: post.location,
            reach_m,
            author: post.author.as_ref().map(|author| author.user_id),
            expires_at: post.expires_at,
        }
    }

    /// Whether it has not expired, as far as is known here.
    #[must_use]
    pub fn is_listed(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires| expires > now)
    }

    /// Whether its author is nobody who is hidden.
    #[must_use]
    pub fn is_shown(&self, hidden: &HiddenPeople) -> bool {
        self.author.is_none_or(|author| !hidden.contains(&author))
    }
}

impl PlaceKey {
    /// The resolutions of the index: edges of 1.4, 9.9 and 69 km. A circle is looked up at the finest one at which few
    /// cells cover it.
    pub const RESOLUTIONS: [u8; 3] = [7, 5, 3];
    /// How many cells are few.
    const FEW: usize = 32;

    /// The most cells that an area is covered with, unless it is larger than as many of the coarsest.
    const MOST_CELLS: usize = 16;
    /// The most of the coarsest: some three million square kilometres.
    const MOST_OF_THE_COARSEST: usize = 240;
    /// The resolution of the cells of an area that is larger: edges of 1,300 km, so that the Earth has 122. Such posts are rare:
    /// who looks there for all of them finds few.
    const WIDEST: u8 = 0;

    /// The keys under which a post is stored: five, and some tens where it has an area, never more than 500; its category and its
    /// author alone, where it is nowhere.
    #[must_use]
    pub fn of(post: &Post) -> BTreeSet<Self> {
        let author = post.author.as_ref().map(|author| Self::By(author.user_id));
        let mut keys: BTreeSet<_> = author.into_iter().collect();
        keys.insert(Self::Anywhere(post.category.clone()));
        let [finest, .., coarsest] = Self::RESOLUTIONS;
        let cover = match (post.location, &post.area) {
            (Some(_), Some(area)) => Some(cover::cover(area, coarsest, finest, Self::MOST_CELLS))
                .filter(|cells| cells.len() <= Self::MOST_OF_THE_COARSEST)
                .unwrap_or_else(|| cover::cover(area, Self::WIDEST, Self::WIDEST, 1)),
            (Some(location), None) => vec![location.cell(finest)],
            (None, _) => Vec::new(),
        };
        for cell in cover.iter().map(Self::indexed) {
            keys.extend(Self::resolutions_to(&cell).map(|resolution| Self::Cell(cell.ancestor(resolution))));
            if cell.resolution() < finest {
                keys.insert(Self::Wide(cell));
            }
        }
        keys
    }

    /// The cell of the index that a cell is in.
    fn indexed(cell: &Cell) -> Cell {
        cell.ancestor(Self::resolutions_to(cell).next().unwrap_or(Self::WIDEST))
    }

    /// The resolutions of the index from a cell's own on, the finest first.
    fn resolutions_to(cell: &Cell) -> impl Iterator<Item = u8> + use<> {
        let own = cell.resolution();
        Self::RESOLUTIONS.into_iter().filter(move |resolution| *resolution <= own)
    }

    /// Keys under which all posts are that touch one of these cells of the index.
    fn touching(cells: &[Cell]) -> BTreeSet<Self> {
        let wide = cells.iter().flat_map(|cell| {
            let around = Self::resolutions_to(cell).skip(1).chain([Self::WIDEST]);
            around.map(|resolution| Self::Wide(cell.ancestor(resolution)))
        });
        cells.iter().cloned().map(Self::Cell).chain(wide).collect()
    }

    /// Keys under which all posts are that an audience's key finds.
    #[must_use]
    pub fn around(key: &AudienceKey) -> BTreeSet<Self> {
        match &key.cell {
            Some(cell) => Self::touching(&[Self::indexed(cell)]),
            None => BTreeSet::from([Self::Anywhere(key.category.clone())]),
        }
    }

    /// Keys under which all posts are that lie in a circle.
    #[must_use]
    pub fn within(circle: Circle) -> BTreeSet<Self> {
        Self::at_the_finest(&[circle])
    }

    /// Keys under which all posts are that match one of these wishes.
    #[must_use]
    pub fn wished_for<'a>(wishes: impl Iterator<Item = &'a Wish>) -> BTreeSet<Self> {
        let (mut circles, mut anywhere) = (Vec::new(), BTreeSet::new());
        for wish in wishes {
            match wish.area {
                // Many wishes are around one home.
                Some(area) if !circles.contains(&area) => circles.push(area),
                Some(_) => {}
                None => {
                    anywhere.insert(Self::Anywhere(wish.category.clone()));
                }
            }
        }
        let mut keys = Self::at_the_finest(&circles);
        keys.append(&mut anywhere);
        keys
    }

    /// The keys of the cells that cover the circles: of the finest resolution at which they are few, or of the coarsest.
    fn at_the_finest(circles: &[Circle]) -> BTreeSet<Self> {
        let cells = |resolution: u8, most: usize| {
            let mut cells = BTreeSet::new();
            for circle in circles {
                cells.extend(cover::cells(circle, resolution, most)?);
                if cells.len() > most {
                    return None;
                }
            }
            Some(Vec::from_iter(cells))
        };
        let [fine, middle, coarse] = Self::RESOLUTIONS;
        let few = cells(fine, Self::FEW).or_else(|| cells(middle, Self::FEW));
        Self::touching(&few.or_else(|| cells(coarse, usize::MAX)).unwrap_or_default())
    }
}

/// The newest posts under several keys, merged: the way from the place index to every list.
pub type Newest<'a, I> = Merged<ByPlace<'a, I>>;

/// The place index, in its order.
#[derive(Debug)]
pub struct ByPlace<'a, I>(&'a I);

impl<'a, I: PlaceIndex> Newest<'a, I> {
    /// Begins after `before`.
    pub fn new(index: &'a I, keys: BTreeSet<PlaceKey>, before: Option<PostId>) -> Self {
        Self::under(ByPlace(index), keys, before.map(Reverse))
    }
}

impl<I: PlaceIndex> Ordered for ByPlace<'_, I> {
    type Key = PlaceKey;
    type Entry = PlaceEntry;
    type Position = Reverse<PostId>;

    async fn read(
        &self,
        key: &PlaceKey,
        before: Option<Reverse<PostId>>,
        limit: usize,
    ) -> Result<Vec<PlaceEntry>> {
        self.0.newest(key, before.map(|Reverse(id)| id), limit).await
    }

    fn position(entry: &PlaceEntry) -> Reverse<PostId> {
        Reverse(entry.post_id)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;
    use crate::{area::tests::areas, audience::tests::post, place::tests::destination, time};

    #[test]
    fn an_entry_is_read_as_it_was_written_when_every_post_was_somewhere() {
        let id = PostId::new(time::now());
        let old = serde_json::json!({
            "post_id": id, "category": "fire", "tags": ["smoke"], "severity": "severe",
            "location": {"lat": 60.4, "lon": 5.3},
        });
        let entry: PlaceEntry = serde_json::from_value(old).unwrap();
        let here = Point::new(60.4, 5.3).unwrap();
        let circle = Circle::new(here, 100.0).unwrap();
        assert_eq!((entry.post_id, entry.location), (id, Some(here)));
        assert!(entry.meets(&circle) && entry.may_touch(&here.cell(7)));
        assert!(entry.is_listed(Timestamp::MAX));
        let nowhere = PlaceEntry { location: None, ..entry };
        assert!(!nowhere.meets(&circle) && !nowhere.may_touch(&here.cell(0)));
        let json = serde_json::to_string(&nowhere).unwrap();
        assert_eq!(serde_json::from_str::<PlaceEntry>(&json).unwrap(), nowhere);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_post_that_a_circle_meets_stands_under_one_of_few_keys_where_it_is_looked_for(
            (centre, reach_m, area) in prop_oneof![3 => areas(50.0..=1_000_000.0), 1 => areas(500_000.0..=4_000_000.0)],
            circles in prop::collection::vec((0.0..1.3f64, 0.0..TAU, 50f64.ln()..=100_000f64.ln()), 16),
        ) {
            let post = post(centre, Some(area), Tags::default());
            let keys = PlaceKey::of(&post);
            prop_assert!(keys.len() <= 500, "{} keys", keys.len());
            for (far, bearing, ln) in circles {
                let middle = destination(centre, reach_m * far, bearing);
                let circle = Circle::new(middle, ln.exp().clamp(50.0, 100_000.0)).unwrap();
                let within = PlaceKey::within(circle);
                prop_assert!(within.len() <= 100, "{} lookups", within.len());
                if post.meets(&circle) {
                    prop_assert!(!within.is_disjoint(&keys), "{circle:?}");
                    // And under each key of an audience that finds it.
                    for cell in (3..=8).map(|resolution| middle.cell(resolution)) {
                        let key = AudienceKey { category: post.category.clone(), tag: None, cell: Some(cell) };
                        let holds = post.signed_distance_m(middle) <= 0.0;
                        prop_assert!(!holds || !PlaceKey::around(&key).is_disjoint(&keys), "{key}");
                    }
                }
            }
        }
    }
}
