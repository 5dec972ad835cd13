//! `GET /v1/devices?limit&cursor`: 200 with a page of the caller's devices, by id, without their tokens; 304.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DevicesTable, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    cursor::{Page, Scope},
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
    let page = async {
        let scope = Scope::of(["devices", &caller.user_id.to_string()]);
        let mut query = request.query();
        let (limit, after) = (query.limit(), query.cursor(Some(scope)));
        query.finish()?;
        let all: Vec<DeviceView> = devices.of(caller.user_id).await?.into_iter().map(Into::into).collect();
        Ok(Page::of(all, limit, scope, after.as_ref(), |device| device.device_id.clone()))
    };
    let page = limits::read(limiter, &caller, page).await?;
    Response::read(request, Caching::Private, &page)
}
