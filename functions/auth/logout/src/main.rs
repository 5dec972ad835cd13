//! `DELETE /v1/auth/session`: 204, and the session of the access token has ended.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SessionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, session::SessionKeeper as _};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, SessionsTable);

fn main() -> ExitCode {
    start::http(logout)
}

async fn logout((callers, limiter, sessions): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // A token of another issuer belongs to no session of ours.
    if let Some(session_id) = caller.session_id {
        sessions.end(caller.user_id, session_id).await?;
    }
    Ok(Response::no_content())
}
