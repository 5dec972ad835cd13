//! Counts: `rate:<limit>:<who>` is how often, and expires with its window; `barred:<user>` is there while an account is
//! barred.

use std::{sync::LazyLock, time::Duration};

use redis::{Pipeline, Script};
use tocsin_domain::{
    Result,
    ids::UserId,
    rate_limit::{AccountBar, BARRED_SECONDS, Counted, RateLimit, RateLimiter},
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

/// KEYS: the count, and whether an account is barred. ARGV: the most, the window in ms. Answers how many ms to wait, or -1,
/// or -2 where it is barred.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return -2 end
         local count = redis.call('INCR', KEYS[1])
         if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         if count <= tonumber(ARGV[1]) then return -1 end
         return redis.call('PTTL', KEYS[1])",
    )
});

impl RateLimiter for RedisRateLimiter {
    async fn count(&self, limit: RateLimit, who: &str, account: Option<UserId>) -> Result<Counted> {
        let window = u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX);
        let mut call = COUNT.key(format!("rate:{}:{who}", limit.name));
        if let Some(account) = account {
            call.key(barred_key(account));
        }
        call.arg(limit.most).arg(window);
        let wait: i64 = self.redis.run(SERVICE, Request::Script(&call)).await?;
        Ok(match u64::try_from(wait) {
            Ok(wait) => Counted::TooMany(Duration::from_millis(wait.max(1))),
            Err(_) if wait == BARRED => Counted::Barred,
            Err(_) => Counted::Within,
        })
    }
}

impl AccountBar for RedisRateLimiter {
    async fn bar(&self, account: UserId) -> Result<()> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(barred_key(account)).arg(1).arg("EX").arg(BARRED_SECONDS).ignore();
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

/// What the script answers of an account that is barred.
const BARRED: i64 = -2;
const SERVICE: &str = "rate limits";

fn barred_key(account: UserId) -> String {
    format!("barred:{account}")
}
