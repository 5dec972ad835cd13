//! `GET /v1/categories`: 200 with all categories, by name; 304. For everybody.

use std::process::ExitCode;

use tocsin_adapters::dynamodb::CategoriesTable;
use tocsin_domain::{Result, category::Categories as _, cursor::Page};
use tocsin_lambda::{
    request::Request,
    response::{Caching, Response},
    start,
};

/// Seconds that a new category may stay unknown.
const KEPT_FOR: Caching = Caching::Public(60);

fn main() -> ExitCode {
    start::http(list_categories)
}

async fn list_categories(categories: &CategoriesTable, request: &Request) -> Result<Response> {
    request.query().whole_list()?;
    Response::read(request, KEPT_FOR, &Page::whole(categories.all().await?))
}
