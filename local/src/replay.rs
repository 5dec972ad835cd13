//! `cargo run -p local -- replay events/<file>`: sends a sample to its function, or plays a scenario, on a running stack,
//! and prints what came of it.

use std::{io::Write, path::Path};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    api_client::{ApiClient, PASSWORD, Person, text},
    demo,
    scenario::Scenario,
};

/// Replays a file; answers whether what came of it is what should.
pub async fn run(base_url: &str, file: &Path, out: &mut impl Write) -> Result<bool> {
    let api = ApiClient::new(base_url);
    if file.parent().is_some_and(|folder| folder.ends_with("scenarios")) {
        let outcome = Scenario::read(file)?.play(&api).await?;
        demo::print(&outcome, out)?;
        return Ok(outcome.differences.is_empty());
    }
    let before = Outbox::of(&api).await?;
    let Replayed { function, failed, answer } = Samples::new(&api).send(file).await?;
    writeln!(out, "{function} {}:\n{answer:#}", if failed { "failed" } else { "answered" })?;
    let after = Outbox::of(&api).await?;
    for push in after.pushes.iter().skip(before.pushes.len()) {
        writeln!(out, "pushed to {} of {}: {:#}", push["device_id"], push["user_id"], push["payload"])?;
    }
    for mail in after.emails.iter().skip(before.emails.len()) {
        writeln!(out, "mailed to {}: {}", mail["to"], mail["subject"])?;
    }
    Ok(!failed)
}

/// What came of a sample.
#[derive(Debug)]
pub struct Replayed {
    /// The function that it was sent to: the file's name.
    pub function: String,
    /// Whether the function failed, instead of answering.
    pub failed: bool,
    /// What it answered, or its error.
    pub answer: Value,
}

/// Sends samples to their functions, as a sample user.
#[derive(Debug)]
pub struct Samples {
    api: ApiClient,
    /// Signed in when the first sample needs it.
    user: OnceCell<Person>,
}

impl Samples {
    /// To the functions of a running stack.
    #[must_use]
    pub fn new(api: &ApiClient) -> Self {
        Self { api: api.clone(), user: OnceCell::new() }
    }

    /// Sends a sample, with tokens of the sample user in the place of `{{access_token}}` and `{{session_token}}`.
    pub async fn send(&self, file: &Path) -> Result<Replayed> {
        let function =
            file.file_stem().and_then(|stem| stem.to_str()).context("the file has no name")?.to_owned();
        let mut sample =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        if sample.contains("{{") {
            let user = self.user.get_or_try_init(|| sample_user(&self.api)).await?;
            let access_token = user.api.access_token().unwrap_or_default();
            sample = sample
                .replace("{{access_token}}", access_token)
                .replace("{{session_token}}", &user.session_token);
        }
        let event: Value =
            serde_json::from_str(&sample).with_context(|| format!("{} is no JSON", file.display()))?;
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = self.api.send(Method::POST, &path, Some(&event)).await?;
        ensure!(answer.status == 200, "{function} cannot be invoked: {} {}", answer.status, answer.body);
        let failed = answer.header("x-amz-function-error").is_some();
        Ok(Replayed { function, failed, answer: answer.body })
    }
}

/// The sample user, registered the first time.
async fn sample_user(api: &ApiClient) -> Result<Person> {
    let (username, email) = ("sample", "sample@example.org");
    let login = api.post("/v1/auth/login", &json!({"email": email, "password": PASSWORD})).await?;
    if login.status != 200 {
        return api.register(username, email).await;
    }
    Ok(Person {
        username: username.to_owned(),
        email: email.to_owned(),
        session_token: text(&login.body, "session_token")?,
        api: api.with_token(text(&login.body, "access_token")?),
    })
}

struct Outbox {
    pushes: Vec<Value>,
    emails: Vec<Value>,
}

impl Outbox {
    async fn of(api: &ApiClient) -> Result<Self> {
        let outbox = api.get("/_local/outbox").await?.expect(200)?;
        let list = |name: &str| outbox[name].as_array().cloned().unwrap_or_default();
        Ok(Self { pushes: list("pushes"), emails: list("emails") })
    }
}
