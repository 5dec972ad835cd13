//! `GET /v1/feeds?limit&cursor`: 200 with a page of the feeds, the newest first, each with how its polls go; 304; 403 for who is no
//! moderator.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::FeedsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, feeds};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, FeedsTable);

fn main() -> ExitCode {
    start::http(list_feeds)
}

async fn list_feeds((callers, limiter, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let page = async {
        // Who may not is told so, and not what else is wrong.
        caller.must_moderate()?;
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(feeds::scope())));
        query.finish()?;
        feeds::page(stored, after, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
