//! `GET /v1/subscriptions`: 200 with all of the caller's subscriptions, the newest first; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SubscriptionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, access_token::TokenVerifier, cursor::Page, subscription::Subscriptions as _};
use tocsin_lambda::{
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (TokenVerifier, RedisRateLimiter, SubscriptionsTable);

fn main() -> ExitCode {
    start::http(list_subscriptions)
}

async fn list_subscriptions((tokens, limiter, subscriptions): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(tokens)?;
    let all = async {
        request.query().whole_list()?;
        subscriptions.of(caller.user_id).await
    };
    let all = limits::read(limiter, &caller, all).await?;
    Response::read(request, Caching::Private, &Page::whole(all))
}
