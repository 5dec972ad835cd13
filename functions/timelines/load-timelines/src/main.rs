//! Consumes the log: adds its posts to the cached timelines of their audiences, and changes those that are at hand.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, SubscriptionsTable},
    redis::{RedisPostCache, RedisTimelines},
};
use tocsin_domain::{Result, post_log::PostChange, timeline::Loading};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (PostsTable, SubscriptionsTable, RedisTimelines, RedisPostCache);

fn main() -> ExitCode {
    start::changes(load_timelines)
}

async fn load_timelines(
    (stored, audience, timelines, cache): &Ports,
    changes: &[PostChange],
) -> Vec<Result<()>> {
    let loading = Loading { posts: stored, store: stored, audience, timelines, cache };
    let loaded = loading.load(changes).await;
    metrics::count(Metric::TimelinesLoaded, loaded.iter().flatten().sum());
    loaded.into_iter().map(|one| one.map(drop)).collect()
}
