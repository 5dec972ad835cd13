//! Lambda's Invoke API (<https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>), so that
//! `cargo lambda invoke` and every AWS SDK can call the functions that run here.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};

use super::{
    Capacity, Fleet, InvokeError,
    server::{self, Answer},
};

/// Where the API's paths begin.
pub const PREFIX: &str = "/2015-03-31/functions/";

/// Answers a request whose path begins with [`PREFIX`].
pub(crate) async fn handle(fleet: &Fleet, request: Request<Bytes>) -> Answer {
    let (parts, event) = request.into_parts();
    let name = parts.uri.path().strip_prefix(PREFIX).and_then(|path| path.strip_suffix("/invocations"));
    let (Method::POST, Some(name)) = (parts.method, name) else {
        return error(StatusCode::NOT_FOUND, "ResourceNotFoundException", "There is no such operation.");
    };
    // A name or an ARN.
    let name = name.rsplit([':', '/']).next().unwrap_or(name).to_owned();
    let event = if event.is_empty() { Bytes::from_static(b"{}") } else { event };
    if serde_json::from_slice::<serde::de::IgnoredAny>(&event).is_err() {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContentException",
            "Could not parse request body into json.",
        );
    }
    let kind = parts
        .headers
        .get("x-amz-invocation-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("RequestResponse");
    match kind {
        "DryRun" => with_version(server::json(StatusCode::NO_CONTENT, Bytes::new())),
        "Event" if fleet.arn(&name).is_some() => {
            let fleet = fleet.clone();
            tokio::spawn(async move {
                if let Err(error) = fleet.invoke(&name, event, Capacity::Wait).await {
                    tracing::warn!(%error, function = name, "an asynchronous invocation failed");
                }
            });
            server::json(StatusCode::ACCEPTED, Bytes::new())
        }
        _ => answer(fleet.invoke(&name, event, Capacity::Refuse).await),
    }
}

fn answer(outcome: Result<super::Invocation, InvokeError>) -> Answer {
    match outcome {
        Ok(invocation) => {
            let mut answer = with_version(server::json(StatusCode::OK, invocation.payload));
            set(&mut answer, "x-amzn-requestid", &invocation.request_id);
            answer
        }
        Err(InvokeError::Function(failure)) => {
            let mut answer = with_version(server::json(StatusCode::OK, failure.payload));
            set(&mut answer, "x-amzn-requestid", &failure.request_id);
            set(&mut answer, "x-amz-function-error", "Unhandled");
            answer
        }
        Err(InvokeError::Throttled(_)) => {
            let mut answer =
                error(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.");
            set(&mut answer, "retry-after", "1");
            answer
        }
        Err(InvokeError::Unknown(name)) => {
            error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &format!("Function not found: {name}"))
        }
        Err(failure @ InvokeError::TooLarge(_)) => {
            error(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &failure.to_string())
        }
        Err(failure @ (InvokeError::Start { .. } | InvokeError::Closed)) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &failure.to_string())
        }
    }
}

fn with_version(mut answer: Answer) -> Answer {
    set(&mut answer, "x-amz-executed-version", "$LATEST");
    answer
}

fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn error(status: StatusCode, kind: &'static str, message: &str) -> Answer {
    let body = serde_json::json!({"Type": if status.is_server_error() { "Service" } else { "User" }, "message": message});
    let mut answer = server::json(status, body.to_string());
    set(&mut answer, "x-amzn-errortype", kind);
    answer
}
