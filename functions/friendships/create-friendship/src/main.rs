//! `POST /v1/friendships`: 201 with what the other is to the caller then: `outgoing`, or `accepted` where they had asked; 404
//! where there is nobody, 409 where one of the two has as many as they may.

use std::process::ExitCode;

use serde_json::json;
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{Result, friends, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable);

fn main() -> ExitCode {
    start::http(create_friendship)
}

async fn create_friendship(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let other = friends::asked_from_json(&request.json()?)?;
    let relation = friends::ask(people, friendships, caller.user_id, other, time::now()).await?;
    Ok(Response::created(&json!({"state": relation.friendship}))?.at(format!("/v1/friendships/{other}")))
}
