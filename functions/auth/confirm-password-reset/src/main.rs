//! `POST /v1/auth/password-reset/confirm`: 204, and the account of the mail's token has the new password and no session;
//! 400 where the token is not good (any more).

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
    ses::SesMailer,
};
use tocsin_domain::{
    Result,
    password_reset::{self, Reset},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (UsersTable, SessionsTable, SesMailer, RedisRateLimiter);

fn main() -> ExitCode {
    start::http(confirm_password_reset)
}

async fn confirm_password_reset(
    (users, sessions, mailer, limiter): &Ports,
    request: &Request,
) -> Result<Response> {
    request.no_query()?;
    let reset = Reset::from_json(&request.json()?)?;
    let address = request.client_address();
    password_reset::confirm(users, sessions, mailer, limiter, &reset, &address, time::now()).await?;
    Ok(Response::no_content())
}
