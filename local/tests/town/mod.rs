//! A stack of its own for a test, and people in it.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]
#![expect(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod another;

use std::time::Duration;

use bytes::Bytes;
use krafka::admin::{ListOffsetsOptions, OffsetSpec, TopicPartition};
use local::{
    api_client::{ApiClient, Person, text},
    stack::{Options, Stack},
};
use reqwest::Method;
use serde_json::{Value, json};

/// The workspace.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How long anything may take that happens within milliseconds on a machine that is not busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running stack, as a test uses it.
pub(crate) struct Town {
    pub(crate) stack: Stack,
    pub(crate) api: ApiClient,
}

impl Town {
    pub(crate) async fn up() -> Self {
        Self::with(&[]).await
    }

    /// With other values of the template's parameters.
    pub(crate) async fn with(parameters: &[(&str, String)]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self::start(Options { parameters, ..Options::in_memory() }).await
    }

    pub(crate) async fn start(options: Options) -> Self {
        let stack = Stack::start(options).await.expect("the stack starts");
        let api = ApiClient::new(stack.base_url());
        Self { stack, api }
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        self.api.register(name, &format!("{name}@example.org")).await.unwrap()
    }

    /// Somebody who moderates.
    pub(crate) async fn moderator(&self, name: &str) -> Person {
        let person = self.person(name).await;
        let wish = json!({"email": person.email});
        self.api.post("/_local/admins", &wish).await.unwrap().expect(200).unwrap();
        // The roles are in the next access token.
        let token = self.api.with_token(&person.session_token);
        let tokens = token.send(Method::POST, "/v1/auth/session", None).await.unwrap().expect(200).unwrap();
        let session_token = text(&tokens, "session_token").unwrap();
        let api = self.api.with_token(text(&tokens, "access_token").unwrap());
        Person { session_token, api, ..person }
    }

    /// The operations of the contract that need a token, of either kind: method and path.
    pub(crate) async fn operations_with_a_token(&self) -> Vec<(Method, String)> {
        let contract = self.api.get("/v1/openapi.json").await.unwrap().expect(200).unwrap();
        let paths = contract["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, methods)| {
            // Beside its methods a path has the parameters that they share.
            let methods = methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters");
            let secured = methods.filter(|(_, operation)| {
                // An empty list is an operation for everybody; without one there is no telling.
                !operation["security"].as_array().unwrap().is_empty()
            });
            secured.map(move |(method, _)| (method.to_uppercase().parse().unwrap(), path.clone()))
        });
        operations.collect()
    }

    /// Posts as somebody; the log has it then.
    pub(crate) async fn post(&self, author: &Person, post: &Value) -> String {
        let accepted = author.api.post("/v1/posts", post).await.unwrap().expect(202).unwrap();
        text(&accepted, "post_id").unwrap()
    }

    /// Waits until every record and message is done.
    pub(crate) async fn settle(&self) {
        assert!(self.stack.settle(PATIENCE).await, "not everything was done within {PATIENCE:?}");
    }

    /// The titles and devices of everything that was pushed.
    pub(crate) async fn pushes(&self) -> Vec<(String, String)> {
        let outbox = self.stack.outbox().expect("moto runs").read().await.unwrap();
        let facts =
            |push: &Value| local::scenario::push_facts(push).map(|(device, post_id, _)| (device, post_id));
        outbox["pushes"].as_array().unwrap().iter().filter_map(facts).collect()
    }

    /// Somebody who follows fires around Bryggen, with a phone, and has looked at their timeline.
    pub(crate) async fn follower(&self, name: &str) -> Person {
        let person = self.person(name).await;
        let area = json!({"lat": 60.3975, "lon": 5.3245, "radius_m": 3000});
        let wish = json!({"category": "fire", "area": area});
        person.api.post("/v1/subscriptions", &wish).await.unwrap().expect(201).unwrap();
        let device = json!({"platform": "fcm", "token": format!("{name}s-token")});
        let put = person.api.put(&format!("/v1/devices/{name}s-phone"), &device).await.unwrap();
        assert_eq!(put.status, 201, "{}", put.body);
        assert!(person.api.timeline().await.unwrap().is_empty());
        person
    }

    /// The key and the value of every record that is in the topic now.
    pub(crate) async fn whole_topic(&self) -> Vec<(Bytes, Bytes)> {
        let kafka = self.stack.kafka();
        let producer = kafka.producer().build().await.unwrap();
        let partitions = producer.partitions_for("posts").await.unwrap();
        let partitions: Vec<_> = partitions.iter().map(|info| info.partition).collect();
        let latest =
            partitions.iter().map(|number| (TopicPartition::new("posts", *number), OffsetSpec::Latest));
        let ends = kafka.admin().list_offsets(latest, ListOffsetsOptions::default()).await.unwrap();
        let consumer = kafka.consumer_without_group().build().await.unwrap();
        consumer.assign("posts", partitions.clone()).await.unwrap();
        for partition in partitions {
            consumer.seek_to_beginning("posts", partition).await.unwrap();
        }
        let mut records = Vec::new();
        for (partition, end) in ends {
            let end = end.unwrap().offset;
            while consumer.position("posts", partition.partition).await.unwrap_or(0) < end {
                records.extend(consumer.poll(Duration::from_millis(500)).await.unwrap());
            }
        }
        records.into_iter().map(|record| (record.key.unwrap(), record.value.unwrap())).collect()
    }

    /// Speaks to the queues.
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.stack.endpoints().sdk_config("SQS"))
    }

    pub(crate) async fn down(self) {
        self.stack.shutdown().await;
    }
}

/// The body of a post.
pub(crate) fn post(title: &str, category: &str, lat: f64, lon: f64) -> Value {
    json!({"title": title, "category": category, "location": {"lat": lat, "lon": lon}})
}

/// The body of a post about a fire at Bryggen.
pub(crate) fn fire(title: &str) -> Value {
    post(title, "fire", 60.3972, 5.3238)
}

/// The titles of a page's items.
pub(crate) fn titles(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["title"].as_str().unwrap()).collect()
}
