//! Consumes the log: queues the pushes of each new post to its audience.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, SubscriptionsTable},
    sqs::{SqsPushQueue, SqsStepQueue},
};
use tocsin_domain::{Result, audience::Sizes, post_log::PostChange, push::Notifying};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

/// How many posts' audiences are found at once.
const CONCURRENT: usize = 8;

type Ports = (SubscriptionsTable, FriendshipsTable, SqsPushQueue, SqsStepQueue, Sizes);

fn main() -> ExitCode {
    start::changes(notify_subscribers)
}

async fn notify_subscribers(
    (audience, hidden, queue, steps, sizes): &Ports,
    changes: &[PostChange],
) -> Vec<Result<()>> {
    let notifying = Notifying { audience, large: audience, hidden, queue, steps, sizes: *sizes };
    let notifying = &notifying;
    let notified = stream::iter(changes).map(|change| async move {
        match change.created() {
            Some(post) => notifying.notify(post).await,
            None => Ok(0),
        }
    });
    let notified: Vec<Result<usize>> = notified.buffered(CONCURRENT).collect().await;
    metrics::count(Metric::PushesQueued, notified.iter().flatten().sum());
    notified.into_iter().map(|one| one.map(drop)).collect()
}
