//! Who calls.
//!
//! An access token of ours is verified with what is in the environment: nobody is asked. A token of another issuer is
//! looked at only if some are trusted; its issuer's keys are fetched once, and the account of the person whom it names is
//! looked up, or made, and then kept in mind for some minutes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tocsin_adapters::{dynamodb::Newcomers, openid::TrustedIssuers};
use tocsin_domain::{
    Result,
    access_token::{Caller, TokenVerifier},
    identity::Identity,
    outside_sign_in::{self, OutsideTokens as _, Vouched},
    time::{self, Timestamp},
};
use tokio::time::Instant;

use crate::settings::{Environment, Setting};

/// Tells callers by their access tokens.
#[derive(Debug)]
pub struct Callers {
    ours: TokenVerifier,
    others: Option<Others>,
}

impl Callers {
    /// Whose token it is. Whatever is wrong with it, the answer is the same.
    pub async fn of_token(&self, token: &str) -> Result<Caller> {
        let refused = match self.ours.verify(token) {
            Ok(caller) => return Ok(caller),
            Err(refused) => refused,
        };
        let caller = match &self.others {
            Some(others) => others.of_token(token).await?,
            None => None,
        };
        Ok(caller.ok_or(refused)?)
    }
}

impl Setting for Callers {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let ours = TokenVerifier::read(environment);
        let issuers = TrustedIssuers::read(environment)?;
        let others = if issuers.is_empty() {
            None
        } else {
            Some(Others { issuers, people: Newcomers::read(environment)?, known: Mutex::default() })
        };
        Some(Self { ours: ours?, others })
    }
}

/// Callers with tokens of others.
struct Others {
    issuers: TrustedIssuers,
    people: Newcomers,
    /// By identity, and the sign-in that the token is of: it may be another account's by a later one.
    known: Mutex<HashMap<(Identity, Timestamp), (Caller, Instant)>>,
}

/// How long it is kept in mind who somebody is: for as long, other roles and another name go unnoticed, and that they left.
const KEPT: Duration = Duration::from_mins(5);
/// How many tokens are kept in mind.
const MOST_KEPT: usize = 1_000;

impl Others {
    async fn of_token(&self, token: &str) -> Result<Option<Caller>> {
        let Some(vouched) = self.issuers.verify(token, time::now()).await? else { return Ok(None) };
        if let Some(caller) = self.known(&vouched) {
            return Ok(Some(caller));
        }
        // A storage's work is a large future, too large to be part of every request's.
        let account = Box::pin(outside_sign_in::provision(&self.people, &vouched, time::now())).await?;
        let caller = Caller {
            user_id: account.user_id,
            username: account.username.to_string(),
            session_id: None,
            roles: account.roles,
        };
        self.keep(vouched, caller.clone());
        Ok(Some(caller))
    }

    fn known(&self, vouched: &Vouched) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_token = known.get(&(vouched.identity.clone(), vouched.signed_in_at));
        of_token.filter(|(_, since)| since.elapsed() < KEPT).map(|(caller, _)| caller.clone())
    }

    fn keep(&self, vouched: Vouched, caller: Caller) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KEPT {
            known.clear();
        }
        known.insert((vouched.identity, vouched.signed_in_at), (caller, Instant::now()));
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Others").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}
