//! The checks that need other people's tools: `validate` holds the template against SAM's rules, and the contract's examples
//! against its schemas; `contract` tries the contract on a running stack with Schemathesis.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::json;
use tokio::{process::Command, time::sleep};

use crate::{
    api_client::{ApiClient, text},
    contract_examples, local_routes,
    metrics::FunctionSnapshot,
    stack::Stack,
    tools::{Set, Tools},
};

/// How often the counts of rate limits are forgotten while the contract is tried: the least limit is 5 in an hour.
const FORGET_COUNTS: Duration = Duration::from_millis(50);
/// How many answers of an operation may all the same be that it was asked too often, in per cent.
const MOST_LIMITED: u64 = 3;

/// Holds the contract's examples against its schemas, and runs `sam validate --lint` over `template.yaml`. `say` is told what
/// is installed.
pub async fn validate(root: &Path, say: Arc<dyn Fn(&str) + Send + Sync>) -> Result<()> {
    contract_examples::check(&contract_examples::read(root)?)?;
    let tools = Tools::installed(root, Set::Template, say).await?;
    let status = Command::new(tools.program("sam"))
        .args(["validate", "--lint", "--template", "template.yaml"])
        .current_dir(root)
        // The linter asks nobody: the region only says which rules apply.
        .envs([("AWS_DEFAULT_REGION", "eu-north-1"), ("SAM_CLI_TELEMETRY", "0")])
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(status.success(), "sam validate --lint found something: {status}");
    Ok(())
}

/// Tries every operation of the contract on a stack with made-up requests, good and bad: no answer may be a 500, or one
/// that the contract does not describe. `tools` are those of [`Set::Contract`]; the stack is nobody else's.
pub async fn contract(tools: &Tools, root: &Path, stack: &Stack, examples: u32) -> Result<()> {
    let base_url = stack.base_url();
    let api = ApiClient::new(base_url);
    let person = api.register("schemathesis", "schemathesis@example.org").await?;
    // Somebody who may do everything: what only moderators may is to be tried, too.
    api.post(local_routes::ADMINS, &json!({"email": person.email})).await?.expect(200)?;
    let renewed = api.with_token(&person.session_token).send(Method::POST, "/v1/auth/session", None).await?;
    let token = text(&renewed.expect(200)?, "access_token")?;
    let mut schemathesis = Command::new(tools.program("schemathesis"));
    schemathesis
        .arg("--config-file")
        .arg(root.join("local/schemathesis.toml"))
        .args(["run", &format!("{base_url}/v1/openapi.json"), "--max-examples", &examples.to_string()])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // It would leave everything after it to nobody; a test of its own tries it (local/tests/departures.rs).
        .args(["--exclude-operation-id", "delete-me"])
        // The same requests in each run: a failure that somebody sees, somebody else can see again.
        .args(["--generation-deterministic", "--no-color"])
        .current_dir(root)
        .kill_on_drop(true);
    let status = tokio::select! {
        status = schemathesis.status() => status?,
        error = forget_counts(&stack.endpoints().redis_url) => {
            return Err(error).context("the counts of rate limits cannot be forgotten");
        }
    };
    ensure!(status.success(), "the API and the contract disagree: {status}");
    must_have_been_tried(&stack.metrics().snapshot().functions)
}

/// One person asks in seconds what the limits allow in minutes. So what was counted is forgotten, again and again: else
/// most answers would be that it was too often, which says nothing of the operation. Ends only with an error.
async fn forget_counts(redis_url: &str) -> anyhow::Error {
    let forget = async {
        let mut redis = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
        loop {
            let counts: Vec<String> = redis::cmd("KEYS").arg("rate:*").query_async(&mut redis).await?;
            if !counts.is_empty() {
                let () = redis::cmd("DEL").arg(counts).query_async(&mut redis).await?;
            }
            sleep(FORGET_COUNTS).await;
        }
    };
    let never: Result<std::convert::Infallible> = forget.await;
    match never {
        Err(error) => error,
    }
}

/// An operation that mostly answered 429 was not tried.
fn must_have_been_tried(functions: &BTreeMap<String, FunctionSnapshot>) -> Result<()> {
    let limited = functions.iter().filter_map(|(name, function)| {
        let all: u64 = function.answers.values().sum();
        let limited = function.answers.get(&429).copied().unwrap_or(0);
        (limited * 100 > all * MOST_LIMITED).then(|| format!("{name}: {limited} of {all}"))
    });
    let limited: Vec<_> = limited.collect();
    if !limited.is_empty() {
        bail!("these answered too often that they were asked too often: {}", limited.join(", "));
    }
    Ok(())
}
