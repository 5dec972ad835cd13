//! `PATCH /v1/users/me`: 200 with the caller's profile as it is then; 409 where another has the username.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::PeopleEditor, redis::RedisRateLimiter};
use tocsin_domain::{
    Result,
    person::{PrivateProfile, ProfileImageUrls},
    profile_patch::{self, ProfilePatch},
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, PeopleEditor, ProfileImageUrls);

fn main() -> ExitCode {
    start::http(update_me)
}

async fn update_me((callers, limiter, people, images): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    limits::change(limiter, &caller).await?;
    request.no_query()?;
    let now = time::now();
    let patch = ProfilePatch::from_json(&request.json()?, now)?;
    let profile = profile_patch::update(people, caller.user_id, &patch, now).await?;
    Response::ok(&PrivateProfile::of(&profile, images))
}
