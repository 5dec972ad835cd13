//! `PATCH /v1/subscriptions/{subscription_id}`: 200 with the subscription as it is now; 404 where the caller has none.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, SubscriptionsTable},
    redis::{RedisRateLimiter, RedisTimelines},
};
use tocsin_domain::{Result, category, subscription::WishPatch, subscriptions, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, SubscriptionsTable, RedisTimelines);

fn main() -> ExitCode {
    start::http(update_subscription)
}

async fn update_subscription(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, categories, editor, timelines) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let id = request.id_in_path("subscription_id", "subscription")?;
    let body = request.json()?;
    let patch = category::with_unknown(categories, &body, WishPatch::from_json(&body)).await?;
    let now = time::now();
    let changed =
        subscriptions::update(categories, editor, timelines, caller.user_id, id, &patch, now).await?;
    Response::ok(&changed)
}
