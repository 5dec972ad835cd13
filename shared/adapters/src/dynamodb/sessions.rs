//! The table of sessions: pk = user, sk = session. Of tokens it has only hashes.

use std::cmp::Reverse;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Error, Result,
    ids::{SessionId, UserId},
    password::PasswordMark,
    secret::{Salt, SecretHash},
    session::{Origin, Session, SessionKeeper, SessionPasswords, Sessions},
    time::Timestamp,
};

use super::{Item, Table, keys, read, read_all, text, write, write_all};
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
    password_mark: Option<PasswordMark>,
    /// A set, which is written by itself.
    #[serde(default, skip_serializing)]
    kept_for: Vec<PasswordMark>,
    device: Option<String>,
    #[serde(default)]
    address: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
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
        let session = session(owner, id, read_all("a session", item)?)?;
        Ok((session.expires_at > now).then_some(session))
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        // Not the whole item: whatever else of it changes meanwhile stays changed.
        const ROTATED: [&str; 8] = [
            "current_hash",
            "previous_hash",
            "previous_until",
            "device",
            "address",
            "last_used_at",
            "ends_at",
            "expires_at",
        ];
        let mut rotated = item(new)?;
        let mut request = self
            .table
            .update_item(keys(new.user_id, new.session_id))
            .condition_expression("current_hash = :old")
            .expression_attribute_values(":old", text(old.encode()));
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for name in ROTATED {
            match rotated.remove(name) {
                Some(value) => {
                    set.push(format!("{name} = :{name}"));
                    request = request.expression_attribute_values(format!(":{name}"), value);
                }
                None => remove.push(name),
            }
        }
        let mut update = format!("SET {}", set.join(", "));
        if !remove.is_empty() {
            update = format!("{update} REMOVE {}", remove.join(", "));
        }
        self.table.held(request.update_expression(update).send().await)
    }
}

impl SessionKeeper for SessionsTable {
    async fn of(&self, owner: UserId, now: Timestamp) -> Result<Vec<Session>> {
        let items = self.table.under(owner.to_string()).await?;
        let read_one = |mut item: Item| {
            let id = read("a session", &mut item, "sk")?;
            session(owner, id, read_all("a session", item)?)
        };
        let mut all = items.into_iter().map(read_one).collect::<Result<Vec<_>>>()?;
        all.retain(|session| session.expires_at > now);
        all.sort_by_key(|session| Reverse((session.last_used_at, session.session_id)));
        Ok(all)
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<bool> {
        let request = self.table.delete_item(keys(owner, id)).condition_expression("attribute_exists(pk)");
        self.table.held(request.send().await)
    }
}

impl SessionPasswords for SessionsTable {
    async fn keep_for(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        let request = self
            .table
            .update_item(keys(owner, id))
            .update_expression("ADD kept_for :marks")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":marks", set_of(password)?);
        self.table.held(request.send().await).map(drop)
    }

    async fn forget(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        let request = self
            .table
            .update_item(keys(owner, id))
            .update_expression("DELETE kept_for :marks")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":marks", set_of(password)?);
        self.table.held(request.send().await).map(drop)
    }
}

/// A set with this mark alone.
fn set_of(mark: &PasswordMark) -> Result<AttributeValue> {
    match write("a password's mark", mark)? {
        AttributeValue::S(mark) => Ok(AttributeValue::Ss(vec![mark])),
        _ => Err(Error::unreadable("a password's mark", "it is no text")),
    }
}

fn item(session: &Session) -> Result<Item> {
    let record = Record {
        salt: session.salt.encode(),
        current_hash: session.current.encode(),
        previous_hash: session.previous.as_ref().map(|(hash, _)| hash.encode()),
        previous_until: session.previous.as_ref().map(|(_, until)| *until),
        password_mark: session.password.clone(),
        kept_for: Vec::new(),
        device: session.origin.device.clone(),
        address: session.origin.address.clone(),
        created_at: session.created_at,
        last_used_at: Some(session.last_used_at),
        ends_at: session.expires_at,
        expires_at: session.expires_at.as_second() + 1,
    };
    let mut item = write_all("a session", &record)?;
    item.extend(keys(session.user_id, session.session_id));
    Ok(item)
}

fn session(user_id: UserId, session_id: SessionId, record: Record) -> Result<Session> {
    let unreadable = || Error::unreadable("a session", "a hash or the salt is not in base64");
    let previous_hash = record.previous_hash.as_deref().and_then(SecretHash::decode);
    Ok(Session {
        user_id,
        session_id,
        salt: Salt::decode(&record.salt).ok_or_else(unreadable)?,
        current: SecretHash::decode(&record.current_hash).ok_or_else(unreadable)?,
        previous: previous_hash.zip(record.previous_until),
        password: record.password_mark,
        kept_for: record.kept_for,
        origin: Origin { device: record.device, address: record.address },
        created_at: record.created_at,
        last_used_at: record.last_used_at.unwrap_or(record.created_at),
        expires_at: record.ends_at,
    })
}
