//! The front door: what API Gateway's HTTP API does between a client and the functions.
//!
//! As documented in <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html> (which
//! route wins), `http-api-develop-integrations-lambda.html` (payload format 2.0), `http-api-quotas.html` (10 MB, 30 s)
//! and `http-api-cors.html`. A method that a path does not have is a 404 like any unknown path, and a function
//! without a free process or out of the gateway's time is a 503, since HTTP APIs (unlike REST APIs) have neither 405
//! nor 504.

mod cors;
mod event;
mod response;
mod routes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

pub use routes::{RouteError, Routes};

use crate::{
    runtime::{
        Capacity, Fleet, InvokeError, invoke_api,
        server::{self, Answer},
    },
    template::model::Cors,
};

/// The most bytes of a request's body (quota "Payload size").
const MAX_BODY: usize = 10 * 1024 * 1024;
/// How long a function may take for a request (quota "Maximum integration timeout"), whatever its own limit.
const INTEGRATION: Duration = Duration::from_secs(30);

/// A handler of paths that no function has: `/_local/…`.
pub type Handler =
    Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, http::Response<Full<Bytes>>> + Send + Sync>;

/// What the front door serves.
pub struct HttpApi {
    /// The routes, each with the name of its function.
    pub routes: Routes,
    /// The template's cross-origin rules.
    pub cors: Option<Cors>,
    /// The functions.
    pub fleet: Fleet,
    /// Handlers of path prefixes, which win over routes.
    pub local: Vec<(String, Handler)>,
}

/// A running front door. Dropping it closes the listener and its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and gives those in hand `grace` to be answered.
    pub async fn close(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if timeout(grace, &mut self.task).await.is_err() {
            tracing::warn!("requests were still in hand after {grace:?}, and are given up");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HttpApi {
    /// Serves `listener`. The Invoke API is served there too, for `cargo lambda invoke --invoke-address`.
    pub fn serve(self, listener: TcpListener) -> std::io::Result<Server> {
        let address = listener.local_addr()?;
        let api = Arc::new(self);
        let (stop, stopped) = watch::channel(false);
        let answer = move |request, peer| {
            let api = Arc::clone(&api);
            async move { api.answer(request, peer).await }
        };
        let task = tokio::spawn(server::serve(listener, answer, stopped));
        Ok(Server { address, stop, task })
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let path = request.uri().path();
        let is_ours = path.starts_with(invoke_api::PREFIX)
            || self.local.iter().any(|(prefix, _)| path.starts_with(prefix.as_str()));
        if is_ours && is_from_a_web_page(&request) {
            return message(StatusCode::FORBIDDEN, "This is not for web pages");
        }
        if let Some((_, handler)) = self.local.iter().find(|(prefix, _)| path.starts_with(prefix.as_str())) {
            let handler = Arc::clone(handler);
            return match collect(request).await {
                Ok(request) => handler(request).await,
                Err(answer) => answer,
            };
        }
        if path.starts_with(invoke_api::PREFIX) {
            return match collect(request).await {
                Ok(request) => invoke_api::handle(&self.fleet, request).await,
                Err(answer) => answer,
            };
        }
        let request_id = uuid::Uuid::new_v4().simple().to_string();
        let preflight = self.cors.as_ref().and_then(|cors| cors::preflight(cors, &request));
        let mut answer = if let Some(answer) = preflight {
            answer
        } else {
            let origin = request.headers().get(http::header::ORIGIN).cloned();
            let mut answer = self.route(request, peer, &request_id).await;
            if let (Some(cors), Some(origin)) = (&self.cors, origin) {
                cors::apply(cors, &origin, answer.headers_mut());
            }
            answer
        };
        if let Ok(id) = http::HeaderValue::from_str(&request_id) {
            answer.headers_mut().insert("apigw-requestid", id);
        }
        answer
    }

    async fn route(&self, request: Request<Incoming>, peer: SocketAddr, request_id: &str) -> Answer {
        let Some(found) = self.routes.find(request.method(), request.uri().path()) else {
            return message(StatusCode::NOT_FOUND, "Not Found");
        };
        let request = match collect(request).await {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let event = event::of(&request, &found, peer, request_id);
        let invocation = self.fleet.invoke(found.function, event, Capacity::Refuse);
        let answer = match tokio::time::timeout(INTEGRATION, invocation).await {
            Ok(Ok(invocation)) => response::of(&invocation.payload).unwrap_or_else(|reason| {
                tracing::error!(
                    function = found.function,
                    reason,
                    "the function's answer is no HTTP response"
                );
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }),
            Ok(Err(InvokeError::TooLarge(_))) => {
                message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
            }
            Ok(Err(error @ (InvokeError::Throttled(_) | InvokeError::Closed))) => {
                tracing::warn!(%error, "a request was refused");
                message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
            }
            Ok(Err(error)) => {
                tracing::error!(%error, function = found.function, "a function failed");
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
            Err(_) => {
                tracing::error!(function = found.function, "a function took longer than the gateway waits");
                message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
            }
        };
        self.fleet.answered(found.function, answer.status());
        answer
    }
}

/// Reads the body, within the gateway's limit.
async fn collect(request: Request<Incoming>) -> Result<Request<Bytes>, Answer> {
    let (parts, body) = request.into_parts();
    let too_large = || message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    // Refused before it is sent, for clients that expect 100-continue.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(Request::from_parts(parts, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(message(StatusCode::BAD_REQUEST, "Bad Request")),
    }
}

/// The gateway's own answers.
fn message(status: StatusCode, text: &str) -> Answer {
    server::json(status, format!("{{\"message\":\"{text}\"}}"))
}

/// Whether a request may be a web page's, that a person on this machine has open. What is served here besides the API
/// asks for no token: a function takes any event, and the outbox has everybody's mail. A page sends its origin with
/// whatever could change something; and one whose name was made to mean this machine is told by the name.
fn is_from_a_web_page<T>(request: &Request<T>) -> bool {
    let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
    // RFC 9112, 3.2.2: what the target says wins.
    let authority = request.uri().authority().map(http::uri::Authority::as_str).or(host);
    let authority: Option<http::uri::Authority> = authority.and_then(|authority| authority.parse().ok());
    let names_this_machine = authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        is_loopback || host.eq_ignore_ascii_case("localhost")
    });
    !names_this_machine || request.headers().contains_key(http::header::ORIGIN)
}

/// A request that only asks what another origin may do.
fn is_preflight(request: &Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(http::header::ORIGIN)
        && request.headers().contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_told_from_a_command() {
        let request = |headers: &[(&str, &str)]| {
            let request = Request::post("/2015-03-31/functions/create-post/invocations");
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value))
                .body(())
                .unwrap()
        };
        for host in ["127.0.0.1:9000", "localhost:9000", "LOCALHOST", "[::1]:9000", "127.0.0.1"] {
            assert!(!is_from_a_web_page(&request(&[("host", host)])), "{host}");
            for origin in ["https://elsewhere.example", "http://127.0.0.1:9000", "null"] {
                assert!(
                    is_from_a_web_page(&request(&[("host", host), ("origin", origin)])),
                    "{host} {origin}"
                );
            }
        }
        for host in
            ["elsewhere.example:9000", "127.0.0.1.elsewhere.example", "10.0.0.1", "", "localhost.example"]
        {
            assert!(is_from_a_web_page(&request(&[("host", host)])), "{host}");
        }
        assert!(is_from_a_web_page(&request(&[])));
    }
}
