//! Rate limits, where a handler needs them. A request counts before its content is looked at: one that is refused is a
//! request, too.

use futures::future::join;
use tocsin_domain::{
    Result,
    access_token::Caller,
    rate_limit::{self, CHANGING, PUBLIC, READING, RateLimit, RateLimiter},
};

use crate::request::Request;

/// Reads something for a caller, and counts it at the same time: a read that was one too many is thrown away.
pub async fn read<T>(
    limiter: &impl RateLimiter,
    caller: &Caller,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let counted = rate_limit::check_account(limiter, READING, caller.user_id);
    // Reads of a storage are large futures, too large to be moved about. A read that ends first is counted all the same.
    let (allowed, read) = join(counted, Box::pin(work)).await;
    allowed?;
    read
}

/// Counts what anyone may ask for, before it is done.
pub async fn public(limiter: &impl RateLimiter, request: &Request) -> Result<()> {
    Ok(rate_limit::check(limiter, PUBLIC, &request.client_address()).await?)
}

/// Counts a change by a caller, before it is made.
pub async fn change(limiter: &impl RateLimiter, caller: &Caller) -> Result<()> {
    within(limiter, CHANGING, caller).await
}

/// Counts something by a caller, before it is done.
pub async fn within(limiter: &impl RateLimiter, limit: RateLimit, caller: &Caller) -> Result<()> {
    Ok(rate_limit::check_account(limiter, limit, caller.user_id).await?)
}
