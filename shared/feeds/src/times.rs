//! Times as feeds write them.

use jiff::{civil::DateTime, fmt::rfc2822, tz::TimeZone};
use tocsin_domain::time::{self, Timestamp};

use crate::Context;

/// An instant of RFC 3339, or the like; without a zone, it is of the feed's.
pub(crate) fn instant(text: &str, context: &Context<'_>) -> Result<Timestamp, String> {
    standard(text.trim(), context).ok_or_else(|| no_time(text))
}

/// An instant of RFC 3339 or of RFC 822: where the one is prescribed, some write the other.
pub(crate) fn either(text: &str, context: &Context<'_>) -> Result<Timestamp, String> {
    let trimmed = text.trim();
    standard(trimmed, context).or_else(|| mail_date(trimmed, context)).ok_or_else(|| no_time(text))
}

/// The instant of a local time. One that the clocks skip is as much later as they skip, and of one that they repeat it is the
/// first (RFC 5545, 3.3.5).
pub(crate) fn local(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    Some(time::to_the_millisecond(time.to_zoned(zone.clone()).ok()?.timestamp()))
}

fn no_time(text: &str) -> String {
    format!("is no time: {text:?}")
}

fn standard(text: &str, context: &Context<'_>) -> Option<Timestamp> {
    time::parse(text).ok().or_else(|| local(text.parse().ok()?, context.time_zone))
}

/// An instant of RFC 822, which may name a wrong day of the week.
fn mail_date(text: &str, context: &Context<'_>) -> Option<Timestamp> {
    const PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    PARSER.parse_timestamp(text).ok().map(time::to_the_millisecond).or_else(|| {
        let date = text.split_once(',').map_or(text, |(_, date)| date.trim_start());
        local(DateTime::strptime("%d %b %Y %H:%M:%S", date).ok()?, context.time_zone)
    })
}
