//! What stands in a feed: what an adapter makes of a document, whatever its format, before it is a post.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    area::Area,
    category::CategoryName,
    place::Point,
    post::{MOST_OF_BODY, MOST_OF_TITLE, PostKind, Prices, Severity, Tag},
    time::Timestamp,
};

/// What is known besides a document, when it is read.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the document was: links in it are relative to that.
    pub url: &'a Url,
    /// When it was fetched.
    pub now: Timestamp,
    /// The language that is preferred where there are several, as in BCP 47: `nb`, `en-US`.
    pub language: Option<&'a str>,
    /// The time zone of times that name none.
    pub time_zone: &'a TimeZone,
}

/// A document is not of the format, or is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThisFormat(pub String);

/// What was read in a document. What is bad in it is named, and the rest goes on.
#[derive(Debug, Default)]
pub struct Reading {
    /// What was understood, in the document's order.
    pub entries: Vec<Entry>,
    /// What was not.
    pub bad: Vec<BadEntry>,
    /// Where the rest is: documents of their own, which an index names.
    pub links: Vec<Url>,
}

/// Something that was issued as a whole, under one id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// Its id, among all of the feed.
    pub id: String,
    /// Its other ids: those that other sources of the feed gave to the same, any of which may be its id at another time.
    pub aliases: BTreeSet<String>,
    /// What it says of others, where it is a message about a hazard.
    pub message: Option<Message>,
    /// What it tells of: mostly one thing; more where a plan has several dates, or an alert several areas.
    pub items: Vec<Item>,
}

/// Something at a place and a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// Which it is of its entry's items: none where there is only one, or of a series the first.
    pub sub_id: Option<String>,
    /// An alert or an event.
    pub kind: PostKind,
    /// One line.
    pub title: String,
    /// The rest.
    pub body: Option<String>,
    /// Where there is more to read.
    pub link: Option<Url>,
    /// What kind of happening it is; where the format does not say, or nothing that we know, it is the feed's.
    pub category: Option<CategoryName>,
    /// What it is about: `same:006085`.
    pub tags: BTreeSet<Tag>,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; where it does not say, it is the feed's place, unless it [is elsewhere](Self::is_elsewhere).
    pub place: Option<ItemPlace>,
    /// Whether it says where it is, but in a way that gives no point: by codes alone, or by a shape that is none. The feed's place
    /// would be a wrong one, then.
    pub is_elsewhere: bool,
    /// When it was published, or last changed.
    pub published_at: Option<Timestamp>,
    /// When it begins.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// From when on it is of no interest.
    pub expires_at: Option<Timestamp>,
    /// What it costs.
    pub prices: Option<Prices>,
    /// Whether it says that the hazard is over.
    pub is_all_clear: bool,
    /// Whether it says that what was scheduled, or warned of, is called off.
    pub is_cancelled: bool,
}

/// Where an item is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemPlace {
    /// A point of it.
    pub location: Point,
    /// All of it, where that is more.
    pub area: Option<Area>,
}

/// A message about a hazard (OASIS CAP 1.2, 3.2.1), and what it is to those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its identity.
    pub id: MessageId,
    /// When it was sent.
    pub sent: Timestamp,
    /// What it does.
    pub action: Action,
    /// The messages that it is about.
    pub references: Vec<MessageId>,
}

/// Which message it is. A reference names the time of sending too, but not always in the same words: these two suffice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct MessageId {
    /// Who sent it.
    pub sender: String,
    /// Its identifier, among the sender's.
    pub identifier: String,
}

/// In one line each, so that a message is a key where things are kept as JSON.
impl From<MessageId> for String {
    fn from(id: MessageId) -> Self {
        format!("{}\n{}", id.sender, id.identifier)
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        let (sender, identifier) = text.split_once('\n').unwrap_or(("", &text));
        Self { sender: sender.to_owned(), identifier: identifier.to_owned() }
    }
}

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It tells of a hazard.
    Alert,
    /// It stands in the place of those that it refers to.
    Update,
    /// It takes back those that it refers to.
    Cancel,
}

/// What an adapter could not understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEntry {
    /// Which it is: its id, or its place in the document.
    pub entry: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Item {
    /// An item with a title, of which nothing else is known.
    #[must_use]
    pub fn new(kind: PostKind, title: &str) -> Self {
        Self {
            sub_id: None,
            kind,
            title: shortened(title, MOST_OF_TITLE),
            body: None,
            link: None,
            category: None,
            tags: BTreeSet::new(),
            severity: Severity::Unknown,
            place: None,
            is_elsewhere: false,
            published_at: None,
            starts_at: None,
            ends_at: None,
            expires_at: None,
            prices: None,
            is_all_clear: false,
            is_cancelled: false,
        }
    }

    /// With the rest of what it says, if there is anything.
    #[must_use]
    pub fn with_body(self, body: &str) -> Self {
        let body = body.trim();
        Self { body: (!body.is_empty()).then(|| shortened(body, MOST_OF_BODY)), ..self }
    }
}

/// A text of so many characters at most, without what is around it; what is too long ends in an ellipsis.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let text = text.trim();
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most - 1).collect();
    format!("{}…", cut.trim_end())
}

/// How bad something is that an authority grades three ways (OASIS CAP 1.2, 3.2.2). What is extreme breaks through quiet hours:
/// so it must be expected soon, and likely. What is past, or not expected, is minor at most.
#[must_use]
pub fn severity_of(severity: Severity, urgency: Urgency, certainty: Certainty) -> Severity {
    let of_urgency = match urgency {
        Urgency::Immediate | Urgency::Expected | Urgency::Unknown => Severity::Extreme,
        Urgency::Future => Severity::Severe,
        Urgency::Past => Severity::Minor,
    };
    let of_certainty = match certainty {
        Certainty::Observed | Certainty::Likely => Severity::Extreme,
        Certainty::Possible | Certainty::Unknown => Severity::Severe,
        Certainty::Unlikely => Severity::Minor,
    };
    severity.min(of_urgency).min(of_certainty)
}

/// How soon one must act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CAP's words")]
pub enum Urgency {
    Immediate,
    Expected,
    Future,
    Past,
    #[default]
    Unknown,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "CAP's words")]
pub enum Certainty {
    Observed,
    Likely,
    Possible,
    Unlikely,
    #[default]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_extreme_is_soon_and_likely() {
        use Severity::{Extreme, Minor, Moderate, Severe, Unknown};
        for (severity, urgency, certainty, ours) in [
            (Extreme, Urgency::Immediate, Certainty::Observed, Extreme),
            (Extreme, Urgency::Future, Certainty::Likely, Severe),
            (Extreme, Urgency::Immediate, Certainty::Possible, Severe),
            (Moderate, Urgency::Future, Certainty::Possible, Moderate),
            (Severe, Urgency::Past, Certainty::Observed, Minor),
            (Severe, Urgency::Expected, Certainty::Unlikely, Minor),
            (Unknown, Urgency::Immediate, Certainty::Observed, Unknown),
        ] {
            assert_eq!(
                severity_of(severity, urgency, certainty),
                ours,
                "{severity:?} {urgency:?} {certainty:?}"
            );
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Item::new(PostKind::Alert, &"Røyk ".repeat(60)).with_body(&"å".repeat(6_000));
        assert_eq!((long.title.chars().count(), long.body.unwrap().chars().count()), (200, 5_000));
        let short = Item::new(PostKind::Event, " A fair\n").with_body(" \n ");
        assert_eq!((short.title.as_str(), short.body), ("A fair", None));
    }
}
