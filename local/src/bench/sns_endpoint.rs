//! A counting SNS: mobile push in memory, behind SNS's own wire protocol, AWS Query: a form in, XML out
//! (<https://docs.aws.amazon.com/sns/latest/api/>).
//!
//! It counts what is published to each endpoint, and keeps of it what tells pushes apart. It takes as much as comes, unless it is
//! told how much a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};

use super::endpoint::{Endpoint, REGION, serve};
use crate::{runtime::server::Answer, services::ACCOUNT};

/// A running SNS. Dropping it ends it.
#[derive(Debug)]
pub struct SnsEndpoint {
    endpoint: Endpoint,
    registered: Arc<Registered>,
}

/// One publication.
#[derive(Clone, Debug)]
pub struct Published {
    /// When it was taken.
    pub at: Instant,
    /// `Message`: with `MessageStructure=json`, a JSON object with a text for each platform.
    pub message: String,
}

#[derive(Debug, Default)]
struct Registered {
    endpoints: Mutex<HashMap<String, PlatformEndpoint>>,
    rate: Mutex<Rate>,
}

/// How much is taken.
#[derive(Debug, Default)]
struct Rate {
    /// So many publications a second, and in a burst.
    per_second: Option<u32>,
    /// Until when all that could be taken was.
    taken_until: Option<Instant>,
    throttled: usize,
}

impl Rate {
    /// Whether one more is taken.
    fn takes(&mut self) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let now = Instant::now();
        let next = self.taken_until.map_or(now, |until| until.max(now)) + Duration::from_secs(1) / per_second;
        let is_taken = next <= now + Duration::from_secs(1);
        if is_taken {
            self.taken_until = Some(next);
        }
        self.throttled += usize::from(!is_taken);
        is_taken
    }
}

#[derive(Clone, Debug, Default)]
struct PlatformEndpoint {
    attributes: HashMap<String, String>,
    published: Vec<Published>,
}

impl SnsEndpoint {
    /// Serves on a free port.
    pub async fn start() -> Result<Self> {
        let registered = Arc::new(Registered::default());
        let answering = Arc::clone(&registered);
        let endpoint = serve(move |request| {
            let registered = Arc::clone(&answering);
            async move { registered.answer(request).await }
        });
        Ok(Self { endpoint: endpoint.await?, registered })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Makes an endpoint, as `CreatePlatformEndpoint` does, that is on; answers its ARN.
    #[must_use]
    pub fn register(&self, application: &str, token: &str) -> String {
        let arn = endpoint_arn(application, token);
        let attributes = [("Token", token), ("Enabled", "true")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        self.registered.lock().insert(arn.clone(), PlatformEndpoint { attributes, published: Vec::new() });
        arn
    }

    /// What was published to an endpoint.
    #[must_use]
    pub fn published(&self, arn: &str) -> Vec<Published> {
        self.registered.lock().get(arn).map(|endpoint| endpoint.published.clone()).unwrap_or_default()
    }

    /// Takes no more than so many publications a second from now on, as SNS does of an account in a region.
    pub fn limit(&self, per_second: u32) {
        self.registered.rate().per_second = Some(per_second);
    }

    /// How many publications were throttled.
    #[must_use]
    pub fn throttled(&self) -> usize {
        self.registered.rate().throttled
    }

    /// How many publications were taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.registered.lock().values().map(|endpoint| endpoint.published.len()).sum()
    }
}

/// What SNS refuses: the HTTP status, the code and the message.
struct Refusal(StatusCode, &'static str, String);

impl Registered {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, PlatformEndpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let form = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return refused(&invalid(&error.to_string())),
        };
        let form: HashMap<String, String> = form_urlencoded::parse(&form).into_owned().collect();
        let action = form.get("Action").cloned().unwrap_or_default();
        match self.act(&action, &form) {
            Ok(result) => {
                let result = format!("<{action}Result>{result}</{action}Result>");
                let id = uuid::Uuid::new_v4();
                let body = format!(
                    "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">{result}\
                     <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{action}Response>"
                );
                xml(StatusCode::OK, body)
            }
            Err(refusal) => refused(&refusal),
        }
    }

    fn act(&self, action: &str, form: &HashMap<String, String>) -> Result<String, Refusal> {
        match action {
            "CreatePlatformApplication" => {
                let (platform, name) = (field(form, "Platform")?, field(form, "Name")?);
                let arn = format!("arn:aws:sns:{REGION}:{ACCOUNT}:app/{platform}/{name}");
                Ok(element("PlatformApplicationArn", &arn))
            }
            "CreatePlatformEndpoint" => self.create(form),
            "SetEndpointAttributes" => {
                let mut endpoints = self.lock();
                let endpoint = endpoints.get_mut(field(form, "EndpointArn")?).ok_or_else(missing)?;
                endpoint.attributes.extend(attributes(form));
                Ok(String::new())
            }
            "GetEndpointAttributes" => {
                let endpoints = self.lock();
                let endpoint = endpoints.get(field(form, "EndpointArn")?).ok_or_else(missing)?;
                let entries = endpoint.attributes.iter().map(|(name, value)| {
                    element_of("entry", &[element("key", name), element("value", value)].concat())
                });
                Ok(element_of("Attributes", &entries.collect::<String>()))
            }
            "DeleteEndpoint" => {
                self.lock().remove(field(form, "EndpointArn")?);
                Ok(String::new())
            }
            "Publish" => self.publish(form),
            other => {
                Err(Refusal(StatusCode::BAD_REQUEST, "InvalidAction", format!("no action {other:?} here")))
            }
        }
    }

    /// The same token is the same endpoint, unless it has other attributes.
    fn create(&self, form: &HashMap<String, String>) -> Result<String, Refusal> {
        let token = field(form, "Token")?;
        let arn = endpoint_arn(field(form, "PlatformApplicationArn")?, token);
        let mut wanted: HashMap<String, String> = attributes(form).collect();
        wanted.insert("Token".to_owned(), token.to_owned());
        wanted.entry("Enabled".to_owned()).or_insert_with(|| "true".to_owned());
        wanted.extend(form.get("CustomUserData").map(|data| ("CustomUserData".to_owned(), data.clone())));
        let mut endpoints = self.lock();
        let there = endpoints.entry(arn.clone());
        let there =
            there.or_insert_with(|| PlatformEndpoint { attributes: wanted.clone(), published: Vec::new() });
        if there.attributes != wanted {
            return Err(invalid(&format!(
                "Token Reason: Endpoint {arn} already exists with the same Token, but different attributes."
            )));
        }
        Ok(element("EndpointArn", &arn))
    }

    fn publish(&self, form: &HashMap<String, String>) -> Result<String, Refusal> {
        if !self.rate().takes() {
            return Err(Refusal(StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded".to_owned()));
        }
        let message = field(form, "Message")?.to_owned();
        let mut endpoints = self.lock();
        let endpoint = endpoints.get_mut(field(form, "TargetArn")?);
        let endpoint = endpoint
            .ok_or_else(|| invalid("TargetArn Reason: No endpoint found for the target arn specified"))?;
        if endpoint.attributes.get("Enabled").is_some_and(|enabled| enabled == "false") {
            let message = "Endpoint is disabled".to_owned();
            return Err(Refusal(StatusCode::BAD_REQUEST, "EndpointDisabled", message));
        }
        endpoint.published.push(Published { at: Instant::now(), message });
        Ok(element("MessageId", &uuid::Uuid::new_v4().to_string()))
    }
}

/// `arn:aws:sns:<region>:<account>:app/GCM/<name>` with a token is `…:endpoint/GCM/<name>/<id>`.
fn endpoint_arn(application: &str, token: &str) -> String {
    let digest = Sha256::digest(token);
    let id = uuid::Builder::from_custom_bytes(std::array::from_fn(|place| digest[place])).into_uuid();
    format!("{}/{id}", application.replacen(":app/", ":endpoint/", 1))
}

/// `Attributes.entry.1.key` and `Attributes.entry.1.value`, and so on.
fn attributes(form: &HashMap<String, String>) -> impl Iterator<Item = (String, String)> {
    (1..).map_while(|number| {
        let part = |part: &str| form.get(&format!("Attributes.entry.{number}.{part}")).cloned();
        part("key").zip(part("value"))
    })
}

fn field<'a>(form: &'a HashMap<String, String>, name: &str) -> Result<&'a str, Refusal> {
    form.get(name).map(String::as_str).ok_or_else(|| invalid(name))
}

fn invalid(what: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "InvalidParameter", format!("Invalid parameter: {what}"))
}

fn missing() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "NotFound", "Endpoint does not exist".to_owned())
}

fn refused(Refusal(status, code, message): &Refusal) -> Answer {
    let fault = [element("Type", "Sender"), element("Code", code), element("Message", message)].concat();
    let id = element("RequestId", &uuid::Uuid::new_v4().to_string());
    xml(*status, element_of("ErrorResponse", &[element_of("Error", &fault), id].concat()))
}

fn element(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    element_of(name, &text)
}

fn element_of(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

fn xml(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    answer
}
