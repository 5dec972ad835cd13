//! The checks that need other people's tools: `validate` holds the template against SAM's rules, and `contract` tries the
//! contract on a running stack with Schemathesis.

use std::{path::Path, sync::Arc};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::{
    api_client::ApiClient,
    tools::{Set, Tools},
};

/// Runs `sam validate --lint` over `template.yaml`. `say` is told what is installed.
pub async fn validate(root: &Path, say: Arc<dyn Fn(&str) + Send + Sync>) -> Result<()> {
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

/// Tries every operation of the contract on the API at `base_url` with made-up requests, good and bad: no answer may be a
/// 500, or one that the contract does not describe. `tools` are those of [`Set::Contract`].
pub async fn contract(tools: &Tools, root: &Path, base_url: &str, examples: u32) -> Result<()> {
    let person = ApiClient::new(base_url).register("schemathesis", "schemathesis@example.org").await?;
    let token = person.api.access_token().unwrap_or_default();
    let status = Command::new(tools.program("schemathesis"))
        .arg("--config-file")
        .arg(root.join("local/schemathesis.toml"))
        .args(["run", &format!("{base_url}/v1/openapi.json"), "--max-examples", &examples.to_string()])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // The same requests in each run: a failure that somebody sees, somebody else can see again.
        .args(["--generation-deterministic", "--no-color"])
        .current_dir(root)
        .kill_on_drop(true)
        .status()
        .await?;
    ensure!(status.success(), "the API and the contract disagree: {status}");
    Ok(())
}
