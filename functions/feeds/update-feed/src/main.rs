//! `PATCH /v1/feeds/{feed_id}`: 200 with the feed as it is now, which is polled within a minute; 403 for who is no moderator; 404;
//! 409 where another feed has its url; 422.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, FeedsTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{Result, category, feed::FeedPatch, feeds, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, FeedsTable);

fn main() -> ExitCode {
    start::http(update_feed)
}

async fn update_feed((callers, limiter, categories, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    let id = request.id_in_path("feed_id", "feed")?;
    let body = request.json()?;
    let patch = category::with_unknown(categories, &body, FeedPatch::from_json(&body)).await?;
    Response::ok(&feeds::update(categories, stored, id, &patch, time::now()).await?)
}
