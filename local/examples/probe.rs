//! A function whose event tells it what to do: the tests' way to crash, stall, fail and report on purpose, through the
//! runtime that real functions use.

use std::{env, process, time::Duration};

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    if env::var("PROBE_START").as_deref() == Ok("crash") {
        process::exit(3);
    }
    if env::var("PROBE_START").as_deref() == Ok("stall") {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event["do"].as_str().unwrap_or("echo") {
        "fail" => Err("as asked".into()),
        "panic" => panic!("as asked"),
        "crash" => process::exit(1),
        "abort" => process::abort(),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or(0))).await;
            Ok(Value::Null)
        }
        "environment" => Ok(env::vars()
            .map(|(name, value)| (name, value.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()),
        "grow" => Ok(json!("x".repeat(usize::try_from(event["bytes"].as_u64().unwrap_or(0))?))),
        "answer" => Ok(event["with"].clone()),
        _ => Ok(json!({
            "event": event,
            "process": process::id(),
            "request_id": context.request_id,
            "arn": context.invoked_function_arn,
            "deadline": context.deadline,
        })),
    }
}
