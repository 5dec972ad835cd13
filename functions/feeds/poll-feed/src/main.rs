//! Consumes the queue of polls: fetches a feed, reads it, and publishes to the log what is new in it.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{CategoriesTable, FeedsTable},
    feed_source::HttpFeedSource,
    kafka::KafkaPostLog,
};
use tocsin_domain::{
    Result,
    feed_poll::{PollJob, Polling},
    feeds::{PollOutcome, Polls},
    time,
};
use tocsin_lambda::{
    metrics::{self, Metric},
    start,
};

type Ports = (FeedsTable, HttpFeedSource, CategoriesTable, KafkaPostLog);

fn main() -> ExitCode {
    start::messages(poll_feed)
}

async fn poll_feed((polls, source, categories, log): &Ports, job: PollJob) -> Result<()> {
    let polling = Polling { polls, source, read: tocsin_feeds::read, categories, log };
    let Some(Polls { last_poll: Some(last), last_reading, .. }) = polling.poll(&job, time::now).await? else {
        return Ok(());
    };
    tracing::info!(feed_id = %job.feed_id, outcome = ?last.outcome, reason = last.reason, "a feed was polled");
    match (last.outcome, last_reading) {
        (PollOutcome::Failed, _) => metrics::count(Metric::FeedsFailed, 1),
        (PollOutcome::Read, Some(reading)) => {
            metrics::count(Metric::FeedsPolled, 1);
            metrics::count(Metric::PostsAccepted, reading.created);
        }
        (PollOutcome::Read | PollOutcome::Unchanged, _) => metrics::count(Metric::FeedsPolled, 1),
    }
    Ok(())
}
