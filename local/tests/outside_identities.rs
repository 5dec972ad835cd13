//! People who sign in by an outside identity: with Google, and with Apple. The issuers are an OpenID provider of these tests'
//! own.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod openid_provider;
mod town;

use std::{process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::join_all;
use local::api_client::{Answer, PASSWORD, text};
use openid_provider::{CLIENT_ID, Signature, up, with};
use reqwest::{Method, header, redirect};
use serde_json::{Map, Value, json};
use town::Town;

const COOKIE: &str = "__Host-tocsin-google";
const GOOGLE: &str = "/v1/auth/social/web/google";
const APPLE: &str = "/v1/auth/social/web/apple";

/// A browser, with the one cookie that it may be given.
struct Browser {
    http: reqwest::Client,
    api: String,
    cookie: Option<String>,
}

impl Browser {
    fn new(town: &Town) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Self { http, api: town.stack.base_url().to_owned(), cookie: None }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let mut request = self.http.get(format!("{}{path}", self.api));
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, format!("theme=dark; {COOKIE}={cookie}"));
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all(header::SET_COOKIE) {
            let (value, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
            let (name, value) = value.split_once('=').unwrap();
            assert_eq!(name, COOKIE);
            let kept = if value.is_empty() { "Max-Age=0" } else { "Max-Age=600" };
            assert_eq!(attributes, format!("{kept}; Path=/; Secure; HttpOnly; SameSite=Lax"));
            self.cookie = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    /// Goes to the provider, and gives the path that it sends the browser back to.
    async fn goes_to_google(&mut self) -> String {
        let answer = self.get(GOOGLE).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (302, Some("no-store")),
            "{}",
            answer.body
        );
        let at_provider = self.http.get(answer.header("location").unwrap()).send().await.unwrap();
        assert_eq!(at_provider.status(), 302);
        let back = at_provider.headers()[header::LOCATION].to_str().unwrap();
        back.strip_prefix(&self.api).unwrap().to_owned()
    }

    /// Signs in with Google.
    async fn signs_in(&mut self) -> Answer {
        let back = self.goes_to_google().await;
        self.get(&back).await
    }
}

/// A person as Google knows them.
fn ada() -> Value {
    json!({
        "sub": "117", "email": "ada.l@gmail.example", "email_verified": true,
        "name": "Ada Lovelace", "given_name": "Ada", "family_name": "Lovelace",
    })
}

fn me(tokens: &Value) -> Value {
    let token = text(tokens, "access_token").unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// The path that a browser comes back to, with another value of a parameter, or without it.
fn tampered(path: &str, parameter: &str, value: Option<&str>) -> String {
    let (path, query) = path.split_once('?').unwrap();
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != parameter);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    if let Some(value) = value {
        query.append_pair(parameter, value);
    }
    format!("{path}?{}", query.finish())
}

fn parameter(path: &str, name: &str) -> String {
    let query = path.split_once('?').unwrap().1;
    form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).unwrap().1.into_owned()
}

#[tokio::test]
async fn who_signs_in_with_google_is_the_same_person_each_time() {
    let (town, google) = up().await;
    google.signs_in(ada());
    let mut browser = Browser::new(&town);
    let tokens = browser.signs_in().await.expect(200).unwrap();
    assert_eq!(browser.cookie, None, "the attempt is over");
    let first = me(&tokens);
    assert_eq!(first["preferred_username"], "ada.lovelace");
    let api = town.api.with_token(text(&tokens, "access_token").unwrap());
    api.get("/v1/timeline").await.unwrap().expect(200).unwrap();
    let session = town.api.with_token(text(&tokens, "session_token").unwrap());
    session.send(Method::POST, "/v1/auth/session", None).await.unwrap().expect(200).unwrap();
    let profile = api.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!(
        (&profile["first_name"], &profile["last_name"], &profile["email"]),
        (&json!("Ada"), &json!("Lovelace"), &json!("ada.l@gmail.example"))
    );

    // In another browser, and with another address and name: the subject is who it is.
    google.signs_in(with(&with(&ada(), "email", json!("other@gmail.example")), "name", json!("A. King")));
    let again = me(&Browser::new(&town).signs_in().await.expect(200).unwrap());
    assert_eq!((&again["sub"], &again["preferred_username"]), (&first["sub"], &first["preferred_username"]));
    assert_ne!(again["sid"], first["sid"]);

    // Somebody else of the same name.
    let namesake = with(&with(&ada(), "sub", json!("118")), "email", json!("ada.2@gmail.example"));
    google.signs_in(namesake);
    let other = me(&Browser::new(&town).signs_in().await.expect(200).unwrap());
    assert_ne!(other["sub"], first["sub"]);
    let name = other["preferred_username"].as_str().unwrap();
    let digits = name.strip_prefix("ada.lovelace").unwrap();
    assert!((2..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), "{name}");

    // Ten browsers of one new person at once.
    google.signs_in(with(&with(&ada(), "sub", json!("119")), "email", json!("ada.3@gmail.example")));
    let signed_in =
        join_all((0..10).map(|_| async { Browser::new(&town).signs_in().await.expect(200).unwrap() }));
    let mut subjects: Vec<String> =
        signed_in.await.iter().map(|tokens| text(&me(tokens), "sub").unwrap()).collect();
    subjects.dedup();
    assert_eq!(subjects.len(), 1, "{subjects:?}");
    town.down().await;
}

#[tokio::test]
async fn a_proven_address_is_one_account_and_an_unproven_one_is_none() {
    let (town, google) = up().await;
    let bob = town.person("bob").await;
    let bobs_id = me(&json!({"access_token": bob.api.access_token().unwrap()}))["sub"].clone();
    let at_google = json!({"sub": "201", "email": "BOB@example.org", "email_verified": false, "name": "Bob"});

    // Whoever made an account at Google with his address, and never proved it.
    google.signs_in(at_google.clone());
    let refused = Browser::new(&town).signs_in().await.expect(403).unwrap();
    assert_eq!(refused["code"], "identity_email_not_verified");
    google.signs_in(with(&at_google, "email", json!("nobody@example.org")));
    assert_eq!(Browser::new(&town).signs_in().await.status, 403, "nor is an account made with it");

    google.signs_in(with(&at_google, "email_verified", json!(true)));
    let linked = me(&Browser::new(&town).signs_in().await.expect(200).unwrap());
    assert_eq!((&linked["sub"], &linked["preferred_username"]), (&bobs_id, &json!("bob")));
    // Both ways in are his; and the link stays when Google thinks otherwise of the address.
    let login = json!({"email": "bob@example.org", "password": PASSWORD});
    town.api.post("/v1/auth/login", &login).await.unwrap().expect(200).unwrap();
    google.signs_in(at_google);
    assert_eq!(me(&Browser::new(&town).signs_in().await.expect(200).unwrap())["sub"], bobs_id);

    // Somebody registers another's address, and waits for her to prove it for them.
    town.api.sign_up("mallory", "carol@example.org").await.unwrap().expect(201).unwrap();
    let token = town.api.mailed_token("carol@example.org").await.unwrap();
    google.signs_in(
        json!({"sub": "202", "email": "carol@example.org", "email_verified": true, "name": "Carol"}),
    );
    let carol = me(&Browser::new(&town).signs_in().await.expect(200).unwrap());
    assert_eq!(carol["preferred_username"], "carol");
    let login = json!({"email": "carol@example.org", "password": PASSWORD});
    assert_eq!(town.api.post("/v1/auth/login", &login).await.unwrap().status, 401);
    let verify = town.api.post("/v1/auth/verify-email", &json!({"token": token})).await.unwrap();
    assert_eq!(verify.expect(400).unwrap()["code"], "token_invalid");
    town.down().await;
}

#[tokio::test]
async fn an_answer_is_of_use_to_the_browser_that_asked_and_once() {
    let (town, google) = up().await;
    google.signs_in(ada());
    let refused = |answer: Answer| (answer.status, text(&answer.body, "code").unwrap());
    let bad = |code: &str| (400, code.to_owned());

    // The person, or Google, says no.
    google.state().person = None;
    let mut browser = Browser::new(&town);
    let declined = browser.signs_in().await;
    assert!(declined.body["detail"].as_str().unwrap().contains("access_denied"), "{}", declined.body);
    assert_eq!(refused(declined), bad("sign_in_declined"));
    assert_eq!(browser.cookie, None);
    let back = tampered(&browser.goes_to_google().await, "error", Some("<script>"));
    let hostile = browser.get(&back).await;
    assert!(!hostile.body.to_string().contains("script"), "{}", hostile.body);
    assert_eq!(refused(hostile), bad("sign_in_declined"));
    google.signs_in(ada());

    // A link that somebody else wrote ends no sign-in that is under way.
    let mut browser = Browser::new(&town);
    let back = browser.goes_to_google().await;
    let cookie = browser.cookie.clone();
    let stranger = Browser::new(&town).goes_to_google().await;
    for (query, code) in [
        ("error=access_denied".to_owned(), "invalid_input"),
        ("error=access_denied&state=x".to_owned(), "state_invalid"),
        (format!("error=access_denied&state={}", parameter(&stranger, "state")), "state_invalid"),
        ("code=x&state=x".to_owned(), "state_invalid"),
        (String::new(), "invalid_input"),
    ] {
        assert_eq!(refused(browser.get(&format!("{GOOGLE}/callback?{query}")).await), bad(code), "{query}");
        assert_eq!(browser.cookie, cookie, "{query}");
    }
    browser.get(&back).await.expect(200).unwrap();

    for (state, code) in [
        (None, "invalid_input"),
        (Some("x"), "state_invalid"),
        (Some("vKTpHmQY2n0wYqkHcV6kqV2b6m1w3Zt9bF1m0hJx2dU"), "state_invalid"),
    ] {
        let mut browser = Browser::new(&town);
        let back = tampered(&browser.goes_to_google().await, "state", state);
        assert_eq!(refused(browser.get(&back).await), bad(code), "{state:?}");
        assert!(browser.cookie.is_some());
    }
    for (parameter, value) in [("code", None), ("iss", Some("https://another.example"))] {
        let mut browser = Browser::new(&town);
        let back = tampered(&browser.goes_to_google().await, parameter, value);
        assert_eq!(refused(browser.get(&back).await), bad("invalid_input"), "{parameter}");
    }

    // Without the cookie, or with another browser's: a link that somebody was sent.
    let (mut mine, mut theirs) = (Browser::new(&town), Browser::new(&town));
    let (my_way_back, their_way_back) = (mine.goes_to_google().await, theirs.goes_to_google().await);
    assert_eq!(refused(Browser::new(&town).get(&their_way_back).await), bad("sign_in_not_begun"));
    let mut garbled = Browser { cookie: Some("%00".to_owned()), ..Browser::new(&town) };
    assert_eq!(refused(garbled.get(&their_way_back).await), bad("sign_in_not_begun"));
    assert_eq!(refused(mine.get(&their_way_back).await), bad("state_invalid"));
    assert_eq!(google.state().exchanges, 1, "since she signed in, no code was shown to Google");

    // Their code behind my state: Google knows who asked for it.
    let injected = tampered(&my_way_back, "code", Some(&parameter(&their_way_back, "code")));
    assert_eq!(refused(mine.get(&injected).await), bad("code_invalid"));
    assert_eq!(refused(theirs.get(&their_way_back).await), bad("code_invalid"), "and it is used up");

    // Twice, by whoever kept the cookie.
    let mut browser = Browser::new(&town);
    let back = browser.goes_to_google().await;
    let cookie = browser.cookie.clone();
    browser.get(&back).await.expect(200).unwrap();
    assert_eq!(refused(browser.get(&back).await), bad("sign_in_not_begun"));
    browser.cookie = cookie;
    assert_eq!(refused(browser.get(&back).await), bad("code_invalid"));
    town.down().await;
}

#[tokio::test]
async fn an_identity_token_that_is_not_googles_word_to_us_opens_nothing() {
    let (town, google) = up().await;
    google.signs_in(ada());
    let now = jiff::Timestamp::now().as_second();
    let wrong = [
        ("iss", json!("https://accounts.google.com")),
        ("iss", json!(format!("{}/", google.issuer()))),
        ("iss", Value::Null),
        ("aud", json!("another-client")),
        ("aud", json!([CLIENT_ID, "another-client"])),
        ("aud", json!([])),
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("exp", json!(now - 1)),
        ("exp", Value::Null),
        ("iat", json!(now + 3_600)),
        ("sub", Value::Null),
        ("sub", json!("")),
    ];
    for (claim, value) in wrong {
        google.state().wrong_claims = Map::from_iter([(claim.to_owned(), value.clone())]);
        let mut browser = Browser::new(&town);
        let answer = browser.signs_in().await;
        assert!(
            answer.status == 401 && answer.body["code"] == "identity_token_invalid",
            "{claim} {value}: {}",
            answer.body
        );
        assert_eq!(browser.cookie, None);
    }
    google.state().wrong_claims.clear();
    for signature in [
        Signature::Stranger,
        Signature::UnknownKey,
        Signature::HmacOfPublicKey,
        Signature::None,
        Signature::Ec,
    ] {
        google.state().signature = signature;
        let answer = Browser::new(&town).signs_in().await;
        assert!(
            answer.status == 401 && answer.body["code"] == "identity_token_invalid",
            "{signature:?}: {}",
            answer.body
        );
    }
    assert_eq!(
        google.state().key_set_fetches,
        2,
        "one by each function: unknown keys are not looked for at once"
    );

    // A key that is new, to a function that is: also of an elliptic curve.
    google.state().has_rotated = true;
    for id in town.stack.fleet().process_ids("complete-google-sign-in") {
        assert!(Command::new("kill").args(["-9", &id.to_string()]).status().unwrap().success());
    }
    let tokens = Browser::new(&town).signs_in().await.expect(200).unwrap();
    assert_eq!(me(&tokens)["preferred_username"], "ada.lovelace", "no one took the name before");
    town.down().await;
}

#[tokio::test]
async fn while_google_is_down_people_are_asked_for_patience() {
    let (town, google) = up().await;
    google.signs_in(ada());
    google.state().is_down = true;
    let mut browser = Browser::new(&town);
    let down = browser.get(GOOGLE).await;
    assert_eq!((down.status, down.header("retry-after")), (503, Some("5")), "{}", down.body);
    google.state().is_down = false;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let back = browser.goes_to_google().await;
    google.state().is_down = true;
    assert_eq!(browser.get(&back).await.status, 503);
    google.state().is_down = false;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    // The cookie is there still, and the code was not used.
    browser.get(&back).await.expect(200).unwrap();
    town.down().await;
}

#[tokio::test]
async fn apples_word_signs_in_and_the_name_is_kept_from_the_first_time() {
    let (town, apple) = up().await;
    let now = jiff::Timestamp::now().as_second();
    // Apple writes truth as a text.
    let grace = json!({
        "sub": "000712.g", "aud": "dev.tocsin.app", "email": "grace@example.org", "email_verified": "true",
    });
    let sign_in = async |claims: &Value, signature: Signature| {
        let body =
            json!({"identity_token": apple.token(claims, signature), "full_name": "Grace Brewster Hopper"});
        town.api.post(APPLE, &body).await.unwrap()
    };
    let wrong = [
        ("aud", json!("dev.tocsin.other")),
        ("aud", json!(["dev.tocsin.app", "dev.other"])),
        ("iss", json!("https://appleid.apple.com")),
        ("exp", json!(now - 1)),
        ("iat", json!(now - 700)),
        ("iat", json!(now + 700)),
        ("iat", Value::Null),
        ("sub", Value::Null),
    ];
    for (claim, value) in wrong {
        let refused = sign_in(&with(&grace, claim, value.clone()), Signature::Rsa).await;
        assert!(refused.status == 401, "{claim} {value}: {}", refused.body);
        assert_eq!(refused.body["code"], "identity_token_invalid");
    }
    for signature in [Signature::Stranger, Signature::UnknownKey, Signature::HmacOfPublicKey, Signature::None]
    {
        assert_eq!(sign_in(&grace, signature).await.status, 401, "{signature:?}");
    }
    for token in ["x", "a.b.c", "e30.e30.e30"] {
        let refused = town.api.post(APPLE, &json!({"identity_token": token})).await.unwrap();
        assert_eq!(refused.expect(401).unwrap()["code"], "identity_token_invalid");
    }
    for body in [json!({}), json!({"identity_token": 7}), json!({"identity_token": "x", "full_name": " "})] {
        assert_eq!(town.api.post(APPLE, &body).await.unwrap().status, 422, "{body}");
    }
    let unproven = with(&grace, "email_verified", json!("false"));
    assert_eq!(
        sign_in(&unproven, Signature::Rsa).await.expect(403).unwrap()["code"],
        "identity_email_not_verified"
    );

    let tokens = sign_in(&grace, Signature::Rsa).await.expect(200).unwrap();
    let (first, api) = (me(&tokens), town.api.with_token(text(&tokens, "access_token").unwrap()));
    assert_eq!(first["preferred_username"], "grace.brewster.hoppe", "at most 20 characters of a name");
    let names = async || {
        let profile = api.get("/v1/users/me").await.unwrap().expect(200).unwrap();
        (profile["first_name"].clone(), profile["last_name"].clone())
    };
    assert_eq!(names().await, (json!("Grace"), json!("Brewster Hopper")));
    // From the web page the next time, without an address, and under another name.
    let body = json!({
        "identity_token": apple.token(&json!({"sub": "000712.g", "aud": "dev.tocsin.web"}), Signature::Rsa),
        "full_name": "Somebody Else",
    });
    let again = town.api.post(APPLE, &body).await.unwrap().expect(200).unwrap();
    assert_eq!(me(&again)["sub"], first["sub"]);
    assert_eq!(names().await, (json!("Grace"), json!("Brewster Hopper")));
    // Who hides the address has an account without one.
    let hidden = json!({"sub": "000713.h", "aud": "dev.tocsin.web"});
    let body = json!({"identity_token": apple.token(&hidden, Signature::Rsa)});
    let hidden = town.api.post(APPLE, &body).await.unwrap().expect(200).unwrap();
    assert!(me(&hidden)["preferred_username"].as_str().unwrap().starts_with("person"));
    town.down().await;
}

#[tokio::test]
async fn who_left_comes_back_by_signing_in() {
    let (town, provider) = up().await;
    provider.signs_in(ada());
    let tokens = Browser::new(&town).signs_in().await.expect(200).unwrap();
    let ours = town.api.with_token(text(&tokens, "access_token").unwrap());
    assert_eq!(ours.delete("/v1/users/me").await.unwrap().status, 202);
    // At once; and a token of before is nobody's any more.
    let back = Browser::new(&town).signs_in().await.expect(200).unwrap();
    assert_ne!(me(&back)["sub"], me(&tokens)["sub"]);
    let refused = ours.get("/v1/subscriptions").await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("account_closed")));
    town.down().await;
}
