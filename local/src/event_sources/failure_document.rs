//! The document that goes to an on-failure destination in place of records that were given up
//! (<https://docs.aws.amazon.com/lambda/latest/dg/kafka-on-failure.html>, "SNS and SQS example invocation record"). It
//! has no payload: where the records are is all that is needed to read them once more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{kafka_event, log::Record};

/// What became of records that were given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailureDocument {
    pub(crate) request_context: RequestContext,
    /// `None` for records that no invocation has had.
    pub(crate) response_context: Option<ResponseContext>,
    pub(crate) version: String,
    pub(crate) timestamp: String,
    #[serde(rename = "KafkaBatchInfo")]
    pub(crate) batch: BatchInfo,
}

/// The last invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestContext {
    pub(crate) request_id: String,
    pub(crate) function_arn: String,
    pub(crate) condition: Condition,
    pub(crate) approximate_invoke_count: u32,
}

/// Why records were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    RetryAttemptsExhausted,
    MaximumRecordAgeExceeded,
    MaximumPayloadSizeExceeded,
}

/// What the last invocation returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResponseContext {
    pub(crate) status_code: u16,
    pub(crate) executed_version: String,
    /// `Unhandled` if it failed; absent if it reported the records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function_error: Option<String>,
}

/// Where the records are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchInfo {
    pub(crate) batch_size: usize,
    pub(crate) event_source_arn: String,
    pub(crate) bootstrap_servers: String,
    pub(crate) payload_size: usize,
    /// By `<topic>-<partition>`.
    pub(crate) records_info: BTreeMap<String, RecordsInfo>,
}

/// The records of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordsInfo {
    pub(crate) first_record_offset: String,
    pub(crate) last_record_offset: String,
    pub(crate) first_record_timestamp: String,
    pub(crate) last_record_timestamp: String,
}

impl BatchInfo {
    pub(super) fn of(records: &[&Record], source_arn: &str, bootstrap_servers: &str) -> Self {
        let mut info: BTreeMap<String, RecordsInfo> = BTreeMap::new();
        for record in records {
            let (offset, timestamp) = (record.offset.to_string(), instant(record.timestamp));
            info.entry(kafka_event::group(&record.topic, record.partition))
                .and_modify(|info| {
                    info.last_record_offset.clone_from(&offset);
                    info.last_record_timestamp.clone_from(&timestamp);
                })
                .or_insert_with(|| RecordsInfo {
                    first_record_offset: offset.clone(),
                    last_record_offset: offset.clone(),
                    first_record_timestamp: timestamp.clone(),
                    last_record_timestamp: timestamp.clone(),
                });
        }
        let event = kafka_event::event(records.iter().copied(), source_arn, bootstrap_servers);
        Self {
            batch_size: records.len(),
            event_source_arn: source_arn.to_owned(),
            bootstrap_servers: bootstrap_servers.to_owned(),
            payload_size: event.map_or(0, |event| event.len()),
            records_info: info,
        }
    }

    /// The records, as (topic, partition, first offset, last offset). `None` if the document was not made here or in AWS.
    pub(super) fn ranges(&self) -> Option<Vec<(&str, i32, i64, i64)>> {
        let range = |(key, info): (&'_ String, &RecordsInfo)| -> Option<(i32, i64, i64)> {
            let (_, partition) = key.rsplit_once('-')?;
            Some((
                partition.parse().ok()?,
                info.first_record_offset.parse().ok()?,
                info.last_record_offset.parse().ok()?,
            ))
        };
        self.records_info
            .iter()
            .map(|entry| {
                let (partition, first, last) = range(entry)?;
                Some((entry.0.rsplit_once('-')?.0, partition, first, last))
            })
            .collect()
    }
}

pub(super) fn instant(millis: i64) -> String {
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    instant.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
