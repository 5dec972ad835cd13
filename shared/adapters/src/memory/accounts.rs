//! Accounts and sessions.

use std::{cmp::Reverse, collections::HashMap};

use tocsin_domain::{
    Refusal, Result,
    access_token::Role,
    account::{
        Account, AccountFinder, FORMER_USERNAME_SECONDS, MOST_WAITING, Registered, Registrations, RoleEditor,
        Username, Verifications,
    },
    departure::AccountCloser,
    email_change::{EmailChangeTokens, EmailChanged, EmailChanges},
    export::IdentityReader,
    identity::{Holder, Identities, Identity, Linked, NewIdentity},
    ids::{SessionId, UserId},
    mail::EmailAddress,
    password::{PasswordHash, PasswordMark},
    password_change::PasswordEditor,
    password_reset::{PasswordResets, ResetTokens},
    person::{Profile, ProfileEditor, Profiles, Replaced},
    person_search::EmailIndex,
    secret::SecretHash,
    session::{AccountReader, Session, SessionKeeper, SessionPasswords, Sessions},
    time::{self, Timestamp},
};

use super::{MemoryPeople, Shared};

/// Accounts, and the profiles that are made and changed with them.
#[derive(Clone, Debug, Default)]
pub struct MemoryUsers {
    users: Shared<Users>,
    people: MemoryPeople,
}

impl MemoryUsers {
    /// The people whose accounts these are.
    #[must_use]
    pub const fn people(&self) -> &MemoryPeople {
        &self.people
    }
}

#[derive(Debug, Default)]
struct Users {
    verified: Vec<Account>,
    /// Those that wait for their mail to be answered: the newest last.
    waiting: Vec<Waiting>,
    identities: HashMap<Identity, Held>,
    /// The names that people had before, and until when each is reserved.
    former: HashMap<UserId, (Username, Timestamp)>,
    tickets: Vec<Ticket>,
}

/// Whose an identity is, or since when nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    By(UserId),
    Left(Timestamp),
}

#[derive(Debug)]
struct Waiting {
    account: Account,
    token: SecretHash,
    until: Timestamp,
}

/// What the token of a mail is about: an account as it was when the mail was written.
#[derive(Clone, Debug)]
struct Ticket {
    token: SecretHash,
    account: Account,
    /// Of a change of address, the new one.
    new_email: Option<EmailAddress>,
    until: Timestamp,
}

/// Whether an account is as it was, to somebody with a token.
fn is_as_it_was(now: &Account, then: &Account) -> bool {
    let facts = |account: &Account| (account.user_id, account.email.clone(), account.password_mark());
    facts(now) == facts(then)
}

impl Users {
    fn ticket(&self, token: &SecretHash, is_change: bool, now: Timestamp) -> Option<(Account, Ticket)> {
        let is_it = |ticket: &&Ticket| ticket.token == *token && ticket.new_email.is_some() == is_change;
        let ticket = self.tickets.iter().find(is_it).filter(|ticket| ticket.until > now)?;
        let account = self.verified.iter().find(|account| is_as_it_was(account, &ticket.account))?;
        Some((account.clone(), ticket.clone()))
    }

    /// Takes a token away; answers the account that it is about, if that is as it was found.
    fn redeem(&mut self, token: &SecretHash, found: &Account) -> Option<&mut Account> {
        let place = self.tickets.iter().position(|ticket| ticket.token == *token)?;
        let Self { verified, tickets, .. } = self;
        let account = verified.iter_mut().find(|account| is_as_it_was(account, found))?;
        tickets.remove(place);
        Some(account)
    }

    /// Whether an account has this address; no account has none.
    fn is_verified(&self, email: Option<&EmailAddress>) -> bool {
        email.is_some() && self.verified.iter().any(|account| is_at(account, email))
    }

    /// Whether a name is somebody's, or reserved for another address, or for who had it before.
    fn is_taken(&self, username: &Username, email: Option<&EmailAddress>, now: Timestamp) -> bool {
        let mut reserved = self.waiting_with(username);
        self.is_anothers(username, None, now) || reserved.any(|other| !is_at(other, email))
    }

    /// Whether a name is, or was lately, that of an account other than this one.
    fn is_anothers(&self, username: &Username, owner: Option<UserId>, now: Timestamp) -> bool {
        let theirs = self.verified.iter().map(|account| (account.user_id, &account.username));
        let former = self.former.iter().filter(|(_, (_, until))| *until > now);
        let mut all = theirs.chain(former.map(|(id, (name, _))| (*id, name)));
        all.any(|(id, name)| Some(id) != owner && name.key() == username.key())
    }

    fn waiting_with(&self, username: &Username) -> impl Iterator<Item = &Account> {
        let accounts = self.waiting.iter().map(|waiting| &waiting.account);
        accounts.filter(|account| account.username.key() == username.key())
    }

    /// What would become of a registration.
    fn foresee(&mut self, email: Option<&EmailAddress>, username: &Username, now: Timestamp) -> Registered {
        self.waiting.retain(|waiting| waiting.until > now);
        if self.is_verified(email) {
            Registered::EmailTaken
        } else if self.is_taken(username, email, now) {
            Registered::UsernameTaken
        } else {
            Registered::Stored
        }
    }
}

fn is_at(account: &Account, email: Option<&EmailAddress>) -> bool {
    account.email.as_ref().map(EmailAddress::key) == email.map(EmailAddress::key)
}

impl Registrations for MemoryUsers {
    async fn foresee(&self, email: &EmailAddress, username: &Username, now: Timestamp) -> Result<Registered> {
        Ok(self.users.lock().foresee(Some(email), username, now))
    }

    async fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<Registered> {
        let mut users = self.users.lock();
        let registered = users.foresee(account.email.as_ref(), &account.username, account.created_at);
        if registered == Registered::Stored {
            let (account, token) = (account.clone(), token.clone());
            users.waiting.push(Waiting { account, token, until: expires_at });
        }
        Ok(registered)
    }
}

impl Verifications for MemoryUsers {
    async fn verify(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        let mut users = self.users.lock();
        let good = |waiting: &Waiting| waiting.token == *token && waiting.until > now;
        let Some(place) = users.waiting.iter().position(good) else { return Ok(None) };
        let account = Account { email_verified: true, ..users.waiting[place].account.clone() };
        if users.is_verified(account.email.as_ref())
            || users.is_taken(&account.username, account.email.as_ref(), now)
        {
            return Ok(None);
        }
        users.waiting.remove(place);
        users.verified.push(account.clone());
        let _ =
            self.people.add(&Profile::new(account.user_id, account.username.clone(), account.email.clone()));
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
    async fn find(&self, identity: &Identity) -> Result<Holder> {
        let users = self.users.lock();
        let owner = match users.identities.get(identity) {
            None => return Ok(Holder::Nobody),
            Some(Held::Left(at)) => return Ok(Holder::Left(*at)),
            Some(Held::By(owner)) => owner,
        };
        let account = users.verified.iter().find(|account| account.user_id == *owner).cloned();
        Ok(account.map_or(Holder::Nobody, Holder::Account))
    }

    async fn link(&self, identity: &Identity, account: &Account) -> Result<Linked> {
        let mut users = self.users.lock();
        let id = account.user_id;
        if matches!(users.identities.get(identity), Some(Held::By(owner)) if *owner != id) {
            return Ok(Linked::Taken);
        }
        let same = |other: &Account| other.user_id == id && other.email == account.email;
        if !users.verified.iter().any(same) {
            return Ok(Linked::Superseded);
        }
        users.identities.insert(identity.clone(), Held::By(id));
        Ok(Linked::Done)
    }

    async fn register(
        &self,
        account: &Account,
        identity: &Identity,
        left_at: Option<Timestamp>,
        profile: &Profile,
    ) -> Result<NewIdentity> {
        let mut users = self.users.lock();
        users.waiting.retain(|waiting| waiting.until > account.created_at);
        if users.identities.get(identity).copied() != left_at.map(Held::Left) {
            return Ok(NewIdentity::Taken);
        }
        if users.is_taken(&account.username, account.email.as_ref(), account.created_at) {
            return Ok(NewIdentity::UsernameTaken);
        }
        if users.is_verified(account.email.as_ref()) {
            return Ok(NewIdentity::EmailTaken);
        }
        users.identities.insert(identity.clone(), Held::By(account.user_id));
        users.verified.push(account.clone());
        let _ = self.people.add(profile);
        Ok(NewIdentity::Stored)
    }
}

impl MemoryUsers {
    fn put_ticket(
        &self,
        account: &Account,
        token: &SecretHash,
        new_email: Option<&EmailAddress>,
        until: Timestamp,
    ) {
        let (token, account, new_email) = (token.clone(), account.clone(), new_email.cloned());
        self.users.lock().tickets.push(Ticket { token, account, new_email, until });
    }
}

impl ResetTokens for MemoryUsers {
    async fn issue(&self, account: &Account, token: &SecretHash, expires_at: Timestamp) -> Result<()> {
        self.put_ticket(account, token, None, expires_at);
        Ok(())
    }
}

impl PasswordResets for MemoryUsers {
    async fn find(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        Ok(self.users.lock().ticket(token, false, now).map(|(account, _)| account))
    }

    async fn confirm(&self, token: &SecretHash, account: &Account, password: &PasswordHash) -> Result<bool> {
        let mut users = self.users.lock();
        let set = |account: &mut Account| account.password = Some(password.clone());
        Ok(users.redeem(token, account).map(set).is_some())
    }
}

impl PasswordEditor for MemoryUsers {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        let mut users = self.users.lock();
        let account = users.verified.iter_mut().find(|account| account.user_id == id);
        let account = account.filter(|account| account.password.as_ref() == Some(old));
        Ok(account.map(|account| account.password = Some(new.clone())).is_some())
    }
}

impl EmailChangeTokens for MemoryUsers {
    async fn issue(
        &self,
        account: &Account,
        email: &EmailAddress,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<()> {
        self.put_ticket(account, token, Some(email), expires_at);
        Ok(())
    }
}

impl EmailChanges for MemoryUsers {
    async fn find(&self, token: &SecretHash, now: Timestamp) -> Result<Option<(Account, EmailAddress)>> {
        let found = self.users.lock().ticket(token, true, now);
        Ok(found.and_then(|(account, ticket)| Some((account, ticket.new_email?))))
    }

    async fn confirm(
        &self,
        token: &SecretHash,
        account: &Account,
        email: &EmailAddress,
    ) -> Result<EmailChanged> {
        let mut users = self.users.lock();
        let of_another = |other: &Account| other.user_id != account.user_id && is_at(other, Some(email));
        if users.verified.iter().any(of_another) {
            return Ok(EmailChanged::Taken);
        }
        let Some(account) = users.redeem(token, account) else { return Ok(EmailChanged::Superseded) };
        (account.email, account.email_verified) = (Some(email.clone()), true);
        self.people.set_email(account.user_id, email);
        Ok(EmailChanged::Done)
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

impl IdentityReader for MemoryUsers {
    async fn of(&self, owner: UserId) -> Result<Vec<Identity>> {
        let users = self.users.lock();
        let own = users.identities.iter().filter(|(_, held)| **held == Held::By(owner));
        Ok(own.map(|(identity, _)| identity.clone()).collect())
    }
}

impl AccountCloser for MemoryUsers {
    async fn close(&self, id: UserId) -> Result<()> {
        let mut users = self.users.lock();
        users.verified.retain(|account| account.user_id != id);
        users.former.remove(&id);
        for held in users.identities.values_mut().filter(|held| **held == Held::By(id)) {
            *held = Held::Left(time::now());
        }
        Ok(())
    }
}

impl Profiles for MemoryUsers {
    async fn get(&self, ids: &[UserId]) -> Result<Vec<Profile>> {
        self.people.get(ids).await
    }
}

impl ProfileEditor for MemoryUsers {
    async fn replace(&self, old: &Profile, new: &Profile, now: Timestamp) -> Result<Replaced> {
        let mut users = self.users.lock();
        let (id, takes_name) = (old.user_id, old.username.key() != new.username.key());
        users.waiting.retain(|waiting| waiting.until > now);
        let is_reserved = users.waiting_with(&new.username).next().is_some();
        if takes_name && (is_reserved || users.is_anothers(&new.username, Some(id), now)) {
            return Ok(Replaced::UsernameTaken);
        }
        let Users { verified, former, .. } = &mut *users;
        let account = verified.iter_mut().find(|account| account.user_id == id);
        if account.is_none() && old.username != new.username {
            return Ok(Replaced::AccountClosed);
        }
        if !self.people.replace(old, new) {
            return Ok(Replaced::Superseded);
        }
        if let Some(account) = account {
            account.username = new.username.clone();
            if takes_name {
                account.former_username = Some(old.username.clone());
                former.insert(id, (old.username.clone(), time::after(now, FORMER_USERNAME_SECONDS)));
            }
        }
        Ok(Replaced::Done)
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
        let rotated = |session: &mut Session| {
            let (password, kept_for) = (session.password.clone(), session.kept_for.clone());
            *session = Session { password, kept_for, ..new.clone() };
        };
        Ok(session.map(rotated).is_some())
    }
}

impl SessionKeeper for MemorySessions {
    async fn of(&self, owner: UserId, now: Timestamp) -> Result<Vec<Session>> {
        let sessions = self.sessions.lock();
        let is_good = |session: &&Session| session.user_id == owner && session.expires_at > now;
        let mut all: Vec<_> = sessions.values().filter(is_good).cloned().collect();
        all.sort_by_key(|session| Reverse((session.last_used_at, session.session_id)));
        Ok(all)
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<bool> {
        Ok(self.sessions.lock().remove(&(owner, id)).is_some())
    }
}

impl SessionPasswords for MemorySessions {
    async fn keep_for(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        if let Some(session) = self.sessions.lock().get_mut(&(owner, id))
            && !session.kept_for.contains(password)
        {
            session.kept_for.push(password.clone());
        }
        Ok(())
    }

    async fn forget(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        if let Some(session) = self.sessions.lock().get_mut(&(owner, id)) {
            session.kept_for.retain(|mark| mark != password);
        }
        Ok(())
    }
}
