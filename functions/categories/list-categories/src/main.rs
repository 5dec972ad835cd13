//! `GET /v1/categories`: 200 with all categories, by name; 304. For everybody.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::CategoriesTable, redis::RedisRateLimiter};
use tocsin_domain::{Result, category::Categories as _, cursor::Page};
use tocsin_lambda::{
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (RedisRateLimiter, CategoriesTable);

/// Seconds that a new category may stay unknown.
const KEPT_FOR: Caching = Caching::Public(60);

fn main() -> ExitCode {
    start::http(list_categories)
}

async fn list_categories((limiter, categories): &Ports, request: &Request) -> Result<Response> {
    limits::public(limiter, request).await?;
    request.query().whole_list()?;
    Response::read(request, KEPT_FOR, &Page::whole(categories.all().await?))
}
