//! An SQS event source mapping, as AWS runs it for a standard queue
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>, `services-sqs-errorhandling.html`,
//! `services-sqs-scaling.html`).
//!
//! Messages are received by long polling, gathered for the batching window, and handed over; those that succeed are
//! deleted. Those that fail appear again, and the queue's redrive policy moves them to its dead-letter queue when they
//! were received too often. AWS extends no visibility timeout, which is why a queue's should be six times its function's
//! time.
//!
//! Other than AWS, a message that failed comes again before its visibility timeout has passed, which is minutes that nobody
//! here wants to wait for. If the function said that it failed, the first pauses are seconds. If the function crashed or was
//! out of time, it may have left things in the middle, and the pause is [`SETTLED`], as is the one before a message's last
//! try: so no message dies because it came again while something held it that would have let it go within AWS's time. What
//! is counted and where it ends is the same.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tocsin_domain::push::RESERVED_SECONDS;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{
    invoker::{Backoff, Invoke},
    partial_batch,
    queue::{Message, Queue, QueueError},
    stop::Stop,
};
use crate::{
    metrics::SourceMetrics,
    runtime::{InvokeError, MAX_PAYLOAD},
    template::model::SqsSource,
};

/// How many batches are in hand at once unless the template says so: AWS begins with five.
const CONCURRENCY: u32 = 5;
/// How long one receive waits. SQS allows 20 s; a shorter one lets a source end soon without abandoning a receive, whose
/// messages would be hidden from everyone.
const LONG_POLL: Duration = Duration::from_secs(2);

/// By when whatever a function held when it died is free again: a push's reservation is what holds longest.
const SETTLED: Duration = Duration::from_secs(RESERVED_SECONDS + 10);

/// The rules of one source, and what it needs to follow them.
pub(crate) struct SqsPoller {
    pub(crate) source: SqsSource,
    pub(crate) function: Arc<dyn Invoke>,
    pub(crate) queue: Arc<dyn Queue>,
    /// `maxReceiveCount` of the queue's redrive policy.
    pub(crate) max_receives: Option<u32>,
    pub(crate) region: String,
    pub(crate) visibility: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) metrics: Arc<SourceMetrics>,
    pub(crate) stopping: Stop,
    /// Messages in hand.
    pub(crate) in_hand: Mutex<BTreeSet<String>>,
}

impl SqsPoller {
    /// Receives until it is told to stop, then waits for the batches in hand.
    pub(crate) async fn run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(self.source.max_concurrency.unwrap_or(CONCURRENCY) as usize));
        let mut batches = JoinSet::new();
        let stopping = self.stopping.clone();
        let mut failures = 0;
        loop {
            while batches.try_join_next().is_some() {}
            // A message that nobody has time for stays visible to others.
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => permit,
                () = stopping.requested() => break,
            };
            let Ok(permit) = permit else { break };
            // Not raced against the stop: a receive that is abandoned hides its messages.
            match self.gather().await {
                Ok(messages) if messages.is_empty() => failures = 0,
                Ok(messages) => {
                    failures = 0;
                    let this = Arc::clone(&self);
                    batches.spawn(async move {
                        this.handle(messages).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(%error, "receiving failed, and is tried again");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(self.backoff.before(failures)) => {}
                        () = stopping.requested() => break,
                    }
                }
            }
            if stopping.is_requested() {
                break;
            }
        }
        while batches.join_next().await.is_some() {}
    }

    /// How many messages are not done.
    pub(crate) async fn lag(&self) -> Result<u64, QueueError> {
        let depth = self.queue.depth().await?;
        let lag = depth.visible + depth.hidden;
        self.metrics.lag.store(lag, Ordering::Relaxed);
        Ok(lag)
    }

    /// Messages for one invocation: as many as come within the window, up to the batch size and the payload's limit.
    async fn gather(&self) -> Result<Vec<Message>, QueueError> {
        let size = self.source.batch_size.max(1);
        let mut messages = self.queue.receive(size, LONG_POLL).await?;
        if messages.is_empty() {
            return Ok(messages);
        }
        let until = Instant::now() + self.source.window;
        let mut bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        while messages.len() < size
            && bytes < MAX_PAYLOAD / 4
            && Instant::now() < until
            && !self.stopping.is_requested()
        {
            // What has been received must be handled, whatever happens to a further receive.
            let Ok(more) = self.queue.receive(size - messages.len(), Duration::ZERO).await else { break };
            if more.is_empty() {
                tokio::time::sleep(Duration::from_millis(20).min(until - Instant::now())).await;
            }
            bytes += more.iter().map(|message| message.body.len()).sum::<usize>();
            messages.extend(more);
        }
        Ok(messages)
    }

    async fn handle(&self, messages: Vec<Message>) {
        let received = Instant::now();
        self.hold(&messages, true);
        let mut throttles = 0;
        let (failed, reported) = loop {
            let again = messages.iter().any(|message| receives(message) > 1);
            match self.function.invoke(self.event(&messages)).await {
                Ok(invocation) => {
                    self.count(again);
                    let failed = if self.source.reports_failures {
                        report(&invocation.payload, &messages)
                    } else {
                        BTreeSet::new()
                    };
                    break (failed, true);
                }
                Err(InvokeError::Function(error)) => {
                    self.count(again);
                    tracing::warn!(function = self.function.arn(), %error, messages = messages.len(), "a batch failed");
                    break (ids(&messages), error.reported);
                }
                // The function never had them. AWS tries until they are visible again.
                Err(error) => {
                    throttles += 1;
                    tracing::warn!(function = self.function.arn(), %error, "a batch could not be handed over");
                    let pause = self.backoff.before(throttles);
                    if self.stopping.is_requested() || received.elapsed() + pause >= self.visibility {
                        break (ids(&messages), false);
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        };
        let (failed, done): (Vec<_>, Vec<_>) =
            messages.iter().partition(|message| failed.contains(&message.id));
        let receipts: Vec<String> = done.iter().map(|message| message.receipt.clone()).collect();
        self.metrics.done.add(receipts.len() as u64);
        if !receipts.is_empty()
            && let Err(error) = self.queue.delete(receipts).await
        {
            tracing::warn!(%error, "messages that are done could not be deleted: they come again");
        }
        self.release(&failed, reported).await;
        let dead = failed
            .iter()
            .filter(|message| self.max_receives.is_some_and(|most| receives(message) >= most))
            .count();
        self.metrics.dead_letters.add(dead as u64);
        self.hold(&messages, false);
    }

    /// Lets failed messages come again, never later than by themselves.
    async fn release(&self, failed: &[&Message], reported: bool) {
        for message in failed {
            let pause = if reported { pause_after(receives(message), self.max_receives) } else { SETTLED };
            if pause >= self.visibility {
                continue;
            }
            if let Err(error) = self.queue.release(message.receipt.clone(), pause).await {
                tracing::debug!(%error, "a message comes again when its visibility timeout has passed");
            }
        }
    }

    fn count(&self, again: bool) {
        self.metrics.invocations.increment();
        if again {
            self.metrics.retries.increment();
        }
    }

    fn hold(&self, messages: &[Message], held: bool) {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            if held {
                in_hand.insert(message.id.clone());
            } else {
                in_hand.remove(&message.id);
            }
        }
    }

    /// Whether any message is with the function now.
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn event(&self, messages: &[Message]) -> Bytes {
        let records: Vec<Value> = messages
            .iter()
            .map(|message| {
                json!({
                    "messageId": message.id,
                    "receiptHandle": message.receipt,
                    "body": message.body,
                    "attributes": message.attributes,
                    "messageAttributes": message_attributes(message),
                    "md5OfBody": message.md5,
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self.queue.arn(),
                    "awsRegion": self.region,
                })
            })
            .collect();
        json!({ "Records": records }).to_string().into()
    }
}

/// How long a message that was reported as failed waits after so many receives: 2 s, 4 s, 8 s and so on, but before its
/// last try as long as everything may take to settle. Where there are four, the sum is 76 s.
pub(super) fn pause_after(receives: u32, most: Option<u32>) -> Duration {
    if most.is_some_and(|most| receives + 1 == most) {
        return SETTLED;
    }
    Duration::from_secs(2 << receives.saturating_sub(1).min(8)).min(SETTLED)
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| message.id.clone()).collect()
}

fn receives(message: &Message) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

fn message_attributes(message: &Message) -> Map<String, Value> {
    let attribute = |value: &aws_sdk_sqs::types::MessageAttributeValue| {
        let mut attribute =
            json!({"stringListValues": [], "binaryListValues": [], "dataType": value.data_type()});
        if let Some(text) = value.string_value() {
            attribute["stringValue"] = text.into();
        }
        if let Some(bytes) = value.binary_value() {
            attribute["binaryValue"] = STANDARD.encode(bytes.as_ref()).into();
        }
        attribute
    };
    message.custom_attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

/// The failed messages. An unknown or missing id, or an answer that is no report, fails the whole batch.
fn report(payload: &[u8], messages: &[Message]) -> BTreeSet<String> {
    let known = ids(messages);
    match partial_batch::failures::<String>(payload) {
        Ok(failed) if failed.iter().all(|id| known.contains(id)) => failed.into_iter().collect(),
        _ => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_aws_reads_it() {
        let message = |id: &str| Message { id: id.to_owned(), ..Message::default() };
        let messages = [message("a"), message("b")];
        let read =
            |answer: Value| report(answer.to_string().as_bytes(), &messages).into_iter().collect::<Vec<_>>();
        for success in
            [Value::Null, json!({}), json!({"batchItemFailures": []}), json!({"batchItemFailures": null})]
        {
            assert!(read(success).is_empty());
        }
        assert!(report(b"", &messages).is_empty());
        assert_eq!(read(json!({"batchItemFailures": [{"itemIdentifier": "b"}]})), ["b"]);
        for invalid in [
            json!({"batchItemFailures": [{"itemIdentifier": "c"}]}),
            json!({"batchItemFailures": [{"itemIdentifier": ""}]}),
            json!({"batchItemFailures": [{"itemIdentifier": null}]}),
            json!({"batchItemFailures": [{"id": "a"}]}),
        ] {
            assert_eq!(read(invalid.clone()), ["a", "b"], "{invalid}");
        }
    }
}
