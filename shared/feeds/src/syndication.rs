//! `rss` and `atom`: what authorities publish as news, with places: RSS 2.0 and 1.0, Atom 1.0 (RFC 4287), GeoRSS, and what
//! GDACS, the Global Disaster Alert and Coordination System, and indexes of CAP alerts say besides.
//!
//! ```xml
//! <item>
//!   <title>Orange earthquake alert (Magnitude 6.3M, Depth:10km) in Tonga</title>
//!   <guid>EQ1402</guid>
//!   <georss:point>-20.1 -174.3</georss:point>
//!   <gdacs:eventtype>EQ</gdacs:eventtype>
//!   <gdacs:alertlevel>Orange</gdacs:alertlevel>
//! </item>
//! ```
//!
//! Each entry is an alert: a feed of places that is polled here is an authority's. Titles and texts may be HTML: their text is
//! read. A time that cannot be read is named, and the entry goes on without it; not so a place, since elsewhere it would be
//! wrong.
//!
//! Where an entry says which CAP alert it tells of, it is that alert's message, and lives as messages do. Many indexes leave that out,
//! such as the US National Weather Service's: what updates another cannot be told from what is new there, and is named as bad.
//! Such indexes are polled as `cap`.

use std::collections::BTreeSet;

use tocsin_domain::{
    category::CategoryName,
    feed_item::{Action, BadEntry, Entry, Item, Message, Reading},
    post::{PostKind, Severity},
    time::Timestamp,
};
use url::Url;

use crate::{
    Adapter, Context, MOST_ENTRIES, NotThisFormat,
    alert::{self, Alert, Block, Reasons, link},
    cap, each_once, georss, html, tags, times,
    xml::{self, Element, TOO_LARGE},
};

const ATOM: &str = "http://www.w3.org/2005/Atom";
const RSS_1: &str = "http://purl.org/rss/1.0/";
const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
const DUBLIN_CORE: &str = "http://purl.org/dc/elements/1.1/";
const CONTENT: &str = "http://purl.org/rss/1.0/modules/content/";
const GDACS: &str = "http://www.gdacs.org";
/// And its version.
const CAP: &str = "urn:oasis:names:tc:emergency:cap:";

pub(crate) struct Rss;

pub(crate) struct Atom;

impl Adapter for Rss {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        const DIALECT: Dialect = Dialect {
            name: "RSS",
            roots: &[("", "rss"), (RDF, "RDF")],
            entries: &[("", "item"), (RSS_1, "item")],
            story: rss_story,
        };
        DIALECT.read(document, context)
    }
}

impl Adapter for Atom {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        const DIALECT: Dialect = Dialect {
            name: "Atom",
            roots: &[(ATOM, "feed"), (ATOM, "entry")],
            entries: &[(ATOM, "entry")],
            story: atom_story,
        };
        DIALECT.read(document, context)
    }
}

/// How the formats name what they list, with the namespaces.
struct Dialect {
    name: &'static str,
    roots: &'static [(&'static str, &'static str)],
    entries: &'static [(&'static str, &'static str)],
    story: fn(&Element, &Context<'_>) -> Story,
}

/// What every entry says, in both formats.
struct Story {
    id: Option<String>,
    title: String,
    body: String,
    link: Option<Result<Url, String>>,
    published: Option<Result<Timestamp, String>>,
    subjects: Vec<String>,
}

impl Dialect {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        let mut reading = Reading::default();
        let mut count = 0;
        let is_one = |element: &Element, names: &[(&str, &str)]| {
            names.iter().any(|(namespace, name)| *element.namespace == **namespace && element.name == *name)
        };
        let names: Vec<&str> = self.entries.iter().map(|(_, name)| *name).collect();
        let root = xml::each(document, &names, |element| {
            if !is_one(&element, self.entries) {
                return;
            }
            count += 1;
            if count > MOST_ENTRIES {
                return;
            }
            let story = (self.story)(&element, context);
            let name = story.id.clone().unwrap_or_else(|| format!("entry {count}"));
            let mut bad = Reasons::of(name);
            match read_entry(story, element, context, &mut bad) {
                Ok(entry) => reading.entries.extend(entry),
                Err(reason) => bad.add(reason),
            }
            reading.bad.extend(bad.entries());
        })?;
        if !is_one(&root, self.roots) {
            return Err(NotThisFormat(format!("its root is {}, which is not of {}", root.name, self.name)));
        }
        each_once(&mut reading);
        if count > MOST_ENTRIES {
            let reason = format!("only the first {MOST_ENTRIES} of {count} are read");
            reading.bad.push(BadEntry { entry: root.name, reason });
        }
        Ok(reading)
    }
}

fn rss_story(item: &Element, context: &Context<'_>) -> Story {
    let text = |name| item.text_of(name).map(html::text).unwrap_or_default();
    let guid = item.child("guid");
    let permanent =
        guid.filter(|guid| guid.attribute("isPermaLink") != Some("false")).and_then(Element::words);
    let about = item.attribute("rdf:about");
    let date = item.text_of("pubDate").or(item.text_in(DUBLIN_CORE, "date"));
    let body = text("description");
    let whole = item.text_in(CONTENT, "encoded").map(html::text).unwrap_or_default();
    let subjects = item.all("category").chain(item.all_in(DUBLIN_CORE, "subject"));
    Story {
        id: guid.and_then(Element::words).or(about).map(str::to_owned),
        title: text("title"),
        body: if whole.len() > body.len() { whole } else { body },
        link: item.text_of("link").or(permanent).or(about).map(|text| link(text, context.url)),
        published: date.map(|text| times::either(text, context)),
        subjects: subjects.filter_map(Element::words).map(str::to_owned).collect(),
    }
}

fn atom_story(entry: &Element, context: &Context<'_>) -> Story {
    let text = |name| entry.child(name).map(atom_text).unwrap_or_default();
    let summary = text("summary");
    let is_alternate = |link: &&Element| matches!(link.attribute("rel"), None | Some("alternate"));
    let date = entry.text_of("updated").or(entry.text_of("published"));
    Story {
        id: entry.text_of("id").map(str::to_owned),
        title: text("title"),
        body: if summary.is_empty() { text("content") } else { summary },
        link: entry
            .all("link")
            .filter(is_alternate)
            .filter_map(|element| element.attribute("href"))
            .map(|text| link(text, context.url))
            .reduce(Result::or),
        published: date.map(|text| times::either(text, context)),
        subjects: entry.all("category").filter_map(|one| one.attribute("term")).map(str::to_owned).collect(),
    }
}

/// The text of one of Atom's text constructs (RFC 4287, 3.1).
fn atom_text(element: &Element) -> String {
    match element.attribute("type").unwrap_or("text") {
        "html" | "text/html" => html::text(&element.text),
        "xhtml" | "application/xhtml+xml" => html::text_of(element),
        "text" | "text/plain" => element.text.trim().to_owned(),
        // Something that is not meant to be read as a text.
        _ => String::new(),
    }
}

/// An entry; none where it only answers a message.
fn read_entry(
    story: Story,
    mut element: Element,
    context: &Context<'_>,
    bad: &mut Reasons,
) -> Result<Option<Entry>, String> {
    if element.is_cut {
        return Err(TOO_LARGE.to_owned());
    }
    let gdacs = |name| element.text_in(GDACS, name);
    let event = gdacs("eventtype").zip(gdacs("eventid")).map(|(kind, id)| format!("{kind}{id}"));
    let link = story.link.and_then(|link| link.map_err(|reason| bad.add(reason)).ok());
    let id = story.id.or(event).or_else(|| Some(link.as_ref()?.to_string()));
    let mut id = id.ok_or("has neither an id nor a link")?;
    let mut message = None;
    let title = [&story.title, &story.body]
        .into_iter()
        .find_map(|text| text.lines().find(|line| !line.trim().is_empty()));
    let title = title.ok_or("has no title")?;
    let mut item = Item {
        tags: story.subjects.iter().filter_map(|subject| tags::word(subject)).collect(),
        place: georss::place(&element)?,
        ..Item::new(PostKind::Alert, title).with_body(&story.body)
    };
    if gdacs("eventtype").is_some() {
        item = with_gdacs(item, &element, context, bad);
    }
    if let Some(info) = element.take_in(CAP) {
        let Some(of_it) = of_an_alert(&info, title, &story.body, context, bad)? else { return Ok(None) };
        if let Some(of_it) = &of_it.message {
            id = alert::entry_id(&of_it.id);
        }
        message = of_it.message;
        item = with_alert(item, of_it.item);
    }
    item.link = link.or(item.link);
    item.published_at = story
        .published
        .and_then(|time| time.map_err(|reason| bad.add(format!("when it was published {reason}"))).ok());
    Ok(Some(Entry { id, aliases: BTreeSet::new(), message, items: vec![item] }))
}

/// An alert, as an index has it.
struct OfAnAlert {
    item: Item,
    /// Which message it is, where the index says so.
    message: Option<Message>,
}

/// What an index says of an alert, by the rules of alerts; none where it only answers another.
fn of_an_alert(
    info: &Element,
    title: &str,
    body: &str,
    context: &Context<'_>,
    bad: &mut Reasons,
) -> Result<Option<OfAnAlert>, String> {
    let (alert, block) = (cap::alert(info), cap::block(info));
    let block = Block { headline: Some(title), description: block.description.or(Some(body)), ..block };
    // What it leaves out is as usual.
    let mut alert = Alert {
        message_type: alert.message_type.or(Some("Alert")),
        status: alert.status.or(Some("Actual")),
        scope: alert.scope.or(Some("Public")),
        blocks: vec![block],
        ..alert
    };
    let Some(action) = alert.action()? else { return Ok(None) };
    let message = message(&alert, action, context, bad)?;
    let item = alert::item(&mut alert.blocks, context, bad);
    Ok(item.map(|item| OfAnAlert { item: Item { is_cancelled: action == Action::Cancel, ..item }, message }))
}

/// What an alert in an index is to others; none where the index does not say which it is. An update without that would be a post
/// beside the one that it updates, and ring again: so it is an error. A cancellation at least ends the entry of its own id.
fn message(
    alert: &Alert<'_>,
    action: Action,
    context: &Context<'_>,
    bad: &mut Reasons,
) -> Result<Option<Message>, String> {
    let says_which = [alert.identifier, alert.sender, alert.sent].iter().all(Option::is_some);
    let message = if says_which { alert.message(context, bad)? } else { None };
    let says_of_what = message.as_ref().is_some_and(|message| !message.references.is_empty());
    match action {
        Action::Update if !says_of_what => {
            Err(format!("is an Update, but not said of which alert: {POLL_AS_CAP}"))
        }
        Action::Cancel if !says_of_what => {
            bad.add(format!("is a Cancel, but not said of which alert: {POLL_AS_CAP}"));
            Ok(None)
        }
        Action::Alert | Action::Update | Action::Cancel => Ok(message),
    }
}

const POLL_AS_CAP: &str = "poll this index as cap";

/// An item with what an index says of it as an alert. Where it is, the entry says itself, if it does.
fn with_alert(item: Item, alert: Item) -> Item {
    Item {
        tags: &item.tags | &alert.tags,
        is_elsewhere: item.place.is_none() && alert.is_elsewhere,
        place: item.place.or(alert.place),
        category: alert.category.or(item.category),
        ..alert
    }
}

/// With what GDACS says of a disaster. Its alert levels are what it expects of it: green, that hardly help is needed; orange,
/// that it may be; red, that it is.
fn with_gdacs(mut item: Item, element: &Element, context: &Context<'_>, bad: &mut Reasons) -> Item {
    let text = |name| element.text_in(GDACS, name);
    let kind = text("eventtype").unwrap_or_default();
    item.category = category(match kind {
        "EQ" => "earthquake",
        "TC" | "DR" => "weather",
        "FL" | "TS" => "flood",
        "WF" => "fire",
        // Volcanoes: none of ours is theirs.
        _ => "",
    });
    item.severity = match text("alertlevel").map(str::to_ascii_lowercase).as_deref() {
        Some("green") => Severity::Minor,
        Some("orange") => Severity::Severe,
        Some("red") => Severity::Extreme,
        _ => Severity::Unknown,
    };
    let countries = text("iso3").unwrap_or_default().split([',', ' ']).filter(|code| !code.is_empty());
    let countries: Vec<_> = countries.filter_map(|country| tags::code("iso3", country)).collect();
    item.is_elsewhere = item.place.is_none() && !countries.is_empty();
    let glide = text("glide").and_then(|glide| tags::code("glide", glide));
    item.tags = tags::code("gdacs", kind).into_iter().chain(glide).chain(countries).collect();
    let body = item.body.take().unwrap_or_default();
    let said = format!("{}\n{body}", item.title).to_lowercase();
    let more = ["severity", "population"].into_iter().filter_map(text);
    let more = more.filter(|more| !said.contains(&more.to_lowercase()));
    let lines: Vec<&str> = std::iter::once(body.as_str()).chain(more).collect();
    item = item.with_body(&lines.join("\n"));
    let mut time = |name| {
        let time = times::either(text(name)?, context);
        time.map_err(|reason| bad.add(format!("{name} {reason}"))).ok()
    };
    let (from, to) = (time("fromdate"), time("todate"));
    item.is_all_clear = text("iscurrent").is_some_and(|text| text.eq_ignore_ascii_case("false"));
    item.starts_at = from;
    // While it goes on, the end is when it was last looked at.
    item.ends_at = to.filter(|to| item.is_all_clear && from.is_none_or(|from| from < *to));
    item
}

fn category(name: &str) -> Option<CategoryName> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tocsin_domain::{
        feed::Format,
        feed_life::{Known, Step},
        ids::PostId,
    };

    use super::*;
    use crate::{samples, testing};

    const GDACS_ITEM: &str = samples::document(Format::Rss);
    const ATOM_FEED: &str = samples::document(Format::Atom);

    fn rss(items: &str) -> Reading {
        let document = format!("<rss version='2.0'><channel><title>A feed</title>{items}</channel></rss>");
        testing::read(&Rss, document.as_bytes()).unwrap()
    }

    fn words(tags: &BTreeSet<tocsin_domain::post::Tag>) -> Vec<&str> {
        tags.iter().map(tocsin_domain::post::Tag::as_str).collect()
    }

    #[test]
    fn a_disaster_of_gdacs_is_an_alert() {
        let reading = testing::read(&Rss, GDACS_ITEM.as_bytes()).unwrap();
        assert_eq!(reading.bad, []);
        let [Entry { id, items, .. }] = &reading.entries[..] else { panic!("{reading:?}") };
        let item = &items[0];
        assert_eq!((id.as_str(), item.kind, item.severity), ("EQ1402", PostKind::Alert, Severity::Severe));
        assert_eq!(item.title, "Orange earthquake alert (Magnitude 6.3M) in Tonga");
        assert_eq!(
            item.body.as_deref(),
            Some("On 20/11/2026 an earthquake occurred & was felt.\nMagnitude 6.3M, Depth:10km")
        );
        assert_eq!(item.link.as_ref().unwrap().as_str(), "https://example.org/report?id=1402&type=EQ");
        assert_eq!(item.category.as_ref().unwrap().as_str(), "earthquake");
        assert_eq!(words(&item.tags), ["gdacs:eq", "glide:eq-2026-000123-ton", "iso3:fji", "iso3:ton"]);
        let place = item.place.as_ref().unwrap();
        assert_eq!((place.location.lat(), place.location.lon(), &place.area), (-20.1, -174.3, &None));
        let time = |text: &str| Some(text.parse().unwrap());
        assert_eq!(item.published_at, time("2026-11-20T12:00:00Z"));
        assert_eq!((item.starts_at, item.ends_at), (time("2026-11-20T11:00:00Z"), None));
        assert_eq!((item.expires_at, item.is_all_clear), (None, false));

        let over = GDACS_ITEM.replace("<gdacs:iscurrent>true", "<gdacs:iscurrent>false");
        let over = testing::read(&Rss, over.as_bytes()).unwrap();
        let item = &over.entries[0].items[0];
        assert_eq!((item.is_all_clear, item.ends_at), (true, time("2026-11-20T11:30:00Z")));
    }

    #[test]
    fn entries_of_atom_say_what_cap_adds() {
        let reading = testing::read(&Atom, ATOM_FEED.as_bytes()).unwrap();
        let bad = |entry: &str, reason: &str| BadEntry { entry: entry.to_owned(), reason: reason.to_owned() };
        let nameless = "is a Cancel, but not said of which alert: poll this index as cap";
        assert_eq!(reading.bad, [bad("urn:2", "its status is Exercise, not Actual"), bad("urn:3", nameless)]);
        let [first, last] = &reading.entries[..] else { panic!("{reading:?}") };
        let item = &first.items[0];
        assert_eq!((first.id.as_str(), item.title.as_str()), ("urn:1", "High water & ice"));
        assert_eq!(item.body.as_deref(), Some("Stay away now.\nPlease."));
        assert_eq!(item.link.as_ref().unwrap().as_str(), "https://example.org/one");
        assert_eq!(words(&item.tags), ["fips6:009007", "fips6:009009", "road-closures"]);
        assert_eq!((item.severity, item.category.as_ref().unwrap().as_str()), (Severity::Severe, "weather"));
        assert_eq!(item.expires_at, Some("2026-11-22T08:00:00Z".parse().unwrap()));
        assert_eq!(item.starts_at, Some("2026-11-21T08:00:00Z".parse().unwrap()));
        let area = serde_json::to_value(item.place.as_ref().unwrap().area.as_ref().unwrap()).unwrap();
        assert_eq!(area["polygons"].as_array().unwrap().len(), 1);
        assert_eq!(area["circles"][0]["radius_m"], 20_000.0);
        let item = &last.items[0];
        assert_eq!((item.title.as_str(), item.is_all_clear), ("Over <now>", false));
        assert!(item.is_cancelled && item.place.as_ref().unwrap().area.is_some());
    }

    /// An entry of an index of alerts: its own id, its title, and what it says of the alert.
    fn of_an_alert(id: &str, title: &str, alert: &[(&str, &str)]) -> String {
        let alert = alert.iter().map(|(name, value)| format!("<cap:{name}>{value}</cap:{name}>"));
        format!("<entry><id>{id}</id><title>{title}</title>{}</entry>", alert.collect::<Vec<_>>().concat())
    }

    fn index(entries: &[String]) -> Reading {
        let document = format!("<feed xmlns='{ATOM}' xmlns:cap='{CAP}1.2'>{}</feed>", entries.concat());
        testing::read(&Atom, document.as_bytes()).unwrap()
    }

    /// What an index makes of posts, whose titles are these, and which it ends so.
    fn steps(known: &mut Known, reading: &Reading) -> Vec<String> {
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        let take = |entry: &Entry| {
            let id = |name: &str| PostId::named(now, &[entry.id.as_bytes(), name.as_bytes()]);
            let steps = known.take(entry, now, id).into_iter();
            let told = steps.map(|step| match step {
                Step::Make(_, item) => format!("new: {}", item.title),
                Step::Change(_, item, _) => format!("changed: {}", item.title),
                Step::End(_, ending) => format!("ended: {ending:?}"),
            });
            told.collect::<Vec<_>>()
        };
        reading.entries.iter().flat_map(take).collect()
    }

    #[test]
    fn an_alert_that_an_index_names_is_updated_and_ends_under_other_ids() {
        let alert = |number: u8, kind: &str, references: &str| {
            let identifier = number.to_string();
            let all = [
                ("identifier", identifier.as_str()),
                ("sender", "nws@example.org"),
                ("sent", "2026-11-21T10:00:00-08:00"),
                ("msgType", kind),
                ("references", references),
                ("event", "Flood Warning"),
            ];
            of_an_alert(&format!("urn:{number}"), &format!("Flood {number}"), &all)
        };
        let of = |number: u8| format!("nws@example.org,{number},2026-11-21T09:00:00-08:00");
        let first = [alert(1, "Alert", "")];
        // In an index, the newest is the first.
        let second = [alert(2, "Update", &of(1)), alert(1, "Alert", "")];
        let third = [alert(3, "Cancel", &of(2)), alert(2, "Update", &of(1))];
        for (order, expected) in [
            (vec![&first[..], &second, &third], vec!["new: Flood 1", "changed: Flood 2", "ended: Cancelled"]),
            (vec![&second, &first, &second], vec!["new: Flood 2"]),
            (vec![&first, &third], vec!["new: Flood 1", "ended: Cancelled"]),
        ] {
            let (mut known, mut all) = (Known::default(), Vec::new());
            for entries in order {
                let reading = index(entries);
                assert_eq!(reading.bad, []);
                all.extend(steps(&mut known, &reading));
                assert_eq!(steps(&mut known, &index(entries)), [""; 0], "the same again");
            }
            assert_eq!(all, expected);
        }
        let entry = &index(&second).entries[0];
        assert_eq!((entry.id.as_str(), entry.items[0].title.as_str()), ("nws@example.org,2", "Flood 2"));
        // One that is there twice is one: else it would change at each poll.
        let twice = index(&[alert(1, "Alert", ""), alert(1, "Alert", "").replace("urn:1", "urn:9")]);
        assert_eq!((twice.entries.len(), twice.bad[0].reason.as_str()), (1, "is there twice"));
    }

    #[test]
    fn an_update_of_what_an_index_does_not_name_is_bad() {
        let nameless = |what: &str| format!("is {what}, but not said of which alert: poll this index as cap");
        // As the National Weather Service does it.
        let alert =
            |id: &str, kind: &str| of_an_alert(id, "Flood", &[("event", "Flood Warning"), ("msgType", kind)]);
        let mut known = Known::default();
        assert_eq!(steps(&mut known, &index(&[alert("urn:1", "Alert")])), ["new: Flood"]);
        let updated = index(&[alert("urn:2", "Update"), alert("urn:1", "Cancel"), alert("urn:3", "Cancel")]);
        let reasons: Vec<_> = updated.bad.iter().map(|bad| bad.reason.clone()).collect();
        assert_eq!(reasons, ["an Update", "a Cancel", "a Cancel"].map(nameless));
        assert_eq!(steps(&mut known, &updated), ["changed: Flood"], "that of the same id is called off");
        assert!(updated.entries[0].items[0].is_cancelled);
        // Nor does it say of which where it only says which it is.
        let own = [
            ("identifier", "2"),
            ("sender", "nws@example.org"),
            ("sent", "2026-11-21T10:00:00Z"),
            ("msgType", "Update"),
        ];
        let reading = index(&[of_an_alert("urn:2", "Flood", &own)]);
        assert_eq!((reading.entries.len(), reading.bad[0].reason.clone()), (0, nameless("an Update")));
    }

    #[test]
    fn an_alert_of_places_that_give_no_point_is_elsewhere() {
        let codes = "<valueName>SAME</valueName><value>006085</value>";
        for (alert, is_elsewhere) in [
            (vec![("areaDesc", "Here and there")], false),
            (vec![("polygon", "60,5 61,5")], true),
            (vec![("geocode", codes)], true),
            (vec![("geocode", codes), ("circle", "60,5 10")], false),
        ] {
            let reading = index(&[of_an_alert("urn:1", "Flood", &alert)]);
            assert_eq!(reading.entries[0].items[0].is_elsewhere, is_elsewhere, "{alert:?}");
        }
        let entry = of_an_alert("urn:1", "Flood", &[("geocode", codes)])
            .replace("</entry>", "<g:point xmlns:g='http://www.georss.org/georss'>60 5</g:point></entry>");
        let item = &index(&[entry]).entries[0].items[0];
        assert_eq!((item.is_elsewhere, item.place.is_some()), (false, true));
        let drought = "<item xmlns:g='http://www.gdacs.org'><guid>1</guid><title>Drought</title><g:eventtype>DR</g:eventtype>";
        for (more, is_elsewhere) in [("<g:iso3>TON</g:iso3>", true), ("", false)] {
            assert_eq!(
                rss(&format!("{drought}{more}</item>")).entries[0].items[0].is_elsewhere,
                is_elsewhere
            );
        }
    }

    #[test]
    fn an_entry_alone_is_a_document_of_atom() {
        let entry = r#"<entry xmlns="http://www.w3.org/2005/Atom"><link href="https://a.example/1"/><title>One</title></entry>"#;
        let reading = testing::read(&Atom, entry.as_bytes()).unwrap();
        assert_eq!(reading.entries[0].id, "https://a.example/1");
    }

    #[test]
    fn rss_1_is_read() {
        let document = r#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
            xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://a.example/"><title>All</title></channel>
            <item rdf:about="https://a.example/1"><title>One</title><dc:date>Sat, 21 Nov 2026 09:00 +0100</dc:date><dc:subject>Ice</dc:subject></item>
            </rdf:RDF>"#;
        let reading = testing::read(&Rss, document.as_bytes()).unwrap();
        let [Entry { id, items, .. }] = &reading.entries[..] else { panic!("{reading:?}") };
        assert_eq!((id.as_str(), words(&items[0].tags)), ("https://a.example/1", vec!["ice"]));
        assert_eq!(items[0].link.as_ref().unwrap().as_str(), "https://a.example/1");
        assert_eq!(items[0].published_at, Some("2026-11-21T08:00:00Z".parse().unwrap()));
    }

    #[test]
    fn an_entry_is_called_by_its_id_or_its_link_and_has_a_title_or_a_text() {
        let reading = rss("<item><title>By its link</title><link>https://a.example/1</link></item>
            <item><description>&lt;p&gt;Only a text&lt;/p&gt;more</description><guid>https://a.example/2</guid></item>
            <item><title>Not linked</title><guid isPermaLink='false'>3</guid><link>javascript:alert(1)</link></item>");
        let entries: Vec<_> = reading
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.id.as_str(),
                    entry.items[0].title.as_str(),
                    entry.items[0].link.as_ref().map(Url::as_str),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("https://a.example/1", "By its link", Some("https://a.example/1")),
                ("https://a.example/2", "Only a text", Some("https://a.example/2")),
                ("3", "Not linked", None),
            ]
        );
    }

    #[test]
    fn times_of_publication_are_those_of_mail_or_of_rfc_3339() {
        for (text, expected) in [
            ("Sat, 21 Nov 2026 09:00:00 +0100", Some("2026-11-21T08:00:00Z")),
            ("Mon, 21 Nov 2026 09:00 EST", Some("2026-11-21T14:00:00Z")),
            ("21 Nov 26 09:00:00 GMT", Some("2026-11-21T09:00:00Z")),
            ("Sat, 21 Nov 2026 09:00:00", Some("2026-11-21T08:00:00Z")),
            ("2026-11-21T09:00:00", Some("2026-11-21T08:00:00Z")),
            ("Tue, 31 Nov 2026 09:00:00 GMT", None),
            ("yesterday", None),
        ] {
            let reading =
                rss(&format!("<item><title>One</title><guid>1</guid><pubDate>{text}</pubDate></item>"));
            let time = reading.entries[0].items[0].published_at;
            assert_eq!(time, expected.map(|time| time.parse().unwrap()), "{text}");
            assert_eq!(reading.bad.len(), usize::from(expected.is_none()));
        }
    }

    #[test]
    fn what_is_bad_is_named_and_the_rest_goes_on() {
        let reading = testing::read(
            &Rss,
            br#"<rss xmlns:georss="http://www.georss.org/georss" xmlns:gdacs="http://www.gdacs.org"><channel>
            <item><title>Good</title><guid>1</guid></item>
            <item><title>Again</title><guid>1</guid></item>
            <item><title> </title><guid>2</guid></item>
            <item><title>Nameless</title></item>
            <item><title>Nowhere</title><guid>3</guid><georss:point>91 0</georss:point></item>
            <item><title>Undated</title><guid>4</guid><gdacs:eventtype>XX</gdacs:eventtype><gdacs:fromdate>soon</gdacs:fromdate></item>
            </channel></rss>"#,
        )
        .unwrap();
        let ids: Vec<_> = reading.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["1", "4"]);
        let reasons: Vec<_> =
            reading.bad.iter().map(|bad| format!("{}: {}", bad.entry, bad.reason)).collect();
        assert_eq!(
            reasons,
            [
                "2: has no title",
                "entry 4: has neither an id nor a link",
                "3: its point has a point that is not on the Earth: 91,0",
                "4: fromdate is no time: \"soon\"",
                "1: is there twice",
            ]
        );
    }

    #[test]
    fn another_document_is_none() {
        for document in
            ["<feed/>", "<rss/>", "<html/>", "{}", "<feed xmlns='http://www.w3.org/2005/Atom'><entry>"]
        {
            testing::read(&Atom, document.as_bytes()).unwrap_err();
        }
        for document in ["<feed xmlns='http://www.w3.org/2005/Atom'/>", "<rdf/>", "<rss><channel><item>", ""]
        {
            testing::read(&Rss, document.as_bytes()).unwrap_err();
        }
        let long = "<item/>".repeat(MOST_ENTRIES + 1);
        assert_eq!(rss(&long).bad.last().unwrap().reason, "only the first 20000 of 20001 are read");
    }

    proptest! {
        #[test]
        fn damage_is_borne(rss in testing::damaged(Format::Rss), atom in testing::damaged(Format::Atom)) {
            let _ = testing::read(&Rss, &rss);
            let _ = testing::read(&Atom, &atom);
        }
    }
}
