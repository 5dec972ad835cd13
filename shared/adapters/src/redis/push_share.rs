//! The share of large audiences in the pushes that SNS takes: `share:bulk-pushes` is until when it is given away, in ms. It
//! expires then, when all of it is there again.

use std::{num::NonZeroU32, sync::LazyLock, time::Duration};

use redis::Script;
use tocsin_domain::{
    Result,
    push_turn::{MOST_AHEAD, PushShare},
};

use super::{Redis, Request};

/// Shares of so many pushes a second.
#[derive(Clone, Debug)]
pub struct RedisPushShare {
    redis: Redis,
    per_second: NonZeroU32,
}

impl RedisPushShare {
    /// Shares that a Redis keeps.
    #[must_use]
    pub fn new(redis: &Redis, per_second: NonZeroU32) -> Self {
        Self { redis: redis.clone(), per_second }
    }
}

/// KEYS: until when it is given away. ARGV: how many ms are taken, and how many ms ahead at most. Answers how many ms it is until
/// they begin, or -1 where that is too far ahead.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local begins = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
         if begins - now > tonumber(ARGV[2]) then return -1 end
         local ends = begins + tonumber(ARGV[1])
         redis.call('SET', KEYS[1], string.format('%.0f', ends), 'PX', string.format('%.0f', math.max(ends - now, 1)))
         return begins - now",
    )
});

impl PushShare for RedisPushShare {
    async fn take(&self, pushes: usize) -> Result<Option<Duration>> {
        let taken = u64::try_from(pushes).unwrap_or(u64::MAX).saturating_mul(1_000)
            / u64::from(self.per_second.get());
        let mut call = TAKE.key("share:bulk-pushes");
        call.arg(taken).arg(MOST_AHEAD.as_secs() * 1_000);
        let wait: i64 = self.redis.run("the share of pushes", Request::Script(&call)).await?;
        Ok(u64::try_from(wait).ok().map(Duration::from_millis))
    }
}
