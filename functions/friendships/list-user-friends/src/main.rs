//! `GET /v1/users/{user_id}/friends?limit&cursor`: 200 with a page of somebody's friends, without those who are hidden from
//! the caller, each with what they are to the caller, and how many there are; 304, 404; 403 where they are not shown.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::{RedisHiddenCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    friends::{self, Listing},
    friendship::hidden_from,
    person::ProfileImageUrls,
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable, RedisHiddenCache, ProfileImageUrls);

fn main() -> ExitCode {
    start::http(list_user_friends)
}

async fn list_user_friends(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, profiles, friendships, hidden_cache, images) = ports;
    let caller = request.caller(callers).await?;
    let me = caller.user_id;
    let page = async {
        let owner = request.id_in_path("user_id", "person")?;
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(friends::scope_of_friends(me, owner))));
        query.finish()?;
        let hidden = hidden_from(hidden_cache, friendships, me);
        Listing { profiles, friendships, images }.friends_of(me, owner, hidden, after, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
