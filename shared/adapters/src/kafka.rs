//! The log in Kafka.
//!
//! A record is acknowledged by all in-sync replicas before [`append`](PostLog::append) answers, or the answer is an error
//! within some seconds. A function that was frozen wakes up with connections that died meanwhile, and with a producer
//! that finds out slowly: after a long pause, and after every failure, a new one is made.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use krafka::{
    CloseOptions, Kafka, Record,
    auth::{AuthConfig, AwsMskIamCredentials, TlsConfig},
    producer::{Acks, Producer},
};
use secrecy::{ExposeSecret as _, SecretString};
use tocsin_domain::{
    Error, Result,
    post_log::{PostLog, PostRecord},
};
use tokio::{sync::Mutex, time::timeout};

/// A topic of the log.
#[derive(Clone, Debug)]
pub struct KafkaPostLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bootstrap_servers: String,
    auth: KafkaAuth,
    topic: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    producer: Option<Arc<Producer>>,
    /// By the clock on the wall: another may stand still while a function is frozen.
    used_at: Option<SystemTime>,
}

/// How we show the brokers who we are.
#[derive(Clone, Debug)]
pub enum KafkaAuth {
    /// Not at all, and without TLS.
    None,
    /// With the function's own role (MSK), over TLS.
    Iam,
    /// With a name and a password: SASL/SCRAM-SHA-512, over TLS.
    Scram {
        /// The name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// With a name and a password: SASL/PLAIN, over TLS.
    Plain {
        /// The name.
        username: String,
        /// The password.
        password: SecretString,
    },
}

impl KafkaAuth {
    /// The same in krafka's words; none is neither TLS nor SASL.
    #[must_use]
    pub fn security(&self) -> Option<AuthConfig> {
        crate::tls::use_ring();
        Some(match self {
            Self::None => return None,
            // Asked for at each connection, since a role's credentials change.
            Self::Iam => AuthConfig::aws_msk_iam_provider(|| async { AwsMskIamCredentials::from_env() }),
            Self::Scram { username, password } => {
                AuthConfig::sasl_scram_sha512(username, password.expose_secret()).with_tls(TlsConfig::new())
            }
            Self::Plain { username, password } => {
                AuthConfig::sasl_plain(username, password.expose_secret()).with_tls(TlsConfig::new())
            }
        })
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a record may be on its way, retries of the producer included.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to append, a second try on a new producer included: what a client waits for a 503.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a producer is left unused before it is made anew. Load balancers and brokers drop connections after minutes.
const MOST_IDLE: Duration = Duration::from_mins(2);
const SERVICE: &str = "the log";

impl KafkaPostLog {
    /// A topic of the brokers at `bootstrap_servers` (`host:port,host:port`).
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>, auth: KafkaAuth, topic: impl Into<String>) -> Self {
        let (bootstrap_servers, topic) = (bootstrap_servers.into(), topic.into());
        Self { inner: Arc::new(Inner { bootstrap_servers, auth, topic, state: Mutex::default() }) }
    }

    /// Connects, and asks where the topic is, so that [`append`](PostLog::append) need not. A caller does this at the same
    /// time as what comes before it; where all is there already, it takes no time. What fails is told by `append`.
    pub async fn warm(&self) {
        let warmed = async {
            let (producer, _) = self.producer(None).await?;
            let partitions = producer.partitions_for(&self.inner.topic).await;
            partitions.map_err(|error| Error::unavailable(SERVICE, error))
        };
        if let Err(error) = warmed.await {
            tracing::debug!(%error, "the log could not be reached ahead");
        }
    }

    async fn send(&self, record: &PostRecord) -> Result<()> {
        let value = record.to_json()?;
        let make = || {
            Record::new(&self.inner.topic, value.clone())
                .key(record.key())
                .header("content-type", "application/cloudevents+json; charset=UTF-8")
        };
        let (producer, is_new) = self.producer(None).await?;
        let Err(error) = producer.send(make()).await else { return Ok(()) };
        if is_new {
            self.discard(&producer).await;
            return Err(Error::unavailable(SERVICE, error));
        }
        // The record may be in the log all the same: appended twice, it is the same happening.
        tracing::warn!(%error, "a producer failed: the record is sent again with a new one");
        let (again, _) = self.producer(Some(&producer)).await?;
        match again.send(make()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.discard(&again).await;
                Err(Error::unavailable(SERVICE, error))
            }
        }
    }

    /// The producer, and whether it was made just now. It is made anew where there is none, or only one that failed or
    /// was idle for long.
    async fn producer(&self, broken: Option<&Arc<Producer>>) -> Result<(Arc<Producer>, bool)> {
        // Held while connecting, so that many records at once make one producer.
        let mut state = self.inner.state.lock().await;
        let idle = state.used_at.replace(SystemTime::now()).map(|at| at.elapsed().unwrap_or(Duration::MAX));
        let is_good = |producer: &Arc<Producer>| {
            broken.is_none_or(|broken| !Arc::ptr_eq(broken, producer))
                && idle.is_none_or(|idle| idle < MOST_IDLE)
        };
        match state.producer.take() {
            Some(producer) if is_good(&producer) => {
                state.producer = Some(producer.clone());
                return Ok((producer, false));
            }
            Some(producer) => close(producer),
            None => {}
        }
        let producer = Arc::new(self.connect().await?);
        state.producer = Some(producer.clone());
        Ok((producer, true))
    }

    async fn connect(&self) -> Result<Producer> {
        let Inner { bootstrap_servers, auth, .. } = &*self.inner;
        let failed = |error| Error::unavailable(SERVICE, error);
        let builder = Kafka::builder(bootstrap_servers)
            .client_id("tocsin")
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT);
        let builder = match auth.security() {
            Some(security) => builder.security(security),
            None => builder,
        };
        let kafka = builder.connect().await.map_err(failed)?;
        kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            .linger(Duration::ZERO)
            .delivery_timeout(DELIVERY_TIMEOUT)
            .max_block(DELIVERY_TIMEOUT)
            // A record is at most some 50 KiB, and few are on their way at once.
            .buffer_memory(4 * 1024 * 1024)
            .metrics_push(false)
            .build()
            .await
            .map_err(failed)
    }

    /// Forgets a producer that failed.
    async fn discard(&self, failed: &Arc<Producer>) {
        let mut state = self.inner.state.lock().await;
        if let Some(producer) = state.producer.take_if(|producer| Arc::ptr_eq(producer, failed)) {
            close(producer);
        }
    }
}

impl PostLog for KafkaPostLog {
    async fn append(&self, record: &PostRecord) -> Result<()> {
        if let Ok(sent) = timeout(APPEND_TIMEOUT, self.send(record)).await {
            return sent;
        }
        // It may still hold the record, of which its author is told that the log has not got it.
        if let Some(producer) = self.inner.state.lock().await.producer.take() {
            close(producer);
        }
        Err(Error::unavailable(SERVICE, "no acknowledgement in time"))
    }
}

/// Ends a producer without waiting: what it still holds has failed for whoever sent it.
fn close(producer: Arc<Producer>) {
    tokio::spawn(async move { producer.close_with(CloseOptions::new().timeout(Duration::ZERO)).await.ok() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kafka_over_tls_that_cannot_be_reached_is_an_error_however_we_sign_in() {
        let address = crate::tls::no_tls().await;
        let (username, password) = ("tocsin".to_owned(), SecretString::from("secret"));
        for auth in [
            KafkaAuth::Iam,
            KafkaAuth::Scram { username: username.clone(), password: password.clone() },
            KafkaAuth::Plain { username, password },
        ] {
            let log = KafkaPostLog::new(address.to_string(), auth.clone(), "posts");
            let error = log.append(&PostRecord::heartbeat(tocsin_domain::time::now())).await.unwrap_err();
            assert!(matches!(&error, Error::Unavailable { .. }), "{auth:?}: {error}");
        }
    }
}
