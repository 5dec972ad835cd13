//! See [`local::cli`].

use std::{
    io::{Write as _, stderr},
    process::ExitCode,
    time::Duration,
};

use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

/// How long the end waits for threads that block: one may stand at a lock that another `local` holds.
const GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("local=warn,error")),
        )
        .without_time()
        .init();
    let done = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let done = runtime.block_on(local::cli::run());
        runtime.shutdown_timeout(GRACE);
        done
    });
    done.unwrap_or_else(|error| {
        // The reasons in one line; nobody is left to tell if it fails.
        let _ = writeln!(stderr(), "local | {error:#}");
        ExitCode::FAILURE
    })
}
