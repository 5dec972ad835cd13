//! `GET /v1/subscriptions`: 200 with all of the caller's subscriptions, the newest first; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SubscriptionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, cursor::Page, subscription::Subscriptions as _};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, SubscriptionsTable);

fn main() -> ExitCode {
    start::http(list_subscriptions)
}

async fn list_subscriptions(
    (callers, limiter, subscriptions): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let all = async {
        request.query().whole_list()?;
        subscriptions.of(caller.user_id).await
    };
    let all = limits::read(limiter, &caller, all).await?;
    Response::read(request, Caching::Private, &Page::whole(all))
}
