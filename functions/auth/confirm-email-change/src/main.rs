//! `POST /v1/auth/email-change/confirm`: 204, and the caller's account has the address that the mail's token was sent to;
//! 400 where the token is not good (any more) or another account's, 409 where somebody else has the address by now.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::AddressEditor, redis::RedisRateLimiter, ses::SesMailer};
use tocsin_domain::{Result, email_change, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, AddressEditor, SesMailer);

fn main() -> ExitCode {
    start::http(confirm_email_change)
}

async fn confirm_email_change(
    (callers, limiter, addresses, mailer): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let token = email_change::token_from_json(&request.json()?)?;
    email_change::confirm(addresses, mailer, &caller, &token, time::now()).await?;
    Ok(Response::no_content())
}
