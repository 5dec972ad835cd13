//! `GET /v1/posts/{post_id}`: 200 with the post; 304, 404.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::PostsTable,
    redis::{RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, posts};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable);

fn main() -> ExitCode {
    start::http(get_post)
}

async fn get_post((callers, limiter, cache, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let post = async {
        request.no_query()?;
        posts::get(cache, stored, request.id_in_path("post_id", "post")?).await
    };
    let post = limits::read(limiter, &caller, post).await?;
    Response::read(request, Caching::Private, &post)
}
