//! Recorded histories, held against the promises: every accepted post is in the timeline of each of its audience exactly
//! once, and was pushed at least once to each device that should ring, and at most once. Meanwhile functions are killed
//! in the middle of a batch, Redis is flushed and stopped, SNS throttles, fails, and answers in vain, and SQS and Kafka
//! deliver again. A part of an audience is five subscriptions here, so that a handful of people are many steps; some keys are
//! large, so that posts are merged; posts have areas, people block each other, and sleep while it is quiet.
//!
//! `TOCSIN_SEEDS=100` plays so many seeds, and `TOCSIN_SEED=7` that one. A seed decides what is done and what goes wrong;
//! when exactly the machine's processes come to it is theirs.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod checker;
mod gremlins;
mod messages;
mod model;
mod plan;
mod record;
mod sns;
mod story;
mod throttling;
#[path = "../town/mod.rs"]
mod town;

use std::env;

use futures::{StreamExt as _, stream};
use story::Story;

/// How many seeds are played unless somebody says otherwise.
const SEEDS: u64 = 2;
/// How many are played at once: most of the time they wait.
const AT_ONCE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_whatever_goes_wrong() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("TOCSIN_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("TOCSIN_SEEDS").unwrap_or(SEEDS),
    };
    let stories = stream::iter(seeds).map(Story::play).buffer_unordered(AT_ONCE);
    let broken = stories.filter_map(|story| async move {
        eprintln!("{}", story.summary());
        (!story.is_kept()).then_some(())
    });
    assert_eq!(broken.count().await, 0, "seeds break promises");
}
