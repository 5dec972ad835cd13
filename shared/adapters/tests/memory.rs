//! The adapters in memory do what the ports promise, and over them the domain's laws hold.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tocsin_adapters::memory::{
    MemoryCategories, MemoryDeliveries, MemoryDevices, MemoryFeeds, MemoryHeldPushes, MemoryIdempotency,
    MemoryPeople, MemoryPostCache, MemoryPosts, MemoryPreferences, MemoryPushShare, MemoryRateLimiter,
    MemoryReactions, MemorySessions, MemorySubscriptions, MemoryTimelines, MemoryUsers,
};
use tocsin_conformance::{
    accounts, departures, events, feeds, fixtures, people, posts, preferences, pushes, rate_limits,
    reactions, subscriptions, timelines, usernames,
};
use tocsin_domain::{
    Result, audience,
    cursor::Limit,
    event_index::{EventEntry, EventIndex, EventKey, EventPosition, Span},
    events::Events,
    friendship::HiddenPeople,
    ids::SubscriptionId,
    place::Circle,
    post::{Post, PostKind},
    posts::PostStore as _,
    subscription::{Subscription, SubscriptionEditor as _, Wish},
    time::{self, Timestamp},
};

#[tokio::test]
async fn conformance() {
    let users = MemoryUsers::default();
    accounts::users(&users, &users, users.people()).await;
    accounts::identities(&users, &users, users.people()).await;
    departures::closing(&users, &users).await;
    accounts::passwords(&users, &users).await;
    accounts::addresses(&users, &users, &users, users.people()).await;
    accounts::sessions(&MemorySessions::default()).await;
    let profiles = MemoryPeople::default();
    people::profiles(&profiles, async |person| profiles.add(person)).await;
    people::edits(&users, users.people(), &users).await;
    usernames::former(&users, &users, &users).await;
    people::images(&profiles, async |person| profiles.add(person)).await;
    people::names(&profiles, async |person| profiles.add(person)).await;
    posts::posts(&MemoryPosts::default()).await;
    posts::changes(&MemoryPosts::default()).await;
    posts::edits_at_once(&MemoryPosts::default()).await;
    posts::edits_by_several(&MemoryPosts::default()).await;
    posts::edited_areas(&MemoryPosts::default()).await;
    posts::nowhere(&MemoryPosts::default()).await;
    events::moved_by_several(&MemoryPosts::default()).await;
    events::at_the_edges(&MemoryPosts::default()).await;
    posts::cache(&MemoryPostCache::default()).await;
    posts::idempotency(&MemoryIdempotency::default()).await;
    subscriptions::subscriptions(&MemorySubscriptions::default()).await;
    let subscriptions = MemorySubscriptions::default();
    subscriptions::large_keys(&subscriptions, &subscriptions).await;
    subscriptions::categories(&MemoryCategories::default()).await;
    pushes::devices(&MemoryDevices::default()).await;
    pushes::removing_while_putting(&MemoryDevices::default()).await;
    pushes::repairs(&MemoryDevices::default()).await;
    pushes::deliveries(&MemoryDeliveries::default()).await;
    pushes::delivered(&MemoryDeliveries::default()).await;
    pushes::told(&MemoryDeliveries::default()).await;
    pushes::counted(&MemoryDeliveries::default()).await;
    preferences::preferences(&MemoryPreferences::default()).await;
    preferences::held_pushes(&MemoryHeldPushes::default()).await;
    preferences::schedule(&MemoryHeldPushes::default()).await;
    feeds::feeds(&MemoryFeeds::default()).await;
    feeds::polls(&MemoryFeeds::default()).await;
    feeds::known(&MemoryFeeds::default()).await;
    rate_limits::rate_limits(&MemoryRateLimiter::default()).await;
    pushes::share(&MemoryPushShare::new(10)).await;
    reactions::reactions(&MemoryReactions::default()).await;
    reactions::own_reactions(&MemoryReactions::default()).await;
    reactions::standings(&MemoryReactions::default()).await;
    timelines::timelines(&MemoryTimelines::default()).await;
    timelines::merged(&MemoryTimelines::default()).await;
}

#[test]
fn tags_are_left_out_of_the_keys_where_they_are_too_many() {
    let tags = fixtures::tags(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let keys = |radius_m| {
        let area = Circle::new(fixtures::point(60.3991, 5.3206), radius_m).unwrap();
        let wish = Wish { area: Some(area), tags: tags.clone(), ..fixtures::wish("fire") };
        fixtures::keys(&fixtures::subscription(wish))
    };
    assert!(keys(200.0).iter().all(|key| key.tag.is_some()));
    assert!(keys(100_000.0).iter().all(|key| key.tag.is_none()));
}

/// What reads an index of events, and counts how often.
struct Counting<'a>(&'a MemoryPosts, AtomicUsize);

impl EventIndex for Counting<'_> {
    async fn soonest(
        &self,
        key: &EventKey,
        span: Span,
        after: Option<EventPosition>,
        limit: usize,
    ) -> Result<Vec<EventEntry>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.soonest(key, span, after, limit).await
    }
}

/// Whatever is stored, a page is read with few requests.
#[tokio::test]
async fn a_page_of_many_events_is_one_read_and_around_a_point_a_few_tens() {
    let (posts, cache) = (MemoryPosts::default(), MemoryPostCache::default());
    let here = fixtures::point(60.3991, 5.3206);
    let event = |number: u64| Post {
        kind: PostKind::Event,
        starts_at: Some(time::after(Timestamp::UNIX_EPOCH, number * 1_500)),
        ..fixtures::post_at(here)
    };
    let all: Vec<_> = (0..20_000).map(event).collect();
    assert!(posts.store(&all).await.iter().all(Result::is_ok));
    let span = Span::new(Timestamp::UNIX_EPOCH, Timestamp::MAX).unwrap();
    for (radius_m, category, most) in [
        (None, None, 1),
        (None, Some("fire"), 1),
        (Some(1_000.0), None, 60),
        (Some(100_000.0), Some("fire"), 60),
    ] {
        let index = Counting(&posts, AtomicUsize::new(0));
        let circle = radius_m.map(|radius_m| Circle::new(here, radius_m).unwrap());
        let category = category.map(fixtures::category);
        let list = Events { span, category, circle, limit: Limit::default(), after: None };
        let page = list.list(&index, &cache, &posts, &HiddenPeople::default(), Timestamp::UNIX_EPOCH).await;
        assert_eq!(page.unwrap().items, all[..20]);
        let reads = index.1.into_inner();
        assert!(reads <= most, "{reads} reads within {radius_m:?} m");
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_audience_by_cells_is_the_audience_by_looking_at_everybody(
        wishes in prop::collection::vec((0usize..5, fixtures::any_wish(), fixtures::any_time()), 1..20),
        posts in prop::collection::vec(fixtures::any_post(), 1..8),
    ) {
        let users: Vec<_> = (0..5).map(|_| fixtures::user()).collect();
        let index = MemorySubscriptions::default();
        let mut all = Vec::new();
        for (user, wish, updated_at) in wishes {
            let subscription = Subscription { updated_at, ..fixtures::subscription(wish) };
            let keys = fixtures::keys(&subscription);
            prop_assert!(keys.len() <= audience::MOST_KEYS, "{} keys", keys.len());
            wait(index.add(users[user], &subscription, &keys)).unwrap();
            all.push((users[user], subscription));
        }
        for post in posts {
            let mut expected: BTreeMap<_, Option<SubscriptionId>> = BTreeMap::new();
            for (user, subscription) in all.iter().filter(|(_, subscription)| subscription.wish.matches(&post)) {
                let id = subscription.subscription_id;
                let entry = expected.entry(*user).or_insert(None);
                if subscription.wish.push && subscription.updated_at <= post.created_at {
                    *entry = Some(entry.map_or(id, |push: SubscriptionId| push.min(id)));
                }
            }
            let found = wait(fixtures::audience_of(&index, &post));
            let found: BTreeMap<_, _> = found.into_iter().map(|told| (told.user_id, told.push_because)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_events_of_a_time_are_those_that_one_finds_by_looking_at_all(history in events::any_history()) {
        wait(events::all_are_found(&MemoryPosts::default(), &MemoryPostCache::default(), &history));
    }

    #[test]
    fn timeline_operations_in_any_order_end_in_the_same_timeline(
        history in timelines::any_history(),
        capacity in 1usize..8,
    ) {
        wait(timelines::any_order(&MemoryTimelines::default().with_capacity(capacity), &history));
    }
}
