//! `DELETE /v1/subscriptions/{subscription_id}`: 204, and the subscription has ended; 404 where the caller has none.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::SubscriptionsTable,
    redis::{RedisRateLimiter, RedisTimelines},
};
use tocsin_domain::{Result, subscriptions};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, SubscriptionsTable, RedisTimelines);

fn main() -> ExitCode {
    start::http(delete_subscription)
}

async fn delete_subscription(
    (callers, limiter, editor, timelines): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let id = request.id_in_path("subscription_id", "subscription")?;
    subscriptions::end(editor, timelines, caller.user_id, id).await?;
    Ok(Response::no_content())
}
