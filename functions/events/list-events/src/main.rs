//! `GET /v1/events?starts_at&ends_at&time_zone&category&lat&lon&radius_m&limit&cursor`: 200 with a page of the events whose time
//! lies within, the soonest first, without those of people who are hidden from the caller; 304.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{
    Refusal, Result, event_index::Span, events::Events, friendship::hidden_from, quiet_hours::ZoneName, time,
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, RedisPostCache, PostsTable, RedisHiddenCache, FriendshipsTable);

fn main() -> ExitCode {
    start::http(list_events)
}

async fn list_events(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, hidden_cache, friendships) = ports;
    let caller = request.caller(callers).await?;
    let page = async {
        let events = events(request)?;
        let hidden = hidden_from(hidden_cache, friendships, caller.user_id).await?;
        events.list(stored, cache, stored, &hidden, time::now()).await
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}

fn events(request: &Request) -> Result<Events, Refusal> {
    let mut query = request.query();
    let zone: ZoneName = query.optional("time_zone", str::parse).unwrap_or_default();
    let starts_at = query.required("starts_at", |text| time::parse_in(text, zone.time_zone()));
    let ends_at = query.required("ends_at", |text| time::parse_in(text, zone.time_zone()));
    let category = query.optional("category", str::parse);
    let circle = query.optional_circle();
    let limit = query.limit();
    let span = starts_at.zip(ends_at).map(|(starts_at, ends_at)| Span::new(starts_at, ends_at));
    let valid = span.as_ref().and_then(|span| span.as_ref().ok());
    let after = query.cursor(valid.map(|span| Events::scope(*span, category.as_ref(), circle)));
    let Some(span) = span else { return Err(query.refusal()) };
    query.finish()?;
    Ok(Events { span: span?, category, circle, limit, after })
}
