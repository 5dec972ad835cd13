//! `GET /v1/auth/sessions`: 200 with a page of the caller's sessions, the newest first; 304.

use std::{cmp::Reverse, process::ExitCode};

use tocsin_adapters::{
    dynamodb::{SessionsTable, UsersTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    cursor::{Page, Scope},
    session, time,
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, SessionsTable, UsersTable);

fn main() -> ExitCode {
    start::http(list_sessions)
}

async fn list_sessions((callers, limiter, sessions, users): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let page = async {
        let scope = Scope::of(["sessions", &caller.user_id.to_string()]);
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(scope)));
        query.finish()?;
        let all = session::list(sessions, users, &caller, time::now()).await?;
        Ok(Page::of(all, limit, scope, after.as_ref(), |one| Reverse(one.session_id)))
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
