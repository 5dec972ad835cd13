//! Each quarter of an hour: queues the departures whose next round is due, and those whose message got lost.

use std::process::ExitCode;

use tocsin_adapters::{dynamodb::DeparturesTable, sqs::SqsDepartureQueue};
use tocsin_domain::{Result, departure, time};
use tocsin_lambda::start;

type Ports = (DeparturesTable, SqsDepartureQueue);

fn main() -> ExitCode {
    start::schedule(resume_departures)
}

async fn resume_departures((departures, queue): &Ports) -> Result<()> {
    let resumed = departure::resume(departures, queue, time::now()).await?;
    tracing::info!(resumed, "departures are queued");
    Ok(())
}
