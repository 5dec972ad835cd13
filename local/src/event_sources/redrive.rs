//! Brings back what ended in a dead-letter queue: messages to their own queue, as `StartMessageMoveTask` does, and
//! records, which are read from the topic once more. Here they are handed to the function that gave them up; in the cloud,
//! where only the event source invokes it so, they are appended to the topic.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use anyhow::{Context as _, bail};
use futures::TryFutureExt as _;
use krafka::producer::Producer;

use super::{
    Broker,
    batches::Batches,
    failure_document::FailureDocument,
    kafka_event::{self, Report},
    log::{self, Record, RecordLog},
    queue::{Queue, QueueError},
};

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Messages of the dead-letter queue that are gone from it: moved, or handled.
    pub moved: usize,
    /// Messages that failed once more, or that nobody here understands. They appear again after the queue's visibility
    /// timeout.
    pub kept: usize,
}

/// How long an empty receive may take before the queue counts as empty.
const SILENCE: Duration = Duration::from_secs(1);

/// Moves every message of `from` to `to`.
pub(crate) async fn messages(from: &dyn Queue, to: &dyn Queue) -> Result<Redriven, QueueError> {
    let mut redriven = Redriven::default();
    loop {
        let messages = from.receive(10, SILENCE).await?;
        if messages.is_empty() {
            return Ok(redriven);
        }
        for message in messages {
            // Sent before it is deleted: a crash between the two makes it two, never none.
            to.send(&message.body, message.custom_attributes.clone()).await?;
            from.delete(vec![message.receipt]).await?;
            redriven.moved += 1;
        }
    }
}

/// Handles every document of `from` that belongs to the source of `batches`.
pub(super) async fn records<L: RecordLog>(
    from: &dyn Queue,
    log: &L,
    batches: &Batches,
) -> Result<Redriven, QueueError> {
    letters(from, |body| record_batch(body, log, batches)).await
}

/// Appends the records of every document of `from` to their topic, behind the others. Each consumer gets them, and does
/// what it has not done.
pub(crate) async fn append(from: &dyn Queue, broker: &Broker, topic: &str) -> anyhow::Result<Redriven> {
    let producer = broker.kafka.producer().build().await?;
    let append = |body| append_batch(body, broker, &producer, topic).map_err(|error| format!("{error:#}"));
    let redriven = letters(from, append);
    Ok(redriven.await?)
}

async fn append_batch(body: String, broker: &Broker, producer: &Producer, topic: &str) -> anyhow::Result<()> {
    let document: FailureDocument = serde_json::from_str(&body).context("it is no such document")?;
    for (of, partition, first, last) in document.batch.ranges().context("its offsets are none")? {
        if of != topic {
            bail!("its topic is {of}, and not {topic}");
        }
        let records = log::read(broker, topic, partition, first, last).await?;
        let missing = usize::try_from(last - first + 1)?.saturating_sub(records.len());
        for record in records {
            let value = record.value.context("a record has no value")?;
            let again = krafka::Record::new(topic, value);
            let again = match record.key {
                Some(key) => again.key(key),
                None => again,
            };
            let _ = producer.send(again).await?;
        }
        if missing > 0 {
            bail!("{missing} of its records are not in the topic any more");
        }
    }
    Ok(())
}

/// Handles every message of `from`, and deletes those that are done.
async fn letters<F: Future<Output = Result<(), String>>>(
    from: &dyn Queue,
    handle: impl Fn(String) -> F,
) -> Result<Redriven, QueueError> {
    let mut redriven = Redriven::default();
    let mut kept = BTreeSet::new();
    loop {
        let messages = from.receive(10, SILENCE).await?;
        // Once around: those that were kept may be visible again.
        if messages.iter().all(|message| kept.contains(&message.id)) {
            redriven.kept = kept.len();
            return Ok(redriven);
        }
        for message in messages.into_iter().filter(|message| !kept.contains(&message.id)).collect::<Vec<_>>()
        {
            match handle(message.body).await {
                Ok(()) => {
                    from.delete(vec![message.receipt]).await?;
                    redriven.moved += 1;
                }
                Err(reason) => {
                    tracing::warn!(message = message.id, reason, "a dead letter could not be handled");
                    kept.insert(message.id);
                }
            }
        }
    }
}

/// Hands the records of a document to the function. An error is that not all of them were handled: some failed once more,
/// or are no longer there. Those that are there are handled all the same, and once more with the next redrive.
async fn record_batch<L: RecordLog>(body: String, log: &L, batches: &Batches) -> Result<(), String> {
    let document: FailureDocument =
        serde_json::from_str(&body).map_err(|error| format!("it is no such document: {error}"))?;
    let ranges = document.batch.ranges().ok_or("its offsets are none")?;
    let mut found: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    let mut missing = 0;
    for (topic, partition, first, last) in ranges {
        if topic != batches.source.topic {
            return Err(format!("its topic is {topic}, and the source reads {}", batches.source.topic));
        }
        let records = log.read(partition, first, last).await.map_err(|error| error.to_string())?;
        let wanted = usize::try_from(last.saturating_sub(first).saturating_add(1))
            .map_err(|_| "its offsets are none")?;
        // Every offset is a record's: the topic is neither compacted nor written to in transactions.
        missing += wanted.saturating_sub(records.len());
        found.entry(partition).or_default().extend(records);
    }
    let found: Vec<Record> = found.into_values().flatten().collect();
    for chunk in found.chunks(batches.source.batch_size.max(1)) {
        let event = kafka_event::event(chunk, &batches.source_arn, &batches.bootstrap_servers)
            .map_err(|error| error.to_string())?;
        let invocation = batches.function.invoke(event).await.map_err(|error| error.to_string())?;
        if batches.source.reports_failures
            && kafka_event::report(&invocation.payload, chunk) != Report::Success
        {
            return Err("the function failed on it once more".to_owned());
        }
    }
    if missing > 0 {
        return Err(format!("{missing} of its records are not in the topic any more"));
    }
    Ok(())
}
