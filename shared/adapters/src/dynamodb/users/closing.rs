//! Closing an account: with it goes all that it is found by, or that would stay for good.

use tocsin_domain::{Error, Result, account::Account, departure::AccountCloser, ids::UserId, time};

use super::{
    super::{Transacted, key, read_all, text},
    MOST_TRIES, Record, UsersTable,
    identities::{IDENTITIES, hashes},
    registrations::email_pk,
    user_pk,
};

/// What an account is found by: its markers are of these.
const FOUND_BY: [&str; 4] = ["username", "former_username", "email", IDENTITIES];

impl AccountCloser for UsersTable {
    async fn close(&self, id: UserId) -> Result<()> {
        for _ in 0..MOST_TRIES {
            let Some(item) = self.table.get(key(user_pk(id))).await? else { return Ok(()) };
            let account: Account = read_all::<Record>("an account", item.clone())?.into();
            // Only as it was read: else a marker that it got in between would stay for good.
            let mut remove = self.table.delete(key(user_pk(id)));
            let mut conditions = Vec::new();
            for name in FOUND_BY {
                match item.get(name) {
                    Some(value) => {
                        conditions.push(format!("{name} = :{name}"));
                        remove = remove.with(&format!(":{name}"), value.clone());
                    }
                    None => conditions.push(format!("attribute_not_exists({name})")),
                }
            }
            let mut actions = vec![remove.on(&conditions.join(" AND "))];
            let names = [Some(&account.username), self.former_username(&account).await?];
            actions.extend(names.into_iter().flatten().map(|name| self.free(name, id)));
            actions.extend(account.email.as_ref().map(|email| {
                let free = self.table.delete(key(email_pk(email)));
                free.on("attribute_not_exists(pk) OR user_id = :owner").with(":owner", text(id))
            }));
            let now = time::now();
            actions.extend(hashes(&item).map(|hash| self.leave_identity(hash, id, now)));
            if let Transacted::Done = self.table.transact(actions).await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(self.table.service, "an account is changed by many at once"))
    }
}
