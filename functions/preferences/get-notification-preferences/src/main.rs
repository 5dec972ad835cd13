//! `GET /v1/notification-preferences`: 200 with the caller's preferences, or what holds for who has put none; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::PreferencesTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, preferences};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PreferencesTable);

fn main() -> ExitCode {
    start::http(get_notification_preferences)
}

async fn get_notification_preferences(
    (callers, limiter, preferences): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    request.no_query()?;
    let mine = limits::read(limiter, &caller, preferences::get(preferences, caller.user_id)).await?;
    Response::read(request, Caching::Private, &mine)
}
