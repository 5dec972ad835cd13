//! `GET /v1/friendships?state&limit&cursor`: 200 with a page of the caller's friends, of those who asked, or of those who
//! were asked, the newest first, each as the caller sees them; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Refusal, Result,
    cursor::{Cursor, Limit},
    friends::{self, Listing},
    friendship::{List, Place},
    ids::UserId,
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
    start::http(list_friendships)
}

async fn list_friendships(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, profiles, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let page = async {
        let (list, before, limit) = wanted(request, caller.user_id)?;
        Listing { profiles, friendships, images }.mine(caller.user_id, list, before, limit).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}

fn wanted(request: &Request, me: UserId) -> Result<(List, Option<Cursor<Place>>, Limit), Refusal> {
    let mut query = request.query();
    let list = query.required("state", str::parse);
    let limit = query.limit();
    let before = query.cursor(list.map(|list| friends::scope(me, list)));
    let Some(list) = list else { return Err(query.refusal()) };
    query.finish()?;
    Ok((list, before, limit))
}
