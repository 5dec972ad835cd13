//! `cargo run -p local --release -- bench`: what the README states, measured on stacks of its own.
//!
//! These machines are noisy, so each figure is taken in several rounds and shown with its spread, and a ratio is of two
//! measurements in one run. A count, a ratio or a size that is not as wanted fails the bench; a time is told.

mod api;
mod audience;
mod crowd;
mod endpoint;
mod events;
mod fan_out;
mod feeds;
mod filling;
mod ingest;
mod redis_benchmark;
mod report;
mod round_trips;
mod samples;
pub mod sns_endpoint;
pub mod sqs_endpoint;
mod timeline;

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::ValueEnum;
use serde_json::Value;

pub use self::{
    crowd::{Endpoints, Scene},
    report::{Bound, Figure, Of, Report, Unit},
};
use crate::{
    api_client::{ApiClient, Person},
    runtime::Capacity,
    stack::{Foundation, Stack},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Cold starts, friends in common, from a post to a timeline
    Api,
    /// A page of a timeline, from the cache and across its end
    Timeline,
    /// A page of the events of a year, of 1,000 and of 100,000
    Events,
    /// A list of ten thousand plans, and a hundred feeds that are due at once
    Feeds,
    /// Writing into timelines, by redis-benchmark's measure
    FanOut,
    /// Storing posts, by the measure of the SDK's batch writes
    Ingest,
    /// Finding a thousand people among a million subscriptions
    Audience,
    /// A post to 100,000 people, and one to ten right after it
    Crowd,
}

/// The functions that are measured, and those that these need.
pub const FUNCTIONS: &[&str] = &[
    "continue-fan-out",
    "create-feed",
    "create-post",
    "create-subscription",
    "deliver-push",
    "get-feed",
    "get-status",
    "get-timeline",
    "ingest-posts",
    "list-events",
    "list-feeds",
    "list-mutual-friends",
    "load-timelines",
    "login",
    "notify-subscribers",
    "poll-feed",
    "register",
    "renew-session",
    "schedule-feeds",
    "verify-email",
];

/// A running stack, measured.
pub struct Bench<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// Is told what goes on.
    pub say: &'a (dyn Fn(&str) + Send + Sync),
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("stack", &self.stack).finish_non_exhaustive()
    }
}

impl Bench<'_> {
    /// Measures what any stack can be measured by.
    pub async fn run(&self, subjects: &[Subject], report: &mut Report) -> Result<()> {
        for subject in subjects {
            (self.say)(&format!("measuring: {subject:?}"));
            match subject {
                Subject::Api => self.api(report).await?,
                Subject::Timeline => self.timeline(report).await?,
                Subject::Events => self.events(report).await?,
                Subject::Feeds => self.feeds(report).await?,
                Subject::FanOut => self.fan_out(report).await?,
                Subject::Ingest => self.ingest(report).await?,
                Subject::Audience | Subject::Crowd => {}
            }
        }
        Ok(())
    }

    /// Measures a post to a crowd, on a stack whose SQS and SNS are these.
    pub async fn crowd(&self, scene: Scene, endpoints: &Endpoints, report: &mut Report) -> Result<()> {
        crowd::measure(self, scene, endpoints, report).await
    }

    async fn invoke(&self, name: &str, event: Bytes) -> Result<Duration> {
        let invocation = self.stack.fleet().invoke(name, event, Capacity::Wait).await?;
        let answer: Value = serde_json::from_slice(&invocation.payload)?;
        anyhow::ensure!(matches!(answer["statusCode"].as_u64(), Some(200 | 202)), "{name} answered {answer}");
        Ok(invocation.duration)
    }

    /// The body of a function's answer.
    async fn answer(&self, name: &str, event: Bytes) -> Result<Value> {
        let invocation = self.stack.fleet().invoke(name, event, Capacity::Wait).await?;
        let answer: Value = serde_json::from_slice(&invocation.payload)?;
        let body = answer["body"].as_str().with_context(|| format!("{name} answered {answer}"))?;
        Ok(serde_json::from_str(body)?)
    }

    /// The sample event of a function, with a token that is good.
    fn event(&self, name: &str, token: &str) -> Result<Bytes> {
        let path = self.stack.root().join("events").join(format!("{name}.json"));
        let sample =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut event: Value = serde_json::from_str(&sample.replace("{{access_token}}", token))?;
        // A key would make every post the same one.
        if let Some(headers) = event["headers"].as_object_mut() {
            headers.remove("idempotency-key");
        }
        Ok(event.to_string().into())
    }
}

/// Measures how an audience is found, in a storage that nobody else uses.
pub async fn audience(
    foundation: &Foundation,
    report: &mut Report,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<()> {
    audience::measure(foundation, report, say).await
}

async fn people_of(api: &ApiClient, role: &str, count: usize) -> Result<Vec<Person>> {
    let mut people = Vec::new();
    for number in 0..count {
        let name = format!("{role}-{number}");
        people.push(api.register(&name, &format!("{name}@example.org")).await?);
    }
    Ok(people)
}

#[expect(clippy::cast_precision_loss, reason = "to a tenth of a mebibyte")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
