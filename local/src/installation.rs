//! What a new installation needs in its tables before people can use it: categories to post under, and an admin.

use anyhow::{Context as _, Result, anyhow, bail};
use tocsin_domain::{
    access_token::Role,
    account::{Account, AccountFinder, RoleEditor},
    category::{self, Categories, Category, CategoryEditor},
    mail::EmailAddress,
    time,
};

/// The first categories that are not in the list yet.
pub async fn missing_categories(table: &impl Categories) -> Result<Vec<Category>> {
    let known = table.all().await?;
    let is_known = |first: &Category| known.iter().any(|category| category.category == first.category);
    Ok(category::initial().into_iter().filter(|first| !is_known(first)).collect())
}

/// Adds the first categories that are not in the list yet, and says which. Those that are there stay as they are.
pub async fn add_categories(table: &(impl Categories + CategoryEditor)) -> Result<Vec<Category>> {
    let missing = missing_categories(table).await?;
    for category in &missing {
        table.put(category).await?;
    }
    Ok(missing)
}

/// The account of an address that its owner has shown to be theirs.
pub async fn verified_account(users: &impl AccountFinder, email: &str) -> Result<Account> {
    let address: EmailAddress = email.parse().map_err(|_| anyhow!("{email} is not a mail address"))?;
    let found = users.find(&address, time::now()).await?;
    let account = found
        .into_iter()
        .next()
        .with_context(|| format!("nobody has registered as {email}: register first"))?;
    if !account.email_verified {
        bail!("{email} is not verified: enter the token of its mail first");
    }
    Ok(account)
}

/// Whether an account may do all that an admin may.
#[must_use]
pub fn is_admin(account: &Account) -> bool {
    ADMIN_ROLES.iter().all(|role| account.roles.contains(role))
}

/// Gives the account of an address the roles moderator and admin, and says whether it lacked any. Access tokens know
/// from their next renewal on.
pub async fn grant_admin(users: &(impl AccountFinder + RoleEditor), email: &str) -> Result<bool> {
    let account = verified_account(users, email).await?;
    if is_admin(&account) {
        return Ok(false);
    }
    let mut roles = [account.roles.as_slice(), &ADMIN_ROLES].concat();
    roles.sort_unstable();
    roles.dedup();
    users.set_roles(account.user_id, &roles).await?;
    Ok(true)
}

const ADMIN_ROLES: [Role; 2] = [Role::Moderator, Role::Admin];
