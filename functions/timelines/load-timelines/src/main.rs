//! Consumes the log: adds its posts to the cached timelines of their audiences.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, SubscriptionsTable},
    redis::RedisTimelines,
};
use tocsin_domain::{Result, post::Post, timeline::Loading};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (PostsTable, SubscriptionsTable, RedisTimelines);

fn main() -> ExitCode {
    start::posts(load_timelines)
}

async fn load_timelines((stored, audience, timelines): &Ports, posts: &[Post]) -> Vec<Result<()>> {
    let loading = Loading { posts: stored, store: stored, audience, timelines };
    let loaded = loading.load(posts).await;
    metrics::count(Metric::TimelinesLoaded, loaded.iter().flatten().sum());
    loaded.into_iter().map(|one| one.map(drop)).collect()
}
