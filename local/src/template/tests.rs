use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    Deployment, Resolver, Template, TemplateError, Unprovisioned,
    model::{App, Event, Projection},
};

fn deployment(parameters: &[(&str, &str)]) -> Deployment {
    Deployment {
        stack_name: "tocsin-local".to_owned(),
        region: "eu-north-1".to_owned(),
        account: "123456789012".to_owned(),
        parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn app_with(text: &str, parameters: &[(&str, &str)]) -> Result<App, TemplateError> {
    Template::parse(Path::new("t.yaml"), text)?.app(&deployment(parameters), &Unprovisioned)
}

fn app(text: &str) -> App {
    app_with(text, &[]).unwrap()
}

#[track_caller]
fn assert_refused(text: &str, line: usize, part: &str) {
    let error = app_with(text, &[]).unwrap_err();
    assert_eq!(error.line, line, "{error}");
    assert!(error.message.contains(part), "{error}");
    assert!(error.to_string().starts_with(&format!("t.yaml:{line}: ")), "{error}");
}

const FUNCTION: &str = "\
Globals:
  Function:
    Timeout: 10
    Environment:
      Variables:
        STAGE: local
Resources:
  PutThingFunction:
    Type: AWS::Serverless::Function
    Metadata:
      BuildProperties:
        Binary: put-thing
    Properties:
      MemorySize: 256
      Environment:
        Variables:
          NAME: thing
";

fn with_event(event: &str) -> String {
    format!("{FUNCTION}      Events:\n        It:\n{event}")
}

#[test]
fn globals_are_merged_into_functions() {
    let app = app(FUNCTION);
    let function = &app.functions[0];
    assert_eq!(function.name, "put-thing");
    assert_eq!(function.timeout, Duration::from_secs(10));
    assert_eq!(function.memory_mib, 256);
    let environment = [("NAME", "thing"), ("STAGE", "local")];
    assert_eq!(function.environment, environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn a_route_is_read() {
    let app = app(&with_event(
        "          Type: HttpApi\n          Properties: {Method: put, Path: '/v1/things/{thing_id}'}\n",
    ));
    let [Event::Http(route)] = app.functions[0].events.as_slice() else { panic!("one route") };
    assert_eq!((route.method.as_str(), route.path.as_str()), ("PUT", "/v1/things/{thing_id}"));
}

const QUEUES: &str = "\
Parameters:
  Stage:
    Type: String
    Default: dev
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  NotProd: !Not [!Condition IsProd]
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: !If [IsProd, 60, 20]
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt Dead.Arn
        maxReceiveCount: 3
  Dead:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub \"${Stage}-dead\"
  Audit:
    Type: AWS::SQS::Queue
    Condition: IsProd
  Reader:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: reader}}
    Properties:
      Environment:
        Variables:
          QUEUE_URL: !Ref Dead
          NOTHING: !If [IsProd, x, !Ref AWS::NoValue]
          KEY: !Sub \"{{resolve:ssm:/tocsin/${Stage}/key}}\"
          LONG: {'Fn::Join': ['-', [a, {Ref: Stage}, !Select [1, !Split ['|', 'x|y']]]]}
      Events:
        Work:
          Type: SQS
          Properties:
            Queue: !GetAtt [Work, Arn]
            BatchSize: 7
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 5}
";

#[test]
fn queues_and_their_redrive_are_read() {
    let app = app(QUEUES);
    let names: Vec<_> = app.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["tocsin-local-Work", "dev-dead"]);
    assert_eq!(app.queues[0].redrive, Some(("Dead".to_owned(), 3)));
    assert_eq!(app.queues[0].visibility, Duration::from_secs(20));
    let [Event::Sqs(source)] = app.functions[0].events.as_slice() else { panic!("one source") };
    assert_eq!((source.queue.as_str(), source.batch_size, source.max_concurrency), ("Work", 7, Some(5)));
    assert!(source.reports_failures && source.enabled);
}

#[test]
fn intrinsics_are_evaluated() {
    let environment = &app(QUEUES).functions[0].environment;
    assert_eq!(environment["QUEUE_URL"], "dev-dead");
    assert_eq!(environment["KEY"], "/tocsin/dev/key");
    assert_eq!(environment["LONG"], "a-dev-y");
    assert!(!environment.contains_key("NOTHING"));
}

#[test]
fn a_parameter_is_overridden_and_conditions_follow() {
    let app = app_with(QUEUES, &[("Stage", "prod")]).unwrap();
    assert_eq!(app.queues.len(), 3);
    assert_eq!(app.queues[0].visibility, Duration::from_mins(1));
    assert_eq!(app.functions[0].environment["NOTHING"], "x");
}

#[test]
fn an_unknown_parameter_value_is_refused() {
    let error = app_with(QUEUES, &[("Stag", "prod")]).unwrap_err();
    assert!(error.message.contains("`Stag`; there are Stage"), "{error}");
}

#[test]
fn a_table_is_read() {
    let table = "\
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: things
      AttributeDefinitions:
        - {AttributeName: pk, AttributeType: S}
        - {AttributeName: sk, AttributeType: S}
        - {AttributeName: at, AttributeType: N}
      KeySchema: [{AttributeName: pk, KeyType: HASH}, {AttributeName: sk, KeyType: RANGE}]
      BillingMode: PAY_PER_REQUEST
      GlobalSecondaryIndexes:
        - IndexName: by-time
          KeySchema: [{AttributeName: sk, KeyType: HASH}, {AttributeName: at, KeyType: RANGE}]
          Projection: {ProjectionType: INCLUDE, NonKeyAttributes: [title]}
      LocalSecondaryIndexes:
        - IndexName: newest
          KeySchema: [{AttributeName: pk, KeyType: HASH}, {AttributeName: at, KeyType: RANGE}]
          Projection: {ProjectionType: ALL}
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
";
    // A local index is within the items of one partition key.
    assert_refused(
        &table.replace("pk, KeyType: HASH}, {AttributeName: at", "sk, KeyType: HASH}, {AttributeName: at"),
        10,
        "`newest`",
    );
    let app = app(table);
    let table = &app.tables[0];
    assert_eq!((table.name.as_str(), table.key.sort.as_deref()), ("things", Some("sk")));
    assert_eq!(table.time_to_live.as_deref(), Some("expires_at"));
    assert_eq!(table.indexes[0].key.sort.as_deref(), Some("at"));
    assert!(matches!(&table.indexes[0].projection, Projection::Include(names) if names == &["title"]));
    assert_eq!(table.local_indexes[0].name, "newest");
    assert_eq!(table.local_indexes[0].key.sort.as_deref(), Some("at"));
}

#[test]
fn a_bucket_is_read_with_whom_it_tells_and_who_reads() {
    let text = "\
Resources:
  Told:
    Type: AWS::SQS::Queue
  Images:
    Type: AWS::S3::Bucket
    Properties:
      PublicAccessBlockConfiguration: {BlockPublicPolicy: false}
      NotificationConfiguration:
        QueueConfigurations:
          - Event: s3:ObjectCreated:*
            Queue: !GetAtt Told.Arn
            Filter: {S3Key: {Rules: [{Name: prefix, Value: images/}]}}
  ImagesPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Images
      PolicyDocument:
        Statement: [{Effect: Allow, Principal: '*', Action: s3:GetObject, Resource: !Sub '${Images.Arn}/*'}]
";
    assert_refused(&text.replace("Name: prefix", "Name: suffix"), 12, "`suffix`");
    assert_refused(&text.replace("Told.Arn", "Images.Arn"), 11, "not the ARN of a queue");
    assert_refused(
        &text.replace("BlockPublicPolicy: false}", "}\n      VersioningConfiguration: {}"),
        8,
        "Versioning",
    );
    let app = app(text);
    let bucket = &app.buckets[0];
    assert_eq!((bucket.logical_id.as_str(), bucket.name.as_str()), ("Images", "tocsin-local-images"));
    let notification = &bucket.notifications[0];
    assert_eq!((notification.event.as_str(), notification.queue.as_str()), ("s3:ObjectCreated:*", "Told"));
    assert_eq!(notification.prefix.as_deref(), Some("images/"));
    let policy = bucket.policy.as_ref().unwrap();
    assert_eq!(policy["Statement"][0]["Resource"], "arn:aws:s3:::tocsin-local-images/*");
}

#[test]
fn a_kafka_source_is_read_with_its_defaults() {
    let kafka = |more: &str| {
        let app = app(&with_event(&format!(
            "          Type: MSK\n          Properties:\n            Stream: arn\n            Topics: [posts]\n            \
             ConsumerGroupId: g\n            StartingPosition: TRIM_HORIZON\n{more}"
        )));
        match app.functions[0].events.as_slice() {
            [Event::Kafka(source)] => source.clone(),
            other => panic!("{other:?}"),
        }
    };
    let plain = kafka("");
    assert_eq!((plain.batch_size, plain.window), (100, Duration::from_millis(500)));
    assert!(plain.from_start && plain.enabled && !plain.bisects && !plain.reports_failures);
    assert_eq!((plain.max_retries, plain.max_age, plain.on_failure), (None, None, None));
    let bounded = kafka("            MaximumRetryAttempts: 3\n            MaximumRecordAgeInSeconds: -1\n");
    assert_eq!((bounded.max_retries, bounded.max_age), (Some(3), None));
}

#[test]
fn a_schedule_is_read() {
    let app = app(&with_event(
        "          Type: Schedule\n          Properties: {Schedule: rate(5 minutes), Input: '{\"a\":1}'}\n",
    ));
    let [Event::Schedule(schedule)] = app.functions[0].events.as_slice() else { panic!("one schedule") };
    assert_eq!(schedule.every, Duration::from_mins(5));
    assert_eq!(schedule.input, Some(serde_json::json!({"a": 1})));
}

#[test]
fn an_unknown_resource_type_is_refused_with_its_line() {
    assert_refused("Resources:\n  X:\n    Type: AWS::Kinesis::Stream\n", 3, "`AWS::Kinesis::Stream`");
    assert_refused("Resources:\n  X:\n    Properties: {}\n", 3, "`none`");
}

#[test]
fn an_unknown_intrinsic_is_refused_with_its_line() {
    assert_refused("Outputs:\n  X:\n    Value: !ImportValue y\n", 3, "`ImportValue`");
    assert_refused("Outputs:\n  X:\n    Value:\n      Fn::Cidr: y\n", 4, "`Cidr`");
}

#[test]
fn an_unknown_event_is_refused_with_its_line() {
    assert_refused(&with_event("          Type: Kinesis\n"), 20, "`Kinesis`");
}

#[test]
fn an_unknown_property_is_refused_with_its_line() {
    let text = with_event("          Type: SQS\n          Properties:\n            FilterCriteria: {}\n");
    assert_refused(&text, 22, "`FilterCriteria`");
    assert_refused(&FUNCTION.replace("MemorySize", "Memory"), 14, "`Memory`");
    assert_refused(
        "Resources:\n  Q:\n    Type: AWS::SQS::Queue\n    Properties:\n      FifoQueue: true\n",
        5,
        "`FifoQueue`",
    );
}

#[test]
fn a_cron_expression_is_refused_with_its_line() {
    let text = with_event(
        "          Type: Schedule\n          Properties:\n            Schedule: cron(0 * * * ? *)\n",
    );
    assert_refused(&text, 22, "rate(");
}

#[test]
fn what_does_not_exist_is_refused_with_its_line() {
    assert_refused(&QUEUES.replace("!Ref Dead", "!Ref Absent"), 29, "`Absent`");
    assert_refused(&QUEUES.replace("!Ref Dead", "!Ref Audit"), 29, "condition is false");
    assert_refused(&QUEUES.replace("!Ref Dead", "!GetAtt Dead.Colour"), 29, "`Colour`");
    assert_refused(&QUEUES.replace("Condition: IsProd", "Condition: IsProd2"), 22, "`IsProd2`");
    assert_refused(
        &QUEUES.replace("!Condition IsProd", "!Condition NotProd").replace("IsProd\n", "NotProd\n"),
        7,
        "itself",
    );
}

#[test]
fn a_parameter_without_a_value_is_refused_with_its_line() {
    assert_refused(&QUEUES.replace("    Default: dev\n", ""), 3, "--parameter Stage=");
}

#[test]
fn a_dynamic_reference_without_a_value_is_refused_with_its_line() {
    struct Nothing;
    impl Resolver for Nothing {
        fn queue_url(&self, queue: &str) -> Option<String> {
            Some(queue.to_owned())
        }
        fn dynamic_reference(&self, _service: &str, _name: &str) -> Option<String> {
            None
        }
    }
    let template = Template::parse(Path::new("t.yaml"), QUEUES).unwrap();
    let error = template.app(&deployment(&[]), &Nothing).unwrap_err();
    assert_eq!(error.line, 31);
    assert!(error.message.contains("ssm:/tocsin/dev/key"), "{error}");
}

#[test]
fn bad_yaml_is_refused_with_its_line() {
    assert_refused("Resources:\n  a: [\n", 3, "");
    assert_refused("a: 1\nb: 2\na: 3\n", 3, "twice");
    assert_refused("a: &x 1\nb: *x\n", 2, "aliases");
    assert_refused("", 1, "empty");
}

/// The one that matters: everything in the repository's template is understood.
#[test]
fn the_template_is_understood() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
    let template = Template::read(&file).unwrap();
    let parameters: BTreeMap<_, _> = [
        ("Stage", "local"),
        ("KafkaClusterArn", "arn:aws:kafka:eu-north-1:123456789012:cluster/local/1"),
        ("KafkaClusterName", "local"),
        ("KafkaBootstrapServers", "127.0.0.1:9092"),
        ("KafkaAuth", "none"),
        ("MailFrom", "bell@tocsin.example"),
        ("MailIdentity", "tocsin.example"),
        ("AccessTokenIssuer", "http://127.0.0.1:9000"),
    ]
    .into();
    let parameters: Vec<_> = parameters.into_iter().collect();
    let app = template.app(&deployment(&parameters), &Unprovisioned).unwrap();
    assert!(app.tables.iter().any(|table| table.logical_id == "PostsTable"));
    assert!(app.functions.iter().any(|function| function.name == "create-post"));
    let sources = app.functions.iter().flat_map(|function| &function.events);
    let kafka =
        sources.filter(|event| matches!(event, Event::Kafka(source) if source.topic == "posts")).count();
    assert_eq!(kafka, 3);
    assert!(app.cors.is_some());
}
