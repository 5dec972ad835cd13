//! `POST /v1/posts`: 202 with the post's id, once the log has it; 503 where the log did not say so in time, which a
//! repetition with the same `Idempotency-Key` mends: the same key and content is the same post. With other content it is
//! a 409.

use std::process::ExitCode;

use serde_json::json;
use tocsin_adapters::{
    dynamodb::{CategoriesTable, IdempotencyTable},
    kafka::KafkaPostLog,
    redis::{RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, category, post::NewPost, posts::Creation, rate_limit::POSTING, time};
use tocsin_lambda::{
    callers::Callers,
    limits,
    metrics::{self, Metric},
    request::Request,
    response::Response,
    start,
};

type Ports = (Callers, RedisRateLimiter, CategoriesTable, IdempotencyTable, KafkaPostLog, RedisPostCache);

fn main() -> ExitCode {
    start::http(create_post)
}

async fn create_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, categories, idempotency, log, cache) = ports;
    let (caller, now) = (request.caller(callers).await?, time::now());
    limits::within(limiter, POSTING, &caller).await?;
    request.no_query()?;
    let key = request.idempotency_key()?;
    let body = request.json()?;
    let new = category::with_unknown(categories, &body, NewPost::from_json(&body, now)).await?;
    let creation = Creation { categories, idempotency, log, cache };
    let post_id = creation.create(&caller, key, new, now).await?;
    metrics::count(Metric::PostsAccepted, 1);
    Ok(Response::accepted(&json!({"post_id": post_id}))?.at(format!("/v1/posts/{post_id}")))
}
