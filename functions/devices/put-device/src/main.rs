//! `PUT /v1/devices/{device_id}`: 201 with the device where it is new, or else 200; 409 where the caller has too many.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DevicesTable, redis::RedisRateLimiter, sns::SnsPushGateway};
use tocsin_domain::{
    Result,
    device::{self, DeviceToken, DeviceView},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, DevicesTable, SnsPushGateway);

fn main() -> ExitCode {
    start::http(put_device)
}

async fn put_device((callers, limiter, devices, gateway): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let device_id = request.name_in_path("device_id")?;
    let token = DeviceToken::from_json(&request.json()?)?;
    let device = device::put(devices, gateway, caller.user_id, device_id, token, time::now()).await?;
    let is_new = device.created_at == device.updated_at;
    let view = DeviceView::from(device);
    if is_new { Response::created(&view) } else { Response::ok(&view) }
}
