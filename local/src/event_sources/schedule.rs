//! A schedule: invokes a function at a rate with `EventBridge`'s event
//! (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html>). `EventBridge` invokes
//! asynchronously, so a failure is tried again, twice if the template does not say otherwise
//! (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    invoker::{Backoff, Invoke},
    stop::Stop,
};
use crate::{
    metrics::SourceMetrics,
    template::model::{AsyncInvocations, Schedule},
};

/// The first firing: `EventBridge` counts a rate from the rule's creation; here nobody waits a minute to see it work.
const FIRST: Duration = Duration::from_millis(500);

/// One schedule, and what it needs to fire.
pub(super) struct Firing {
    pub(super) schedule: Schedule,
    pub(super) rules: AsyncInvocations,
    pub(super) region: String,
    pub(super) account: String,
    pub(super) function: Arc<dyn Invoke>,
    pub(super) backoff: Backoff,
    pub(super) metrics: Arc<SourceMetrics>,
    pub(super) stopping: Stop,
}

/// Fires until it is told to stop. A firing that falls due while one is in hand is skipped, not piled up.
pub(super) async fn run(firing: Firing) {
    let Firing { schedule, rules, region, account, function, backoff, metrics, stopping } = firing;
    let mut ticks = tokio::time::interval_at(Instant::now() + FIRST.min(schedule.every), schedule.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stopping.requested() => return,
        }
        let (event, due) = (event(&schedule, &region, &account), Instant::now());
        for retry in 0..=rules.max_retries {
            if retry > 0 {
                tokio::select! {
                    () = tokio::time::sleep(backoff.before(retry)) => {}
                    () = stopping.requested() => return,
                }
                metrics.retries.increment();
            }
            metrics.invocations.increment();
            match function.invoke(event.clone()).await {
                Ok(_) => {
                    metrics.done.increment();
                    break;
                }
                Err(error) if retry < rules.max_retries && due.elapsed() < rules.max_age => {
                    tracing::warn!(%error, schedule = schedule.name, "a scheduled invocation failed");
                }
                Err(error) => {
                    tracing::warn!(%error, schedule = schedule.name, "a scheduled invocation was given up");
                    metrics.discarded.increment();
                    break;
                }
            }
        }
    }
}

fn event(schedule: &Schedule, region: &str, account: &str) -> Bytes {
    let event = schedule.input.clone().unwrap_or_else(|| {
        json!({
            "version": "0",
            "id": uuid::Uuid::new_v4().to_string(),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": account,
            "time": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "region": region,
            "resources": [format!("arn:aws:events:{region}:{account}:rule/{}", schedule.name)],
            "detail": {},
        })
    });
    event.to_string().into()
}
