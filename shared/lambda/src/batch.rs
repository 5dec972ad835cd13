//! Batches: records of the log, and messages of a queue, each done on its own as far as failing goes.
//!
//! A record that fails is reported, and AWS brings it again; those that were done are not brought again on its account,
//! except for the ones behind it in its partition (AWS goes on from the lowest offset that failed), to which a second
//! time must be no harm. A record that cannot be read is reported alone, and ends in the dead-letter queue; its reason is
//! in our log, since AWS's document has none.
//!
//! The events are read here, and not by `aws_lambda_events`, since that reads a record's headers, too, and fails the
//! whole batch over one that it cannot. The answer is not there at all.

use std::{collections::BTreeMap, panic::AssertUnwindSafe};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{FutureExt as _, future::join_all};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tocsin_domain::{
    Error, Result,
    ids::PostId,
    post::Post,
    post_log::{Change, PostRecord},
};

use crate::metrics::{self, Metric};

/// A batch of the log: the event of a Kafka event source, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
pub struct KafkaEvent {
    /// The records of each partition, `<topic>-<number>`, in order.
    records: BTreeMap<String, Vec<KafkaRecord>>,
}

#[derive(Debug, Deserialize)]
struct KafkaRecord {
    offset: i64,
    #[serde(default)]
    value: Option<String>,
}

/// Which records of a batch are to be brought again.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html>
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBatchResponse {
    /// Those that failed.
    pub batch_item_failures: Vec<KafkaBatchItemFailure>,
}

/// A record that failed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaBatchItemFailure {
    /// Which.
    pub item_identifier: KafkaItem,
}

/// A record's place in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KafkaItem {
    /// `<topic>-<number>`.
    pub partition: String,
    /// Its offset.
    pub offset: i64,
}

/// A post of a batch, and the records that it came in: one, unless a writer had to repeat itself.
struct Received {
    post: Post,
    items: Vec<KafkaItem>,
}

/// Hands the posts of a batch, each once, to `handle`, which answers for each in turn.
pub async fn posts(
    event: KafkaEvent,
    handle: impl AsyncFn(&[Post]) -> Vec<Result<()>>,
) -> KafkaBatchResponse {
    let (received, mut failed) = read(event);
    metrics::count(Metric::RecordsRefused, failed.len());
    let (posts, items): (Vec<_>, Vec<_>) = received.into_iter().map(|one| (one.post, one.items)).unzip();
    let mut outcomes = each_caught(&posts, handle).await.into_iter();
    let (mut done, mut failures) = (Vec::new(), 0);
    for (post, items) in posts.iter().zip(items) {
        let outcome =
            outcomes.next().unwrap_or_else(|| Err(Error::unavailable("a consumer", "it did not answer")));
        match outcome {
            Ok(()) => done.push(post.created_at),
            Err(error) => {
                tracing::error!(%error, post_id = %post.post_id, ?items, "a record failed, and is tried again");
                failures += items.len();
                failed.extend(items);
            }
        }
    }
    metrics::count(Metric::RecordsFailed, failures);
    metrics::ages(Metric::PostAgeMs, done);
    failed.sort();
    let failures = failed.into_iter().map(|item_identifier| KafkaBatchItemFailure { item_identifier });
    KafkaBatchResponse { batch_item_failures: failures.collect() }
}

/// The posts of a batch, and the records that cannot be read. Heartbeats are measured on the way.
fn read(event: KafkaEvent) -> (Vec<Received>, Vec<KafkaItem>) {
    let (mut received, mut unreadable, mut heartbeats) = (Vec::<Received>::new(), Vec::new(), Vec::new());
    let mut places: BTreeMap<PostId, usize> = BTreeMap::new();
    for (partition, records) in event.records {
        for KafkaRecord { offset, value } in records {
            let item = KafkaItem { partition: partition.clone(), offset };
            match record(value.as_deref()) {
                Ok(PostRecord { change: Change::Created(post), .. }) => {
                    let place = *places.entry(post.post_id).or_insert(received.len());
                    match received.get_mut(place) {
                        Some(one) => one.items.push(item),
                        None => received.push(Received { post: *post, items: vec![item] }),
                    }
                }
                Ok(PostRecord { change: Change::Heartbeat, time, .. }) => heartbeats.push(time),
                Err(error) => {
                    tracing::error!(%error, partition, offset, "a record cannot be read, and is refused");
                    unreadable.push(item);
                }
            }
        }
    }
    metrics::ages(Metric::HeartbeatAgeMs, heartbeats);
    (received, unreadable)
}

fn record(value: Option<&str>) -> Result<PostRecord> {
    let value = value.ok_or_else(|| Error::unreadable("a record of the log", "it has no value"))?;
    let bytes =
        BASE64_STANDARD.decode(value).map_err(|cause| Error::unreadable("a record of the log", cause))?;
    PostRecord::from_json(&bytes)
}

/// Handles all at once. Where that panics, each alone, so that one does not take the others with it.
async fn each_caught(posts: &[Post], handle: impl AsyncFn(&[Post]) -> Vec<Result<()>>) -> Vec<Result<()>> {
    if posts.is_empty() {
        return Vec::new();
    }
    let panicked = || Error::unreadable("a post", "its handling panicked");
    let caught = async |posts: &[Post]| AssertUnwindSafe(handle(posts)).catch_unwind().await.ok();
    if let Some(outcomes) = caught(posts).await {
        return outcomes;
    }
    if posts.len() == 1 {
        return vec![Err(panicked())];
    }
    let mut outcomes = Vec::with_capacity(posts.len());
    for post in posts {
        let outcome =
            caught(std::slice::from_ref(post)).await.and_then(|outcomes| outcomes.into_iter().next());
        outcomes.push(outcome.unwrap_or_else(|| Err(panicked())));
    }
    outcomes
}

/// Hands each message of a batch of a queue to `handle`, all at once.
pub async fn messages<T: DeserializeOwned>(
    event: SqsEvent,
    handle: impl AsyncFn(T) -> Result<()>,
) -> SqsBatchResponse {
    let outcomes = join_all(event.records.into_iter().map(|message| one_message(message, &handle))).await;
    let mut response = SqsBatchResponse::default();
    outcomes.into_iter().flatten().for_each(|message_id| response.add_failure(message_id));
    response
}

/// Handles one message; answers its id if it failed.
async fn one_message<T: DeserializeOwned>(
    message: SqsMessage,
    handle: &impl AsyncFn(T) -> Result<()>,
) -> Option<String> {
    let message_id = message.message_id.unwrap_or_default();
    let job = match serde_json::from_str(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => job,
        Err(error) => {
            tracing::error!(%error, message_id, "a message cannot be read, and is refused");
            metrics::count(Metric::RecordsRefused, 1);
            return Some(message_id);
        }
    };
    let outcome = AssertUnwindSafe(handle(job)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::unreadable("a message", "its handling panicked")));
    let error = outcome.err()?;
    tracing::error!(%error, message_id, "a message failed, and is tried again");
    metrics::count(Metric::RecordsFailed, 1);
    Some(message_id)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use tocsin_domain::{
        ids::UserId,
        post::{Author, NewPost},
        time,
    };

    use super::*;

    fn post(title: &str) -> Post {
        let now = time::now();
        let body = json!({"title": title, "category": "fire", "location": {"lat": 60.4, "lon": 5.3}});
        let author = Author { user_id: UserId::new(now), username: "ada".into() };
        NewPost::from_json(&body, now).unwrap().into_post(PostId::new(now), author)
    }

    fn value(post: &Post) -> Value {
        BASE64_STANDARD.encode(PostRecord::created(post.clone()).to_json().unwrap()).into()
    }

    fn heartbeat() -> Value {
        BASE64_STANDARD.encode(PostRecord::heartbeat(time::now()).to_json().unwrap()).into()
    }

    /// A batch with these values in two partitions, whose offsets begin at 10 and 20. A header has a byte over 127.
    fn batch(first: &[Value], second: &[Value]) -> KafkaEvent {
        let records = |values: &[Value], from: usize| -> Vec<_> {
            let record = |(i, value)| json!({"offset": from + i, "value": value, "headers": [{"h": [200]}]});
            values.iter().enumerate().map(record).collect()
        };
        let records = json!({"posts-0": records(first, 10), "posts-1": records(second, 20)});
        serde_json::from_value(json!({"eventSource": "aws:kafka", "records": records})).unwrap()
    }

    async fn run(event: KafkaEvent, handle: impl AsyncFn(&[Post]) -> Vec<Result<()>>) -> Value {
        serde_json::to_value(posts(event, handle).await).unwrap()
    }

    fn failures(items: &[(&str, i64)]) -> Value {
        let one = |(partition, offset): &(&str, i64)| json!({"itemIdentifier": {"partition": partition, "offset": offset}});
        json!({"batchItemFailures": items.iter().map(one).collect::<Vec<_>>()})
    }

    #[tokio::test]
    async fn poison_is_reported_alone_and_the_others_are_done_once() {
        let (a, b) = (post("a"), post("b"));
        let first = [value(&a), "bm90IGpzb24=".into(), value(&a), heartbeat()];
        let second = [Value::Null, value(&b), "!".into()];
        let seen = RefCell::new(Vec::new());
        let answer = run(batch(&first, &second), async |posts| {
            seen.borrow_mut().extend_from_slice(posts);
            posts.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11), ("posts-1", 20), ("posts-1", 22)]));
        assert_eq!(seen.into_inner(), [a, b]);
    }

    #[tokio::test]
    async fn a_failing_post_is_reported_with_each_of_its_records() {
        let (a, b) = (post("a"), post("b"));
        let event = batch(&[value(&a), value(&b), value(&a)], &[]);
        let answer = run(event, async |posts| {
            let fails = |post: &Post| {
                if post.title == "a" { Err(Error::unavailable("posts", "down")) } else { Ok(()) }
            };
            posts.iter().map(fails).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 10), ("posts-0", 12)]));
    }

    #[tokio::test]
    async fn a_panic_takes_its_own_post_only() {
        let event = batch(&[value(&post("a")), value(&post("bad")), value(&post("c"))], &[]);
        let answer = run(event, async |posts| {
            assert!(posts.iter().all(|post| post.title != "bad"), "the panic of the test");
            posts.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11)]));
    }

    #[tokio::test]
    async fn what_is_not_answered_for_is_tried_again() {
        let event = batch(&[value(&post("a")), value(&post("b"))], &[]);
        assert_eq!(run(event, async |_| vec![Ok(())]).await, failures(&[("posts-0", 11)]));
        assert_eq!(run(batch(&[], &[heartbeat()]), async |_| Vec::new()).await, failures(&[]));
    }

    #[tokio::test]
    async fn messages_fail_one_by_one() {
        let message = |id: &str, body: &str| json!({"messageId": id, "body": body});
        let records = [message("1", "7"), message("2", "not a number"), message("3", "8"), message("4", "9")];
        let event = serde_json::from_value(json!({"Records": records})).unwrap();
        let answer = messages(event, async |number: u32| {
            assert_ne!(number, 9, "the panic of the test");
            if number == 8 { Err(Error::unavailable("pushes", "down")) } else { Ok(()) }
        });
        let failed = ["2", "3", "4"].map(|id| json!({"itemIdentifier": id}));
        assert_eq!(serde_json::to_value(answer.await).unwrap(), json!({"batchItemFailures": failed}));
    }
}
