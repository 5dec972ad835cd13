//! `/_local/outbox`: what was pushed and mailed, read back from moto.

use std::{collections::HashMap, sync::Mutex};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{api_client::http_client, scenario::push_facts};

/// What moto was given to push and to mail.
#[derive(Debug)]
pub struct Outbox {
    data_url: String,
    http: reqwest::Client,
    /// When each message was first seen: moto keeps them by endpoint, and not in one order.
    order: Mutex<HashMap<String, usize>>,
}

impl Outbox {
    /// The outbox of a moto server: `http://127.0.0.1:5000`.
    #[must_use]
    pub fn new(moto_url: &str) -> Self {
        let data_url = format!("{}/moto-api/data.json", moto_url.trim_end_matches('/'));
        Self { data_url, http: http_client(), order: Mutex::default() }
    }

    /// `{"pushes": [{message_id, device_id, user_id, platform, endpoint, payload}], "emails": [{to, subject, body}]}`, newest
    /// last.
    pub async fn read(&self) -> Result<Value> {
        let data: Value =
            self.http.get(&self.data_url).send().await.context("moto does not answer")?.json().await?;
        let endpoints = data["sns"]["PlatformEndpoint"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut pushes: Vec<(String, Value)> = endpoints.iter().flat_map(pushes_to).collect();
        self.sort(&mut pushes);
        let mails = data["ses"]["Message"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(json!({
            "pushes": pushes.into_iter().map(|(_, push)| push).collect::<Vec<_>>(),
            "emails": mails.iter().map(mail).collect::<Vec<_>>(),
        }))
    }

    /// In the order in which they were first seen; those seen at once, by their post, whose id tells its time.
    fn sort(&self, pushes: &mut [(String, Value)]) {
        let mut order = self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let post_id = |push: &Value| push_facts(push).map(|(_, post_id, _)| post_id);
        let mut unseen: Vec<&(String, Value)> =
            pushes.iter().filter(|(id, _)| !order.contains_key(id)).collect();
        unseen.sort_by_key(|(_, push)| post_id(push));
        let unseen: Vec<String> = unseen.into_iter().map(|(id, _)| id.clone()).collect();
        for id in unseen {
            let next = order.len();
            order.insert(id, next);
        }
        pushes.sort_by_key(|(id, _)| order.get(id).copied());
    }
}

/// The messages of an endpoint, each with its id.
fn pushes_to(endpoint: &Value) -> Vec<(String, Value)> {
    let arn = endpoint["arn"].as_str().unwrap_or_default();
    // arn:aws:sns:<region>:<account>:endpoint/<platform>/<application>/<id>
    let sns_platform = arn.split('/').nth(1).unwrap_or_default();
    let platform = if sns_platform.starts_with("APNS") { "apns" } else { "fcm" };
    let owner = endpoint["custom_user_data"].as_str().unwrap_or_default();
    let (user_id, device_id) = owner.split_once('/').unwrap_or(("", owner));
    let messages = endpoint["messages"].as_object().into_iter().flatten();
    messages
        .map(|(id, message)| {
            let push = json!({
                "message_id": id,
                "device_id": device_id,
                "user_id": user_id,
                "platform": platform,
                "endpoint": arn,
                "payload": payload(message, sns_platform),
            });
            (id.clone(), push)
        })
        .collect()
}

/// The part of a message that its platform gets: with `MessageStructure=json` it is JSON within JSON.
fn payload(message: &Value, platform: &str) -> Value {
    let parsed = |value: &Value| serde_json::from_str::<Value>(value.as_str()?).ok();
    let Some(parts) = parsed(message) else { return message.clone() };
    parsed(&parts[platform]).unwrap_or(parts)
}

fn mail(message: &Value) -> Value {
    let to = &message["destinations"]["ToAddresses"][0];
    json!({"to": to, "subject": message["subject"], "body": message["body"]})
}
