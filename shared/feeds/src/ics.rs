//! `ics`: a municipality's calendar, in iCalendar (RFC 5545).
//!
//! ```text
//! BEGIN:VEVENT
//! UID:market@example.org
//! DTSTART;TZID=Europe/Oslo:20261205T100000
//! DURATION:PT5H
//! RRULE:FREQ=WEEKLY;COUNT=3
//! SUMMARY:Farmers' market
//! LOCATION:Torget
//! GEO:60.3943;5.3259
//! END:VEVENT
//! ```
//!
//! An event is an entry, each of its instances an item, which is called by when it was to begin at first, but for the first of
//! them, which has no name: so an event that becomes a series stays the same. What is taken out of a series (EXDATE) is called
//! off. What ended more than a month ago is not read, and of what recurs, what begins more than a year ahead. What is private is
//! not shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use jiff::{
    SignedDuration, Span, ToSpan,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use tocsin_domain::{
    feed_item::{BadEntry, Entry, Item, ItemPlace, Reading},
    place::Point,
    post::PostKind,
    time::Timestamp,
};

use self::{
    content::{Component, Property, Written},
    recurrence::{Rule, TooLong, Walk},
    zones::Zones,
};
use crate::{Adapter, Context, MOST_ENTRIES, MOST_OF_ENTRY, NotThisFormat, alert::link, html, tags, times};

mod content;
mod recurrence;
mod zones;

pub(crate) struct Ics;

/// How long what has ended is still read.
const BEHIND: SignedDuration = SignedDuration::from_hours(31 * 24);
/// How far ahead instances are read.
const AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The most instances of a series: one a day.
const MOST_INSTANCES: usize = 400;
/// The most items of a document.
const MOST_ITEMS: usize = MOST_ENTRIES;
/// How many days and instances are looked at for a rule, and for all of a document, at most.
const MOST_STEPS: (u64, u64) = (250_000, 5_000_000);

impl Adapter for Ics {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        let calendars = content::read(document)?;
        if calendars.iter().all(|calendar| calendar.name != "VCALENDAR") {
            return Err(NotThisFormat("there is no VCALENDAR in it".to_owned()));
        }
        let mut reader = Reader {
            context,
            zones: Zones::of(calendars.iter().flat_map(|calendar| &calendar.children)),
            steps: MOST_STEPS.1,
            items: 0,
            reading: Reading::default(),
        };
        let mut all: Vec<Series> = Vec::new();
        let mut by_uid: HashMap<String, usize> = HashMap::new();
        let mut count = 0;
        for calendar in &calendars {
            let is_cancelled =
                calendar.value("METHOD").is_some_and(|method| method.eq_ignore_ascii_case("CANCEL"));
            for component in calendar.children.iter().filter(|child| child.name == "VEVENT") {
                count += 1;
                if count > MOST_ENTRIES {
                    continue;
                }
                let name = component.value("UID").map_or_else(|| format!("event {count}"), str::to_owned);
                if let Some(line) = &component.broken {
                    reader.bad(&name, format!("has a line that is none: {line:?}"));
                }
                match reader.event(component, is_cancelled) {
                    Ok(Some(event)) => {
                        let index = *by_uid.entry(event.uid.clone()).or_insert(all.len());
                        if index == all.len() {
                            all.push(Series::default());
                        }
                        if let Err(reason) = all[index].add(event) {
                            reader.bad(&name, reason);
                        }
                    }
                    Ok(None) => {}
                    Err(reason) => reader.bad(&name, reason),
                }
            }
        }
        if count > MOST_ENTRIES {
            reader.bad("VCALENDAR", format!("only the first {MOST_ENTRIES} of {count} are read"));
        }
        for series in &all {
            reader.add_entry(series);
        }
        Ok(reader.reading)
    }
}

/// When the instances of a series begin, and how long those are that are not as long as the others.
type Starts = BTreeMap<Timestamp, (Moment, Option<Length>)>;

struct Reader<'a> {
    context: &'a Context<'a>,
    zones: Zones<'a>,
    steps: u64,
    items: usize,
    reading: Reading,
}

/// A time of a zone, or a day of it, which begins at its midnight.
#[derive(Clone, Debug)]
struct Moment {
    civil: DateTime,
    zone: TimeZone,
    is_day: bool,
}

impl Moment {
    /// One that the clocks skip is as much later as they skip; of one that they repeat it is the first (RFC 5545, 3.3.5).
    fn instant(&self) -> Option<Timestamp> {
        times::local(self.civil, &self.zone)
    }

    fn at(&self, civil: DateTime) -> Self {
        Self { civil, ..self.clone() }
    }

    /// What an instance is called that was to begin then.
    fn sub_id(&self) -> Option<String> {
        Some(if self.is_day {
            self.civil.strftime("%Y%m%d").to_string()
        } else {
            self.instant()?.strftime("%Y%m%dT%H%M%SZ").to_string()
        })
    }
}

/// How long an event is (RFC 5545, 3.8.5.3).
#[derive(Clone, Copy, Debug)]
enum Length {
    Unknown,
    /// By the clock: a day may have 23 hours.
    Nominal(Span),
    Exact(SignedDuration),
}

impl Length {
    fn end(self, start: &Moment) -> Option<Timestamp> {
        let instant = start.instant()?;
        let end = match self {
            Self::Unknown => return None,
            Self::Nominal(span) => {
                start.civil.to_zoned(start.zone.clone()).ok()?.checked_add(span).ok()?.timestamp()
            }
            Self::Exact(duration) => instant.checked_add(duration).ok()?,
        };
        (end > instant).then_some(end)
    }
}

/// A VEVENT: an event, the first of a series, or one of them that is otherwise.
#[derive(Debug)]
struct Event {
    uid: String,
    /// Which of the series it stands for, and whether for all that follow too.
    replaces: Option<(Moment, bool)>,
    /// Of two for the same, the one that is greater is the newer.
    version: (u64, String),
    start: Moment,
    length: Length,
    rules: Vec<Rule>,
    dates: Vec<(Moment, Option<Length>)>,
    exceptions: Vec<Moment>,
    item: Item,
}

impl Event {
    /// When a later instance begins, if it is as much later or earlier as this one is.
    fn shifted(&self, moment: &Moment) -> Moment {
        let shift =
            self.replaces.as_ref().map(|(replaced, _)| replaced.civil.duration_until(self.start.civil));
        let civil = shift.and_then(|shift| moment.civil.checked_add(shift).ok());
        self.start.at(civil.unwrap_or(moment.civil))
    }
}

/// The events of one UID.
#[derive(Debug, Default)]
struct Series {
    first: Option<Event>,
    /// By when they were to begin.
    others: BTreeMap<Timestamp, Event>,
}

impl Series {
    /// What an instance is called that was to begin then: nothing, if that is when the event itself begins.
    fn sub_id(&self, moment: &Moment) -> Option<String> {
        let is_first = self.first.as_ref().is_some_and(|first| first.start.instant() == moment.instant());
        if is_first { None } else { moment.sub_id() }
    }

    /// Adds an event, or puts it in the place of an older version of it.
    fn add(&mut self, event: Event) -> Result<(), String> {
        let older = match &event.replaces {
            None => self.first.as_ref(),
            Some((moment, _)) => self.others.get(&moment.instant().ok_or("recurs at a time that is none")?),
        };
        match older {
            Some(other) if other.version == event.version => return Err("is there twice".to_owned()),
            Some(other) if other.version > event.version => return Ok(()),
            _ => {}
        }
        match event.replaces.as_ref().and_then(|(moment, _)| moment.instant()) {
            Some(instant) => {
                self.others.insert(instant, event);
            }
            None => self.first = Some(event),
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn bad(&mut self, entry: &str, reason: String) {
        self.reading.bad.push(BadEntry { entry: entry.to_owned(), reason });
    }

    /// An event; none where it is private.
    fn event(&mut self, component: &'a Component, is_cancelled: bool) -> Result<Option<Event>, String> {
        let is =
            |name, word: &str| component.value(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
        if is("CLASS", "PRIVATE") || is("CLASS", "CONFIDENTIAL") {
            return Ok(None);
        }
        let uid = component.value("UID").ok_or("has no id")?.to_owned();
        let start = self.moment(component.property("DTSTART").ok_or("has no beginning")?)?;
        let length = self.length(component, &start)?;
        let replaces = match component.property("RECURRENCE-ID") {
            Some(property) => {
                let is_range = property.parameter("RANGE") == Some("THISANDFUTURE");
                Some((self.moment(property)?, is_range))
            }
            None => None,
        };
        let mut dates = Vec::new();
        for property in component.all("RDATE") {
            dates.extend(self.dates(property)?);
        }
        let mut exceptions = Vec::new();
        for property in component.all("EXDATE") {
            exceptions.extend(self.dates(property)?.into_iter().map(|(moment, _)| moment));
        }
        let rules =
            component.all("RRULE").map(|property| property.value.parse()).collect::<Result<_, _>>()?;
        let sequence = component.value("SEQUENCE").and_then(|text| text.parse().ok()).unwrap_or(0);
        let stamp = component.value("LAST-MODIFIED").or(component.value("DTSTAMP")).unwrap_or_default();
        let mut item = self.item(&uid, component)?;
        item.is_cancelled = is_cancelled || is("STATUS", "CANCELLED");
        let version = (sequence, stamp.to_owned());
        Ok(Some(Event { uid, replaces, version, start, length, rules, dates, exceptions, item }))
    }

    /// What all instances have in common.
    fn item(&mut self, uid: &str, component: &Component) -> Result<Item, String> {
        let text = |name| component.text(name).map(|text| html::text(&text)).filter(|text| !text.is_empty());
        let title = text("SUMMARY").ok_or("has no title")?;
        let body: Vec<String> = [text("LOCATION"), text("DESCRIPTION")].into_iter().flatten().collect();
        let place = component.value("GEO").map(place).transpose()?;
        let modified = component.value("LAST-MODIFIED").and_then(Written::read);
        let link = component.value("URL").map(|url| link(url, self.context.url));
        Ok(Item {
            link: link.and_then(|link| link.map_err(|reason| self.bad(uid, reason)).ok()),
            tags: component
                .all("CATEGORIES")
                .flat_map(Property::texts)
                .filter_map(|word| tags::word(&word))
                .collect(),
            place,
            published_at: modified.and_then(|written| self.placed(written, None).instant()),
            ..Item::new(PostKind::Event, &title.replace('\n', " ")).with_body(&body.join("\n"))
        })
    }

    /// How long an event is. A day that does not say so is one day long.
    fn length(&mut self, component: &Component, start: &Moment) -> Result<Length, String> {
        let before = || "ends before it starts".to_owned();
        if let Some(property) = component.property("DTEND") {
            let end = self.moment(property)?;
            if start.is_day && end.is_day {
                let days = start.civil.date().duration_until(end.civil.date()).as_hours() / 24;
                return match days {
                    ..0 => Err(before()),
                    // Some write the last day, where the standard wants the one after it.
                    days => Ok(Length::Nominal(days.max(1).days())),
                };
            }
            let (start, end) = start.instant().zip(end.instant()).ok_or("is at a time that is none")?;
            return if end < start { Err(before()) } else { Ok(Length::Exact(start.duration_until(end))) };
        }
        match component.value("DURATION") {
            Some(text) => Ok(Length::Nominal(duration(text)?)),
            None if start.is_day => Ok(Length::Nominal(1.day())),
            None => Ok(Length::Unknown),
        }
    }

    fn moment(&mut self, property: &Property) -> Result<Moment, String> {
        self.moment_of(property, &property.value)
    }

    fn moment_of(&mut self, property: &Property, text: &str) -> Result<Moment, String> {
        let written =
            Written::read(text).ok_or_else(|| format!("has something that is no time: {text:?}"))?;
        let zone = match (written, property.parameter("TZID")) {
            (Written::Local(_), Some(name)) => Some(
                self.zones
                    .get(name)
                    .ok_or_else(|| format!("is in a time zone that is not known: {name:?}"))?,
            ),
            _ => None,
        };
        Ok(self.placed(written, zone))
    }

    /// A time in its zone; one that names none, and a day, are of the feed's.
    fn placed(&self, written: Written, zone: Option<TimeZone>) -> Moment {
        let zone = zone.unwrap_or_else(|| self.context.time_zone.clone());
        match written {
            Written::Date(day) => {
                Moment { civil: day.to_datetime(jiff::civil::Time::midnight()), zone, is_day: true }
            }
            Written::Local(civil) => Moment { civil, zone, is_day: false },
            Written::Utc(civil) => Moment { civil, zone: TimeZone::UTC, is_day: false },
        }
    }

    /// The dates of an RDATE or EXDATE, or its periods.
    fn dates(&mut self, property: &Property) -> Result<Vec<(Moment, Option<Length>)>, String> {
        let mut dates = Vec::new();
        for text in property.value.split(',').filter(|text| !text.trim().is_empty()) {
            let (start, rest) =
                text.split_once('/').map_or((text, None), |(start, rest)| (start, Some(rest)));
            let start = self.moment_of(property, start)?;
            let length = match rest {
                Some(rest) if rest.trim_start().starts_with(['P', 'p', '+']) => {
                    Some(Length::Nominal(duration(rest)?))
                }
                Some(rest) => {
                    let end = self.moment_of(property, rest)?.instant();
                    let (from, to) = start.instant().zip(end).ok_or("is at a time that is none")?;
                    Some(Length::Exact(from.duration_until(to)))
                }
                None => None,
            };
            dates.push((start, length));
        }
        Ok(dates)
    }

    /// Adds an event with all of its instances that are of interest.
    fn add_entry(&mut self, series: &Series) {
        let Some(any) = series.first.as_ref().or(series.others.values().next()) else { return };
        let (mut items, mut replaced) = (Vec::new(), HashSet::new());
        if let Some(first) = &series.first {
            let is_alone = first.rules.is_empty() && first.dates.is_empty() && first.exceptions.is_empty();
            if is_alone && series.others.is_empty() {
                items.extend(self.item_at(first, &first.start, first.length, None));
            } else {
                replaced = self.add_instances(first, series, &mut items);
            }
        }
        for (instant, other) in &series.others {
            if !replaced.contains(instant) {
                let sub_id = other.replaces.as_ref().and_then(|(moment, _)| series.sub_id(moment));
                items.extend(self.item_at(other, &other.start, other.length, sub_id));
            }
        }
        if items.len() > MOST_OF_ENTRY {
            self.bad(&any.uid, too_many(MOST_OF_ENTRY));
            items.truncate(MOST_OF_ENTRY);
        }
        let room = MOST_ITEMS - self.items;
        if items.len() > room {
            self.bad(&any.uid, format!("has instances beyond the first {MOST_ITEMS} of all"));
            items.truncate(room);
        }
        self.items += items.len();
        if !items.is_empty() {
            self.reading.entries.push(Entry {
                id: any.uid.clone(),
                aliases: BTreeSet::new(),
                message: None,
                items,
            });
        }
    }

    /// Adds the instances of a series, and answers which of the others stand for one of them.
    fn add_instances(&mut self, first: &Event, series: &Series, items: &mut Vec<Item>) -> HashSet<Timestamp> {
        let (starts, wrong) = self.starts(first);
        if let Some(reason) = wrong {
            self.bad(&first.uid, reason);
        }
        let excepted_days: HashSet<Date> = first
            .exceptions
            .iter()
            .filter(|moment| moment.is_day)
            .map(|moment| moment.civil.date())
            .collect();
        let excepted: HashSet<Timestamp> = first.exceptions.iter().filter_map(Moment::instant).collect();
        // Some say only the day of the instance that is otherwise.
        let day_of = |(instant, other): (&Timestamp, &Event)| {
            let (moment, _) = other.replaces.as_ref()?;
            moment.is_day.then(|| (moment.civil.date(), *instant))
        };
        let other_days: HashMap<Date, Timestamp> = series.others.iter().filter_map(day_of).collect();
        let mut replaced = HashSet::new();
        for (instant, (moment, length)) in &starts {
            let (sub_id, day) = (series.sub_id(moment), moment.civil.date());
            let other = series
                .others
                .get_key_value(instant)
                .or_else(|| series.others.get_key_value(other_days.get(&day)?));
            if let Some((key, other)) = other {
                replaced.insert(*key);
                items.extend(self.item_at(other, &other.start, other.length, sub_id));
            } else {
                let mut before = series.others.range(..*instant).rev().map(|(_, other)| other);
                let item = match before.find(|other| matches!(other.replaces, Some((_, true)))) {
                    Some(other) => self.item_at(other, &other.shifted(moment), other.length, sub_id),
                    None => self.item_at(first, moment, length.unwrap_or(first.length), sub_id),
                };
                // RFC 5545, 3.8.5.1. Who was told of it is told; one that nobody was told of makes no post.
                let is_called_off = excepted.contains(instant) || excepted_days.contains(&day);
                items.extend(
                    item.map(|item| Item { is_cancelled: item.is_cancelled || is_called_off, ..item }),
                );
            }
        }
        replaced
    }

    /// When the instances of a series are to begin, and what is wrong with that. Where there are too many, those that are past
    /// are left out first.
    fn starts(&mut self, first: &Event) -> (Starts, Option<String>) {
        let (from, to) = self.window(first);
        let (mut starts, mut wrong) = (Starts::new(), None);
        let mut times = Vec::new();
        for rule in &first.rules {
            let (by_rule, reason) = self.by_rule(rule, &first.start, from, to);
            times.extend(by_rule);
            wrong = reason.or(wrong);
        }
        if first.rules.is_empty() {
            times.push(first.start.civil);
        }
        let by_rules = times.into_iter().map(|civil| (first.start.at(civil), None));
        for (moment, length) in by_rules.chain(first.dates.iter().cloned()) {
            let is_near = (from..=to).contains(&moment.civil);
            if let Some(instant) = moment.instant().filter(|_| is_near) {
                starts.entry(instant).or_insert((moment, length));
            }
        }
        if starts.len() > MOST_INSTANCES {
            wrong = Some(too_many(MOST_INSTANCES));
        }
        while starts.len() > MOST_INSTANCES {
            if starts.first_key_value().is_some_and(|(instant, _)| *instant < self.context.now) {
                starts.pop_first();
            } else {
                starts.pop_last();
            }
        }
        (starts, wrong)
    }

    /// The same by one rule.
    fn by_rule(
        &mut self,
        rule: &Rule,
        start: &Moment,
        from: DateTime,
        to: DateTime,
    ) -> (VecDeque<DateTime>, Option<String>) {
        let now = start.zone.to_datetime(self.context.now);
        let (mut times, mut to_come, mut is_full) = (VecDeque::new(), 0, false);
        let given = self.steps.min(MOST_STEPS.0);
        let mut left = given;
        let walk = Walk { start: start.civil, from, to, steps: &mut left };
        let walked = rule.each(walk, &start.zone, |civil| {
            to_come += usize::from(civil >= now);
            is_full |= times.len() == MOST_INSTANCES;
            if to_come > MOST_INSTANCES {
                return false;
            }
            if is_full {
                times.pop_front();
            }
            times.push_back(civil);
            true
        });
        self.steps -= given - left;
        let wrong = match walked {
            Err(TooLong) if given < MOST_STEPS.0 => {
                Some("has a rule that is not followed, since those before it took too long".to_owned())
            }
            Err(TooLong) => Some("has a rule that takes too long to follow".to_owned()),
            Ok(()) => is_full.then(|| too_many(MOST_INSTANCES)),
        };
        (times, wrong)
    }

    /// When an instance may begin that is of interest, by the clocks of its zone.
    fn window(&self, first: &Event) -> (DateTime, DateTime) {
        let local = |instant| first.start.zone.to_datetime(instant);
        let length = first.start.instant().zip(first.length.end(&first.start));
        let length = length.map_or(SignedDuration::ZERO, |(start, end)| start.duration_until(end));
        let from = self.context.now.saturating_sub(BEHIND.saturating_add(length.min(AHEAD)));
        let to = self.context.now.saturating_add(AHEAD);
        (local(from.unwrap_or(Timestamp::MIN)), local(to.unwrap_or(Timestamp::MAX)))
    }

    /// An item at a time; none where that ended long ago.
    fn item_at(&self, event: &Event, start: &Moment, length: Length, sub_id: Option<String>) -> Option<Item> {
        let starts_at = start.instant()?;
        let ends_at = length.end(start);
        let is_past = ends_at.unwrap_or(starts_at).duration_until(self.context.now) > BEHIND;
        (!is_past).then(|| Item { sub_id, starts_at: Some(starts_at), ends_at, ..event.item.clone() })
    }
}

fn too_many(most: usize) -> String {
    format!("has more than {most} instances")
}

fn duration(text: &str) -> Result<Span, String> {
    let wrong = || format!("has a duration that is none: {text:?}");
    let span: Span = text.trim().trim_start_matches('+').parse().map_err(|_| wrong())?;
    // A duration has weeks, days and parts of a day (RFC 5545, 3.3.6).
    if span.is_negative() || span.get_years() != 0 || span.get_months() != 0 {
        Err(wrong())
    } else {
        Ok(span)
    }
}

/// `60.3943;5.3259`: the latitude first.
fn place(text: &str) -> Result<ItemPlace, String> {
    let point = || {
        let (lat, lon) = text.split_once([';', ','])?;
        Point::new(lat.trim().parse().ok()?, lon.trim().parse().ok()?).ok()
    };
    let location = point().ok_or_else(|| format!("is at a place that is none: {text:?}"))?;
    Ok(ItemPlace { location, area: None })
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

    fn calendar(events: &[&str]) -> Reading {
        let events: Vec<String> =
            events.iter().map(|event| format!("BEGIN:VEVENT\n{event}\nEND:VEVENT\n")).collect();
        let document = format!("BEGIN:VCALENDAR\nVERSION:2.0\n{}END:VCALENDAR", events.concat());
        testing::read(&Ics, document.as_bytes()).unwrap()
    }

    /// The items of the only entry: what they are called, when they begin and end, and their titles.
    fn items(reading: &Reading) -> Vec<String> {
        let [entry] = &reading.entries[..] else { panic!("{reading:?}") };
        let time = |time: Option<Timestamp>| {
            time.map_or("-".to_owned(), |time| time.strftime("%m-%dT%H:%M").to_string())
        };
        let item = |item: &Item| {
            let sub_id = item.sub_id.as_deref().unwrap_or("-");
            let off = if item.is_cancelled { " (off)" } else { "" };
            format!("{sub_id} {} {} {}{off}", time(item.starts_at), time(item.ends_at), item.title)
        };
        entry.items.iter().map(item).collect()
    }

    fn reasons(reading: &Reading) -> Vec<String> {
        reading.bad.iter().map(|bad| format!("{}: {}", bad.entry, bad.reason)).collect()
    }

    #[test]
    fn an_event_is_read_with_its_instances() {
        let reading = testing::read(&Ics, samples::document(Format::Ics).as_bytes()).unwrap();
        assert_eq!(reasons(&reading), [""; 0]);
        assert_eq!(
            items(&reading),
            [
                "- 12-05T09:00 12-05T14:00 Farmers' market, with music",
                "20261212T090000Z 12-12T09:00 12-12T14:00 Farmers' market, with music (off)",
                "20261219T090000Z 12-19T11:00 - Christmas market (off)",
                "20261224T090000Z 12-24T09:00 12-24T10:00 Farmers' market, with music",
                "20261226T090000Z 12-26T09:00 12-26T14:00 Farmers' market, with music",
            ]
        );
        let items = &reading.entries[0].items;
        let item = &items[0];
        assert_eq!((reading.entries[0].id.as_str(), item.kind), ("market", PostKind::Event));
        assert_eq!(item.body.as_deref(), Some("Torget\nBread & cheese\nUntil late"));
        assert_eq!(item.link.as_ref().unwrap().as_str(), "https://example.org/market");
        assert_eq!(
            item.tags.iter().map(tocsin_domain::post::Tag::as_str).collect::<Vec<_>>(),
            ["food-drink", "market"]
        );
        assert_eq!(item.place.as_ref().unwrap().location, Point::new(60.3943, 5.3259).unwrap());
        assert_eq!(item.published_at, Some("2026-11-01T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn times_are_of_their_zone_or_of_the_feeds() {
        for (times, expected) in [
            ("DTSTART:20261203T210000", "- 12-03T20:00 - A"),
            ("DTSTART:20261203T210000Z\nDURATION:PT1H30M", "- 12-03T21:00 12-03T22:30 A"),
            (
                "DTSTART;TZID=\"America/New_York\":20261203T210000\nDTEND:20261204T030000Z",
                "- 12-04T02:00 12-04T03:00 A",
            ),
            ("DTSTART;TZID=W. Europe Standard Time:20270703T210000", "- 07-03T19:00 - A"),
            ("DTSTART;VALUE=DATE:20261203", "- 12-02T23:00 12-03T23:00 A"),
            ("DTSTART;VALUE=DATE:20261203\nDTEND;VALUE=DATE:20261205", "- 12-02T23:00 12-04T23:00 A"),
            ("DTSTART;VALUE=DATE:20261203\nDTEND;VALUE=DATE:20261203", "- 12-02T23:00 12-03T23:00 A"),
            ("DTSTART;VALUE=DATE:20261203\nDURATION:P1W", "- 12-02T23:00 12-09T23:00 A"),
            ("DTSTART:20261203T210000\nDTEND:20261203T210000", "- 12-03T20:00 - A"),
            // The clocks go forward at two on the 28th of March: that day has 23 hours, and no half past two.
            ("DTSTART;VALUE=DATE:20270328", "- 03-27T23:00 03-28T22:00 A"),
            ("DTSTART:20270328T023000", "- 03-28T01:30 - A"),
        ] {
            let reading = calendar(&[&format!("UID:1\nSUMMARY:A\n{times}")]);
            assert_eq!(items(&reading), [expected], "{times}");
        }
    }

    #[test]
    fn a_series_keeps_its_hour_when_the_clocks_change() {
        let reading =
            calendar(&["UID:1\nSUMMARY:A\nDTSTART:20270320T100000\nDURATION:P1D\nRRULE:FREQ=WEEKLY;COUNT=2"]);
        let expected = ["- 03-20T09:00 03-21T09:00 A", "20270327T090000Z 03-27T09:00 03-28T08:00 A"];
        assert_eq!(items(&reading), expected);
    }

    #[test]
    fn days_recur_as_days() {
        let reading = calendar(&[
            "UID:1\nSUMMARY:A\nDTSTART;VALUE=DATE:20261130\nRRULE:FREQ=DAILY;UNTIL=20261204\nEXDATE;VALUE=DATE:20261201,20261202",
            "UID:1\nSUMMARY:B\nRECURRENCE-ID;VALUE=DATE:20261203\nDTSTART;VALUE=DATE:20261224",
        ]);
        let expected = [
            "- 11-29T23:00 11-30T23:00 A",
            "20261201 11-30T23:00 12-01T23:00 A (off)",
            "20261202 12-01T23:00 12-02T23:00 A (off)",
            "20261203 12-23T23:00 12-24T23:00 B",
            "20261204 12-03T23:00 12-04T23:00 A",
        ];
        assert_eq!(items(&reading), expected);
    }

    #[test]
    fn what_is_otherwise_may_be_so_from_then_on() {
        let series = "UID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\nRRULE:FREQ=DAILY;COUNT=4\nEXDATE;VALUE=DATE:20261204";
        let reading = calendar(&[
            series,
            "UID:1\nSUMMARY:B\nRECURRENCE-ID;RANGE=THISANDFUTURE:20261202T100000Z\nDTSTART:20261202T113000Z\nDURATION:PT1H",
            "UID:1\nSUMMARY:Alone\nRECURRENCE-ID:20270101T100000Z\nDTSTART:20270102T100000Z",
        ]);
        let expected = [
            "- 12-01T10:00 - A",
            "20261202T100000Z 12-02T11:30 12-02T12:30 B",
            "20261203T100000Z 12-03T11:30 12-03T12:30 B",
            "20261204T100000Z 12-04T11:30 12-04T12:30 B (off)",
            "20270101T100000Z 01-02T10:00 - Alone",
        ];
        assert_eq!(items(&reading), expected);
        // Some say only the day that is replaced.
        let reading = calendar(&[
            series,
            "UID:1\nSUMMARY:B\nRECURRENCE-ID;VALUE=DATE:20261202\nDTSTART:20261202T120000Z",
        ]);
        let expected = [
            "- 12-01T10:00 - A",
            "20261202T100000Z 12-02T12:00 - B",
            "20261203T100000Z 12-03T10:00 - A",
            "20261204T100000Z 12-04T10:00 - A (off)",
        ];
        assert_eq!(items(&reading), expected);
    }

    /// What versions of a calendar, one after the other, do to posts: by the day on which each begins.
    fn steps(versions: &[&[&str]]) -> Vec<Vec<String>> {
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        let mut known = Known::default();
        let day = |item: &Item| item.starts_at.unwrap().strftime("%m-%d").to_string();
        let of_version = |events: &&[&str]| {
            let reading = calendar(events);
            assert_eq!(reasons(&reading), [""; 0]);
            let [entry] = &reading.entries[..] else { panic!("{reading:?}") };
            let steps = known.take(entry, now, |name| PostId::named(now, &[name.as_bytes()]));
            let told = steps.into_iter().map(|step| match step {
                Step::Make(_, item) => format!("{} made", day(item)),
                Step::Change(_, item, _) if item.is_cancelled => format!("{} called off", day(item)),
                Step::Change(_, item, _) => format!("{} changed", day(item)),
                Step::End(..) => panic!("nothing ends"),
            });
            told.collect()
        };
        versions.iter().map(of_version).collect()
    }

    #[test]
    fn what_is_taken_out_of_a_series_is_called_off() {
        let series = "UID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\nRRULE:FREQ=DAILY;COUNT=3";
        let except = |more: &str| format!("{series}\n{more}");
        let (second, day) = (except("EXDATE:20261202T100000Z"), except("EXDATE;VALUE=DATE:20261202"));
        for without in [second.as_str(), day.as_str()] {
            assert_eq!(
                steps(&[&[series], &[without], &[without], &[series]]),
                [
                    vec!["12-01 made", "12-02 made", "12-03 made"],
                    vec!["12-02 called off"],
                    vec![],
                    vec!["12-02 changed"],
                ]
            );
            // Of one that was never there, nobody hears.
            assert_eq!(steps(&[&[without]]), [["12-01 made", "12-03 made"]]);
        }
        let first = except("EXDATE:20261201T100000Z");
        assert_eq!(steps(&[&[series], &[&first]])[1], ["12-01 called off"]);
        let (alone, none) = (
            "UID:1\nSUMMARY:A\nDTSTART:20261201T100000Z",
            "UID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\nEXDATE:20261201T100000Z",
        );
        assert_eq!(steps(&[&[alone], &[none]])[1], ["12-01 called off"]);
    }

    #[test]
    fn an_event_that_becomes_a_series_stays_the_same_and_the_other_way_round() {
        let alone = "UID:1\nSUMMARY:A\nDTSTART;TZID=Europe/Oslo:20261201T100000";
        let series = format!("{alone}\nRRULE:FREQ=DAILY;COUNT=2");
        assert_eq!(
            steps(&[&[alone], &[&series], &[alone], &[&series]]),
            [vec!["12-01 made"], vec!["12-02 made"], vec![], vec![]]
        );
        assert_eq!(steps(&[&[&series], &[alone]]), [vec!["12-01 made", "12-02 made"], vec![]]);
        // Also where the first is otherwise, and of days.
        let moved = "UID:1\nSUMMARY:A\nRECURRENCE-ID:20261201T090000Z\nDTSTART:20261205T100000Z";
        assert_eq!(steps(&[&[alone], &[&series, moved]])[1], ["12-05 changed", "12-02 made"]);
        let alone = "UID:1\nSUMMARY:A\nDTSTART;VALUE=DATE:20261202";
        let series = format!("{alone}\nRDATE;VALUE=DATE:20261224");
        assert_eq!(
            steps(&[&[alone], &[&series], &[alone]]),
            [vec!["12-01 made"], vec!["12-23 made"], vec![]]
        );
    }

    #[test]
    fn the_newest_version_of_an_event_is_read() {
        let version = |title: &str, sequence: u8, stamp: &str| {
            format!("UID:1\nSUMMARY:{title}\nDTSTART:20261201T100000Z\nSEQUENCE:{sequence}\nDTSTAMP:{stamp}")
        };
        let [old, new, newest] = [
            version("Old", 0, "20261103T000000Z"),
            version("New", 1, "20261101T000000Z"),
            version("Newest", 1, "20261102T000000Z"),
        ];
        for order in [[&old, &new, &newest], [&newest, &new, &old], [&new, &newest, &old]] {
            let reading = calendar(&order.map(String::as_str));
            assert_eq!(items(&reading), ["- 12-01T10:00 - Newest"]);
            assert_eq!(reasons(&reading), [""; 0]);
        }
        assert_eq!(reasons(&calendar(&[&old, &old])), ["1: is there twice"]);
    }

    #[test]
    fn what_is_long_past_or_private_is_not_read() {
        for (event, count) in [
            ("DTSTART:20261022T100000Z", 1),
            ("DTSTART:20261020T100000Z", 0),
            ("DTSTART:20260520T100000Z\nDTEND:20261110T100000Z", 1),
            ("DTSTART:20300520T100000Z", 1),
            ("DTSTART:20261201T100000Z\nCLASS:PRIVATE", 0),
            ("DTSTART:20101201T100000Z\nRRULE:FREQ=YEARLY", 1),
            ("DTSTART:20101201T100000Z\nRRULE:FREQ=YEARLY;UNTIL=20201201T100000Z", 0),
            ("DTSTART:20300520T100000Z\nRRULE:FREQ=YEARLY", 0),
            ("DTSTART;VALUE=DATE:20260901\nDTEND;VALUE=DATE:20261101\nRRULE:FREQ=YEARLY", 2),
        ] {
            let reading = calendar(&[&format!("UID:1\nSUMMARY:A\n{event}")]);
            let items: usize = reading.entries.iter().map(|entry| entry.items.len()).sum();
            assert_eq!((items, reading.bad.len()), (count, 0), "{event} {reading:?}");
        }
    }

    #[test]
    fn a_calendar_that_cancels_cancels_all() {
        let document = "BEGIN:VCALENDAR\nMETHOD:CANCEL\nBEGIN:VEVENT\nUID:1\nSUMMARY:A\nDTSTART:20261201T100000Z\nEND:VEVENT\nEND:VCALENDAR";
        assert!(testing::read(&Ics, document.as_bytes()).unwrap().entries[0].items[0].is_cancelled);
    }

    #[test]
    fn of_too_many_instances_those_are_read_that_are_to_come() {
        let reading = calendar(&["UID:1\nSUMMARY:A\nDTSTART:20200101T000000Z\nRRULE:FREQ=HOURLY"]);
        let items = items(&reading);
        assert_eq!((items.len(), items[0].as_str()), (400, "20261121T200000Z 11-21T20:00 - A"));
        assert_eq!(reasons(&reading), ["1: has more than 400 instances"]);
        let daily = calendar(&["UID:1\nSUMMARY:A\nDTSTART:20200101T000000Z\nRRULE:FREQ=DAILY"]);
        assert_eq!((daily.entries[0].items.len(), daily.bad.len()), (397, 0));
        let reading = calendar(&["UID:1\nSUMMARY:A\nDTSTART:20200101T000000Z\nRRULE:FREQ=SECONDLY"]);
        assert_eq!(reasons(&reading), ["1: has a rule that takes too long to follow"]);
    }

    #[test]
    fn a_document_has_an_end() {
        let event = |index: usize| {
            format!(
                "UID:{index}\nSUMMARY:A\nDTSTART:19000101T000000Z\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=9"
            )
        };
        let events: Vec<String> = (0..150).map(event).collect();
        let reading = calendar(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(reading.bad.len(), 43);
        let reason = "107: has a rule that is not followed, since those before it took too long";
        assert_eq!(reasons(&reading)[0], reason);
        let event =
            |index: usize| format!("UID:{index}\nSUMMARY:A\nDTSTART:20200101T000000Z\nRRULE:FREQ=DAILY");
        let events: Vec<String> = (0..60).map(event).collect();
        let reading = calendar(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(reading.entries.iter().map(|entry| entry.items.len()).sum::<usize>(), MOST_ITEMS);
        assert_eq!(reasons(&reading)[0], "50: has instances beyond the first 20000 of all");
    }

    #[test]
    fn what_is_bad_is_named_and_the_rest_goes_on() {
        let reading = calendar(&[
            "UID:good\nSUMMARY:A\nDTSTART:20261201T100000Z\nno line",
            "SUMMARY:A\nDTSTART:20261201T100000Z",
            "UID:1\nDTSTART:20261201T100000Z",
            "UID:2\nSUMMARY:A",
            "UID:3\nSUMMARY:A\nDTSTART:20260931T100000Z",
            "UID:4\nSUMMARY:A\nDTSTART;TZID=Middle-earth:20261201T100000",
            "UID:5\nSUMMARY:A\nDTSTART:20261201T100000Z\nDTEND:20261201T090000Z",
            "UID:6\nSUMMARY:A\nDTSTART:20261201T100000Z\nDURATION:-PT1H",
            "UID:7\nSUMMARY:A\nDTSTART:20261201T100000Z\nRRULE:FREQ=OFTEN",
            "UID:8\nSUMMARY:A\nDTSTART:20261201T100000Z\nGEO:91;0",
            "UID:9\nSUMMARY:A\nDTSTART;VALUE=DATE:20261201\nEXDATE:tomorrow",
        ]);
        let ids: Vec<_> = reading.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["good"]);
        assert_eq!(
            reasons(&reading),
            [
                "good: has a line that is none: \"no line\"",
                "event 2: has no id",
                "1: has no title",
                "2: has no beginning",
                "3: has something that is no time: \"20260931T100000Z\"",
                "4: is in a time zone that is not known: \"Middle-earth\"",
                "5: ends before it starts",
                "6: has a duration that is none: \"-PT1H\"",
                "7: has a rule that says \"FREQ=OFTEN\"",
                "8: is at a place that is none: \"91;0\"",
                "9: has something that is no time: \"tomorrow\"",
            ]
        );
    }

    #[test]
    fn another_document_is_none() {
        for document in
            ["", "<html/>", "BEGIN:VCARD\nEND:VCARD", "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1", "\u{0}"]
        {
            testing::read(&Ics, document.as_bytes()).unwrap_err();
        }
        assert!(testing::read(&Ics, b"BEGIN:VCALENDAR\nEND:VCALENDAR").unwrap().entries.is_empty());
    }

    proptest! {
        #[test]
        fn damage_is_borne(document in testing::damaged(Format::Ics)) {
            let _ = testing::read(&Ics, &document);
        }
    }
}
