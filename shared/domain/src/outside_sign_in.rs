//! Signing in with what an issuer of OpenID Connect says of a person, who need not have an account here yet.
//!
//! An issuer vouches for a person ([`Vouched`]), in one of three ways: on the web, by a code that the browser brings and
//! that is exchanged for an identity token ([`WebSignIn`]); in an app, by an identity token that the app brings
//! ([`IdentityTokens`]); and to any function, by an access token of an issuer whose tokens we trust as our own
//! ([`OutsideTokens`]).
//!
//! Who it is here is decided in one place. The identity's account; else, where the person signs in, the account whose
//! proven address is the one that the issuer has proven too; else a new one. An address that the issuer has *not* proven
//! may be anybody's: it opens no account, and none is made with it.

use std::future::Future;

use rand::Rng as _;
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    access_token::Role,
    account::{Account, AccountFinder, Username},
    error::Kind,
    identity::{Holder, Identities, Identity, Linked, NewIdentity},
    ids::UserId,
    input::{Fields, text},
    mail::EmailAddress,
    person::Profile,
    person_search::folded,
    profile_patch::{MOST_OF_NAME, stays_in_line},
    rate_limit,
    secret::{Secret, SecretHash},
    time::Timestamp,
};

/// What an issuer says of a person, verified to be its word, meant for us, and of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Who it is to the issuer.
    pub identity: Identity,
    /// When the person showed the issuer who they are, as far as it tells: the token's `auth_time` (OpenID Connect Core 1.0,
    /// 2), which stays through refreshes; where it has none, when the token was made, its `iat`.
    pub signed_in_at: Timestamp,
    /// The mail address, if it tells one.
    pub email: Option<EmailAddress>,
    /// Whether the issuer has shown that the address is theirs.
    pub email_verified: bool,
    /// What they want to be called, if it tells.
    pub preferred_username: Option<String>,
    /// The names, as far as it tells them.
    pub name: PersonName,
}

/// The names of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonName {
    /// The first name.
    pub first: Option<String>,
    /// The last name.
    pub last: Option<String>,
}

/// Verifies identity tokens that apps bring.
pub trait IdentityTokens: Sync {
    /// What the issuer says with a token of its own, that is for one of our apps, and was made lately.
    fn verify(&self, token: &str, now: Timestamp) -> impl Future<Output = Result<Vouched>> + Send;
}

/// Signs people in on the web: the authorization code flow of OpenID Connect Core 1.0, 3.1.
pub trait WebSignIn: Sync {
    /// Where the browser is sent to.
    fn authorization_url(&self, attempt: &WebAttempt) -> impl Future<Output = Result<String>> + Send;

    /// What the issuer says for the code that the browser came back with. A code that it does not take (any more) is a
    /// refusal.
    fn exchange(
        &self,
        code: &str,
        attempt: &WebAttempt,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vouched>> + Send;
}

/// How old an access token of a trusted issuer may be, in seconds: a day, which is as long as Amazon Cognito's are good at
/// most. Others may make them for longer; but it is kept for a bounded time who has left ([`crate::identity::LEFT_SECONDS`]).
/// <https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html>
pub const MOST_OF_TOKEN_AGE_SECONDS: u64 = 24 * 60 * 60;

/// Verifies access tokens of issuers that are trusted as we trust ourselves.
pub trait OutsideTokens: Sync {
    /// What the issuer says; none, if the token is not of a trusted issuer, or not good, or older than
    /// [`MOST_OF_TOKEN_AGE_SECONDS`].
    fn verify(&self, token: &str, now: Timestamp) -> impl Future<Output = Result<Option<Vouched>>> + Send;
}

/// One attempt of one browser to sign in.
///
/// All that binds the issuer's answer to it is told from one secret, which the browser keeps in a cookie: so nothing of it
/// is stored with us, and an answer is of use in that browser alone.
#[derive(Clone, Debug)]
pub struct WebAttempt(Secret);

impl WebAttempt {
    /// A new one.
    pub fn new() -> Result<Self> {
        Secret::random().map(Self)
    }

    /// The one of a cookie's value.
    #[must_use]
    pub fn of_cookie(value: &str) -> Option<Self> {
        Secret::decode(value).map(Self)
    }

    /// The value of its cookie.
    #[must_use]
    pub fn cookie(&self) -> String {
        self.0.encode()
    }

    /// `state`: the answer is to a question of this browser (RFC 6749, 10.12).
    #[must_use]
    pub fn state(&self) -> String {
        self.0.derived("state").encode()
    }

    /// `nonce`: the identity token was made for this question (OpenID Connect Core 1.0, 15.5.2).
    #[must_use]
    pub fn nonce(&self) -> String {
        self.0.derived("nonce").encode()
    }

    /// `code_verifier`: the code is exchanged by who asked for it (RFC 7636).
    #[must_use]
    pub fn code_verifier(&self) -> String {
        self.0.derived("code verifier").encode()
    }

    fn has_state(&self, state: &str) -> bool {
        // Hashes are compared in constant time.
        let hash = |text: &str| Secret::decode(text).map(|secret: Secret| -> SecretHash { secret.hash() });
        hash(state).is_some_and(|state| Some(state) == hash(&self.state()))
    }
}

/// What a browser comes back with.
#[derive(Clone, Debug)]
pub struct WebAnswer {
    /// The state that the browser was sent away with. It is there whatever the outcome (RFC 6749, 4.1.2 and 4.1.2.1).
    pub state: String,
    /// What became of it.
    pub outcome: WebOutcome,
}

/// What became of an attempt at the issuer.
#[derive(Clone, Debug)]
pub enum WebOutcome {
    /// A code.
    Code(String),
    /// The issuer's reason why there is none (RFC 6749, 4.1.2.1).
    Error(String),
}

/// The attempt of a browser that an answer is to. Anybody can write a link with an answer: what is not to an attempt of this
/// browser ends none.
pub fn answered(attempt: Option<WebAttempt>, answer: &WebAnswer) -> Result<WebAttempt, Refusal> {
    let attempt = attempt.ok_or_else(|| {
        let detail = "this browser did not begin to sign in, or it took too long; begin again";
        Refusal::new(Kind::Malformed, "sign_in_not_begun", detail)
    })?;
    if !attempt.has_state(&answer.state) {
        let detail = "the state is not the one that this browser was sent away with; begin again";
        return Err(Refusal::new(Kind::Malformed, "state_invalid", detail));
    }
    Ok(attempt)
}

/// Takes what became of an attempt that was [`answered`], and hears what the issuer says.
pub async fn complete(
    web: &impl WebSignIn,
    attempt: &WebAttempt,
    outcome: &WebOutcome,
    now: Timestamp,
) -> Result<Vouched> {
    match outcome {
        WebOutcome::Code(code) => web.exchange(code, attempt, now).await,
        WebOutcome::Error(error) => {
            // It is shown to people.
            let is_name = error.len() <= 40 && error.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let error = if is_name { error } else { "it gave no reason that can be read" };
            let detail = format!("the provider did not sign you in: {error}; begin again");
            Err(Refusal::new(Kind::Malformed, "sign_in_declined", detail).into())
        }
    }
}

/// The refusal of a code that the provider does not take (any more).
#[must_use]
pub fn code_invalid() -> Refusal {
    let detail = "the provider does not take this code, or no longer; begin again";
    Refusal::new(Kind::Malformed, "code_invalid", detail)
}

/// The refusal of an identity token. Why it is not good is for the log.
#[must_use]
pub fn identity_token_invalid() -> Refusal {
    let detail = "the identity token is not valid, or not for this service, or no longer";
    Refusal::new(Kind::Unauthenticated, "identity_token_invalid", detail)
}

/// The refusal of a way to sign in that this deployment does not have.
#[must_use]
pub fn not_set_up(provider: &str) -> Refusal {
    let detail = format!("signing in with {provider} is not set up here");
    Refusal::new(Kind::NotFound, "sign_in_not_set_up", detail)
}

/// The most bytes of an identity token: they have some 1,000.
const MOST_TOKEN_BYTES: usize = 8_192;

/// The most characters of a whole name.
const MOST_OF_FULL_NAME: usize = 2 * MOST_OF_NAME;

/// What an app brings: an identity token, and the name that the issuer told the app alone.
#[derive(Clone, Debug)]
pub struct AppSignIn {
    /// The token.
    pub identity_token: String,
    /// The name. Apple tells it once, to the app, and never in a token.
    pub full_name: PersonName,
}

impl AppSignIn {
    /// Reads the body of `sign-in-with-apple`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let identity_token = fields.required("identity_token", text(1, MOST_TOKEN_BYTES));
        let full_name = fields.optional("full_name", |value| {
            text(1, MOST_OF_FULL_NAME)(value).map(|name| PersonName::of(&name))
        });
        let Some(identity_token) = identity_token else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { identity_token, full_name: full_name.unwrap_or_default() })
    }

    /// What the issuer says with the token. The name is the app's word: it is kept where somebody is new, and then is
    /// theirs to change.
    pub async fn hear(self, tokens: &impl IdentityTokens, now: Timestamp) -> Result<Vouched> {
        let vouched = tokens.verify(&self.identity_token, now).await?;
        let name = if self.full_name.is_empty() { vouched.name } else { self.full_name };
        Ok(Vouched { name, ..vouched })
    }
}

impl PersonName {
    /// The parts of a whole name: the first word, and the others.
    #[must_use]
    pub fn of(full: &str) -> Self {
        let words: Vec<&str> = full.split_whitespace().collect();
        match words.as_slice() {
            [] => Self::default(),
            [only] => Self { first: tidy(only), last: None },
            [first, others @ ..] => Self { first: tidy(first), last: tidy(&others.join(" ")) },
        }
    }

    /// These names, as far as they can stand in a profile.
    #[must_use]
    pub fn from_parts(first: Option<&str>, last: Option<&str>) -> Self {
        Self { first: first.and_then(tidy), last: last.and_then(tidy) }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.last.is_none()
    }
}

fn tidy(name: &str) -> Option<String> {
    let name: String = name.trim().chars().filter(|c| stays_in_line(*c)).take(MOST_OF_NAME).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The account of somebody who signs in; it is made, if there is none.
pub async fn account_of(
    accounts: &impl Identities,
    addresses: &impl AccountFinder,
    vouched: &Vouched,
    now: Timestamp,
) -> Result<Account> {
    for _ in 0..MOST_TRIES {
        // Who signs in has come back, if they had left.
        let holder = accounts.find(&vouched.identity).await?;
        let left_at = holder.left_at();
        if let Holder::Account(account) = holder {
            return Ok(account);
        }
        let email = match &vouched.email {
            Some(email) if vouched.email_verified => Some(email),
            Some(_) => return Err(email_not_proven().into()),
            None => None,
        };
        if let Some(email) = email {
            let found = addresses.find(email, now).await?;
            if let Some(account) = found.into_iter().find(|account| account.email_verified) {
                match accounts.link(&vouched.identity, &account).await? {
                    Linked::Done => return Ok(account),
                    // Another request came in between: what it did is found in the next round.
                    Linked::Taken | Linked::Superseded => continue,
                }
            }
        }
        if let Some(account) = register(accounts, vouched, left_at, email, now).await? {
            return Ok(account);
        }
    }
    Err(Error::unavailable("users", "an identity is signed in by many at once"))
}

/// The account of somebody whom a trusted issuer's access token names; it is made, if there is none. Such a token is for
/// calling, and not for signing in: it opens no account that was made in another way, and gives none an address. One by
/// which its owner signed in before they left makes none: an app that still has it, or a newer one by a refresh that nobody
/// sees, is not them, coming back. Where an issuer does not tell when they signed in, a refreshed token cannot be told from
/// one by which they sign in again, and makes an account.
pub async fn provision(accounts: &impl Identities, vouched: &Vouched, now: Timestamp) -> Result<Account> {
    for _ in 0..MOST_TRIES {
        let left_at = match accounts.find(&vouched.identity).await? {
            Holder::Account(account) => return Ok(account),
            Holder::Left(at) if vouched.signed_in_at <= at => return Err(rate_limit::account_closed().into()),
            Holder::Left(at) => Some(at),
            Holder::Nobody => None,
        };
        if let Some(account) = register(accounts, vouched, left_at, None, now).await? {
            return Ok(account);
        }
    }
    Err(Error::unavailable("users", "an identity is provisioned by many at once"))
}

/// How often it is looked again, where others come in between.
const MOST_TRIES: usize = 4;

fn email_not_proven() -> Refusal {
    let detail =
        "the provider has not verified your mail address: verify it there, or register here with a password";
    Refusal::new(Kind::Forbidden, "identity_email_not_verified", detail)
}

/// Makes an account with a name that is free; none, if the identity or the address was somebody's in the meantime.
async fn register(
    accounts: &impl Identities,
    vouched: &Vouched,
    left_at: Option<Timestamp>,
    email: Option<&EmailAddress>,
    now: Timestamp,
) -> Result<Option<Account>> {
    let wish = wished_name(vouched);
    for username in names(&wish) {
        let account = Account {
            user_id: UserId::new(now),
            email: email.cloned(),
            email_verified: email.is_some(),
            username: username.clone(),
            former_username: None,
            password: None,
            roles: vec![Role::User],
            created_at: now,
        };
        let mut profile = Profile::new(account.user_id, username, email.cloned());
        profile.first_name.clone_from(&vouched.name.first);
        profile.last_name.clone_from(&vouched.name.last);
        match accounts.register(&account, &vouched.identity, left_at, &profile).await? {
            NewIdentity::Stored => return Ok(Some(account)),
            NewIdentity::Taken | NewIdentity::EmailTaken => return Ok(None),
            NewIdentity::UsernameTaken => {}
        }
    }
    Err(Error::unavailable("users", "no name was free"))
}

/// What somebody may want to be called: letters, digits and signs that a [`Username`] can have, at most 20 of them, which
/// leaves room for digits.
fn wished_name(vouched: &Vouched) -> String {
    let from_mail = || vouched.email.as_ref().and_then(|email| email.as_str().split('@').next());
    let from_name = || {
        let parts = [&vouched.name.first, &vouched.name.last].into_iter().flatten();
        (!vouched.name.is_empty()).then(|| parts.map(String::as_str).collect::<Vec<_>>().join("."))
    };
    let wishes = [
        // What an issuer made up is no name: `google_1170…`, or a UUID.
        vouched.preferred_username.clone().filter(|name| name.bytes().filter(u8::is_ascii_digit).count() < 8),
        from_name(),
        from_mail().map(str::to_owned),
    ];
    let usable = |wish: String| {
        let name = folded(&wish);
        let name: String = name
            .split('@')
            .next()
            .unwrap_or_default()
            .chars()
            .map(|c| if c == ' ' { '.' } else { c })
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            .take(20)
            .collect();
        let name = name.trim_matches(['.', '-', '_']);
        (name.len() >= 3).then(|| name.to_owned())
    };
    wishes.into_iter().flatten().find_map(usable).unwrap_or_else(|| "person".to_owned())
}

/// A name, and then others that begin with it: the more of them are taken, the more digits they have.
fn names(wish: &str) -> impl Iterator<Item = Username> {
    let digits = [0_u32, 2, 3, 4, 6, 8, 9, 9];
    digits.into_iter().filter_map(move |digits| {
        let number = rand::rng().random_range(0..10_u32.pow(digits));
        let name =
            if digits == 0 { wish.to_owned() } else { format!("{wish}{number:0>0$}", digits as usize) };
        name.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_told_from_its_cookie_alone() {
        let attempt = WebAttempt::new().unwrap();
        let same = WebAttempt::of_cookie(&attempt.cookie()).unwrap();
        let told = |attempt: &WebAttempt| [attempt.state(), attempt.nonce(), attempt.code_verifier()];
        assert_eq!(told(&attempt), told(&same));
        let [state, nonce, verifier] = told(&attempt);
        // None tells another; and a verifier has 43 to 128 characters (RFC 7636, 4.1).
        assert!(state != nonce && nonce != verifier && verifier != state && state != attempt.cookie());
        assert_eq!([state.len(), nonce.len(), verifier.len()], [43; 3]);
        assert!(attempt.has_state(&state) && !attempt.has_state(&nonce) && !attempt.has_state(""));
        assert!(!WebAttempt::new().unwrap().has_state(&state));
        assert!(WebAttempt::of_cookie("").is_none() && WebAttempt::of_cookie("%00").is_none());
    }

    fn vouched(preferred: Option<&str>, name: &str, email: Option<&str>) -> Vouched {
        Vouched {
            identity: Identity::new("https://issuer.example", "1").unwrap(),
            signed_in_at: crate::time::now(),
            email: email.map(|email| email.parse().unwrap()),
            email_verified: true,
            preferred_username: preferred.map(str::to_owned),
            name: PersonName::of(name),
        }
    }

    #[test]
    fn somebody_new_is_called_as_they_are_elsewhere_as_far_as_can_be() {
        for (preferred, name, email, expected) in [
            (Some("hedy"), "Hedy Lamarr", Some("h@example.org"), "hedy"),
            (None, "Bjørn Åsgård", None, "bjorn.asgard"),
            (None, "Seán O'Hara", None, "sean.ohara"),
            (None, "李 小龙", Some("bruce.lee@example.org"), "bruce.lee"),
            (None, "", Some("a+news@example.org"), "anews"),
            (Some("hedy@example.org"), "", None, "hedy"),
            (Some("google_117000000000000000000"), "Ada", None, "ada"),
            (Some("0e9f3c1a-7b5d-4c8e-9a2f-6d1b8e4c7a53"), "", None, "person"),
            (Some(".."), "Al", None, "person"),
            (None, "Grace Brewster Murray Hopper", None, "grace.brewster.murra"),
        ] {
            let wish = wished_name(&vouched(preferred, name, email));
            assert_eq!(wish, expected, "{preferred:?} {name} {email:?}");
            let names: Vec<String> = names(&wish).map(String::from).collect();
            assert_eq!((names.len(), &names[0]), (8, &wish), "each is a username");
            assert!(names.iter().all(|name| name.starts_with(&wish)));
        }
    }

    #[test]
    fn a_name_has_a_first_word_and_stands_in_one_line() {
        let of = |full: &str| {
            let PersonName { first, last } = PersonName::of(full);
            (first.unwrap_or_default(), last.unwrap_or_default())
        };
        assert_eq!(of("  Grace  Brewster Hopper "), ("Grace".to_owned(), "Brewster Hopper".to_owned()));
        assert_eq!(of("Cher"), ("Cher".to_owned(), String::new()));
        assert_eq!(of("A\u{202E}da\u{0} \u{2066}"), ("Ada".to_owned(), String::new()));
        let (first, _) = of(&"x".repeat(200));
        assert_eq!(first.len(), MOST_OF_NAME);
    }
}
