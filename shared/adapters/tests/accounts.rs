//! Signing up and in, over the adapters in memory: who shares an address, a password or a limit with whom.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use serde_json::{Value, json};
use tocsin_adapters::memory::{MemoryMailer, MemoryRateLimiter, MemorySessions, MemoryUsers};
use tocsin_domain::{
    Error, Refusal, Result,
    access_token::TokenSigner,
    account::{self, Credentials, Registration},
    error::Kind,
    rate_limit::{MAIL_TO_ADDRESS, SIGN_IN_TO_ACCOUNT, SIGN_IN_TO_ACCOUNT_FROM_ADDRESS},
    session::Tokens,
    time,
};

/// A key for this test alone: 32 zeros.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END PRIVATE KEY-----
";
const JWKS: &str = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "test",
    "x": "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}]}"#;
const EMAIL: &str = "ada@example.org";

struct Town {
    users: MemoryUsers,
    sessions: MemorySessions,
    mailer: MemoryMailer,
    limiter: MemoryRateLimiter,
    signer: TokenSigner,
}

impl Town {
    fn new() -> Self {
        Self {
            users: MemoryUsers::default(),
            sessions: MemorySessions::default(),
            mailer: MemoryMailer::default(),
            limiter: MemoryRateLimiter::default(),
            signer: TokenSigner::new(&PRIVATE_KEY.into(), JWKS, "https://tocsin.example").unwrap(),
        }
    }

    async fn register(&self, username: &str, password: &str) -> Result<()> {
        let body = json!({"email": EMAIL, "username": username, "password": password});
        let registration = Registration::from_json(&body)?;
        let Self { users, mailer, limiter, .. } = self;
        account::register(users, mailer, limiter, registration, "192.0.2.1", time::now()).await.map(drop)
    }

    async fn login(&self, email: &str, password: &str, address: &str) -> Result<Tokens> {
        let credentials = Credentials::from_json(&json!({"email": email, "password": password}))?;
        let Self { users, sessions, limiter, signer, .. } = self;
        account::login(users, sessions, limiter, signer, &credentials, address, time::now()).await
    }

    /// The token of the mail that is about this name.
    fn mailed_token(&self, username: &str) -> Value {
        let named = format!("\"{username}\"");
        let mail = self.mailer.mails().into_iter().find(|mail| mail.body.contains(&named)).unwrap();
        json!({"token": mail.body.lines().find(|line| line.len() == 43).unwrap()})
    }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_registration_of_an_address_is_verified_with_its_own_password() {
    let town = Town::new();
    let (hers, theirs) = ("harbour lantern eleven", "window copper thirteen");
    town.register("ada", hers).await.unwrap();
    town.register("mallory", theirs).await.unwrap();
    for (password, code) in [
        (hers, "email_not_verified"),
        (theirs, "email_not_verified"),
        ("bicycle meadow seventeen", "credentials_invalid"),
    ] {
        assert_eq!(refusal(town.login(EMAIL, password, "192.0.2.1").await).code, code);
    }

    let token = account::token_from_json(&town.mailed_token("ada")).unwrap();
    let Town { users, sessions, signer, .. } = &town;
    account::verify_email(users, sessions, signer, &token, time::now()).await.unwrap();
    town.login(EMAIL, hers, "192.0.2.1").await.unwrap();
    assert_eq!(refusal(town.login(EMAIL, theirs, "192.0.2.1").await).code, "credentials_invalid");
    let token = account::token_from_json(&town.mailed_token("mallory")).unwrap();
    let void = account::verify_email(users, sessions, signer, &token, time::now()).await;
    assert_eq!(refusal(void).code, "token_invalid");
}

#[tokio::test]
async fn a_common_password_is_refused_at_its_place_and_costs_no_mail() {
    let town = Town::new();
    for _ in 0..=MAIL_TO_ADDRESS.most {
        let refusal = refusal(town.register("ada", "ada@example.org").await);
        assert_eq!(refusal.kind, Kind::Invalid);
        let [error] = &refusal.errors[..] else { panic!("{refusal:?}") };
        assert_eq!((error.pointer.as_str(), error.code), ("/password", "password_too_common"));
    }
    town.register("ada", "harbour lantern eleven").await.unwrap();
}

#[tokio::test]
async fn who_tries_passwords_from_one_address_does_not_lock_the_owner_out() {
    let town = Town::new();
    let login = async |address: &str| {
        refusal(town.login("nobody@example.org", "not the password", address).await).code
    };
    for _ in 0..SIGN_IN_TO_ACCOUNT_FROM_ADDRESS.most {
        assert_eq!(login("192.0.2.66").await, "credentials_invalid");
    }
    for _ in 0..SIGN_IN_TO_ACCOUNT.most / 3 {
        assert_eq!(login("192.0.2.66").await, "rate_limited");
    }
    assert_eq!(login("192.0.2.1").await, "credentials_invalid");
}

#[tokio::test]
async fn what_is_printed_tells_no_secret() {
    let town = Town::new();
    let password = "harbour lantern eleven";
    town.register("ada", password).await.unwrap();
    let token = town.mailed_token("ada");
    let printed = format!("{:?} {:?}", town.users, town.mailer);
    for secret in [password, "$argon2id", token["token"].as_str().unwrap()] {
        assert!(!printed.contains(secret), "{secret} is in {printed}");
    }
}
