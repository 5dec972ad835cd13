//! `GET /docs`: 200 with the page to read and try the contract; 304. `get-docs-asset` serves what it loads.

use std::process::ExitCode;

use tocsin_lambda::{
    request::Request,
    response::{Caching, Response},
    start,
};

/// Nothing from anywhere else, and no script in the page; Swagger UI writes styles into its elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Seconds.
const KEPT_FOR: Caching = Caching::Public(60);

fn main() -> ExitCode {
    start::http(async |(): &(), request: &Request| {
        request.no_query()?;
        let page = include_str!("page.html").to_owned();
        Ok(Response::document(request, KEPT_FOR, "text/html; charset=utf-8", page)
            .with("content-security-policy", POLICY)
            .with("x-content-type-options", "nosniff"))
    })
}
