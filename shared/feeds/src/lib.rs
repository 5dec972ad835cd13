//! The formats of outside feeds, each read by an adapter of its own. A new one is a file, and a line in [`adapter`].
//!
//! A document comes from the outside: it is as large as the fetch allows, and may be anything. An adapter takes what it
//! understands of it, names what it does not, and never fails because of one entry. It expands no entities but XML's own five
//! and numbers, reads no DTD, fetches nothing, and goes no deeper than [`MOST_DEPTH`]; and it takes less than a second for what
//! a fetch brings.
//!
//! That no bytes make it fail is tried for as long as one likes by
//!
//! ```text
//! cargo run --release -p tocsin-feeds --example fuzz -- --seconds 60
//! ```
//!
//! which damages the document of each format in [`samples`], and those of a folder (`--folder`), and ends with an error where an
//! adapter panics or takes over a second. What an adapter makes of a document, and what that takes, is shown by
//!
//! ```text
//! cargo run --release -p tocsin-feeds --example read -- --format cap alert.xml
//! ```

use std::collections::HashSet;

use tocsin_domain::{
    feed::Format,
    feed_item::{BadEntry, Context, NotThisFormat, Reading},
};

mod alert;
mod cap;
mod geojson;
mod georss;
mod html;
mod ics;
mod plan_list_xml;
pub mod samples;
mod shapes;
mod syndication;
mod tags;
mod times;
mod xml;

/// Reads a format.
pub trait Adapter: Send + Sync {
    /// Reads a document. An error says why it is none of this format.
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat>;
}

/// The most entries of a document: what is beyond is named as bad.
pub const MOST_ENTRIES: usize = 20_000;
/// The most items of an entry: what is beyond is named as bad.
pub const MOST_OF_ENTRY: usize = 1_000;
/// How deep elements or values may lie within each other.
pub const MOST_DEPTH: usize = 64;

/// Reads a document in a format. An error says why it is none of it.
pub fn read(format: Format, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
    adapter(format).read(document, context)
}

/// The adapter of a format.
#[must_use]
pub fn adapter(format: Format) -> &'static dyn Adapter {
    match format {
        Format::Atom => &syndication::Atom,
        Format::Cap => &cap::Cap,
        Format::Geojson => &geojson::Geojson,
        Format::Ics => &ics::Ics,
        Format::PlanListXml => &plan_list_xml::PlanListXml,
        Format::Rss => &syndication::Rss,
    }
}

/// Keeps the first entry of each id, and of each alias: a post that is two things would change at every poll.
fn each_once(reading: &mut Reading) {
    let mut seen: HashSet<&str> = HashSet::new();
    let first = reading.entries.iter().map(|entry| {
        let ids = || std::iter::once(&entry.id).chain(&entry.aliases).map(String::as_str);
        let is_first = !ids().any(|id| seen.contains(id));
        if is_first {
            seen.extend(ids());
        }
        is_first
    });
    let mut first = first.collect::<Vec<_>>().into_iter();
    reading.entries.retain(|entry| {
        let is_first = first.next().unwrap_or_default();
        if !is_first {
            reading.bad.push(BadEntry { entry: entry.id.clone(), reason: "is there twice".to_owned() });
        }
        is_first
    });
}

#[cfg(test)]
mod testing {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    /// Reads a document as one that was fetched from example.org, by a feed in Oslo.
    pub(crate) fn read(adapter: &dyn Adapter, document: &[u8]) -> Result<Reading, NotThisFormat> {
        let time_zone = jiff::tz::TimeZone::get("Europe/Oslo").unwrap();
        let url = Url::parse("https://example.org/feeds/all").unwrap();
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        adapter.read(document, &Context { url: &url, now, language: Some("nb"), time_zone: &time_zone })
    }

    /// Documents of a format that were damaged.
    pub(crate) fn damaged(format: Format) -> impl Strategy<Value = Vec<u8>> {
        let near = (0.0..1.0f64, 0.0..0.05f64).prop_map(|(from, length)| (from, from + length));
        let span = prop_oneof![near, (0.0..1.0f64, 0.0..1.0f64)];
        let text = "[0-9A-Z<>&;:=,.\\-\n\"é\u{7f}]{0,8}|[0-9]{20}".prop_map(String::into_bytes);
        let damage = (span, prop::sample::select(&samples::DamageKind::ALL), text)
            .prop_map(|(span, kind, text)| samples::Damage { span, kind, text });
        prop::collection::vec(damage, 1..8)
            .prop_map(move |damages| samples::damaged(samples::document(format).as_bytes(), &damages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many items a document has, and what is wrong with it.
    fn outcome(format: Format, document: &str) -> (usize, Vec<String>) {
        let reading = testing::read(adapter(format), document.as_bytes()).unwrap();
        samples::check_bounds(&reading).unwrap();
        let items = reading.entries.iter().map(|entry| entry.items.len()).sum();
        (items, reading.bad.into_iter().map(|bad| bad.reason).collect())
    }

    /// An item is a record of the log and of the table: one that is too large would stop all of its feed, at every poll.
    #[test]
    fn one_field_that_is_too_large_is_named_and_stops_nothing() {
        let long = "å".repeat(1_000);
        let name = "n".repeat(201);
        let atom = "xmlns='http://www.w3.org/2005/Atom'";
        let alert = |sender: &str, references: &str, web: &str| {
            format!(
                "<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'><identifier>1</identifier><sender>{sender}</sender>\
                 <sent>2026-11-21T19:00:00Z</sent><status>Actual</status><msgType>Update</msgType><scope>Public</scope>\
                 <references>{references}</references><info><event>Storm</event><web>{web}</web></info></alert>"
            )
        };
        let earthquake = |url: &str| {
            format!(
                "{{'type': 'Feature', 'id': '1', 'properties': {{'mag': 1e308, 'time': 1795287600000, 'url': '{url}'}},
                 'geometry': {{'type': 'Point', 'coordinates': [5, 60, 1e308]}}}}"
            )
            .replace('\'', "\"")
        };
        let too_long = "its link is longer than 2000 characters";
        for (format, document, items, reason) in [
            (
                Format::Rss,
                format!(
                    "<rss><channel><item><guid>1</guid><title>A</title><link>/{long}</link></item></channel></rss>"
                ),
                1,
                too_long,
            ),
            (
                Format::Atom,
                format!(
                    "<feed {atom}><entry><id>1</id><title>A</title><link href='/{long}'/></entry></feed>"
                ),
                1,
                too_long,
            ),
            (Format::Cap, format!("<feed {atom}><entry><link href='/{long}'/></entry></feed>"), 0, too_long),
            (Format::Cap, alert("met", "met,0,x", &long), 1, too_long),
            (Format::Cap, alert(&name, "met,0,x", "/"), 0, "has a sender of more than 200 bytes"),
            (
                Format::Cap,
                alert("met", &format!("met,0,x met,{name},x"), "/"),
                1,
                "a reference has an identifier of more than 200 bytes",
            ),
            (Format::Cap, alert("met\nno", "met,0,x", "/"), 0, "has a sender of several lines"),
            (Format::Geojson, earthquake(&long), 1, too_long),
            (
                Format::Ics,
                format!(
                    "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\nURL:/{long}\nEND:VEVENT\nEND:VCALENDAR"
                ),
                1,
                too_long,
            ),
        ] {
            assert_eq!(outcome(format, &document), (items, vec![reason.to_owned()]), "{format:?}");
        }
    }

    #[test]
    fn of_too_many_or_too_large_parts_the_others_are_read() {
        let plans = |id: &str, count: usize, price: &str| {
            let plan = |number: usize| {
                format!(
                    "<plan plan_id='{number}' plan_start_date='2026-12-03T21:00:00' plan_end_date='2026-12-03T22:00:00'>\
                     <zone price='{price}'/></plan>"
                )
            };
            let plans = (0..count).map(plan).collect::<Vec<_>>().concat();
            format!("<base_plan base_plan_id='{id}' sell_mode='online' title='A'>{plans}</base_plan>")
        };
        let list = |bases: &[String]| format!("<planList>{}</planList>", bases.concat());
        let calendar = |events: &[String]| format!("BEGIN:VCALENDAR\n{}END:VCALENDAR", events.concat());
        let other = |number: usize| {
            let (hour, minute) = (number / 60, number % 60);
            format!(
                "BEGIN:VEVENT\nUID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\n\
                 RECURRENCE-ID:20270101T{hour:02}{minute:02}00Z\nEND:VEVENT\n"
            )
        };
        for (format, document, items, reason) in [
            (
                Format::Ics,
                calendar(&(0..1_001).map(other).collect::<Vec<_>>()),
                1_000,
                "has more than 1000 instances",
            ),
            (
                Format::PlanListXml,
                list(&[plans("1", 1, "1000000000.01"), plans("2", 1, "1000000000")]),
                1,
                "a zone's price is no amount: \"1000000000.01\"",
            ),
            (
                Format::PlanListXml,
                list(&[plans("1", 1_002, "1"), plans("2", 1, "1")]),
                1_001,
                "2 of it are left out, since it has more than 1000",
            ),
        ] {
            assert_eq!(outcome(format, &document), (items, vec![reason.to_owned()]), "{format:?}");
        }
    }

    #[test]
    fn of_what_is_too_large_to_be_held_the_whole_parts_are_read_and_the_others_are_whole() {
        let many = "<zone price='1' name='Row' zone_id='1'/>".repeat(200);
        let base = |id: &str, count: usize| {
            let plan = |number: usize| {
                format!(
                    "<plan plan_id='{number}' plan_start_date='2026-12-03T21:00:00' plan_end_date='2026-12-03T22:00:00'>{many}</plan>"
                )
            };
            let plans = (0..count).map(plan).collect::<Vec<_>>().concat();
            format!("<base_plan base_plan_id='{id}' sell_mode='online' title='A'>{plans}</base_plan>")
        };
        let list = format!("<planList>{}</planList>", [base("1", 100), base("2", 1)].concat());
        let reading = testing::read(adapter(Format::PlanListXml), list.as_bytes()).unwrap();
        let items: Vec<_> = reading.entries.iter().map(|entry| entry.items.len()).collect();
        // A plan is 804 parts, of which 50,000 are read.
        assert_eq!(items, [62, 1]);
        let named: Vec<_> = reading.bad.iter().map(|bad| (bad.entry.as_str(), bad.reason.as_str())).collect();
        let too_large = "is too large to be read whole";
        assert_eq!(named, [("base_plan 1 › plan 62", too_large), ("base_plan 1", too_large)]);

        let codes = "<geocode><valueName>n</valueName><value>1</value></geocode>".repeat(30_000);
        let alert = |identifier: &str, codes: &str| {
            format!(
                "<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'><identifier>{identifier}</identifier><sender>met</sender>\
                 <sent>2026-11-21T19:00:00Z</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope>\
                 <info><event>Storm</event><area>{codes}</area></info></alert>"
            )
        };
        let entry = |id: &str, codes: &str| {
            let alert = alert(id, codes);
            format!("<entry><id>{id}</id><title>{id}</title><content>{alert}</content></entry>")
        };
        let index = [entry("1", &codes), entry("2", "")].concat();
        let index = format!("<feed xmlns='http://www.w3.org/2005/Atom'>{index}</feed>");
        for format in [Format::Cap, Format::Atom] {
            assert_eq!(outcome(format, &index), (1, vec![too_large.to_owned()]), "{format:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_found() {
        use tocsin_domain::{
            feed_item::{Entry, Item},
            post::{PostKind, Prices},
        };
        let fair = || Item::new(PostKind::Event, "A fair");
        let of = |items| Reading { entries: vec![Entry { items, ..Entry::default() }], ..Reading::default() };
        let check = |item| samples::check_bounds(&of(vec![item])).is_ok();
        assert!(check(fair()));
        let prices = |max| Some(Prices { min: 0.0, max });
        for max in [f64::INFINITY, f64::NAN, 1e10] {
            assert!(!check(Item { prices: prices(max), ..fair() }), "{max}");
        }
        assert!(!check(Item { body: Some("x".repeat(300_000)), ..fair() }));
        let url = format!("https://example.org/{}", "a".repeat(2_000));
        assert!(!check(Item { link: url.parse().ok(), ..fair() }));
        assert!(samples::check_bounds(&of(vec![fair(); 1_001])).is_err());
    }
}
