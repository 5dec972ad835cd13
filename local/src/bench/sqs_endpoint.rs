//! A counting SQS: standard queues in memory, behind SQS's own wire protocol, AWS JSON 1.0
//! (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/>).
//!
//! What is measured beyond a queue should not be the queue: moto answers some hundred requests a second. Here a message is
//! hidden when it is received, and appears again if it is not deleted in time; and after too many receives it is in the
//! dead-letter queue, as in SQS.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};
use tokio::{sync::Notify, time::timeout_at};

use super::endpoint::{Endpoint, REGION, serve};
use crate::{
    runtime::server::{Answer, json as json_answer},
    services::ACCOUNT,
};

/// Names an action: `x-amz-target: AmazonSQS.SendMessage`.
const TARGET: &str = "AmazonSQS.";
/// Attributes of a queue that was made without them, in seconds.
const VISIBILITY_SECONDS: u64 = 30;
/// The most messages of a batch.
const MOST: usize = 10;

/// A running SQS. Dropping it ends it.
#[derive(Debug)]
pub struct SqsEndpoint {
    endpoint: Endpoint,
    queues: Arc<Queues>,
}

/// What happened to the messages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Sent to it, or moved to it as dead letters.
    pub sent: usize,
    /// Given to a receiver, each time.
    pub received: usize,
    /// Deleted, each once.
    pub deleted: usize,
    /// Moved to its dead-letter queue.
    pub dead: usize,
    /// In it now.
    pub there: usize,
}

impl SqsEndpoint {
    /// Serves on a free port.
    pub async fn start() -> Result<Self> {
        let queues = Arc::new(Queues::default());
        let answering = Arc::clone(&queues);
        let endpoint = serve(move |request| {
            let queues = Arc::clone(&answering);
            async move { queues.answer(request).await }
        });
        Ok(Self { endpoint: endpoint.await?, queues })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// What happened so far, by the queues' names.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, QueueCounts> {
        let queues = self.queues.lock();
        let counts = queues
            .iter()
            .map(|(name, queue)| (name.clone(), QueueCounts { there: queue.messages.len(), ..queue.counts }));
        counts.collect()
    }
}

#[derive(Debug, Default)]
struct Queues {
    by_name: Mutex<BTreeMap<String, Queue>>,
    /// Something may be received now that could not be before.
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    attributes: Map<String, Value>,
    /// By when they can be received, and their numbers.
    messages: BTreeMap<(Instant, u64), Message>,
    /// When each can be received, by its number.
    due: HashMap<u64, Instant>,
    last: u64,
    counts: QueueCounts,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    body: String,
    attributes: Value,
    sent_ms: i64,
    first_received_ms: Option<i64>,
    receives: u32,
}

/// What SQS refuses, by the name of its error.
struct Refusal(&'static str, String);

type Answered = Result<Value, Refusal>;

impl Queues {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let action = target.and_then(|target| target.strip_prefix(TARGET)).unwrap_or_default().to_owned();
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        let base_url = format!("http://{}", host.unwrap_or_default());
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return refused(&Refusal("InvalidRequest", error.to_string())),
        };
        match self.act(&action, &base_url, &body).await {
            Ok(answer) => json_answer(StatusCode::OK, answer.to_string()),
            Err(refusal) => refused(&refusal),
        }
    }

    async fn act(&self, action: &str, base_url: &str, body: &Bytes) -> Answered {
        let input: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal("SerializationException", error.to_string()))?;
        let answer = match action {
            "CreateQueue" => self.create(&input, base_url),
            "GetQueueUrl" => {
                let name = text(&input, "QueueName")?;
                self.with(name, |_| Ok(json!({ "QueueUrl": url(base_url, name) })))
            }
            "GetQueueAttributes" => {
                self.with(named(&input)?, |queue| Ok(json!({ "Attributes": queue.attributes() })))
            }
            "SetQueueAttributes" => self.with(named(&input)?, |queue| {
                queue.attributes.extend(input["Attributes"].as_object().cloned().unwrap_or_default());
                Ok(json!({}))
            }),
            "SendMessage" => self.with(named(&input)?, |queue| queue.send(&input)),
            "SendMessageBatch" => self.with(named(&input)?, |queue| each(&input, |entry| queue.send(entry))),
            "ReceiveMessage" => return self.receive(&input).await,
            "DeleteMessage" => self.with(named(&input)?, |queue| queue.delete(&input)),
            "DeleteMessageBatch" => {
                self.with(named(&input)?, |queue| each(&input, |entry| queue.delete(entry)))
            }
            "ChangeMessageVisibility" => self.with(named(&input)?, |queue| queue.hide(&input)),
            "ChangeMessageVisibilityBatch" => {
                self.with(named(&input)?, |queue| each(&input, |entry| queue.hide(entry)))
            }
            other => Err(Refusal("InvalidAction", format!("no action {other:?} here"))),
        };
        self.arrived.notify_waiters();
        answer
    }

    fn with(&self, name: &str, act: impl FnOnce(&mut Queue) -> Answered) -> Answered {
        let mut queues = self.lock();
        let queue = queues.get_mut(name);
        act(queue.ok_or_else(|| Refusal("QueueDoesNotExist", format!("there is no queue {name}")))?)
    }

    fn create(&self, input: &Value, base_url: &str) -> Answered {
        let name = text(input, "QueueName")?;
        let attributes = input["Attributes"].as_object().cloned().unwrap_or_default();
        let mut queues = self.lock();
        let queue = queues
            .entry(name.to_owned())
            .or_insert_with(|| Queue { attributes: attributes.clone(), ..Queue::default() });
        if attributes.iter().any(|(name, value)| queue.attributes.get(name) != Some(value)) {
            return Err(Refusal("QueueNameExists", format!("{name} is there with other attributes")));
        }
        queue.attributes.insert("QueueArn".to_owned(), arn(name).into());
        Ok(json!({ "QueueUrl": url(base_url, name) }))
    }

    /// Waits as long as it is told for a first message.
    async fn receive(&self, input: &Value) -> Answered {
        let name = named(input)?;
        let most = input["MaxNumberOfMessages"].as_u64().and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(1).clamp(1, MOST);
        let until = Instant::now() + seconds(input, "WaitTimeSeconds").unwrap_or_default();
        loop {
            // Before the look, so that what comes in between is not missed.
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let (received, next) = self.take(name, most, seconds(input, "VisibilityTimeout"))?;
            if !received.is_empty() {
                return Ok(json!({ "Messages": received }));
            }
            if Instant::now() >= until {
                return Ok(json!({}));
            }
            let look_again = next.map_or(until, |next| next.min(until));
            let _ = timeout_at(look_again.into(), arrived).await;
        }
    }

    /// Up to `most` messages, and when the next can be received, where there is none now.
    fn take(
        &self,
        name: &str,
        most: usize,
        hidden_for: Option<Duration>,
    ) -> Result<(Vec<Value>, Option<Instant>), Refusal> {
        let mut queues = self.lock();
        let missing = || Refusal("QueueDoesNotExist", format!("there is no queue {name}"));
        let queue = queues.get_mut(name).ok_or_else(missing)?;
        let (mut received, mut dead, now) = (Vec::new(), Vec::new(), Instant::now());
        let redrive = queue.redrive();
        let hidden_for = hidden_for.unwrap_or_else(|| queue.seconds("VisibilityTimeout", VISIBILITY_SECONDS));
        while received.len() < most
            && let Some(first) = queue.messages.first_entry()
            && first.key().0 <= now
        {
            let ((_, number), mut message) = first.remove_entry();
            if redrive.as_ref().is_some_and(|(_, most)| message.receives >= *most) {
                queue.due.remove(&number);
                queue.counts.dead += 1;
                dead.push(message);
                continue;
            }
            message.receives += 1;
            message.first_received_ms.get_or_insert_with(now_ms);
            received.push(message.received(number));
            queue.counts.received += 1;
            queue.put(number, now + hidden_for, message);
        }
        let next = queue.messages.keys().next().map(|(due, _)| *due);
        if let Some(letters) = redrive.and_then(|(arn, _)| queues.get_mut(arn.rsplit(':').next()?)) {
            for message in dead {
                letters.add(Duration::ZERO, Message { receives: 0, ..message });
            }
        }
        Ok((received, next))
    }
}

impl Queue {
    fn attributes(&self) -> Map<String, Value> {
        let now = Instant::now();
        let (hidden, delayed): (Vec<_>, Vec<_>) = self
            .messages
            .iter()
            .filter(|((due, _), _)| *due > now)
            .partition(|(_, message)| message.receives > 0);
        let visible = self.messages.len() - hidden.len() - delayed.len();
        let mut attributes = self.attributes.clone();
        for (name, count) in [
            ("ApproximateNumberOfMessages", visible),
            ("ApproximateNumberOfMessagesNotVisible", hidden.len()),
            ("ApproximateNumberOfMessagesDelayed", delayed.len()),
        ] {
            attributes.insert(name.to_owned(), count.to_string().into());
        }
        attributes
    }

    fn seconds(&self, attribute: &str, default: u64) -> Duration {
        let told = self.attributes.get(attribute).and_then(Value::as_str).and_then(|text| text.parse().ok());
        Duration::from_secs(told.unwrap_or(default))
    }

    /// The dead-letter queue's ARN, and after how many receives a message goes there.
    fn redrive(&self) -> Option<(String, u32)> {
        let policy: Value = serde_json::from_str(self.attributes.get("RedrivePolicy")?.as_str()?).ok()?;
        let most = &policy["maxReceiveCount"];
        let most = most.as_u64().or_else(|| most.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), u32::try_from(most).ok()?))
    }

    fn send(&mut self, entry: &Value) -> Answered {
        let body = text(entry, "MessageBody")?.to_owned();
        let id = uuid::Uuid::new_v4().to_string();
        let answer = json!({ "MessageId": id, "MD5OfMessageBody": md5(&body) });
        let attributes = entry["MessageAttributes"].clone();
        let delay = seconds(entry, "DelaySeconds").unwrap_or_else(|| self.seconds("DelaySeconds", 0));
        let message =
            Message { id, body, attributes, sent_ms: now_ms(), first_received_ms: None, receives: 0 };
        self.add(delay, message);
        Ok(answer)
    }

    fn add(&mut self, delay: Duration, message: Message) {
        self.last += 1;
        self.counts.sent += 1;
        self.put(self.last, Instant::now() + delay, message);
    }

    fn put(&mut self, number: u64, due: Instant, message: Message) {
        self.due.insert(number, due);
        self.messages.insert((due, number), message);
    }

    fn delete(&mut self, entry: &Value) -> Answered {
        let (number, _) = receipt(entry)?;
        // What is gone already is no error.
        if let Some(due) = self.due.remove(&number) {
            self.messages.remove(&(due, number));
            self.counts.deleted += 1;
        }
        Ok(json!({}))
    }

    /// Changes until when a received message is hidden, if it was not received again since.
    fn hide(&mut self, entry: &Value) -> Answered {
        let (number, receives) = receipt(entry)?;
        let not_hidden = || Refusal("MessageNotInflight", "the message is not hidden".to_owned());
        let due =
            self.due.get(&number).copied().filter(|due| *due > Instant::now()).ok_or_else(not_hidden)?;
        let message = self.messages.remove(&(due, number)).ok_or_else(not_hidden)?;
        let is_current = message.receives == receives;
        let until =
            seconds(entry, "VisibilityTimeout").filter(|_| is_current).map(|time| Instant::now() + time);
        self.put(number, until.unwrap_or(due), message);
        if is_current { Ok(json!({})) } else { Err(not_hidden()) }
    }
}

impl Message {
    fn received(&self, number: u64) -> Value {
        let mut message = json!({
            "MessageId": self.id,
            "ReceiptHandle": format!("{number}:{}", self.receives),
            "MD5OfBody": md5(&self.body),
            "Body": self.body,
            "Attributes": {
                "SenderId": ACCOUNT,
                "SentTimestamp": self.sent_ms.to_string(),
                "ApproximateReceiveCount": self.receives.to_string(),
                "ApproximateFirstReceiveTimestamp": self.first_received_ms.unwrap_or_default().to_string(),
            },
        });
        if !self.attributes.is_null() {
            message["MessageAttributes"] = self.attributes.clone();
        }
        message
    }
}

/// Does something for each entry of a batch; one that fails does not hold up the others.
fn each(input: &Value, mut act: impl FnMut(&Value) -> Answered) -> Answered {
    let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return Err(Refusal("EmptyBatchRequest", "there are no entries".to_owned()));
    }
    if entries.len() > MOST {
        return Err(Refusal("TooManyEntriesInBatchRequest", format!("there are {}", entries.len())));
    }
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match act(entry) {
            Ok(mut done) => {
                done["Id"] = entry["Id"].clone();
                successful.push(done);
            }
            Err(Refusal(code, message)) => {
                failed
                    .push(json!({"Id": entry["Id"], "Code": code, "Message": message, "SenderFault": true}));
            }
        }
    }
    Ok(json!({ "Successful": successful, "Failed": failed }))
}

fn text<'a>(input: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    input[name].as_str().ok_or_else(|| Refusal("MissingParameter", format!("there is no {name}")))
}

/// The name of the queue that a request is for.
fn named(input: &Value) -> Result<&str, Refusal> {
    Ok(text(input, "QueueUrl")?.rsplit('/').next().unwrap_or_default())
}

fn seconds(input: &Value, name: &str) -> Option<Duration> {
    input[name].as_u64().map(Duration::from_secs)
}

/// A message's number, and how often it was received by then.
fn receipt(entry: &Value) -> Result<(u64, u32), Refusal> {
    let invalid = || Refusal("ReceiptHandleIsInvalid", "this is no receipt of ours".to_owned());
    let (number, receives) = text(entry, "ReceiptHandle")?.split_once(':').ok_or_else(invalid)?;
    Ok((number.parse().map_err(|_| invalid())?, receives.parse().map_err(|_| invalid())?))
}

/// An error has two names: its shape's, and the one that it had in SQS's query protocol, by which the SDKs know it
/// (<https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>, `awsQueryCompatible`).
fn refused(Refusal(code, message): &Refusal) -> Answer {
    let old_name = match *code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
        "QueueNameExists" => "QueueAlreadyExists",
        "EmptyBatchRequest" => "AWS.SimpleQueueService.EmptyBatchRequest",
        "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
        "TooManyEntriesInBatchRequest" => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        other => other,
    };
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message});
    let mut answer = json_answer(StatusCode::BAD_REQUEST, body.to_string());
    if let Ok(names) = HeaderValue::from_str(&format!("{old_name};Sender")) {
        answer.headers_mut().insert("x-amzn-query-error", names);
    }
    answer
}

fn url(base_url: &str, name: &str) -> String {
    format!("{base_url}/{ACCOUNT}/{name}")
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

fn md5(body: &str) -> String {
    format!("{:032x}", u128::from_be_bytes(Md5::digest(body).into()))
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
