//! The adapters in memory do what the ports promise, and over them the domain's laws hold.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tocsin_adapters::memory::{
    MemoryCategories, MemoryDeliveries, MemoryDevices, MemoryHeldPushes, MemoryIdempotency, MemoryPeople,
    MemoryPostCache, MemoryPosts, MemoryPreferences, MemoryPushShare, MemoryRateLimiter, MemoryReactions,
    MemorySessions, MemorySubscriptions, MemoryTimelines, MemoryUsers,
};
use tocsin_conformance::{
    accounts, departures, fixtures, people, posts, preferences, pushes, rate_limits, reactions,
    subscriptions, timelines, usernames,
};
use tocsin_domain::{
    audience,
    ids::SubscriptionId,
    place::Circle,
    subscription::{Subscription, SubscriptionEditor as _, Wish},
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
    fn timeline_operations_in_any_order_end_in_the_same_timeline(
        history in timelines::any_history(),
        capacity in 1usize..8,
    ) {
        wait(timelines::any_order(&MemoryTimelines::default().with_capacity(capacity), &history));
    }
}
