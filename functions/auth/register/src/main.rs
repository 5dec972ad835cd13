//! `POST /v1/auth/register`: 201 with the account's id, and a mail with a token on its way; 409 where the address or the
//! name is taken.

use std::process::ExitCode;

use serde_json::json;
use tocsin_adapters::{dynamodb::UsersTable, redis::RedisRateLimiter, ses::SesMailer};
use tocsin_domain::{
    Result,
    account::{self, Registration},
    time,
};
use tocsin_lambda::{request::Request, response::Response, start};

type Ports = (UsersTable, SesMailer, RedisRateLimiter);

fn main() -> ExitCode {
    start::http(register)
}

async fn register((users, mailer, limiter): &Ports, request: &Request) -> Result<Response> {
    request.no_query()?;
    let registration = Registration::from_json(&request.json()?)?;
    let address = request.client_address();
    let user_id = account::register(users, mailer, limiter, registration, &address, time::now()).await?;
    Response::created(&json!({"user_id": user_id}))
}
