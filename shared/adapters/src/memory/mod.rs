//! Every port in memory, for property tests and for the conformance suite, which holds these and the real ones to the
//! same promises.
//!
//! What expires by itself elsewhere (a cached timeline, a count) does not here, unless a port is told the time.

mod accounts;
mod departures;
mod feed_source;
mod feeds;
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

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::FutureExt as _;

pub use self::{
    accounts::{MemorySessions, MemoryUsers},
    departures::{MemoryDepartureQueue, MemoryDepartures},
    feed_source::MemoryFeedSource,
    feeds::{MemoryFeeds, MemoryPollQueue},
    friendships::{MemoryFriendships, MemoryHiddenCache},
    notifications::MemoryInboxes,
    outside::{
        MemoryMailer, MemoryPostLog, MemoryPushGateway, MemoryPushQueue, MemoryPushShare, MemoryRateLimiter,
        MemoryResetQueue, MemoryStepQueue,
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
        USES_LEFT.set(match USES_LEFT.get() {
            Some(0) => resume_unwind(Box::new(Killed)),
            left => left.map(|left| left - 1),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// How often this thread may still use an adapter, if it is to die then.
    static USES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Ends the work of a thread.
struct Killed;

/// Does something on this thread, which has used adapters so many times and dies when it uses one again, as a process that
/// is killed does: `None`. Its last use has had its effect, of which it may not have heard.
pub async fn until_killed<F: Future>(uses: usize, work: F) -> Option<F::Output> {
    USES_LEFT.set(Some(uses));
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    USES_LEFT.set(None);
    match ended {
        Ok(output) => Some(output),
        Err(reason) if reason.is::<Killed>() => None,
        Err(reason) => resume_unwind(reason),
    }
}
