//! Makes in the services what the template declares, and what a deployment's documented commands make besides: topics,
//! platform applications, the mail's identity, secrets, the first categories. What is there already stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use aws_sdk_dynamodb::{
    error::{DisplayErrorContext, ProvideErrorMetadata},
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        LocalSecondaryIndex, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use aws_sdk_s3::types::{
    CreateBucketConfiguration, FilterRule, FilterRuleName, NotificationConfiguration,
    NotificationConfigurationFilter, QueueConfiguration, S3KeyFilter,
};
use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::try_join_all;
use krafka::{
    Kafka,
    admin::{CreateTopicsOptions, NewTopic},
    error::{ErrorCode, KrafkaError},
};
use tocsin_adapters::dynamodb::CategoriesTable;

use crate::{
    event_sources::QueueAddress,
    installation,
    services::Endpoints,
    signing_key::SigningKey,
    template::{
        Deployment, Resolver,
        model::{App, Bucket, Event, Index, Key, Projection, Queue, Table},
    },
};

/// As many as a topic of MSK would have for a start: enough to see that order is kept within a partition only.
const PARTITIONS: i32 = 4;

/// The secret of this machine's OAuth client, for a provider of one's own: `--parameter GoogleIssuer=http://127.0.0.1:…`.
pub const GOOGLE_CLIENT_SECRET: &str = "local";

/// What was made, by the names that the template refers to it.
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// Queues by logical id.
    pub queues: BTreeMap<String, QueueAddress>,
    queue_urls: BTreeMap<String, String>,
    dynamic_references: BTreeMap<String, String>,
}

impl Resolver for Provisioned {
    fn queue_url(&self, queue: &str) -> Option<String> {
        self.queue_urls.get(queue).cloned()
    }

    fn dynamic_reference(&self, service: &str, name: &str) -> Option<String> {
        self.dynamic_references.get(&format!("{service}:{name}")).cloned()
    }
}

/// The client of the cluster that the services have.
pub async fn kafka(endpoints: &Endpoints) -> Result<Kafka> {
    Kafka::builder(endpoints.bootstrap_servers.as_str())
        .client_id("local")
        .connect()
        .await
        .with_context(|| format!("Kafka at {}", endpoints.bootstrap_servers))
}

/// Makes everything. `mail_identity` is the domain or address that mails are sent from.
pub async fn provision(
    app: &App,
    deployment: &Deployment,
    endpoints: &Endpoints,
    kafka: &Kafka,
    key: &SigningKey,
    stage: &str,
    mail_identity: &str,
) -> Result<Provisioned> {
    let ((), queues, (), (), ()) = tokio::try_join!(
        tables(app, endpoints),
        queues(app, deployment, endpoints),
        topics(app, kafka),
        platform_applications(endpoints, stage),
        mail(endpoints, mail_identity),
    )?;
    categories(app, endpoints).await?;
    buckets(app, endpoints, &queues).await?;
    let queue_urls = app
        .queues
        .iter()
        .filter_map(|queue| Some((queue.name.clone(), queues.get(&queue.logical_id)?.url.clone())))
        .collect();
    let dynamic_references = [
        (format!("secretsmanager:tocsin/{stage}/access-token-jwks"), key.jwks.clone()),
        (format!("secretsmanager:tocsin/{stage}/access-token-private-key"), key.private_pem.clone()),
        (format!("secretsmanager:tocsin/{stage}/redis-url"), endpoints.redis_url.clone()),
        (format!("secretsmanager:tocsin/{stage}/google-client-secret"), GOOGLE_CLIENT_SECRET.to_owned()),
    ]
    .into();
    Ok(Provisioned { queues, queue_urls, dynamic_references })
}

/// Makes the topics that the app's functions read.
pub async fn topics(app: &App, kafka: &Kafka) -> Result<()> {
    let mut names: Vec<&str> = app
        .functions
        .iter()
        .flat_map(|function| &function.events)
        .filter_map(|event| match event {
            Event::Kafka(source) => Some(source.topic.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    // -1: the broker's own replication factor, whatever the cluster is.
    let topics: Vec<NewTopic> =
        names.into_iter().map(|name| NewTopic::new(name, PARTITIONS, -1)).collect::<Result<_, _>>()?;
    let created = kafka.admin().create_topics(topics, CreateTopicsOptions::default()).await?;
    for (topic, result) in created {
        match result {
            Ok(()) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("the topic {topic}")),
        }
    }
    Ok(())
}

async fn tables(app: &App, endpoints: &Endpoints) -> Result<()> {
    let dynamodb = aws_sdk_dynamodb::Client::new(&endpoints.sdk_config("DYNAMODB"));
    try_join_all(app.tables.iter().map(|table| async {
        make_table(&dynamodb, table).await.with_context(|| format!("the table {}", table.name))
    }))
    .await?;
    Ok(())
}

/// Fills the list of categories, without which nobody can post.
async fn categories(app: &App, endpoints: &Endpoints) -> Result<()> {
    let Some(table) = app.tables.iter().find(|table| table.logical_id == "CategoriesTable") else {
        return Ok(());
    };
    let dynamodb = aws_sdk_dynamodb::Client::new(&endpoints.sdk_config("DYNAMODB"));
    installation::add_categories(&CategoriesTable::new(&dynamodb, &table.name)).await?;
    Ok(())
}

async fn make_table(dynamodb: &aws_sdk_dynamodb::Client, table: &Table) -> Result<()> {
    let create = dynamodb
        .create_table()
        .table_name(&table.name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(key_schema(&table.key)?))
        .set_attribute_definitions(Some(attributes(table)?))
        .set_global_secondary_indexes(global_indexes(table)?)
        .set_local_secondary_indexes(local_indexes(table)?)
        .send()
        .await;
    match create {
        Ok(_) => {}
        Err(error) if error.code() == Some("ResourceInUseException") => {
            let described = dynamodb.describe_table().table_name(&table.name).send().await;
            let described =
                described.map_err(explained)?.table.context("the service does not describe it")?;
            check_unchanged(table, &described)?;
        }
        Err(error) => return Err(explained(error)),
    }
    // At once here, after some seconds in AWS.
    while !is_active(dynamodb, table).await? {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let Some(attribute) = &table.time_to_live else { return Ok(()) };
    let described =
        dynamodb.describe_time_to_live().table_name(&table.name).send().await.map_err(explained)?;
    let status = described.time_to_live_description.and_then(|description| description.time_to_live_status);
    if !matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        let specification =
            TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build()?;
        let update =
            dynamodb.update_time_to_live().table_name(&table.name).time_to_live_specification(specification);
        update.send().await.map_err(explained)?;
    }
    Ok(())
}

async fn is_active(dynamodb: &aws_sdk_dynamodb::Client, table: &Table) -> Result<bool> {
    let described = dynamodb.describe_table().table_name(&table.name).send().await.map_err(explained)?;
    Ok(described.table.and_then(|table| table.table_status) == Some(TableStatus::Active))
}

/// A kept table with other keys or indexes cannot serve the functions of this template.
fn check_unchanged(table: &Table, kept: &TableDescription) -> Result<()> {
    let global = kept.global_secondary_indexes().iter().filter_map(|index| index.index_name());
    let local = kept.local_secondary_indexes().iter().filter_map(|index| index.index_name());
    let kept_indexes: BTreeSet<&str> = global.chain(local).collect();
    let indexes: BTreeSet<&str> =
        table.indexes.iter().chain(&table.local_indexes).map(|index| index.name.as_str()).collect();
    if kept.key_schema() != key_schema(&table.key)? || kept_indexes != indexes {
        bail!("the kept data has it with other keys or indexes than template.yaml: begin anew with --fresh");
    }
    Ok(())
}

fn key_schema(key: &Key) -> Result<Vec<KeySchemaElement>> {
    let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let partition = element(&key.partition, KeyType::Hash);
    let sort = key.sort.as_deref().map(|name| element(name, KeyType::Range));
    Ok([Some(partition), sort].into_iter().flatten().collect::<Result<_, _>>()?)
}

fn attributes(table: &Table) -> Result<Vec<AttributeDefinition>> {
    let definition = |(name, kind): (&String, &String)| {
        let kind = ScalarAttributeType::from(kind.as_str());
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
    };
    Ok(table.attributes.iter().map(definition).collect::<Result<_, _>>()?)
}

fn global_indexes(table: &Table) -> Result<Option<Vec<GlobalSecondaryIndex>>> {
    let index = |index: &Index| {
        let builder = GlobalSecondaryIndex::builder().index_name(&index.name);
        let builder = builder.set_key_schema(Some(key_schema(&index.key)?));
        anyhow::Ok(builder.projection(projection(&index.projection)).build()?)
    };
    let indexes: Vec<_> = table.indexes.iter().map(index).collect::<Result<_>>()?;
    // The service refuses an empty list.
    Ok(Some(indexes).filter(|indexes| !indexes.is_empty()))
}

fn local_indexes(table: &Table) -> Result<Option<Vec<LocalSecondaryIndex>>> {
    let index = |index: &Index| {
        let builder = LocalSecondaryIndex::builder().index_name(&index.name);
        let builder = builder.set_key_schema(Some(key_schema(&index.key)?));
        anyhow::Ok(builder.projection(projection(&index.projection)).build()?)
    };
    let indexes: Vec<_> = table.local_indexes.iter().map(index).collect::<Result<_>>()?;
    Ok(Some(indexes).filter(|indexes| !indexes.is_empty()))
}

fn projection(projection: &Projection) -> aws_sdk_dynamodb::types::Projection {
    let builder = aws_sdk_dynamodb::types::Projection::builder();
    match projection {
        Projection::All => builder.projection_type(ProjectionType::All),
        Projection::KeysOnly => builder.projection_type(ProjectionType::KeysOnly),
        Projection::Include(names) => {
            builder.projection_type(ProjectionType::Include).set_non_key_attributes(Some(names.clone()))
        }
    }
    .build()
}

/// Dead-letter queues first, since the others name them.
async fn queues(
    app: &App,
    deployment: &Deployment,
    endpoints: &Endpoints,
) -> Result<BTreeMap<String, QueueAddress>> {
    let sqs = aws_sdk_sqs::Client::new(&endpoints.sdk_config("SQS"));
    let (redriven, others): (Vec<&Queue>, Vec<&Queue>) =
        app.queues.iter().partition(|queue| queue.redrive.is_some());
    let mut addresses = BTreeMap::new();
    for group in [others, redriven] {
        let made = try_join_all(group.into_iter().map(|queue| async {
            let dead_letters = queue.redrive.as_ref().and_then(|(dead_letters, _)| {
                app.queues.iter().find(|other| other.logical_id == *dead_letters)
            });
            let dead_letter_arn = dead_letters.map(|queue| deployment.queue_arn(&queue.name));
            let url = make_queue(&sqs, queue, dead_letter_arn)
                .await
                .with_context(|| format!("the queue {}", queue.name))?;
            let arn = deployment.queue_arn(&queue.name);
            anyhow::Ok((queue.logical_id.clone(), QueueAddress { url, arn }))
        }))
        .await?;
        addresses.extend(made);
    }
    Ok(addresses)
}

async fn make_queue(
    sqs: &aws_sdk_sqs::Client,
    queue: &Queue,
    dead_letter_arn: Option<String>,
) -> Result<String> {
    let mut attributes = BTreeMap::from([
        (QueueAttributeName::VisibilityTimeout, queue.visibility.as_secs().to_string()),
        (QueueAttributeName::MessageRetentionPeriod, queue.retention.as_secs().to_string()),
    ]);
    if let (Some(arn), Some((_, most))) = (dead_letter_arn, &queue.redrive) {
        let policy = serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": most.to_string() });
        attributes.insert(QueueAttributeName::RedrivePolicy, policy.to_string());
    }
    let attributes: std::collections::HashMap<_, _> = attributes.into_iter().collect();
    let created =
        sqs.create_queue().queue_name(&queue.name).set_attributes(Some(attributes.clone())).send().await;
    match created {
        Ok(created) => created.queue_url.context("the service does not say its URL"),
        // It is there with other attributes: those of the template win, as in a deployment.
        Err(error)
            if error.code() == Some("QueueAlreadyExists") || error.code() == Some("QueueNameExists") =>
        {
            let found = sqs.get_queue_url().queue_name(&queue.name).send().await.map_err(explained)?;
            let url = found.queue_url.context("the service does not say its URL")?;
            let set = sqs.set_queue_attributes().queue_url(&url).set_attributes(Some(attributes));
            set.send().await.map_err(explained)?;
            Ok(url)
        }
        Err(error) => Err(explained(error)),
    }
}

/// Buckets, after the queues that they tell of their objects.
async fn buckets(app: &App, endpoints: &Endpoints, queues: &BTreeMap<String, QueueAddress>) -> Result<()> {
    let settings = aws_sdk_s3::config::Builder::from(&endpoints.sdk_config("S3"));
    // moto has no names for its buckets.
    let s3 =
        aws_sdk_s3::Client::from_conf(settings.force_path_style(endpoints.aws.contains_key("S3")).build());
    try_join_all(app.buckets.iter().map(|bucket| async {
        let made = make_bucket(&s3, bucket, &endpoints.region, queues).await;
        made.with_context(|| format!("the bucket {}", bucket.name))
    }))
    .await?;
    Ok(())
}

async fn make_bucket(
    s3: &aws_sdk_s3::Client,
    bucket: &Bucket,
    region: &str,
    queues: &BTreeMap<String, QueueAddress>,
) -> Result<()> {
    let location = CreateBucketConfiguration::builder().location_constraint(region.into()).build();
    match s3.create_bucket().bucket(&bucket.name).create_bucket_configuration(location).send().await {
        Ok(_) => {}
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {}
        Err(error) => return Err(explained(error)),
    }
    if let Some(policy) = &bucket.policy {
        let put = s3.put_bucket_policy().bucket(&bucket.name).policy(policy.to_string());
        put.send().await.map_err(explained)?;
    }
    let notifications = bucket.notifications.iter().map(|notification| {
        let queue = queues.get(&notification.queue).context("a bucket's queue was not made")?;
        let prefix = notification.prefix.as_ref().map(|prefix| {
            let rule = FilterRule::builder().name(FilterRuleName::Prefix).value(prefix).build();
            let key = S3KeyFilter::builder().filter_rules(rule).build();
            NotificationConfigurationFilter::builder().key(key).build()
        });
        let queue = QueueConfiguration::builder()
            .queue_arn(&queue.arn)
            .events(notification.event.as_str().into())
            .set_filter(prefix);
        Ok(queue.build()?)
    });
    let notifications = notifications.collect::<Result<Vec<_>>>()?;
    let configuration =
        NotificationConfiguration::builder().set_queue_configurations(Some(notifications)).build();
    let put = s3.put_bucket_notification_configuration().bucket(&bucket.name);
    put.notification_configuration(configuration).send().await.map_err(explained)?;
    Ok(())
}

/// The applications for APNs and FCM. Their names make their ARNs, by which the template refers to them.
async fn platform_applications(endpoints: &Endpoints, stage: &str) -> Result<()> {
    let sns = aws_sdk_sns::Client::new(&endpoints.sdk_config("SNS"));
    let make = |platform: &'static str| {
        let request = sns
            .create_platform_application()
            .name(format!("tocsin-{stage}"))
            .platform(platform)
            .attributes("PlatformCredential", "local")
            .attributes("PlatformPrincipal", "local");
        async move {
            request.send().await.map_err(explained)?;
            anyhow::Ok(())
        }
    };
    tokio::try_join!(make("APNS"), make("GCM")).context("the platform applications")?;
    Ok(())
}

/// Lets mails be sent from the identity; a real SES has it already, or verifies it by DNS.
async fn mail(endpoints: &Endpoints, identity: &str) -> Result<()> {
    let ses = aws_sdk_sesv2::Client::new(&endpoints.sdk_config("SESV2"));
    match ses.create_email_identity().email_identity(identity).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("AlreadyExistsException") => Ok(()),
        Err(error) => Err(explained(error)).with_context(|| format!("the mail identity {identity}")),
    }
}

/// An error of the SDK, with all that it knows.
pub(crate) fn explained<E: std::error::Error + Send + Sync + 'static>(error: E) -> anyhow::Error {
    anyhow::anyhow!("{}", DisplayErrorContext(error))
}
