//! `redis-benchmark`: what Redis does when nothing but it is measured.
//!
//! It comes with Redis, though with no wheel of it: so it is the one on PATH, or else of Debian's package.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use tokio::{process::Command, task::spawn_blocking};

use crate::tools::{Unpacked, redis_benchmark};

/// A `redis-benchmark` that can be run.
#[derive(Clone, Debug)]
pub(super) struct RedisBenchmark(Unpacked);

impl RedisBenchmark {
    /// The one on PATH, or one that is installed now.
    pub(super) async fn find(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        Ok(Self(spawn_blocking(move || redis_benchmark(&root)).await??))
    }

    /// How many of these commands a second a server does that come on one connection, `depth` at once. `__rand_int__` in an
    /// argument is another twelve digits each time.
    pub(super) async fn requests_per_second(
        &self,
        port: u16,
        depth: usize,
        requests: usize,
        command: &[Vec<u8>],
    ) -> Result<f64> {
        let (port, depth, requests) = (port.to_string(), depth.to_string(), requests.to_string());
        let mut benchmark = Command::from(self.0.command());
        benchmark
            .args(["-h", "127.0.0.1", "-p", &port, "-c", "1", "-P", &depth, "-n", &requests])
            .args(["-r", "2000000000", "--csv"])
            .args(command.iter().map(|argument| OsStr::from_bytes(argument)))
            .stdin(Stdio::null());
        let output = benchmark.output().await.context("redis-benchmark cannot be run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "redis-benchmark: {} {text} {errors}", output.status);
        // The command's words, the rate, and six latencies, each in quotes.
        let rate = text.lines().last().and_then(|line| line.rsplit("\",\"").nth(6)?.parse().ok());
        rate.with_context(|| format!("redis-benchmark says no rate: {errors}"))
    }
}
