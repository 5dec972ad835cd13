//! Metrics, in CloudWatch's embedded metric format: a line of JSON on stdout, of which CloudWatch makes metrics by
//! itself. So a metric costs no call and cannot fail.
//!
//! Specification: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write as _;

use serde_json::{Map, Value, json};
use tocsin_domain::time::{self, Timestamp};

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
    /// Records and messages that cannot be read.
    RecordsRefused,
    /// Records and messages whose handling failed: they are tried again.
    RecordsFailed,
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
    use super::*;

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
