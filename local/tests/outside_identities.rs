//! People who come by an outside identity: with Google, with Apple, and with tokens of an issuer that is trusted. The issuers
//! are an OpenID provider of these tests' own.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod openid_provider;
mod town;

use std::{process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::future::join_all;
use local::api_client::{Answer, PASSWORD, text};
use openid_provider::{CLIENT_ID, OpenIdProvider, Signature};
use reqwest::{Method, header, redirect};
use serde_json::{Map, Value, json};
use tocsin_adapters::{
    http::Http,
    openid::{Provider, TrustedIssuers},
};
use tocsin_domain::{outside_sign_in::OutsideTokens as _, time};
use town::Town;

const COOKIE: &str = "__Host-tocsin-google";
const GOOGLE: &str = "/v1/auth/social/web/google";
const APPLE: &str = "/v1/auth/social/web/apple";

/// A town that knows one provider as Google, and Apple, and an issuer that it trusts.
async fn up() -> (Town, OpenIdProvider) {
    let provider = OpenIdProvider::up().await;
    let trusted = json!([
        {"issuer": "https://another.example", "audiences": ["tocsin"]},
        {"issuer": provider.issuer(), "audiences": ["tocsin", "cognito-client"]},
    ]);
    let town = Town::with(&[
        ("GoogleIssuer", provider.issuer().to_owned()),
        ("GoogleClientId", CLIENT_ID.to_owned()),
        ("AppleIssuer", provider.issuer().to_owned()),
        ("AppleClientIds", "dev.tocsin.app, dev.tocsin.web".to_owned()),
        ("TrustedIssuers", trusted.to_string()),
    ])
    .await;
    (town, provider)
}

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

fn with(person: &Value, field: &str, value: Value) -> Value {
    let mut person = person.clone();
    person[field] = value;
    person
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

/// An access token as Cognito makes it: no `aud`, but `client_id` and `token_use`.
fn cognito(subject: &str) -> Value {
    json!({
        "sub": subject, "client_id": "cognito-client", "token_use": "access", "username": "hedy",
        "scope": "aws.cognito.signin.user.admin",
    })
}

#[tokio::test]
async fn a_trusted_issuers_token_is_taken_everywhere_and_its_owner_is_one_person() {
    let (town, issuer) = up().await;
    let hedy = town.api.with_token(issuer.token(&cognito("c-1"), Signature::Rsa));
    // All of it is their first request.
    let wish = json!({"category": "fire"});
    let device = json!({"platform": "fcm", "token": "hedys-token"});
    let post = town::fire("Smoke");
    let first = join_all((0..6).map(|_| hedy.post("/v1/subscriptions", &wish))).await;
    for made in first {
        made.unwrap().expect(201).unwrap();
    }
    let (put, posted, timeline) = tokio::join!(
        hedy.put("/v1/devices/phone", &device),
        hedy.post("/v1/posts", &post),
        hedy.get("/v1/timeline"),
    );
    assert_eq!((put.unwrap().status, timeline.unwrap().status), (201, 200));
    let post_id = text(&posted.unwrap().expect(202).unwrap(), "post_id").unwrap();
    let mine = hedy.get("/v1/subscriptions").await.unwrap().expect(200).unwrap();
    assert_eq!(mine["items"].as_array().map(Vec::len), Some(6), "one person asked for all of them: {mine}");
    let read = hedy.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    assert_eq!(read["author"]["username"], "hedy", "{read}");
    let profile = hedy.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!((&profile["username"], &profile["email"]), (&json!("hedy"), &Value::Null));
    let forbidden =
        hedy.put("/v1/categories/fire", &json!({"title": "Mine", "description": ""})).await.unwrap();
    assert_eq!(forbidden.status, 403);
    // There is no session of ours to end.
    assert_eq!(hedy.delete("/v1/auth/session").await.unwrap().status, 204);

    // With an audience, as others make them; a newer token; and somebody else.
    let standard = json!({"sub": "c-1", "aud": ["tocsin", "https://issuer.example/userinfo"], "preferred_username": "h"});
    let again = town.api.with_token(issuer.token(&standard, Signature::Rsa));
    let profile_again = again.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!(profile_again["user_id"], profile["user_id"]);
    let other = town.api.with_token(issuer.token(&cognito("c-2"), Signature::Rsa));
    let theirs = other.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_ne!(theirs["user_id"], profile["user_id"]);
    assert!(
        theirs["username"].as_str().unwrap().starts_with("hedy") && theirs["username"] != "hedy",
        "{theirs}"
    );
    town.down().await;
}

#[tokio::test]
async fn a_token_of_before_somebody_left_makes_them_no_account_again() {
    let (town, provider) = up().await;
    let now = jiff::Timestamp::now().as_second();
    let made_at = |at: i64| {
        town.api.with_token(provider.token(&with(&cognito("c-1"), "iat", json!(at)), Signature::Rsa))
    };
    let (before, also_before, after) = (made_at(now - 60), made_at(now - 30), made_at(now + 20));
    let first = before.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!(before.delete("/v1/users/me").await.unwrap().status, 202);
    town.settle().await;
    // The functions that know the one token know nothing of the other; and those that did not see it yet, of either.
    for (hedy, path) in [
        (&before, "/v1/timeline"),
        (&before, "/v1/subscriptions"),
        (&also_before, "/v1/users/me"),
        (&also_before, "/v1/timeline"),
    ] {
        let refused = hedy.get(path).await.unwrap();
        assert_eq!(refused.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
        assert_eq!(refused.expect(401).unwrap()["code"], "account_closed", "{path}");
    }
    // Who comes back with a newer one begins anew, and has the name again: nobody was made of the other.
    let again = after.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_ne!(again["user_id"], first["user_id"]);
    assert_eq!(again["username"], "hedy");

    // Who signs in comes back at once; and a token of ours is as good as before, for its hour.
    provider.signs_in(ada());
    let tokens = Browser::new(&town).signs_in().await.expect(200).unwrap();
    let ours = town.api.with_token(text(&tokens, "access_token").unwrap());
    assert_eq!(ours.delete("/v1/users/me").await.unwrap().status, 202);
    let back = Browser::new(&town).signs_in().await.expect(200).unwrap();
    assert_ne!(me(&back)["sub"], me(&tokens)["sub"]);
    ours.get("/v1/subscriptions").await.unwrap().expect(200).unwrap();
    town.down().await;
}

#[tokio::test]
async fn no_other_token_is_taken_for_an_access_token() {
    let (town, issuer) = up().await;
    let stranger = OpenIdProvider::up().await;
    let ada = town.person("ada").await;
    let now = jiff::Timestamp::now().as_second();
    let token = |claims: &Value| issuer.token(claims, Signature::Rsa);
    let changed = |field: &str, value: Value| token(&with(&cognito("c-1"), field, value));
    let mut both = cognito("c-1");
    both["aud"] = json!("another");
    let bad = [
        ("another issuer", stranger.token(&cognito("c-1"), Signature::Rsa)),
        ("a claim of another issuer", changed("iss", json!("https://another.example/"))),
        ("another client", changed("client_id", json!("another-client"))),
        ("no client", changed("client_id", Value::Null)),
        ("another audience", token(&both)),
        ("an audience that is none", changed("aud", json!(7))),
        ("a client without a use", changed("token_use", Value::Null)),
        ("an identity token", changed("token_use", json!("id"))),
        (
            "an identity token for us",
            token(&json!({"sub": "c-1", "aud": "cognito-client", "token_use": "id"})),
        ),
        ("expired", changed("exp", json!(now - 60))),
        ("never expires", changed("exp", Value::Null)),
        ("not yet", changed("nbf", json!(now + 600))),
        ("of the future", changed("iat", json!(now + 600))),
        ("more than a day old", changed("iat", json!(now - 86_460))),
        ("of no time", changed("iat", Value::Null)),
        ("of a time that is none", changed("iat", json!("now"))),
        ("nobody's", changed("sub", Value::Null)),
        ("another's key", issuer.token(&cognito("c-1"), Signature::Stranger)),
        ("no signature", issuer.token(&cognito("c-1"), Signature::None)),
        ("a shared secret", issuer.token(&cognito("c-1"), Signature::HmacOfPublicKey)),
        ("a session token", ada.session_token.clone()),
    ];
    let id = "0197f5b0-0000-7000-8000-000000000000";
    for (what, token) in &bad {
        let api = town.api.with_token(token);
        for (method, path) in [
            (Method::GET, "/v1/timeline".to_owned()),
            (Method::GET, format!("/v1/posts/{id}")),
            (Method::DELETE, format!("/v1/subscriptions/{id}")),
        ] {
            let refused = api.send(method, &path, None).await.unwrap();
            assert!(
                refused.status == 401 && refused.body["code"] == "token_invalid",
                "{what}: {}",
                refused.body
            );
        }
    }
    assert_eq!(stranger.state().discoveries, 0, "who is not trusted is not asked");
    // What is ours needs nobody.
    let issuer_was_asked = issuer.state().discoveries;
    ada.api.get("/v1/timeline").await.unwrap().expect(200).unwrap();
    assert_eq!(issuer.state().discoveries, issuer_was_asked);
    town.down().await;
}

#[tokio::test]
async fn an_unknown_key_a_thousand_times_is_one_look_at_the_keys() {
    let (town, issuer) = up().await;
    let api = town.api.with_token(issuer.token(&cognito("c-1"), Signature::UnknownKey));
    for _ in 0..1_000 {
        assert_eq!(api.get("/v1/timeline").await.unwrap().status, 401);
    }
    {
        let state = issuer.state();
        assert_eq!((state.discoveries, state.key_set_fetches), (1, 1));
    }
    // Meanwhile those with a key that is known are served, and while the issuer is away as well.
    issuer.state().is_down = true;
    let hedy = town.api.with_token(issuer.token(&cognito("c-1"), Signature::Rsa));
    hedy.get("/v1/timeline").await.unwrap().expect(200).unwrap();
    // A function that knows no keys yet cannot tell, and says so.
    let unknown = hedy.get("/v1/subscriptions").await.unwrap();
    assert_eq!(unknown.expect(503).unwrap()["code"], "unavailable");
    town.down().await;
}

#[tokio::test]
async fn a_new_key_is_found_after_the_cooldown_and_by_one_look() {
    let issuer = OpenIdProvider::up().await;
    let http = Http::new(["127.0.0.1"]);
    let trusting = |cooldown: Duration| {
        let provider = Provider::new(issuer.issuer(), &http).unwrap().with_cooldown(cooldown);
        TrustedIssuers::default().with(provider, vec!["cognito-client".to_owned()])
    };
    let (hour, instant) = (trusting(Duration::from_hours(1)), trusting(Duration::ZERO));
    let old = issuer.token(&cognito("c-1"), Signature::Rsa);
    let new = issuer.token(&cognito("c-1"), Signature::Ec);
    let is_good = async |trusted: &TrustedIssuers, token: &str| {
        trusted.verify(token, time::now()).await.unwrap().is_some()
    };
    assert!(is_good(&hour, &old).await && is_good(&instant, &old).await);
    issuer.state().has_rotated = true;
    let before = issuer.state().key_set_fetches;
    assert!(!is_good(&hour, &new).await, "it was looked at a moment ago");
    assert_eq!(issuer.state().key_set_fetches, before);
    // Twenty who come at once are one look.
    let all = join_all((0..20).map(|_| is_good(&instant, &new))).await;
    assert!(all.into_iter().all(|good| good));
    assert_eq!(issuer.state().key_set_fetches, before + 1);
    // Where the issuer does not answer, the keys that are known stay good.
    issuer.state().is_down = true;
    assert!(is_good(&instant, &old).await && is_good(&instant, &new).await);
    // And nobody at a private address is asked, whatever a setting says, unless it is allowed.
    let strict = Provider::new(issuer.issuer(), &Http::new([""; 0])).unwrap();
    let strict = TrustedIssuers::default().with(strict, vec!["cognito-client".to_owned()]);
    let error = strict.verify(&old, time::now()).await.unwrap_err().to_string();
    assert!(error.contains("is no public address"), "{error}");
}
