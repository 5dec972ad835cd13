//! `GET /v1/feeds/{feed_id}`: 200 with the feed, and how its polls go; 304; 403 for who is no moderator; 404.

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
    start::http(get_feed)
}

async fn get_feed((callers, limiter, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let feed = async {
        // Who may not is told so, and not what else is wrong.
        caller.must_moderate()?;
        request.no_query()?;
        feeds::get(stored, request.id_in_path("feed_id", "feed")?).await
    };
    let feed = limits::read(limiter, &caller, feed).await?;
    Response::read(request, Caching::Private, &feed)
}
