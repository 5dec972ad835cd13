//! Devices, and what was sent to them.

use std::collections::{BTreeMap, HashMap};

use tocsin_domain::{
    Result,
    audience::Position,
    delivery_counts::{DeliveryCounter, DeliveryCounts, PushState},
    device::{Device, DeviceEditor, DeviceId, Devices},
    ids::{PostId, UserId},
    notification::Because,
    push::{
        Delivered, Deliveries, DeliveryEraser, DeliveryReader, Endpoint, News, NewsKey, Outcome, PushKey,
        PushRecipient, REMEMBERED_SECONDS, RESERVED_SECONDS, Reservation, Told,
    },
    time::{self, Timestamp},
};

use super::Shared;

/// Devices.
#[derive(Clone, Debug, Default)]
pub struct MemoryDevices {
    devices: Shared<BTreeMap<(UserId, String), Device>>,
}

impl Devices for MemoryDevices {
    async fn of(&self, owner: UserId) -> Result<Vec<Device>> {
        let devices = self.devices.lock();
        Ok(devices.iter().filter(|((user, _), _)| *user == owner).map(|(_, device)| device.clone()).collect())
    }
}

impl DeviceEditor for MemoryDevices {
    async fn put(&self, owner: UserId, device: &Device) -> Result<()> {
        let mut devices = self.devices.lock();
        devices.retain(|_, other| other.token != device.token);
        devices.insert((owner, device.device_id.to_string()), device.clone());
        Ok(())
    }

    async fn remove(&self, owner: UserId, id: &DeviceId) -> Result<Option<Device>> {
        Ok(self.devices.lock().remove(&(owner, id.to_string())))
    }

    async fn repair(&self, owner: UserId, seen: &Device, endpoint: &Endpoint) -> Result<bool> {
        let mut devices = self.devices.lock();
        let device = devices.get_mut(&(owner, seen.device_id.to_string()));
        let device = device.filter(|device| device.token == seen.token);
        Ok(device.map(|device| device.endpoint = endpoint.clone()).is_some())
    }

    async fn remove_if(&self, owner: UserId, seen: &Device) -> Result<bool> {
        let mut devices = self.devices.lock();
        let key = (owner, seen.device_id.to_string());
        let is_as_seen = devices.get(&key) == Some(seen);
        Ok(is_as_seen && devices.remove(&key).is_some())
    }
}

/// Deliveries.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeliveries {
    pushes: Shared<HashMap<PushKey, Delivery>>,
    notes: Shared<HashMap<NewsKey, (Because, Outcome, Timestamp)>>,
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    ReservedUntil(Because, Timestamp),
    Failed,
    Done(Because, Outcome, Timestamp),
}

impl MemoryDeliveries {
    /// What became of a push, and why it was sent.
    #[must_use]
    pub fn outcome(&self, push: &PushKey) -> Option<(Because, Outcome)> {
        match self.pushes.lock().get(push) {
            Some(Delivery::Done(because, outcome, _)) => Some((*because, *outcome)),
            _ => None,
        }
    }
}

impl Deliveries for MemoryDeliveries {
    async fn reserve(&self, push: &PushKey, because: Because, now: Timestamp) -> Result<Reservation> {
        let mut pushes = self.pushes.lock();
        match pushes.get(push) {
            Some(Delivery::Done(..)) => Ok(Reservation::Done),
            Some(Delivery::ReservedUntil(_, until)) if *until > now => Ok(Reservation::Held),
            _ => {
                let until = time::after(now, RESERVED_SECONDS);
                pushes.insert(push.clone(), Delivery::ReservedUntil(because, until));
                Ok(Reservation::Ours)
            }
        }
    }

    async fn record(&self, push: &PushKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        self.pushes.lock().insert(push.clone(), Delivery::Done(because, outcome, now));
        Ok(())
    }

    async fn note(&self, news: &NewsKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        self.notes.lock().insert(*news, (because, outcome, now));
        Ok(())
    }

    async fn release(&self, push: &PushKey) -> Result<()> {
        let mut pushes = self.pushes.lock();
        if let Some(delivery @ Delivery::ReservedUntil(..)) = pushes.get_mut(push) {
            *delivery = Delivery::Failed;
        }
        Ok(())
    }
}

impl DeliveryReader for MemoryDeliveries {
    async fn of(&self, owner: UserId, post_id: PostId, now: Timestamp) -> Result<Vec<Delivered>> {
        let pushes = self.pushes.lock();
        let of_both = pushes.iter().filter(|(push, _)| push.user_id == owner && push.post_id == post_id);
        let delivered = of_both.filter_map(|(push, delivery)| match *delivery {
            Delivery::Done(because, outcome, recorded_at)
                if time::after(recorded_at, REMEMBERED_SECONDS) > now =>
            {
                let (device_id, news) = (Some(push.device_id.clone()), push.news);
                Some(Delivered { device_id, news, because, outcome, recorded_at })
            }
            _ => None,
        });
        let notes = self.notes.lock();
        let of_both = notes.iter().filter(|(key, _)| key.user_id == owner && key.post_id == post_id);
        let kept = of_both.filter(|(_, (_, _, at))| time::after(*at, REMEMBERED_SECONDS) > now);
        let of_person = kept.map(|(key, (because, outcome, recorded_at))| Delivered {
            device_id: None,
            news: key.news,
            because: *because,
            outcome: *outcome,
            recorded_at: *recorded_at,
        });
        let mut all: Vec<_> = delivered.chain(of_person).collect();
        all.sort_by(|one, other| (&one.device_id, one.news).cmp(&(&other.device_id, other.news)));
        Ok(all)
    }
}

impl Told for MemoryDeliveries {
    async fn told(
        &self,
        post_id: PostId,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<PushRecipient>, Option<Position>)> {
        let pushes = self.pushes.lock();
        let told =
            pushes.iter().filter(|(push, _)| push.post_id == post_id).filter_map(|(push, delivery)| {
                let because = match *delivery {
                    Delivery::ReservedUntil(because, _) => because,
                    Delivery::Done(because, outcome, _) if outcome.has_rung() => because,
                    Delivery::Done(..) | Delivery::Failed => return None,
                };
                Some(PushRecipient { user_id: push.user_id, because })
            });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|one| one.user_id);
        let from = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let next = (told.len() > from + limit).then(|| (from + limit).to_string());
        Ok((told.into_iter().skip(from).take(limit).collect(), next))
    }
}

impl DeliveryCounter for MemoryDeliveries {
    async fn count(&self, post_id: PostId, now: Timestamp) -> Result<BTreeMap<News, DeliveryCounts>> {
        let is_kept = |at: Timestamp| time::after(at, REMEMBERED_SECONDS) > now;
        let mut counts: BTreeMap<News, DeliveryCounts> = BTreeMap::new();
        for (push, delivery) in self.pushes.lock().iter().filter(|(push, _)| push.post_id == post_id) {
            let state = match *delivery {
                Delivery::Done(_, _, at) if !is_kept(at) => continue,
                Delivery::Done(_, outcome, _) => PushState::Became(outcome),
                Delivery::ReservedUntil(_, until) if until > now => PushState::UnderWay,
                Delivery::ReservedUntil(..) | Delivery::Failed => PushState::Failed,
            };
            counts.entry(push.news).or_default().add_device(state);
        }
        for (news, (_, outcome, at)) in self.notes.lock().iter().filter(|(news, _)| news.post_id == post_id) {
            if is_kept(*at) {
                counts.entry(news.news).or_default().add_person(*outcome);
            }
        }
        Ok(counts)
    }
}

impl DeliveryEraser for MemoryDeliveries {
    async fn erase(&self, owner: UserId, post_id: PostId) -> Result<()> {
        self.pushes.lock().retain(|push, _| push.user_id != owner || push.post_id != post_id);
        self.notes.lock().retain(|news, _| news.user_id != owner || news.post_id != post_id);
        Ok(())
    }
}
