//! Sessions: what follows one sign-in. A session's token is exchanged for a new one at each renewal.
//!
//! Only hashes are stored. A token that was exchanged before is a sign that two people have it: its session ends. But a
//! client whose answer got lost sends the same token again, and for [`GRACE_SECONDS`] it gets the same successor: each
//! token's successor is told from it and the session's salt ([`Secret::successor`]), so it needs not be stored either.
//!
//! A session is good for as long as its account has the password that it had when the session began. So a change of the
//! password ends them all in one write, and also one that is being begun with the old password at that instant; to delete
//! them is only tidying. The session in which its owner changes the password is kept for the new one before the account has
//! it: so it is good all the time, however it is renewed meanwhile.

use std::{cmp::Reverse, fmt, future::Future};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::{try_join, try_join_all};
use serde::Serialize;

use crate::{
    Refusal, Result,
    access_token::{self, Caller, Role, TokenSigner},
    account::Account,
    error::Kind,
    ids::{SessionId, UserId},
    password::PasswordMark,
    secret::{Salt, Secret, SecretHash},
    time::{self, Timestamp},
};

/// How long a session lives after it was begun or last renewed, in seconds: 7 days.
pub const LIFETIME_SECONDS: u64 = 7 * 24 * 60 * 60;
/// How long the immediate predecessor of a token is answered with the same successor, in seconds.
pub const GRACE_SECONDS: u64 = 10;

/// How long ago a session may have begun to prove who calls, where there is no password to prove it with, in seconds: 10
/// minutes.
pub const FRESH_SECONDS: u64 = 10 * 60;

/// How many sessions a person may have. Where more are begun, those end that were used least lately.
pub const MOST_SESSIONS: usize = 50;

/// From where a session is used, for its owner to recognise it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What the client calls itself: its `User-Agent`, if it sends one.
    pub device: Option<String>,
    /// Its network address, as far as it is looked at (see rate limits).
    pub address: String,
}

impl Origin {
    /// The most characters that are kept of a `User-Agent`.
    const MOST_OF_DEVICE: usize = 200;

    /// A client at an address. Its name is anybody's text: it is cut, and control characters are left out.
    #[must_use]
    pub fn new(device: Option<&str>, address: impl Into<String>) -> Self {
        let kept = |device: &str| -> String {
            device.trim().chars().filter(|c| !c.is_control()).take(Self::MOST_OF_DEVICE).collect()
        };
        let device = device.map(kept).filter(|device| !device.is_empty());
        Self { device, address: address.into() }
    }
}

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
    /// Which password the account had when it began; with another one it is not good any more,
    pub password: Option<PasswordMark>,
    /// unless that is one of these, which its owner chose in this session: the last one, and those that are being chosen.
    pub kept_for: Vec<PasswordMark>,
    /// From where it was used last.
    pub origin: Origin,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was begun or renewed last.
    pub last_used_at: Timestamp,
    /// When it ends, unless it is renewed.
    pub expires_at: Timestamp,
}

impl Session {
    /// Whether it began with the password that the account has now, or is kept for it.
    fn is_good_for(&self, account: &Account) -> bool {
        let mark = account.password_mark();
        self.password == mark || mark.is_some_and(|mark| self.kept_for.contains(&mark))
    }
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
    /// Gives the session whose current token is still `old` the tokens, the origin and the times of `new`; answers whether
    /// it was.
    fn rotate(&self, old: &SecretHash, new: &Session) -> impl Future<Output = Result<bool>> + Send;
}

/// Lists and ends a person's sessions.
pub trait SessionKeeper: Sync {
    /// Those that have not expired, the one used last first. Read consistently.
    fn of(&self, owner: UserId, now: Timestamp) -> impl Future<Output = Result<Vec<Session>>> + Send;
    /// Ends one; answers whether it was there.
    fn end(&self, owner: UserId, id: SessionId) -> impl Future<Output = Result<bool>> + Send;
}

/// Keeps a session that its owner changes the password in.
pub trait SessionPasswords: SessionKeeper {
    /// Notes that a session, if it is there, is good for another password besides.
    fn keep_for(
        &self,
        owner: UserId,
        id: SessionId,
        password: &PasswordMark,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Takes that back.
    fn forget(
        &self,
        owner: UserId,
        id: SessionId,
        password: &PasswordMark,
    ) -> impl Future<Output = Result<()>> + Send;
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
    sessions: &(impl Sessions + SessionKeeper),
    signer: &TokenSigner,
    account: &Account,
    origin: &Origin,
    now: Timestamp,
) -> Result<Tokens> {
    let (session_id, secret) = (SessionId::new(now), Secret::random()?);
    let session = Session {
        user_id: account.user_id,
        session_id,
        salt: Salt::random()?,
        current: secret.hash(),
        previous: None,
        password: account.password_mark(),
        kept_for: Vec::new(),
        origin: origin.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: time::after(now, LIFETIME_SECONDS),
    };
    sessions.begin(&session).await?;
    // Afterwards: of several that begin at once, the last to look sees all.
    if let Err(error) = end_surplus(sessions, account.user_id, now).await {
        tracing::warn!(%error, user_id = %account.user_id, "sessions beyond the most were not ended");
    }
    tokens(signer, account, session_id, secret, now)
}

async fn end_surplus(sessions: &impl SessionKeeper, owner: UserId, now: Timestamp) -> Result<()> {
    let surplus = sessions.of(owner, now).await?.into_iter().skip(MOST_SESSIONS);
    try_join_all(surplus.map(|session| sessions.end(owner, session.session_id))).await?;
    Ok(())
}

/// Exchanges a session's token for the next one, with a new access token.
pub async fn renew(
    sessions: &(impl Sessions + SessionKeeper),
    accounts: &impl AccountReader,
    signer: &TokenSigner,
    token: &SessionToken,
    origin: &Origin,
    now: Timestamp,
) -> Result<Tokens> {
    let SessionToken { user_id, session_id, secret } = token;
    let presented = secret.hash();
    // Before anything changes: a renewal that fails here can be tried again with the same token, however late.
    let mut account = accounts.get(*user_id).await?.ok_or_else(invalid)?;
    // Another round only where another renewal, or another password, came in between.
    for _ in 0..MOST_TRIES {
        let session = sessions.get(*user_id, *session_id, now).await?.ok_or_else(invalid)?;
        if !session.is_good_for(&account) {
            // Unless the account got another password after it was read. None comes twice, so where it has the same, it had it
            // also when the session was read.
            let read = account.password_mark();
            account = accounts.get(*user_id).await?.ok_or_else(invalid)?;
            if account.password_mark() == read {
                return Err(invalid().into());
            }
            continue;
        }
        let next = secret.successor(&session.salt);
        if session.current == presented {
            let rotated = Session {
                current: next.hash(),
                previous: Some((presented.clone(), time::after(now, GRACE_SECONDS))),
                origin: origin.clone(),
                last_used_at: now,
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

/// How often it is looked again, where others come in between.
const MOST_TRIES: usize = 3;

/// A session, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub session_id: SessionId,
    /// What the client called itself when it was used last.
    pub device: Option<String>,
    /// From which network address it was used last.
    pub address: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was begun or renewed last.
    pub last_used_at: Timestamp,
    /// When it ends, unless it is renewed.
    pub expires_at: Timestamp,
    /// Whether the access token of the request was made in it.
    pub current: bool,
}

/// The caller's sessions that can still be renewed, the newest first.
pub async fn list(
    sessions: &impl SessionKeeper,
    accounts: &impl AccountReader,
    caller: &Caller,
    now: Timestamp,
) -> Result<Vec<SessionView>> {
    let owner = caller.user_id;
    let (mine, account) = try_join(sessions.of(owner, now), accounts.get(owner)).await?;
    let Some(account) = account else { return Ok(Vec::new()) };
    let view = |session: Session| SessionView {
        session_id: session.session_id,
        device: session.origin.device,
        address: session.origin.address,
        created_at: session.created_at,
        last_used_at: session.last_used_at,
        expires_at: session.expires_at,
        current: caller.session_id == Some(session.session_id),
    };
    let good = mine.into_iter().filter(|session| session.is_good_for(&account));
    let mut views: Vec<_> = good.map(view).collect();
    views.sort_by_key(|session| Reverse(session.session_id));
    Ok(views)
}

/// Refuses who has not signed in just now: who found a phone, or a token, say. For what needs more proof than an access
/// token, of an account without a password. A token of another issuer is of no session of ours, and proves nothing here.
pub(crate) async fn must_be_fresh(
    sessions: &impl Sessions,
    account: &Account,
    caller: &Caller,
    now: Timestamp,
) -> Result<()> {
    let session = match caller.session_id {
        Some(id) => sessions.get(account.user_id, id, now).await?,
        None => None,
    };
    let is_fresh = |session: &Session| {
        session.is_good_for(account) && now <= time::after(session.created_at, FRESH_SECONDS)
    };
    if session.as_ref().is_some_and(is_fresh) {
        return Ok(());
    }
    let detail = "this account has no password: sign in again, and do this within 10 minutes";
    Err(Refusal::new(Kind::Forbidden, "sign_in_again", detail).into())
}

/// Ends a session of its owner.
pub async fn end(
    sessions: &(impl Sessions + SessionKeeper),
    owner: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<()> {
    sessions.get(owner, id, now).await?.ok_or_else(|| Refusal::not_found("session"))?;
    // Whatever that answers: where it is tried again, since the answer to the first try was lost, it is there no more.
    sessions.end(owner, id).await.map(drop)
}

/// Ends all sessions of their owner, save one.
pub async fn end_all(
    sessions: &impl SessionKeeper,
    owner: UserId,
    save: Option<SessionId>,
    now: Timestamp,
) -> Result<()> {
    let mine = sessions.of(owner, now).await?.into_iter().map(|session| session.session_id);
    try_join_all(mine.filter(|id| Some(*id) != save).map(|id| sessions.end(owner, id))).await?;
    Ok(())
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
    let caller =
        Caller { user_id, username: account.username.to_string(), session_id: Some(session_id), roles };
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
