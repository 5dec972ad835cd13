//! Consumes the queue of pushes: sends each job's, once to each device, and adds them to people's inboxes. A job of which
//! some failed is tried again, for those alone.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{DeliveriesTable, DevicesTable, NotificationsTable},
    sns::SnsPushGateway,
};
use tocsin_domain::{
    Error, Result,
    push::{Delivery, PushJob},
    time,
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (DevicesTable, SnsPushGateway, DeliveriesTable, NotificationsTable);

fn main() -> ExitCode {
    start::messages(deliver_push)
}

async fn deliver_push((devices, gateway, deliveries, inboxes): &Ports, job: PushJob) -> Result<()> {
    let delivery = Delivery { devices, gateway, deliveries, inboxes };
    let tally = delivery.deliver(&job, time::now()).await;
    metrics::count(Metric::PushesDelivered, tally.pushed);
    metrics::count(Metric::PushesRefused, tally.refused);
    if tally.failed > 0 {
        return Err(Error::unavailable("pushes", format!("{} of them failed", tally.failed)));
    }
    Ok(())
}
