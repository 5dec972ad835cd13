//! A forgotten password: a mail brings a token, and the token another password.
//!
//! Whoever asks is told the same after the same work, whether or not there is an account: the request puts the address
//! into a queue, and looks at nothing. What comes of it, only the mailbox's owner sees.
//!
//! A token is about an account as it was when the mail was written. Once its password or its address is another one, by
//! this token or in any other way, it is of no more use; so of several, one can be used.

use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    account::{Account, AccountFinder},
    error::Kind,
    input::{Fields, parsed, text},
    mail::{self, EmailAddress, Mail, Mailer},
    password::{Password, PasswordHash},
    rate_limit::{self, RateLimiter},
    secret::{Secret, SecretHash},
    session::{self, SessionKeeper},
    time::{self, Timestamp},
};

/// How long the token of a mail is good, in seconds: an hour.
pub const RESET_SECONDS: u64 = 60 * 60;

/// Somebody's wish to set another password for the account of an address: a message of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetRequest {
    /// The address.
    pub email: EmailAddress,
}

impl ResetRequest {
    /// Reads the body of `request-password-reset`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = fields.required("email", parsed(str::parse));
        let Some(email) = email else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { email })
    }
}

/// The queue of requests.
pub trait ResetQueue: Sync {
    /// Returns once the request is kept.
    fn enqueue(&self, request: &ResetRequest) -> impl Future<Output = Result<()>> + Send;
}

/// Makes tokens.
pub trait ResetTokens: Sync {
    /// Stores a token that is good for an account until then, as long as it has the address and the password that it has
    /// now.
    fn issue(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Takes tokens.
pub trait PasswordResets: Sync {
    /// The account of a token that is good. Read consistently.
    fn find(
        &self,
        token: &SecretHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>>> + Send;

    /// Uses up a token, and gives the account another password, in one transaction; answers whether the token was still
    /// there, and the account as it was found.
    fn confirm(
        &self,
        token: &SecretHash,
        account: &Account,
        password: &PasswordHash,
    ) -> impl Future<Output = Result<bool>> + Send;
}

/// Takes a request. That it was taken says nothing about whether there is such an account.
pub async fn ask(
    queue: &impl ResetQueue,
    limiter: &impl RateLimiter,
    request: &ResetRequest,
    address: &str,
) -> Result<()> {
    rate_limit::check(limiter, rate_limit::RESET_FROM_ADDRESS, address).await?;
    rate_limit::check(limiter, rate_limit::RESET_OF_ACCOUNT, &request.email.key()).await?;
    queue.enqueue(request).await
}

/// Does what was asked for: mails a token, if the address has an account that it was shown to belong to. Done twice, it
/// mails twice.
pub async fn mail_token(
    accounts: &(impl AccountFinder + ResetTokens),
    mailer: &impl Mailer,
    request: &ResetRequest,
    now: Timestamp,
) -> Result<()> {
    let found = accounts.find(&request.email, now).await?.into_iter().next();
    let Some(account) = found.filter(|account| account.email_verified) else { return Ok(()) };
    // Where the request has the address in another case, the mail goes to the one that was verified.
    let Some(email) = account.email.clone() else { return Ok(()) };
    let token = Secret::random()?;
    accounts.issue(&account, &token.hash(), time::after(now, RESET_SECONDS)).await?;
    mailer.send(&Mail::password_reset(email, &account.username, &token)).await
}

/// A token, and the password to set with it.
#[derive(Clone, Debug)]
pub struct Reset {
    token: SecretHash,
    password: Password,
}

impl Reset {
    /// Reads the body of `confirm-password-reset`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let token = fields.required("token", text(1, 200));
        let password = fields.required("password", Password::read_new);
        let (Some(token), Some(password)) = (token, password) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { token: Secret::decode(&token).ok_or_else(token_invalid)?.hash(), password })
    }
}

fn token_invalid() -> Refusal {
    // Where the answer to a first try got lost, the password is set.
    let detail =
        "the token is not valid, or no longer: sign in with the new password, or ask for another mail";
    Refusal::new(Kind::Malformed, "token_invalid", detail)
}

/// Sets a password with the token of a mail, ends all sessions, and tells the owner.
pub async fn confirm(
    resets: &impl PasswordResets,
    sessions: &impl SessionKeeper,
    mailer: &impl Mailer,
    limiter: &impl RateLimiter,
    reset: &Reset,
    address: &str,
    now: Timestamp,
) -> Result<()> {
    rate_limit::check(limiter, rate_limit::SIGN_IN_FROM_ADDRESS, address).await?;
    let Reset { token, password } = reset;
    let account = resets.find(token, now).await?.ok_or_else(token_invalid)?;
    let common = password.must_not_be_common_of(&account);
    common.map_err(|common| Refusal::invalid(vec![common.at("/password")]))?;
    if !resets.confirm(token, &account, &password.hash()?).await? {
        return Err(token_invalid().into());
    }
    // They are of no more use since the password is another one: this takes them out of the list.
    if let Err(error) = session::end_all(sessions, account.user_id, None, now).await {
        tracing::warn!(%error, user_id = %account.user_id, "sessions without use are still listed");
    }
    mail::tell(mailer, &account, |email| Mail::password_changed(email, &account.username, now)).await;
    Ok(())
}
