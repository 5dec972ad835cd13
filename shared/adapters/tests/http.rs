//! Requests to the outside, against a server of this test's own.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::time::Duration;

use tocsin_adapters::http::{Http, HttpError, Limits};
use tocsin_conformance::provider::{Answer, Provider};

const LIMITS: Limits = Limits { time: Duration::from_millis(700), bytes: 1_000, redirects: 3 };

/// A server on this machine, which public requests must not reach.
async fn server() -> Provider {
    let server = Provider::start().await;
    let inside = server.url("/");
    for (path, answer) in [
        ("/", Answer::document("here")),
        ("/large", Answer::document("x".repeat(1_001))),
        ("/fits", Answer::document("x".repeat(1_000))),
        ("/endless", Answer::document("x".repeat(1_000)).times(1_000_000).until_closed()),
        ("/slow", Answer::document("x".repeat(900)).dripping(Duration::from_millis(50))),
        ("/silent", Answer::silence()),
        ("/round", Answer::redirect("/round")),
        ("/inside", Answer::redirect(inside)),
        ("/metadata", Answer::redirect("http://169.254.169.254/latest/meta-data/")),
        ("/file", Answer::redirect("file:///etc/passwd")),
        ("/relative", Answer::redirect("there")),
        ("/there", Answer::document("there")),
        ("/other", Answer::redirect(server.url("/there"))),
    ] {
        server.serve(path, answer);
    }
    server
}

/// A path at a host, as it is written here.
fn at(server: &Provider, host: &str, path: &str) -> String {
    format!("http://{host}:{}{path}", server.port())
}

async fn get(http: &Http, url: &str) -> Result<(u16, String), HttpError> {
    let request = http::Request::get(url).header("authorization", "Bearer of mine").body(Vec::new()).unwrap();
    let answer = http.send(request, LIMITS).await?;
    Ok((answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap()))
}

#[tokio::test]
async fn nobody_inside_is_asked() {
    let server = server().await;
    let http = Http::new(["elsewhere.example"]);
    for host in ["127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"] {
        let refused = get(&http, &at(&server, host, "/")).await.unwrap_err();
        assert!(matches!(refused, HttpError::Refused(_)), "{host}: {refused}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn who_is_allowed_is_asked_and_a_redirect_is_checked_again() {
    let server = server().await;
    let http = Http::new(["localhost"]);
    assert_eq!(get(&http, &at(&server, "LOCALHOST", "/")).await.unwrap(), (200, "here".to_owned()));
    let asked = server.requests("/").last_headers;
    assert!(asked["user-agent"].to_str().unwrap().starts_with("tocsin/"));
    assert_eq!(asked["authorization"], "Bearer of mine");
    assert_eq!(get(&http, &at(&server, "localhost", "/relative")).await.unwrap(), (200, "there".to_owned()));
    assert_eq!(server.requests("/there").last_headers["authorization"], "Bearer of mine");
    for path in ["/inside", "/metadata", "/file"] {
        let refused = get(&http, &at(&server, "localhost", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::Refused(_)), "{path}: {refused}");
    }
    let round = get(&http, &at(&server, "localhost", "/round")).await.unwrap_err();
    assert!(matches!(round, HttpError::TooManyRedirects(3)), "{round}");
}

#[tokio::test]
async fn what_is_meant_for_one_origin_is_not_told_another() {
    let server = server().await;
    let http = Http::new(["localhost", "127.0.0.1"]);
    assert_eq!(get(&http, &at(&server, "localhost", "/other")).await.unwrap(), (200, "there".to_owned()));
    assert!(!server.requests("/there").last_headers.contains_key("authorization"));
    // A request with a body goes where it was sent, and nowhere else.
    let request = http::Request::post(at(&server, "localhost", "/other")).body(b"secret".to_vec()).unwrap();
    assert_eq!(http.send(request, LIMITS).await.unwrap().status(), 302);
    let request = http::Request::get(at(&server, "localhost", "/other")).body(Vec::new()).unwrap();
    let none = Limits { redirects: 0, ..LIMITS };
    assert_eq!(http.send(request, none).await.unwrap().status(), 302);
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_and_in_time() {
    let server = server().await;
    let http = Http::new(["127.0.0.1"]);
    let (_, body) = get(&http, &at(&server, "127.0.0.1", "/fits")).await.unwrap();
    assert_eq!(body.len(), 1_000);
    for path in ["/large", "/endless"] {
        let refused = get(&http, &at(&server, "127.0.0.1", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::TooLarge(1_000)), "{path}: {refused}");
    }
    for path in ["/slow", "/silent"] {
        let refused = get(&http, &at(&server, "127.0.0.1", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::TooSlow(_)), "{path}: {refused}");
    }
    let nobody = get(&http, "http://127.0.0.1:1/").await.unwrap_err();
    assert!(matches!(nobody, HttpError::Failed(_)), "{nobody}");
}
