//! What lies in a dead-letter queue of the cloud.

use anyhow::{Context as _, Result, bail};

use super::{CloudArgs, Report, topic};
use crate::event_sources::{
    Broker, BrokerKind,
    queue::{Queue as _, SqsQueue},
    redrive,
};

/// Brings back what is in the queue at a URL: messages to the queue that they come from; and records, where no queue has
/// it for its dead letters, to the end of their topic.
pub(super) async fn bring_back(
    sqs: &aws_sdk_sqs::Client,
    url: &str,
    args: &CloudArgs,
    report: &mut Report<'_>,
) -> Result<()> {
    let queue = |url: &str| SqsQueue {
        client: sqs.clone(),
        url: url.to_owned(),
        arn: String::new(),
        name: url.rsplit('/').next().unwrap_or(url).to_owned(),
    };
    let from = queue(url);
    let sources = sqs.list_dead_letter_source_queues().queue_url(url).send().await;
    let sources = sources.with_context(|| format!("the queue at {url}"))?.queue_urls;
    let count = from.depth().await?.visible;
    if count == 0 {
        return report.say(format_args!("found nothing in {}", from.name));
    }
    let to = match sources.as_slice() {
        [] => None,
        [source] => Some(queue(source)),
        _ => bail!("{} has the dead letters of several queues", from.name),
    };
    let named = to.as_ref().map_or_else(|| format!("the topic {}", args.posts_topic), |to| to.name.clone());
    let work = async {
        let redriven = if let Some(to) = &to {
            redrive::messages(&from, to).await?
        } else {
            let servers = args.kafka_bootstrap_servers.clone();
            let servers = servers.context("--kafka-bootstrap-servers is missing")?;
            let kafka = topic::connect(&servers, args).await?;
            let broker = Broker { kafka, bootstrap_servers: servers, kind: BrokerKind::Kafka };
            redrive::append(&from, &broker, &args.posts_topic).await?
        };
        if redriven.kept > 0 {
            bail!("{} of them were kept, for the reasons above; {} are gone", redriven.kept, redriven.moved);
        }
        Ok(())
    };
    report.change(format_args!("moved what {} had, some {count}, to {named}", from.name), work).await
}
