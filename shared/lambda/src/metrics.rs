//! Metrics, in CloudWatch's embedded metric format: a line of JSON on stdout, of which CloudWatch makes metrics by
//! itself. So a metric costs no call and cannot fail.
//!
//! Specification: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write as _;

use serde_json::{Map, Value, json};
use tocsin_domain::time::{self, Timestamp};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{Layer, layer};

use crate::logs;

/// What is measured. The names are those of the template's alarms and dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Posts that the log took.
    PostsAccepted,
    /// Posts that were stored, each once.
    PostsIngested,
    /// People whose timelines a post was offered to.
    TimelinesLoaded,
    /// People whose pushes were queued.
    PushesQueued,
    /// Pushes that the gateway took.
    PushesDelivered,
    /// Pushes that were not sent, for good.
    PushesRefused,
    /// People whose pushes are put off: the gateway takes no more, another try holds them, or the post is withheld.
    PushesPutOff,
    /// People whose preferences muted a push.
    PushesMuted,
    /// People for whom a push is held until their quiet hours end.
    PushesHeld,
    /// People whose digests were queued.
    DigestsQueued,
    /// Digests that the gateway took.
    DigestsDelivered,
    /// Feeds that were due.
    FeedsDue,
    /// Polls that found their feed, changed or not.
    FeedsPolled,
    /// Polls that did not.
    FeedsFailed,
    /// Records and messages that cannot be read.
    RecordsRefused,
    /// Records and messages whose handling failed: they are tried again.
    RecordsFailed,
    /// Times that Redis was away, and something was done without it: a timeline read from the storage, a request that
    /// was not counted.
    CacheUnavailable,
    /// How old a post was when a consumer was done with it, in milliseconds.
    PostAgeMs,
    /// How old a heartbeat was when a consumer got it, in milliseconds.
    HeartbeatAgeMs,
}

impl Metric {
    fn name(self) -> String {
        format!("{self:?}")
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::PostAgeMs | Self::HeartbeatAgeMs => "Milliseconds",
            _ => "Count",
        }
    }
}

/// Measures what the domain can only log, since it writes no metrics: a warning with the field `cache_unavailable`.
#[derive(Debug)]
pub struct OfWarnings;

impl<S: Subscriber> Layer<S> for OfWarnings {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        count(Metric::CacheUnavailable, usize::from(is_of_cache(event.metadata())));
    }
}

fn is_of_cache(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field("cache_unavailable").is_some()
}

/// Counts so many; nothing is written for none.
pub fn count(metric: Metric, count: usize) {
    if count > 0 {
        write(metric, &[u64::try_from(count).unwrap_or(u64::MAX)]);
    }
}

/// Measures how long ago each of these instants was.
pub fn ages(metric: Metric, since: impl IntoIterator<Item = Timestamp>) {
    let now = time::now();
    let ages: Vec<_> = since
        .into_iter()
        .map(|then| u64::try_from(now.as_millisecond() - then.as_millisecond()).unwrap_or(0))
        .collect();
    // A metric has at most 100 values in one line.
    for ages in ages.chunks(100) {
        write(metric, ages);
    }
}

fn write(metric: Metric, values: &[u64]) {
    let line = line(&logs::function_name(), time::now(), metric, values);
    // Nobody reads them if stdout is gone.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

fn line(service: &str, now: Timestamp, metric: Metric, values: &[u64]) -> String {
    let value = match values {
        [only] => json!(only),
        several => json!(several),
    };
    let mut line = Map::new();
    let about = json!({
        "Timestamp": now.as_millisecond(),
        "CloudWatchMetrics": [{
            "Namespace": "Tocsin",
            "Dimensions": [["service"]],
            "Metrics": [{"Name": metric.name(), "Unit": metric.unit()}],
        }],
    });
    line.insert("_aws".to_owned(), about);
    line.insert("service".to_owned(), service.into());
    line.insert(metric.name(), value);
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tocsin_domain::{
        Error, Refusal, Result,
        ids::UserId,
        rate_limit::{self, PUBLIC, RateLimit, RateLimiter, check},
    };
    use tracing::instrument::WithSubscriber as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    struct Away;

    impl RateLimiter for Away {
        async fn count(&self, _: RateLimit, _: &str, _: Option<UserId>) -> Result<rate_limit::Counted> {
            Err(Error::unavailable("rate limits", "down"))
        }
    }

    struct Counted(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Counted {
        fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
            self.0.fetch_add(usize::from(is_of_cache(event.metadata())), Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_limit_that_nobody_counts_is_measured() {
        let counted = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Counted(counted.clone()));
        let allowed: Result<(), Refusal> = check(&Away, PUBLIC, "somebody").with_subscriber(subscriber).await;
        assert_eq!((allowed, counted.load(Ordering::Relaxed)), (Ok(()), 1));
    }

    #[test]
    fn a_line_is_in_the_embedded_metric_format() {
        let now = time::parse("2026-11-20T18:02:11.123Z").unwrap();
        let written: Value =
            serde_json::from_str(&line("create-post", now, Metric::PostsAccepted, &[3])).unwrap();
        let expected = json!({
            "_aws": {
                "Timestamp": 1_795_197_731_123_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "Tocsin",
                    "Dimensions": [["service"]],
                    "Metrics": [{"Name": "PostsAccepted", "Unit": "Count"}],
                }],
            },
            "service": "create-post",
            "PostsAccepted": 3,
        });
        assert_eq!(written, expected);
        let ages = line("x", now, Metric::HeartbeatAgeMs, &[3, 4]);
        assert!(ages.contains(r#""HeartbeatAgeMs":[3,4]"#) && ages.contains("Milliseconds"), "{ages}");
    }
}
