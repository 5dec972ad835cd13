//! What bad input gets: a problem that says what is wrong where, and never a 500.

mod town;

use reqwest::Method;
use serde_json::{Value, json};
use town::Town;

/// A body for `POST /v1/posts`, and the pointers and codes that it gets.
fn bad_posts() -> Vec<(Value, Vec<(&'static str, &'static str)>)> {
    let with = |field: &str, value: Value| {
        let mut post = town::post("Smoke", "fire", 60.39, 5.32);
        post[field] = value;
        post
    };
    vec![
        (json!([]), vec![("", "wrong_type")]),
        (json!({}), vec![("/title", "required"), ("/category", "required"), ("/location", "required")]),
        (with("title", json!("")), vec![("/title", "too_short")]),
        (with("title", json!("x".repeat(201))), vec![("/title", "too_long")]),
        (with("title", json!(7)), vec![("/title", "wrong_type")]),
        (with("title", Value::Null), vec![("/title", "wrong_type")]),
        (with("title", json!("a\u{0}b")), vec![("/title", "invalid_character")]),
        (with("body", json!("x".repeat(5_001))), vec![("/body", "too_long")]),
        (with("category", json!("no_such_category")), vec![("/category", "unknown_category")]),
        (with("tags", json!(["Smoke"])), vec![("/tags/0", "invalid_tag")]),
        (with("tags", json!(["a", "a"])), vec![("/tags", "not_unique")]),
        (with("tags", json!(vec!["a"; 11])), vec![("/tags", "too_many")]),
        (with("severity", json!("bad")), vec![("/severity", "not_in_list")]),
        (with("location", json!({"lat": 90.1, "lon": 5})), vec![("/location/lat", "out_of_range")]),
        (
            with("location", json!({"lat": 60, "lon": -181, "alt": 1})),
            vec![("/location/lon", "out_of_range"), ("/location/alt", "unknown_field")],
        ),
        (with("location", json!("here")), vec![("/location", "wrong_type")]),
        (with("expires_at", json!("2001-01-01T00:00:00Z")), vec![("/expires_at", "out_of_range")]),
        (with("starts_at", json!("2021-06-30T21:00:00")), vec![("/starts_at", "invalid_time")]),
        (with("colour", json!("red")), vec![("/colour", "unknown_field")]),
        (
            json!({"title": 7, "category": "no_such_category", "location": {"lat": 60, "lon": 5}}),
            vec![("/title", "wrong_type"), ("/category", "unknown_category")],
        ),
    ]
}

#[tokio::test]
async fn every_mistake_in_a_post_is_named() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    for (body, errors) in bad_posts() {
        let answer = ada.api.post("/v1/posts", &body).await.unwrap();
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        let found: Vec<_> = answer.body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        assert_eq!(found, errors, "{body}");
        assert!(answer.body["request_id"].is_string());
    }
    town.down().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_reason() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    let json_type = "application/json";
    let raw = |content_type: &'static str, body: Vec<u8>| {
        ada.api.send_raw(Method::POST, "/v1/posts", content_type, body)
    };
    let large = format!("{{\"title\":\"{}\"}}", "x".repeat(70_000)).into_bytes();
    let deep = "[".repeat(10_000).into_bytes();
    for (answer, status) in [
        (raw(json_type, b"{\"title\":".to_vec()).await, 400),
        (raw(json_type, Vec::new()).await, 400),
        (raw(json_type, vec![0xff, 0xfe, 0x00]).await, 400),
        (raw(json_type, deep).await, 400),
        (raw(json_type, large).await, 413),
        (raw("text/plain", b"{}".to_vec()).await, 415),
    ] {
        let answer = answer.unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.body["code"].is_string() && answer.body["detail"].is_string());
    }

    let near = "/v1/posts?lat=60&lon=5&radius_m=1000";
    for path in [
        "/v1/timeline?cursor=%00".to_owned(),
        "/v1/timeline?cursor=AAAA".to_owned(),
        "/v1/timeline?limit=0".to_owned(),
        "/v1/timeline?limit=101".to_owned(),
        "/v1/timeline?limit=x".to_owned(),
        "/v1/timeline?limit=1&limit=2".to_owned(),
        "/v1/timeline?page=2".to_owned(),
        "/v1/posts".to_owned(),
        "/v1/posts?lat=60&lon=5".to_owned(),
        "/v1/posts?lat=91&lon=5&radius_m=1000".to_owned(),
        "/v1/posts?lat=NaN&lon=5&radius_m=1000".to_owned(),
        "/v1/posts?lat=60&lon=5&radius_m=1".to_owned(),
        format!("{near}&category=Fire"),
        format!("{near}&cursor=!"),
    ] {
        let answer = ada.api.get(&path).await.unwrap();
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let pointer = answer.body["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(pointer.starts_with('?'), "{path}: {}", answer.body);
    }
    for path in ["/v1/posts/x", "/v1/posts/0197f5b0-0000-7000-8000-000000000000", "/v1/nothing"] {
        assert_eq!(ada.api.get(path).await.unwrap().status, 404, "{path}");
    }
    let key = [("idempotency-key", "has space")];
    let post = town::post("Smoke", "fire", 60.39, 5.32);
    let answer = ada.api.send_with(Method::POST, "/v1/posts", Some(&post), &key).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    town.down().await;
}
