//! Responses, as API Gateway's HTTP API takes them from a function (payload format 2.0).

use std::fmt;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::StatusCode;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct as _},
};
use sha2::{Digest as _, Sha256};
use tocsin_domain::{Error, Result};

use crate::request::Request;

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    cookies: Vec<String>,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Empty,
    Text(String),
    Bytes(&'static [u8]),
}

/// Who may keep an answer, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// The caller alone, who asks each time whether it still holds.
    Private,
    /// Anyone, for so many seconds without asking.
    Public(u32),
}

/// A cookie that the browser alone keeps and shows to nobody but us: over TLS (`Secure`, `__Host-` in its name), not to
/// scripts (`HttpOnly`), and where a page of somebody else sends the browser here, only with a navigation (`SameSite=Lax`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// Its name: with `__Host-` in front, no other host and no path of ours can set it (RFC 6265bis, 4.1.3.2).
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
    /// How long it is kept, in seconds; with none it is forgotten at once.
    pub max_age: u32,
}

impl fmt::Display for Cookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, max_age } = self;
        write!(f, "{name}={value}; Max-Age={max_age}; Path=/; Secure; HttpOnly; SameSite=Lax")
    }
}

impl Caching {
    pub(crate) fn header(self) -> String {
        match self {
            Self::Private => "private, no-cache".to_owned(),
            Self::Public(seconds) => format!("public, max-age={seconds}"),
        }
    }
}

impl Response {
    /// 200 for something that a client can keep: with an `ETag`, and 304 where it has it already.
    pub fn read(request: &Request, caching: Caching, value: &impl Serialize) -> Result<Self> {
        Ok(Self::document(request, caching, JSON, to_json(value)?))
    }

    /// As [`Self::read`], for a text of any type.
    #[must_use]
    pub fn document(request: &Request, caching: Caching, content_type: &str, text: String) -> Self {
        let digest = Sha256::digest(&text);
        let tag = format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&digest[..12]));
        let response = if is_known(request, &tag) {
            Self::empty(StatusCode::NOT_MODIFIED)
        } else {
            Self::text(StatusCode::OK, content_type, text)
        };
        response.with("etag", tag).with("cache-control", caching.header())
    }

    /// 200 for something that no cache keeps.
    pub fn ok(value: &impl Serialize) -> Result<Self> {
        Self::json(StatusCode::OK, value)
    }

    /// 201 for something new.
    pub fn created(value: &impl Serialize) -> Result<Self> {
        Self::json(StatusCode::CREATED, value)
    }

    /// 202 for something that will be.
    pub fn accepted(value: &impl Serialize) -> Result<Self> {
        Self::json(StatusCode::ACCEPTED, value)
    }

    /// 302 to another address, as long as it takes to come back.
    #[must_use]
    pub fn redirect(location: String) -> Self {
        Self::empty(StatusCode::FOUND).at(location).with("cache-control", "no-store")
    }

    /// 202 for something that will be, of which there is nothing to tell.
    #[must_use]
    pub const fn taken() -> Self {
        Self::empty(StatusCode::ACCEPTED)
    }

    /// 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// With the address of what it is about.
    #[must_use]
    pub fn at(self, location: String) -> Self {
        self.with("location", location)
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a cookie, which replaces one of the same name in the browser.
    #[must_use]
    pub fn with_cookie(mut self, cookie: &Cookie<'_>) -> Self {
        self.cookies.push(cookie.to_string());
        self
    }

    /// A text of any type and status.
    #[must_use]
    pub fn text(status: StatusCode, content_type: &str, text: String) -> Self {
        Self { body: Body::Text(text), ..Self::empty(status) }.with("content-type", content_type)
    }

    /// Bytes that are part of the program.
    #[must_use]
    pub fn bytes(content_type: &str, bytes: &'static [u8]) -> Self {
        Self { body: Body::Bytes(bytes), ..Self::empty(StatusCode::OK) }.with("content-type", content_type)
    }

    /// No body.
    #[must_use]
    pub const fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), cookies: Vec::new(), body: Body::Empty }
    }

    /// Its status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    fn json(status: StatusCode, value: &impl Serialize) -> Result<Self> {
        Ok(Self::text(status, JSON, to_json(value)?).with("cache-control", "no-store"))
    }
}

const JSON: &str = "application/json";

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|cause| Error::unreadable("an answer", cause))
}

/// Whether the client has the representation with this tag (RFC 9110, 13.1.2: a weak comparison).
pub(crate) fn is_known(request: &Request, tag: &str) -> bool {
    let Some(known) = request.header("if-none-match") else { return false };
    known.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

impl Serialize for Response {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut response = serializer.serialize_struct("Response", 5)?;
        response.serialize_field("statusCode", &self.status.as_u16())?;
        response.serialize_field("headers", &Headers(&self.headers))?;
        match &self.body {
            Body::Empty => {}
            Body::Text(text) => response.serialize_field("body", text)?,
            Body::Bytes(bytes) => response.serialize_field("body", &BASE64_STANDARD.encode(bytes))?,
        }
        response.serialize_field("isBase64Encoded", &matches!(self.body, Body::Bytes(_)))?;
        // API Gateway can do without; `cargo lambda watch` cannot.
        response.serialize_field("cookies", &self.cookies)?;
        response.end()
    }
}

struct Headers<'a>(&'a [(&'static str, String)]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::request::tests::request;

    fn sent(response: &Response) -> Value {
        serde_json::to_value(response).unwrap()
    }

    #[test]
    fn a_read_has_a_tag_and_is_not_sent_twice() {
        let page = json!({"items": []});
        let first = sent(&Response::read(&request(json!({})), Caching::Private, &page).unwrap());
        let tag = first["headers"]["etag"].as_str().unwrap();
        assert_eq!(first["statusCode"], 200);
        assert_eq!(first["body"], r#"{"items":[]}"#);
        assert_eq!(first["headers"]["cache-control"], "private, no-cache");
        for known in [tag, "*", &format!("\"x\", W/{tag}")] {
            let again = request(json!({"headers": {"if-none-match": known}}));
            let answer = sent(&Response::read(&again, Caching::Private, &page).unwrap());
            assert_eq!(
                (&answer["statusCode"], &answer["headers"]["etag"]),
                (&json!(304), &json!(tag)),
                "{known}"
            );
            assert_eq!(answer.get("body"), None);
        }
        let other = request(json!({"headers": {"if-none-match": tag}}));
        assert_eq!(Response::read(&other, Caching::Private, &json!({"items": [1]})).unwrap().status(), 200);
    }

    #[test]
    fn changes_are_kept_by_no_cache() {
        let created = sent(&Response::created(&json!({"a": 1})).unwrap().at("/v1/a/1".to_owned()));
        assert_eq!(
            (&created["statusCode"], &created["headers"]["location"]),
            (&json!(201), &json!("/v1/a/1"))
        );
        assert_eq!(created["headers"]["cache-control"], "no-store");
        assert_eq!(
            sent(&Response::no_content()),
            json!({"statusCode": 204, "headers": {}, "isBase64Encoded": false, "cookies": []})
        );
    }

    #[test]
    fn a_redirect_takes_a_cookie_along() {
        let cookie = Cookie { name: "__Host-a", value: "v", max_age: 600 };
        let sent =
            sent(&Response::redirect("https://elsewhere.example/?a=b".to_owned()).with_cookie(&cookie));
        assert_eq!(
            (&sent["statusCode"], &sent["headers"]["location"]),
            (&json!(302), &json!("https://elsewhere.example/?a=b"))
        );
        let expected = "__Host-a=v; Max-Age=600; Path=/; Secure; HttpOnly; SameSite=Lax";
        assert_eq!(sent["cookies"], json!([expected]));
    }

    #[test]
    fn bytes_are_sent_as_base64() {
        let sent = sent(&Response::bytes("image/png", b"\x89PNG"));
        assert_eq!((&sent["body"], &sent["isBase64Encoded"]), (&json!("iVBORw=="), &json!(true)));
    }
}
