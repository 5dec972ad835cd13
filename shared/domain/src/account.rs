//! Accounts: who a person is to Tocsin, and how they show it.

use std::{fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::{Role, TokenSigner},
    error::{Invalid, Kind},
    ids::UserId,
    input::{Fields, parsed},
    mail::{self, EmailAddress, Mail, Mailer},
    password::{Password, PasswordHash, PasswordMark},
    rate_limit::{self, RateLimiter},
    secret::{Secret, SecretHash},
    session::{self, Origin, SessionKeeper, Sessions, Tokens},
    time::{self, Timestamp},
};

/// How long the token of a verification mail is good, and a registration waits for it, in seconds: a day.
pub const VERIFICATION_SECONDS: u64 = 24 * 60 * 60;

/// How long a name that its owner gave up for another is reserved for them, in seconds: 30 days. Until then nobody else can
/// pose as who others know by it.
pub const FORMER_USERNAME_SECONDS: u64 = 30 * 24 * 60 * 60;

/// A name that others see: 3 to 30 of `A-Z`, `a-z`, `0-9`, `_`, `.` and `-`, with a letter or digit. No two people's differ by case alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

impl Username {
    /// What tells two names apart.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for Username {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        // Nobody is found by signs alone.
        let has_a_word = text.contains(|c: char| c.is_ascii_alphanumeric());
        if (3..=30).contains(&text.len()) && text.chars().all(allowed) && has_a_word {
            Ok(Self(text.to_owned()))
        } else {
            let detail = "must be 3 to 30 of A-Z, a-z, 0-9, _, . and -, and have a letter or digit";
            Err(Invalid::new("invalid_username", detail))
        }
    }
}

impl TryFrom<String> for Username {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Username> for String {
    fn from(name: Username) -> Self {
        name.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An account, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub user_id: UserId,
    /// Its mail address. Who came by an outside identity may have none.
    pub email: Option<EmailAddress>,
    /// Whether the address was shown to be theirs. Only a registration may have one that was not.
    pub email_verified: bool,
    /// Its name.
    pub username: Username,
    /// The name before it, if it had another: reserved for its owner for [`FORMER_USERNAME_SECONDS`]. Only one is, so that
    /// nobody keeps names from others by taking many in turn.
    pub former_username: Option<Username>,
    /// Its password. Who came by an outside identity has none, until they choose one.
    pub password: Option<PasswordHash>,
    /// What its owner may do.
    pub roles: Vec<Role>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Account {
    /// Which password it has, if it has one.
    #[must_use]
    pub fn password_mark(&self) -> Option<PasswordMark> {
        self.password.as_ref().map(PasswordHash::mark)
    }
}

/// What a person asks to be registered with.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Their mail address.
    pub email: EmailAddress,
    /// Their password.
    pub password: Password,
    /// Their name.
    pub username: Username,
}

impl Registration {
    /// Reads the body of `register`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = fields.required("email", parsed(str::parse::<EmailAddress>));
        let password = fields.required("password", Password::read_new);
        let username = fields.required("username", parsed(str::parse::<Username>));
        let (Some(email), Some(password), Some(username)) = (email, password, username) else {
            return Err(fields.refusal());
        };
        fields.finish()?;
        Ok(Self { email, password, username })
    }
}

/// The most registrations of one address that are remembered for [`login`] to say that they wait: the newest. Their
/// tokens are good whatever their number.
pub const MOST_WAITING: usize = 3;

/// Registers accounts.
///
/// Whoever types an address may register it, and only its owner reads the mails. So registrations of one address stand
/// side by side, each with its own password and name, and none changes another: the token of a mail verifies what that
/// mail is about, and then the others are void.
pub trait Registrations: Sync {
    /// What would become of a registration now; nothing is stored. Somebody else may still be faster.
    fn foresee(
        &self,
        email: &EmailAddress,
        username: &Username,
        now: Timestamp,
    ) -> impl Future<Output = Result<Registered>> + Send;

    /// Stores an account that is not verified yet, until `expires_at`, in one transaction. Until then its name is
    /// reserved for its address, which may register it again.
    fn register(
        &self,
        account: &Account,
        token: &SecretHash,
        expires_at: Timestamp,
    ) -> impl Future<Output = Result<Registered>> + Send;
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is stored.
    Stored,
    /// Somebody has shown that the address is theirs.
    EmailTaken,
    /// Somebody has this name, or it is reserved for another address, or for who had it before.
    UsernameTaken,
}

/// Verifies addresses.
pub trait Verifications: Sync {
    /// Uses up a token, and makes what it was registered with an account that does not expire, in one transaction.
    /// Answers the account, or none where no such token is good, or its address was verified with another one.
    fn verify(
        &self,
        token: &SecretHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Account>>> + Send;
}

/// Finds accounts by their address.
pub trait AccountFinder: Sync {
    /// The verified account of an address; if there is none, those that wait to be, the newest first, at most
    /// [`MOST_WAITING`]. Read consistently, and with as many reads where there is nothing.
    fn find(&self, email: &EmailAddress, now: Timestamp)
    -> impl Future<Output = Result<Vec<Account>>> + Send;
}

/// Gives roles.
pub trait RoleEditor: Sync {
    /// Gives an account these roles.
    fn set_roles(&self, id: UserId, roles: &[Role]) -> impl Future<Output = Result<()>> + Send;
}

/// Registers a person, and sends them a token by mail. Whoever did not get it registers again.
pub async fn register(
    registrations: &impl Registrations,
    mailer: &impl Mailer,
    limiter: &impl RateLimiter,
    registration: Registration,
    address: &str,
    now: Timestamp,
) -> Result<UserId> {
    rate_limit::check(limiter, rate_limit::SIGN_UP, address).await?;
    let Registration { email, password, username } = registration;
    // To judge a password takes some ms, so it is counted before; and is done before a mail is counted, so that who has
    // to think of several passwords still gets one.
    let common = password.must_not_be_common(&[email.as_str(), &username.0, "tocsin"]);
    common.map_err(|common| Refusal::invalid(vec![common.at("/password")]))?;
    // So does who has to think of several names; and nobody is kept out by others' names.
    must_be_stored(registrations.foresee(&email, &username, now).await?)?;
    rate_limit::check(limiter, rate_limit::MAIL_TO_ADDRESS, &email.key()).await?;
    let token = Secret::random()?;
    let account = Account {
        user_id: UserId::new(now),
        email: Some(email.clone()),
        email_verified: false,
        username,
        former_username: None,
        password: Some(password.hash()?),
        roles: vec![Role::User],
        created_at: now,
    };
    let expires_at = time::after(now, VERIFICATION_SECONDS);
    must_be_stored(registrations.register(&account, &token.hash(), expires_at).await?)?;
    let mail = Mail::verification(email, &account.username, &token, now);
    let sent = mailer.send(&mail).await;
    let detail = "the mail could not be sent; register again";
    sent.map_err(|error| mail::not_sent(&error, account.user_id, detail))?;
    Ok(account.user_id)
}

fn must_be_stored(registered: Registered) -> Result<(), Refusal> {
    let (code, detail) = match registered {
        Registered::Stored => return Ok(()),
        Registered::EmailTaken => ("email_taken", "somebody has registered with this address"),
        Registered::UsernameTaken => ("username_taken", "somebody has this name; choose another"),
    };
    Err(Refusal::new(Kind::Conflict, code, detail))
}

/// Reads the body of `verify-email`: the token of the mail.
pub fn token_from_json(body: &Value) -> Result<SecretHash, Refusal> {
    mail::token_from_json(body, token_invalid)
}

fn token_invalid() -> Refusal {
    // Where the answer to a first try got lost, the account is there.
    let detail = "the token is not valid, or no longer: sign in, or register again";
    Refusal::new(Kind::Malformed, "token_invalid", detail)
}

/// Verifies an address with the token of its mail, and signs its owner in.
pub async fn verify_email(
    verifications: &impl Verifications,
    sessions: &(impl Sessions + SessionKeeper),
    signer: &TokenSigner,
    token: &SecretHash,
    origin: &Origin,
    now: Timestamp,
) -> Result<Tokens> {
    let account = verifications.verify(token, now).await?.ok_or_else(token_invalid)?;
    session::begin(sessions, signer, &account, origin, now).await
}

/// What a person signs in with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Their mail address.
    pub email: EmailAddress,
    /// Their password.
    pub password: Password,
}

impl Credentials {
    /// Reads the body of `login`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let email = fields.required("email", parsed(str::parse));
        let password = fields.required("password", Password::read);
        let (Some(email), Some(password)) = (email, password) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { email, password })
    }
}

/// Signs a person in. That there is no such account takes as long, and sounds the same, as a wrong password: as long as
/// to compare it with all that may wait.
pub async fn login(
    accounts: &impl AccountFinder,
    sessions: &(impl Sessions + SessionKeeper),
    limiter: &impl RateLimiter,
    signer: &TokenSigner,
    credentials: &Credentials,
    origin: &Origin,
    now: Timestamp,
) -> Result<Tokens> {
    let address = &origin.address;
    rate_limit::check(limiter, rate_limit::SIGN_IN_FROM_ADDRESS, address).await?;
    let email = credentials.email.key();
    rate_limit::check(limiter, rate_limit::SIGN_IN_TO_ACCOUNT_FROM_ADDRESS, &format!("{email} {address}"))
        .await?;
    rate_limit::check(limiter, rate_limit::SIGN_IN_TO_ACCOUNT, &email).await?;
    let found = accounts.find(&credentials.email, now).await?;
    let right = (0..MOST_WAITING).find(|place| {
        credentials.password.is(found.get(*place).and_then(|account| account.password.as_ref()))
    });
    let Some(account) = right.and_then(|place| found.get(place)) else {
        let detail = "there is no account with this address and password";
        return Err(Refusal::new(Kind::Unauthenticated, "credentials_invalid", detail).into());
    };
    if !account.email_verified {
        let detail = "enter the code of the mail that we sent you, or register again for a new one";
        return Err(Refusal::new(Kind::Forbidden, "email_not_verified", detail).into());
    }
    session::begin(sessions, signer, account, origin, now).await
}
