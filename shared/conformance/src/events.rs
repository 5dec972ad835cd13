//! Events: found by their time, whatever happens to them.

use std::collections::BTreeSet;

use futures::future::join_all;
use proptest::{prelude::*, sample::Index};
use tocsin_domain::{
    category::CategoryName,
    cover::Region as _,
    cursor::{Cursor, Limit},
    event_index::{EventEntry, EventIndex, EventKey, EventPosition, Span},
    events::Events,
    friendship::HiddenPeople,
    place::{Circle, Point},
    post::{Post, PostKind, PostStatus},
    post_edit::{Edit, FieldChange},
    post_log::Deletion,
    posts::{PostCache, PostEditor, PostStore, Posts},
    time::{self, Timestamp},
};

use crate::fixtures::{category, point, post_at, post_id};

/// What happens to some events, and what is asked then.
#[derive(Clone, Debug)]
pub struct History {
    posts: Vec<Post>,
    changes: Vec<(Index, Change)>,
    questions: Vec<Question>,
}

#[derive(Clone, Debug)]
enum Change {
    Edit(Vec<FieldChange>),
    Deletion,
}

#[derive(Clone, Debug)]
struct Question {
    span: Span,
    category: Option<CategoryName>,
    circle: Option<Circle>,
    limit: Limit,
    /// Whether somebody is hidden.
    is_somebody_hidden: bool,
}

/// When every history takes place.
fn beginning() -> Timestamp {
    time::parse("2026-12-30T22:30:00Z").unwrap()
}

fn hours(hours: u64) -> Timestamp {
    time::after(beginning(), hours * 60 * 60)
}

/// Times that several events share; some finer than the storage sorts by.
fn any_start() -> impl Strategy<Value = Timestamp> {
    let fine = prop::sample::select(vec![0u64, 0, 0, 300]);
    (0u64..30, fine).prop_map(|(day, micros)| hours(day * 11) + std::time::Duration::from_micros(micros))
}

fn any_end() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of((0u64..500).prop_map(hours))
}

fn any_expiry() -> impl Strategy<Value = Option<Timestamp>> {
    prop::sample::select(vec![None, None, Some(beginning()), Some(hours(100_000))])
}

fn any_category() -> impl Strategy<Value = CategoryName> {
    prop::sample::select(vec![category("community"), category("traffic")])
}

/// In the middle of a town, at its edge, far away, or nowhere.
fn any_location() -> impl Strategy<Value = Option<Point>> {
    let places = [(60.3991, 5.3206), (60.3991, 5.3900), (60.45, 5.33), (59.91, 10.75)];
    let places = places.into_iter().map(|(lat, lon)| Some(point(lat, lon)));
    prop::sample::select(places.chain([None]).collect::<Vec<_>>())
}

fn any_event(number: u8) -> impl Strategy<Value = Post> {
    let times = (prop::option::weighted(0.9, any_start()), any_end(), any_expiry());
    let area = prop::option::weighted(0.05, crate::fixtures::any_area(point(60.3991, 5.3206)));
    let what = (any_category(), any_location(), area);
    let how = (any::<bool>(), prop::bool::weighted(0.1), 0u64..4);
    (times, what, how).prop_map(move |((starts_at, ends_at, expires_at), (category, location, area), how)| {
        let (is_by_one, withheld, millis) = how;
        let one = tocsin_domain::ids::UserId::from_bytes(*post_id(7, 7).as_bytes());
        let post = post_at(point(0.0, 0.0));
        let author = post.author.clone().map(|author| {
            let user_id = if is_by_one { one } else { author.user_id };
            tocsin_domain::post::Author { user_id, ..author }
        });
        let kind = if starts_at.is_some() { PostKind::Event } else { PostKind::Report };
        let post_id = post_id(1_790_000_000_000 + millis, number);
        let created_at = post_id.time();
        Post {
            post_id,
            kind,
            category,
            location,
            area,
            author,
            created_at,
            updated_at: created_at,
            starts_at,
            ends_at,
            expires_at,
            withheld,
            ..post
        }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let field = prop_oneof![
        4 => prop::option::weighted(0.9, any_start()).prop_map(FieldChange::StartsAt),
        2 => any_end().prop_map(FieldChange::EndsAt),
        1 => any_expiry().prop_map(FieldChange::ExpiresAt),
        1 => any_category().prop_map(FieldChange::Category),
        1 => any_location().prop_map(FieldChange::Location),
        1 => any::<bool>().prop_map(FieldChange::Withheld),
        1 => Just(FieldChange::Status(PostStatus::Cancelled)),
        1 => Just(FieldChange::Author(None)),
    ];
    let fields = prop::collection::vec(field, 1..4).prop_map(|mut fields| {
        fields.sort_by_key(FieldChange::field);
        fields.dedup_by_key(|change| change.field());
        Change::Edit(fields)
    });
    prop_oneof![6 => fields, 1 => Just(Change::Deletion)]
}

fn any_question() -> impl Strategy<Value = Question> {
    let span = (0u64..300, 1u64..300)
        .prop_map(|(from, hours_long)| Span::new(hours(from), hours(from + hours_long)).unwrap());
    let circle = prop::sample::select(vec![1_000.0, 6_000.0, 100_000.0])
        .prop_map(|radius_m| Circle::new(point(60.3991, 5.3206), radius_m).unwrap());
    let limit = prop::sample::select(vec!["1", "2", "7", "100"]).prop_map(|text| Limit::parse(text).unwrap());
    (span, prop::option::of(any_category()), prop::option::of(circle), limit, any::<bool>()).prop_map(
        |(span, category, circle, limit, is_somebody_hidden)| Question {
            span,
            category,
            circle,
            limit,
            is_somebody_hidden,
        },
    )
}

/// Any history.
pub fn any_history() -> impl Strategy<Value = History> {
    let posts = (0..40u8).map(any_event).collect::<Vec<_>>();
    let changes = prop::collection::vec((any::<Index>(), any_change()), 0..40);
    (posts, changes, prop::collection::vec(any_question(), 1..8))
        .prop_map(|(posts, changes, questions)| History { posts, changes, questions })
}

/// Whatever happens to events: those of a list are those that one finds by looking at all of them. `posts` is empty, and so
/// is the `cache`.
pub async fn all_are_found(
    posts: &(impl Posts + PostStore + PostEditor + EventIndex),
    cache: &impl PostCache,
    history: &History,
) {
    for stored in posts.store(&history.posts).await {
        stored.unwrap();
    }
    for (number, (index, change)) in (1..).zip(&history.changes) {
        let post = index.get(&history.posts);
        let now = time::after(post.created_at, 100 + number);
        match change {
            Change::Edit(changes) => {
                posts.edit(&Edit::new(post, changes.clone(), now)).await.unwrap();
            }
            Change::Deletion => {
                posts.remove(&Deletion { post_id: post.post_id, deleted_at: now }).await.unwrap();
            }
        }
    }
    let ids: Vec<_> = history.posts.iter().map(|post| post.post_id).collect();
    let stored = posts.get(&ids).await.unwrap();
    for question in &history.questions {
        let one = tocsin_domain::ids::UserId::from_bytes(*post_id(7, 7).as_bytes());
        let hidden: HiddenPeople = question.is_somebody_hidden.then_some(one).into_iter().collect();
        let mut expected: Vec<_> =
            stored.iter().filter(|post| is_expected(question, post, &hidden)).cloned().collect();
        expected.sort_by_key(|post| (post.starts_at.map(time::to_the_millisecond), post.post_id));
        let mut found = Vec::new();
        let mut after: Option<Cursor<EventPosition>> = None;
        loop {
            let Question { span, category, circle, limit, .. } = question.clone();
            let list = Events { span, category: category.clone(), circle, limit, after };
            let page = list.list(posts, cache, posts, &hidden, beginning()).await.unwrap();
            let is_last = page.next_cursor.is_none();
            assert!(is_last || page.items.len() == limit.get(), "a page is full, or the last one");
            assert!(page.items.len() <= limit.get());
            found.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            let scope = Events::scope(span, category.as_ref(), circle);
            after = Some(Cursor::decode(&cursor, scope).unwrap());
        }
        assert_eq!(found, expected, "{question:?}");
    }
}

fn is_expected(question: &Question, post: &Post, hidden: &HiddenPeople) -> bool {
    let (from, to) = (question.span.starts_at(), question.span.ends_at());
    let Some(starts_at) = post.starts_at.filter(|_| post.kind == PostKind::Event) else { return false };
    starts_at >= from
        && starts_at <= time::after(to, 0) + std::time::Duration::from_micros(999)
        && post.ends_at.map_or(time::to_the_millisecond(starts_at) <= to, |ends_at| ends_at <= to)
        && question.category.as_ref().is_none_or(|category| post.category == *category)
        && question.circle.is_none_or(|circle| post.meets(&circle))
        && !post.withheld
        && post.expires_at.is_none_or(|expires| expires > beginning())
        && post.author.as_ref().is_none_or(|author| !hidden.contains(&author.user_id))
}

/// Whoever else moves it, sooner or later: an event ends up under its newest time alone. `posts` has no others.
pub async fn moved_by_several(posts: &(impl Posts + PostStore + PostEditor + EventIndex)) {
    let event = Post { kind: PostKind::Event, starts_at: Some(hours(0)), ..post_at(point(-49.5, 20.0)) };
    let under_all = async |key: &EventKey| {
        let year = Span::new(beginning(), time::after(beginning(), 366 * 24 * 60 * 60)).unwrap();
        posts.soonest(key, year, None, 100).await.unwrap()
    };
    let keys = EventKey::of(&event);
    assert_eq!(keys.len(), 5, "all, its category, and three cells");
    for turn in 0..4 {
        let post = Post { post_id: post_id(1_790_000_000_000 + turn, 1), ..event.clone() };
        posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
        // There and back, and away: what belongs to a form in between belongs to the last one, or to none.
        let times = [Some(1), Some(0), Some(2), None, Some(0), Some(3)];
        let edits: Vec<Edit> = (1..)
            .zip(times)
            .map(|(number, time)| {
                let starts_at = time.map(hours);
                let now = time::after(post.created_at, number);
                Edit::new(&post, vec![FieldChange::StartsAt(starts_at)], now)
            })
            .collect();
        let consumer = |_| async {
            for edit in &edits {
                posts.edit(edit).await.unwrap().unwrap();
                posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
            }
        };
        join_all((0..3).map(consumer)).await;
        let edited = posts.get(&[post.post_id]).await.unwrap().pop().unwrap();
        assert_eq!((edited.starts_at, edited.kind), (Some(hours(3)), PostKind::Event));
        for key in &keys {
            assert_eq!(under_all(key).await, [EventEntry::of(&edited).unwrap()], "{key:?}");
        }
        for change in [FieldChange::EndsAt(Some(hours(4))), FieldChange::ExpiresAt(None)] {
            let edit = Edit::new(&edited, vec![change], time::after(post.created_at, 60));
            let edited = posts.edit(&edit).await.unwrap().unwrap();
            for key in &keys {
                assert_eq!(under_all(key).await, [EventEntry::of(&edited).unwrap()], "{key:?}");
            }
        }
        posts.remove(&Deletion { post_id: post.post_id, deleted_at: time::now() }).await.unwrap();
        for key in &keys {
            assert_eq!(under_all(key).await, [], "{key:?}");
        }
    }
}

/// A span has its first and its last instant, before the year 0 as well; and whatever comes as a cursor, nothing beyond.
pub async fn at_the_edges(posts: &(impl PostStore + EventIndex)) {
    let category = category("edges");
    let event = |at: Timestamp, number: u8| Post {
        post_id: post_id(1_790_000_000_000, number),
        kind: PostKind::Event,
        category: category.clone(),
        starts_at: Some(at),
        ..post_at(point(-50.0, 20.0))
    };
    let before_us = time::parse("-000044-03-15T12:00:00Z").unwrap();
    let ms = std::time::Duration::from_millis(1);
    let key = EventKey::of(&event(hours(0), 0)).into_iter().find(|key| *key != EventKey::All).unwrap();
    for (from, first_id) in [(hours(1), 10), (before_us, 20), (Timestamp::UNIX_EPOCH - ms, 30)] {
        let to = time::after(from, 3_600);
        let span = Span::new(from, to).unwrap();
        let times = [from - ms, from, from, to, to, to + ms];
        let all: Vec<_> = (first_id..).zip(times).map(|(number, at)| event(at, number)).collect();
        for stored in posts.store(&all).await {
            stored.unwrap();
        }
        let within: Vec<_> = all[1..5].iter().filter_map(EventEntry::of).collect();
        let read = async |after, limit| posts.soonest(&key, span, after, limit).await.unwrap();
        assert_eq!(read(None, 10).await, within);
        assert_eq!(read(None, 3).await, within[..3]);
        let ids: BTreeSet<_> = within.iter().map(|entry| entry.post.post_id).collect();
        let (least, most) = (post_id(0, 0), *ids.last().unwrap());
        for (after, left) in [
            ((Timestamp::MIN, most), 0..4),
            ((from, least), 0..4),
            (within[0].position(), 1..4),
            (within[2].position(), 3..4),
            (within[3].position(), 4..4),
            ((to, most), 4..4),
            ((to + ms, least), 4..4),
            ((Timestamp::MAX, most), 4..4),
        ] {
            assert_eq!(read(Some(after), 10).await, within[left], "after {after:?}");
        }
    }
}
