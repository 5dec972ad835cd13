//! Ids: UUIDv7 in a newtype each, so that one cannot be passed for another, and that sorting by id sorts by time.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::{NoContext, Uuid};

use crate::error::Invalid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id of this instant.
            #[must_use]
            pub fn new(now: Timestamp) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
                let nanos = u32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
                Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, millis / 1_000, nanos)))
            }

            /// When it was made, to the millisecond.
            #[must_use]
            pub fn time(self) -> Timestamp {
                // The first 48 bits of a UUIDv7 are milliseconds since 1970 (RFC 9562, 5.7). Those of ids that we made are
                // instants; what somebody else made up may be none, and is at the beginning of time.
                let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or(0);
                Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
            }

            /// Whether it can be one that we made: of version 7, and of an instant that is one.
            #[must_use]
            pub fn is_ours(self) -> bool {
                let instant = self.0.as_u128() >> 80 == 0 || self.time() > Timestamp::UNIX_EPOCH;
                self.0.get_version_num() == 7 && instant
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id of these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            /// Only the one form that we write is read, so that an id has one spelling in keys and caches.
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Uuid::try_parse(text)
                    .ok()
                    .filter(|id| id.hyphenated().to_string() == text)
                    .map(Self)
                    .ok_or_else(|| Invalid::new("invalid_id", "must be a UUID, in lower case with hyphens"))
            }
        }
    };
}

id!(
    /// A post.
    PostId
);
id!(
    /// An edit of a post.
    EditId
);
id!(
    /// A person with an account.
    UserId
);
id!(
    /// A session: the family of tokens that follow one sign-in.
    SessionId
);
id!(
    /// A subscription.
    SubscriptionId
);
id!(
    /// The image of a profile.
    ImageId
);

id!(
    /// A feed.
    FeedId
);

impl PostId {
    /// The id that something has by its name at an instant: always the same one.
    #[must_use]
    pub fn named(time: Timestamp, name: &[&[u8]]) -> Self {
        let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
        let hash = name.iter().fold(Sha256::new(), |hash, part| {
            // With its length, so that no two names are the same bytes.
            hash.chain_update(part.len().to_be_bytes()).chain_update(part)
        });
        let digest = hash.finalize();
        let random = std::array::from_fn(|i| digest[i]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_instant_and_its_spelling() {
        let now = crate::time::parse("2026-11-20T18:02:11.123Z").unwrap();
        let id = PostId::new(now);
        assert_eq!(id.time(), now);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<PostId>().is_err());
    }

    #[test]
    fn a_name_has_one_id_at_an_instant() {
        let now = crate::time::parse("2026-11-20T18:02:11.123Z").unwrap();
        let id = PostId::named(now, &[b"a feed", b"1", b"23"]);
        assert_eq!(id, PostId::named(now, &[b"a feed", b"1", b"23"]));
        assert_ne!(id, PostId::named(now, &[b"a feed", b"12", b"3"]));
        assert!(id.is_ours() && id.time() == now);
    }
}
