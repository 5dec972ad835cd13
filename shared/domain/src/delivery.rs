//! Delivery: the jobs are done by which phones ring.
//!
//! A job names a post, and not what it says: that is looked up when its turn comes, so that nobody is told of what was
//! deleted, has ended, or is by somebody hidden by then.

use std::time::Duration;

use futures::{StreamExt as _, future::join, stream};

use crate::{
    Error, Result,
    device::{self, Device, DeviceEditor},
    friendship::{Hidden, HiddenPeople},
    ids::UserId,
    notification::{Because, Inboxes, Notification},
    post::Post,
    posts::{self, PostCache, Posts},
    push::{Deliveries, Outcome, Published, Push, PushGateway, PushJob, PushKey, PushRecipient, Reservation},
    time::{self, Timestamp},
};

/// How many of a job's recipients are served at once.
const CONCURRENT_RECIPIENTS: usize = 16;
/// How long after something happened its push is worth delivering, in seconds: a day.
const TIME_TO_LIVE_SECONDS: u64 = 24 * 60 * 60;
/// How long it may take until a post that the log has taken is stored, in seconds: ten minutes.
const MOST_UNSTORED_SECONDS: u64 = 10 * 60;
/// How often it is tried to record what became of a push: without the record it may be sent again.
const MOST_RECORDINGS: usize = 3;

/// The ports of [`Delivery::deliver`].
#[derive(Debug)]
pub struct Delivery<'a, C, P, H, D, G, R, I> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// Who is hidden from whom.
    pub hidden: &'a H,
    /// The recipients' devices.
    pub devices: &'a D,
    /// The way to them.
    pub gateway: &'a G,
    /// What was sent.
    pub deliveries: &'a R,
    /// Where everybody can read later what was pushed to them.
    pub inboxes: &'a I,
}

/// What became of a job's pushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent now.
    pub pushed: usize,
    /// Not sent, for good.
    pub refused: usize,
    /// Sent by an earlier try.
    pub done: usize,
    /// To be tried again.
    pub failed: usize,
}

/// Why a job is not done, and nobody of it told.
enum Undone {
    /// Nobody needs to be told any more.
    Over,
    /// It is tried again.
    Failed(Error),
}

impl<C, P, H, D, G, R, I> Delivery<'_, C, P, H, D, G, R, I>
where
    C: PostCache,
    P: Posts,
    H: Hidden,
    D: DeviceEditor,
    G: PushGateway,
    R: Deliveries,
    I: Inboxes,
{
    /// Sends a job's pushes, and adds each to its recipient's inbox, also of who has no device. One that fails does not
    /// hold up the others; the job is done when none failed. Where the news is old, or holds no longer, or the post is gone,
    /// nobody is told of it any more, and nothing is kept of that.
    pub async fn deliver(&self, job: &PushJob, now: Timestamp) -> Tally {
        let count = job.recipients.len();
        let (post, time_to_live) = match self.look(job, now).await {
            Ok(found) => found,
            Err(Undone::Over) => return Tally { refused: count, ..Tally::default() },
            Err(Undone::Failed(error)) => {
                tracing::warn!(%error, post_id = %job.post_id, "cannot read a post that is to be pushed");
                return Tally { failed: count, ..Tally::default() };
            }
        };
        // Somebody may have been hidden since the job was queued.
        let hidden = match &post.author {
            Some(author) => self.hidden.of(author.user_id).await,
            None => Ok(HiddenPeople::new()),
        };
        let hidden = match hidden {
            Ok(hidden) => hidden,
            Err(error) => {
                tracing::warn!(%error, post_id = %job.post_id, "cannot tell who is hidden from a post's author");
                return Tally { failed: count, ..Tally::default() };
            }
        };
        let one = |recipient: PushRecipient| self.tell(job, &post, time_to_live, recipient, now);
        let recipients = job.recipients.iter().copied().filter(|one| !hidden.contains(&one.user_id));
        stream::iter(recipients)
            .map(one)
            .buffer_unordered(CONCURRENT_RECIPIENTS)
            .fold(Tally::default(), |sum, tally| async move { sum.plus(tally) })
            .await
    }

    /// The post as it is now, and how long its news is worth delivering.
    async fn look(&self, job: &PushJob, now: Timestamp) -> Result<(Post, Duration), Undone> {
        let found = posts::read(self.cache, self.posts, &[job.post_id]).await.map_err(Undone::Failed)?;
        let Some(post) = found.into_iter().next() else {
            // It was deleted; or it was shared, and is not stored yet.
            let is_new = now < time::after(job.post_id.time(), MOST_UNSTORED_SECONDS);
            let error = || Error::unavailable("posts", "a post is not there, which may be still to come");
            return Err(if is_new { Undone::Failed(error()) } else { Undone::Over });
        };
        let stale = time::after(job.told_at, TIME_TO_LIVE_SECONDS);
        let end = post.expires_at.map_or(stale, |expires| expires.min(stale));
        let left = Duration::try_from(now.duration_until(end)).unwrap_or_default();
        let is_worth_it = posts::is_listed(&post, now) && job.news.holds(&post) && !left.is_zero();
        if is_worth_it { Ok((post, left)) } else { Err(Undone::Over) }
    }

    async fn tell(
        &self,
        job: &PushJob,
        post: &Post,
        time_to_live: Duration,
        recipient: PushRecipient,
        now: Timestamp,
    ) -> Tally {
        let devices = self.devices.of(recipient.user_id);
        let devices = match join(self.remember(job, recipient, now), devices).await {
            (Ok(()), Ok(devices)) => devices,
            // No phone rings for what is not in its owner's inbox.
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, user_id = %recipient.user_id, "cannot reach a recipient's inbox or devices");
                return Tally { failed: 1, ..Tally::default() };
            }
        };
        let mut tally = Tally::default();
        // A phone is not told of what happened before it was there: the log can be replayed long after.
        let there = devices.into_iter().filter(|device| device.created_at <= job.told_at);
        for device in there {
            let push = Push { post: post.clone(), news: job.news, because: recipient.because, time_to_live };
            match self.ring(push, recipient.user_id, &device, now).await {
                Ok(Some(Outcome::Pushed)) => tally.pushed += 1,
                Ok(Some(Outcome::DeviceGone)) => tally.refused += 1,
                Ok(None) => tally.done += 1,
                Err(error) => {
                    tracing::warn!(%error, user_id = %recipient.user_id, device_id = %device.device_id, "a push failed");
                    tally.failed += 1;
                }
            }
        }
        tally
    }

    /// Adds what is pushed to its recipient's inbox, unless it is there. What was shared has been added by who shared it.
    async fn remember(&self, job: &PushJob, recipient: PushRecipient, now: Timestamp) -> Result<()> {
        let PushRecipient { user_id, because } = recipient;
        if matches!(because, Because::Subscription { .. }) {
            self.inboxes.add(user_id, &Notification::new(job.post_id, because, now)).await?;
        }
        Ok(())
    }

    /// Rings one device, unless it has rung: `None` says so.
    async fn ring(
        &self,
        push: Push,
        user_id: UserId,
        device: &Device,
        now: Timestamp,
    ) -> Result<Option<Outcome>> {
        let because = push.because;
        let device_id = device.device_id.clone();
        let key = PushKey { post_id: push.post.post_id, news: push.news, user_id, device_id };
        match self.deliveries.reserve(&key, because, now).await? {
            Reservation::Ours => {}
            Reservation::Done => return Ok(None),
            Reservation::Held => {
                return Err(Error::unavailable("deliveries", "another try holds this push"));
            }
        }
        let sent = self.send(push, user_id, device.clone()).await;
        let outcome = match sent {
            Ok(outcome) => outcome,
            Err(error) => {
                // If this fails too, the reservation runs out by itself.
                self.deliveries.release(&key).await.ok();
                return Err(error);
            }
        };
        self.record(&key, because, outcome, now).await;
        Ok(Some(outcome))
    }

    /// Records what became of a push. Where that fails, the push is done all the same: to fail the job would send it
    /// again for certain, and without a record it is sent again only if the job comes again.
    async fn record(&self, key: &PushKey, because: Because, outcome: Outcome, now: Timestamp) {
        for _ in 0..MOST_RECORDINGS {
            let Err(error) = self.deliveries.record(key, because, outcome, now).await else { return };
            tracing::warn!(%error, post_id = %key.post_id, device_id = %key.device_id, "a push is not recorded");
        }
    }

    /// Sends a push to a device as it was seen. Its owner may change it at the same time, and then their change holds:
    /// nothing that was removed comes back, and nothing that was put goes.
    async fn send(&self, push: Push, owner: UserId, mut device: Device) -> Result<Outcome> {
        let mut published = self.gateway.publish(&device, &push).await?;
        if published == Published::EndpointMissing {
            match self.gateway.register(owner, &device.device_id, &device.token).await {
                Ok(endpoint) => {
                    if !self.devices.repair(owner, &device, &endpoint).await? {
                        // The endpoint stays: it is of the token's device, if there is one.
                        return Ok(Outcome::DeviceGone);
                    }
                    device.endpoint = endpoint;
                    published = self.gateway.publish(&device, &push).await?;
                }
                // The platform does not take the token any more: it is dead.
                Err(Error::Refused(refusal)) if refusal == device::bad_token() => {}
                Err(error) => return Err(error),
            }
        }
        if published == Published::Accepted {
            return Ok(Outcome::Pushed);
        }
        if self.devices.remove_if(owner, &device).await? {
            device::unregister(self.gateway, &device.endpoint).await;
        }
        Ok(Outcome::DeviceGone)
    }
}

impl Tally {
    const fn plus(self, other: Self) -> Self {
        Self {
            pushed: self.pushed + other.pushed,
            refused: self.refused + other.refused,
            done: self.done + other.done,
            failed: self.failed + other.failed,
        }
    }
}
