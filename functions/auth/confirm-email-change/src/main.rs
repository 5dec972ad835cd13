//! `POST /v1/auth/email-change/confirm`: 204, and the account of the mail's token has its new address; 400 where the token
//! is not good (any more), 409 where somebody else has the address by now.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::AddressEditor, redis::RedisRateLimiter, ses::SesMailer};
use tocsin_domain::{
    Result, email_change,
    rate_limit::{self, SIGN_IN_FROM_ADDRESS},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (AddressEditor, SesMailer, RedisRateLimiter);

fn main() -> ExitCode {
    start::http(confirm_email_change)
}

async fn confirm_email_change((addresses, mailer, limiter): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    rate_limit::check(limiter, SIGN_IN_FROM_ADDRESS, &request.client_address()).await?;
    let token = email_change::token_from_json(&request.json()?)?;
    email_change::confirm(addresses, mailer, &token, time::now()).await?;
    Ok(Response::no_content())
}
