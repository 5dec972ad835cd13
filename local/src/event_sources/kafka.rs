//! A Kafka event source mapping: reads a topic for one function, as AWS does.
//!
//! What AWS does, and where it says so (pages of <https://docs.aws.amazon.com/lambda/latest/dg/>):
//! - A batch is up to `BatchSize` records, of any partitions, gathered for `MaximumBatchingWindowInSeconds`, up to 6 MB
//!   (`invocation-eventsourcemapping.html`). A partition has one batch at a time in hand, so its order holds; partitions
//!   go on side by side (`kafka-scaling-modes.html`).
//! - A failed batch is retried `MaximumRetryAttempts` times, without end by default; with an on-failure destination at
//!   most 10 times. With `BisectBatchOnFunctionError` it is split in two and each half retried by itself
//!   (`kafka-retry-configurations.html`), which does not use up retries (`kinesis-on-failure-destination.html`).
//! - With `ReportBatchItemFailures` the answer names the failed records. Nothing, null or an empty object is success; a
//!   record that was not in the batch makes the whole batch fail (`kafka-retry-configurations.html`). Here each partition
//!   is retried from its lowest failed record on, as AWS's other streams are
//!   (`services-kinesis-batchfailurereporting.html`): the Kafka page says that just the failed records are retried, and what is
//!   retried here includes those. A record counts its own failures, so one that can never succeed goes alone, and those
//!   behind it are handed over once more, not given up with it.
//! - Records older than `MaximumRecordAgeInSeconds` are not sent any more.
//! - What is given up goes to the on-failure destination as a document without payload (`kafka-on-failure.html`).
//! - A partition's offset is committed when everything before it is done. Delivery is at least once.
//!
//! A reader keeps a bounded number of records of each partition at hand; a dispatcher makes batches of those of idle
//! partitions; [`super::batches`] sees each batch through. On the embedded broker, which cannot wake a reader, the end of
//! an invocation does: a record that a function wrote is read right after the function's answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    batches::{Batches, Progress},
    kafka_event,
    log::{LogError, Origin, Record, RecordLog},
    stop::Stop,
};
use crate::template::model::KafkaSource;

/// How often a log that cannot wake its reader is asked while there is traffic, and when there has been none for a while:
/// then, for what writers write that are no functions of ours.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(100);
/// How long traffic is expected to go on.
const LULL: Duration = Duration::from_secs(2);
/// How long a log that can is asked to wait.
const LONG_POLL: Duration = Duration::from_millis(500);
/// How long the last commit and the end of the log's clients may take: the log may be out of reach.
const CLOSE: Duration = Duration::from_secs(2);
/// After an error of the log.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// A running source.
pub(crate) struct Poller<L: RecordLog> {
    log: Arc<L>,
    batches: Arc<Batches>,
    done: Arc<Done>,
    tasks: Mutex<JoinSet<()>>,
}

/// How far each partition is.
struct Done {
    now: Mutex<Origin>,
    changed: Notify,
    free: mpsc::UnboundedSender<i32>,
}

impl Done {
    /// Begins anew with a topic that was made anew.
    fn follow(&self, origin: &Origin) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.generation != origin.generation {
            now.clone_from(origin);
        }
    }

    fn now(&self) -> Origin {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The progress of a batch.
struct BatchProgress {
    done: Arc<Done>,
    generation: u64,
}

impl Progress for BatchProgress {
    fn done(&self, partition: i32, offset: i64, all: bool) {
        let mut now = self.done.now.lock().unwrap_or_else(PoisonError::into_inner);
        // Records of a topic that is no more are done too, but their offsets are not those of the new one.
        if now.generation == self.generation {
            now.starts.insert(partition, offset);
        }
        drop(now);
        self.done.changed.notify_one();
        if all {
            let _ = self.done.free.send(partition);
        }
    }
}

/// Records as they were read, with their topic's generation.
type Read = (u64, Vec<Record>);

impl<L: RecordLog> Poller<L> {
    /// Starts to read. `nudge` changes when there may be new records.
    pub(crate) fn start(log: L, batches: Batches, nudge: watch::Receiver<u64>) -> Self {
        let (free, freed) = mpsc::unbounded_channel();
        let done = Arc::new(Done { now: Mutex::new(log.origin()), changed: Notify::new(), free });
        let (log, batches) = (Arc::new(log), Arc::new(batches));
        let (read, records) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_records(Arc::clone(&log), read, Arc::clone(&done), nudge, batches.stopping.clone()));
        tasks.spawn(commit_offsets(Arc::clone(&log), Arc::clone(&done), batches.stopping.clone()));
        let dispatcher = Dispatcher {
            log: Arc::clone(&log),
            batches: Arc::clone(&batches),
            done: Arc::clone(&done),
            partitions: BTreeMap::new(),
            turn: 0,
            running: JoinSet::new(),
        };
        tasks.spawn(dispatcher.run(records, freed));
        Self { log, batches, done, tasks: Mutex::new(tasks) }
    }

    /// How many records are not done.
    pub(crate) async fn lag(&self) -> Result<u64, LogError> {
        let ends = self.log.ends().await?;
        let done = self.done.now();
        // A topic that was made anew, and is not read yet, is not done. For a batch of several records the embedded broker
        // tells an end that is before it: nothing is undone then.
        let unread = u64::from(self.log.origin().generation != done.generation);
        let undone = |(partition, end): (&i32, &i64)| {
            u64::try_from(end - done.starts.get(partition).unwrap_or(end)).unwrap_or(0)
        };
        let lag = unread + ends.iter().map(undone).sum::<u64>();
        self.batches.metrics.lag.store(lag, Ordering::Relaxed);
        Ok(lag)
    }

    /// The log, for reading records once more.
    pub(crate) fn log(&self) -> &L {
        &self.log
    }

    /// The source's rules.
    pub(crate) fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Waits for the invocations in hand, after the source was told to stop, and for the last commit.
    pub(crate) async fn stopped(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
        match timeout(CLOSE, self.log.commit(self.done.now().starts)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the last offsets were not committed: their records come again");
            }
            Err(_) => {
                tracing::debug!("the last offsets were not committed in time: their records come again");
            }
        }
        if timeout(CLOSE, self.log.close()).await.is_err() {
            tracing::debug!("the log's clients did not close in time");
        }
    }
}

async fn read_records<L: RecordLog>(
    log: Arc<L>,
    read: mpsc::Sender<Read>,
    done: Arc<Done>,
    mut nudge: watch::Receiver<u64>,
    stopping: Stop,
) {
    let wait = if log.wakes() { LONG_POLL } else { Duration::ZERO };
    let (mut failing, mut traffic) = (false, Instant::now());
    while !stopping.is_requested() {
        nudge.mark_unchanged();
        let origin = log.origin();
        done.follow(&origin);
        let polled = tokio::select! {
            polled = log.poll(wait) => polled,
            () = stopping.requested() => return,
        };
        let pause = match polled {
            Ok(records) if records.is_empty() => {
                failing = false;
                if log.wakes() {
                    continue;
                }
                if traffic.elapsed() < LULL { BUSY } else { IDLE }
            }
            Ok(records) => {
                failing = false;
                traffic = Instant::now();
                if read.send((origin.generation, records)).await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => {
                // Once for an outage, not once for every try.
                if !failing {
                    tracing::warn!(%error, "reading failed, and is tried again");
                }
                failing = true;
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The sender lives as long as the fleet does.
            Ok(()) = nudge.changed(), if !failing => traffic = Instant::now(),
            () = stopping.requested() => return,
        }
    }
}

/// Commits in order, and only the newest offsets if several came meanwhile.
async fn commit_offsets<L: RecordLog>(log: Arc<L>, done: Arc<Done>, stopping: Stop) {
    let mut committed = log.origin();
    let mut failing = false;
    loop {
        tokio::select! {
            () = done.changed.notified() => {}
            () = stopping.requested() => return,
        }
        let now = done.now();
        if now.generation != committed.generation {
            committed = Origin { generation: now.generation, ..Origin::default() };
        }
        let is_new = |(partition, offset): &(i32, i64)| committed.starts.get(partition) != Some(offset);
        let new: BTreeMap<i32, i64> = now.starts.into_iter().filter(is_new).collect();
        if new.is_empty() {
            continue;
        }
        let outcome = tokio::select! {
            outcome = log.commit(new.clone()) => outcome,
            // The last commit has them too.
            () = stopping.requested() => return,
        };
        match outcome {
            Ok(()) => {
                failing = false;
                committed.starts.extend(new);
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "offsets could not be committed, and are tried again");
                }
                failing = true;
                tokio::select! {
                    () = tokio::time::sleep(AFTER_ERROR) => {}
                    () = stopping.requested() => return,
                }
                done.changed.notify_one();
            }
        }
    }
}

struct Dispatcher<L: RecordLog> {
    log: Arc<L>,
    batches: Arc<Batches>,
    done: Arc<Done>,
    partitions: BTreeMap<i32, Partition>,
    /// Which partition is first in the next batch, so that none is always last.
    turn: usize,
    running: JoinSet<()>,
}

struct Waiting {
    since: Instant,
    generation: u64,
    record: Record,
}

#[derive(Default)]
struct Partition {
    waiting: VecDeque<Waiting>,
    busy: bool,
    paused: bool,
}

impl<L: RecordLog> Dispatcher<L> {
    async fn run(mut self, mut records: mpsc::Receiver<Read>, mut freed: mpsc::UnboundedReceiver<i32>) {
        let stopping = self.batches.stopping.clone();
        loop {
            let wake = self.dispatch().await;
            tokio::select! {
                () = stopping.requested() => break,
                Some(partition) = freed.recv() => {
                    if let Some(partition) = self.partitions.get_mut(&partition) {
                        partition.busy = false;
                    }
                }
                Some(read) = records.recv() => self.take_in(read).await,
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                Some(_) = self.running.join_next() => {}
            }
        }
        while self.running.join_next().await.is_some() {}
    }

    async fn take_in(&mut self, (generation, records): Read) {
        let since = Instant::now();
        for record in records {
            self.partitions.entry(record.partition).or_default().waiting.push_back(Waiting {
                since,
                generation,
                record,
            });
        }
        let full = self.batches.source.batch_size.saturating_mul(2).max(64);
        for (number, partition) in &mut self.partitions {
            if !partition.paused && partition.waiting.len() >= full {
                partition.paused = true;
                self.log.set_paused(*number, true).await;
            }
        }
    }

    /// Sends every batch that is full or has waited for its window. Returns when the next one will have.
    async fn dispatch(&mut self) -> Option<Instant> {
        let source: &KafkaSource = &self.batches.source;
        let (size, window) = (source.batch_size.max(1), source.window);
        loop {
            let idle = self.partitions.values().filter(|partition| !partition.busy);
            let (mut count, mut bytes, mut oldest) = (0, 0, None::<Instant>);
            for waiting in idle.flat_map(|partition| &partition.waiting) {
                count += 1;
                bytes += kafka_event::size(&waiting.record);
                oldest = Some(oldest.map_or(waiting.since, |oldest| oldest.min(waiting.since)));
            }
            let due = oldest? + window;
            if count < size && bytes < kafka_event::MAX_RECORDS && Instant::now() < due {
                return Some(due);
            }
            let (generation, batch) = self.next_batch(size);
            for (number, partition) in &mut self.partitions {
                if partition.paused && partition.waiting.len() < size {
                    partition.paused = false;
                    self.log.set_paused(*number, false).await;
                }
            }
            let batches = Arc::clone(&self.batches);
            let progress = BatchProgress { done: Arc::clone(&self.done), generation };
            self.running.spawn(async move { batches.process(batch, &progress).await });
        }
    }

    fn next_batch(&mut self, size: usize) -> (u64, Vec<Record>) {
        let (mut batch, mut bytes, mut first) = (Vec::new(), 0, None);
        let count = self.partitions.len().max(1);
        let turn = self.turn % count;
        self.turn = turn + 1;
        let (before, after) = (self.partitions.keys().take(turn), self.partitions.keys().skip(turn));
        let order: Vec<i32> = after.chain(before).copied().collect();
        'partitions: for number in order {
            let Some(partition) = self.partitions.get_mut(&number).filter(|partition| !partition.busy) else {
                continue;
            };
            while batch.len() < size {
                let Some(waiting) = partition.waiting.front() else { break };
                if *first.get_or_insert(waiting.generation) != waiting.generation {
                    break;
                }
                bytes += kafka_event::size(&waiting.record);
                // The first goes alone if it must; one that is too large even so is given up by its batch.
                if bytes > kafka_event::MAX_RECORDS && !batch.is_empty() {
                    break 'partitions;
                }
                let Some(waiting) = partition.waiting.pop_front() else { break };
                partition.busy = true;
                batch.push(waiting.record);
            }
        }
        (first.unwrap_or_default(), batch)
    }
}
