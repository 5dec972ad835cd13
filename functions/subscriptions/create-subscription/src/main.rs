//! `POST /v1/subscriptions`: 201 with the subscription; 409 where the caller has too many.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, SubscriptionsTable},
    redis::{RedisRateLimiter, RedisTimelines},
};
use tocsin_domain::{Result, category, subscription::Wish, subscriptions, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, SubscriptionsTable, RedisTimelines);

fn main() -> ExitCode {
    start::http(create_subscription)
}

async fn create_subscription(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, categories, editor, timelines) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let body = request.json()?;
    let wish = category::with_unknown(categories, &body, Wish::from_json(&body)).await?;
    let made =
        subscriptions::create(categories, editor, timelines, caller.user_id, wish, time::now()).await?;
    Ok(Response::created(&made)?.at(format!("/v1/subscriptions/{}", made.subscription_id)))
}
