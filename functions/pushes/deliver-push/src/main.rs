//! Consumes the queue of pushes: sends each job's, once to each device, and adds them to people's inboxes. A job of which
//! some failed is tried again, for those alone.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DevicesTable, FriendshipsTable, HeldPushesTable, NotificationsTable, PostsTable,
        PreferencesTable,
    },
    redis::RedisPostCache,
    sns::SnsPushGateway,
};
use tocsin_domain::{Error, Result, delivery::Delivery, push::PushJob, time};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (Seen, Wishes, Phones, DeliveriesTable, NotificationsTable);
type Seen = (RedisPostCache, PostsTable, FriendshipsTable);
type Wishes = (PreferencesTable, HeldPushesTable);
type Phones = (DevicesTable, SnsPushGateway);

fn main() -> ExitCode {
    start::messages(deliver_push)
}

async fn deliver_push(all: &Ports, job: PushJob) -> Result<()> {
    let (seen, (preferences, held), (devices, gateway), deliveries, inboxes) = all;
    let (cache, posts, hidden) = seen;
    let delivery =
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
    let tally = delivery.deliver(&job, time::now()).await;
    metrics::count(Metric::PushesDelivered, tally.pushed);
    metrics::count(Metric::PushesRefused, tally.refused);
    metrics::count(Metric::PushesMuted, tally.muted);
    metrics::count(Metric::PushesHeld, tally.held);
    if tally.failed > 0 {
        return Err(Error::unavailable("pushes", format!("{} of them failed", tally.failed)));
    }
    Ok(())
}
