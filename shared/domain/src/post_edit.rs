//! Edits of posts: which fields take which values, and how edits merge.
//!
//! An edit says nothing of the fields that it leaves alone. Each field is a register of its own, and the latest edit of
//! it holds: so two who edit different fields at once do not undo each other's work, and edits come to the same post in
//! whatever order they arrive, however often. A record that comes late, out of a queue of dead letters say, never undoes
//! a later one.
//!
//! Which edit is the later one is told by their ids, which are in the order of time, and never the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    area::Area,
    category::CategoryName,
    ids::{EditId, PostId},
    place::Point,
    post::{Author, Post, PostKind, PostStatus, Prices, Severity, Tags},
    time::{self, Timestamp},
};

/// What happened to a post at an instant: some of its fields took other values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// The post.
    pub post_id: PostId,
    /// Which edit it is, and when it was made.
    pub edit_id: EditId,
    /// The fields that changed, each once.
    pub changes: Vec<FieldChange>,
    /// How bad the post was before, where it is worse now: then it is worth another ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_from: Option<Severity>,
}

/// A field of a post, and the value that it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of the post that it is named after")]
pub enum FieldChange {
    Title(String),
    Body(Option<String>),
    Category(CategoryName),
    Tags(Tags),
    Severity(Severity),
    Location(Option<Point>),
    Area(Option<Area>),
    StartsAt(Option<Timestamp>),
    EndsAt(Option<Timestamp>),
    ExpiresAt(Option<Timestamp>),
    Status(PostStatus),
    Author(Option<Author>),
    Confirmations(u32),
    Withheld(bool),
    /// `min_price` and `max_price`.
    Prices(Option<Prices>),
    Link(Option<Url>),
}

/// Which field it is. What is stored of edits names them, so no name changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of the post that it is named after")]
pub enum Field {
    Title,
    Body,
    Category,
    Tags,
    Severity,
    Location,
    Area,
    StartsAt,
    EndsAt,
    ExpiresAt,
    Status,
    Author,
    Confirmations,
    Withheld,
    Prices,
    Link,
}

impl FieldChange {
    /// The field.
    #[must_use]
    pub const fn field(&self) -> Field {
        match self {
            Self::Title(_) => Field::Title,
            Self::Body(_) => Field::Body,
            Self::Category(_) => Field::Category,
            Self::Tags(_) => Field::Tags,
            Self::Severity(_) => Field::Severity,
            Self::Location(_) => Field::Location,
            Self::Area(_) => Field::Area,
            Self::StartsAt(_) => Field::StartsAt,
            Self::EndsAt(_) => Field::EndsAt,
            Self::ExpiresAt(_) => Field::ExpiresAt,
            Self::Status(_) => Field::Status,
            Self::Author(_) => Field::Author,
            Self::Confirmations(_) => Field::Confirmations,
            Self::Withheld(_) => Field::Withheld,
            Self::Prices(_) => Field::Prices,
            Self::Link(_) => Field::Link,
        }
    }

    /// Whether it is a change of what the post says, as those understand it who ask when it last changed.
    const fn is_of_content(&self) -> bool {
        !matches!(self, Self::Confirmations(_) | Self::Withheld(_))
    }

    pub(crate) fn put(&self, post: &mut Post) {
        match self.clone() {
            Self::Title(title) => post.title = title,
            Self::Body(body) => post.body = body,
            Self::Category(category) => post.category = category,
            Self::Tags(tags) => post.tags = tags,
            Self::Severity(severity) => post.severity = severity,
            Self::Location(location) => post.location = location,
            Self::Area(area) => post.area = area,
            Self::StartsAt(starts_at) => {
                post.starts_at = starts_at;
                // What a feed has is what it says that it is.
                if post.source.is_none() {
                    post.kind = PostKind::of_a_person(starts_at);
                }
            }
            Self::EndsAt(ends_at) => post.ends_at = ends_at,
            Self::ExpiresAt(expires_at) => post.expires_at = expires_at,
            Self::Status(status) => post.status = status,
            Self::Author(author) => post.author = author,
            Self::Confirmations(confirmations) => post.confirmations = confirmations,
            Self::Withheld(withheld) => post.withheld = withheld,
            Self::Prices(prices) => {
                (post.min_price, post.max_price) = prices.map(|Prices { min, max }| (min, max)).unzip();
            }
            Self::Link(link) => post.link = link,
        }
    }
}

impl Edit {
    /// An edit that is made now, and is later than what is known of the post.
    #[must_use]
    pub fn new(post: &Post, changes: Vec<FieldChange>, now: Timestamp) -> Self {
        // Where clocks differ, an edit must not be before what its maker has seen.
        let seen = time::just_after(post.updated_at);
        let raised = changes.iter().find_map(|change| match change {
            FieldChange::Severity(severity) if *severity > post.severity => Some(post.severity),
            _ => None,
        });
        Self { post_id: post.post_id, edit_id: EditId::new(now.max(seen)), changes, raised_from: raised }
    }

    /// When it was made.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.edit_id.time()
    }

    /// Whether other people's subscriptions may match the post after it.
    #[must_use]
    pub fn moves_audience(&self) -> bool {
        use Field::{Area, Category, Location, Severity, Tags};
        let moves = |field| matches!(field, Category | Tags | Severity | Location | Area);
        self.changes.iter().any(|change| moves(change.field()))
    }

    /// Whether it may bring the post into timelines in which it is not: other people's subscriptions may match it, or it had
    /// expired and has not any more.
    #[must_use]
    pub fn enters_timelines(&self) -> bool {
        let is_listed_longer = |change: &FieldChange| match change {
            FieldChange::ExpiresAt(expires) => expires.is_none_or(|expires| expires > self.time()),
            _ => false,
        };
        self.moves_audience() || self.changes.iter().any(is_listed_longer)
    }

    /// Whether it changes what the indexes know of the post ([`crate::place_index::PlaceEntry`],
    /// [`crate::event_index::EventEntry`]).
    #[must_use]
    pub fn moves_entries(&self) -> bool {
        use Field::{Author, EndsAt, ExpiresAt, StartsAt};
        let moves = |field| matches!(field, Author | StartsAt | EndsAt | ExpiresAt);
        self.moves_audience() || self.changes.iter().any(|change| moves(change.field()))
    }

    /// The status that it gives the post, if it gives it one.
    #[must_use]
    pub fn status(&self) -> Option<PostStatus> {
        self.changes.iter().find_map(|change| match change {
            FieldChange::Status(status) => Some(*status),
            _ => None,
        })
    }

    /// The post after it, for who knows of no other edit.
    #[must_use]
    pub fn applied_to(&self, post: Post) -> Post {
        let mut edited = Edited { post, last: BTreeMap::new() };
        edited.merge(self);
        edited.post
    }
}

/// A post, and for each field that was edited its latest edit: what another edit merges into.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    /// The post.
    pub post: Post,
    /// The latest edit of each field that is not as it was posted.
    pub last: BTreeMap<Field, EditId>,
}

impl Edited {
    /// A post as it was posted.
    #[must_use]
    pub const fn not_yet(post: Post) -> Self {
        Self { post, last: BTreeMap::new() }
    }

    /// Takes the changes that are later than what is known of their fields; answers whether there was one. Then the post
    /// has another revision.
    pub fn merge(&mut self, edit: &Edit) -> bool {
        let mut changed = false;
        for change in &edit.changes {
            if self.last.get(&change.field()).is_some_and(|last| *last >= edit.edit_id) {
                continue;
            }
            self.last.insert(change.field(), edit.edit_id);
            change.put(&mut self.post);
            changed = true;
            if change.is_of_content() {
                self.post.updated_at = self.post.updated_at.max(edit.time());
            }
        }
        self.post.revision += u32::from(changed);
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample};

    use super::*;
    use crate::{ids::UserId, time};

    fn post() -> Post {
        let now = time::parse("2026-11-20T18:00:00Z").unwrap();
        let author = Author { user_id: UserId::new(now), username: "ada".to_owned() };
        let body = serde_json::json!({
            "title": "Smoke", "category": "fire", "location": {"lat": 60.3975, "lon": 5.3245},
        });
        crate::post::NewPost::from_json(&body, now).unwrap().into_post(PostId::new(now), author)
    }

    fn change() -> impl Strategy<Value = FieldChange> {
        prop_oneof![
            "[a-z]{1,4}".prop_map(FieldChange::Title),
            sample::select(vec![None, Some("More".to_owned())]).prop_map(FieldChange::Body),
            sample::select(vec![Severity::Minor, Severity::Extreme]).prop_map(FieldChange::Severity),
            sample::select(vec![PostStatus::Resolved, PostStatus::Cancelled]).prop_map(FieldChange::Status),
            (0u32..9).prop_map(FieldChange::Confirmations),
            any::<bool>().prop_map(FieldChange::Withheld),
        ]
    }

    /// Edits of one post, in the order of time; some of one millisecond.
    fn edits() -> impl Strategy<Value = (Post, Vec<Edit>)> {
        let changes = prop::collection::vec(change(), 1..4);
        prop::collection::vec((changes, 0u64..3), 1..8).prop_map(|edits| {
            let (post, mut at) = (post(), 0);
            let mut made: Vec<_> = edits
                .into_iter()
                .map(|(mut changes, later)| {
                    at += later;
                    changes.sort_by_key(FieldChange::field);
                    changes.dedup_by_key(|change| change.field());
                    let now = post.created_at + std::time::Duration::from_millis(at);
                    Edit::new(&post, changes, now)
                })
                .collect();
            made.sort_by_key(|edit| edit.edit_id);
            (post, made)
        })
    }

    proptest! {
        #[test]
        fn edits_come_to_the_same_post_in_any_order_and_however_often(
            (post, edits) in edits(),
            order in prop::collection::vec(any::<sample::Index>(), 0..16),
        ) {
            let mut in_order = Edited::not_yet(post.clone());
            for edit in &edits {
                prop_assert!(in_order.merge(edit));
                prop_assert!(!in_order.merge(edit), "it is known");
            }
            // Any order and repetition, as long as each comes once.
            let mut shuffled = Edited::not_yet(post.clone());
            for index in order {
                shuffled.merge(index.get(&edits));
            }
            for edit in &edits {
                shuffled.merge(edit);
            }
            let revisions = shuffled.post.revision;
            shuffled.post.revision = in_order.post.revision;
            prop_assert_eq!(&shuffled, &in_order);
            prop_assert!(revisions >= 1);
            // And the last word on each field is the last edit's.
            let last = edits.last().unwrap();
            prop_assert_eq!(in_order.post.clone(), last.applied_to(Post { revision: in_order.post.revision - 1, ..in_order.post }));
        }
    }

    #[test]
    fn an_edit_is_later_than_what_its_maker_has_seen_and_knows_what_it_raises() {
        let ahead = Post { updated_at: time::after(time::now(), 60), ..post() };
        let edit = Edit::new(&ahead, vec![FieldChange::Severity(Severity::Severe)], time::now());
        assert!(edit.time() > ahead.updated_at);
        assert_eq!(edit.raised_from, Some(Severity::Unknown));
        let severe = edit.applied_to(ahead);
        let calmer = Edit::new(&severe, vec![FieldChange::Severity(Severity::Minor)], time::now());
        assert_eq!(calmer.raised_from, None);
        let json = serde_json::to_value(&calmer).unwrap();
        assert_eq!(json["changes"], serde_json::json!([{"severity": "minor"}]));
        assert_eq!(serde_json::from_value::<Edit>(json).unwrap(), calmer);
    }

    #[test]
    fn what_begins_is_an_event_and_what_is_counted_is_no_change_of_the_post() {
        let post = post();
        let starts_at = Some(time::after(post.created_at, 60));
        let event =
            Edit::new(&post, vec![FieldChange::StartsAt(starts_at)], post.created_at).applied_to(post);
        assert_eq!((event.kind, event.revision), (PostKind::Event, 1));
        let of_a_feed = Post { source: Some("a feed".to_owned()), ..event.clone() };
        let never = Edit::new(&of_a_feed, vec![FieldChange::StartsAt(None)], time::now());
        assert_eq!(never.applied_to(of_a_feed).kind, PostKind::Event);
        let counted = vec![FieldChange::Confirmations(3), FieldChange::Withheld(true)];
        let counted = Edit::new(&event, counted, time::now()).applied_to(event.clone());
        assert_eq!((counted.updated_at, counted.confirmations), (event.updated_at, 3));
    }

    #[test]
    fn a_place_prices_and_a_link_come_and_go_and_a_place_is_read_as_it_was_written() {
        let post = post();
        let old = serde_json::json!({"location": {"lat": 1.5, "lon": 2.0}});
        let here = FieldChange::Location(Some(Point::new(1.5, 2.0).unwrap()));
        assert_eq!(serde_json::from_value::<FieldChange>(old.clone()).unwrap(), here);
        assert_eq!(serde_json::to_value(&here).unwrap(), old);
        let prices = FieldChange::Prices(Some(Prices { min: 15.5, max: 20.0 }));
        let link = FieldChange::Link(Some("https://met.example.org/1".parse().unwrap()));
        let changes = vec![FieldChange::Location(None), prices, link];
        for change in &changes {
            let json = serde_json::to_string(change).unwrap();
            assert_eq!(serde_json::from_str::<FieldChange>(&json).unwrap(), *change);
        }
        let edited = Edit::new(&post, changes, time::now()).applied_to(post);
        assert_eq!(
            (edited.location, edited.min_price, edited.max_price, edited.link.is_some()),
            (None, Some(15.5), Some(20.0), true)
        );
        let gone = vec![here, FieldChange::Prices(None), FieldChange::Link(None)];
        let gone = Edit::new(&edited, gone, time::now()).applied_to(edited);
        assert_eq!(
            (gone.location.is_some(), gone.min_price, gone.max_price, gone.link),
            (true, None, None, None)
        );
    }
}
