//! Fetching: what is asked of the providers of feeds, and what comes of it.

use std::{future::Future, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

/// Fetches documents from those who provide them: feeds, and what they link to.
pub trait FeedSource: Sync {
    /// The document at an address, whole; or that it is still the version which these validators came with.
    fn fetch(
        &self,
        url: &Url,
        seen: &Validators,
    ) -> impl Future<Output = Result<Fetched, FetchFailure>> + Send;
}

/// What tells a document's versions apart (RFC 9110, 8.8): word for word as its provider said it, and gets it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validators {
    /// `ETag`, with its quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validators {
    /// The most bytes of one. Without it a document is only fetched once more than it need be.
    pub const MOST_BYTES: usize = 1024;

    /// Those that a provider named, where they can be kept.
    #[must_use]
    pub fn new(etag: Option<&str>, last_modified: Option<&str>) -> Self {
        let kept = |text: Option<&str>| {
            text.filter(|text| (1..=Self::MOST_BYTES).contains(&text.len())).map(str::to_owned)
        };
        Self { etag: kept(etag), last_modified: kept(last_modified) }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

/// What a provider has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// What was seen already.
    Unchanged,
    /// A document.
    Document {
        /// All of it, as it was before it was compressed to be sent.
        bytes: Vec<u8>,
        /// Where it was in the end, after redirects: what its relative links are relative to.
        url: Url,
        /// What came with it.
        validators: Validators,
    },
}

/// Why there is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FetchFailure {
    /// For the moderator of the feed.
    pub reason: String,
    /// When its provider wants to be asked again, if it said so: up to [`FetchFailure::LONGEST_WAIT`].
    pub retry_after: Option<Duration>,
    /// Whether it will be so until somebody does something about it, and needs to be tried less often until then.
    pub is_permanent: bool,
}

impl FetchFailure {
    /// The longest that a provider can have us wait: one that says a year by mistake is back the next day.
    pub const LONGEST_WAIT: Duration = Duration::from_hours(24);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_are_kept_as_they_are_or_not_at_all() {
        let longest = "x".repeat(Validators::MOST_BYTES);
        let kept = Validators::new(Some(&longest), Some("yesterday, or so"));
        assert_eq!(kept.etag, Some(longest));
        assert_eq!(kept.last_modified.as_deref(), Some("yesterday, or so"));
        assert!(Validators::new(Some(&"x".repeat(Validators::MOST_BYTES + 1)), Some("")).is_empty());
        for validators in [kept, Validators::default()] {
            let json = serde_json::to_string(&validators).unwrap();
            assert_eq!(serde_json::from_str::<Validators>(&json).unwrap(), validators);
        }
        assert_eq!(serde_json::from_str::<Validators>("{}").unwrap(), Validators::default());
    }
}
