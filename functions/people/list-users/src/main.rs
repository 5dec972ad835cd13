//! `GET /v1/users?ids&limit&cursor`: 200 with what each of up to a hundred people shows to the caller, in the order of the
//! ids; who is not there, or hidden from the caller, is left out; 304.

use std::{iter, process::ExitCode};

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable},
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Refusal, Result,
    cursor::{Cursor, Limit, Page, Scope},
    ids::UserId,
    person::{self, ProfileImageUrls},
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, PeopleTable, FriendshipsTable, ProfileImageUrls);

fn main() -> ExitCode {
    start::http(list_users)
}

async fn list_users(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, friendships, images) = ports;
    let caller = request.caller(callers).await?;
    let page = async {
        let (ids, after, limit) = wanted(request)?;
        let rest = after.and_then(|last| ids.iter().position(|id| *id == last)).map_or(0, |place| place + 1);
        let shown = person::shown_to(people, friendships, images, caller.user_id, &ids[rest..]).await?;
        Ok(Page::cut(shown, limit, scope(&ids), |person| person.user_id))
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}

fn wanted(request: &Request) -> Result<(Vec<UserId>, Option<UserId>, Limit), Refusal> {
    let mut query = request.query();
    let ids = query.required("ids", person::ids_from_list);
    // Who names a hundred people gets them at once, unless they want fewer.
    let limit = query.optional("limit", Limit::parse).unwrap_or(Limit::LARGEST);
    let after = query.cursor(ids.as_deref().map(scope)).map(|Cursor(last)| last);
    let Some(ids) = ids else { return Err(query.refusal()) };
    query.finish()?;
    Ok((ids, after, limit))
}

fn scope(ids: &[UserId]) -> Scope {
    Scope::of(iter::once("people by id".to_owned()).chain(ids.iter().map(ToString::to_string)))
}
