//! The signing key of a stage, its public half, and the exchange of the one for another.
//!
//! Functions get the private key and the public keys (JWKS) from two secrets, at deployments. The first public key is that
//! of the private one: signers name it. A key is published a deployment before it signs, and an hour longer than it does, so
//! that no function meets a token whose key it does not know. The next key waits as the pending version of the secret.

use anyhow::{Context as _, Result, bail};
use aws_sdk_secretsmanager::Client;
use serde_json::{Value, json};

use super::{
    Report,
    secrets::{self, CURRENT, PENDING, Version},
};
use crate::signing_key::SigningKey;

/// Makes the key, if there is none, and publishes its public half.
pub(super) async fn make(client: &Client, stage: &str, report: &mut Report<'_>) -> Result<()> {
    let name = private_name(stage);
    let key = if let Some(there) = secrets::version(client, &name, CURRENT).await? {
        report.say(format_args!("found the secret {name}"))?;
        SigningKey::of(there.value)?
    } else {
        let key = SigningKey::generate()?;
        let make = secrets::make(client, &name, &key.private_pem);
        report.change(format_args!("made the secret {name}"), make).await?;
        key
    };
    let mut keys = published(client, stage).await?;
    keys.insert(0, public(&key)?);
    publish(client, stage, keys, report).await
}

/// Makes the next key, if there is none, and publishes its public half too.
pub(super) async fn announce_next(client: &Client, stage: &str, report: &mut Report<'_>) -> Result<()> {
    let name = private_name(stage);
    let current = current(client, &name).await?;
    let next = if let Some(next) = next(client, &name, &current).await? {
        report.say("found the next key")?;
        SigningKey::of(next.value)?
    } else {
        let key = SigningKey::generate()?;
        let put = secrets::put(client, &name, &key.private_pem, PENDING);
        report.change(format_args!("made the next key, the pending version of {name}"), put).await?;
        key
    };
    let mut keys = published(client, stage).await?;
    keys.splice(0..0, [public(&SigningKey::of(current.value)?)?, public(&next)?]);
    publish(client, stage, keys, report).await
}

/// Makes the next key the one that signs.
pub(super) async fn use_next(client: &Client, stage: &str, report: &mut Report<'_>) -> Result<()> {
    let name = private_name(stage);
    let current = current(client, &name).await?;
    let mut keys = published(client, stage).await?;
    let Some(next) = next(client, &name, &current).await? else {
        report.say("found no next key")?;
        // As it must be also if this was interrupted the last time.
        keys.insert(0, public(&SigningKey::of(current.value)?)?);
        return publish(client, stage, keys, report).await;
    };
    let key = public(&SigningKey::of(next.value)?)?;
    if !keys.contains(&key) {
        bail!("the next key is not published: first announce-next-key, and deploy");
    }
    let promote = secrets::promote(client, &name, &next.id, &current.id);
    report.change(format_args!("made the next key the current version of {name}"), promote).await?;
    keys.insert(0, key);
    publish(client, stage, keys, report).await
}

/// Publishes only the key that signs, and the next, if there is one.
pub(super) async fn retire_old(client: &Client, stage: &str, report: &mut Report<'_>) -> Result<()> {
    let name = private_name(stage);
    let current = current(client, &name).await?;
    let next = next(client, &name, &current).await?;
    let keys = [Some(current), next].into_iter().flatten().map(|key| public(&SigningKey::of(key.value)?));
    publish(client, stage, keys.collect::<Result<_>>()?, report).await
}

fn private_name(stage: &str) -> String {
    format!("tocsin/{stage}/access-token-private-key")
}

fn public_name(stage: &str) -> String {
    format!("tocsin/{stage}/access-token-jwks")
}

async fn current(client: &Client, name: &str) -> Result<Version> {
    let there = secrets::version(client, name, CURRENT).await?;
    there.with_context(|| format!("there is no secret {name}: first the step signing-key"))
}

async fn next(client: &Client, name: &str, current: &Version) -> Result<Option<Version>> {
    let pending = secrets::version(client, name, PENDING).await?;
    // It is both for a moment when it is promoted.
    Ok(pending.filter(|pending| pending.id != current.id))
}

fn public(key: &SigningKey) -> Result<Value> {
    let jwks: Value = serde_json::from_str(&key.jwks)?;
    Ok(jwks["keys"][0].clone())
}

async fn published(client: &Client, stage: &str) -> Result<Vec<Value>> {
    let name = public_name(stage);
    let Some(there) = secrets::version(client, &name, CURRENT).await? else { return Ok(Vec::new()) };
    let jwks: Value = serde_json::from_str(&there.value).with_context(|| format!("the secret {name}"))?;
    Ok(jwks["keys"].as_array().cloned().unwrap_or_default())
}

/// Publishes these keys, each once, in this order.
async fn publish(client: &Client, stage: &str, keys: Vec<Value>, report: &mut Report<'_>) -> Result<()> {
    let mut once: Vec<Value> = Vec::new();
    for key in keys {
        if !once.contains(&key) {
            once.push(key);
        }
    }
    secrets::keep(client, &public_name(stage), &json!({ "keys": once }).to_string(), report).await
}
