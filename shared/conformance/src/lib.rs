//! What every implementation of the ports of `tocsin-domain` must do.
//!
//! Each function takes an adapter, fresh or used, and panics where it breaks a promise. The adapters in memory and the
//! real ones are held to the same, so that tests over the ones in memory tell about the others. Beside them are what tests
//! are made of ([`fixtures`]), and somebody outside to talk to ([`provider`]).
#![expect(clippy::missing_panics_doc, reason = "to panic is what these functions are for")]
#![expect(clippy::unwrap_used, reason = "these are tests")]

pub mod accounts;
pub mod departures;
pub mod events;
pub mod feed_source;
pub mod feeds;
pub mod fixtures;
pub mod friendships;
pub mod notifications;
pub mod people;
pub mod posts;
pub mod preferences;
pub mod provider;
pub mod pushes;
pub mod rate_limits;
pub mod reactions;
pub mod subscriptions;
pub mod timelines;
pub mod usernames;
