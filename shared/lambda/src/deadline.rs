//! How long an invocation may take. What runs out of time is answered all the same, by us: AWS would say no more than that
//! it timed out, and count all of a batch as failed, what is done as well.

use std::time::{Duration, SystemTime};

use lambda_runtime::Context;
use tocsin_domain::{Error, Result};
use tokio::time::{Instant, timeout_at};

/// How long before the time limit of an invocation its answer is sent.
const MARGIN: Duration = Duration::from_millis(300);

/// When an invocation must be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// That of an invocation. There is none where the invoker sets no limit that makes sense, as tools do.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        let left = context.deadline().duration_since(SystemTime::now()).ok();
        Self(left.and_then(|left| left.checked_sub(MARGIN)).and_then(Self::at))
    }

    fn at(left: Duration) -> Option<Instant> {
        Instant::now().checked_add(left)
    }

    /// Works until then: an error is that time ran out.
    pub async fn keep<T>(self, work: impl Future<Output = T>) -> Result<T> {
        let Some(at) = self.0 else { return Ok(work.await) };
        // What would have no time at all is not begun.
        let kept = if self.is_over() { None } else { timeout_at(at, work).await.ok() };
        kept.ok_or_else(|| Error::unavailable("the function", "it ran out of time"))
    }

    /// This one, or an earlier one so long from now.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        let sooner = Self::at(time);
        Self(self.0.map_or(sooner, |at| Some(sooner.map_or(at, |sooner| sooner.min(at)))))
    }

    /// Whether there is a limit, and more than this left.
    #[must_use]
    pub fn leaves(self, time: Duration) -> bool {
        self.0.is_some_and(|at| Instant::now().checked_add(time).is_some_and(|then| then < at))
    }

    /// Whether there is no time left.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// A deadline so many milliseconds from now.
    pub(crate) fn within(milliseconds: u64) -> Deadline {
        Deadline(Deadline::at(Duration::from_millis(milliseconds)))
    }

    #[tokio::test]
    async fn work_ends_with_its_time() {
        assert!(within(20).keep(pending::<()>()).await.is_err());
        assert!(within(0).keep(ready(())).await.is_err());
        within(1_000).keep(ready(())).await.unwrap();
        Deadline::default().keep(ready(())).await.unwrap();
    }

    #[test]
    fn an_invocation_is_answered_before_its_limit_if_it_has_one() {
        assert!(Deadline::of(&Context::default()).0.is_none());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut context = Context::default();
        context.deadline = u64::try_from(now.as_millis()).unwrap() + 10_000;
        let left = Deadline::of(&context).0.unwrap() - Instant::now();
        assert!((9_000..=9_700).contains(&left.as_millis()), "{left:?}");
    }
}
