//! The log that Kafka event sources read: a port, so that their rules are tested without a broker, and its adapter
//! over krafka.
//!
//! Partitions are assigned by hand: no group is joined, so that a source reads within milliseconds of its start, and
//! offsets are committed to the group all the same, where every Kafka tool can see the lag.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use krafka::{
    Kafka,
    admin::{
        AdminClient, AlterConsumerGroupOffsetsOptions, DescribeTopicsOptions,
        ListConsumerGroupOffsetsOptions, ListOffsetsOptions, OffsetSpec,
    },
    consumer::{AutoOffsetReset, Consumer, ConsumerRecord, TimestampType, TopicPartition},
    error::KrafkaError,
};
use thiserror::Error;

use crate::template::model::KafkaSource;

/// One record of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since the epoch.
    pub(crate) timestamp: i64,
    pub(crate) append_time: bool,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

/// Why the log cannot be read, or offsets cannot be committed.
#[derive(Debug, Error)]
#[error("the log: {0}")]
pub struct LogError(pub(crate) String);

impl From<KrafkaError> for LogError {
    fn from(error: KrafkaError) -> Self {
        Self(error.to_string())
    }
}

/// Where reading began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Which topic of this name it is: one that was deleted and made again has other records at the same offsets.
    pub(crate) generation: u64,
    /// For each partition the offset of the first record that is not done.
    pub(crate) starts: BTreeMap<i32, i64>,
}

/// A topic, as one group reads it.
pub(crate) trait RecordLog: Send + Sync + 'static {
    /// The next records, in order within each partition, each once; none if none come within `wait`. Dropping the
    /// future loses nothing.
    fn poll(&self, wait: Duration) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;
    /// Whether [`Self::poll`] returns as soon as there is a record. If not, it is asked without a wait, often.
    fn wakes(&self) -> bool;
    /// Stops reading these partitions, or goes on.
    fn set_paused(&self, partition: i32, paused: bool) -> impl Future<Output = ()> + Send;
    /// Where reading began. Changes only within [`Self::poll`], which then returns no records.
    fn origin(&self) -> Origin;
    /// Where each partition ends now.
    fn ends(&self) -> impl Future<Output = Result<BTreeMap<i32, i64>, LogError>> + Send;
    /// Records that everything before these offsets is done.
    fn commit(&self, offsets: BTreeMap<i32, i64>) -> impl Future<Output = Result<(), LogError>> + Send;
    /// Reads these records once more, without moving anything.
    fn read(
        &self,
        partition: i32,
        first: i64,
        last: i64,
    ) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;
    /// Ends its clients.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A Kafka cluster.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The connection.
    pub kafka: Kafka,
    /// As events name it.
    pub bootstrap_servers: String,
    /// Which habits it has.
    pub kind: BrokerKind,
}

/// What is asked of a broker depends on what it is good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Apache Kafka, MSK and the like: a fetch waits until there is a record.
    Kafka,
    /// The embedded tansu 0.6. It sleeps through the wait of a fetch even when it has records, so it is asked without a
    /// wait; and from the middle of a batch it returns the next batch only, so it is read from a batch's start.
    Embedded,
}

/// How often a reader without records asks whether its topic is still the same.
const CHECK: Duration = Duration::from_millis(500);

/// [`RecordLog`] over krafka.
pub(crate) struct KafkaLog {
    broker: Broker,
    admin: AdminClient,
    topic: Arc<str>,
    group: String,
    state: Mutex<State>,
}

struct State {
    consumer: Arc<Consumer>,
    origin: Origin,
    /// Records below these were asked for only because of [`BrokerKind::Embedded`].
    skip: BTreeMap<i32, i64>,
    topic_id: [u8; 16],
    checked: Instant,
}

impl KafkaLog {
    /// Begins where the group left off, or at the source's starting position. The topic must be there.
    pub(crate) async fn open(broker: &Broker, source: &KafkaSource) -> Result<Self, LogError> {
        let consumer = consumer(broker).await?;
        let admin = broker.kafka.admin();
        let metadata = consumer.fetch_metadata(Some(&source.topic)).await?;
        let topic = metadata.topics.into_iter().find(|topic| topic.name == source.topic);
        let topic_id = topic.as_ref().map_or([0; 16], |topic| topic.topic_id);
        let partitions: BTreeSet<i32> =
            topic.map(|topic| topic.partitions.into_keys().collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(LogError(format!("there is no topic {}", source.topic)));
        }
        let committed = committed(&admin, source, &partitions).await?;
        let fallback = if source.from_start { OffsetSpec::Earliest } else { OffsetSpec::Latest };
        let initial = list(&admin, &source.topic, &partitions, fallback).await?;
        let starts: BTreeMap<i32, i64> =
            initial.iter().map(|(p, offset)| (*p, committed.get(p).copied().unwrap_or(*offset))).collect();

        let begin = match broker.kind {
            BrokerKind::Kafka => starts.clone(),
            BrokerKind::Embedded => list(&admin, &source.topic, &partitions, OffsetSpec::Earliest).await?,
        };
        assign(&consumer, &source.topic, &begin).await?;
        let log = Self {
            broker: broker.clone(),
            admin,
            topic: source.topic.as_str().into(),
            group: source.group.clone(),
            state: Mutex::new(State {
                consumer: Arc::new(consumer),
                skip: starts.clone(),
                origin: Origin { generation: 0, starts: starts.clone() },
                topic_id,
                checked: Instant::now(),
            }),
        };
        if !source.from_start {
            // A source at the end of the topic stays where it began, also if it is restarted before its first record.
            log.commit(starts).await?;
        }
        Ok(log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The embedded log is in memory: when its broker is started again, the topic is a new one, from its first record
    /// on, and nothing would say so to a reader that waits at the old end.
    async fn follow_new_topic(&self, at_most_every: Duration) -> Result<(), LogError> {
        if self.broker.kind != BrokerKind::Embedded || self.state().checked.elapsed() < at_most_every {
            return Ok(());
        }
        self.state().checked = Instant::now();
        let described = self.admin.describe_topics([&*self.topic], DescribeTopicsOptions::default()).await?;
        let described = described.into_values().next();
        let id = described.ok_or_else(|| LogError(format!("there is no topic {}", self.topic)))??.topic_id;
        if id == [0; 16] || id == self.state().topic_id {
            return Ok(());
        }
        // Every client of the connection goes on asking for the topic that is no more, until it learns of the new one.
        self.broker.kafka.rebootstrap().await;
        let partitions = self.state().origin.starts.keys().copied().collect();
        let starts = list(&self.admin, &self.topic, &partitions, OffsetSpec::Earliest).await?;
        let consumer = consumer(&self.broker).await?;
        assign(&consumer, &self.topic, &starts).await?;
        tracing::warn!(topic = &*self.topic, "the topic was made anew, and is read from its start");
        let old = {
            let mut state = self.state();
            state.topic_id = id;
            state.skip.clear();
            state.origin = Origin { generation: state.origin.generation + 1, starts };
            std::mem::replace(&mut state.consumer, Arc::new(consumer))
        };
        Ok(old.close().await?)
    }

    fn consumer(&self) -> Arc<Consumer> {
        Arc::clone(&self.state().consumer)
    }

    fn record(&self, record: ConsumerRecord) -> Record {
        Record {
            topic: Arc::clone(&self.topic),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            append_time: record.timestamp_type == TimestampType::LogAppendTime,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }
}

impl RecordLog for KafkaLog {
    async fn poll(&self, wait: Duration) -> Result<Vec<Record>, LogError> {
        let records = match self.consumer().poll(wait).await {
            Ok(records) => records,
            // A partition was resumed.
            Err(KrafkaError::Wakeup) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if records.is_empty() {
            self.follow_new_topic(CHECK).await?;
            return Ok(Vec::new());
        }
        let mut state = self.state();
        let skip = &mut state.skip;
        let wanted = records.into_iter().filter(|record| match skip.get(&record.partition) {
            Some(first) if record.offset < *first => false,
            Some(_) => {
                skip.remove(&record.partition);
                true
            }
            None => true,
        });
        Ok(wanted.map(|record| self.record(record)).collect())
    }

    fn wakes(&self) -> bool {
        self.broker.kind == BrokerKind::Kafka
    }

    async fn set_paused(&self, partition: i32, paused: bool) {
        let consumer = self.consumer();
        if paused {
            consumer.pause(&self.topic, &[partition]).await;
        } else {
            consumer.resume(&self.topic, &[partition]).await;
            if self.wakes() {
                consumer.wakeup();
            }
        }
    }

    fn origin(&self) -> Origin {
        self.state().origin.clone()
    }

    async fn ends(&self) -> Result<BTreeMap<i32, i64>, LogError> {
        // Not the ends of one topic, held against what is done of another.
        self.follow_new_topic(Duration::ZERO).await?;
        let partitions = self.state().origin.starts.keys().copied().collect();
        list(&self.admin, &self.topic, &partitions, OffsetSpec::Latest).await
    }

    async fn commit(&self, offsets: BTreeMap<i32, i64>) -> Result<(), LogError> {
        let offsets = offsets
            .into_iter()
            .map(|(partition, offset)| (TopicPartition::new(&*self.topic, partition), offset));
        let outcome = self
            .admin
            .alter_consumer_group_offsets(
                self.group.as_str(),
                offsets,
                AlterConsumerGroupOffsetsOptions::default(),
            )
            .await?;
        outcome.into_values().collect::<Result<(), _>>().map_err(LogError::from)
    }

    async fn read(&self, partition: i32, first: i64, last: i64) -> Result<Vec<Record>, LogError> {
        let records = read(&self.broker, &self.topic, partition, first, last).await?;
        Ok(records.into_iter().map(|record| self.record(record)).collect())
    }

    async fn close(&self) {
        for closed in [self.consumer().close().await, self.admin.close().await] {
            if let Err(error) = closed {
                tracing::debug!(%error, "a client of the log did not close");
            }
        }
    }
}

/// The records of a topic's partition from `first` to `last`, as far as they are still there.
pub(super) async fn read(
    broker: &Broker,
    topic: &str,
    partition: i32,
    first: i64,
    last: i64,
) -> Result<Vec<ConsumerRecord>, LogError> {
    let consumer = consumer(broker).await?;
    consumer.assign(topic, vec![partition]).await?;
    match broker.kind {
        BrokerKind::Kafka => consumer.seek(topic, partition, first).await?,
        BrokerKind::Embedded => consumer.seek_to_beginning(topic, partition).await?,
    }
    let mut found = Vec::new();
    // Until the last one, or silence: the topic's retention may have taken some.
    loop {
        let records = consumer.poll(Duration::from_secs(2)).await?;
        let over = records.is_empty() || records.iter().any(|record| record.offset >= last);
        found.extend(records.into_iter().filter(|record| (first..=last).contains(&record.offset)));
        if over {
            consumer.close().await?;
            return Ok(found);
        }
    }
}

async fn consumer(broker: &Broker) -> Result<Consumer, KrafkaError> {
    // Everything that was fetched is handed out and buffered by the source, which pauses partitions itself: a fetch that
    // begins in the middle of a batch would lose its rest on the embedded broker.
    let wait = match broker.kind {
        BrokerKind::Kafka => Duration::from_millis(500),
        BrokerKind::Embedded => Duration::ZERO,
    };
    broker
        .kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .enable_auto_commit(false)
        .max_poll_records(-1)
        .max_buffered_records(0)
        .fetch_min_bytes(1)
        .fetch_max_wait(wait)
        .build()
        .await
}

async fn assign(consumer: &Consumer, topic: &str, offsets: &BTreeMap<i32, i64>) -> Result<(), LogError> {
    consumer.assign(topic, offsets.keys().copied().collect()).await?;
    for (partition, offset) in offsets {
        consumer.seek(topic, *partition, *offset).await?;
    }
    Ok(())
}

async fn list(
    admin: &AdminClient,
    topic: &str,
    partitions: &BTreeSet<i32>,
    spec: OffsetSpec,
) -> Result<BTreeMap<i32, i64>, LogError> {
    let specs = partitions.iter().map(|partition| (TopicPartition::new(topic, *partition), spec));
    let listed = admin.list_offsets(specs, ListOffsetsOptions::default()).await?;
    listed.into_iter().map(|(key, listed)| Ok((key.partition, listed?.offset))).collect()
}

/// What the group has committed. A group that is not there has committed nothing. An error is not nothing: everything would
/// be read once more, or everything since the last start be left out. Those that pass by themselves are tried again by the
/// client.
async fn committed(
    admin: &AdminClient,
    source: &KafkaSource,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<i32, i64>, LogError> {
    let wanted =
        partitions.iter().map(|partition| TopicPartition::new(source.topic.as_str(), *partition)).collect();
    let options = ListConsumerGroupOffsetsOptions::default().partitions(wanted);
    let offsets = admin.list_consumer_group_offsets(source.group.as_str(), options).await?;
    let mut committed = BTreeMap::new();
    for (key, offset) in offsets {
        if let Some(offset) = offset?.offset {
            committed.insert(key.partition, offset);
        }
    }
    Ok(committed)
}
