//! Held pushes: what a phone would have rung for, had it not been quiet, waits until the quiet hours end.
//!
//! With what is held for a person stands when that is due, to the minute. `release-held-pushes` looks each minute at who is
//! due, and queues a [`DigestJob`] for each. It remembers up to which minute it has done so, and goes on from there: what
//! was due while it was down is late then, and not lost.
//!
//! That somebody is due is only a reason to look. `deliver-digest` finds out by itself whether it is still quiet, and what
//! is held. So to be due twice, or for nothing, does no harm.

use std::{future::Future, ops::RangeInclusive};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    ids::{PostId, UserId},
    notification::{Because, NotificationId},
    preferences::{Preferences, PreferencesEditor},
    push::News,
    time::{self, Timestamp},
};

/// A push that waits for the end of quiet hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPush {
    /// The post.
    pub post_id: PostId,
    /// What is told of it.
    pub news: News,
    /// Why its recipient gets it.
    pub because: Because,
    /// When they were to be told.
    pub told_at: Timestamp,
}

impl HeldPush {
    /// Which it is, of one person: of the same key one is held.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", NotificationId::of(self.post_id, self.because), self.news)
    }

    /// What a phone rings for once, for whatever reasons.
    #[must_use]
    pub const fn rings_for(&self) -> (PostId, News) {
        (self.post_id, self.news)
    }
}

/// How long a push is held at the most after it was due, in seconds: a week. By then it is no news, whatever went wrong.
pub const LIFETIME_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Holds pushes.
pub trait HeldPushes: Sync {
    /// Holds a push for a person until then, and makes what is held for them due then. To hold it again changes nothing
    /// but that.
    fn hold(
        &self,
        owner: UserId,
        held: &HeldPush,
        until: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Tells what is held.
pub trait HeldPushReader: Sync {
    /// Up to `limit` pushes that are held for a person and have not expired, by their keys. Read consistently.
    fn of(
        &self,
        owner: UserId,
        limit: usize,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<HeldPush>>> + Send;
}

/// Changes when what is held is due.
pub trait HeldPushRescheduler: HeldPushReader {
    /// Makes what is held for a person due then, besides when it is already.
    fn reschedule(&self, owner: UserId, until: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

/// Removes what is held.
pub trait HeldPushEraser: HeldPushReader {
    /// Removes these, as they were read: what was held otherwise since stays.
    fn remove(&self, owner: UserId, held: &[HeldPush]) -> impl Future<Output = Result<()>> + Send;
    /// Removes all that is held for a person, and that they are due for it.
    fn erase(&self, owner: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// A minute, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(pub i64);

impl Minute {
    /// The one in which an instant lies.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_second().div_euclid(60))
    }

    /// The first one that begins at an instant, or after it.
    #[must_use]
    pub fn from(time: Timestamp) -> Self {
        let Self(minute) = Self::of(time);
        Self(minute + i64::from(time.as_millisecond().rem_euclid(60_000) > 0))
    }
}

/// That somebody is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDigest {
    /// When.
    pub minute: Minute,
    /// Who.
    pub user_id: UserId,
    /// Which time it was said that they are.
    pub said: String,
}

/// Tells who is due.
pub trait DigestSchedule: Sync {
    /// Up to which minute it is done.
    fn done(&self) -> impl Future<Output = Result<Option<Minute>>> + Send;
    /// Remembers up to which minute it is done, unless it is further.
    fn set_done(&self, minute: Minute) -> impl Future<Output = Result<()>> + Send;
    /// Up to `limit` of those who are due in a minute, in any order.
    fn due(&self, minute: Minute, limit: usize) -> impl Future<Output = Result<Vec<DueDigest>>> + Send;
    /// Makes somebody due no more, unless it was said again since.
    fn forget(&self, due: &DueDigest) -> impl Future<Output = Result<()>> + Send;
}

/// Takes digests that are due.
pub trait DigestQueue: Sync {
    /// Returns once all are queued. After an error some may be: to queue them again is harmless.
    fn enqueue(&self, jobs: &[DigestJob]) -> impl Future<Output = Result<()>> + Send;
}

/// That what is held for somebody is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestJob {
    /// For whom.
    pub user_id: UserId,
}

/// How many minutes that are done are looked at again: somebody may be made due in the minute that is just being done, and
/// that takes a function some seconds at the most.
const OVERLAP: i64 = 2;
/// Where nothing was done yet, it begins so many minutes ago: longer than it takes to install all functions.
const FIRST: i64 = 60;
/// How many minutes are done in one go at the most. A schedule that was down for hours takes several to come up to now, and
/// none is longer than the function may be.
const MOST_MINUTES: i64 = 90;
/// How many people are queued, and then forgotten, at once.
const PER_READ: usize = 1_600;
const CONCURRENT_READS: usize = 4;
const CONCURRENT_DELETES: usize = 32;

/// Queues the digests of all who are due; answers how many.
pub async fn release(
    schedule: &impl DigestSchedule,
    queue: &impl DigestQueue,
    now: Timestamp,
) -> Result<usize> {
    let minutes = minutes(schedule.done().await?, Minute::of(now));
    let last = Minute(*minutes.end());
    let each = stream::iter(minutes).map(|minute| release_minute(schedule, queue, Minute(minute)));
    let released =
        each.buffer_unordered(CONCURRENT_READS).try_fold(0, async |sum, one| Ok(sum + one)).await?;
    schedule.set_done(last).await?;
    Ok(released)
}

/// Which minutes are to be done.
fn minutes(done: Option<Minute>, now: Minute) -> RangeInclusive<i64> {
    let from = done.map_or(now.0 - FIRST, |done| done.0 - OVERLAP).min(now.0 - OVERLAP);
    from..=now.0.min(from + MOST_MINUTES)
}

async fn release_minute(
    schedule: &impl DigestSchedule,
    queue: &impl DigestQueue,
    minute: Minute,
) -> Result<usize> {
    let mut released = 0;
    loop {
        let due = schedule.due(minute, PER_READ).await?;
        if due.is_empty() {
            return Ok(released);
        }
        released += due.len();
        let jobs: Vec<_> = due.iter().map(|due| DigestJob { user_id: due.user_id }).collect();
        // In this order: one that is queued, and not forgotten, is only queued again.
        queue.enqueue(&jobs).await?;
        let forgotten = stream::iter(due).map(|due| async move { schedule.forget(&due).await });
        forgotten.buffer_unordered(CONCURRENT_DELETES).try_collect::<()>().await?;
    }
}

/// Puts a person's preferences. Where they end the quiet hours earlier, what is held is due then: at once, if it is not
/// quiet any more.
pub async fn put_preferences(
    editor: &impl PreferencesEditor,
    held: &impl HeldPushRescheduler,
    queue: &impl DigestQueue,
    owner: UserId,
    preferences: &Preferences,
    now: Timestamp,
) -> Result<()> {
    editor.put(owner, preferences).await?;
    // If this fails, the request does: another try puts the same, and comes here again.
    if held.of(owner, 1, now).await?.is_empty() {
        return Ok(());
    }
    match preferences.quiet_until(now) {
        None => queue.enqueue(&[DigestJob { user_id: owner }]).await,
        Some(until) => held.reschedule(owner, until).await,
    }
}

/// When what is held until an instant expires.
#[must_use]
pub fn expires_at(until: Timestamp) -> Timestamp {
    time::after(until, LIFETIME_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_in_a_minute_is_not_due_before_it_begins() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(Minute::of(at("1970-01-01T00:01:59.999Z")), Minute(1));
        assert_eq!(Minute::from(at("1970-01-01T00:01:00Z")), Minute(1));
        assert_eq!(Minute::from(at("1970-01-01T00:01:00.001Z")), Minute(2));
    }

    #[test]
    fn a_schedule_that_was_down_comes_up_to_now_without_a_gap() {
        let now = Minute(10_000);
        assert_eq!(minutes(None, now), 9_940..=10_000);
        assert_eq!(minutes(Some(Minute(9_999)), now), 9_997..=10_000);
        // It runs twice in a minute, or by a clock that is behind.
        assert_eq!(minutes(Some(now), now), 9_998..=10_000);
        assert_eq!(minutes(Some(Minute(10_005)), now), 9_998..=10_000);
        // Down for a day.
        let (mut done, mut rounds) = (Minute(10_000 - 24 * 60), 0);
        while done < now {
            let next = minutes(Some(done), now);
            assert!(*next.start() <= done.0 && *next.end() > done.0, "{next:?}");
            (done, rounds) = (Minute(*next.end()), rounds + 1);
        }
        assert!(rounds < 20, "{rounds} rounds");
    }
}
