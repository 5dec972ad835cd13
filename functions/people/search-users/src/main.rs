//! `GET /v1/users/search?by&q&limit&cursor`: 200 with a page of the people who are found by their names, or with the one
//! who shows their mail address to the caller, each with what they are to the caller; 304.

use std::{process::ExitCode, str::FromStr as _};

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable, UsersTable},
    redis::{RedisHiddenCache, RedisRateLimiter},
};
use tocsin_domain::{
    Refusal, Result,
    cursor::{Cursor, Limit, Scope},
    ids::UserId,
    mail::EmailAddress,
    person::ProfileImageUrls,
    person_search::{By, NamePlace, NameQuery, Search},
    rate_limit::SEARCHING,
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (
    Callers,
    RedisRateLimiter,
    PeopleTable,
    UsersTable,
    FriendshipsTable,
    RedisHiddenCache,
    ProfileImageUrls,
);

fn main() -> ExitCode {
    start::http(search_users)
}

async fn search_users(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, people, users, friendships, hidden, images) = ports;
    let caller = request.caller(callers).await?;
    limits::within(limiter, SEARCHING, &caller).await?;
    let search = Search { names: people, profiles: people, friendships, hidden, images };
    let page = match wanted(request)? {
        Wanted::Name(query, after, limit) => search.by_name(caller.user_id, &query, after, limit).await,
        Wanted::Email(email) => search.by_email(users, caller.user_id, &email).await,
    }?;
    Response::read(request, Caching::Private, &page)
}

enum Wanted {
    Name(NameQuery, Option<NamePlace>, Limit),
    Email(EmailAddress),
}

fn wanted(request: &Request) -> Result<Wanted, Refusal> {
    let mut query = request.query();
    let by = query.required("by", str::parse);
    if by == Some(By::Email) {
        let email = query.required("q", EmailAddress::from_str);
        query.limit();
        // One person is one page, and has no cursor: one of another list is refused.
        query.cursor::<UserId>(email.as_ref().map(|email| Scope::of(["people by email", email.as_str()])));
        let Some(email) = email else { return Err(query.refusal()) };
        query.finish()?;
        return Ok(Wanted::Email(email));
    }
    let name = query.required("q", NameQuery::parse);
    let limit = query.limit();
    let after = query.cursor(name.as_ref().map(NameQuery::scope)).map(|Cursor(place)| place);
    let Some((name, _)) = name.zip(by) else { return Err(query.refusal()) };
    query.finish()?;
    Ok(Wanted::Name(name, after, limit))
}
