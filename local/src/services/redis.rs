//! The Redis of this machine: the one on PATH, or else the tools'.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::process::{Death, ServiceProcess, guarded};
use crate::runtime::Logs;

const NAME: &str = "redis";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Another free port is tried when one was taken between finding and binding it.
const ATTEMPTS: usize = 5;

/// Starts it on this port, or on a free one, without persistence: all that is in it can be made again from DynamoDB.
pub(super) async fn start(
    program: &Path,
    port: Option<u16>,
    logs: &Logs,
    deaths: &mpsc::UnboundedSender<Death>,
) -> Result<(ServiceProcess, u16)> {
    let attempts = if port.is_some() { 1 } else { ATTEMPTS };
    for _ in 0..attempts {
        let port = match port {
            Some(port) => port,
            None => TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port(),
        };
        let port_text = port.to_string();
        let arguments = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            "/tmp",
        ];
        let process = ServiceProcess::silent(NAME, guarded(program, arguments), logs, deaths)?;
        let began = Instant::now();
        while !process.has_ended() {
            if answers(port).await {
                process.is_needed();
                return Ok((process, port));
            }
            if began.elapsed() > PATIENCE {
                bail!("redis does not answer on port {port} after {PATIENCE:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
    bail!("redis did not start: {}", logs.tail(NAME).join("\n"))
}

/// `redis-server` on PATH, if there is one.
pub(super) fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|program| program.is_file())
}

async fn answers(port: u16) -> bool {
    let ping = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer == *b"+PONG\r\n")
    };
    timeout(Duration::from_millis(500), ping).await.ok().flatten() == Some(true)
}
