//! `cap`: alerts of the Common Alerting Protocol (OASIS CAP 1.2), alone, or linked from or within an index in Atom
//! (RFC 4287) or RSS.
//!
//! ```xml
//! <alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
//!   <identifier>1</identifier> <sender>met@example.org</sender> <sent>2026-11-21T19:00:00+01:00</sent>
//!   <status>Actual</status> <msgType>Alert</msgType> <scope>Public</scope>
//!   <info>
//!     <language>nb</language> <category>Met</category> <event>Storm</event>
//!     <urgency>Expected</urgency> <severity>Severe</severity> <certainty>Likely</certainty>
//!     <area> <areaDesc>Bergen</areaDesc> <circle>60.39,5.32 20</circle> </area>
//!   </info>
//! </alert>
//! ```

use std::collections::HashSet;

use tocsin_domain::{
    feed_item::{BadEntry, Reading},
    place::Point,
};
use url::Url;

use crate::{
    Adapter, Context, MOST_ENTRIES, NotThisFormat,
    alert::{self, Alert, Block, EVENT_ENDING_TIME, EXPIRED_REFERENCES, SAME, is_web, references},
    each_once,
    shapes::{self, MOST_POINTS, Shape},
    xml::{self, Element, TOO_LARGE},
};

pub(crate) struct Cap;

const CAP: &str = "urn:oasis:names:tc:emergency:cap:1.2";
const ATOM: &str = "http://www.w3.org/2005/Atom";
/// The Global Disaster Alert and Coordination System, whose RSS leads to pages, and names alerts beside.
const GDACS: &str = "http://www.gdacs.org";
/// The most documents that an index links: each is fetched by itself.
const MOST_LINKS: usize = 1_000;
/// The media type of an alert, as IANA has it.
const MEDIA_TYPE: &str = "application/cap+xml";

impl Adapter for Cap {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        let mut reading = Reading::default();
        let (mut links, mut links_left_out) = (HashSet::new(), 0);
        let mut seen = 0;
        let root = xml::each(document, &["alert", "entry", "item"], |element| {
            seen += 1;
            if seen > MOST_ENTRIES {
                return;
            }
            if element.is_cut {
                let entry = format!("{} {seen}", element.name);
                return reading.bad.push(BadEntry { entry, reason: TOO_LARGE.to_owned() });
            }
            match (&*element.namespace, element.name.as_str()) {
                (CAP, "alert") => alert(&element).read(context, &mut reading),
                (ATOM, "entry") | (_, "item") => match (enclosed(&element), link(&element, context.url)) {
                    (Some(enclosed), _) => alert(enclosed).read(context, &mut reading),
                    (None, Ok(link)) if links.contains(&link) => {}
                    (None, Ok(_)) if links.len() == MOST_LINKS => links_left_out += 1,
                    (None, Ok(link)) => {
                        links.insert(link.clone());
                        reading.links.push(link);
                    }
                    (None, Err(reason)) => {
                        reading.bad.push(BadEntry { entry: format!("{} {seen}", element.name), reason });
                    }
                },
                _ => {}
            }
        })?;
        each_once(&mut reading);
        match (&*root.namespace, root.name.as_str()) {
            (CAP, "alert") | (ATOM, "feed") | (_, "rss" | "RDF") => {}
            (other, "alert") => {
                return Err(NotThisFormat(format!("it is an alert of {other:?}, not of {CAP}")));
            }
            (_, other) => return Err(NotThisFormat(format!("its root is {other}, not alert, feed or rss"))),
        }
        if links_left_out > 0 {
            let reason =
                format!("only the first {MOST_LINKS} of {} links are followed", MOST_LINKS + links_left_out);
            reading.bad.push(BadEntry { entry: root.name.clone(), reason });
        }
        if seen > MOST_ENTRIES {
            let reason = format!("only the first {MOST_ENTRIES} of {seen} are read");
            reading.bad.push(BadEntry { entry: root.name, reason });
        }
        Ok(reading)
    }
}

/// The alert of an index's entry, where it lies in its content, and need not be fetched.
fn enclosed(entry: &Element) -> Option<&Element> {
    entry.children.iter().find_map(|content| content.child_in(CAP, "alert"))
}

/// Where the alert of an index's entry is.
fn link(entry: &Element, base: &Url) -> Result<Url, String> {
    let link = if entry.name == "entry" { atom_link(entry) } else { rss_link(entry) };
    let mut url = alert::link(link.ok_or("has no link to an alert")?, base)?;
    // It names a part of the same document.
    url.set_fragment(None);
    Ok(url)
}

fn atom_link(entry: &Element) -> Option<&str> {
    let links = || entry.all("link").filter_map(|link| Some((link, link.attribute("href")?)));
    let of_an_alert = links().find(|(link, _)| media_type(link) == Some(MEDIA_TYPE));
    // RFC 4287, 4.2.7.2: a link that does not say what it is leads to the entry itself.
    let is_alternate = |link: &Element| matches!(link.attribute("rel"), None | Some("alternate"));
    let alternate = || links().find(|(link, _)| is_alternate(link) && media_type(link) != Some("text/html"));
    let id = || entry.text_of("id").filter(|id| Url::parse(id).is_ok_and(|url| is_web(&url)));
    of_an_alert.or_else(alternate).map(|(_, href)| href).or_else(id)
}

fn rss_link(item: &Element) -> Option<&str> {
    let is_xml = |enclosure: &&Element| media_type(enclosure).is_some_and(|text| text.ends_with("xml"));
    let enclosure = item.all("enclosure").find(is_xml).and_then(|enclosure| enclosure.attribute("url"));
    let of_an_alert = || {
        let links = item.all_in(ATOM, "link").find(|link| media_type(link) == Some(MEDIA_TYPE));
        links.and_then(|link| link.attribute("href"))
    };
    // RSS 2.0: a guid is an address, unless it says that it is none.
    let guid = || item.child("guid").filter(|guid| guid.attribute("isPermaLink") != Some("false"));
    let of_gdacs = || item.text_in(GDACS, "cap");
    enclosure
        .or_else(of_an_alert)
        .or_else(of_gdacs)
        .or_else(|| item.text_of("link"))
        .or_else(|| guid().and_then(Element::words))
}

/// The media type of a link, without its parameters.
fn media_type(link: &Element) -> Option<&str> {
    link.attribute("type").and_then(|text| text.split(';').next()).map(str::trim)
}

/// An alert, or what an index says of one.
pub(crate) fn alert(alert: &Element) -> Alert<'_> {
    let text = |name| alert.text_of(name);
    Alert {
        identifier: text("identifier"),
        sender: text("sender"),
        sent: text("sent"),
        status: text("status"),
        message_type: text("msgType"),
        scope: text("scope"),
        references: text("references").into_iter().flat_map(references).collect(),
        blocks: alert.all("info").map(block).collect(),
    }
}

/// What an alert says, or an index of one: that has what is of an area directly in it.
pub(crate) fn block(info: &Element) -> Block<'_> {
    let text = |name| info.text_of(name);
    let all = |name| info.all(name).filter_map(Element::words);
    let areas = || info.all("area").chain([info]);
    let named =
        |name, wanted| info.all(name).filter_map(named_value).filter(move |(name, _)| *name == wanted);
    let polygons = areas().flat_map(|area| area.all("polygon")).filter_map(Element::words).map(polygon);
    let circles = areas().flat_map(|area| area.all("circle")).filter_map(Element::words).map(circle);
    Block {
        language: text("language"),
        categories: all("category").collect(),
        event: text("event"),
        response_types: all("responseType").collect(),
        urgency: text("urgency"),
        severity: text("severity"),
        certainty: text("certainty"),
        same_events: named("eventCode", SAME).map(|(_, value)| value).collect(),
        effective: text("effective"),
        onset: text("onset"),
        expires: text("expires"),
        ends: named("parameter", EVENT_ENDING_TIME).map(|(_, value)| value).next(),
        headline: text("headline"),
        description: text("description"),
        instruction: text("instruction"),
        web: text("web"),
        areas: areas().filter_map(|area| area.text_of("areaDesc")).collect(),
        expired_references: named("parameter", EXPIRED_REFERENCES).map(|(_, value)| value).collect(),
        geocodes: areas().flat_map(|area| area.all("geocode")).filter_map(named_value).collect(),
        shapes: circles.chain(polygons).collect(),
    }
}

fn named_value(pair: &Element) -> Option<(&str, &str)> {
    // In indexes, they are not of CAP's namespace.
    let text = |name| pair.children.iter().find(|child| child.name == name).and_then(Element::words);
    text("valueName").zip(text("value"))
}

/// A ring of points: `lat,lon lat,lon …`.
fn polygon(text: &str) -> Result<Shape, String> {
    // One more, so that it is seen that there are too many.
    let points = text.split_whitespace().take(MOST_POINTS + 1).map(point).collect::<Result<_, _>>();
    points.and_then(Shape::polygon).map_err(|reason| format!("a polygon {reason}"))
}

/// A centre, and a radius in kilometres: `lat,lon radius`.
fn circle(text: &str) -> Result<Shape, String> {
    let (centre, radius) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let radius = radius.trim().parse::<f64>().map_err(|_| format!("has no radius: {text:?}"));
    let circle = radius.and_then(|radius| Shape::circle(point(centre)?, radius * 1_000.0));
    circle.map_err(|reason| format!("a circle {reason}"))
}

fn point(text: &str) -> Result<Point, String> {
    let degrees = text.split_once(',').and_then(|(lat, lon)| lat.parse().ok().zip(lon.parse().ok()));
    let (lat, lon) = degrees.ok_or_else(|| format!("has what is no lat,lon: {text:?}"))?;
    shapes::point(lat, lon)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tocsin_domain::{
        cover::Region,
        feed::Format,
        feed_item::{Action, Entry, Item},
        post::{PostKind, Severity},
        time::Timestamp,
    };

    use super::*;
    use crate::{samples, testing};

    const WHOLE: &str = samples::document(Format::Cap);

    fn read(document: &str) -> Reading {
        testing::read(&Cap, document.as_bytes()).unwrap()
    }

    /// An alert with this header instead of the usual one's, where it says something, and with these blocks.
    fn alert(header: &[(&str, &str)], blocks: &str) -> String {
        let usual = [
            ("identifier", "1"),
            ("sender", "met@example.org"),
            ("sent", "2026-11-21T19:00:00+01:00"),
            ("status", "Actual"),
            ("msgType", "Alert"),
            ("scope", "Public"),
        ];
        let changed = |name| header.iter().any(|(own, _)| *own == name);
        let all = usual.iter().filter(|(name, _)| !changed(*name)).chain(header);
        let header =
            all.map(|(name, value)| format!("<{name}>{value}</{name}>")).collect::<Vec<_>>().concat();
        format!("<alert xmlns='{CAP}'>{header}{blocks}</alert>")
    }

    fn info(more: &str) -> String {
        format!("<info><category>Met</category><event>Storm</event>{more}</info>")
    }

    fn area(more: &str) -> String {
        info(&format!("<area><areaDesc>Bergen</areaDesc>{more}</area>"))
    }

    fn only(reading: Reading) -> Entry {
        let [entry] = <[Entry; 1]>::try_from(reading.entries).unwrap();
        entry
    }

    fn item(blocks: &str) -> Item {
        let [item] = <[Item; 1]>::try_from(only(read(&alert(&[], blocks))).items).unwrap();
        item
    }

    fn reasons(reading: &Reading) -> Vec<String> {
        reading.bad.iter().map(|bad| format!("{}: {}", bad.entry, bad.reason)).collect()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_whole_alert_is_one_item_in_the_preferred_language() {
        let reading = read(WHOLE);
        assert_eq!(reading.bad, []);
        let entry = only(reading);
        assert_eq!(entry.id, "met@example.org,met-2");
        let message = entry.message.unwrap();
        assert_eq!(
            (message.id.sender.as_str(), message.id.identifier.as_str()),
            ("met@example.org", "met-2")
        );
        assert_eq!((message.action, message.sent), (Action::Update, time("2026-11-21T18:00:00Z")));
        let references: Vec<_> =
            message.references.iter().map(|id| (id.sender.as_str(), id.identifier.as_str())).collect();
        let expected =
            [("met@example.org", "met-1"), ("other@example.org", "met-1"), ("met@example.org", "met-0")];
        assert_eq!(references, expected, "each once");
        let [item] = &entry.items[..] else { panic!("{:?}", entry.items) };
        assert_eq!((item.sub_id.as_ref(), item.kind), (None, PostKind::Alert));
        assert_eq!(item.title, "Storm på kysten");
        assert_eq!(
            item.body.as_deref(),
            Some(
                "Vindkast på 40 m/s.\nHøy sjø.\n\nBli inne.\n\nBergen; Austevoll\n\n———\n\n\
                 A storm on the coast\n\nGusts of 40 m/s."
            )
        );
        assert_eq!(item.link.as_ref().unwrap().as_str(), "https://example.org/storm/2");
        assert_eq!(item.category.as_ref().unwrap().as_str(), "weather");
        assert_eq!(item.severity, Severity::Extreme, "the worst of all languages");
        let tags: Vec<_> = item.tags.iter().map(tocsin_domain::post::Tag::as_str).collect();
        assert_eq!(tags, ["kommune:4601", "kommune:4626"]);
        assert_eq!(item.starts_at, Some(time("2026-11-22T02:00:00Z")));
        assert_eq!(item.ends_at, Some(time("2026-11-22T10:00:00Z")));
        assert_eq!(item.expires_at, Some(time("2026-11-22T11:00:00Z")), "without a zone, it is the feed's");
        assert!(!item.is_all_clear);
        let place = item.place.clone().unwrap();
        let (bergen, austevoll) = (Point::new(60.39, 5.32).unwrap(), Point::new(60.08, 5.1).unwrap());
        assert_eq!(place.location, bergen);
        let area = place.area.unwrap();
        assert!(
            (area.signed_distance_m(bergen) + 20_500.0).abs() < 1.0
                && area.signed_distance_m(austevoll) < 0.0
        );
    }

    #[test]
    fn encodings_and_other_versions() {
        let latin: Vec<u8> = WHOLE.replace("UTF-8", "ISO-8859-1").chars().map(|c| c as u8).collect();
        assert_eq!(only(testing::read(&Cap, &latin).unwrap()), only(read(WHOLE)));
        let older = WHOLE.replace("cap:1.2", "cap:1.1");
        let reason = testing::read(&Cap, older.as_bytes()).unwrap_err().0;
        assert_eq!(
            reason,
            "it is an alert of \"urn:oasis:names:tc:emergency:cap:1.1\", not of urn:oasis:names:tc:emergency:cap:1.2"
        );
        for document in ["<alert/>", "<html/>", "{}", "", &WHOLE[..WHOLE.len() - 9]] {
            testing::read(&Cap, document.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_public_alert_of_something_real_makes_no_entry() {
        for (name, value, reason) in [
            ("status", "Exercise", Some("its status is Exercise, not Actual")),
            ("status", "Test", Some("its status is Test, not Actual")),
            ("status", "", Some("has no status")),
            ("scope", "Restricted", Some("its scope is Restricted, not Public")),
            ("scope", "", Some("has no scope")),
            ("sender", "", Some("has no sender")),
            ("sent", "yesterday", Some("sent is no time: \"yesterday\"")),
            ("sent", "2026-02-30T12:00:00Z", Some("sent is no time: \"2026-02-30T12:00:00Z\"")),
            ("msgType", "Greeting", Some("its msgType is none of CAP's: \"Greeting\"")),
            ("msgType", "Ack", None),
            ("msgType", "Error", None),
        ] {
            let reading = read(&alert(&[(name, value)], &info("")));
            let expected: Vec<_> = reason.into_iter().map(|reason| format!("alert 1: {reason}")).collect();
            assert_eq!((reading.entries.len(), reasons(&reading)), (0, expected));
        }
        let nameless = read(&alert(&[("identifier", " ")], &info("")));
        assert_eq!(reasons(&nameless), ["alert without an identifier: has no identifier"]);
    }

    #[test]
    fn references_that_are_broken_are_named_and_the_alert_goes_on() {
        let references =
            "a,1,2026-11-21T17:00:00Z b,2 ,3, c,4,5,6 met@example.org,1,2026-11-21T18:00:00Z d,7,x";
        let reading = read(&alert(&[("msgType", "Cancel"), ("references", references)], ""));
        assert_eq!(
            reasons(&reading),
            [
                "alert 1: a reference is not sender,identifier,sent: \"b,2\"",
                "alert 1: a reference is not sender,identifier,sent: \",3,\"",
                "alert 1: a reference is not sender,identifier,sent: \"c,4,5,6\"",
                "alert 1: refers to itself",
            ]
        );
        let entry = only(reading);
        assert_eq!(entry.items, []);
        let message = entry.message.unwrap();
        assert_eq!(message.action, Action::Cancel);
        let identifiers: Vec<_> = message.references.iter().map(|id| id.identifier.as_str()).collect();
        assert_eq!(identifiers, ["1", "7"]);
    }

    #[test]
    fn blocks_of_one_language_are_parts() {
        let block = |language: &str, headline: &str, code: &str| {
            let area =
                format!("<area><geocode><valueName>n</valueName><value>{code}</value></geocode></area>");
            let area = if code.is_empty() { String::new() } else { area };
            info(&format!("<language>{language}</language><headline>{headline}</headline>{area}"))
        };
        let parts = |blocks: &[String]| {
            let items = only(read(&alert(&[], &blocks.concat()))).items;
            let told = items.into_iter().enumerate().map(|(number, item)| {
                assert_eq!(item.sub_id, Some((number + 1).to_string()));
                (item.title, item.body.unwrap_or_default())
            });
            told.collect::<Vec<_>>()
        };
        let told = |all: &[(&str, &str)]| {
            all.iter().map(|(title, body)| ((*title).to_owned(), (*body).to_owned())).collect::<Vec<_>>()
        };
        // As many in each language: in the same order, wherever they are.
        let blocks = [
            block("en", "Coast", "1"),
            block("en", "Hills", ""),
            block("nn", "Kyst", "2"),
            block("nn", "Fjell", ""),
        ];
        assert_eq!(parts(&blocks), told(&[("Coast", "Kyst"), ("Hills", "Fjell")]));
        // Not as many: those of the same place, and the others alone.
        let blocks = [
            block("en-GB", "Coast", "1"),
            block("nn", "Fjell", "2"),
            block("en-GB", "Hills", "2"),
            block("EN-gb", "City", "3"),
            block("nn", "Vidde", "4"),
        ];
        assert_eq!(parts(&blocks), told(&[("Coast", ""), ("Hills", "Fjell"), ("City", ""), ("Vidde", "")]));
        // More in a later language, several at one place, and a third language by the second's place.
        let blocks = [
            block("en", "Wind", "1"),
            block("nn", "Vind", "1"),
            block("nn", "Regn", "1").replace("Storm", "Rain"),
            block("nn", "Snø", ""),
            block("se", "Biegga", "1"),
            block("se", "Arvi", "1").replace("Storm", "Rain"),
        ];
        assert_eq!(parts(&blocks), told(&[("Wind", "Vind\n\n———\n\nBiegga"), ("Regn", "Arvi"), ("Snø", "")]));
        // Without a word of it, a block is in English: so these are two parts.
        assert_eq!(parts(&[block("", "One", ""), block("en-US", "Two", "")]).len(), 2);
    }

    #[test]
    fn parts_that_tell_of_the_same_are_one() {
        let area = |name: &str, circle: &str, code: &str| {
            format!(
                "<area><areaDesc>{name}</areaDesc>{circle}<geocode><valueName>n</valueName><value>{code}</value></geocode></area>"
            )
        };
        let bergen = |code: &str| area("Bergen", "<circle>60.39,5.32 20</circle>", code);
        let oslo = |code: &str| area("Oslo", "<circle>59.91,10.75 20</circle>", code);
        let storm = |text: &str, area: &str| {
            info(&format!("<severity>Severe</severity><description>{text}</description>{area}"))
        };
        let items = |blocks: &[String]| only(read(&alert(&[], &blocks.concat()))).items;
        let circles = |item: &Item| item.place.clone().unwrap().area.unwrap().circles().len();
        // The same of the same area, by the codes of two lists.
        let [same] = &items(&[storm("Gusts.", &bergen("1")), storm("Gusts.", &bergen("2"))])[..] else {
            panic!()
        };
        assert_eq!((same.sub_id.as_ref(), same.tags.len(), circles(same)), (None, 2, 1));
        assert_eq!(same.body.as_deref(), Some("Gusts.\n\nBergen"));
        // The same of two areas.
        let [both] = &items(&[storm("Gusts.", &bergen("1")), storm("Gusts.", &oslo("3"))])[..] else {
            panic!()
        };
        assert_eq!((both.body.as_deref(), circles(both)), (Some("Gusts.\n\nBergen; Oslo"), 2));
        // More of the same area.
        let [more] = &items(&[storm("Gusts.", &bergen("1")), storm("Stay in.", &bergen("1"))])[..] else {
            panic!()
        };
        assert_eq!((more.body.as_deref(), circles(more)), (Some("Gusts.\n\nStay in.\n\nBergen"), 1));
        // In two languages.
        let nn =
            |block: String| block.replace("<info>", "<info><language>nn</language>").replace("Gusts", "Vind");
        let blocks = [storm("Gusts.", &bergen("1")), nn(storm("Gusts.", &bergen("1")))];
        let twice = [blocks.clone(), blocks].concat();
        let [twice] = &items(&twice)[..] else { panic!() };
        assert_eq!(twice.body.as_deref(), Some("Gusts.\n\nBergen\n\n———\n\nVind.\n\nBergen"));
        // What is worse, later, or of another place and with other words, is another.
        let first = storm("Gusts.", &bergen("1"));
        for other in [
            first.replace("Severe", "Extreme"),
            first.replace("<severity>", "<onset>2026-11-22T18:00:00Z</onset><severity>"),
            first.replace("Storm", "Flood"),
            storm("Waves.", &oslo("3")),
            storm("Waves.", ""),
        ] {
            assert_eq!(items(&[first.clone(), other.clone()]).len(), 2, "{other}");
        }
        assert_eq!(items(&[storm("Gusts.", ""), storm("Waves.", "")]).len(), 2, "of no known area");
    }

    #[test]
    fn the_preferred_language_is_the_nearest() {
        let url = Url::parse("https://example.org/").unwrap();
        let block =
            |language: &str| info(&format!("<language>{language}</language><headline>{language}</headline>"));
        let document = alert(&[], &["fr-CA", "en", "nb-NO", "enm"].map(block).concat());
        for (language, title) in [
            (Some("nb"), "nb-NO"),
            (Some("NB-no"), "nb-NO"),
            (Some("en-US"), "en"),
            (Some("enm"), "enm"),
            (Some("fr-CH-1994"), "fr-CA"),
            (Some("n"), "fr-CA"),
            (Some(""), "fr-CA"),
            (None, "fr-CA"),
        ] {
            let time_zone = jiff::tz::TimeZone::UTC;
            let context =
                Context { url: &url, now: jiff::Timestamp::UNIX_EPOCH, language, time_zone: &time_zone };
            let entry = only(Cap.read(document.as_bytes(), &context).unwrap());
            assert_eq!(entry.items[0].title, title, "{language:?}");
        }
    }

    #[test]
    fn an_all_clear_is_one_in_all_languages() {
        let block = |language: &str, more: &str| info(&format!("<language>{language}</language>{more}"));
        let clear = "<responseType>Monitor</responseType><responseType>AllClear</responseType>";
        assert!(item(&[block("en", clear), block("nb", clear)].concat()).is_all_clear);
        assert!(!item(&[block("en", clear), block("nb", "")].concat()).is_all_clear);
    }

    #[test]
    fn categories_are_of_the_code_or_the_event_or_the_category() {
        let category = |category: &str, event: &str, code: &str| {
            let code = format!("<eventCode><valueName>SAME</valueName><value>{code}</value></eventCode>");
            let other = "<eventCode><valueName>TVARIOUS</valueName><value>EQW</value></eventCode>";
            let block = format!("<info>{category}<event>{event}</event>{other}{code}</info>");
            item(&block).category.map(|name| name.as_str().to_owned())
        };
        for (categories, event, code, expected) in [
            ("<category>Met</category>", "Thunderstorm", "SVR", Some("weather")),
            ("<category>Met</category>", "Crue", "FLW", Some("flood")),
            ("<category>Met</category>", "Coastal Flood Watch", "", Some("flood")),
            ("<category>Met</category>", "Air Quality Alert", "", Some("health")),
            ("<category>Geo</category>", "Earthquake warning", "", Some("earthquake")),
            ("<category>Geo</category>", "Landslide", "", None),
            ("<category>Other</category><category>Transport</category>", "Closed", "", Some("traffic")),
            ("<category>Fire</category>", "Structure fire", "", Some("fire")),
            ("<category>Safety</category>", "Missing child", "CAE", Some("lost_and_found")),
            ("<category>Infra</category>", "911", "", Some("utilities")),
            ("<category>Security</category>", "Unrest", "", Some("crime")),
            ("<category>CBRNE</category>", "Leak", "", Some("health")),
            ("<category>Klingon</category>", "Attack", "", None),
            ("", "Attack", "", None),
        ] {
            assert_eq!(category(categories, event, code).as_deref(), expected, "{event}");
        }
    }

    #[test]
    fn every_category_is_in_the_first_list() {
        let names: Vec<_> = tocsin_domain::category::initial().into_iter().map(|one| one.category).collect();
        for name in ["Met", "Security", "Rescue", "Fire", "Health", "Env", "CBRNE", "Transport", "Infra"] {
            let block = format!("<info><category>{name}</category><event>x</event></info>");
            assert!(names.contains(&item(&block).category.unwrap()), "{name}");
        }
        for code in ["FLW", "EQW", "WFW", "HMW", "LEW", "CAE", "TOE"] {
            let code = format!("<eventCode><valueName>SAME</valueName><value>{code}</value></eventCode>");
            assert!(names.contains(&item(&info(&code)).category.unwrap()), "{code}");
        }
    }

    #[test]
    fn severity_is_of_three_words_and_unknown_ones_are_named() {
        let words = |severity: &str, urgency: &str, certainty: &str| {
            let words = format!(
                "<urgency>{urgency}</urgency><severity>{severity}</severity><certainty>{certainty}</certainty>"
            );
            read(&alert(&[], &info(&words)))
        };
        for (severity, urgency, certainty, ours) in [
            ("Extreme", "Immediate", "Observed", Severity::Extreme),
            ("Extreme", "Future", "Likely", Severity::Severe),
            ("Severe", "Past", "Observed", Severity::Minor),
            ("Moderate", "Expected", "Very Likely", Severity::Moderate),
        ] {
            let reading = words(severity, urgency, certainty);
            assert_eq!((reading.bad.len(), only(reading).items[0].severity), (0, ours));
        }
        let reading = words("Dreadful", "Soon", "Sure");
        assert_eq!(
            reasons(&reading),
            [
                "alert 1: severity is none of CAP's: \"Dreadful\"",
                "alert 1: urgency is none of CAP's: \"Soon\"",
                "alert 1: certainty is none of CAP's: \"Sure\"",
            ]
        );
        assert_eq!(only(reading).items[0].severity, Severity::Unknown);
        assert_eq!(item(&info("")).severity, Severity::Unknown);
    }

    #[test]
    fn what_is_bad_in_a_block_is_named_and_the_rest_of_it_stands() {
        let shapes = "<polygon>60,5 61,5 61,6 60,5</polygon><polygon>60,5 61,5</polygon><polygon/>\
             <polygon>60;5 61;5</polygon><polygon>95,5 61,5 61,6</polygon><polygon>-80,0 80,0 0,120</polygon>\
             <circle>60,5</circle><circle>60,5 far</circle><circle>60,5 -1</circle><circle>60,5 NaN</circle>\
             <geocode><valueName>SAME</valueName><value>006085</value></geocode>\
             <geocode><valueName>-</valueName><value>1</value></geocode>";
        let block = info(&format!(
            "<effective>2026-11-21T18:00:00Z</effective><onset>2026-11-31T18:00:00Z</onset><expires>soon</expires>\
             <web>javascript:alert(1)</web><area><areaDesc>Bergen</areaDesc>{shapes}</area>"
        ));
        let untitled = "<info><category>Met</category><headline> </headline></info>";
        let reading = read(&alert(&[], &[block.as_str(), untitled].concat()));
        assert_eq!(
            reasons(&reading),
            [
                "alert 1 › part 1: onset is no time: \"2026-11-31T18:00:00Z\"",
                "alert 1 › part 1: expires is no time: \"soon\"",
                "alert 1 › part 1: its link is no web address: \"javascript:alert(1)\"",
                "alert 1 › part 1: a geocode makes no tag: \"-\" \"1\"",
                "alert 1 › part 1: a circle has no radius: \"60,5\"",
                "alert 1 › part 1: a circle has no radius: \"60,5 far\"",
                "alert 1 › part 1: a circle has a radius of -1000 m",
                "alert 1 › part 1: a circle has a radius of NaN m",
                "alert 1 › part 1: a polygon must have at least three different points",
                "alert 1 › part 1: a polygon has what is no lat,lon: \"60;5\"",
                "alert 1 › part 1: a polygon has a point that is not on the Earth: 95,5",
                "alert 1 › part 1: a polygon must lie within 5,000 km of its middle",
                "alert 1 › part 2: has no headline and no event",
            ]
        );
        let entry = only(reading);
        let [item] = &entry.items[..] else { panic!("{entry:?}") };
        assert_eq!((item.starts_at, item.expires_at), (Some(time("2026-11-21T18:00:00Z")), None));
        assert_eq!(item.link, None);
        assert_eq!(item.tags.len(), 1);
        assert!(item.tags.iter().all(|tag| tag.as_str() == "same:006085"));
        assert!(item.place.as_ref().unwrap().area.is_some());
        let empty = read(&alert(&[], ""));
        assert_eq!((reasons(&empty), empty.entries.len()), (vec!["alert 1: has no info".to_owned()], 1));
    }

    #[test]
    fn a_circle_without_a_radius_is_a_point() {
        let place = item(&area("<circle>60.39,5.32 0</circle>")).place.unwrap();
        assert_eq!((place.location, place.area), (Point::new(60.39, 5.32).unwrap(), None));
        assert_eq!(item(&area("")).place, None);
    }

    #[test]
    fn the_work_for_one_alert_is_bounded() {
        let ring = (0..110_000).map(|n| format!("{},{}", n % 80, n % 170)).collect::<Vec<_>>().join(" ");
        let many = [
            "<polygon>60,5</polygon>".repeat(500),
            format!("<polygon>{ring}</polygon>"),
            format!("<geocode><valueName>n</valueName><value>{ring}</value></geocode>"),
        ];
        let references = (0..5_000).map(|n| format!("a,{n},b")).collect::<Vec<_>>().join(" ");
        let reading = read(&alert(&[("references", &references)], &area(&many.concat())));
        assert_eq!(reading.bad.len(), 21);
        let last = &reading.bad[20];
        assert!(last.entry == "alert 1" && last.reason.ends_with("reasons more"), "{last:?}");
        let entry = only(reading);
        assert_eq!(entry.message.unwrap().references.len(), 1_000);
        assert!(entry.items[0].tags.len() <= 1_000);
        let blocks: Vec<_> = (0..600).map(|number| info(&format!("<headline>{number}</headline>"))).collect();
        assert_eq!(only(read(&alert(&[], &blocks.concat()))).items.len(), 500);
    }

    #[test]
    fn an_index_in_atom_gives_links() {
        let entry = |more: &str| format!("<entry>{more}</entry>");
        let entries = [
            entry(
                "<link href='/a.html' type='text/html'/><link rel='alternate' href='a.xml'/><id>urn:a</id>",
            ),
            entry(
                "<link href='/b'/><link rel='related' href='b.cap' type='application/cap+xml; charset=utf-8'/>",
            ),
            entry("<id>https://alerts.example.org/c</id><link rel='self' href='/self'/>"),
            entry("<id>urn:d</id><link rel='alternate' type='text/html' href='/d.html'/>"),
            entry("<link href='file:///etc/passwd'/>"),
            entry("<link href='http://['/>"),
            entry("<link href='a.xml'/>"),
        ];
        let reading = read(&format!("<feed xmlns='{ATOM}'><link href='/'/>{}</feed>", entries.concat()));
        let links: Vec<_> = reading.links.iter().map(Url::as_str).collect();
        assert_eq!(
            links,
            [
                "https://example.org/feeds/a.xml",
                "https://example.org/feeds/b.cap",
                "https://alerts.example.org/c"
            ]
        );
        assert_eq!(
            reasons(&reading),
            [
                "entry 4: has no link to an alert",
                "entry 5: its link is no web address: \"file:///etc/passwd\"",
                "entry 6: its link is no web address: \"http://[\"",
            ]
        );
    }

    #[test]
    fn an_alert_within_an_index_is_read_there() {
        let alert = alert(&[], &info(""));
        let entry = |id: &str| {
            format!(
                "<entry><link href='/a.xml'/><content type='text/xml'>{}</content></entry>",
                alert.replace(">1<", id)
            )
        };
        let reading =
            read(&format!("<feed xmlns='{ATOM}'>{}</feed>", [">1<", ">2<", ">1<"].map(entry).concat()));
        let ids: Vec<_> = reading.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!((ids, reading.links.len()), (vec!["met@example.org,1", "met@example.org,2"], 0));
        assert_eq!(reasons(&reading), ["met@example.org,1: is there twice"]);
    }

    #[test]
    fn an_index_in_rss_gives_links() {
        let item = |more: &str| format!("<item><title>x</title>{more}</item>");
        let items = [
            item("<link>a.xml</link><enclosure type='image/png' url='a.png'/>"),
            item("<link>b.html</link><enclosure type='application/cap+xml' url='b.cap'/>"),
            item("<link>c.html</link><g:cap xmlns:g='http://www.gdacs.org'>c.cap</g:cap>"),
            item(
                "<link>d.html</link><a:link xmlns:a='http://www.w3.org/2005/Atom' type='application/cap+xml' href='d.cap'/>",
            ),
            item("<guid>https://example.org/e.cap</guid>"),
            item("<guid isPermaLink='false'>f</guid>"),
        ];
        let reading = read(&format!("<rss version='2.0'><channel>{}</channel></rss>", items.concat()));
        let links: Vec<_> = reading.links.iter().map(Url::path).collect();
        assert_eq!(links, ["/feeds/a.xml", "/feeds/b.cap", "/feeds/c.cap", "/feeds/d.cap", "/e.cap"]);
        assert_eq!(reasons(&reading), ["item 6: has no link to an alert"]);
        let many: Vec<_> =
            (0..MOST_LINKS + 2).map(|number| format!("<item><link>/{number}</link></item>")).collect();
        let long = format!("<item><link>/{}</link></item>", "a".repeat(2_001));
        let again = "<item><link>/1#more</link></item>";
        let reading = read(&format!("<rss><channel>{again}{}{again}{long}</channel></rss>", many.concat()));
        assert_eq!(reading.links.len(), MOST_LINKS);
        assert_eq!(
            reasons(&reading),
            [
                "item 1005: its link is longer than 2000 characters",
                "rss: only the first 1000 of 1002 links are followed"
            ]
        );
        let many = "<item><link>/a</link></item>".repeat(MOST_ENTRIES + 1);
        let reading = read(&format!("<rss><channel>{many}</channel></rss>"));
        assert_eq!(reasons(&reading), ["rss: only the first 20000 of 20001 are read"]);
        assert_eq!(reading.links.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(document in testing::damaged(Format::Cap)) {
            let _ = testing::read(&Cap, &document);
        }
    }
}
