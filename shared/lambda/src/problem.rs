//! The one way from an error to an answer: RFC 9457 problem details.
//!
//! A refusal was made for the caller, and is told whole. Anything else is ours: it is logged here, once, with its cause,
//! and the caller learns no more than the request id, by which we find that line.

use http::StatusCode;
use serde::Serialize;
use tocsin_domain::{
    Error, Refusal,
    error::{FieldError, Kind},
};

use crate::response::Response;

/// When another try makes sense after a service failed, in seconds.
const RETRY_AFTER: u64 = 5;

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

/// The answer to a request that failed.
#[must_use]
pub fn response(error: &Error, request_id: &str) -> Response {
    match error {
        Error::Refused(refusal) => refused(refusal, request_id),
        Error::Unavailable { service, cause } => {
            tracing::error!(service, cause = &**cause, "a service failed, and the request with it");
            unavailable(request_id)
        }
        Error::Throttled { service } => {
            tracing::error!(service, "a service takes no more, and the request with it failed");
            unavailable(request_id)
        }
        Error::Unreadable { what, cause } => {
            tracing::error!(what, cause = &**cause, "something unreadable failed a request");
            internal(request_id)
        }
    }
}

fn unavailable(request_id: &str) -> Response {
    let detail = format!("try again in {RETRY_AFTER} seconds");
    answer(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &detail, request_id, &[])
        .with("retry-after", RETRY_AFTER.to_string())
}

/// The answer where we do not know what happened: only the request id.
#[must_use]
pub fn internal(request_id: &str) -> Response {
    let detail = "name the request id when asking for help";
    answer(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail, request_id, &[])
}

fn refused(refusal: &Refusal, request_id: &str) -> Response {
    tracing::debug!(code = refusal.code, detail = refusal.detail, "a request was refused");
    let response = answer(status(refusal.kind), refusal.code, &refusal.detail, request_id, &refusal.errors);
    let response = match refusal.retry_after {
        // Whole seconds, rounded up: a client that waits for as long is not refused again.
        Some(wait) => response.with("retry-after", wait.as_millis().div_ceil(1_000).max(1).to_string()),
        None => response,
    };
    match (refusal.kind, refusal.code) {
        // RFC 9110, 15.5.2 asks for it; RFC 6750, 3.1 names an error only where a token was sent. (A session token that is
        // missing is answered as one that is not good.)
        (Kind::Unauthenticated, "token_invalid" | "account_closed" | "session_invalid") => {
            response.with("www-authenticate", r#"Bearer error="invalid_token""#)
        }
        (Kind::Unauthenticated, _) => response.with("www-authenticate", "Bearer"),
        _ => response,
    }
}

const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn answer(status: StatusCode, code: &str, detail: &str, request_id: &str, errors: &[FieldError]) -> Response {
    let problem = Problem {
        r#type: format!("https://tocsin.dev/problems/{}", code.replace('_', "-")),
        title: title(code, status),
        status: status.as_u16(),
        detail,
        code,
        request_id,
        errors,
    };
    let text = serde_json::to_string(&problem).unwrap_or_default();
    Response::text(status, "application/problem+json", text).with("cache-control", "no-store")
}

/// What a kind of problem is called. RFC 9457, 3.1.3: the same words each time.
fn title(code: &str, status: StatusCode) -> &'static str {
    match code {
        "invalid_input" => "The request is not as the contract has it",
        "malformed_json" => "The body is not JSON",
        "token_missing" => "An access token is needed",
        "token_invalid" => "The token is not valid",
        "account_closed" => "The account was closed",
        "credentials_invalid" => "The email or the password is wrong",
        "session_invalid" => "The session token is not valid",
        "email_not_verified" => "The address is not proved yet",
        "email_taken" => "The email has an account already",
        "email_unchanged" => "This is the email of the account",
        "username_taken" => "The username is taken",
        "password_missing" => "The account has no password",
        "sign_in_again" => "Sign in again",
        "sign_in_declined" => "The provider did not sign you in",
        "sign_in_not_begun" => "This browser did not begin to sign in",
        "sign_in_not_set_up" => "This way to sign in is not set up",
        "state_invalid" => "The answer is not to this browser",
        "code_invalid" => "The code is not valid",
        "identity_token_invalid" => "The identity token is not valid",
        "identity_email_not_verified" => "The provider has not verified your address",
        "idempotency_key_reused" => "The idempotency key stands for another post",
        "too_many_subscriptions" => "There are as many subscriptions as there can be",
        "too_many_devices" => "There are as many devices as there can be",
        "too_many_friends" => "There are as many friends as there can be",
        "too_many_friendship_requests" => "There are as many requests as there can be",
        "not_your_post" => "It is another's post",
        "own_post" => "It is a post of yours",
        "post_ended" => "The post has ended",
        "too_many_blocks" => "There are as many blocks as there can be",
        "no_friendship_request" => "They have not asked for it",
        "friends_not_shown" => "Their friends are not shown to you",
        "feed_exists" => "The feed is there already",
        "feed_disabled" => "The feed is not polled",
        "log_unavailable" => "The log did not confirm the post",
        "mail_unavailable" => "The mail could not be sent",
        _ => match status {
            StatusCode::BAD_REQUEST => "A parameter is not as the contract has it",
            StatusCode::UNAUTHORIZED => "You have not shown who you are",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::NOT_FOUND => "There is no such thing",
            StatusCode::CONFLICT => "It contradicts what is there",
            StatusCode::PAYLOAD_TOO_LARGE => "The body is too large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "The body is of another type",
            StatusCode::UNPROCESSABLE_ENTITY => "The body is not as the contract has it",
            StatusCode::TOO_MANY_REQUESTS => "Too many requests",
            StatusCode::SERVICE_UNAVAILABLE => "A service that this needs does not answer",
            _ => "Something went wrong here",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tocsin_domain::{access_token, error::Invalid};

    use super::*;

    fn sent(error: impl Into<Error>) -> (Value, Value) {
        let sent = serde_json::to_value(response(&error.into(), "JKJ=")).unwrap();
        let body = serde_json::from_str(sent["body"].as_str().unwrap()).unwrap();
        (sent, body)
    }

    #[test]
    fn a_refusal_is_told_whole() {
        let errors = vec![Invalid::new("out_of_range", "must be from -90 to 90").at("/location/lat")];
        let (sent, body) = sent(Refusal::invalid(errors));
        assert_eq!(sent["statusCode"], 422);
        assert_eq!(sent["headers"]["content-type"], "application/problem+json");
        let expected = json!({
            "type": "https://tocsin.dev/problems/invalid-input",
            "title": "The request is not as the contract has it",
            "status": 422,
            "detail": "/location/lat: must be from -90 to 90",
            "code": "invalid_input",
            "request_id": "JKJ=",
            "errors": [{"pointer": "/location/lat", "code": "out_of_range", "detail": "must be from -90 to 90"}],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn an_error_of_ours_is_told_by_its_request_id_alone() {
        let (sent_500, body) = sent(Error::unreadable("a post", "secret text"));
        assert_eq!((&sent_500["statusCode"], &body["code"]), (&json!(500), &json!("internal_error")));
        assert!(!body.to_string().contains("secret") && body["request_id"] == "JKJ=", "{body}");
        let (sent_503, body) = sent(Error::unavailable("posts", "secret text"));
        assert_eq!(
            (&sent_503["statusCode"], &sent_503["headers"]["retry-after"]),
            (&json!(503), &json!("5"))
        );
        assert!(!body.to_string().contains("secret"), "{body}");
    }

    #[test]
    fn a_client_is_told_when_to_come_back_and_what_to_show() {
        let limited = Refusal::new(Kind::RateLimited, "rate_limited", "wait");
        let (limited, _) = sent(Refusal { retry_after: Some(Duration::from_millis(1_200)), ..limited });
        assert_eq!((&limited["statusCode"], &limited["headers"]["retry-after"]), (&json!(429), &json!("2")));
        let (missing, body) = sent(access_token::missing());
        assert_eq!(
            (&missing["statusCode"], &missing["headers"]["www-authenticate"]),
            (&json!(401), &json!("Bearer"))
        );
        assert_eq!(body.get("errors"), None);
        for code in ["token_invalid", "account_closed", "session_invalid"] {
            let (invalid, _) = sent(Refusal::new(Kind::Unauthenticated, code, "it is not valid"));
            assert_eq!(invalid["headers"]["www-authenticate"], r#"Bearer error="invalid_token""#, "{code}");
        }
    }
}
