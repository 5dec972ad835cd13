//! `PUT /v1/notification-preferences`: 200 with the caller's preferences as they are now. What is held comes at once where
//! it is not quiet any more.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, HeldPushesTable, PreferencesTable},
    redis::RedisRateLimiter,
    sqs::SqsDigestQueue,
};
use tocsin_domain::{Result, held_push, preferences::Preferences, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, PreferencesTable, HeldPushesTable, SqsDigestQueue);

fn main() -> ExitCode {
    start::http(put_notification_preferences)
}

async fn put_notification_preferences(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, categories, editor, held, queue) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let mine = Preferences::from_json(categories, &request.json()?).await?;
    held_push::put_preferences(editor, held, queue, caller.user_id, &mine, time::now()).await?;
    Response::ok(&mine)
}
