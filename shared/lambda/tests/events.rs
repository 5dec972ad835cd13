//! Every sample in events/ is the event of its function: it is read as AWS's type of it, written, and read again; and
//! what our own types read of it is what is in it.

use std::{cell::RefCell, collections::BTreeMap, fmt::Debug, fs};

use aws_lambda_events::{
    apigw::ApiGatewayV2httpRequest, eventbridge::EventBridgeEvent, kafka::KafkaEvent, sqs::SqsEvent,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tocsin_adapters::s3::S3Notification;
use tocsin_domain::{
    departure::DepartureJob,
    fan_out::Step,
    feed_poll::PollJob,
    held_push::DigestJob,
    password_reset::ResetRequest,
    post::Post,
    post_log::{Change, PostChange, PostRecord},
    push::PushJob,
    reaction::CountJob,
};
use tocsin_lambda::{batch, deadline::Deadline, request::Request};

/// The samples, by the function's name.
fn samples() -> BTreeMap<String, Value> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
        Some((name, fs::read(&path).ok()?))
    };
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../events")).into_iter().flatten();
    files
        .filter_map(read)
        .map(|(name, text)| (name, serde_json::from_slice(&text).unwrap_or_default()))
        .collect()
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(sample: &Value) -> serde_json::Result<T> {
    let read: T = serde_json::from_value(sample.clone())?;
    let again: T = serde_json::from_str(&serde_json::to_string(&read)?)?;
    assert_eq!(again, read);
    Ok(read)
}

#[test]
fn every_sample_is_read_written_and_read_again() {
    let samples = samples();
    assert!(!samples.is_empty());
    for (name, sample) in samples {
        assert!(sample.is_object(), "{name} is not JSON");
        if sample.get("requestContext").is_some() {
            request(&name, &sample);
        } else if sample["eventSource"] == "aws:kafka" {
            records(&name, &sample);
        } else if sample["Records"][0]["eventSource"] == "aws:sqs" {
            for message in round_trip::<SqsEvent>(&sample).unwrap().records {
                let job = serde_json::from_str(&message.body.unwrap()).unwrap();
                match name.as_str() {
                    "continue-fan-out" => drop(round_trip::<Step>(&job).unwrap()),
                    "count-reactions" => drop(round_trip::<CountJob>(&job).unwrap()),
                    "deliver-digest" => drop(round_trip::<DigestJob>(&job).unwrap()),
                    "deliver-push" => drop(round_trip::<PushJob>(&job).unwrap()),
                    "erase-account" => drop(round_trip::<DepartureJob>(&job).unwrap()),
                    "poll-feed" => drop(round_trip::<PollJob>(&job).unwrap()),
                    "mail-password-reset" => drop(round_trip::<ResetRequest>(&job).unwrap()),
                    // S3's own: it is only read.
                    "accept-profile-image" => {
                        let images = serde_json::from_value::<S3Notification>(job).unwrap().images();
                        assert!(!images.is_empty(), "{name} names no image");
                    }
                    other => panic!("{other} takes no message that is known here"),
                }
            }
        } else {
            assert_eq!(sample["detail-type"], "Scheduled Event", "{name} is of no known type");
            round_trip::<EventBridgeEvent>(&sample).unwrap();
        }
    }
}

fn request(name: &str, sample: &Value) {
    let event =
        round_trip::<ApiGatewayV2httpRequest>(sample).unwrap_or_else(|error| panic!("{name}: {error}"));
    let request = Request::new(serde_json::from_value(sample.clone()).unwrap_or_default(), "invocation");
    assert_eq!(Some(request.id()), event.request_context.request_id.as_deref(), "{name}");
    assert_eq!(request.client_address(), event.request_context.http.source_ip.unwrap_or_default(), "{name}");
    for (header, value) in &event.headers {
        assert_eq!(request.header(header.as_str()), value.to_str().ok(), "{name}: {header}");
    }
    if event.body.is_some() {
        request.json().unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    }
}

fn records(name: &str, sample: &Value) {
    let mut sample = sample.clone();
    let partitions =
        sample["records"].as_object_mut().into_iter().flat_map(|partitions| partitions.values_mut());
    for record in partitions.filter_map(Value::as_array_mut).flatten() {
        // `aws_lambda_events` rounds an instant by way of a float, and loses a millisecond now and then.
        record["timestamp"] = 1_795_197_731_000_i64.into();
    }
    let event = round_trip::<KafkaEvent>(&sample).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(event.records.len() >= 2, "{name} has records of one partition only");
    let mut expected: Vec<Post> = Vec::new();
    for record in event.records.into_values().flatten() {
        let decoded =
            |text: Option<String>| BASE64_STANDARD.decode(text.unwrap_or_default()).unwrap_or_default();
        let read =
            PostRecord::from_json(&decoded(record.value)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = read.to_json().and_then(|json| PostRecord::from_json(&json));
        assert_eq!(again.as_ref().ok(), Some(&read), "{name}");
        if let Change::Post(PostChange::Created(post)) = read.change {
            assert_eq!(decoded(record.key), post.post_id.to_string().as_bytes(), "{name}");
            expected.push(*post);
        }
    }
    assert!(expected.len() >= 2, "{name} has fewer than two posts");
    let event: batch::KafkaEvent =
        serde_json::from_value(sample).unwrap_or_else(|error| panic!("{name}: {error}"));
    let handed = RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let answer =
        runtime.block_on(batch::changes(event, Deadline::default(), async |changes: &[PostChange]| {
            handed.borrow_mut().extend(changes.iter().filter_map(PostChange::created).cloned());
            changes.iter().map(|_| Ok(())).collect()
        }));
    assert_eq!(answer, batch::KafkaBatchResponse::default(), "{name}");
    let by_id = |mut posts: Vec<Post>| {
        posts.sort_by_key(|post| post.post_id);
        posts
    };
    assert_eq!(by_id(handed.into_inner()), by_id(expected), "{name}");
}
