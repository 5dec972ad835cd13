//! `DELETE /v1/users/me?posts`: 202, and the caller's account is closed; what is kept of them is erased in the next
//! minutes. Their posts stay, without a name, or are removed, as they choose. They are told by mail.

use std::process::ExitCode;

use http::StatusCode;
use tocsin_adapters::{
    dynamodb::{DeparturesTable, UsersTable},
    redis::RedisRateLimiter,
    ses::SesMailer,
    sqs::SqsDepartureQueue,
};
use tocsin_domain::{
    Result,
    departure::{self, PostsLeft},
    rate_limit::{self, CHANGING},
    time,
};
use tocsin_lambda::{callers::Callers, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, DeparturesTable, SqsDepartureQueue, UsersTable, SesMailer);

fn main() -> ExitCode {
    start::http(delete_me)
}

async fn delete_me(
    (callers, limiter, departures, queue, users, mailer): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    // Also of who has left already: the answer to their first request may have got lost.
    rate_limit::check(limiter, CHANGING, &caller.user_id.to_string()).await?;
    let mut query = request.query();
    let posts = query.optional("posts", str::parse).unwrap_or(PostsLeft::Anonymise);
    query.finish()?;
    departure::depart(departures, queue, users, mailer, &caller, posts, time::now()).await?;
    rate_limit::bar(limiter, caller.user_id).await;
    Ok(Response::empty(StatusCode::ACCEPTED))
}
