//! Sessions: what follows one sign-in. A session's token is exchanged for a new one at each renewal.
//!
//! Only hashes are stored. A token that was exchanged before is a sign that two people have it: its session ends. But a
//! client whose answer got lost sends the same token again, and for [`GRACE_SECONDS`] it gets the same successor: each
//! token's successor is told from it and the session's salt ([`Secret::successor`]), so it needs not be stored either.

use std::{fmt, future::Future};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;

use crate::{
    Refusal, Result,
    access_token::{self, Caller, Role, TokenSigner},
    account::Account,
    error::Kind,
    ids::{SessionId, UserId},
    secret::{Salt, Secret, SecretHash},
    time::{self, Timestamp},
};

/// How long a session lives after it was begun or last renewed, in seconds: 7 days.
pub const LIFETIME_SECONDS: u64 = 7 * 24 * 60 * 60;
/// How long the immediate predecessor of a token is answered with the same successor, in seconds.
pub const GRACE_SECONDS: u64 = 10;

/// A session, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user_id: UserId,
    /// Its id.
    pub session_id: SessionId,
    /// With which successors are told.
    pub salt: Salt,
    /// The hash of the token that is good now.
    pub current: SecretHash,
    /// The hash of the one before, and until when it is still answered.
    pub previous: Option<(SecretHash, Timestamp)>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends, unless it is renewed.
    pub expires_at: Timestamp,
}

/// Stores sessions.
pub trait Sessions: Sync {
    /// Begins one.
    fn begin(&self, session: &Session) -> impl Future<Output = Result<()>> + Send;
    /// One that has not expired. Read consistently.
    fn get(
        &self,
        owner: UserId,
        id: SessionId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Session>>> + Send;
    /// Puts `new` in place of the session whose current token is still `old`; answers whether it was.
    fn rotate(&self, old: &SecretHash, new: &Session) -> impl Future<Output = Result<bool>> + Send;
    /// Ends one, if it is there.
    fn end(&self, owner: UserId, id: SessionId) -> impl Future<Output = Result<()>> + Send;
}

/// Reads what a new access token says of its owner.
pub trait AccountReader: Sync {
    /// The account, if it is there.
    fn get(&self, id: UserId) -> impl Future<Output = Result<Option<Account>>> + Send;
}

/// What a client gets at each sign-in and renewal.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// For every request.
    pub access_token: String,
    /// For the next renewal.
    pub session_token: String,
    /// Always `Bearer` (RFC 6750).
    pub token_type: &'static str,
    /// How long the access token is good, in seconds.
    pub expires_in: u64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// A session token, as clients send it: whose session, which, and the secret.
#[derive(Clone, Debug)]
pub struct SessionToken {
    user_id: UserId,
    session_id: SessionId,
    secret: Secret,
}

impl SessionToken {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        let parts: [&[u8]; 3] = [self.user_id.as_bytes(), self.session_id.as_bytes(), self.secret.as_bytes()];
        BASE64_URL_SAFE_NO_PAD.encode(parts.concat())
    }

    /// From text.
    pub fn decode(text: &str) -> Result<Self, Refusal> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| invalid())?;
        Ok(Self {
            user_id: UserId::from_bytes(std::array::from_fn(|i| bytes[i])),
            session_id: SessionId::from_bytes(std::array::from_fn(|i| bytes[16 + i])),
            secret: Secret::from_bytes(std::array::from_fn(|i| bytes[32 + i])),
        })
    }
}

/// Begins a session.
pub async fn begin(
    sessions: &impl Sessions,
    signer: &TokenSigner,
    account: &Account,
    now: Timestamp,
) -> Result<Tokens> {
    let (session_id, secret) = (SessionId::new(now), Secret::random()?);
    let session = Session {
        user_id: account.user_id,
        session_id,
        salt: Salt::random()?,
        current: secret.hash(),
        previous: None,
        created_at: now,
        expires_at: time::after(now, LIFETIME_SECONDS),
    };
    sessions.begin(&session).await?;
    tokens(signer, account, session_id, secret, now)
}

/// Exchanges a session's token for the next one, with a new access token.
pub async fn renew(
    sessions: &impl Sessions,
    accounts: &impl AccountReader,
    signer: &TokenSigner,
    token: &SessionToken,
    now: Timestamp,
) -> Result<Tokens> {
    let SessionToken { user_id, session_id, secret } = token;
    let presented = secret.hash();
    // Before anything changes: a renewal that fails here can be tried again with the same token, however late.
    let account = accounts.get(*user_id).await?.ok_or_else(invalid)?;
    // A second round only where another renewal came in between.
    for _ in 0..2 {
        let session = sessions.get(*user_id, *session_id, now).await?.ok_or_else(invalid)?;
        let next = secret.successor(&session.salt);
        if session.current == presented {
            let rotated = Session {
                current: next.hash(),
                previous: Some((presented.clone(), time::after(now, GRACE_SECONDS))),
                expires_at: time::after(now, LIFETIME_SECONDS),
                ..session
            };
            if !sessions.rotate(&presented, &rotated).await? {
                continue;
            }
        } else if !matches!(&session.previous, Some((hash, until)) if *hash == presented && now <= *until) {
            tracing::warn!(%user_id, %session_id, "a session token was used again: its session ends");
            sessions.end(*user_id, *session_id).await?;
            return Err(invalid().into());
        }
        return tokens(signer, &account, *session_id, next, now);
    }
    Err(crate::Error::unavailable("sessions", "a session is renewed by many at once"))
}

fn tokens(
    signer: &TokenSigner,
    account: &Account,
    session_id: SessionId,
    secret: Secret,
    now: Timestamp,
) -> Result<Tokens> {
    let user_id = account.user_id;
    let roles: Vec<Role> = account.roles.clone();
    let caller = Caller { user_id, username: account.username.to_string(), session_id: Some(session_id), roles };
    Ok(Tokens {
        access_token: signer.sign(&caller, now)?,
        session_token: SessionToken { user_id, session_id, secret }.encode(),
        token_type: "Bearer",
        expires_in: access_token::LIFETIME_SECONDS,
    })
}

fn invalid() -> Refusal {
    Refusal::new(
        Kind::Unauthenticated,
        "session_invalid",
        "the session token (Authorization: Bearer …) is not valid, or no longer: sign in again",
    )
}
