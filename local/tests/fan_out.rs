//! An audience that is too large to be done at once: the rest of it is done in steps, and everybody is told once.

mod town;

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use futures::{StreamExt as _, stream};
use serde_json::json;
use tocsin_adapters::dynamodb::SubscriptionsTable;
use tocsin_conformance::fixtures;
use tocsin_domain::{audience::Sizes, subscription::SubscriptionEditor as _};
use town::{PATIENCE, Town, fire, titles};

/// More than two parts of an audience.
const FOLLOWERS: usize = 2 * Sizes::PART + 500;

/// How long a post to one person may take to ring right after one to thousands, on a busy machine.
const BEHIND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn everybody_of_a_large_audience_is_told_once_and_nobody_waits_behind_it() {
    // So that nobody waits for the share of large audiences.
    let town = Town::with(&[("BulkPushesPerSecond", "100000".to_owned())]).await;
    let (ada, bob) = (town.person("ada").await, town.follower("bob").await);
    let cleo = town.person("cleo").await;
    cleo.api.post("/v1/subscriptions", &json!({"category": "flood"})).await.unwrap().expect(201).unwrap();
    let phone = json!({"platform": "fcm", "token": "cleos-token"});
    assert_eq!(cleo.api.put("/v1/devices/cleos-phone", &phone).await.unwrap().status, 201);
    let client = Client::new(&town.stack.endpoints().sdk_config("DYNAMODB"));
    let name = |logical_id: &str| {
        let mut tables = town.stack.app().tables.iter();
        tables.find(|table| table.logical_id == logical_id).unwrap().name.clone()
    };
    let subscriptions = SubscriptionsTable::new(&client, name("SubscriptionsTable"));
    stream::iter(0..FOLLOWERS)
        .for_each_concurrent(16, async |_| {
            let subscription = fixtures::subscription(fixtures::wish("fire"));
            let keys = fixtures::keys(&subscription);
            subscriptions.add(fixtures::user(), &subscription, &keys).await.unwrap();
        })
        .await;

    let large = town.post(&ada, &fire("For thousands")).await;
    let small = town.post(&ada, &town::post("For one", "flood", 60.3972, 5.3238)).await;
    let posted = Instant::now();
    while !town.pushes().await.iter().any(|(_, post_id)| *post_id == small) {
        assert!(posted.elapsed() < BEHIND, "her phone rings behind all of those");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("a post to one person, right after one to {FOLLOWERS}, rang after {:?}", posted.elapsed());
    assert!(town.stack.settle(4 * PATIENCE).await, "not everything was done");
    bob.api.until_in_timeline(&large, Instant::now(), PATIENCE).await.unwrap();
    assert_eq!(titles(&bob.api.timeline().await.unwrap()), ["For thousands"]);

    let sources = town.stack.metrics().snapshot();
    let steps = &sources.functions["continue-fan-out"];
    assert!(steps.invocations >= 4, "two walks of two more parts each: {}", steps.invocations);
    assert_eq!(steps.errors, 0);
    for (source, metrics) in &sources.event_sources {
        assert_eq!((metrics.dead_letters, metrics.discarded), (0, 0), "{source}");
    }
    // Everybody finds it in their inbox, once; and nobody the other.
    let (mut told, mut start) = (0, None);
    loop {
        let scan = client.scan().table_name(name("NotificationsTable")).set_exclusive_start_key(start);
        let page = scan.send().await.unwrap();
        told += page.items.unwrap_or_default().len();
        start = page.last_evaluated_key;
        if start.is_none() {
            break;
        }
    }
    assert_eq!(told, FOLLOWERS + 2, "with Bob, and Cleo for hers");
    let rung: Vec<_> = town.pushes().await.into_iter().filter(|(_, post_id)| *post_id == large).collect();
    assert_eq!(rung, [("bobs-phone".to_owned(), large)]);
    town.down().await;
}
