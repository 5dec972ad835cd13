//! Feeds and what they link to, over HTTP.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use tocsin_domain::feed_fetch::{FeedSource, FetchFailure, Fetched, Validators};
use url::Url;

use crate::http::{Http, HttpError, Limits};

/// What one document may cost.
const LIMITS: Limits = Limits {
    // A list of 10,000 plans has some 10 MB.
    bytes: 16 * 1024 * 1024,
    // Authorities' servers are slow just when much happens; and a function that polls has a minute in all.
    time: Duration::from_secs(20),
    // To https, to www, to the newest file, with some to spare.
    redirects: 5,
};

/// What can be read, before what may be made for people: servers that have an alert in several forms choose by it.
const ACCEPT: &str = "application/cap+xml, application/geo+json, application/atom+xml, application/rss+xml, \
    text/calendar, application/xml;q=0.9, text/xml;q=0.9, application/json;q=0.9, */*;q=0.1";

/// Providers on the Internet.
#[derive(Clone, Debug)]
pub struct HttpFeedSource {
    http: Http,
    limits: Limits,
}

impl HttpFeedSource {
    /// Asks them by this client.
    #[must_use]
    pub fn new(http: &Http) -> Self {
        Self { http: http.clone(), limits: LIMITS }
    }

    /// With other limits on each document than 16 MiB in 20 seconds after 5 redirects.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl FeedSource for HttpFeedSource {
    async fn fetch(&self, url: &Url, seen: &Validators) -> Result<Fetched, FetchFailure> {
        let answer = self.http.ask(request(url, seen)?, self.limits).await?;
        match answer.status() {
            StatusCode::OK => {
                let (url, validators) = (answer.url().clone(), validators(answer.headers()));
                let bytes = answer.read().await?.into_body();
                Ok(Fetched::Document { bytes, url, validators })
            }
            StatusCode::NOT_MODIFIED if !seen.is_empty() => Ok(Fetched::Unchanged),
            status => Err(no_document(status, answer.headers())),
        }
    }
}

fn request(url: &Url, seen: &Validators) -> Result<Request<Vec<u8>>, HttpError> {
    let mut request =
        Request::get(url.as_str()).header(header::ACCEPT, ACCEPT).header(header::ACCEPT_ENCODING, Http::GZIP);
    if let Some(etag) = &seen.etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    if let Some(last_modified) = &seen.last_modified {
        request = request.header(header::IF_MODIFIED_SINCE, last_modified);
    }
    let no_request =
        |error: http::Error| HttpError::Refused(format!("not the address of a document: {error}"));
    request.body(Vec::new()).map_err(no_request)
}

fn validators(headers: &HeaderMap) -> Validators {
    Validators::new(text(headers, &header::ETAG), text(headers, &header::LAST_MODIFIED))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

impl From<HttpError> for FetchFailure {
    fn from(error: HttpError) -> Self {
        let is_permanent = matches!(error, HttpError::Refused(_));
        Self { reason: error.to_string(), retry_after: None, is_permanent }
    }
}

/// What an answer other than a document says.
fn no_document(status: StatusCode, headers: &HeaderMap) -> FetchFailure {
    // These pass: firewalls answer 403 to those who ask too often.
    let passes = [
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    FetchFailure {
        reason: format!("the provider answered {status}"),
        retry_after: retry_after(headers),
        is_permanent: status.is_client_error() && !passes.contains(&status),
    }
}

/// Seconds, or a time (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, &header::RETRY_AFTER)?;
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        // Nothing is left of a time that is over.
        at.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(wait.min(FetchFailure::LONGEST_WAIT))
}
