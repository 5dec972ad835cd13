//! `GET /v1/devices`: 200 with all of the caller's devices, by id, without their tokens; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DevicesTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    cursor::Page,
    device::{DeviceView, Devices as _},
};
use tocsin_lambda::{
    callers::Callers,
    limits,
    request::Request,
    response::{Caching, Response},
    start,
};

type Ports = (Callers, RedisRateLimiter, DevicesTable);

fn main() -> ExitCode {
    start::http(list_devices)
}

async fn list_devices((callers, limiter, devices): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let all = async {
        request.query().whole_list()?;
        devices.of(caller.user_id).await
    };
    let all = limits::read(limiter, &caller, all).await?;
    let views: Vec<DeviceView> = all.into_iter().map(Into::into).collect();
    Response::read(request, Caching::Private, &Page::whole(views))
}
