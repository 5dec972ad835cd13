//! What `local` needs to know of a template, with every intrinsic resolved: the one interface between the parser and
//! the parts that emulate AWS.

use std::{collections::BTreeMap, time::Duration};

/// A template, resolved for one stage.
#[derive(Clone, Debug, Default)]
pub struct App {
    /// Every `AWS::Serverless::Function`, in the template's order.
    pub functions: Vec<Function>,
    /// Every `AWS::DynamoDB::Table`.
    pub tables: Vec<Table>,
    /// Every `AWS::SQS::Queue`.
    pub queues: Vec<Queue>,
    /// Every `AWS::S3::Bucket`.
    pub buckets: Vec<Bucket>,
    /// The HTTP API's cross-origin rules, where it has any.
    pub cors: Option<Cors>,
}

/// One Lambda function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The resource's name in the template.
    pub logical_id: String,
    /// The binary, which is also the operation and the package: `Metadata.BuildProperties.Binary`.
    pub name: String,
    /// `Environment.Variables`, the globals' included.
    pub environment: BTreeMap<String, String>,
    /// `MemorySize`, in MiB.
    pub memory_mib: u32,
    /// `Timeout`: an invocation that takes longer is killed.
    pub timeout: Duration,
    /// `ReservedConcurrentExecutions`: how many invocations may run at once.
    pub reserved_concurrency: Option<u32>,
    /// What becomes of an invocation that nobody waits for (a schedule's) when it fails.
    pub async_invocations: AsyncInvocations,
    /// What invokes it.
    pub events: Vec<Event>,
}

/// `EventInvokeConfig`, with AWS's defaults.
#[derive(Clone, Copy, Debug)]
pub struct AsyncInvocations {
    /// `MaximumRetryAttempts`.
    pub max_retries: u32,
    /// `MaximumEventAgeInSeconds`: an event that waited longer is dropped.
    pub max_age: Duration,
}

impl Default for AsyncInvocations {
    fn default() -> Self {
        Self { max_retries: 2, max_age: Duration::from_hours(6) }
    }
}

/// One event source of a function.
#[derive(Clone, Debug)]
pub enum Event {
    /// `HttpApi`.
    Http(Route),
    /// `MSK` or `SelfManagedKafka`.
    Kafka(KafkaSource),
    /// `SQS`.
    Sqs(SqsSource),
    /// `Schedule` or `ScheduleV2`.
    Schedule(Schedule),
}

/// One route of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Upper case: `GET`.
    pub method: String,
    /// With its parameters in braces: `/v1/posts/{post_id}`.
    pub path: String,
}

/// A Kafka event source mapping.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are AWS's, and independent of one another")]
pub struct KafkaSource {
    /// The topic it reads.
    pub topic: String,
    /// `ConsumerGroupId`.
    pub group: String,
    /// How many records one invocation gets at the most (AWS's default is 100).
    pub batch_size: usize,
    /// How long records are gathered (AWS's default for Kafka is 500 ms; 0 only with provisioned pollers).
    pub window: Duration,
    /// `StartingPosition`: `TRIM_HORIZON` is true, `LATEST` is false.
    pub from_start: bool,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`.
    pub reports_failures: bool,
    /// `BisectBatchOnFunctionError`.
    pub bisects: bool,
    /// `MaximumRetryAttempts`; `None` is without end (AWS's -1).
    pub max_retries: Option<u32>,
    /// `MaximumRecordAgeInSeconds`; `None` is without end (AWS's -1).
    pub max_age: Option<Duration>,
    /// `DestinationConfig.OnFailure`: the logical id of the queue in [`App::queues`].
    pub on_failure: Option<String>,
    /// `Enabled`.
    pub enabled: bool,
}

/// An SQS event source mapping.
#[derive(Clone, Debug)]
pub struct SqsSource {
    /// The logical id of the queue in [`App::queues`].
    pub queue: String,
    /// How many messages one invocation gets at the most (AWS's default is 10).
    pub batch_size: usize,
    /// How long messages are gathered.
    pub window: Duration,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`.
    pub reports_failures: bool,
    /// `ScalingConfig.MaximumConcurrency`.
    pub max_concurrency: Option<u32>,
    /// `Enabled`.
    pub enabled: bool,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The event's name in the template.
    pub name: String,
    /// How often: `rate(1 minute)`. Cron expressions are refused by the parser, with their line.
    pub every: Duration,
    /// `Input`, where it replaces the event.
    pub input: Option<serde_json::Value>,
    /// `Enabled` or `State`.
    pub enabled: bool,
}

/// A DynamoDB table.
#[derive(Clone, Debug)]
pub struct Table {
    /// The resource's name in the template.
    pub logical_id: String,
    /// The name that functions see: `TableName`, or one made as CloudFormation would.
    pub name: String,
    /// The table's keys.
    pub key: Key,
    /// Attribute name to type (`S`, `N`, `B`).
    pub attributes: BTreeMap<String, String>,
    /// `GlobalSecondaryIndexes`.
    pub indexes: Vec<Index>,
    /// `LocalSecondaryIndexes`.
    pub local_indexes: Vec<Index>,
    /// `TimeToLiveSpecification.AttributeName`, where it is enabled.
    pub time_to_live: Option<String>,
}

/// A partition key, and a sort key if there is one.
#[derive(Clone, Debug)]
pub struct Key {
    /// `HASH`.
    pub partition: String,
    /// `RANGE`.
    pub sort: Option<String>,
}

/// A global secondary index.
#[derive(Clone, Debug)]
pub struct Index {
    /// `IndexName`.
    pub name: String,
    /// The index's keys.
    pub key: Key,
    /// `Projection`: `ALL`, `KEYS_ONLY`, or `INCLUDE` with these.
    pub projection: Projection,
}

/// What an index holds besides its keys.
#[derive(Clone, Debug)]
pub enum Projection {
    /// `ALL`.
    All,
    /// `KEYS_ONLY`.
    KeysOnly,
    /// `INCLUDE`.
    Include(Vec<String>),
}

/// An SQS queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The resource's name in the template.
    pub logical_id: String,
    /// `QueueName`, or one made as CloudFormation would.
    pub name: String,
    /// `VisibilityTimeout` (AWS's default is 30 s).
    pub visibility: Duration,
    /// `MessageRetentionPeriod` (AWS's default is 4 days).
    pub retention: Duration,
    /// `RedrivePolicy`: the dead-letter queue's logical id, and `maxReceiveCount`.
    pub redrive: Option<(String, u32)>,
}

/// An S3 bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The resource's name in the template.
    pub logical_id: String,
    /// `BucketName`, or one made as CloudFormation would: in lower case.
    pub name: String,
    /// `NotificationConfiguration.QueueConfigurations`.
    pub notifications: Vec<Notification>,
    /// The document of its `AWS::S3::BucketPolicy`, if it has one.
    pub policy: Option<serde_json::Value>,
}

/// What a queue is told of a bucket's objects.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `s3:ObjectCreated:*`.
    pub event: String,
    /// The logical id of the queue in [`App::queues`].
    pub queue: String,
    /// How the keys begin.
    pub prefix: Option<String>,
}

/// `CorsConfiguration` of the HTTP API.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// `AllowOrigins`.
    pub origins: Vec<String>,
    /// `AllowMethods`.
    pub methods: Vec<String>,
    /// `AllowHeaders`.
    pub headers: Vec<String>,
    /// `ExposeHeaders`.
    pub expose: Vec<String>,
    /// `MaxAge`, in seconds.
    pub max_age: Option<u32>,
}
