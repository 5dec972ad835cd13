//! Turns: a push job, each time that it comes out of its queue.
//!
//! The gateway takes so many pushes a second. Where it takes no more, those whose phones are still to ring are put off, as
//! are those whose push another try of the job holds:
//! they are queued again, as a job of their own that comes after a pause, twice as long each time. So the gateway is asked
//! less and less often, nobody waits for them, and no message is received in vain so often that it becomes a dead letter,
//! however long it lasts: only that their news has become old ends it.

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
}

/// How long a job waits that is put off for the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How long it waits at most: when the gateway takes more again, its pushes are no later than that.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

impl PushTurn {
    /// The next turn, and how long it is until then, if somebody of the job is put off. Then it is for those of whom
    /// something failed as well: if this turn were tried again besides, both would put off the same people.
    #[must_use]
    pub fn next(&self, tally: &Tally) -> Option<(Self, Duration)> {
        if tally.put_off.is_empty() {
            return None;
        }
        let left = |one: &&PushRecipient| tally.put_off.contains(one) || tally.failed.contains(one);
        let recipients = self.job.recipients.iter().filter(left).copied().collect();
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.put_off.min(16));
        let job = PushJob { recipients, ..self.job.clone() };
        Some((Self { job, put_off: self.put_off + 1 }, doubled.min(LONGEST_PAUSE)))
    }
}

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
        assert_eq!(turn, PushTurn { job: job.clone(), put_off: 0 });
        let later = job.recipients[1..].to_vec();
        let mut pauses = Vec::new();
        for times in 1..=200 {
            let (put_off, failed) = (vec![later[0]], vec![later[1]]);
            let (next, pause) = turn.next(&Tally { failed, put_off, ..Tally::default() }).unwrap();
            assert_eq!(
                next,
                PushTurn { job: PushJob { recipients: later.clone(), ..job.clone() }, put_off: times }
            );
            assert_eq!(
                serde_json::from_str::<PushTurn>(&serde_json::to_string(&next).unwrap()).unwrap(),
                next
            );
            pauses.push(pause.as_secs());
            turn = next;
        }
        // What only failed comes again by itself.
        assert_eq!(turn.next(&Tally { failed: later, ..Tally::default() }), None);
        assert_eq!(pauses[..8], [2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(pauses.last(), Some(&120));
    }
}
