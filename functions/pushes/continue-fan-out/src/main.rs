//! Consumes the queue of steps: goes on with an audience that is too large to be done at once, for the timelines or for the
//! phones, and queues what is left of it then.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PostsTable, SubscriptionsTable},
    redis::{RedisPostCache, RedisTimelines},
    sqs::{SqsPushQueue, SqsStepQueue},
};
use tocsin_domain::{
    Result,
    audience::Sizes,
    fan_out::{Step, Task},
    posts::Posts as _,
    push::Notifying,
    timeline_loading::Loading,
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (Storage, Cached, Queues, Sizes);
type Storage = (PostsTable, SubscriptionsTable, FriendshipsTable);
type Cached = (RedisTimelines, RedisPostCache);
type Queues = (SqsPushQueue, SqsStepQueue);

fn main() -> ExitCode {
    start::messages(continue_fan_out)
}

async fn continue_fan_out((storage, cached, queues, sizes): &Ports, step: Step) -> Result<()> {
    let ((posts, audience, hidden), (timelines, cache), (pushes, steps)) = (storage, cached, queues);
    let Step { post_id, task, walk } = step;
    // As it is by now; what was deleted meanwhile is nobody's any more.
    let Some(post) = posts.get(&[post_id]).await?.pop() else { return Ok(()) };
    match task {
        Task::Load => {
            let loading =
                Loading { posts, audience, large: audience, timelines, cache, queue: steps, sizes: *sizes };
            metrics::count(Metric::TimelinesLoaded, loading.go_on(post, walk).await?);
        }
        Task::Ring => {
            let notifying =
                Notifying { audience, large: audience, hidden, queue: pushes, steps, sizes: *sizes };
            metrics::count(Metric::PushesQueued, notifying.go_on(&post, walk).await?);
        }
    }
    Ok(())
}
