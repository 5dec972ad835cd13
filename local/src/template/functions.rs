//! The functions and what invokes them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Located,
    intrinsics::{Scope, type_of},
    model::{AsyncInvocations, Event, Function, KafkaSource, Route, Schedule, SqsSource},
    resources::{check_keys, properties, queue_of_arn, required, required_child, seconds},
    yaml::{Node, Value},
};

/// What is read of a function's properties.
const READ: [&str; 6] =
    ["Environment", "EventInvokeConfig", "Events", "MemorySize", "ReservedConcurrentExecutions", "Timeout"];

/// What builds, permits, connects or observes a function in the cloud.
const WITHOUT_EFFECT: [&str; 16] = [
    "Architectures",
    "CodeUri",
    "DeadLetterQueue",
    "Description",
    "EphemeralStorage",
    "FunctionName",
    "Handler",
    "LoggingConfig",
    "PackageType",
    "Policies",
    "RecursiveLoop",
    "Role",
    "Runtime",
    "Tags",
    "Tracing",
    "VpcConfig",
];

/// What every event source has and that means nothing here.
const POLLING: [&str; 4] = ["KmsKeyArn", "MetricsConfig", "ProvisionedPollerConfig", "Tags"];

pub(super) fn read(scope: &Scope<'_>) -> Located<Vec<Function>> {
    let globals = scope.root.get("Globals");
    if let Some(globals) = globals {
        check_keys(globals, "Globals", &[&["Function"]])?;
    }
    let globals = globals.and_then(|globals| globals.get("Function"));
    let functions = scope.resources("AWS::Serverless::Function")?;
    functions
        .into_iter()
        .map(|(logical_id, resource)| function(scope, globals, logical_id, resource))
        .collect()
}

fn function(
    scope: &Scope<'_>,
    globals: Option<&Node>,
    logical_id: &str,
    resource: &Node,
) -> Located<Function> {
    let own = properties(resource);
    let properties = globals.map_or_else(|| own.clone(), |globals| merged(globals, &own));
    check_keys(&properties, logical_id, &[&READ, &WITHOUT_EFFECT])?;
    let binary = resource
        .get("Metadata")
        .and_then(|metadata| metadata.get("BuildProperties"))
        .and_then(|properties| properties.get("Binary"));
    let Some(binary) = binary else {
        return resource
            .refuse(format!("the function `{logical_id}` has no Metadata.BuildProperties.Binary"));
    };
    let events = match properties.get("Events") {
        Some(events) => events
            .entries("Events")?
            .iter()
            .map(|(name, node)| event(scope, name, node))
            .collect::<Located<_>>()?,
        None => Vec::new(),
    };
    let memory = scope.property(&properties, "MemorySize")?;
    let reserved = scope.property(&properties, "ReservedConcurrentExecutions")?;
    Ok(Function {
        logical_id: logical_id.to_owned(),
        name: binary.as_text("Binary")?.to_owned(),
        environment: environment(scope, &properties)?,
        memory_mib: memory.map_or(Ok(128), |node| node.parsed("MemorySize", "a number of MiB"))?,
        timeout: seconds(scope, &properties, "Timeout")?.unwrap_or(Duration::from_secs(3)),
        reserved_concurrency: reserved
            .map(|node| node.parsed("ReservedConcurrentExecutions", "a number"))
            .transpose()?,
        async_invocations: async_invocations(scope, &properties)?,
        events,
    })
}

/// A function's properties over those of the globals, as SAM merges them: mappings key by key, lists one after the
/// other, and of anything else the function's own.
fn merged(globals: &Node, own: &Node) -> Node {
    if own.intrinsic.is_some() || globals.intrinsic.is_some() {
        return own.clone();
    }
    let value = match (&globals.value, &own.value) {
        (Value::Map(defaults), Value::Map(entries)) => {
            let mut all: Vec<(String, Node)> = entries
                .iter()
                .map(|(key, value)| {
                    let value =
                        globals.get(key).map_or_else(|| value.clone(), |default| merged(default, value));
                    (key.clone(), value)
                })
                .collect();
            all.extend(defaults.iter().filter(|(key, _)| own.get(key).is_none()).cloned());
            Value::Map(all)
        }
        (Value::List(defaults), Value::List(items)) => {
            Value::List(defaults.iter().chain(items).cloned().collect())
        }
        _ => own.value.clone(),
    };
    Node { line: own.line, intrinsic: None, value }
}

fn environment(scope: &Scope<'_>, properties: &Node) -> Located<BTreeMap<String, String>> {
    let Some(variables) = properties.get("Environment").and_then(|node| node.get("Variables")) else {
        return Ok(BTreeMap::new());
    };
    let mut environment = BTreeMap::new();
    for (name, node) in variables.entries("Variables")? {
        if let Some(value) = scope.evaluate(node)? {
            environment.insert(name.clone(), value.as_text(name)?.to_owned());
        }
    }
    Ok(environment)
}

fn async_invocations(scope: &Scope<'_>, properties: &Node) -> Located<AsyncInvocations> {
    let mut invocations = AsyncInvocations::default();
    if let Some(config) = properties.get("EventInvokeConfig") {
        check_keys(config, "EventInvokeConfig", &[&["MaximumEventAgeInSeconds", "MaximumRetryAttempts"]])?;
        if let Some(age) = seconds(scope, config, "MaximumEventAgeInSeconds")? {
            invocations.max_age = age;
        }
        if let Some(retries) = scope.property(config, "MaximumRetryAttempts")? {
            invocations.max_retries = retries.parsed("MaximumRetryAttempts", "0, 1 or 2")?;
        }
    }
    Ok(invocations)
}

fn event(scope: &Scope<'_>, name: &str, node: &Node) -> Located<Event> {
    let properties = properties(node);
    match type_of(node) {
        Some("HttpApi") => route(scope, &properties).map(Event::Http),
        Some("MSK" | "SelfManagedKafka") => kafka(scope, &properties).map(Event::Kafka),
        Some("SQS") => sqs(scope, &properties).map(Event::Sqs),
        Some("Schedule") => schedule(scope, name, &properties, "Schedule").map(Event::Schedule),
        Some("ScheduleV2") => schedule(scope, name, &properties, "ScheduleExpression").map(Event::Schedule),
        other => node.get("Type").unwrap_or(node).refuse(format!(
            "the event `{name}` is of type `{}`, which is not known here; expected HttpApi, MSK, SelfManagedKafka, \
             SQS, Schedule or ScheduleV2",
            other.unwrap_or("none")
        )),
    }
}

fn route(scope: &Scope<'_>, properties: &Node) -> Located<Route> {
    check_keys(properties, "an HttpApi event", &[&["Method", "Path"], &["ApiId", "TimeoutInMillis"]])?;
    let path = required(scope, properties, "Path")?;
    let path_text = path.as_text("Path")?;
    if !path_text.starts_with('/') {
        return path.refuse(format!("the path `{path_text}` does not begin with /"));
    }
    let method = required(scope, properties, "Method")?;
    let method_text = method.as_text("Method")?.to_ascii_uppercase();
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method_text.as_str()) {
        return method.refuse(format!("the method `{method_text}` is not known here"));
    }
    Ok(Route { method: method_text, path: path_text.to_owned() })
}

fn kafka(scope: &Scope<'_>, properties: &Node) -> Located<KafkaSource> {
    check_keys(
        properties,
        "a Kafka event",
        &[
            &[
                "BatchSize",
                "BisectBatchOnFunctionError",
                "ConsumerGroupId",
                "DestinationConfig",
                "Enabled",
                "FunctionResponseTypes",
                "MaximumBatchingWindowInSeconds",
                "MaximumRecordAgeInSeconds",
                "MaximumRetryAttempts",
                "StartingPosition",
                "Topics",
            ],
            &["KafkaBootstrapServers", "SourceAccessConfigurations", "Stream"],
            &POLLING,
        ],
    )?;
    let topics = required(scope, properties, "Topics")?;
    let topic = match topics.items("Topics")? {
        [topic] => topic.as_text("a topic")?.to_owned(),
        _ => return topics.refuse("Topics: Lambda reads exactly one topic"),
    };
    // Without it AWS invents a group, and a source that is made again reads everything again.
    let group = required(scope, properties, "ConsumerGroupId")?;
    let position = required(scope, properties, "StartingPosition")?;
    let from_start = match position.as_text("StartingPosition")? {
        "TRIM_HORIZON" => true,
        "LATEST" => false,
        other => {
            return position.refuse(format!("StartingPosition is TRIM_HORIZON or LATEST, not `{other}`"));
        }
    };
    let on_failure = match scope.property(properties, "DestinationConfig")? {
        Some(config) => {
            let target = required_child(&config, "OnFailure")?;
            check_keys(target, "OnFailure", &[&["Destination", "Type"]])?;
            Some(queue_of_arn(scope, required_child(target, "Destination")?)?)
        }
        None => None,
    };
    Ok(KafkaSource {
        topic,
        group: group.as_text("ConsumerGroupId")?.to_owned(),
        batch_size: batch_size(scope, properties, 100)?,
        window: seconds(scope, properties, "MaximumBatchingWindowInSeconds")?
            .unwrap_or(Duration::from_millis(500)),
        from_start,
        reports_failures: reports_failures(scope, properties)?,
        bisects: flag(scope, properties, "BisectBatchOnFunctionError", false)?,
        max_retries: without_end(scope, properties, "MaximumRetryAttempts")?,
        max_age: without_end(scope, properties, "MaximumRecordAgeInSeconds")?
            .map(|age| Duration::from_secs(u64::from(age))),
        on_failure,
        enabled: flag(scope, properties, "Enabled", true)?,
    })
}

fn sqs(scope: &Scope<'_>, properties: &Node) -> Located<SqsSource> {
    check_keys(
        properties,
        "an SQS event",
        &[
            &[
                "BatchSize",
                "Enabled",
                "FunctionResponseTypes",
                "MaximumBatchingWindowInSeconds",
                "Queue",
                "ScalingConfig",
            ],
            &POLLING,
        ],
    )?;
    let scaling = scope.property(properties, "ScalingConfig")?;
    let max_concurrency = scaling
        .as_ref()
        .and_then(|config| config.get("MaximumConcurrency"))
        .map(|node| node.parsed("MaximumConcurrency", "a number"))
        .transpose()?;
    Ok(SqsSource {
        queue: queue_of_arn(scope, &required(scope, properties, "Queue")?)?,
        batch_size: batch_size(scope, properties, 10)?,
        window: seconds(scope, properties, "MaximumBatchingWindowInSeconds")?.unwrap_or(Duration::ZERO),
        reports_failures: reports_failures(scope, properties)?,
        max_concurrency,
        enabled: flag(scope, properties, "Enabled", true)?,
    })
}

fn schedule(scope: &Scope<'_>, name: &str, properties: &Node, expression: &str) -> Located<Schedule> {
    check_keys(
        properties,
        "a schedule",
        &[&[expression, "Enabled", "Input", "State"], &["Description", "GroupName", "Name", "RoleArn"]],
    )?;
    let rate = required(scope, properties, expression)?;
    let text = rate.as_text(expression)?;
    let Some(every) = parse_rate(text) else {
        return rate.refuse(format!(
            "`{text}` is not known here; expected rate(<number> minutes), hours or days (cron expressions are not run)"
        ));
    };
    let input = match scope.property(properties, "Input")? {
        Some(node) => match serde_json::from_str(node.as_text("Input")?) {
            Ok(value) => Some(value),
            Err(error) => return node.refuse(format!("Input is not JSON: {error}")),
        },
        None => None,
    };
    let state = scope.property(properties, "State")?;
    let switched_on = state.map_or(Ok(true), |node| node.as_text("State").map(|state| state == "ENABLED"))?;
    Ok(Schedule {
        name: name.to_owned(),
        every,
        input,
        enabled: switched_on && flag(scope, properties, "Enabled", true)?,
    })
}

/// `rate(1 minute)`, `rate(12 hours)`.
fn parse_rate(text: &str) -> Option<Duration> {
    let (number, unit) = text.strip_prefix("rate(")?.strip_suffix(')')?.split_once(' ')?;
    let seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 24 * 3600,
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(number * seconds))
}

fn batch_size(scope: &Scope<'_>, properties: &Node, default: usize) -> Located<usize> {
    match scope.property(properties, "BatchSize")? {
        Some(node) => match node.parsed("BatchSize", "1 to 10000")? {
            size @ 1..=10_000 => Ok(size),
            other => node.refuse(format!("BatchSize is 1 to 10000, not {other}")),
        },
        None => Ok(default),
    }
}

fn reports_failures(scope: &Scope<'_>, properties: &Node) -> Located<bool> {
    let Some(types) = properties.get("FunctionResponseTypes") else { return Ok(false) };
    for known in scope.texts(types, "FunctionResponseTypes")? {
        if known != "ReportBatchItemFailures" {
            return types.refuse(format!("FunctionResponseTypes is ReportBatchItemFailures, not `{known}`"));
        }
    }
    Ok(true)
}

fn flag(scope: &Scope<'_>, properties: &Node, name: &str, default: bool) -> Located<bool> {
    scope.property(properties, name)?.map_or(Ok(default), |node| node.as_bool(name))
}

/// A limit, for which -1, AWS's default, is none.
fn without_end(scope: &Scope<'_>, properties: &Node, name: &str) -> Located<Option<u32>> {
    match scope.property(properties, name)? {
        Some(node) if node.as_text(name) == Ok("-1") => Ok(None),
        Some(node) => node.parsed(name, "a number, or -1 for no limit").map(Some),
        None => Ok(None),
    }
}
