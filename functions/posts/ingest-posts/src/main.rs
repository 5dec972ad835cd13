//! Consumes the log: stores its posts, each once, with their entries in the place index.

use std::process::ExitCode;

use tocsin_adapters::dynamodb::PostsTable;
use tocsin_domain::{
    Result,
    post::Post,
    posts::{PostStore as _, Stored},
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

fn main() -> ExitCode {
    start::posts(ingest_posts)
}

async fn ingest_posts(store: &PostsTable, posts: &[Post]) -> Vec<Result<()>> {
    let stored = store.store(posts).await;
    metrics::count(Metric::PostsIngested, stored.iter().filter(|one| matches!(one, Ok(Stored::New))).count());
    stored.into_iter().map(|one| one.map(drop)).collect()
}
