//! `POST /v1/auth/verify-email`: 200 with tokens, for the token of the mail; 400 where it is not good (any more).

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{Newcomers, SessionsTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    access_token::TokenSigner,
    account,
    rate_limit::{self, SIGN_IN_FROM_ADDRESS},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (Newcomers, SessionsTable, RedisRateLimiter, TokenSigner);

fn main() -> ExitCode {
    start::http(verify_email)
}

async fn verify_email((newcomers, sessions, limiter, signer): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    rate_limit::check(limiter, SIGN_IN_FROM_ADDRESS, &request.client_address()).await?;
    let token = account::token_from_json(&request.json()?)?;
    let origin = request.origin();
    let tokens = account::verify_email(newcomers, sessions, signer, &token, &origin, time::now()).await?;
    Response::ok(&tokens)
}
