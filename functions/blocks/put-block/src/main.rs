//! `PUT /v1/blocks/{user_id}`: 204, and neither of the two sees the other any more; 404 where there is nobody, 409 where the
//! caller blocks as many as they may.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::{RedisHiddenCache, RedisRateLimiter},
};
use tocsin_domain::{Result, friends, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable, RedisHiddenCache);

fn main() -> ExitCode {
    start::http(put_block)
}

async fn put_block(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships, hidden_cache) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let other = request.id_in_path("user_id", "person")?;
    friends::block(people, friendships, hidden_cache, caller.user_id, other, time::now()).await?;
    Ok(Response::no_content())
}
