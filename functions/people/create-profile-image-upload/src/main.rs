//! `POST /v1/users/me/profile-image`: 201 with a form by which one image can be uploaded, for some minutes.

use std::process::ExitCode;

use tocsin_adapters::{redis::RedisRateLimiter, s3::S3ImageUploads};
use tocsin_domain::{
    Result,
    ids::ImageId,
    profile_image::{self, ImageUploads as _},
    rate_limit::UPLOADING,
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, S3ImageUploads);

fn main() -> ExitCode {
    start::http(create_profile_image_upload)
}

async fn create_profile_image_upload(
    (callers, limiter, uploads): &Ports,
    request: &Request,
) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::within(limiter, UPLOADING, &caller).await?;
    request.no_query()?;
    let kind = profile_image::type_from_json(&request.json()?)?;
    let now = time::now();
    let upload = uploads.allow(caller.user_id, ImageId::new(now), kind, now).await?;
    Response::created(&upload)
}
