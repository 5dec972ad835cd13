//! See [`local::cli`].

use std::{
    io::{Write as _, stderr},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(stderr)
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("local=warn,error")),
        )
        .without_time()
        .init();
    local::cli::run().await.unwrap_or_else(|error| {
        // The reasons in one line; nobody is left to tell if it fails.
        let _ = writeln!(stderr(), "local | {error:#}");
        ExitCode::FAILURE
    })
}
