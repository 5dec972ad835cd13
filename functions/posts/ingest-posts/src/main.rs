//! Consumes the log: stores its posts, each once, with their entries in the place index, and what happens to them later.

use std::process::ExitCode;

use tocsin_adapters::dynamodb::PostsTable;
use tocsin_domain::{
    Result,
    post_log::PostChange,
    posts::{self, Stored},
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

fn main() -> ExitCode {
    start::changes(ingest_posts)
}

async fn ingest_posts(store: &PostsTable, changes: &[PostChange]) -> Vec<Result<()>> {
    let stored = posts::ingest(store, changes).await;
    metrics::count(Metric::PostsIngested, stored.iter().filter(|one| matches!(one, Ok(Stored::New))).count());
    stored.into_iter().map(|one| one.map(drop)).collect()
}
