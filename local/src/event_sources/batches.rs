//! What happens to a batch of records until each is done: handled by the function, or given up and put where it can be
//! found again. Nothing else moves a partition's offset.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    failure_document::{BatchInfo, Condition, FailureDocument, RequestContext, ResponseContext, instant},
    invoker::{Backoff, Invoke},
    kafka_event::{self, Report},
    log::Record,
    queue::Queue,
    stop::Stop,
};
use crate::{metrics::SourceMetrics, runtime::InvokeError, template::model::KafkaSource};
use futures::future::{BoxFuture, join_all};

/// The retries that AWS allows itself where a source has an on-failure destination and no bound of its own
/// (<https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html>).
const RETRIES_WITH_DESTINATION: u32 = 10;

/// The rules of one source, and what it needs to follow them.
pub(super) struct Batches {
    pub(super) source: KafkaSource,
    pub(super) function: Arc<dyn Invoke>,
    pub(super) destination: Option<Arc<dyn Queue>>,
    pub(super) source_arn: String,
    pub(super) bootstrap_servers: String,
    pub(super) backoff: Backoff,
    pub(super) metrics: Arc<SourceMetrics>,
    /// Turns true when no more invocations may begin.
    pub(super) stopping: Stop,
}

/// Who learns how far each partition is.
pub(super) trait Progress: Send + Sync {
    /// Everything of the partition before `offset` is done. `all`: and so is all that the batch has of it.
    fn done(&self, partition: i32, offset: i64, all: bool);
}

/// A record on its way.
struct Pending {
    record: Record,
    /// How many invocations have had it.
    invocations: u32,
    /// How many of them count against its retries.
    failures: u32,
    last: Option<Arc<Ended>>,
}

/// How an invocation ended, for the document of records that are given up after it.
struct Ended {
    request_id: String,
    function_error: Option<String>,
}

enum Outcome {
    Success,
    /// The function never had the batch: it was throttled, say. AWS does not count that.
    NotInvoked,
    Failed,
    /// These offsets, by partition.
    Reported(BTreeMap<i32, BTreeSet<i64>>),
}

/// Told to stop: what is left stays undone, and is read again at the next start.
struct Stopped;

impl Batches {
    /// Sees a batch through. Returns with records undone only when it is told to stop.
    pub(super) async fn process(&self, records: Vec<Record>, progress: &dyn Progress) {
        let undone = Undone::new(&records, progress, &self.metrics);
        let pending = |record| Pending { record, invocations: 0, failures: 0, last: None };
        // Stopped is no failure: nothing was lost.
        let _ = self.run(records.into_iter().map(pending).collect(), &undone).await;
    }

    fn run<'a>(&'a self, batch: Vec<Pending>, undone: &'a Undone<'a>) -> BoxFuture<'a, Result<(), Stopped>> {
        Box::pin(async move {
            // In order: what comes first is done before anything after it is tried.
            let mut waiting = VecDeque::from([batch]);
            while let Some(batch) = waiting.pop_front() {
                let mut batch = self.sift(batch, undone).await?;
                if batch.is_empty() {
                    continue;
                }
                let rest = match self.invoke(&mut batch).await? {
                    Outcome::Success => {
                        undone.finish(batch.iter().map(|pending| &pending.record));
                        continue;
                    }
                    Outcome::NotInvoked => {
                        self.wait(1).await?;
                        batch
                    }
                    Outcome::Failed if self.source.bisects && batch.len() > 1 => {
                        let mut parts = by_partition(batch);
                        if parts.len() > 1 {
                            // One partition's poison is no other's: from here on they go on side by side.
                            join_all(parts.into_iter().map(|part| self.run(part, undone)))
                                .await
                                .into_iter()
                                .collect::<Result<(), _>>()?;
                            continue;
                        }
                        let mut first = parts.pop().unwrap_or_default();
                        let second = first.split_off(first.len() / 2);
                        waiting.push_front(second);
                        first
                    }
                    Outcome::Failed => self.after_failure(batch, |_| true, undone).await?,
                    Outcome::Reported(failed) => {
                        let none = BTreeSet::new();
                        let parts = by_partition(batch).into_iter().map(|part| {
                            let partition = part.first().map_or(-1, |pending| pending.record.partition);
                            self.after_report(part, failed.get(&partition).unwrap_or(&none), undone)
                        });
                        let outcomes = join_all(parts).await;
                        outcomes.into_iter().collect::<Result<(), _>>()?;
                        continue;
                    }
                };
                if !rest.is_empty() {
                    waiting.push_front(rest);
                }
            }
            Ok(())
        })
    }

    /// One partition of a batch after a report. What comes before the first failure is done; from there on all is
    /// tried again, also what was not reported: AWS's page says that just the reported are, its other streams go back
    /// to the first, and a function may have stopped there.
    async fn after_report(
        &self,
        mut part: Vec<Pending>,
        failed: &BTreeSet<i64>,
        undone: &Undone<'_>,
    ) -> Result<(), Stopped> {
        let first =
            part.iter().position(|pending| failed.contains(&pending.record.offset)).unwrap_or(part.len());
        let rest = part.split_off(first);
        undone.finish(part.iter().map(|pending| &pending.record));
        if rest.is_empty() {
            return Ok(());
        }
        let rest = self.after_failure(rest, |record| failed.contains(&record.offset), undone).await?;
        if rest.is_empty() { Ok(()) } else { self.run(rest, undone).await }
    }

    /// Counts a failure of some records, gives those up that have had their retries, waits if others have not, and returns
    /// what is to be tried again.
    async fn after_failure(
        &self,
        mut batch: Vec<Pending>,
        is_failed: impl Fn(&Record) -> bool,
        undone: &Undone<'_>,
    ) -> Result<Vec<Pending>, Stopped> {
        let most = self.source.max_retries.or(self.destination.is_some().then_some(RETRIES_WITH_DESTINATION));
        let mut worst = 0;
        for pending in batch.iter_mut().filter(|pending| is_failed(&pending.record)) {
            pending.failures += 1;
            if most.is_none_or(|most| pending.failures <= most) {
                worst = worst.max(pending.failures);
            }
        }
        let exhausted = |pending: &Pending| {
            let over = most.is_some_and(|most| pending.failures > most);
            over.then_some(Condition::RetryAttemptsExhausted)
        };
        let rest = self.give_up(batch, exhausted, undone).await?;
        if worst > 0 {
            self.wait(worst).await?;
        }
        Ok(rest)
    }

    /// Gives up what must not be sent any more.
    async fn sift(&self, batch: Vec<Pending>, undone: &Undone<'_>) -> Result<Vec<Pending>, Stopped> {
        let now = jiff::Timestamp::now().as_millisecond();
        let most = self.source.max_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let condition = |pending: &Pending| {
            if most.is_some_and(|most| now.saturating_sub(pending.record.timestamp) > most) {
                Some(Condition::MaximumRecordAgeExceeded)
            } else if kafka_event::size(&pending.record) > kafka_event::MAX_RECORDS {
                Some(Condition::MaximumPayloadSizeExceeded)
            } else {
                None
            }
        };
        self.give_up(batch, condition, undone).await
    }

    /// Gives up the records that have a condition for it, one document for each run of neighbours, and returns the others.
    async fn give_up(
        &self,
        batch: Vec<Pending>,
        condition: impl Fn(&Pending) -> Option<Condition>,
        undone: &Undone<'_>,
    ) -> Result<Vec<Pending>, Stopped> {
        let mut kept = Vec::with_capacity(batch.len());
        let mut run: Vec<Pending> = Vec::new();
        let mut run_condition = None;
        for pending in batch {
            let condition = condition(&pending);
            if condition != run_condition {
                self.send_away(&mut run, run_condition, undone).await?;
                run_condition = condition;
            }
            if condition.is_some() { run.push(pending) } else { kept.push(pending) }
        }
        self.send_away(&mut run, run_condition, undone).await?;
        Ok(kept)
    }

    /// The records are done once the destination has them, and not before.
    async fn send_away(
        &self,
        run: &mut Vec<Pending>,
        condition: Option<Condition>,
        undone: &Undone<'_>,
    ) -> Result<(), Stopped> {
        let (Some(condition), false) = (condition, run.is_empty()) else { return Ok(()) };
        let records: Vec<&Record> = run.iter().map(|pending| &pending.record).collect();
        let count = records.len() as u64;
        match &self.destination {
            Some(destination) => {
                let document = self.document(run, condition, &records);
                let body = serde_json::to_string(&document).unwrap_or_default();
                let mut attempt = 0;
                while let Err(error) = destination.send(&body, BTreeMap::new()).await {
                    attempt += 1;
                    tracing::warn!(%error, "records that were given up could not be kept, and are held back until they can");
                    self.wait(attempt).await?;
                }
                self.metrics.dead_letters.add(count);
            }
            None => self.metrics.discarded.add(count),
        }
        let first = records.first().map_or(0, |record| record.offset);
        tracing::warn!(
            function = self.function.arn(),
            topic = self.source.topic,
            first,
            count,
            ?condition,
            "records were given up"
        );
        undone.finish(records);
        run.clear();
        Ok(())
    }

    fn document(&self, run: &[Pending], condition: Condition, records: &[&Record]) -> FailureDocument {
        let last = run.iter().rev().find_map(|pending| pending.last.as_deref());
        FailureDocument {
            request_context: RequestContext {
                request_id: last
                    .map_or_else(|| uuid::Uuid::new_v4().to_string(), |last| last.request_id.clone()),
                function_arn: self.function.arn().to_owned(),
                condition,
                approximate_invoke_count: run.iter().map(|pending| pending.invocations).max().unwrap_or(0),
            },
            response_context: last.map(|last| ResponseContext {
                status_code: 200,
                executed_version: "$LATEST".to_owned(),
                function_error: last.function_error.clone(),
            }),
            version: "1.0".to_owned(),
            timestamp: instant(jiff::Timestamp::now().as_millisecond()),
            batch: BatchInfo::of(records, &self.source_arn, &self.bootstrap_servers),
        }
    }

    async fn invoke(&self, batch: &mut [Pending]) -> Result<Outcome, Stopped> {
        if self.stopping.is_requested() {
            return Err(Stopped);
        }
        let records = batch.iter().map(|pending| &pending.record);
        let Ok(event) = kafka_event::event(records, &self.source_arn, &self.bootstrap_servers) else {
            return Ok(Outcome::Failed);
        };
        let again = batch.iter().any(|pending| pending.invocations > 0);
        let (ended, outcome) = match self.function.invoke(event).await {
            Ok(invocation) => {
                let records = batch.iter().map(|pending| &pending.record);
                let report = if self.source.reports_failures {
                    kafka_event::report(&invocation.payload, records)
                } else {
                    Report::Success
                };
                let ended = Ended { request_id: invocation.request_id, function_error: None };
                let outcome = match report {
                    Report::Success => Outcome::Success,
                    Report::Failures(failed) => Outcome::Reported(failed),
                    Report::Invalid => {
                        tracing::warn!(
                            function = self.function.arn(),
                            "the answer is no report on this batch, which counts as failed"
                        );
                        Outcome::Failed
                    }
                };
                (ended, outcome)
            }
            Err(InvokeError::Function(error)) => {
                tracing::warn!(function = self.function.arn(), %error, records = batch.len(), "a batch failed");
                (
                    Ended { request_id: error.request_id, function_error: Some("Unhandled".to_owned()) },
                    Outcome::Failed,
                )
            }
            Err(error) => {
                tracing::warn!(function = self.function.arn(), %error, "a batch could not be handed over, and waits");
                return Ok(Outcome::NotInvoked);
            }
        };
        self.metrics.invocations.increment();
        if again {
            self.metrics.retries.increment();
        }
        let ended = Arc::new(ended);
        for pending in batch {
            pending.invocations += 1;
            pending.last = Some(Arc::clone(&ended));
        }
        Ok(outcome)
    }

    async fn wait(&self, retry: u32) -> Result<(), Stopped> {
        tokio::select! {
            () = tokio::time::sleep(self.backoff.before(retry)) => Ok(()),
            () = self.stopping.requested() => Err(Stopped),
        }
    }
}

/// The records of each partition, in their order.
fn by_partition(batch: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut parts: BTreeMap<i32, Vec<Pending>> = BTreeMap::new();
    for pending in batch {
        parts.entry(pending.record.partition).or_default().push(pending);
    }
    parts.into_values().collect()
}

/// Which records of a batch are not done.
struct Undone<'a> {
    offsets: Mutex<BTreeMap<i32, BTreeSet<i64>>>,
    ends: BTreeMap<i32, i64>,
    progress: &'a dyn Progress,
    metrics: &'a SourceMetrics,
}

impl<'a> Undone<'a> {
    fn new(records: &[Record], progress: &'a dyn Progress, metrics: &'a SourceMetrics) -> Self {
        let mut offsets: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for record in records {
            offsets.entry(record.partition).or_default().insert(record.offset);
            ends.insert(record.partition, record.offset + 1);
        }
        Self { offsets: Mutex::new(offsets), ends, progress, metrics }
    }

    /// A partition is done up to its first record that is not.
    fn finish<'r>(&self, records: impl IntoIterator<Item = &'r Record>) {
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut touched = BTreeSet::new();
        let mut count = 0;
        for record in records {
            if offsets.get_mut(&record.partition).is_some_and(|undone| undone.remove(&record.offset)) {
                touched.insert(record.partition);
                count += 1;
            }
        }
        self.metrics.done.add(count);
        for partition in touched {
            let first = offsets.get(&partition).and_then(|undone| undone.first().copied());
            if let Some(offset) = first.or_else(|| self.ends.get(&partition).copied()) {
                self.progress.done(partition, offset, first.is_none());
            }
        }
    }
}
