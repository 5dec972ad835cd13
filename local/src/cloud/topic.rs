//! The topic of posts, on a cluster that is not ours to describe in template.yaml.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use krafka::{
    Kafka,
    admin::{AdminClient, CreateTopicsOptions, DescribeTopicsOptions, NewTopic},
    error::{ErrorCode, KrafkaError},
};
use tocsin_adapters::kafka::KafkaAuth;

use super::{CloudArgs, Report, secret_in};

/// How to sign in to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Not at all, and without TLS
    None,
    /// With AWS credentials (MSK)
    Iam,
    /// With a name and a password, SASL/SCRAM-SHA-512
    Scram,
    /// With a name and a password, SASL/PLAIN
    Plain,
}

/// Milliseconds, 18 days: a record is still there when its document has lain in the dead-letter queue for 14 days, after
/// the consumer with the most patience has tried it for 3.
const RETENTION_MS: u64 = 18 * 24 * 60 * 60 * 1000;

/// Makes the topic, or finds it.
pub(super) async fn make(servers: &str, args: &CloudArgs, report: &mut Report<'_>) -> Result<()> {
    let kafka = connect(servers, args).await?;
    let (admin, topic) = (kafka.admin(), &args.posts_topic);
    if let Some(partitions) = partitions(&admin, topic).await? {
        return report.say(format_args!("found {topic} with {partitions} partitions"));
    }
    let mut new = NewTopic::new(topic, args.partitions, args.replication_factor)?
        .with_config("retention.ms", RETENTION_MS.to_string());
    if let Some(replicas) = args.min_insync_replicas {
        new = new.with_config("min.insync.replicas", replicas.to_string());
    }
    let make = async {
        let mut made = admin.create_topics([new], CreateTopicsOptions::default()).await?;
        made.remove(topic).context("the brokers do not answer for it")??;
        Ok(())
    };
    let what =
        format!("made {topic} with {} partitions, {} replicas", args.partitions, args.replication_factor);
    report.change(what, make).await
}

/// Signs in to the brokers.
pub(super) async fn connect(servers: &str, args: &CloudArgs) -> Result<Kafka> {
    let builder = Kafka::builder(servers).client_id("tocsin-provision");
    let builder = match auth(args)?.security() {
        Some(security) => builder.security(security),
        None => builder,
    };
    builder.connect().await.with_context(|| format!("the brokers at {servers}"))
}

async fn partitions(admin: &AdminClient, topic: &str) -> Result<Option<usize>> {
    match admin.describe_topics([topic], DescribeTopicsOptions::default()).await?.remove(topic) {
        Some(Ok(description)) => Ok(Some(description.partitions.len())),
        Some(Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. })) | None => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

fn auth(args: &CloudArgs) -> Result<KafkaAuth> {
    let login = || {
        let username = args.kafka_username.clone().context("--kafka-username is missing")?;
        let file = args.kafka_password_file.as_ref().context("--kafka-password-file is missing")?;
        anyhow::Ok((username, secret_in(file)?.into()))
    };
    Ok(match args.kafka_auth {
        Auth::None => KafkaAuth::None,
        Auth::Iam => KafkaAuth::Iam,
        Auth::Scram => login().map(|(username, password)| KafkaAuth::Scram { username, password })?,
        Auth::Plain => login().map(|(username, password)| KafkaAuth::Plain { username, password })?,
    })
}
