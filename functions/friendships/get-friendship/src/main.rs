//! `GET /v1/friendships/{user_id}`: 200 with what somebody is to the caller; 304, 404.

use std::process::ExitCode;

use serde_json::json;
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{Result, friends};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable);

fn main() -> ExitCode {
    start::http(get_friendship)
}

async fn get_friendship(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships) = ports;
    let caller = request.caller(callers).await?;
    let state = async {
        request.no_query()?;
        let other = request.id_in_path("user_id", "person")?;
        friends::state(people, friendships, caller.user_id, other).await
    };
    let state = limits::read(limiter, &caller, state).await?;
    Response::read(request, Caching::Private, &json!({"state": state}))
}
