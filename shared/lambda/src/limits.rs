//! Rate limits of an account, where a handler needs them.

use futures::{TryFutureExt as _, future::try_join};
use tocsin_domain::{
    Result,
    access_token::Caller,
    rate_limit::{self, CHANGING, READING, RateLimit, RateLimiter},
};

/// Reads something for a caller, and counts it at the same time: a read that was one too many is thrown away.
pub fn read<T>(
    limiter: &impl RateLimiter,
    caller: &Caller,
    work: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    let counted = async { Ok(rate_limit::check_account(limiter, READING, caller.user_id).await?) };
    // Reads of a storage are large futures, too large to be moved about.
    try_join(counted, Box::pin(work)).map_ok(|((), read)| read)
}

/// Counts a change by a caller, before it is made.
pub async fn change(limiter: &impl RateLimiter, caller: &Caller) -> Result<()> {
    within(limiter, CHANGING, caller).await
}

/// Counts something by a caller, before it is done.
pub async fn within(limiter: &impl RateLimiter, limit: RateLimit, caller: &Caller) -> Result<()> {
    Ok(rate_limit::check_account(limiter, limit, caller.user_id).await?)
}
