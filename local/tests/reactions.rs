//! What others say of a post: that they see it too, and that it should not stand; and what moderators decide.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::num::NonZeroU32;

use local::api_client::{Answer, ApiClient, Person};
use reqwest::Method;
use serde_json::{Value, json};
use town::{Town, fire, titles};

/// A town in which few flags withhold a post.
async fn town(flags_to_withhold: u32) -> Town {
    let flags = NonZeroU32::new(flags_to_withhold).unwrap();
    Town::with(&[("FlagsToWithhold", flags.to_string())]).await
}

async fn confirm(api: &ApiClient, method: Method, post_id: &str) -> Answer {
    api.send(method, &format!("/v1/posts/{post_id}/confirmation"), None).await.unwrap()
}

async fn flag(api: &ApiClient, post_id: &str, body: &Value) -> Answer {
    api.put(&format!("/v1/posts/{post_id}/flag"), body).await.unwrap()
}

async fn decide(api: &ApiClient, post_id: &str, decision: &str) -> Answer {
    api.put(&format!("/v1/moderation/posts/{post_id}"), &json!({"decision": decision})).await.unwrap()
}

async fn read(person: &Person, post_id: &str) -> Answer {
    person.api.get(&format!("/v1/posts/{post_id}")).await.unwrap()
}

/// What somebody sees of posts, everywhere: the titles near, in the timeline and in the inbox.
async fn seen(person: &Person) -> [Vec<String>; 3] {
    let owned = |items: &[Value]| titles(items).into_iter().map(str::to_owned).collect();
    let near = person.api.get("/v1/posts?lat=60.3972&lon=5.3238&radius_m=500").await.unwrap();
    let near = owned(near.expect(200).unwrap()["items"].as_array().unwrap());
    let timeline = owned(&person.api.timeline().await.unwrap());
    let inbox = person.api.get("/v1/notifications").await.unwrap().expect(200).unwrap();
    let inbox: Vec<_> = inbox["items"].as_array().unwrap().iter().map(|item| item["post"].clone()).collect();
    [near, timeline, owned(&inbox)]
}

async fn waiting(moderator: &Person) -> Vec<Value> {
    let page = moderator.api.get("/v1/moderation/posts").await.unwrap().expect(200).unwrap();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_person_confirms_once_and_all_see_how_many() {
    let town = town(2).await;
    let (ada, bob, cleo) =
        (town.follower("ada").await, town.follower("bob").await, town.person("cleo").await);
    let post_id = town.post(&ada, &fire("Smoke")).await;
    town.settle().await;
    let before = read(&ada, &post_id).await.expect(200).unwrap();
    for _ in 0..2 {
        for person in [&bob, &cleo] {
            assert_eq!(confirm(&person.api, Method::PUT, &post_id).await.status, 204);
        }
    }
    town.settle().await;
    for person in [&ada, &bob, &cleo] {
        let post = read(person, &post_id).await.expect(200).unwrap();
        assert_eq!((&post["confirmations"], &post["updated_at"]), (&json!(2), &before["updated_at"]));
    }
    assert_eq!(bob.api.timeline().await.unwrap()[0]["confirmations"], 2);
    assert_eq!(town.pushes().await.len(), 1, "nobody's phone rings for that");

    for _ in 0..2 {
        assert_eq!(confirm(&bob.api, Method::DELETE, &post_id).await.status, 204);
        town.settle().await;
        assert_eq!(read(&ada, &post_id).await.expect(200).unwrap()["confirmations"], 1);
    }
    // Her own, one that is nowhere, and one of somebody who blocks him; and nobody's.
    let nowhere = "0197f5b0-0000-7000-8000-000000000000";
    let block = bob.api.put(&format!("/v1/blocks/{}", cleo.user_id()), &json!({})).await.unwrap();
    assert_eq!(block.status, 204);
    let bobs = town.post(&bob, &fire("Flames")).await;
    let reason = json!({"reason": "false"});
    for method in [Method::PUT, Method::DELETE] {
        let own = confirm(&ada.api, method.clone(), &post_id).await.expect(409).unwrap();
        assert_eq!((&own["code"], &own["title"]), (&json!("own_post"), &json!("It is a post of yours")));
        for id in [nowhere, &bobs] {
            assert_eq!(confirm(&cleo.api, method.clone(), id).await.status, 404, "{method} {id}");
        }
        assert_eq!(confirm(&town.api, method.clone(), &post_id).await.status, 401);
    }
    assert_eq!(flag(&ada.api, &post_id, &reason).await.status, 409);
    for id in [nowhere, &bobs] {
        assert_eq!(flag(&cleo.api, id, &reason).await.status, 404);
    }
    assert_eq!(flag(&town.api, &post_id, &reason).await.status, 401);
    for bad in [json!({}), json!({"reason": "dull"}), json!({"reason": "spam", "note": ""})] {
        assert_eq!(flag(&bob.api, &post_id, &bad).await.status, 422, "{bad}");
    }
    town.settle().await;
    assert_eq!(read(&ada, &post_id).await.expect(200).unwrap()["confirmations"], 1, "nothing of it counts");
    town.down().await;
}

#[tokio::test]
async fn many_flags_withhold_a_post_until_a_moderator_decides() {
    let town = town(2).await;
    let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
    let (cleo, dora) = (town.person("cleo").await, town.person("dora").await);
    let mona = town.moderator("mona").await;
    for (asks, is_asked) in [(&bob, &cleo), (&cleo, &bob)] {
        let body = json!({"user_id": is_asked.user_id()});
        asks.api.post("/v1/friendships", &body).await.unwrap().expect(201).unwrap();
    }
    let post_id = town.post(&ada, &fire("Smoke")).await;
    town.settle().await;
    let all = || [(); 3].map(|()| vec!["Smoke".to_owned()]);
    let nothing = || [const { Vec::<String>::new() }; 3];
    assert_eq!(seen(&bob).await, all());

    // The same person again and again is one.
    for reason in ["spam", "false"] {
        let body = json!({"reason": reason, "note": "It is a film being made."});
        assert_eq!(flag(&bob.api, &post_id, &body).await.status, 204);
    }
    town.settle().await;
    assert_eq!((seen(&bob).await, waiting(&mona).await), (all(), Vec::new()));
    assert_eq!(flag(&dora.api, &post_id, &json!({"reason": "abuse"})).await.status, 204);
    town.settle().await;
    assert_eq!(seen(&bob).await, nothing());
    for person in [&bob, &dora] {
        assert_eq!(read(person, &post_id).await.status, 404);
        assert_eq!(confirm(&person.api, Method::PUT, &post_id).await.status, 404);
    }
    let share = json!({"user_ids": [cleo.user_id()]});
    assert_eq!(bob.api.post(&format!("/v1/posts/{post_id}/share"), &share).await.unwrap().status, 404);
    for person in [&ada, &mona] {
        assert_eq!(read(person, &post_id).await.expect(200).unwrap()["withheld"], true);
    }
    // Who follows fires from now on finds it neither.
    let eve = town.follower("eve").await;
    assert_eq!(seen(&eve).await, nothing());

    let [item] = &waiting(&mona).await[..] else { panic!("one") };
    assert_eq!((&item["post"]["post_id"], &item["post"]["title"]), (&json!(post_id), &json!("Smoke")));
    assert_eq!(item["flags"], json!({"false": 1, "spam": 0, "abuse": 1, "other": 0}));
    let [note] = &item["newest_notes"].as_array().unwrap()[..] else { panic!("one") };
    assert_eq!((&note["reason"], &note["note"]), (&json!("false"), &json!("It is a film being made.")));
    assert!(!item.to_string().contains(&bob.user_id()), "nobody is told who raised a flag");

    for (api, status) in [(&ada.api, 403), (&bob.api, 403), (&town.api, 401)] {
        assert_eq!(api.get("/v1/moderation/posts").await.unwrap().status, status);
        assert_eq!(decide(api, &post_id, "keep").await.status, status);
    }
    assert_eq!(decide(&mona.api, &post_id, "burn").await.status, 422);
    assert_eq!(decide(&mona.api, "0197f5b0-0000-7000-8000-000000000000", "keep").await.status, 404);
    for _ in 0..2 {
        assert_eq!(decide(&mona.api, &post_id, "keep").await.status, 204);
        assert_eq!(read(&bob, &post_id).await.status, 200, "at once");
        town.settle().await;
        assert_eq!((seen(&bob).await, waiting(&mona).await), (all(), Vec::new()));
    }
    // No flags withhold it any more.
    for person in [&cleo, &eve] {
        assert_eq!(flag(&person.api, &post_id, &json!({"reason": "other"})).await.status, 204);
    }
    town.settle().await;
    assert_eq!((seen(&bob).await, waiting(&mona).await), (all(), Vec::new()));
    town.down().await;
}

#[tokio::test]
async fn a_moderator_removes_what_was_flagged_for_good() {
    let town = town(1).await;
    let (ada, bob) = (town.follower("ada").await, town.follower("bob").await);
    let mona = town.moderator("mona").await;
    let post_id = town.post(&ada, &fire("Buy detectors")).await;
    town.settle().await;
    assert_eq!(flag(&bob.api, &post_id, &json!({"reason": "spam"})).await.status, 204);
    town.settle().await;
    assert_eq!(waiting(&mona).await.len(), 1);
    for _ in 0..2 {
        assert_eq!(decide(&mona.api, &post_id, "remove").await.status, 204);
        for person in [&ada, &bob, &mona] {
            assert_eq!(read(person, &post_id).await.status, 404, "at once");
        }
        town.settle().await;
        assert_eq!(waiting(&mona).await, Vec::<Value>::new());
    }
    assert_eq!(decide(&mona.api, &post_id, "keep").await.status, 404);
    assert_eq!(flag(&bob.api, &post_id, &json!({"reason": "spam"})).await.status, 404);
    for person in [&ada, &bob, &mona] {
        assert_eq!(read(person, &post_id).await.status, 404);
    }
    assert_eq!(seen(&bob).await, [const { Vec::<String>::new() }; 3]);
    town.down().await;
}
