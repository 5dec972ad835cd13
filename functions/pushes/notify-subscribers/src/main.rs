//! Consumes the log: queues the pushes of each new post to its audience.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, SubscriptionsTable},
    sqs::SqsPushQueue,
};
use tocsin_domain::{Result, post_log::PostChange, push};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

/// How many posts' audiences are found at once.
const CONCURRENT: usize = 8;

type Ports = (SubscriptionsTable, FriendshipsTable, SqsPushQueue);

fn main() -> ExitCode {
    start::changes(notify_subscribers)
}

async fn notify_subscribers((audience, hidden, queue): &Ports, changes: &[PostChange]) -> Vec<Result<()>> {
    let notified = stream::iter(changes).map(|change| async move {
        match change.created() {
            Some(post) => push::notify(audience, hidden, queue, post).await,
            None => Ok(0),
        }
    });
    let notified: Vec<Result<usize>> = notified.buffered(CONCURRENT).collect().await;
    metrics::count(Metric::PushesQueued, notified.iter().flatten().sum());
    notified.into_iter().map(|one| one.map(drop)).collect()
}
