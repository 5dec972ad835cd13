//! `GET /v1/subscriptions?limit&cursor`: 200 with a page of the caller's subscriptions, the newest first; 304.

use std::{cmp::Reverse, process::ExitCode};

use tocsin_adapters::{dynamodb::SubscriptionsTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    cursor::{Page, Scope},
    subscription::Subscriptions as _,
};
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
    let page = async {
        let scope = Scope::of(["subscriptions", &caller.user_id.to_string()]);
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(scope)));
        query.finish()?;
        let all = subscriptions.of(caller.user_id).await?;
        Ok(Page::of(all, limit, scope, after.as_ref(), |one| Reverse(one.subscription_id)))
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
