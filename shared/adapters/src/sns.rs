//! Pushes through SNS: an endpoint for each device, and messages in the platforms' own forms.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sns::{
    Client,
    config::{
        Builder,
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction},
    },
    error::{ProvideErrorMetadata, SdkError},
    operation::{create_platform_endpoint::CreatePlatformEndpointError, publish::PublishError},
    types::MessageAttributeValue,
};
use serde_json::{Value, json};
use tocsin_domain::{
    Error, Result,
    device::{self, Device, DeviceId, DeviceToken, Platform},
    digest::Digest,
    ids::UserId,
    notification::Because,
    post::Severity,
    push::{Endpoint, News, Published, Push, PushGateway},
};

use crate::aws::{SdkConfig, failed};

/// SNS mobile push.
#[derive(Clone, Debug)]
pub struct SnsPushGateway {
    client: Client,
    apns_application: String,
    fcm_application: String,
}

/// The most that FCM and APNs take of one message, in bytes of its JSON.
const MOST_BYTES: usize = 4_096;
/// How much of a post's title and text is sent at most, in characters: what a lock screen shows.
const MOST_TITLE: usize = 200;
const MOST_TEXT: usize = 1_000;
/// How many posts of a digest are named, and how much of each title, in characters.
const MOST_NAMED: usize = 5;
const MOST_OF_NAMED: usize = 80;
const SERVICE: &str = "the push gateway";

impl SnsPushGateway {
    /// Sends through these platform applications, which are named by their ARNs.
    #[must_use]
    pub fn new(
        config: &SdkConfig,
        apns_application: impl Into<String>,
        fcm_application: impl Into<String>,
    ) -> Self {
        Self {
            client: Client::from_conf(Builder::from(config).retry_classifier(ThrottlingIsNotRetried).build()),
            apns_application: apns_application.into(),
            fcm_application: fcm_application.into(),
        }
    }

    const fn application(&self, platform: Platform) -> &String {
        match platform {
            Platform::Apns => &self.apns_application,
            Platform::Fcm => &self.fcm_application,
        }
    }

    /// Whose an endpoint is, that it is on, and with which token: what SNS may have otherwise.
    async fn repair(&self, arn: &str, user_data: &str, token: &str) -> Result<()> {
        let request = self
            .client
            .set_endpoint_attributes()
            .endpoint_arn(arn)
            .attributes("Enabled", "true")
            .attributes("Token", token)
            .attributes("CustomUserData", user_data);
        request.send().await.map_err(refused)?;
        Ok(())
    }
}

impl PushGateway for SnsPushGateway {
    async fn register(&self, owner: UserId, device_id: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        let user_data = format!("{owner}/{device_id}");
        let request = self
            .client
            .create_platform_endpoint()
            .platform_application_arn(self.application(token.platform))
            .token(&token.token)
            .custom_user_data(&user_data)
            .attributes("Enabled", "true");
        let arn = match request.send().await {
            Ok(answer) => {
                let arn = answer
                    .endpoint_arn
                    .ok_or_else(|| Error::unavailable(SERVICE, "SNS names no endpoint"))?;
                return Ok(Endpoint(arn));
            }
            Err(error) => match error.as_service_error() {
                Some(CreatePlatformEndpointError::InvalidParameterException(refusal)) => {
                    let message = refusal.message().unwrap_or_default();
                    match existing_endpoint(message) {
                        Some(arn) => arn,
                        None if is_bad_token(message) => return Err(device::bad_token().into()),
                        None => return Err(refused(error)),
                    }
                }
                // There is no such platform application: a deployment may do without one of the platforms.
                Some(CreatePlatformEndpointError::NotFoundException(_)) => {
                    return Err(device::no_platform().into());
                }
                _ => return Err(refused(error)),
            },
        };
        // The token is known with other attributes: it was another's, or it was switched off.
        self.repair(&arn, &user_data, &token.token).await?;
        Ok(Endpoint(arn))
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        // Succeeds also where there is none.
        let request = self.client.delete_endpoint().endpoint_arn(&endpoint.0);
        request.send().await.map_err(refused)?;
        Ok(())
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        let (title, text) = (title(push), push.post.body.as_deref().unwrap_or_default());
        let payload = match device.token.platform {
            Platform::Fcm => fitting(&title, text, |title, text| fcm(push, title, text)),
            Platform::Apns => fitting(&title, text, |title, text| apns(push, title, text)),
        };
        let collapse_id = push.post.post_id.to_string();
        self.send(device, &title, payload, collapse_id, push.time_to_live).await
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        let (title, text) = (digest.title(), named(digest));
        let payload = match device.token.platform {
            Platform::Fcm => fitting(&title, &text, |title, text| fcm_digest(digest, title, text)),
            Platform::Apns => fitting(&title, &text, |title, text| apns_digest(digest, title, text)),
        };
        self.send(device, &title, payload, digest_id(digest), digest.time_to_live).await
    }
}

impl SnsPushGateway {
    async fn send(
        &self,
        device: &Device,
        title: &str,
        payload: String,
        collapse_id: String,
        time_to_live: Duration,
    ) -> Result<Published> {
        // An endpoint of a sandbox application has its platform in its ARN, and takes that key alone.
        let is_sandbox = device.endpoint.0.contains(":endpoint/APNS_SANDBOX/");
        let key = match device.token.platform {
            Platform::Fcm => "GCM",
            Platform::Apns if is_sandbox => "APNS_SANDBOX",
            Platform::Apns => "APNS",
        };
        let message = json!({"default": shortened(title, MOST_TITLE), key: payload}).to_string();
        let request = self
            .client
            .publish()
            .target_arn(&device.endpoint.0)
            .message_structure("json")
            .message(message)
            .set_message_attributes(Some(attributes(key, collapse_id, time_to_live)?));
        let Err(error) = request.send().await else { return Ok(Published::Accepted) };
        match error.as_service_error() {
            Some(PublishError::EndpointDisabledException(_)) => Ok(Published::EndpointDisabled),
            Some(PublishError::NotFoundException(_)) => Ok(Published::EndpointMissing),
            Some(PublishError::InvalidParameterException(refusal))
                if is_missing_target(refusal.message()) =>
            {
                Ok(Published::EndpointMissing)
            }
            _ => Err(refused(error)),
        }
    }
}

/// Who is throttled and asks again at once is throttled again, and holds up the worker. The pushes are put off instead,
/// which costs nothing meanwhile. All else is retried as the SDK does.
#[derive(Debug)]
struct ThrottlingIsNotRetried;

impl ClassifyRetry for ThrottlingIsNotRetried {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error =
            context.output_or_error().and_then(Result::err).and_then(|error| error.as_operation_error());
        let code =
            error.and_then(|error| error.downcast_ref::<PublishError>()).and_then(ProvideErrorMetadata::code);
        let status = context.response().map(|response| response.status().as_u16());
        if is_throttling(code, status) { RetryAction::RetryForbidden } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "throttling is not retried"
    }
}

/// Why SNS did not do what it was asked.
fn refused<E: ProvideErrorMetadata + std::error::Error + 'static>(error: SdkError<E>) -> Error {
    let status = error.raw_response().map(|response| response.status().as_u16());
    if is_throttling(error.code(), status) {
        tracing::warn!(code = error.code(), "SNS takes no more just now");
        return Error::Throttled { service: SERVICE };
    }
    failed(SERVICE)(error)
}

/// SNS says 400 and `Throttling: Rate exceeded` (<https://github.com/amzn/smoke-aws/pull/149>); its API reference has
/// `ThrottlingException` with 400 among the common errors, and `Throttled` with 429 for some operations.
fn is_throttling(code: Option<&str>, status: Option<u16>) -> bool {
    status == Some(429)
        || matches!(code, Some("Throttling" | "ThrottlingException" | "Throttled" | "ThrottledException"))
}

/// `Invalid parameter: Token Reason: Endpoint arn:aws:sns:… already exists with the same Token, but different attributes.`
fn existing_endpoint(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Endpoint arn:")?;
    let (arn, _) = rest.split_once(" already exists")?;
    Some(format!("arn:{arn}"))
}

/// `Invalid parameter: Token Reason: iOS device tokens must be no more than 400 hexadecimal characters`, and what else it
/// says of tokens; of the application's ARN it says `PlatformApplicationArn Reason: …`.
fn is_bad_token(message: &str) -> bool {
    message.contains("Invalid parameter: Token ")
}

/// SNS says so of an endpoint that was deleted: `Invalid parameter: TargetArn Reason: No endpoint found for the target arn
/// specified`.
fn is_missing_target(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("No endpoint found"))
}

fn attributes(
    key: &str,
    collapse_id: String,
    time_to_live: Duration,
) -> Result<HashMap<String, MessageAttributeValue>> {
    let attribute = |name: &str, value: String| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
        Ok::<_, Error>((name.to_owned(), value.map_err(failed(SERVICE))?))
    };
    let seconds = time_to_live.as_secs().to_string();
    let ttl = attribute(&format!("AWS.SNS.MOBILE.{key}.TTL"), seconds)?;
    if key == "GCM" {
        return Ok([ttl].into());
    }
    let priority = attribute("AWS.SNS.MOBILE.APNS.PRIORITY", "10".to_owned())?;
    let kind = attribute("AWS.SNS.MOBILE.APNS.PUSH_TYPE", "alert".to_owned())?;
    let collapse = attribute("AWS.SNS.MOBILE.APNS.COLLAPSE_ID", collapse_id)?;
    Ok([ttl, priority, kind, collapse].into())
}

/// A payload with as much of a text as the platform takes. A title of the most characters leaves room for all else.
fn fitting(title: &str, body: &str, payload: impl Fn(&str, &str) -> Value) -> String {
    let title = shortened(title, MOST_TITLE);
    let mut characters = body.chars().count().min(MOST_TEXT);
    loop {
        let text = payload(&title, &shortened(body, characters)).to_string();
        if text.len() <= MOST_BYTES || characters == 0 {
            return text;
        }
        // A character takes up to twelve bytes of JSON, so that this ends after a few rounds.
        characters -= ((text.len() - MOST_BYTES).div_ceil(12)).min(characters);
    }
}

/// The post's title, and what is new about it.
fn title(push: &Push) -> String {
    let news = match push.news {
        News::Posted => return push.post.title.clone(),
        News::Raised(Severity::Extreme) => "Now extreme",
        News::Raised(Severity::Severe) => "Now severe",
        News::Raised(_) => "Worse",
        News::Resolved => "Over",
        News::Cancelled => "Cancelled",
    };
    format!("{news}: {}", push.post.title)
}

/// The first characters, with a sign that there were more.
fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) if characters == 0 => String::new(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

fn data(push: &Push) -> Value {
    let mut data = json!({
        "post_id": push.post.post_id,
        "news": push.news.to_string(),
        "category": push.post.category,
        "severity": push.post.severity,
    });
    match push.because {
        Because::Subscription { subscription_id } => data["subscription_id"] = json!(subscription_id),
        Because::Shared { shared_by } => data["shared_by"] = json!(shared_by),
    }
    data
}

/// FCM's HTTP v1 message, as SNS takes it.
fn fcm(push: &Push, title: &str, text: &str) -> Value {
    let Push { post, time_to_live, .. } = push;
    // Of a phone that is away FCM keeps the messages of four collapse keys: of more posts it drops some
    // (https://firebase.google.com/docs/cloud-messaging/customize-messages/collapsible-message-types). Notifications
    // without a key of ours would share the app's. The timeline has them all.
    json!({"fcmV1Message": {"message": {
        "notification": {"title": title, "body": text},
        "data": data(push),
        "android": {
            "collapse_key": post.post_id,
            "priority": if post.severity >= Severity::Moderate { "high" } else { "normal" },
            "ttl": format!("{}s", time_to_live.max(&Duration::ZERO).as_secs()),
            // Takes the place of the same post's notification that is shown already.
            "notification": {"tag": post.post_id},
        },
    }}})
}

/// APNs' payload. `time-sensitive` breaks through a focus, and is for what is severe.
fn apns(push: &Push, title: &str, text: &str) -> Value {
    let is_severe = push.post.severity >= Severity::Severe;
    let mut payload = data(push);
    payload["aps"] = json!({
        "alert": {"title": title, "body": text},
        "sound": "default",
        "thread-id": push.post.category,
        "interruption-level": if is_severe { "time-sensitive" } else { "active" },
    });
    payload
}

/// The first titles of a digest, one a line.
fn named(digest: &Digest) -> String {
    let titles = digest.posts.iter().take(MOST_NAMED).map(|post| shortened(&post.title, MOST_OF_NAMED));
    titles.collect::<Vec<_>>().join("\n")
}

/// Which digest it is: the same where it is sent again, and another one the next night.
fn digest_id(digest: &Digest) -> String {
    digest.posts.first().map_or_else(|| "digest".to_owned(), |post| format!("digest-{}", post.post_id))
}

/// FCM takes texts alone.
fn digest_data(digest: &Digest) -> Value {
    let ids = digest.posts.iter().take(MOST_NAMED).map(|post| post.post_id.to_string());
    json!({
        "digest": digest_id(digest),
        "count": digest.posts.len().to_string(),
        "post_ids": ids.collect::<Vec<_>>().join(","),
    })
}

fn fcm_digest(digest: &Digest, title: &str, text: &str) -> Value {
    json!({"fcmV1Message": {"message": {
        "notification": {"title": title, "body": text},
        "data": digest_data(digest),
        "android": {
            "collapse_key": digest_id(digest),
            "priority": if digest.severity() >= Severity::Moderate { "high" } else { "normal" },
            "ttl": format!("{}s", digest.time_to_live.as_secs()),
            "notification": {"tag": digest_id(digest)},
        },
    }}})
}

fn apns_digest(digest: &Digest, title: &str, text: &str) -> Value {
    let mut payload = digest_data(digest);
    payload["aps"] = json!({
        "alert": {"title": title, "body": text},
        "sound": "default",
        "thread-id": "digest",
        "interruption-level": "active",
    });
    payload
}

#[cfg(test)]
mod tests {
    use tocsin_conformance::fixtures;
    use tocsin_domain::post::Post;

    use super::*;

    #[test]
    fn an_existing_endpoint_is_read_from_the_refusal() {
        let message = "Invalid parameter: Token Reason: Endpoint arn:aws:sns:eu-north-1:1:endpoint/GCM/t/5e already \
                       exists with the same Token, but different attributes.";
        assert_eq!(existing_endpoint(message).as_deref(), Some("arn:aws:sns:eu-north-1:1:endpoint/GCM/t/5e"));
        assert_eq!(existing_endpoint("Invalid parameter: PlatformApplicationArn"), None);
    }

    #[test]
    fn a_bad_token_is_told_from_a_bad_setting() {
        for message in [
            "Invalid parameter: Token Reason: iOS device tokens must be no more than 400 hexadecimal characters",
            "Invalid parameter: Token Reason: must be at least 1 characters long",
        ] {
            assert!(is_bad_token(message), "{message}");
        }
        assert!(!is_bad_token("Invalid parameter: PlatformApplicationArn Reason: Wrong number of slashes"));
    }

    fn push(title: String, body: String) -> Push {
        let because = fixtures::subscription(fixtures::wish("fire"));
        let because = Because::Subscription { subscription_id: because.subscription_id };
        let (news, time_to_live) = (News::Raised(Severity::Extreme), Duration::from_hours(1));
        Push { post: Post { title, body: Some(body), ..fixtures::post() }, news, because, time_to_live }
    }

    #[test]
    fn a_payload_is_within_the_platforms_limit_whatever_the_post() {
        for (title, body) in
            [("x", 0), ("\u{1}", 5_000), ("❗", 1_100), ("\"", 5_000), ("🔥", 5_000), ("👩‍👩‍👧‍👦", 5_000)]
        {
            for title_length in [1, 200, 5_000] {
                let push = push(title.repeat(title_length), title.repeat(body));
                let whole = super::title(&push);
                let text = push.post.body.as_deref().unwrap();
                for payload in [
                    fitting(&whole, text, |title, text| fcm(&push, title, text)),
                    fitting(&whole, text, |title, text| apns(&push, title, text)),
                ] {
                    assert!(payload.len() <= MOST_BYTES, "{} bytes", payload.len());
                    let read: Value = serde_json::from_str(&payload).unwrap();
                    assert!(payload.contains(&push.post.post_id.to_string()), "{read}");
                    assert!(
                        body == 0 || payload.len() > MOST_BYTES / 2,
                        "{} bytes of {title:?}",
                        payload.len()
                    );
                }
            }
        }
    }

    #[test]
    fn a_digest_is_within_it_too_and_names_the_first() {
        for (title, count) in [("x", 2), ("🔥", 2), ("👩‍👩‍👧‍👦", 500), ("\u{1}", 500)] {
            let posts: Vec<_> = (0..count).map(|_| push(title.repeat(5_000), String::new()).post).collect();
            let digest = Digest { posts, time_to_live: Duration::from_hours(1) };
            let (whole, text) = (digest.title(), named(&digest));
            assert_eq!(text.lines().count(), MOST_NAMED.min(count));
            for payload in [
                fitting(&whole, &text, |title, text| fcm_digest(&digest, title, text)),
                fitting(&whole, &text, |title, text| apns_digest(&digest, title, text)),
            ] {
                assert!(payload.len() <= MOST_BYTES, "{} bytes", payload.len());
                let read: Value = serde_json::from_str(&payload).unwrap();
                assert!(payload.contains(&format!("{count} posts")), "{read}");
                assert!(payload.contains(&digest.posts[0].post_id.to_string()), "{read}");
            }
            // APNs' limit for it, in bytes.
            assert!(digest_id(&digest).len() <= 64);
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("røyk", 4), "røyk");
        assert_eq!(shortened("røyk og ild", 4), "røyk…");
        assert_eq!(shortened("røyk og ild", 5), "røyk…");
        assert_eq!(shortened("røyk", 0), "");
    }
}
