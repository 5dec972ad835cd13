//! How long a consumer goes on trying what fails because a service is away.
//!
//! AWS counts how often a record failed, and cannot tell one that never succeeds from one that came while a service was
//! away; how long it waits between two tries it does not say. With few tries an outage of minutes would end in the
//! dead letters, post by post; with many a poison record would hold up its partition. We can tell the two apart: what
//! cannot be read is answered at once, and so is given up after its tries, while what a service failed is tried again
//! here, until the invocation's time is nearly over. One of AWS's tries is then a quarter of an hour of ours.

use std::time::Duration;

use tocsin_domain::{Error, Result, post_log::PostChange};

use crate::deadline::Deadline;

/// The times of a consumer's turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Persistence {
    /// How long to wait before the second turn; twice as long before each that follows.
    pub(crate) first_pause: Duration,
    /// And at most so long.
    pub(crate) longest_pause: Duration,
    /// How long a turn may take: what hangs is begun anew.
    pub(crate) turn: Duration,
    /// A turn is not begun with less time than this left.
    pub(crate) least_turn: Duration,
}

/// The times of every consumer.
pub(crate) const PERSISTENCE: Persistence = Persistence {
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(5),
    turn: Duration::from_secs(45),
    least_turn: Duration::from_secs(5),
};

/// Lets `each` handle changes, and again those that failed because a service was away, until none does or the time is
/// nearly over. Answers for each in turn.
pub(crate) async fn persistently(
    changes: &[PostChange],
    deadline: Deadline,
    Persistence { first_pause, longest_pause, turn, least_turn }: Persistence,
    each: impl AsyncFn(&[PostChange], Deadline) -> Vec<Result<()>>,
) -> Vec<Result<()>> {
    let mut outcomes = each(changes, deadline.within(turn)).await;
    let mut pause = first_pause;
    loop {
        let is_away = |outcome: &Result<()>| matches!(outcome, Err(Error::Unavailable { .. }));
        let again: Vec<usize> =
            (0..changes.len()).filter(|place| outcomes.get(*place).is_some_and(is_away)).collect();
        let Some(Err(error)) = again.first().and_then(|first| outcomes.get(*first)) else { return outcomes };
        if !deadline.leaves(pause + least_turn) {
            return outcomes;
        }
        tracing::warn!(%error, waiting = again.len(), "a service failed some changes, which are tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest_pause);
        let waiting: Vec<PostChange> =
            again.iter().filter_map(|place| changes.get(*place).cloned()).collect();
        for (place, outcome) in again.into_iter().zip(each(&waiting, deadline.within(turn)).await) {
            if let Some(before) = outcomes.get_mut(place) {
                *before = outcome;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tocsin_domain::{ids::PostId, post_log::Deletion, time};
    use tokio::time::Instant;

    use super::*;
    use crate::deadline::tests::within;

    fn changes(count: usize) -> Vec<PostChange> {
        let now = time::now();
        (0..count)
            .map(|_| PostChange::Deleted(Deletion { post_id: PostId::new(now), deleted_at: now }))
            .collect()
    }

    /// A thousandth of the consumers' times, more or less.
    const QUICK: Persistence = Persistence {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        turn: Duration::from_millis(45),
        least_turn: Duration::from_millis(5),
    };

    #[tokio::test]
    async fn what_a_service_failed_is_tried_until_it_is_back() {
        let (changes, began, tries) = (changes(3), Instant::now(), RefCell::new(Vec::new()));
        let outcomes = persistently(&changes, within(5_000), QUICK, async |some, _| {
            tries.borrow_mut().push(some.len());
            let is_away = began.elapsed() < Duration::from_millis(300);
            let one = |change: &PostChange| match () {
                () if *change == changes[1] => Err(Error::unreadable("a change", "poison")),
                () if is_away && *change == changes[2] => Err(Error::unavailable("posts", "away")),
                () => Ok(()),
            };
            some.iter().map(one).collect()
        });
        let outcomes = outcomes.await;
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(matches!(outcomes[1], Err(Error::Unreadable { .. })));
        let tries = tries.into_inner();
        assert_eq!(tries[0], 3);
        assert!(tries[1..].iter().all(|count| *count == 1), "only what waits: {tries:?}");
        assert!((3..100).contains(&tries.len()), "{} tries in 300 ms", tries.len());
    }

    #[tokio::test]
    async fn poison_is_answered_at_once_and_an_outage_when_time_is_nearly_over() {
        let (changes, tries) = (changes(2), Cell::new(0));
        let poison = persistently(&changes, within(5_000), QUICK, async |some, _| {
            tries.set(tries.get() + 1);
            some.iter().map(|_| Err(Error::unreadable("a change", "poison"))).collect()
        });
        assert!(poison.await.iter().all(Result::is_err));
        assert_eq!(tries.get(), 1);

        let began = Instant::now();
        let outage = persistently(&changes, within(500), QUICK, async |some, turn| {
            tries.set(tries.get() + 1);
            let hangs = turn.keep(std::future::pending::<()>()).await.is_err();
            some.iter()
                .map(|_| if hangs { Err(Error::unavailable("posts", "away")) } else { Ok(()) })
                .collect()
        });
        assert!(outage.await.iter().all(Result::is_err));
        assert!((400..=550).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert!(tries.get() > 3, "what hangs is begun anew");
    }

    #[tokio::test]
    async fn without_a_time_limit_nothing_is_tried_twice() {
        let (changes, tries) = (changes(1), Cell::new(0));
        let outcomes = persistently(&changes, Deadline::default(), QUICK, async |some, _| {
            tries.set(tries.get() + 1);
            some.iter().map(|_| Err(Error::unavailable("posts", "away"))).collect()
        });
        assert!(outcomes.await[0].is_err());
        assert_eq!(tries.get(), 1);
    }
}
