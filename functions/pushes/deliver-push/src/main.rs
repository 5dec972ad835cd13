//! Consumes the queue of pushes: sends each job's, once to each device, and adds them to people's inboxes. A job of which
//! some failed is tried again, and rings nobody again; those for whom SNS takes no more are put off.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DevicesTable, FriendshipsTable, HeldPushesTable, NotificationsTable, PostsTable,
        PreferencesTable,
    },
    redis::{RedisPostCache, RedisPushShare},
    sns::SnsPushGateway,
    sqs::SqsPushQueues,
};
use tocsin_domain::{
    Error, Result,
    delivery::Delivery,
    push_turn::{PushTurn, PushTurns as _},
    time,
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (Seen, Wishes, Phones, DeliveriesTable, NotificationsTable, Queues);
type Seen = (RedisPostCache, PostsTable, FriendshipsTable);
type Wishes = (PreferencesTable, HeldPushesTable);
type Phones = (DevicesTable, SnsPushGateway);
type Queues = (SqsPushQueues, RedisPushShare);

fn main() -> ExitCode {
    start::messages_of(deliver_push)
}

async fn deliver_push(all: &Ports, turn: PushTurn, queue: &str) -> Result<()> {
    let (seen, (preferences, held), (devices, gateway), deliveries, inboxes, (queues, share)) = all;
    let own_queue = queues.of(queue);
    if queues.is_bulk(own_queue)
        && let Some((turn, wait)) = turn.until_its_share(share).await
    {
        return own_queue.put_off(&turn, wait).await;
    }
    let (cache, posts, hidden) = seen;
    let delivery =
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
    let tally = delivery.deliver(&turn.job, time::now()).await;
    metrics::count(Metric::PushesDelivered, tally.pushed);
    metrics::count(Metric::PushesRefused, tally.refused);
    metrics::count(Metric::PushesMuted, tally.muted);
    metrics::count(Metric::PushesHeld, tally.held);
    metrics::count(Metric::PushesPutOff, tally.put_off.len());
    if let Some((next, pause)) = turn.next(&tally) {
        return own_queue.put_off(&next, pause).await;
    }
    match tally.failed.len() {
        0 => Ok(()),
        failed => Err(Error::unavailable("pushes", format!("{failed} of them failed"))),
    }
}
