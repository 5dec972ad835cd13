//! A function's answer as the client gets it: payload format 2.0, in full or inferred.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

use crate::runtime::server::{self, Answer};

/// Reads an answer. An object with a `statusCode` says everything itself; anything else is the body of a 200.
pub(super) fn of(payload: &[u8]) -> Result<Answer, &'static str> {
    let value: Value = serde_json::from_slice(payload).map_err(|_| "it is not JSON")?;
    let Some(status) = value.get("statusCode") else {
        let body = match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        return Ok(server::json(StatusCode::OK, body));
    };
    let status =
        status.as_u64().or_else(|| status.as_str()?.parse().ok()).ok_or("its statusCode is no number")?;
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let mut answer = Response::new(Full::new(body(&value)?));
    *answer.status_mut() = status.ok_or("its statusCode is none of HTTP")?;
    for (name, value) in value["headers"].as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            _ => return Err("a header's value is not text"),
        };
        let name: HeaderName = name.parse().map_err(|_| "a header's name is none")?;
        // The gateway frames the answer itself.
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING || name == header::CONNECTION {
            continue;
        }
        answer
            .headers_mut()
            .append(name, HeaderValue::from_str(&text).map_err(|_| "a header's value is none")?);
    }
    if !answer.headers().contains_key(header::CONTENT_TYPE) && !answer.body_is_empty() {
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    for cookie in value["cookies"].as_array().into_iter().flatten() {
        let cookie = cookie
            .as_str()
            .and_then(|cookie| HeaderValue::from_str(cookie).ok())
            .ok_or("a cookie is not text")?;
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(answer)
}

trait BodyIsEmpty {
    fn body_is_empty(&self) -> bool;
}

impl BodyIsEmpty for Answer {
    fn body_is_empty(&self) -> bool {
        hyper::body::Body::is_end_stream(self.body())
    }
}

fn body(value: &Value) -> Result<Bytes, &'static str> {
    match &value["body"] {
        Value::Null => Ok(Bytes::new()),
        Value::String(text) if value["isBase64Encoded"] == true => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| "its body is not base64")
        }
        Value::String(text) => Ok(text.clone().into()),
        _ => Err("its body is not text"),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::json;

    use super::*;

    async fn read(payload: Value) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let (parts, body) = of(payload.to_string().as_bytes()).expect("an answer").into_parts();
        (parts.status, parts.headers, body.collect().await.expect("in memory").to_bytes().to_vec())
    }

    #[tokio::test]
    async fn the_full_form() {
        let (status, headers, body) = read(json!({
            "statusCode": 201,
            "headers": {"Location": "/v1/posts/1", "X-Number": 7, "Content-Type": "image/png"},
            "cookies": ["a=1; Secure", "b=2"],
            "isBase64Encoded": true,
            "body": STANDARD.encode(b"\x89PNG"),
        }))
        .await;
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(headers["location"], "/v1/posts/1");
        assert_eq!(headers["x-number"], "7");
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(body, b"\x89PNG");
    }

    #[tokio::test]
    async fn the_inferred_form() {
        for (payload, expected) in
            [(json!({"a": 1}), r#"{"a":1}"#), (json!("hello"), "hello"), (json!([1]), "[1]")]
        {
            let (status, headers, body) = read(payload).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(body, expected.as_bytes());
        }
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for payload in [
            json!({"statusCode": "x"}),
            json!({"statusCode": 99}),
            json!({"statusCode": 200, "body": {"a": 1}}),
            json!({"statusCode": 200, "headers": {"a": []}}),
            json!({"statusCode": 200, "isBase64Encoded": true, "body": "%"}),
        ] {
            assert!(of(payload.to_string().as_bytes()).is_err(), "{payload}");
        }
        assert!(of(b"<html>").is_err());
    }
}
