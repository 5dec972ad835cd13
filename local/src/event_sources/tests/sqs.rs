//! SQS sources.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    PATIENCE,
    memory::{Function, MemoryQueue},
};
use crate::{
    event_sources::{
        invoker::{Backoff, Invoke},
        queue::Queue,
        sqs::{SqsPoller, pause_after},
        stop::Stop,
    },
    template::model::SqsSource,
};

fn sqs(
    queue: &Arc<MemoryQueue>,
    function: &Arc<Function>,
    source: SqsSource,
) -> (Arc<SqsPoller>, watch::Sender<bool>) {
    let stop = watch::Sender::new(false);
    let poller = Arc::new(SqsPoller {
        source,
        function: Arc::clone(function) as Arc<dyn Invoke>,
        queue: Arc::clone(queue) as Arc<dyn Queue>,
        max_receives: Some(3),
        region: "us-east-1".to_owned(),
        visibility: queue.visibility,
        backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
        metrics: Arc::default(),
        stopping: Stop::new(&stop),
        in_hand: Mutex::default(),
    });
    tokio::spawn(Arc::clone(&poller).run());
    (poller, stop)
}

fn sqs_source() -> SqsSource {
    SqsSource {
        queue: "Push".to_owned(),
        batch_size: 10,
        window: Duration::from_millis(50),
        reports_failures: true,
        max_concurrency: Some(2),
        enabled: true,
    }
}

async fn emptied(queue: &MemoryQueue) {
    let end = async {
        while !queue.messages.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, end).await.expect("the queue should have been emptied");
}

#[tokio::test]
async fn messages_are_deleted_on_success_and_failed_ones_come_again() {
    let queue = Arc::new(MemoryQueue { visibility: Duration::from_secs(30), ..MemoryQueue::default() });
    let function = Function::new(|event| {
        let again = |record: &Value| record["attributes"]["ApproximateReceiveCount"] != "1";
        let failed = event["Records"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|record| record["body"] == "bad" && !again(record));
        Ok(
            json!({"batchItemFailures": failed.map(|record| json!({"itemIdentifier": record["messageId"]})).collect::<Vec<_>>()}),
        )
    });
    for (id, body) in [("1", "good"), ("2", "bad"), ("3", "good")] {
        queue.push(id, body);
    }
    let (poller, _stop) = sqs(&queue, &function, sqs_source());
    emptied(&queue).await;
    let seen = function.seen.lock().unwrap();
    assert_eq!(seen[0]["Records"].as_array().unwrap().len(), 3);
    assert_eq!(seen[1]["Records"].as_array().unwrap().len(), 1);
    assert_eq!(seen[1]["Records"][0]["body"], "bad");
    let record = &seen[0]["Records"][0];
    assert_eq!(record["eventSource"], "aws:sqs");
    assert_eq!(record["eventSourceARN"], "arn:aws:sqs:us-east-1:000000000000:queue");
    assert_eq!(record["awsRegion"], "us-east-1");
    assert_eq!(poller.metrics.retries.get(), 1);
}

#[tokio::test]
async fn batches_run_side_by_side_up_to_the_concurrency() {
    let queue = Arc::new(MemoryQueue { visibility: Duration::from_secs(30), ..MemoryQueue::default() });
    let function = Function::slow(Duration::from_millis(50), |_| Ok(Value::Null));
    for number in 0..12 {
        queue.push(&number.to_string(), "x");
    }
    let (_, _stop) =
        sqs(&queue, &function, SqsSource { batch_size: 2, window: Duration::ZERO, ..sqs_source() });
    emptied(&queue).await;
    assert_eq!(function.calls(), 6);
    assert_eq!(function.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn messages_that_a_function_died_with_come_again_when_nothing_can_hold_them_any_more() {
    let queue = Arc::new(MemoryQueue { visibility: Duration::from_mins(3), ..MemoryQueue::default() });
    let function = Function::new(|event| {
        let died = event["Records"][0]["body"] == "died";
        Err(if died { "crashed" } else { "as it said" })
    });
    let source = SqsSource { batch_size: 1, window: Duration::ZERO, ..sqs_source() };
    queue.push("1", "died");
    queue.push("2", "failed");
    let (poller, _stop) = sqs(&queue, &function, source);
    while function.calls() < 2 || poller.is_busy() {
        sleep(Duration::from_millis(5)).await;
    }
    let pauses: Vec<_> = queue
        .messages
        .lock()
        .unwrap()
        .iter()
        .map(|(visible, _)| visible.duration_since(Instant::now()).as_secs())
        .collect();
    assert!((60..=70).contains(&pauses[0]), "{pauses:?}");
    assert!((0..=2).contains(&pauses[1]), "{pauses:?}");
}

#[test]
fn no_message_dies_before_what_may_hold_it_lets_it_go() {
    for most in 2..=20 {
        let pauses: Vec<_> = (1..most).map(|receives| pause_after(receives, Some(most))).collect();
        let held = Duration::from_secs(tocsin_domain::push::RESERVED_SECONDS);
        assert!(pauses.iter().sum::<Duration>() > held, "{most}: {pauses:?}");
    }
}
