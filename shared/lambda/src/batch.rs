//! Batches: records of the log, and messages of a queue, each done on its own as far as failing goes.
//!
//! A record that fails is reported, and AWS brings it again; those that were done are not brought again on its account,
//! except for the ones behind it in its partition (AWS goes on from the lowest offset that failed), to which a second
//! time must be no harm. A record that cannot be read is reported alone, and ends in the dead-letter queue; its reason is
//! in our log, since AWS's document has none.
//!
//! An invocation that runs out of time answers what it has done, and has the rest brought again. What a service that is
//! away has failed is tried again until then ([`crate::persistence`]).
//!
//! The events are read here, and not by `aws_lambda_events`, since that reads a record's headers, too, and fails the
//! whole batch over one that it cannot. The answer is not there at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    panic::AssertUnwindSafe,
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::{FutureExt as _, StreamExt as _, future::join_all, stream};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tocsin_domain::{
    Error, Result,
    ids::PostId,
    post_log::{Change, PostChange, PostRecord},
};
use uuid::Uuid;

use crate::{
    deadline::Deadline,
    metrics::{self, Metric},
    persistence::{PERSISTENCE, persistently},
};

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

/// What happened to a post, and the records that said so: one, unless a writer had to repeat itself.
struct Received {
    change: PostChange,
    items: Vec<KafkaItem>,
}

/// Hands the changes of a batch, each once, to `handle`, which answers for each in turn. Those of one post are handed over
/// in order, each after the one before is done: where one fails, those behind it are brought again with it.
pub async fn changes(
    event: KafkaEvent,
    deadline: Deadline,
    handle: impl AsyncFn(&[PostChange]) -> Vec<Result<()>>,
) -> KafkaBatchResponse {
    let (received, mut failed) = read(event);
    metrics::count(Metric::RecordsRefused, failed.len());
    let (mut done, mut failures, mut stuck) = (Vec::new(), 0, BTreeSet::new());
    for round in rounds(received) {
        let (behind, round): (Vec<_>, Vec<_>) =
            round.into_iter().partition(|received| stuck.contains(&received.change.post_id()));
        let (changes, items): (Vec<_>, Vec<_>) =
            round.into_iter().map(|received| (received.change, received.items)).unzip();
        let outcomes =
            persistently(&changes, deadline, PERSISTENCE, async |some, turn| each(some, turn, &handle).await)
                .await;
        for ((change, items), outcome) in changes.iter().zip(items).zip(outcomes) {
            match outcome {
                Ok(()) => done.push(change.time()),
                Err(error) => {
                    let post_id = change.post_id();
                    tracing::error!(%error, %post_id, ?items, "a record failed, and is tried again");
                    stuck.insert(post_id);
                    failures += items.len();
                    failed.extend(items);
                }
            }
        }
        failed.extend(behind.into_iter().flat_map(|received| received.items));
    }
    metrics::count(Metric::RecordsFailed, failures);
    metrics::ages(Metric::PostAgeMs, done);
    failed.sort();
    let failures = failed.into_iter().map(|item_identifier| KafkaBatchItemFailure { item_identifier });
    KafkaBatchResponse { batch_item_failures: failures.collect() }
}

/// The changes in rounds, in each of which a post has one at most: nearly always it is one round.
fn rounds(received: Vec<Received>) -> Vec<Vec<Received>> {
    let (mut rounds, mut next) = (Vec::<Vec<Received>>::new(), BTreeMap::<PostId, usize>::new());
    for one in received {
        let round = next.entry(one.change.post_id()).or_default();
        match rounds.get_mut(*round) {
            Some(others) => others.push(one),
            None => rounds.push(vec![one]),
        }
        *round += 1;
    }
    rounds
}

/// The changes of a batch, and the records that cannot be read. Heartbeats are measured on the way.
fn read(event: KafkaEvent) -> (Vec<Received>, Vec<KafkaItem>) {
    let (mut received, mut unreadable, mut heartbeats) = (Vec::<Received>::new(), Vec::new(), Vec::new());
    let mut places: BTreeMap<Uuid, usize> = BTreeMap::new();
    for (partition, records) in event.records {
        for KafkaRecord { offset, value } in records {
            let item = KafkaItem { partition: partition.clone(), offset };
            match record(value.as_deref()) {
                Ok(PostRecord { id, change: Change::Post(change), .. }) => {
                    let place = *places.entry(id).or_insert(received.len());
                    match received.get_mut(place) {
                        Some(one) => one.items.push(item),
                        None => received.push(Received { change, items: vec![item] }),
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

/// How many changes are handed over at once. Those behind them begin when these are done, so that an invocation that runs
/// out of time has got somewhere.
const AT_ONCE: usize = 25;

/// How many are found to fail alone, and none to be done, before it is taken for a service's failure.
const FEW: usize = 3;

/// Handles changes, some at once, and answers for each in turn. Where they fail together, each is tried alone, so that one
/// does not take the others with it; unless a service is away, which would fail them all again.
async fn each(
    changes: &[PostChange],
    deadline: Deadline,
    handle: &impl AsyncFn(&[PostChange]) -> Vec<Result<()>>,
) -> Vec<Result<()>> {
    let mut outcomes = Vec::with_capacity(changes.len());
    let mut service_is_away = false;
    for together in changes.chunks(AT_ONCE) {
        let mut answers = attempt(together, deadline, handle).await;
        if together.len() > 1 && !service_is_away && answers.iter().all(Result::is_err) {
            service_is_away = !each_alone(together, &mut answers, deadline, handle).await;
        }
        outcomes.append(&mut answers);
    }
    outcomes
}

/// Tries each change alone, and puts its answer in place of the one that it had; answers whether that made sense to the end.
async fn each_alone(
    changes: &[PostChange],
    answers: &mut [Result<()>],
    deadline: Deadline,
    handle: &impl AsyncFn(&[PostChange]) -> Vec<Result<()>>,
) -> bool {
    let (mut done, mut unavailable) = (0, 0);
    for (change, answer) in changes.iter().zip(answers) {
        if deadline.is_over() || (done == 0 && unavailable == FEW) {
            return false;
        }
        if let Some(alone) = attempt(std::slice::from_ref(change), deadline, handle).await.pop() {
            *answer = alone;
        }
        match answer {
            Ok(()) => done += 1,
            Err(Error::Unavailable { .. }) => unavailable += 1,
            Err(_) => {}
        }
    }
    true
}

/// Handles changes together; answers for each in turn, also where they panic, or run out of time.
async fn attempt(
    changes: &[PostChange],
    deadline: Deadline,
    handle: &impl AsyncFn(&[PostChange]) -> Vec<Result<()>>,
) -> Vec<Result<()>> {
    let work = Box::pin(AssertUnwindSafe(handle(changes)).catch_unwind());
    let (mut answers, missing): (Vec<_>, fn() -> Error) = match deadline.keep(work).await {
        Ok(Ok(answers)) => (answers, || Error::unavailable("a consumer", "it did not answer")),
        Ok(Err(_)) => (Vec::new(), || Error::unreadable("a change", "its handling panicked")),
        Err(_) => (Vec::new(), || Error::unavailable("the function", "it ran out of time")),
    };
    answers.resize_with(changes.len(), || Err(missing()));
    answers
}

/// Hands each message of a batch of a queue to `handle`, with the queue's ARN, all at once.
pub async fn messages<T: DeserializeOwned>(
    event: SqsEvent,
    deadline: Deadline,
    handle: impl AsyncFn(T, &str) -> Result<()>,
) -> SqsBatchResponse {
    let each = event.records.into_iter().map(|message| one_message(message, deadline, &handle));
    let outcomes = join_all(each).await;
    let mut response = SqsBatchResponse::default();
    outcomes.into_iter().flatten().for_each(|message_id| response.add_failure(message_id));
    response
}

/// Handles one message; answers its id if it failed.
async fn one_message<T: DeserializeOwned>(
    mut message: SqsMessage,
    deadline: Deadline,
    handle: &impl AsyncFn(T, &str) -> Result<()>,
) -> Option<String> {
    let queue = message.event_source_arn.take().unwrap_or_default();
    let (job, message_id) = match job(message) {
        Ok(read) => read,
        Err(message_id) => return Some(message_id),
    };
    let is_done = done(job, deadline, &async |job| handle(job, &queue).await, 1).await;
    (!is_done).then_some(message_id)
}

/// How many different jobs of a batch are under way at once.
const JOBS_AT_ONCE: usize = 16;

/// Hands each job of a batch of a queue to `handle` once, however many messages ask for it: they are all done with it, or
/// none is. For batches of many messages.
pub async fn jobs<T: DeserializeOwned + Eq + Hash>(
    event: SqsEvent,
    deadline: Deadline,
    handle: impl AsyncFn(T) -> Result<()>,
) -> SqsBatchResponse {
    let mut asked: HashMap<T, Vec<String>> = HashMap::new();
    let mut response = SqsBatchResponse::default();
    for message in event.records {
        match job(message) {
            Ok((job, message_id)) => asked.entry(job).or_default().push(message_id),
            Err(message_id) => response.add_failure(message_id),
        }
    }
    let handle = &handle;
    let each = asked.into_iter().map(|(job, ids)| async move {
        let is_done = done(job, deadline, handle, ids.len()).await;
        if is_done { Vec::new() } else { ids }
    });
    let failed: Vec<_> = stream::iter(each).buffer_unordered(JOBS_AT_ONCE).collect().await;
    failed.into_iter().flatten().for_each(|message_id| response.add_failure(message_id));
    response
}

/// What a message asks for, and its id; the id alone where it cannot be read.
fn job<T: DeserializeOwned>(message: SqsMessage) -> Result<(T, String), String> {
    let message_id = message.message_id.unwrap_or_default();
    match serde_json::from_str(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => Ok((job, message_id)),
        Err(error) => {
            tracing::error!(%error, message_id, "a message cannot be read, and is refused");
            metrics::count(Metric::RecordsRefused, 1);
            Err(message_id)
        }
    }
}

/// Does what so many messages ask for; answers whether it is done.
async fn done<T>(
    job: T,
    deadline: Deadline,
    handle: &impl AsyncFn(T) -> Result<()>,
    messages: usize,
) -> bool {
    let error = match deadline.keep(AssertUnwindSafe(handle(job)).catch_unwind()).await {
        Ok(Ok(Ok(()))) => return true,
        Ok(Ok(Err(error))) | Err(error) => error,
        Ok(Err(_)) => Error::unreadable("a message", "its handling panicked"),
    };
    tracing::error!(%error, messages, "a message failed, and is tried again");
    metrics::count(Metric::RecordsFailed, messages);
    false
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use tocsin_domain::{
        ids::UserId,
        post::{Author, NewPost, Post},
        post_edit::{Edit, FieldChange},
        post_log::Deletion,
        time,
    };

    use super::*;
    use crate::deadline::tests::within;

    fn post(title: &str) -> Post {
        let now = time::now();
        let body = json!({"title": title, "category": "fire", "location": {"lat": 60.4, "lon": 5.3}});
        let author = Author { user_id: UserId::new(now), username: "ada".into() };
        NewPost::from_json(&body, now).unwrap().into_post(PostId::new(now), author)
    }

    fn value(post: &Post) -> Value {
        BASE64_STANDARD.encode(PostRecord::created(post.clone()).to_json().unwrap()).into()
    }

    fn created(post: &Post) -> PostChange {
        PostChange::Created(Box::new(post.clone()))
    }

    fn title(change: &PostChange) -> &str {
        match change {
            PostChange::Created(post) => &post.title,
            PostChange::Edited(_) | PostChange::Deleted(_) => "",
        }
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

    async fn run(event: KafkaEvent, handle: impl AsyncFn(&[PostChange]) -> Vec<Result<()>>) -> Value {
        serde_json::to_value(changes(event, Deadline::default(), handle).await).unwrap()
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
        let answer = run(batch(&first, &second), async |changes| {
            seen.borrow_mut().extend_from_slice(changes);
            changes.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11), ("posts-1", 20), ("posts-1", 22)]));
        assert_eq!(seen.into_inner(), [created(&a), created(&b)]);
    }

    #[tokio::test]
    async fn a_failing_post_is_reported_with_each_of_its_records() {
        let (a, b) = (post("a"), post("b"));
        let event = batch(&[value(&a), value(&b), value(&a)], &[]);
        let answer = run(event, async |changes| {
            let fails = |change: &PostChange| {
                if title(change) == "a" { Err(Error::unavailable("posts", "down")) } else { Ok(()) }
            };
            changes.iter().map(fails).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 10), ("posts-0", 12)]));
    }

    #[tokio::test]
    async fn the_changes_of_a_post_are_done_in_order() {
        let (a, b) = (post("a"), post("b"));
        let title = FieldChange::Title("a, again".to_owned());
        let happened = [
            PostChange::Edited(Edit::new(&a, vec![title], time::now())),
            PostChange::Deleted(Deletion { post_id: a.post_id, deleted_at: time::now() }),
        ];
        let record = |change: &PostChange| {
            Value::from(BASE64_STANDARD.encode(PostRecord::from(change.clone()).to_json().unwrap()))
        };
        let values = [value(&a), record(&happened[0]), value(&b), record(&happened[1])];
        let calls = RefCell::new(Vec::new());
        let answer = run(batch(&values, &[]), async |changes| {
            calls.borrow_mut().push(changes.to_vec());
            changes.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(answer.await, failures(&[]));
        let [first, second] = happened.clone().map(|change| vec![change]);
        assert_eq!(calls.into_inner(), [vec![created(&a), created(&b)], first, second]);
        let answer = run(batch(&values, &[]), async |changes| {
            let fails = |change: &PostChange| match change {
                PostChange::Edited(_) => Err(Error::unavailable("posts", "down")),
                PostChange::Created(_) => Ok(()),
                PostChange::Deleted(_) => panic!("it is not its turn"),
            };
            changes.iter().map(fails).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11), ("posts-0", 13)]));
    }

    #[tokio::test]
    async fn a_panic_takes_its_own_post_only() {
        let event = batch(&[value(&post("a")), value(&post("bad")), value(&post("c"))], &[]);
        let answer = run(event, async |changes| {
            assert!(changes.iter().all(|change| title(change) != "bad"), "the panic of the test");
            changes.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11)]));
    }

    #[tokio::test]
    async fn one_that_fails_all_is_found_and_reported_alone() {
        let event = batch(&[value(&post("a")), value(&post("bad")), value(&post("c"))], &[]);
        let answer = run(event, async |changes| {
            let bad = changes.iter().any(|change| title(change) == "bad");
            let outcome = || if bad { Err(Error::unavailable("timelines", "too large")) } else { Ok(()) };
            changes.iter().map(|_| outcome()).collect()
        });
        assert_eq!(answer.await, failures(&[("posts-0", 11)]));
    }

    #[tokio::test]
    async fn a_service_that_is_away_is_asked_a_few_times_only() {
        let values: Vec<_> = (0..3 * AT_ONCE).map(|_| value(&post("a"))).collect();
        let asked = RefCell::new(0);
        let answer = run(batch(&values, &[]), async |changes| {
            *asked.borrow_mut() += 1;
            changes.iter().map(|_| Err(Error::unavailable("posts", "down"))).collect()
        });
        assert_eq!(answer.await["batchItemFailures"].as_array().unwrap().len(), values.len());
        assert_eq!(asked.into_inner(), 3 + FEW);
    }

    #[tokio::test]
    async fn an_invocation_that_runs_out_of_time_answers_what_it_has_done() {
        let values: Vec<_> = (0..=AT_ONCE).map(|_| value(&post("a"))).collect();
        let last = 10 + i64::try_from(AT_ONCE).unwrap();
        let calls = RefCell::new(0);
        let answer = changes(batch(&values, &[]), within(200), async |changes| {
            *calls.borrow_mut() += 1;
            if *calls.borrow() > 1 {
                std::future::pending::<()>().await;
            }
            changes.iter().map(|_| Ok(())).collect()
        });
        assert_eq!(serde_json::to_value(answer.await).unwrap(), failures(&[("posts-0", last)]));
        let records: Vec<_> = ["1", "2"].map(|n| json!({"messageId": n, "body": n})).into();
        let event = serde_json::from_value(json!({"Records": records})).unwrap();
        let answer = messages(event, within(200), async |number: u32, _| {
            if number == 2 {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let failed = json!({"batchItemFailures": [{"itemIdentifier": "2"}]});
        assert_eq!(serde_json::to_value(answer.await).unwrap(), failed);
    }

    #[tokio::test]
    async fn what_is_not_answered_for_is_tried_again() {
        let event = batch(&[value(&post("a")), value(&post("b"))], &[]);
        assert_eq!(run(event, async |_| vec![Ok(())]).await, failures(&[("posts-0", 11)]));
        assert_eq!(run(batch(&[], &[heartbeat()]), async |_| Vec::new()).await, failures(&[]));
    }

    #[tokio::test]
    async fn messages_fail_one_by_one() {
        let arn = "arn:aws:sqs:eu-north-1:1:pushes";
        let message = |id: &str, body: &str| json!({"messageId": id, "body": body, "eventSourceARN": arn});
        let records = [message("1", "7"), message("2", "not a number"), message("3", "8"), message("4", "9")];
        let event = serde_json::from_value(json!({"Records": records})).unwrap();
        let answer = messages(event, Deadline::default(), async |number: u32, queue| {
            assert_eq!(queue, "arn:aws:sqs:eu-north-1:1:pushes");
            assert_ne!(number, 9, "the panic of the test");
            if number == 8 { Err(Error::unavailable("pushes", "down")) } else { Ok(()) }
        });
        let failed = ["2", "3", "4"].map(|id| json!({"itemIdentifier": id}));
        assert_eq!(serde_json::to_value(answer.await).unwrap(), json!({"batchItemFailures": failed}));
    }

    #[tokio::test]
    async fn what_many_messages_ask_for_is_done_once_and_fails_with_all_of_them() {
        let message = |(id, body): (usize, &str)| json!({"messageId": id.to_string(), "body": body});
        let bodies = ["7", "8", "7", "x", "8", "9", "7"];
        let records: Vec<_> = bodies.into_iter().enumerate().map(message).collect();
        let event = serde_json::from_value(json!({"Records": records})).unwrap();
        let seen = RefCell::new(Vec::new());
        let answer = jobs(event, Deadline::default(), async |number: u32| {
            seen.borrow_mut().push(number);
            assert_ne!(number, 9, "the panic of the test");
            if number == 8 { Err(Error::unavailable("posts", "down")) } else { Ok(()) }
        });
        let failures = answer.await.batch_item_failures.into_iter();
        let mut failed: Vec<_> = failures.map(|failure| failure.item_identifier).collect();
        failed.sort();
        assert_eq!(failed, ["1", "3", "4", "5"]);
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!(seen, [7, 8, 9]);
    }
}
