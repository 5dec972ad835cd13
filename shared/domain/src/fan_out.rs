//! Fan-out: what is done for everybody in an audience, in steps.
//!
//! The first part of an audience, which is all of most, is done by who reads the log. The rest goes through a queue, a
//! step after the other, each of some thousand people: so an audience of a million holds up nobody, a step that fails is
//! tried again alone, and where the queue brings one twice nothing happens twice.

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    audience::{Position, Walk},
    ids::PostId,
    push::News,
    time::Timestamp,
};

/// What is left to be done for the audience of a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The post.
    pub post_id: PostId,
    /// What is done, and for whom.
    pub task: Task,
}

/// What is done for everybody in an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The post is added to their timelines.
    Load {
        /// For whom.
        walk: Walk,
    },
    /// The phones of those ring who follow it.
    Ring {
        /// For what.
        news: News,
        /// When that happened.
        told_at: Timestamp,
        /// For whom.
        walk: Walk,
    },
    /// The phones of those ring who were told of it.
    RingAgain {
        /// For what.
        news: News,
        /// When that happened.
        told_at: Timestamp,
        /// Where they go on.
        from: Option<Position>,
    },
}

/// Takes steps.
pub trait StepQueue: Sync {
    /// Returns once it is queued, to come after `delay`: a quarter of an hour at most.
    fn enqueue(&self, step: &Step, delay: Duration) -> impl Future<Output = Result<()>> + Send;
}
