//! What moderators do with feeds: they add them, change them, have them polled, look how that goes, and end them.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Refusal, Result,
    category::{self, Categories},
    cursor::{Cursor, Limit, Page, Scope},
    error::Kind,
    feed::{Feed, FeedPatch, FeedSettings},
    feed_item::BadEntry,
    feed_poll::{PollJob, PollQueue},
    ids::FeedId,
    time::{self, Timestamp},
};

/// A feed, and how its polls go.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedRecord {
    /// The feed.
    pub feed: Feed,
    /// When it is polled next; none where it is not.
    pub next_poll_at: Option<Timestamp>,
    /// How its polls went.
    pub polls: Polls,
}

/// How the polls of a feed went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Polls {
    /// How many have failed in a row.
    pub failures: u32,
    /// The last one.
    pub last_poll: Option<LastPoll>,
    /// What was last read.
    pub last_reading: Option<LastReading>,
}

/// The last poll of a feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastPoll {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What came of it.
    pub outcome: PollOutcome,
    /// Why it failed.
    pub reason: Option<String>,
}

/// What came of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollOutcome {
    /// The provider says that nothing has changed.
    Unchanged,
    /// There was a document, and it was read.
    Read,
    /// There was none, or it could not be read, or not be published.
    Failed,
}

/// What the last document said that was read: an unchanged one says it still.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastReading {
    /// When it was read.
    pub read_at: Timestamp,
    /// How many items were understood.
    pub items: usize,
    /// How many posts were made of them,
    pub created: usize,
    /// changed,
    pub updated: usize,
    /// and ended.
    pub ended: usize,
    /// How many entries were not understood, and skipped.
    pub bad: usize,
    /// The first of those, and why.
    pub bad_entries: Vec<BadEntry>,
}

impl LastReading {
    /// How many bad entries are shown: a moderator sees what kinds of mistakes there are.
    pub const MOST_SHOWN: usize = 20;
}

/// How a feed is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedState {
    /// It is not polled.
    Disabled,
    /// It has not been polled yet.
    Waiting,
    /// Its polls go well, or have not failed for long.
    Healthy,
    /// Its polls keep failing: it is polled less often.
    Failing,
}

/// A feed, as moderators see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedView {
    #[serde(flatten)]
    feed: Feed,
    state: FeedState,
    next_poll_at: Option<Timestamp>,
    #[serde(flatten)]
    polls: Polls,
}

impl FeedView {
    /// The feed's id.
    #[must_use]
    pub const fn feed_id(&self) -> FeedId {
        self.feed.feed_id
    }
}

/// From how many failures in a row on a feed is said to be failing: one or two are a restart, or a lost packet.
const FAILING_FROM: u32 = 3;

impl From<FeedRecord> for FeedView {
    fn from(FeedRecord { feed, next_poll_at, polls }: FeedRecord) -> Self {
        let state = match &polls {
            _ if !feed.settings.enabled => FeedState::Disabled,
            Polls { last_poll: None, .. } => FeedState::Waiting,
            Polls { failures, .. } if *failures >= FAILING_FROM => FeedState::Failing,
            Polls { .. } => FeedState::Healthy,
        };
        Self { feed, state, next_poll_at, polls }
    }
}

/// Reads feeds.
pub trait Feeds: Sync {
    /// Up to `limit` feeds, the newest first, from the first one before `before` on.
    fn page(
        &self,
        before: Option<FeedId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<FeedRecord>>> + Send;
    /// A feed. Read consistently.
    fn get(&self, id: FeedId) -> impl Future<Output = Result<Option<FeedRecord>>> + Send;
}

/// Changes feeds.
pub trait FeedEditor: Feeds {
    /// Adds a feed. Refused with [`exists`] where another one has its address.
    fn add(&self, feed: &Feed, next_poll_at: Option<Timestamp>) -> impl Future<Output = Result<()>> + Send;
    /// Puts `new` in place of `old`, if that is what is stored, as `updated_at` tells; answers whether it was. Its failures are
    /// forgotten. Its next document is read, changed or
    /// not, since what is made of it may be something else now; and so it is with one that is being read. Refused with
    /// [`exists`] as above.
    fn replace(
        &self,
        old: &Feed,
        new: &Feed,
        next_poll_at: Option<Timestamp>,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// Removes a feed, if it is as it is stored, and what is known of it; answers whether it was. Its posts stay.
    fn remove(&self, feed: &Feed) -> impl Future<Output = Result<bool>> + Send;
}

/// That a feed is there already: read twice, it would ring twice.
#[must_use]
pub fn exists() -> Refusal {
    Refusal::new(Kind::Conflict, "feed_exists", "another feed has this url")
}

/// How often a change is tried again that another one came in the way of.
const ROUNDS: usize = 5;

/// Adds a feed. It is polled within a minute.
pub async fn create(
    categories: &impl Categories,
    editor: &impl FeedEditor,
    settings: FeedSettings,
    now: Timestamp,
) -> Result<FeedView> {
    category::must_exist(categories, &settings.category, "/category").await?;
    let feed = Feed { feed_id: FeedId::new(now), settings, created_at: now, updated_at: now };
    let next_poll_at = feed.settings.enabled.then_some(now);
    editor.add(&feed, next_poll_at).await?;
    Ok(FeedRecord { feed, next_poll_at, polls: Polls::default() }.into())
}

/// Changes a feed. It is polled within a minute, if it is at all.
pub async fn update(
    categories: &impl Categories,
    editor: &impl FeedEditor,
    id: FeedId,
    patch: &FeedPatch,
    now: Timestamp,
) -> Result<FeedView> {
    if let Some(category) = patch.category() {
        category::must_exist(categories, category, "/category").await?;
    }
    for _ in 0..ROUNDS {
        let record = editor.get(id).await?.ok_or_else(not_found)?;
        let settings = patch.clone().apply(record.feed.settings.clone());
        if settings == record.feed.settings {
            return Ok(record.into());
        }
        // Two changes in one millisecond are two.
        let updated_at = now.max(time::just_after(record.feed.updated_at));
        let feed = Feed { settings, updated_at, ..record.feed.clone() };
        let next_poll_at = feed.settings.enabled.then_some(now);
        if editor.replace(&record.feed, &feed, next_poll_at).await? {
            let polls = Polls { failures: 0, ..record.polls };
            return Ok(FeedRecord { feed, next_poll_at, polls }.into());
        }
    }
    Err(contended())
}

/// Ends a feed. Its posts stay as they are.
pub async fn end(editor: &impl FeedEditor, id: FeedId) -> Result<()> {
    for _ in 0..ROUNDS {
        let record = editor.get(id).await?.ok_or_else(not_found)?;
        if editor.remove(&record.feed).await? {
            return Ok(());
        }
    }
    Err(contended())
}

/// A feed, and how its polls go.
pub async fn get(feeds: &impl Feeds, id: FeedId) -> Result<FeedView> {
    Ok(feeds.get(id).await?.ok_or_else(not_found)?.into())
}

/// The list of feeds, which one cursor is of.
#[must_use]
pub fn scope() -> Scope {
    Scope::of(["feeds"])
}

/// A page of feeds, the newest first.
pub async fn page(feeds: &impl Feeds, after: Option<Cursor<FeedId>>, limit: Limit) -> Result<Page<FeedView>> {
    let records = feeds.page(after.map(|Cursor(last)| last), limit.and_one()).await?;
    let views = records.into_iter().map(FeedView::from).collect();
    Ok(Page::cut(views, limit, scope(), FeedView::feed_id))
}

/// Has a feed polled now, and not when it is due; answers it as it is before that.
pub async fn ask(feeds: &impl Feeds, queue: &impl PollQueue, id: FeedId) -> Result<FeedView> {
    let record = feeds.get(id).await?.ok_or_else(not_found)?;
    if !record.feed.settings.enabled {
        let detail = "the feed is not enabled: PATCH it, and it is polled";
        return Err(Refusal::new(Kind::Conflict, "feed_disabled", detail).into());
    }
    queue.enqueue(&[PollJob { feed_id: id, due: None }]).await?;
    Ok(record.into())
}

fn contended() -> Error {
    Error::unavailable("feeds", "a feed is changed by many at once")
}

fn not_found() -> Refusal {
    Refusal::not_found("feed")
}
