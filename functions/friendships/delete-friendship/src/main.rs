//! `DELETE /v1/friendships/{user_id}`: 204, and the two are nothing to each other: a request is withdrawn or refused, or a
//! friendship has ended, if there was one.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::FriendshipsTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    friendship::{self, Action},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, FriendshipsTable);

fn main() -> ExitCode {
    start::http(delete_friendship)
}

async fn delete_friendship((callers, limiter, friendships): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let other = request.id_in_path("user_id", "person")?;
    friendship::change(friendships, caller.user_id, other, Action::Remove, time::now()).await?;
    Ok(Response::no_content())
}
