//! Each minute: publishes a sign of life into the log, whose age each consumer measures.

use std::process::ExitCode;

use tocsin_adapters::kafka::KafkaPostLog;
use tocsin_domain::posts;
use tocsin_lambda::start;

fn main() -> ExitCode {
    start::schedule(async |log: &KafkaPostLog| posts::send_heartbeat(log).await)
}
