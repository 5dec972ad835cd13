//! `DELETE /v1/devices/{device_id}`: 204, and nothing is pushed to the device any more; 404 where the caller has none.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DevicesTable, redis::RedisRateLimiter, sns::SnsPushGateway};
use tocsin_domain::{
    Result,
    device::{self, DeviceId},
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, DevicesTable, SnsPushGateway);

fn main() -> ExitCode {
    start::http(delete_device)
}

async fn delete_device((callers, limiter, devices, gateway): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let device_id: DeviceId = request.id_in_path("device_id", "device")?;
    device::remove(devices, gateway, caller.user_id, &device_id).await?;
    Ok(Response::no_content())
}
