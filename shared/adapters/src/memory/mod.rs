//! Every port in memory, for property tests and for the conformance suite, which holds these and the real ones to the
//! same promises.
//!
//! What expires by itself elsewhere (a cached timeline, a count) does not here, unless a port is told the time.

mod accounts;
mod departures;
mod friendships;
mod notifications;
mod outside;
mod people;
mod posts;
mod preferences;
mod pushes;
mod reactions;
mod subscriptions;
mod timelines;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::{
    accounts::{MemorySessions, MemoryUsers},
    departures::{MemoryDepartureQueue, MemoryDepartures},
    friendships::{MemoryFriendships, MemoryHiddenCache},
    notifications::MemoryInboxes,
    outside::{
        MemoryMailer, MemoryPostLog, MemoryPushGateway, MemoryPushQueue, MemoryRateLimiter, MemoryResetQueue,
        MemoryStepQueue,
    },
    people::{MemoryImages, MemoryPeople},
    posts::{MemoryIdempotency, MemoryPostCache, MemoryPosts},
    preferences::{MemoryDigestQueue, MemoryHeldPushes, MemoryPreferences},
    pushes::{MemoryDeliveries, MemoryDevices},
    reactions::{MemoryReactionQueue, MemoryReactions},
    subscriptions::{MemoryCategories, MemorySubscriptions},
    timelines::MemoryTimelines,
};

/// What the clones of an adapter share.
#[derive(Debug, Default)]
struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
