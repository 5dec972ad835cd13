//! `PUT /v1/moderation/posts/{post_id}`: 204, and the post stays, or is deleted, once the log has it; 403 for who is no moderator;
//! 404 where it was not withheld, or is gone; 422; 503 where the log did not say that it has it.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, ReactionsTable},
    kafka::KafkaPostLog,
    redis::{RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    moderation::{Deciding, Decision},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable, ReactionsTable, KafkaPostLog);

fn main() -> ExitCode {
    start::http(decide_flagged_post)
}

async fn decide_flagged_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, standings, log) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let decision = Decision::from_json(&request.json()?)?;
    Deciding { cache, posts: stored, standings, log }.decide(&caller, post_id, decision, time::now()).await?;
    Ok(Response::no_content())
}
