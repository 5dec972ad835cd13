//! What rings at which time, through the front door and the real services.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::path::Path;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use local::{api_client::Person, replay::Samples};
use serde_json::{Value, json};
use town::{Town, fire};

const PATH: &str = "/v1/notification-preferences";

async fn put(person: &Person, preferences: &Value) -> Value {
    person.api.put(PATH, preferences).await.unwrap().expect(200).unwrap()
}

async fn get(person: &Person) -> Value {
    person.api.get(PATH).await.unwrap().expect(200).unwrap()
}

/// Quiet hours in which it is quiet now: from an hour ago, for three hours.
fn quiet_now() -> Value {
    let clock = |hours: i64| {
        let time = Timestamp::now() + SignedDuration::from_hours(hours);
        time.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
    };
    json!({"start": clock(-1), "end": clock(2), "time_zone": "UTC"})
}

/// What each notification of a person's inbox says of its push, by the titles of the posts.
async fn inbox(person: &Person) -> Vec<(String, Value)> {
    let page = person.api.get("/v1/notifications").await.unwrap().expect(200).unwrap();
    let items = page["items"].as_array().unwrap();
    let said = |item: &Value| (item["post"]["title"].as_str().unwrap().to_owned(), item["push"].clone());
    let mut all: Vec<_> = items.iter().map(said).collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// What a device showed: the titles, in the order in which they came.
async fn shown(town: &Town, device: &str) -> Vec<String> {
    let outbox = town.stack.outbox().unwrap().read().await.unwrap();
    let pushes = outbox["pushes"].as_array().unwrap();
    let shown = pushes.iter().filter(|push| push["device_id"] == device).map(|push| {
        push["payload"]["fcmV1Message"]["message"]["notification"]["title"].as_str().unwrap().to_owned()
    });
    shown.collect()
}

fn named(title: &str, severity: &str) -> Value {
    let mut post = fire(title);
    post["severity"] = severity.into();
    post
}

#[tokio::test]
async fn preferences_are_put_and_read_and_each_mistake_is_named() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let default = json!({"quiet_hours": null, "min_severity": "unknown", "muted_categories": []});
    assert_eq!(get(&ada).await, default);
    let mine = json!({
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"},
        "min_severity": "moderate", "muted_categories": ["crime", "traffic"],
    });
    assert_eq!(put(&ada, &mine).await, mine);
    assert_eq!(get(&ada).await, mine);
    assert_eq!(get(&bob).await, default, "hers alone");
    let louder = json!({"min_severity": "minor"});
    let expected = json!({"quiet_hours": null, "min_severity": "minor", "muted_categories": []});
    assert_eq!(put(&ada, &louder).await, expected, "the whole is replaced");
    let bad = json!({
        "quiet_hours": {"start": "22:00", "end": "22:00", "time_zone": "Oslo"},
        "muted_categories": ["fire", "dragons", "fire"], "loud": true,
    });
    let refused = ada.api.put(PATH, &bad).await.unwrap().expect(422).unwrap();
    let errors = refused["errors"].as_array().unwrap();
    let found: Vec<_> =
        errors.iter().map(|one| (one["pointer"].as_str().unwrap(), one["code"].as_str().unwrap())).collect();
    let expected = [
        ("/quiet_hours/time_zone", "unknown_time_zone"),
        ("/quiet_hours/end", "same_as_start"),
        ("/muted_categories/1", "unknown_category"),
        ("/muted_categories/2", "not_unique"),
        ("/loud", "unknown_field"),
    ];
    assert_eq!(found, expected);
    assert_eq!(get(&ada).await["min_severity"], "minor", "nothing of it is put");
    town.down().await;
}

#[tokio::test]
async fn what_is_muted_does_not_ring_and_what_is_held_comes_when_quiet_hours_are_ended() {
    let town = Town::up().await;
    let author = town.person("cleo").await;
    let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
    put(&ada, &json!({"muted_categories": ["fire"]})).await;
    put(&bob, &json!({"quiet_hours": quiet_now(), "min_severity": "minor"})).await;
    for (title, severity) in
        [("one", "minor"), ("trifle", "unknown"), ("two", "severe"), ("worst", "extreme")]
    {
        town.post(&author, &named(title, severity)).await;
    }
    town.settle().await;
    assert_eq!(shown(&town, "adas-phone").await, ["worst"]);
    assert_eq!(shown(&town, "bobs-phone").await, ["worst"]);
    let said = |all: &[(&str, &str)]| -> Vec<(String, Value)> {
        all.iter().map(|(title, said)| ((*title).to_owned(), json!(said))).collect()
    };
    let (muted, held) = ("muted_category", "held");
    let expected = said(&[("one", muted), ("trifle", muted), ("two", muted), ("worst", "pushed")]);
    assert_eq!(inbox(&ada).await, expected);
    let expected = said(&[("one", held), ("trifle", "muted_severity"), ("two", held), ("worst", "pushed")]);
    assert_eq!(inbox(&bob).await, expected);

    // Still quiet: nothing comes of it.
    put(&bob, &json!({"quiet_hours": quiet_now()})).await;
    town.settle().await;
    assert_eq!(shown(&town, "bobs-phone").await, ["worst"]);
    put(&bob, &json!({})).await;
    town.settle().await;
    let digest = "2 posts while it was quiet";
    assert_eq!(shown(&town, "bobs-phone").await, ["worst", digest]);
    put(&bob, &json!({})).await;
    town.settle().await;
    assert_eq!(shown(&town, "bobs-phone").await, ["worst", digest], "once");
    let expected =
        said(&[("one", "digested"), ("trifle", "muted_severity"), ("two", "digested"), ("worst", "pushed")]);
    assert_eq!(inbox(&bob).await, expected);
    assert_eq!(shown(&town, "adas-phone").await, ["worst"]);
    town.down().await;
}

#[tokio::test]
async fn what_is_held_comes_by_the_schedule_and_is_exported_and_erased() {
    let town = Town::up().await;
    let author = town.person("cleo").await;
    let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
    for person in [&ada, &bob] {
        put(person, &json!({"quiet_hours": quiet_now()})).await;
    }
    let post_id = town.post(&author, &fire("smoke")).await;
    town.settle().await;
    assert_eq!(inbox(&ada).await, [("smoke".to_owned(), json!("held"))]);
    let page = ada.api.get("/v1/users/me/export?limit=100").await.unwrap().expect(200).unwrap();
    let exported = |kind: &str| {
        let items = page["items"].as_array().unwrap();
        items.iter().find(|item| item["kind"] == kind).unwrap()["data"].clone()
    };
    assert_eq!(exported("held_push")["post_id"], post_id);
    assert_eq!(exported("preferences")["quiet_hours"]["time_zone"], "UTC");

    // Time passes: Ada is due now, and her quiet hours are over; and Bob leaves.
    let table = |logical_id: &str| {
        let tables = &town.stack.app().tables;
        tables.iter().find(|table| table.logical_id == logical_id).unwrap().name.clone()
    };
    let (held, preferences) = (table("HeldPushesTable"), table("PreferencesTable"));
    let client = Client::new(&town.stack.endpoints().sdk_config("DYNAMODB"));
    let pk = |item: &std::collections::HashMap<String, AttributeValue>| item["pk"].as_s().unwrap().clone();
    let items = client.scan().table_name(&held).send().await.unwrap().items.unwrap();
    let is_adas = |sk: &AttributeValue| *sk == AttributeValue::S(ada.user_id());
    let mut due = items.iter().find(|item| item.get("sk").is_some_and(is_adas)).unwrap().clone();
    let shard = pk(&due).rsplit('#').next().unwrap().to_owned();
    let minute = Timestamp::now().as_second() / 60;
    due.insert("pk".to_owned(), AttributeValue::S(format!("due#{minute}#{shard}")));
    client.put_item().table_name(&held).set_item(Some(due)).send().await.unwrap();
    let key = AttributeValue::S(ada.user_id());
    client.delete_item().table_name(&preferences).key("pk", key).send().await.unwrap();
    let sample = Path::new(town::ROOT).join("events/release-held-pushes.json");
    for _ in 0..2 {
        let fired = Samples::new(&town.api).send(&sample).await.unwrap();
        assert!(!fired.failed, "{}", fired.answer);
        town.settle().await;
        assert_eq!(shown(&town, "adas-phone").await, ["smoke"], "its own push");
        assert_eq!(shown(&town, "bobs-phone").await, [""; 0]);
    }
    assert_eq!(inbox(&ada).await, [("smoke".to_owned(), json!("pushed"))]);

    let left = bob.api.delete("/v1/users/me?posts=remove").await.unwrap();
    assert_eq!(left.status, 202, "{}", left.body);
    town.settle().await;
    for name in [&held, &preferences] {
        let items = client.scan().table_name(name).send().await.unwrap().items.unwrap_or_default();
        let bobs = items.iter().filter(|item| format!("{item:?}").contains(&bob.user_id())).count();
        assert_eq!(bobs, 0, "{name}: {items:?}");
    }
    town.down().await;
}
