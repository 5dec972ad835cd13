//! Each minute: queues a digest for everybody whose quiet hours end.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::HeldPushesTable, sqs::SqsDigestQueue};
use tocsin_domain::{Result, held_push, time};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (HeldPushesTable, SqsDigestQueue);

fn main() -> ExitCode {
    start::schedule(release_held_pushes)
}

async fn release_held_pushes((schedule, queue): &Ports) -> Result<()> {
    let released = held_push::release(schedule, queue, time::now()).await?;
    metrics::count(Metric::DigestsQueued, released);
    Ok(())
}
