//! `POST /v1/feeds/{feed_id}/poll`: 202 with the feed as it is before that, and it is polled within seconds; 403 for who is no
//! moderator; 404; 409 where it is not enabled.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::FeedsTable, redis::RedisRateLimiter, sqs::SqsPollQueue};
use tocsin_domain::{Result, feeds};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, FeedsTable, SqsPollQueue);

fn main() -> ExitCode {
    start::http(request_feed_poll)
}

async fn request_feed_poll((callers, limiter, stored, queue): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    let feed = feeds::ask(stored, queue, request.id_in_path("feed_id", "feed")?).await?;
    Response::accepted(&feed)
}
