//! `GET /v1/users/me`: 200 with all of the caller's own profile; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::PeopleTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    person::{self, PrivateProfile, ProfileImageUrls},
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PeopleTable, ProfileImageUrls);

fn main() -> ExitCode {
    start::http(get_me)
}

async fn get_me((callers, limiter, people, images): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let mine = async {
        request.no_query()?;
        person::existing(people, caller.user_id).await
    };
    let mine = limits::read(limiter, &caller, mine).await?;
    Response::read(request, Caching::Private, &PrivateProfile::of(&mine, images))
}
