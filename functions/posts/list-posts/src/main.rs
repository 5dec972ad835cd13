//! `GET /v1/posts?lat&lon&radius_m&category&limit&cursor`: 200 with a page of the posts near a point, the newest first,
//! each with its distance, without those of people who are hidden from the caller; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Refusal, Result, friendship::hidden_from, near::Near, time};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable, RedisHiddenCache, FriendshipsTable);

fn main() -> ExitCode {
    start::http(list_posts)
}

async fn list_posts(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships) = ports;
    let caller = request.caller(callers).await?;
    let page = async {
        let near = near(request)?;
        let hidden = hidden_from(hidden_cache, friendships, caller.user_id).await?;
        near.list(stored, cache, stored, &hidden, time::now()).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}

fn near(request: &Request) -> Result<Near, Refusal> {
    let mut query = request.query();
    let circle = query.circle();
    let category = query.optional("category", str::parse);
    let limit = query.limit();
    let before = query.cursor(circle.map(|circle| Near::scope(circle, category.as_ref())));
    let Some(circle) = circle else { return Err(query.refusal()) };
    query.finish()?;
    Ok(Near { circle, category, limit, before })
}
