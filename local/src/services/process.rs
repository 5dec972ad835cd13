//! A service that is a process of its own: started, watched and ended.

use std::{
    ffi::OsStr,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::runtime::Logs;

/// How long a service may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end by itself, once its input has ended.
const GRACE: Duration = Duration::from_secs(3);
/// How many of its last lines a report shows.
const REPORTED_LINES: usize = 12;

/// A service that ended, and was not asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The service.
    pub service: String,
    /// How it ended, and its last lines.
    pub report: String,
}

/// A running service. It ends when its standard input does, so it cannot outlive us, even if we are killed; so it must
/// be a program that minds its input, or be wrapped by [`guarded`].
#[derive(Debug)]
pub(super) struct ServiceProcess {
    id: u32,
    input: Option<ChildStdin>,
    ended: watch::Receiver<bool>,
    kill: Option<oneshot::Sender<()>>,
    /// Whether its end is news: it has been ready, and was not asked to stop.
    needed: Arc<AtomicBool>,
}

impl ServiceProcess {
    /// Starts a program and waits until it prints a line that `announcement` takes for its being ready.
    pub(super) async fn announced<T: Send + 'static>(
        name: &'static str,
        command: Command,
        announcement: fn(&str) -> Option<T>,
        logs: &Logs,
        deaths: &mpsc::UnboundedSender<Death>,
    ) -> Result<(Self, T)> {
        let (process, ready) = Self::start(name, command, announcement, logs, deaths)?;
        let mut ended = process.ended.clone();
        let announced = tokio::select! {
            ready = timeout(PATIENCE, ready) => match ready {
                Ok(Ok(announced)) => announced,
                Ok(Err(_)) => bail!("{name} did not start: {}", last_lines(logs, name)),
                Err(_) => bail!("{name} is not ready after {PATIENCE:?}: {}", last_lines(logs, name)),
            },
            _ = ended.wait_for(|ended| *ended) => bail!("{name} did not start: {}", last_lines(logs, name)),
        };
        // From now on its end is news.
        process.needed.store(true, Ordering::Release);
        Ok((process, announced))
    }

    fn start<T: Send + 'static>(
        name: &'static str,
        mut command: Command,
        announcement: fn(&str) -> Option<T>,
        logs: &Logs,
        deaths: &mpsc::UnboundedSender<Death>,
    ) -> Result<(Self, oneshot::Receiver<T>)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us alone: services end after what leans on them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {name} ({})", command.as_std().get_program().to_string_lossy())
            })?;
        let (announce, ready) = oneshot::channel();
        let output = child
            .stdout
            .take()
            .map(|out| tokio::spawn(read_lines(name, out, logs.clone(), announcement, Some(announce))));
        let errors = child
            .stderr
            .take()
            .map(|err| tokio::spawn(read_lines(name, err, logs.clone(), announcement, None)));
        let input = child.stdin.take();
        let id = child.id().context("the process has ended")?;
        let (end, ended) = watch::channel(false);
        let (kill, killed) = oneshot::channel();
        let needed = Arc::new(AtomicBool::new(false));
        let watching =
            Watch { name, logs: logs.clone(), deaths: deaths.clone(), needed: Arc::clone(&needed) };
        tokio::spawn(async move {
            let status = watching.until_it_ends(child, killed).await;
            for reader in [output, errors].into_iter().flatten() {
                // What it wrote last is what its death is reported with. A grandchild may hold the pipe: not for long.
                let _ = timeout(Duration::from_millis(200), reader).await;
            }
            watching.report(&status);
            end.send_replace(true);
        });
        Ok((Self { id, input, ended, kill: Some(kill), needed }, ready))
    }

    /// The process's id.
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Asks it to end, and makes it.
    pub(super) async fn stop(mut self) {
        self.needed.store(false, Ordering::Release);
        drop(self.input.take());
        let mut ended = self.ended.clone();
        if timeout(GRACE, ended.wait_for(|ended| *ended)).await.is_err()
            && let Some(kill) = self.kill.take()
        {
            // It is gone if nobody listens any more.
            let _ = kill.send(());
            let _ = timeout(GRACE, ended.wait_for(|ended| *ended)).await;
        }
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        self.needed.store(false, Ordering::Release);
    }
}

struct Watch {
    name: &'static str,
    logs: Logs,
    deaths: mpsc::UnboundedSender<Death>,
    needed: Arc<AtomicBool>,
}

impl Watch {
    async fn until_it_ends(&self, mut child: Child, killed: oneshot::Receiver<()>) -> String {
        let told = async {
            // A dropped handle is no order to kill: its input has ended with it.
            if killed.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = told => None,
        };
        match ended {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => format!("it cannot be waited for: {error}"),
            None => match child.kill().await {
                Ok(()) => "killed".to_owned(),
                Err(error) => format!("it cannot be killed: {error}"),
            },
        }
    }

    fn report(&self, status: &str) {
        if self.needed.load(Ordering::Acquire) {
            let report = format!("{status}\n{}", last_lines(&self.logs, self.name));
            // Nobody listens any more once the stack is gone.
            let _ = self.deaths.send(Death { service: self.name.to_owned(), report });
        }
    }
}

/// Wraps a program that does not mind its input: a shell kills it when the input ends.
pub(super) fn guarded(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    // Background jobs of a shell have no input unless told so, hence 3.
    const SCRIPT: &str = "exec 3<&0; \"$@\" 3<&- & child=$!; { cat <&3 >/dev/null; kill -9 $child; } & \
                          wait $child; status=$?; kill $! 2>/dev/null; exit $status";
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SCRIPT).arg("guard").arg(program).args(arguments);
    command
}

/// What our own services print when they are ready: `ready <port>`.
pub(super) fn announced_port(line: &str) -> Option<u16> {
    line.strip_prefix("ready ")?.trim().parse().ok()
}

async fn read_lines<T>(
    name: &'static str,
    output: impl AsyncRead + Unpin,
    logs: Logs,
    announcement: fn(&str) -> Option<T>,
    mut announce: Option<oneshot::Sender<T>>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if announce.is_some()
            && let Some(announced) = announcement(&line)
            && let Some(announce) = announce.take()
        {
            // Whoever waited may have given up.
            let _ = announce.send(announced);
        } else {
            logs.line(name, &line);
        }
    }
}

fn last_lines(logs: &Logs, name: &str) -> String {
    let lines = logs.tail(name);
    let first = lines.len().saturating_sub(REPORTED_LINES);
    lines[first..].join("\n")
}
