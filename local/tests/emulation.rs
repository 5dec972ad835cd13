//! The Runtime API, the Invoke API and the HTTP API, with true processes of a true runtime (`examples/probe.rs`) behind
//! them: what a function and its callers see when all goes well, and when it does not.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{StatusCode, header};
use local::{
    api_client::http_client,
    http_api::{HttpApi, Routes, Server},
    metrics::Metrics,
    runtime::{Capacity, Fleet, FleetOptions, FunctionError, InvokeError, LogLevel, Logs, Program},
    template::model::{Cors, Function, Route},
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};

const NAME: &str = "probe";
/// Long enough for everything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cargo builds examples beside the tests.
fn probe() -> PathBuf {
    let tests = std::env::current_exe().expect("this test");
    let target = tests.ancestors().nth(2).expect("the target folder");
    let path = target.join("examples/probe");
    assert!(
        path.exists(),
        "{} is not built: run `cargo test -p local`, or build the examples",
        path.display()
    );
    path
}

fn function() -> Function {
    Function {
        logical_id: "Probe".to_owned(),
        name: NAME.to_owned(),
        environment: BTreeMap::from([("OWN".to_owned(), "1".to_owned())]),
        memory_mib: 256,
        timeout: Duration::from_secs(5),
        reserved_concurrency: None,
        async_invocations: local::template::model::AsyncInvocations::default(),
        events: Vec::new(),
    }
}

struct Fixture {
    fleet: Fleet,
    metrics: Metrics,
    logs: Logs,
}

fn start(function: Function) -> Fixture {
    start_with(function, FleetOptions::default())
}

fn start_with(function: Function, options: FleetOptions) -> Fixture {
    let (metrics, logs) = (Metrics::default(), Logs::to(LogLevel::Quiet, |_, _| {}));
    let extra = BTreeMap::from([("EXTRA".to_owned(), "2".to_owned())]);
    let fleet = Fleet::new([(function, Program::from(probe()))], extra, options, &logs, &metrics);
    Fixture { fleet, metrics, logs }
}

impl Fixture {
    async fn invoke(&self, event: Value) -> Result<Value, InvokeError> {
        let invocation = self.fleet.invoke(NAME, event.to_string().into(), Capacity::Wait);
        let invocation = timeout(PATIENCE, invocation).await.expect("an end")?;
        Ok(serde_json::from_slice(&invocation.payload).expect("JSON"))
    }

    async fn process(&self) -> u64 {
        self.invoke(json!({})).await.expect("success")["process"].as_u64().expect("a number")
    }

    async fn error(&self, event: Value) -> FunctionError {
        match self.invoke(event).await {
            Err(InvokeError::Function(error)) => error,
            other => panic!("{other:?} is no error of the function"),
        }
    }

    /// Starts an invocation that takes `ms`, and returns once a process has it.
    async fn occupy(
        &self,
        ms: u64,
    ) -> tokio::task::JoinHandle<Result<local::runtime::Invocation, InvokeError>> {
        let started = || self.metrics.function(NAME).initialisations.count();
        let (fleet, before) = (self.fleet.clone(), started());
        let event = json!({"do": "sleep", "ms": ms}).to_string();
        let running = tokio::spawn(async move { fleet.invoke(NAME, event.into(), Capacity::Wait).await });
        // It gets the event when it asks for its first one.
        until(|| started() > before).await;
        sleep(Duration::from_millis(50)).await;
        running
    }
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let end = async {
        while !so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, end).await.expect("it comes to be so");
}

fn kill(process: u64) {
    let status =
        std::process::Command::new("kill").args(["-9", &process.to_string()]).status().expect("kill");
    assert!(status.success());
}

fn runs(process: u64) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

#[tokio::test]
async fn an_event_reaches_the_function_and_its_answer_comes_back() {
    let fixture = start(function());
    let answer = fixture.invoke(json!({"a": "ä"})).await.expect("success");
    assert_eq!(answer["event"], json!({"a": "ä"}));
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:000000000000:function:probe");
    assert_eq!(answer["request_id"].as_str().map(str::len), Some(36));
    let deadline = answer["deadline"].as_i64().expect("a number");
    let left = deadline - jiff::Timestamp::now().as_millisecond();
    assert!((2_000..=5_000).contains(&left), "{left} ms are left of 5 s");

    // The same process has the next one, and has been counted as one cold start.
    assert_eq!(fixture.process().await, answer["process"].as_u64().expect("a number"));
    let snapshot = fixture.metrics.snapshot();
    let probe = &snapshot.functions[NAME];
    assert_eq!((probe.invocations, probe.errors, probe.cold_starts), (2, 0, 1));
    assert!(probe.cold_start_p50_ms > Some(0.0) && probe.p99_ms > Some(0.0));
    assert!(cfg!(not(target_os = "linux")) || probe.peak_memory_bytes > 1_000_000);
}

#[tokio::test]
async fn the_environment_is_that_of_aws_and_of_nobody_else() {
    let fixture = start(function());
    let environment = fixture.invoke(json!({"do": "environment"})).await.expect("success");
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "probe"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/probe"),
        ("AWS_REGION", "us-east-1"),
        ("TZ", ":UTC"),
        ("OWN", "1"),
        ("EXTRA", "2"),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert!(environment.get("CARGO_MANIFEST_DIR").is_none(), "the environment of this machine is its own");
    let root = environment["LAMBDA_TASK_ROOT"].as_str().expect("text");
    assert!(Path::new(root).is_dir());
}

#[tokio::test]
async fn a_functions_own_error_is_handed_on_and_ends_no_process() {
    let fixture = start(function());
    let process = fixture.process().await;
    let error = fixture.error(json!({"do": "fail"})).await;
    assert_eq!(error.message, "as asked");
    assert!(!error.error_type.is_empty());
    let document: Value = serde_json::from_slice(&error.payload).expect("JSON");
    assert_eq!(document["errorMessage"], "as asked");
    // A panic unwinds, and is an error like any other.
    let error = fixture.error(json!({"do": "panic"})).await;
    assert!(error.message.contains("as asked"), "{error}");
    assert_eq!(fixture.process().await, process);
    assert_eq!(fixture.metrics.snapshot().functions[NAME].errors, 2);
}

#[tokio::test]
async fn a_crash_is_an_error_and_the_next_event_finds_a_new_process() {
    let fixture = start(function());
    let process = fixture.process().await;
    let error = fixture.error(json!({"do": "crash"})).await;
    assert_eq!(error.error_type, "Runtime.ExitError");
    let expected = format!("RequestId: {} Error: Runtime exited with error: exit status 1", error.request_id);
    assert_eq!(error.message, expected);
    let error = fixture.error(json!({"do": "abort"})).await;
    assert!(error.message.ends_with("signal: aborted"), "{error}");
    assert_ne!(fixture.process().await, process);
    assert_eq!(fixture.metrics.snapshot().functions[NAME].crashes, 2);
    assert!(fixture.logs.tail(NAME).iter().any(|line| line.contains("process ended")), "a death is reported");
}

#[tokio::test]
async fn a_process_that_takes_too_long_is_killed() {
    let fixture = start(Function { timeout: Duration::from_millis(300), ..function() });
    let process = fixture.process().await;
    let began = Instant::now();
    let error = fixture.error(json!({"do": "sleep", "ms": 10_000})).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(error.error_type, "Sandbox.Timedout");
    assert_eq!(
        error.message,
        format!("RequestId: {} Error: Task timed out after 0.30 seconds", error.request_id)
    );
    assert_ne!(fixture.process().await, process);
    until(|| !runs(process)).await;
}

#[tokio::test]
async fn a_process_that_is_killed_while_idle_is_nobodys_error() {
    let fixture = start(function());
    let first = fixture.process().await;
    kill(first);
    until(|| fixture.fleet.process_ids(NAME).is_empty()).await;
    assert_ne!(fixture.process().await, first);
    assert_eq!(fixture.metrics.snapshot().functions[NAME].errors, 0);
}

#[tokio::test]
async fn a_process_that_is_killed_at_work_is_an_error() {
    let fixture = start(function());
    let running = fixture.occupy(10_000).await;
    kill(u64::from(fixture.fleet.process_ids(NAME)[0]));
    let error = timeout(PATIENCE, running).await.expect("an end").expect("no panic").expect_err("no answer");
    assert!(error.to_string().contains("signal: killed"), "{error}");
    fixture.process().await;
}

#[tokio::test]
async fn a_process_that_does_not_start_is_an_error() {
    let broken = |how: &str| {
        let environment = BTreeMap::from([("PROBE_START".to_owned(), how.to_owned())]);
        Function { environment, ..function() }
    };
    let error = start(broken("crash")).error(json!({})).await;
    assert!(error.message.ends_with("Runtime exited with error: exit status 3"), "{error}");
    let options = FleetOptions { initialisation: Duration::from_millis(200), ..FleetOptions::default() };
    let error = start_with(broken("stall"), options).error(json!({})).await;
    assert_eq!(error.error_type, "Sandbox.Timedout");

    let missing = Program::from(PathBuf::from("/nowhere/probe"));
    let (logs, metrics) = (Logs::quiet(), Metrics::default());
    let fleet =
        Fleet::new([(function(), missing)], BTreeMap::new(), FleetOptions::default(), &logs, &metrics);
    let error = fleet.invoke(NAME, Bytes::new(), Capacity::Wait).await.expect_err("nothing to start");
    assert!(matches!(error, InvokeError::Start { .. }), "{error}");
    let error = fleet.invoke("other", Bytes::new(), Capacity::Wait).await.expect_err("no function");
    assert!(matches!(error, InvokeError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn concurrency_is_a_process_each_up_to_the_reserved() {
    let fixture = start(Function { reserved_concurrency: Some(2), ..function() });
    let first = fixture.occupy(1_500).await;
    let second = fixture.occupy(1_500).await;
    let refused = fixture.fleet.invoke(NAME, Bytes::from_static(b"{}"), Capacity::Refuse).await;
    assert!(matches!(refused, Err(InvokeError::Throttled(_))));
    // Whoever may wait gets the first process that is free.
    fixture.process().await;
    for running in [first, second] {
        running.await.expect("no panic").expect("success");
    }
    let probe = &fixture.metrics.snapshot().functions[NAME];
    assert_eq!((probe.cold_starts, probe.throttles), (2, 1));
}

#[tokio::test]
async fn an_answer_or_an_event_that_is_too_large_is_refused() {
    let fixture = start(function());
    let error = fixture.error(json!({"do": "grow", "bytes": 6_300_000})).await;
    assert_eq!(error.error_type, "Function.ResponseSizeTooLarge");
    fixture.invoke(json!({"do": "grow", "bytes": 6_200_000})).await.expect("success");
    let event = json!("x".repeat(6_300_000)).to_string();
    let error = fixture.fleet.invoke(NAME, event.into(), Capacity::Wait).await.expect_err("too large");
    assert!(matches!(error, InvokeError::TooLarge(_)));
}

#[tokio::test]
async fn a_function_goes_on_when_its_caller_does_not() {
    let fixture = start(function());
    let process = fixture.process().await;
    let event = json!({"do": "sleep", "ms": 500}).to_string();
    let call = fixture.fleet.invoke(NAME, event.into(), Capacity::Wait);
    assert!(timeout(Duration::from_millis(50), call).await.is_err());
    until(|| fixture.metrics.function(NAME).durations.count() == 2).await;
    // It is idle a moment after it is counted.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(fixture.process().await, process);
    assert_eq!(fixture.metrics.snapshot().functions[NAME].errors, 0);
}

#[tokio::test]
async fn a_shutdown_lets_events_in_hand_end_and_leaves_no_process() {
    let fixture = start(function());
    let running = fixture.occupy(300).await;
    let processes = fixture.fleet.process_ids(NAME);
    fixture.fleet.shutdown(PATIENCE).await;
    running.await.expect("no panic").expect("success");
    assert!(processes.iter().all(|process| !runs(u64::from(*process))));
    assert!(matches!(fixture.invoke(json!({})).await, Err(InvokeError::Closed)));
}

// The HTTP API.

async fn serve(fixture: &Fixture, cors: Option<Cors>) -> (Server, Client, String) {
    let route = |method: &str, path: &str| Route { method: method.to_owned(), path: path.to_owned() };
    let routes = [route("POST", "/probe"), route("GET", "/things/{id}")];
    let api = HttpApi {
        routes: Routes::new(routes.iter().map(|route| (route, NAME))).expect("no conflict"),
        cors,
        fleet: fixture.fleet.clone(),
        local: vec![(
            "/_local/".to_owned(),
            Arc::new(|request| Box::pin(async move { http::Response::new(request.into_body().into()) })),
        )],
    };
    let server = api.serve(TcpListener::bind("127.0.0.1:0").await.expect("a port")).expect("an address");
    let base = format!("http://{}", server.address());
    (server, http_client(), base)
}

/// The probe gets an HTTP event, and no wish of ours: it echoes the event as the body of a 200.
#[tokio::test]
async fn requests_are_routed_to_functions_as_events() {
    let fixture = start(function());
    let (_server, client, base) = serve(&fixture, None).await;
    let answer = client
        .get(format!("{base}/things/a%20b?q=1"))
        .header("Cookie", "a=1")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().contains_key("apigw-requestid"));
    let event = answer.json::<Value>().await.expect("JSON")["event"].take();
    assert_eq!(event["pathParameters"], json!({"id": "a b"}));
    assert_eq!(event["routeKey"], "GET /things/{id}");
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");

    for (method, path) in [
        (Method::GET, "/probe"),
        (Method::GET, "/"),
        (Method::HEAD, "/things/1"),
        (Method::OPTIONS, "/probe"),
    ] {
        let answer = client.request(method.clone(), format!("{base}{path}")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        let body = answer.text().await.expect("text");
        assert!(method == Method::HEAD || body == r#"{"message":"Not Found"}"#, "{body}");
    }
    let local = client.post(format!("{base}/_local/echo")).body("as it is").send().await.expect("an answer");
    assert_eq!(local.text().await.expect("text"), "as it is");
}

#[tokio::test]
async fn the_gateway_answers_for_functions_that_fail_or_have_no_process() {
    let crashing = BTreeMap::from([("PROBE_START".to_owned(), "crash".to_owned())]);
    let fixture = start(Function { environment: crashing, ..function() });
    let (_server, client, base) = serve(&fixture, None).await;
    let answer = client.post(format!("{base}/probe")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.text().await.expect("text"), r#"{"message":"Internal Server Error"}"#);

    let fixture = start(Function { reserved_concurrency: Some(1), ..function() });
    let (_server, client, base) = serve(&fixture, None).await;
    let running = fixture.occupy(1_000).await;
    let answer = client.post(format!("{base}/probe")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.text().await.expect("text"), r#"{"message":"Service Unavailable"}"#);
    running.await.expect("no panic").expect("success");

    for bytes in [10 * 1024 * 1024 + 1, 7_000_000] {
        let answer =
            client.post(format!("{base}/probe")).body(vec![b'x'; bytes]).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{bytes}");
    }
}

#[tokio::test]
async fn the_gateway_answers_preflights_itself() {
    let fixture = start(function());
    let cors = Cors {
        origins: vec!["https://town.example".to_owned()],
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        headers: vec!["authorization".to_owned()],
        expose: vec!["etag".to_owned()],
        max_age: Some(600),
    };
    let (_server, client, base) = serve(&fixture, Some(cors)).await;
    let preflight = |origin: &'static str| {
        let request = client.request(Method::OPTIONS, format!("{base}/probe"));
        request.header("Origin", origin).header("Access-Control-Request-Method", "POST").send()
    };
    let answer = preflight("https://town.example").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://town.example");
    assert_eq!(answer.headers()["access-control-allow-methods"], "GET,POST");
    assert_eq!(answer.headers()["access-control-max-age"], "600");
    let answer = preflight("https://other.example").await.expect("an answer");
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(fixture.metrics.snapshot().functions[NAME].invocations, 0);

    let request = client.get(format!("{base}/things/1")).header("Origin", "https://town.example");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://town.example");
    assert_eq!(answer.headers()["access-control-expose-headers"], "etag");
}

#[tokio::test]
async fn the_invoke_api_is_there_for_cargo_lambda() {
    let fixture = start(function());
    let (_server, client, base) = serve(&fixture, None).await;
    let invoke = |name: &str, event: Value| {
        client.post(format!("{base}/2015-03-31/functions/{name}/invocations")).body(event.to_string()).send()
    };
    let answer = invoke(NAME, json!({"do": "answer", "with": {"a": 1}})).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-amz-executed-version"], "$LATEST");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({"a": 1}));
    let answer = invoke(NAME, json!({"do": "fail"})).await.expect("an answer");
    assert_eq!(answer.headers()["x-amz-function-error"], "Unhandled");
    assert_eq!(answer.json::<Value>().await.expect("JSON")["errorMessage"], "as asked");
    let answer = invoke("nobody", json!({})).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["x-amzn-errortype"], "ResourceNotFoundException");
}
