//! Fetching from providers that are slow, broken or hostile, as it would be done over the Internet.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::time::{Duration, Instant, SystemTime};

use tocsin_adapters::{
    feed_source::HttpFeedSource,
    http::{Http, Limits},
    memory::MemoryFeedSource,
};
use tocsin_conformance::{
    feed_source,
    provider::{Answer, Provider, gzip, gzip_bomb},
};
use tocsin_domain::feed_fetch::{FeedSource as _, FetchFailure, Fetched, Validators};
use url::Url;

const MIB: usize = 1024 * 1024;
const LIMITS: Limits = Limits { time: Duration::from_millis(1_500), bytes: MIB, redirects: 3 };
/// What the kernel takes of what nobody reads, at each end of a connection.
const IN_BUFFERS: u64 = 12 * MIB as u64;

/// What asks providers on this machine, as `local` does, under limits that are soon met.
fn source() -> HttpFeedSource {
    HttpFeedSource::new(&Http::new(["127.0.0.1"])).with_limits(LIMITS)
}

async fn fetch(url: &Url) -> Result<Fetched, FetchFailure> {
    source().fetch(url, &Validators::default()).await
}

/// Fetches a document that is there.
async fn document(url: &Url) -> (Vec<u8>, Url) {
    match fetch(url).await.unwrap() {
        Fetched::Document { bytes, url, .. } => (bytes, url),
        Fetched::Unchanged => panic!("nothing of {url} was seen"),
    }
}

/// Fetches what cannot be had: within the time that there is, with these words as the reason, and without a connection that
/// is left behind.
async fn failure(provider: &Provider, path: &str, reason: &str) -> FetchFailure {
    let began = Instant::now();
    let Err(failure) = fetch(&provider.url(path)).await else { panic!("{path} was had") };
    assert!(began.elapsed() < LIMITS.time + Duration::from_secs(1), "{path}: {:?}", began.elapsed());
    assert!(failure.reason.contains(reason), "{path}: {}", failure.reason);
    assert!(failure.reason.len() < 300, "{path}: {}", failure.reason);
    let deserted = tokio::time::timeout(Duration::from_secs(3), provider.deserted()).await;
    assert!(deserted.is_ok(), "{path}: the connection was left behind");
    failure
}

#[tokio::test]
async fn conformance() {
    let provider = Provider::start().await;
    feed_source::versions(&source(), &provider.url("/feed"), &provider.url("/gone"), async |text, etag| {
        provider.serve("/feed", Answer::document(text).header("etag", etag));
    })
    .await;
    let memory = MemoryFeedSource::default();
    let url = provider.url("/feed");
    feed_source::versions(&memory, &url, &provider.url("/gone"), async |text, etag| {
        let validators = Validators::new(Some(etag), None);
        let document = Fetched::Document { bytes: text.into(), url: url.clone(), validators };
        memory.script(&url, [Ok(document)]);
    })
    .await;
}

#[tokio::test]
async fn what_memory_is_told_comes_in_turn() {
    let memory = MemoryFeedSource::default();
    let url = Url::parse("https://provider.example/feed").unwrap();
    let down = |reason: &str| FetchFailure {
        reason: reason.to_owned(),
        retry_after: Some(Duration::from_secs(9)),
        is_permanent: false,
    };
    memory.script(&url, [Err(down("first")), Ok(Fetched::Unchanged), Err(down("last"))]);
    let seen = Validators::new(None, Some("yesterday"));
    assert_eq!(memory.fetch(&url, &seen).await, Err(down("first")));
    assert_eq!(memory.fetch(&url, &seen).await, Ok(Fetched::Unchanged));
    for _ in 0..2 {
        assert_eq!(memory.fetch(&url, &Validators::default()).await, Err(down("last")));
    }
    assert_eq!(memory.fetches().len(), 4);
    assert_eq!(memory.fetches()[0], (url, seen));
}

#[tokio::test]
async fn versions_are_told_apart_by_what_their_provider_says_of_them() {
    let provider = Provider::start().await;
    let dated = |text: &'static str, day| Answer::document(text).header("last-modified", day);
    let source = source();
    let (monday, tuesday) = ("Mon, 16 Nov 2026 08:00:00 GMT", "Tue, 17 Nov 2026 08:00:00 GMT");
    provider.serve("/dated", dated("one", monday));
    let fetch = async |path, seen: &Validators| source.fetch(&provider.url(path), seen).await.unwrap();
    let Fetched::Document { validators: seen, .. } = fetch("/dated", &Validators::default()).await else {
        panic!("nothing was seen")
    };
    assert_eq!(seen, Validators::new(None, Some(monday)));
    assert_eq!(fetch("/dated", &seen).await, Fetched::Unchanged);
    provider.serve("/dated", dated("two", tuesday));
    let Fetched::Document { bytes, validators, .. } = fetch("/dated", &seen).await else {
        panic!("it has changed")
    };
    assert_eq!((bytes.as_slice(), validators), (b"two".as_slice(), Validators::new(None, Some(tuesday))));

    // Both are sent as they came; and what is asked for is said.
    let odd = Validators::new(Some("W/\"a, b\\\""), Some("once upon a time"));
    provider.serve(
        "/odd",
        Answer::document("x").header("etag", "W/\"a, b\\\"").header("last-modified", "once upon a time"),
    );
    let Fetched::Document { validators, .. } = fetch("/odd", &Validators::default()).await else { panic!() };
    assert_eq!(validators, odd);
    assert!(provider.requests("/odd").last_headers.get("if-none-match").is_none());
    assert_eq!(fetch("/odd", &odd).await, Fetched::Unchanged);
    let requests = provider.requests("/odd");
    assert_eq!(requests.count, 2);
    for (name, value) in [
        ("if-none-match", "W/\"a, b\\\""),
        ("if-modified-since", "once upon a time"),
        ("accept-encoding", "gzip"),
    ] {
        assert_eq!(requests.last_headers[name], value);
    }
    assert!(requests.last_headers["accept"].to_str().unwrap().contains("application/cap+xml"));

    // What is too long is not kept, nor what is no text.
    provider.serve("/long", Answer::document("x").header("etag", format!("\"{}\"", "x".repeat(1_024))));
    let Fetched::Document { validators, .. } = fetch("/long", &Validators::default()).await else { panic!() };
    assert!(validators.is_empty());
    provider.serve("/text", Answer::document("x").header("etag", "\"\u{e9}\""));
    let Fetched::Document { validators, .. } = fetch("/text", &Validators::default()).await else { panic!() };
    assert!(validators.is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_document_says_why() {
    let provider = Provider::start().await;
    for (status, is_permanent) in [
        (204, false),
        (206, false),
        (300, false),
        // We said nothing of what we had seen.
        (304, false),
        (401, true),
        (403, false),
        (404, true),
        (408, false),
        (410, true),
        (429, false),
        (451, true),
        (500, false),
        (502, false),
        (503, false),
    ] {
        provider.serve("/", Answer::status(status));
        let failed = failure(&provider, "/", &format!("the provider answered {status} ")).await;
        assert_eq!((failed.is_permanent, failed.retry_after), (is_permanent, None), "{status}");
    }
    // However large what comes with it, and however it is encoded: it is not read.
    for answer in [Answer::status(302), Answer::status(500).header("content-encoding", "br")] {
        provider.serve("/", answer);
        failure(&provider, "/", "the provider answered ").await;
    }
    let (empty, _) = {
        provider.serve("/", Answer::document(""));
        document(&provider.url("/")).await
    };
    assert!(empty.is_empty());
}

#[tokio::test]
async fn a_provider_says_when_it_wants_to_be_asked_again() {
    let provider = Provider::start().await;
    let day = FetchFailure::LONGEST_WAIT;
    let date = |after: Duration| httpdate::fmt_http_date(SystemTime::now() + after);
    let near = Duration::from_mins(10);
    for (said, least, most) in [
        ("0".to_owned(), Duration::ZERO, Duration::ZERO),
        ("120".to_owned(), Duration::from_mins(2), Duration::from_mins(2)),
        ("31536000".to_owned(), day, day),
        (u64::MAX.to_string(), day, day),
        // A date has no part of a second.
        (date(near), near.checked_sub(Duration::from_secs(5)).unwrap(), near),
        (date(day * 30), day, day),
        ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), Duration::ZERO, Duration::ZERO),
    ] {
        for status in [429, 503] {
            provider.serve("/", Answer::status(status).header("retry-after", &said));
            let wait = failure(&provider, "/", "the provider answered").await.retry_after.expect(&said);
            assert!((least..=most).contains(&wait), "{said}: {wait:?}");
        }
    }
    for said in ["", "soon", "-1", "1.5", "Sun, 06 Nov"] {
        provider.serve("/", Answer::status(503).header("retry-after", said));
        assert_eq!(failure(&provider, "/", "503").await.retry_after, None, "{said}");
    }
}

#[tokio::test]
async fn a_provider_that_hangs_is_not_waited_for() {
    let provider = Provider::start().await;
    let drip = Answer::document(vec![b'x'; 1_000]).dripping(Duration::from_secs(1));
    provider.serve("/silence", Answer::silence());
    provider.serve("/drip", drip.clone());
    provider.serve("/chunks", drip.clone().chunked());
    provider.serve("/gzip", drip.gzipped());
    let round = Answer::redirect("/late");
    provider.serve("/redirected", round);
    provider.serve("/late", Answer::silence());
    for path in ["/silence", "/drip", "/chunks", "/gzip", "/redirected"] {
        let failed = failure(&provider, path, "no answer within 1.5s").await;
        assert!(!failed.is_permanent);
    }
    let nobody = fetch(&Url::parse("http://127.0.0.1:1/").unwrap()).await.unwrap_err();
    assert!(!nobody.is_permanent && nobody.reason.contains("connect"), "{nobody}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_shorter_body() {
    let provider = Provider::start().await;
    let text: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let whole = Answer::document(text.clone());
    let gzipped = whole.clone().gzipped();
    for (path, answer) in [
        ("/whole", whole.clone()),
        ("/chunked", whole.clone().chunked()),
        ("/until-closed", whole.clone().until_closed()),
        ("/gzip", gzipped.clone()),
        ("/gzip-chunked", gzipped.clone().chunked()),
        ("/gzip-until-closed", gzipped.clone().until_closed()),
        ("/identity", whole.clone().header("content-encoding", "identity")),
        ("/x-gzip", Answer::document(gzip(&text)).header("content-encoding", " X-GZIP")),
        // In two members.
        (
            "/members",
            Answer::document([gzip(&text[..9]), gzip(&text[9..])].concat())
                .header("content-encoding", "gzip"),
        ),
    ] {
        provider.serve(path, answer);
        assert!(document(&provider.url(path)).await.0 == text, "{path}");
    }
    for (path, answer) in [
        ("/whole", whole.clone()),
        ("/chunked", whole.chunked()),
        ("/gzip", gzipped.clone()),
        ("/gzip-chunked", gzipped.clone().chunked()),
        ("/gzip-until-closed", gzipped.until_closed()),
    ] {
        provider.serve(path, answer.cut_off());
        failure(&provider, path, "").await;
    }
}

#[tokio::test]
async fn what_is_compressed_is_whole_and_right_or_nothing() {
    let provider = Provider::start().await;
    let text = b"<alert/>".repeat(200);
    let whole = gzip(&text);
    let serve = |bytes: &[u8]| {
        provider.serve("/", Answer::document(bytes.to_vec()).header("content-encoding", "gzip"));
    };
    for length in 0..whole.len() {
        serve(&whole[..length]);
        failure(&provider, "/", "cannot be decompressed").await;
    }
    // A bit may be wrong that means nothing: some in its first ten bytes, and those after the end of its last block.
    let mut failures = 0;
    for position in 0..whole.len() {
        let mut wrong = whole.clone();
        wrong[position] ^= 0x10;
        serve(&wrong);
        match fetch(&provider.url("/")).await {
            Ok(Fetched::Document { bytes, .. }) => assert!(bytes == text, "{position}"),
            Ok(Fetched::Unchanged) => panic!("nothing was seen"),
            Err(failed) => {
                assert!(failed.reason.contains("cannot be decompressed"), "{position}: {failed}");
                failures += 1;
            }
        }
    }
    assert!(failures >= whole.len() - 11, "{failures} of {}", whole.len());
    for wrong in [text.clone(), [whole.clone(), b"more".to_vec()].concat(), [b"\n".to_vec(), whole].concat()]
    {
        serve(&wrong);
        failure(&provider, "/", "cannot be decompressed").await;
    }
}

#[tokio::test]
async fn an_encoding_that_was_not_asked_for_is_refused() {
    let provider = Provider::start().await;
    let plain = Answer::document("x");
    for answer in [
        plain.clone().header("content-encoding", "br"),
        plain.clone().header("content-encoding", "deflate"),
        plain.clone().header("content-encoding", "x".repeat(10_000)),
        // Twice, in either way to say so.
        plain.clone().gzipped().gzipped(),
        Answer::document(gzip(&gzip(b"x"))).header("content-encoding", "gzip, gzip"),
        plain.clone().gzipped().header("content-encoding", "br"),
    ] {
        provider.serve("/", answer);
        failure(&provider, "/", "encoded as was not asked for").await;
    }
    // Who did not ask for it does not get it, either.
    provider.serve("/", plain.gzipped());
    let request = http::Request::get(provider.url("/").as_str()).body(Vec::new()).unwrap();
    let refused = Http::new(["127.0.0.1"]).send(request, LIMITS).await.unwrap_err();
    assert!(refused.to_string().contains("encoded as was not asked for: gzip"), "{refused}");
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_they_may() {
    let provider = Provider::start().await;
    for (from, to) in [
        ("/a", "/b"),
        ("/b", "deep/c"),
        ("/deep/c", "../d?e=f#g"),
        ("/1", "/a"),
        ("/loop", "/loop"),
        ("/ping", "/pong"),
        ("/pong", "/ping"),
    ] {
        provider.serve(from, Answer::redirect(to).header("etag", "\"of the redirect\""));
    }
    provider.serve("/d?e=f", Answer::document("found").header("last-modified", "today"));
    let seen = Validators::new(Some("\"seen\""), None);
    let fetched = source().fetch(&provider.url("/a"), &seen).await.unwrap();
    let Fetched::Document { bytes, url, validators } = fetched else { panic!("it is another version") };
    // Where it is; and what the document says of itself, and not who led there.
    assert_eq!((bytes.as_slice(), url), (b"found".as_slice(), provider.url("/d?e=f#g")));
    assert_eq!(validators, Validators::new(None, Some("today")));
    let seen = Validators::new(None, Some("today"));
    assert_eq!(source().fetch(&provider.url("/a"), &seen).await.unwrap(), Fetched::Unchanged);
    // One less would do, and there is none.
    for path in ["/1", "/loop", "/ping"] {
        failure(&provider, path, "more than 3 redirects").await;
    }
    assert_eq!(provider.requests("/loop").count, 4);
    provider.serve("/nowhere", Answer::redirect("http://"));
    failure(&provider, "/nowhere", "a redirect to what is no address").await;
    let another = Provider::start().await;
    another.serve("/", Answer::document("there"));
    provider.serve("/elsewhere", Answer::redirect(another.url("/")));
    assert_eq!(document(&provider.url("/elsewhere")).await, (b"there".to_vec(), another.url("/")));
}

#[tokio::test]
async fn nobody_inside_is_asked_at_any_hop() {
    let provider = Provider::start().await;
    let port = provider.port();
    let inside = [
        "http://10.0.0.1/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "http://[::ffff:10.0.0.1]/".to_owned(),
        format!("http://localhost:{port}/secret"),
        format!("http://[::1]:{port}/secret"),
        format!("//0.0.0.0:{port}/secret"),
        format!("http://127.0.0.2:{port}/secret"),
        "file:///etc/passwd".to_owned(),
        "ftp://192.0.2.1/".to_owned(),
        "data:text/xml,<alert/>".to_owned(),
    ];
    for to in &inside {
        // After no hop, one, and the most that there may be.
        provider.serve("/1", Answer::redirect(to));
        provider.serve("/2", Answer::redirect("/1"));
        provider.serve("/3", Answer::redirect("/2"));
        for path in ["/1", "/2", "/3"] {
            let failed = failure(&provider, path, "").await;
            assert!(failed.is_permanent, "{to}: {failed}");
            assert!(
                failed.reason.contains("public address") || failed.reason.contains("neither http"),
                "{failed}"
            );
        }
        if let Ok(url) = Url::parse(to) {
            let failed = fetch(&url).await.unwrap_err();
            assert!(failed.reason.contains("address") || failed.reason.contains("neither http"), "{failed}");
            assert!(failed.is_permanent, "{to}: {failed}");
        }
    }
    assert_eq!(provider.requests("/secret").count, 0);
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit() {
    let provider = Provider::start().await;
    let fits = Answer::document(vec![b'x'; MIB]);
    let gigabyte = fits.clone().times(1_024);
    for (path, answer) in
        [("/length", fits.clone()), ("/chunks", fits.clone().chunked()), ("/gzip", fits.gzipped())]
    {
        provider.serve(path, answer);
        assert_eq!(document(&provider.url(path)).await.0.len(), MIB, "{path}");
    }
    let too_large = format!("the answer has more than {MIB} bytes");
    let over = Answer::document(vec![b'x'; MIB + 1]);
    for (path, answer) in [
        ("/over", over.clone()),
        ("/over-in-chunks", over.clone().chunked()),
        ("/over-gzipped", over.gzipped()),
        ("/gigabyte", gigabyte.clone()),
        ("/gigabyte-in-chunks", gigabyte.clone().chunked()),
        ("/gigabyte-until-closed", gigabyte.until_closed()),
        // Blocks that hold nothing (RFC 1951, 3.2.4): what is sent counts as well.
        (
            "/nothing",
            Answer::document(blocks_of_nothing(2 * MIB)).header("content-encoding", "gzip").chunked(),
        ),
    ] {
        provider.serve(path, answer);
        failure(&provider, path, &too_large).await;
        let sent = provider.requests(path).bytes_sent;
        assert!(sent <= MIB as u64 + IN_BUFFERS, "{path}: {sent}");
    }
    // Members that hold nothing: where they are not too many, they take too long.
    let nothing = Answer::document(gzip(b"")).times(MIB).chunked().header("content-encoding", "gzip");
    provider.serve("/members", nothing);
    failure(&provider, "/members", "").await;
}

/// The beginning of a member that goes on without an end, and comes to nothing.
fn blocks_of_nothing(bytes: usize) -> Vec<u8> {
    let mut blocks = gzip(b"")[..10].to_vec();
    blocks.extend([0, 0, 0, 0xff, 0xff].repeat(bytes / 5));
    blocks
}

#[tokio::test]
async fn a_bomb_stops_at_the_limit() {
    let provider = Provider::start().await;
    provider.serve("/small", Answer::document(gzip_bomb(1)).header("content-encoding", "gzip"));
    assert!(document(&provider.url("/small")).await.0 == vec![0; MIB]);
    let bomb = gzip_bomb(1_024);
    assert!(bomb.len() < 2 * MIB, "{}", bomb.len());
    provider.serve("/bomb", Answer::document(bomb).header("content-encoding", "gzip"));
    // Under the limits that it has in production.
    let source = HttpFeedSource::new(&Http::new(["127.0.0.1"]));
    let before = peak_memory();
    let failed = source.fetch(&provider.url("/bomb"), &Validators::default()).await.unwrap_err();
    assert_eq!(failed.reason, format!("the answer has more than {} bytes", 16 * MIB));
    let grown = peak_memory().zip(before).map(|(after, before)| after - before);
    assert!(grown.is_none_or(|grown| grown < 64 * MIB), "{grown:?}");
}

/// The most memory that this process had so far, in bytes, where the system tells (Linux).
fn peak_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1_024)
}

#[tokio::test]
async fn a_head_is_bounded_too() {
    let provider = Provider::start().await;
    let many = (0..5_000).fold(Answer::document("x"), |answer, n| answer.header(&format!("x-{n}"), "y"));
    provider.serve("/many", many);
    provider.serve("/same", (0..5_000).fold(Answer::document("x"), |answer, _| answer.header("etag", "y")));
    provider.serve("/long", Answer::document("x").header("x", "y".repeat(10 * MIB)));
    provider.serve("/far", Answer::redirect(format!("/{}", "y".repeat(10 * MIB))));
    for path in ["/many", "/same", "/long", "/far"] {
        let failed = failure(&provider, path, "message head is too large").await;
        assert!(!failed.is_permanent);
    }
}
