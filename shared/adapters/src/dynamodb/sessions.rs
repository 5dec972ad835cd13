//! The table of sessions: pk = user, sk = session. Of tokens it has only hashes.

use aws_sdk_dynamodb::Client;
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Error, Result,
    ids::{SessionId, UserId},
    secret::{Salt, SecretHash},
    session::{Session, Sessions},
    time::Timestamp,
};

use super::{Item, Table, keys, read_all, text, write_all};
use crate::aws::failed;

/// Sessions by user.
#[derive(Clone, Debug)]
pub struct SessionsTable {
    table: Table,
}

impl SessionsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "sessions") }
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    salt: String,
    current_hash: String,
    previous_hash: Option<String>,
    previous_until: Option<Timestamp>,
    created_at: Timestamp,
    ends_at: Timestamp,
    /// [`Self::ends_at`] in the form that DynamoDB deletes by.
    expires_at: i64,
}

impl Sessions for SessionsTable {
    async fn begin(&self, session: &Session) -> Result<()> {
        self.table.put_item(item(session)?).send().await.map_err(failed(self.table.service))?;
        Ok(())
    }

    async fn get(&self, owner: UserId, id: SessionId, now: Timestamp) -> Result<Option<Session>> {
        let Some(item) = self.table.get(keys(owner, id)).await? else { return Ok(None) };
        let record: Record = read_all("a session", item)?;
        let session = session(owner, id, &record)?;
        Ok((session.expires_at > now).then_some(session))
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        let request = self
            .table
            .put_item(item(new)?)
            .condition_expression("current_hash = :old")
            .expression_attribute_values(":old", text(old.encode()));
        self.table.held(request.send().await)
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<()> {
        self.table.delete_item(keys(owner, id)).send().await.map_err(failed(self.table.service))?;
        Ok(())
    }
}

fn item(session: &Session) -> Result<Item> {
    let record = Record {
        salt: session.salt.encode(),
        current_hash: session.current.encode(),
        previous_hash: session.previous.as_ref().map(|(hash, _)| hash.encode()),
        previous_until: session.previous.as_ref().map(|(_, until)| *until),
        created_at: session.created_at,
        ends_at: session.expires_at,
        expires_at: session.expires_at.as_second() + 1,
    };
    let mut item = write_all("a session", &record)?;
    item.extend(keys(session.user_id, session.session_id));
    Ok(item)
}

fn session(user_id: UserId, session_id: SessionId, record: &Record) -> Result<Session> {
    let unreadable = || Error::unreadable("a session", "a hash or the salt is not in base64");
    let previous_hash = record.previous_hash.as_deref().and_then(SecretHash::decode);
    Ok(Session {
        user_id,
        session_id,
        salt: Salt::decode(&record.salt).ok_or_else(unreadable)?,
        current: SecretHash::decode(&record.current_hash).ok_or_else(unreadable)?,
        previous: previous_hash.zip(record.previous_until),
        created_at: record.created_at,
        expires_at: record.ends_at,
    })
}
