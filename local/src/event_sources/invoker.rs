//! What event sources need of the functions: to hand one an event.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::runtime::{Capacity, Fleet, Invocation, InvokeError};

/// One function.
pub(crate) trait Invoke: Send + Sync + 'static {
    /// Invokes it, waiting for a free process.
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Result<Invocation, InvokeError>>;
    /// Its ARN.
    fn arn(&self) -> &str;
}

/// A function of a [`Fleet`].
pub(crate) struct FleetFunction {
    pub(crate) fleet: Fleet,
    pub(crate) name: String,
    pub(crate) arn: String,
}

impl Invoke for FleetFunction {
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Result<Invocation, InvokeError>> {
        Box::pin(self.fleet.invoke(&self.name, event, Capacity::Wait))
    }

    fn arn(&self) -> &str {
        &self.arn
    }
}

/// How long to wait before the n-th retry (from 1): doubled each time, up to a bound, and spread by a half, so that
/// sources that failed together don't come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Before the first retry.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl Default for Backoff {
    /// AWS does not say how long it waits. These let a person watch a retry, and a test end.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), most: Duration::from_millis(500) }
    }
}

impl Backoff {
    pub(crate) fn before(self, retry: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << retry.saturating_sub(1).min(16));
        doubled.min(self.most).mul_f64(rand::random_range(0.75..=1.25))
    }
}
