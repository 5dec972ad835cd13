//! The audience of a post: the users whose subscriptions match it, with the subscription that did.
//!
//! Subscriptions are stored a second time under [`AudienceKey`]s: a category, a tag or any, a cell or anywhere. A post
//! looks under the handful of keys that it can be found by, whatever the number of subscriptions elsewhere, and holds
//! each entry against the exact rule ([`Wish::matches`]).

use std::{collections::BTreeMap, future::Future};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Result,
    category::CategoryName,
    ids::{SubscriptionId, UserId},
    place::Cell,
    post::{Post, Tag},
    subscription::{Subscription, TagMatch, Wish},
};

/// Where in the index a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AudienceKey {
    /// The subscription's category.
    pub category: CategoryName,
    /// One of its tags; none where the tags do not narrow the search.
    pub tag: Option<Tag>,
    /// A cell of its area, from [`COARSEST`] to [`FINEST`]; none where it is from anywhere.
    pub cell: Option<Cell>,
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
    let cells = area.cover(COARSEST, FINEST, share);
    if cells.len() * tags.len() <= MOST_KEYS {
        keys(wish, some_or_any(tags), &cells.into_iter().map(Some).collect::<Vec<_>>())
    } else {
        // Many tags and a large area: the exact rule then does what the keys do not.
        let cells: Vec<_> = area.cover(COARSEST, FINEST, MOST_CELLS).into_iter().map(Some).collect();
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

/// The keys under which the subscriptions are that may match a post: seven, and seven more for each tag.
#[must_use]
pub fn keys_for(post: &Post) -> Vec<AudienceKey> {
    let path = post.location.cell(FINEST);
    let cells = (COARSEST..=FINEST).map(|resolution| Some(path.ancestor(resolution))).chain([None]);
    cells
        .flat_map(|cell| {
            post.tags.iter().cloned().map(Some).chain([None]).map(move |tag| AudienceKey {
                category: post.category.clone(),
                tag,
                cell: cell.clone(),
            })
        })
        .collect()
}

/// Reads the index.
pub trait Audience: Sync {
    /// Some entries under a key, and where the next ones begin, if there are more.
    fn entries(
        &self,
        key: &AudienceKey,
        from: Option<Position>,
    ) -> impl Future<Output = Result<(Vec<AudienceEntry>, Option<Position>)>> + Send;
}

/// Where the next entries under a key begin: an adapter's own.
pub type Position = String;

/// One subscription, as the index has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AudienceEntry {
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
    /// The subscription that matched: the oldest, where several did.
    pub because: SubscriptionId,
    /// The oldest that matched and has asked for pushes, as it does now, since before the post was made, if one did.
    pub push_because: Option<SubscriptionId>,
}

/// How many keys are read at once.
const CONCURRENT_READS: usize = 16;

/// The audience of a post, each user once, in the order of their ids.
pub async fn of(audience: &impl Audience, post: &Post) -> Result<Vec<Recipient>> {
    let found = stream::iter(keys_for(post))
        .map(|key| async move { matching_under(audience, &key, post).await })
        .buffer_unordered(CONCURRENT_READS)
        .try_concat()
        .await?;
    let mut recipients: BTreeMap<UserId, Recipient> = BTreeMap::new();
    for AudienceEntry { user_id, subscription } in found {
        let id = subscription.subscription_id;
        // Nobody's phone rings for what happened before they asked: the log can be replayed long after. What a wish was
        // before it changed is not known any more.
        let asked = subscription.wish.push && subscription.updated_at <= post.created_at;
        let push = asked.then_some(id);
        recipients
            .entry(user_id)
            .and_modify(|recipient| {
                recipient.because = recipient.because.min(id);
                recipient.push_because = match (recipient.push_because, push) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            })
            .or_insert(Recipient { user_id, because: id, push_because: push });
    }
    Ok(recipients.into_values().collect())
}

async fn matching_under(
    audience: &impl Audience,
    key: &AudienceKey,
    post: &Post,
) -> Result<Vec<AudienceEntry>> {
    let mut matching = Vec::new();
    let mut from = None;
    loop {
        let (entries, next) = audience.entries(key, from).await?;
        matching.extend(entries.into_iter().filter(|entry| entry.subscription.wish.matches(post)));
        match next {
            Some(position) => from = Some(position),
            None => return Ok(matching),
        }
    }
}
