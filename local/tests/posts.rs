//! The life of a post after it was posted: edited, ended, deleted, by whom it is whose to do so.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use local::api_client::{Answer, Person};
use reqwest::Method;
use serde_json::{Value, json};
use town::{Town, fire, titles};

async fn patch(person: &Person, post_id: &str, body: &Value) -> Answer {
    person.api.patch(&format!("/v1/posts/{post_id}"), body).await.unwrap()
}

async fn act(person: &Person, post_id: &str, action: &str) -> Answer {
    let path = format!("/v1/posts/{post_id}/{action}");
    person.api.send(Method::POST, &path, None).await.unwrap()
}

async fn read(person: &Person, post_id: &str) -> Answer {
    person.api.get(&format!("/v1/posts/{post_id}")).await.unwrap()
}

#[tokio::test]
async fn an_edited_post_is_so_at_once_for_its_author_and_then_for_everybody() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.follower("bob").await);
    // She follows floods in another street.
    let cleo = town.person("cleo").await;
    let area = json!({"lat": 60.43, "lon": 5.3245, "radius_m": 1_000});
    let wish = json!({"category": "flood", "area": area, "min_severity": "severe"});
    cleo.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
    assert!(cleo.api.timeline().await.unwrap().is_empty());
    let post_id = town.post(&ada, &fire("Smoke")).await;
    town.settle().await;
    assert_eq!(titles(&bob.api.timeline().await.unwrap()), ["Smoke"]);

    let body = json!({"title": "Thick smoke", "body": "From a roof.", "severity": "moderate"});
    let edited = patch(&ada, &post_id, &body).await.expect(200).unwrap();
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&edited[field], value, "{field}");
    }
    assert_eq!((&edited["revision"], &edited["category"]), (&json!(1), &json!("fire")));
    assert!(edited["updated_at"].as_str() > edited["created_at"].as_str());
    assert_eq!(read(&ada, &post_id).await.expect(200).unwrap(), edited);
    // Said again, it is another edit of the same: what is at hand may be older than what the log has.
    let again = patch(&ada, &post_id, &body).await.expect(200).unwrap();
    assert_eq!((&again["title"], &again["revision"]), (&edited["title"], &json!(2)));
    // Right after, with what was just said as it is.
    let cleared = patch(&ada, &post_id, &json!({"body": null})).await.expect(200).unwrap();
    assert_eq!((&cleared["body"], &cleared["title"]), (&Value::Null, &json!("Thick smoke")));
    town.settle().await;
    for reader in [&ada, &bob] {
        assert_eq!(read(reader, &post_id).await.expect(200).unwrap(), cleared);
    }
    let timeline = bob.api.timeline().await.unwrap();
    assert_eq!((titles(&timeline), &timeline[0]["severity"]), (vec!["Thick smoke"], &json!("moderate")));
    let near = "/v1/posts?lat=60.3972&lon=5.3238&radius_m=500&category=fire";
    let listed = bob.api.get(near).await.unwrap().expect(200).unwrap();
    assert_eq!(titles(listed["items"].as_array().unwrap()), ["Thick smoke"]);

    // What it is, and where, may change as well: then it is others' to know.
    let body =
        json!({"category": "flood", "severity": "severe", "location": {"lat": 60.4305, "lon": 5.3238}});
    patch(&ada, &post_id, &body).await.expect(200).unwrap();
    town.settle().await;
    assert_eq!(titles(&cleo.api.timeline().await.unwrap()), ["Thick smoke"]);
    assert!(bob.api.timeline().await.unwrap().is_empty());
    let listed = bob.api.get(near).await.unwrap().expect(200).unwrap();
    assert_eq!(listed["items"], json!([]));
    town.down().await;
}

#[tokio::test]
async fn a_post_ends_once_and_a_deleted_one_is_gone() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.follower("bob").await);
    let resolved = town.post(&ada, &fire("Smoke")).await;
    let cancelled = town.post(&ada, &fire("Sirens")).await;
    let deleted = town.post(&ada, &fire("A mistake")).await;
    town.settle().await;
    assert_eq!(bob.api.timeline().await.unwrap().len(), 3);

    for (post_id, action, status, other) in
        [(&resolved, "resolve", "resolved", "cancel"), (&cancelled, "cancel", "cancelled", "resolve")]
    {
        let ended = act(&ada, post_id, action).await.expect(200).unwrap();
        assert_eq!((&ended["status"], &ended["revision"]), (&json!(status), &json!(1)));
        assert_eq!(act(&ada, post_id, action).await.expect(200).unwrap(), ended, "it has ended so");
        let refused = act(&ada, post_id, other).await;
        assert_eq!((refused.status, &refused.body["code"]), (409, &json!("post_ended")));
    }
    let delete =
        async |person: &Person| person.api.delete(&format!("/v1/posts/{deleted}")).await.unwrap().status;
    assert_eq!(delete(&ada).await, 204);
    assert_eq!((read(&ada, &deleted).await.status, delete(&ada).await), (404, 404));
    town.settle().await;
    assert_eq!(read(&bob, &deleted).await.status, 404);
    let timeline = bob.api.timeline().await.unwrap();
    let stands: Vec<_> = timeline.iter().map(|item| (&item["title"], &item["status"])).collect();
    let (smoke, sirens) = (json!("Smoke"), json!("Sirens"));
    assert_eq!(stands, [(&sirens, &json!("cancelled")), (&smoke, &json!("resolved"))]);
    town.down().await;
}

#[tokio::test]
async fn only_its_author_and_moderators_change_a_post() {
    let town = Town::up().await;
    let (ada, eve, blocked) =
        (town.person("ada").await, town.person("eve").await, town.person("mallory").await);
    let moderator = town.moderator("hedy").await;
    let post_id = town.post(&ada, &fire("Smoke")).await;
    let block = format!("/v1/blocks/{}", blocked.user_id());
    assert_eq!(ada.api.send(Method::PUT, &block, None).await.unwrap().status, 204);
    let nobodys = "0197f5b0-0000-7000-8000-000000000000";
    for (method, action, body) in [
        (Method::PATCH, "", Some(json!({"title": "Mine"}))),
        (Method::POST, "/resolve", None),
        (Method::POST, "/cancel", None),
        (Method::DELETE, "", None),
    ] {
        for (api, post_id, status, code) in [
            (&town.api, post_id.as_str(), 401, "token_missing"),
            (&eve.api, &post_id, 403, "not_your_post"),
            (&blocked.api, &post_id, 404, "not_found"),
            (&eve.api, nobodys, 404, "not_found"),
            (&moderator.api, nobodys, 404, "not_found"),
        ] {
            let path = format!("/v1/posts/{post_id}{action}");
            let refused = api.send(method.clone(), &path, body.as_ref()).await.unwrap();
            assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)), "{method} {path}");
        }
    }
    for (body, pointer, code) in [
        (json!({"title": null}), "/title", "wrong_type"),
        (json!({"severity": "awful"}), "/severity", "not_in_list"),
        (json!({"category": "weddings"}), "/category", "unknown_category"),
        (json!({"ends_at": "2020-01-01T00:00:00Z"}), "/ends_at", "out_of_range"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "/expires_at", "out_of_range"),
        (json!({"status": "resolved"}), "/status", "unknown_field"),
        (json!({"location": {"lat": 91, "lon": 0}}), "/location/lat", "out_of_range"),
    ] {
        let refused = patch(&ada, &post_id, &body).await.expect(422).unwrap();
        let error = &refused["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{refused}");
    }
    assert_eq!(read(&ada, &post_id).await.expect(200).unwrap()["revision"], 0);
    // Moderators may, also where the author hides from them.
    let block = format!("/v1/blocks/{}", moderator.user_id());
    assert_eq!(ada.api.send(Method::PUT, &block, None).await.unwrap().status, 204);
    patch(&moderator, &post_id, &json!({"tags": ["smoke"]})).await.expect(200).unwrap();
    act(&moderator, &post_id, "cancel").await.expect(200).unwrap();
    assert_eq!(moderator.api.delete(&format!("/v1/posts/{post_id}")).await.unwrap().status, 204);
    assert_eq!(read(&ada, &post_id).await.status, 404);
    town.down().await;
}

/// What was pushed, in order: to which device, and what it was called.
async fn rung(town: &Town) -> Vec<(String, String)> {
    let outbox = town.stack.outbox().unwrap().read().await.unwrap();
    let one = |push: &Value| {
        let device = push["device_id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (device, local::scenario::find(&push["payload"], "title").unwrap())
    };
    outbox["pushes"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn phones_ring_for_what_matters_and_once_for_each() {
    let town = Town::up().await;
    let (ada, bob) = (town.person("ada").await, town.follower("bob").await);
    // She only wants to be rung for what is severe.
    let cleo = town.follower("cleo").await;
    let mine = cleo.api.get("/v1/subscriptions").await.unwrap().expect(200).unwrap();
    let path = format!("/v1/subscriptions/{}", mine["items"][0]["subscription_id"].as_str().unwrap());
    cleo.api.patch(&path, &json!({"min_severity": "severe"})).await.unwrap().expect(200).unwrap();
    let post_id = town.post(&ada, &fire("Smoke")).await;
    town.settle().await;
    let mut expected = vec![("bobs-phone".to_owned(), "Smoke".to_owned())];
    assert_eq!(rung(&town).await, expected);

    // What is only said otherwise rings nobody.
    for body in [json!({"title": "Thick smoke"}), json!({"severity": "minor"})] {
        patch(&ada, &post_id, &body).await.expect(200).unwrap();
    }
    town.settle().await;
    // It was unknown how bad it is: that it is minor is worse than nothing said.
    expected.push(("bobs-phone".to_owned(), "Worse: Thick smoke".to_owned()));
    assert_eq!(rung(&town).await, expected);
    patch(&ada, &post_id, &json!({"severity": "severe"})).await.expect(200).unwrap();
    town.settle().await;
    let mut now = rung(&town).await.split_off(2);
    now.sort();
    let severe =
        ["bobs-phone", "cleos-phone"].map(|phone| (phone.to_owned(), "Now severe: Thick smoke".to_owned()));
    assert_eq!(now, severe);

    // Who unsubscribes is told that it is over all the same: they were told of it.
    assert_eq!(cleo.api.delete(&path).await.unwrap().status, 204);
    act(&ada, &post_id, "resolve").await.expect(200).unwrap();
    act(&ada, &post_id, "resolve").await.expect(200).unwrap();
    town.settle().await;
    let mut now = rung(&town).await.split_off(4);
    now.sort();
    let over = ["bobs-phone", "cleos-phone"].map(|phone| (phone.to_owned(), "Over: Thick smoke".to_owned()));
    assert_eq!(now, over);
    // One of each news, however often the log is read.
    let inbox = bob.api.get("/v1/notifications").await.unwrap().expect(200).unwrap();
    assert_eq!(inbox["items"].as_array().map(Vec::len), Some(1));
    town.down().await;
}

#[tokio::test]
async fn a_post_with_an_area_is_everybodys_whose_area_meets_it() {
    let town = Town::up().await;
    let (ada, near, far) = (town.person("ada").await, town.person("near").await, town.person("far").await);
    // Both live away from where it is pinned, and one of them within what it covers.
    for (person, lat) in [(&near, 60.48), (&far, 60.56)] {
        let area = json!({"lat": lat, "lon": 5.32, "radius_m": 500});
        let wish = json!({"category": "flood", "area": area});
        person.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
        assert!(person.api.timeline().await.unwrap().is_empty());
    }
    let corner = |lat: f64, lon: f64| json!({"lat": lat, "lon": lon});
    let valley = json!({"points": [corner(60.39, 5.31), corner(60.39, 5.33), corner(60.49, 5.33), corner(60.49, 5.31)]});
    let mut flood = town::post("The river rises", "flood", 60.4, 5.32);
    flood["area"] = json!({"polygons": [valley]});
    let post_id = town.post(&ada, &flood).await;
    let area = json!({"circles": [], "polygons": [valley]});
    assert_eq!(read(&ada, &post_id).await.expect(200).unwrap()["area"], area);
    town.settle().await;
    assert_eq!(titles(&near.api.timeline().await.unwrap()), ["The river rises"]);
    assert!(far.api.timeline().await.unwrap().is_empty());
    let around = async |lat: f64| {
        let path = format!("/v1/posts?lat={lat}&lon=5.32&radius_m=500");
        let listed = near.api.get(&path).await.unwrap().expect(200).unwrap();
        listed["items"].as_array().unwrap().iter().map(|item| item["distance_m"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(around(60.45).await, [json!(0.0)], "it is there");
    let [distance] = &around(60.493).await[..] else { panic!("it is near") };
    assert!((distance.as_f64().unwrap() - 333.0).abs() < 5.0, "{distance}");
    assert_eq!(around(60.51).await, Vec::<Value>::new());

    // It grows, and is no more than a point again.
    let circle = json!({"lat": 60.5, "lon": 5.32, "radius_m": 8_000});
    patch(&ada, &post_id, &json!({"area": {"circles": [circle]}})).await.expect(200).unwrap();
    town.settle().await;
    assert_eq!(titles(&far.api.timeline().await.unwrap()), ["The river rises"]);
    let cleared = patch(&ada, &post_id, &json!({"area": null})).await.expect(200).unwrap();
    assert_eq!(cleared["area"], Value::Null);
    town.settle().await;
    assert!(near.api.timeline().await.unwrap().is_empty() && far.api.timeline().await.unwrap().is_empty());
    assert_eq!(around(60.45).await, Vec::<Value>::new());

    // Nobody rings a whole country.
    for area in [
        json!({"lat": 61.5, "lon": 5.32, "radius_m": 50}),
        json!({"lat": 60.4, "lon": 5.4, "radius_m": 100_000}),
    ] {
        flood["area"] = json!({"circles": [area]});
        let refused = ada.api.post("/v1/posts", &flood).await.unwrap();
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!("/area")));
        let refused = patch(&ada, &post_id, &json!({"area": flood["area"]})).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!("/area")));
    }
    town.down().await;
}

#[tokio::test]
async fn its_author_sees_what_became_of_its_pushes() {
    let town = Town::up().await;
    let (ada, eve) = (town.person("ada").await, town.person("eve").await);
    let moderator = town.moderator("mod").await;
    let (bob, cleo) = (town.follower("bob").await, town.follower("cleo").await);
    let muted = json!({"min_severity": "severe"});
    cleo.api.put("/v1/notification-preferences", &muted).await.unwrap().expect(200).unwrap();
    let wish = json!({"category": "fire"});
    eve.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
    let post_id = town.post(&ada, &fire("Smoke")).await;
    let path = format!("/v1/posts/{post_id}/deliveries");
    let deliveries = async |person: &Person| person.api.get(&path).await.unwrap();
    town.settle().await;

    let none = json!({"pushed": 0, "digested": 0, "device_gone": 0, "under_way": 0, "failed": 0});
    let nobody = json!({"muted_severity": 0, "muted_category": 0, "no_device": 0, "held": 0, "dropped": 0});
    let count = |of: &Value, name: &str, count: u64| {
        let mut of = of.clone();
        of[name] = json!(count);
        of
    };
    let posted = json!({
        "news": "posted", "devices": count(&none, "pushed", 1),
        "people": count(&count(&nobody, "muted_severity", 1), "no_device", 1),
    });
    assert_eq!(deliveries(&ada).await.expect(200).unwrap(), json!({"post_id": post_id, "news": [posted]}));
    patch(&ada, &post_id, &json!({"severity": "extreme"})).await.expect(200).unwrap();
    town.settle().await;
    let raised = json!({
        "news": "raised-extreme", "devices": count(&none, "pushed", 2), "people": count(&nobody, "no_device", 1),
    });
    for person in [&ada, &moderator] {
        assert_eq!(deliveries(person).await.expect(200).unwrap()["news"], json!([posted, raised]));
    }
    for person in [&bob, &eve] {
        let refused = deliveries(person).await;
        assert_eq!((refused.status, &refused.body["code"]), (403, &json!("not_your_post")));
    }
    assert_eq!(town.pushes().await.len(), 3);
    town.down().await;
}
