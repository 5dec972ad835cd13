//! Friends, blocks, sharing and inboxes, through the front door.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use futures::future::join_all;
use local::api_client::{Answer, ApiClient, Person};
use reqwest::Method;
use serde_json::{Value, json};
use town::{Town, fire, titles};

async fn ask(me: &Person, other: &Person) -> Answer {
    me.api.post("/v1/friendships", &json!({"user_id": other.user_id()})).await.unwrap()
}

async fn state(me: &Person, other: &Person) -> Value {
    let path = format!("/v1/friendships/{}", other.user_id());
    me.api.get(&path).await.unwrap().expect(200).unwrap()["state"].clone()
}

async fn befriend(one: &Person, other: &Person) {
    ask(one, other).await.expect(201).unwrap();
    assert_eq!(ask(other, one).await.expect(201).unwrap(), json!({"state": "accepted"}));
}

async fn block(me: &Person, other: &Person) {
    let put = me.api.send(Method::PUT, &format!("/v1/blocks/{}", other.user_id()), None).await.unwrap();
    assert_eq!(put.status, 204, "{}", put.body);
}

async fn unblock(me: &Person, other: &Person) {
    assert_eq!(me.api.delete(&format!("/v1/blocks/{}", other.user_id())).await.unwrap().status, 204);
}

/// All items of a list, by pages of two.
async fn all(api: &ApiClient, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    let mark = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = api.get(&format!("{path}{mark}limit=2{cursor}")).await.unwrap().expect(200).unwrap();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["username"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn people_ask_answer_and_part() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let friends = [town.person("cleo").await, town.person("dan").await, town.person("eli").await];
    let (adas, bobs) =
        (format!("/v1/friendships/{}", bob.user_id()), format!("/v1/friendships/{}", ada.user_id()));

    assert_eq!(state(&ada, &bob).await, "none");
    let early = bob.api.post(&format!("{bobs}/accept"), &json!({})).await.unwrap().expect(409).unwrap();
    assert_eq!(early["code"], "no_friendship_request");
    for _ in 0..2 {
        let asked = ask(&ada, &bob).await;
        assert_eq!(asked.header("location"), Some(adas.as_str()));
        assert_eq!(asked.expect(201).unwrap(), json!({"state": "outgoing"}));
        assert_eq!(
            (state(&ada, &bob).await, state(&bob, &ada).await),
            (json!("outgoing"), json!("incoming"))
        );
    }
    assert_eq!(names(&all(&bob.api, "/v1/friendships?state=incoming").await), ["ada"]);
    assert_eq!(names(&all(&ada.api, "/v1/friendships?state=outgoing").await), ["bob"]);
    // Another cannot answer in his place, or withdraw in hers.
    let hers = format!("/v1/friendships/{}", ada.user_id());
    let stranger = &friends[0];
    assert_eq!(stranger.api.post(&format!("{hers}/accept"), &json!({})).await.unwrap().status, 409);
    for path in [&hers, &adas] {
        assert_eq!(stranger.api.delete(path).await.unwrap().status, 204, "there is nothing between them");
    }
    assert_eq!((state(&ada, &bob).await, state(stranger, &ada).await), (json!("outgoing"), json!("none")));
    // Refused, asked again, taken; twice each.
    for _ in 0..2 {
        assert_eq!(bob.api.delete(&bobs).await.unwrap().status, 204);
    }
    assert_eq!((state(&ada, &bob).await, state(&bob, &ada).await), (json!("none"), json!("none")));
    ask(&ada, &bob).await.expect(201).unwrap();
    for _ in 0..2 {
        let taken = bob.api.post(&format!("{bobs}/accept"), &json!({})).await.unwrap().expect(200).unwrap();
        assert_eq!(taken, json!({"state": "accepted"}));
    }
    for friend in &friends {
        befriend(&ada, friend).await;
    }
    befriend(&bob, &friends[0]).await;
    befriend(&bob, &friends[1]).await;

    let mine = all(&ada.api, "/v1/friendships?state=accepted").await;
    assert_eq!(names(&mine), ["eli", "dan", "cleo", "bob"], "the newest first");
    assert!(mine.iter().all(|item| item["friendship"] == "accepted" && item["since"].is_string()));
    let his = format!("/v1/users/{}", bob.user_id());
    let page = ada.api.get(&format!("{his}/friends")).await.unwrap().expect(200).unwrap();
    assert_eq!(page["total"], 3);
    let mut seen: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["username"].clone(), item["friendship"].clone()))
        .collect();
    seen.sort_by_key(|(name, _)| name.to_string());
    let expected = [("ada", "none"), ("cleo", "accepted"), ("dan", "accepted")];
    assert_eq!(seen, expected.map(|(name, friendship)| (json!(name), json!(friendship))));
    let mut mutual = all(&ada.api, &format!("{his}/mutual-friends")).await;
    mutual.sort_by_key(|item| item["username"].to_string());
    assert_eq!(names(&mutual), ["cleo", "dan"]);
    let kept = json!({"visibility": {"friends": "nobody"}});
    bob.api.patch("/v1/users/me", &kept).await.unwrap().expect(200).unwrap();
    for list in ["friends", "mutual-friends"] {
        let refused = ada.api.get(&format!("{his}/{list}")).await.unwrap().expect(403).unwrap();
        assert_eq!(refused["code"], "friends_not_shown");
        assert_eq!(bob.api.get(&format!("{his}/{list}")).await.unwrap().status, 200, "to himself");
    }

    assert_eq!(ada.api.delete(&adas).await.unwrap().status, 204);
    assert_eq!((state(&ada, &bob).await, state(&bob, &ada).await), (json!("none"), json!("none")));

    // Nobody befriends themselves, or nobody.
    let oneself = ask(&ada, &ada).await.expect(422).unwrap();
    assert_eq!(
        (&oneself["errors"][0]["pointer"], &oneself["errors"][0]["code"]),
        (&json!("/user_id"), &json!("oneself"))
    );
    let mine = format!("/v1/blocks/{}", ada.user_id());
    assert_eq!(ada.api.send(Method::PUT, &mine, None).await.unwrap().status, 422);
    let nobody = json!({"user_id": "0197f5b0-0000-7000-8000-000000000000"});
    assert_eq!(ada.api.post("/v1/friendships", &nobody).await.unwrap().status, 404);
    assert_eq!(ada.api.get("/v1/friendships?state=best").await.unwrap().status, 400);
    assert_eq!(ada.api.get("/v1/friendships").await.unwrap().status, 400);
    town.down().await;
}

#[tokio::test]
async fn fifty_crossing_requests_end_in_one_friendship() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.person("bob").await);
    let pairs = [(&ada, &bob), (&bob, &ada)];
    let asked = join_all((0..50).map(|number| {
        let (me, other) = pairs[number % 2];
        ask(me, other)
    }));
    for answer in asked.await {
        let made = answer.expect(201).unwrap();
        assert!(made["state"] == "outgoing" || made["state"] == "accepted", "{made}");
    }
    for (me, other) in pairs {
        assert_eq!(state(me, other).await, "accepted");
        assert_eq!(names(&all(&me.api, "/v1/friendships?state=accepted").await), [other.username.as_str()]);
        let friends = me.api.get(&format!("/v1/users/{}/friends", other.user_id())).await.unwrap();
        assert_eq!(friends.expect(200).unwrap()["total"], 1);
    }
    town.down().await;
}

/// Every route about a person, and what it answers about one who is not there.
fn routes_about(id: &str) -> Vec<(Method, String, Option<Value>, u16)> {
    vec![
        (Method::GET, format!("/v1/friendships/{id}"), None, 404),
        (Method::POST, "/v1/friendships".to_owned(), Some(json!({"user_id": id})), 404),
        (Method::POST, format!("/v1/friendships/{id}/accept"), None, 404),
        (Method::DELETE, format!("/v1/friendships/{id}"), None, 204),
        (Method::GET, format!("/v1/users/{id}/friends"), None, 404),
        (Method::GET, format!("/v1/users/{id}/mutual-friends"), None, 404),
        (Method::DELETE, format!("/v1/blocks/{id}"), None, 204),
    ]
}

#[tokio::test]
async fn somebody_who_blocks_is_like_nobody() {
    let town = Town::up().await;
    let (ada, eve) = (town.follower("ada").await, town.follower("eve").await);
    let bob = town.person("bob").await;
    for friend in [&ada, &eve] {
        befriend(friend, &bob).await;
    }
    befriend(&ada, &eve).await;
    let adas = town.post(&ada, &fire("Smoke, says Ada")).await;
    let eves = town.post(&eve, &fire("Smoke, says Eve")).await;
    town.post(&bob, &fire("Smoke, says Bob")).await;
    town.settle().await;
    let timeline = async |who: &Person| {
        let items = who.api.timeline().await.unwrap();
        let mut titles: Vec<_> = titles(&items).into_iter().map(str::to_owned).collect();
        titles.sort();
        titles
    };
    let near = async |who: &Person| {
        let page = who.api.get("/v1/posts?lat=60.3975&lon=5.3245&radius_m=3000").await.unwrap();
        page.expect(200).unwrap()["items"].as_array().unwrap().len()
    };
    for who in [&ada, &eve] {
        assert_eq!((timeline(who).await.len(), near(who).await), (3, 3));
        assert_eq!(all(&who.api, "/v1/notifications").await.len(), 2, "of the posts of others");
    }

    block(&ada, &eve).await;
    block(&ada, &eve).await;
    assert_eq!(names(&all(&ada.api, "/v1/blocks").await), ["eve"]);
    assert_eq!(all(&eve.api, "/v1/blocks").await, [Value::Null; 0], "that she is blocked is not told");
    // Neither sees the other: also not from the caches that have been read just before.
    for (me, own, own_id, other) in
        [(&ada, "Smoke, says Ada", &adas, &eve), (&eve, "Smoke, says Eve", &eves, &ada)]
    {
        let mut expected = ["Smoke, says Bob", own];
        expected.sort_unstable();
        assert_eq!(timeline(me).await, expected);
        assert_eq!(near(me).await, 2);
        assert_eq!(all(&me.api, "/v1/notifications").await.len(), 1);
        assert_eq!(names(&all(&me.api, "/v1/friendships?state=accepted").await), ["bob"]);
        let bobs = me.api.get(&format!("/v1/users/{}/friends", bob.user_id())).await.unwrap().expect(200);
        let bobs = bobs.unwrap();
        assert_eq!((&bobs["total"], &bobs["items"][0]["username"]), (&json!(1), &json!(me.username)));
        assert_eq!(me.api.get(&format!("/v1/users/{}", other.user_id())).await.unwrap().status, 404);
        let share = json!({"user_ids": [bob.user_id(), other.user_id()]});
        let refused = me.api.post(&format!("/v1/posts/{own_id}/share"), &share).await.unwrap().expect(422);
        let error = refused.unwrap()["errors"][0].clone();
        assert_eq!((&error["pointer"], &error["code"]), (&json!("/user_ids/1"), &json!("not_a_friend")));
    }
    for path in [format!("/v1/posts/{adas}"), format!("/v1/posts/{adas}/share")] {
        let method = if path.ends_with("share") { Method::POST } else { Method::GET };
        let body = (method == Method::POST).then(|| json!({"user_ids": [bob.user_id()]}));
        assert_eq!(eve.api.send(method, &path, body.as_ref()).await.unwrap().status, 404, "{path}");
    }
    // Each route answers to her about Ada as about nobody, and without a token about nobody.
    let nobody = "0197f5b0-0000-7000-8000-000000000000";
    for ((method, about_ada, body, status), (_, about_nobody, other_body, _)) in
        routes_about(&ada.user_id()).into_iter().zip(routes_about(nobody))
    {
        let hers = eve.api.send(method.clone(), &about_ada, body.as_ref()).await.unwrap();
        let nobodys = eve.api.send(method.clone(), &about_nobody, other_body.as_ref()).await.unwrap();
        assert_eq!((hers.status, nobodys.status), (status, status), "{method} {about_ada}: {}", hers.body);
        assert_eq!(
            (&hers.body["code"], &hers.body["detail"]),
            (&nobodys.body["code"], &nobodys.body["detail"])
        );
        assert_eq!(
            town.api.send(method, &about_ada, body.as_ref()).await.unwrap().status,
            401,
            "{about_ada}"
        );
    }
    for (method, path) in [
        (Method::GET, "/v1/friendships?state=accepted"),
        (Method::GET, "/v1/blocks"),
        (Method::GET, "/v1/notifications"),
        (Method::POST, "/v1/notifications/read"),
        (Method::POST, "/v1/posts/0197f5b0-0000-7000-8000-000000000000/share"),
    ] {
        assert_eq!(town.api.send(method, path, Some(&json!({}))).await.unwrap().status, 401, "{path}");
    }
    // What is posted from now on does not reach the other.
    let before = town.pushes().await.len();
    town.post(&ada, &fire("Flames, says Ada")).await;
    town.settle().await;
    assert_eq!(town.pushes().await.len(), before);
    assert_eq!(timeline(&eve).await, ["Smoke, says Bob", "Smoke, says Eve"]);

    // Only she who blocked can end it.
    unblock(&eve, &ada).await;
    assert_eq!(timeline(&eve).await.len(), 2);
    // The other may block as well: there is nobody to block for them but her, and then each ends their own alone.
    let block_of = |id: &str| format!("/v1/blocks/{id}");
    assert_eq!(eve.api.put(&block_of(nobody), &json!({})).await.unwrap().status, 404);
    assert_eq!(town.api.put(&block_of(&ada.user_id()), &json!({})).await.unwrap().status, 401);
    block(&eve, &ada).await;
    let [blocked] = &all(&eve.api, "/v1/blocks").await[..] else { panic!("one") };
    assert_eq!((&blocked["user_id"], &blocked["username"]), (&json!(ada.user_id()), &Value::Null));
    unblock(&ada, &eve).await;
    assert_eq!(names(&all(&eve.api, "/v1/blocks").await), ["ada"], "who does not block shows who they are");
    assert_eq!((timeline(&eve).await.len(), timeline(&ada).await.len()), (2, 3), "each their own, and Bob's");
    // When both have ended, the posts are there again, but not the friendship.
    unblock(&eve, &ada).await;
    unblock(&eve, &ada).await;
    assert_eq!((timeline(&eve).await.len(), timeline(&ada).await.len()), (4, 4));
    assert_eq!((state(&ada, &eve).await, state(&eve, &ada).await), (json!("none"), json!("none")));
    town.down().await;
}

#[tokio::test]
async fn what_is_pushed_and_shared_is_in_the_inbox_once() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
    let (cleo, eve) = (town.person("cleo").await, town.person("eve").await);
    let device = json!({"platform": "apns", "token": "c1e0"});
    cleo.api.put("/v1/devices/cleos-phone", &device).await.unwrap().expect(201).unwrap();
    befriend(&bob, &cleo).await;
    befriend(&bob, &ada).await;
    let post_id = town.post(&ada, &fire("Smoke over Bryggen")).await;
    town.settle().await;

    let [pushed] = &all(&bob.api, "/v1/notifications").await[..] else { panic!("one") };
    assert_eq!(pushed["notification_id"], format!("pushed.{post_id}"));
    assert_eq!((&pushed["kind"], &pushed["read"]), (&json!("pushed"), &json!(false)));
    assert_eq!(
        (&pushed["post"]["title"], &pushed["post"]["severity"]),
        (&json!("Smoke over Bryggen"), &json!("unknown"))
    );
    let wishes = bob.api.get("/v1/subscriptions").await.unwrap().expect(200).unwrap();
    assert_eq!(pushed["because"], json!({"subscription_id": wishes["items"][0]["subscription_id"]}));
    assert_eq!(all(&ada.api, "/v1/notifications").await, [Value::Null; 0], "not of her own");

    // Shared: with friends alone, all or none, and once.
    let share = async |ids: Value| {
        let path = format!("/v1/posts/{post_id}/share");
        bob.api.post(&path, &json!({"user_ids": ids})).await.unwrap()
    };
    let refused = share(json!([cleo.user_id(), eve.user_id()])).await.expect(422).unwrap();
    let error = &refused["errors"][0];
    assert_eq!((&error["pointer"], &error["code"]), (&json!("/user_ids/1"), &json!("not_a_friend")));
    assert_eq!(all(&cleo.api, "/v1/notifications").await, [Value::Null; 0]);
    for _ in 0..2 {
        let shared = share(json!([cleo.user_id(), ada.user_id()])).await;
        assert_eq!(shared.status, 204, "{}", shared.body);
        town.settle().await;
    }
    let inbox = all(&cleo.api, "/v1/notifications").await;
    assert_eq!(inbox.len(), 1);
    assert_eq!(
        (&inbox[0]["kind"], &inbox[0]["because"]),
        (&json!("shared"), &json!({"shared_by": bob.user_id()}))
    );
    let mut rung: Vec<_> = town.pushes().await;
    rung.sort();
    // The author, too, since a friend wants her to see it.
    let expected =
        ["adas-phone", "bobs-phone", "cleos-phone"].map(|device| (device.to_owned(), post_id.clone()));
    assert_eq!(rung, expected, "each phone once");

    // Read, by id and by time; another's is passed over.
    let read =
        async |who: &Person, body: Value| who.api.post("/v1/notifications/read", &body).await.unwrap().status;
    let unread = async |who: &Person| {
        let items = all(&who.api, "/v1/notifications").await;
        items.iter().filter(|item| item["read"] == false).count()
    };
    let id = &inbox[0]["notification_id"];
    assert_eq!(read(&bob, json!({"notification_ids": [id]})).await, 204);
    assert_eq!((unread(&bob).await, unread(&cleo).await), (1, 1), "hers is not his to read");
    assert_eq!(read(&cleo, json!({"notification_ids": [id]})).await, 204);
    assert_eq!(unread(&cleo).await, 0);
    assert_eq!(read(&bob, json!({"until": pushed["created_at"]})).await, 204);
    assert_eq!(unread(&bob).await, 0);
    assert_eq!(all(&bob.api, "/v1/notifications").await.len(), 1, "marking makes none");
    for bad in [
        json!({}),
        json!({"until": "now"}),
        json!({"notification_ids": ["x"]}),
        json!({"until": null, "x": 1}),
    ] {
        assert_eq!(read(&bob, bad).await, 422);
    }
    let cursor = ada.api.get("/v1/notifications?cursor=AAAA").await.unwrap().expect(400).unwrap();
    assert_eq!(cursor["errors"][0]["code"], "invalid_cursor");
    town.down().await;
}
