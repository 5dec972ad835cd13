//! The queues that SQS event sources read and that failed records go to: a port, and its adapter over the AWS SDK.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::{
    error::DisplayErrorContext,
    types::{
        DeleteMessageBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    },
};
use futures::future::BoxFuture;
use thiserror::Error;

/// A queue did not do what it was asked.
#[derive(Debug, Error)]
#[error("the queue {queue}: {reason}")]
pub struct QueueError {
    pub(crate) queue: String,
    pub(crate) reason: String,
}

/// One message, as it was received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) receipt: String,
    pub(crate) body: String,
    pub(crate) md5: String,
    /// What SQS says of it.
    pub(crate) attributes: BTreeMap<String, String>,
    /// What its sender says of it: `MessageAttributes`.
    pub(crate) custom_attributes: BTreeMap<String, MessageAttributeValue>,
}

/// How many messages a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Ready to be received.
    pub(crate) visible: u64,
    /// Received and not yet deleted. One that is delayed is not counted: its time has not come.
    pub(crate) hidden: u64,
}

/// A queue.
pub(crate) trait Queue: Send + Sync + 'static {
    /// Its ARN.
    fn arn(&self) -> &str;
    /// Up to `max` messages; none if none come within `wait`.
    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Message>, QueueError>>;
    /// Deletes messages by their receipts.
    fn delete(&self, receipts: Vec<String>) -> BoxFuture<'_, Result<(), QueueError>>;
    /// Makes a received message visible again after `pause`, rounded up to whole seconds.
    fn release(&self, receipt: String, pause: Duration) -> BoxFuture<'_, Result<(), QueueError>>;
    /// Sends a message.
    fn send<'a>(
        &'a self,
        body: &'a str,
        attributes: BTreeMap<String, MessageAttributeValue>,
    ) -> BoxFuture<'a, Result<(), QueueError>>;
    /// Counts its messages.
    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>>;
}

/// The most messages that SQS gives or takes at once.
const MAX_BATCH: usize = 10;

/// [`Queue`] over the AWS SDK.
pub(crate) struct SqsQueue {
    pub(crate) client: aws_sdk_sqs::Client,
    pub(crate) url: String,
    pub(crate) arn: String,
    pub(crate) name: String,
}

impl SqsQueue {
    fn error(&self, error: impl std::error::Error) -> QueueError {
        QueueError { queue: self.name.clone(), reason: DisplayErrorContext(error).to_string() }
    }
}

impl Queue for SqsQueue {
    fn arn(&self) -> &str {
        &self.arn
    }

    fn receive(&self, max: usize, wait: Duration) -> BoxFuture<'_, Result<Vec<Message>, QueueError>> {
        Box::pin(async move {
            let received = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(i32::try_from(max.clamp(1, MAX_BATCH)).unwrap_or(1))
                .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(20))
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .message_attribute_names("All")
                .send()
                .await
                .map_err(|error| self.error(error))?;
            Ok(received.messages.unwrap_or_default().into_iter().map(message).collect())
        })
    }

    fn delete(&self, receipts: Vec<String>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            for chunk in receipts.chunks(MAX_BATCH) {
                let entries = chunk.iter().enumerate().map(|(index, receipt)| {
                    DeleteMessageBatchRequestEntry::builder()
                        .id(index.to_string())
                        .receipt_handle(receipt)
                        .build()
                });
                let entries: Result<Vec<_>, _> = entries.collect();
                let outcome = self
                    .client
                    .delete_message_batch()
                    .queue_url(&self.url)
                    .set_entries(Some(entries.map_err(|error| self.error(error))?))
                    .send()
                    .await
                    .map_err(|error| self.error(error))?;
                if let Some(failed) = outcome.failed.first() {
                    let reason = failed.message.clone().unwrap_or_else(|| failed.code.clone());
                    return Err(QueueError { queue: self.name.clone(), reason });
                }
            }
            Ok(())
        })
    }

    fn release(&self, receipt: String, pause: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
            let request = self.client.change_message_visibility().queue_url(&self.url);
            let request = request.receipt_handle(receipt).visibility_timeout(seconds);
            request.send().await.map_err(|error| self.error(error))?;
            Ok(())
        })
    }

    fn send<'a>(
        &'a self,
        body: &'a str,
        attributes: BTreeMap<String, MessageAttributeValue>,
    ) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            let request = self.client.send_message().queue_url(&self.url).message_body(body);
            let attributes = (!attributes.is_empty()).then(|| attributes.into_iter().collect());
            request.set_message_attributes(attributes).send().await.map_err(|error| self.error(error))?;
            Ok(())
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async move {
            let attributes = self
                .client
                .get_queue_attributes()
                .queue_url(&self.url)
                .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
                .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
                .send()
                .await
                .map_err(|error| self.error(error))?
                .attributes
                .unwrap_or_default();
            let number = |name| attributes.get(&name).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
            Ok(Depth {
                visible: number(QueueAttributeName::ApproximateNumberOfMessages),
                hidden: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            })
        })
    }
}

fn message(message: aws_sdk_sqs::types::Message) -> Message {
    let attributes = message.attributes.unwrap_or_default();
    Message {
        id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        md5: message.md5_of_body.unwrap_or_default(),
        attributes: attributes.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect(),
        custom_attributes: message.message_attributes.unwrap_or_default().into_iter().collect(),
    }
}
