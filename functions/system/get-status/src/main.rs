//! `GET /v1/status`: 200 while the function answers at all. It asks nothing of any other service.

use std::process::ExitCode;

use serde_json::json;
use tocsin_lambda::{request::Request, response::Response, start};

fn main() -> ExitCode {
    start::http(async |(): &(), request: &Request| {
        request.no_query()?;
        Response::ok(&json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}))
    })
}
