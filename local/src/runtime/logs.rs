//! What functions write: forwarded line by line under the function's name, and the last lines kept for reports.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::Write as _,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Takes (function, line).
type Sink = dyn Fn(&str, &str) + Send + Sync;

/// How many lines of each function are kept.
const TAIL: usize = 200;

/// Where the lines of functions go. Cheap to clone; clones share their tails.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    level: LogLevel,
    sink: Box<Sink>,
    tails: Mutex<BTreeMap<String, VecDeque<String>>>,
}

/// From which level on lines are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// Debug and above.
    Debug,
    /// Info and above; lines without a level count as this.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors only.
    Error,
    /// Nothing: lines are only kept.
    Quiet,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "quiet" => Self::Quiet,
            _ => return Err(format!("{text} is none of trace, debug, info, warn, error, quiet")),
        })
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Logs").field("level", &self.0.level).finish_non_exhaustive()
    }
}

impl Logs {
    /// Shows lines from `level` on at the standard error output.
    #[must_use]
    pub fn to_stderr(level: LogLevel) -> Self {
        Self::to(level, |function, line| {
            // One write for a line, so that those of two processes never mix. Nobody is left to tell if it fails.
            let _ = std::io::stderr().write_all(format!("{function} | {line}\n").as_bytes());
        })
    }

    /// Shows nothing, and keeps the tails.
    #[must_use]
    pub fn quiet() -> Self {
        Self::to(LogLevel::Quiet, |_, _| {})
    }

    /// Hands lines from `level` on to `sink`, as (function, line).
    #[must_use]
    pub fn to(level: LogLevel, sink: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { level, sink: Box::new(sink), tails: Mutex::default() }))
    }

    /// The last lines of a function, oldest first.
    #[must_use]
    pub fn tail(&self, function: &str) -> Vec<String> {
        let tails = self.0.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.get(function).map(|lines| lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// Takes one line of a function.
    pub fn line(&self, function: &str, line: &str) {
        if self.0.level != LogLevel::Quiet && level_of(line) >= self.0.level {
            (self.0.sink)(function, line);
        }
        let mut tails = self.0.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = tails.entry(function.to_owned()).or_default();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    }

    /// Takes every line of `stream` until it ends.
    pub(super) async fn forward(self, function: Arc<str>, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stream.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => self.line(&function, String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])),
            }
        }
    }
}

/// Functions log JSON with a `level`, as `tracing` and AWS write it.
fn level_of(line: &str) -> LogLevel {
    let Some((_, rest)) = line.split_once("\"level\":\"") else { return LogLevel::Info };
    let name = rest.split('"').next().unwrap_or_default();
    name.parse().unwrap_or(LogLevel::Info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_the_level_are_kept_but_not_shown() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&shown);
        let logs = Logs::to(LogLevel::Warn, move |function, line| {
            sink.lock().expect("no panics").push(format!("{function}: {line}"));
        });
        for line in [r#"{"level":"INFO","message":"a"}"#, r#"{"level":"ERROR","message":"b"}"#, "plain"] {
            logs.line("get-post", line);
        }
        assert_eq!(*shown.lock().expect("no panics"), [r#"get-post: {"level":"ERROR","message":"b"}"#]);
        assert_eq!(logs.tail("get-post").len(), 3);
        assert!(logs.tail("other").is_empty());
    }

    #[test]
    fn the_tail_is_bounded() {
        let logs = Logs::quiet();
        for number in 0..=TAIL {
            logs.line("f", &number.to_string());
        }
        assert_eq!(logs.tail("f").first().map(String::as_str), Some("1"));
    }
}
