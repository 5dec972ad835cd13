//! What invokes functions besides HTTP: Kafka topics, SQS queues and schedules, with the semantics of AWS's event
//! source mappings.
//!
//! The law of all of them: at least once, and never lost. A record or a message is done when its function has succeeded
//! with it, or when it lies in a dead-letter queue; whatever dies before that, comes again.

mod batches;
mod failure_document;
mod invoker;
mod kafka;
mod kafka_event;
mod log;
mod mishap;
mod partial_batch;
pub(crate) mod queue;
pub(crate) mod redrive;
mod schedule;
mod sqs;
mod stop;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub use invoker::Backoff;
pub(crate) use kafka_event::event;
pub(crate) use log::Record;
pub use log::{Broker, BrokerKind, LogError};
pub use mishap::{Mishap, Mishaps};
pub use queue::QueueError;
pub use redrive::Redriven;

use crate::{
    metrics::Metrics,
    runtime::Fleet,
    template::model::{App, AsyncInvocations, Event, KafkaSource, Schedule, SqsSource},
};
use batches::Batches;
use invoker::{FleetFunction, Invoke};
use kafka::Poller;
use log::KafkaLog;
use mishap::Unlucky;
use queue::{Queue, SqsQueue};
use schedule::Firing;
use sqs::SqsPoller;
use stop::Stop;

/// The services that event sources read from and write to.
#[derive(Clone, Debug)]
pub struct Services {
    /// The cluster of the topics. `None` if no function reads one.
    pub broker: Option<Broker>,
    /// The client of the queues.
    pub sqs: aws_sdk_sqs::Client,
    /// The queues by their logical ids.
    pub queues: BTreeMap<String, QueueAddress>,
}

/// Where a queue is.
#[derive(Clone, Debug)]
pub struct QueueAddress {
    /// `QueueUrl`.
    pub url: String,
    /// `QueueArn`.
    pub arn: String,
}

/// A template's event source cannot be run.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A function reads a topic, and there is no cluster.
    #[error("{0} reads a topic, and there is no Kafka")]
    NoBroker(String),
    /// A source names a queue that is not there.
    #[error("{source_name} names the queue {queue}, which is not there")]
    NoQueue {
        /// The source.
        source_name: String,
        /// The queue's logical id.
        queue: String,
    },
    /// No source here has this dead-letter queue.
    #[error("no event source has the dead-letter queue {name}; there are {}", .queues.join(", "))]
    NoDeadLetters {
        /// What was asked for.
        name: String,
        /// What could have been.
        queues: Vec<String>,
    },
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`QueueError`].
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The running event sources of a template.
pub struct EventSources {
    kafka: Vec<(String, Poller<KafkaLog>)>,
    sqs: Vec<(String, Arc<SqsPoller>)>,
    /// Dead-letter queue to source queue, by logical id.
    redrives: BTreeMap<String, String>,
    services: Services,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl EventSources {
    /// Starts every enabled source of `app`. Topics and queues must be there. `mishaps` happen to its events.
    pub async fn start(
        app: &App,
        fleet: &Fleet,
        services: Services,
        backoff: Backoff,
        mishaps: Option<Mishaps>,
        metrics: &Metrics,
    ) -> Result<Self, SourceError> {
        let stop = watch::Sender::new(false);
        let mut sources = Self {
            kafka: Vec::new(),
            sqs: Vec::new(),
            redrives: app
                .queues
                .iter()
                .filter_map(|queue| Some((queue.redrive.clone()?.0, queue.logical_id.clone())))
                .collect(),
            services,
            stop,
            tasks: Mutex::default(),
        };
        for function in &app.functions {
            let name = &function.name;
            let arn = fleet.arn(name).unwrap_or_default().to_owned();
            let of_fleet = FleetFunction { fleet: fleet.clone(), name: name.clone(), arn };
            let invoke: Arc<dyn Invoke> = match mishaps.clone() {
                None => Arc::new(of_fleet),
                Some(mishaps) => Arc::new(Unlucky { function: of_fleet, name: name.clone(), mishaps }),
            };
            let target = Target { name, rules: function.async_invocations, invoke, fleet, metrics, backoff };
            for event in &function.events {
                match event {
                    Event::Kafka(source) if source.enabled => sources.start_kafka(&target, source).await?,
                    Event::Sqs(source) if source.enabled => sources.start_sqs(&target, source, app)?,
                    Event::Schedule(schedule) if schedule.enabled => {
                        sources.start_schedule(&target, schedule);
                    }
                    _ => {}
                }
            }
        }
        Ok(sources)
    }

    /// Waits until nothing is left to do: no record or message is undone, in any source, twice in a row, since what one
    /// source does may be work for another. Returns false if that is not so by `deadline`, or if a service is out of reach.
    pub async fn drain(&self, deadline: Instant) -> bool {
        let drained = async {
            let mut quiet = 0;
            while quiet < 2 {
                quiet = match self.lag().await {
                    Ok(0) => quiet + 1,
                    _ => 0,
                };
                if quiet < 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        // Around all of it: a service that is out of reach may take its time to say so.
        tokio::time::timeout_at(deadline, drained).await.is_ok()
    }

    /// How many records and messages are undone. Brings the metrics up to date.
    pub async fn lag(&self) -> Result<u64, SourceError> {
        let mut lag = 0;
        for (_, poller) in &self.kafka {
            lag += poller.lag().await?;
        }
        for (_, poller) in &self.sqs {
            lag += poller.lag().await?.max(u64::from(poller.is_busy()));
        }
        Ok(lag)
    }

    /// Brings back what lies in a dead-letter queue, named by its logical id: messages go back to their queue, records are
    /// handed to their function once more.
    pub async fn redrive(&self, queue: &str) -> Result<Redriven, SourceError> {
        if let Some(source) = self.redrives.get(queue) {
            let (from, to) = (self.queue(queue, "the redrive")?, self.queue(source, queue)?);
            return Ok(redrive::messages(&*from, &*to).await?);
        }
        let destination = |poller: &Poller<KafkaLog>| poller.batches().source.on_failure.clone();
        let poller = self.kafka.iter().find(|(_, poller)| destination(poller).as_deref() == Some(queue));
        let Some((_, poller)) = poller else {
            let of_records = self.kafka.iter().filter_map(|(_, poller)| destination(poller));
            let queues: BTreeSet<String> = self.redrives.keys().cloned().chain(of_records).collect();
            let queues = queues.into_iter().collect();
            return Err(SourceError::NoDeadLetters { name: queue.to_owned(), queues });
        };
        let from = self.queue(queue, "the redrive")?;
        Ok(redrive::records(&*from, poller.log(), poller.batches()).await?)
    }

    /// Lets the invocations in hand end, commits what is done, and stops. Retries are not waited for: they come again.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        for (_, poller) in &self.kafka {
            poller.stopped().await;
        }
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }

    async fn start_kafka(&mut self, target: &Target<'_>, source: &KafkaSource) -> Result<(), SourceError> {
        let name = format!("{}/{}", target.name, source.topic);
        let broker = self.services.broker.clone().ok_or_else(|| SourceError::NoBroker(name.clone()))?;
        let destination = source.on_failure.as_ref().map(|queue| self.queue(queue, &name)).transpose()?;
        let options = target.fleet.options();
        let batches = Batches {
            source: source.clone(),
            function: Arc::clone(&target.invoke),
            destination,
            source_arn: format!(
                "arn:aws:kafka:{}:{}:cluster/local/00000000-0000-0000-0000-000000000000-1",
                options.region, options.account
            ),
            bootstrap_servers: broker.bootstrap_servers.clone(),
            backoff: target.backoff,
            metrics: target.metrics.event_source(&name),
            stopping: Stop::new(&self.stop),
        };
        let log = KafkaLog::open(&broker, source).await?;
        self.kafka.push((name, Poller::start(log, batches, target.fleet.activity())));
        Ok(())
    }

    fn start_sqs(&mut self, target: &Target<'_>, source: &SqsSource, app: &App) -> Result<(), SourceError> {
        let name = format!("{}/{}", target.name, source.queue);
        let queue = self.queue(&source.queue, &name)?;
        let described = app.queues.iter().find(|queue| queue.logical_id == source.queue);
        let poller = Arc::new(SqsPoller {
            source: source.clone(),
            function: Arc::clone(&target.invoke),
            queue,
            max_receives: described.and_then(|queue| Some(queue.redrive.as_ref()?.1)),
            region: target.fleet.options().region.clone(),
            visibility: described.map_or(Duration::from_secs(30), |queue| queue.visibility),
            backoff: target.backoff,
            metrics: target.metrics.event_source(&name),
            stopping: Stop::new(&self.stop),
            in_hand: Mutex::default(),
        });
        self.spawn(Arc::clone(&poller).run());
        self.sqs.push((name, poller));
        Ok(())
    }

    fn start_schedule(&mut self, target: &Target<'_>, schedule: &Schedule) {
        let metrics = target.metrics.event_source(&format!("{}/{}", target.name, schedule.name));
        let options = target.fleet.options();
        self.spawn(schedule::run(Firing {
            schedule: schedule.clone(),
            rules: target.rules,
            region: options.region.clone(),
            account: options.account.clone(),
            function: Arc::clone(&target.invoke),
            backoff: target.backoff,
            metrics,
            stopping: Stop::new(&self.stop),
        }));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).spawn(task);
    }

    fn queue(&self, logical_id: &str, source: &str) -> Result<Arc<dyn Queue>, SourceError> {
        let address = self.services.queues.get(logical_id).ok_or_else(|| SourceError::NoQueue {
            source_name: source.to_owned(),
            queue: logical_id.to_owned(),
        })?;
        Ok(Arc::new(SqsQueue {
            client: self.services.sqs.clone(),
            url: address.url.clone(),
            arn: address.arn.clone(),
            name: address.url.rsplit('/').next().unwrap_or(logical_id).to_owned(),
        }))
    }
}

/// A function, as the start of its sources needs it.
struct Target<'a> {
    name: &'a str,
    rules: AsyncInvocations,
    invoke: Arc<dyn Invoke>,
    fleet: &'a Fleet,
    metrics: &'a Metrics,
    backoff: Backoff,
}
