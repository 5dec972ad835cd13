//! Each minute: queues the feeds that are due.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::FeedsTable, sqs::SqsPollQueue};
use tocsin_domain::{Result, feed_poll, time};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (FeedsTable, SqsPollQueue);

fn main() -> ExitCode {
    start::schedule(schedule_feeds)
}

async fn schedule_feeds((feeds, queue): &Ports) -> Result<()> {
    let due = feed_poll::schedule(feeds, queue, time::now()).await?;
    metrics::count(Metric::FeedsDue, due);
    Ok(())
}
