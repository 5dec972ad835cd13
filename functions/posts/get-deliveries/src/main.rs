//! `GET /v1/posts/{post_id}/deliveries`: 200 with what became of its pushes; 304; 403 for who is neither its author nor a
//! moderator; 404.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{DeliveriesTable, FriendshipsTable, PostsTable},
    redis::{RedisHiddenCache, RedisPostCache, RedisRateLimiter},
};
use tocsin_domain::{Result, delivery_counts, friendship::hidden_from, rate_limit::COUNTING, time};
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
    RedisPostCache,
    PostsTable,
    DeliveriesTable,
    RedisHiddenCache,
    FriendshipsTable,
);

fn main() -> ExitCode {
    start::http(get_deliveries)
}

async fn get_deliveries(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, cache, stored, table, hidden_cache, friendships) = ports;
    let caller = request.caller(callers).await?;
    limits::within(limiter, COUNTING, &caller).await?;
    request.no_query()?;
    let post_id = request.id_in_path("post_id", "post")?;
    let hidden = hidden_from(hidden_cache, friendships, caller.user_id);
    let deliveries =
        delivery_counts::of_post(cache, stored, table, hidden, &caller, post_id, time::now()).await?;
    Response::read(request, Caching::Private, &deliveries)
}
