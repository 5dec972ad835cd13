//! `PUT /v1/categories/{category}`: 200 with the category as it is now; 403 for who is no moderator.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::CategoriesTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    category::{self, Category},
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, CategoriesTable);

fn main() -> ExitCode {
    start::http(put_category)
}

async fn put_category((callers, limiter, categories): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    // Who may not is told so, and not what else is wrong.
    caller.must_moderate()?;
    let category = Category::from_json(request.name_in_path("category")?, &request.json()?)?;
    category::put(categories, &caller, &category).await?;
    Response::ok(&category)
}
