//! How a function starts, and what it serves: its ports are made from its settings, once, and its handler is given them
//! with each invocation.
//!
//! One thread does all: a function serves one invocation at a time, most of which is waiting, and a second thread costs
//! start-up time and memory.

use std::{
    env,
    hash::Hash,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use futures::{FutureExt as _, future::join};
use lambda_runtime::{Context, Diagnostic, LambdaEvent, Runtime, service_fn};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tocsin_domain::{Error, Result, post_log::PostChange};
use tracing::Instrument as _;

use crate::{
    batch::{self, KafkaBatchResponse, KafkaEvent},
    deadline::Deadline,
    logs, problem,
    request::{HttpEvent, Request},
    response::Response,
    settings::{self, Setting},
};

/// Serves requests of the HTTP API.
pub fn http<P: Setting>(handle: impl AsyncFn(&P, &Request) -> Result<Response>) -> ExitCode {
    run(&async move |ports: &P, event: HttpEvent, context: &Context| {
        let request = Request::new(event, &context.request_id);
        Ok(answer(ports, &handle, &request, context).instrument(logs::invocation(request.id())).await)
    })
}

async fn answer<P>(
    ports: &P,
    handle: &impl AsyncFn(&P, &Request) -> Result<Response>,
    request: &Request,
    context: &Context,
) -> Response {
    let work = AssertUnwindSafe(handle(ports, request)).catch_unwind();
    match Deadline::of(context).keep(work).await {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(error))) | Err(error) => problem::response(&error, request.id()),
        // The panic's hook has logged it.
        Ok(Err(_)) => problem::internal(request.id()),
    }
}

/// Consumes the log: the handler is given the changes of a batch, and answers for each in turn.
pub fn changes<P: Setting>(handle: impl AsyncFn(&P, &[PostChange]) -> Vec<Result<()>>) -> ExitCode {
    run(&async move |ports: &P, event: KafkaEvent, context: &Context| -> Result<KafkaBatchResponse> {
        let work = batch::changes(event, Deadline::of(context), async |changes: &[PostChange]| {
            handle(ports, changes).await
        });
        Ok(work.instrument(logs::invocation(&context.request_id)).await)
    })
}

/// Consumes a queue: the handler is given one message at a time, several at once.
pub fn messages<P: Setting, T: DeserializeOwned>(handle: impl AsyncFn(&P, T) -> Result<()>) -> ExitCode {
    messages_of(async move |ports: &P, message: T, _: &str| handle(ports, message).await)
}

/// Consumes several queues: the handler is given one message at a time, with its queue's ARN, several at once.
pub fn messages_of<P: Setting, T: DeserializeOwned>(
    handle: impl AsyncFn(&P, T, &str) -> Result<()>,
) -> ExitCode {
    run(&async move |ports: &P, event: SqsEvent, context: &Context| -> Result<SqsBatchResponse> {
        let work = batch::messages(event, Deadline::of(context), async |message: T, queue: &str| {
            handle(ports, message, queue).await
        });
        Ok(work.instrument(logs::invocation(&context.request_id)).await)
    })
}

/// Consumes a queue of which a batch has many messages, several with the same job: the handler is given each job once, several
/// at once.
pub fn jobs<P: Setting, T: DeserializeOwned + Eq + Hash>(
    handle: impl AsyncFn(&P, T) -> Result<()>,
) -> ExitCode {
    run(&async move |ports: &P, event: SqsEvent, context: &Context| -> Result<SqsBatchResponse> {
        let work = batch::jobs(event, Deadline::of(context), async |job: T| handle(ports, job).await);
        Ok(work.instrument(logs::invocation(&context.request_id)).await)
    })
}

/// Does something on a schedule.
pub fn schedule<P: Setting>(handle: impl AsyncFn(&P) -> Result<()>) -> ExitCode {
    run(&async move |ports: &P, _: IgnoredAny, context: &Context| {
        handle(ports).instrument(logs::invocation(&context.request_id)).await
    })
}

/// Why a function ended.
#[derive(Debug)]
struct Ended(String);

fn run<P, E, R>(handle: &impl AsyncFn(&P, E, &Context) -> Result<R>) -> ExitCode
where
    P: Setting,
    E: for<'de> Deserialize<'de>,
    R: Serialize,
{
    logs::begin();
    // One line of JSON, instead of several of text.
    panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
    match serve(handle) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended(reason)) => {
            tracing::error!(function = logs::function_name(), reason, "the function ends");
            ExitCode::FAILURE
        }
    }
}

fn serve<P, E, R>(handle: &impl AsyncFn(&P, E, &Context) -> Result<R>) -> Result<(), Ended>
where
    P: Setting,
    E: for<'de> Deserialize<'de>,
    R: Serialize,
{
    // `lambda_runtime` panics without it.
    if env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        let reason =
            "this is a Lambda function: run it with `cargo run -p local`, or with `cargo lambda watch`";
        return Err(Ended(reason.to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Ended(error.to_string()))?;
    runtime.block_on(async {
        let (ports, ahead) =
            settings::read::<P>().map_err(|error| Ended(format!("cannot start: {error}")))?;
        let ports = &ports;
        let service = service_fn(move |event: LambdaEvent<E>| async move {
            let LambdaEvent { payload, context } = event;
            handle(ports, payload, &context).await.map_err(Failure)
        });
        let (ended, ()) = join(Runtime::new(service).run(), ahead).await;
        ended.map_err(|error| Ended(error.to_string()))
    })
}

/// An invocation that failed as a whole. `lambda_runtime` logs it.
#[derive(Debug)]
struct Failure(Error);

impl From<Failure> for Diagnostic {
    fn from(Failure(error): Failure) -> Self {
        Self { error_type: "Failure".to_owned(), error_message: error.to_string() }
    }
}
