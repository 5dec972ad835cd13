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
    let post = async {
        request.no_query()?;
        posts::get(cache, stored, request.id_in_path("post_id", "post")?).await
    };
    let post = limits::read(limiter, &caller, post).await?;
    Response::read(request, Caching::Private, &post)
}
