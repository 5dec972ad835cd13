//! People leave, and take with them what was kept of them.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};
use local::{
    api_client::{PASSWORD, Person, text},
    replay::Samples,
};
use serde_json::{Value, json};
use town::{Town, fire, post, titles};

async fn befriend(one: &Person, other: &Person) {
    for (asks, is_asked, state) in [(one, other, "outgoing"), (other, one, "accepted")] {
        let body = json!({"user_id": is_asked.user_id()});
        let asked = asks.api.post("/v1/friendships", &body).await.unwrap().expect(201).unwrap();
        assert_eq!(asked["state"], state);
    }
}

/// What a person's export has, by kind, read by pages of `limit`.
async fn export(person: &Person, limit: usize) -> BTreeMap<String, Vec<Value>> {
    let (mut kinds, mut cursor) = (BTreeMap::<String, Vec<Value>>::new(), String::new());
    loop {
        let path = format!("/v1/users/me/export?limit={limit}{cursor}");
        let page = person.api.get(&path).await.unwrap().expect(200).unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        for item in items {
            kinds.entry(text(item, "kind").unwrap()).or_default().push(item["data"].clone());
        }
        let Some(next) = page["next_cursor"].as_str() else { return kinds };
        assert_eq!(items.len(), limit, "a page with a cursor is full");
        cursor = format!("&cursor={next}");
    }
}

/// A table, by its name in the template, and a client to reach it with.
fn table<'a>(town: &'a Town, logical_id: &str) -> (Client, &'a str) {
    let tables = &town.stack.app().tables;
    let table = tables.iter().find(|table| table.logical_id == logical_id).unwrap();
    (Client::new(&town.stack.endpoints().sdk_config("DYNAMODB")), &table.name)
}

/// How many items of a table have this text in their keys.
async fn count(town: &Town, logical_id: &str, text: &str) -> usize {
    let (client, name) = table(town, logical_id);
    let items = client.scan().table_name(name).send().await.unwrap().items.unwrap_or_default();
    let has = |value: &AttributeValue| value.as_s().is_ok_and(|value| value.contains(text));
    items.iter().filter(|item| ["pk", "sk"].iter().any(|key| item.get(*key).is_some_and(has))).count()
}

/// Whether one of these texts, in any case, or these bytes are in a value.
fn has(value: &AttributeValue, texts: &[String], bytes: &[u8]) -> bool {
    let in_text = |text: &String| {
        let text = text.to_lowercase();
        texts.iter().any(|wanted| text.contains(wanted.as_str()))
    };
    let in_bytes = |blob: &Blob| blob.as_ref().windows(bytes.len()).any(|some| some == bytes);
    match value {
        AttributeValue::S(text) => in_text(text),
        AttributeValue::Ss(all) => all.iter().any(in_text),
        AttributeValue::B(blob) => in_bytes(blob),
        AttributeValue::Bs(all) => all.iter().any(in_bytes),
        AttributeValue::L(all) => all.iter().any(|value| has(value, texts, bytes)),
        AttributeValue::M(map) => map.iter().any(|(name, value)| in_text(name) || has(value, texts, bytes)),
        _ => false,
    }
}

/// The items of all tables that have somebody's id, name or address in them: each by its table and its keys.
async fn traces(town: &Town, person: &Person) -> BTreeSet<String> {
    let id = person.user_id();
    let bytes = u128::from_str_radix(&id.replace('-', ""), 16).unwrap().to_be_bytes();
    let texts = [id, person.username.clone(), person.email.clone()];
    let mut found = BTreeSet::new();
    for table in &town.stack.app().tables {
        let client = Client::new(&town.stack.endpoints().sdk_config("DYNAMODB"));
        let mut items = client.scan().table_name(&table.name).into_paginator().items().send();
        while let Some(item) = items.next().await {
            let item = item.unwrap();
            if item.values().any(|value| has(value, &texts, &bytes)) {
                let [pk, sk] = ["pk", "sk"].map(|key| item.get(key).map_or("", |key| key.as_s().unwrap()));
                found.insert(format!("{} {pk} {sk}", table.logical_id));
            }
        }
    }
    found
}

/// What is stored of somebody's departure.
async fn departure(town: &Town, person: &Person) -> Option<BTreeMap<String, String>> {
    let (client, name) = table(town, "DeparturesTable");
    let get = client.get_item().table_name(name).consistent_read(true);
    let get = get.key("pk", AttributeValue::S("departures".to_owned()));
    let item = get.key("sk", AttributeValue::S(person.user_id())).send().await.unwrap().item?;
    Some(item.into_iter().filter_map(|(name, value)| Some((name, value.as_s().ok()?.clone()))).collect())
}

/// Lets the schedule of departures fire, and waits until what it queued is done.
async fn fire_schedule(town: &Town) {
    let sample = Path::new(town::ROOT).join("events/resume-departures.json");
    let fired = Samples::new(&town.api).send(&sample).await.unwrap();
    assert!(!fired.failed, "{}", fired.answer);
    town.settle().await;
}

/// Lets the time until the next round of a departure pass, and the schedule fire; and waits until that is done.
async fn next_round(town: &Town, person: &Person) {
    let (client, name) = table(town, "DeparturesTable");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let update = client.update_item().table_name(name).key("pk", text("departures"));
    let update = update.key("sk", text(&person.user_id())).condition_expression("attribute_exists(pk)");
    let update = update.update_expression("SET due = :past, not_before = :before");
    let update = update.expression_attribute_values(":past", text("0000000000001"));
    update.expression_attribute_values(":before", text("2020-01-01T00:00:00Z")).send().await.unwrap();
    fire_schedule(town).await;
}

#[tokio::test]
async fn an_export_has_everything_that_is_kept_of_a_person() {
    let town = Town::up().await;
    let (ada, bob, eve) = (town.follower("ada").await, town.follower("bob").await, town.person("eve").await);
    befriend(&ada, &bob).await;
    let blocked = eve.api.put(&format!("/v1/blocks/{}", ada.user_id()), &json!({})).await.unwrap();
    assert_eq!(blocked.status, 204);
    let mut posts = Vec::new();
    for title in ["one", "two", "three"] {
        posts.push(town.post(&ada, &fire(title)).await);
    }
    let bobs = town.post(&bob, &fire("bob's")).await;
    let flag = json!({"reason": "false", "note": "No smoke"});
    for (what, body) in [("confirmation", json!({})), ("flag", flag)] {
        let put = ada.api.put(&format!("/v1/posts/{bobs}/{what}"), &body).await.unwrap();
        assert_eq!(put.status, 204, "{}", put.body);
    }
    town.settle().await;

    let whole = export(&ada, 100).await;
    let one = |kind: &str| match whole.get(kind).map(Vec::as_slice) {
        Some([one]) => one.clone(),
        other => panic!("{kind}: {other:?}"),
    };
    assert_eq!(one("account")["email"], "ada@example.org");
    assert_eq!(one("account")["has_password"], true);
    assert_eq!(one("profile")["username"], "ada");
    assert!(one("session")["address"].is_string());
    assert_eq!(one("device")["token"], "adas-token");
    assert_eq!(one("subscription")["category"], "fire");
    let relations = &whole["relation"];
    let friend = relations.iter().find(|relation| relation["user_id"] == bob.user_id()).unwrap();
    assert_eq!((&friend["friendship"], &friend["blocked_since"]), (&json!("accepted"), &Value::Null));
    let hidden = relations.iter().find(|relation| relation["user_id"] == eve.user_id());
    assert_eq!(hidden, None, "nobody learns who blocks them");
    assert_eq!(one("notification")["read"], false);
    let delivery = &one("notification")["deliveries"][0];
    assert_eq!((&delivery["device_id"], &delivery["outcome"]), (&json!("adas-phone"), &json!("pushed")));
    assert_eq!(delivery["because"]["subscription_id"], one("subscription")["subscription_id"]);
    assert!(delivery["recorded_at"].is_string());
    let mut titles: Vec<_> = whole["post"].iter().map(|post| text(post, "title").unwrap()).collect();
    titles.sort();
    assert_eq!(titles, ["one", "three", "two"]);
    assert_eq!(one("confirmation")["post_id"], bobs);
    let flag = one("flag");
    assert_eq!(
        (&flag["post_id"], &flag["reason"], &flag["note"]),
        (&json!(bobs), &json!("false"), &json!("No smoke"))
    );
    let text_of_all = serde_json::to_string(&whole).unwrap();
    assert!(
        !text_of_all.contains("argon2") && !text_of_all.contains("bob's"),
        "no secret, and nothing of others"
    );

    for limit in [1, 2, 5] {
        assert_eq!(export(&ada, limit).await, whole, "by pages of {limit}");
    }
    let theirs = ada.api.get("/v1/users/me/export?limit=1").await.unwrap().expect(200).unwrap();
    let cursor = theirs["next_cursor"].as_str().unwrap();
    let refused = bob.api.get(&format!("/v1/users/me/export?cursor={cursor}")).await.unwrap();
    assert_eq!(refused.status, 400, "a cursor is its list's");
    assert_eq!(town.api.get("/v1/users/me/export").await.unwrap().status, 401);
    town.down().await;
}

#[tokio::test]
async fn who_leaves_is_gone_everywhere() {
    for (choice, remains) in [("anonymise", true), ("remove", false)] {
        let town = Town::up().await;
        let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
        befriend(&ada, &bob).await;
        // A kilometre away.
        let bobs = town.post(&bob, &post("A bell for Ada", "fire", 60.3972, 5.3420)).await;
        let confirmation = format!("/v1/posts/{bobs}/confirmation");
        assert_eq!(ada.api.put(&confirmation, &json!({})).await.unwrap().status, 204);
        let post_id = town.post(&ada, &fire("Smoke over Bryggen")).await;
        town.settle().await;
        assert_eq!(bob.api.timeline().await.unwrap().len(), 2);
        assert_eq!(count(&town, "ReactionsTable", &ada.user_id()).await, 2, "by post and by person");
        for kept in ["NotificationsTable", "DeliveriesTable"] {
            assert_eq!(count(&town, kept, &ada.user_id()).await, 1, "{kept}");
        }

        assert_eq!(town.api.delete("/v1/users/me").await.unwrap().status, 401);
        let left = ada.api.delete(&format!("/v1/users/me?posts={choice}")).await.unwrap();
        assert_eq!(left.status, 202, "{}", left.body);
        // At once.
        let login = json!({"email": "ada@example.org", "password": PASSWORD});
        assert_eq!(town.api.post("/v1/auth/login", &login).await.unwrap().status, 401);
        let renewal = town.api.with_token(&ada.session_token).post("/v1/auth/session", &json!({})).await;
        assert_eq!(renewal.unwrap().status, 401);
        town.settle().await;

        assert_eq!(count(&town, "ReactionsTable", &ada.user_id()).await, 0);
        let bobs = bob.api.get(&format!("/v1/posts/{bobs}")).await.unwrap().expect(200).unwrap();
        assert_eq!(bobs["confirmations"], 0);
        for kept in ["NotificationsTable", "DeliveriesTable"] {
            assert_eq!(count(&town, kept, &ada.user_id()).await, 0, "{kept}");
            assert_eq!(count(&town, kept, &bob.user_id()).await, 1, "nobody else's: {kept}");
        }
        let user = format!("/v1/users/{}", ada.user_id());
        assert_eq!(bob.api.get(&user).await.unwrap().status, 404);
        let friends = bob.api.get("/v1/friendships?state=accepted").await.unwrap().expect(200).unwrap();
        assert_eq!(friends["items"], json!([]));
        let found = bob.api.get("/v1/users/search?by=name&q=ada").await.unwrap().expect(200).unwrap();
        assert_eq!(found["items"], json!([]));

        let post = bob.api.get(&format!("/v1/posts/{post_id}")).await.unwrap();
        let near = bob.api.get("/v1/posts?lat=60.3972&lon=5.3238&radius_m=500").await.unwrap();
        let (near, timeline) = (near.expect(200).unwrap(), bob.api.timeline().await.unwrap());
        if remains {
            assert_eq!((post.status, &post.body["author"]), (200, &Value::Null));
            assert_eq!(near["items"][0]["author"], Value::Null);
            assert_eq!(timeline[0]["author"], Value::Null);
        } else {
            assert_eq!(post.status, 404);
            assert_eq!((&near["items"], titles(&timeline)), (&json!([]), vec!["A bell for Ada"]));
        }
        // A second time, as who did not get the answer; and the name and the address are free.
        assert_eq!(ada.api.delete("/v1/users/me").await.unwrap().status, 202);
        town.settle().await;
        let outbox = town.api.get("/_local/outbox").await.unwrap().expect(200).unwrap();
        let mails =
            outbox["emails"].as_array().unwrap().iter().filter(|mail| mail["to"] == "ada@example.org");
        let closed = mails.filter(|mail| mail["subject"] == "Your account was closed");
        assert_eq!(closed.count(), 1, "the owner is told, once");
        let again = town.person("ada").await;
        assert_ne!(again.user_id(), ada.user_id());
        let mine = export(&again, 100).await;
        assert_eq!(
            mine.keys().collect::<Vec<_>>(),
            ["account", "profile", "session"],
            "nothing is left of before"
        );
        // What is posted now rings no phone of who has left.
        town.post(&bob, &fire("A second fire")).await;
        town.settle().await;
        let rung = town.pushes().await.into_iter().filter(|(device, _)| device == "adas-phone");
        assert_eq!(rung.count(), 1, "for what came before");
        town.down().await;
    }
}

#[tokio::test]
async fn a_departure_comes_back_until_nothing_is_left() {
    let town = Town::up().await;
    // With a name that nothing else has in it by chance.
    let (ada, bob) = (town.follower("wilhelmina").await, town.follower("bob").await);
    befriend(&ada, &bob).await;
    town.post(&bob, &fire("A bell for Ada")).await;
    let shared = town.post(&ada, &fire("Look, Bob")).await;
    town.settle().await;
    let share = json!({"user_ids": [bob.user_id()]});
    let answer = ada.api.post(&format!("/v1/posts/{shared}/share"), &share).await.unwrap();
    assert!(answer.status < 300, "{}", answer.body);
    town.settle().await;
    let before = traces(&town, &ada).await;
    for kept in
        ["Users", "People", "Sessions", "Friendships", "Devices", "Subscriptions", "Notifications", "Posts"]
    {
        assert!(before.iter().any(|item| item.starts_with(kept)), "{kept}: {before:?}");
    }
    assert_eq!(ada.api.delete("/v1/users/me").await.unwrap().status, 202);
    town.settle().await;
    assert_eq!(departure(&town, &ada).await.unwrap()["round"], "second");
    // Nothing happens before its time, however often the schedule fires.
    fire_schedule(&town).await;
    assert_eq!(departure(&town, &ada).await.unwrap()["round"], "second");

    // The access token is good for nothing, unless Redis forgets that: what is done with it then is erased by the rounds
    // that follow.
    let refused = ada.api.post("/v1/posts", &fire("A ghost")).await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("account_closed")));
    let redis = redis::Client::open(town.stack.endpoints().redis_url.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let barred = format!("barred:{}", ada.user_id());
    let forgotten: u8 = redis::cmd("DEL").arg(barred).query_async(&mut redis).await.unwrap();
    assert_eq!(forgotten, 1);
    for round in ["last", "no more"] {
        let post_id = town.post(&ada, &fire("Still here")).await;
        let device = json!({"platform": "fcm", "token": "adas-second-token"});
        assert_eq!(ada.api.put("/v1/devices/second-phone", &device).await.unwrap().status, 201);
        town.settle().await;
        town.post(&bob, &fire("A bell for the second phone")).await;
        town.settle().await;
        assert_eq!(count(&town, "DevicesTable", &ada.user_id()).await, 1);
        let before = bob.api.get(&format!("/v1/posts/{post_id}")).await.unwrap();
        assert_eq!(before.body["author"]["user_id"], ada.user_id(), "{}", before.body);

        next_round(&town, &ada).await;
        let after = bob.api.get(&format!("/v1/posts/{post_id}")).await.unwrap();
        assert_eq!((after.status, &after.body["author"]), (200, &Value::Null));
        assert_eq!(count(&town, "DevicesTable", &ada.user_id()).await, 0);
        let stored = departure(&town, &ada).await;
        assert_eq!(stored.as_ref().map_or("no more", |stored| stored["round"].as_str()), round);
    }
    // What was shared with others is in their inboxes, with the id of who shared it, until it expires. That is all.
    let (ada_id, bob_id) = (ada.user_id(), bob.user_id());
    let remains = BTreeSet::from([format!("NotificationsTable {bob_id} shared.{shared}.{ada_id}")]);
    assert_eq!(traces(&town, &ada).await, remains);
    town.down().await;
}
