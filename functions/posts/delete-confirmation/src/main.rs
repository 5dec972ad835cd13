//! `DELETE /v1/posts/{post_id}/confirmation`: 204, and the caller is none of those who see it too; 404 for a post that they do
//! not see; 409 for their own. To say it again changes nothing.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable, ReactionsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
    sqs::SqsReactionQueue,
};
use tocsin_domain::{Result, friendship::hidden_from, reaction::Reacting};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (
    Callers,
    RedisRateLimiter,
    RedisPostCache,
    PostsTable,
    RedisHiddenCache,
    FriendshipsTable,
    ReactionsTable,
    SqsReactionQueue,
);

fn main() -> ExitCode {
    start::http(delete_confirmation)
}

async fn delete_confirmation(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships, reactions, queue) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
    Reacting { cache, posts: stored, reactions, queue }.withdraw(&caller, hidden, post_id).await?;
    Ok(Response::no_content())
}
