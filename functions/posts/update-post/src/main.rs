//! `PATCH /v1/posts/{post_id}`: 200 with the post as it is now, once the log has the change; 403 where it is another's; 404;
//! 422; 503 where the log did not say that it has it.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, FriendshipsTable, PostsTable},
    kafka::KafkaPostLog,
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result, category,
    friendship::hidden_from,
    post_life::{Changing, PostPatch},
    rate_limit::POSTING,
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (
    Callers,
    RedisRateLimiter,
    RedisPostCache,
    PostsTable,
    RedisHiddenCache,
    FriendshipsTable,
    KafkaPostLog,
    CategoriesTable,
);

fn main() -> ExitCode {
    start::http(update_post)
}

async fn update_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships, log, categories) = ports;
    let (caller, now) = (request.caller(callers).await?, time::now());
    limits::within(limiter, POSTING, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let body = request.json()?;
    let patch = category::with_unknown(categories, &body, PostPatch::from_json(&body, now)).await?;
    if let Some(category) = patch.category() {
        category::must_exist(categories, category, "/category").await?;
    }
    let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
    let post = Changing { cache, posts: stored, log }.edit(&caller, hidden, post_id, patch, now).await?;
    Response::ok(&post)
}
