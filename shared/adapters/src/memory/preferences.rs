//! Notification preferences, and what is held by them.

use std::collections::{BTreeMap, HashMap};

use tocsin_domain::{
    Result,
    held_push::{
        DigestJob, DigestQueue, DigestSchedule, DueDigest, HeldPush, HeldPushEraser, HeldPushReader,
        HeldPushRescheduler, HeldPushes, Minute, expires_at,
    },
    ids::UserId,
    preferences::{Preferences, PreferencesEditor, PreferencesReader},
    time::Timestamp,
};

use super::Shared;

/// Preferences.
#[derive(Clone, Debug, Default)]
pub struct MemoryPreferences {
    preferences: Shared<HashMap<UserId, Preferences>>,
}

impl PreferencesReader for MemoryPreferences {
    async fn of(&self, people: &[UserId]) -> Result<HashMap<UserId, Preferences>> {
        let preferences = self.preferences.lock();
        Ok(people.iter().filter_map(|id| Some((*id, preferences.get(id)?.clone()))).collect())
    }
}

impl PreferencesEditor for MemoryPreferences {
    async fn put(&self, owner: UserId, preferences: &Preferences) -> Result<()> {
        self.preferences.lock().insert(owner, preferences.clone());
        Ok(())
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        self.preferences.lock().remove(&owner);
        Ok(())
    }
}

/// Held pushes.
#[derive(Clone, Debug, Default)]
pub struct MemoryHeldPushes {
    state: Shared<Held>,
}

#[derive(Debug, Default)]
struct Held {
    pushes: BTreeMap<(UserId, String), (HeldPush, Timestamp)>,
    due: BTreeMap<(Minute, UserId), u64>,
    said: u64,
    done: Option<Minute>,
}

impl Held {
    fn say(&mut self, owner: UserId, until: Timestamp) {
        self.said += 1;
        self.due.insert((Minute::from(until), owner), self.said);
    }
}

impl HeldPushes for MemoryHeldPushes {
    async fn hold(&self, owner: UserId, held: &HeldPush, until: Timestamp) -> Result<()> {
        let mut state = self.state.lock();
        state.pushes.insert((owner, held.key()), (*held, until));
        state.say(owner, until);
        Ok(())
    }
}

impl HeldPushReader for MemoryHeldPushes {
    async fn of(&self, owner: UserId, limit: usize, now: Timestamp) -> Result<Vec<HeldPush>> {
        let state = self.state.lock();
        let is_there = |user: &UserId, until: &Timestamp| *user == owner && expires_at(*until) > now;
        let of_owner = state.pushes.iter().filter(|((user, ..), (_, until))| is_there(user, until));
        Ok(of_owner.map(|(_, (held, _))| *held).take(limit).collect())
    }
}

impl HeldPushRescheduler for MemoryHeldPushes {
    async fn reschedule(&self, owner: UserId, until: Timestamp) -> Result<()> {
        self.state.lock().say(owner, until);
        Ok(())
    }
}

impl HeldPushEraser for MemoryHeldPushes {
    async fn remove(&self, owner: UserId, held: &[HeldPush]) -> Result<()> {
        self.state.lock().pushes.retain(|(user, ..), (stored, _)| *user != owner || !held.contains(stored));
        Ok(())
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        let mut state = self.state.lock();
        state.pushes.retain(|(user, ..), _| *user != owner);
        state.due.retain(|(_, user), _| *user != owner);
        Ok(())
    }
}

impl DigestSchedule for MemoryHeldPushes {
    async fn done(&self) -> Result<Option<Minute>> {
        Ok(self.state.lock().done)
    }

    async fn set_done(&self, minute: Minute) -> Result<()> {
        let done = &mut self.state.lock().done;
        *done = (*done).max(Some(minute));
        Ok(())
    }

    async fn due(&self, minute: Minute, limit: usize) -> Result<Vec<DueDigest>> {
        let state = self.state.lock();
        let due = state.due.iter().filter(|((at, _), _)| *at == minute);
        let due =
            due.map(|((_, user_id), said)| DueDigest { minute, user_id: *user_id, said: said.to_string() });
        Ok(due.take(limit).collect())
    }

    async fn forget(&self, due: &DueDigest) -> Result<()> {
        let is_this = |at: &(Minute, UserId), said: &u64| {
            *at == (due.minute, due.user_id) && said.to_string() == due.said
        };
        self.state.lock().due.retain(|at, said| !is_this(at, said));
        Ok(())
    }
}

/// A queue of digests.
#[derive(Clone, Debug, Default)]
pub struct MemoryDigestQueue {
    jobs: Shared<Vec<DigestJob>>,
}

impl MemoryDigestQueue {
    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<DigestJob> {
        std::mem::take(&mut self.jobs.lock())
    }
}

impl DigestQueue for MemoryDigestQueue {
    async fn enqueue(&self, jobs: &[DigestJob]) -> Result<()> {
        self.jobs.lock().extend_from_slice(jobs);
        Ok(())
    }
}
