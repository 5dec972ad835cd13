//! Departures: a person leaves, and all that is kept of them goes too.
//!
//! The departure is queued before anything else, so that it is done whatever happens next; then the account is closed at
//! once, and nobody can sign in to it. The rest is a job, and each step of it can be done again.
//!
//! Access tokens that were given before are good for up to an hour. What somebody does with one meanwhile is erased by a
//! second round, when they have all expired. And a post that the log holds may be stored late, after an outage, or from
//! a dead letter: so there is a last round when the log holds nothing of theirs any more.

use std::{future::Future, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    access_token::{self, Caller},
    audience::keys_of,
    device::DeviceEditor,
    error::Invalid,
    ids::{PostId, UserId},
    post::Post,
    post_log::{Deletion, PostChange, PostLog, PostRecord},
    posts::{PlaceIndex, PlaceKey, Posts},
    push::PushGateway,
    subscription::{SubscriptionEditor, Subscriptions},
    time::{self, Timestamp},
};

/// What becomes of the posts of who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostsLeft {
    /// They stay, and nobody is named as their author.
    Anonymise,
    /// They are deleted.
    Remove,
}

impl std::str::FromStr for PostsLeft {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "anonymise" => Ok(Self::Anonymise),
            "remove" => Ok(Self::Remove),
            _ => Err(Invalid::new("not_in_list", "must be anonymise or remove")),
        }
    }
}

/// That a person leaves, and how far that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// Who leaves.
    pub user_id: UserId,
    /// What becomes of their posts.
    pub posts: PostsLeft,
    /// When they asked for it.
    pub asked_at: Timestamp,
    /// Which round it is.
    pub round: Round,
    /// In this round, only posts before this one are left to be done.
    pub posts_before: Option<PostId>,
}

/// The rounds of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Round {
    /// At once.
    First,
    /// When all access tokens have expired, and what was posted with them is stored.
    Second,
    /// When the log keeps nothing of before.
    Last,
}

impl Round {
    /// How long after the departure was asked for the round is, in seconds.
    #[must_use]
    pub const fn after_seconds(self) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => access_token::LIFETIME_SECONDS + 30 * 60,
            // The topic's retention of 18 days (README), and a day.
            Self::Last => 19 * 24 * 60 * 60,
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::First => Some(Self::Second),
            Self::Second => Some(Self::Last),
            Self::Last => None,
        }
    }
}

/// Takes departures.
pub trait DepartureQueue: Sync {
    /// Returns once it is queued, to come after `delay` at the latest; it may come earlier.
    fn enqueue(&self, departure: &Departure, delay: Duration) -> impl Future<Output = Result<()>> + Send;
}

/// Closes accounts.
pub trait AccountCloser: Sync {
    /// Removes an account with all that it is found by, in one transaction: its name, address and identities are free
    /// for others. If there is none, nothing happens.
    fn close(&self, id: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// Lets the caller leave. Once this answers, nothing holds it up any more.
pub async fn depart(
    queue: &impl DepartureQueue,
    accounts: &impl AccountCloser,
    caller: &Caller,
    posts: PostsLeft,
    now: Timestamp,
) -> Result<()> {
    let user_id = caller.user_id;
    let departure = Departure { user_id, posts, asked_at: now, round: Round::First, posts_before: None };
    queue.enqueue(&departure, Duration::ZERO).await?;
    if let Err(error) = accounts.close(user_id).await {
        tracing::warn!(%error, %user_id, "an account is not closed yet: its departure will do it");
    }
    Ok(())
}

/// A part of what is kept of a person, and its erasure, which can be done again.
pub struct Step<'a> {
    what: &'static str,
    erased: BoxFuture<'a, Result<()>>,
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("what", &self.what).finish_non_exhaustive()
    }
}

/// The erasure of a part, called `what` in the log.
pub fn step<'a>(what: &'static str, erased: impl Future<Output = Result<()>> + Send + 'a) -> Step<'a> {
    Step { what, erased: Box::pin(erased) }
}

/// The ports of [`Departing::go_on`].
#[derive(Debug)]
pub struct Departing<'a, I, P, L, Q> {
    /// Where a person's posts are found.
    pub index: &'a I,
    /// The posts.
    pub posts: &'a P,
    /// The log that their changes go to.
    pub log: &'a L,
    /// Where the rest of the departure waits.
    pub queue: &'a Q,
}

/// How many posts are changed before the rest is queued again: some seconds' work.
const POSTS_AT_ONCE: usize = 500;
const POSTS_PER_READ: usize = 100;
const CONCURRENT_APPENDS: usize = 16;

impl<I: PlaceIndex, P: Posts, L: PostLog, Q: DepartureQueue> Departing<'_, I, P, L, Q> {
    /// Goes on with a departure: takes all steps, and changes the posts. What is left is queued again.
    pub async fn go_on(&self, departure: Departure, steps: Vec<Step<'_>>, now: Timestamp) -> Result<()> {
        if now < due(&departure) {
            return self.wait(&departure, now).await;
        }
        if departure.posts_before.is_none() {
            erase(departure.user_id, steps).await?;
        }
        if let Some(before) = self.leave_posts(&departure, now).await? {
            let rest = Departure { posts_before: Some(before), ..departure };
            return self.queue.enqueue(&rest, Duration::ZERO).await;
        }
        match departure.round.next() {
            Some(round) => self.wait(&Departure { round, posts_before: None, ..departure }, now).await,
            None => Ok(()),
        }
    }

    async fn wait(&self, departure: &Departure, now: Timestamp) -> Result<()> {
        let delay = Duration::try_from(now.duration_until(due(departure))).unwrap_or_default();
        self.queue.enqueue(departure, delay).await
    }

    /// Changes the person's posts, the newest first; answers before which one they are left to be done, if any are.
    async fn leave_posts(&self, departure: &Departure, now: Timestamp) -> Result<Option<PostId>> {
        let key = PlaceKey::By(departure.user_id);
        let mut before = departure.posts_before;
        for _ in 0..POSTS_AT_ONCE / POSTS_PER_READ {
            let entries = self.index.newest(&key, before, POSTS_PER_READ).await?;
            let Some(last) = entries.last() else { return Ok(None) };
            before = Some(last.post_id);
            let ids: Vec<_> = entries.iter().map(|entry| entry.post_id).collect();
            let posts = self.posts.get(&ids).await?;
            stream::iter(posts.into_iter().map(|post| left(post, departure.posts, now)))
                .map(|record| async move { self.log.append(&record).await })
                .buffer_unordered(CONCURRENT_APPENDS)
                .try_collect::<()>()
                .await?;
        }
        Ok(before)
    }
}

fn due(departure: &Departure) -> Timestamp {
    time::after(departure.asked_at, departure.round.after_seconds())
}

/// What happens to a post whose author leaves.
fn left(post: Post, posts: PostsLeft, now: Timestamp) -> PostRecord {
    let change = match posts {
        PostsLeft::Anonymise => PostChange::Updated(Box::new(Post { author: None, updated_at: now, ..post })),
        PostsLeft::Remove => PostChange::Deleted(Deletion { post_id: post.post_id, deleted_at: now }),
    };
    change.into()
}

/// Takes all steps, also those after one that fails; then it fails.
async fn erase(user_id: UserId, steps: Vec<Step<'_>>) -> Result<()> {
    let mut failed = Ok(());
    for Step { what, erased } in steps {
        if let Err(error) = erased.await {
            tracing::error!(%error, %user_id, what, "a part of what is kept of who leaves is not erased yet");
            failed = Err(error);
        }
    }
    failed
}

/// Removes all devices of a person. Their endpoints go first: what is left behind there would be left for good.
pub async fn erase_devices(
    devices: &impl DeviceEditor,
    gateway: &impl PushGateway,
    owner: UserId,
) -> Result<()> {
    for device in devices.of(owner).await? {
        gateway.unregister(&device.endpoint).await?;
        devices.remove(owner, &device.device_id).await?;
    }
    Ok(())
}

/// Removes all subscriptions of a person.
pub async fn erase_subscriptions(
    subscriptions: &(impl Subscriptions + SubscriptionEditor),
    owner: UserId,
) -> Result<()> {
    for old in subscriptions.of(owner).await? {
        if !subscriptions.remove(owner, (&old, &keys_of(&old.wish))).await? {
            return Err(Error::unavailable("subscriptions", "a subscription changed while it was ended"));
        }
    }
    Ok(())
}
