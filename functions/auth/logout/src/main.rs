//! `DELETE /v1/auth/session`: 204, and the session of the access token has ended.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SessionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, access_token::TokenVerifier, session::Sessions as _};
use tocsin_lambda::{limits, request::Request, response::Response, start};

type Ports = (TokenVerifier, RedisRateLimiter, SessionsTable);

fn main() -> ExitCode {
    start::http(logout)
}

async fn logout((tokens, limiter, sessions): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(tokens)?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    sessions.end(caller.user_id, caller.session_id).await?;
    Ok(Response::no_content())
}
