//! The table of users: accounts, the markers by which an address, a name and an outside identity are one account's, and
//! registrations.
//!
//! | pk | what |
//! |---|---|
//! | `user#<id>` | the account; `identities`: the hashes of its outside identities |
//! | `email#<address>` | `user_id` of its account; while it has none, `waiting`: the newest registrations |
//! | `username#<name>` | `user_id` of its account, or of the one that had it before; while it has none, `email_key`: for whom it is reserved |
//! | `identity#<hash of issuer and subject>` | `user_id` of its account; `issuer`, `subject`; or when it was left: `left_at` |
//! | `reset#<hash of the token>` | whose password it sets: `user_id`; `email`, `password`: what the account had then |
//! | `email-change#<hash of the token>` | the same; `new_email`: the address that the account gets |
//! | `verify#<hash of the token>` | a registration, as the account that it becomes |
//!
//! The last is all that a registration needs to become an account, and nobody else writes to it. To verify is to
//! exchange it for the first three, without `expires_at`: then they are somebody's for good. What has `expires_at` is a
//! registration's, a mail's, a name that was given up, or an identity that was left.
//!
//! Here is what an account is by itself; each of the others that make, change or close one has a room of its own.

mod closing;
mod identities;
mod mail_tokens;
mod registrations;
mod usernames;

use aws_sdk_dynamodb::Client;
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Refusal, Result,
    access_token::Role,
    account::{Account, RoleEditor, Username},
    ids::UserId,
    mail::EmailAddress,
    password::PasswordHash,
    password_change::PasswordEditor,
    session::AccountReader,
    time::Timestamp,
};

use super::{Action, Item, Table, key, number, read_all, text, write};

pub use self::{mail_tokens::AddressEditor, registrations::Newcomers};

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

    async fn account(&self, id: &str) -> Result<Option<Account>> {
        let item = self.table.get(key(user_pk(id))).await?;
        item.map(|item| Ok(read_all::<Record>("an account", item)?.into())).transpose()
    }

    /// An item that expires, unless its account is verified.
    fn put(&self, pk: String, attributes: Item, expires_at: Option<Timestamp>) -> Action {
        let mut item = key(pk);
        item.extend(attributes);
        item.extend(expires_at.map(|at| ("expires_at".to_owned(), number(at.as_second()))));
        self.table.put(item)
    }

    /// A marker that belongs to an account.
    fn put_marker(&self, pk: String, owner: UserId) -> Action {
        self.put(pk, Item::from([("user_id".to_owned(), text(owner))]), None)
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    user_id: UserId,
    email: Option<EmailAddress>,
    email_verified: bool,
    username: Username,
    former_username: Option<Username>,
    password_hash: Option<String>,
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
            former_username: account.former_username.clone(),
            password_hash: account.password.as_ref().map(|PasswordHash(phc)| phc.clone()),
            roles: account.roles.clone(),
            created_at: account.created_at,
        }
    }
}

impl From<Record> for Account {
    fn from(record: Record) -> Self {
        let Record {
            user_id,
            email,
            email_verified,
            username,
            former_username,
            password_hash,
            roles,
            created_at,
        } = record;
        Self {
            user_id,
            email,
            email_verified,
            username,
            former_username,
            password: password_hash.map(PasswordHash),
            roles,
            created_at,
        }
    }
}

impl AccountReader for UsersTable {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        self.account(&id.to_string()).await
    }
}

impl PasswordEditor for UsersTable {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        let request = self
            .table
            .update_item(key(user_pk(id)))
            .update_expression("SET password_hash = :new")
            .condition_expression("password_hash = :old")
            .expression_attribute_values(":old", text(&old.0))
            .expression_attribute_values(":new", text(&new.0));
        self.table.held(request.send().await)
    }
}

impl RoleEditor for UsersTable {
    async fn set_roles(&self, id: UserId, roles: &[Role]) -> Result<()> {
        let request = self
            .table
            .update_item(key(user_pk(id)))
            .update_expression("SET #roles = :roles")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#roles", "roles")
            .expression_attribute_values(":roles", write("roles", &roles)?);
        if self.table.held(request.send().await)? {
            return Ok(());
        }
        Err(Refusal::not_found("account").into())
    }
}

/// How often something is tried that others come in between of.
const MOST_TRIES: usize = 4;

fn user_pk(id: impl std::fmt::Display) -> String {
    format!("user#{id}")
}
