//! The index of events: those posts that are scheduled, by when they begin; all of them, and by category and place.

use std::{collections::BTreeSet, future::Future};

use serde::{Deserialize, Serialize};

use crate::{
    Refusal, Result,
    error::Invalid,
    ids::PostId,
    merge::{Merged, Ordered},
    place_index::{PlaceEntry, PlaceKey},
    post::{Post, PostKind},
    time::{self, Timestamp},
};

/// Reads events by time.
pub trait EventIndex: Sync {
    /// Up to `limit` entries under a key, of events that begin within a span, the soonest first, from the first one after
    /// `after` on. Read consistently.
    fn soonest(
        &self,
        key: &EventKey,
        span: Span,
        after: Option<EventPosition>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<EventEntry>>> + Send;
}

/// From when until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    starts_at: Timestamp,
    ends_at: Timestamp,
}

/// When an event begins, to the millisecond; and which it is, of those that begin together.
pub type EventPosition = (Timestamp, PostId);

/// Where in the index an event stands: among all of them, and wherever it stands in the place index, but under its author.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKey {
    /// All events.
    All,
    /// Those that stand there in the place index.
    At(PlaceKey),
}

/// What the index knows of an event: enough to tell whether it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventEntry {
    /// What the place index knows of it.
    pub post: PlaceEntry,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
}

impl Span {
    /// From one instant to a later one, however much later: refused as parameters of these names.
    pub fn new(starts_at: Timestamp, ends_at: Timestamp) -> Result<Self, Refusal> {
        if starts_at < ends_at {
            return Ok(Self { starts_at, ends_at });
        }
        let invalid = Invalid::new("out_of_range", "must be after starts_at");
        Err(Refusal::invalid(vec![invalid.at("?ends_at")]))
    }

    /// From when.
    #[must_use]
    pub const fn starts_at(self) -> Timestamp {
        self.starts_at
    }

    /// Until when.
    #[must_use]
    pub const fn ends_at(self) -> Timestamp {
        self.ends_at
    }

    /// Whether what begins and ends so lies within: what has no end does where it begins.
    #[must_use]
    pub fn holds(self, starts_at: Timestamp, ends_at: Option<Timestamp>) -> bool {
        starts_at >= self.starts_at && ends_at.unwrap_or(starts_at) <= self.ends_at
    }
}

impl EventKey {
    /// The keys under which a post is stored: none, unless it is an event.
    #[must_use]
    pub fn of(post: &Post) -> BTreeSet<Self> {
        if starts_at(post).is_none() {
            return BTreeSet::new();
        }
        let places = PlaceKey::of(post).into_iter().filter(|key| !matches!(key, PlaceKey::By(_)));
        places.map(Self::At).chain([Self::All]).collect()
    }
}

impl EventEntry {
    /// A post's entry: none, unless it is an event.
    #[must_use]
    pub fn of(post: &Post) -> Option<Self> {
        Some(Self { post: PlaceEntry::of(post), starts_at: starts_at(post)?, ends_at: post.ends_at })
    }

    /// Where it stands under each of its keys.
    #[must_use]
    pub const fn position(&self) -> EventPosition {
        (self.starts_at, self.post.post_id)
    }
}

/// When an event begins, to the millisecond.
fn starts_at(post: &Post) -> Option<Timestamp> {
    post.starts_at.filter(|_| post.kind == PostKind::Event).map(time::to_the_millisecond)
}

/// The soonest events of a span under several keys, merged.
pub type Soonest<'a, I> = Merged<ByTime<'a, I>>;

/// The index of events, by the time of a span.
#[derive(Debug)]
pub struct ByTime<'a, I> {
    index: &'a I,
    span: Span,
}

impl<'a, I: EventIndex> Soonest<'a, I> {
    /// Begins after `after`.
    pub fn new(index: &'a I, keys: BTreeSet<EventKey>, span: Span, after: Option<EventPosition>) -> Self {
        Self::under(ByTime { index, span }, keys, after)
    }
}

impl<I: EventIndex> Ordered for ByTime<'_, I> {
    type Key = EventKey;
    type Entry = EventEntry;
    type Position = EventPosition;

    async fn read(
        &self,
        key: &EventKey,
        after: Option<EventPosition>,
        limit: usize,
    ) -> Result<Vec<EventEntry>> {
        self.index.soonest(key, self.span, after, limit).await
    }

    fn position(entry: &EventEntry) -> EventPosition {
        entry.position()
    }
}
