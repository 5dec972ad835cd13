//! Consumes the queue of steps: goes on with an audience that is too large to be done at once, for the timelines or for the
//! phones, and queues what is left of it then.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{DeliveriesTable, FriendshipsTable, PostsTable, SubscriptionsTable},
    redis::{RedisPostCache, RedisTimelines},
    sqs::{SqsPushQueues, SqsStepQueue},
};
use tocsin_domain::{
    Result,
    audience::Sizes,
    fan_out::{Step, Task},
    notifying::Notifying,
    posts::Posts as _,
    timeline_loading::Loading,
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (Storage, Cached, Queues, Sizes);
type Storage = (PostsTable, SubscriptionsTable, FriendshipsTable, DeliveriesTable);
type Cached = (RedisTimelines, RedisPostCache);
type Queues = (SqsPushQueues, SqsStepQueue);

fn main() -> ExitCode {
    start::messages(continue_fan_out)
}

async fn continue_fan_out((storage, cached, queues, sizes): &Ports, step: Step) -> Result<()> {
    let (posts, audience, hidden, told) = storage;
    let ((timelines, cache), (SqsPushQueues { prompt, bulk }, steps)) = (cached, queues);
    let (large, sizes) = (audience, *sizes);
    let Step { post_id, task } = step;
    // As it is by now; what was deleted meanwhile is nobody's any more.
    let Some(post) = posts.get(&[post_id]).await?.pop() else { return Ok(()) };
    let notifying = Notifying { posts, audience, large, hidden, told, prompt, bulk, steps, sizes };
    match task {
        Task::Load { walk } => {
            let loading = Loading { posts, audience, large, timelines, cache, queue: steps, sizes };
            metrics::count(Metric::TimelinesLoaded, loading.go_on(post, walk).await?);
        }
        Task::Ring { news, told_at, walk } => {
            metrics::count(Metric::PushesQueued, notifying.ring(&post, news, told_at, walk).await?);
        }
        Task::RingAgain { news, told_at, from } => {
            metrics::count(Metric::PushesQueued, notifying.ring_again(&post, news, told_at, from).await?);
        }
    }
    Ok(())
}
