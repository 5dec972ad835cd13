//! `GET /v1/auth/social/web/google`: 302 to Google, with a cookie that binds its answer to this browser; 404 where signing in
//! with Google is not set up.

use std::process::ExitCode;

use tocsin_adapters::redis::RedisRateLimiter;
use tocsin_domain::{
    Result,
    outside_sign_in::{WebAttempt, WebSignIn as _},
    rate_limit::{self, SIGN_IN_FROM_ADDRESS},
};
use tocsin_lambda::{
    outside::{self, Google},
    request::Request,
    response::Response,
    start,
};

type Ports = (RedisRateLimiter, Google);

fn main() -> ExitCode {
    start::http(begin_google_sign_in)
}

async fn begin_google_sign_in((limiter, google): &Ports, request: &Request) -> Result<Response> {
    rate_limit::check(limiter, SIGN_IN_FROM_ADDRESS, &request.client_address()).await?;
    request.no_query()?;
    let (google, attempt) = (google.client()?, WebAttempt::new()?);
    let location = google.authorization_url(&attempt).await?;
    Ok(Response::redirect(location).with_cookie(&outside::kept(&attempt.cookie())))
}
