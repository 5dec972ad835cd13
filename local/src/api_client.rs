//! One person's view of the API, over HTTP as any client has it: for the demo, the bench, replays and tests.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::{Value, json};

/// Speaks to the API, as somebody or as nobody.
#[derive(Clone, Debug)]
pub struct ApiClient {
    http: Client,
    base_url: String,
    access_token: Option<String>,
}

/// What the API answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: JSON, or a string of what is not, or null where there is none.
    pub body: Value,
}

impl Answer {
    /// The body, if the status is this one.
    pub fn expect(self, status: u16) -> Result<Value> {
        if self.status == status {
            Ok(self.body)
        } else {
            bail!("the API answered {} instead of {status}: {}", self.status, self.body)
        }
    }

    /// A header's text, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long to wait, if this was one request too many (429).
    fn retry_after(&self) -> Option<Duration> {
        let seconds = || self.header("retry-after")?.parse().ok();
        (self.status == 429).then(|| Duration::from_secs(seconds().unwrap_or(1)))
    }
}

/// What speaks HTTP to this machine.
#[must_use]
pub fn http_client() -> Client {
    // A client is not made without, though nothing here speaks TLS.
    tocsin_adapters::tls::use_ring();
    // A proxy of the environment is for other machines, and knows nothing of this one's ports.
    Client::builder().no_proxy().build().unwrap_or_default()
}

/// A person who has registered and signed in.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their name.
    pub username: String,
    /// Their mail address.
    pub email: String,
    /// For the next renewal.
    pub session_token: String,
    /// The API, as they see it.
    pub api: ApiClient,
}

impl Person {
    /// Their id, as their access token has it.
    #[must_use]
    pub fn user_id(&self) -> String {
        let claims = self.api.access_token().and_then(|token| token.split('.').nth(1));
        let claims = claims.and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Option<Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
        claims.and_then(|claims| text(&claims, "sub").ok()).unwrap_or_default()
    }
}

/// The password of everybody in the demo, the bench and the tests.
pub const PASSWORD: &str = "lantern-harbour-eleven-gulls";

impl ApiClient {
    /// As nobody.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self { http: http_client(), base_url: base_url.into(), access_token: None }
    }

    /// As the owner of an access token.
    #[must_use]
    pub fn with_token(&self, access_token: impl Into<String>) -> Self {
        Self { access_token: Some(access_token.into()), ..self.clone() }
    }

    /// From another address of this machine, such as 127.0.0.2: limits are counted by address.
    #[must_use]
    pub fn from_address(&self, address: IpAddr) -> Self {
        let http = Client::builder().no_proxy().local_address(address).build().unwrap_or_default();
        Self { http, ..self.clone() }
    }

    /// The access token, if there is one.
    #[must_use]
    pub fn access_token(&self) -> Option<&str> {
        self.access_token.as_deref()
    }

    /// Sends a request, with a JSON body if there is one.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.send_with(method, path, body, &[]).await
    }

    /// Sends a request with more headers.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base_url));
        if let Some(token) = &self.access_token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }

    /// Sends a body as it is, of a content type.
    pub async fn send_raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base_url));
        if let Some(token) = &self.access_token {
            request = request.bearer_auth(token);
        }
        answer(request.header("content-type", content_type).body(body)).await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// Registers a person, reads the mail's token from the outbox, and signs them in with it.
    pub async fn register(&self, username: &str, email: &str) -> Result<Person> {
        self.sign_up(username, email).await?.expect(201)?;
        self.verify(username, email).await
    }

    /// Asks for an account: 201, or 409 if the person has one.
    pub async fn sign_up(&self, username: &str, email: &str) -> Result<Answer> {
        let registration = json!({"email": email, "username": username, "password": PASSWORD});
        self.post("/v1/auth/register", &registration).await
    }

    /// Signs a person in with the token that was mailed to them when they signed up.
    pub async fn verify(&self, username: &str, email: &str) -> Result<Person> {
        let token = self.mailed_token(email).await?;
        let tokens = self.post("/v1/auth/verify-email", &json!({"token": token})).await?.expect(200)?;
        Ok(Person {
            username: username.to_owned(),
            email: email.to_owned(),
            session_token: text(&tokens, "session_token")?,
            api: self.with_token(text(&tokens, "access_token")?),
        })
    }

    /// The token of the newest mail to an address: its only line of 43 characters.
    pub async fn mailed_token(&self, email: &str) -> Result<String> {
        let outbox = self.get("/_local/outbox").await?.expect(200)?;
        let mails = outbox["emails"].as_array().context("the outbox has no emails")?;
        let newest = mails.iter().rev().find(|mail| mail["to"] == email);
        let body =
            newest.and_then(|mail| mail["body"].as_str()).with_context(|| format!("no mail to {email}"))?;
        let token = body.lines().map(str::trim).find(|line| line.len() == 43 && !line.contains(' '));
        token.map(str::to_owned).context("the mail has no token")
    }

    /// The person's whole timeline, page by page.
    pub async fn timeline(&self) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut path = "/v1/timeline?limit=100".to_owned();
        loop {
            let page = self.get(&path).await?.expect(200)?;
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/timeline?limit=100&cursor={cursor}"),
                None => return Ok(items),
            }
        }
    }

    /// Looks at the first page of the timeline until a post is in it; answers how long after `since` that was.
    pub async fn until_in_timeline(
        &self,
        post_id: &str,
        since: Instant,
        patience: Duration,
    ) -> Result<Duration> {
        let began = Instant::now();
        let mut pause = POLL;
        while since.elapsed() < patience {
            let answer = self.get("/v1/timeline?limit=20").await?;
            if let Some(wait) = answer.retry_after() {
                tokio::time::sleep(wait.min(patience.saturating_sub(since.elapsed()))).await;
                continue;
            }
            let page = answer.expect(200)?;
            let items = page["items"].as_array().context("the timeline has no items")?;
            if items.iter().any(|item| item["post_id"] == post_id) {
                return Ok(since.elapsed());
            }
            tokio::time::sleep(pause).await;
            if began.elapsed() > EAGER {
                pause = (pause * 5 / 4).min(SLOW_POLL);
            }
        }
        bail!("post {post_id} was not in the timeline after {patience:?}")
    }
}

/// How long between two looks at a timeline: it is added to what is measured, half of it on average.
const POLL: Duration = Duration::from_millis(2);
/// For how long that is so. Who waits longer looks less and less often: an account may read 1,200 times a minute.
const EAGER: Duration = Duration::from_millis(200);
/// How long between two looks at most.
const SLOW_POLL: Duration = Duration::from_millis(50);

/// A text field of an answer.
pub fn text(value: &Value, field: &str) -> Result<String> {
    value[field].as_str().map(str::to_owned).with_context(|| format!("no `{field}` in {value}"))
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await.context("the API cannot be reached")?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await?;
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes)))
    };
    Ok(Answer { status, headers, body })
}
