//! The log: what happened to posts, in order, for everyone who must act on it.
//!
//! A record is a CloudEvents 1.0 envelope in JSON (structured mode), keyed by the post's id, so that what happens to one
//! post stays in order. Consumers get records at least once, and again when the log is replayed: what they do must be
//! the same the second time.

use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    Error, Result,
    ids::PostId,
    post::{Post, PostStatus},
    post_edit::Edit,
    time::Timestamp,
};

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
    /// To a post.
    Post(PostChange),
    /// `heartbeat`: nothing happened, and the log is alive.
    Heartbeat,
}

/// What happened to a post. Changes come to the same, in whatever order they arrive: edits merge ([`Edited`]), and nothing
/// brings back what was deleted.
///
/// [`Edited`]: crate::post_edit::Edited
#[derive(Clone, Debug, PartialEq)]
pub enum PostChange {
    /// `post.created`.
    Created(Box<Post>),
    /// `post.resolved` or `post.cancelled`, where it ends the post so; else `post.updated`.
    Edited(Edit),
    /// `post.deleted`: it is nowhere to be seen any more, and nothing brings it back.
    Deleted(Deletion),
}

/// That a post was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The post.
    pub post_id: PostId,
    /// When.
    pub deleted_at: Timestamp,
}

impl PostChange {
    /// The post.
    #[must_use]
    pub const fn post_id(&self) -> PostId {
        match self {
            Self::Created(post) => post.post_id,
            Self::Edited(edit) => edit.post_id,
            Self::Deleted(deletion) => deletion.post_id,
        }
    }

    /// The post, if it is new.
    #[must_use]
    pub fn created(&self) -> Option<&Post> {
        match self {
            Self::Created(post) => Some(post),
            Self::Edited(_) | Self::Deleted(_) => None,
        }
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Created(post) => post.created_at,
            Self::Edited(edit) => edit.time(),
            Self::Deleted(deletion) => deletion.deleted_at,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Created(_) => CREATED,
            Self::Edited(edit) => match edit.status() {
                Some(PostStatus::Resolved) => RESOLVED,
                Some(PostStatus::Cancelled) => CANCELLED,
                Some(PostStatus::Active) | None => UPDATED,
            },
            Self::Deleted(_) => DELETED,
        }
    }
}

impl From<PostChange> for PostRecord {
    /// The record of a change. Its id is derived, so that a repeated request appends the same record.
    fn from(change: PostChange) -> Self {
        let id = match &change {
            PostChange::Created(post) => Uuid::from_bytes(*post.post_id.as_bytes()),
            PostChange::Edited(edit) => Uuid::from_bytes(*edit.edit_id.as_bytes()),
            PostChange::Deleted(Deletion { post_id, deleted_at }) => {
                let digest = Sha256::new()
                    .chain_update(DELETED)
                    .chain_update(post_id.as_bytes())
                    .chain_update(deleted_at.as_nanosecond().to_be_bytes())
                    .finalize();
                uuid::Builder::from_custom_bytes(std::array::from_fn(|i| digest[i])).into_uuid()
            }
        };
        Self { id, time: change.time(), change: Change::Post(change) }
    }
}

impl PostRecord {
    /// A new post.
    #[must_use]
    pub fn created(post: Post) -> Self {
        PostChange::Created(Box::new(post)).into()
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
        let (kind, data) = match &self.change {
            Change::Post(change) => (
                change.kind(),
                match change {
                    PostChange::Created(post) => serde_json::to_value(post),
                    PostChange::Edited(edit) => serde_json::to_value(edit),
                    PostChange::Deleted(deletion) => serde_json::to_value(deletion),
                },
            ),
            Change::Heartbeat => (HEARTBEAT, Ok(Value::Object(serde_json::Map::new()))),
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
            CREATED => {
                Change::Post(PostChange::Created(serde_json::from_value(envelope.data).map_err(read)?))
            }
            UPDATED | RESOLVED | CANCELLED => {
                Change::Post(PostChange::Edited(serde_json::from_value(envelope.data).map_err(read)?))
            }
            DELETED => {
                Change::Post(PostChange::Deleted(serde_json::from_value(envelope.data).map_err(read)?))
            }
            HEARTBEAT => Change::Heartbeat,
            other => return Err(Error::unreadable("a record of the log", format!("type {other}"))),
        };
        Ok(Self { id: envelope.id, time: envelope.time, change })
    }

    fn subject(&self) -> Option<String> {
        match &self.change {
            Change::Post(change) => Some(change.post_id().to_string()),
            Change::Heartbeat => None,
        }
    }
}

const CREATED: &str = "post.created";
const UPDATED: &str = "post.updated";
const RESOLVED: &str = "post.resolved";
const CANCELLED: &str = "post.cancelled";
const DELETED: &str = "post.deleted";
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
