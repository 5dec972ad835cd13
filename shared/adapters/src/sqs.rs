//! Jobs in SQS: pushes, digests, polls of feeds, steps of large audiences, posts whose reactions are to be counted, mails for other
//! passwords, and departures.

use std::time::Duration;

use aws_sdk_sqs::{Client, types::SendMessageBatchRequestEntry};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tocsin_domain::{
    Error, Result,
    departure::{DepartureJob, DepartureQueue},
    fan_out::{Step, StepQueue},
    feed_poll::{PollJob, PollQueue},
    held_push::{DigestJob, DigestQueue},
    ids::PostId,
    password_reset::{ResetQueue, ResetRequest},
    push::{PushJob, PushQueue},
    push_turn::{PushTurn, PushTurns},
    reaction::{CountJob, ReactionQueue},
};

use crate::aws::{SdkConfig, failed};

/// The queue of `deliver-push`.
#[derive(Clone, Debug)]
pub struct SqsPushQueue {
    client: Client,
    url: String,
}

/// `SendMessageBatch` takes ten messages, and 256 KiB in all.
const MOST_MESSAGES: usize = 10;
const MOST_BYTES: usize = 256 * 1024;
/// How many batches are under way at once.
const CONCURRENT: usize = 8;
/// How often messages are sent that SQS took the batch but not the message of.
const MOST_ROUNDS: usize = 3;

impl SqsPushQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl PushQueue for SqsPushQueue {
    async fn enqueue(&self, jobs: &[PushJob]) -> Result<()> {
        send_all(&self.client, &self.url, "the push queue", jobs).await
    }
}

impl PushTurns for SqsPushQueue {
    async fn put_off(&self, turn: &PushTurn, pause: Duration) -> Result<()> {
        send_after(&self.client, &self.url, "the push queue", turn, pause).await
    }
}

/// The queues that `deliver-push` consumes.
#[derive(Clone, Debug)]
pub struct SqsPushQueues {
    /// Of the audiences that are told at once.
    pub prompt: SqsPushQueue,
    /// Of the rest of large audiences.
    pub bulk: SqsPushQueue,
}

impl SqsPushQueues {
    /// The queue of this ARN.
    #[must_use]
    pub fn of(&self, arn: &str) -> &SqsPushQueue {
        // Both end with its name.
        let name = |address: &str, separator| address.rsplit(separator).next().map(str::to_owned);
        if name(arn, ':') == name(&self.bulk.url, '/') { &self.bulk } else { &self.prompt }
    }

    /// Whether it is that of the rest of large audiences.
    #[must_use]
    pub fn is_bulk(&self, queue: &SqsPushQueue) -> bool {
        queue.url == self.bulk.url
    }
}

/// The queue of `deliver-digest`.
#[derive(Clone, Debug)]
pub struct SqsDigestQueue {
    client: Client,
    url: String,
}

impl SqsDigestQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl DigestQueue for SqsDigestQueue {
    async fn enqueue(&self, jobs: &[DigestJob]) -> Result<()> {
        send_all(&self.client, &self.url, "the digest queue", jobs).await
    }
}

/// The queue of `poll-feed`.
#[derive(Clone, Debug)]
pub struct SqsPollQueue {
    client: Client,
    url: String,
}

impl SqsPollQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl PollQueue for SqsPollQueue {
    async fn enqueue(&self, jobs: &[PollJob]) -> Result<()> {
        send_all(&self.client, &self.url, "the queue of polls", jobs).await
    }
}

/// The queue of `mail-password-reset`.
#[derive(Clone, Debug)]
pub struct SqsResetQueue {
    client: Client,
    url: String,
}

impl SqsResetQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl ResetQueue for SqsResetQueue {
    async fn enqueue(&self, request: &ResetRequest) -> Result<()> {
        send_after(&self.client, &self.url, "the reset queue", request, Duration::ZERO).await
    }
}

/// The queue of `continue-fan-out`.
#[derive(Clone, Debug)]
pub struct SqsStepQueue {
    client: Client,
    url: String,
}

impl SqsStepQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl StepQueue for SqsStepQueue {
    async fn enqueue(&self, step: &Step, delay: Duration) -> Result<()> {
        send_after(&self.client, &self.url, "the queue of steps", step, delay).await
    }
}

/// The queue of `count-reactions`.
#[derive(Clone, Debug)]
pub struct SqsReactionQueue {
    client: Client,
    url: String,
}

impl SqsReactionQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl ReactionQueue for SqsReactionQueue {
    async fn enqueue(&self, posts: &[PostId]) -> Result<()> {
        let jobs: Vec<_> = posts.iter().map(|post_id| CountJob { post_id: *post_id }).collect();
        send_all(&self.client, &self.url, "the queue of reactions", &jobs).await
    }
}

/// The queue of `erase-account`.
#[derive(Clone, Debug)]
pub struct SqsDepartureQueue {
    client: Client,
    url: String,
}

impl SqsDepartureQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(config: &SdkConfig, url: impl Into<String>) -> Self {
        Self { client: Client::new(config), url: url.into() }
    }
}

impl DepartureQueue for SqsDepartureQueue {
    async fn enqueue(&self, job: &DepartureJob) -> Result<()> {
        send_after(&self.client, &self.url, "the queue of departures", job, Duration::ZERO).await
    }
}

/// Sends one message, which comes after a delay: a quarter of an hour at most.
async fn send_after<T: Serialize>(
    client: &Client,
    url: &str,
    service: &'static str,
    job: &T,
    delay: Duration,
) -> Result<()> {
    let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
    let message = client.send_message().queue_url(url).message_body(write(job)?).delay_seconds(seconds);
    message.send().await.map_err(failed(service))?;
    Ok(())
}

fn write<T: Serialize>(job: &T) -> Result<String> {
    serde_json::to_string(job).map_err(|error| Error::unreadable("a job", error))
}

/// Sends a message for each job, in as few batches as there can be.
async fn send_all<T: Serialize>(client: &Client, url: &str, service: &'static str, jobs: &[T]) -> Result<()> {
    let bodies = jobs.iter().map(write).collect::<Result<Vec<_>>>()?;
    let sends = stream::iter(batches(bodies)).map(|batch| send(client, url, service, batch));
    sends.buffer_unordered(CONCURRENT).try_collect().await
}

async fn send(client: &Client, url: &str, service: &'static str, bodies: Vec<String>) -> Result<()> {
    let entry = |(id, body): (usize, String)| {
        SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(body).build()
    };
    let entries: Result<Vec<_>, _> = bodies.into_iter().enumerate().map(entry).collect();
    let mut entries = entries.map_err(failed(service))?;
    let mut cause = String::new();
    for _ in 0..MOST_ROUNDS {
        let request = client.send_message_batch().queue_url(url).set_entries(Some(entries.clone()));
        let answer = request.send().await.map_err(failed(service))?;
        let Some(failure) = answer.failed().first() else { return Ok(()) };
        cause = format!("{}: {}", failure.code(), failure.message().unwrap_or_default());
        if answer.failed().iter().any(aws_sdk_sqs::types::BatchResultErrorEntry::sender_fault) {
            break;
        }
        entries.retain(|entry| answer.failed().iter().any(|failure| failure.id() == entry.id()));
    }
    Err(Error::unavailable(service, cause))
}

/// Cuts messages into batches that SQS takes.
fn batches(bodies: Vec<String>) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for body in bodies {
        match batches.last_mut() {
            Some(batch) if batch.len() < MOST_MESSAGES && bytes + body.len() <= MOST_BYTES => {
                bytes += body.len();
                batch.push(body);
            }
            _ => {
                bytes = body.len();
                batches.push(vec![body]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_within_both_limits_and_lose_nothing() {
        let bodies: Vec<_> = (0..95).map(|i| "x".repeat(1 + i * 997)).collect();
        let cut = batches(bodies.clone());
        for batch in &cut {
            assert!(batch.len() <= MOST_MESSAGES);
            assert!(batch.iter().map(String::len).sum::<usize>() <= MOST_BYTES);
        }
        assert_eq!(cut.concat(), bodies);
    }
}
