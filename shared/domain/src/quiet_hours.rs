//! Quiet hours: a time of day, every day, at which a person's phone does not ring.
//!
//! They are intervals of instants, and not "the clock shows a time between": where a clock is put back, an hour comes
//! twice, and whoever asks for silence until half past two wants it to end at the first one. So for each civil day there is
//! one interval, from that day's `start` to the next `end`. A time that a clock leaves out comes as much later as the clock
//! was put forward, and of one that comes twice the first is meant (RFC 5545, 3.3.5, says the same of calendars).

use std::{cmp::Ordering, fmt, ops::Range, str::FromStr};

use jiff::{
    ToSpan as _,
    civil::{Date, Time},
    tz::{TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::Invalid,
    input::{Fields, parsed},
    time::Timestamp,
};

/// A time of day, to the minute: `22:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(Time);

impl FromStr for TimeOfDay {
    type Err = Invalid;

    /// Only two digits, a colon and two digits are read.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |digits: &str| -> Option<i8> {
            let is_plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| is_plain)
        };
        text.split_once(':')
            .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok())
            .map(Self)
            .ok_or_else(|| Invalid::new("invalid_time_of_day", "must be a time of day from 00:00 to 23:59"))
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

/// A time zone of the IANA database, by its name: `Europe/Oslo`.
///
/// The database is the one that is compiled in, so that a name that is valid once is valid everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(TimeZone);

impl ZoneName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The zone.
    #[must_use]
    pub const fn time_zone(&self) -> &TimeZone {
        &self.0
    }
}

/// UTC.
impl Default for ZoneName {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for ZoneName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = TimeZoneDatabase::bundled().get(text).ok();
        // Names have one spelling; and two are no place's: nothing is known of the one, and the other is a placeholder.
        let zone = known.filter(|zone| zone.iana_name() == Some(text) && !zone.is_unknown());
        zone.filter(|_| text != "Factory").map(Self).ok_or_else(|| {
            let detail = "must be the name of a time zone of the IANA database, such as Europe/Oslo";
            Invalid::new("unknown_time_zone", detail)
        })
    }
}

impl TryFrom<String> for ZoneName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ZoneName> for String {
    fn from(zone: ZoneName) -> Self {
        zone.as_str().to_owned()
    }
}

/// From when until when a phone does not ring, each day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct QuietHours {
    start: TimeOfDay,
    end: TimeOfDay,
    time_zone: ZoneName,
}

/// The same, with anything as its beginning and end.
#[derive(Serialize, Deserialize)]
struct Parts {
    start: TimeOfDay,
    end: TimeOfDay,
    time_zone: ZoneName,
}

impl TryFrom<Parts> for QuietHours {
    type Error = Invalid;

    fn try_from(Parts { start, end, time_zone }: Parts) -> Result<Self, Invalid> {
        Self::new(start, end, time_zone)
    }
}

impl From<QuietHours> for Parts {
    fn from(QuietHours { start, end, time_zone }: QuietHours) -> Self {
        Self { start, end, time_zone }
    }
}

/// The civil days, from today, whose quiet hours can hold an instant, or go on where others end. Where a zone has left out
/// a whole day (Apia, 30 December 2011), those of the day before yesterday end today.
const DAYS: [i64; 4] = [-2, -1, 0, 1];

impl QuietHours {
    /// From `start` until the next `end`. They are two times: it is never quiet for a whole day.
    pub fn new(start: TimeOfDay, end: TimeOfDay, time_zone: ZoneName) -> Result<Self, Invalid> {
        if start == end {
            return Err(Invalid::new("same_as_start", "must not be the same time as start"));
        }
        Ok(Self { start, end, time_zone })
    }

    /// Reads the object `quiet_hours`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let start = fields.required("start", parsed(str::parse));
        let end = fields.required("end", parsed(str::parse));
        let time_zone = fields.required("time_zone", parsed(str::parse));
        if start.is_some() && start == end {
            let same: Invalid = Invalid::new("same_as_start", "must not be the same time as start");
            return fields.refuse("end", same);
        }
        Self::new(start?, end?, time_zone?).ok()
    }

    /// When the quiet hours end in which this instant lies, if it lies in any: that is later than it.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.time_zone.0.clone()).date();
        let days = DAYS.iter().filter_map(|days| today.checked_add(days.days()).ok());
        let mut until = now;
        // Where a clock is put forward, those of one day can reach into those of the next.
        for quiet in days.filter_map(|day| self.of(day)) {
            if quiet.contains(&until) {
                until = quiet.end;
            }
        }
        (until > now).then_some(until)
    }

    /// Those that begin on a civil day; none at the end of time.
    fn of(&self, day: Date) -> Option<Range<Timestamp>> {
        let last = match self.start.cmp(&self.end) {
            Ordering::Less => day,
            _ => day.tomorrow().ok()?,
        };
        let instant = |day: Date, time: TimeOfDay| {
            // Compatible, in jiff's words: later in a gap, and the earlier one in a fold.
            day.to_datetime(time.0).to_zoned(self.time_zone.0.clone()).ok().map(|zoned| zoned.timestamp())
        };
        Some(instant(day, self.start)?..instant(last, self.end)?)
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, tz::Disambiguation};
    use proptest::prelude::*;

    use super::*;

    fn quiet(zone: &str, start: &str, end: &str) -> QuietHours {
        QuietHours::new(start.parse().unwrap(), end.parse().unwrap(), zone.parse().unwrap()).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Zone, start and end; an instant; and until when it is quiet then.
    type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

    const TABLE: &[Row] = &[
        // Oslo in winter, UTC+1: across midnight, to the instant.
        ("Europe/Oslo", "22:00", "07:00", "2026-01-10T20:59:59.999Z", None),
        ("Europe/Oslo", "22:00", "07:00", "2026-01-10T21:00:00Z", Some("2026-01-11T06:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-01-10T23:30:00Z", Some("2026-01-11T06:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-01-11T05:59:59.999Z", Some("2026-01-11T06:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-01-11T06:00:00Z", None),
        // Within a day: a siesta. And nearly all of one.
        ("Europe/Oslo", "13:00", "15:00", "2026-01-10T11:59:00Z", None),
        ("Europe/Oslo", "13:00", "15:00", "2026-01-10T12:00:00Z", Some("2026-01-10T14:00:00Z")),
        ("Europe/Oslo", "13:00", "15:00", "2026-01-10T14:00:00Z", None),
        ("Europe/Oslo", "07:00", "06:59", "2026-01-10T05:58:59Z", Some("2026-01-10T05:59:00Z")),
        ("Europe/Oslo", "07:00", "06:59", "2026-01-10T05:59:30Z", None),
        ("Europe/Oslo", "07:00", "06:59", "2026-01-10T06:00:00Z", Some("2026-01-11T05:59:00Z")),
        ("Europe/Oslo", "00:00", "23:59", "2026-01-10T22:59:30Z", None),
        // The night of 28 to 29 March, in which the clock is put forward from 02:00 to 03:00: an hour shorter.
        ("Europe/Oslo", "22:00", "07:00", "2026-03-28T21:00:00Z", Some("2026-03-29T05:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-03-29T04:59:59Z", Some("2026-03-29T05:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-03-29T05:00:00Z", None),
        // The end is left out: 02:30 is 03:30. The beginning is. Both are.
        ("Europe/Oslo", "22:00", "02:30", "2026-03-29T01:15:00Z", Some("2026-03-29T01:30:00Z")),
        ("Europe/Oslo", "22:00", "02:30", "2026-03-29T01:30:00Z", None),
        ("Europe/Oslo", "02:30", "07:00", "2026-03-29T01:29:59Z", None),
        ("Europe/Oslo", "02:30", "07:00", "2026-03-29T01:30:00Z", Some("2026-03-29T05:00:00Z")),
        ("Europe/Oslo", "02:10", "02:50", "2026-03-29T01:05:00Z", None),
        ("Europe/Oslo", "02:10", "02:50", "2026-03-29T01:10:00Z", Some("2026-03-29T01:50:00Z")),
        ("Europe/Oslo", "02:10", "02:50", "2026-03-29T01:50:00Z", None),
        // The beginning is left out, and comes after the end: that night there are none.
        ("Europe/Oslo", "02:30", "03:15", "2026-03-29T01:20:00Z", None),
        ("Europe/Oslo", "02:30", "03:15", "2026-03-29T01:40:00Z", None),
        ("Europe/Oslo", "02:30", "03:15", "2026-03-28T01:40:00Z", Some("2026-03-28T02:15:00Z")),
        // The end is left out, and comes after the next beginning: one silence, until the next day's end.
        ("Europe/Oslo", "03:00", "02:30", "2026-03-28T12:00:00Z", Some("2026-03-30T00:30:00Z")),
        ("Europe/Oslo", "03:00", "02:30", "2026-03-29T01:15:00Z", Some("2026-03-30T00:30:00Z")),
        // The night of 24 to 25 October, in which it is put back from 03:00 to 02:00: an hour longer.
        ("Europe/Oslo", "22:00", "07:00", "2026-10-24T20:00:00Z", Some("2026-10-25T06:00:00Z")),
        ("Europe/Oslo", "22:00", "07:00", "2026-10-25T05:59:59Z", Some("2026-10-25T06:00:00Z")),
        // The end comes twice: the first. The beginning does: the first. Both do.
        ("Europe/Oslo", "22:00", "02:30", "2026-10-25T00:29:59Z", Some("2026-10-25T00:30:00Z")),
        ("Europe/Oslo", "22:00", "02:30", "2026-10-25T00:30:00Z", None),
        ("Europe/Oslo", "22:00", "02:30", "2026-10-25T01:15:00Z", None),
        ("Europe/Oslo", "02:30", "07:00", "2026-10-25T00:29:00Z", None),
        ("Europe/Oslo", "02:30", "07:00", "2026-10-25T00:30:00Z", Some("2026-10-25T06:00:00Z")),
        ("Europe/Oslo", "02:30", "07:00", "2026-10-25T01:15:00Z", Some("2026-10-25T06:00:00Z")),
        ("Europe/Oslo", "02:10", "02:50", "2026-10-25T00:20:00Z", Some("2026-10-25T00:50:00Z")),
        ("Europe/Oslo", "02:10", "02:50", "2026-10-25T01:20:00Z", None),
        // New York, UTC-5 and -4: 8 March and 1 November.
        ("America/New_York", "23:00", "06:30", "2026-01-11T03:59:59Z", None),
        ("America/New_York", "23:00", "06:30", "2026-01-11T04:00:00Z", Some("2026-01-11T11:30:00Z")),
        ("America/New_York", "23:00", "06:30", "2026-03-08T04:00:00Z", Some("2026-03-08T10:30:00Z")),
        ("America/New_York", "23:00", "06:30", "2026-11-01T03:00:00Z", Some("2026-11-01T11:30:00Z")),
        ("America/New_York", "23:00", "01:30", "2026-11-01T05:29:59Z", Some("2026-11-01T05:30:00Z")),
        ("America/New_York", "23:00", "01:30", "2026-11-01T06:00:00Z", None),
        // Kolkata, UTC+5:30, and Kathmandu, +5:45: no changes.
        ("Asia/Kolkata", "22:00", "07:00", "2026-06-10T16:29:59Z", None),
        ("Asia/Kolkata", "22:00", "07:00", "2026-06-10T16:30:00Z", Some("2026-06-11T01:30:00Z")),
        ("Asia/Kathmandu", "22:00", "07:00", "2026-06-10T20:00:00Z", Some("2026-06-11T01:15:00Z")),
        // Lord Howe changes by half an hour, between +10:30 and +11: 5 April (02:00 to 01:30), 4 October (02:00 to 02:30).
        ("Australia/Lord_Howe", "22:00", "07:00", "2026-04-04T11:00:00Z", Some("2026-04-04T20:30:00Z")),
        ("Australia/Lord_Howe", "22:00", "01:45", "2026-04-04T14:44:59Z", Some("2026-04-04T14:45:00Z")),
        ("Australia/Lord_Howe", "22:00", "01:45", "2026-04-04T15:05:00Z", None),
        ("Australia/Lord_Howe", "22:00", "07:00", "2026-10-03T11:30:00Z", Some("2026-10-03T20:00:00Z")),
        ("Australia/Lord_Howe", "22:00", "02:15", "2026-10-03T15:40:00Z", Some("2026-10-03T15:45:00Z")),
        ("Australia/Lord_Howe", "22:00", "02:15", "2026-10-03T15:45:00Z", None),
        // The south, where it is put back in autumn: Auckland on 5 April, and forward on 27 September; Santiago at midnight.
        ("Pacific/Auckland", "22:00", "07:00", "2026-04-04T09:00:00Z", Some("2026-04-04T19:00:00Z")),
        ("Pacific/Auckland", "22:00", "07:00", "2026-09-26T10:00:00Z", Some("2026-09-26T18:00:00Z")),
        ("America/Santiago", "23:30", "06:00", "2026-04-05T02:30:00Z", Some("2026-04-05T10:00:00Z")),
        ("America/Santiago", "00:30", "06:00", "2026-09-06T04:29:59Z", None),
        ("America/Santiago", "00:30", "06:00", "2026-09-06T04:30:00Z", Some("2026-09-06T09:00:00Z")),
        // Casablanca is at +1, and at +0 in Ramadan: from 15 February to 22 March 2026.
        ("Africa/Casablanca", "22:00", "07:00", "2026-01-10T21:00:00Z", Some("2026-01-11T06:00:00Z")),
        ("Africa/Casablanca", "22:00", "07:00", "2026-02-14T21:00:00Z", Some("2026-02-15T07:00:00Z")),
        ("Africa/Casablanca", "22:00", "07:00", "2026-03-01T21:30:00Z", None),
        ("Africa/Casablanca", "22:00", "07:00", "2026-03-21T22:00:00Z", Some("2026-03-22T06:00:00Z")),
        // Apia left out 30 December 2011, and Kiritimati 31 December 1994 (at 10:00Z, from -10:40 to +14).
        ("Pacific/Apia", "22:00", "07:00", "2011-12-30T08:00:00Z", Some("2011-12-30T17:00:00Z")),
        ("Pacific/Apia", "22:00", "07:00", "2011-12-30T12:00:00Z", Some("2011-12-30T17:00:00Z")),
        ("Pacific/Apia", "22:00", "07:00", "2011-12-30T17:00:00Z", None),
        ("Pacific/Apia", "22:00", "07:00", "2026-06-10T09:00:00Z", Some("2026-06-10T18:00:00Z")),
        ("Pacific/Kiritimati", "22:00", "07:00", "2026-06-10T08:00:00Z", Some("2026-06-10T17:00:00Z")),
        ("Pacific/Kiritimati", "22:00", "07:00", "2026-06-10T07:59:00Z", None),
        ("UTC", "22:00", "07:00", "2026-06-10T22:00:00Z", Some("2026-06-11T07:00:00Z")),
    ];

    #[test]
    fn nights_are_quiet_in_every_zone_and_through_every_change() {
        for (zone, start, end, now, until) in TABLE {
            let found = quiet(zone, start, end).until(at(now));
            assert_eq!(found, until.map(at), "{zone} {start} to {end} at {now}");
        }
    }

    #[test]
    fn only_names_of_zones_are_taken_in_their_one_spelling() {
        for good in ["Europe/Oslo", "UTC", "Asia/Kolkata", "America/Argentina/Buenos_Aires", "Etc/GMT+3"] {
            assert_eq!(good.parse::<ZoneName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "Oslo",
            "europe/oslo",
            "+02:00",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "Etc/Unknown",
            "Factory",
            "utc",
        ] {
            assert!(bad.parse::<ZoneName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_has_one_spelling() {
        for good in ["00:00", "07:05", "23:59"] {
            assert_eq!(good.parse::<TimeOfDay>().unwrap().to_string(), good);
        }
        for bad in ["", "7:00", "24:00", "12:60", "+1:00", "12:00:00", "1200", "12:0x", "１２:00", " 12:00"]
        {
            assert!(bad.parse::<TimeOfDay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_stored_is_read_again_and_is_valid() {
        let night = quiet("Europe/Oslo", "22:00", "07:00");
        let json = serde_json::to_value(&night).unwrap();
        assert_eq!(json, serde_json::json!({"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"}));
        assert_eq!(serde_json::from_value::<QuietHours>(json).unwrap(), night);
        let same = serde_json::json!({"start": "22:00", "end": "22:00", "time_zone": "Europe/Oslo"});
        assert!(serde_json::from_value::<QuietHours>(same).is_err());
    }

    const ZONES: &[&str] = &[
        "Europe/Oslo",
        "Europe/Dublin",
        "America/New_York",
        "America/St_Johns",
        "America/Santiago",
        "America/Havana",
        "Asia/Kolkata",
        "Asia/Gaza",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "Pacific/Chatham",
        "Africa/Casablanca",
        "Antarctica/Troll",
        "UTC",
    ];

    /// Within an hour of a change of the zone's clock, or anywhere: changes are rare, and what is to be looked at.
    fn any_instant(zone: TimeZone) -> impl Strategy<Value = Timestamp> {
        let (from, to) = (at("2005-01-01T00:00:00Z"), at("2037-01-01T00:00:00Z"));
        (from.as_second()..to.as_second(), any::<bool>(), -30i64 * 3_600..30 * 3_600).prop_map(
            move |(second, near, offset)| {
                let instant = Timestamp::from_second(second).unwrap();
                let change = zone.following(instant).next().filter(|_| near);
                change.map_or(instant, |change| change.timestamp() + SignedDuration::from_secs(offset))
            },
        )
    }

    fn any_case() -> impl Strategy<Value = (&'static str, Timestamp)> {
        proptest::sample::select(ZONES).prop_flat_map(|zone| {
            let instant = any_instant(zone.parse::<ZoneName>().unwrap().0);
            (Just(zone), instant)
        })
    }

    /// Any minute, the small hours most of all: there clocks are changed.
    fn any_time() -> impl Strategy<Value = TimeOfDay> {
        let time = |minute: i16| {
            let (hour, minute) = (i8::try_from(minute / 60).unwrap(), i8::try_from(minute % 60).unwrap());
            TimeOfDay(Time::constant(hour, minute, 0, 0))
        };
        prop_oneof![0i16..24 * 60, 0i16..4 * 60].prop_map(time)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn quiet_hours_end_when_the_clock_shows_their_end(
            (zone, now) in any_case(),
            start in any_time(),
            end in any_time(),
        ) {
            prop_assume!(start != end);
            let night = QuietHours::new(start, end, zone.parse().unwrap()).unwrap();
            let zone = &night.time_zone.0;
            if let Some(until) = night.until(now) {
                prop_assert!(until > now);
                // A day and, where clocks reach from one day's into the next's, another.
                prop_assert!(until <= now + SignedDuration::from_hours(75));
                prop_assert_eq!(night.until(until), None, "right at the end");
                let shown = until.to_zoned(zone.clone());
                let date = shown.date();
                let is_end = shown.time() == end.0;
                let left_out = [date.yesterday().unwrap(), date].into_iter().any(|day| {
                    let meant = zone.to_ambiguous_zoned(day.to_datetime(end.0));
                    meant.is_ambiguous()
                        && meant.clone().disambiguate(Disambiguation::Reject).is_err()
                        && meant.compatible().unwrap().timestamp() == until
                });
                prop_assert!(is_end || left_out, "it shows {shown}");
                // All of it is quiet.
                let middle = Timestamp::from_millisecond(
                    i64::midpoint(now.as_millisecond(), until.as_millisecond())).unwrap();
                prop_assert_eq!(night.until(middle.max(now)), Some(until));
            }
            // On a day of 24 hours around it, the clock alone tells.
            let shown = now.to_zoned(zone.clone());
            let steady = (-50..=50).all(|hours| {
                zone.to_offset(now + SignedDuration::from_hours(hours)) == shown.offset()
            });
            if steady {
                let time = shown.time();
                let within = if start < end {
                    start.0 <= time && time < end.0
                } else {
                    time >= start.0 || time < end.0
                };
                prop_assert_eq!(night.until(now).is_some(), within);
            }
        }
    }
}
