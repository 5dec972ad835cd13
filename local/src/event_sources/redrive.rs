//! Brings back what ended in a dead-letter queue: messages to their own queue, as `StartMessageMoveTask` does, and
//! records, which are read from the topic once more and handed to the function that gave them up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    batches::Batches,
    failure_document::FailureDocument,
    kafka_event::{self, Report},
    log::{Record, RecordLog},
    queue::{Message, Queue, QueueError},
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
pub(super) async fn messages(from: &dyn Queue, to: &dyn Queue) -> Result<Redriven, QueueError> {
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
            match record_batch(&message, log, batches).await {
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
async fn record_batch<L: RecordLog>(message: &Message, log: &L, batches: &Batches) -> Result<(), String> {
    let document: FailureDocument =
        serde_json::from_str(&message.body).map_err(|error| format!("it is no such document: {error}"))?;
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
