//! Polling: a feed that is due is fetched and read, and what is new in it is published, as everybody's posts are.
//!
//! `schedule-feeds` queues the feeds that are due, each minute, and changes nothing: a feed is due until a poll of it has
//! ended. `poll-feed` polls one under a lease, so that no two polls of a feed run at once, whoever asked for them.
//!
//! What was published of a feed is known ([`Known`]); and what is known is written after it was published. A poll that dies in
//! between is done again, and makes the same posts again: the id of a post follows from the instant at which such a poll first
//! published, which is remembered until one has come to its end, and from the name of what it tells of. So nothing is lost, and
//! nothing is told twice. What it may have told otherwise the first time is said once more, as an edit. (Only what the provider has
//! replaced by something else in between stays as it was told.)
//!
//! A provider that is down changes nothing: it is asked again later, and less often the longer it is down.

use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::{
    Error, Result,
    category::Categories,
    feed::{Feed, Format},
    feed_fetch::{FeedSource, FetchFailure, Fetched, Validators},
    feed_item::{self, BadEntry, Context, Item, NotThisFormat, Reading},
    feed_life::{Ending, Known, Step},
    feed_post::{self, Told},
    feeds::{LastPoll, LastReading, PollOutcome, Polls},
    ids::{FeedId, PostId},
    post::{PostKind, PostStatus},
    post_edit::FieldChange,
    post_log::{PostChange, PostLog, PostRecord},
    time::{self, Timestamp},
};

/// That a feed is to be polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PollJob {
    /// The feed.
    pub feed_id: FeedId,
    /// When it was due: by then it may have been polled already. None where somebody asked for it.
    pub due: Option<Timestamp>,
}

/// Takes feeds that are to be polled.
pub trait PollQueue: Sync {
    /// Returns once all are queued. After an error some may be: to queue them again is harmless.
    fn enqueue(&self, jobs: &[PollJob]) -> impl Future<Output = Result<()>> + Send;
}

/// Tells which feeds are due.
pub trait PollSchedule: Sync {
    /// Up to `limit` of them, those first that were due first.
    fn due(&self, now: Timestamp, limit: usize) -> impl Future<Output = Result<Vec<PollJob>>> + Send;
}

/// How many feeds are queued at once at the most; the others are due the next minute as well.
const MOST_QUEUED: usize = 1_000;

/// Queues all feeds that are due; answers how many.
pub async fn schedule(schedule: &impl PollSchedule, queue: &impl PollQueue, now: Timestamp) -> Result<usize> {
    let due = schedule.due(now, MOST_QUEUED).await?;
    queue.enqueue(&due).await?;
    Ok(due.len())
}

/// A poll that is under way, under a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// The feed, as it was when it began.
    pub feed: Feed,
    /// How the polls before it went.
    pub polls: Polls,
    /// When the feed was due, or will be.
    pub next_poll_at: Option<Timestamp>,
    /// What the provider said of the last document, by which it tells whether there is another; nothing where that must be read
    /// again.
    pub validators: Validators,
    /// When a poll first published that did not come to its end.
    pub since: Option<Timestamp>,
    /// How many polls before it have begun, and never ended.
    pub died: u32,
    /// Where it is kept what is known of the feed.
    pub kept_at: KeptAt,
    /// The lease: by chance, and no other poll's.
    pub lease: Uuid,
}

/// How a poll ends.
#[derive(Clone, Debug, PartialEq)]
pub struct PollEnd {
    /// How the polls went, with this one.
    pub polls: Polls,
    /// When the feed is due again.
    pub next_poll_at: Timestamp,
    /// What to ask the provider with the next time.
    pub validators: Validators,
    /// Where it is kept what is known of the feed.
    pub kept_at: KeptAt,
    /// When it first published, where it did not come to its end.
    pub since: Option<Timestamp>,
}

/// Keeps the polls of feeds.
pub trait PollStore: Sync {
    /// Takes the lease of a feed, until then. None where the feed is gone, or not enabled, or its last poll has not ended, or it was
    /// polled since it was due.
    fn begin(
        &self,
        job: &PollJob,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<Option<Poll>>> + Send;
    /// Remembers since when a poll publishes.
    fn publishing(&self, poll: &Poll, since: Timestamp) -> impl Future<Output = Result<()>> + Send;
    /// Ends a poll. Where the feed was changed meanwhile, it is due when that said, and is read then. Answers whether the
    /// poll still had its lease.
    fn end(&self, poll: &Poll, end: &PollEnd) -> impl Future<Output = Result<bool>> + Send;
    /// What is known of a poll's feed.
    fn known(&self, poll: &Poll) -> impl Future<Output = Result<Known>> + Send;
    /// Keeps what is known of a poll's feed; answers where. What was kept before stays, and holds until the poll ends. What is as it
    /// was kept is not written.
    fn keep(&self, poll: &Poll, known: Known) -> impl Future<Output = Result<KeptAt>> + Send;
}

/// Where it is kept what is known of a feed: an adapter's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAt(pub Vec<String>);

/// How long a poll has the lease, in seconds: longer than the function may take.
const LEASE_SECONDS: u64 = 90;
/// For how long documents are fetched that an index names: then the poll goes on with those that there are.
const LINKS_TIME: Duration = Duration::from_secs(25);
/// How many of them are fetched in one poll, and at once.
const MOST_LINKS: usize = 300;
const CONCURRENT_LINKS: usize = 8;
/// How many entries a poll takes in, and how many bytes of such documents: what is beyond is read the next time.
const MOST_ENTRIES: usize = 20_000;
const MOST_LINKED_BYTES: usize = 32 * 1024 * 1024;
/// How long a poll may take until it has published: less than its function, so that it is noted that it took too long.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many polls may die before one ends at once, so that a document that kills them is asked for less often.
const MOST_DIED: u32 = 2;
/// For how long it is remembered since when a poll publishes: what is older would be told as of then, and so to nobody.
const MOST_SINCE: SignedDuration = SignedDuration::from_hours(1);
/// How many records are on their way to the log at once.
const CONCURRENT_APPENDS: usize = 256;
/// A document is read at least once a day, changed or not: the series in it go on.
const MOST_UNREAD: SignedDuration = SignedDuration::from_hours(24);
/// A feed that fails is polled half as often each time, but at least this often, unless it is polled less often anyway.
const LEAST_OFTEN: SignedDuration = SignedDuration::from_hours(6);
/// A feed that is not there, or not to be asked, is asked again after an hour at the earliest.
const AFTER_PERMANENT: SignedDuration = SignedDuration::from_hours(1);
/// Where it was our fault, it is polled again after a minute at first.
const AFTER_OURS: SignedDuration = SignedDuration::from_mins(1);
/// Of how many new events at once phones ring: more of them are a programme that was put up, and no news.
const MOST_RUNG: usize = 20;
/// The most characters of a reason that is shown.
const MOST_OF_REASON: usize = 300;

/// Reads a document in a format.
pub type Read = fn(Format, &[u8], &Context<'_>) -> Result<Reading, NotThisFormat>;

/// The ports of a poll.
#[derive(Clone, Copy, Debug)]
pub struct Polling<'a, P, S, C, L> {
    /// The polls.
    pub polls: &'a P,
    /// Where documents come from.
    pub source: &'a S,
    /// How they are read.
    pub read: Read,
    /// The list of categories.
    pub categories: &'a C,
    /// The log.
    pub log: &'a L,
}

/// What a poll came to.
#[derive(Debug)]
enum Came {
    /// The provider has nothing new.
    Unchanged,
    /// A document was read, and published, and is known.
    Read { reading: LastReading, validators: Validators, kept_at: KeptAt },
    /// The provider had none that can be read.
    Failed(FetchFailure),
}

impl Came {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed(FetchFailure { reason: reason.into(), retry_after: None, is_permanent: false })
    }
}

impl<P: PollStore, S: FeedSource, C: Categories, L: PostLog> Polling<'_, P, S, C, L> {
    /// Polls a feed, by a clock; answers how that went. None where another poll does so, or has, or there is no such feed.
    pub async fn poll(&self, job: &PollJob, clock: impl Fn() -> Timestamp) -> Result<Option<Polls>> {
        let now = clock();
        let Some(poll) = self.polls.begin(job, now, time::after(now, LEASE_SECONDS)).await? else {
            return Ok(None);
        };
        // An id of long ago would be news of long ago.
        let mut since = poll.since.filter(|since| now.duration_since(*since) < MOST_SINCE);
        let came = if poll.died > MOST_DIED {
            Ok(Came::failed(format!("{} polls of it were cut short: its documents cost too much", poll.died)))
        } else {
            let work = tokio::time::timeout(PATIENCE, self.read_feed(&poll, &mut since, now)).await;
            work.unwrap_or_else(|_| Ok(Came::failed(format!("it took longer than {PATIENCE:?}"))))
        };
        let end = end(&poll, &came, since, (now, clock()));
        if !self.polls.end(&poll, &end).await? {
            tracing::warn!(feed_id = %poll.feed.feed_id, "a poll lost its lease, or its feed is gone");
        }
        came.map(|_| Some(end.polls))
    }

    async fn read_feed(&self, poll: &Poll, since: &mut Option<Timestamp>, now: Timestamp) -> Result<Came> {
        let settings = &poll.feed.settings;
        let last_read = poll.polls.last_reading.as_ref().map(|reading| reading.read_at);
        let is_recent = last_read.is_some_and(|read_at| now.duration_since(read_at) < MOST_UNREAD);
        let must_read = !is_recent || since.is_some();
        let seen = if must_read { Validators::default() } else { poll.validators.clone() };
        let (bytes, url, validators) = match self.source.fetch(&settings.url, &seen).await {
            Ok(Fetched::Unchanged) => return Ok(Came::Unchanged),
            Ok(Fetched::Document { bytes, url, validators }) => (bytes, url, validators),
            Err(failure) => return Ok(Came::Failed(failure)),
        };
        let mut reading = match self.read(poll, settings.format, &bytes, &url, now) {
            Ok(reading) => reading,
            Err(NotThisFormat(reason)) => return Ok(Came::failed(reason)),
        };
        drop(bytes);
        let mut known = self.polls.known(poll).await?;
        let is_whole = self.follow(poll, &mut reading, &mut known, now).await;
        // Who asks with these is told of no change, though there are documents that were not read.
        let validators = if is_whole { validators } else { Validators::default() };
        let reading = self.publish(poll, reading, &mut known, since, now).await?;
        let kept_at = self.polls.keep(poll, known).await?;
        *since = None;
        Ok(Came::Read { reading, validators, kept_at })
    }

    fn read(
        &self,
        poll: &Poll,
        format: Format,
        document: &[u8],
        url: &Url,
        now: Timestamp,
    ) -> Result<Reading, NotThisFormat> {
        let settings = &poll.feed.settings;
        let language = settings.language.as_ref().map(crate::feed::Language::as_str);
        (self.read)(
            format,
            document,
            &Context { url, now, language, time_zone: settings.time_zone.time_zone() },
        )
    }

    /// Reads the documents that an index names, but those that were read within the hour; answers whether all were.
    async fn follow(&self, poll: &Poll, reading: &mut Reading, known: &mut Known, now: Timestamp) -> bool {
        let links = std::mem::take(&mut reading.links);
        known.keep_links(&links);
        let due = known.links_due(&links, now);
        let nothing_seen = Validators::default();
        let fetches = stream::iter(due.iter().take(MOST_LINKS))
            .map(|link| {
                let fetch = self.source.fetch(link, &nothing_seen);
                async move { (link, fetch.await) }
            })
            .buffer_unordered(CONCURRENT_LINKS)
            .take_until(tokio::time::sleep(LINKS_TIME));
        let mut fetches = pin!(fetches);
        let mut bytes_read = 0;
        while let Some((link, fetched)) = fetches.next().await {
            let read = match fetched {
                Ok(Fetched::Document { bytes, url, .. }) => {
                    bytes_read += bytes.len();
                    self.read(poll, Format::Cap, &bytes, &url, now).map_err(|NotThisFormat(reason)| reason)
                }
                Ok(Fetched::Unchanged) => {
                    Err("it is said to be unchanged, though nobody asked that".to_owned())
                }
                Err(failure) => Err(failure.reason),
            };
            known.link_was_tried(link, read.is_ok(), now);
            match read {
                Ok(one) => {
                    reading.entries.extend(one.entries);
                    reading.bad.extend(one.bad);
                }
                Err(reason) => reading.bad.push(BadEntry { entry: link.to_string(), reason }),
            }
            if reading.entries.len() >= MOST_ENTRIES || bytes_read >= MOST_LINKED_BYTES {
                break;
            }
        }
        known.has_read(&links)
    }

    /// Publishes what is new in a reading, and takes it in.
    async fn publish(
        &self,
        poll: &Poll,
        mut reading: Reading,
        known: &mut Known,
        since: &mut Option<Timestamp>,
        now: Timestamp,
    ) -> Result<LastReading> {
        let Feed { feed_id, settings, .. } = &poll.feed;
        let categories = self.categories.all().await?.into_iter().map(|known| known.category).collect();
        for entry in &mut reading.entries {
            for item in &mut entry.items {
                let left_out = feed_post::complete(item, settings, &categories);
                if left_out > 0 {
                    let reason = format!("{left_out} of its tags are left out, since it has too many");
                    reading.bad.push(BadEntry { entry: entry.id.clone(), reason });
                }
            }
        }
        let began = since.unwrap_or(now);
        let mut changes = Changes::default();
        for entry in &reading.entries {
            let id = |name: &str| {
                PostId::named(began, &[feed_id.as_bytes(), entry.id.as_bytes(), name.as_bytes()])
            };
            for step in known.take(entry, now, id) {
                changes.take(&step);
            }
        }
        known.forget_old(now);
        if !changes.0.is_empty() {
            if since.is_none() {
                self.polls.publishing(poll, began).await?;
            }
            // What came before it may have said otherwise.
            let is_again = since.replace(began).is_some();
            self.append(changes.records(&poll.feed.source(), is_again, now)).await?;
        }
        let (created, updated, ended) = changes.counts();
        Ok(LastReading {
            read_at: now,
            items: reading.entries.iter().map(|entry| entry.items.len()).sum(),
            created,
            updated,
            ended,
            bad: reading.bad.len(),
            bad_entries: reading.bad.iter().take(LastReading::MOST_SHOWN).map(shown).collect(),
        })
    }

    /// Appends records, those of one post in their order.
    async fn append(&self, posts: impl Iterator<Item = Result<Vec<PostRecord>>>) -> Result<()> {
        let appended = stream::iter(posts).map(|records: Result<Vec<_>>| async {
            for record in records? {
                self.log.append(&record).await?;
            }
            Ok::<_, Error>(())
        });
        appended.buffer_unordered(CONCURRENT_APPENDS).try_collect().await
    }
}

/// What becomes of each post, whatever steps that takes.
#[derive(Debug, Default)]
struct Changes<'a>(BTreeMap<PostId, Fate<'a>>);

#[derive(Clone, Copy, Debug)]
enum Fate<'a> {
    Make(&'a Item),
    Change(&'a Item, Told),
    End(Ending),
}

impl<'a> Changes<'a> {
    fn take(&mut self, step: &Step<'a>) {
        match *step {
            Step::Make(post_id, item) => {
                self.0.insert(post_id, Fate::Make(item));
            }
            Step::Change(post_id, item, told) => {
                let fate = match self.0.get(&post_id) {
                    Some(Fate::Make(_)) => Fate::Make(item),
                    Some(Fate::Change(_, first)) => Fate::Change(item, *first),
                    Some(Fate::End(_)) | None => Fate::Change(item, told),
                };
                self.0.insert(post_id, fate);
            }
            Step::End(post_id, ending) => {
                // What nobody was told of does not end.
                if let Some(Fate::Make(_)) = self.0.get(&post_id) {
                    self.0.remove(&post_id);
                } else {
                    self.0.insert(post_id, Fate::End(ending));
                }
            }
        }
    }

    /// How many posts are made, changed, and ended.
    fn counts(&self) -> (usize, usize, usize) {
        self.0.values().fold((0, 0, 0), |(made, changed, ended), fate| match fate {
            Fate::Make(_) => (made + 1, changed, ended),
            Fate::Change(..) => (made, changed + 1, ended),
            Fate::End(_) => (made, changed, ended + 1),
        })
    }

    /// The records of each post. Where some of them may have been appended before, all that a new post says is said again.
    fn records(
        &self,
        source: &str,
        is_again: bool,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<Vec<PostRecord>>> {
        let is_event = |fate: &&Fate<'_>| matches!(fate, Fate::Make(item) if item.kind == PostKind::Event);
        let are_many = self.0.values().filter(is_event).count() > MOST_RUNG;
        self.0.iter().map(move |(post_id, fate)| {
            let edit = |item, told| feed_post::edit(item, *post_id, told, now).map(PostChange::Edited);
            let end =
                |change| Some(PostChange::Edited(feed_post::edit_of(*post_id, vec![change], None, now)));
            let changes = match fate {
                Fate::Make(item) => {
                    let quiet = are_many && item.kind == PostKind::Event || feed_post::is_old(item, now);
                    let post = feed_post::post(item, *post_id, source, quiet)?;
                    let again = if is_again { edit(item, None) } else { None };
                    [Some(PostChange::Created(Box::new(post))), again]
                }
                Fate::Change(item, told) => [edit(item, Some(*told)), None],
                Fate::End(Ending::Cancelled) => [end(FieldChange::Status(PostStatus::Cancelled)), None],
                Fate::End(Ending::Superseded) => [end(FieldChange::ExpiresAt(Some(now))), None],
            };
            Ok(changes.into_iter().flatten().map(PostRecord::from).collect())
        })
    }
}

/// How a poll ends, after which it is due again.
fn end(
    poll: &Poll,
    came: &Result<Came>,
    since: Option<Timestamp>,
    (started_at, ended_at): (Timestamp, Timestamp),
) -> PollEnd {
    let Poll { polls, validators, kept_at, .. } = poll.clone();
    let failures = polls.failures.saturating_add(1);
    let (outcome, reason, failures, next_poll_at) = match came {
        Ok(Came::Unchanged) => (PollOutcome::Unchanged, None, 0, next_turn(poll, ended_at)),
        Ok(Came::Read { .. }) => (PollOutcome::Read, None, 0, next_turn(poll, ended_at)),
        Ok(Came::Failed(failure)) => {
            let every = SignedDuration::from_mins(poll.feed.settings.every_minutes.into());
            let wait = wait(poll, every, failure, failures);
            (PollOutcome::Failed, Some(shortened(&failure.reason)), failures, later(ended_at, wait))
        }
        Err(_) => {
            let reason = "what was read could not be published, which is no fault of its provider".to_owned();
            let failure = FetchFailure { reason, retry_after: None, is_permanent: false };
            let wait = wait(poll, AFTER_OURS, &failure, failures);
            (PollOutcome::Failed, Some(failure.reason), failures, later(ended_at, wait))
        }
    };
    let (last_reading, validators, kept_at) = match came {
        Ok(Came::Read { reading, validators, kept_at }) => {
            (Some(reading.clone()), validators.clone(), kept_at.clone())
        }
        Ok(Came::Unchanged | Came::Failed(_)) | Err(_) => (polls.last_reading, validators, kept_at),
    };
    let last_poll = LastPoll { started_at, ended_at, outcome, reason };
    let polls = Polls { failures, last_poll: Some(last_poll), last_reading };
    PollEnd { polls, next_poll_at, validators, kept_at, since }
}

/// When a feed is due the next time after `now`, in its own rhythm; where it was put off, no later than that.
fn next_turn(poll: &Poll, now: Timestamp) -> Timestamp {
    let every = i64::from(poll.feed.settings.every_minutes) * 60_000;
    let due = poll.next_poll_at.unwrap_or(now);
    let late = now.as_millisecond() - due.as_millisecond();
    let turns = if late < 0 { 0 } else { late / every + 1 };
    later(due, SignedDuration::from_millis(turns * every)).min(later(now, SignedDuration::from_millis(every)))
}

/// How long a feed that has failed so often in a row is left alone: longer each time, and not as long as all others that failed
/// with it.
fn wait(poll: &Poll, at_first: SignedDuration, failure: &FetchFailure, failures: u32) -> SignedDuration {
    let doubled = at_first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let doubled = doubled.min(LEAST_OFTEN.max(at_first));
    let least = if failure.is_permanent { AFTER_PERMANENT } else { SignedDuration::ZERO };
    let asked = failure.retry_after.and_then(|wait| SignedDuration::try_from(wait).ok()).unwrap_or_default();
    let wait = doubled.max(least);
    // The lease is by chance: up to a fifth of the wait more.
    let jitter = wait.as_millis() / 5 * i128::from(poll.lease.as_bytes()[0]) / 255;
    let jittered = wait + SignedDuration::from_millis(i64::try_from(jitter).unwrap_or_default());
    jittered.max(asked)
}

fn later(time: Timestamp, wait: SignedDuration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn shown(bad: &BadEntry) -> BadEntry {
    BadEntry { entry: shortened(&bad.entry), reason: shortened(&bad.reason) }
}

fn shortened(text: &str) -> String {
    feed_item::shortened(text, MOST_OF_REASON)
}
