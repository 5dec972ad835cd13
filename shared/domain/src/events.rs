//! Lists of events by time.

use std::collections::{BTreeSet, HashMap};

use crate::{
    Result,
    category::CategoryName,
    cover::Region as _,
    cursor::{Cursor, Limit, Page, Scope},
    event_index::{EventEntry, EventIndex, EventKey, EventPosition, Soonest, Span},
    friendship::HiddenPeople,
    place::Circle,
    place_index::PlaceKey,
    post::Post,
    posts::{PostCache, Posts, is_listed, is_shown, read},
    time::Timestamp,
};

/// A list of the events whose time lies within a span.
#[derive(Clone, Debug)]
pub struct Events {
    /// When.
    pub span: Span,
    /// Only of this category.
    pub category: Option<CategoryName>,
    /// Only where their place meets this circle.
    pub circle: Option<Circle>,
    /// How many.
    pub limit: Limit,
    /// After which.
    pub after: Option<Cursor<EventPosition>>,
}

impl Events {
    /// Which list it is a page of.
    #[must_use]
    pub fn scope(span: Span, category: Option<&CategoryName>, circle: Option<Circle>) -> Scope {
        let times = [span.starts_at(), span.ends_at()].map(|time| time.to_string());
        let numbers = circle.map(|circle| {
            [circle.centre().lat(), circle.centre().lon(), circle.radius_m()].map(|number| number.to_string())
        });
        let category = category.map_or("*", CategoryName::as_str).to_owned();
        Scope::of(times.into_iter().chain([category]).chain(numbers.into_iter().flatten()))
    }

    /// The events, the soonest first, without those of people who are hidden. What is resolved or cancelled is among them,
    /// and says so; what is withheld, or has expired, is not.
    pub async fn list(
        &self,
        index: &impl EventIndex,
        cache: &impl PostCache,
        posts: &impl Posts,
        hidden: &HiddenPeople,
        now: Timestamp,
    ) -> Result<Page<Post>> {
        let after = self.after.map(|cursor| cursor.0);
        let mut soonest = Soonest::new(index, self.keys(), self.span, after);
        let wanted = |entry: &EventEntry| {
            self.is_wanted(entry) && entry.post.is_listed(now) && entry.post.is_shown(hidden)
        };
        let scope = Self::scope(self.span, self.category.as_ref(), self.circle);
        let mut items: Vec<(EventPosition, Post)> = Vec::new();
        loop {
            let found = soonest.take(self.limit.and_one() - items.len(), wanted).await?;
            let ids: Vec<_> = found.entries.iter().map(|entry| entry.post.post_id).collect();
            let read = read(cache, posts, &ids).await?.into_iter();
            let mut read: HashMap<_, _> = read.map(|post| (post.post_id, post)).collect();
            for entry in &found.entries {
                // It may have moved since the index was read, and while it moves it may stand there twice.
                let is_known = items.iter().any(|(_, post)| post.post_id == entry.post.post_id);
                let post = read.remove(&entry.post.post_id).filter(|post| {
                    let is_wanted = EventEntry::of(post).is_some_and(|entry| self.is_wanted(&entry));
                    let meets = self.circle.is_none_or(|circle| post.meets(&circle));
                    is_wanted && meets && is_listed(post, now) && is_shown(post, hidden)
                });
                items.extend(post.filter(|_| !is_known).map(|post| (entry.position(), post)));
            }
            let full = items.len() > self.limit.get();
            let next_cursor = match found.more_after {
                Some(last) if !full && soonest.is_spent() => Some(Cursor(last).encode(scope)),
                Some(_) if !full => continue,
                _ => None,
            };
            let page = Page::cut(items, self.limit, scope, |(position, _)| *position);
            return Ok(Page {
                items: page.items.into_iter().map(|(_, post)| post).collect(),
                next_cursor: page.next_cursor.or(next_cursor),
            });
        }
    }

    /// Keys under which all of them are.
    fn keys(&self) -> BTreeSet<EventKey> {
        match (self.circle, &self.category) {
            (Some(circle), _) => PlaceKey::within(circle).into_iter().map(EventKey::At).collect(),
            (None, Some(category)) => BTreeSet::from([EventKey::At(PlaceKey::Anywhere(category.clone()))]),
            (None, None) => BTreeSet::from([EventKey::All]),
        }
    }

    /// Whether an event is one of them, as far as its entry tells.
    fn is_wanted(&self, entry: &EventEntry) -> bool {
        self.span.holds(entry.starts_at, entry.ends_at)
            && self.category.as_ref().is_none_or(|category| *category == entry.post.category)
            && self.circle.is_none_or(|circle| entry.post.meets(&circle))
    }
}
