//! The resources besides functions: which are made here, and which mean nothing on this machine.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Located,
    intrinsics::{Scope, section, type_of},
    model::{Bucket, Cors, Index, Key, Notification, Projection, Queue, Table},
    yaml::Node,
};

/// What `local` makes or runs.
const EMULATED: [&str; 6] = [
    "AWS::DynamoDB::Table",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::Queue",
    "AWS::Serverless::Function",
    "AWS::Serverless::HttpApi",
];

/// What watches, permits, connects or bills in the cloud, and has nothing to do here.
const WITHOUT_EFFECT: [&str; 11] = [
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::EC2::SecurityGroup",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SQS::QueuePolicy",
];

/// Refuses resources of which nobody decided whether they matter here.
pub(super) fn check_types(root: &Node) -> Located<()> {
    for (logical_id, resource) in section(root, "Resources")? {
        let known =
            type_of(resource).is_some_and(|name| EMULATED.contains(&name) || WITHOUT_EFFECT.contains(&name));
        if !known {
            return resource.get("Type").unwrap_or(resource).refuse(format!(
                "the resource `{logical_id}` is of type `{}`, which is not known here; run here are {}, and without \
                 effect are {}",
                type_of(resource).unwrap_or("none"),
                EMULATED.join(", "),
                WITHOUT_EFFECT.join(", ")
            ));
        }
    }
    Ok(())
}

/// Refuses keys that are in none of the lists, so that nothing that changes behaviour is ignored.
pub(super) fn check_keys(node: &Node, what: &str, lists: &[&[&str]]) -> Located<()> {
    for (key, value) in node.entries(what)? {
        if !lists.iter().any(|list| list.contains(&key.as_str())) {
            return value.refuse(format!(
                "{what} has the property `{key}`, which is not known here; expected one of {}",
                lists.concat().join(", ")
            ));
        }
    }
    Ok(())
}

/// The `Properties` of a resource or event, which may be left out where all have defaults.
pub(super) fn properties(resource: &Node) -> Node {
    let empty = || Node { line: resource.line, intrinsic: None, value: super::yaml::Value::Map(Vec::new()) };
    resource.get("Properties").cloned().unwrap_or_else(empty)
}

pub(super) fn tables(scope: &Scope<'_>) -> Located<Vec<Table>> {
    scope
        .resources("AWS::DynamoDB::Table")?
        .into_iter()
        .map(|(id, resource)| table(scope, id, resource))
        .collect()
}

pub(super) fn queues(scope: &Scope<'_>) -> Located<Vec<Queue>> {
    scope.resources("AWS::SQS::Queue")?.into_iter().map(|(id, resource)| queue(scope, id, resource)).collect()
}

pub(super) fn buckets(scope: &Scope<'_>) -> Located<Vec<Bucket>> {
    let mut policies = BTreeMap::new();
    for (id, resource) in scope.resources("AWS::S3::BucketPolicy")? {
        let properties = properties(resource);
        check_keys(&properties, id, &[&["Bucket", "PolicyDocument"]])?;
        let bucket = required(scope, &properties, "Bucket")?.as_text("Bucket")?.to_owned();
        policies.insert(bucket, required(scope, &properties, "PolicyDocument")?.to_json());
    }
    let buckets = scope.resources("AWS::S3::Bucket")?.into_iter().map(|(id, resource)| {
        let bucket = bucket(scope, id, resource)?;
        Ok(Bucket { policy: policies.remove(&bucket.name), ..bucket })
    });
    buckets.collect()
}

/// The cross-origin rules of the one HTTP API.
pub(super) fn cors(scope: &Scope<'_>) -> Located<Option<Cors>> {
    let apis = scope.resources("AWS::Serverless::HttpApi")?;
    let Some((logical_id, api)) = apis.first() else { return Ok(None) };
    if let Some((_, second)) = apis.get(1) {
        return second.refuse("there is a second HttpApi; one can be served here");
    }
    let properties = properties(api);
    check_keys(
        &properties,
        logical_id,
        &[
            &["CorsConfiguration"],
            &[
                "AccessLogSettings",
                "DefaultRouteSettings",
                "Description",
                "Domain",
                "Name",
                "StageName",
                "Tags",
            ],
        ],
    )?;
    let Some(configuration) = scope.property(&properties, "CorsConfiguration")? else { return Ok(None) };
    check_keys(
        &configuration,
        "CorsConfiguration",
        &[&["AllowHeaders", "AllowMethods", "AllowOrigins", "ExposeHeaders", "MaxAge"]],
    )?;
    let texts = |name: &str| configuration.get(name).map_or(Ok(Vec::new()), |list| scope.texts(list, name));
    Ok(Some(Cors {
        origins: texts("AllowOrigins")?,
        methods: texts("AllowMethods")?,
        headers: texts("AllowHeaders")?,
        expose: texts("ExposeHeaders")?,
        max_age: configuration.get("MaxAge").map(|age| age.parsed("MaxAge", "seconds")).transpose()?,
    }))
}

fn table(scope: &Scope<'_>, logical_id: &str, resource: &Node) -> Located<Table> {
    let properties = properties(resource);
    check_keys(
        &properties,
        logical_id,
        &[
            &[
                "AttributeDefinitions",
                "GlobalSecondaryIndexes",
                "KeySchema",
                "LocalSecondaryIndexes",
                "TableName",
                "TimeToLiveSpecification",
            ],
            &[
                "BillingMode",
                "ContributorInsightsSpecification",
                "DeletionProtectionEnabled",
                "OnDemandThroughput",
                "PointInTimeRecoverySpecification",
                "SSESpecification",
                "TableClass",
                "Tags",
                "WarmThroughput",
            ],
        ],
    )?;
    let mut attributes = BTreeMap::new();
    for definition in required(scope, &properties, "AttributeDefinitions")?.items("AttributeDefinitions")? {
        attributes.insert(text(definition, "AttributeName")?, text(definition, "AttributeType")?);
    }
    let indexes = |name: &str| match scope.property(&properties, name)? {
        Some(list) => list.items(name)?.iter().map(index).collect::<Located<Vec<_>>>(),
        None => Ok(Vec::new()),
    };
    let (indexes, local_indexes) = (indexes("GlobalSecondaryIndexes")?, indexes("LocalSecondaryIndexes")?);
    let time_to_live = match scope.property(&properties, "TimeToLiveSpecification")? {
        Some(specification) if required_child(&specification, "Enabled")?.as_bool("Enabled")? => {
            Some(text(&specification, "AttributeName")?)
        }
        _ => None,
    };
    let key_schema = required(scope, &properties, "KeySchema")?;
    let table = Table {
        logical_id: logical_id.to_owned(),
        name: scope.physical_name(logical_id, resource, "TableName")?,
        key: key(&key_schema)?,
        attributes,
        indexes,
        local_indexes,
        time_to_live,
    };
    if let Some(index) = table.local_indexes.iter().find(|index| index.key.partition != table.key.partition) {
        return key_schema
            .refuse(format!("the local index `{}` has another HASH key than its table", index.name));
    }
    let keys = table.indexes.iter().chain(&table.local_indexes).map(|index| &index.key).chain([&table.key]);
    for name in keys.flat_map(|key| [Some(&key.partition), key.sort.as_ref()]).flatten() {
        if !table.attributes.contains_key(name) {
            return key_schema.refuse(format!("the key `{name}` is not in AttributeDefinitions"));
        }
    }
    Ok(table)
}

fn index(node: &Node) -> Located<Index> {
    check_keys(
        node,
        "an index",
        &[&["IndexName", "KeySchema", "Projection"], &["OnDemandThroughput", "WarmThroughput"]],
    )?;
    let projection = required_child(node, "Projection")?;
    Ok(Index {
        name: text(node, "IndexName")?,
        key: key(required_child(node, "KeySchema")?)?,
        projection: match text(projection, "ProjectionType")?.as_str() {
            "ALL" => Projection::All,
            "KEYS_ONLY" => Projection::KeysOnly,
            "INCLUDE" => Projection::Include(
                required_child(projection, "NonKeyAttributes")?
                    .items("NonKeyAttributes")?
                    .iter()
                    .map(|name| name.as_text("an attribute").map(str::to_owned))
                    .collect::<Located<_>>()?,
            ),
            other => {
                return projection
                    .refuse(format!("ProjectionType is ALL, KEYS_ONLY or INCLUDE, not `{other}`"));
            }
        },
    })
}

fn key(schema: &Node) -> Located<Key> {
    let mut partition = None;
    let mut sort = None;
    for element in schema.items("KeySchema")? {
        match text(element, "KeyType")?.as_str() {
            "HASH" => partition = Some(text(element, "AttributeName")?),
            "RANGE" => sort = Some(text(element, "AttributeName")?),
            other => return element.refuse(format!("KeyType is HASH or RANGE, not `{other}`")),
        }
    }
    match partition {
        Some(partition) => Ok(Key { partition, sort }),
        None => schema.refuse("KeySchema has no HASH key"),
    }
}

fn queue(scope: &Scope<'_>, logical_id: &str, resource: &Node) -> Located<Queue> {
    let properties = properties(resource);
    check_keys(
        &properties,
        logical_id,
        &[
            &["MessageRetentionPeriod", "QueueName", "RedrivePolicy", "VisibilityTimeout"],
            &[
                "KmsDataKeyReusePeriodSeconds",
                "KmsMasterKeyId",
                "ReceiveMessageWaitTimeSeconds",
                "RedriveAllowPolicy",
                "SqsManagedSseEnabled",
                "Tags",
            ],
        ],
    )?;
    let redrive = match scope.property(&properties, "RedrivePolicy")? {
        Some(policy) => Some((
            queue_of_arn(scope, required_child(&policy, "deadLetterTargetArn")?)?,
            required_child(&policy, "maxReceiveCount")?.parsed("maxReceiveCount", "a number")?,
        )),
        None => None,
    };
    Ok(Queue {
        logical_id: logical_id.to_owned(),
        name: scope.physical_name(logical_id, resource, "QueueName")?,
        visibility: seconds(scope, &properties, "VisibilityTimeout")?.unwrap_or(Duration::from_secs(30)),
        retention: seconds(scope, &properties, "MessageRetentionPeriod")?
            .unwrap_or(Duration::from_hours(4 * 24)),
        redrive,
    })
}

fn bucket(scope: &Scope<'_>, logical_id: &str, resource: &Node) -> Located<Bucket> {
    let properties = properties(resource);
    check_keys(
        &properties,
        logical_id,
        &[
            &["BucketName", "NotificationConfiguration"],
            // moto lets any web page upload and read, keeps no access lists, and ends with its process.
            &[
                "BucketEncryption",
                "CorsConfiguration",
                "LifecycleConfiguration",
                "OwnershipControls",
                "PublicAccessBlockConfiguration",
                "Tags",
            ],
        ],
    )?;
    let mut notifications = Vec::new();
    if let Some(configuration) = scope.property(&properties, "NotificationConfiguration")? {
        check_keys(&configuration, "NotificationConfiguration", &[&["QueueConfigurations"]])?;
        for queue in required_child(&configuration, "QueueConfigurations")?.items("QueueConfigurations")? {
            notifications.push(notification(scope, queue)?);
        }
    }
    let name = scope.bucket_name(logical_id, resource)?;
    Ok(Bucket { logical_id: logical_id.to_owned(), name, notifications, policy: None })
}

fn notification(scope: &Scope<'_>, node: &Node) -> Located<Notification> {
    check_keys(node, "a queue configuration", &[&["Event", "Filter", "Queue"]])?;
    let mut prefix = None;
    if let Some(filter) = node.get("Filter") {
        for rule in required_child(required_child(filter, "S3Key")?, "Rules")?.items("Rules")? {
            match text(rule, "Name")?.as_str() {
                "prefix" => prefix = Some(text(rule, "Value")?),
                other => return rule.refuse(format!("a filter's Name is prefix here, not `{other}`")),
            }
        }
    }
    Ok(Notification {
        event: text(node, "Event")?,
        queue: queue_of_arn(scope, required_child(node, "Queue")?)?,
        prefix,
    })
}

/// The logical id of the template's queue that has this ARN.
pub(super) fn queue_of_arn(scope: &Scope<'_>, arn: &Node) -> Located<String> {
    let wanted = arn.as_text("a queue's ARN")?;
    for (logical_id, resource) in scope.resources("AWS::SQS::Queue")? {
        if scope.deployment.queue_arn(&scope.physical_name(logical_id, resource, "QueueName")?) == wanted {
            return Ok(logical_id.to_owned());
        }
    }
    arn.refuse(format!("`{wanted}` is not the ARN of a queue of this template"))
}

/// A property that has no default.
pub(super) fn required(scope: &Scope<'_>, parent: &Node, name: &str) -> Located<Node> {
    match scope.property(parent, name)? {
        Some(node) => Ok(node),
        None => parent.refuse(format!("the property `{name}` is missing")),
    }
}

/// A duration in whole seconds.
pub(super) fn seconds(scope: &Scope<'_>, parent: &Node, name: &str) -> Located<Option<Duration>> {
    scope
        .property(parent, name)?
        .map(|node| node.parsed(name, "a number of seconds").map(Duration::from_secs))
        .transpose()
}

/// A part, without intrinsics, that has no default.
pub(super) fn required_child<'n>(parent: &'n Node, name: &str) -> Located<&'n Node> {
    match parent.get(name) {
        Some(node) => Ok(node),
        None => parent.refuse(format!("the property `{name}` is missing")),
    }
}

fn text(parent: &Node, name: &str) -> Located<String> {
    required_child(parent, name)?.as_text(name).map(str::to_owned)
}
