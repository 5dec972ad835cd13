//! Kafka sources.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    PATIENCE,
    memory::{Function, MemoryLog, MemoryQueue, fails, reports, texts},
};
use crate::{
    event_sources::{
        batches::Batches,
        invoker::{Backoff, Invoke},
        kafka::Poller,
        queue::Queue,
        redrive,
        stop::Stop,
    },
    metrics::SourceMetrics,
    template::model::KafkaSource,
};

struct Fixture {
    function: Arc<Function>,
    dead: Arc<MemoryQueue>,
    metrics: Arc<SourceMetrics>,
    poller: Poller<MemoryLog>,
    stop: watch::Sender<bool>,
}

fn source() -> KafkaSource {
    KafkaSource {
        topic: "posts".to_owned(),
        group: "f".to_owned(),
        batch_size: 10,
        window: Duration::from_millis(30),
        from_start: true,
        reports_failures: true,
        bisects: true,
        max_retries: Some(2),
        max_age: None,
        on_failure: Some("Dead".to_owned()),
        enabled: true,
    }
}

fn start(log: MemoryLog, source: KafkaSource, function: Arc<Function>) -> Fixture {
    let dead = Arc::new(MemoryQueue { visibility: Duration::from_secs(30), ..MemoryQueue::default() });
    start_with(log, source, function, dead)
}

fn start_with(
    log: MemoryLog,
    source: KafkaSource,
    function: Arc<Function>,
    dead: Arc<MemoryQueue>,
) -> Fixture {
    let (stop, metrics) = (watch::Sender::new(false), Arc::new(SourceMetrics::default()));
    let destination = source.on_failure.is_some().then(|| Arc::clone(&dead) as Arc<dyn Queue>);
    let batches = Batches {
        source,
        function: Arc::clone(&function) as Arc<dyn Invoke>,
        destination,
        source_arn: "arn:aws:kafka:us-east-1:000000000000:cluster/local/0".to_owned(),
        bootstrap_servers: "127.0.0.1:9092".to_owned(),
        backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
        metrics: Arc::clone(&metrics),
        stopping: Stop::new(&stop),
    };
    let nudge = watch::Sender::new(0).subscribe();
    Fixture { poller: Poller::start(log, batches, nudge), function, dead, metrics, stop }
}

impl Fixture {
    async fn drained(&self) {
        let end = async {
            while self.poller.lag().await.unwrap() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, end).await.expect("the source should have finished");
    }

    /// Waits until the function has a batch in hand.
    async fn busy(&self) {
        until(|| self.function.running.load(Ordering::SeqCst) > 0).await;
    }

    /// What the dead letters say: (partition, first offset, last offset).
    fn dead_ranges(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let documents = self.dead.bodies();
        let infos = documents
            .iter()
            .flat_map(|document| document["KafkaBatchInfo"]["recordsInfo"].as_object().unwrap());
        infos
            .map(|(key, info)| {
                (key.clone(), text(&info["firstRecordOffset"]), text(&info["lastRecordOffset"]))
            })
            .collect()
    }
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let end = async {
        while !so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, end).await.expect("it should have come to be so");
}

fn range(partition: &str, first: &str, last: &str) -> (String, String, String) {
    (partition.to_owned(), first.to_owned(), last.to_owned())
}

#[tokio::test]
async fn a_batch_is_gathered_within_its_window_from_all_partitions() {
    let log = MemoryLog::with_partitions(2);
    let source = start(
        log.clone(),
        KafkaSource { window: Duration::from_millis(200), ..source() },
        Function::new(|_| Ok(json!({}))),
    );
    for text in ["a", "b"] {
        log.write(0, text);
        sleep(Duration::from_millis(10)).await;
        log.write(1, text);
    }
    source.drained().await;
    assert_eq!(source.function.batches(), [["a", "b", "a", "b"]]);
    // A full batch does not wait.
    let began = Instant::now();
    for number in 0..10 {
        log.write(0, &number.to_string());
    }
    source.drained().await;
    assert!(began.elapsed() < Duration::from_millis(150), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_partition_keeps_its_order_and_others_do_not_wait_for_it() {
    let log = MemoryLog::with_partitions(2);
    let function = Function::slow(Duration::from_millis(10), |event| fails(event, "never"));
    let source = start(
        log.clone(),
        KafkaSource { window: Duration::ZERO, batch_size: 3, max_retries: Some(3), ..source() },
        Arc::clone(&function),
    );
    log.write(0, "never");
    for number in 0..30 {
        log.write(number % 2, &format!("{number:02}"));
        sleep(Duration::from_millis(1)).await;
    }
    source.drained().await;
    for partition in ["posts-0", "posts-1"] {
        let seen: Vec<i64> = function
            .seen
            .lock()
            .unwrap()
            .iter()
            .flat_map(texts)
            .filter(|(key, _, _)| key == partition)
            .map(|(_, offset, _)| offset)
            .collect();
        let mut first_times = Vec::new();
        for offset in seen {
            if !first_times.contains(&offset) {
                first_times.push(offset);
            }
        }
        assert!(first_times.is_sorted(), "{partition}: {first_times:?}");
    }
    assert_eq!(source.dead_ranges(), [range("posts-0", "0", "0")]);
    assert!(function.most.load(Ordering::SeqCst) <= 2, "a partition has one batch in hand");
}

#[tokio::test]
async fn a_reported_poison_goes_alone_and_those_behind_it_go_on() {
    let log = MemoryLog::with_partitions(1);
    for text in ["a", "b", "poison", "c", "d"] {
        log.write(0, text);
    }
    let source = start(log.clone(), source(), Function::new(|event| Ok(reports(event, "poison"))));
    source.drained().await;
    // The whole batch, two retries from the lowest failed on, then what lay behind it.
    assert_eq!(
        source.function.batches(),
        [
            vec!["a", "b", "poison", "c", "d"],
            vec!["poison", "c", "d"],
            vec!["poison", "c", "d"],
            vec!["c", "d"]
        ]
    );
    assert_eq!(source.dead_ranges(), [range("posts-0", "2", "2")]);
    let document = &source.dead.bodies()[0];
    assert_eq!(document["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(document["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(document["requestContext"]["functionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f");
    assert_eq!(document["responseContext"], json!({"statusCode": 200, "executedVersion": "$LATEST"}));
    assert_eq!(document["version"], "1.0");
    assert_eq!(document["KafkaBatchInfo"]["batchSize"], 1);
    assert_eq!(document["KafkaBatchInfo"]["bootstrapServers"], "127.0.0.1:9092");
    assert!(document["KafkaBatchInfo"]["payloadSize"].as_u64().unwrap() > 100);
    assert!(document.get("payload").is_none());
    assert_eq!(source.metrics.dead_letters.get(), 1);
    assert_eq!(source.metrics.done.get(), 5);
    assert_eq!(source.metrics.retries.get(), 3);
}

#[tokio::test]
async fn bisecting_finds_the_poison_without_a_report() {
    let log = MemoryLog::with_partitions(1);
    for text in ["a", "b", "c", "poison", "d", "e", "f", "g"] {
        log.write(0, text);
    }
    let source = start(
        log.clone(),
        KafkaSource { reports_failures: false, ..source() },
        Function::new(|event| fails(event, "poison")),
    );
    source.drained().await;
    assert_eq!(source.dead_ranges(), [range("posts-0", "3", "3")]);
    let document = &source.dead.bodies()[0];
    assert_eq!(document["responseContext"]["functionError"], "Unhandled");
    // Splitting uses up no retries: alone, it is tried once and retried twice.
    let alone = source.function.batches().into_iter().filter(|batch| batch == &["poison"]).count();
    assert_eq!(alone, 3);
    let handled: Vec<String> = source
        .function
        .batches()
        .into_iter()
        .filter(|batch| !batch.contains(&"poison".to_owned()))
        .flatten()
        .collect();
    assert_eq!(handled, ["a", "b", "c", "d", "e", "f", "g"]);
}

#[tokio::test]
async fn without_bisecting_the_whole_batch_is_given_up() {
    let log = MemoryLog::with_partitions(2);
    for partition in [0, 1] {
        log.write(partition, "a");
        log.write(partition, "poison");
    }
    let rules = KafkaSource { bisects: false, reports_failures: false, ..source() };
    let source = start(log.clone(), rules, Function::new(|event| fails(event, "poison")));
    source.drained().await;
    assert_eq!(source.function.calls(), 3);
    assert_eq!(source.dead.bodies().len(), 1);
    assert_eq!(source.dead_ranges(), [range("posts-0", "0", "1"), range("posts-1", "0", "1")]);
    assert_eq!(source.dead.bodies()[0]["KafkaBatchInfo"]["batchSize"], 4);
}

#[tokio::test]
async fn a_report_on_what_was_not_in_the_batch_fails_all_of_it() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "a");
    let answer = json!({"batchItemFailures": [{"itemIdentifier": {"partition": "posts-0", "offset": 99}}]});
    let source = start(log.clone(), source(), Function::new(move |_| Ok(answer.clone())));
    source.drained().await;
    assert_eq!(source.function.calls(), 3);
    assert_eq!(source.dead_ranges(), [range("posts-0", "0", "0")]);
}

#[tokio::test]
async fn retries_without_a_bound_are_ten_where_there_is_a_destination() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "poison");
    let source = start(
        log.clone(),
        KafkaSource { max_retries: None, ..source() },
        Function::new(|event| fails(event, "poison")),
    );
    source.drained().await;
    assert_eq!(source.function.calls(), 11);
}

#[tokio::test]
async fn what_has_no_destination_is_discarded_after_its_retries() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "poison");
    log.write(0, "a");
    let source = start(
        log.clone(),
        KafkaSource { on_failure: None, ..source() },
        Function::new(|event| Ok(reports(event, "poison"))),
    );
    source.drained().await;
    assert_eq!((source.metrics.discarded.get(), source.metrics.dead_letters.get()), (1, 0));
    assert!(source.dead.bodies().is_empty());
}

#[tokio::test]
async fn records_that_are_too_old_are_not_sent() {
    let log = MemoryLog::with_partitions(1);
    log.write_at(0, "old", jiff::Timestamp::now().as_millisecond() - 120_000);
    log.write(0, "new");
    let source = start(
        log.clone(),
        KafkaSource { max_age: Some(Duration::from_mins(1)), ..source() },
        Function::new(|_| Ok(Value::Null)),
    );
    source.drained().await;
    assert_eq!(source.function.batches(), [["new"]]);
    let document = &source.dead.bodies()[0];
    assert_eq!(document["requestContext"]["condition"], "MaximumRecordAgeExceeded");
    assert_eq!(document["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(document["responseContext"], Value::Null);
}

#[tokio::test]
async fn a_record_that_fits_no_event_is_given_up_and_a_batch_stays_within_the_payload() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "a");
    log.write(0, &"x".repeat(5_000_000));
    for _ in 0..4 {
        log.write(0, &"y".repeat(2_000_000));
    }
    let source = start(
        log.clone(),
        source(),
        Function::new(|event| {
            assert!(event.to_string().len() <= crate::runtime::MAX_PAYLOAD);
            Ok(Value::Null)
        }),
    );
    source.drained().await;
    assert_eq!(source.dead.bodies()[0]["requestContext"]["condition"], "MaximumPayloadSizeExceeded");
    assert_eq!(source.dead_ranges(), [range("posts-0", "1", "1")]);
    assert_eq!(source.function.batches().iter().map(Vec::len).sum::<usize>(), 5);
}

#[tokio::test]
async fn throttling_costs_no_retries() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "a");
    let calls = AtomicUsize::new(0);
    let source = start(
        log.clone(),
        source(),
        Function::new(move |_| {
            if calls.fetch_add(1, Ordering::SeqCst) < 5 { Err("throttled") } else { Ok(Value::Null) }
        }),
    );
    source.drained().await;
    assert_eq!(source.metrics.invocations.get(), 1);
    assert!(source.dead.bodies().is_empty());
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_given_up() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "poison");
    let dead = Arc::new(MemoryQueue { deaf: Mutex::new(true), ..MemoryQueue::default() });
    let source = start_with(log.clone(), source(), Function::new(|event| fails(event, "poison")), dead);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(log.committed(0), 0);
    assert_eq!(source.poller.lag().await.unwrap(), 1);
    *source.dead.deaf.lock().unwrap() = false;
    source.drained().await;
    assert_eq!(source.dead_ranges(), [range("posts-0", "0", "0")]);
}

#[tokio::test]
async fn a_poller_that_dies_in_the_middle_loses_nothing() {
    let log = MemoryLog::with_partitions(2);
    for number in 0..40 {
        log.write(number % 2, &format!("{number:02}"));
    }
    let mut handled = Vec::new();
    let mut log = log;
    for life in 0..200 {
        let function = Function::slow(Duration::from_millis(2), |_| Ok(Value::Null));
        let source = start(
            log.clone(),
            KafkaSource { batch_size: 3, window: Duration::ZERO, ..source() },
            Arc::clone(&function),
        );
        sleep(Duration::from_millis(3 + life % 7)).await;
        // As kill -9 does: no farewell.
        drop(source.poller);
        handled.extend(function.batches().into_iter().flatten());
        log = log.reopened();
        if log.committed(0) == 20 && log.committed(1) == 20 {
            break;
        }
    }
    handled.sort();
    handled.dedup();
    assert_eq!(handled.len(), 40);
}

#[tokio::test]
async fn a_stopped_source_ends_what_it_has_in_hand_and_commits_it() {
    let log = MemoryLog::with_partitions(1);
    log.write(0, "a");
    let source =
        start(log.clone(), source(), Function::slow(Duration::from_millis(100), |_| Ok(Value::Null)));
    source.busy().await;
    source.stop.send_replace(true);
    source.poller.stopped().await;
    assert_eq!(log.committed(0), 1);
}

#[tokio::test]
async fn a_partition_that_stands_still_is_not_read_into_memory() {
    let log = MemoryLog::with_partitions(2);
    for number in 0..5000 {
        log.write(0, &number.to_string());
    }
    let function = Function::slow(Duration::from_millis(20), |event| {
        if texts(event).iter().any(|(key, _, _)| key == "posts-0") { Err("stuck") } else { Ok(Value::Null) }
    });
    let source = start(
        log.clone(),
        KafkaSource { max_retries: None, on_failure: None, bisects: false, ..source() },
        function,
    );
    sleep(Duration::from_millis(100)).await;
    log.write(1, "other");
    // The other partition goes on.
    until(|| log.committed(1) == 1).await;
    assert!(log.0.most_read.load(Ordering::Relaxed) < 1500, "{}", log.0.most_read.load(Ordering::Relaxed));
    drop(source);
}

#[tokio::test]
async fn dead_records_are_read_again_and_handled() {
    let log = MemoryLog::with_partitions(1);
    for text in ["a", "poison", "b"] {
        log.write(0, text);
    }
    let broken = Arc::new(Mutex::new(true));
    let state = Arc::clone(&broken);
    let function =
        Function::new(
            move |event| if *state.lock().unwrap() { Ok(reports(event, "poison")) } else { Ok(Value::Null) },
        );
    let dead = Arc::new(MemoryQueue { visibility: Duration::from_millis(50), ..MemoryQueue::default() });
    let source = start_with(log, source(), function, dead);
    source.drained().await;
    source.dead.push("x", r#"{"not": "a document"}"#);

    *broken.lock().unwrap() = false;
    let redriven =
        redrive::records(&*source.dead, source.poller.log(), source.poller.batches()).await.unwrap();
    assert_eq!((redriven.moved, redriven.kept), (1, 1));
    assert_eq!(source.function.batches().last().unwrap(), &["poison"]);
    assert_eq!(source.dead.bodies(), [json!({"not": "a document"})]);
}

#[tokio::test]
async fn a_letter_of_which_the_topic_has_only_a_part_stays() {
    let log = MemoryLog::with_partitions(1);
    for text in ["a", "b", "c"] {
        log.write(0, text);
    }
    let broken = Arc::new(Mutex::new(true));
    let state = Arc::clone(&broken);
    let function = Function::new(move |_| if *state.lock().unwrap() { Err("away") } else { Ok(Value::Null) });
    let rules = KafkaSource { bisects: false, reports_failures: false, max_retries: Some(0), ..source() };
    let source = start(log.clone(), rules, function);
    source.drained().await;
    assert_eq!(source.dead.bodies().len(), 1);

    *broken.lock().unwrap() = false;
    // The topic's retention takes the first.
    log.0.partitions.lock().unwrap().get_mut(&0).unwrap().remove(0);
    let redriven =
        redrive::records(&*source.dead, source.poller.log(), source.poller.batches()).await.unwrap();
    assert_eq!((redriven.moved, redriven.kept), (0, 1));
    assert_eq!(source.function.batches().last().unwrap(), &["b", "c"]);
    assert_eq!(source.dead.bodies().len(), 1);
}

#[tokio::test]
async fn a_topic_that_is_made_anew_is_read_from_its_start() {
    let log = MemoryLog::with_partitions(1);
    for text in ["a", "b", "c"] {
        log.write(0, text);
    }
    let function = Function::slow(Duration::from_millis(300), |_| Ok(Value::Null));
    let rules = KafkaSource { window: Duration::ZERO, batch_size: 2, ..source() };
    let source = start(log.clone(), rules, Arc::clone(&function));
    source.busy().await;
    // While a batch is in hand, and a record waits behind it.
    log.recreate();
    sleep(Duration::from_millis(20)).await;
    log.write(0, "d");
    source.drained().await;
    // An offset of the old topic is none of the new one.
    until(|| log.committed(0) == 1).await;
    assert_eq!(function.batches(), [vec!["a", "b"], vec!["c"], vec!["d"]]);
}
