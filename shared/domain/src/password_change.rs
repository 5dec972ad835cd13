//! Another password, by who knows the one before.

use std::future::Future;

use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::Caller,
    account::Account,
    error::{Invalid, Kind},
    ids::UserId,
    input::Fields,
    mail::{self, Mail, Mailer},
    password::{Password, PasswordHash},
    rate_limit::{self, RateLimiter},
    session::{self, AccountReader, SessionPasswords},
    time::Timestamp,
};

/// The password before, and another one.
#[derive(Clone, Debug)]
pub struct PasswordChange {
    current: Password,
    new: Password,
}

impl PasswordChange {
    /// Reads the body of `change-password`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let current = fields.required("current_password", Password::read);
        let new = fields.required("new_password", Password::read_new);
        let (Some(current), Some(new)) = (current, new) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { current, new })
    }
}

/// Changes passwords.
pub trait PasswordEditor: AccountReader {
    /// Gives an account another password; answers whether it had `old` until then. Where it had not, it may have `new` all
    /// the same, from a first try whose answer was lost.
    fn set_password(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> impl Future<Output = Result<bool>> + Send;
}

/// Changes the caller's password, ends their other sessions, and tells them by mail.
pub async fn change(
    accounts: &impl PasswordEditor,
    sessions: &impl SessionPasswords,
    mailer: &impl Mailer,
    limiter: &impl RateLimiter,
    caller: &Caller,
    change: &PasswordChange,
    now: Timestamp,
) -> Result<()> {
    let owner = caller.user_id;
    let account = accounts.get(owner).await?.ok_or_else(|| Refusal::not_found("account"))?;
    let Some(old) = &account.password else {
        let detail = "this account has no password: ask for one by mail, with password-reset";
        return Err(Refusal::new(Kind::Conflict, "password_missing", detail).into());
    };
    must_know_password(limiter, &account, &change.current, "/current_password").await?;
    let common = change.new.must_not_be_common_of(&account);
    common.map_err(|common| Refusal::invalid(vec![common.at("/new_password")]))?;
    let new = change.new.hash()?;
    // First, so that there is no instant at which this session is not good. Should the password not change, no account ever
    // has this one: each hash has a salt of its own.
    if let Some(current) = caller.session_id {
        sessions.keep_for(owner, current, &new.mark()).await?;
    }
    let is_changed = accounts.set_password(owner, old, &new).await? || has(accounts, owner, &new).await?;
    // Of the two, one is no account's (any more). From here on the other sessions are of no use, whatever happens.
    let void = if is_changed { old.mark() } else { new.mark() };
    let tidied = async {
        if let Some(current) = caller.session_id {
            sessions.forget(owner, current, &void).await?;
        }
        if is_changed { session::end_all(sessions, owner, caller.session_id, now).await } else { Ok(()) }
    };
    if let Err(error) = tidied.await {
        tracing::warn!(%error, user_id = %owner, "sessions without use, or marks of passwords, are still kept");
    }
    if !is_changed {
        return Err(password_wrong("/current_password").into());
    }
    mail::tell(mailer, &account, |email| Mail::password_changed(email, &account.username, now)).await;
    Ok(())
}

/// Whether an account has this password. It may, though it was not set: where that was tried again, since the answer to the
/// first try was lost, the storage refuses to do what it has done. No other change has this hash, with its salt.
async fn has(accounts: &impl AccountReader, id: UserId, password: &PasswordHash) -> Result<bool> {
    let account = accounts.get(id).await?;
    Ok(account.and_then(|account| account.password).as_ref() == Some(password))
}

/// Refuses who does not know the password of the account that they are signed in to: who found a phone, say.
pub(crate) async fn must_know_password(
    limiter: &impl RateLimiter,
    account: &Account,
    password: &Password,
    pointer: &str,
) -> Result<()> {
    rate_limit::check_account(limiter, rate_limit::PASSWORD_PROOF, account.user_id).await?;
    if password.is(account.password.as_ref()) { Ok(()) } else { Err(password_wrong(pointer).into()) }
}

fn password_wrong(pointer: &str) -> Refusal {
    Refusal::invalid(vec![Invalid::new("password_wrong", "is not the password of this account").at(pointer)])
}
