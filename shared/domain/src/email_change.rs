//! Another mail address: asked for by who is signed in and knows the password, and made by who reads the new address's
//! mails, signed in to the same account. The old address is told.
//!
//! An account without a password is one that its owner signs in to elsewhere, and has just done so.
//!
//! Who asks is not told whether somebody has the address: its owner is. And who gives the code of a mail to another, or
//! is led to enter it, gives no account but their own that address.
//!
//! A token is about an account as it was when the mail was written, as in [`crate::password_reset`]: who takes an account
//! back by another password has thereby undone what somebody else asked for.

use std::future::Future;

use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::Caller,
    account::{Account, AccountFinder},
    error::{Invalid, Kind},
    input::{Fields, parsed},
    mail::{self, EmailAddress, Mail, Mailer},
    password::Password,
    password_change::must_know_password,
    rate_limit::{self, RateLimiter},
    secret::{Secret, SecretHash},
    session::{self, AccountReader, Sessions},
    time::{self, Timestamp},
};

/// How long the token of a mail is good, in seconds: a day.
pub const EMAIL_CHANGE_SECONDS: u64 = 24 * 60 * 60;

/// A new address, and the password, where there is one.
#[derive(Clone, Debug)]
pub struct EmailChange {
    email: EmailAddress,
    password: Option<Password>,
}

impl EmailChange {
    /// Reads the body of `request-email-change`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = fields.required("email", parsed(str::parse));
        let password = fields.optional("password", Password::read);
        let Some(email) = email else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { email, password })
    }
}

/// Makes tokens.
pub trait EmailChangeTokens: Sync {
    /// Stores a token with which an account gets this address until then, as long as it has the address and the password
    /// that it has now.
    fn issue(
        &self,
        account: &Account,
        email: &EmailAddress,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Takes tokens.
pub trait EmailChanges: Sync {
    /// The account of a token that is good, and the address that it gets. Read consistently.
    fn find(
        &self,
        token: &SecretHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<(Account, EmailAddress)>>> + Send;

    /// Uses up a token, and gives the account and its profile the new address, in one transaction; the old one is free
    /// then. Registrations of the new one that wait for their mail are void.
    fn confirm(
        &self,
        token: &SecretHash,
        account: &Account,
        email: &EmailAddress,
    ) -> impl Future<Output = Result<EmailChanged>> + Send;
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailChanged {
    /// It is made.
    Done,
    /// Somebody has shown that the address is theirs.
    Taken,
    /// The token was used, or the account is another one than was found.
    Superseded,
}

/// Asks for another address of the caller's account: mails a token to it. Where it is somebody else's, they are told, by
/// as much work and as many mails, and the caller is answered the same.
pub async fn ask(
    accounts: &(impl AccountReader + AccountFinder + EmailChangeTokens),
    sessions: &impl Sessions,
    mailer: &impl Mailer,
    limiter: &impl RateLimiter,
    caller: &Caller,
    change: &EmailChange,
    now: Timestamp,
) -> Result<()> {
    let EmailChange { email, password } = change;
    let owner = caller.user_id;
    let account = accounts.get(owner).await?.ok_or_else(|| Refusal::not_found("account"))?;
    match (password, &account.password) {
        (Some(password), Some(_)) => must_know_password(limiter, &account, password, "/password").await?,
        (None, None) => session::must_be_fresh(sessions, &account, caller, now).await?,
        (None, Some(_)) => return Err(refused("required", "is required")),
        (Some(_), None) => return Err(refused("password_missing", "this account has none: leave it out")),
    }
    if account.email.as_ref() == Some(email) {
        let detail = "this is the address of the account";
        return Err(Refusal::new(Kind::Conflict, "email_unchanged", detail).into());
    }
    rate_limit::check(limiter, rate_limit::MAIL_TO_ADDRESS, &email.key()).await?;
    let found = accounts.find(email, now).await?;
    let other = found.into_iter().find(|other| other.email_verified && other.user_id != owner);
    // Also where nobody gets it: so it takes as long.
    let token = Secret::random()?;
    accounts.issue(&account, email, &token.hash(), time::after(now, EMAIL_CHANGE_SECONDS)).await?;
    let mail = match other.and_then(|other| Some((other.email?, other.username))) {
        Some((theirs, username)) => Mail::email_asked_for(theirs, &username, now),
        None => Mail::email_change(email.clone(), &account.username, &token),
    };
    let sent = mailer.send(&mail).await;
    sent.map_err(|error| mail::not_sent(&error, owner, "the mail could not be sent; ask again"))?;
    Ok(())
}

fn refused(code: &'static str, detail: &str) -> crate::Error {
    Refusal::invalid(vec![Invalid::new(code, detail).at("/password")]).into()
}

/// Reads the body of `confirm-email-change`: the token of the mail.
pub fn token_from_json(body: &Value) -> Result<SecretHash, Refusal> {
    mail::token_from_json(body, token_invalid)
}

fn token_invalid() -> Refusal {
    // Where the answer to a first try got lost, the address is changed.
    let detail = "the token is not valid for this account, or no longer: look at your profile, or ask for another mail";
    Refusal::new(Kind::Malformed, "token_invalid", detail)
}

/// Changes the caller's address with the token of its mail, and tells the old one. For another account than the caller's
/// the token is of no use, and stays good.
pub async fn confirm(
    changes: &impl EmailChanges,
    mailer: &impl Mailer,
    caller: &Caller,
    token: &SecretHash,
    now: Timestamp,
) -> Result<()> {
    let found = changes.find(token, now).await?;
    let asked_by_caller = found.filter(|(account, _)| account.user_id == caller.user_id);
    let (account, email) = asked_by_caller.ok_or_else(token_invalid)?;
    match changes.confirm(token, &account, &email).await? {
        EmailChanged::Done => {}
        EmailChanged::Taken => {
            let detail = "somebody has registered with this address";
            return Err(Refusal::new(Kind::Conflict, "email_taken", detail).into());
        }
        EmailChanged::Superseded => return Err(token_invalid().into()),
    }
    mail::tell(mailer, &account, |old| Mail::email_changed(old, &account.username, now)).await;
    Ok(())
}
