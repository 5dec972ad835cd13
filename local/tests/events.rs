//! Events are found by their time, and by their newest one alone.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use local::api_client::{Answer, Person};
use reqwest::Method;
use serde_json::{Value, json};
use town::{Town, fire, post, titles};

/// A post of something that is scheduled.
fn event(title: &str, lat: f64, starts_at: &str, ends_at: Option<&str>) -> Value {
    let mut event = post(title, "community", lat, 5.3245);
    event["starts_at"] = starts_at.into();
    if let Some(ends_at) = ends_at {
        event["ends_at"] = ends_at.into();
    }
    event
}

async fn list(person: &Person, query: &str) -> Answer {
    person.api.get(&format!("/v1/events?{query}")).await.unwrap()
}

/// The titles of all pages of two.
async fn all(person: &Person, query: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(person, &format!("{query}&limit=2{cursor}")).await.expect(200).unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        found.extend(titles(items).into_iter().map(str::to_owned));
        let Some(next) = page["next_cursor"].as_str() else { return found };
        cursor = format!("&cursor={next}");
    }
}

const DECEMBER: &str = "starts_at=2026-12-01T00:00:00Z&ends_at=2027-01-01T00:00:00Z";

#[tokio::test]
async fn events_are_found_by_their_time_and_place_and_by_their_newest_time_alone() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let fair = event("Fair", 60.3975, "2026-12-12T10:00:00Z", Some("2026-12-12T20:00:00Z"));
    let fair = town.post(&ada, &fair).await;
    let choir = town.post(&ada, &event("Choir", 60.3975, "2026-12-05T18:00:00Z", None)).await;
    town.post(&ada, &event("Market", 61.0, "2026-12-12T10:00:00Z", None)).await;
    let new_year = event("New Year", 60.3975, "2026-12-31T23:30:00Z", Some("2027-01-01T00:30:00Z"));
    town.post(&ada, &new_year).await;
    town.post(&ada, &fire("Smoke")).await;
    town.settle().await;

    assert_eq!(all(&bob, DECEMBER).await, ["Choir", "Fair", "Market"]);
    assert_eq!(all(&bob, &format!("{DECEMBER}&lat=60.4&lon=5.3&radius_m=5000")).await, ["Choir", "Fair"]);
    assert_eq!(all(&bob, &format!("{DECEMBER}&category=fire")).await, [""; 0]);
    // Half past eleven in the evening, in UTC, is half past midnight in Oslo.
    let night = "starts_at=2027-01-01T00:30:00&ends_at=2027-01-01T01:30:00";
    assert_eq!(all(&bob, &format!("{night}&time_zone=Europe/Oslo")).await, ["New Year"]);
    assert_eq!(
        all(&bob, "starts_at=2027-01-01T00:30:00%2B01:00&ends_at=2027-01-01T00:30:00").await,
        ["New Year"]
    );
    assert_eq!(all(&bob, night).await, [""; 0]);

    let later = json!({"starts_at": "2027-02-12T10:00:00Z", "ends_at": "2027-02-12T12:00:00Z"});
    ada.api.patch(&format!("/v1/posts/{fair}"), &later).await.unwrap().expect(200).unwrap();
    let cancel = format!("/v1/posts/{choir}/cancel");
    ada.api.send(Method::POST, &cancel, None).await.unwrap().expect(200).unwrap();
    town.settle().await;
    let page = list(&bob, DECEMBER).await.expect(200).unwrap();
    let items = page["items"].as_array().unwrap();
    assert_eq!(titles(items), ["Choir", "Market"]);
    assert_eq!((&items[0]["status"], &items[0]["kind"]), (&json!("cancelled"), &json!("event")));
    let year = "starts_at=2026-12-01T00:00:00Z&ends_at=2027-12-01T00:00:00Z";
    assert_eq!(all(&bob, year).await, ["Choir", "Market", "New Year", "Fair"]);

    // Without a beginning it is no event any more; and what is deleted is gone.
    let never = json!({"starts_at": null, "ends_at": null});
    ada.api.patch(&format!("/v1/posts/{fair}"), &never).await.unwrap().expect(200).unwrap();
    assert_eq!(ada.api.delete(&format!("/v1/posts/{choir}")).await.unwrap().status, 204);
    town.settle().await;
    assert_eq!(all(&bob, year).await, ["Market", "New Year"]);
    let block = format!("/v1/blocks/{}", ada.user_id());
    assert_eq!(bob.api.send(Method::PUT, &block, None).await.unwrap().status, 204);
    assert_eq!(all(&bob, year).await, [""; 0]);
    town.down().await;
}

#[tokio::test]
async fn a_list_without_a_time_or_with_half_a_place_is_refused_with_its_reason() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    let cursor = |query: &str| format!("{DECEMBER}&cursor={query}");
    for (query, status, pointers) in [
        (String::new(), 400, vec!["?starts_at", "?ends_at"]),
        ("starts_at=today&ends_at=2027-01-01".to_owned(), 400, vec!["?starts_at", "?ends_at"]),
        (format!("{DECEMBER}&time_zone=Mars"), 400, vec!["?time_zone"]),
        (format!("{DECEMBER}&lat=60.4"), 400, vec!["?lon", "?radius_m"]),
        (format!("{DECEMBER}&limit=0&colour=red"), 400, vec!["?limit", "?colour"]),
        (cursor("AAAA"), 400, vec!["?cursor"]),
        ("starts_at=2026-12-01T00:00:00&ends_at=2026-12-01T00:00:00".to_owned(), 422, vec!["?ends_at"]),
        ("starts_at=2026-12-01T00:00:00&ends_at=2026-11-30T00:00:00".to_owned(), 422, vec!["?ends_at"]),
    ] {
        let refused = list(&ada, &query).await;
        assert_eq!(refused.status, status, "{query}: {}", refused.body);
        let errors = refused.body["errors"].as_array().unwrap();
        let found: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers, "{query}");
    }
    assert_eq!(town.api.get(&format!("/v1/events?{DECEMBER}")).await.unwrap().status, 401);
    town.down().await;
}
