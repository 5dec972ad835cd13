//! What a function answers to a batch, where it reports failures:
//! `{"batchItemFailures": [{"itemIdentifier": …}]}`. The identifier's form is the event source's.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The answer is no such report: the whole batch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoReport;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "I: DeserializeOwned")]
struct Answer<I> {
    #[serde(default)]
    batch_item_failures: Option<Vec<Failure<I>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure<I> {
    item_identifier: I,
}

/// The identifiers of what failed. Nothing, null, an empty object and an empty list are successes, as is any other JSON
/// that names no failures ("Success and failure conditions").
pub(super) fn failures<I: DeserializeOwned>(payload: &[u8]) -> Result<Vec<I>, NoReport> {
    if payload.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let answer = match serde_json::from_slice::<Value>(payload) {
        Ok(answer @ Value::Object(_)) => serde_json::from_value::<Answer<I>>(answer),
        Ok(_) => return Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let failures = answer.map_err(|_| NoReport)?.batch_item_failures.unwrap_or_default();
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}
