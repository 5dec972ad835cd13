//! Cross-origin rules, which the gateway applies itself: it answers preflights without asking a function, and its
//! headers replace those of functions.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::{runtime::server::Answer, template::model::Cors};

/// The answer to a preflight: 204, and what is allowed, if the origin is.
pub(super) fn preflight(cors: &Cors, request: &Request<Incoming>) -> Option<Answer> {
    if !super::is_preflight(request) {
        return None;
    }
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    if let Some(origin) = request.headers().get(header::ORIGIN).and_then(|origin| allowed(cors, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &cors.methods.join(","));
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers.join(","));
        if let Some(seconds) = cors.max_age {
            set(headers, header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
    }
    Some(answer)
}

/// The headers of an answer to a request from `origin`.
pub(super) fn apply(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if let Some(origin) = allowed(cors, origin) {
        if origin != "*" {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose.join(","));
    }
}

fn allowed(cors: &Cors, origin: &HeaderValue) -> Option<HeaderValue> {
    if cors.origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let text = origin.to_str().ok()?;
    let matches = |allowed: &String| match allowed.split_once('*') {
        // `https://*` and `https://*.example.org`.
        Some((before, after)) => {
            text.starts_with(before) && text.ends_with(after) && text.len() > before.len() + after.len()
        }
        None => allowed.eq_ignore_ascii_case(text),
    };
    cors.origins.iter().any(matches).then(|| origin.clone())
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_by_their_wildcard() {
        let cors = |origin: &str| Cors { origins: vec![origin.to_owned()], ..Cors::default() };
        let is = |rule: &str, origin: &'static str| {
            allowed(&cors(rule), &HeaderValue::from_static(origin)).is_some()
        };
        assert!(is("*", "https://a.example"));
        assert!(is("https://a.example", "https://a.example"));
        assert!(!is("https://a.example", "https://b.example"));
        assert!(is("https://*", "https://b.example"));
        assert!(!is("https://*", "http://b.example"));
        assert!(is("https://*.example.org", "https://x.example.org"));
        assert!(!is("https://*.example.org", "https://example.org"));
    }
}
