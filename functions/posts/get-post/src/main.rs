//! `GET /v1/posts/{post_id}`: 200 with the post; 304; 404, also where its author is hidden from
//! the caller, or it is withheld.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, friendship::hidden_from, posts};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable, RedisHiddenCache, FriendshipsTable);

fn main() -> ExitCode {
    start::http(get_post)
}

async fn get_post(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships) = ports;
    let caller = request.caller(callers).await?;
    let post = async {
        request.no_query()?;
        let post_id = request.id_in_path("post_id", "post")?;
        let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
        posts::get(cache, stored, hidden, &caller, post_id).await
    };
    let post = limits::read(limiter, &caller, post).await?;
    Response::read(request, Caching::Private, &post)
}
