//! `GET /.well-known/jwks.json`: 200 with the public keys of access tokens; 304.

use std::process::ExitCode;

use tocsin_lambda::{
    request::Request,
    response::{Caching, Response},
    settings::AccessTokenJwks,
    start,
};

/// Seconds that a new key may stay unknown: it is published for longer before it signs.
const KEPT_FOR: Caching = Caching::Public(300);

fn main() -> ExitCode {
    start::http(async |AccessTokenJwks(jwks): &AccessTokenJwks, request: &Request| {
        request.no_query()?;
        Ok(Response::document(request, KEPT_FOR, "application/json", jwks.clone()))
    })
}
