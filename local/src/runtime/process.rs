//! One process of a function: started, fed with one event at a time, and killed with its owner.

use std::{
    collections::BTreeMap,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Logs, environment,
    fleet::{FleetOptions, Program},
    runtime_api::{Job, Reply, RuntimeApi},
    server,
};
use crate::{metrics::FunctionMetrics, template::model::Function};

/// A running process. Dropping it kills the process.
pub(super) struct Process {
    api: Arc<RuntimeApi>,
    jobs: mpsc::Sender<Job>,
    exited: watch::Receiver<Option<String>>,
    kill: Mutex<Option<oneshot::Sender<()>>>,
    server: JoinHandle<()>,
    started: Instant,
    id: Option<u32>,
}

/// Why an event has no answer.
pub(super) enum Failure {
    /// The process ended before it had the event: nobody has seen it.
    Untouched(String),
    /// The process reported an error in place of starting.
    Initialisation(Bytes),
    /// It never asked for an event.
    SlowStart(Duration),
    /// It ended with the event in hand.
    Exited(String),
    /// It took too long and was killed.
    TimedOut(Duration),
}

impl Process {
    pub(super) async fn start(
        function: &Function,
        program: &Program,
        extra: &BTreeMap<String, String>,
        options: &FleetOptions,
        logs: &Logs,
        metrics: &Arc<FunctionMetrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (jobs, receiver) = mpsc::channel(1);
        let api = Arc::new(RuntimeApi::new(receiver));
        let handler = Arc::clone(&api);
        let handle = move |request, _| {
            let api = Arc::clone(&handler);
            async move { api.handle(request).await }
        };
        // It ends with the process, so nobody asks it to stop.
        let server = tokio::spawn(server::serve(listener, handle, watch::channel(false).1));

        let stream = format!(
            "{}/[$LATEST]{}",
            jiff::Timestamp::now().strftime("%Y/%m/%d"),
            uuid::Uuid::new_v4().simple()
        );
        let started = Instant::now();
        let mut child = Command::new(&program.path)
            .args(&program.arguments)
            .env_clear()
            .envs(environment::variables(function, &program.path, address, &stream, extra, options))
            // Its own group: Ctrl-C in the terminal is `local`'s to handle, which lets events in hand end first.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id();

        let name: Arc<str> = function.name.as_str().into();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(logs.clone().forward(Arc::clone(&name), stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(logs.clone().forward(Arc::clone(&name), stderr));
        }
        let (kill, killed) = oneshot::channel();
        let (exit, exited) = watch::channel(None);
        tokio::spawn(supervise(child, killed, exit, name, logs.clone(), Arc::clone(metrics)));
        Ok(Self { api, jobs, exited, kill: Mutex::new(Some(kill)), server, started, id })
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.id.filter(|_| self.is_alive())
    }

    /// Turns true when the process asks for its first event.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.api.ready()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.exited.borrow().is_none()
    }

    /// The largest resident set so far, in bytes. Only Linux tells.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Kills the process; [`Self::ended`] tells when it is gone.
    pub(super) fn kill(&self) {
        self.kill.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) async fn ended(&self) {
        let _ = self.exited.clone().wait_for(Option::is_some).await;
    }

    /// Hands the event over and waits for its answer. `initialisation` bounds the wait for a process that starts.
    pub(super) async fn run(
        &self,
        request_id: String,
        payload: Bytes,
        arn: String,
        limit: Duration,
        initialisation: Duration,
    ) -> Result<Reply, Failure> {
        let (delivered, delivery) = oneshot::channel();
        let (reply, mut answer) = oneshot::channel();
        let trace_id = trace_id(&request_id);
        let job = Job { request_id, payload, limit, arn, trace_id, delivered, reply };
        let mut exited = self.exited.clone();
        if self.jobs.send(job).await.is_err() {
            return Err(Failure::Untouched("the process has ended".to_owned()));
        }
        let at = tokio::select! {
            biased;
            at = delivery => at.unwrap_or_else(|_| Instant::now()),
            reason = exit_reason(&mut exited) => return Err(match self.api.initialisation_error() {
                Some(payload) => Failure::Initialisation(payload),
                None => Failure::Untouched(reason),
            }),
            () = tokio::time::sleep(initialisation) => {
                self.kill();
                return Err(Failure::SlowStart(initialisation));
            }
        };
        tokio::select! {
            biased;
            reply = &mut answer => match reply {
                Ok(reply) => Ok(reply),
                // It asked for the next event without answering this one.
                Err(_) => Err(Failure::Exited("the runtime asked for the next event without an answer".to_owned())),
            },
            () = tokio::time::sleep_until(at + limit) => {
                self.kill();
                Err(Failure::TimedOut(limit))
            }
            reason = exit_reason(&mut exited) => {
                // A process that ends right after its answer: the answer is in the socket, and counts.
                match tokio::time::timeout(Duration::from_millis(20), &mut answer).await {
                    Ok(Ok(reply)) => Ok(reply),
                    _ => Err(Failure::Exited(reason)),
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.server.abort();
    }
}

async fn exit_reason(exited: &mut watch::Receiver<Option<String>>) -> String {
    match exited.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "the process was lost".to_owned(),
    }
}

/// Waits for the process to end, or ends it; then says how it went.
async fn supervise(
    mut child: Child,
    killed: oneshot::Receiver<()>,
    exit: watch::Sender<Option<String>>,
    name: Arc<str>,
    logs: Logs,
    metrics: Arc<FunctionMetrics>,
) {
    let (status, asked) = tokio::select! {
        status = child.wait() => (status, false),
        _ = killed => {
            let _ = child.start_kill();
            (child.wait().await, true)
        }
    };
    let reason = match &status {
        Ok(status) => describe(*status),
        Err(error) => format!("the process was lost: {error}"),
    };
    if !asked {
        metrics.crashes.increment();
        logs.line(&name, &format!("{{\"level\":\"ERROR\",\"message\":\"process ended: {reason}\"}}"));
    }
    exit.send_replace(Some(reason));
}

/// In AWS's words.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, Some(9)) => "Runtime exited with error: signal: killed".to_owned(),
        (None, Some(6)) => "Runtime exited with error: signal: aborted".to_owned(),
        (None, Some(11)) => "Runtime exited with error: signal: segmentation fault".to_owned(),
        (None, Some(signal)) => format!("Runtime exited with error: signal: {signal}"),
        (None, None) => "Runtime exited".to_owned(),
    }
}

/// X-Ray's form: version, start in hexadecimal seconds, 96 bits.
fn trace_id(request_id: &str) -> String {
    let hex: String = request_id.chars().filter(char::is_ascii_hexdigit).collect();
    let seconds = jiff::Timestamp::now().as_second();
    format!("Root=1-{seconds:08x}-{};Sampled=0", hex.get(..24).unwrap_or("000000000000000000000000"))
}
