//! Departures, and their queue.

use std::collections::HashMap;

use tocsin_domain::{
    Result,
    departure::{
        Departure, DepartureJob, DepartureProgress, DepartureQueue, DepartureSchedule, Departures, Due,
    },
    ids::UserId,
    time::Timestamp,
};

use super::Shared;

/// Departures, each with when it is due.
#[derive(Clone, Debug, Default)]
pub struct MemoryDepartures {
    departures: Shared<HashMap<UserId, (Departure, Timestamp)>>,
}

/// Whether a stored departure is this one, and as far.
fn is_still(stored: &Departure, seen: &Departure) -> bool {
    let progress = |departure: &Departure| (departure.asked_at, departure.round, departure.posts_before);
    progress(stored) == progress(seen)
}

impl Departures for MemoryDepartures {
    async fn begin(&self, departure: &Departure, due: Timestamp) -> Result<()> {
        self.departures.lock().insert(departure.user_id, (*departure, due));
        Ok(())
    }
}

impl DepartureProgress for MemoryDepartures {
    async fn get(&self, id: UserId) -> Result<Option<Departure>> {
        Ok(self.departures.lock().get(&id).map(|(departure, _)| *departure))
    }

    async fn move_on(&self, from: &Departure, rest: &Departure, due: Timestamp) -> Result<bool> {
        let mut departures = self.departures.lock();
        let stored = departures.get_mut(&from.user_id).filter(|(stored, _)| is_still(stored, from));
        Ok(stored.map(|stored| *stored = (*rest, due)).is_some())
    }

    async fn end(&self, departure: &Departure) -> Result<()> {
        self.departures
            .lock()
            .retain(|_, (stored, _)| stored.user_id != departure.user_id || !is_still(stored, departure));
        Ok(())
    }
}

impl DepartureSchedule for MemoryDepartures {
    async fn due(&self, now: Timestamp, after: Option<Due>, limit: usize) -> Result<Vec<Due>> {
        let departures = self.departures.lock();
        let due = departures.iter().map(|(user_id, (_, since))| Due { since: *since, user_id: *user_id });
        let mut due: Vec<_> =
            due.filter(|due| due.since <= now && after.is_none_or(|after| *due > after)).collect();
        due.sort();
        due.truncate(limit);
        Ok(due)
    }

    async fn postpone(&self, due: Due, until: Timestamp) -> Result<()> {
        if let Some((_, since)) = self.departures.lock().get_mut(&due.user_id)
            && *since == due.since
        {
            *since = until;
        }
        Ok(())
    }
}

/// A queue of departures.
#[derive(Clone, Debug, Default)]
pub struct MemoryDepartureQueue {
    jobs: Shared<Vec<DepartureJob>>,
}

impl MemoryDepartureQueue {
    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<DepartureJob> {
        std::mem::take(&mut self.jobs.lock())
    }
}

impl DepartureQueue for MemoryDepartureQueue {
    async fn enqueue(&self, job: &DepartureJob) -> Result<()> {
        self.jobs.lock().push(*job);
        Ok(())
    }
}
