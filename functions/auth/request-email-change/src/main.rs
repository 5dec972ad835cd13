//! `POST /v1/users/me/email`: 202, and a mail on its way to the new address: a token, or, where the address is taken, word
//! to its owner. 403 where the account has no password and was not signed in to just now, 422 where the password is wrong.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
    ses::SesMailer,
};
use tocsin_domain::{
    Result,
    email_change::{self, EmailChange},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, UsersTable, SessionsTable, SesMailer);

fn main() -> ExitCode {
    start::http(request_email_change)
}

async fn request_email_change(
    (callers, limiter, users, sessions, mailer): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let change = EmailChange::from_json(&request.json()?)?;
    email_change::ask(users, sessions, mailer, limiter, &caller, &change, time::now()).await?;
    Ok(Response::taken())
}
