//! The table of users: accounts, and the markers by which an address, a name and a mail's token are one account's.
//!
//! | pk | what |
//! |---|---|
//! | `user#<id>` | the account |
//! | `email#<address>` | `user_id`; while it is not verified, `username_key` and `token` of its registration |
//! | `username#<name>` | `user_id` |
//! | `verify#<hash of the token>` | `user_id`, `email_key`, `username_key` |
//!
//! While a registration waits for its mail to be answered, all four have `expires_at`. To verify is to remove it from
//! the first three, and the fourth. Without `expires_at`, an address is somebody's for good.

use aws_sdk_dynamodb::{Client, operation::update_item::UpdateItemError};
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Error, Result,
    access_token::Role,
    account::{Account, AccountFinder, Registered, Registrations, RoleEditor, Username, Verifications},
    ids::UserId,
    mail::EmailAddress,
    password::PasswordHash,
    secret::SecretHash,
    session::AccountReader,
    time::{self, Timestamp},
};

use super::{
    Action, Item, Table, Transacted, has_expired, key, number, read, read_all, text, write, write_all,
};
use crate::aws::failed;

/// Accounts, and what they are found by.
#[derive(Clone, Debug)]
pub struct UsersTable {
    table: Table,
}

impl UsersTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "users") }
    }

    async fn account(&self, id: UserId, now: Timestamp) -> Result<Option<Account>> {
        let item = self.table.get(user_key(id)).await?;
        item.filter(|item| !has_expired(item, now))
            .map(|item| Ok(read_all::<Record>("an account", item)?.into()))
            .transpose()
    }

    fn delete(&self, pk: &str, owner: UserId) -> Action {
        let delete = self.table.delete(key(pk)).on("attribute_not_exists(pk) OR user_id = :old");
        delete.with(":old", text(owner))
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    user_id: UserId,
    email: EmailAddress,
    email_verified: bool,
    username: Username,
    password_hash: String,
    roles: Vec<Role>,
    created_at: Timestamp,
}

impl From<&Account> for Record {
    fn from(account: &Account) -> Self {
        Self {
            user_id: account.user_id,
            email: account.email.clone(),
            email_verified: account.email_verified,
            username: account.username.clone(),
            password_hash: account.password.0.clone(),
            roles: account.roles.clone(),
            created_at: account.created_at,
        }
    }
}

impl From<Record> for Account {
    fn from(record: Record) -> Self {
        let Record { user_id, email, email_verified, username, password_hash, roles, created_at } = record;
        Self {
            user_id,
            email,
            email_verified,
            username,
            password: PasswordHash(password_hash),
            roles,
            created_at,
        }
    }
}

/// A registration that waits for its mail to be answered.
#[derive(Deserialize)]
struct Waiting {
    user_id: UserId,
    username_key: String,
    token: String,
}

impl Registrations for UsersTable {
    async fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<Registered> {
        let (email, username) = (email_pk(&account.email), format!("username#{}", account.username.key()));
        let verify = format!("verify#{}", token.encode());
        let expires = number(expires_at.as_second());
        for _ in 0..MOST_TRIES {
            let there = self.table.get(key(&email)).await?;
            if there.as_ref().is_some_and(|marker| !marker.contains_key("expires_at")) {
                return Ok(Registered::EmailTaken);
            }
            let before: Option<Waiting> = there.map(|marker| read_all("an address", marker)).transpose()?;
            let item = |pk: &str, attributes: Vec<(&str, String)>| {
                let mut item = key(pk);
                item.insert("expires_at".to_owned(), expires.clone());
                item.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), text(value))));
                item
            };
            let user_id = || ("user_id", account.user_id.to_string());
            let name_key = || ("username_key", account.username.key());
            let put_email =
                self.table.put(item(&email, vec![user_id(), name_key(), ("token", token.encode())]));
            let put_name = self.table.put(item(&username, vec![user_id()]));
            let free = "attribute_not_exists(pk) OR expires_at <= :now";
            let now = number(account.created_at.as_second());
            let (put_email, put_name) = match &before {
                Some(before) => (
                    put_email
                        .on("user_id = :before AND attribute_exists(expires_at)")
                        .with(":before", text(before.user_id)),
                    put_name
                        .on(&format!("{free} OR user_id = :before"))
                        .with(":now", now)
                        .with(":before", text(before.user_id)),
                ),
                None => (put_email.on("attribute_not_exists(pk)"), put_name.on(free).with(":now", now)),
            };
            let mut user = write_all("an account", &Record::from(account))?;
            user.extend(item(&format!("user#{}", account.user_id), Vec::new()));
            let put_verify = item(&verify, vec![user_id(), ("email_key", account.email.key()), name_key()]);
            let mut actions = vec![
                put_name,
                put_email,
                self.table.put(user).on("attribute_not_exists(pk)"),
                self.table.put(put_verify),
            ];
            if let Some(Waiting { user_id, username_key, token }) = before {
                actions.push(self.delete(&format!("user#{user_id}"), user_id));
                actions.push(self.delete(&format!("verify#{token}"), user_id));
                let name = format!("username#{username_key}");
                if name != username {
                    // Its name may have expired, and be another's by now.
                    actions.extend(self.is_of(&name, user_id).await?.then(|| self.delete(&name, user_id)));
                }
            }
            match self.table.transact(actions).await? {
                Transacted::Done => return Ok(Registered::Stored),
                Transacted::Cancelled { held } if held.starts_with(&[false, true]) => {
                    return Ok(Registered::UsernameTaken);
                }
                // The address was registered, or verified, in between.
                Transacted::Cancelled { .. } => {}
            }
        }
        Err(Error::unavailable(self.table.service, "an address is registered by many at once"))
    }
}

impl UsersTable {
    async fn is_of(&self, pk: &str, owner: UserId) -> Result<bool> {
        let Some(mut item) = self.table.get(key(pk)).await? else { return Ok(false) };
        Ok(read::<UserId>("a name", &mut item, "user_id")? == owner)
    }
}

impl Verifications for UsersTable {
    async fn verify(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        #[derive(Deserialize)]
        struct Verification {
            user_id: UserId,
            email_key: String,
            username_key: String,
        }
        let verify = key(format!("verify#{}", token.encode()));
        let waiting = self.table.get(verify.clone()).await?.filter(|item| !has_expired(item, now));
        let Some(waiting) = waiting else { return Ok(None) };
        let Verification { user_id, email_key, username_key } = read_all("a mail's token", waiting)?;
        let Some(account) = self.account(user_id, now).await? else { return Ok(None) };
        let of_mine = |action: Action| action.on("user_id = :owner").with(":owner", text(user_id));
        let keep =
            |pk: String| of_mine(self.table.update(key(pk), "REMOVE expires_at, username_key, #token"));
        let verified = "SET email_verified = :yes REMOVE expires_at";
        let actions = vec![
            of_mine(self.table.delete(verify)),
            of_mine(self.table.update(user_key(user_id), verified)).with(":yes", write("yes", &true)?),
            keep(format!("email#{email_key}")).named("#token", "token"),
            keep(format!("username#{username_key}")).named("#token", "token"),
        ];
        match self.table.transact(actions).await? {
            Transacted::Done => Ok(Some(Account { email_verified: true, ..account })),
            Transacted::Cancelled { .. } => Ok(None),
        }
    }
}

impl AccountFinder for UsersTable {
    async fn find(&self, email: &EmailAddress, now: Timestamp) -> Result<Option<Account>> {
        let marker = self.table.get(key(email_pk(email))).await?.filter(|item| !has_expired(item, now));
        match marker {
            Some(mut marker) => self.account(read("an address", &mut marker, "user_id")?, now).await,
            None => Ok(None),
        }
    }
}

impl AccountReader for UsersTable {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        self.account(id, time::now()).await
    }
}

impl RoleEditor for UsersTable {
    async fn set_roles(&self, id: UserId, roles: &[Role]) -> Result<()> {
        let request = self
            .table
            .client
            .update_item()
            .table_name(&self.table.name)
            .set_key(Some(user_key(id)))
            .update_expression("SET #roles = :roles")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#roles", "roles")
            .expression_attribute_values(":roles", write("roles", &roles)?);
        let Err(error) = request.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => {
                Err(tocsin_domain::Refusal::not_found("account").into())
            }
            _ => Err(failed(self.table.service)(error)),
        }
    }
}

/// How often a registration is tried that others come in between of.
const MOST_TRIES: usize = 4;

fn user_key(id: UserId) -> Item {
    key(format!("user#{id}"))
}

fn email_pk(email: &EmailAddress) -> String {
    format!("email#{}", email.key())
}
