//! `DELETE /v1/users/me/profile-image`: 204, and the caller has no image, and none that they have uploaded is left.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::PeopleTable, redis::RedisRateLimiter, s3::S3ImageStore};
use tocsin_domain::{Result, profile_image, time};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, PeopleTable, S3ImageStore);

fn main() -> ExitCode {
    start::http(delete_profile_image)
}

async fn delete_profile_image(
    (callers, limiter, people, images): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    profile_image::remove(images, people, caller.user_id, time::now()).await?;
    Ok(Response::no_content())
}
