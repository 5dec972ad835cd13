//! `POST /v1/posts/{post_id}/share`: 204, and the friends have it in their inbox, and their phones are about to ring; 404;
//! 422 where one of them is no friend. To share again changes nothing.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, NotificationsTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
    sqs::SqsPushQueue,
};
use tocsin_domain::{
    Result,
    sharing::{Friends, Sharing},
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
    NotificationsTable,
    SqsPushQueue,
);

fn main() -> ExitCode {
    start::http(share_post)
}

async fn share_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships, inboxes, queue) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let friends = Friends::from_json(&request.json()?)?;
    let sharing = Sharing { cache, posts: stored, hidden_cache, friendships, inboxes, queue };
    sharing.share(&caller, post_id, &friends, time::now()).await?;
    Ok(Response::no_content())
}
