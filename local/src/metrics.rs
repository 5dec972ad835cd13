//! What happened since the start: read by `/_local/metrics`, by tests and by the bench.
//!
//! Durations are kept in a histogram of bounded size and a known error (1.6 %), so that a night of load costs no
//! memory and a percentile is never an average of averages.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

/// The counters of everything that `local` runs. Cheap to clone; clones share their counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    functions: Arc<Mutex<BTreeMap<String, Arc<FunctionMetrics>>>>,
    event_sources: Arc<Mutex<BTreeMap<String, Arc<SourceMetrics>>>>,
}

impl Metrics {
    /// The counters of one function, made at their first use.
    #[must_use]
    pub fn function(&self, name: &str) -> Arc<FunctionMetrics> {
        entry(&self.functions, name)
    }

    /// The counters of one event source, made at their first use.
    #[must_use]
    pub fn event_source(&self, name: &str) -> Arc<SourceMetrics> {
        entry(&self.event_sources, name)
    }

    /// Everything, as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = self.event_sources.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            functions: functions.iter().map(|(name, metrics)| (name.clone(), metrics.snapshot())).collect(),
            event_sources: sources.iter().map(|(name, metrics)| (name.clone(), metrics.snapshot())).collect(),
        }
    }
}

fn entry<T: Default>(map: &Mutex<BTreeMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(map.entry(name.to_owned()).or_default())
}

/// The counters of one function.
#[derive(Debug, Default)]
pub struct FunctionMetrics {
    /// Invocations that were handed to a process.
    pub invocations: Counter,
    /// Those that ended in an error of the function: returned, crashed, or out of time.
    pub errors: Counter,
    /// Requests refused because every process was busy.
    pub throttles: Counter,
    /// Processes that ended without being asked to.
    pub crashes: Counter,
    /// Bytes of the largest resident set of any of its processes.
    pub peak_memory: Maximum,
    /// Process start to first response.
    pub cold_starts: Durations,
    /// Process start to the first request for work.
    pub initialisations: Durations,
    /// Of every invocation that had a process, from the event handed over to the answer.
    pub durations: Durations,
    /// What the front door answered for it, by HTTP status.
    pub answers: Answers,
}

impl FunctionMetrics {
    fn snapshot(&self) -> FunctionSnapshot {
        FunctionSnapshot {
            invocations: self.invocations.get(),
            errors: self.errors.get(),
            throttles: self.throttles.get(),
            crashes: self.crashes.get(),
            cold_starts: self.cold_starts.count(),
            cold_start_p50_ms: self.cold_starts.percentile_ms(50.0),
            initialisation_p50_ms: self.initialisations.percentile_ms(50.0),
            p50_ms: self.durations.percentile_ms(50.0),
            p99_ms: self.durations.percentile_ms(99.0),
            peak_memory_bytes: self.peak_memory.get(),
            answers: self.answers.by_status(),
        }
    }
}

/// The counters of one event source.
#[derive(Debug, Default)]
pub struct SourceMetrics {
    /// Records or messages that are not done yet, as last seen.
    pub lag: AtomicU64,
    /// Invocations made, retries included.
    pub invocations: Counter,
    /// Invocations made again because an earlier one of the same records failed.
    pub retries: Counter,
    /// Records or messages that are done: handled, or given up.
    pub done: Counter,
    /// Records or messages that went to a dead-letter queue.
    pub dead_letters: Counter,
    /// Records that were given up and had no queue to go to, as in AWS.
    pub discarded: Counter,
}

impl SourceMetrics {
    fn snapshot(&self) -> SourceSnapshot {
        SourceSnapshot {
            lag: self.lag.load(Ordering::Relaxed),
            invocations: self.invocations.get(),
            retries: self.retries.get(),
            done: self.done.get(),
            dead_letters: self.dead_letters.get(),
            discarded: self.discarded.get(),
        }
    }
}

/// [`Metrics`] at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// By the function's name.
    pub functions: BTreeMap<String, FunctionSnapshot>,
    /// By the source's name: `load-timelines/posts`.
    pub event_sources: BTreeMap<String, SourceSnapshot>,
}

/// [`FunctionMetrics`] at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionSnapshot {
    /// See [`FunctionMetrics::invocations`].
    pub invocations: u64,
    /// See [`FunctionMetrics::errors`].
    pub errors: u64,
    /// See [`FunctionMetrics::throttles`].
    pub throttles: u64,
    /// See [`FunctionMetrics::crashes`].
    pub crashes: u64,
    /// How many processes were started and have answered.
    pub cold_starts: u64,
    /// Median of process start to first response.
    pub cold_start_p50_ms: Option<f64>,
    /// Median of process start to the first request for work.
    pub initialisation_p50_ms: Option<f64>,
    /// Median duration.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the durations.
    pub p99_ms: Option<f64>,
    /// See [`FunctionMetrics::peak_memory`]. 0 where the system does not tell: only Linux does.
    pub peak_memory_bytes: u64,
    /// See [`FunctionMetrics::answers`].
    pub answers: BTreeMap<u16, u64>,
}

/// [`SourceMetrics`] at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct SourceSnapshot {
    /// See [`SourceMetrics::lag`].
    pub lag: u64,
    /// See [`SourceMetrics::invocations`].
    pub invocations: u64,
    /// See [`SourceMetrics::retries`].
    pub retries: u64,
    /// See [`SourceMetrics::done`].
    pub done: u64,
    /// See [`SourceMetrics::dead_letters`].
    pub dead_letters: u64,
    /// See [`SourceMetrics::discarded`].
    pub discarded: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often each HTTP status was answered.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<u16, u64>>);

impl Answers {
    /// One more.
    pub fn count(&self, status: u16) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// How often each was.
    #[must_use]
    pub fn by_status(&self) -> BTreeMap<u16, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The largest number seen.
#[derive(Debug, Default)]
pub struct Maximum(AtomicU64);

impl Maximum {
    /// Takes `value` into account.
    pub fn observe(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// The largest so far; 0 before the first.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram of durations: 64 buckets to each power of two of microseconds.
#[derive(Debug, Default)]
pub struct Durations(Mutex<Histogram>);

#[derive(Debug, Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Durations {
    /// Takes `duration` into account.
    pub fn observe(&self, duration: Duration) {
        let bucket = bucket_of(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if histogram.buckets.len() <= bucket {
            histogram.buckets.resize(bucket + 1, 0);
        }
        histogram.buckets[bucket] += 1;
        histogram.count += 1;
    }

    /// How many were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// The duration that `percent` of all are at or below, within 1.6 %. `None` before the first.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among fewer than 2^52 observations"
        )]
        let rank = ((histogram.count as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        histogram.buckets.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (*count > 0 && seen >= rank).then(|| Duration::from_micros(middle_of(bucket)))
        })
    }

    fn percentile_ms(&self, percent: f64) -> Option<f64> {
        self.percentile(percent).map(|duration| (duration.as_secs_f64() * 1e5).round() / 100.0)
    }
}

const FINE: u32 = 6;

fn bucket_of(micros: u64) -> usize {
    let magnitude = micros.checked_ilog2().unwrap_or(0);
    let bucket = if magnitude < FINE {
        micros
    } else {
        let shift = magnitude - FINE;
        (u64::from(shift + 1) << FINE) + ((micros >> shift) & ((1 << FINE) - 1))
    };
    // At most 64 magnitudes of 64 buckets.
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let magnitude = bucket >> FINE;
    if magnitude == 0 {
        return bucket;
    }
    let shift = magnitude - 1;
    let low = ((1 << FINE) + (bucket & ((1 << FINE) - 1))) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_two_percent() {
        let durations = Durations::default();
        assert_eq!(durations.percentile(50.0), None);
        for millis in 1..=1000 {
            durations.observe(Duration::from_millis(millis));
        }
        for (percent, expected) in [(50.0, 0.5), (99.0, 0.99), (100.0, 1.0)] {
            let found = durations.percentile(percent).expect("observed").as_secs_f64();
            assert!((found - expected).abs() / expected < 0.02, "{percent}: {found} is not {expected}");
        }
    }

    #[test]
    fn buckets_grow_with_the_duration_and_hold_their_middle() {
        let mut last = 0;
        for micros in (0..200).chain([1_000, 65_535, 65_536, 10_000_000, u64::MAX / 2]) {
            let bucket = bucket_of(micros);
            assert!(bucket >= last, "{micros} µs fell behind");
            assert_eq!(bucket_of(middle_of(bucket)), bucket);
            last = bucket;
        }
    }
}
