//! `GET /docs/{asset}`: 200 with a script or a style of the page; 304, 404.
//!
//! They are Swagger UI's, which `build.rs` takes out of the crate that carries it, and our own initializer.

use std::process::ExitCode;

use tocsin_domain::Refusal;
use tocsin_lambda::{asset::Asset, request::Request, response::Caching, start};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Seconds: a day. A deployment may bring another version of Swagger UI under the same names.
const KEPT_FOR: Caching = Caching::Public(24 * 60 * 60);

fn main() -> ExitCode {
    start::http(async |(): &(), request: &Request| {
        request.no_query()?;
        let name: String = request.id_in_path("asset", "file")?;
        let asset =
            ASSETS.iter().find(|asset| asset.name == name).ok_or_else(|| Refusal::not_found("file"))?;
        Ok(asset.answer(request, KEPT_FOR).with("x-content-type-options", "nosniff"))
    })
}
