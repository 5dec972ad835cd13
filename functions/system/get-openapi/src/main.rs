//! `GET /v1/openapi.json`: 200 with the contract; 304. It is openapi.yaml, which `build.rs` makes JSON of.

use std::process::ExitCode;

use tocsin_lambda::{asset::Asset, request::Request, response::Caching, start};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Seconds that an old contract may be read after a deployment.
const KEPT_FOR: Caching = Caching::Public(60);

fn main() -> ExitCode {
    start::http(async |(): &(), request: &Request| {
        request.no_query()?;
        let [contract] = &ASSETS;
        Ok(contract.answer(request, KEPT_FOR))
    })
}
