//! Requests to the outside, against a server of this test's own.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tocsin_adapters::http::{Http, HttpError, Limits};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

const LIMITS: Limits = Limits { time: Duration::from_millis(700), bytes: 1_000, redirects: 3 };

/// A server on this machine, which public requests must not reach.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn up() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Relaxed);
                tokio::spawn(serve(stream, port));
            }
        });
        Self { port, connections }
    }

    /// The port and path at a host.
    fn at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }
}

/// Answers one request, by its path.
async fn serve(stream: TcpStream, port: u16) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let redirect = |to: &str| {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    };
    let answer = match path {
        "/large" => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\nconnection: close\r\n\r\n{}",
            "x".repeat(1_001)
        ),
        "/fits" => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{}",
            "x".repeat(1_000)
        ),
        // Of a length that it does not say.
        "/endless" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
            while stream.write_all(&[b'x'; 100]).await.is_ok() {}
            return;
        }
        "/slow" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n").await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            return;
        }
        "/silent" => return tokio::time::sleep(Duration::from_secs(5)).await,
        "/round" => redirect("/round"),
        "/inside" => redirect(&format!("http://127.0.0.1:{port}/")),
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/file" => redirect("file:///etc/passwd"),
        "/relative" => redirect("headers"),
        "/other" => redirect(&format!("http://127.0.0.1:{port}/headers")),
        _ => {
            let body = head.to_ascii_lowercase();
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn get(http: &Http, url: &str) -> Result<(u16, String), HttpError> {
    let request = http::Request::get(url).header("authorization", "Bearer of mine").body(Vec::new()).unwrap();
    let answer = http.send(request, LIMITS).await?;
    Ok((answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap()))
}

#[tokio::test]
async fn nobody_inside_is_asked() {
    let server = Server::up().await;
    let http = Http::new(["elsewhere.example"]);
    for host in ["127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"] {
        let refused = get(&http, &server.at(host, "/")).await.unwrap_err();
        assert!(matches!(refused, HttpError::Refused(_)), "{host}: {refused}");
    }
    assert_eq!(server.connections.load(Relaxed), 0);
}

#[tokio::test]
async fn who_is_allowed_is_asked_and_a_redirect_is_checked_again() {
    let server = Server::up().await;
    let http = Http::new(["localhost"]);
    let (status, head) = get(&http, &server.at("LOCALHOST", "/")).await.unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("user-agent: tocsin/") && head.contains("authorization: bearer of mine"), "{head}");
    let (status, head) = get(&http, &server.at("localhost", "/relative")).await.unwrap();
    assert!(status == 200 && head.contains("get /headers") && head.contains("authorization"), "{head}");
    for path in ["/inside", "/metadata", "/file"] {
        let refused = get(&http, &server.at("localhost", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::Refused(_)), "{path}: {refused}");
    }
    let round = get(&http, &server.at("localhost", "/round")).await.unwrap_err();
    assert!(matches!(round, HttpError::TooManyRedirects(3)), "{round}");
}

#[tokio::test]
async fn what_is_meant_for_one_origin_is_not_told_another() {
    let server = Server::up().await;
    let http = Http::new(["localhost", "127.0.0.1"]);
    let (_, head) = get(&http, &server.at("localhost", "/other")).await.unwrap();
    assert!(head.contains("get /headers") && !head.contains("of mine"), "{head}");
    // A request with a body goes where it was sent, and nowhere else.
    let request = http::Request::post(server.at("localhost", "/other")).body(b"secret".to_vec()).unwrap();
    assert_eq!(http.send(request, LIMITS).await.unwrap().status(), 302);
    let request = http::Request::get(server.at("localhost", "/other")).body(Vec::new()).unwrap();
    let none = Limits { redirects: 0, ..LIMITS };
    assert_eq!(http.send(request, none).await.unwrap().status(), 302);
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_and_in_time() {
    let server = Server::up().await;
    let http = Http::new(["127.0.0.1"]);
    let (_, body) = get(&http, &server.at("127.0.0.1", "/fits")).await.unwrap();
    assert_eq!(body.len(), 1_000);
    for path in ["/large", "/endless"] {
        let refused = get(&http, &server.at("127.0.0.1", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::TooLarge(1_000)), "{path}: {refused}");
    }
    for path in ["/slow", "/silent"] {
        let refused = get(&http, &server.at("127.0.0.1", path)).await.unwrap_err();
        assert!(matches!(refused, HttpError::TooSlow(_)), "{path}: {refused}");
    }
    let nobody = get(&http, "http://127.0.0.1:1/").await.unwrap_err();
    assert!(matches!(nobody, HttpError::Failed(_)), "{nobody}");
}
