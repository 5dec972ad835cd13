//! A log, a queue and a function in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::types::MessageAttributeValue;
use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::{
    event_sources::{
        invoker::Invoke,
        log::{LogError, Origin, Record, RecordLog},
        queue::{Depth, Message, Queue, QueueError},
    },
    runtime::{FunctionError, Invocation, InvokeError},
};

// ---- the log

#[derive(Clone, Default)]
pub(super) struct MemoryLog(pub(super) Arc<LogState>);

#[derive(Default)]
pub(super) struct LogState {
    pub(super) partitions: Mutex<BTreeMap<i32, Vec<Record>>>,
    pub(super) positions: Mutex<BTreeMap<i32, usize>>,
    pub(super) paused: Mutex<Vec<i32>>,
    pub(super) committed: Mutex<BTreeMap<i32, i64>>,
    pub(super) written: Notify,
    pub(super) most_read: AtomicUsize,
    pub(super) generation: AtomicU64,
}

impl MemoryLog {
    pub(super) fn with_partitions(count: i32) -> Self {
        let log = Self::default();
        log.0.partitions.lock().unwrap().extend((0..count).map(|partition| (partition, Vec::new())));
        log
    }

    pub(super) fn write(&self, partition: i32, value: &str) {
        self.write_at(partition, value, jiff::Timestamp::now().as_millisecond());
    }

    pub(super) fn write_at(&self, partition: i32, value: &str, timestamp: i64) {
        let mut partitions = self.0.partitions.lock().unwrap();
        let records = partitions.get_mut(&partition).unwrap();
        records.push(Record {
            topic: "posts".into(),
            partition,
            offset: i64::try_from(records.len()).unwrap(),
            timestamp,
            append_time: false,
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        });
        self.0.written.notify_waiters();
    }

    /// As an embedded broker that was started again: a topic of the same name, empty.
    pub(super) fn recreate(&self) {
        let mut partitions = self.0.partitions.lock().unwrap();
        partitions.values_mut().for_each(Vec::clear);
        self.0.positions.lock().unwrap().clear();
        self.0.committed.lock().unwrap().clear();
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        self.0.written.notify_waiters();
    }

    pub(super) fn committed(&self, partition: i32) -> i64 {
        self.0.committed.lock().unwrap().get(&partition).copied().unwrap_or(0)
    }

    /// As a new process would open it: at what is committed.
    pub(super) fn reopened(&self) -> Self {
        let new = Self::default();
        new.0.partitions.lock().unwrap().clone_from(&self.0.partitions.lock().unwrap());
        new.0.committed.lock().unwrap().clone_from(&self.0.committed.lock().unwrap());
        let starts = new.origin().starts;
        new.0.positions.lock().unwrap().extend(
            starts.into_iter().map(|(partition, offset)| (partition, usize::try_from(offset).unwrap())),
        );
        new
    }
}

impl RecordLog for MemoryLog {
    async fn poll(&self, wait: Duration) -> Result<Vec<Record>, LogError> {
        let written = self.0.written.notified();
        tokio::pin!(written);
        written.as_mut().enable();
        let take = || {
            let (partitions, mut positions) =
                (self.0.partitions.lock().unwrap(), self.0.positions.lock().unwrap());
            let paused = self.0.paused.lock().unwrap();
            let mut read = Vec::new();
            for (partition, records) in partitions.iter().filter(|(partition, _)| !paused.contains(partition))
            {
                let position = positions.entry(*partition).or_default();
                read.extend(records[*position..].iter().take(100).cloned());
                *position = records.len().min(*position + 100);
            }
            self.0.most_read.fetch_add(read.len(), Ordering::Relaxed);
            read
        };
        let read = take();
        if !read.is_empty() {
            return Ok(read);
        }
        let _ = timeout(wait, written).await;
        Ok(take())
    }

    fn wakes(&self) -> bool {
        true
    }

    async fn set_paused(&self, partition: i32, paused: bool) {
        let mut all = self.0.paused.lock().unwrap();
        all.retain(|other| *other != partition);
        if paused {
            all.push(partition);
        }
        self.0.written.notify_waiters();
    }

    fn origin(&self) -> Origin {
        let starts = self
            .0
            .partitions
            .lock()
            .unwrap()
            .keys()
            .map(|partition| (*partition, self.committed(*partition)))
            .collect();
        Origin { generation: self.0.generation.load(Ordering::Relaxed), starts }
    }

    async fn ends(&self) -> Result<BTreeMap<i32, i64>, LogError> {
        Ok(self
            .0
            .partitions
            .lock()
            .unwrap()
            .iter()
            .map(|(partition, records)| (*partition, i64::try_from(records.len()).unwrap()))
            .collect())
    }

    async fn commit(&self, offsets: BTreeMap<i32, i64>) -> Result<(), LogError> {
        let mut committed = self.0.committed.lock().unwrap();
        for (partition, offset) in offsets {
            let before = committed.insert(partition, offset).unwrap_or(0);
            assert!(offset >= before, "partition {partition} went back from {before} to {offset}");
        }
        Ok(())
    }

    async fn read(&self, partition: i32, first: i64, last: i64) -> Result<Vec<Record>, LogError> {
        let partitions = self.0.partitions.lock().unwrap();
        let wanted = partitions[&partition].iter().filter(|record| (first..=last).contains(&record.offset));
        Ok(wanted.cloned().collect())
    }

    async fn close(&self) {}
}

// ---- the queue

#[derive(Default)]
pub(super) struct MemoryQueue {
    pub(super) messages: Mutex<VecDeque<(Instant, Message)>>,
    pub(super) visibility: Duration,
    pub(super) deaf: Mutex<bool>,
    pub(super) sent: Notify,
}

impl MemoryQueue {
    pub(super) fn bodies(&self) -> Vec<Value> {
        self.messages
            .lock()
            .unwrap()
            .iter()
            .map(|(_, message)| serde_json::from_str(&message.body).unwrap())
            .collect()
    }

    pub(super) fn push(&self, id: &str, body: &str) {
        let message = Message {
            id: id.to_owned(),
            receipt: id.to_owned(),
            body: body.to_owned(),
            ..Message::default()
        };
        self.messages.lock().unwrap().push_back((Instant::now(), message));
        self.sent.notify_waiters();
    }
}

impl Queue for MemoryQueue {
    fn arn(&self) -> &'static str {
        "arn:aws:sqs:us-east-1:000000000000:queue"
    }

    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Message>, QueueError>> {
        Box::pin(async move {
            let until = Instant::now() + wait;
            loop {
                let mut received = Vec::new();
                for (visible, message) in self.messages.lock().unwrap().iter_mut() {
                    if *visible <= Instant::now() && received.len() < max.min(10) {
                        *visible = Instant::now() + self.visibility;
                        let count = message
                            .attributes
                            .entry("ApproximateReceiveCount".to_owned())
                            .or_insert("0".to_owned());
                        *count = (count.parse::<u32>().unwrap() + 1).to_string();
                        received.push(message.clone());
                    }
                }
                if !received.is_empty() || Instant::now() >= until {
                    return Ok(received);
                }
                let _ = timeout(Duration::from_millis(5), self.sent.notified()).await;
            }
        })
    }

    fn delete(&self, receipts: Vec<String>) -> BoxFuture<'_, Result<(), QueueError>> {
        self.messages.lock().unwrap().retain(|(_, message)| !receipts.contains(&message.receipt));
        Box::pin(async { Ok(()) })
    }

    fn release(&self, receipt: String, pause: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        for (visible, message) in self.messages.lock().unwrap().iter_mut() {
            if message.receipt == receipt {
                *visible = Instant::now() + pause;
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(
        &'a self,
        body: &'a str,
        _: BTreeMap<String, MessageAttributeValue>,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            if *self.deaf.lock().unwrap() {
                return Err(QueueError { queue: "dead".to_owned(), reason: "out of reach".to_owned() });
            }
            let id = uuid::Uuid::new_v4().to_string();
            self.push(&id, body);
            Ok(())
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        let visible = self.messages.lock().unwrap().len() as u64;
        Box::pin(async move { Ok(Depth { visible, hidden: 0 }) })
    }
}

// ---- the function

pub(super) type Answer = Result<Value, &'static str>;

/// Hands the values of each batch (by partition, in order) to a closure, and keeps what it saw.
pub(super) struct Function {
    pub(super) answer: Box<dyn Fn(&Value) -> Answer + Send + Sync>,
    pub(super) takes: Duration,
    pub(super) seen: Mutex<Vec<Value>>,
    pub(super) running: AtomicUsize,
    pub(super) most: AtomicUsize,
}

impl Function {
    pub(super) fn new(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Self::slow(Duration::ZERO, answer)
    }

    pub(super) fn slow(
        takes: Duration,
        answer: impl Fn(&Value) -> Answer + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (seen, running, most) = Default::default();
        Arc::new(Self { answer: Box::new(answer), takes, seen, running, most })
    }

    /// Every batch that it had, as the texts of its records.
    pub(super) fn batches(&self) -> Vec<Vec<String>> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|event| texts(event).into_iter().map(|(_, _, text)| text).collect())
            .collect()
    }

    pub(super) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Invoke for Function {
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Result<Invocation, InvokeError>> {
        Box::pin(async move {
            let event: Value = serde_json::from_slice(&event).unwrap();
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            sleep(self.takes).await;
            let answer = (self.answer)(&event);
            self.seen.lock().unwrap().push(event);
            self.running.fetch_sub(1, Ordering::SeqCst);
            let request_id = "00000000-0000-0000-0000-000000000001".to_owned();
            match answer {
                Ok(payload) => Ok(Invocation {
                    request_id,
                    payload: payload.to_string().into(),
                    duration: self.takes,
                    cold: false,
                }),
                Err("throttled") => Err(InvokeError::Throttled("f".to_owned())),
                Err(message) => Err(InvokeError::Function(FunctionError {
                    request_id,
                    error_type: "Test".to_owned(),
                    message: message.to_owned(),
                    payload: Bytes::new(),
                    reported: message != "crashed",
                })),
            }
        })
    }

    fn arn(&self) -> &'static str {
        "arn:aws:lambda:us-east-1:000000000000:function:f"
    }
}

/// (partition key, offset, value) of the records of a Kafka event.
pub(super) fn texts(event: &Value) -> Vec<(String, i64, String)> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let groups = event["records"].as_object().into_iter().flatten();
    let records = groups
        .flat_map(|(group, records)| records.as_array().unwrap().iter().map(move |record| (group, record)));
    records
        .map(|(group, record)| {
            let value = STANDARD.decode(record["value"].as_str().unwrap()).unwrap();
            (group.clone(), record["offset"].as_i64().unwrap(), String::from_utf8(value).unwrap())
        })
        .collect()
}

/// Reports the records that contain a word.
pub(super) fn reports(event: &Value, word: &str) -> Value {
    let failed = texts(event).into_iter().filter(|(_, _, text)| text.contains(word));
    let items = failed
        .map(|(partition, offset, _)| json!({"itemIdentifier": {"partition": partition, "offset": offset}}));
    json!({"batchItemFailures": items.collect::<Vec<_>>()})
}

/// Fails as a whole if any record contains a word.
pub(super) fn fails(event: &Value, word: &str) -> Answer {
    if texts(event).iter().any(|(_, _, text)| text.contains(word)) { Err("poison") } else { Ok(Value::Null) }
}
