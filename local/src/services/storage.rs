//! DynamoDB on this machine: dynoxide over `SQLite`, served from a thread of our own process.

use std::{path::Path, thread::JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use dynoxide::Database;
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// A running storage. Dropping it ends it, and closes its file once nobody has the database any more.
pub struct Storage {
    database: Database,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens the data in `file`, or in memory, and serves it on a free port.
    pub async fn start(file: Option<&Path>) -> Result<Self> {
        let database = match file {
            Some(file) => {
                let name = file.to_str().with_context(|| format!("{} is not UTF-8", file.display()))?;
                Database::new(name)
                    .map_err(|error| anyhow!("the data in {name} cannot be opened: {error}"))?
            }
            None => Database::memory().map_err(|error| anyhow!("{error}"))?,
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let served_database = database.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, served) = oneshot::channel::<std::io::Result<()>>();
        // A runtime of its own: SQLite works on the thread that asks, and would hold up ours.
        let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
            let serving = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let serving = match serving {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            serving.block_on(async move {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                tokio::select! {
                    result = dynoxide::server::serve_with_shutdown(listener, served_database, std::future::pending()) => {
                        if let Err(error) = result {
                            tracing::error!(error, "the storage ended");
                        }
                    }
                    // An error is the handle's being dropped: the same wish.
                    _ = stopped => {}
                }
            });
        })?;
        served.await.context("the storage did not start")??;
        Ok(Self { database, port, stop: Some(stop), thread: Some(thread) })
    }

    /// What is in it, past HTTP.
    #[must_use]
    pub fn database(&self) -> Database {
        self.database.clone()
    }

    /// Where it is served.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Joined, so that SQLite has closed its file before anyone opens it again.
            let _ = thread.join();
        }
    }
}
