//! The main job, through the front door and the real services.

mod town;

use std::{path::Path, time::Instant};

use local::{api_client::text, scenario::Scenario};
use reqwest::Method;
use serde_json::json;
use town::{PATIENCE, Town, titles};

#[tokio::test]
async fn everybody_gets_what_they_follow_and_nothing_else() {
    let town = Town::up().await;
    let scenario = Scenario::read(&Path::new(town::ROOT).join("events/scenarios/harbour-fire.json")).unwrap();
    let outcome = scenario.play(&town.api).await.unwrap();
    assert_eq!(outcome.differences, Vec::<String>::new());
    assert_eq!(outcome.to_timeline.len(), scenario.posts.len());
    // Their wishes would be there twice.
    let refused = scenario.play(&town.api).await.unwrap_err();
    assert!(refused.to_string().contains("lives here already"), "{refused}");
    town.down().await;
}

#[tokio::test]
async fn a_post_is_read_at_once_listed_near_and_kept() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let post_id = town.post(&ada, &town::post("Smoke over Bryggen", "fire", 60.3972, 5.3238)).await;
    let post = ada.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    let seen_by_another = bob.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    assert_eq!(seen_by_another, post, "a post is for everybody");
    assert_eq!((&post["kind"], &post["status"]), (&json!("report"), &json!("active")));
    assert_eq!(post["author"]["username"], "ada");

    town.settle().await;
    for number in 0..5 {
        town.post(&ada, &town::post(&format!("Sparks {number}"), "fire", 60.3973, 5.3239)).await;
    }
    town.post(&bob, &town::post("A fair", "community", 60.3973, 5.3239)).await;
    town.post(&bob, &town::post("Far away", "fire", 60.5, 5.4)).await;
    town.settle().await;

    let near = "/v1/posts?lat=60.3975&lon=5.3245&radius_m=2000&category=fire&limit=2";
    let (mut titles, mut path) = (Vec::new(), near.to_owned());
    loop {
        let page = bob.api.get(&path).await.unwrap().expect(200).unwrap();
        for item in page["items"].as_array().unwrap() {
            assert!(item["distance_m"].as_f64().unwrap() < 2000.0);
            titles.push(text(item, "title").unwrap());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("{near}&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(titles, ["Sparks 4", "Sparks 3", "Sparks 2", "Sparks 1", "Sparks 0", "Smoke over Bryggen"]);

    let answer = bob.api.get(near).await.unwrap();
    let tag = answer.header("etag").unwrap().to_owned();
    let unchanged = bob.api.send_with(Method::GET, near, None, &[("if-none-match", &tag)]).await.unwrap();
    assert_eq!((unchanged.status, unchanged.body), (304, json!(null)));
    town.down().await;
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_post() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let post = town::post("Smoke", "fire", 60.3972, 5.3238);
    let key = [("idempotency-key", "4f1c")];
    let send = |api: local::api_client::ApiClient, post: serde_json::Value| async move {
        api.send_with(Method::POST, "/v1/posts", Some(&post), &key).await.unwrap()
    };
    let first = send(ada.api.clone(), post.clone()).await.expect(202).unwrap();
    let second = send(ada.api.clone(), post.clone()).await.expect(202).unwrap();
    assert_eq!(first, second);
    let other = send(bob.api.clone(), post.clone()).await.expect(202).unwrap();
    assert_ne!(first, other, "keys are each person's own");
    let reused = send(ada.api.clone(), town::post("Fire", "fire", 60.3972, 5.3238)).await;
    assert_eq!((reused.status, &reused.body["code"]), (409, &json!("idempotency_key_reused")));

    town.settle().await;
    let near =
        ada.api.get("/v1/posts?lat=60.3972&lon=5.3238&radius_m=1000").await.unwrap().expect(200).unwrap();
    assert_eq!(near["items"].as_array().map(Vec::len), Some(2));
    town.down().await;
}

#[tokio::test]
async fn a_changed_subscription_changes_the_timeline() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let bergen = json!({"lat": 60.3975, "lon": 5.3245, "radius_m": 3000.0});
    let wish = json!({"category": "fire", "area": bergen, "min_severity": "moderate"});
    let made = ada.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
    let subscription = format!("/v1/subscriptions/{}", text(&made, "subscription_id").unwrap());
    assert!(ada.api.timeline().await.unwrap().is_empty());

    let mut severe = town::post("Flames", "fire", 60.3972, 5.3238);
    severe["severity"] = json!("severe");
    let severe = town.post(&bob, &severe).await;
    ada.api.until_in_timeline(&severe, Instant::now(), PATIENCE).await.unwrap();
    town.post(&bob, &town::post("A smell", "fire", 60.3972, 5.3238)).await;
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Flames"]);

    // Less severe ones as well; then another category; then nothing.
    let patched =
        ada.api.patch(&subscription, &json!({"min_severity": null})).await.unwrap().expect(200).unwrap();
    assert_eq!((&patched["min_severity"], &patched["area"]), (&json!(null), &bergen));
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["A smell", "Flames"]);
    ada.api.patch(&subscription, &json!({"category": "flood"})).await.unwrap().expect(200).unwrap();
    assert!(ada.api.timeline().await.unwrap().is_empty());
    town.post(&bob, &town::post("Water", "flood", 60.3972, 5.3238)).await;
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Water"]);
    assert_eq!(ada.api.delete(&subscription).await.unwrap().status, 204);
    assert!(ada.api.timeline().await.unwrap().is_empty());
    town.down().await;
}

#[tokio::test]
async fn a_user_has_at_most_a_hundred_subscriptions() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    for _ in 0..100 {
        ada.api.post("/v1/subscriptions", &json!({"category": "fire"})).await.unwrap().expect(201).unwrap();
    }
    let refused = ada.api.post("/v1/subscriptions", &json!({"category": "fire"})).await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("too_many_subscriptions")));
    town.down().await;
}
