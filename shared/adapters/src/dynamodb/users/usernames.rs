//! Names of accounts. A name is one account's: the one that has it, or for a while the one that had it before.

use serde::Deserialize;
use tocsin_domain::{
    Result,
    account::{Account, FORMER_USERNAME_SECONDS, Username},
    ids::UserId,
    mail::EmailAddress,
    time::{self, Timestamp},
};

use super::{
    super::{Action, Item, key, number, read_all, text},
    UsersTable, user_pk,
};

/// A name's marker.
#[derive(Deserialize)]
pub(super) struct Name {
    user_id: Option<UserId>,
    email_key: Option<String>,
    expires_at: Option<i64>,
}

impl Name {
    /// As in [`free_name`].
    pub(super) fn is_free_for(&self, email: &EmailAddress, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires| {
            expires <= now.as_second() || self.email_key.as_deref() == Some(&*email.key())
        })
    }
}

/// Only if the name is nobody's, and not reserved for another address, or for who had it before.
pub(super) fn free_name(action: Action, account: &Account, now: Timestamp) -> Action {
    let free = "attribute_not_exists(pk) OR expires_at <= :now";
    let action = action.with(":now", number(now.as_second()));
    match &account.email {
        Some(email) => action
            .on(&format!("{free} OR (attribute_exists(expires_at) AND email_key = :email)"))
            .with(":email", text(email.key())),
        None => action.on(free),
    }
}

/// What is done in the accounts for another username.
#[derive(Debug)]
pub(crate) struct Renaming {
    pub(crate) actions: Vec<Action>,
    /// Whether the last of them takes a name, and fails where that is somebody's. One may write one's own in another way.
    pub(crate) takes_name: bool,
}

impl UsersTable {
    /// What is done for another username of somebody; none, if they have no account (any more). Who does it holds on to
    /// `old`, in the same transaction.
    pub(crate) async fn renaming(
        &self,
        owner: UserId,
        old: &Username,
        new: &Username,
        now: Timestamp,
    ) -> Result<Option<Renaming>> {
        let Some(account) = self.account(&owner.to_string()).await? else { return Ok(None) };
        let change = |expression| {
            let update = self.table.update(key(user_pk(owner)), expression).on("attribute_exists(pk)");
            update.with(":username", text(new))
        };
        if old.key() == new.key() {
            let actions = vec![change("SET username = :username")];
            return Ok(Some(Renaming { actions, takes_name: false }));
        }
        let set = change("SET username = :username, former_username = :old").with(":old", text(old));
        let until = time::after(now, FORMER_USERNAME_SECONDS);
        let reserved = Item::from([("user_id".to_owned(), text(owner))]);
        let reserve = self.put(username_pk(old), reserved, Some(until)).on("user_id = :owner");
        let mut actions = vec![set, reserve.with(":owner", text(owner))];
        // The one that they take back is not freed. Nor is `old`, where they have another by now: then none of this is done.
        let is_another = |former: &&Username| former.key() != new.key() && former.key() != old.key();
        let freed = self.former_username(&account).await?.filter(is_another);
        actions.extend(freed.map(|former| self.free(former, owner)));
        let take = self.put_marker(username_pk(new), owner);
        let take = take.on("attribute_not_exists(pk) OR expires_at <= :now OR user_id = :owner");
        actions.push(take.with(":now", number(now.as_second())).with(":owner", text(owner)));
        Ok(Some(Renaming { actions, takes_name: true }))
    }

    /// The name that an account had before, if it is not somebody else's by now.
    pub(super) async fn former_username<'a>(&self, account: &'a Account) -> Result<Option<&'a Username>> {
        let Some(former) = &account.former_username else { return Ok(None) };
        let marker = self.table.get(key(username_pk(former))).await?;
        let name: Option<Name> = marker.map(|item| read_all("a name", item)).transpose()?;
        let is_theirs = name.is_some_and(|name| name.user_id == Some(account.user_id));
        Ok(is_theirs.then_some(former))
    }

    /// Frees a name of an account; it may be free already.
    pub(super) fn free(&self, name: &Username, owner: UserId) -> Action {
        let free = self.table.delete(key(username_pk(name)));
        free.on("attribute_not_exists(pk) OR user_id = :owner").with(":owner", text(owner))
    }
}

pub(super) fn username_pk(username: &Username) -> String {
    format!("username#{}", username.key())
}
