//! Secrets in Secrets Manager, each a text of its own, that template.yaml refers to by name.

use anyhow::{Context as _, Result};
use aws_sdk_secretsmanager::{Client, error::ProvideErrorMetadata as _};

use super::Report;
use crate::provision::explained;

/// A version of a secret.
pub(super) struct Version {
    pub(super) id: String,
    pub(super) value: String,
}

/// The version that functions get.
pub(super) const CURRENT: &str = "AWSCURRENT";
/// A version that waits to be.
pub(super) const PENDING: &str = "AWSPENDING";

/// The version of a secret in a stage of its life; none, if there is none.
pub(super) async fn version(client: &Client, name: &str, stage: &str) -> Result<Option<Version>> {
    let found = client.get_secret_value().secret_id(name).version_stage(stage).send().await;
    let found = match found {
        Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
        found => found.map_err(explained).with_context(|| format!("the secret {name}"))?,
    };
    let value = found.secret_string.with_context(|| format!("the secret {name} is not a text"))?;
    Ok(Some(Version { id: found.version_id.unwrap_or_default(), value }))
}

/// Sees to it that a secret has this value.
pub(super) async fn keep(client: &Client, name: &str, value: &str, report: &mut Report<'_>) -> Result<()> {
    match version(client, name, CURRENT).await? {
        None => report.change(format_args!("made the secret {name}"), make(client, name, value)).await,
        Some(there) if there.value == value => report.say(format_args!("found the secret {name}")),
        Some(_) => {
            let put = async { put(client, name, value, CURRENT).await };
            report
                .change(format_args!("changed the secret {name}: deploy with another SecretsRevision"), put)
                .await
        }
    }
}

/// Makes a secret.
pub(super) async fn make(client: &Client, name: &str, value: &str) -> Result<()> {
    client.create_secret().name(name).secret_string(value).send().await.map_err(explained)?;
    Ok(())
}

/// Gives a secret a version in a stage of its life.
pub(super) async fn put(client: &Client, name: &str, value: &str, stage: &str) -> Result<()> {
    let request = client.put_secret_value().secret_id(name).secret_string(value).version_stages(stage);
    request.send().await.map_err(explained)?;
    Ok(())
}

/// Makes the pending version of a secret the current one.
pub(super) async fn promote(client: &Client, name: &str, pending: &str, current: &str) -> Result<()> {
    let stage = || client.update_secret_version_stage().secret_id(name);
    let current = stage().version_stage(CURRENT).move_to_version_id(pending).remove_from_version_id(current);
    current.send().await.map_err(explained)?;
    stage().version_stage(PENDING).remove_from_version_id(pending).send().await.map_err(explained)?;
    Ok(())
}
