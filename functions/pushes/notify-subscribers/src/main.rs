//! Consumes the log: queues the pushes of each post to its audience.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};
use tocsin_adapters::{dynamodb::SubscriptionsTable, sqs::SqsPushQueue};
use tocsin_domain::{Result, post::Post, push};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

/// How many posts' audiences are found at once.
const CONCURRENT: usize = 8;

type Ports = (SubscriptionsTable, SqsPushQueue);

fn main() -> ExitCode {
    start::posts(notify_subscribers)
}

async fn notify_subscribers((audience, queue): &Ports, posts: &[Post]) -> Vec<Result<()>> {
    let notified = stream::iter(posts).map(|post| push::notify(audience, queue, post)).buffered(CONCURRENT);
    let notified: Vec<Result<usize>> = notified.collect().await;
    metrics::count(Metric::PushesQueued, notified.iter().flatten().sum());
    notified.into_iter().map(|one| one.map(drop)).collect()
}
