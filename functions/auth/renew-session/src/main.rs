//! `POST /v1/auth/session`: 200 with new tokens, for a session token as bearer; 401 where it is not good (any more).

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    access_token::TokenSigner,
    rate_limit::{self, RENEWAL},
    session::{self, SessionToken},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (SessionsTable, UsersTable, RedisRateLimiter, TokenSigner);

fn main() -> ExitCode {
    start::http(renew_session)
}

async fn renew_session((sessions, users, limiter, signer): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    rate_limit::check(limiter, RENEWAL, &request.client_address()).await?;
    // No token at all is answered as one that is not good.
    let token = SessionToken::decode(request.bearer().unwrap_or_default())?;
    let origin = request.origin();
    Response::ok(&session::renew(sessions, users, signer, &token, &origin, time::now()).await?)
}
