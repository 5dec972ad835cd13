//! What holds when something fails in the middle: nothing is lost, and nothing rings twice.

mod town;

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_sqs::types::MessageSystemAttributeName;
use krafka::Record;
use reqwest::Method;
use serde_json::{Value, json};
use town::{PATIENCE, Town, fire, titles};

const CONSUMERS: [&str; 3] = ["ingest-posts", "load-timelines", "notify-subscribers"];

#[tokio::test]
async fn consumers_that_are_killed_in_the_middle_lose_and_repeat_nothing() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    let mut posted = Vec::new();
    let mut killed = 0;
    for number in 0..40 {
        posted.push(town.post(&bob, &fire(&format!("Spark {number}"))).await);
        if number % 4 == 3 {
            for name in CONSUMERS.into_iter().chain(["deliver-push"]) {
                killed += town.stack.kill_function(name).await.unwrap();
            }
        }
    }
    assert!(killed > 0, "the test killed nobody");
    // A push that was reserved and not sent is tried again when its reservation has run out.
    let patience = PATIENCE + Duration::from_secs(tocsin_domain::push::RESERVED_SECONDS);
    assert!(town.stack.settle(patience).await, "not everything was done within {patience:?}");

    posted.reverse();
    let timeline: Vec<_> = ids(&ada.api.timeline().await.unwrap());
    assert_eq!(timeline, posted, "once each, in order");
    for post_id in &posted {
        ada.api.get(&format!("/v1/posts/{post_id}")).await.unwrap().expect(200).unwrap();
    }
    // A process that dies after SNS took a push, and before that is recorded, may ring twice: nobody can tell the two
    // apart. What never is: a push too few.
    let pushes = town.pushes().await;
    let distinct: BTreeSet<_> = pushes.iter().map(|(_, post_id)| post_id.clone()).collect();
    assert_eq!(distinct, posted.into_iter().collect());
    assert!(pushes.len() <= distinct.len() + killed, "{} pushes of {}", pushes.len(), distinct.len());
    town.down().await;
}

#[tokio::test]
async fn a_poison_record_goes_to_the_dead_letters_and_the_others_go_on() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    let before = town.post(&bob, &fire("Before")).await;
    let producer = town.stack.kafka().producer().build().await.unwrap();
    // The same key, so that it lies between the good ones in their partition.
    for poison in ["no JSON", r#"{"specversion":"1.0","type":"post.created"}"#, "\u{0}"] {
        for key in [before.as_str(), "elsewhere"] {
            let _ = producer.send(Record::new("posts", poison).key(key.to_owned())).await.unwrap();
        }
    }
    let after = town.post(&bob, &fire("After")).await;
    town.settle().await;

    assert_eq!(ids(&ada.api.timeline().await.unwrap()), [after, before]);
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

    // Every record of the topic once more, as a consumer that begins anew gets them.
    let kafka = town.stack.kafka();
    let consumer = kafka.consumer_without_group().build().await.unwrap();
    let partitions: Vec<_> = (0..4).collect();
    consumer.assign("posts", partitions.clone()).await.unwrap();
    for partition in partitions {
        consumer.seek_to_beginning("posts", partition).await.unwrap();
    }
    let mut records = Vec::new();
    while records.len() < 10 {
        records.extend(consumer.poll(Duration::from_millis(500)).await.unwrap());
    }
    let producer = kafka.producer().build().await.unwrap();
    for record in records {
        let again = Record::new("posts", record.value.unwrap()).key(record.key.unwrap());
        let _ = producer.send(again).await.unwrap();
    }
    town.settle().await;
    assert_eq!(everything().await, before);
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

/// The documents in a dead-letter queue, by its logical id.
async fn dead_letters(town: &Town, queue: &str) -> Vec<Value> {
    let url = &town.stack.queues()[queue].url;
    let received = aws_sdk_sqs::Client::new(&town.stack.endpoints().sdk_config("SQS"))
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
