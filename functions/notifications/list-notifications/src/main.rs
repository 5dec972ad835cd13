//! `GET /v1/notifications?limit&cursor`: 200 with a page of what was pushed or shared to the caller, the newest first, each
//! with the post as it is now, and why; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, NotificationsTable, PeopleTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    notification::{self, InboxReading},
    time,
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
    NotificationsTable,
    RedisPostCache,
    PostsTable,
    PeopleTable,
    RedisHiddenCache,
    FriendshipsTable,
);

fn main() -> ExitCode {
    start::http(list_notifications)
}

async fn list_notifications(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, inbox, cache, stored, profiles, hidden_cache, hidden) = ports;
    let caller = request.caller(callers).await?;
    let reading = InboxReading { inbox, cache, posts: stored, profiles, hidden_cache, hidden };
    let page = async {
        let mut query = request.query();
        let (limit, before) = (query.limit(), query.cursor(Some(notification::scope(caller.user_id))));
        query.finish()?;
        reading.page(caller.user_id, before, limit, time::now()).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
