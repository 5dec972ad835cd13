//! Instants, as the whole system has them: UTC, to the millisecond, RFC 3339 where they are written.

pub use jiff::Timestamp;
use jiff::{SignedDuration, Unit, civil::DateTime, tz::TimeZone};

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

/// The next millisecond, or the end of time.
#[must_use]
pub fn just_after(time: Timestamp) -> Timestamp {
    time.checked_add(SignedDuration::from_millis(1)).unwrap_or(Timestamp::MAX)
}

/// Parses an RFC 3339 time, or one without a zone, which is then of this zone: where clocks go back, the first of the two
/// that are called so, and where they go forward, as long after the change as it says.
pub fn parse_in(text: &str, zone: &TimeZone) -> Result<Timestamp, Invalid> {
    let is_digit = |letter: char| letter.is_ascii_digit() || matches!(letter, ':' | '.');
    let is_local = text.split_once('T').is_some_and(|(_, time)| time.chars().all(is_digit));
    if !is_local {
        return parse(text);
    }
    let local = text.parse::<DateTime>().and_then(|local| zone.to_timestamp(local));
    local.map(to_the_millisecond).map_err(|_| {
        Invalid::new(
            "invalid_time",
            "must be an RFC 3339 time, such as 2026-11-20T18:02:11Z, or without its zone",
        )
    })
}

/// An instant without what is finer than a millisecond.
#[must_use]
pub fn to_the_millisecond(time: Timestamp) -> Timestamp {
    let trunc = jiff::TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Floor);
    time.round(trunc).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_of_the_one_that_is_meant() {
        let oslo = TimeZone::get("Europe/Oslo").unwrap();
        for (text, utc) in [
            ("2021-06-30T21:00:00", "2021-06-30T19:00:00Z"),
            ("2021-06-30T21:00:00.5", "2021-06-30T19:00:00.5Z"),
            ("2021-12-30T21:00", "2021-12-30T20:00:00Z"),
            ("2021-06-30T21:00:00Z", "2021-06-30T21:00:00Z"),
            ("2021-06-30T21:00:00-04:00", "2021-07-01T01:00:00Z"),
            // Twice, and never.
            ("2021-10-31T02:30:00", "2021-10-31T00:30:00Z"),
            ("2021-03-28T02:30:00", "2021-03-28T01:30:00Z"),
        ] {
            assert_eq!(parse_in(text, &oslo), parse(utc), "{text}");
            assert!(parse(utc).is_ok());
        }
        for bad in [
            "",
            "T",
            "tonight",
            "2021-06-30",
            "2021-06-30T",
            "2021-02-30T21:00:00",
            "2021-06-30T25:00:00",
            "2021-06-30T21:00:00+99:00",
            "2021-06-30T21:00:00 02:00",
            "2021-06-30T21:00:00[Europe/Oslo]",
            "99999-01-01T00:00:00",
        ] {
            assert_eq!(parse_in(bad, &oslo).map_err(|invalid| invalid.code), Err("invalid_time"), "{bad}");
        }
    }
}
