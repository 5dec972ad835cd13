//! Documents to try adapters on: one of each format, what is left of it when it is damaged, and long lists of plans. Tests, the
//! examples and who measures use them; no function does.

use std::fmt::Write as _;

use jiff::{ToSpan as _, tz::TimeZone};
use serde_json::Value;
use tocsin_domain::{
    feed::Format,
    feed_item::{Item, Reading},
    time::Timestamp,
};

use crate::{MOST_ENTRIES, MOST_OF_ENTRY};

/// A document of a format, in which something is said of everything.
#[must_use]
pub const fn document(format: Format) -> &'static str {
    match format {
        Format::Atom => include_str!("../samples/alerts.atom"),
        Format::Cap => include_str!("../samples/alert.cap"),
        Format::Geojson => include_str!("../samples/features.geojson"),
        Format::Ics => include_str!("../samples/calendar.ics"),
        Format::PlanListXml => include_str!("../samples/plans.xml"),
        Format::Rss => include_str!("../samples/disasters.rss"),
    }
}

/// A list of so many plans, all of which are sold online, spread over the year from some instant on. Each takes a kilobyte.
#[must_use]
pub fn plan_list(plans: u32, from: Timestamp) -> String {
    const MINUTES_OF_A_YEAR: u64 = 365 * 24 * 60;
    let begin = TimeZone::UTC.to_datetime(from);
    let mut list =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<planList version=\"1.0\"><output>\n");
    for plan in 0..plans {
        let minutes = u64::from(plan) * MINUTES_OF_A_YEAR / u64::from(plans);
        let at = |after: u64| begin.saturating_add(i64::try_from(minutes + after).unwrap_or(0).minutes());
        let time = |after| at(after).strftime("%Y-%m-%dT%H:%M:%S");
        let (start, end) = (time(0), time(120));
        // To write to a text never fails.
        let _ = write!(
            list,
            "<base_plan base_plan_id=\"{plan}\" sell_mode=\"online\" title=\"Concert {plan} &amp; more\" organizer_company_id=\"1\">\n\
             <plan plan_id=\"1\" plan_start_date=\"{start}\" plan_end_date=\"{end}\" sell_from=\"2026-01-01T00:00:00\" \
             sell_to=\"{start}\" sold_out=\"false\">\n"
        );
        for zone in 0..8 {
            let price = 10 + (plan + zone) % 50;
            let _ = writeln!(
                list,
                "<zone zone_id=\"{zone}\" capacity=\"243\" price=\"{price}.50\" name=\"Row {zone} of the great hall\" numbered=\"true\"/>"
            );
        }
        list.push_str("</plan></base_plan>\n");
    }
    list.push_str("</output></planList>\n");
    list
}

/// Finds what is larger in a reading than anything may be, whatever its document: an item is a record of the log, and part of one
/// of the table.
pub fn check_bounds(reading: &Reading) -> Result<(), String> {
    /// How long an item is at most, in bytes of JSON.
    const MOST_OF_ITEM: usize = 300_000;
    let is_in = |what: &str, size: usize, most: usize| {
        if size <= most { Ok(()) } else { Err(format!("{size} {what}, which may be {most}")) }
    };
    is_in("entries", reading.entries.len(), MOST_ENTRIES)?;
    for entry in &reading.entries {
        is_in("items", entry.items.len(), MOST_OF_ENTRY)?;
        for id in entry.message.iter().flat_map(|message| message.references.iter().chain([&message.id])) {
            is_in("bytes of a message's names", id.sender.len().max(id.identifier.len()), 200)?;
        }
        for item in &entry.items {
            is_in("bytes of a link", item.link.as_ref().map_or(0, |link| link.as_str().len()), 2_000)?;
            // Ids may have any length: they are kept as their hashes.
            let said = Item { sub_id: None, ..item.clone() };
            let length = serde_json::to_vec(&said).map_or(usize::MAX, |json| json.len());
            is_in("bytes of an item", length, MOST_OF_ITEM)?;
            if !has_bounded_numbers(&said) {
                return Err(format!("a number of an item is too large: {said:?}"));
            }
        }
    }
    Ok(())
}

/// Whether all numbers of an item are finite, and no larger than a price may be.
fn has_bounded_numbers(item: &Item) -> bool {
    fn is_bounded(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= 1e9),
            Value::Array(all) => all.iter().all(is_bounded),
            Value::Object(all) => all.values().all(is_bounded),
            Value::Null | Value::Bool(_) | Value::String(_) => true,
        }
    }
    // JSON has no other numbers than finite ones: what is none is written as null.
    item.prices.is_none_or(|prices| prices.min.is_finite() && prices.max.is_finite())
        && serde_json::to_value(item).is_ok_and(|value| is_bounded(&value))
}

/// Something that is done to a document.
#[derive(Clone, Debug)]
pub struct Damage {
    /// Where it is done, and where to: as shares of the document.
    pub span: (f64, f64),
    /// What is done.
    pub kind: DamageKind,
    /// What is written there.
    pub text: Vec<u8>,
}

/// What is done to a document.
#[derive(Clone, Copy, Debug)]
pub enum DamageKind {
    /// The text is written over what is there.
    Overwrite,
    /// The text is put in between.
    Insert,
    /// What is from here to there is taken away.
    Cut,
    /// The text is written instead of what is from here to there.
    Replace,
    /// What is from here to there is said again after it.
    Repeat,
    /// What is from here to there, but few bytes of it, is put at the beginning of the document's second half.
    Move,
    /// It ends here.
    End,
}

impl DamageKind {
    /// All that there are.
    pub const ALL: [Self; 7] =
        [Self::Overwrite, Self::Insert, Self::Cut, Self::Replace, Self::Repeat, Self::Move, Self::End];
}

/// What is left of a document: of a megabyte at most.
#[must_use]
pub fn damaged(document: &[u8], damages: &[Damage]) -> Vec<u8> {
    const MOST: usize = 1_000_000;
    let mut bytes = document.to_vec();
    for Damage { span: (from, to), kind, text } in damages {
        let place = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "a place in a megabyte"
            )]
            let place = (bytes.len() as f64 * share) as usize;
            place.min(bytes.len())
        };
        let (from, to) = (place(from.min(*to)), place(from.max(*to)));
        match kind {
            DamageKind::Overwrite => {
                let end = (from + text.len()).min(bytes.len());
                bytes.splice(from..end, text.iter().copied());
            }
            DamageKind::Insert => drop(bytes.splice(from..from, text.iter().copied())),
            DamageKind::Cut => drop(bytes.drain(from..to)),
            DamageKind::Replace => drop(bytes.splice(from..to, text.iter().copied())),
            DamageKind::Repeat => {
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            DamageKind::Move => {
                let moved: Vec<u8> = bytes.drain(from..to.min(from + 40)).collect();
                let middle = bytes.len() / 2;
                bytes.splice(middle..middle, moved);
            }
            DamageKind::End => bytes.truncate(from),
        }
        bytes.truncate(MOST);
    }
    bytes
}
