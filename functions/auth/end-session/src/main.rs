//! `DELETE /v1/auth/sessions/{session_id}`: 204, and the session has ended; 404 where the caller has none such.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::SessionsTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, session, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, SessionsTable);

fn main() -> ExitCode {
    start::http(end_session)
}

async fn end_session((callers, limiter, sessions): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let id = request.id_in_path("session_id", "session")?;
    session::end(sessions, caller.user_id, id, time::now()).await?;
    Ok(Response::no_content())
}
