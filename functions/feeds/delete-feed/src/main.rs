//! `DELETE /v1/feeds/{feed_id}`: 204, and the feed is polled no more; its posts stay. 403 for who is no moderator; 404.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::FeedsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, feeds};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, FeedsTable);

fn main() -> ExitCode {
    start::http(delete_feed)
}

async fn delete_feed((callers, limiter, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    feeds::end(stored, request.id_in_path("feed_id", "feed")?).await?;
    Ok(Response::no_content())
}
