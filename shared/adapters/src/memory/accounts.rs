//! Accounts and sessions.

use std::collections::HashMap;

use tocsin_domain::{
    Refusal, Result,
    access_token::Role,
    account::{Account, AccountFinder, Registered, Registrations, RoleEditor, Verifications},
    ids::{SessionId, UserId},
    mail::EmailAddress,
    secret::SecretHash,
    session::{AccountReader, Session, Sessions},
    time::{self, Timestamp},
};

use super::Shared;

/// Accounts.
#[derive(Clone, Debug, Default)]
pub struct MemoryUsers {
    users: Shared<HashMap<UserId, User>>,
}

#[derive(Clone, Debug)]
struct User {
    account: Account,
    /// Of a registration that waits for its mail: the token, and until when.
    waiting: Option<(SecretHash, Timestamp)>,
}

impl User {
    fn is_there(&self, now: Timestamp) -> bool {
        self.waiting.as_ref().is_none_or(|(_, until)| *until > now)
    }
}

impl Registrations for MemoryUsers {
    async fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<Registered> {
        let mut users = self.users.lock();
        users.retain(|_, user| user.is_there(account.created_at));
        let same_email = |user: &User| user.account.email.key() == account.email.key();
        if users.values().any(|user| same_email(user) && user.waiting.is_none()) {
            return Ok(Registered::EmailTaken);
        }
        let same_name = |user: &User| user.account.username.key() == account.username.key();
        if users.values().any(|user| same_name(user) && !same_email(user)) {
            return Ok(Registered::UsernameTaken);
        }
        users.retain(|_, user| !same_email(user));
        let waiting = Some((token.clone(), expires_at));
        users.insert(account.user_id, User { account: account.clone(), waiting });
        Ok(Registered::Stored)
    }
}

impl Verifications for MemoryUsers {
    async fn verify(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        let mut users = self.users.lock();
        let waits = |user: &&mut User| {
            user.is_there(now) && user.waiting.as_ref().is_some_and(|(waiting, _)| waiting == token)
        };
        Ok(users.values_mut().find(waits).map(|user| {
            user.waiting = None;
            user.account.email_verified = true;
            user.account.clone()
        }))
    }
}

impl AccountFinder for MemoryUsers {
    async fn find(&self, email: &EmailAddress, now: Timestamp) -> Result<Option<Account>> {
        let users = self.users.lock();
        let found = users.values().find(|user| user.account.email.key() == email.key() && user.is_there(now));
        Ok(found.map(|user| user.account.clone()))
    }
}

impl AccountReader for MemoryUsers {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        let now = time::now();
        Ok(self.users.lock().get(&id).filter(|user| user.is_there(now)).map(|user| user.account.clone()))
    }
}

impl RoleEditor for MemoryUsers {
    async fn set_roles(&self, id: UserId, roles: &[Role]) -> Result<()> {
        let mut users = self.users.lock();
        let user = users.get_mut(&id).ok_or_else(|| Refusal::not_found("account"))?;
        user.account.roles = roles.to_vec();
        Ok(())
    }
}

/// Sessions.
#[derive(Clone, Debug, Default)]
pub struct MemorySessions {
    sessions: Shared<HashMap<(UserId, SessionId), Session>>,
}

impl Sessions for MemorySessions {
    async fn begin(&self, session: &Session) -> Result<()> {
        self.sessions.lock().insert((session.user_id, session.session_id), session.clone());
        Ok(())
    }

    async fn get(&self, owner: UserId, id: SessionId, now: Timestamp) -> Result<Option<Session>> {
        Ok(self.sessions.lock().get(&(owner, id)).filter(|session| session.expires_at > now).cloned())
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        let mut sessions = self.sessions.lock();
        let session =
            sessions.get_mut(&(new.user_id, new.session_id)).filter(|session| session.current == *old);
        Ok(session.map(|session| *session = new.clone()).is_some())
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<()> {
        self.sessions.lock().remove(&(owner, id));
        Ok(())
    }
}
