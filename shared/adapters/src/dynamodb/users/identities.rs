//! Outside identities of accounts: each has a marker, by which its account is found, and which stays for a while where the
//! account is closed.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use serde::Deserialize;
use tocsin_domain::{
    Error, Result,
    account::Account,
    export::IdentityReader,
    identity::{Holder, Identities, Identity, LEFT_SECONDS, Linked, NewIdentity},
    ids::UserId,
    person::Profile,
    time::{self, Timestamp},
};

use super::{
    super::{Action, Item, Transacted, key, number, read_all, text},
    Newcomers, UsersTable, user_pk,
};

/// An identity's marker.
#[derive(Deserialize)]
#[serde(untagged)]
enum Marker {
    /// The account's whose it is. It also says whose identity it is: its owner may ask for all that is stored.
    Held { user_id: UserId, issuer: String, subject: String },
    /// Of who has left: when, in milliseconds of the epoch, and nothing else of them.
    Left { left_at: i64 },
}

impl UsersTable {
    fn put_identity(&self, identity: &Identity, owner: UserId) -> Action {
        let attributes = Item::from([
            ("user_id".to_owned(), text(owner)),
            ("issuer".to_owned(), text(identity.issuer())),
            ("subject".to_owned(), text(identity.subject())),
        ]);
        self.put(identity_pk(&identity.key()), attributes, None)
    }

    /// Marks an identity of this hash as left by its owner.
    pub(super) fn leave_identity(&self, hash: &str, owner: UserId, now: Timestamp) -> Action {
        let left = Item::from([("left_at".to_owned(), number(now.as_millisecond()))]);
        let left = self.put(identity_pk(hash), left, Some(time::after(now, LEFT_SECONDS)));
        left.on("attribute_not_exists(pk) OR user_id = :owner").with(":owner", text(owner))
    }
}

impl Identities for Newcomers {
    async fn find(&self, identity: &Identity) -> Result<Holder> {
        let marker = self.users.table.get(key(identity_pk(&identity.key()))).await?;
        let marker = marker.map(|item| read_all("an identity", item)).transpose()?;
        match marker {
            None => Ok(Holder::Nobody),
            Some(Marker::Left { left_at }) => {
                let at = Timestamp::from_millisecond(left_at);
                Ok(Holder::Left(at.map_err(|error| Error::unreadable("an identity", error))?))
            }
            Some(Marker::Held { user_id, .. }) => {
                let account = self.users.account(&user_id.to_string()).await?;
                Ok(account.map_or(Holder::Nobody, Holder::Account))
            }
        }
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
        let marker = marker
            .on("attribute_not_exists(pk) OR attribute_exists(left_at) OR user_id = :owner")
            .with(":owner", text(id));
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
        left_at: Option<Timestamp>,
        profile: &Profile,
    ) -> Result<NewIdentity> {
        let users = &self.users;
        let marker = users.put_identity(identity, account.user_id);
        let marker = match left_at {
            Some(at) => marker.on("left_at = :left_at").with(":left_at", number(at.as_millisecond())),
            None => marker.on("attribute_not_exists(pk)"),
        };
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

impl IdentityReader for UsersTable {
    async fn of(&self, owner: UserId) -> Result<Vec<Identity>> {
        let Some(account) = self.table.get(key(user_pk(owner))).await? else { return Ok(Vec::new()) };
        let hashes = hashes(&account);
        // A few: one for each issuer that somebody signs in with.
        let markers = hashes.map(|hash| self.table.get(key(identity_pk(hash))));
        let mut identities = Vec::new();
        for marker in try_join_all(markers).await?.into_iter().flatten() {
            // The account may be closed meanwhile.
            let Marker::Held { issuer, subject, .. } = read_all("an identity", marker)? else { continue };
            let identity = Identity::new(issuer, subject);
            identities.push(identity.map_err(|error| Error::unreadable("an identity", error))?);
        }
        Ok(identities)
    }
}

/// Of an account: the hashes of its identities, a set.
pub(super) const IDENTITIES: &str = "identities";

/// Those of an account's item.
pub(super) fn hashes(account: &Item) -> impl Iterator<Item = &String> {
    account.get(IDENTITIES).and_then(|set| set.as_ss().ok()).into_iter().flatten()
}

/// Of an account's set of identities, one.
fn set_of(identity: &Identity) -> AttributeValue {
    AttributeValue::Ss(vec![identity.key()])
}

fn identity_pk(hash: &str) -> String {
    format!("identity#{hash}")
}
