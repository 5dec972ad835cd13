//! Timelines: each user's newest posts, kept at hand in Redis, with the storage behind.
//!
//! A timeline is what its owner's subscriptions match. The storage can always tell what that is ([`Newest`] over the
//! place index); the cache only hastens it. So a timeline that is not cached is rebuilt when it is read, and only
//! timelines that are cached are written to: a person who has not looked for a day costs nothing.
//!
//! A cached timeline knows its *floor*: it holds every matching post that is newer, and has not expired. Below the floor the storage serves,
//! with the same cursor. While a timeline is rebuilt its floor is at the end of time: it holds what is loaded meanwhile,
//! and promises nothing.
//!
//! No post is missed between the two: who loads a post ([`crate::timeline_loading`]) stores it before they look which
//! timelines exist, and a rebuild creates the timeline before it reads the storage. Whichever comes first, the other sees
//! it.
//!
//! With a timeline are kept the subscriptions that it was built from. By them a post is there, and with that reason; and
//! no longer, where it has changed and none of them matches any more. It is forgotten when one of them changes, and looked at
//! again every few minutes in case that failed. Under keys
//! with a large audience posts are cached once for each key, in a timeline of its own, and merged when somebody's is read
//! ([`crate::large_audience`]).

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    future::{Future, ready},
};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use serde::Serialize;

use crate::{
    Error, Result,
    audience::{self, AudienceKey},
    cursor::{Cursor, Limit, Page, Scope},
    friendship::{self, Hidden, HiddenCache, HiddenPeople},
    ids::{PostId, SubscriptionId, UserId},
    large_audience::LargeKeys,
    notification::Because,
    place_index::{Newest, PlaceEntry, PlaceIndex, PlaceKey},
    post::Post,
    posts::{self, PostCache, Posts},
    subscription::{Happening, Subscription, Subscriptions},
    time::{self, Timestamp},
};

/// How many posts a cached timeline holds; older ones are read from the storage.
pub const CAPACITY: usize = 500;

/// How long a timeline is cached after it was last looked at, in seconds: a day. So long a post is kept at hand, too.
pub const LIFETIME_SECONDS: u64 = 24 * 60 * 60;
/// How long it is cached at most, however often it is looked at, in seconds: three days. What is wrong with one, by a record
/// of the log that was given up, ends with it.
pub const MOST_LIFETIME_SECONDS: u64 = 3 * LIFETIME_SECONDS;

/// How long what a cached timeline was built from is trusted, in seconds: five minutes. Who reads it after that looks whether
/// its owner's subscriptions are still these: whoever changed them may not have reached the cache, or died before.
pub const TRUSTED_SECONDS: u64 = 5 * 60;

/// Whose a cached timeline is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A user's: of what their subscriptions match.
    User(UserId),
    /// A large key's: of all that is posted under it.
    Key(AudienceKey),
}

/// Reads cached timelines, and rebuilds them.
pub trait Timelines: Sync {
    /// Up to `limit` entries of a user's timeline before a post, the newest first, with the posts that are at hand; none
    /// where the timeline is not cached. The timelines of the large keys that it was built from are merged into it.
    fn page(
        &self,
        user: UserId,
        before: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<CachedPage>>> + Send;

    /// Creates an empty timeline with its floor at the end of time, if nobody else rebuilds it now.
    fn begin_rebuild(&self, owner: &Owner) -> impl Future<Output = Result<Option<Rebuild>>> + Send;

    /// Fills a timeline with these posts, and sets its floor; in vain, if it was forgotten in between.
    fn finish_rebuild(
        &self,
        owner: &Owner,
        rebuild: Rebuild,
        posts: &[PostId],
        floor: Timestamp,
        sources: &Sources,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// What a user's timeline is built from; of a key's it is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// The user's subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Those of their keys that are large.
    pub large: Vec<AudienceKey>,
}

/// Adds posts to cached timelines.
pub trait TimelineLoader: Sync {
    /// Adds each post to those of these timelines that are cached, and keeps the post at hand; answers how many timelines
    /// took one. What a timeline has already stays as it is. What exceeds [`CAPACITY`] raises the floor.
    fn load(&self, loads: &[Load]) -> impl Future<Output = Result<usize>> + Send;
}

/// A post, and the timelines that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The post.
    pub post: Post,
    /// Whose.
    pub owners: Vec<Owner>,
}

/// Removes cached timelines.
pub trait TimelineEraser: Sync {
    /// Forgets a user's timeline, and ends its rebuild in vain: what it was built from has changed.
    fn forget(&self, user: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// The right to rebuild a timeline, for some seconds: an adapter's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild(pub String);

/// A part of a user's cached timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPage {
    /// The posts above the floor, the newest first.
    pub entries: Vec<PostId>,
    /// Those of them that are at hand, in any order.
    pub posts: Vec<Post>,
    /// The timeline, with those that are merged into it, holds every matching post that is newer than this.
    pub floor: Timestamp,
    /// The subscriptions that it was built from.
    pub subscriptions: Vec<Subscription>,
    /// The large keys that are to be merged, and are not cached: without them it is not whole.
    pub missing: Vec<AudienceKey>,
    /// Who is hidden from the user, if that is at hand together with it.
    pub hidden: Option<HiddenPeople>,
    /// Whether the subscriptions are to be looked at again ([`TRUSTED_SECONDS`]): only one reader is told so.
    pub is_to_be_checked: bool,
}

impl CachedPage {
    /// Whether it holds all that it promises: it is not being rebuilt, and nothing that belongs to it is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.floor < Timestamp::MAX && self.missing.is_empty()
    }
}

/// The floor of a timeline that holds everything.
pub const WHOLE: Timestamp = Timestamp::UNIX_EPOCH;

/// A post in a timeline, and why it is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineItem {
    /// The post.
    #[serde(flatten)]
    pub post: Post,
    /// Why.
    pub because: Because,
}

/// Which list a user's timeline is.
#[must_use]
pub fn scope(owner: UserId) -> Scope {
    Scope::of(["timeline", &owner.to_string()])
}

/// The ports of [`Reading::page`].
#[derive(Debug)]
pub struct Reading<'a, T, S, L, I, C, P, K, H> {
    /// The cached timelines.
    pub timelines: &'a T,
    /// The owner's subscriptions.
    pub subscriptions: &'a S,
    /// The keys with a large audience.
    pub large: &'a L,
    /// The place index.
    pub index: &'a I,
    /// The cached posts.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// Who is hidden from the owner, at hand.
    pub hidden_cache: &'a K,
    /// Who is.
    pub hidden: &'a H,
}

impl<T, S, L, I, C, P, K, H> Reading<'_, T, S, L, I, C, P, K, H>
where
    T: Timelines + TimelineEraser,
    S: Subscriptions,
    L: LargeKeys,
    I: PlaceIndex,
    C: PostCache,
    P: Posts,
    K: HiddenCache,
    H: Hidden,
{
    /// A page of a user's timeline: from the cache where it reaches, and from the storage beyond. Without the cache, the
    /// storage serves alone. A cached timeline has the posts of hidden people too, and shows them again to who is hidden no
    /// longer.
    pub async fn page(
        &self,
        owner: UserId,
        before: Option<Cursor>,
        limit: Limit,
        now: Timestamp,
    ) -> Result<Page<TimelineItem>> {
        let (mut items, mut last, mut rebuilt) = (Vec::new(), before.map(|cursor| cursor.0), false);
        let (mut hidden, mut at_least) = (None, 0);
        loop {
            // Where little of what is cached is shown, more is read each time.
            let wanted = (limit.and_one() - items.len()).max(at_least);
            at_least = (2 * wanted).min(MOST_AT_ONCE);
            let mut cached = self.timelines.page(owner, last, wanted).await.unwrap_or_else(|error| {
                tracing::warn!(cache_unavailable = true, %error, "the timelines failed: this one is read from the storage");
                None
            });
            let at_hand = cached.as_mut().and_then(|page| page.hidden.take());
            let people = match hidden.take().or(at_hand) {
                Some(people) => people,
                None => friendship::hidden_from(self.hidden_cache, self.hidden, owner).await?,
            };
            let people = hidden.insert(people);
            if let Some(page) = &cached
                && page.is_to_be_checked
                && !self.is_up_to_date(owner, page).await
            {
                cached = None;
            }
            let cached = match cached {
                Some(cached) if cached.is_whole() => cached,
                Some(cached) if cached.floor == Timestamp::MAX => break,
                other if last.is_none() && !rebuilt => {
                    let missing = other.map(|page| page.missing).unwrap_or_default();
                    rebuilt = true;
                    if self.rebuild_alone(owner, &missing).await {
                        continue;
                    }
                    break;
                }
                _ => break,
            };
            let ended = cached.entries.len() < wanted;
            last = cached.entries.last().copied().or(last);
            let posts = self.fill(&cached).await?;
            let posts = cached.entries.iter().filter_map(|id| posts.get(id));
            items.extend(posts.filter_map(|post| item(&cached.subscriptions, post, people, now)));
            if items.len() > limit.get() || (ended && cached.floor == WHOLE) {
                return Ok(Page::cut(items, limit, scope(owner), |item| item.post.post_id));
            }
            if ended {
                break;
            }
        }
        let hidden = hidden.unwrap_or_default();
        self.read_stored(owner, items, last, limit, &hidden, now).await
    }

    /// Whether a user's subscriptions are still those that the cached timeline was built from; it is forgotten if they are
    /// not. Where nobody can tell, they are.
    async fn is_up_to_date(&self, user: UserId, page: &CachedPage) -> bool {
        let checked = async {
            // Not by all that they say: a number that was written as JSON may be read as its neighbour.
            let version = |one: &Subscription| (one.subscription_id, one.updated_at);
            let stored = self.subscriptions.of(user).await?;
            let is_up_to_date = stored.iter().map(version).eq(page.subscriptions.iter().map(version));
            if !is_up_to_date {
                self.timelines.forget(user).await?;
            }
            Ok(is_up_to_date)
        };
        checked.await.unwrap_or_else(|error: Error| {
            tracing::warn!(%error, user_id = %user, "a cached timeline was not checked");
            true
        })
    }

    /// The posts of a cached page: those at hand, and the others from the storage.
    async fn fill(&self, page: &CachedPage) -> Result<HashMap<PostId, Post>> {
        let mut posts: HashMap<_, _> = page.posts.iter().map(|post| (post.post_id, post.clone())).collect();
        let missing: Vec<_> = page.entries.iter().copied().filter(|id| !posts.contains_key(id)).collect();
        if !missing.is_empty() {
            let read = posts::read(self.cache, self.posts, &missing).await?;
            posts.extend(read.into_iter().map(|post| (post.post_id, post)));
        }
        Ok(posts)
    }

    async fn read_stored(
        &self,
        owner: UserId,
        mut items: Vec<TimelineItem>,
        last: Option<PostId>,
        limit: Limit,
        hidden: &HiddenPeople,
        now: Timestamp,
    ) -> Result<Page<TimelineItem>> {
        let subscriptions = self.subscriptions.of(owner).await?;
        let mut newest = Newest::new(self.index, place_keys(&subscriptions), last);
        loop {
            let wanted = |entry: &PlaceEntry| {
                entry.is_listed(now) && entry.is_shown(hidden) && because(&subscriptions, entry).is_some()
            };
            let found = newest.take(limit.and_one() - items.len(), wanted).await?;
            let ids: Vec<_> = found.entries.iter().map(|entry| entry.post_id).collect();
            let posts = posts::read(self.cache, self.posts, &ids).await?;
            items.extend(posts.iter().filter_map(|post| item(&subscriptions, post, hidden, now)));
            let full = items.len() > limit.get();
            match found.more_after {
                Some(Reverse(last)) if !full && newest.is_spent() => {
                    return Ok(Page { items, next_cursor: Some(Cursor(last).encode(scope(owner))) });
                }
                Some(_) if !full => {}
                _ => return Ok(Page::cut(items, limit, scope(owner), |item| item.post.post_id)),
            }
        }
    }

    /// Rebuilds a user's timeline that is not cached, or else the `missing` ones that are merged into it, unless somebody
    /// else does; answers whether all is cached now. If not, the page is read from the storage.
    async fn rebuild_alone(&self, user: UserId, missing: &[AudienceKey]) -> bool {
        let rebuilt = async {
            if missing.is_empty() {
                let Some(sources) = self.rebuild_users(user).await? else { return Ok(false) };
                return self.rebuild_keys(&sources.large).await.map(|_| true);
            }
            self.rebuild_keys(missing).await
        };
        rebuilt.await.unwrap_or_else(|error: Error| {
            tracing::warn!(%error, "a timeline was not rebuilt");
            false
        })
    }

    async fn rebuild_users(&self, user: UserId) -> Result<Option<Sources>> {
        let owner = Owner::User(user);
        let Some(rebuild) = self.timelines.begin_rebuild(&owner).await? else { return Ok(None) };
        let (subscriptions, known) = try_join(self.subscriptions.of(user), self.large.all()).await?;
        let now = time::now();
        let keys: HashSet<_> =
            subscriptions.iter().flat_map(|subscription| audience::keys_of(&subscription.wish)).collect();
        let large = known.iter().filter(|large| large.is_remembered(now) && keys.contains(&large.key));
        let large = large.map(|large| large.key.clone()).collect();
        let sources = Sources { subscriptions, large };
        let wanted =
            |entry: &PlaceEntry| entry.is_listed(now) && because(&sources.subscriptions, entry).is_some();
        let (posts, floor) = self.newest(place_keys(&sources.subscriptions), wanted).await?;
        self.timelines.finish_rebuild(&owner, rebuild, &posts, floor, &sources).await?;
        Ok(Some(sources))
    }

    /// Rebuilds the timelines of keys; answers whether nobody else is at one of them.
    async fn rebuild_keys(&self, keys: &[AudienceKey]) -> Result<bool> {
        let rebuilt =
            stream::iter(keys).map(|key| self.rebuild_key(key)).buffer_unordered(CONCURRENT_REBUILDS);
        rebuilt.try_fold(true, |all, one| ready(Ok(all && one))).await
    }

    async fn rebuild_key(&self, key: &AudienceKey) -> Result<bool> {
        let owner = Owner::Key(key.clone());
        let Some(rebuild) = self.timelines.begin_rebuild(&owner).await? else { return Ok(false) };
        let now = time::now();
        let wanted = |entry: &PlaceEntry| entry.is_listed(now) && key.finds(entry);
        let (posts, floor) = self.newest(PlaceKey::around(key), wanted).await?;
        self.timelines.finish_rebuild(&owner, rebuild, &posts, floor, &Sources::default()).await?;
        Ok(true)
    }

    /// The newest posts under some keys of the place index that are wanted, and the floor of a timeline of them.
    async fn newest(
        &self,
        keys: BTreeSet<PlaceKey>,
        wanted: impl Fn(&PlaceEntry) -> bool,
    ) -> Result<(Vec<PostId>, Timestamp)> {
        let found = Newest::new(self.index, keys, None).take(CAPACITY, wanted).await?;
        let posts = found.entries.iter().map(|entry| entry.post_id).collect();
        Ok((posts, found.more_after.map_or(WHOLE, |Reverse(last)| last.time())))
    }
}

/// How many timelines of large keys are rebuilt at once.
const CONCURRENT_REBUILDS: usize = 4;
/// How many entries are read from the cache at once, where few of them are shown.
const MOST_AT_ONCE: usize = 200;

fn place_keys(subscriptions: &[Subscription]) -> BTreeSet<PlaceKey> {
    PlaceKey::wished_for(subscriptions.iter().map(|subscription| &subscription.wish))
}

/// The oldest subscription that matches.
fn because(subscriptions: &[Subscription], post: &impl Happening) -> Option<SubscriptionId> {
    let matching = subscriptions.iter().filter(|subscription| subscription.wish.matches(post));
    matching.map(|subscription| subscription.subscription_id).min()
}

/// A post as the timeline shows it, if it does.
fn item(
    subscriptions: &[Subscription],
    post: &Post,
    hidden: &HiddenPeople,
    now: Timestamp,
) -> Option<TimelineItem> {
    if !posts::is_listed(post, now) || !posts::is_shown(post, hidden) {
        return None;
    }
    let because = Because::Subscription { subscription_id: because(subscriptions, post)? };
    Some(TimelineItem { post: post.clone(), because })
}
