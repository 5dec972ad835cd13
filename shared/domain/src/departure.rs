//! Departures: a person leaves, and all that is kept of them goes too.
//!
//! The departure is stored before anything else, so that it is done whatever happens next; then the account is closed at
//! once, and nobody can sign in to it. The rest is a job, and each step of it can be done again.
//!
//! Access tokens that were given before are good for up to an hour. What somebody does with one meanwhile is erased by a
//! second round, when they have all expired. And a post that the log holds may be stored late, after an outage, or from
//! a dead letter: so there is a last round when the log holds nothing of theirs any more.
//!
//! What is stored says how far a departure is, and nothing else does: a message only names who leaves, so that one that
//! comes twice, or late, or not at all, does no harm. What is due is queued again and again until it is done.

use std::{collections::HashSet, future::Future};

use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, join, join_all},
    stream,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    access_token::{self, Caller},
    audience::keys_of,
    device::DeviceEditor,
    error::Invalid,
    ids::{PostId, UserId},
    mail::{self, Mail, Mailer},
    notification::{Inbox, InboxEraser},
    place_index::{PlaceIndex, PlaceKey},
    post::Post,
    post_edit::{Edit, FieldChange},
    post_log::{Deletion, PostChange, PostLog, PostRecord},
    posts::Posts,
    push::{DeliveryEraser, PushGateway},
    session::AccountReader,
    subscription::{SubscriptionEditor, Subscriptions},
    time::{self, Timestamp},
    timeline::TimelineEraser,
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
    /// Which round is next, or under way.
    pub round: Round,
    /// The round is not begun before this. The first is begun at once, by a clock that may be behind that of who asked: for
    /// it, this is the beginning of time.
    pub not_before: Timestamp,
    /// In this round, only posts before this one are left to be done.
    pub posts_before: Option<PostId>,
}

impl Departure {
    /// One that is asked for now.
    #[must_use]
    pub const fn new(user_id: UserId, posts: PostsLeft, now: Timestamp) -> Self {
        let not_before = Timestamp::UNIX_EPOCH;
        Self { user_id, posts, asked_at: now, round: Round::First, not_before, posts_before: None }
    }

    /// What is left of it once its round is done, `now`: so what comes late puts off what comes after.
    #[must_use]
    fn next(self, now: Timestamp) -> Option<Self> {
        let (round, wait_seconds) = self.round.next()?;
        let not_before = time::after(now, wait_seconds);
        Some(Self { round, not_before, posts_before: None, ..self })
    }
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
    /// The next, and how long after this one is done it begins, in seconds.
    #[must_use]
    pub const fn next(self) -> Option<(Self, u64)> {
        match self {
            // The account is closed by then: no token is younger.
            Self::First => Some((Self::Second, access_token::LIFETIME_SECONDS + 30 * 60)),
            // The topic's retention of 18 days (README), and a day.
            Self::Second => Some((Self::Last, 19 * 24 * 60 * 60)),
            Self::Last => None,
        }
    }
}

/// Stores departures.
pub trait Departures: Sync {
    /// Stores a departure that begins, to be looked at when it is `due`; in the place of an earlier one of the same person.
    fn begin(&self, departure: &Departure, due: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

/// Tells how far departures are.
pub trait DepartureProgress: Sync {
    /// Somebody's, if they are leaving.
    fn get(&self, id: UserId) -> impl Future<Output = Result<Option<Departure>>> + Send;
    /// Puts what is left of a departure in its place, to be looked at when that is `due`. If it is not as it was any more,
    /// nothing happens; answers whether it was.
    fn move_on(
        &self,
        from: &Departure,
        rest: &Departure,
        due: Timestamp,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// Removes a departure that is done, unless it is not as it was any more.
    fn end(&self, departure: &Departure) -> impl Future<Output = Result<()>> + Send;
}

/// Tells which departures are to be looked at, and when.
pub trait DepartureSchedule: Sync {
    /// Up to `limit` of those that are due `now`, the longest due first, from the first one after `after` on.
    fn due(
        &self,
        now: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Due>>> + Send;
    /// Makes one due at another time, unless it is due at another already, or has ended.
    fn postpone(&self, due: Due, until: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

/// Whose departure is due, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Since when.
    pub since: Timestamp,
    /// Whose.
    pub user_id: UserId,
}

/// Takes departures that are to be gone on with.
pub trait DepartureQueue: Sync {
    /// Returns once it is queued.
    fn enqueue(&self, job: &DepartureJob) -> impl Future<Output = Result<()>> + Send;
}

/// That somebody's departure is to be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartureJob {
    /// Who leaves.
    pub user_id: UserId,
}

/// How long a departure that begins is left to its message, in seconds: far longer than its first round mostly takes. If
/// the queue was away, it is queued after this.
const BEGINNING_SECONDS: u64 = 15 * 60;
/// How long a departure is left to a message of its, in seconds: longer than the queue brings one again that fails (ten
/// times six minutes), and than it mostly waits for others. What is queued twice is harmless, but in vain.
const LEASE_SECONDS: u64 = 6 * 60 * 60;

/// Closes accounts.
pub trait AccountCloser: Sync {
    /// Removes an account with all that it is found by, in one transaction: its name, address and identities are free
    /// for others. If there is none, nothing happens.
    fn close(&self, id: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// Lets the caller leave, and tells them by mail. Once this answers, nothing holds it up any more.
pub async fn depart(
    departures: &impl Departures,
    queue: &impl DepartureQueue,
    accounts: &(impl AccountCloser + AccountReader),
    mailer: &impl Mailer,
    caller: &Caller,
    posts: PostsLeft,
    now: Timestamp,
) -> Result<()> {
    let user_id = caller.user_id;
    // First: with the account goes its address. Who asks again has none any more, and was told.
    let account = accounts.get(user_id).await;
    let departure = Departure::new(user_id, posts, now);
    departures.begin(&departure, time::after(now, BEGINNING_SECONDS)).await?;
    if let Err(error) = queue.enqueue(&DepartureJob { user_id }).await {
        tracing::warn!(%error, %user_id, "a departure is not queued yet: it will be when it is due");
    }
    if let Err(error) = accounts.close(user_id).await {
        tracing::warn!(%error, %user_id, "an account is not closed yet: its departure will do it");
    }
    match account {
        Ok(None) => {}
        Ok(Some(account)) => {
            mail::tell(mailer, &account, |email| Mail::account_closed(email, &account.username, now)).await;
        }
        Err(error) => tracing::error!(%error, %user_id, "who leaves is not told by mail"),
    }
    Ok(())
}

const DUE_PER_READ: usize = 100;
const CONCURRENT_MESSAGES: usize = 16;

/// Queues what is due, and then leaves it to its message for a while; answers how many that were. What this did not get to
/// is due the next time.
pub async fn resume(
    schedule: &impl DepartureSchedule,
    queue: &impl DepartureQueue,
    now: Timestamp,
) -> Result<usize> {
    let (mut after, mut resumed) = (None, 0);
    loop {
        let due = schedule.due(now, after, DUE_PER_READ).await?;
        let Some(last) = due.last().copied() else { return Ok(resumed) };
        after = Some(last);
        resumed += due.len();
        // In this order: one that is queued, and not put off, is only queued again.
        let resume_one = |due: Due| async move {
            queue.enqueue(&DepartureJob { user_id: due.user_id }).await?;
            schedule.postpone(due, time::after(now, LEASE_SECONDS)).await
        };
        let messages = stream::iter(due).map(resume_one).buffer_unordered(CONCURRENT_MESSAGES);
        messages.try_collect::<()>().await?;
    }
}

/// How much of a part is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// All that there was.
    Whole,
    /// As much as one go takes: there may be more.
    Part,
}

/// A part of what is kept of a person, and its erasure, which can be done again.
pub struct Step<'a> {
    what: &'static str,
    erased: BoxFuture<'a, Result<Erased>>,
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("what", &self.what).finish_non_exhaustive()
    }
}

/// The erasure of a part, called `what` in the log.
pub fn step<'a>(what: &'static str, erased: impl Future<Output = Result<()>> + Send + 'a) -> Step<'a> {
    long_step(what, erased.map(|erased| erased.map(|()| Erased::Whole)))
}

/// The erasure of a part that may be too large for one go.
pub fn long_step<'a>(
    what: &'static str,
    erased: impl Future<Output = Result<Erased>> + Send + 'a,
) -> Step<'a> {
    Step { what, erased: Box::pin(erased) }
}

/// The ports of [`Departing::go_on`].
#[derive(Debug)]
pub struct Departing<'a, I, P, L, D, Q> {
    /// Where a person's posts are found.
    pub index: &'a I,
    /// The posts.
    pub posts: &'a P,
    /// The log that their changes go to.
    pub log: &'a L,
    /// How far the departure is.
    pub departures: &'a D,
    /// Where the rest of its round waits.
    pub queue: &'a Q,
}

/// How many posts are changed before the rest is queued again: some seconds' work.
const POSTS_AT_ONCE: usize = 500;
const POSTS_PER_READ: usize = 100;
const CONCURRENT_APPENDS: usize = 16;

impl<I: PlaceIndex, P: Posts, L: PostLog, D: DepartureProgress, Q: DepartureQueue>
    Departing<'_, I, P, L, D, Q>
{
    /// Goes on with somebody's departure: takes all steps, and changes the posts, at once, so that no part of it waits for
    /// another, and none holds up others by failing. What is left of the round is queued again; with each message all steps
    /// are taken, those for little that are done. Only when nothing is left, and nothing has failed, comes the next round,
    /// which is left to the schedule. Where a message is of a round that is done, nothing happens.
    pub async fn go_on(&self, job: DepartureJob, steps: Vec<Step<'_>>, now: Timestamp) -> Result<()> {
        let stored = self.departures.get(job.user_id).await?;
        let Some(departure) = stored.filter(|departure| departure.not_before <= now) else { return Ok(()) };
        let steps = join_all(steps.into_iter().map(|step| take(job.user_id, step.what, step.erased)));
        let posts = take(job.user_id, "posts", self.leave_posts(&departure, now));
        let (mut parts, posts) = join(steps, posts).await;
        let posts_before = posts.as_ref().map_or(departure.posts_before, |(_, before)| *before);
        parts.push(posts.map(|(erased, _)| erased));
        if parts.iter().any(|part| matches!(part, Ok(Erased::Part))) {
            let rest = Departure { posts_before, ..departure };
            self.departures.move_on(&departure, &rest, time::after(now, LEASE_SECONDS)).await?;
            // Also where that was refused: perhaps only because it was done already, at a try whose answer got lost. If
            // somebody else has moved it on, and queued it, it is queued twice, which is harmless.
            return self.queue.enqueue(&job).await;
        }
        parts.into_iter().collect::<Result<Vec<_>>>()?;
        match departure.next(now) {
            Some(next) => self.departures.move_on(&departure, &next, next.not_before).await.map(drop),
            None => self.departures.end(&departure).await,
        }
    }

    /// Changes the person's posts, the newest first; answers before which one they are left to be done, if there are more.
    async fn leave_posts(&self, departure: &Departure, now: Timestamp) -> Result<(Erased, Option<PostId>)> {
        let key = PlaceKey::By(departure.user_id);
        let mut before = departure.posts_before;
        for _ in 0..POSTS_AT_ONCE / POSTS_PER_READ {
            let entries = self.index.newest(&key, before, POSTS_PER_READ).await?;
            let Some(last) = entries.last() else { return Ok((Erased::Whole, before)) };
            before = Some(last.post_id);
            let ids: Vec<_> = entries.iter().map(|entry| entry.post_id).collect();
            let posts = self.posts.get(&ids).await?;
            stream::iter(posts.into_iter().map(|post| left(&post, departure.posts, now)))
                .map(|record| async move { self.log.append(&record).await })
                .buffer_unordered(CONCURRENT_APPENDS)
                .try_collect::<()>()
                .await?;
        }
        Ok((Erased::Part, before))
    }
}

/// What happens to a post whose author leaves.
fn left(post: &Post, posts: PostsLeft, now: Timestamp) -> PostRecord {
    let change = match posts {
        PostsLeft::Anonymise => PostChange::Edited(Edit::new(post, vec![FieldChange::Author(None)], now)),
        PostsLeft::Remove => PostChange::Deleted(Deletion { post_id: post.post_id, deleted_at: now }),
    };
    change.into()
}

/// Erases a part; the log is told at once if that fails.
async fn take<T>(
    user_id: UserId,
    what: &'static str,
    erased: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    erased.await.inspect_err(|error| {
        tracing::error!(%error, %user_id, what, "a part of what is kept of who leaves is not erased yet");
    })
}

/// Removes all devices of a person, also those after one that cannot be removed yet. Their endpoints go first: what is left
/// behind there would be left for good.
pub async fn erase_devices(
    devices: &impl DeviceEditor,
    gateway: &impl PushGateway,
    owner: UserId,
) -> Result<()> {
    let mut failed = Ok(());
    for device in devices.of(owner).await? {
        let removed = async {
            gateway.unregister(&device.endpoint).await?;
            devices.remove(owner, &device.device_id).await.map(drop)
        };
        failed = removed.await.and(failed);
    }
    failed
}

/// Forgets a person's timeline. Where that fails nothing is held up: it is only kept at hand, and ends by itself.
pub async fn erase_timeline(timelines: &impl TimelineEraser, owner: UserId) -> Result<()> {
    if let Err(error) = timelines.forget(owner).await {
        tracing::warn!(cache_unavailable = true, %error, user_id = %owner, "the timeline of who leaves stays until it ends by itself");
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
    subscriptions.forget_count(owner).await
}

const NOTIFICATIONS_PER_READ: usize = 100;
/// After how many notifications an inbox is left to the next go: some seconds' work.
const NOTIFICATIONS_AT_ONCE: usize = 2_000;
const CONCURRENT_ERASURES: usize = 16;

/// Empties a person's inbox, or the newest of it, by pages; and, before each, what is remembered of the pushes that it tells of: without the
/// inbox nobody finds that any more. What is done stays done if this ends in between. Of a push that is being sent right
/// then, a record may stay, until it expires.
pub async fn erase_inbox(
    inbox: &(impl Inbox + InboxEraser),
    deliveries: &impl DeliveryEraser,
    owner: UserId,
    now: Timestamp,
) -> Result<Erased> {
    for _ in 0..NOTIFICATIONS_AT_ONCE / NOTIFICATIONS_PER_READ {
        let page = inbox.newest(owner, None, NOTIFICATIONS_PER_READ, now).await?;
        if page.is_empty() {
            // What is left has expired, or is no notification.
            return inbox.erase(owner).await.map(|()| Erased::Whole);
        }
        let ids: Vec<_> = page.iter().map(|notification| notification.id).collect();
        let posts: HashSet<PostId> = ids.iter().map(|id| id.post_id).collect();
        let erasures = stream::iter(posts).map(|post_id| deliveries.erase(owner, post_id));
        erasures.buffer_unordered(CONCURRENT_ERASURES).try_collect::<()>().await?;
        inbox.remove(owner, &ids).await?;
    }
    Ok(Erased::Part)
}
