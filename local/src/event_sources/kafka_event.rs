//! The event of a batch of records, and the answer to it
//! (<https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html>).

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{log::Record, partial_batch};
use crate::runtime::MAX_PAYLOAD;

/// How many bytes the records of one event may have; the rest of [`MAX_PAYLOAD`] is for what is around them.
pub(super) const MAX_RECORDS: usize = MAX_PAYLOAD - 4096;

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "eventSource")]
    source: &'static str,
    #[serde(rename = "eventSourceArn")]
    arn: &'a str,
    #[serde(rename = "bootstrapServers")]
    bootstrap_servers: &'a str,
    records: BTreeMap<String, Vec<EventRecord<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    timestamp_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    headers: Vec<BTreeMap<&'a str, Vec<i8>>>,
}

/// The event of a batch. Records of a partition are in their order, under `<topic>-<partition>`.
pub(crate) fn event<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    source_arn: &str,
    bootstrap_servers: &str,
) -> Result<Bytes, serde_json::Error> {
    let mut grouped: BTreeMap<String, Vec<EventRecord<'_>>> = BTreeMap::new();
    for record in records {
        grouped.entry(group(&record.topic, record.partition)).or_default().push(EventRecord {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: if record.append_time { "LOG_APPEND_TIME" } else { "CREATE_TIME" },
            key: record.key.as_ref().map(|key| STANDARD.encode(key)),
            value: record.value.as_ref().map(|value| STANDARD.encode(value)),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| BTreeMap::from([(name.as_str(), signed(value.as_ref()))]))
                .collect(),
        });
    }
    let event = Event { source: "aws:kafka", arn: source_arn, bootstrap_servers, records: grouped };
    serde_json::to_vec(&event).map(Bytes::from)
}

/// How many bytes a record takes in an event, at the most.
pub(super) fn size(record: &Record) -> usize {
    /// The names of the fields, the numbers, the brackets.
    const FRAME: usize = 256;
    let base64 = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len().div_ceil(3) * 4);
    // A byte of a header is up to five characters: `-128,`.
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + 16 + value.as_ref().map_or(0, Bytes::len) * 5)
        .sum();
    FRAME + record.topic.len() * 2 + base64(&record.key) + base64(&record.value) + headers
}

/// AWS writes a header's bytes as Java does.
fn signed(bytes: Option<&Bytes>) -> Vec<i8> {
    bytes.map(|bytes| bytes.iter().map(|byte| byte.cast_signed()).collect()).unwrap_or_default()
}

pub(super) fn group(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// What a function says of its batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Every record is done.
    Success,
    /// These failed: offsets by partition.
    Failures(BTreeMap<i32, BTreeSet<i64>>),
    /// It names what was not in the batch, or is no such report: the whole batch failed.
    Invalid,
}

#[derive(Deserialize)]
struct Identifier {
    /// `<topic>-<partition>`. AWS's page has named this field `topic-partition` too; AWS's own library (Powertools for
    /// Python 3.37, `utilities/batch/base.py`) names it `partition`, as our functions do.
    #[serde(alias = "topic-partition")]
    partition: String,
    offset: i64,
}

/// Reads the answer to a batch.
pub(super) fn report<'a>(payload: &[u8], batch: impl IntoIterator<Item = &'a Record>) -> Report {
    let Ok(failures) = partial_batch::failures::<Identifier>(payload) else { return Report::Invalid };
    let known: BTreeMap<(String, i64), i32> = batch
        .into_iter()
        .map(|record| ((group(&record.topic, record.partition), record.offset), record.partition))
        .collect();
    let mut failed: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
    for Identifier { partition, offset } in failures {
        match known.get(&(partition, offset)) {
            Some(partition) => failed.entry(*partition).or_default().insert(offset),
            None => return Report::Invalid,
        };
    }
    if failed.is_empty() { Report::Success } else { Report::Failures(failed) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(partition: i32, offset: i64) -> Record {
        Record {
            topic: "posts".into(),
            partition,
            offset,
            timestamp: 1_700_000_000_000,
            append_time: false,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"{}")),
            headers: vec![("trace".to_owned(), Some(Bytes::from_static(b"a\xff")))],
        }
    }

    #[test]
    fn the_event_is_that_of_aws() {
        let records = [record(0, 15), record(0, 16), record(1, 3)];
        let bytes = event(&records, "arn:aws:kafka:x", "127.0.0.1:9092").expect("JSON");
        assert!(bytes.len() <= records.iter().map(size).sum::<usize>());
        let event: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!(event["eventSource"], "aws:kafka");
        assert_eq!(event["records"]["posts-0"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            event["records"]["posts-1"][0],
            json!({
                "topic": "posts", "partition": 1, "offset": 3, "timestamp": 1_700_000_000_000_i64,
                "timestampType": "CREATE_TIME", "key": "aw==", "value": "e30=", "headers": [{"trace": [97, -1]}],
            })
        );
    }

    #[test]
    fn a_report_is_read_as_aws_reads_it() {
        let batch = [record(0, 15), record(0, 16), record(1, 3)];
        let read = |answer: Value| report(answer.to_string().as_bytes(), &batch);
        let item = |partition: &str, offset: Value| json!({"itemIdentifier": {"partition": partition, "offset": offset}});
        for success in
            [Value::Null, json!({}), json!({"batchItemFailures": []}), json!({"batchItemFailures": null})]
        {
            assert_eq!(read(success), Report::Success);
        }
        assert_eq!(report(b"", &batch), Report::Success);
        assert_eq!(
            read(json!({"batchItemFailures": [item("posts-0", 16.into()), item("posts-1", 3.into())]})),
            Report::Failures(BTreeMap::from([(0, BTreeSet::from([16])), (1, BTreeSet::from([3]))]))
        );
        assert_eq!(
            read(
                json!({"batchItemFailures": [{"itemIdentifier": {"topic-partition": "posts-0", "offset": 15}}]})
            ),
            Report::Failures(BTreeMap::from([(0, BTreeSet::from([15]))]))
        );
        for invalid in [
            json!({"batchItemFailures": [item("posts-0", 17.into())]}),
            json!({"batchItemFailures": [item("other-0", 15.into())]}),
            json!({"batchItemFailures": [item("posts-0", Value::Null)]}),
            json!({"batchItemFailures": [{"itemIdentifier": ""}]}),
            json!({"batchItemFailures": [{}]}),
            json!({"batchItemFailures": "posts-0"}),
        ] {
            assert_eq!(read(invalid.clone()), Report::Invalid, "{invalid}");
        }
    }
}
