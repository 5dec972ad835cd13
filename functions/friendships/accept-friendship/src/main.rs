//! `POST /v1/friendships/{user_id}/accept`: 200 with `accepted`, also the second time; 404 where there is nobody, 409 where
//! they have not asked, or one of the two has as many friends as they may.

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
    start::http(accept_friendship)
}

async fn accept_friendship(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let other = request.id_in_path("user_id", "person")?;
    let relation = friends::accept(people, friendships, caller.user_id, other, time::now()).await?;
    Response::ok(&json!({"state": relation.friendship}))
}
