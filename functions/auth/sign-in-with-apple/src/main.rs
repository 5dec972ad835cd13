//! `POST /v1/auth/social/web/apple`: 200 with tokens, for an identity token of Apple; 401 where it is not good, 403 where Apple
//! has not verified the address of somebody new, 404 where signing in with Apple is not set up.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{Newcomers, SessionsTable, UsersTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    access_token::TokenSigner,
    outside_sign_in::{self, AppSignIn},
    rate_limit::{self, SIGN_IN_FROM_ADDRESS},
    session, time,
};
use tocsin_lambda::{outside::Apple, request::Request, response::Response, start};

type Ports = (Apple, Newcomers, UsersTable, SessionsTable, RedisRateLimiter, TokenSigner);

fn main() -> ExitCode {
    start::http(sign_in_with_apple)
}

async fn sign_in_with_apple(ports: &Ports, request: &Request) -> Result<Response> {
    let (apple, newcomers, users, sessions, limiter, signer) = ports;
    rate_limit::check(limiter, SIGN_IN_FROM_ADDRESS, &request.client_address()).await?;
    request.no_query()?;
    let (apple, now) = (apple.tokens()?, time::now());
    let vouched = AppSignIn::from_json(&request.json()?)?.hear(apple, now).await?;
    let account = outside_sign_in::account_of(newcomers, users, &vouched, now).await?;
    Response::ok(&session::begin(sessions, signer, &account, &request.origin(), now).await?)
}
