//! `GET /v1/timeline?limit&cursor`: 200 with a page of the caller's timeline, the newest first, each post with the
//! subscription that it is there for; 304. A cached page touches Redis alone.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable, SubscriptionsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter, RedisTimelines},
};
use tocsin_domain::{
    Result, time,
    timeline::{self, Reading},
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (
    Callers,
    RedisRateLimiter,
    RedisTimelines,
    RedisPostCache,
    SubscriptionsTable,
    PostsTable,
    RedisHiddenCache,
    FriendshipsTable,
);

fn main() -> ExitCode {
    start::http(get_timeline)
}

async fn get_timeline(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, timelines, cache, subscriptions, stored, hidden_cache, hidden) = ports;
    let caller = request.caller(callers).await?;
    let (index, large) = (stored, subscriptions);
    let reading =
        Reading { timelines, subscriptions, large, index, cache, posts: stored, hidden_cache, hidden };
    let page = async {
        let mut query = request.query();
        let (limit, before) = (query.limit(), query.cursor(Some(timeline::scope(caller.user_id))));
        query.finish()?;
        reading.page(caller.user_id, before, limit, time::now()).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
