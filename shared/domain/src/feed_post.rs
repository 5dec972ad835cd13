//! How an item of a feed is a post: what it lacks is the feed's, and what changes of it is an edit.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    category::CategoryName,
    feed::FeedSettings,
    feed_item::{Item, ItemPlace},
    feed_print,
    ids::{EditId, PostId},
    post::{Post, PostKind, PostStatus, Severity, Tag, Tags},
    post_edit::{Edit, FieldChange},
    time::{self, Timestamp},
};

/// What was told of an item, in short: what has changed since is told again, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Where it was: its place, and the codes of it.
    place: u64,
    /// What decides who is told of it.
    audience: u64,
    /// The rest.
    text: u64,
    /// How bad it was.
    severity: Severity,
    /// Whether it still went on.
    status: PostStatus,
    /// Until when it held, in milliseconds: apart from the rest, since who is told of a post is looked for again where it changes.
    expires: Option<i64>,
}

/// Fills in what an item does not say: its feed's category, tags and place. A category that is not in the list is none. Answers
/// how many of its tags are more than a post has, and left out.
pub fn complete(item: &mut Item, feed: &FeedSettings, categories: &BTreeSet<CategoryName>) -> usize {
    let category = item.category.take().filter(|category| categories.contains(category));
    item.category = Some(category.unwrap_or_else(|| feed.category.clone()));
    // Those that a moderator gave it are the last to go.
    let mut tags: BTreeSet<Tag> = feed.tags.iter().cloned().collect();
    let own: Vec<_> = std::mem::take(&mut item.tags).into_iter().filter(|tag| !tags.contains(tag)).collect();
    let room = Tags::MOST_OF_A_FEED - tags.len();
    let left_out = own.len().saturating_sub(room);
    tags.extend(own.into_iter().take(room));
    item.tags = tags;
    // What is elsewhere is not there, though nobody can tell where it is.
    if item.place.is_none() && !item.is_elsewhere {
        item.place = feed.location.map(|location| ItemPlace { location, area: None });
    }
    left_out
}

/// The post that an item is, once it is [complete](complete); none where it has no category. `quiet` says that nobody's phone
/// rings for it.
pub fn post(item: &Item, post_id: PostId, source: &str, quiet: bool) -> Result<Post> {
    let no_category = || Error::unreadable("an item of a feed", "it has no category");
    let category = item.category.clone().ok_or_else(no_category)?;
    let blank = Post {
        post_id,
        kind: item.kind,
        status: PostStatus::Active,
        title: String::new(),
        body: None,
        category,
        tags: Tags::default(),
        severity: Severity::Unknown,
        location: None,
        area: None,
        author: None,
        source: Some(source.to_owned()),
        created_at: post_id.time(),
        updated_at: post_id.time(),
        starts_at: None,
        ends_at: None,
        expires_at: None,
        min_price: None,
        max_price: None,
        link: None,
        confirmations: 0,
        withheld: false,
        quiet,
        revision: 0,
    };
    let says = [FieldChange::Status(status(item)), FieldChange::ExpiresAt(item.expires_at)].into_iter();
    let says = says.chain(audience(item)).chain(text(item));
    let said = says.fold(blank, |mut post, change| {
        change.put(&mut post);
        post
    });
    Ok(Post { kind: item.kind, ..said })
}

/// The edit that says what an item says, and was not told; none where all was. An item that was told by somebody who did not get
/// to say so was told nobody knows how: all is said again.
#[must_use]
pub fn edit(item: &Item, post_id: PostId, told: Option<Told>, now: Timestamp) -> Option<Edit> {
    let says = Told::of(item);
    let mut changes = Vec::new();
    if told.is_none_or(|told| told.audience != says.audience) {
        changes.extend(audience(item));
    }
    if told.is_none_or(|told| told.text != says.text) {
        changes.extend(text(item));
    }
    if told.is_none_or(|told| told.expires != says.expires) {
        changes.push(FieldChange::ExpiresAt(item.expires_at));
    }
    // A moderator may have ended the post: what the feed says of that holds only where it says something else than before.
    if told.is_some_and(|told| told.status != says.status) {
        changes.push(FieldChange::Status(says.status));
    }
    let raised_from = told.map(|told| told.severity).filter(|before| *before < says.severity);
    (!changes.is_empty()).then(|| edit_of(post_id, changes, raised_from, now))
}

/// The edit of a post that a feed makes now.
pub(crate) fn edit_of(
    post_id: PostId,
    changes: Vec<FieldChange>,
    raised_from: Option<Severity>,
    now: Timestamp,
) -> Edit {
    // Not at the instant of its creation, which is before it.
    let edit_id = EditId::new(now.max(time::just_after(post_id.time())));
    Edit { post_id, edit_id, changes, raised_from }
}

/// Whether an item that is new to us is no news: an event that is over; or what was published, or began, more than a day ago, and
/// does not say until when it holds.
#[must_use]
pub fn is_old(item: &Item, now: Timestamp) -> bool {
    let is_past = item.ends_at.or(item.starts_at).is_some_and(|end| end <= now);
    let is_of_before = |at: Timestamp| now.duration_since(at) > NEWS;
    match item.kind {
        PostKind::Event => is_past,
        PostKind::Alert | PostKind::Report => {
            item.expires_at.is_none() && item.published_at.or(item.starts_at).is_some_and(is_of_before)
        }
    }
}

/// How long something is news.
const NEWS: SignedDuration = SignedDuration::from_hours(24);

fn status(item: &Item) -> PostStatus {
    match item {
        Item { is_cancelled: true, .. } => PostStatus::Cancelled,
        Item { is_all_clear: true, .. } => PostStatus::Resolved,
        Item { .. } => PostStatus::Active,
    }
}

/// What decides who is told of an item.
fn audience(item: &Item) -> Vec<FieldChange> {
    let place = item.place.as_ref();
    let changes = [
        item.category.clone().map(FieldChange::Category),
        Some(FieldChange::Tags(Tags::new(item.tags.iter().cloned()))),
        Some(FieldChange::Severity(item.severity)),
        Some(FieldChange::Location(place.map(|place| place.location))),
        Some(FieldChange::Area(place.and_then(|place| place.area.clone()))),
    ];
    changes.into_iter().flatten().collect()
}

/// What else an item says, but until when it holds.
fn text(item: &Item) -> Vec<FieldChange> {
    vec![
        FieldChange::Title(item.title.clone()),
        FieldChange::Body(item.body.clone()),
        FieldChange::Link(item.link.clone()),
        FieldChange::StartsAt(item.starts_at),
        FieldChange::EndsAt(item.ends_at),
        FieldChange::Prices(item.prices),
    ]
}

impl Told {
    /// What an item says.
    #[must_use]
    pub fn of(item: &Item) -> Self {
        Self {
            place: feed_print::of_place(item),
            audience: feed_print::of_audience(item),
            text: feed_print::of_text(item),
            severity: item.severity,
            status: status(item),
            expires: item.expires_at.map(Timestamp::as_millisecond),
        }
    }

    /// Whether it was where another is.
    #[must_use]
    pub const fn is_there(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Whether it still went on.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == PostStatus::Active
    }
}
