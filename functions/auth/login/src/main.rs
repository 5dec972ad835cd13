//! `POST /v1/auth/login`: 200 with tokens; 401 for a wrong password or address, 403 before the mail is verified.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    access_token::TokenSigner,
    account::{self, Credentials},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (UsersTable, SessionsTable, RedisRateLimiter, TokenSigner);

fn main() -> ExitCode {
    start::http(login)
}

async fn login((users, sessions, limiter, signer): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    let credentials = Credentials::from_json(&request.json()?)?;
    let origin = request.origin();
    let tokens = account::login(users, sessions, limiter, signer, &credentials, &origin, time::now()).await?;
    Response::ok(&tokens)
}
