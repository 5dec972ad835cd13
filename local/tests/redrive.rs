//! What ended in a dead-letter queue is brought back: by the running stack, as `cargo run -p local -- redrive` asks for it,
//! and in the cloud, by the step `redrive` of `provision`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod town;

use std::time::Duration;

use clap::Parser;
use local::{
    cloud::{self, Clients, CloudArgs},
    event_sources::Redriven,
    local_routes,
};
use reqwest::Method;
use serde_json::{Value, json};
use town::{ROOT, Town, fire, titles};

#[tokio::test]
async fn dead_messages_go_back_to_their_queue() {
    let town = Town::up().await;
    let sample = std::fs::read_to_string(format!("{ROOT}/events/deliver-push.json")).unwrap();
    let sample: Value = serde_json::from_str(&sample).unwrap();
    let body = sample["Records"][0]["body"].as_str().unwrap();
    for _ in 0..12 {
        send(&town, "PushDeadLetterQueue", body).await;
    }
    assert_eq!(redrive(&town, "PushDeadLetterQueue").await, Redriven { moved: 12, kept: 0 });
    town.settle().await;
    let pushes = &town.stack.metrics().snapshot().event_sources["deliver-push/PushQueue"];
    assert_eq!((pushes.done, pushes.dead_letters), (12, 0));
    assert_eq!(redrive(&town, "PushDeadLetterQueue").await, Redriven::default());
    town.down().await;
}

#[tokio::test]
async fn dead_records_are_handled_once_more() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    town.post(&bob, &fire("Kept")).await;
    let lost = town.post(&bob, &fire("Lost")).await;
    town.settle().await;
    give_up(&town, &lost).await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Kept"]);
    let (partition, offset) = place(&town, &lost).await;

    send(&town, "LoadTimelinesDeadLetterQueue", &letter(partition, offset)).await;
    send(&town, "LoadTimelinesDeadLetterQueue", &letter(partition, offset + 1000)).await;
    // Of the second the topic has no record.
    assert_eq!(redrive(&town, "LoadTimelinesDeadLetterQueue").await, Redriven { moved: 1, kept: 1 });
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Lost", "Kept"]);
    town.down().await;
}

#[tokio::test]
async fn in_the_cloud_messages_go_back_to_their_queue_and_records_to_their_topic() {
    let town = Town::up().await;
    let (ada, bob) = (town.follower("ada").await, town.person("bob").await);
    town.post(&bob, &fire("Kept")).await;
    let lost = town.post(&bob, &fire("Lost")).await;
    town.settle().await;
    let rung = town.pushes().await;
    give_up(&town, &lost).await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Kept"]);
    let (partition, offset) = place(&town, &lost).await;
    let records = "LoadTimelinesDeadLetterQueue";
    assert!(in_cloud(&town, records).await.unwrap().contains("found nothing"));
    send(&town, records, &letter(partition, offset)).await;
    let would = in_cloud_with(&town, records, "--dry-run").await.unwrap();
    assert!(would.contains("would have moved") && would.contains("the topic posts"), "{would}");
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Kept"]);
    in_cloud(&town, records).await.unwrap();
    town.settle().await;
    assert_eq!(titles(&ada.api.timeline().await.unwrap()), ["Lost", "Kept"]);
    assert_eq!(town.pushes().await, rung, "what was done is not done twice");
    assert!(in_cloud(&town, records).await.unwrap().contains("found nothing"));
    // Of this one the topic has no record: it stays.
    send(&town, records, &letter(partition, offset + 1000)).await;
    let kept = in_cloud(&town, records).await.unwrap_err();
    assert!(format!("{kept:#}").contains("1 of them were kept"), "{kept:#}");

    let sample = std::fs::read_to_string(format!("{ROOT}/events/deliver-push.json")).unwrap();
    let sample: Value = serde_json::from_str(&sample).unwrap();
    let pushes = || town.stack.metrics().snapshot().event_sources["deliver-push/PushQueue"].done;
    let before = pushes();
    for _ in 0..12 {
        send(&town, "PushDeadLetterQueue", sample["Records"][0]["body"].as_str().unwrap()).await;
    }
    let said = in_cloud(&town, "PushDeadLetterQueue").await.unwrap();
    assert!(said.contains("some 12"), "{said}");
    town.settle().await;
    assert_eq!(pushes(), before + 12);
    town.down().await;
}

#[tokio::test]
async fn only_dead_letter_queues_that_are_there_are_redriven_and_no_page_of_another_origin_asks() {
    let town = Town::up().await;
    for queue in ["PushQueue", "Nowhere", ""] {
        let path = [local_routes::REDRIVE, queue].concat();
        let answer = town.api.post(&path, &json!({})).await.unwrap();
        assert_eq!(answer.status, 404, "{queue}: {}", answer.body);
        let told = answer.body["message"].as_str().unwrap();
        for there in ["PushDeadLetterQueue", "IngestPostsDeadLetterQueue"] {
            assert!(told.contains(there), "{told}");
        }
    }
    let path = [local_routes::REDRIVE, "PushDeadLetterQueue"].concat();
    assert_eq!(town.api.get(&path).await.unwrap().status, 400);

    let invoke = "/2015-03-31/functions/get-status/invocations";
    for (method, path) in
        [(Method::POST, path.as_str()), (Method::GET, "/_local/outbox"), (Method::POST, invoke)]
    {
        for header in [("origin", "https://elsewhere.example"), ("host", "elsewhere.example")] {
            let answer = town.api.send_with(method.clone(), path, Some(&json!({})), &[header]).await.unwrap();
            assert_eq!(answer.status, 403, "{method} {path} {header:?}: {}", answer.body);
        }
    }
    assert_eq!(town.api.post(invoke, &json!({})).await.unwrap().status, 200);
    town.down().await;
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: CloudArgs,
}

/// What the command says that brings back what is in a queue of the cloud.
async fn in_cloud(town: &Town, queue: &str) -> anyhow::Result<String> {
    in_cloud_with(town, queue, "").await
}

async fn in_cloud_with(town: &Town, queue: &str, option: &str) -> anyhow::Result<String> {
    let endpoints = town.stack.endpoints();
    let config = endpoints.sdk_config("SQS");
    let clients = Clients {
        secrets: aws_sdk_secretsmanager::Client::new(&config),
        sns: aws_sdk_sns::Client::new(&config),
        sqs: aws_sdk_sqs::Client::new(&config),
        dynamodb: aws_sdk_dynamodb::Client::new(&endpoints.sdk_config("DYNAMODB")),
    };
    let (url, servers) = (&town.stack.queues()[queue].url, &endpoints.bootstrap_servers);
    let words = format!(
        "provision --stage local redrive --dead-letters {url} --kafka-auth none --kafka-bootstrap-servers {servers} {option}"
    );
    let Cli { args } = Cli::try_parse_from(words.split_whitespace())?;
    let mut out = Vec::new();
    cloud::provision(&args, &clients, &mut out).await?;
    Ok(String::from_utf8(out)?)
}

/// Takes a post out of the timelines at hand, as if their consumer had given it up.
async fn give_up(town: &Town, post_id: &str) {
    let redis = redis::Client::open(town.stack.endpoints().redis_url.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let timelines: Vec<String> = redis::cmd("KEYS").arg("timeline:*").query_async(&mut redis).await.unwrap();
    for timeline in timelines {
        let () = redis::cmd("ZREM").arg(timeline).arg(post_id).query_async(&mut redis).await.unwrap();
    }
}

async fn redrive(town: &Town, queue: &str) -> Redriven {
    let path = [local_routes::REDRIVE, queue].concat();
    let redriven = town.api.post(&path, &json!({})).await.unwrap().expect(200).unwrap();
    serde_json::from_value(redriven).unwrap()
}

async fn send(town: &Town, queue: &str, body: &str) {
    let sqs = aws_sdk_sqs::Client::new(&town.stack.endpoints().sdk_config("SQS"));
    let request = sqs.send_message().queue_url(&town.stack.queues()[queue].url);
    request.message_body(body).send().await.unwrap();
}

/// Partition and offset of the record that is about a post.
async fn place(town: &Town, post_id: &str) -> (i32, i64) {
    let consumer = town.stack.kafka().consumer_without_group().build().await.unwrap();
    let partitions: Vec<_> = (0..4).collect();
    consumer.assign("posts", partitions.clone()).await.unwrap();
    for partition in partitions {
        consumer.seek_to_beginning("posts", partition).await.unwrap();
    }
    loop {
        for record in consumer.poll(Duration::from_millis(500)).await.unwrap() {
            if record.key.as_deref() == Some(post_id.as_bytes()) {
                return (record.partition, record.offset);
            }
        }
    }
}

/// The document of one record that was given up, in AWS's form.
fn letter(partition: i32, offset: i64) -> String {
    let at = "2026-11-20T18:02:11.123Z";
    let record = json!({
        "firstRecordOffset": offset.to_string(),
        "lastRecordOffset": offset.to_string(),
        "firstRecordTimestamp": at,
        "lastRecordTimestamp": at,
    });
    json!({
        "requestContext": {
            "requestId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "functionArn": "arn:aws:lambda:eu-north-1:123456789012:function:load-timelines",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 7,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": at,
        "KafkaBatchInfo": {
            "batchSize": 1,
            "eventSourceArn": "arn:aws:kafka:eu-north-1:123456789012:cluster/local/0-1",
            "bootstrapServers": "127.0.0.1:9092",
            "payloadSize": 1200,
            "recordsInfo": {format!("posts-{partition}"): record},
        },
    })
    .to_string()
}
