//! People's inboxes.

use std::{cmp::Reverse, collections::HashMap};

use tocsin_domain::{
    Result,
    ids::UserId,
    notification::{
        Inbox, InboxEraser, InboxMarker, Inboxes, LIFETIME_SECONDS, Notification, NotificationId, Place,
    },
    push::Outcome,
    time::{self, Timestamp},
};

use super::Shared;

/// People's inboxes.
#[derive(Clone, Debug, Default)]
pub struct MemoryInboxes {
    inboxes: Shared<HashMap<UserId, HashMap<NotificationId, Notification>>>,
    read_until: Shared<HashMap<UserId, Timestamp>>,
}

impl Inboxes for MemoryInboxes {
    async fn add(&self, owner: UserId, notification: &Notification) -> Result<bool> {
        let mut inboxes = self.inboxes.lock();
        let inbox = inboxes.entry(owner).or_default();
        let is_new = !inbox.contains_key(&notification.id);
        inbox.entry(notification.id).or_insert(*notification);
        Ok(is_new)
    }

    async fn tell(&self, owner: UserId, id: NotificationId, push: Outcome) -> Result<()> {
        if let Some(notification) = self.inboxes.lock().entry(owner).or_default().get_mut(&id)
            && is_told(notification.push, push)
        {
            notification.push = Some(push);
        }
        Ok(())
    }
}

/// Whether what is said of a push takes the place of what was said before.
fn is_told(before: Option<Outcome>, push: Outcome) -> bool {
    before.is_none() || push.has_rung() || (before == Some(Outcome::Held) && push != Outcome::Held)
}

impl Inbox for MemoryInboxes {
    async fn newest(
        &self,
        owner: UserId,
        before: Option<Place>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Notification>> {
        let read_until = self.read_until.lock().get(&owner).copied();
        let inboxes = self.inboxes.lock();
        // In the order of the ids' texts, as it is where they are sort keys.
        let place = |created_at: Timestamp, id: NotificationId| (created_at, id.to_string());
        let mut all: Vec<_> = inboxes.get(&owner).into_iter().flat_map(HashMap::values).copied().collect();
        all.retain(|one| time::after(one.created_at, LIFETIME_SECONDS) > now);
        all.retain(|one| {
            before.is_none_or(|before| place(one.created_at, one.id) < place(before.0, before.1))
        });
        all.sort_by_key(|one| Reverse(place(one.created_at, one.id)));
        all.truncate(limit);
        for one in &mut all {
            one.read |= read_until.is_some_and(|until| one.created_at <= until);
        }
        Ok(all)
    }
}

impl InboxMarker for MemoryInboxes {
    async fn mark(&self, owner: UserId, ids: &[NotificationId]) -> Result<()> {
        let mut inboxes = self.inboxes.lock();
        let inbox = inboxes.entry(owner).or_default();
        for id in ids {
            if let Some(notification) = inbox.get_mut(id) {
                notification.read = true;
            }
        }
        Ok(())
    }

    async fn mark_until(&self, owner: UserId, until: Timestamp) -> Result<()> {
        let mut all = self.read_until.lock();
        let known = all.entry(owner).or_insert(until);
        *known = until.max(*known);
        Ok(())
    }
}

impl InboxEraser for MemoryInboxes {
    async fn remove(&self, owner: UserId, ids: &[NotificationId]) -> Result<()> {
        if let Some(inbox) = self.inboxes.lock().get_mut(&owner) {
            inbox.retain(|id, _| !ids.contains(id));
        }
        Ok(())
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        self.inboxes.lock().remove(&owner);
        self.read_until.lock().remove(&owner);
        Ok(())
    }
}
