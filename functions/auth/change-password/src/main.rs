//! `PUT /v1/users/me/password`: 204, and the caller has the new password and no other session; 422 where the current one
//! is wrong, 409 where there is none.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
    ses::SesMailer,
};
use tocsin_domain::{
    Result,
    password_change::{self, PasswordChange},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, UsersTable, SessionsTable, SesMailer);

fn main() -> ExitCode {
    start::http(change_password)
}

async fn change_password(
    (callers, limiter, users, sessions, mailer): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let change = PasswordChange::from_json(&request.json()?)?;
    password_change::change(users, sessions, mailer, limiter, &caller, &change, time::now()).await?;
    Ok(Response::no_content())
}
