//! Timelines: each user's newest posts, kept at hand in Redis, with the storage behind.
//!
//! A timeline is what its owner's subscriptions match. The storage can always tell what that is ([`Newest`] over the
//! place index); the cache only hastens it. So a timeline that is not cached is rebuilt when it is read, and only
//! timelines that are cached are written to: a person who has not looked for a day costs nothing.
//!
//! A cached timeline knows its *floor*: it holds every matching post that is newer. Below the floor the storage serves,
//! with the same cursor. While a timeline is rebuilt its floor is at the end of time: it holds what is loaded meanwhile,
//! and promises nothing.
//!
//! No post is missed between the two: [`load`] stores a post before it looks which timelines exist, and a rebuild
//! creates the timeline before it reads the storage. Whichever comes first, the other sees it.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
};

use futures::{StreamExt as _, stream};
use serde::Serialize;

use crate::{
    Error, Result,
    audience::{self, Audience, Recipient},
    cursor::{Cursor, Limit, Page, Scope},
    friendship::{self, Hidden, HiddenCache, HiddenPeople},
    ids::{PostId, SubscriptionId, UserId},
    notification::Because,
    post::Post,
    post_edit::Edit,
    post_log::PostChange,
    posts::{
        self, Newest, PlaceEntry, PlaceIndex, PlaceKey, PostCache, PostCacheEditor, PostEditor, PostStore,
        Posts,
    },
    subscription::{Happening, Subscription, Subscriptions},
    time::Timestamp,
};

/// How many posts a cached timeline holds; older ones are read from the storage.
pub const CAPACITY: usize = 500;

/// How long a timeline, and a post, are cached, in seconds: a day. To be looked at makes it no longer, so that what is wrong
/// with one, by a record of the log that was given up, ends with the day.
pub const LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// Reads cached timelines, and rebuilds them.
pub trait Timelines: Sync {
    /// Up to `limit` entries before a post, the newest first, with the posts that are at hand; none where the timeline is
    /// not cached.
    fn page(
        &self,
        owner: UserId,
        before: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<CachedPage>>> + Send;

    /// Creates an empty timeline with its floor at the end of time, if nobody else rebuilds it now.
    fn begin_rebuild(&self, owner: UserId) -> impl Future<Output = Result<Option<Rebuild>>> + Send;

    /// Fills a timeline, and sets its floor; in vain, if it was forgotten in between.
    fn finish_rebuild(
        &self,
        owner: UserId,
        rebuild: Rebuild,
        entries: &[Entry],
        floor: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Adds posts to cached timelines.
pub trait TimelineLoader: Sync {
    /// Adds each post to those of its audience's timelines that are cached, and keeps the post at hand; answers how many
    /// timelines took one. What a timeline has already stays as it is. What exceeds [`CAPACITY`] raises the floor.
    fn load(&self, posts: &[(Post, Vec<Recipient>)]) -> impl Future<Output = Result<usize>> + Send;
}

/// Removes cached timelines.
pub trait TimelineEraser: Sync {
    /// Forgets a timeline, and ends its rebuild in vain: what it was built from has changed.
    fn forget(&self, owner: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// An entry of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The post.
    pub post_id: PostId,
    /// The subscription that matched.
    pub because: SubscriptionId,
}

/// The right to rebuild a timeline, for some seconds: an adapter's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild(pub String);

/// A part of a cached timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPage {
    /// Entries above the floor, the newest first.
    pub entries: Vec<Entry>,
    /// Those of their posts that are at hand, in any order.
    pub posts: Vec<Post>,
    /// The timeline holds every matching post that is newer than this.
    pub floor: Timestamp,
    /// Who is hidden from its owner, if that is at hand together with it.
    pub hidden: Option<HiddenPeople>,
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
pub struct Reading<'a, T, S, I, C, P, K, H> {
    /// The cached timelines.
    pub timelines: &'a T,
    /// The owner's subscriptions.
    pub subscriptions: &'a S,
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

impl<T, S, I, C, P, K, H> Reading<'_, T, S, I, C, P, K, H>
where
    T: Timelines,
    S: Subscriptions,
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
        let mut hidden = None;
        loop {
            let wanted = limit.and_one() - items.len();
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
            let Some(cached) = cached.filter(|page| page.floor <= now) else {
                if last.is_none() && !rebuilt {
                    rebuilt = self.rebuild_alone(owner).await;
                    if rebuilt {
                        continue;
                    }
                }
                break;
            };
            let ended = cached.entries.len() < wanted;
            last = cached.entries.last().map(|entry| entry.post_id).or(last);
            let posts = self.fill(&cached).await?;
            items.extend(cached.entries.iter().filter_map(|entry| item(&posts, *entry, people, now)));
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

    /// The posts of a cached page: those at hand, and the others from the storage.
    async fn fill(&self, page: &CachedPage) -> Result<HashMap<PostId, Post>> {
        let mut posts: HashMap<_, _> = page.posts.iter().map(|post| (post.post_id, post.clone())).collect();
        let missing: Vec<_> =
            page.entries.iter().map(|entry| entry.post_id).filter(|id| !posts.contains_key(id)).collect();
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
        let mut newest = Newest::new(self.index, keys(&subscriptions), last);
        loop {
            let wanted =
                |entry: &PlaceEntry| entry.is_shown(hidden) && because(&subscriptions, entry).is_some();
            let found = newest.take(limit.and_one() - items.len(), wanted).await?;
            let ids: Vec<_> = found.entries.iter().map(|entry| entry.post_id).collect();
            let posts = posts::read(self.cache, self.posts, &ids).await?;
            let listed =
                posts.into_iter().filter(|post| posts::is_listed(post, now) && posts::is_shown(post, hidden));
            items.extend(listed.filter_map(|post| {
                let subscription_id = because(&subscriptions, &post)?;
                Some(TimelineItem { post, because: Because::Subscription { subscription_id } })
            }));
            let full = items.len() > limit.get();
            match found.more_after {
                Some(last) if !full && newest.is_spent() => {
                    return Ok(Page { items, next_cursor: Some(Cursor(last).encode(scope(owner))) });
                }
                Some(_) if !full => {}
                _ => return Ok(Page::cut(items, limit, scope(owner), |item| item.post.post_id)),
            }
        }
    }

    /// Rebuilds a timeline that is not cached, unless somebody else does; answers whether it is cached now. If not, the
    /// page is read from the storage.
    async fn rebuild_alone(&self, owner: UserId) -> bool {
        self.rebuild(owner).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a timeline was not rebuilt");
            false
        })
    }

    async fn rebuild(&self, owner: UserId) -> Result<bool> {
        let Some(rebuild) = self.timelines.begin_rebuild(owner).await? else { return Ok(false) };
        let subscriptions = self.subscriptions.of(owner).await?;
        let mut newest = Newest::new(self.index, keys(&subscriptions), None);
        let found = newest.take(CAPACITY, |entry| because(&subscriptions, entry).is_some()).await?;
        let entries: Vec<_> = found
            .entries
            .iter()
            .filter_map(|entry| {
                let because = because(&subscriptions, entry)?;
                Some(Entry { post_id: entry.post_id, because })
            })
            .collect();
        let floor = found.more_after.map_or(WHOLE, PostId::time);
        self.timelines.finish_rebuild(owner, rebuild, &entries, floor).await?;
        Ok(true)
    }
}

fn keys(subscriptions: &[Subscription]) -> BTreeSet<PlaceKey> {
    PlaceKey::wished_for(subscriptions.iter().map(|subscription| &subscription.wish))
}

/// The oldest subscription that matches: the same that [`audience::of`] names.
fn because(subscriptions: &[Subscription], post: &impl Happening) -> Option<SubscriptionId> {
    let matching = subscriptions.iter().filter(|subscription| subscription.wish.matches(post));
    matching.map(|subscription| subscription.subscription_id).min()
}

fn item(
    posts: &HashMap<PostId, Post>,
    entry: Entry,
    hidden: &HiddenPeople,
    now: Timestamp,
) -> Option<TimelineItem> {
    let post = posts.get(&entry.post_id).filter(|post| posts::is_listed(post, now))?;
    let because = Because::Subscription { subscription_id: entry.because };
    posts::is_shown(post, hidden).then(|| TimelineItem { post: post.clone(), because })
}

/// The ports of [`Loading::load`].
#[derive(Debug)]
pub struct Loading<'a, P, S, A, T, C> {
    /// The stored posts.
    pub posts: &'a P,
    /// Where they are stored.
    pub store: &'a S,
    /// Who is told.
    pub audience: &'a A,
    /// The cached timelines.
    pub timelines: &'a T,
    /// The cached posts.
    pub cache: &'a C,
}

/// A post, and who is told of it.
type Load = (Post, Vec<Recipient>);

/// How many posts' audiences are found at once.
const CONCURRENT_AUDIENCES: usize = 8;

impl<P: Posts, S: PostStore + PostEditor, A: Audience, T: TimelineLoader, C: PostCacheEditor>
    Loading<'_, P, S, A, T, C>
{
    /// Brings what happened to posts, each another, to the cached timelines: new ones to those of their audiences, and
    /// what is there to its newest form. Answers for each in turn, with the number of its audience. To load a change
    /// again changes nothing.
    pub async fn load(&self, changes: &[PostChange]) -> Vec<Result<usize>> {
        let created: Vec<Post> = changes.iter().filter_map(PostChange::created).cloned().collect();
        let mut loaded = self.load_new(&created).await.into_iter();
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            outcomes.push(match change {
                PostChange::Created(_) => loaded.next().unwrap_or(Ok(0)),
                PostChange::Edited(edit) => self.load_edit(edit).await,
                PostChange::Deleted(deletion) => self.cache.remove(deletion.post_id).await.map(|()| 0),
            });
        }
        outcomes
    }

    /// Brings an edit to whoever has the post in their timeline already, and the post to those whose it is now.
    async fn load_edit(&self, edit: &Edit) -> Result<usize> {
        let Some(post) = self.store.edit(edit).await? else {
            self.cache.remove(edit.post_id).await?;
            return Ok(0);
        };
        self.cache.replace(&post).await?;
        if !edit.moves_audience() {
            return Ok(0);
        }
        let audience = audience::of(self.audience, &post).await?;
        self.timelines.load(&[(post, audience)]).await
    }

    async fn load_new(&self, posts: &[Post]) -> Vec<Result<usize>> {
        if posts.is_empty() {
            return Vec::new();
        }
        let stored = posts::ensure_stored(self.posts, self.store, posts).await;
        let loads: Vec<Result<Option<Load>>> = stream::iter(stored)
            .map(|stored| async move {
                // Where it was deleted, the log is replayed, and says so later.
                let Some(post) = stored? else { return Ok(None) };
                let audience = audience::of(self.audience, &post).await?;
                Ok(Some((post, audience)))
            })
            .buffered(CONCURRENT_AUDIENCES)
            .collect()
            .await;
        let (mut ready, mut outcomes) = (Vec::new(), Vec::with_capacity(posts.len()));
        for load in loads {
            outcomes.push(load.map(|load| {
                let size = load.as_ref().map_or(0, |(_, audience)| audience.len());
                ready.extend(load);
                size
            }));
        }
        if let Err(error) = self.timelines.load(&ready).await {
            let cause = error.to_string();
            return posts.iter().map(|_| Err(Error::unavailable("timelines", cause.clone()))).collect();
        }
        outcomes
    }
}
