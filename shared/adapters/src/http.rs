//! Requests to the outside: to addresses that other people chose, from a place that can reach what they cannot.
//!
//! So a request goes only to a public address, over `http` or `https`, and its answer is bounded in time and in bytes.
//! The address is checked where the connection is made, after the name was resolved, so that a name cannot resolve to one
//! address for the check and to another for the connection; and each redirect is checked as the first address was. The
//! list of what is not public is IANA's two registries of special-purpose addresses
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>, `…/iana-ipv6-special-registry`).
//!
//! What comes is the whole body, or an error: one that ends before its length, its last chunk or its checksum is none. It is
//! decompressed as it comes, and counted before and after, so that a few bytes cannot become more than the limit.
//!
//! Nothing is made before the first request: a function that can ask others, and mostly does not, starts as quickly as one
//! that cannot. The trusted roots are Mozilla's, compiled in; the system's are not read.

use std::{
    collections::HashSet,
    error::Error as StdError,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::{Instant, timeout_at};
use tower_service::Service;
use url::{Host, Url};

use crate::aws::with_causes;

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is kept for another request. A frozen function would keep it for longer than its peer.
const IDLE: Duration = Duration::from_secs(15);
/// What we call ourselves.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("tocsin/", env!("CARGO_PKG_VERSION")));

/// What an answer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it may take, from the name's resolution to the last byte, with all redirects.
    pub time: Duration,
    /// The most bytes of its body, as it is sent and as it is once decompressed.
    pub bytes: usize,
    /// The most redirects that a GET follows. What follows none answers with the redirect.
    pub redirects: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is one that we do not ask.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TooSlow(Duration),
    /// The body has too many bytes, or would have once decompressed.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// One redirect too many.
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    /// The connection failed, or what came was not HTTP.
    #[error("{0}")]
    Failed(String),
}

/// Asks others.
#[derive(Clone, Debug)]
pub struct Http {
    allowed: Arc<AllowedHosts>,
    client: Arc<OnceLock<Result<Connections, String>>>,
}

/// The client: its connections, which are kept for a while.
type Connections = Client<HttpsConnector<HttpConnector<PublicAddresses>>, Full<Bytes>>;

/// Hosts that are asked wherever they are: names and addresses as they stand in a URL.
#[derive(Debug, Default)]
struct AllowedHosts(HashSet<String>);

impl Http {
    /// What a request says as `Accept-Encoding`, word for word, to be sent less: its answer is decompressed.
    pub const GZIP: HeaderValue = HeaderValue::from_static("gzip");

    /// Asks public addresses, and these hosts besides.
    pub fn new<H: Into<String>>(allowed_hosts: impl IntoIterator<Item = H>) -> Self {
        let allowed = allowed_hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect();
        Self { allowed: Arc::new(AllowedHosts(allowed)), client: Arc::default() }
    }

    /// Sends a request, and reads its answer.
    pub async fn send(
        &self,
        request: Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<Response<Vec<u8>>, HttpError> {
        self.ask(request, limits).await?.read().await
    }

    /// Sends a request, and leaves it open whether the answer is read: its status may say enough.
    pub async fn ask(&self, request: Request<Vec<u8>>, limits: Limits) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + limits.time;
        let takes_gzip = request.headers().get(header::ACCEPT_ENCODING) == Some(&Self::GZIP);
        let followed = timeout_at(deadline, self.follow(request, limits)).await;
        let (url, response) = followed.unwrap_or(Err(HttpError::TooSlow(limits.time)))?;
        Ok(Answer { url, response, takes_gzip, limits, deadline })
    }

    async fn follow(
        &self,
        request: Request<Vec<u8>>,
        limits: Limits,
    ) -> Result<(Url, Response<Incoming>), HttpError> {
        let client = self.client()?;
        let mut url = Url::parse(&request.uri().to_string()).map_err(|error| failed(&error))?;
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        // Only a request without a body is sent twice.
        let may_follow = *request.method() == Method::GET && limits.redirects > 0;
        let mut followed = 0;
        loop {
            self.allowed.check(&url)?;
            // In the form that was checked: two readers of one address may differ.
            *request.uri_mut() =
                url.as_str().parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
            let response = client.request(request.clone()).await.map_err(|error| failed(&error))?;
            let Some(next) = redirect(&response, &url).filter(|_| may_follow) else {
                return Ok((url, response));
            };
            if followed == limits.redirects {
                return Err(HttpError::TooManyRedirects(limits.redirects));
            }
            followed += 1;
            let next = next?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(HttpError::Refused("a redirect from https to what is not".to_owned()));
            }
            if url.origin() != next.origin() {
                // What it says of us goes to the origin that it was meant for alone.
                for name in [header::AUTHORIZATION, header::COOKIE] {
                    request.headers_mut().remove(name);
                }
            }
            url = next;
        }
    }

    fn client(&self) -> Result<&Connections, HttpError> {
        let client = self.client.get_or_init(|| client(&self.allowed).map_err(|error| error.to_string()));
        client.as_ref().map_err(|cause| HttpError::Failed(cause.clone()))
    }
}

fn client(allowed: &Arc<AllowedHosts>) -> Result<Connections, rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connector = HttpConnector::new_with_resolver(PublicAddresses(Arc::clone(allowed)));
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    // A proxy of the environment is none of its business: it would resolve names for itself, unchecked.
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(connector))
}

/// Where a response sends us on to (RFC 9110, 15.4).
fn redirect(response: &Response<Incoming>, from: &Url) -> Option<Result<Url, HttpError>> {
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !redirects.contains(&response.status()) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    let location = location.to_str().ok().and_then(|location| from.join(location).ok());
    Some(location.ok_or_else(|| HttpError::Failed("a redirect to what is no address".to_owned())))
}

/// An answer, of which the head has come.
#[derive(Debug)]
pub struct Answer {
    url: Url,
    response: Response<Incoming>,
    takes_gzip: bool,
    limits: Limits,
    deadline: Instant,
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// What it says of itself.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Who gave it, after all redirects.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// With its body, all of it.
    pub async fn read(self) -> Result<Response<Vec<u8>>, HttpError> {
        let (deadline, time) = (self.deadline, self.limits.time);
        timeout_at(deadline, self.read_on()).await.unwrap_or(Err(HttpError::TooSlow(time)))
    }

    async fn read_on(self) -> Result<Response<Vec<u8>>, HttpError> {
        let most = self.limits.bytes;
        let is_gzip = is_gzip(self.headers(), self.takes_gzip)?;
        let (head, mut incoming) = self.response.into_parts();
        let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > most {
            return Err(HttpError::TooLarge(most));
        }
        let body = Bounded { bytes: Vec::with_capacity(announced), most };
        let mut body = if is_gzip { Body::Gzip(MultiGzDecoder::new(body)) } else { Body::Plain(body) };
        let mut received = 0;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| failed(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            received += data.len();
            if received > most {
                return Err(HttpError::TooLarge(most));
            }
            body.write(data).map_err(|error| unreadable(&error, most))?;
        }
        let body = body.finish().map_err(|error| unreadable(&error, most))?;
        Ok(Response::from_parts(head, body))
    }
}

/// Whether a body is compressed; refused is what nobody here can read. (`x-gzip` is another name: RFC 9110, 8.4.1.3.)
fn is_gzip(headers: &HeaderMap, takes_gzip: bool) -> Result<bool, HttpError> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encodings: Vec<_> = encodings.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let encodings = encodings.join(",").to_ascii_lowercase();
    let parts = encodings.split(',').map(str::trim).filter(|part| !matches!(*part, "" | "identity"));
    match *parts.collect::<Vec<_>>() {
        [] => Ok(false),
        ["gzip" | "x-gzip"] if takes_gzip => Ok(true),
        // It may be as long as a head can be.
        _ => Err(HttpError::Failed(format!("the answer is encoded as was not asked for: {encodings:.40}"))),
    }
}

/// A body, as it comes.
enum Body {
    Plain(Bounded),
    /// In one member or several (RFC 1952, 2.2).
    Gzip(MultiGzDecoder<Bounded>),
}

impl Body {
    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(body) => body.write_all(data),
            Self::Gzip(body) => body.write_all(data),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(body) => Ok(body.bytes),
            Self::Gzip(body) => Ok(body.finish()?.bytes),
        }
    }
}

/// Takes so many bytes, and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.most - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a body cannot be had.
fn unreadable(error: &io::Error, most: usize) -> HttpError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => HttpError::TooLarge(most),
        _ => HttpError::Failed(format!("the answer cannot be decompressed: {error}")),
    }
}

/// The domain's words for what the client says; a refusal of the resolver comes through it.
fn failed(error: &(dyn StdError + 'static)) -> HttpError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(NotPublic(host)) = error.downcast_ref() {
            return refused(host);
        }
        cause = error.source();
    }
    HttpError::Failed(with_causes(error))
}

fn refused(host: &str) -> HttpError {
    HttpError::Refused(format!("{host} is no public address"))
}

impl AllowedHosts {
    /// What can be checked before a name is resolved: the scheme, and addresses, which no resolver is asked about. (The URL
    /// has them in one form: `0x7f.1` and `2130706433` are 127.0.0.1 in it.)
    fn check(&self, url: &Url) -> Result<(), HttpError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HttpError::Refused(format!("{} is neither http nor https", url.scheme())));
        }
        let address: IpAddr = match url.host() {
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            None => return Err(HttpError::Refused("an address without a host".to_owned())),
        };
        let host = url.host_str().unwrap_or_default();
        if is_public(address) || self.0.contains(host) { Ok(()) } else { Err(refused(host)) }
    }
}

/// Resolves names to public addresses alone.
#[derive(Clone, Debug)]
struct PublicAddresses(Arc<AllowedHosts>);

/// A name that resolved to no public address.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no public address")]
struct NotPublic(String);

impl Service<Name> for PublicAddresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            // The port is put in by the client.
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let is_allowed = allowed.0.contains(&name.as_str().to_ascii_lowercase());
            let addresses: Vec<SocketAddr> =
                resolved.filter(|address| is_allowed || is_public(address.ip())).collect();
            if addresses.is_empty() {
                return Err(NotPublic(name.as_str().to_owned()).into());
            }
            Ok(addresses.into_iter())
        })
    }
}

/// Whether an address is anybody's to ask.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// What IANA's registry has as not globally reachable; and multicast, and what is reserved.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 15] = [
    // This network (RFC 791).
    (Ipv4Addr::UNSPECIFIED, 8),
    // Private use (RFC 1918).
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Between a carrier and its customers (RFC 6598).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback (RFC 1122).
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local (RFC 3927), with the metadata service of clouds, 169.254.169.254.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Protocol assignments (RFC 6890).
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation (RFC 5737).
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Relays of 6to4, given up (RFC 7526).
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Benchmarks (RFC 2544).
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast (RFC 5771); then what is reserved, with the broadcast (RFC 1112).
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in =
        |network: Ipv4Addr, length: u32| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
    !NOT_PUBLIC_V4.iter().any(|(network, length)| is_in(*network, *length))
}

/// All global unicast addresses are in it (RFC 4291, 2.4). So loopback, unique local addresses (with AWS's metadata service,
/// `fd00:ec2::254`), link-local ones and multicast are none.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// NAT64 (RFC 6052): IPv4 addresses, as networks without IPv4 have them.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// What of the global unicast addresses is not public.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 4] = [
    // Protocol assignments (RFC 2928), with Teredo.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation (RFC 3849, RFC 9637).
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4 (RFC 3056), which any IPv4 address can be in.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let is_in =
        |(network, length): (Ipv6Addr, u32)| (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0;
    if is_in(NAT64) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    is_in(GLOBAL_UNICAST) && !NOT_PUBLIC_V6.into_iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let public =
            ["1.1.1.1", "8.8.8.8", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1"];
        let public_v6 = ["2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"];
        for text in public.into_iter().chain(public_v6) {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        let v4 = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
        ];
        for text in v4 {
            let address: Ipv4Addr = text.parse().unwrap();
            assert!(!is_public(address.into()), "{text}");
            // In all the ways in which IPv6 carries one.
            let [a, b] = [address.to_bits() >> 16, address.to_bits() & 0xffff];
            let embedded = [
                address.to_ipv6_mapped().to_string(),
                address.to_ipv6_compatible().to_string(),
                format!("64:ff9b::{a:x}:{b:x}"),
                format!("2002:{a:x}:{b:x}::1"),
            ];
            for text in embedded {
                assert!(!is_public(IpAddr::V6(text.parse().unwrap())), "{text}");
            }
        }
        let v6 = [
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
        ];
        for text in v6 {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_address_is_known_however_it_is_written() {
        let none = AllowedHosts::default();
        for text in [
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://１２７.0.0.1/",
            "http://[::ffff:169.254.169.254]/",
            "http://user@10.0.0.1:80/",
            "ftp://8.8.8.8/",
            "file:///etc/passwd",
            "gopher://example.org/",
        ] {
            assert!(none.check(&Url::parse(text).unwrap()).is_err(), "{text}");
        }
        for text in ["https://8.8.8.8/", "http://[2606:4700::1111]/", "https://example.org/"] {
            none.check(&Url::parse(text).unwrap()).unwrap();
        }
        let allowed = AllowedHosts(HashSet::from(["127.0.0.1".to_owned()]));
        allowed.check(&Url::parse("http://127.1:9000/").unwrap()).unwrap();
        assert!(allowed.check(&Url::parse("http://127.0.0.2/").unwrap()).is_err());
    }
}
