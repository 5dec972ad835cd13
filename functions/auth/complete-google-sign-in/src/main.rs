//! `GET /v1/auth/social/web/google/callback`: 200 with tokens, for the code that Google sent the browser back with; 400 where
//! it is not an answer to this browser, or the code is not good (any more), 401 where what Google says is not, 403 where it
//! has not verified the address of somebody new.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{Newcomers, SessionsTable, UsersTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Error, Result,
    access_token::TokenSigner,
    outside_sign_in::{self, WebAttempt, WebOutcome},
    rate_limit::{self, SIGN_IN_FROM_ADDRESS},
    session::{self, Tokens},
    time,
};
use tocsin_lambda::{
    outside::{self, Google},
    problem,
    request::Request,
    response::Response,
    start,
};

type Ports = (Google, Newcomers, UsersTable, SessionsTable, RedisRateLimiter, TokenSigner);

fn main() -> ExitCode {
    start::http(complete_google_sign_in)
}

async fn complete_google_sign_in(ports: &Ports, request: &Request) -> Result<Response> {
    // What comes too often, or is no answer to this browser's attempt, leaves it its cookie.
    let (attempt, outcome) = answered(ports, request).await?;
    let answer = match sign_in(ports, request, &attempt, &outcome).await {
        Ok(tokens) => Response::ok(&tokens)?,
        Err(error @ Error::Refused(_)) => problem::response(&error, request.id()),
        // What failed on our side may be tried again with the same cookie.
        Err(error) => return Err(error),
    };
    // An attempt has one answer.
    Ok(answer.with_cookie(&outside::forgotten()))
}

/// The attempt of this browser, and what became of it.
async fn answered(ports: &Ports, request: &Request) -> Result<(WebAttempt, WebOutcome)> {
    let (google, .., limiter, _) = ports;
    rate_limit::check(limiter, SIGN_IN_FROM_ADDRESS, &request.client_address()).await?;
    let answer = outside::web_answer(request.query(), google.client()?.issuer())?;
    let attempt = request.cookie(outside::COOKIE).and_then(WebAttempt::of_cookie);
    Ok((outside_sign_in::answered(attempt, &answer)?, answer.outcome))
}

async fn sign_in(
    ports: &Ports,
    request: &Request,
    attempt: &WebAttempt,
    outcome: &WebOutcome,
) -> Result<Tokens> {
    let (google, newcomers, users, sessions, _, signer) = ports;
    let (google, now) = (google.client()?, time::now());
    let vouched = outside_sign_in::complete(google, attempt, outcome, now).await?;
    let account = outside_sign_in::account_of(newcomers, users, &vouched, now).await?;
    session::begin(sessions, signer, &account, &request.origin(), now).await
}
