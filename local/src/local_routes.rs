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

use crate::{event_sources::EventSources, http_api::Handler, installation, metrics::Metrics, outbox::Outbox};

/// How long `/_local/metrics` waits for lags: those of a service that is out of reach stay as they were.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where `admin` asks a running stack for its wish.
pub const ADMINS: &str = "/_local/admins";

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
pub(crate) fn metrics(sources: Arc<EventSources>, metrics: Metrics) -> LocalRoute {
    route("/_local/metrics", move |_| {
        let (sources, metrics) = (Arc::clone(&sources), metrics.clone());
        async move {
            let _ = tokio::time::timeout(PATIENCE, sources.lag()).await;
            reply(serde_json::to_value(metrics.snapshot()).map_err(anyhow::Error::from))
        }
        .boxed()
    })
}

/// `POST /_local/admins` with `{"email"}`: gives that person the roles moderator and admin.
pub(crate) fn admins(users: Option<UsersTable>) -> LocalRoute {
    route(ADMINS, move |request| {
        let users = users.clone();
        async move {
            // A page of another origin can send anything but this type without being asked first.
            let is_json =
                request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
            if request.method() != Method::POST || !is_json {
                return message(StatusCode::BAD_REQUEST, "expected POST with application/json");
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
