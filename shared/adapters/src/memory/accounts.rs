//! Accounts and sessions.

use std::collections::HashMap;

use tocsin_domain::{
    Refusal, Result,
    access_token::Role,
    account::{Account, AccountFinder, MOST_WAITING, Registered, Registrations, RoleEditor, Verifications},
    identity::{Identities, Identity, Linked, NewIdentity},
    ids::{SessionId, UserId},
    mail::EmailAddress,
    person_search::EmailIndex,
    person::Profile,
    secret::SecretHash,
    session::{AccountReader, Session, Sessions},
    time::Timestamp,
};

use super::Shared;

/// Accounts.
#[derive(Clone, Debug, Default)]
pub struct MemoryUsers {
    users: Shared<Users>,
}

#[derive(Debug, Default)]
struct Users {
    verified: Vec<Account>,
    /// Those that wait for their mail to be answered: the newest last.
    waiting: Vec<Waiting>,
    identities: HashMap<Identity, UserId>,
}

#[derive(Debug)]
struct Waiting {
    account: Account,
    token: SecretHash,
    until: Timestamp,
}

impl Users {
    /// Whether an account has this address; no account has none.
    fn is_verified(&self, email: Option<&EmailAddress>) -> bool {
        email.is_some() && self.verified.iter().any(|account| is_at(account, email))
    }

    /// Whether a name is somebody's, or reserved for another address.
    fn is_taken(&self, account: &Account) -> bool {
        let same_name = |other: &&Account| other.username.key() == account.username.key();
        let mut reserved = self.waiting.iter().map(|waiting| &waiting.account).filter(same_name);
        self.verified.iter().find(same_name).is_some()
            || reserved.any(|other| !is_at(other, account.email.as_ref()))
    }
}

fn is_at(account: &Account, email: Option<&EmailAddress>) -> bool {
    account.email.as_ref().map(EmailAddress::key) == email.map(EmailAddress::key)
}

impl Registrations for MemoryUsers {
    async fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<Registered> {
        let mut users = self.users.lock();
        users.waiting.retain(|waiting| waiting.until > account.created_at);
        if users.is_verified(account.email.as_ref()) {
            return Ok(Registered::EmailTaken);
        }
        if users.is_taken(account) {
            return Ok(Registered::UsernameTaken);
        }
        let (account, token) = (account.clone(), token.clone());
        users.waiting.push(Waiting { account, token, until: expires_at });
        Ok(Registered::Stored)
    }
}

impl Verifications for MemoryUsers {
    async fn verify(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        let mut users = self.users.lock();
        let good = |waiting: &Waiting| waiting.token == *token && waiting.until > now;
        let Some(place) = users.waiting.iter().position(good) else { return Ok(None) };
        let account = Account { email_verified: true, ..users.waiting[place].account.clone() };
        if users.is_verified(account.email.as_ref()) || users.is_taken(&account) {
            return Ok(None);
        }
        users.waiting.remove(place);
        users.verified.push(account.clone());
        Ok(Some(account))
    }
}

impl AccountFinder for MemoryUsers {
    async fn find(&self, email: &EmailAddress, now: Timestamp) -> Result<Vec<Account>> {
        let users = self.users.lock();
        let of_email = |account: &&Account| is_at(account, Some(email));
        if let Some(account) = users.verified.iter().find(of_email) {
            return Ok(vec![account.clone()]);
        }
        let waiting = users.waiting.iter().rev().filter(|waiting| waiting.until > now);
        Ok(waiting.map(|waiting| &waiting.account).filter(of_email).take(MOST_WAITING).cloned().collect())
    }
}

impl EmailIndex for MemoryUsers {
    async fn owner(&self, email: &EmailAddress) -> Result<Option<UserId>> {
        let users = self.users.lock();
        let of_email =
            |account: &&Account| account.email.as_ref().is_some_and(|other| other.key() == email.key());
        Ok(users.verified.iter().find(of_email).map(|account| account.user_id))
    }
}

impl AccountReader for MemoryUsers {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        Ok(self.users.lock().verified.iter().find(|account| account.user_id == id).cloned())
    }
}

impl Identities for MemoryUsers {
    async fn find(&self, identity: &Identity) -> Result<Option<Account>> {
        let users = self.users.lock();
        let owner = users.identities.get(identity);
        Ok(users.verified.iter().find(|account| Some(&account.user_id) == owner).cloned())
    }

    async fn link(&self, identity: &Identity, account: &Account) -> Result<Linked> {
        let mut users = self.users.lock();
        let id = account.user_id;
        if users.identities.get(identity).is_some_and(|owner| *owner != id) {
            return Ok(Linked::Taken);
        }
        let same = |other: &Account| other.user_id == id && other.email == account.email;
        if !users.verified.iter().any(same) {
            return Ok(Linked::Superseded);
        }
        users.identities.insert(identity.clone(), id);
        Ok(Linked::Done)
    }

    async fn register(&self, account: &Account, identity: &Identity, _: &Profile) -> Result<NewIdentity> {
        let mut users = self.users.lock();
        users.waiting.retain(|waiting| waiting.until > account.created_at);
        if users.identities.contains_key(identity) {
            return Ok(NewIdentity::Taken);
        }
        if users.is_taken(account) {
            return Ok(NewIdentity::UsernameTaken);
        }
        if users.is_verified(account.email.as_ref()) {
            return Ok(NewIdentity::EmailTaken);
        }
        users.identities.insert(identity.clone(), account.user_id);
        users.verified.push(account.clone());
        Ok(NewIdentity::Stored)
    }
}

impl RoleEditor for MemoryUsers {
    async fn set_roles(&self, id: UserId, roles: &[Role]) -> Result<()> {
        let mut users = self.users.lock();
        let account = users.verified.iter_mut().find(|account| account.user_id == id);
        account.ok_or_else(|| Refusal::not_found("account"))?.roles = roles.to_vec();
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
