//! The log: what happened to posts, in order, for everyone who must act on it.
//!
//! A record is a CloudEvents 1.0 envelope in JSON (structured mode), keyed by the post's id, so that what happens to one
//! post stays in order. Consumers get records at least once, and again when the log is replayed: what they do must be
//! the same the second time.

use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Result, ids::PostId, post::Post, time::Timestamp};

/// Appends to the log.
pub trait PostLog: Sync {
    /// Returns once every replica that must have the record has it. An error does not say that it is not in the log.
    fn append(&self, record: &PostRecord) -> impl Future<Output = Result<()>> + Send;
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct PostRecord {
    /// Identifies the record: the same happening, sent twice, has the same.
    pub id: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub change: Change,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `post.created`.
    Created(Box<Post>),
    /// `heartbeat`: nothing happened, and the log is alive.
    Heartbeat,
}

impl PostRecord {
    /// A new post.
    #[must_use]
    pub fn created(post: Post) -> Self {
        // Derived, so that a repeated request appends the same record.
        let id = Uuid::from_bytes(*post.post_id.as_bytes());
        Self { id, time: post.created_at, change: Change::Created(Box::new(post)) }
    }

    /// A sign of life.
    #[must_use]
    pub fn heartbeat(now: Timestamp) -> Self {
        Self { id: Uuid::from_bytes(*PostId::new(now).as_bytes()), time: now, change: Change::Heartbeat }
    }

    /// The record's key: what has the same key stays in order.
    #[must_use]
    pub fn key(&self) -> String {
        self.subject().unwrap_or_else(|| "heartbeat".to_owned())
    }

    /// The envelope, as it is written.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let data = match &self.change {
            Change::Created(post) => serde_json::to_value(post),
            Change::Heartbeat => Ok(Value::Object(serde_json::Map::new())),
        };
        let kind = match &self.change {
            Change::Created(_) => CREATED,
            Change::Heartbeat => HEARTBEAT,
        };
        let write = |cause| Error::unreadable("a record for the log", cause);
        serde_json::to_vec(&Envelope {
            specversion: "1.0".to_owned(),
            id: self.id,
            source: "/v1/posts".to_owned(),
            kind: kind.to_owned(),
            subject: self.subject(),
            time: self.time,
            datacontenttype: "application/json".to_owned(),
            dataversion: VERSION,
            data: data.map_err(write)?,
        })
        .map_err(write)
    }

    /// Reads an envelope. What it does not know is an error: to skip it would be to lose it.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let read = |cause: serde_json::Error| Error::unreadable("a record of the log", cause);
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(read)?;
        if envelope.dataversion != VERSION {
            let cause = format!("version {} of {}", envelope.dataversion, envelope.kind);
            return Err(Error::unreadable("a record of the log", cause));
        }
        let change = match envelope.kind.as_str() {
            CREATED => Change::Created(serde_json::from_value(envelope.data).map_err(read)?),
            HEARTBEAT => Change::Heartbeat,
            other => return Err(Error::unreadable("a record of the log", format!("type {other}"))),
        };
        Ok(Self { id: envelope.id, time: envelope.time, change })
    }

    fn subject(&self) -> Option<String> {
        match &self.change {
            Change::Created(post) => Some(post.post_id.to_string()),
            Change::Heartbeat => None,
        }
    }
}

const CREATED: &str = "post.created";
const HEARTBEAT: &str = "heartbeat";
/// The version of `data` in this form. A consumer refuses others, so a new form is rolled out consumers first.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope {
    specversion: String,
    id: Uuid,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    time: Timestamp,
    datacontenttype: String,
    dataversion: u32,
    data: Value,
}
