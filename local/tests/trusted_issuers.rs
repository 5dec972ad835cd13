//! Access tokens of issuers that are trusted as we trust ourselves. The issuers are an OpenID provider of these tests' own.

mod openid_provider;
mod town;

use std::time::Duration;

use futures::future::join_all;
use local::api_client::text;
use openid_provider::{OpenIdProvider, Signature, cognito, up, with};
use reqwest::Method;
use serde_json::{Value, json};
use tocsin_adapters::{
    http::Http,
    openid::{Provider, TrustedIssuers},
};
use tocsin_domain::{outside_sign_in::OutsideTokens as _, time};

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
    // Nor does an app that has one refreshed without them: when they signed in stays as it was.
    let signed_in_at = |at: i64| {
        let refreshed = with(&with(&cognito("c-1"), "iat", json!(now + 20)), "auth_time", json!(at));
        town.api.with_token(provider.token(&refreshed, Signature::Rsa))
    };
    for path in ["/v1/users/me", "/v1/timeline"] {
        let refused = signed_in_at(now - 45).get(path).await.unwrap();
        assert_eq!(refused.expect(401).unwrap()["code"], "account_closed", "{path}");
    }
    let odd = signed_in_at(-1).get("/v1/timeline").await.unwrap();
    assert_eq!(odd.expect(401).unwrap()["code"], "token_invalid", "no time at which anybody signs in");
    // Who comes back with a newer one begins anew, and has the name again: nobody was made of the other.
    let again = after.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_ne!(again["user_id"], first["user_id"]);
    assert_eq!(again["username"], "hedy");
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
    // An app's identity token, where its client id is an audience here.
    let of_no_use = |field: &str, value: Value| {
        token(&with(&json!({"sub": "c-1", "aud": "cognito-client"}), field, value))
    };
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
        ("one with a nonce, of an issuer that says nothing of its use", of_no_use("nonce", json!("n"))),
        ("one with the hash of its access token", of_no_use("at_hash", json!("MTIzNDU2Nzg5MDEyMzQ1Ng"))),
        ("one with the hash of its code", of_no_use("c_hash", json!("MTIzNDU2Nzg5MDEyMzQ1Ng"))),
        ("one that is called so", of_no_use("typ", json!("ID"))),
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
