//! Rate limits: how often something may be done, by whom.

use std::{future::Future, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{Refusal, Result, error::Kind, ids::UserId};

/// A limit: so many times in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Its name, in keys and logs.
    pub name: &'static str,
    /// How many times.
    pub most: u32,
    /// In how long.
    pub window: Duration,
}

const MINUTE: Duration = Duration::from_mins(1);

/// Sign-ups from one address: a school's or a town hall's whole class, but no more.
pub const SIGN_UP: RateLimit = RateLimit { name: "sign-up", most: 60, window: Duration::from_hours(1) };
/// Sign-ins (and tokens of mails tried) from one address.
pub const SIGN_IN_FROM_ADDRESS: RateLimit = RateLimit { name: "sign-in-address", most: 60, window: MINUTE };
/// Sign-ins to one account from one address: a password is not found by trying.
pub const SIGN_IN_TO_ACCOUNT_FROM_ADDRESS: RateLimit =
    RateLimit { name: "sign-in-account-address", most: 10, window: Duration::from_mins(5) };
/// Sign-ins to one account from anywhere: more than one address is allowed, so that none can lock its owner out alone.
pub const SIGN_IN_TO_ACCOUNT: RateLimit =
    RateLimit { name: "sign-in-account", most: 150, window: Duration::from_hours(1) };
/// Password resets asked for from one address.
pub const RESET_FROM_ADDRESS: RateLimit =
    RateLimit { name: "reset-address", most: 30, window: Duration::from_hours(1) };
/// Password resets of one account. Apart from other mails to its address: who registers it in vain, over and over, does
/// not keep its owner from a new password.
pub const RESET_OF_ACCOUNT: RateLimit =
    RateLimit { name: "reset-account", most: 5, window: Duration::from_hours(1) };
/// Passwords tried by who is signed in to the account already.
pub const PASSWORD_PROOF: RateLimit =
    RateLimit { name: "password-proof", most: 10, window: Duration::from_mins(5) };
/// Mails to one address: nobody's inbox is filled through us.
pub const MAIL_TO_ADDRESS: RateLimit =
    RateLimit { name: "mail-address", most: 5, window: Duration::from_hours(1) };
/// Sessions renewed from one address.
pub const RENEWAL: RateLimit = RateLimit { name: "renewal", most: 300, window: MINUTE };
/// What anyone may ask for, from one address: a network behind one address is many people.
pub const PUBLIC: RateLimit = RateLimit { name: "public", most: 1_200, window: MINUTE };
/// Posts of one account.
pub const POSTING: RateLimit = RateLimit { name: "posting", most: 60, window: MINUTE };
/// Other changes by one account.
pub const CHANGING: RateLimit = RateLimit { name: "changing", most: 240, window: MINUTE };
/// Reads by one account.
pub const READING: RateLimit = RateLimit { name: "reading", most: 1_200, window: MINUTE };
/// Searches for people by one account: enough to type, and too few to go through a town's names or addresses.
pub const SEARCHING: RateLimit = RateLimit { name: "searching", most: 120, window: MINUTE };
/// Counts of a post's deliveries for one account: each reads what is remembered of all of them.
pub const COUNTING: RateLimit = RateLimit { name: "counting", most: 12, window: MINUTE };
/// Images that one account may upload.
pub const UPLOADING: RateLimit = RateLimit { name: "uploading", most: 30, window: Duration::from_hours(1) };

/// Counts.
pub trait RateLimiter: Sync {
    /// Counts one more by `who`, in the limit's window; answers whether it may be done. `who` may be kept in clear:
    /// [`check`] tells only a hash. Where it is an account, that is named besides.
    fn count(
        &self,
        limit: RateLimit,
        who: &str,
        account: Option<UserId>,
    ) -> impl Future<Output = Result<Counted>> + Send;
}

/// What counting comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is within the limit.
    Within,
    /// It is one too many; that long until it is not.
    TooMany(Duration),
    /// It is by an account that was barred.
    Barred,
}

/// How long an account is barred, in seconds: as long as an access token is good.
pub const BARRED_SECONDS: u64 = crate::access_token::LIFETIME_SECONDS;

/// Bars accounts: their access tokens are good for a while after they were closed, and this makes them good for nothing.
pub trait AccountBar: Sync {
    /// Whatever counts of an account is [`Counted::Barred`] from now on, for [`BARRED_SECONDS`].
    fn bar(&self, account: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// Refuses what is done too often. If nobody can count, it is allowed, and the log says so.
pub async fn check(limiter: &impl RateLimiter, limit: RateLimit, who: &str) -> Result<(), Refusal> {
    counted(limiter, limit, who, None).await
}

async fn counted(
    limiter: &impl RateLimiter,
    limit: RateLimit,
    who: &str,
    account: Option<UserId>,
) -> Result<(), Refusal> {
    match limiter.count(limit, &pseudonym(limit, who), account).await {
        Ok(Counted::Within) => Ok(()),
        Ok(Counted::Barred) => Err(account_closed()),
        Ok(Counted::TooMany(wait)) => {
            let detail = format!("at most {} in {} s; wait", limit.most, limit.window.as_secs());
            let refusal = Refusal::new(Kind::RateLimited, "rate_limited", detail);
            Err(Refusal { retry_after: Some(wait), ..refusal })
        }
        Err(error) => {
            tracing::warn!(cache_unavailable = true, %error, limit = limit.name, "rate limits are not counted");
            Ok(())
        }
    }
}

/// What a person is called among the counts, which hold no mail or network address in clear. Differs by limit.
fn pseudonym(limit: RateLimit, who: &str) -> String {
    let digest = Sha256::new().chain_update(limit.name).chain_update([0]).chain_update(who).finalize();
    // 128 bits: no two are the same.
    BASE64_URL_SAFE_NO_PAD.encode(&digest[..16])
}

/// Bars an account that was closed. If nobody can remember that, its tokens are good until they expire, and the log says so.
pub async fn bar(bar: &impl AccountBar, account: UserId) {
    if let Err(error) = bar.bar(account).await {
        tracing::warn!(cache_unavailable = true, %error, user_id = %account, "a closed account is not barred");
    }
}

/// The refusal of who has left, whose token is good still.
#[must_use]
pub fn account_closed() -> Refusal {
    let detail = "the account was closed after the sign-in that this access token is of: sign in again";
    Refusal::new(Kind::Unauthenticated, "account_closed", detail)
}

/// Refuses what an account does too often, or does after it was closed.
pub async fn check_account(
    limiter: &impl RateLimiter,
    limit: RateLimit,
    user_id: UserId,
) -> Result<(), Refusal> {
    counted(limiter, limit, &user_id.to_string(), Some(user_id)).await
}
