//! Consumes the queue of reactions: tells the log how many confirm a post, and that it is withheld where many flag it. Many
//! reactions to a post in a batch are one record.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{PostsTable, ReactionsTable},
    kafka::KafkaPostLog,
    redis::RedisPostCache,
};
use tocsin_domain::{
    Result,
    moderation::{Counting, FlagsToWithhold},
    reaction::CountJob,
    time,
};
use tocsin_lambda::start;

type Ports = (RedisPostCache, PostsTable, ReactionsTable, KafkaPostLog, FlagsToWithhold);

fn main() -> ExitCode {
    start::jobs(count_reactions)
}

async fn count_reactions(ports: &Ports, job: CountJob) -> Result<()> {
    let (cache, stored, reactions, log, flags_to_withhold) = ports;
    let counting = Counting { cache, posts: stored, reactions, log, flags_to_withhold: *flags_to_withhold };
    counting.count(job.post_id, time::now()).await
}
