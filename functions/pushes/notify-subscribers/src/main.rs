//! Consumes the log: queues the pushes of each new post to its audience, and of what phones ring for later.

use std::process::ExitCode;

use futures::{StreamExt as _, stream};
use tocsin_adapters::{
    dynamodb::{DeliveriesTable, FriendshipsTable, PostsTable, SubscriptionsTable},
    sqs::{SqsPushQueues, SqsStepQueue},
};
use tocsin_domain::{Result, audience::Sizes, notifying::Notifying, post_log::PostChange};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

/// How many posts' audiences are found at once.
const CONCURRENT: usize = 8;

type Ports = (Storage, Queues, Sizes);
type Storage = (PostsTable, SubscriptionsTable, FriendshipsTable, DeliveriesTable);
type Queues = (SqsPushQueues, SqsStepQueue);

fn main() -> ExitCode {
    start::changes(notify_subscribers)
}

async fn notify_subscribers((storage, queues, sizes): &Ports, changes: &[PostChange]) -> Vec<Result<()>> {
    let ((posts, audience, hidden, told), (SqsPushQueues { prompt, bulk }, steps)) = (storage, queues);
    let (large, sizes) = (audience, *sizes);
    let notifying = Notifying { posts, audience, large, hidden, told, prompt, bulk, steps, sizes };
    let notified = stream::iter(changes).map(|change| notifying.notify(change));
    let notified: Vec<Result<usize>> = notified.buffered(CONCURRENT).collect().await;
    metrics::count(Metric::PushesQueued, notified.iter().flatten().sum());
    notified.into_iter().map(|one| one.map(drop)).collect()
}
