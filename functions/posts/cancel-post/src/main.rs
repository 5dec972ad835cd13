//! `POST /v1/posts/{post_id}/cancel`: 200 with the post, which is called off, or was no such thing; 403 where it is another's;
//! 404; 409 where it has ended otherwise; 503 where the log did not say that it has it.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable},
    kafka::KafkaPostLog,
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    friendship::hidden_from,
    post_life::{Changing, End},
    rate_limit::POSTING,
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports =
    (Callers, RedisRateLimiter, RedisPostCache, PostsTable, RedisHiddenCache, FriendshipsTable, KafkaPostLog);

fn main() -> ExitCode {
    start::http(cancel_post)
}

async fn cancel_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships, log) = ports;
    let caller = request.caller(callers).await?;
    limits::within(limiter, POSTING, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
    let changing = Changing { cache, posts: stored, log };
    let post = changing.end(&caller, hidden, post_id, End::Cancel, time::now()).await?;
    Response::ok(&post)
}
