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
    str::FromStr,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    category::CategoryName,
    cover::cover,
    error::Invalid,
    ids::{SubscriptionId, UserId},
    large_audience::LargeKeys,
    place::Cell,
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
    let Some(area) = wish.area else {
        return keys(wish, some_or_any(tags), &[None]);
    };
    let share = (MOST_KEYS / tags.len().max(1)).min(MOST_CELLS);
    let cells = cover(&area, COARSEST, FINEST, share);
    if cells.len() * tags.len() <= MOST_KEYS {
        keys(wish, some_or_any(tags), &cells.into_iter().map(Some).collect::<Vec<_>>())
    } else {
        // Many tags and a large area: the exact rule then does what the keys do not.
        let cells: Vec<_> = cover(&area, COARSEST, FINEST, MOST_CELLS).into_iter().map(Some).collect();
        keys(wish, vec![None], &cells)
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
    #[serde(default)]
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

/// How many lookups an area is covered for: where its parts are far from each other, with coarser cells.
const MOST_LOOKUPS: usize = 400;

/// Where the subscriptions are that may match a post: under seven keys, and seven more for each tag; of a post with an
/// area, under those of the cells around and inside of each that covers it ([`MOST_LOOKUPS`], unless the area is larger than
/// as many of the coarsest).
fn lookups(post: &Post) -> BTreeSet<Lookup> {
    let most = MOST_LOOKUPS / (post.tags.iter().len() + 1);
    let cells = match &post.area {
        None => looked_up([post.location.cell(FINEST)]),
        Some(area) => {
            let finer = [MOST_CELLS, MOST_CELLS / 2, MOST_CELLS / 4].into_iter();
            let mut covers = finer.map(|cells| looked_up(cover(area, COARSEST, FINEST, cells)));
            let few = covers.find(|cells| cells.len() <= most);
            few.unwrap_or_else(|| looked_up(cover(area, COARSEST, COARSEST, 1)))
        }
    };
    let tags = || post.tags.iter().cloned().map(Some).chain([None]);
    let category = &post.category;
    let lookup = |(cell, inside): (Option<Cell>, bool)| {
        tags().map(move |tag| Lookup {
            key: AudienceKey { category: category.clone(), tag, cell: cell.clone() },
            inside,
        })
    };
    cells.into_iter().flat_map(lookup).collect()
}

/// The cells around and inside of these, and none: everywhere.
fn looked_up(covering: impl IntoIterator<Item = Cell>) -> BTreeSet<(Option<Cell>, bool)> {
    let mut cells = BTreeSet::from([(None, false)]);
    for cell in covering {
        cells.extend((COARSEST..cell.resolution()).map(|coarser| (Some(cell.ancestor(coarser)), false)));
        let inside = cell.resolution() < FINEST;
        cells.insert((Some(cell), inside));
    }
    cells
}

/// Whether a subscription that matches a post is told of it under this key. Where both have an area, it may stand under many
/// of the keys that are looked up: only one of its cells has the post's point that is nearest to the middle of its area,
/// which lies in both.
fn is_told_here(key: &AudienceKey, wish: &Wish, post: &Post) -> bool {
    match (&key.cell, wish.area, &post.area) {
        (Some(cell), Some(wished), Some(area)) => cell.holds(area.nearest(wished.centre())),
        _ => true,
    }
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

/// A walk over a post's audience: under which keys it has still to go on, and from where.
///
/// A part has everybody once; somebody whom several keys name may be in several parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    left: Vec<Left>,
    /// Of which form of the post these are the keys.
    #[serde(default)]
    revision: u32,
    /// The keys that are passed over.
    #[serde(skip)]
    passed: HashSet<AudienceKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    #[serde(flatten)]
    lookup: Lookup,
    from: Option<Position>,
    seen: usize,
}

/// What is much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A key with more entries than this is large.
    pub large_key: usize,
    /// A part of a walk ends with the reads after which it has as many entries: with those it is at most some thousands.
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
/// How many entries are read at once under a key at most: some 300 KiB.
const ENTRIES_PER_READ: usize = 500;

impl Walk {
    /// Over everybody who may be told of a post.
    #[must_use]
    pub fn over(post: &Post) -> Self {
        let left = lookups(post).into_iter().map(|lookup| Left { lookup, from: None, seen: 0 });
        Self { left: left.collect(), revision: post.revision, passed: HashSet::new() }
    }

    /// Passes over who stands under these keys, as long as nobody puts it down.
    pub fn pass_over(&mut self, keys: impl IntoIterator<Item = AudienceKey>) {
        self.passed.extend(keys);
        self.left.retain(|Left { lookup, .. }| lookup.inside || !self.passed.contains(&lookup.key));
    }

    /// Whether there is nobody left.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.left.is_empty()
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
        let (mut recipients, mut read) = (BTreeMap::new(), 0);
        while read < sizes.part && !self.left.is_empty() {
            let now = self.left.len().min(CONCURRENT_READS);
            let pages: Vec<_> = stream::iter(&self.left[..now])
                .map(|left| audience.entries(&left.lookup, left.from.clone(), sizes.per_read()))
                .buffered(CONCURRENT_READS)
                .try_collect()
                .await?;
            for (left, (entries, _)) in self.left.iter().zip(&pages) {
                // Many who stand inside a cell are under many keys.
                let is_key = !left.lookup.inside;
                if is_key && left.seen <= sizes.large_key && left.seen + entries.len() > sizes.large_key {
                    large.remember(&left.lookup.key, time::now()).await?;
                }
            }
            let mut rest = Vec::new();
            for (left, (entries, next)) in self.left.drain(..now).zip(pages) {
                let seen = left.seen + entries.len();
                read += entries.len();
                let wanted = entries.into_iter().filter(|entry| !self.passed.contains(&entry.key));
                let matching = wanted.filter(|AudienceEntry { key, subscription, .. }| {
                    // Where the post has changed since, its nearest point may be where this has been already.
                    let is_as_then = post.revision == self.revision;
                    let is_here = !is_as_then || is_told_here(key, &subscription.wish, post);
                    is_here && subscription.wish.matches(post)
                });
                matching.for_each(|entry| tell(&mut recipients, &entry, told_at));
                rest.extend(next.map(|from| Left { lookup: left.lookup, from: Some(from), seen }));
            }
            // What has more comes last: first everybody under a small key.
            self.left.extend(rest);
        }
        Ok(recipients.into_values().collect())
    }
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
