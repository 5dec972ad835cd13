//! Every function with its processes: finds an idle one for an event, or starts one, within the function's concurrency.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{
    Logs, MAX_PAYLOAD,
    process::{Failure, Process},
    runtime_api::Reply,
};
use crate::{
    metrics::{FunctionMetrics, Metrics},
    template::model::Function,
};

/// The variable of functions that write to the log.
const LOG_VARIABLE: &str = "KAFKA_BOOTSTRAP_SERVERS";

/// All functions. Cheap to clone; clones share their processes. [`Fleet::shutdown`] ends them.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    pools: BTreeMap<String, Arc<Pool>>,
    options: FleetOptions,
    activity: watch::Sender<u64>,
    closed: watch::Sender<bool>,
}

/// How a fleet runs its functions.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How many processes a function without a reserved concurrency may have. AWS has 1,000 to share; a machine has less.
    pub default_concurrency: u32,
    /// How long a process may take to ask for its first event: AWS gives 10 s.
    pub initialisation: Duration,
    /// The region that functions see.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            default_concurrency: 10,
            initialisation: Duration::from_secs(10),
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
        }
    }
}

/// What is started for a function.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments; a function's own binary has none.
    pub arguments: Vec<String>,
}

impl From<PathBuf> for Program {
    fn from(path: PathBuf) -> Self {
        Self { path, arguments: Vec::new() }
    }
}

/// What a caller wants when every process of a function is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// To wait for one.
    Wait,
    /// To be told so ([`InvokeError::Throttled`]) by a function that has a reserved concurrency.
    Refuse,
}

/// A successful invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The invocation's id, which the function's logs have too.
    pub request_id: String,
    /// What the function returned.
    pub payload: Bytes,
    /// From the event handed over to the answer, a start included.
    pub duration: Duration,
    /// Whether a process was started for it.
    pub cold: bool,
}

/// An invocation that has no result.
#[derive(Debug, Error)]
pub enum InvokeError {
    /// The function failed: it returned an error, crashed, or took too long.
    #[error("{0}")]
    Function(FunctionError),
    /// Every process that the function may have is busy.
    #[error("every process of {0} is busy")]
    Throttled(String),
    /// There is no such function.
    #[error("there is no function {0}")]
    Unknown(String),
    /// The event is larger than [`MAX_PAYLOAD`].
    #[error("the event has {0} bytes, and {MAX_PAYLOAD} are allowed")]
    TooLarge(usize),
    /// The process could not be started.
    #[error("{program} could not be started: {error}")]
    Start {
        /// What was to be started.
        program: PathBuf,
        /// Why it could not.
        error: io::Error,
    },
    /// The fleet is shutting down.
    #[error("the functions are shutting down")]
    Closed,
}

/// The error of a function, in AWS's form.
#[derive(Clone, Debug)]
pub struct FunctionError {
    /// The invocation's id.
    pub request_id: String,
    /// `errorType`: the function's own, `Runtime.ExitError` or `Sandbox.Timedout`.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
    /// The whole error document.
    pub payload: Bytes,
    /// Whether the function said so itself, and had ended its work: false after a crash and when it was out of time.
    pub reported: bool,
}

impl std::fmt::Display for FunctionError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.error_type, self.message)
    }
}

impl FunctionError {
    fn reported(request_id: String, payload: Bytes) -> Self {
        let document: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_default();
        let text = |name: &str, fallback: &str| document[name].as_str().unwrap_or(fallback).to_owned();
        Self {
            error_type: text("errorType", "Runtime.Unknown"),
            message: text("errorMessage", "Unknown application error occurred"),
            request_id,
            payload,
            reported: true,
        }
    }

    fn of_platform(request_id: String, error_type: &str, detail: &str) -> Self {
        let message = format!("RequestId: {request_id} Error: {detail}");
        let payload = json!({"errorType": error_type, "errorMessage": message}).to_string().into();
        Self { request_id, error_type: error_type.to_owned(), message, payload, reported: false }
    }
}

impl Fleet {
    /// A fleet of `functions`, each with its program. `environment` is added to every function's own and wins over it.
    /// Nothing is started before it is needed.
    #[must_use]
    pub fn new(
        functions: impl IntoIterator<Item = (Function, Program)>,
        environment: BTreeMap<String, String>,
        options: FleetOptions,
        logs: &Logs,
        metrics: &Metrics,
    ) -> Self {
        let environment = Arc::new(environment);
        let pools = functions
            .into_iter()
            .map(|(function, program)| {
                let limit = function.reserved_concurrency.unwrap_or(options.default_concurrency);
                let name = function.name.clone();
                let pool = Pool {
                    arn: format!("arn:aws:lambda:{}:{}:function:{name}", options.region, options.account),
                    permits: Arc::new(Semaphore::new(limit as usize)),
                    metrics: metrics.function(&name),
                    environment: Arc::clone(&environment),
                    logs: logs.clone(),
                    concurrency: limit,
                    idle: Mutex::default(),
                    all: Mutex::default(),
                    function,
                    program,
                };
                (name, Arc::new(pool))
            })
            .collect();
        Self(Arc::new(Inner {
            pools,
            options,
            activity: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        }))
    }

    /// Invokes a function with an event, and waits for its answer. The function runs to its end even if nobody waits
    /// any more, as in AWS.
    pub async fn invoke(
        &self,
        name: &str,
        event: Bytes,
        capacity: Capacity,
    ) -> Result<Invocation, InvokeError> {
        let pool = self.0.pools.get(name).ok_or_else(|| InvokeError::Unknown(name.to_owned()))?;
        if event.len() > MAX_PAYLOAD {
            return Err(InvokeError::TooLarge(event.len()));
        }
        let mut closed = self.0.closed.subscribe();
        if *closed.borrow_and_update() {
            return Err(InvokeError::Closed);
        }
        let permit = match capacity {
            // The cap of a function that reserves none is this machine's: in AWS there would be another process.
            Capacity::Refuse if pool.function.reserved_concurrency.is_some() => {
                Arc::clone(&pool.permits).try_acquire_owned().map_err(|_| {
                    pool.metrics.throttles.increment();
                    InvokeError::Throttled(name.to_owned())
                })?
            }
            Capacity::Refuse | Capacity::Wait => tokio::select! {
                permit = Arc::clone(&pool.permits).acquire_owned() => permit.map_err(|_| InvokeError::Closed)?,
                _ = closed.changed() => return Err(InvokeError::Closed),
            },
        };
        let inner = Arc::clone(&self.0);
        let pool = Arc::clone(pool);
        let running = tokio::spawn(async move {
            let outcome = pool.invoke(event, &inner.options, permit).await;
            if pool.function.environment.contains_key(LOG_VARIABLE) {
                inner.activity.send_modify(|count| *count = count.wrapping_add(1));
            }
            outcome
        });
        running.await.unwrap_or(Err(InvokeError::Closed))
    }

    /// Counts what was answered to a client for a function.
    pub(crate) fn answered(&self, name: &str, status: StatusCode) {
        if let Some(pool) = self.0.pools.get(name) {
            pool.metrics.answers.count(status.as_u16());
        }
    }

    /// Changes whenever an invocation of a function that can write to the log ends: what it wrote is there by then.
    #[must_use]
    pub fn activity(&self) -> watch::Receiver<u64> {
        self.0.activity.subscribe()
    }

    /// The ARN of a function.
    #[must_use]
    pub fn arn(&self, name: &str) -> Option<&str> {
        self.0.pools.get(name).map(|pool| pool.arn.as_str())
    }

    /// The time limit of a function.
    #[must_use]
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        self.0.pools.get(name).map(|pool| pool.function.timeout)
    }

    /// The options that the fleet was made with.
    #[must_use]
    pub fn options(&self) -> &FleetOptions {
        &self.0.options
    }

    /// The ids of the processes that a function has now.
    #[must_use]
    pub fn process_ids(&self, name: &str) -> Vec<u32> {
        self.0
            .pools
            .get(name)
            .map(|pool| pool.processes().iter().filter_map(|process| process.id()).collect())
            .unwrap_or_default()
    }

    /// Ends the idle processes of a function, so that its next invocation is a cold start.
    pub async fn recycle(&self, name: &str) {
        let Some(pool) = self.0.pools.get(name) else { return };
        let idle = std::mem::take(&mut *pool.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for process in idle {
            pool.observe_memory(&process);
            process.kill();
            process.ended().await;
        }
    }

    /// Takes the memory of the processes that run now into the metrics.
    pub fn observe_memory(&self) {
        for pool in self.0.pools.values() {
            for process in pool.processes() {
                pool.observe_memory(&process);
            }
        }
    }

    /// Refuses new events, gives those in hand `grace` to end, and ends every process.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.closed.send_replace(true);
        self.observe_memory();
        let quiet = async {
            for pool in self.0.pools.values() {
                let all = pool.concurrency;
                let _ = pool.permits.acquire_many(all).await;
            }
        };
        if tokio::time::timeout(grace, quiet).await.is_err() {
            tracing::warn!("functions were still running after {grace:?}, and are killed");
        }
        let processes: Vec<_> = self.0.pools.values().flat_map(|pool| pool.processes()).collect();
        for process in &processes {
            process.kill();
        }
        for process in &processes {
            process.ended().await;
        }
    }
}

struct Pool {
    function: Function,
    program: Program,
    arn: String,
    permits: Arc<Semaphore>,
    metrics: Arc<FunctionMetrics>,
    environment: Arc<BTreeMap<String, String>>,
    logs: Logs,
    concurrency: u32,
    /// The last to finish is the first to be used again: the others may be let go.
    idle: Mutex<Vec<Arc<Process>>>,
    all: Mutex<Vec<Weak<Process>>>,
}

impl Pool {
    async fn invoke(
        &self,
        event: Bytes,
        options: &FleetOptions,
        permit: OwnedSemaphorePermit,
    ) -> Result<Invocation, InvokeError> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let began = Instant::now();
        self.metrics.invocations.increment();
        let (outcome, cold, process) = loop {
            let (process, cold) = match self.idle_process() {
                Some(process) => (process, false),
                None => (self.start(options).await?, true),
            };
            let (id, arn) = (request_id.clone(), self.arn.clone());
            match process.run(id, event.clone(), arn, self.function.timeout, options.initialisation).await {
                // It died while it was idle: the event was never seen, so another process may have it.
                Err(Failure::Untouched(_)) if !cold => {}
                outcome => break (outcome, cold, process),
            }
        };
        let duration = began.elapsed();
        self.metrics.durations.observe(duration);
        if cold {
            self.metrics.cold_starts.observe(process.started().elapsed());
            self.observe_memory(&process);
        }
        let error = match outcome {
            Ok(Reply::Response(payload)) => {
                self.release(process, permit);
                return Ok(Invocation { request_id, payload, duration, cold });
            }
            Ok(Reply::Error(payload)) => {
                self.release(process, permit);
                FunctionError::reported(request_id, payload)
            }
            Err(Failure::Initialisation(payload)) => FunctionError::reported(request_id, payload),
            Err(Failure::Untouched(reason) | Failure::Exited(reason)) => {
                FunctionError::of_platform(request_id, "Runtime.ExitError", &reason)
            }
            Err(Failure::TimedOut(limit) | Failure::SlowStart(limit)) => {
                let text = format!("Task timed out after {:.2} seconds", limit.as_secs_f64());
                FunctionError::of_platform(request_id, "Sandbox.Timedout", &text)
            }
        };
        self.metrics.errors.increment();
        Err(InvokeError::Function(error))
    }

    fn idle_process(&self) -> Option<Arc<Process>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|process| process.is_alive())
    }

    async fn start(&self, options: &FleetOptions) -> Result<Arc<Process>, InvokeError> {
        let process = Process::start(
            &self.function,
            &self.program,
            &self.environment,
            options,
            &self.logs,
            &self.metrics,
        )
        .await
        .map_err(|error| InvokeError::Start { program: self.program.path.clone(), error })?;
        let process = Arc::new(process);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|process| process.strong_count() > 0);
        all.push(Arc::downgrade(&process));
        drop(all);
        let (metrics, mut ready, started) = (Arc::clone(&self.metrics), process.ready(), process.started());
        tokio::spawn(async move {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                metrics.initialisations.observe(started.elapsed());
            }
        });
        Ok(process)
    }

    /// The process is idle before its permit is free: whoever gets the permit finds the process.
    fn release(&self, process: Arc<Process>, permit: OwnedSemaphorePermit) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
        drop(permit);
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    fn observe_memory(&self, process: &Process) {
        if let Some(bytes) = process.peak_memory() {
            self.metrics.peak_memory.observe(bytes);
        }
    }
}
