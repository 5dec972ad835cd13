//! The time zones of a calendar. A name is one of IANA's, also at the end of a path, or of Windows'; any other is what the
//! calendar defines (RFC 5545, 3.6.5).

use std::collections::HashMap;

use jiff::tz::TimeZone;
use windows_timezones::WindowsTimezone;

use super::content::{Component, Written};

/// Finds time zones by the names that a calendar calls them.
pub(super) struct Zones<'a> {
    definitions: HashMap<&'a str, &'a Component>,
    found: HashMap<String, Option<TimeZone>>,
}

impl<'a> Zones<'a> {
    /// Those of these components.
    pub(super) fn of(components: impl Iterator<Item = &'a Component>) -> Self {
        let definitions = components.filter(|component| component.name == "VTIMEZONE");
        Self {
            definitions: definitions.filter_map(|zone| Some((zone.value("TZID")?, zone))).collect(),
            found: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, name: &str) -> Option<TimeZone> {
        if let Some(found) = self.found.get(name) {
            return found.clone();
        }
        let definition = self.definitions.get(name);
        let zone = known(name)
            .or_else(|| known(definition?.value("X-LIC-LOCATION")?))
            .or_else(|| defined(definition?));
        self.found.insert(name.to_owned(), zone.clone());
        zone
    }
}

fn known(name: &str) -> Option<TimeZone> {
    let iana = |name: &str| TimeZone::get(name).ok();
    // `/freeassociation.sourceforge.net/Europe/Oslo`: a name of IANA's has three parts at most.
    let ends = name.match_indices('/').rev().take(3).map(|(at, _)| &name[at + 1..]);
    let windows = || name.parse::<WindowsTimezone>().ok().and_then(|zone| iana(zone.tzdb_id()));
    iana(name).or_else(windows).or_else(|| ends.filter(|end| end.contains('/')).find_map(iana))
}

/// A zone by its newest rules, as POSIX writes them.
fn defined(zone: &Component) -> Option<TimeZone> {
    let newest = |kind: &str| {
        let observances = zone.children.iter().filter(|child| child.name == kind);
        observances.max_by_key(|child| child.value("DTSTART").unwrap_or_default())
    };
    let standard = newest("STANDARD")?;
    let standard_offset = posix_offset(standard)?;
    let rule = match newest("DAYLIGHT") {
        Some(daylight) => {
            let (begins, ends) = (posix_change(daylight)?, posix_change(standard)?);
            format!("<std>{standard_offset}<dst>{},{begins},{ends}", posix_offset(daylight)?)
        }
        None => format!("<std>{standard_offset}"),
    };
    TimeZone::posix(&rule).ok()
}

/// `TZOFFSETTO:+0130` is `-1:30` there: what is to be added to get UTC.
fn posix_offset(observance: &Component) -> Option<String> {
    let offset = observance.value("TZOFFSETTO")?;
    let (sign, digits) = offset.split_at_checked(1)?;
    let sign = match sign {
        "+" => "-",
        "-" => "+",
        _ => return None,
    };
    let is_number = matches!(digits.len(), 4 | 6) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("{sign}{}:{}", &digits[..2], &digits[2..4]))
}

/// `FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU` from `19700329T020000` is `M3.5.0/2`.
fn posix_change(observance: &Component) -> Option<String> {
    let rule = observance.value("RRULE")?.to_ascii_uppercase();
    let part = |name: &str| rule.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let month: u8 = part("BYMONTH")?.parse().ok()?;
    let (nth, weekday) = part("BYDAY")?.split_at_checked(part("BYDAY")?.len().checked_sub(2)?)?;
    let week = match nth.parse::<i8>().ok()? {
        -1 => 5,
        nth @ 1..=4 => nth,
        _ => return None,
    };
    let weekday = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"].iter().position(|day| *day == weekday)?;
    let Written::Local(start) = Written::read(observance.value("DTSTART")?)? else { return None };
    Some(format!("M{month}.{week}.{weekday}/{}:{:02}", start.hour(), start.minute()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ics::content;

    #[test]
    fn names_are_ianas_or_windows_or_defined() {
        let definition = |name: &str, more: &str| {
            format!(
                "BEGIN:VTIMEZONE\nTZID:{name}\n{more}BEGIN:STANDARD\nDTSTART:19701025T030000\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\n\
                 TZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:19700329T020000\n\
                 RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nEND:DAYLIGHT\nEND:VTIMEZONE\n"
            )
        };
        let fixed = "BEGIN:VTIMEZONE\nTZID:Fixed\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETTO:-0330\nEND:STANDARD\nEND:VTIMEZONE\n";
        let broken = "BEGIN:VTIMEZONE\nTZID:Broken\nEND:VTIMEZONE\n";
        let text =
            [&definition("Our own", ""), &definition("Named", "X-LIC-LOCATION:Asia/Tokyo\n"), fixed, broken]
                .concat();
        let components = content::read(text.as_bytes()).unwrap();
        let mut zones = Zones::of(components.iter());
        for (name, winter, summer) in [
            ("Europe/Oslo", 1.0, 2.0),
            ("/freeassociation.sourceforge.net/Europe/Oslo", 1.0, 2.0),
            ("/a.example/20070129_1/America/Argentina/Buenos_Aires", -3.0, -3.0),
            ("W. Europe Standard Time", 1.0, 2.0),
            ("Our own", 1.0, 2.0),
            ("Named", 9.0, 9.0),
            ("Fixed", -3.5, -3.5),
        ] {
            let zone = zones.get(name).expect(name);
            let hours = |time: &str| f64::from(zone.to_offset(time.parse().unwrap()).seconds()) / 3_600.0;
            assert_eq!(
                (hours("2026-01-15T12:00:00Z"), hours("2026-07-15T12:00:00Z")),
                (winter, summer),
                "{name}"
            );
        }
        for name in ["", "/", "Broken", "Middle-earth"] {
            assert_eq!(zones.get(name), None);
        }
    }
}
