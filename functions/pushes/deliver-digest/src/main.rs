//! Consumes the queue of digests: tells a person whose quiet hours are over, in one push to each device, of what was held. If
//! it is quiet again, it stays held.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DevicesTable, FriendshipsTable, HeldPushesTable, NotificationsTable, PostsTable,
        PreferencesTable,
    },
    sns::SnsPushGateway,
};
use tocsin_domain::{Result, digest::Digesting, held_push::DigestJob, time};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (Wishes, Seen, Phones, DeliveriesTable, NotificationsTable);
type Wishes = (PreferencesTable, HeldPushesTable);
type Seen = (PostsTable, FriendshipsTable);
type Phones = (DevicesTable, SnsPushGateway);

fn main() -> ExitCode {
    start::messages(deliver_digest)
}

async fn deliver_digest(all: &Ports, job: DigestJob) -> Result<()> {
    let ((preferences, held), (posts, hidden), (devices, gateway), deliveries, inboxes) = all;
    let digesting = Digesting { preferences, held, posts, hidden, devices, gateway, deliveries, inboxes };
    let sent = digesting.deliver(job, time::now()).await?;
    metrics::count(Metric::DigestsDelivered, sent);
    Ok(())
}
