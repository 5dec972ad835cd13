//! `POST /v1/feeds`: 201 with the feed, which is polled within a minute; 403 for who is no moderator; 409 where another feed has
//! its url; 422.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, FeedsTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{Result, category, feed::FeedSettings, feeds, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, FeedsTable);

fn main() -> ExitCode {
    start::http(create_feed)
}

async fn create_feed((callers, limiter, categories, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    let body = request.json()?;
    let settings = category::with_unknown(categories, &body, FeedSettings::from_json(&body)).await?;
    let made = feeds::create(categories, stored, settings, time::now()).await?;
    Ok(Response::created(&made)?.at(format!("/v1/feeds/{}", made.feed_id())))
}
