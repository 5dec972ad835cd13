//! `GET /v1/devices`: 200 with all of the caller's devices, by id, without their tokens; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DevicesTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    access_token::TokenVerifier,
    cursor::Page,
    device::{DeviceView, Devices as _},
};
use tocsin_lambda::{
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (TokenVerifier, RedisRateLimiter, DevicesTable);

fn main() -> ExitCode {
    start::http(list_devices)
}

async fn list_devices((tokens, limiter, devices): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(tokens)?;
    let all = async {
        request.query().whole_list()?;
        devices.of(caller.user_id).await
    };
    let all = limits::read(limiter, &caller, all).await?;
    let views: Vec<DeviceView> = all.into_iter().map(Into::into).collect();
    Response::read(request, Caching::Private, &Page::whole(views))
}
