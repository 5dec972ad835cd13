//! What the tokens of mails are about: another password, or another address, of an account as it was when the mail was written.

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Result,
    account::Account,
    email_change::{EmailChangeTokens, EmailChanged, EmailChanges},
    ids::UserId,
    mail::EmailAddress,
    password::{PasswordHash, PasswordMark},
    password_reset::{PasswordResets, ResetTokens},
    secret::SecretHash,
    time::Timestamp,
};

use super::{
    super::{Action, PeopleTable, Transacted, has_expired, key, number, read_all, text, write_all},
    UsersTable,
    registrations::email_pk,
    user_pk,
};
use crate::aws::failed;

/// What the token of a mail is about: an account as it was when the mail was written.
#[derive(Serialize, Deserialize)]
struct Ticket {
    user_id: UserId,
    email: Option<EmailAddress>,
    password: Option<PasswordMark>,
    new_email: Option<EmailAddress>,
}

impl UsersTable {
    async fn put_ticket(
        &self,
        pk: String,
        account: &Account,
        new_email: Option<&EmailAddress>,
        expires_at: Timestamp,
    ) -> Result<()> {
        let ticket = Ticket {
            user_id: account.user_id,
            email: account.email.clone(),
            password: account.password_mark(),
            new_email: new_email.cloned(),
        };
        let mut item = write_all("a mail's token", &ticket)?;
        item.extend(key(pk));
        item.insert("expires_at".to_owned(), number(expires_at.as_second()));
        self.table.put_item(item).send().await.map_err(failed(self.table.service))?;
        Ok(())
    }

    /// A ticket and its account, if that is still as it was.
    async fn ticket(&self, pk: String, now: Timestamp) -> Result<Option<(Account, Ticket)>> {
        let item = self.table.get(key(pk)).await?;
        let Some(item) = item.filter(|item| !has_expired(item, now)) else { return Ok(None) };
        let ticket: Ticket = read_all("a mail's token", item)?;
        let account = self.account(&ticket.user_id.to_string()).await?;
        let is_as_it_was =
            |account: &Account| account.email == ticket.email && account.password_mark() == ticket.password;
        Ok(account.filter(is_as_it_was).map(|account| (account, ticket)))
    }

    /// Changes an account that still has this address and this password.
    fn update_as_it_was(&self, account: &Account, update: &str) -> Action {
        let action = self.table.update(key(user_pk(account.user_id)), update);
        let (action, email) = match &account.email {
            Some(email) => (action.with(":old_email", text(email)), "email = :old_email"),
            None => (action, "attribute_not_exists(email)"),
        };
        let (action, password) = match &account.password {
            Some(PasswordHash(phc)) => (action.with(":old_hash", text(phc)), "password_hash = :old_hash"),
            None => (action, "attribute_not_exists(password_hash)"),
        };
        action.on(&format!("attribute_exists(pk) AND {email} AND {password}"))
    }
}

impl ResetTokens for UsersTable {
    async fn issue(&self, account: &Account, token: &SecretHash, expires_at: Timestamp) -> Result<()> {
        self.put_ticket(reset_pk(token), account, None, expires_at).await
    }
}

impl PasswordResets for UsersTable {
    async fn find(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        Ok(self.ticket(reset_pk(token), now).await?.map(|(account, _)| account))
    }

    async fn confirm(&self, token: &SecretHash, account: &Account, password: &PasswordHash) -> Result<bool> {
        let set = self.update_as_it_was(account, "SET password_hash = :new_hash");
        let actions = vec![
            self.table.delete(key(reset_pk(token))).on("attribute_exists(pk)"),
            set.with(":new_hash", text(&password.0)),
        ];
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }
}

impl EmailChangeTokens for UsersTable {
    async fn issue(
        &self,
        account: &Account,
        email: &EmailAddress,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<()> {
        self.put_ticket(email_change_pk(token), account, Some(email), expires_at).await
    }
}

/// Changes the addresses of accounts, each in its profile as well: over the tables of both.
#[derive(Clone, Debug)]
pub struct AddressEditor {
    users: UsersTable,
    people: PeopleTable,
}

impl AddressEditor {
    /// Over these tables.
    #[must_use]
    pub const fn new(users: UsersTable, people: PeopleTable) -> Self {
        Self { users, people }
    }
}

impl EmailChanges for AddressEditor {
    async fn find(&self, token: &SecretHash, now: Timestamp) -> Result<Option<(Account, EmailAddress)>> {
        let found = self.users.ticket(email_change_pk(token), now).await?;
        Ok(found.and_then(|(account, ticket)| Some((account, ticket.new_email?))))
    }

    async fn confirm(
        &self,
        token: &SecretHash,
        account: &Account,
        email: &EmailAddress,
    ) -> Result<EmailChanged> {
        let (users, id) = (&self.users, account.user_id);
        let set = users.update_as_it_was(account, "SET email = :new_email, email_verified = :verified");
        let set = set.with(":new_email", text(email)).with(":verified", AttributeValue::Bool(true));
        // It is the account's own already where only its case is another one.
        let take = users
            .put_marker(email_pk(email), id)
            .on("attribute_not_exists(pk) OR attribute_exists(expires_at) OR user_id = :owner")
            .with(":owner", text(id));
        let mut actions = vec![
            take,
            users.table.delete(key(email_change_pk(token))).on("attribute_exists(pk)"),
            set,
            self.people.new_email(id, email),
        ];
        let old = account.email.as_ref().filter(|old| old.key() != email.key());
        actions.extend(old.map(|old| {
            let free = users.table.delete(key(email_pk(old)));
            free.on("user_id = :owner").with(":owner", text(id))
        }));
        Ok(match users.table.transact(actions).await? {
            Transacted::Done => EmailChanged::Done,
            Transacted::Cancelled { held } if held.first() == Some(&false) => EmailChanged::Taken,
            Transacted::Cancelled { .. } => EmailChanged::Superseded,
        })
    }
}

fn reset_pk(token: &SecretHash) -> String {
    format!("reset#{}", token.encode())
}

fn email_change_pk(token: &SecretHash) -> String {
    format!("email-change#{}", token.encode())
}
