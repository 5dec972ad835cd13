//! Who may do what, through the front door: registration, sessions, and that nobody touches another's things.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use local::api_client::{ApiClient, PASSWORD, text};
use reqwest::Method;
use serde_json::{Value, json};
use town::{ROOT, Town, another};

#[tokio::test]
async fn a_person_registers_verifies_signs_in_renews_and_signs_out() {
    let town = Town::up().await;
    let api = &town.api;
    let registration = json!({"email": "ada@example.org", "username": "ada", "password": PASSWORD});
    let login = json!({"email": "ADA@example.org", "password": PASSWORD});

    let registered = api.post("/v1/auth/register", &registration).await.unwrap().expect(201).unwrap();
    let refused = api.post("/v1/auth/login", &login).await.unwrap().expect(403).unwrap();
    assert_eq!(refused["code"], "email_not_verified");

    // Whoever did not get the mail registers again; each token is good for what its mail is about.
    let first_token = api.mailed_token("ada@example.org").await.unwrap();
    api.post("/v1/auth/register", &registration).await.unwrap().expect(201).unwrap();
    let second_token = api.mailed_token("ada@example.org").await.unwrap();
    assert_ne!(first_token, second_token);
    // Somebody else registers her address, with a password of theirs.
    let theirs =
        json!({"email": "ada@example.org", "username": "adas", "password": "their own long password"});
    api.post("/v1/auth/register", &theirs).await.unwrap().expect(201).unwrap();
    let their_token = api.mailed_token("ada@example.org").await.unwrap();
    let tokens = api.post("/v1/auth/verify-email", &json!({"token": first_token})).await.unwrap();
    let tokens = tokens.expect(200).unwrap();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let me = claims(&text(&tokens, "access_token").unwrap());
    assert_eq!((&me["sub"], &me["preferred_username"]), (&registered["user_id"], &json!("ada")));
    // Once one is verified, all tokens of the address are void.
    for token in [first_token, second_token, their_token] {
        let refused = api.post("/v1/auth/verify-email", &json!({"token": token})).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (400, &json!("token_invalid")));
    }
    let theirs = json!({"email": "ada@example.org", "password": "their own long password"});
    assert_eq!(api.post("/v1/auth/login", &theirs).await.unwrap().status, 401);

    // Taken, also in another case.
    for (email, username, code) in
        [("Ada@example.org", "adele", "email_taken"), ("adele@example.org", "ADA", "username_taken")]
    {
        let body = json!({"email": email, "username": username, "password": PASSWORD});
        let taken = api.post("/v1/auth/register", &body).await.unwrap().expect(409).unwrap();
        assert_eq!(taken["code"], code);
    }

    let wrong = json!({"email": "ada@example.org", "password": "not-the-password-at-all"});
    let nobody = json!({"email": "nobody@example.org", "password": PASSWORD});
    for credentials in [wrong, nobody] {
        let refused = api.post("/v1/auth/login", &credentials).await.unwrap().expect(401).unwrap();
        assert_eq!(refused["code"], "credentials_invalid");
    }
    let tokens = api.post("/v1/auth/login", &login).await.unwrap().expect(200).unwrap();

    // The session rotates; the immediate predecessor is answered with the same successor; an older one ends it.
    let first = text(&tokens, "session_token").unwrap();
    let second = renew(api, &first).await.1;
    assert_eq!(renew(api, &first).await.1["session_token"], second["session_token"]);
    let (status, third) = renew(api, second["session_token"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    let (status, problem) = renew(api, &first).await;
    assert_eq!((status, &problem["code"]), (401, &json!("session_invalid")));
    let (status, _) = renew(api, third["session_token"].as_str().unwrap()).await;
    assert_eq!(status, 401, "the reuse ended the family");

    // Signing out ends the session of the access token.
    let tokens = api.post("/v1/auth/login", &login).await.unwrap().expect(200).unwrap();
    let ada = api.with_token(text(&tokens, "access_token").unwrap());
    assert_eq!(ada.delete("/v1/auth/session").await.unwrap().status, 204);
    let (status, _) = renew(api, tokens["session_token"].as_str().unwrap()).await;
    assert_eq!(status, 401);
    town.down().await;
}

fn claims(token: &str) -> Value {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

async fn renew(api: &ApiClient, token: &str) -> (u16, Value) {
    let answer = api.with_token(token).send(Method::POST, "/v1/auth/session", None).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test]
async fn every_route_with_a_token_refuses_those_without() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    let token = ada.api.access_token().unwrap();
    let (head, rest) = token.split_once('.').unwrap();
    let (claims, signature) = rest.split_once('.').unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    let swapped = format!("{head}.{claims}.{}", signature.chars().rev().collect::<String>());
    let routes = town.operations_with_a_token().await;
    assert!(routes.len() >= 14, "{routes:?}");
    for (method, path) in routes {
        let path = with_ids(&path);
        for bad in ["", "x", &unsigned, &swapped, &format!("{token}x")] {
            let api = if bad.is_empty() { town.api.clone() } else { town.api.with_token(bad) };
            let answer = api.send(method.clone(), &path, None).await.unwrap();
            assert_eq!(answer.status, 401, "{method} {path} with {bad:?}: {}", answer.body);
            assert!(answer.header("www-authenticate").is_some(), "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
    town.down().await;
}

/// A path with some id in the place of each parameter, whatever its kind.
fn with_ids(path: &str) -> String {
    let segment = |segment: &str| match segment {
        "{category}" => "fire".to_owned(),
        parameter if parameter.starts_with('{') => "0197f5b0-0000-7000-8000-000000000000".to_owned(),
        other => other.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_with_an_id_is_tried_as_another_user() {
    let town = Town::up().await;
    let routes = town.operations_with_a_token().await;
    let with_an_id: BTreeSet<String> = routes
        .iter()
        .filter(|(_, path)| path.contains('{'))
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    let tried: BTreeSet<String> = another::TRIED.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(tried, with_an_id, "what town/another.rs names, and what the contract has");
    for (route, test) in another::TRIED {
        let (file, name) = test.split_once("::").unwrap();
        let file = std::fs::read_to_string(format!("{ROOT}/local/tests/{file}.rs")).unwrap_or_default();
        assert!(file.contains(&format!("async fn {name}()")), "{test}, which tries {route}, is not there");
    }
    town.down().await;
}

#[tokio::test]
async fn nobody_touches_anothers_things() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let made =
        ada.api.post("/v1/subscriptions", &json!({"category": "fire"})).await.unwrap().expect(201).unwrap();
    let subscription = format!("/v1/subscriptions/{}", text(&made, "subscription_id").unwrap());
    let device = json!({"platform": "fcm", "token": "adas-token"});
    assert_eq!(ada.api.put("/v1/devices/phone", &device).await.unwrap().status, 201);

    for answer in [
        bob.api.patch(&subscription, &json!({"push": false})).await.unwrap(),
        bob.api.delete(&subscription).await.unwrap(),
        bob.api.delete("/v1/devices/phone").await.unwrap(),
    ] {
        assert_eq!(answer.status, 404, "{}", answer.body);
    }
    for list in ["/v1/subscriptions", "/v1/devices"] {
        let bobs = bob.api.get(list).await.unwrap().expect(200).unwrap();
        assert_eq!(bobs["items"], json!([]), "{list}");
        let adas = ada.api.get(list).await.unwrap().expect(200).unwrap();
        assert_eq!(adas["items"].as_array().map(Vec::len), Some(1), "{list}");
    }
    // The same device id is another device; the same token moves to who signed in last.
    let bobs = json!({"platform": "fcm", "token": "bobs-token"});
    assert_eq!(bob.api.put("/v1/devices/phone", &bobs).await.unwrap().status, 201);
    assert_eq!(bob.api.put("/v1/devices/tablet", &device).await.unwrap().status, 201);
    let adas = ada.api.get("/v1/devices").await.unwrap().expect(200).unwrap();
    assert_eq!(adas["items"], json!([]), "the token is bob's now");

    // Who may not is told so, whatever they send.
    for body in [json!({"title": "Mine", "description": ""}), json!({"title": 7})] {
        let forbidden = ada.api.put("/v1/categories/fire", &body).await.unwrap();
        assert_eq!((forbidden.status, &forbidden.body["code"]), (403, &json!("forbidden")));
    }
    town.down().await;
}
