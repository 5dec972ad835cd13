//! The Redis of this machine: the one on PATH, or else the tools'.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Result;
use tokio::{net::TcpListener, sync::mpsc};

use super::process::{Death, ServiceProcess, guarded};
use crate::runtime::Logs;

const NAME: &str = "redis";
/// Another free port is tried when one was taken between finding and binding it.
const ATTEMPTS: usize = 3;
/// In the line by which it says so itself. An answer on its port could be that of another program, which took the port first.
const READY: &str = "Ready to accept connections";

/// Starts it on this port, or on a free one, without persistence: all that is in it can be made again from DynamoDB.
pub(super) async fn start(
    program: &Path,
    port: Option<u16>,
    logs: &Logs,
    deaths: &mpsc::UnboundedSender<Death>,
) -> Result<(ServiceProcess, u16)> {
    let mut attempts = if port.is_some() { 1 } else { ATTEMPTS };
    loop {
        attempts -= 1;
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
        let command = guarded(program, arguments);
        let is_ready = |line: &str| line.contains(READY).then_some(());
        match ServiceProcess::announced(NAME, command, is_ready, logs, deaths).await {
            Ok((process, ())) => return Ok((process, port)),
            Err(error) if attempts == 0 => return Err(error),
            Err(error) => tracing::debug!(%error, port, "another port is tried"),
        }
    }
}

/// `redis-server` on PATH, if there is one.
pub(super) fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|program| program.is_file())
}
