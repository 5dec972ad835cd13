//! Counts: `rate:<limit>:<who>` is how often, and expires with its window.

use std::{sync::LazyLock, time::Duration};

use redis::Script;
use tocsin_domain::{
    Result,
    rate_limit::{RateLimit, RateLimiter},
};

use super::{Redis, Request};

/// Counts in windows that begin with the first request. At the border of two windows twice as many pass, which none
/// of the limits minds, and in return a count is one number.
#[derive(Clone, Debug)]
pub struct RedisRateLimiter {
    redis: Redis,
}

impl RedisRateLimiter {
    /// Counts in a Redis.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone() }
    }
}

/// KEYS: the count. ARGV: the most, the window in ms. Answers how many ms to wait, or -1.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local count = redis.call('INCR', KEYS[1])
         if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         if count <= tonumber(ARGV[1]) then return -1 end
         return redis.call('PTTL', KEYS[1])",
    )
});

impl RateLimiter for RedisRateLimiter {
    async fn count(&self, limit: RateLimit, who: &str) -> Result<Option<Duration>> {
        let window = u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX);
        let mut call = COUNT.key(format!("rate:{}:{who}", limit.name));
        call.arg(limit.most).arg(window);
        let wait: i64 = self.redis.run("rate limits", Request::Script(&call)).await?;
        Ok(u64::try_from(wait).ok().map(|wait| Duration::from_millis(wait.max(1))))
    }
}
