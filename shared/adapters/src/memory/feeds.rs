//! Feeds, their polls, and what is known of them.

use std::collections::BTreeMap;

use tocsin_domain::{
    Error, Result,
    feed::Feed,
    feed_fetch::Validators,
    feed_life::Known,
    feed_poll::{KeptAt, Poll, PollEnd, PollJob, PollQueue, PollSchedule, PollStore},
    feeds::{self, FeedEditor, FeedRecord, Feeds, Polls},
    ids::FeedId,
    time::Timestamp,
};
use uuid::Uuid;

use super::Shared;

/// Feeds.
#[derive(Clone, Debug, Default)]
pub struct MemoryFeeds {
    feeds: Shared<BTreeMap<FeedId, Stored>>,
}

#[derive(Debug)]
struct Stored {
    record: FeedRecord,
    validators: Validators,
    since: Option<Timestamp>,
    lease: Option<(Uuid, Timestamp)>,
    begun: u32,
    kept_at: KeptAt,
    known: BTreeMap<String, Known>,
    /// How often what is known was written.
    writes: usize,
}

impl Stored {
    fn is_as(&self, feed: &Feed) -> bool {
        self.record.feed.updated_at == feed.updated_at
    }

    fn has(&self, lease: Uuid) -> bool {
        self.lease.is_some_and(|(own, _)| own == lease)
    }
}

impl MemoryFeeds {
    /// How often what is known of a feed was written.
    #[must_use]
    pub fn writes(&self, id: FeedId) -> usize {
        self.feeds.lock().get(&id).map_or(0, |stored| stored.writes)
    }

    fn is_taken(stored: &BTreeMap<FeedId, Stored>, feed: &Feed) -> bool {
        let is_same = |other: &Feed| other.feed_id != feed.feed_id && other.settings.url == feed.settings.url;
        stored.values().any(|other| is_same(&other.record.feed))
    }
}

impl Feeds for MemoryFeeds {
    async fn page(&self, before: Option<FeedId>, limit: usize) -> Result<Vec<FeedRecord>> {
        let feeds = self.feeds.lock();
        let newest = feeds.iter().rev().filter(|(id, _)| before.is_none_or(|before| **id < before));
        Ok(newest.map(|(_, stored)| stored.record.clone()).take(limit).collect())
    }

    async fn get(&self, id: FeedId) -> Result<Option<FeedRecord>> {
        Ok(self.feeds.lock().get(&id).map(|stored| stored.record.clone()))
    }
}

impl FeedEditor for MemoryFeeds {
    async fn add(&self, feed: &Feed, next_poll_at: Option<Timestamp>) -> Result<()> {
        let mut feeds = self.feeds.lock();
        if Self::is_taken(&feeds, feed) {
            return Err(feeds::exists().into());
        }
        let record = FeedRecord { feed: feed.clone(), next_poll_at, polls: Polls::default() };
        let stored = Stored {
            record,
            validators: Validators::default(),
            since: None,
            lease: None,
            begun: 0,
            kept_at: KeptAt::default(),
            known: BTreeMap::new(),
            writes: 0,
        };
        feeds.insert(feed.feed_id, stored);
        Ok(())
    }

    async fn replace(&self, old: &Feed, new: &Feed, next_poll_at: Option<Timestamp>) -> Result<bool> {
        let mut feeds = self.feeds.lock();
        let is_taken = Self::is_taken(&feeds, new);
        let Some(stored) = feeds.get_mut(&old.feed_id).filter(|stored| stored.is_as(old)) else {
            return Ok(false);
        };
        if is_taken {
            return Err(feeds::exists().into());
        }
        stored.record.feed = new.clone();
        stored.record.next_poll_at = next_poll_at;
        stored.record.polls.failures = 0;
        stored.validators = Validators::default();
        Ok(true)
    }

    async fn remove(&self, feed: &Feed) -> Result<bool> {
        let mut feeds = self.feeds.lock();
        let is_there = feeds.get(&feed.feed_id).is_some_and(|stored| stored.is_as(feed));
        Ok(is_there && feeds.remove(&feed.feed_id).is_some())
    }
}

impl PollSchedule for MemoryFeeds {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<PollJob>> {
        let feeds = self.feeds.lock();
        let due = feeds.iter().filter_map(|(id, stored)| Some((stored.record.next_poll_at?, *id)));
        let mut due: Vec<_> = due.filter(|(at, _)| *at <= now).collect();
        due.sort_unstable();
        Ok(due.into_iter().map(|(at, feed_id)| PollJob { feed_id, due: Some(at) }).take(limit).collect())
    }
}

impl PollStore for MemoryFeeds {
    async fn begin(&self, job: &PollJob, now: Timestamp, until: Timestamp) -> Result<Option<Poll>> {
        let mut feeds = self.feeds.lock();
        let Some(stored) = feeds.get_mut(&job.feed_id) else { return Ok(None) };
        let is_free = stored.lease.is_none_or(|(_, until)| until < now);
        let next_poll_at = stored.record.next_poll_at;
        if !is_free || next_poll_at.is_none() || job.due.is_some() && job.due != next_poll_at {
            return Ok(None);
        }
        let lease = Uuid::new_v4();
        stored.lease = Some((lease, until));
        let died = stored.begun;
        stored.begun += 1;
        let FeedRecord { feed, polls, .. } = stored.record.clone();
        let (validators, since, kept_at) = (stored.validators.clone(), stored.since, stored.kept_at.clone());
        Ok(Some(Poll { feed, polls, next_poll_at, validators, since, died, kept_at, lease }))
    }

    async fn publishing(&self, poll: &Poll, since: Timestamp) -> Result<()> {
        let mut feeds = self.feeds.lock();
        match feeds.get_mut(&poll.feed.feed_id).filter(|stored| stored.has(poll.lease)) {
            Some(stored) => stored.since = Some(since),
            None => return Err(Error::unavailable("feeds", "no lease")),
        }
        Ok(())
    }

    async fn end(&self, poll: &Poll, end: &PollEnd) -> Result<bool> {
        let mut feeds = self.feeds.lock();
        let Some(stored) = feeds.get_mut(&poll.feed.feed_id).filter(|stored| stored.has(poll.lease)) else {
            return Ok(false);
        };
        let PollEnd { polls, next_poll_at, validators, kept_at, since } = end.clone();
        stored.known.retain(|name, _| kept_at.0.contains(name) || !stored.kept_at.0.contains(name));
        (stored.lease, stored.begun) = (None, 0);
        (stored.since, stored.kept_at) = (since, kept_at);
        stored.record.polls = polls;
        if stored.is_as(&poll.feed) {
            stored.record.next_poll_at = Some(next_poll_at);
            stored.validators = validators;
        }
        Ok(true)
    }

    async fn known(&self, poll: &Poll) -> Result<Known> {
        let feeds = self.feeds.lock();
        let parts = feeds.get(&poll.feed.feed_id).map(|stored| &stored.known);
        let kept = poll.kept_at.0.iter().filter_map(|name| parts?.get(name).cloned());
        Ok(Known::join(kept))
    }

    async fn keep(&self, poll: &Poll, known: Known) -> Result<KeptAt> {
        let mut feeds = self.feeds.lock();
        let Some(stored) = feeds.get_mut(&poll.feed.feed_id) else { return Ok(KeptAt::default()) };
        if known == Known::default() {
            return Ok(KeptAt::default());
        }
        let before = poll.kept_at.0.first();
        if let Some(name) = before.filter(|name| stored.known.get(*name) == Some(&known)) {
            return Ok(KeptAt(vec![name.clone()]));
        }
        stored.writes += 1;
        let name = Uuid::new_v4().to_string();
        stored.known.insert(name.clone(), known);
        Ok(KeptAt(vec![name]))
    }
}

/// Feeds that wait to be polled.
#[derive(Clone, Debug, Default)]
pub struct MemoryPollQueue {
    jobs: Shared<Vec<PollJob>>,
}

impl MemoryPollQueue {
    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<PollJob> {
        std::mem::take(&mut self.jobs.lock())
    }
}

impl PollQueue for MemoryPollQueue {
    async fn enqueue(&self, jobs: &[PollJob]) -> Result<()> {
        self.jobs.lock().extend_from_slice(jobs);
        Ok(())
    }
}
