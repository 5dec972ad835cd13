//! `GET /v1/categories?limit&cursor`: 200 with a page of the categories, by name; 304. For everybody.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::CategoriesTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    category::Categories as _,
    cursor::{Page, Scope},
};
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
    let scope = Scope::of(["categories"]);
    let mut query = request.query();
    let (limit, after) = (query.limit(), query.cursor(Some(scope)));
    query.finish()?;
    let page = Page::of(categories.all().await?, limit, scope, after.as_ref(), |one| one.category.clone());
    Response::read(request, KEPT_FOR, &page)
}
