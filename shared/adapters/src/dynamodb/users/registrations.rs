//! Registrations, and how they become accounts: whoever types an address may register it, and only its owner reads the mails.

use futures::future::try_join;
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Error, Result,
    account::{Account, AccountFinder, MOST_WAITING, Registered, Registrations, Username, Verifications},
    ids::UserId,
    mail::EmailAddress,
    person::Profile,
    person_search::EmailIndex,
    secret::SecretHash,
    time::Timestamp,
};

use super::{
    super::{
        Action, Item, PeopleTable, Transacted, has_expired, key, number, read_all, text, write, write_all,
    },
    MOST_TRIES, Record, UsersTable, user_pk,
    usernames::{Name, free_name, username_pk},
};
use crate::aws::failed;

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

/// Makes accounts, each with the profile of its person. It reads and writes the tables of both; who only looks for an
/// account needs but [`UsersTable`].
#[derive(Clone, Debug)]
pub struct Newcomers {
    pub(super) users: UsersTable,
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
    pub(super) fn new_account(
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

pub(super) fn email_pk(email: &EmailAddress) -> String {
    format!("email#{}", email.key())
}

fn verify_pk(token: &SecretHash) -> String {
    format!("verify#{}", token.encode())
}
