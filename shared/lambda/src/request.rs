//! A request, as API Gateway's HTTP API hands it to a function (payload format 2.0), and what is read from it.
//!
//! The event is read leniently, and the request strictly: whatever a client can send gets an answer of ours, with a reason.
//!
//! A body that comes with a request that takes none is not looked at (RFC 9110, 9.3.1: it has no meaning).

use std::{collections::HashMap, net::IpAddr, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;
use tocsin_domain::{
    Refusal,
    access_token::{self, Caller},
    error::{Invalid, Kind},
    posts::IdempotencyKey,
    session::Origin,
};

use crate::{callers::Callers, json, query::Query};

/// The most bytes that a body has: 64 KiB.
pub const MOST_BYTES: usize = 64 * 1024;

/// A request.
#[derive(Debug)]
pub struct Request {
    id: String,
    event: HttpEvent,
}

/// The event, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpEvent {
    #[serde(default)]
    raw_query_string: Option<String>,
    #[serde(default)]
    headers: HashMap<String, HeaderValue>,
    /// API Gateway takes them out of the headers.
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    path_parameters: Option<HashMap<String, Option<String>>>,
    #[serde(default)]
    request_context: RequestContext,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

/// API Gateway joins a repeated header with commas; others who send such events may list its values.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    #[serde(default)]
    request_id: Option<String>,
    #[serde(default)]
    http: HttpContext,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpContext {
    #[serde(default)]
    source_ip: Option<String>,
}

impl Request {
    /// The request of an event. Its id is the gateway's, which the access log has too, or else the invocation's.
    #[must_use]
    pub fn new(mut event: HttpEvent, invocation_id: &str) -> Self {
        let id = event.request_context.request_id.take().filter(|id| !id.is_empty());
        Self { id: id.unwrap_or_else(|| invocation_id.to_owned()), event }
    }

    /// What to name when asking for help.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.event.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        match value {
            HeaderValue::One(value) => Some(value),
            HeaderValue::Several(values) => values.first().map(String::as_str),
        }
    }

    /// A cookie's value. One that comes twice is none: whoever set the other may have meant to be taken for the first.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let apart = self.event.cookies.as_deref().unwrap_or_default();
        // `cargo lambda watch` leaves them in the header.
        let header = self.header("cookie").filter(|_| apart.is_empty());
        let cookies = apart.iter().map(String::as_str).chain(header).flat_map(|cookies| cookies.split(';'));
        let mut values = cookies
            .filter_map(|cookie| cookie.split_once('='))
            .filter(|(known, _)| known.trim() == name)
            .map(|(_, value)| value.trim());
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The query's parameters.
    #[must_use]
    pub fn query(&self) -> Query {
        Query::of(self.event.raw_query_string.as_deref().unwrap_or_default())
    }

    /// Refuses any query: this request takes none.
    pub fn no_query(&self) -> Result<(), Refusal> {
        self.query().finish()
    }

    /// An id in the path. One that cannot be an id names nothing: it is not found.
    pub fn id_in_path<T: FromStr>(&self, name: &str, what: &str) -> Result<T, Refusal> {
        self.path_parameter(name).parse().map_err(|_| Refusal::not_found(what))
    }

    /// A name in the path that the client chooses: one that is not valid is refused with the reason.
    pub fn name_in_path<T: FromStr<Err = Invalid>>(&self, name: &str) -> Result<T, Refusal> {
        let parsed = self.path_parameter(name).parse();
        parsed.map_err(|invalid: Invalid| Refusal::malformed(vec![invalid.at(format!("{{{name}}}"))]))
    }

    fn path_parameter(&self, name: &str) -> String {
        let value =
            self.event.path_parameters.as_ref().and_then(|parameters| parameters.get(name)?.as_deref());
        // API Gateway decodes them; `cargo lambda watch` does not. No valid value has a percent sign.
        decode(value.unwrap_or_default())
    }

    /// Who calls, by their access token.
    pub async fn caller(&self, callers: &Callers) -> tocsin_domain::Result<Caller> {
        callers.of_token(self.bearer().ok_or_else(access_token::missing)?).await
    }

    /// The token of `Authorization: Bearer …` (RFC 6750, 2.1).
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start()).filter(|token| !token.is_empty())
    }

    /// `Idempotency-Key`, if it is sent.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Refusal> {
        let key = self.header("idempotency-key").map(IdempotencyKey::parse).transpose();
        key.map_err(|invalid| Refusal::malformed(vec![invalid.at("#Idempotency-Key")]))
    }

    /// Where the request comes from, for rate limits. Of an IPv6 address it is the first 56 bits, which is what a home has
    /// (RIPE-690, 4.2): all others are for the client to choose. Who has more of them, as a firm has 48, is held by the
    /// limits of each account and each mail address.
    #[must_use]
    pub fn client_address(&self) -> String {
        let text = self.event.request_context.http.source_ip.as_deref().unwrap_or("unknown");
        match text.parse().map(|address: IpAddr| address.to_canonical()) {
            Ok(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{:x}::/56", d & 0xff00)
            }
            Ok(IpAddr::V4(address)) => address.to_string(),
            Err(_) => text.to_owned(),
        }
    }

    /// From where a session is used.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin::new(self.header("user-agent"), self.client_address())
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Result<Value, Refusal> {
        let media_type = self.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let detail = "send the body as application/json";
            return Err(Refusal::new(Kind::UnsupportedMediaType, "unsupported_media_type", detail));
        }
        let body = self.event.body.as_deref().unwrap_or_default();
        let bytes = if self.event.is_base64_encoded {
            BASE64_STANDARD.decode(body).map_err(|_| malformed("the body's base64 is not valid"))?
        } else {
            body.as_bytes().to_vec()
        };
        if bytes.len() > MOST_BYTES {
            let detail = format!("the body has {} bytes; at most {MOST_BYTES} are read", bytes.len());
            return Err(Refusal::new(Kind::TooLarge, "body_too_large", detail));
        }
        if bytes.is_empty() {
            return Err(malformed("the body is empty"));
        }
        json::parse(&bytes).map_err(|error| malformed(&error.to_string()))
    }
}

fn malformed(detail: &str) -> Refusal {
    Refusal::new(Kind::Malformed, "malformed_json", detail)
}

/// Percent-decodes a text. What is not UTF-8 becomes U+FFFD, which no valid value has.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use tocsin_domain::{category::CategoryName, ids::PostId};

    use super::*;

    pub(crate) fn request(event: Value) -> Request {
        Request::new(serde_json::from_value(event).unwrap(), "invocation")
    }

    fn body(content_type: &str, body: &str, is_base64_encoded: bool) -> Request {
        request(json!({
            "headers": {"Content-Type": content_type}, "body": body, "isBase64Encoded": is_base64_encoded,
        }))
    }

    #[test]
    fn a_body_is_read_also_from_base64() {
        let expected = json!({"a": "é"});
        assert_eq!(body("application/json", r#"{"a": "é"}"#, false).json().unwrap(), expected);
        let encoded = BASE64_STANDARD.encode(r#"{"a": "é"}"#);
        assert_eq!(body("Application/JSON; charset=utf-8", &encoded, true).json().unwrap(), expected);
    }

    #[test]
    fn a_body_that_cannot_be_read_is_refused_with_the_reason() {
        let refusal = |content_type: &str, text: &str, base64| {
            let refusal = body(content_type, text, base64).json().unwrap_err();
            (refusal.kind, refusal.code)
        };
        assert_eq!(
            refusal("text/plain", "{}", false),
            (Kind::UnsupportedMediaType, "unsupported_media_type")
        );
        assert_eq!(refusal("", "{}", false), (Kind::UnsupportedMediaType, "unsupported_media_type"));
        assert_eq!(refusal("application/json", "", false), (Kind::Malformed, "malformed_json"));
        assert_eq!(refusal("application/json", "!", true), (Kind::Malformed, "malformed_json"));
        let large = format!("\"{}\"", "x".repeat(MOST_BYTES));
        assert_eq!(refusal("application/json", &large, false), (Kind::TooLarge, "body_too_large"));
        let error = body("application/json", "{\"a\": 1,\n  b}", false).json().unwrap_err();
        assert!(error.detail.contains("line 2 column 3"), "{}", error.detail);
        assert!(
            request(json!({"headers": {"content-type": "application/json"}, "body": null})).json().is_err()
        );
    }

    #[test]
    fn a_cookie_is_found_in_both_forms_of_the_event() {
        let apart = |cookies: Value| request(json!({"cookies": cookies, "headers": {"cookie": "a=other"}}));
        assert_eq!(apart(json!(["b=2", "a=1"])).cookie("a"), Some("1"));
        assert_eq!(apart(json!([])).cookie("a"), Some("other"));
        let header = request(json!({"headers": {"Cookie": "b=2; a=1==; c"}}));
        assert_eq!((header.cookie("a"), header.cookie("c"), header.cookie("d")), (Some("1=="), None, None));
        assert_eq!(apart(json!(["a=1", "a=2"])).cookie("a"), None, "which of them is meant?");
        assert_eq!(request(json!({"cookies": null})).cookie("a"), None);
    }

    #[test]
    fn ids_and_names_in_the_path_are_decoded_and_checked() {
        let id = PostId::new(tocsin_domain::time::now());
        let named = |value: &str| request(json!({"pathParameters": {"post_id": value, "category": value}}));
        assert_eq!(named(&id.to_string()).id_in_path("post_id", "post"), Ok(id));
        assert_eq!(named(&id.to_string().replace('-', "%2D")).id_in_path("post_id", "post"), Ok(id));
        for bad in ["", "1", "%00", "%ff", "../x", &id.to_string().to_uppercase()] {
            let refusal = named(bad).id_in_path::<PostId>("post_id", "post").unwrap_err();
            assert_eq!((refusal.kind, refusal.code), (Kind::NotFound, "not_found"), "{bad}");
        }
        let refusal = named("Fire").name_in_path::<CategoryName>("category").unwrap_err();
        assert_eq!((refusal.kind, refusal.errors[0].pointer.as_str()), (Kind::Malformed, "{category}"));
    }

    #[test]
    fn tokens_and_keys_are_taken_from_their_headers() {
        let with = |name: &str, value: &str| request(json!({"headers": {name: value}}));
        assert_eq!(with("Authorization", "bearer  a.b.c").bearer(), Some("a.b.c"));
        for none in ["", "Bearer", "Bearer ", "Basic YTpi", "a.b.c"] {
            assert_eq!(with("authorization", none).bearer(), None, "{none}");
        }
        assert_eq!(with("idempotency-key", "k-1").idempotency_key().unwrap().unwrap().as_str(), "k-1");
        let refusal = with("idempotency-key", "é").idempotency_key().unwrap_err();
        assert_eq!((refusal.kind, refusal.errors[0].pointer.as_str()), (Kind::Malformed, "#Idempotency-Key"));
        assert_eq!(request(json!({"headers": {"x": ["1", "2"]}})).header("X"), Some("1"));
    }

    #[test]
    fn addresses_are_those_that_a_client_cannot_choose() {
        let from = |ip: &str| request(json!({"requestContext": {"http": {"sourceIp": ip}}})).client_address();
        assert_eq!(from("203.0.113.7"), "203.0.113.7");
        assert_eq!(from("2001:db8:1:2:3:4:5:6"), "2001:db8:1:0::/56");
        // A home has 256 networks, and the next home is another.
        assert_eq!(from("2001:db8:1:ab00::1"), from("2001:db8:1:abff:ffff::"));
        assert_ne!(from("2001:db8:1:ab00::1"), from("2001:db8:1:ac00::1"));
        assert_eq!(from("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(request(json!({})).client_address(), "unknown");
    }

    #[test]
    fn a_request_is_known_by_the_gateways_id() {
        assert_eq!(request(json!({"requestContext": {"requestId": "JKJ="}})).id(), "JKJ=");
        assert_eq!(request(json!({"requestContext": {}})).id(), "invocation");
    }
}
