//! `GET /v1/users/{user_id}`: 200 with what a person shows to the caller; 304; 404 where there is nobody, or a block
//! between them.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    friendship::no_such_person,
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
    start::http(get_user)
}

async fn get_user(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let shown = async {
        request.no_query()?;
        let user_id = request.id_in_path("user_id", "person")?;
        let mut shown = person::shown_to(people, friendships, images, caller.user_id, &[user_id]).await?;
        Ok(shown.pop().ok_or_else(no_such_person)?)
    };
    let shown = limits::read(limiter, &caller, shown).await?;
    Response::read(request, Caching::Private, &shown)
}
