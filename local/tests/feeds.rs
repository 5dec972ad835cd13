//! Feeds, through the front door: moderators add them, providers change them, and people hear of it.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::time::Instant;

use local::api_client::{Person, text};
use reqwest::Method;
use serde_json::{Value, json};
use tocsin_conformance::provider::{Answer, Provider};
use town::{PATIENCE, Town};

fn alert(number: usize, kind: &str, references: &str, severity: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
        <alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>m{number}</identifier>
        <sender>met@example.org</sender><sent>2026-11-21T11:0{number}:00+00:00</sent><status>Actual</status>
        <msgType>{kind}</msgType><scope>Public</scope><references>{references}</references>
        <info><language>en</language><category>Fire</category><event>Wildfire</event><urgency>Immediate</urgency>
        <severity>{severity}</severity><certainty>Observed</certainty><headline>Wildfire {number}</headline>
        <area><areaDesc>Bergen</areaDesc><polygon>60.3,5.2 60.3,5.5 60.5,5.5 60.5,5.2 60.3,5.2</polygon>
        <geocode><valueName>SAME</valueName><value>006085</value></geocode></area></info></alert>"#
    )
}

fn plans(title: &str, starts: &str) -> String {
    format!(
        r#"<planList><output><base_plan base_plan_id="291" sell_mode="online" title="{title}">
        <plan plan_id="1" plan_start_date="{starts}T21:00:00" plan_end_date="{starts}T22:00:00" sold_out="false">
        <zone zone_id="40" capacity="243" price="20.00" name="Floor" numbered="true"/>
        <zone zone_id="38" capacity="100" price="15.50" name="Stand" numbered="false"/></plan></base_plan>
        <base_plan base_plan_id="292" sell_mode="offline" title="Not for you">
        <plan plan_id="1" plan_start_date="{starts}T21:00:00" plan_end_date="{starts}T22:00:00"/></base_plan>
        <base_plan base_plan_id="" sell_mode="online" title="Nobody knows"/></output></planList>"#
    )
}

/// Has a feed polled, and waits for what comes of it.
async fn polled(town: &Town, moderator: &Person, id: &str) -> Value {
    let path = format!("/v1/feeds/{id}");
    let before = moderator.api.get(&path).await.unwrap().expect(200).unwrap();
    let since = Instant::now();
    moderator.api.post(&format!("{path}/poll"), &Value::Null).await.unwrap().expect(202).unwrap();
    loop {
        let feed = moderator.api.get(&path).await.unwrap().expect(200).unwrap();
        if feed["last_poll"]["started_at"] != before["last_poll"]["started_at"] {
            town.settle().await;
            return feed;
        }
        assert!(since.elapsed() < PATIENCE, "{feed}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_official_alert_rings_where_it_is_and_is_one_post_until_it_is_called_off() {
    let (town, provider) = (Town::up().await, Provider::start().await);
    let (moderator, near) = (town.moderator("mia").await, town.follower("kari").await);
    let far = town.follower("ola").await;
    let wish = json!({"category": "fire", "tags": ["same:006085"], "push": false});
    far.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
    assert!(far.api.timeline().await.unwrap().is_empty());

    let settings = json!({
        "url": provider.url("/cap"), "format": "cap", "category": "weather", "every_minutes": 1_440,
    });
    near.api.post("/v1/feeds", &settings).await.unwrap().expect(403).unwrap();
    provider
        .serve("/cap", Answer::document(alert(1, "Alert", "", "Severe")).header("etag", "\"1\"").gzipped());
    let made = moderator.api.post("/v1/feeds", &settings).await.unwrap().expect(201).unwrap();
    assert_eq!(made["state"], "waiting");
    let again = moderator.api.post("/v1/feeds", &settings).await.unwrap().expect(409).unwrap();
    assert_eq!(again["code"], "feed_exists");
    let id = text(&made, "feed_id").unwrap();

    let feed = polled(&town, &moderator, &id).await;
    assert_eq!((&feed["state"], &feed["last_poll"]["outcome"]), (&json!("healthy"), &json!("read")));
    assert_eq!((&feed["last_reading"]["created"], &feed["last_reading"]["bad"]), (&json!(1), &json!(0)));
    let timeline = near.api.timeline().await.unwrap();
    let post = &timeline[0];
    assert_eq!((&post["title"], &post["kind"]), (&json!("Wildfire 1"), &json!("alert")));
    assert_eq!((&post["category"], &post["severity"]), (&json!("fire"), &json!("severe")));
    assert_eq!(post["source"], format!("feeds/{id}"));
    let by_code = far.api.timeline().await.unwrap();
    assert_eq!(by_code[0]["post_id"], post["post_id"]);
    let post_id = text(post, "post_id").unwrap();
    let rings = async || town.pushes().await.into_iter().filter(|(_, post)| *post == post_id).count();
    assert_eq!(rings().await, 2, "both follow fires around there");

    // The same document says nothing new, and is not even sent.
    let feed = polled(&town, &moderator, &id).await;
    assert_eq!(feed["last_poll"]["outcome"], "unchanged");
    assert_eq!(provider.requests("/cap").last_headers["if-none-match"], "\"1\"");
    // Issued again it is the same post, and rings nobody; worse, it does.
    let first = "met@example.org,m1,2026-11-21T11:01:00+00:00";
    provider.serve("/cap", Answer::document(alert(2, "Update", first, "Severe")));
    polled(&town, &moderator, &id).await;
    let second = "met@example.org,m2,2026-11-21T11:02:00+00:00";
    assert_eq!(rings().await, 2);
    provider.serve("/cap", Answer::document(alert(3, "Update", second, "Extreme")));
    polled(&town, &moderator, &id).await;
    assert_eq!(rings().await, 4);
    let post = near.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    assert_eq!((&post["title"], &post["severity"]), (&json!("Wildfire 3"), &json!("extreme")));
    let third = "met@example.org,m3,2026-11-21T11:03:00+00:00";
    provider.serve("/cap", Answer::document(alert(4, "Cancel", third, "Extreme")));
    let feed = polled(&town, &moderator, &id).await;
    assert_eq!(feed["last_reading"]["ended"], 1);
    let post = near.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    assert_eq!(post["status"], "cancelled");
    assert_eq!(near.api.timeline().await.unwrap().len(), 1);

    moderator.api.delete(&format!("/v1/feeds/{id}")).await.unwrap().expect(204).unwrap();
    moderator.api.get(&format!("/v1/feeds/{id}")).await.unwrap().expect(404).unwrap();
    near.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    town.down().await;
}

#[tokio::test]
async fn what_is_on_is_found_by_its_time_also_when_that_changes() {
    let (town, provider) = (Town::up().await, Provider::start().await);
    let (moderator, kari) = (town.moderator("mia").await, town.person("kari").await);
    provider.serve("/plans", Answer::document(plans("Camela en concierto", "2027-06-30")));
    let settings = json!({
        "url": provider.url("/plans"), "format": "plan-list-xml", "category": "community",
        "location": {"lat": 60.3975, "lon": 5.3245}, "every_minutes": 1_440, "time_zone": "Europe/Oslo",
    });
    let made = moderator.api.post("/v1/feeds", &settings).await.unwrap().expect(201).unwrap();
    let id = text(&made, "feed_id").unwrap();
    let feed = polled(&town, &moderator, &id).await;
    let reading = &feed["last_reading"];
    assert_eq!((&reading["items"], &reading["created"], &reading["bad"]), (&json!(1), &json!(1), &json!(1)));
    let events = async |query: &str| {
        let path = format!("/v1/events?{query}");
        let page = kari.api.get(&path).await.unwrap().expect(200).unwrap();
        page["items"].as_array().unwrap().clone()
    };
    let june = "starts_at=2027-06-30T21:00:00&ends_at=2027-06-30T22:00:00&time_zone=Europe/Oslo";
    let found = events(june).await;
    assert_eq!(found.len(), 1);
    let post = &found[0];
    assert_eq!((&post["title"], &post["kind"]), (&json!("Camela en concierto"), &json!("event")));
    assert_eq!((&post["min_price"], &post["max_price"]), (&json!(15.5), &json!(20.0)));
    assert_eq!(events(&format!("{june}&category=fire")).await, Vec::<Value>::new());
    assert_eq!(events(&format!("{june}&lat=60.4&lon=5.3&radius_m=5000")).await.len(), 1);

    provider.serve("/plans", Answer::document(plans("Camela en concierto", "2027-07-02")));
    polled(&town, &moderator, &id).await;
    assert_eq!(events(june).await, Vec::<Value>::new());
    let july = "starts_at=2027-07-01T00:00:00Z&ends_at=2027-07-03T00:00:00Z";
    assert_eq!(events(july).await.len(), 1);
    // What is no longer sold is still on, as far as anybody knows; and a provider that is down changes nothing.
    provider.serve("/plans", Answer::document("<planList><output/></planList>"));
    polled(&town, &moderator, &id).await;
    provider.serve("/plans", Answer::status(500));
    let feed = polled(&town, &moderator, &id).await;
    assert_eq!((&feed["last_poll"]["outcome"], &feed["failures"]), (&json!("failed"), &json!(1)));
    assert!(feed["last_poll"]["reason"].as_str().unwrap().contains("500"), "{feed}");
    assert_eq!(events(july).await.len(), 1);
    town.down().await;
}

#[tokio::test]
async fn feeds_are_for_moderators_alone() {
    let town = Town::up().await;
    let (moderator, kari) = (town.moderator("mia").await, town.person("kari").await);
    let settings =
        json!({"url": "https://example.org/a", "format": "cap", "category": "weather", "every_minutes": 60});
    let disabled = json!({"enabled": false});
    let made = moderator.api.post("/v1/feeds", &settings).await.unwrap().expect(201).unwrap();
    let path = format!("/v1/feeds/{}", text(&made, "feed_id").unwrap());
    let poll = format!("{path}/poll");
    let asked = [
        (Method::GET, "/v1/feeds", None),
        (Method::POST, "/v1/feeds", Some(&settings)),
        (Method::GET, &path, None),
        (Method::PATCH, &path, Some(&disabled)),
        (Method::POST, &poll, None),
        (Method::DELETE, &path, None),
    ];
    for (method, path, body) in asked {
        let answer = kari.api.send(method.clone(), path, body).await.unwrap();
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
    }
    let feed = moderator.api.get(&path).await.unwrap().expect(200).unwrap();
    assert_eq!((&feed["enabled"], &feed["url"]), (&json!(true), &json!("https://example.org/a")));
    let changed = moderator.api.send(Method::PATCH, &path, Some(&disabled)).await.unwrap();
    assert_eq!(changed.expect(200).unwrap()["state"], "disabled");
    let refused = moderator.api.post(&poll, &Value::Null).await.unwrap().expect(409).unwrap();
    assert_eq!(refused["code"], "feed_disabled");
    let listed = moderator.api.get("/v1/feeds").await.unwrap().expect(200).unwrap();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    moderator.api.delete(&path).await.unwrap().expect(204).unwrap();
    moderator.api.send(Method::PATCH, &path, Some(&disabled)).await.unwrap().expect(404).unwrap();
    town.down().await;
}

#[tokio::test]
async fn a_feed_does_not_lead_to_what_is_not_public() {
    let (town, provider) = (Town::up().await, Provider::start().await);
    let moderator = town.moderator("mia").await;
    let elsewhere = "http://169.254.169.254/latest/meta-data";
    provider.serve("/moved", Answer::redirect(elsewhere));
    let index = format!(
        r#"<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:all</id><title>Alerts</title>
        <updated>2026-11-21T11:00:00Z</updated><entry><id>urn:1</id><title>Storm</title>
        <updated>2026-11-21T11:00:00Z</updated>
        <link rel="alternate" type="application/cap+xml" href="{elsewhere}"/></entry></feed>"#
    );
    provider.serve("/index", Answer::document(index));
    for (path, at) in [("/moved", "/last_poll/reason"), ("/index", "/last_reading/bad_entries/0/reason")] {
        let settings =
            json!({"url": provider.url(path), "format": "cap", "category": "weather", "every_minutes": 60});
        let made = moderator.api.post("/v1/feeds", &settings).await.unwrap().expect(201).unwrap();
        let feed = polled(&town, &moderator, &text(&made, "feed_id").unwrap()).await;
        let reason = feed.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(reason, "169.254.169.254 is no public address", "{feed}");
    }
    town.down().await;
}
