//! What stands between the functions and SNS, and lets some of their requests go wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use local::{api_client::http_client, scenario::find};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::record::{Event, Fate, Record};

/// What share of the requests to ring goes wrong, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shares {
    /// SNS takes no more.
    pub(crate) throttled: f64,
    /// SNS fails.
    pub(crate) failed: f64,
    /// The connection breaks before SNS has it.
    pub(crate) unreached: f64,
    /// The connection breaks before its answer.
    pub(crate) unanswered: f64,
}

/// The proxy.
pub(crate) struct Sns {
    url: String,
    upstream: OnceLock<String>,
    http: reqwest::Client,
    shares: Mutex<Shares>,
    chance: Mutex<StdRng>,
    /// Whose each endpoint is: `<user>/<device>`.
    owners: Mutex<HashMap<String, String>>,
    /// The readers' names by their ids.
    names: Mutex<HashMap<String, String>>,
    record: Arc<Record>,
}

/// A response, or the connection breaks.
type Answer = Option<Response<Full<Bytes>>>;

impl Sns {
    /// Serves on a free port. What becomes of each request follows from the seed.
    pub(crate) async fn serve(seed: u64, record: Arc<Record>) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let sns = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            upstream: OnceLock::new(),
            http: http_client(),
            shares: Mutex::default(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            owners: Mutex::default(),
            names: Mutex::default(),
            record,
        });
        tokio::spawn(Arc::clone(&sns).accept(listener));
        sns
    }

    /// Where functions find it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What is behind it, from now on.
    pub(crate) fn stand_before(&self, upstream: &str) {
        self.upstream.set(upstream.to_owned()).unwrap();
    }

    /// Whose devices are a reader's.
    pub(crate) fn introduce(&self, user_id: String, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(user_id, name.to_owned());
    }

    /// What goes wrong from now on.
    pub(crate) fn set(&self, shares: Shares) {
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares;
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let this = Arc::clone(&self);
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let this = Arc::clone(&this);
                    // An error makes the server break the connection.
                    async move { this.answer(request).await.ok_or("the connection breaks") }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let asked = self.record.now();
        let (head, body) = request.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let fields: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let forward = self.forward(head, body.clone());
        match field("Action").as_str() {
            "Publish" => {}
            "CreatePlatformEndpoint" => {
                let answer = forward.await;
                self.remember(&answer, field("CustomUserData"));
                return Some(respond(answer));
            }
            _ => return Some(respond(forward.await)),
        }
        let fate = self.fate();
        let answer = match fate {
            Fate::Throttled => Some(error(StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded")),
            Fate::Failed => Some(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "try again")),
            Fate::Unreached => None,
            Fate::Taken | Fate::TakenUnanswered => {
                let answer = forward.await;
                assert!(answer.0.is_success(), "moto does not take a push: {answer:?}");
                (fate == Fate::Taken).then(|| respond(answer))
            }
        };
        self.note(asked, &field("TargetArn"), &field("Message"), fate);
        answer
    }

    fn fate(&self) -> Fate {
        let shares = *self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let chance = &mut self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut point: f64 = chance.random();
        let wrong = [
            (shares.throttled, Fate::Throttled),
            (shares.failed, Fate::Failed),
            (shares.unreached, Fate::Unreached),
            (shares.unanswered, Fate::TakenUnanswered),
        ];
        for (share, fate) in wrong {
            if point < share {
                return fate;
            }
            point -= share;
        }
        Fate::Taken
    }

    async fn forward(&self, head: http::request::Parts, body: Bytes) -> (StatusCode, Bytes) {
        let url = format!("{}{}", self.upstream.get().unwrap(), head.uri);
        let mut headers = head.headers;
        headers.remove(http::header::HOST);
        let response = self.http.request(head.method, url).headers(headers).body(body).send().await.unwrap();
        (response.status(), response.bytes().await.unwrap())
    }

    fn remember(&self, (_, answer): &(StatusCode, Bytes), owner: String) {
        let answer = String::from_utf8_lossy(answer);
        let arn = answer.split_once("<EndpointArn>").and_then(|(_, rest)| rest.split_once("</EndpointArn>"));
        if let Some((arn, _)) = arn {
            self.owners.lock().unwrap_or_else(PoisonError::into_inner).insert(arn.to_owned(), owner);
        }
    }

    fn note(&self, asked: std::time::Duration, arn: &str, message: &str, fate: Fate) {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let (user_id, device) = owners[arn].split_once('/').unwrap();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let message = Value::from(message);
        let found = |field: &str| find(&message, field).unwrap();
        let (reader, device) = (names[user_id].clone(), device.to_owned());
        self.record.note(if find(&message, "digest").is_some() {
            let posts = found("post_ids").split(',').map(str::to_owned).collect();
            Event::Digest { asked, reader, device, posts, count: found("count").parse().unwrap(), fate }
        } else {
            Event::Publish { asked, reader, device, post: found("post_id"), news: found("news"), fate }
        });
    }
}

fn respond((status, body): (StatusCode, Bytes)) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "text/xml");
    response.body(Full::new(body)).unwrap()
}

/// As SNS says it (<https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html>).
fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let kind = if status.is_client_error() { "Sender" } else { "Receiver" };
    let body = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>{kind}</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
    );
    respond((status, body.into()))
}
