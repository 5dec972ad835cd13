//! Instants, as the whole system has them: UTC, to the millisecond, RFC 3339 where they are written.

pub use jiff::Timestamp;
use jiff::{SignedDuration, Unit};

use crate::error::Invalid;

/// This instant, to the millisecond: what an id, a sorted set's score and JSON can all hold.
#[must_use]
pub fn now() -> Timestamp {
    to_the_millisecond(Timestamp::now())
}

/// Parses an RFC 3339 time with its zone; what is finer than a millisecond is dropped.
pub fn parse(text: &str) -> Result<Timestamp, Invalid> {
    text.parse().map(to_the_millisecond).map_err(|_| {
        Invalid::new("invalid_time", "must be an RFC 3339 time with its zone, such as 2026-11-20T18:02:11Z")
    })
}

/// `time` and so many seconds, or the end of time.
#[must_use]
pub fn after(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn to_the_millisecond(time: Timestamp) -> Timestamp {
    let trunc = jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    time.round(trunc).unwrap_or(time)
}
