//! A request as a function gets it: payload format 2.0.

use std::{collections::BTreeMap, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use serde_json::{Map, Value, json};

use super::routes::Found;

/// The API's name in its domain, and the account's number: any will do.
const API: &str = "local";
const ACCOUNT: &str = "000000000000";

pub(super) fn of(request: &Request<Bytes>, found: &Found<'_>, peer: SocketAddr, request_id: &str) -> Bytes {
    let now = jiff::Timestamp::now();
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let headers = headers(request.headers(), peer, host, request_id);
    let user_agent = headers.get("user-agent").cloned().unwrap_or_default();

    let mut event = json!({
        "version": "2.0",
        "routeKey": found.key,
        "rawPath": uri.path(),
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "domainName": host,
            "domainPrefix": host.split(['.', ':']).next().unwrap_or_default(),
            "http": {
                "method": request.method().as_str(),
                "path": uri.path(),
                "protocol": format!("{:?}", request.version()),
                "sourceIp": peer.ip().to_string(),
                "userAgent": user_agent,
            },
            "requestId": request_id,
            "routeKey": found.key,
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            "timeEpoch": now.as_millisecond(),
        },
        "isBase64Encoded": false,
    });
    // What a request does not have is absent, not empty.
    let mut set = |name: &str, value: Value| event[name] = value;
    let cookies = cookies(request.headers());
    if !cookies.is_empty() {
        set("cookies", cookies.into());
    }
    if !query.is_empty() {
        set("queryStringParameters", parameters(query));
    }
    if !found.parameters.is_empty() {
        let parameters: Map<_, _> = found
            .parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        set("pathParameters", parameters.into());
    }
    if !request.body().is_empty() {
        if let Some(text) = text(request) {
            set("body", text.into());
        } else {
            set("body", STANDARD.encode(request.body()).into());
            set("isBase64Encoded", true.into());
        }
    }
    event.to_string().into()
}

/// Names in lower case; the values of a repeated one joined by commas; cookies apart; the gateway's own added.
fn headers(from: &HeaderMap, peer: SocketAddr, host: &str, request_id: &str) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in from {
        if name == header::COOKIE {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str().to_owned())
            .and_modify(|all: &mut String| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let forwarded = match headers.get("x-forwarded-for") {
        Some(before) => format!("{before}, {}", peer.ip()),
        None => peer.ip().to_string(),
    };
    let port = host.rsplit_once(':').map_or("80", |(_, port)| port).to_owned();
    let seconds = jiff::Timestamp::now().as_second();
    let trace = format!("Root=1-{seconds:08x}-{}", request_id.get(..24).unwrap_or_default());
    headers.insert("x-forwarded-for".to_owned(), forwarded);
    headers.insert("x-forwarded-port".to_owned(), port);
    headers.insert("x-forwarded-proto".to_owned(), "http".to_owned());
    headers.entry("x-amzn-trace-id".to_owned()).or_insert(trace);
    headers
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .map(|cookie| cookie.trim().to_owned())
        .filter(|cookie| !cookie.is_empty())
        .collect()
}

/// Decoded, and the values of a repeated name joined by commas.
fn parameters(query: &str) -> Value {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    json!(parameters)
}

/// The body as text, if its type says that it is text, and it is. A form, or a body without a type, is not: the
/// gateway encodes these in base64.
fn text(request: &Request<Bytes>) -> Option<&str> {
    let kind = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/javascript" | "application/xml")
        || kind.ends_with("+json")
        || kind.ends_with("+xml");
    is_text.then(|| std::str::from_utf8(request.body()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(request: &Request<Bytes>) -> Value {
        let found =
            Found { key: "POST /v1/things/{id}", function: "f", parameters: vec![("id", "a b".to_owned())] };
        let bytes = of(request, &found, ([192, 0, 2, 7], 5000).into(), "0123456789abcdef0123456789abcdef");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn a_request_becomes_an_event_of_format_2() {
        let request = Request::post("/v1/things/a%20b?tag=x&tag=y%2Cz&empty=&q=a+b")
            .header("Host", "api.example.org:9000")
            .header("User-Agent", "test/1")
            .header("Content-Type", "application/json; charset=utf-8")
            .header("X-Two", "1")
            .header("X-Two", "2")
            .header("Cookie", "a=1; b=2")
            .header("Cookie", "c=3")
            .body(Bytes::from_static(b"{\"a\":1}"))
            .expect("valid");
        let event = event(&request);
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["routeKey"], "POST /v1/things/{id}");
        assert_eq!(event["rawPath"], "/v1/things/a%20b");
        assert_eq!(event["rawQueryString"], "tag=x&tag=y%2Cz&empty=&q=a+b");
        assert_eq!(event["queryStringParameters"], json!({"tag": "x,y,z", "empty": "", "q": "a b"}));
        assert_eq!(event["pathParameters"], json!({"id": "a b"}));
        assert_eq!(event["cookies"], json!(["a=1", "b=2", "c=3"]));
        assert_eq!(event["headers"]["x-two"], "1,2");
        assert_eq!(event["headers"]["x-forwarded-for"], "192.0.2.7");
        assert_eq!(event["headers"]["x-forwarded-port"], "9000");
        assert!(event["headers"].get("cookie").is_none());
        assert_eq!(event["body"], "{\"a\":1}");
        assert_eq!(event["isBase64Encoded"], false);
        let context = &event["requestContext"];
        assert_eq!(context["stage"], "$default");
        assert_eq!(context["http"]["method"], "POST");
        assert_eq!(context["http"]["protocol"], "HTTP/1.1");
        assert_eq!(context["http"]["sourceIp"], "192.0.2.7");
        assert_eq!(context["http"]["userAgent"], "test/1");
        assert_eq!(context["domainPrefix"], "api");
        assert!(context["time"].as_str().expect("text").ends_with(" +0000"));
    }

    #[test]
    fn what_is_absent_has_no_field() {
        let event = event(&Request::get("/v1/things/1").body(Bytes::new()).expect("valid"));
        for field in ["cookies", "queryStringParameters", "body"] {
            assert!(event.get(field).is_none(), "{field}");
        }
        assert_eq!(event["rawQueryString"], "");
    }

    #[test]
    fn a_body_that_is_not_text_is_in_base64() {
        for (kind, body) in [
            (Some("image/png"), &b"\x89PNG"[..]),
            (Some("application/json"), b"\xff\xfe"),
            (Some("application/x-www-form-urlencoded"), b"a=1"),
            (None, b"plain"),
        ] {
            let mut request = Request::post("/").body(Bytes::from_static(body)).expect("valid");
            if let Some(kind) = kind {
                request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().expect("valid"));
            }
            let event = event(&request);
            assert_eq!(event["isBase64Encoded"], true, "{kind:?}");
            assert_eq!(event["body"], STANDARD.encode(body));
        }
    }
}
