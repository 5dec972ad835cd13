//! The table of users: accounts, the markers by which an address, a name and an outside identity are one account's, and
//! registrations.
//!
//! | pk | what |
//! |---|---|
//! | `user#<id>` | the account; `identities`: the hashes of its outside identities |
//! | `email#<address>` | `user_id` of its account; while it has none, `waiting`: the newest registrations |
//! | `username#<name>` | `user_id` of its account; while it has none, `email_key`: for whom it is reserved |
//! | `identity#<hash of issuer and subject>` | `user_id` of its account; `issuer`, `subject` |
//! | `reset#<hash of the token>` | whose password it sets: `user_id`; `email`, `password`: what the account had then |
//! | `email-change#<hash of the token>` | the same; `new_email`: the address that the account gets |
//! | `verify#<hash of the token>` | a registration, as the account that it becomes |
//!
//! The last is all that a registration needs to become an account, and nobody else writes to it. To verify is to
//! exchange it for the first three, without `expires_at`: then they are somebody's for good.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use futures::future::{try_join, try_join_all};
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Error, Refusal, Result,
    access_token::Role,
    account::{
        Account, AccountFinder, MOST_WAITING, Registered, Registrations, RoleEditor, Username, Verifications,
    },
    departure::AccountCloser,
    email_change::{EmailChangeTokens, EmailChanged, EmailChanges},
    export::IdentityReader,
    identity::{Identities, Identity, Linked, NewIdentity},
    ids::UserId,
    mail::EmailAddress,
    password::{PasswordHash, PasswordMark},
    password_change::PasswordEditor,
    password_reset::{PasswordResets, ResetTokens},
    person::Profile,
    person_search::EmailIndex,
    secret::SecretHash,
    session::AccountReader,
    time::Timestamp,
};

use super::{
    Action, Item, PeopleTable, Table, Transacted, has_expired, key, number, read, read_all, text, write,
    write_all,
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

    /// An identity's marker, which also says whose identity it is: its owner may ask for all that is stored.
    fn put_identity(&self, identity: &Identity, owner: UserId) -> Action {
        let attributes = Item::from([
            ("user_id".to_owned(), text(owner)),
            ("issuer".to_owned(), text(identity.issuer())),
            ("subject".to_owned(), text(identity.subject())),
        ]);
        self.put(identity_pk(identity), attributes, None)
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
            password_hash: account.password.as_ref().map(|PasswordHash(phc)| phc.clone()),
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
            password: password_hash.map(PasswordHash),
            roles,
            created_at,
        }
    }
}

/// A registration that waits for its mail to be answered.
#[derive(Serialize, Deserialize)]
struct Waiting {
    account: Record,
    until: Timestamp,
}

/// An address's marker. Verified if it does not expire.
#[derive(Default, Deserialize)]
struct Address {
    user_id: Option<UserId>,
    /// The newest first.
    #[serde(default)]
    waiting: Vec<Waiting>,
    expires_at: Option<i64>,
}

impl Address {
    fn is_verified(&self) -> bool {
        self.user_id.is_some() && self.expires_at.is_none()
    }
}

impl UsersTable {
    async fn address(&self, email: &EmailAddress, now: Timestamp) -> Result<Address> {
        let marker = self.table.get(key(email_pk(email))).await?;
        let mut address: Address =
            marker.map(|item| read_all("an address", item)).transpose()?.unwrap_or_default();
        address.waiting.retain(|waiting| waiting.until > now);
        Ok(address)
    }
}

/// A name's marker.
#[derive(Deserialize)]
struct Name {
    email_key: Option<String>,
    expires_at: Option<i64>,
}

impl Name {
    /// As in [`free_name`].
    fn is_free_for(&self, email: &EmailAddress, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires| {
            expires <= now.as_second() || self.email_key.as_deref() == Some(&*email.key())
        })
    }
}

impl Registrations for UsersTable {
    async fn foresee(&self, email: &EmailAddress, username: &Username, now: Timestamp) -> Result<Registered> {
        let name = self.table.get(key(username_pk(username)));
        let (address, name) = try_join(self.address(email, now), name).await?;
        let name: Option<Name> = name.map(|item| read_all("a name", item)).transpose()?;
        Ok(if address.is_verified() {
            Registered::EmailTaken
        } else if name.is_some_and(|name| !name.is_free_for(email, now)) {
            Registered::UsernameTaken
        } else {
            Registered::Stored
        })
    }

    async fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> Result<Registered> {
        let now = account.created_at;
        let email = account.email.as_ref();
        let email = email.ok_or_else(|| Error::unreadable("a registration", "it has no address"))?;
        for _ in 0..MOST_TRIES {
            let mut address = self.address(email, now).await?;
            if address.is_verified() {
                return Ok(Registered::EmailTaken);
            }
            let newest = address.waiting.first().map(|newest| newest.account.user_id);
            address.waiting.insert(0, Waiting { account: account.into(), until: expires_at });
            address.waiting.truncate(MOST_WAITING);
            let waiting = Item::from([
                ("waiting".to_owned(), write("registrations", &address.waiting)?),
                ("newest".to_owned(), text(account.user_id)),
            ]);
            let put_email = self.put(email_pk(email), waiting, Some(expires_at));
            // Nobody has registered it in between, or it has expired since.
            let unchanged = "attribute_not_exists(pk) OR (attribute_exists(expires_at) AND newest = :newest)";
            let put_email = match newest {
                Some(newest) => put_email.on(unchanged).with(":newest", text(newest)),
                None => put_email
                    .on("attribute_not_exists(pk) OR expires_at <= :now")
                    .with(":now", number(now.as_second())),
            };
            let reserved = Item::from([("email_key".to_owned(), text(email.key()))]);
            let put_name = self.put(username_pk(&account.username), reserved, Some(expires_at));
            let registration = write_all("a registration", &Record::from(account))?;
            let put_verify = self.put(verify_pk(token), registration, Some(expires_at));
            let actions = vec![free_name(put_name, account, now), put_email, put_verify];
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

/// Only if the name is nobody's, and not reserved for another address.
fn free_name(action: Action, account: &Account, now: Timestamp) -> Action {
    let free = "attribute_not_exists(pk) OR expires_at <= :now";
    let action = action.with(":now", number(now.as_second()));
    match &account.email {
        Some(email) => action
            .on(&format!("{free} OR (attribute_exists(expires_at) AND email_key = :email)"))
            .with(":email", text(email.key())),
        None => action.on(free),
    }
}

/// Makes accounts, each with the profile of its person. It reads and writes the tables of both; who only looks for an
/// account needs but [`UsersTable`].
#[derive(Clone, Debug)]
pub struct Newcomers {
    users: UsersTable,
    people: PeopleTable,
}

impl Newcomers {
    /// Over these tables.
    #[must_use]
    pub const fn new(users: UsersTable, people: PeopleTable) -> Self {
        Self { users, people }
    }

    /// What is done for a new account, in this order: the account, its name, its address if it has one, its profile. The
    /// address is shown to be theirs, and so taken from registrations that wait.
    fn new_account(
        &self,
        account: &Account,
        identities: Item,
        profile: &Profile,
        now: Timestamp,
    ) -> Result<Vec<Action>> {
        let (users, id) = (&self.users, account.user_id);
        let mut record = write_all("an account", &Record::from(account))?;
        record.extend(identities);
        let put_name = users.put_marker(username_pk(&account.username), id);
        let mut actions = vec![
            users.put(user_pk(id), record, None).on("attribute_not_exists(pk)"),
            free_name(put_name, account, now),
        ];
        actions.extend(account.email.as_ref().map(|email| {
            users
                .put_marker(email_pk(email), id)
                .on("attribute_not_exists(pk) OR attribute_exists(expires_at)")
        }));
        actions.extend(self.people.new_person(profile)?);
        Ok(actions)
    }
}

impl Verifications for Newcomers {
    async fn verify(&self, token: &SecretHash, now: Timestamp) -> Result<Option<Account>> {
        let table = &self.users.table;
        let registration = table.get(key(verify_pk(token))).await?;
        let Some(registration) = registration.filter(|item| !has_expired(item, now)) else { return Ok(None) };
        let registered: Account = read_all::<Record>("a registration", registration)?.into();
        let account = Account { email_verified: true, ..registered };
        let profile = Profile::new(account.user_id, account.username.clone(), account.email.clone());
        let mut actions = vec![table.delete(key(verify_pk(token))).on("attribute_exists(pk)")];
        actions.extend(self.new_account(&account, Item::new(), &profile, now)?);
        match table.transact(actions).await? {
            Transacted::Done => Ok(Some(account)),
            Transacted::Cancelled { .. } => Ok(None),
        }
    }
}

impl Identities for Newcomers {
    async fn find(&self, identity: &Identity) -> Result<Option<Account>> {
        let marker = self.users.table.get(key(identity_pk(identity))).await?;
        let Some(mut marker) = marker else { return Ok(None) };
        let owner: UserId = read("an identity", &mut marker, "user_id")?;
        self.users.account(&owner.to_string()).await
    }

    async fn link(&self, identity: &Identity, account: &Account) -> Result<Linked> {
        let (users, id) = (&self.users, account.user_id);
        let add = users.table.update(key(user_pk(id)), "ADD identities :identities");
        let add = add.with(":identities", set_of(identity));
        let add = match &account.email {
            Some(email) => add.on("email = :email").with(":email", text(email)),
            None => add.on("attribute_exists(pk) AND attribute_not_exists(email)"),
        };
        let marker = users.put_identity(identity, id);
        let marker = marker.on("attribute_not_exists(pk) OR user_id = :owner").with(":owner", text(id));
        Ok(match users.table.transact(vec![marker, add]).await? {
            Transacted::Done => Linked::Done,
            Transacted::Cancelled { held } if held.first() == Some(&false) => Linked::Taken,
            Transacted::Cancelled { .. } => Linked::Superseded,
        })
    }

    async fn register(
        &self,
        account: &Account,
        identity: &Identity,
        profile: &Profile,
    ) -> Result<NewIdentity> {
        let users = &self.users;
        let marker = users.put_identity(identity, account.user_id).on("attribute_not_exists(pk)");
        let identities = Item::from([("identities".to_owned(), set_of(identity))]);
        let mut actions = vec![marker];
        actions.extend(self.new_account(account, identities, profile, account.created_at)?);
        let failed = match users.table.transact(actions).await? {
            Transacted::Done => return Ok(NewIdentity::Stored),
            Transacted::Cancelled { held } => held.iter().position(|held| !held),
        };
        // In the order of `new_account`, after the identity.
        match failed {
            Some(0) => Ok(NewIdentity::Taken),
            Some(2) => Ok(NewIdentity::UsernameTaken),
            Some(3) if account.email.is_some() => Ok(NewIdentity::EmailTaken),
            _ => Err(Error::unavailable(users.table.service, "the new id is not new")),
        }
    }
}

impl AccountFinder for UsersTable {
    async fn find(&self, email: &EmailAddress, now: Timestamp) -> Result<Vec<Account>> {
        let address = self.address(email, now).await?;
        let verified = address.user_id.filter(|_| address.is_verified());
        // Also where it is known that nothing is found: so an address without an account takes as long.
        let account = self.account(&verified.map_or("nobody".to_owned(), |id| id.to_string())).await?;
        Ok(match verified {
            Some(_) => account.into_iter().collect(),
            None => address.waiting.into_iter().map(|waiting| waiting.account.into()).collect(),
        })
    }
}

impl EmailIndex for UsersTable {
    async fn owner(&self, email: &EmailAddress) -> Result<Option<UserId>> {
        // Without the registrations that wait: they have passwords, and are nobody yet.
        let request = self.table.client.get_item().table_name(&self.table.name);
        let request =
            request.set_key(Some(key(email_pk(email)))).projection_expression("user_id, expires_at");
        let answer = request.consistent_read(true).send().await.map_err(failed(self.table.service))?;
        let address: Option<Address> = answer.item.map(|item| read_all("an address", item)).transpose()?;
        Ok(address.filter(Address::is_verified).and_then(|address| address.user_id))
    }
}

impl AccountReader for UsersTable {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        self.account(&id.to_string()).await
    }
}

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

impl IdentityReader for UsersTable {
    async fn of(&self, owner: UserId) -> Result<Vec<Identity>> {
        let Some(account) = self.table.get(key(user_pk(owner))).await? else { return Ok(Vec::new()) };
        let hashes = account.get(IDENTITIES).and_then(|set| set.as_ss().ok()).into_iter().flatten();
        // A few: one for each issuer that somebody signs in with.
        let markers = hashes.map(|hash| self.table.get(key(format!("identity#{hash}"))));
        let mut identities = Vec::new();
        for marker in try_join_all(markers).await?.into_iter().flatten() {
            let Marker { issuer, subject } = read_all("an identity", marker)?;
            let identity = Identity::new(issuer, subject);
            identities.push(identity.map_err(|error| Error::unreadable("an identity", error))?);
        }
        Ok(identities)
    }
}

#[derive(Deserialize)]
struct Marker {
    issuer: String,
    subject: String,
}

impl AccountCloser for UsersTable {
    async fn close(&self, id: UserId) -> Result<()> {
        for _ in 0..MOST_TRIES {
            let Some(item) = self.table.get(key(user_pk(id))).await? else { return Ok(()) };
            let identities = item.get(IDENTITIES).cloned();
            let (username, email) = (item.get("username").cloned(), item.get("email").cloned());
            let account: Account = read_all::<Record>("an account", item)?.into();
            let markers = [Some(username_pk(&account.username)), account.email.as_ref().map(email_pk)];
            let hashes = identities.as_ref().and_then(|set| set.as_ss().ok()).into_iter().flatten();
            let markers = markers.into_iter().flatten().chain(hashes.map(|hash| format!("identity#{hash}")));
            // Only as it was read: else a marker that it got in between would stay for good.
            let mut remove = self.table.delete(key(user_pk(id)));
            let mut conditions = Vec::new();
            for (name, value) in [("username", username), ("email", email), (IDENTITIES, identities.clone())]
            {
                match value {
                    Some(value) => {
                        conditions.push(format!("{name} = :{name}"));
                        remove = remove.with(&format!(":{name}"), value);
                    }
                    None => conditions.push(format!("attribute_not_exists({name})")),
                }
            }
            let owned = |pk| {
                let remove = self.table.delete(key(pk)).on("attribute_not_exists(pk) OR user_id = :owner");
                remove.with(":owner", text(id))
            };
            let actions = [remove.on(&conditions.join(" AND "))].into_iter().chain(markers.map(owned));
            if let Transacted::Done = self.table.transact(actions.collect()).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(self.table.service, "an account is changed by many at once"))
    }
}

/// How often something is tried that others come in between of.
const MOST_TRIES: usize = 4;

/// Of an account: the hashes of its identities, a set.
const IDENTITIES: &str = "identities";

fn user_pk(id: impl std::fmt::Display) -> String {
    format!("user#{id}")
}

fn reset_pk(token: &SecretHash) -> String {
    format!("reset#{}", token.encode())
}

fn email_change_pk(token: &SecretHash) -> String {
    format!("email-change#{}", token.encode())
}

fn identity_pk(identity: &Identity) -> String {
    format!("identity#{}", identity.key())
}

/// Of an account's set of identities, one.
fn set_of(identity: &Identity) -> AttributeValue {
    AttributeValue::Ss(vec![identity.key()])
}

fn email_pk(email: &EmailAddress) -> String {
    format!("email#{}", email.key())
}

fn username_pk(username: &Username) -> String {
    format!("username#{}", username.key())
}

fn verify_pk(token: &SecretHash) -> String {
    format!("verify#{}", token.encode())
}
