//! The rules of event sources, with a log, a queue and a function in memory: what is committed, retried, split, given up,
//! and in which order.

use std::time::Duration;

mod kafka;
mod memory;
mod sqs;

/// Long enough for everything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
