//! The audience of a post: the users whose subscriptions match it, with the subscription that did.
//!
//! Subscriptions are stored a second time under [`AudienceKey`]s: a category, a tag or any, a cell or anywhere. A post
//! looks under the handful of keys that it can be found by, whatever the number of subscriptions elsewhere, and holds
//! each entry against the exact rule ([`Wish::matches`]).
//!
//! An audience may be one person or a million, so nobody holds one whole: a [`Walk`] goes over it in parts, and can be
//! put down after each, and taken up by somebody else.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    future::Future,
    mem,
    ops::Range,
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Result,
    category::CategoryName,
    cover::cover,
    error::Invalid,
    ids::{SubscriptionId, UserId},
    large_audience::LargeKeys,
    place::{Cell, Point},
    post::{Post, Tag},
    subscription::{Happening, Subscription, TagMatch, Wish},
    time::{self, Timestamp},
};

/// Where in the index a subscription stands. As a text it is `<category>#<tag or *>#<cell or *>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AudienceKey {
    /// The subscription's category.
    pub category: CategoryName,
    /// One of its tags; none where the tags do not narrow the search.
    pub tag: Option<Tag>,
    /// A cell of its area, from [`COARSEST`] to [`FINEST`]; none where it is from anywhere.
    pub cell: Option<Cell>,
}

impl AudienceKey {
    /// Whether a post is found by this key: all that a subscription that stands under it can match is.
    #[must_use]
    pub fn finds(&self, post: &impl Happening) -> bool {
        self.category == *post.category()
            && self.tag.as_ref().is_none_or(|tag| post.tags().contains(tag))
            && self.cell.as_ref().is_none_or(|cell| post.may_touch(cell))
    }
}

impl fmt::Display for AudienceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag.as_ref().map_or("*", Tag::as_str);
        let cell = self.cell.as_ref().map_or("*", Cell::as_str);
        write!(f, "{}#{tag}#{cell}", self.category)
    }
}

impl FromStr for AudienceKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('#');
        let (Some(category), Some(tag), Some(cell), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Invalid::new("invalid_key", "must be a category, a tag and a cell"));
        };
        let tag = (tag != "*").then(|| tag.parse()).transpose()?;
        let cell = (cell != "*").then(|| cell.parse()).transpose()?;
        Ok(Self { category: category.parse()?, tag, cell })
    }
}

impl TryFrom<String> for AudienceKey {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<AudienceKey> for String {
    fn from(key: AudienceKey) -> Self {
        key.to_string()
    }
}

/// The coarsest resolution of a key's cell: edges of 69 km, so that the largest area still has few.
pub const COARSEST: u8 = 3;
/// The finest resolution of a key's cell: edges of 530 m.
pub const FINEST: u8 = 8;
/// The most keys of one subscription: twice as many, and the subscription itself, fit DynamoDB's transaction of 100.
pub const MOST_KEYS: usize = 48;
/// The most cells that an area is covered with. At 24 they have about 1.3 times the area of the circle.
const MOST_CELLS: usize = 24;

/// The keys under which a subscription is stored: never more than [`MOST_KEYS`].
#[must_use]
pub fn keys_of(wish: &Wish) -> Vec<AudienceKey> {
    // A post with all of the tags has the first one: it alone finds them.
    let tags: Vec<_> = match wish.tag_match {
        TagMatch::All => wish.tags.iter().take(1).cloned().collect(),
        TagMatch::Any => wish.tags.iter().cloned().collect(),
    };
    let cells = |most| match wish.area {
        Some(area) => cover(&area, COARSEST, FINEST, most).into_iter().map(Some).collect(),
        None => vec![None],
    };
    let share = cells((MOST_KEYS / tags.len().max(1)).min(MOST_CELLS));
    if share.len() * tags.len() <= MOST_KEYS {
        keys(wish, some_or_any(tags), &share)
    } else {
        // Many tags, or some and a large area: the exact rule then does what the keys do not.
        keys(wish, vec![None], &cells(MOST_CELLS))
    }
}

fn some_or_any(tags: Vec<Tag>) -> Vec<Option<Tag>> {
    if tags.is_empty() { vec![None] } else { tags.into_iter().map(Some).collect() }
}

fn keys(wish: &Wish, tags: Vec<Option<Tag>>, cells: &[Option<Cell>]) -> Vec<AudienceKey> {
    tags.into_iter()
        .flat_map(|tag| {
            cells.iter().map(move |cell| AudienceKey {
                category: wish.category.clone(),
                tag: tag.clone(),
                cell: cell.clone(),
            })
        })
        .collect()
}

/// Some subscriptions that stand together in the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lookup {
    /// Those under this key.
    pub key: AudienceKey,
    /// And those under the keys of the cells inside its cell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inside: bool,
}

impl Lookup {
    /// Whether what stands under a key is among them.
    #[must_use]
    pub fn has(&self, key: &AudienceKey) -> bool {
        let same = (&self.key.category, &self.key.tag) == (&key.category, &key.tag);
        same && match (&self.key.cell, &key.cell) {
            (Some(cell), Some(other)) if self.inside => other.ancestor(cell.resolution()) == *cell,
            (cell, other) => cell == other,
        }
    }
}

/// How many lookups the tags of a post may take; where they would be more, they are of coarser cells.
const MOST_LOOKUPS: usize = 400;

/// Where the subscriptions are that may match a post, in the order in which a [`Walk`] goes there: the same whenever they
/// are asked for, as long as the post has this category, these tags, this location and this area.
///
/// Those that name no tag are most, and are looked for in fine cells: under seven keys, or for an area under at most 145,
/// those of [`MOST_CELLS`] cells and of the cells around these. Those of a tag are few, so that where there are many tags
/// each is looked for at once inside of coarser cells: in all, under at most [`MOST_LOOKUPS`] keys. But no cell is coarser
/// than [`COARSEST`]: of an area that n of these cover (one for 12,000 km², and those along its rim) the lookups of t tags
/// are (n + 1) × t at least, and where n is more than [`MOST_CELLS`], all lookups are (n + 1) × (t + 1). With 200 tags, that
/// is up to 5,000 for an area 300 km across, 100,000 for one 2,000 km across, and 300,000 for one 4,000 km across; with five,
/// 200, 3,000 and 8,000.
#[derive(Debug)]
struct Lookups<'a> {
    category: &'a CategoryName,
    /// Where those are looked for that stand under no tag.
    any: Vec<Place>,
    tags: Vec<&'a Tag>,
    /// Where those are looked for that stand under a tag.
    tagged: Vec<Place>,
}

/// A cell, or everywhere; and whether what stands inside of it is looked for as well.
type Place = (Option<Cell>, bool);

impl<'a> Lookups<'a> {
    fn of(post: &'a Post) -> Self {
        let covering = match (post.location, &post.area) {
            (None, _) => Vec::new(),
            (Some(location), None) => vec![location.cell(FINEST)],
            (Some(_), Some(area)) => cover(area, COARSEST, FINEST, MOST_CELLS),
        };
        Self::within(&covering, &post.category, post.tags.iter())
    }

    fn within(covering: &[Cell], category: &'a CategoryName, tags: impl Iterator<Item = &'a Tag>) -> Self {
        let tags: Vec<_> = tags.collect();
        let at = |resolution| looked_up(covering.iter().map(|cell| cell.ancestor(resolution)));
        let from_the_finest = (COARSEST..=FINEST).rev().map(at);
        let tagged = from_the_finest.into_iter().find(|places| places.len() * tags.len() <= MOST_LOOKUPS);
        Self { category, any: at(FINEST), tagged: tagged.unwrap_or_else(|| at(COARSEST)), tags }
    }

    fn count(&self) -> usize {
        self.any.len() + self.tags.len() * self.tagged.len()
    }

    /// The lookups of these places in the order. First those without a tag, where most people stand; then, of all tags, those
    /// without a cell, where people stand who follow a place by its code.
    fn at(&self, places: Range<usize>) -> impl Iterator<Item = Lookup> {
        let any = self.any.iter().map(|place| (None, place));
        let tagged =
            self.tagged.iter().flat_map(|place| self.tags.iter().map(move |tag| (Some(*tag), place)));
        any.chain(tagged).skip(places.start).take(places.len()).map(|(tag, (cell, inside))| Lookup {
            key: AudienceKey { category: self.category.clone(), tag: tag.cloned(), cell: cell.clone() },
            inside: *inside,
        })
    }

    /// What is another one where the lookups of a post are others, or where somebody is told of it under another key.
    fn fingerprint(&self, post: &Post) -> String {
        let told_by = (&post.location, &post.area);
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{self:?} {told_by:?}")))
    }
}

/// The cells around and inside of these, and none: everywhere.
fn looked_up(covering: impl IntoIterator<Item = Cell>) -> Vec<Place> {
    let mut cells = BTreeSet::from([(None, false)]);
    for cell in covering {
        cells.extend((COARSEST..cell.resolution()).map(|coarser| (Some(cell.ancestor(coarser)), false)));
        let inside = cell.resolution() < FINEST;
        cells.insert((Some(cell), inside));
    }
    Vec::from_iter(cells)
}

/// Whether a subscription that matches a post is told of it under this key, and under no other of those where it stands:
/// that of the first of its tags that the post has, and of the one cell of its area that has the post's point which is
/// nearest to the middle of the area, and so lies in both.
fn is_told_here(key: &AudienceKey, wish: &Wish, post: &Post) -> bool {
    let first = || wish.tags.iter().find(|tag| post.tags.contains(tag));
    let by_tag = key.tag.is_none() || key.tag.as_ref() == first();
    by_tag
        && match (&key.cell, wish.area) {
            (Some(cell), Some(wished)) => {
                nearest(post, wished.centre()).is_some_and(|nearest| cell.holds(nearest))
            }
            _ => true,
        }
}

/// The point of a post that is nearest to another, if it is anywhere.
fn nearest(post: &Post, point: Point) -> Option<Point> {
    let location = post.location?;
    Some(post.area.as_ref().map_or(location, |area| area.nearest(point)))
}

/// Reads the index.
pub trait Audience: Sync {
    /// Up to `limit` entries, and where the next ones begin, if there are more.
    fn entries(
        &self,
        lookup: &Lookup,
        from: Option<Position>,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<AudienceEntry>, Option<Position>)>> + Send;
}

/// Where the next entries begin: an adapter's own.
pub type Position = String;

/// One subscription, as the index has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AudienceEntry {
    /// The key that it stands under.
    pub key: AudienceKey,
    /// Whose it is.
    pub user_id: UserId,
    /// What it asks for.
    pub subscription: Subscription,
}

/// A user who is told of a post, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The user.
    pub user_id: UserId,
    /// The oldest subscription that matched and has asked for pushes, as it does now, since before what they are told of
    /// happened, if one did.
    pub push_because: Option<SubscriptionId>,
}

/// A walk over a post's audience: where it has still to go. It is small, however large the audience and however many the
/// lookups: these follow from the post, and so it says how far it is.
///
/// A part has everybody once. Who has several subscriptions may be in several parts, and so may everybody where the post
/// changes on the way so that its audience is another one: then the walk begins anew, and passes nobody over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Where it has begun, and has still to go on: at most [`MOST_OPEN`] lookups. A walk from before the next two fields were
    /// has all of its lookups here. The other name is for those before, who must not take the open ones for all.
    #[serde(alias = "left")]
    open: Vec<Left>,
    /// The lookups that are not begun, by their places in the order.
    #[serde(default)]
    rest: Range<usize>,
    /// The fingerprint of the lookups that these are of.
    #[serde(default)]
    of: Option<String>,
    /// The keys that are passed over.
    #[serde(skip)]
    passed: HashSet<AudienceKey>,
}

/// What is so of most is left out where it is written: a message of a queue has them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    #[serde(flatten)]
    lookup: Lookup,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Position>,
    #[serde(default, skip_serializing_if = "is_zero")]
    seen: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What is much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A key with more entries than this is large.
    pub large_key: usize,
    /// A part of a walk ends with the reads after which it has as many entries: with those it is at most some thousands. Where
    /// there are few, it ends after a thousand reads all the same.
    pub part: usize,
}

impl Sizes {
    /// How many entries a part has, unless somebody knows better.
    pub const PART: usize = 2_000;

    /// How many entries are read at once under a key: no more than a part has.
    fn per_read(self) -> usize {
        ENTRIES_PER_READ.min(self.part)
    }
}

/// How many keys are read at once.
const CONCURRENT_READS: usize = 16;
/// How many reads a part takes: half a second of them, if they find nothing.
const MOST_READS: usize = 1_000;
/// How many lookups are begun and not ended at most: some 30 KB of an SQS message, which takes 256.
const MOST_OPEN: usize = 64;
/// How many entries are read at once under a key at most: some 300 KiB.
const ENTRIES_PER_READ: usize = 500;

impl Walk {
    /// Over everybody who may be told of a post.
    #[must_use]
    pub fn over(post: &Post) -> Self {
        Self::through(&Lookups::of(post), post)
    }

    fn through(lookups: &Lookups<'_>, post: &Post) -> Self {
        let of = Some(lookups.fingerprint(post));
        Self { open: Vec::new(), rest: 0..lookups.count(), of, passed: HashSet::new() }
    }

    /// Passes over who stands under these keys, as long as nobody puts it down.
    pub fn pass_over(&mut self, keys: impl IntoIterator<Item = AudienceKey>) {
        self.passed.extend(keys);
        let passed = &self.passed;
        self.open.retain(|Left { lookup, .. }| !is_passed(lookup, passed));
    }

    /// Whether there is nobody left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.is_empty() && self.rest.is_empty()
    }

    /// The next part: those whose subscriptions match a post, of which they are told as of `told_at`, each once, in the order
    /// of their ids. A key that turns out to be large is remembered.
    pub async fn next(
        &mut self,
        audience: &impl Audience,
        large: &impl LargeKeys,
        post: &Post,
        told_at: Timestamp,
        sizes: Sizes,
    ) -> Result<Vec<Recipient>> {
        let lookups = Lookups::of(post);
        self.begin_anew_if_changed(&lookups, post);
        let mut rest = lookups.at(self.rest.clone());
        let (mut recipients, mut found, mut reads) = (BTreeMap::new(), 0, 0);
        while found < sizes.part && reads < MOST_READS && !self.is_over() {
            self.begin_some(&mut rest);
            let now = self.open.len().min(CONCURRENT_READS);
            reads += now;
            let pages: Vec<_> = stream::iter(&self.open[..now])
                .map(|left| audience.entries(&left.lookup, left.from.clone(), sizes.per_read()))
                .buffered(CONCURRENT_READS)
                .try_collect()
                .await?;
            for (left, (entries, _)) in self.open.iter().zip(&pages) {
                // Many who stand inside a cell are under many keys.
                let is_key = !left.lookup.inside;
                if is_key && left.seen <= sizes.large_key && left.seen + entries.len() > sizes.large_key {
                    large.remember(&left.lookup.key, time::now()).await?;
                }
            }
            let mut unended = Vec::new();
            for (left, (entries, next)) in self.open.drain(..now).zip(pages) {
                let seen = left.seen + entries.len();
                found += entries.len();
                let wanted = entries.into_iter().filter(|entry| !self.passed.contains(&entry.key));
                let matching = wanted.filter(|AudienceEntry { key, subscription, .. }| {
                    // Where it is not known what the lookups were of, the other key may have been among those before.
                    let is_here = self.of.is_none() || is_told_here(key, &subscription.wish, post);
                    is_here && subscription.wish.matches(post)
                });
                matching.for_each(|entry| tell(&mut recipients, &entry, told_at));
                unended.extend(next.map(|from| Left { lookup: left.lookup, from: Some(from), seen }));
            }
            // What has more comes last: first everybody under a small key.
            self.open.extend(unended);
        }
        Ok(recipients.into_values().collect())
    }

    /// Begins anew where the post is looked for elsewhere than when this began. Who was told is told again: better than to pass
    /// somebody over.
    fn begin_anew_if_changed(&mut self, lookups: &Lookups<'_>, post: &Post) {
        let anew = Self::through(lookups, post);
        if self.of.is_some() && self.of != anew.of {
            *self = Self { passed: mem::take(&mut self.passed), ..anew };
        }
    }

    /// Begins some more lookups, as long as there is room. They come before those that have more.
    fn begin_some(&mut self, rest: &mut impl Iterator<Item = Lookup>) {
        let room = MOST_OPEN.saturating_sub(self.open.len()).min(CONCURRENT_READS);
        let (left, passed) = (&mut self.rest, &self.passed);
        let begun = rest.inspect(|_| left.start += 1).filter(|lookup| !is_passed(lookup, passed)).take(room);
        self.open.splice(..0, begun.map(|lookup| Left { lookup, from: None, seen: 0 }));
    }
}

/// Whether all who stand there are passed over.
fn is_passed(lookup: &Lookup, passed: &HashSet<AudienceKey>) -> bool {
    !lookup.inside && passed.contains(&lookup.key)
}

fn tell(recipients: &mut BTreeMap<UserId, Recipient>, entry: &AudienceEntry, told_at: Timestamp) {
    let AudienceEntry { user_id, subscription, .. } = entry;
    // Nobody's phone rings for what happened before they asked: the log can be replayed long after. What a wish was
    // before it changed is not known any more.
    let asked = subscription.wish.push && subscription.updated_at <= told_at;
    let push = asked.then_some(subscription.subscription_id);
    let recipient = recipients.entry(*user_id).or_insert(Recipient { user_id: *user_id, push_because: None });
    recipient.push_because = match (recipient.push_because, push) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::HashMap,
        f64::consts::TAU,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        area::{Area, tests::areas},
        cover::cells,
        large_audience::LargeKey,
        place::{
            Circle,
            tests::{destination, point},
        },
        post::{Author, NewPost, Tags},
    };

    fn tags(numbers: impl IntoIterator<Item = usize>) -> Tags {
        Tags::new(numbers.into_iter().map(|number| format!("same:{number:0>59}").parse().unwrap()))
    }

    /// A post of now, at a place.
    pub(crate) fn post(place: Point, area: Option<Area>, tags: Tags) -> Post {
        let location = json!({"lat": place.lat(), "lon": place.lon()});
        let body = json!({"title": "Smoke", "category": "fire", "location": location});
        let now = time::now();
        let author = Author { user_id: UserId::new(now), username: "ada".into() };
        let post = NewPost::from_json(&body, now).unwrap().into_post(crate::ids::PostId::new(now), author);
        Post { tags, area, ..post }
    }

    /// A place, how large it is, and where it is.
    type Somewhere = (Point, f64, Option<Area>);

    /// Points, and areas up to so far across, in metres.
    fn somewhere(most_across_m: f64) -> impl Strategy<Value = Somewhere> {
        let areas = areas(50.0..=most_across_m / 2.0);
        prop_oneof![
            1 => point().prop_map(|point| (point, 1_000.0, None)),
            3 => areas.prop_map(|(centre, reach_m, area)| (centre, reach_m, Some(area))),
        ]
    }

    /// A wish for something around a place, with tags of a post that has so many.
    #[derive(Clone, Debug)]
    struct Around {
        far: f64,
        bearing: f64,
        radius_m: Option<f64>,
        tags: Vec<prop::sample::Index>,
        tag_match: TagMatch,
    }

    fn around() -> impl Strategy<Value = Around> {
        let radius_m = prop::option::weighted(0.9, (50f64.ln()..=100_000f64.ln()).prop_map(f64::exp));
        let tags = prop_oneof![
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ];
        let tag_match = prop::sample::select(vec![TagMatch::Any, TagMatch::All]);
        (0.0..1.3f64, 0.0..TAU, radius_m, tags, tag_match).prop_map(
            |(far, bearing, radius_m, tags, tag_match)| Around { far, bearing, radius_m, tags, tag_match },
        )
    }

    impl Around {
        fn wish(&self, (place, reach_m, _): &Somewhere, tags_of_post: usize) -> Wish {
            let centre = destination(*place, reach_m * self.far, self.bearing);
            let circle = |radius_m: f64| Circle::new(centre, radius_m.clamp(50.0, 100_000.0)).unwrap();
            Wish {
                category: "fire".parse().unwrap(),
                // A few that it has not.
                tags: tags(self.tags.iter().map(|index| index.index(tags_of_post + tags_of_post / 10 + 1))),
                tag_match: self.tag_match,
                area: self.radius_m.map(circle),
                min_severity: None,
                push: true,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn who_wishes_for_a_post_is_looked_up_and_told_under_exactly_one_key(
            place in somewhere(2_000_000.0),
            count in prop_oneof![0usize..10, 0usize..=200],
            wishes in prop::collection::vec(around(), 1..40),
        ) {
            let post = post(place.0, place.2.clone(), tags(0..count));
            let lookups = Lookups::of(&post);
            let mut by_tag: HashMap<_, Vec<_>> = HashMap::new();
            for lookup in lookups.at(0..lookups.count()) {
                prop_assert!(lookup.key.finds(&post) || lookup.inside);
                by_tag.entry(lookup.key.tag.clone()).or_default().push(lookup);
            }
            for wish in wishes.iter().map(|around| around.wish(&place, count)) {
                let keys = keys_of(&wish);
                prop_assert!(keys.len() <= MOST_KEYS, "{} keys", keys.len());
                if wish.matches(&post) {
                    let is_looked_up = |key: &&AudienceKey| {
                        by_tag.get(&key.tag).is_some_and(|some| some.iter().any(|lookup| lookup.has(key)))
                    };
                    let told = keys.iter().filter(is_looked_up).filter(|key| is_told_here(key, &wish, &post));
                    prop_assert_eq!(told.count(), 1, "{:?} stands under {:?}", wish, keys);
                }
            }
        }

        #[test]
        fn the_lookups_are_different_ones_and_bounded(
            place in somewhere(2_000_000.0),
            count in prop_oneof![0usize..10, 0usize..=200],
        ) {
            let post = post(place.0, place.2.clone(), tags(0..count));
            let lookups = Lookups::of(&post);
            let all: Vec<_> = lookups.at(0..lookups.count()).collect();
            prop_assert_eq!(all.len(), lookups.count());
            let (mut different, places) = (BTreeSet::from_iter(&all), lookups.count() / 2);
            prop_assert_eq!(different.len(), all.len());
            for lookup in lookups.at(places..lookups.count()) {
                prop_assert!(different.remove(&lookup));
            }
            prop_assert_eq!(different.len(), places);

            let coarsest = place.2.map_or(1, |area| cells(&area, COARSEST, usize::MAX).unwrap().len());
            let of_tags = MOST_LOOKUPS.max((coarsest + 1) * count);
            let of_none = if coarsest > MOST_CELLS { coarsest + 1 } else { 145 };
            prop_assert!(all.len() <= of_none + of_tags, "{} for {coarsest} cells and {count} tags", all.len());
            let most_for_a_country = if place.1 <= 150_000.0 { 5_200 } else { 100_000 };
            prop_assert!(all.len() <= most_for_a_country || coarsest > 500, "{} within {}", all.len(), place.1);
        }
    }

    /// Subscriptions, each somebody else's, and how often they were asked for.
    #[derive(Default)]
    struct Town {
        entries: Vec<AudienceEntry>,
        reads: AtomicUsize,
        large: Mutex<Vec<AudienceKey>>,
    }

    impl Town {
        fn of(wishes: impl IntoIterator<Item = Wish>) -> Self {
            let mut town = Self::default();
            for wish in wishes {
                town.add(wish);
            }
            town
        }

        fn add(&mut self, wish: Wish) -> UserId {
            let now = time::now();
            let (user_id, subscription_id) = (UserId::new(now), SubscriptionId::new(now));
            let keys = keys_of(&wish);
            let subscription = Subscription { subscription_id, wish, created_at: now, updated_at: now };
            self.entries.extend(keys.into_iter().map(|key| AudienceEntry {
                key,
                user_id,
                subscription: subscription.clone(),
            }));
            user_id
        }

        fn audience_of(&self, post: &Post) -> BTreeSet<UserId> {
            let all = self.entries.iter();
            all.filter(|entry| entry.subscription.wish.matches(post)).map(|entry| entry.user_id).collect()
        }

        /// The next part of a walk that somebody else takes up.
        fn next(&self, walk: &mut Walk, post: &Post, part: usize) -> Vec<UserId> {
            let message = serde_json::to_string(walk).unwrap();
            assert!(message.len() < 64 * 1_024, "{} bytes", message.len());
            *walk = serde_json::from_str(&message).unwrap();
            let (sizes, reads) = (Sizes { large_key: 2, part }, self.reads.load(Relaxed));
            let next = walk.next(self, self, post, post.created_at, sizes);
            let told = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(next).unwrap();
            assert!(self.reads.load(Relaxed) - reads < MOST_READS + CONCURRENT_READS);
            assert!(walk.open.len() <= MOST_OPEN);
            told.into_iter().map(|recipient| recipient.user_id).collect()
        }

        fn rest(&self, walk: &mut Walk, post: &Post, part: usize) -> Vec<UserId> {
            let mut told = Vec::new();
            while !walk.is_over() {
                told.extend(self.next(walk, post, part));
            }
            told
        }
    }

    impl Audience for Town {
        async fn entries(
            &self,
            lookup: &Lookup,
            from: Option<Position>,
            limit: usize,
        ) -> Result<(Vec<AudienceEntry>, Option<Position>)> {
            self.reads.fetch_add(1, Relaxed);
            let from: usize = from.map_or(0, |from| from.parse().unwrap());
            let mut here = self.entries.iter().filter(|entry| lookup.has(&entry.key)).skip(from);
            let entries = here.by_ref().take(limit).cloned().collect();
            // As long as a sort key of the storage.
            Ok((entries, here.next().map(|_| format!("{:0>100}", from + limit))))
        }
    }

    impl LargeKeys for Town {
        async fn all(&self) -> Result<Arc<[LargeKey]>> {
            Ok(Arc::default())
        }

        async fn remember(&self, key: &AudienceKey, _: Timestamp) -> Result<()> {
            self.large.lock().unwrap().push(key.clone());
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_walk_that_is_put_down_after_each_part_tells_everybody_once(
            place in somewhere(300_000.0),
            count in 0usize..40,
            wishes in prop::collection::vec(around(), 1..30),
            part in 1usize..10,
        ) {
            let post = post(place.0, place.2.clone(), tags(0..count));
            let town = Town::of(wishes.iter().map(|around| around.wish(&place, count)));
            let mut told = town.rest(&mut Walk::over(&post), &post, part);
            told.sort_unstable();
            prop_assert_eq!(told, Vec::from_iter(town.audience_of(&post)));
        }

        #[test]
        fn a_walk_over_a_post_that_changes_passes_over_nobody_whose_it_is_then(
            (place, other) in (somewhere(300_000.0), somewhere(300_000.0)),
            (count, other_count) in (0usize..40, 0usize..40),
            wishes in prop::collection::vec(around(), 1..30),
            (moves, parts) in (any::<bool>(), 0usize..8),
        ) {
            let before = post(place.0, place.2.clone(), tags(0..count));
            // Elsewhere; or in an area that overlaps, mostly with the same cells and other nearest points.
            let area = if moves { other.2 } else { place.2.clone().map(|_| {
                let shifted = destination(place.0, place.1 / 4.0, 1.0);
                Area::new(vec![Circle::new(shifted, place.1.clamp(50.0, 100_000.0)).unwrap()], vec![]).unwrap()
            })};
            let other_count = if moves { other_count } else { count };
            let after = Post { area, tags: tags(0..other_count), revision: 1, ..before.clone() };
            let town = Town::of(wishes.iter().map(|around| around.wish(&place, count)));
            let (mut walk, mut told_before) = (Walk::over(&before), BTreeSet::new());
            for _ in 0..parts {
                if !walk.is_over() {
                    told_before.extend(town.next(&mut walk, &before, 1));
                }
            }
            if !walk.is_over() {
                let told = BTreeSet::from_iter(town.rest(&mut walk, &after, 3));
                let whose_it_is = town.audience_of(&after);
                prop_assert!(told.is_subset(&whose_it_is));
                prop_assert!(whose_it_is.iter().all(|user| told.contains(user) || told_before.contains(user)));
            }
        }
    }

    #[test]
    fn what_is_nowhere_is_looked_for_where_wishes_are_for_anywhere() {
        let post = Post { location: None, ..post(bergen(), None, tags(0..3)) };
        let lookups = Lookups::of(&post);
        let found: Vec<_> = lookups.at(0..lookups.count()).collect();
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|lookup| lookup.key.cell.is_none() && !lookup.inside));
    }

    fn bergen() -> Point {
        Point::new(60.3991, 5.3206).unwrap()
    }

    /// Else who is told under another key since, where the walk has been already, would not be told at all.
    #[test]
    fn a_walk_begins_anew_where_an_area_changes_though_the_lookups_stay() {
        let within = |radius_m| {
            let area = Area::new(vec![Circle::new(bergen(), radius_m).unwrap()], vec![]).unwrap();
            post(bergen(), Some(area), tags(0..3))
        };
        let (before, after) = (within(5_000.0), within(5_000.1));
        let all = |post| Lookups::of(post).at(0..usize::MAX).collect::<Vec<_>>();
        assert_eq!(all(&before), all(&after));
        assert_ne!(Walk::over(&before), Walk::over(&after));
        let confirmed = Post { confirmations: 7, revision: 7, ..before.clone() };
        assert_eq!(Walk::over(&before), Walk::over(&confirmed));
    }

    #[test]
    fn a_part_ends_also_where_there_is_nobody() {
        let area = Area::new(vec![Circle::new(bergen(), 100_000.0).unwrap()], vec![]).unwrap();
        // Whatever is left for the last reads.
        for count in 185..=200 {
            let post = post(bergen(), Some(area.clone()), tags(0..count));
            let (town, mut walk, mut parts) = (Town::default(), Walk::over(&post), 0);
            let all = Lookups::of(&post).count();
            while !walk.is_over() {
                assert_eq!(town.next(&mut walk, &post, Sizes::PART), []);
                parts += 1;
            }
            let most = MOST_READS.next_multiple_of(CONCURRENT_READS);
            assert!(parts > 1 && parts == all.div_ceil(most), "{parts} for {all}");
            assert_eq!(town.reads.load(Relaxed), all, "each is looked up once");
        }
    }

    #[test]
    fn few_lookups_are_open_at_once_and_large_keys_are_remembered() {
        let all = tags(0..150);
        let post = post(bergen(), None, all.clone());
        let wish = |tag: &Tag| Wish {
            category: "fire".parse().unwrap(),
            tags: Tags::new([tag.clone()]),
            tag_match: TagMatch::Any,
            area: None,
            min_severity: None,
            push: true,
        };
        // Three under each of 150 keys, read one by one.
        let town = Town::of(all.iter().flat_map(|tag| [wish(tag), wish(tag), wish(tag)]));
        let (mut walk, mut told, mut most_open) = (Walk::over(&post), Vec::new(), 0);
        while !walk.is_over() {
            told.extend(town.next(&mut walk, &post, 1));
            most_open = most_open.max(walk.open.len());
        }
        assert_eq!(most_open, MOST_OPEN);
        told.sort_unstable();
        assert_eq!(told, Vec::from_iter(town.audience_of(&post)));
        assert_eq!(town.large.lock().unwrap().len(), 150);
        // Who merges them reads nothing under them.
        let mut walk = Walk::over(&post);
        walk.pass_over(town.large.lock().unwrap().iter().cloned());
        assert_eq!(town.rest(&mut walk.clone(), &post, Sizes::PART), told, "it was put down");
        let next = walk.next(&town, &town, &post, post.created_at, Sizes { large_key: 2, part: 2_000 });
        let told = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(next).unwrap();
        assert!(told.is_empty() && walk.is_over());
    }

    #[test]
    fn a_walk_that_is_under_way_since_before_it_was_a_range_goes_on_where_it_was() {
        let post = post(bergen(), None, tags([1]));
        let smoke = post.tags.iter().next().unwrap();
        let near = Circle::new(bergen(), 800.0).unwrap();
        let wish = |tags, area| Wish {
            category: "fire".parse().unwrap(),
            tags,
            tag_match: TagMatch::Any,
            area,
            min_severity: None,
            push: true,
        };
        let mut town = Town::default();
        let followers: Vec<_> = (0..5).map(|_| town.add(wish(post.tags.clone(), None))).collect();
        let near = wish(Tags::default(), Some(near));
        let neighbour = town.add(near.clone());
        // Where the post was before it moved: it has been at the key by which the neighbour would be told now.
        let passed = keys_of(&near).into_iter().find(|key| !is_told_here(key, &near, &post)).unwrap();
        town.add(wish(Tags::default(), None));
        let message = json!({
            "left": [
                {"key": passed, "inside": false, "from": null, "seen": 0},
                {"key": format!("fire#{smoke}#*"), "from": "2", "seen": 2},
            ],
            "revision": 7,
        });
        let mut walk: Walk = serde_json::from_value(message).unwrap();
        let told = town.rest(&mut walk, &post, 1);
        assert_eq!(BTreeSet::from_iter(told), followers[2..].iter().copied().chain([neighbour]).collect());

        // Who knows only the old form does not take the open lookups for all.
        let message = serde_json::to_value(Walk::over(&post)).unwrap();
        assert_eq!(message.get("left"), None);
    }
}
