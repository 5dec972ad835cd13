//! `GET /v1/users?ids`: 200 with what each of up to a hundred people shows to the caller, in the order of the ids; who is
//! not there, or hidden from the caller, is left out; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Refusal, Result,
    cursor::Page,
    ids::UserId,
    person::{self, ProfileImageUrls},
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
    start::http(list_users)
}

async fn list_users(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let shown = async {
        let ids = ids(request)?;
        person::shown_to(people, friendships, images, caller.user_id, &ids).await
    };
    let shown = limits::read(limiter, &caller, shown).await?;
    Response::read(request, Caching::Private, &Page::whole(shown))
}

fn ids(request: &Request) -> Result<Vec<UserId>, Refusal> {
    let mut query = request.query();
    let ids = query.required("ids", person::ids_from_list);
    query.whole_list()?;
    Ok(ids.unwrap_or_default())
}
