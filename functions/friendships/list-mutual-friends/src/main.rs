//! `GET /v1/users/{user_id}/mutual-friends?limit&cursor`: 200 with a page of the friends whom the caller and somebody have
//! in common, and how many there are; 304, 404; 403 where their friends are not shown.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    friends::{self, Listing},
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
    start::http(list_mutual_friends)
}

async fn list_mutual_friends(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, profiles, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let me = caller.user_id;
    let page = async {
        let owner = request.id_in_path("user_id", "person")?;
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(friends::scope_of_mutual(me, owner))));
        query.finish()?;
        Listing { profiles, friendships, images }.mutual_with(me, owner, after, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
