//! What holds when something fails in the middle: nothing is lost, and nothing rings twice.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::{process::Stdio, time::Duration};

use aws_sdk_sqs::types::MessageSystemAttributeName;
use krafka::Record;
use local::api_client::text;
use reqwest::Method;
use serde_json::{Value, json};
use tocsin_conformance::fixtures;
use tocsin_domain::post_log::PostRecord;
use town::{PATIENCE, Town, fire, titles};

const CONSUMERS: [&str; 3] = ["ingest-posts", "load-timelines", "notify-subscribers"];

/// How often each consumer is killed at work, at least.
const DEATHS: u64 = 3;

#[tokio::test]
async fn consumers_that_are_killed_in_the_middle_lose_and_repeat_nothing() {
    let town = Town::up().await;
    let ada = town.follower("ada").await;
    let authors = [town.person("bob").await, town.person("eve").await];
    let mut posted = vec![town.post(&authors[0], &fire("Before")).await];
    town.settle().await;

    let functions = || town.stack.metrics().snapshot().functions;
    // Each is frozen, gets work, and is killed: at once, or when it has worked for so many milliseconds. Frozen ones
    // cannot have finished before, so that each turn through this list kills all of them with a batch in hand.
    for (round, thaw) in [None, Some(0), Some(1), Some(3), Some(6), Some(12)].into_iter().cycle().enumerate()
    {
        let before = functions();
        if CONSUMERS.iter().all(|name| before[*name].errors >= DEATHS) {
            break;
        }
        assert!(round < 20, "it is not enough: {before:?}");
        signal(&town, "-STOP", &CONSUMERS);
        for number in 0..4 {
            let post = fire(&format!("Spark {round}.{number}"));
            posted.push(town.post(&authors[round % 2], &post).await);
        }
        let has_work = |name: &&str| functions()[*name].invocations > before[*name].invocations;
        until(|| async { CONSUMERS.iter().all(has_work) }).await;
        if let Some(milliseconds) = thaw {
            signal(&town, "-CONT", &CONSUMERS);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        } else {
            // The event is counted before it is on its way to the process.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        signal(&town, "-KILL", &CONSUMERS);
        // One death for each batch: what fails again and again goes to the dead letters, as it should.
        town.settle().await;
    }

    posted.reverse();
    assert_eq!(ids(&ada.api.timeline().await.unwrap()), posted, "once each, in order");
    for post_id in &posted {
        ada.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    }
    for (name, source) in town.stack.metrics().snapshot().event_sources {
        assert_eq!((source.dead_letters, source.discarded), (0, 0), "{name}");
    }
    let mut rung = rung(&town).await;
    rung.sort_by(|a, b| b.cmp(a));
    assert_eq!(rung, posted, "once each");
    town.down().await;
}

#[tokio::test]
async fn a_push_whose_delivery_is_killed_rings_all_the_same() {
    const NAME: &str = "deliver-push";
    let town = Town::up().await;
    let (_ada, bob) = (town.follower("ada").await, town.person("bob").await);
    let errors = || town.stack.metrics().snapshot().functions[NAME].errors;
    let mut posted = Vec::new();
    for round in 0.. {
        assert!(round < 20, "none is killed at work");
        // First frozen ones, until one is killed with a job in hand; then one that works.
        let thaw = (errors() >= 1).then_some(Duration::from_millis(5));
        // A process, which has rung, and has nothing to do.
        let before = town.post(&bob, &fire("Before")).await;
        until(|| async { rung(&town).await.contains(&before) }).await;
        until(|| async { !town.stack.fleet().process_ids(NAME).is_empty() }).await;

        signal(&town, "-STOP", &[NAME]);
        let invocations = town.stack.metrics().snapshot().functions[NAME].invocations;
        let killed = town.post(&bob, &fire("Killed")).await;
        until(|| async { town.stack.metrics().snapshot().functions[NAME].invocations > invocations }).await;
        if thaw.is_some() {
            signal(&town, "-CONT", &[NAME]);
        }
        // A job is counted before it is on its way to the process.
        tokio::time::sleep(thaw.unwrap_or(Duration::from_millis(50))).await;
        signal(&town, "-KILL", &[NAME]);
        posted.extend([before, killed.clone()]);
        if thaw.is_some() {
            break;
        }
        until(|| async { errors() >= 1 || rung(&town).await.contains(&killed) }).await;
    }
    // A push that was reserved and not sent is tried again when its reservation has run out.
    let patience = PATIENCE + 2 * Duration::from_secs(tocsin_domain::push::RESERVED_SECONDS);
    assert!(town.stack.settle(patience).await, "not everything was done within {patience:?}");

    let rung = rung(&town).await;
    let times = |post_id: &String| rung.iter().filter(|other| *other == post_id).count();
    let counts: Vec<_> = posted.iter().map(times).collect();
    let (last, others) = counts.split_last().unwrap();
    assert!(others.iter().all(|count| *count == 1), "a frozen one had not rung: {counts:?}");
    // A process that dies after SNS took a push, and before that is recorded, may ring twice: nobody can tell the two
    // apart. What never is: a push too few.
    assert!(matches!(last, 1 | 2), "{counts:?}");
    assert_eq!(rung.len(), counts.iter().sum::<usize>());
    town.down().await;
}

#[tokio::test]
async fn a_poison_record_goes_to_the_dead_letters_and_the_others_go_on() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    let before = town.post(&bob, &fire("Before")).await;
    let producer = town.stack.kafka().producer().build().await.unwrap();
    let mut posted = vec![before.clone()];
    for poison in ["no JSON", r#"{"specversion":"1.0","type":"post.created"}"#, "\u{0}"] {
        for key in [before.as_str(), "elsewhere"] {
            let _ = producer.send(Record::new("posts", poison).key(key.to_owned())).await.unwrap();
        }
        // A good one behind it in the same partition, since it has the same key: it is not held up.
        let good = fixtures::post_at(fixtures::point(60.3972, 5.3238));
        posted.push(good.post_id.to_string());
        let good = PostRecord::created(good).to_json().unwrap();
        let _ = producer.send(Record::new("posts", good).key(before.clone())).await.unwrap();
    }
    posted.push(town.post(&bob, &fire("After")).await);
    town.settle().await;

    // An id begins with its time.
    posted.sort_by(|a, b| b.cmp(a));
    assert_eq!(ids(&ada.api.timeline().await.unwrap()), posted);
    let metrics = town.stack.metrics().snapshot();
    for consumer in CONSUMERS {
        let source = &metrics.event_sources[&format!("{consumer}/posts")];
        assert_eq!((source.dead_letters, source.discarded, source.lag), (6, 0, 0), "{consumer}");
    }
    let letters = dead_letters(&town, "IngestPostsDeadLetterQueue").await;
    assert!(!letters.is_empty());
    for letter in letters {
        assert_eq!(letter["requestContext"]["condition"], "RetryAttemptsExhausted", "{letter}");
        assert!(letter["KafkaBatchInfo"].is_object(), "{letter}");
    }
    town.down().await;
}

#[tokio::test]
async fn replaying_the_topic_changes_nothing() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    for number in 0..10 {
        town.post(&bob, &fire(&format!("Spark {number}"))).await;
    }
    town.settle().await;
    let near = "/v1/posts?lat=60.3972&lon=5.3238&radius_m=1000&limit=100";
    let everything = || async {
        let listed = ada.api.get(near).await.unwrap().expect(200).unwrap();
        (ada.api.timeline().await.unwrap(), listed, town.pushes().await)
    };
    let before = everything().await;
    assert_eq!((before.0.len(), before.2.len()), (10, 10));

    // What comes to be after the posts: another phone, a wish that is new, and one that did not ask to be rung before.
    let eve = town.person("eve").await;
    let quiet = json!({"category": "fire", "push": false});
    let quiet = eve.api.post("/v1/subscriptions", &quiet).await.unwrap().expect(201).unwrap();
    let quiet = format!("/v1/subscriptions/{}", text(&quiet, "subscription_id").unwrap());
    let loud = eve.api.patch(&quiet, &json!({"push": true})).await.unwrap().expect(200).unwrap();
    assert_ne!(loud["updated_at"], loud["created_at"]);
    for (person, device_id) in [(&ada, "tablet"), (&eve, "phone")] {
        let device = json!({"platform": "apns", "token": format!("{}-{device_id}", person.username)});
        let put = person.api.put(&format!("/v1/devices/{device_id}"), &device).await.unwrap();
        assert_eq!(put.status, 201, "{}", put.body);
    }

    // Every record is read, and appended a second time behind the others: consumers get what they had before.
    let producer = town.stack.kafka().producer().build().await.unwrap();
    let records = tokio::time::timeout(PATIENCE, town.whole_topic()).await.expect("it has an end");
    assert!(records.len() >= 10, "{}", records.len());
    for (key, value) in records {
        let _ = producer.send(Record::new("posts", value).key(key)).await.unwrap();
    }
    town.settle().await;
    assert_eq!(everything().await, before);

    // They ring for what comes now.
    town.post(&bob, &fire("New")).await;
    town.settle().await;
    let mut new: Vec<_> = town.pushes().await.split_off(10).into_iter().map(|(device, _)| device).collect();
    new.sort();
    assert_eq!(new, ["adas-phone", "phone", "tablet"]);
    town.down().await;
}

#[tokio::test]
async fn without_redis_posts_are_taken_and_timelines_are_read() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    town.post(&bob, &fire("Before")).await;
    town.settle().await;

    town.stack.stop_redis().await;
    let during = town.post(&bob, &fire("During")).await;
    let stored = || async { ada.api.get(&format!("/v1/posts/{during}")).await.unwrap().status == 200 };
    until(stored).await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["During", "Before"]);

    town.stack.start_redis().await.unwrap();
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["During", "Before"]);
    town.post(&bob, &fire("After")).await;
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["After", "During", "Before"]);
    town.down().await;
}

#[tokio::test]
async fn a_redis_that_does_not_answer_for_long_gets_what_it_missed() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    town.post(&bob, &fire("Before")).await;
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Before"]);

    let redis = [town.stack.service_process_ids().await["redis"]];
    send_signal("-STOP", &redis);
    let during = town.post(&bob, &fire("During")).await;
    // For longer than it takes a record that fails at once to be given up.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["During", "Before"], "from the storage");
    send_signal("-CONT", &redis);
    town.settle().await;

    for (name, source) in town.stack.metrics().snapshot().event_sources {
        assert_eq!((source.dead_letters, source.discarded), (0, 0), "{name}");
    }
    let redis = redis::Client::open(town.stack.endpoints().redis_url.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let timelines: Vec<String> = redis::cmd("KEYS").arg("timeline:*").query_async(&mut redis).await.unwrap();
    let [timeline] = &timelines[..] else { panic!("{timelines:?}") };
    let score: Option<f64> =
        redis::cmd("ZSCORE").arg(timeline).arg(during).query_async(&mut redis).await.unwrap();
    assert!(score.is_some(), "it is in the timeline that was there before");

    // To be read keeps a timeline for another day, but for no more than three in all.
    let () = redis::cmd("EXPIRE").arg(timeline).arg(100).query_async(&mut redis).await.unwrap();
    let sources = timeline.replace("timeline:", "sources:");
    let day: i64 = 24 * 60 * 60;
    for (built_days_ago, least, most) in [(0, day - 100, day), (2, day - 200, day - 100), (3, -2, 1)] {
        // A hundred seconds before so many days.
        let built = jiff::Timestamp::now().as_millisecond() - built_days_ago * (day * 1_000) - 100_000;
        let () =
            redis::cmd("HSET").arg(&sources).arg("built").arg(built).query_async(&mut redis).await.unwrap();
        assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["During", "Before"]);
        let left: i64 = redis::cmd("TTL").arg(timeline).query_async(&mut redis).await.unwrap();
        assert!((least..=most).contains(&left), "{built_days_ago} days: {left}");
    }
    town.down().await;
}

#[tokio::test]
async fn without_the_log_a_post_is_refused_and_nothing_is_half_done() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    town.post(&bob, &fire("Before")).await;
    town.settle().await;

    town.stack.stop_broker().await;
    let key = [("idempotency-key", "the-same")];
    let post = fire("Refused, then taken");
    let send = || bob.api.send_with(Method::POST, "/v1/posts", Some(&post), &key);
    let refused = send().await.unwrap();
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("log_unavailable")), "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Before"]);

    town.stack.start_broker().await.unwrap();
    let mut taken = send().await.unwrap();
    for _ in 0..10 {
        if taken.status == 202 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        taken = send().await.unwrap();
    }
    assert_eq!(taken.status, 202, "{}", taken.body);
    until(|| async { titles(&ada.api.timeline().await.unwrap()) == ["Refused, then taken", "Before"] }).await;
    town.down().await;
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["post_id"].as_str().unwrap().to_owned()).collect()
}

/// The posts for which a phone rang, once for each time.
async fn rung(town: &Town) -> Vec<String> {
    town.pushes().await.into_iter().map(|(_, post_id)| post_id).collect()
}

/// Sends a signal to every process of some functions.
fn signal(town: &Town, signal: &str, functions: &[&str]) {
    let processes = functions.iter().flat_map(|name| town.stack.fleet().process_ids(name));
    send_signal(signal, &processes.collect::<Vec<_>>());
}

fn send_signal(signal: &str, processes: &[u32]) {
    // One that has ended meanwhile makes it fail, and the others have got it all the same.
    let _ = std::process::Command::new("kill")
        .arg(signal)
        .args(processes.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// The documents in a dead-letter queue, by its logical id.
async fn dead_letters(town: &Town, queue: &str) -> Vec<Value> {
    let url = &town.stack.queues()[queue].url;
    let received = town
        .sqs()
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send()
        .await
        .unwrap();
    received.messages().iter().map(|message| serde_json::from_str(message.body().unwrap()).unwrap()).collect()
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    tokio::time::timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("it is so in time");
}
