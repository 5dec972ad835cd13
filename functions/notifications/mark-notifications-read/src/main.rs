//! `POST /v1/notifications/read`: 204, and these of the caller's notifications, or all that were made until a time, are read.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::NotificationsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, notification::Read, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, NotificationsTable);

fn main() -> ExitCode {
    start::http(mark_notifications_read)
}

async fn mark_notifications_read((callers, limiter, inbox): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    Read::from_json(&request.json()?)?.mark(inbox, caller.user_id, time::now()).await?;
    Ok(Response::no_content())
}
