//! `GET /v1/moderation/posts?limit&cursor`: 200 with a page of the posts that wait for a moderator's decision, the oldest
//! first, each with its flags; 304; 403 for who is no moderator.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, ReactionsTable},
    redis::{RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    moderation::{self, Queue},
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable, ReactionsTable);

fn main() -> ExitCode {
    start::http(list_flagged_posts)
}

async fn list_flagged_posts(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, reactions) = ports;
    let caller = request.caller(callers).await?;
    let page = async {
        // Who may not is told so, and not what else is wrong.
        caller.must_moderate()?;
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(moderation::scope())));
        query.finish()?;
        Queue { cache, posts: stored, reactions }.page(&caller, after, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
