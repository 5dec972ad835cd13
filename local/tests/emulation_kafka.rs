//! Kafka event sources over the embedded broker, with true processes of a true runtime (`examples/probe.rs`): what reaches
//! the function, in which order, how soon, and what survives when something dies.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use krafka::{
    Kafka, Record,
    admin::{ConsumerGroupLagOptions, CreateTopicsOptions, NewTopic},
    producer::Producer,
};
use local::{
    builds::Builds,
    event_sources::{Backoff, Broker, BrokerKind, EventSources, Services},
    metrics::Metrics,
    runtime::{Fleet, FleetOptions, Logs, Program},
    template::model::{App, AsyncInvocations, Event, Function, KafkaSource},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

const TOPIC: &str = "posts";
const GROUP: &str = "probe";
const PARTITIONS: i32 = 4;
/// Long enough for everything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Town {
    broker: Child,
    port: u16,
    kafka: Kafka,
    producer: Producer,
    fleet: Fleet,
    metrics: Metrics,
    app: App,
    journal: PathBuf,
}

impl Town {
    async fn up(source: KafkaSource) -> Self {
        let journal = std::env::temp_dir().join(format!("tocsin-journal-{}", uuid::Uuid::new_v4()));
        let (broker, port) = broker(0).await;
        let kafka = Kafka::builder(format!("127.0.0.1:{port}")).connect().await.expect("a broker");
        let producer = kafka.producer().build().await.expect("a producer");
        let metrics = Metrics::default();
        let function = Function {
            logical_id: "Probe".to_owned(),
            name: "probe".to_owned(),
            environment: BTreeMap::from([("PROBE_JOURNAL".to_owned(), journal.display().to_string())]),
            memory_mib: 128,
            timeout: Duration::from_secs(5),
            reserved_concurrency: None,
            async_invocations: AsyncInvocations::default(),
            events: vec![Event::Kafka(source)],
        };
        let test = std::env::current_exe().expect("this test");
        let program = Program::from(test.ancestors().nth(2).expect("a folder").join("examples/probe"));
        let fleet = Fleet::new(
            [(function.clone(), program)],
            BTreeMap::new(),
            FleetOptions::default(),
            &Logs::quiet(),
            &metrics,
        );
        let town = Self {
            broker,
            port,
            kafka,
            producer,
            fleet,
            metrics,
            app: App { functions: vec![function], ..App::default() },
            journal,
        };
        town.make_topic().await;
        town
    }

    async fn make_topic(&self) {
        let topic = NewTopic::new(TOPIC, PARTITIONS, -1).expect("valid");
        let made = self.kafka.admin().create_topics([topic], CreateTopicsOptions::default()).await;
        made.expect("an answer").remove(TOPIC).expect("the topic").expect("made");
    }

    async fn sources(&self) -> EventSources {
        let broker = Broker {
            kafka: self.kafka.clone(),
            bootstrap_servers: format!("127.0.0.1:{}", self.port),
            kind: BrokerKind::Embedded,
        };
        let config = aws_sdk_sqs::Config::builder().behavior_version_latest().build();
        let services = Services {
            broker: Some(broker),
            sqs: aws_sdk_sqs::Client::from_conf(config),
            queues: BTreeMap::new(),
        };
        let backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(100) };
        let sources =
            EventSources::start(&self.app, &self.fleet, services, backoff, None, &self.metrics).await;
        sources.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn post(&self, partition: i32, value: &str) {
        let record = Record::new(TOPIC, value.to_owned()).partition(partition);
        let _offset = self.producer.send(record).await.expect("acknowledged");
    }

    /// (partition, offset, value), in the order of the function's work.
    fn journal(&self) -> Vec<(String, i64, String)> {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            Some((words.next()?, words.next()?.parse().ok()?, words.next()?))
        };
        text.lines().filter_map(line).collect()
    }

    fn values(&self) -> Vec<String> {
        self.journal().into_iter().map(|(_, _, value)| value).collect()
    }

    async fn reaches(&self, count: usize) {
        let until = Instant::now() + PATIENCE;
        while self.journal().len() < count {
            assert!(Instant::now() < until, "{} of {count} came: {:?}", self.journal().len(), self.values());
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.journal);
    }
}

/// The embedded broker on a port, or on any.
async fn broker(port: u16) -> (Child, u16) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let program = Builds::new(root).expect("builds").broker(|_| {}).expect("the broker");
    let mut child = Command::new(program)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the broker starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("readable").expect("a line");
    let port = line.strip_prefix("ready ").expect("ready").parse().expect("a port");
    (child, port)
}

fn source() -> KafkaSource {
    KafkaSource {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        batch_size: 100,
        window: Duration::ZERO,
        from_start: true,
        reports_failures: true,
        bisects: true,
        max_retries: Some(5),
        max_age: None,
        on_failure: None,
        enabled: true,
    }
}

#[tokio::test]
async fn records_reach_the_function_soon_and_their_offsets_the_group() {
    let town = Town::up(source()).await;
    let sources = town.sources().await;
    town.post(0, "first").await;
    town.reaches(1).await;

    // Steady traffic, in the debug build, on a machine that builds and tests other things meanwhile: the bound is loose,
    // and finds a polling loop that sleeps through records.
    let mut delays = Vec::new();
    for number in 0..40 {
        town.post(number % PARTITIONS, &format!("{number}")).await;
        let began = Instant::now();
        town.reaches(2 + usize::try_from(number).expect("small")).await;
        delays.push(began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    delays.sort();
    assert!(delays[20] < Duration::from_millis(250), "{:?}", delays[20]);

    assert!(sources.drain(Instant::now() + PATIENCE).await);
    sources.shutdown().await;
    let lag = town.kafka.admin().consumer_group_lag(GROUP, ConsumerGroupLagOptions::default()).await;
    let lag = lag.expect("an answer");
    assert!(!lag.is_empty());
    for (partition, lag) in lag {
        assert_eq!(lag.expect("a lag").lag, Some(0), "{partition:?}");
    }
    town.fleet.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn a_source_that_starts_again_goes_on_where_it_ended_also_within_a_batch_of_the_log() {
    let town = Town::up(KafkaSource { batch_size: 3, ..source() }).await;
    // One request of the producer is one batch of the log, which the embedded broker gives whole or not at all.
    let mut acknowledgements = Vec::new();
    for number in 0..20 {
        let value = if number < 3 { format!("{number}") } else { format!("slow {number}") };
        let record = Record::new(TOPIC, value).partition(0);
        acknowledgements.push(town.producer.enqueue(record).await.expect("taken"));
    }
    for acknowledgement in acknowledgements {
        let _offset = acknowledgement.await.expect("acknowledged");
    }
    let sources = town.sources().await;
    town.reaches(4).await;
    sources.shutdown().await;
    let before = town.journal().len();
    assert!(before < 20, "the source was stopped in the middle");
    let sources = town.sources().await;
    town.reaches(20).await;
    assert!(sources.drain(Instant::now() + PATIENCE).await);
    let offsets: Vec<i64> = town.journal().into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn a_function_that_is_killed_in_the_middle_of_a_batch_gets_it_again() {
    let town = Town::up(KafkaSource { window: Duration::from_millis(100), ..source() }).await;
    let sources = town.sources().await;
    for value in ["a", "slow b", "c"] {
        town.post(0, value).await;
    }
    town.reaches(1).await;
    for process in town.fleet.process_ids("probe") {
        let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
        assert!(killed.expect("kill").success());
    }
    assert!(sources.drain(Instant::now() + PATIENCE).await);
    let values = town.values();
    for value in ["a", "slow b", "c"] {
        assert!(values.iter().any(|other| other == value), "{value} is in {values:?}");
    }
    let probe = &town.metrics.snapshot().functions["probe"];
    assert_eq!((probe.errors, probe.crashes), (1, 1));
}

#[tokio::test]
async fn a_broker_that_dies_and_comes_back_empty_is_read_from_its_start() {
    let mut town = Town::up(source()).await;
    let sources = town.sources().await;
    for number in 0..5 {
        town.post(0, &format!("old {number}")).await;
    }
    town.reaches(5).await;
    town.broker.kill().await.expect("killed");
    sleep(Duration::from_millis(200)).await;
    (town.broker, _) = broker(town.port).await;
    town.make_topic().await;
    town.producer = town.kafka.producer().build().await.expect("a producer");
    for number in 0..2 {
        town.post(0, &format!("new {number}")).await;
    }
    town.reaches(7).await;
    let new: Vec<_> = town.journal().split_off(5);
    assert_eq!(new[0], ("posts-0".to_owned(), 0, "new 0".to_owned()));
    assert!(sources.drain(Instant::now() + PATIENCE).await);
    sources.shutdown().await;
}
