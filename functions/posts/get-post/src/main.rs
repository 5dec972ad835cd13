//! `GET /v1/posts/{post_id}`: 200 with the post; 304, 404.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::PostsTable,
    redis::{RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, access_token::TokenVerifier, posts};
use tocsin_lambda::{
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (TokenVerifier, RedisRateLimiter, RedisPostCache, PostsTable);

fn main() -> ExitCode {
    start::http(get_post)
}

async fn get_post((tokens, limiter, cache, stored): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(tokens)?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let post = limits::read(limiter, &caller, posts::get(cache, stored, post_id)).await?;
    Response::read(request, Caching::Private, &post)
}
