//! A function whose event tells it what to do: the tests' way to crash, stall, fail and report on purpose, through the
//! runtime that real functions use.

use std::{env, fs::OpenOptions, io::Write as _, process, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Error> {
    match env::var("PROBE_START").as_deref() {
        Ok("crash") => process::exit(3),
        Ok("stall") => sleep(Duration::from_mins(1)).await,
        _ => {}
    }
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    if let Some(groups) = event["records"].as_object() {
        return records(groups).await;
    }
    match event["do"].as_str().unwrap_or("echo") {
        "fail" => Err("as asked".into()),
        "panic" => panic!("as asked"),
        "crash" => process::exit(1),
        "abort" => process::abort(),
        "sleep" => {
            sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or(0))).await;
            Ok(Value::Null)
        }
        "environment" => {
            Ok(env::vars().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>().into())
        }
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

/// Writes each record into the journal; one whose value begins with `slow` takes its time before.
async fn records(groups: &Map<String, Value>) -> Result<Value, Error> {
    let mut journal = OpenOptions::new().append(true).create(true).open(env::var("PROBE_JOURNAL")?)?;
    for (group, records) in groups {
        for record in records.as_array().into_iter().flatten() {
            let value = STANDARD.decode(record["value"].as_str().unwrap_or_default())?;
            let value = String::from_utf8_lossy(&value);
            if value.starts_with("slow") {
                sleep(Duration::from_millis(300)).await;
            }
            journal.write_all(format!("{group} {} {value}\n", record["offset"]).as_bytes())?;
        }
    }
    Ok(json!({"batchItemFailures": []}))
}
