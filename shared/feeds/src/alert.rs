//! Alerts as the Common Alerting Protocol has them (OASIS CAP 1.2), in whatever notation they are written: an adapter says
//! what stands where ([`Alert`]), and here is what it means.

use std::collections::{BTreeSet, HashMap, HashSet};

use tocsin_domain::{
    category::CategoryName,
    feed_item::{
        Action, BadEntry, Certainty, Entry, Item, ItemPlace, Message, MessageId, Reading, Urgency,
        severity_of,
    },
    post::{PostKind, Severity, Tag},
    time::Timestamp,
};
use url::Url;

use crate::{
    Context,
    shapes::{Shape, Shapes},
    tags,
    times::instant,
};

/// The most messages that an alert refers to.
pub(crate) const MOST_REFERENCES: usize = 1_000;
/// The most blocks of an alert.
pub(crate) const MOST_BLOCKS: usize = 500;
/// The most codes of an item, each of which is a tag.
pub(crate) const MOST_TAGS: usize = 1_000;
/// How long an address is at most, in characters.
const MOST_OF_LINK: usize = 2_000;
/// How long a message's sender is at most, and its identifier, in bytes: both are kept of every message that is referred to.
const MOST_OF_NAME: usize = 200;
/// The most reasons that are named of an alert.
const MOST_REASONS: usize = 20;

/// An alert, in its own words (CAP 1.2, 3.2.1).
#[derive(Debug, Default)]
pub(crate) struct Alert<'a> {
    pub(crate) identifier: Option<&'a str>,
    pub(crate) sender: Option<&'a str>,
    pub(crate) sent: Option<&'a str>,
    pub(crate) status: Option<&'a str>,
    pub(crate) message_type: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    /// The messages that it is about, or what was wrong with the reference.
    pub(crate) references: Vec<Result<MessageId, String>>,
    pub(crate) blocks: Vec<Block<'a>>,
}

/// What an alert says in one language of one part of its subject (CAP 1.2, 3.2.2: `info`).
#[derive(Debug, Default)]
pub(crate) struct Block<'a> {
    pub(crate) language: Option<&'a str>,
    pub(crate) categories: Vec<&'a str>,
    pub(crate) event: Option<&'a str>,
    pub(crate) response_types: Vec<&'a str>,
    pub(crate) urgency: Option<&'a str>,
    pub(crate) severity: Option<&'a str>,
    pub(crate) certainty: Option<&'a str>,
    /// Its event codes in the list that is called SAME.
    pub(crate) same_events: Vec<&'a str>,
    pub(crate) effective: Option<&'a str>,
    pub(crate) onset: Option<&'a str>,
    pub(crate) expires: Option<&'a str>,
    /// When the subject ends, for which CAP has no element.
    pub(crate) ends: Option<&'a str>,
    pub(crate) headline: Option<&'a str>,
    pub(crate) description: Option<&'a str>,
    pub(crate) instruction: Option<&'a str>,
    pub(crate) web: Option<&'a str>,
    /// What its areas are called.
    pub(crate) areas: Vec<&'a str>,
    /// Messages that it goes on from although they have expired.
    pub(crate) expired_references: Vec<&'a str>,
    /// The codes of its areas: the list's name, and one or several of its values.
    pub(crate) geocodes: Vec<(&'a str, &'a str)>,
    /// Its areas' shapes, or what was wrong with them.
    pub(crate) shapes: Vec<Result<Shape, String>>,
}

/// The name of the list of codes for places and events of the US Emergency Alert System.
pub(crate) const SAME: &str = "SAME";
/// Parameters of the US National Weather Service (its CAP 1.2 documentation): when the subject ends, and the messages that
/// this one goes on from although they have expired.
pub(crate) const EVENT_ENDING_TIME: &str = "eventEndingTime";
pub(crate) const EXPIRED_REFERENCES: &str = "expiredReferences";

/// The messages of a text: `sender,identifier,sent sender,identifier,sent …`.
pub(crate) fn references(text: &str) -> impl Iterator<Item = Result<MessageId, String>> {
    // One more, so that it is seen that there are too many.
    text.split_whitespace().take(MOST_REFERENCES + 1).map(reference)
}

fn reference(text: &str) -> Result<MessageId, String> {
    match text.split(',').collect::<Vec<_>>()[..] {
        [sender, identifier, sent] if ![sender, identifier, sent].contains(&"") => {
            message_id(sender, identifier).map_err(|reason| format!("a reference {reason}"))
        }
        _ => Err(format!("a reference is not sender,identifier,sent: {text:?}")),
    }
}

/// Which message it is, if its names can be kept: in a line each, and not too long.
pub(crate) fn message_id(sender: &str, identifier: &str) -> Result<MessageId, String> {
    for (name, text) in [("a sender", sender), ("an identifier", identifier)] {
        if text.len() > MOST_OF_NAME {
            return Err(format!("has {name} of more than {MOST_OF_NAME} bytes"));
        }
        if text.contains('\n') {
            return Err(format!("has {name} of several lines"));
        }
    }
    Ok(MessageId { sender: sender.to_owned(), identifier: identifier.to_owned() })
}

impl Alert<'_> {
    /// Reads it. What is no public alert about something that happens makes no entry.
    pub(crate) fn read(self, context: &Context<'_>, reading: &mut Reading) {
        let entry = format!("alert {}", self.identifier.unwrap_or("without an identifier"));
        let mut bad = Reasons::of(entry);
        match self.message(context, &mut bad) {
            Ok(Some(message)) => {
                let id = entry_id(&message.id);
                if self.blocks.is_empty() && message.action != Action::Cancel {
                    bad.add("has no info");
                }
                let items = items(self.blocks, context, &mut bad);
                reading.entries.push(Entry { id, aliases: BTreeSet::new(), message: Some(message), items });
            }
            // It is about other messages, and tells nobody of anything.
            Ok(None) => {}
            Err(reason) => bad.add(reason),
        }
        reading.bad.extend(bad.entries());
    }

    /// What it does, if it is for the public, and meant; none where it only answers another message.
    pub(crate) fn action(&self) -> Result<Option<Action>, String> {
        let action = match required("msgType", self.message_type)? {
            "Alert" => Action::Alert,
            "Update" => Action::Update,
            "Cancel" => Action::Cancel,
            "Ack" | "Error" => return Ok(None),
            other => return Err(format!("its msgType is none of CAP's: {other:?}")),
        };
        let status = required("status", self.status)?;
        if status != "Actual" {
            return Err(format!("its status is {status}, not Actual"));
        }
        let scope = required("scope", self.scope)?;
        if scope != "Public" {
            return Err(format!("its scope is {scope}, not Public"));
        }
        Ok(Some(action))
    }

    /// What it is to other messages; none where it only answers one.
    pub(crate) fn message(
        &self,
        context: &Context<'_>,
        bad: &mut Reasons,
    ) -> Result<Option<Message>, String> {
        let Some(action) = self.action()? else { return Ok(None) };
        let id = message_id(required("sender", self.sender)?, required("identifier", self.identifier)?)?;
        let sent = required("sent", self.sent)?;
        let sent = instant(sent, context).map_err(|reason| format!("sent {reason}"))?;
        let expired = self.blocks.iter().flat_map(|block| &block.expired_references);
        let expired = expired.flat_map(|text| self::references(text));
        let mut references = Vec::new();
        let mut known = HashSet::new();
        for reference in self.references.iter().cloned().chain(expired) {
            match reference {
                Ok(other) if other == id => bad.add("refers to itself"),
                Ok(_) if references.len() == MOST_REFERENCES => {
                    bad.add(format!("refers to more than {MOST_REFERENCES} messages"));
                    break;
                }
                Ok(other) if known.insert(other.clone()) => references.push(other),
                Ok(_) => {}
                Err(reason) => bad.add(reason),
            }
        }
        Ok(Some(Message { id, sent, action, references }))
    }
}

/// The id of a message's entry.
pub(crate) fn entry_id(MessageId { sender, identifier }: &MessageId) -> String {
    format!("{sender},{identifier}")
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    value.map(str::trim).filter(|value| !value.is_empty()).ok_or_else(|| format!("has no {name}"))
}

/// An item for each part of what the blocks tell of.
fn items(blocks: Vec<Block<'_>>, context: &Context<'_>, bad: &mut Reasons) -> Vec<Item> {
    if blocks.len() > MOST_BLOCKS {
        bad.add(format!("only the first {MOST_BLOCKS} of {} infos are read", blocks.len()));
    }
    let mut parts = parts(blocks, context.language);
    let are_several = parts.len() > 1;
    let numbered = (1..).zip(&mut parts);
    let item = |(number, part): (usize, &mut Vec<Block<'_>>)| {
        bad.part = if are_several { format!(" › part {number}") } else { String::new() };
        let item = item(part, context, bad)?;
        Some(Item { sub_id: are_several.then(|| number.to_string()), ..item })
    };
    numbered.filter_map(item).collect()
}

/// What blocks tell of, each in all its languages, the preferred one first.
fn parts<'a>(blocks: Vec<Block<'a>>, preferred: Option<&str>) -> Vec<Vec<Block<'a>>> {
    let mut parts = united(by_language(blocks));
    for part in &mut parts {
        let mut order: HashMap<String, usize> = HashMap::new();
        let first = preferred.and_then(|preferred| preferred_of(part, preferred));
        for block in first.map(|index| &part[index]).into_iter().chain(&*part) {
            let next = order.len();
            order.entry(block.language()).or_insert(next);
        }
        part.sort_by_cached_key(|block| order.get(&block.language()).copied());
    }
    parts
}

/// Blocks of several languages say the same of one part, and those of one language are of several parts. A language that has as
/// many as the first has them in the same order. Of another, a block is of the part of the same place, and alone where there is
/// none: what is said of one part must not be put with what is said of another.
fn by_language(blocks: Vec<Block<'_>>) -> Vec<Vec<Block<'_>>> {
    let mut languages: Vec<Vec<Block<'_>>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for block in blocks.into_iter().take(MOST_BLOCKS) {
        let index = *known.entry(block.language()).or_insert(languages.len());
        match languages.get_mut(index) {
            Some(language) => language.push(block),
            None => languages.push(vec![block]),
        }
    }
    let mut languages = languages.into_iter();
    let mut parts: Vec<_> = languages.next().into_iter().flatten().map(|block| vec![block]).collect();
    let count = parts.len();
    let (alike, others): (Vec<_>, Vec<_>) = languages.partition(|language| language.len() == count);
    for language in alike {
        parts.iter_mut().zip(language).for_each(|(part, block)| part.push(block));
    }
    let mut by_place: HashMap<Place<'_>, BTreeSet<usize>> = HashMap::new();
    for (number, part) in parts.iter().enumerate() {
        for place in part.iter().filter_map(Block::place) {
            by_place.entry(place).or_default().insert(number);
        }
    }
    for language in others {
        // Of several parts at one place, each has its own block.
        let mut taken = HashSet::new();
        for block in language {
            let place = block.place();
            let partners = place.as_ref().and_then(|place| by_place.get(place)).into_iter().flatten();
            let number = partners.copied().find(|number| !taken.contains(number)).unwrap_or(parts.len());
            taken.insert(number);
            match parts.get_mut(number) {
                Some(part) => part.push(block),
                None => parts.push(vec![block]),
            }
            if let Some(place) = place {
                by_place.entry(place).or_default().insert(number);
            }
        }
    }
    parts
}

/// Makes one of the parts that tell of the same, in the same words or of the same place: so a hazard rings once for who is in
/// two of its areas, and where an authority sends a block for each list of codes.
fn united(parts: Vec<Vec<Block<'_>>>) -> Vec<Vec<Block<'_>>> {
    let mut united: Vec<Vec<Block<'_>>> = Vec::new();
    let (mut by_words, mut by_place) = (HashMap::new(), HashMap::new());
    for part in parts {
        let keys: Vec<_> = part.iter().map(|block| (block.in_words(), block.in_place())).collect();
        let mut known = keys
            .iter()
            .map(|(words, place)| by_words.get(words).or_else(|| by_place.get(place.as_ref()?)).copied());
        let same = known.next().flatten().filter(|first| known.all(|other| other == Some(*first)));
        let index = same.unwrap_or(united.len());
        for (words, place) in keys {
            by_words.entry(words).or_insert(index);
            if let Some(place) = place {
                by_place.entry(place).or_insert(index);
            }
        }
        match united.get_mut(index) {
            Some(same) => same.extend(part),
            None => united.push(part),
        }
    }
    united
}

/// What a block tells of, in its language.
type Told<'a> = (String, Vec<&'a str>);
/// Where a block is: the keys of its shapes, or its codes.
type Place<'a> = (Vec<Vec<u64>>, Vec<(&'a str, &'a str)>);

/// Which block's language is preferred: it begins with the wish, or else with what is left when the wish is cut at its
/// hyphens (RFC 4647, 3.4).
fn preferred_of(part: &[Block<'_>], preferred: &str) -> Option<usize> {
    let preferred = preferred.to_lowercase();
    let mut wish = preferred.as_str();
    loop {
        let begins = |block: &Block<'_>| {
            block.language().strip_prefix(wish).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        match (part.iter().position(begins), wish.rsplit_once('-')) {
            (Some(index), _) => return Some(index),
            (None, Some((shorter, _))) => wish = shorter,
            (None, None) => return None,
        }
    }
}

/// What one part is, of which the first block that says something is believed; of several severities, the worst; and where any
/// of them is.
pub(crate) fn item<'a>(part: &mut [Block<'a>], context: &Context<'_>, bad: &mut Reasons) -> Option<Item> {
    let Some(title) = part.iter().find_map(Block::title) else {
        bad.add("has no headline and no event");
        return None;
    };
    let mut time = |name: &str, of: fn(&Block<'a>) -> Option<&'a str>| {
        let text = part.iter().find_map(|block| of(block).filter(|text| !text.trim().is_empty()))?;
        instant(text, context).map_err(|reason| bad.add(format!("{name} {reason}"))).ok()
    };
    let onset = time("onset", |block| block.onset);
    let effective = time("effective", |block| block.effective);
    let expires_at = time("expires", |block| block.expires);
    let ends_at = time("ends", |block| block.ends);
    let starts_at = onset.or(effective);
    let names_a_place = part.iter().any(|block| !block.shapes.is_empty() || !block.geocodes.is_empty());
    let links = part.iter().filter_map(|block| block.web).map(|text| link(text, context.url));
    let item = Item {
        link: links.reduce(Result::or).and_then(|link| link.map_err(|reason| bad.add(reason)).ok()),
        category: category(part),
        tags: codes(part, bad),
        severity: part.iter().map(|block| block.severity(bad)).max().unwrap_or_default(),
        place: place(part, bad),
        starts_at,
        ends_at: ends_at.filter(|ends: &Timestamp| starts_at.is_none_or(|starts| starts < *ends)),
        expires_at,
        is_all_clear: part.iter().all(|block| block.response_types.contains(&"AllClear")),
        ..Item::new(PostKind::Alert, &title).with_body(&body(part, &title))
    };
    Some(Item { is_elsewhere: names_a_place && item.place.is_none(), ..item })
}

impl<'a> Block<'a> {
    /// Its language, in small letters.
    fn language(&self) -> String {
        // CAP 1.2, 3.2.2: what says nothing is in this.
        self.language.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("en-US").to_lowercase()
    }

    /// Its headline, or else its event, in one line.
    fn title(&self) -> Option<String> {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        [self.headline, self.event].into_iter().flatten().map(line).find(|line| !line.is_empty())
    }

    /// What it tells of: where one of these differs, it is another hazard, or another time, and each rings.
    fn told(&self) -> Told<'a> {
        let times = [self.effective, self.onset, self.expires, self.ends];
        let grades = [self.event, self.urgency, self.severity, self.certainty];
        let alone = times.into_iter().chain(grades).map(Option::unwrap_or_default);
        // With what ends a list.
        let lists = [&self.categories, &self.response_types, &self.same_events].into_iter();
        let lists = lists.flat_map(|list| list.iter().copied().chain(["\n"]));
        (self.language(), alone.chain(lists).collect())
    }

    /// What it tells of, with what it says of that.
    fn in_words(&self) -> (Told<'a>, [Option<&'a str>; 3]) {
        (self.told(), [self.headline, self.description, self.instruction])
    }

    /// Where it is, if it says so: by shapes, or else by codes.
    fn place(&self) -> Option<Place<'a>> {
        let shapes: Vec<_> = self.shapes.iter().flatten().map(Shape::key).collect();
        let codes = if shapes.is_empty() { self.geocodes.clone() } else { Vec::new() };
        let is_known = !shapes.is_empty() || !codes.is_empty();
        is_known.then_some((shapes, codes))
    }

    /// What it tells of, with where that is, if it says so.
    fn in_place(&self) -> Option<(Told<'a>, Place<'a>)> {
        self.place().map(|place| (self.told(), place))
    }

    fn severity(&self, bad: &mut Reasons) -> Severity {
        let severity = word("severity", self.severity, |text| text.to_lowercase().parse().ok(), bad);
        let urgency = word("urgency", self.urgency, urgency, bad);
        let certainty = word("certainty", self.certainty, certainty, bad);
        severity_of(severity, urgency, certainty)
    }
}

/// Where the blocks of a part are, if they have shapes.
fn place(part: &mut [Block<'_>], bad: &mut Reasons) -> Option<ItemPlace> {
    let mut shapes = Shapes::default();
    for shape in part.iter_mut().flat_map(|block| block.shapes.drain(..)) {
        if let Err(reason) =
            shape.and_then(|shape| shapes.add(shape).map_err(|reason| format!("a shape {reason}")))
        {
            bad.add(reason);
        }
    }
    shapes.place().unwrap_or_else(|reason| {
        bad.add(reason);
        None
    })
}

/// A word of a list; where it is none, it is as if nobody said.
fn word<T: Default>(name: &str, text: Option<&str>, of: fn(&str) -> Option<T>, bad: &mut Reasons) -> T {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return T::default() };
    of(text).unwrap_or_else(|| {
        bad.add(format!("{name} is none of CAP's: {text:?}"));
        T::default()
    })
}

/// What the first language says, and below it, what the others say.
fn body(part: &[Block<'_>], title: &str) -> String {
    let texts = part.chunk_by(|a, b| a.language() == b.language()).map(|blocks| {
        let heading = blocks.iter().find_map(Block::title).filter(|heading| heading != title);
        let areas =
            distinct(blocks.iter().flat_map(|block| block.areas.iter().map(|area| plain(area)))).join("; ");
        let words =
            blocks.iter().flat_map(|block| [block.description, block.instruction]).flatten().map(plain);
        distinct(heading.into_iter().chain(words).chain([areas])).join("\n\n")
    });
    distinct(texts).join("\n\n———\n\n")
}

/// These texts, each once, where it says something.
fn distinct(texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.into_iter().filter(|text| !text.is_empty() && seen.insert(text.clone())).collect()
}

/// A text that should be plain, where some write HTML's line breaks.
fn plain(text: &str) -> String {
    let lines = ["<br>", "<br/>", "<br />"].iter().fold(text.to_owned(), |text, end| text.replace(end, "\n"));
    lines.trim().to_owned()
}

/// An address, relative to where the document was.
pub(crate) fn link(text: &str, base: &Url) -> Result<Url, String> {
    let url = base.join(text.trim()).ok().filter(is_web);
    let url = url.ok_or_else(|| format!("its link is no web address: {text:?}"))?;
    if url.as_str().len() > MOST_OF_LINK {
        return Err(format!("its link is longer than {MOST_OF_LINK} characters"));
    }
    Ok(url)
}

/// Whether an address can be fetched.
pub(crate) fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

fn urgency(text: &str) -> Option<Urgency> {
    Some(match text {
        "Immediate" => Urgency::Immediate,
        "Expected" => Urgency::Expected,
        "Future" => Urgency::Future,
        "Past" => Urgency::Past,
        "Unknown" => Urgency::Unknown,
        _ => return None,
    })
}

fn certainty(text: &str) -> Option<Certainty> {
    Some(match text {
        "Observed" => Certainty::Observed,
        // CAP 1.2, 3.2.2: as CAP 1.0 said it.
        "Likely" | "Very Likely" => Certainty::Likely,
        "Possible" => Certainty::Possible,
        "Unlikely" => Certainty::Unlikely,
        "Unknown" => Certainty::Unknown,
        _ => return None,
    })
}

/// What kind of happening a part tells of: by the code of its event, or else by the event's name, or else by CAP's category,
/// which does not tell a flood from a storm.
fn category(part: &[Block<'_>]) -> Option<CategoryName> {
    let of_code = || part.iter().flat_map(|block| &block.same_events).find_map(|code| category_of_code(code));
    let of_event = || part.iter().filter_map(|block| block.event).find_map(category_of_event);
    let of_category = || part.iter().flat_map(|block| &block.categories).find_map(|name| category_of(name));
    of_code().or_else(of_event).or_else(of_category)?.parse().ok()
}

/// The codes that say more than CAP's category (47 CFR 11.31(e), and the National Weather Service's own of NWSI 10-1712).
fn category_of_code(code: &str) -> Option<&'static str> {
    Some(match code.trim() {
        "CFA" | "CFW" | "DBA" | "DBW" | "FFA" | "FFS" | "FFW" | "FLA" | "FLS" | "FLW" | "SSA" | "SSW"
        | "TSA" | "TSW" => "flood",
        "EQW" => "earthquake",
        "FRW" | "IFW" | "WFA" | "WFW" => "fire",
        "BHW" | "BWW" | "CHW" | "CWW" | "DEW" | "FCW" | "HMW" | "NUW" | "RHW" => "health",
        "BLU" | "LEW" => "crime",
        "CAE" | "MEP" => "lost_and_found",
        "POS" | "TOE" => "utilities",
        _ => return None,
    })
}

/// Words of an event's name, in English, that say more than CAP's category.
fn category_of_event(event: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 8] = [
        ("flood", "flood"),
        ("tsunami", "flood"),
        ("storm surge", "flood"),
        ("earthquake", "earthquake"),
        // Before a fire, there is only weather for one.
        ("fire weather", "weather"),
        ("wildfire", "fire"),
        ("air quality", "health"),
        ("missing", "lost_and_found"),
    ];
    let event = event.to_lowercase();
    WORDS.iter().find(|(word, _)| event.contains(word)).map(|(_, category)| *category)
}

/// CAP's categories (CAP 1.2, 3.2.2). Of `Safety`, `Geo` and `Other` nothing is known that is narrower.
fn category_of(name: &str) -> Option<&'static str> {
    Some(match name.trim() {
        "Met" => "weather",
        "Security" => "crime",
        "Rescue" => "lost_and_found",
        "Fire" => "fire",
        "Health" | "Env" | "CBRNE" => "health",
        "Transport" => "traffic",
        "Infra" => "utilities",
        _ => return None,
    })
}

/// The codes of a part's areas: `same:006085`.
fn codes(part: &[Block<'_>], bad: &mut Reasons) -> BTreeSet<Tag> {
    let mut tags = BTreeSet::new();
    for (name, values) in part.iter().flat_map(|block| &block.geocodes) {
        for value in values.split_whitespace() {
            match tags::code(name, value) {
                Some(tag) if tags.len() < MOST_TAGS || tags.contains(&tag) => {
                    tags.insert(tag);
                }
                Some(_) => {
                    bad.add(format!("has more than {MOST_TAGS} geocodes"));
                    return tags;
                }
                None => bad.add(format!("a geocode makes no tag: {name:?} {value:?}")),
            }
        }
    }
    tags
}

/// What is wrong with one alert, in so many words at most.
pub(crate) struct Reasons {
    entry: String,
    /// The part of it that is being read.
    part: String,
    named: Vec<BadEntry>,
    unnamed: usize,
}

impl Reasons {
    pub(crate) fn of(entry: String) -> Self {
        Self { entry, part: String::new(), named: Vec::new(), unnamed: 0 }
    }

    pub(crate) fn add(&mut self, reason: impl Into<String>) {
        if self.named.len() == MOST_REASONS {
            self.unnamed += 1;
            return;
        }
        let entry = format!("{}{}", self.entry, self.part);
        self.named.push(BadEntry { entry, reason: reason.into() });
    }

    pub(crate) fn entries(self) -> impl Iterator<Item = BadEntry> {
        let Self { entry, named, unnamed, .. } = self;
        let rest = (unnamed > 0).then(|| BadEntry { entry, reason: format!("and {unnamed} reasons more") });
        named.into_iter().chain(rest)
    }
}
