//! The bench's own SQS and SNS, as the AWS SDK sees them: what they count would be worth nothing if they were easier to
//! please than AWS's.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{collections::HashMap, time::Duration};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_sqs::{
    error::ProvideErrorMetadata as _,
    types::{
        DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use aws_types::{SdkConfig, region::Region};
use local::bench::{
    sns_endpoint::SnsEndpoint,
    sqs_endpoint::{QueueCounts, SqsEndpoint},
};
use serde_json::Value;
use tocsin_adapters::{aws, sns::SnsPushGateway};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    device::{Device, DeviceToken, Platform},
    notification::Because,
    push::{Endpoint, News, Published, Push, PushGateway as _},
    time,
};
use tokio::time::{Instant, sleep};

fn config(endpoint: String) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    aws::config()
        .into_builder()
        .region(Region::new("eu-north-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

struct Queue {
    endpoint: SqsEndpoint,
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    /// Called `jobs`, with a dead-letter queue after two receives, and messages that are hidden for a second.
    async fn new() -> Self {
        let endpoint = SqsEndpoint::start().await.unwrap();
        let client = aws_sdk_sqs::Client::new(&config(endpoint.url()));
        client.create_queue().queue_name("dead").send().await.unwrap();
        let policy =
            r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-north-1:123456789012:dead","maxReceiveCount":"2"}"#;
        let created = client
            .create_queue()
            .queue_name("jobs")
            .attributes(QueueAttributeName::VisibilityTimeout, "1")
            .attributes(QueueAttributeName::RedrivePolicy, policy)
            .send();
        let url = created.await.unwrap().queue_url.unwrap();
        Self { endpoint, client, url }
    }

    async fn send(&self, body: &str, delay: i32) -> String {
        let sent = self.client.send_message().queue_url(&self.url).message_body(body).delay_seconds(delay);
        let sent = sent.send().await.unwrap();
        assert_eq!(sent.md5_of_message_body.unwrap().len(), 32);
        sent.message_id.unwrap()
    }

    async fn receive(&self, most: i32, wait: i32) -> Vec<Message> {
        let request = self.client.receive_message().queue_url(&self.url).max_number_of_messages(most);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        request.wait_time_seconds(wait).send().await.unwrap().messages.unwrap_or_default()
    }

    async fn delete(&self, message: &Message) {
        let request = self.client.delete_message().queue_url(&self.url);
        request.set_receipt_handle(message.receipt_handle.clone()).send().await.unwrap();
    }

    async fn hide(&self, message: &Message, seconds: i32) -> Result<(), String> {
        let request =
            self.client.change_message_visibility().queue_url(&self.url).visibility_timeout(seconds);
        let hidden = request.set_receipt_handle(message.receipt_handle.clone()).send().await;
        hidden.map(drop).map_err(|error| error.code().unwrap_or_default().to_owned())
    }

    async fn depth(&self) -> [String; 3] {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let attributes =
            request.set_attribute_names(Some(names.to_vec())).send().await.unwrap().attributes.unwrap();
        names.map(|name| attributes[&name].clone())
    }

    fn counts(&self, name: &str) -> QueueCounts {
        self.endpoint.counts()[name]
    }
}

fn receives(message: &Message) -> &str {
    &message.attributes.as_ref().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount]
}

#[tokio::test]
async fn a_message_is_hidden_comes_again_and_is_deleted_once() {
    let queue = Queue::new().await;
    let id = queue.send("<&\"é>", 0).await;
    let first = queue.receive(10, 0).await.remove(0);
    assert_eq!((first.body.as_deref(), first.message_id.as_deref()), (Some("<&\"é>"), Some(id.as_str())));
    assert_eq!(receives(&first), "1");
    assert!(queue.receive(10, 0).await.is_empty());
    assert_eq!(queue.depth().await, ["0", "1", "0"]);
    // Not deleted in time.
    let again = queue.receive(10, 2).await.remove(0);
    assert_eq!((receives(&again), &again.message_id), ("2", &first.message_id));
    // The receipt of before changes nothing any more.
    assert!(queue.hide(&first, 0).await.is_err());
    assert!(queue.receive(10, 0).await.is_empty());
    queue.delete(&again).await;
    queue.delete(&again).await;
    assert_eq!(queue.depth().await, ["0", "0", "0"]);
    let counts = QueueCounts { sent: 1, received: 2, deleted: 1, dead: 0, there: 0 };
    assert_eq!(queue.counts("jobs"), counts);
}

#[tokio::test]
async fn a_message_that_fails_too_often_is_a_dead_letter() {
    let queue = Queue::new().await;
    queue.send("poison", 0).await;
    for turn in ["1", "2"] {
        let message = queue.receive(1, 0).await.remove(0);
        assert_eq!(receives(&message), turn);
        queue.hide(&message, 0).await.unwrap();
    }
    assert!(queue.receive(1, 0).await.is_empty());
    assert_eq!((queue.counts("jobs").dead, queue.counts("jobs").there), (1, 0));
    let dead = Queue { url: queue.url.replace("jobs", "dead"), ..queue };
    assert_eq!(dead.receive(1, 0).await.remove(0).body.as_deref(), Some("poison"));
}

#[tokio::test]
async fn a_receiver_waits_for_the_first_message_and_no_longer() {
    let queue = Queue::new().await;
    let began = Instant::now();
    assert!(queue.receive(1, 1).await.is_empty());
    assert!(began.elapsed() >= Duration::from_secs(1));
    let sender = queue.client.send_message().queue_url(&queue.url).message_body("late");
    let late = async {
        sleep(Duration::from_millis(200)).await;
        sender.send().await.unwrap();
        Instant::now()
    };
    let (received, sent) = tokio::join!(queue.receive(1, 20), late);
    assert_eq!(received.len(), 1);
    assert!(sent.elapsed() < Duration::from_secs(5));
    queue.delete(&received[0]).await;
    // One that is delayed comes when its time has come.
    queue.send("delayed", 1).await;
    assert_eq!(queue.depth().await, ["0", "0", "1"]);
    assert!(queue.receive(1, 0).await.is_empty());
    assert_eq!(queue.receive(1, 5).await.len(), 1);
}

#[tokio::test]
async fn batches_are_of_ten_at_most_and_tell_of_each() {
    let queue = Queue::new().await;
    let entry = |id: usize| {
        SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body(format!("job {id}"))
            .build()
            .unwrap()
    };
    let batch = |count| {
        let entries = (0..count).map(entry).collect();
        queue.client.send_message_batch().queue_url(&queue.url).set_entries(Some(entries)).send()
    };
    assert_eq!(
        batch(11).await.unwrap_err().code(),
        Some("AWS.SimpleQueueService.TooManyEntriesInBatchRequest")
    );
    let sent = batch(10).await.unwrap();
    assert_eq!((sent.successful().len(), sent.failed().len()), (10, 0));
    let received = queue.receive(10, 0).await;
    assert_eq!(received.len(), 10);
    let entries = received.iter().enumerate().map(|(id, message)| {
        let receipt = if id == 0 { "nonsense" } else { message.receipt_handle().unwrap() };
        DeleteMessageBatchRequestEntry::builder().id(id.to_string()).receipt_handle(receipt).build().unwrap()
    });
    let deleted =
        queue.client.delete_message_batch().queue_url(&queue.url).set_entries(Some(entries.collect()));
    let deleted = deleted.send().await.unwrap();
    assert_eq!((deleted.successful().len(), deleted.failed()[0].id()), (9, "0"));
    assert_eq!(queue.depth().await, ["0", "1", "0"]);
}

#[tokio::test]
async fn queues_are_made_once_and_found_by_name() {
    let queue = Queue::new().await;
    let make = |seconds: &str| {
        let request = queue.client.create_queue().queue_name("jobs");
        request.attributes(QueueAttributeName::VisibilityTimeout, seconds).send()
    };
    assert_eq!(make("1").await.unwrap().queue_url.as_ref(), Some(&queue.url));
    assert_eq!(make("5").await.unwrap_err().code(), Some("QueueAlreadyExists"));
    let found = queue.client.get_queue_url().queue_name("jobs").send().await.unwrap();
    assert_eq!(found.queue_url.as_ref(), Some(&queue.url));
    let missing = queue.client.get_queue_url().queue_name("nobodys").send().await.unwrap_err();
    assert!(missing.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn pushes_are_counted_by_endpoint_and_endpoints_live_as_in_sns() {
    let endpoint = SnsEndpoint::start().await.unwrap();
    let config = config(endpoint.url());
    let client = aws_sdk_sns::Client::new(&config);
    let mut applications = HashMap::new();
    for platform in ["APNS", "GCM"] {
        let made = client.create_platform_application().name("tocsin-test").platform(platform);
        let made = made.attributes("PlatformCredential", "x").send().await.unwrap();
        applications.insert(platform, made.platform_application_arn.unwrap());
    }
    let gateway = SnsPushGateway::new(&config, &applications["APNS"], &applications["GCM"]);
    let (ada, bob, phone) = (fixtures::user(), fixtures::user(), "phone".parse().unwrap());
    let device = |token: &str, endpoint: Endpoint| Device {
        device_id: "phone".parse().unwrap(),
        token: fcm(token),
        endpoint,
        created_at: time::now(),
        updated_at: time::now(),
    };
    let first = gateway.register(ada, &phone, &fcm("one")).await.unwrap();
    let second = gateway.register(ada, &phone, &fcm("two & <more>")).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(gateway.register(ada, &phone, &fcm("one")).await.unwrap(), first);
    // Another's by now, with the same token: it is repaired.
    assert_eq!(gateway.register(bob, &phone, &fcm("one")).await.unwrap(), first);
    let attributes = client.get_endpoint_attributes().endpoint_arn(&first.0).send().await.unwrap().attributes;
    assert_eq!(attributes.unwrap()["CustomUserData"], format!("{bob}/phone"));

    let push = Push {
        post: fixtures::post(),
        news: News::Posted,
        because: Because::Shared { shared_by: ada },
        time_to_live: Duration::from_mins(1),
    };
    let one = device("one", first.clone());
    for _ in 0..2 {
        assert_eq!(gateway.publish(&one, &push).await.unwrap(), Published::Accepted);
    }
    let published = endpoint.published(&first.0);
    assert_eq!((published.len(), endpoint.published(&second.0).len(), endpoint.count()), (2, 0, 2));
    let message: Value = serde_json::from_str(&published[0].message).unwrap();
    assert_eq!(message["default"], push.post.title);

    let switch_off = client.set_endpoint_attributes().endpoint_arn(&first.0).attributes("Enabled", "false");
    switch_off.send().await.unwrap();
    assert_eq!(gateway.publish(&one, &push).await.unwrap(), Published::EndpointDisabled);
    gateway.unregister(&first).await.unwrap();
    gateway.unregister(&first).await.unwrap();
    assert_eq!(gateway.publish(&one, &push).await.unwrap(), Published::EndpointMissing);
    let two = device("two & <more>", Endpoint(endpoint.register(&applications["GCM"], "two & <more>")));
    assert_eq!(two.endpoint, second);
    assert_eq!(gateway.publish(&two, &push).await.unwrap(), Published::Accepted);
}

fn fcm(token: &str) -> DeviceToken {
    DeviceToken { platform: Platform::Fcm, token: token.to_owned() }
}
