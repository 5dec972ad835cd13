//! `DELETE /v1/auth/sessions`: 204, and all of the caller's sessions have ended, also this one.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SessionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, session, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, SessionsTable);

fn main() -> ExitCode {
    start::http(end_sessions)
}

async fn end_sessions((callers, limiter, sessions): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    session::end_all(sessions, caller.user_id, None, time::now()).await?;
    Ok(Response::no_content())
}
