//! The Lambda Runtime API of one process: where it gets its events and leaves its answers.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{MAX_PAYLOAD, server};

/// One event for a process.
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) limit: Duration,
    pub(super) arn: String,
    pub(super) trace_id: String,
    /// Told once the process has the event: its time runs from then.
    pub(super) delivered: oneshot::Sender<Instant>,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// What a process made of its event.
pub(super) enum Reply {
    Response(Bytes),
    Error(Bytes),
}

/// The state behind the API of one process.
pub(super) struct RuntimeApi {
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    current: Mutex<Option<(String, oneshot::Sender<Reply>)>>,
    ready: watch::Sender<bool>,
    initialisation_error: Mutex<Option<Bytes>>,
}

impl RuntimeApi {
    pub(super) fn new(jobs: mpsc::Receiver<Job>) -> Self {
        Self {
            jobs: tokio::sync::Mutex::new(jobs),
            current: Mutex::default(),
            ready: watch::Sender::new(false),
            initialisation_error: Mutex::default(),
        }
    }

    /// Turns true when the process asks for its first event.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The error that the process reported instead of asking for events.
    pub(super) fn initialisation_error(&self) -> Option<Bytes> {
        self.initialisation_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one request of the process.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> server::Answer {
        let path = request.uri().path().to_owned();
        let Some(path) = path.strip_prefix("/2018-06-01/runtime/") else { return not_found() };
        let segments: Vec<&str> = path.split('/').collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", id, kind @ ("response" | "error")]) => {
                let failed = *kind == "error";
                let Ok(body) = request.into_body().collect().await else {
                    return error(StatusCode::BAD_REQUEST, "InvalidRequestBody", "the body broke off");
                };
                self.answer(id, body.to_bytes(), failed)
            }
            (&Method::POST, ["init", "error"]) => {
                let body = request
                    .into_body()
                    .collect()
                    .await
                    .map(http_body_util::Collected::to_bytes)
                    .unwrap_or_default();
                *self.initialisation_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
                accepted()
            }
            _ => not_found(),
        }
    }

    async fn next(&self) -> server::Answer {
        // Asking again without an answer gives the event up; its waiter learns it from the dropped sender.
        self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ready.send_replace(true);
        let Some(job) = self.jobs.lock().await.recv().await else {
            return error(StatusCode::GONE, "Sandbox.Ended", "no more events will come");
        };
        // No await from here on: an event that was taken is on its way, whatever happens to this connection.
        let deadline = SystemTime::now() + job.limit;
        let deadline_ms = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((job.request_id.clone(), job.reply));
        let _ = job.delivered.send(Instant::now());
        let mut answer = server::json(StatusCode::OK, job.payload);
        for (name, value) in [
            ("lambda-runtime-aws-request-id", job.request_id),
            ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
            ("lambda-runtime-invoked-function-arn", job.arn),
            ("lambda-runtime-trace-id", job.trace_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                answer.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        answer
    }

    fn answer(&self, id: &str, body: Bytes, failed: bool) -> server::Answer {
        let reply = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            match current.take() {
                Some((expected, reply)) if expected == id => reply,
                other => {
                    *current = other;
                    return error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID");
                }
            }
        };
        if body.len() > MAX_PAYLOAD {
            let text =
                format!("Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD} bytes).");
            let payload =
                serde_json::json!({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text});
            let _ = reply.send(Reply::Error(payload.to_string().into()));
            return error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &text);
        }
        let _ = reply.send(if failed { Reply::Error(body) } else { Reply::Response(body) });
        accepted()
    }
}

fn accepted() -> server::Answer {
    server::json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}"))
}

fn not_found() -> server::Answer {
    let mut answer = http::Response::new(Full::new(Bytes::from_static(b"404 page not found")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

fn error(status: StatusCode, kind: &str, message: &str) -> server::Answer {
    server::json(status, serde_json::json!({"errorType": kind, "errorMessage": message}).to_string())
}
