//! What `local` serves besides the functions, under `/_local`: for people and tests that want to see what came of a
//! request, and for its own commands.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use tocsin_adapters::dynamodb::UsersTable;

use crate::{
    event_sources::{EventSources, SourceError},
    http_api::Handler,
    installation,
    metrics::Metrics,
    outbox::Outbox,
};

/// How long `/_local/metrics` waits for lags: those of a service that is out of reach stay as they were.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where `admin` asks a running stack for its wish.
pub const ADMINS: &str = "/_local/admins";
/// Where `redrive` asks, with the queue's logical id behind it.
pub const REDRIVE: &str = "/_local/redrive/";
/// By what a command knows that it is a `local` that answers on a port.
pub const METRICS: &str = "/_local/metrics";

/// A path prefix and its handler.
pub type LocalRoute = (String, Handler);

/// `GET /_local/outbox`: what was pushed and mailed.
pub(crate) fn outbox(outbox: Option<Arc<Outbox>>) -> LocalRoute {
    route("/_local/outbox", move |_| {
        let outbox = outbox.clone();
        async move {
            match outbox {
                Some(outbox) => reply(outbox.read().await),
                None => message(StatusCode::NOT_FOUND, "SNS and SES are real ones: there is no outbox"),
            }
        }
        .boxed()
    })
}

/// `GET /_local/metrics`: what functions and event sources count.
pub(crate) fn metrics(sources: Option<Arc<EventSources>>, metrics: Metrics) -> LocalRoute {
    route(METRICS, move |_| {
        let (sources, metrics) = (sources.clone(), metrics.clone());
        async move {
            if let Some(sources) = sources {
                let _ = tokio::time::timeout(PATIENCE, sources.lag()).await;
            }
            reply(serde_json::to_value(metrics.snapshot()).map_err(anyhow::Error::from))
        }
        .boxed()
    })
}

/// `POST /_local/redrive/<queue>`: brings back what lies in a dead-letter queue, named by its logical id.
pub(crate) fn redrive(sources: Arc<EventSources>) -> LocalRoute {
    route(REDRIVE, move |request| {
        let sources = Arc::clone(&sources);
        async move {
            if !is_wish(&request) {
                return not_a_wish();
            }
            let queue = request.uri().path().strip_prefix(REDRIVE).unwrap_or_default();
            match sources.redrive(queue).await {
                Ok(redriven) => reply(serde_json::to_value(redriven).map_err(anyhow::Error::from)),
                Err(error @ (SourceError::NoQueue { .. } | SourceError::NoDeadLetters { .. })) => {
                    message(StatusCode::NOT_FOUND, &error.to_string())
                }
                Err(error) => message(StatusCode::BAD_GATEWAY, &error.to_string()),
            }
        }
        .boxed()
    })
}

/// `POST /_local/admins` with `{"email"}`: gives that person the roles moderator and admin.
pub(crate) fn admins(users: Option<UsersTable>) -> LocalRoute {
    route(ADMINS, move |request| {
        let users = users.clone();
        async move {
            if !is_wish(&request) {
                return not_a_wish();
            }
            let Some(users) = users else {
                return message(StatusCode::NOT_FOUND, "there is no table of users");
            };
            match serde_json::from_slice::<AdminWish>(request.body()) {
                Ok(AdminWish { email }) => match installation::grant_admin(&users, &email).await {
                    Ok(changed) => answer(StatusCode::OK, &json!({ "changed": changed })),
                    Err(error) => message(StatusCode::CONFLICT, &format!("{error:#}")),
                },
                Err(error) => message(StatusCode::BAD_REQUEST, &error.to_string()),
            }
        }
        .boxed()
    })
}

/// Whether a request may change something. A page of another origin can send anything but this type without being asked
/// first.
fn is_wish(request: &Request<Bytes>) -> bool {
    let is_json = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    request.method() == Method::POST && is_json
}

fn not_a_wish() -> Response<Full<Bytes>> {
    message(StatusCode::BAD_REQUEST, "expected POST with application/json")
}

#[derive(Deserialize)]
struct AdminWish {
    email: String,
}

fn route(
    prefix: &str,
    handler: impl Fn(Request<Bytes>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync + 'static,
) -> LocalRoute {
    (prefix.to_owned(), Arc::new(handler))
}

fn reply(document: Result<Value>) -> Response<Full<Bytes>> {
    match document {
        Ok(document) => answer(StatusCode::OK, &document),
        Err(error) => message(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
    }
}

fn message(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    answer(status, &json!({ "message": text }))
}

fn answer(status: StatusCode, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(document.to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
