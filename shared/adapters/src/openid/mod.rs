//! Issuers of OpenID Connect, over HTTP: what each publishes of itself, and what its tokens say.
//!
//! An issuer's description and its keys are fetched when they are first needed, and kept in the process ([`Provider`]).
//! Identity tokens are verified by `openidconnect`, as its standard has it; access tokens, of which that standard says
//! nothing, by `jsonwebtoken`, as our own are. Both accept signatures of asymmetric keys alone: where a secret or nothing at
//! all will do, whoever knows the public key can sign.

mod access_tokens;
mod identity_tokens;
mod provider;

use std::time::Duration;

use tocsin_domain::time::Timestamp;

pub use access_tokens::TrustedIssuers;
pub use identity_tokens::{AppTokens, WebClient};
pub use provider::Provider;

/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: i64 = 30;

/// Whether a token that was made then, in seconds of the epoch, is not of the future, and no older than this.
fn made_lately(made: i64, max_age: Option<Duration>, now: Timestamp) -> Result<(), String> {
    let age = now.as_second().saturating_sub(made);
    let most = max_age.map_or(i64::MAX, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    if (-LEEWAY_SECONDS..=most).contains(&age) { Ok(()) } else { Err(format!("made {age} s ago")) }
}
