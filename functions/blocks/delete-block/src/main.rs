//! `DELETE /v1/blocks/{user_id}`: 204, and the caller does not block them any more, if they did.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::FriendshipsTable,
    redis::{RedisHiddenCache, RedisRateLimiter},
};
use tocsin_domain::{
    Result,
    friendship::{self, Action},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, FriendshipsTable, RedisHiddenCache);

fn main() -> ExitCode {
    start::http(delete_block)
}

async fn delete_block(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, friendships, hidden_cache) = ports;
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let other = request.id_in_path("user_id", "person")?;
    let (me, now) = (caller.user_id, time::now());
    friendship::change_block(friendships, hidden_cache, me, other, Action::Unblock, now).await?;
    Ok(Response::no_content())
}
