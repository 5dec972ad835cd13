//! `DELETE /v1/posts/{post_id}`: 204, once the log has it, and the post is nowhere to be seen; 403 where it is another's; 404;
//! 503 where the log did not say that it has it.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable},
    kafka::KafkaPostLog,
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, friendship::hidden_from, post_life::Changing, rate_limit::POSTING, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports =
    (Callers, RedisRateLimiter, RedisPostCache, PostsTable, RedisHiddenCache, FriendshipsTable, KafkaPostLog);

fn main() -> ExitCode {
    start::http(delete_post)
}

async fn delete_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships, log) = ports;
    let caller = request.caller(callers).await?;
    limits::within(limiter, POSTING, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
    Changing { cache, posts: stored, log }.delete(&caller, hidden, post_id, time::now()).await?;
    Ok(Response::no_content())
}
