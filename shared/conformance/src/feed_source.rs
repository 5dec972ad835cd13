//! Sources of feeds.

use tocsin_domain::feed_fetch::{FeedSource, Fetched, Validators};
use url::Url;

/// Each version of a document is fetched once by who says what they have seen, and as often as they like by who does not;
/// and what is nowhere is a failure for good. `publish` puts a version, with its `ETag`, at the address.
pub async fn versions<S: FeedSource>(
    source: &S,
    url: &Url,
    nowhere: &Url,
    publish: impl AsyncFn(&'static str, &'static str),
) {
    let fetch = async |seen: &Validators| source.fetch(url, seen).await.unwrap();
    let mut seen = Validators::default();
    for (text, etag) in [("one", "\"1\""), ("two", "W/\"2\""), ("", "\"3\"")] {
        publish(text, etag).await;
        for seen in [seen, Validators::default(), Validators::new(Some("\"another\""), None)] {
            let Fetched::Document { bytes, url: from, validators } = fetch(&seen).await else {
                panic!("{text} was not seen yet")
            };
            assert_eq!((bytes.as_slice(), &from), (text.as_bytes(), url));
            assert_eq!(validators, Validators::new(Some(etag), None));
        }
        seen = Validators::new(Some(etag), None);
        for _ in 0..2 {
            assert_eq!(fetch(&seen).await, Fetched::Unchanged);
        }
    }
    let failure = source.fetch(nowhere, &Validators::default()).await.unwrap_err();
    assert!(failure.is_permanent && !failure.reason.is_empty(), "{failure:?}");
}
