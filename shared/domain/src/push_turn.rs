//! Turns: a push job, each time that it comes out of its queue.
//!
//! The gateway takes so many pushes a second. Where it takes no more, those whose phones are still to ring are put off, as
//! are those whose push another try of the job holds, and those of whom something failed: they are queued again, as a job
//! of their own that comes after a pause, twice as long each time. So the gateway is asked less and less often, nobody waits
//! for them, and no message is received in vain so often that it becomes a dead letter, however long it lasts: only that
//! their news has become old ends it. What fails again and again does become one.
//!
//! The jobs of a large audience have a share of what the gateway takes, so that it has room for the others: each waits,
//! once, until its share comes ([`PushShare`]).

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    delivery::Tally,
    push::{PushJob, PushRecipient},
};

/// A job, as it is queued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTurn {
    /// The job.
    #[serde(flatten)]
    pub job: PushJob,
    /// How often it was put off before.
    #[serde(default)]
    pub put_off: u32,
    /// In how many turns something of it has failed.
    #[serde(default)]
    pub failed: u32,
    /// Whether it has waited for its share.
    #[serde(default)]
    pub has_share: bool,
}

/// How long a job waits that is put off for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How long it waits at most: when the gateway takes more again, its pushes are no later than that.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// In how many turns something of a job may fail: in a quarter of an hour. Then the queue's own tries begin.
const MOST_FAILED: u32 = 12;
/// What is there sooner is not waited for.
const SOON: Duration = Duration::from_secs(1);

impl PushTurn {
    /// The next turn, and how long it is until then, if somebody of the job is put off, or something failed, and not too often.
    #[must_use]
    pub fn next(&self, tally: &Tally) -> Option<(Self, Duration)> {
        let failed = self.failed + u32::from(!tally.failed.is_empty());
        let is_given_up = tally.put_off.is_empty() && (tally.failed.is_empty() || failed > MOST_FAILED);
        if is_given_up {
            return None;
        }
        let left = |one: &&PushRecipient| tally.put_off.contains(one) || tally.failed.contains(one);
        let recipients = self.job.recipients.iter().filter(left).copied().collect();
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.put_off.min(16));
        let job = PushJob { recipients, ..self.job.clone() };
        let next = Self { job, put_off: self.put_off + 1, failed, ..*self };
        Some((next, doubled.min(LONGEST_PAUSE)))
    }

    /// The same turn once its share of what the gateway takes is there, and how long it is until then; none where it may go
    /// on. Where nobody can tell, it may.
    pub async fn until_its_share(&self, share: &impl PushShare) -> Option<(Self, Duration)> {
        if self.has_share {
            return None;
        }
        match share.take(self.job.recipients.len()).await {
            Ok(Some(wait)) if wait < SOON => None,
            Ok(Some(wait)) => Some((Self { has_share: true, ..self.clone() }, wait)),
            Ok(None) => Some((self.clone(), MOST_AHEAD)),
            Err(error) => {
                tracing::warn!(cache_unavailable = true, %error, "the share of a large audience's pushes is not kept");
                None
            }
        }
    }
}

/// Shares out what the gateway takes: so many pushes a second are for large audiences.
pub trait PushShare: Sync {
    /// Takes a share of so many pushes; answers how long it is until it is there, or nothing, and takes none, where that is
    /// more than [`MOST_AHEAD`].
    fn take(&self, pushes: usize) -> impl Future<Output = Result<Option<Duration>>> + Send;
}

/// How far ahead shares are taken: no further than a message can be put off (SQS: a quarter of an hour).
pub const MOST_AHEAD: Duration = Duration::from_mins(12);

/// Takes jobs that are put off.
pub trait PushTurns: Sync {
    /// Returns once it is queued, to come after `pause`: a quarter of an hour at most.
    fn put_off(&self, turn: &PushTurn, pause: Duration) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{PostId, SubscriptionId, UserId},
        notification::Because,
        push::News,
        time,
    };

    #[test]
    fn who_is_put_off_waits_twice_as_long_each_time_and_never_for_long() {
        let now = time::now();
        let recipient = || PushRecipient {
            user_id: UserId::new(now),
            because: Because::Subscription { subscription_id: SubscriptionId::new(now) },
        };
        let recipients = vec![recipient(), recipient(), recipient()];
        let job = PushJob { post_id: PostId::new(now), news: News::Posted, told_at: now, recipients };
        // As who knows nothing of turns queues it.
        let mut turn: PushTurn = serde_json::from_value(serde_json::to_value(&job).unwrap()).unwrap();
        let turn_of = |job, put_off| PushTurn { job, put_off, failed: 0, has_share: false };
        assert_eq!(turn, turn_of(job.clone(), 0));
        let later = job.recipients[1..].to_vec();
        let mut pauses = Vec::new();
        for times in 1..=200 {
            let (next, pause) = turn.next(&Tally { put_off: later.clone(), ..Tally::default() }).unwrap();
            assert_eq!(next, turn_of(PushJob { recipients: later.clone(), ..job.clone() }, times));
            assert_eq!(
                serde_json::from_str::<PushTurn>(&serde_json::to_string(&next).unwrap()).unwrap(),
                next
            );
            pauses.push(pause.as_secs());
            turn = next;
        }
        assert_eq!(pauses[..8], [2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(pauses.last(), Some(&120));

        // What fails again and again is left to the queue, but not those whom nobody has tried.
        let mut turn = turn_of(job, 0);
        let failing = |put_off: &[PushRecipient]| Tally {
            failed: vec![later[0]],
            put_off: put_off.to_vec(),
            ..Tally::default()
        };
        for times in 1..=MOST_FAILED {
            (turn, _) = turn.next(&failing(&[])).unwrap();
            assert_eq!((turn.failed, turn.put_off, turn.job.recipients.len()), (times, times, 1));
        }
        assert_eq!(turn.next(&failing(&[])), None);
        assert!(turn.next(&failing(&[later[1]])).is_some());
    }

    struct Shares(Result<Option<Duration>, ()>);

    impl PushShare for Shares {
        async fn take(&self, pushes: usize) -> Result<Option<Duration>> {
            assert_eq!(pushes, 1);
            self.0.map_err(|()| crate::Error::unavailable("shares", "away"))
        }
    }

    #[tokio::test]
    async fn a_large_audiences_turn_waits_once_for_its_share() {
        let now = time::now();
        let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
        let recipients = vec![PushRecipient { user_id: UserId::new(now), because }];
        let job = PushJob { post_id: PostId::new(now), news: News::Posted, told_at: now, recipients };
        let turn = PushTurn { job, put_off: 0, failed: 0, has_share: false };
        let wait = Duration::from_secs(70);
        for (answer, expected) in [
            (Ok(Some(Duration::from_millis(900))), None),
            (Ok(Some(wait)), Some((true, wait))),
            (Ok(None), Some((false, MOST_AHEAD))),
            (Err(()), None),
        ] {
            let until = turn.until_its_share(&Shares(answer)).await;
            assert_eq!(until.map(|(turn, wait)| (turn.has_share, wait)), expected);
        }
        let served = PushTurn { has_share: true, ..turn };
        assert_eq!(served.until_its_share(&Shares(Ok(Some(wait)))).await, None);
    }
}
