//! Keys with a large audience: what is posted under them is not written into everybody's timeline, but kept once for each
//! key, and merged into the timelines of those who follow it when they are read.
//!
//! Whether a key is large is found out by who walks over its audience, and remembered. Writers and readers need not agree
//! on the instant: a reader merges a key as soon as it is remembered, and as long as it is; a writer leaves it to the
//! readers only when every cached timeline was built by one who knew ([`LargeKey::is_merged`]).

use std::{future::Future, sync::Arc};

use crate::{
    Result,
    audience::AudienceKey,
    time::{self, Timestamp},
    timeline::MOST_LIFETIME_SECONDS,
};

/// A key whose audience was seen to be large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeKey {
    /// The key.
    pub key: AudienceKey,
    /// Since when that is remembered.
    pub since: Timestamp,
    /// Until when it is, unless it is seen again.
    pub until: Timestamp,
}

/// How long a key is remembered as large, in seconds: 30 days.
pub const REMEMBERED_SECONDS: u64 = 30 * 24 * 60 * 60;
/// How old what is known of the keys may be, in seconds.
pub const MOST_STALE_SECONDS: u64 = 5 * 60;
/// What is written or read may be that late, in seconds, besides.
const MARGIN_SECONDS: u64 = 2 * MOST_STALE_SECONDS;

impl LargeKey {
    /// Whether timelines that are built now must merge it.
    #[must_use]
    pub fn is_remembered(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Whether each cached timeline of its audience merges it, so that nothing is written into them.
    #[must_use]
    pub fn is_merged(&self, now: Timestamp) -> bool {
        let margin = MOST_LIFETIME_SECONDS + MARGIN_SECONDS;
        time::after(self.since, margin) <= now && time::after(now, margin) < self.until
    }
}

/// Remembers which keys are large.
pub trait LargeKeys: Sync {
    /// All of them, as they were known [`MOST_STALE_SECONDS`] ago or later.
    fn all(&self) -> impl Future<Output = Result<Arc<[LargeKey]>>> + Send;
    /// Remembers a key for [`REMEMBERED_SECONDS`] from now on.
    fn remember(&self, key: &AudienceKey, now: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_leaves_a_key_to_readers_who_all_know_of_it() {
        let since = time::parse("2026-11-01T00:00:00Z").unwrap();
        let key = LargeKey {
            key: "fire#*#*".parse().unwrap(),
            since,
            until: time::after(since, REMEMBERED_SECONDS),
        };
        for hours in 0..31 * 24 {
            let now = time::after(since, hours * 60 * 60);
            if key.is_merged(now) {
                // The oldest cached timeline was built, and the youngest will expire, while it is remembered; and who
                // builds one knows what was known some minutes ago.
                let oldest = now - std::time::Duration::from_secs(MOST_LIFETIME_SECONDS + MOST_STALE_SECONDS);
                assert!(oldest >= key.since);
                assert!(key.is_remembered(time::after(now, MOST_LIFETIME_SECONDS)));
            }
        }
        assert!(key.is_merged(time::after(since, 10 * 24 * 60 * 60)));
        assert!(!key.is_merged(since) && !key.is_merged(key.until));
    }
}
