//! `POST /v1/auth/password-reset`: 202 whether or not there is such an account, and a mail with a token if there is.

use std::process::ExitCode;

use tocsin_adapters::{redis::RedisRateLimiter, sqs::SqsResetQueue};
use tocsin_domain::{
    Result,
    password_reset::{self, ResetRequest},
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (SqsResetQueue, RedisRateLimiter);

fn main() -> ExitCode {
    start::http(request_password_reset)
}

async fn request_password_reset((queue, limiter): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    let reset = ResetRequest::from_json(&request.json()?)?;
    password_reset::ask(queue, limiter, &reset, &request.client_address()).await?;
    Ok(Response::taken())
}
