//! `GET /v1/blocks?limit&cursor`: 200 with a page of those whom the caller blocks, the newest first; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    friends::{self, Listing},
    friendship::List,
    person::ProfileImageUrls,
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable, ProfileImageUrls);

fn main() -> ExitCode {
    start::http(list_blocks)
}

async fn list_blocks(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, profiles, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let me = caller.user_id;
    let page = async {
        let mut query = request.query();
        let (limit, before) = (query.limit(), query.cursor(Some(friends::scope(me, List::Blocks))));
        query.finish()?;
        Listing { profiles, friendships, images }.blocks(me, before, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
