//! Consumes the log: adds its posts to the cached timelines of their audiences, and changes those that are at hand.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, SubscriptionsTable},
    redis::{RedisPostCache, RedisTimelines},
    sqs::SqsStepQueue,
};
use tocsin_domain::{Result, audience::Sizes, post_log::PostChange, timeline_loading::Loading};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (PostsTable, SubscriptionsTable, RedisTimelines, RedisPostCache, SqsStepQueue, Sizes);

fn main() -> ExitCode {
    start::changes(load_timelines)
}

async fn load_timelines(
    (posts, audience, timelines, cache, queue, sizes): &Ports,
    changes: &[PostChange],
) -> Vec<Result<()>> {
    let (large, sizes) = (audience, *sizes);
    let loading = Loading { posts, audience, large, timelines, cache, queue, sizes };
    let loaded = loading.load(changes).await;
    metrics::count(Metric::TimelinesLoaded, loaded.iter().flatten().sum());
    loaded.into_iter().map(|one| one.map(drop)).collect()
}
