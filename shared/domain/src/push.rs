//! Pushes: from a post's audience to the phones.
//!
//! `notify-subscribers` cuts an audience into [`PushJob`]s, and `deliver-push` does one each. What is promised: every
//! device gets a push, and to do a job again rings nobody again. For that a push is reserved before it is sent, and
//! recorded after. It is sent twice only where the record is missing though the gateway took the push: the gateway's
//! answer got lost, the function died in between, or nothing could be recorded for several tries. The phone then shows
//! the second in place of the first, but may sound again. What the platforms do with a push that they took is theirs: a
//! phone that is off for long misses some, and has them in its timeline.
//!
//! Deliveries are found by their posts. So what is pushed to somebody is in their inbox first, and whoever reads that finds
//! every delivery to them: to export them, and to erase them when they leave.

use std::{future::Future, time::Duration};

use futures::{StreamExt as _, future::join, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    audience::{self, Audience, Sizes, Walk},
    device::{self, Device, DeviceEditor, DeviceId, DeviceToken},
    fan_out::{Step, StepQueue, Task},
    friendship::Hidden,
    ids::{PostId, UserId},
    large_audience::LargeKeys,
    notification::{Because, Inboxes, Notification},
    post::Post,
    posts,
    time::{self, Timestamp},
};

/// Takes push jobs.
pub trait PushQueue: Sync {
    /// Returns once all jobs are queued. After an error some may be: to queue them again is harmless.
    fn enqueue(&self, jobs: &[PushJob]) -> impl Future<Output = Result<()>> + Send;
}

/// A post, and some of those whose phones ring for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushJob {
    /// The post.
    pub post: Post,
    /// Up to [`PushJob::MOST_RECIPIENTS`].
    pub recipients: Vec<PushRecipient>,
    /// When they were to be told, where that is not when the post was made: it was shared later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
}

/// Whose phone rings, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecipient {
    /// The user.
    pub user_id: UserId,
    /// Why: in the same object, as `subscription_id` or `shared_by`.
    #[serde(flatten)]
    pub because: Because,
}

impl PushJob {
    /// How many recipients one job has: enough to be worth a message, few enough for one invocation's time.
    pub const MOST_RECIPIENTS: usize = 50;

    fn told_at(&self) -> Timestamp {
        self.told_at.unwrap_or(self.post.created_at)
    }
}

/// The ports of [`Notifying::notify`].
#[derive(Debug)]
pub struct Notifying<'a, A, L, H, Q, S> {
    /// Who is told.
    pub audience: &'a A,
    /// The keys with a large audience.
    pub large: &'a L,
    /// Who is hidden from whom.
    pub hidden: &'a H,
    /// Where pushes wait.
    pub queue: &'a Q,
    /// Where the rest of a large audience waits.
    pub steps: &'a S,
    /// What is much.
    pub sizes: Sizes,
}

impl<A: Audience, L: LargeKeys, H: Hidden, Q: PushQueue, S: StepQueue> Notifying<'_, A, L, H, Q, S> {
    /// Queues the pushes of a post: to its audience, but not to its author, and to nobody who is hidden from them. Answers
    /// how many people that is, as far as it was done at once.
    pub async fn notify(&self, post: &Post) -> Result<usize> {
        self.go_on(post, Walk::over(audience::keys_for(post))).await
    }

    /// Goes on with an audience that was too large to be done at once.
    pub async fn go_on(&self, post: &Post, mut walk: Walk) -> Result<usize> {
        let author = post.author.as_ref().map(|author| author.user_id);
        let part = walk.next(self.audience, post, post.created_at, self.sizes).await?;
        for key in &part.large {
            self.large.remember(key, time::now()).await?;
        }
        let mut recipients: Vec<_> = part
            .recipients
            .into_iter()
            .filter(|recipient| Some(recipient.user_id) != author)
            .filter_map(|recipient| {
                let because = Because::Subscription { subscription_id: recipient.push_because? };
                Some(PushRecipient { user_id: recipient.user_id, because })
            })
            .collect();
        if let Some(author) = author.filter(|_| !recipients.is_empty()) {
            let hidden = self.hidden.of(author).await?;
            recipients.retain(|recipient| !hidden.contains(&recipient.user_id));
        }
        let jobs: Vec<_> = recipients
            .chunks(PushJob::MOST_RECIPIENTS)
            .map(|some| PushJob { post: post.clone(), recipients: some.to_vec(), told_at: None })
            .collect();
        if !jobs.is_empty() {
            self.queue.enqueue(&jobs).await?;
        }
        if !walk.is_over() {
            self.steps.enqueue(&Step { post_id: post.post_id, task: Task::Ring, walk }).await?;
        }
        Ok(recipients.len())
    }
}

/// Where pushes to a device are sent: the gateway's own address of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Endpoint(pub String);

/// Sends pushes to devices.
pub trait PushGateway: Sync {
    /// The endpoint of a device: the same again, where it has one, and switched on. A token that the platform does not
    /// take is refused with [`device::bad_token`], and one of a platform that nobody has set up with
    /// [`device::no_platform`].
    fn register(
        &self,
        owner: UserId,
        device_id: &DeviceId,
        token: &DeviceToken,
    ) -> impl Future<Output = Result<Endpoint>> + Send;
    /// Removes an endpoint.
    fn unregister(&self, endpoint: &Endpoint) -> impl Future<Output = Result<()>> + Send;
    /// Sends a push. An error is worth another try.
    fn publish(&self, device: &Device, push: &Push) -> impl Future<Output = Result<Published>> + Send;
}

/// What a phone shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The post. A later push of the same post takes the place of the one before.
    pub post: Post,
    /// Why this person gets it.
    pub because: Because,
    /// How long it is worth delivering.
    pub time_to_live: Duration,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The gateway took it.
    Accepted,
    /// There is no such endpoint (any more).
    EndpointMissing,
    /// The platform said that the token is dead.
    EndpointDisabled,
}

/// Remembers which pushes were sent.
pub trait Deliveries: Sync {
    /// Reserves a push, so that nobody else sends it for [`RESERVED_SECONDS`].
    fn reserve(&self, push: &PushKey, now: Timestamp) -> impl Future<Output = Result<Reservation>> + Send;
    /// Records what became of it, with the reason that it was for.
    fn record(
        &self,
        push: &PushKey,
        because: Because,
        outcome: Outcome,
        now: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Gives a reservation back: the push was not sent.
    fn release(&self, push: &PushKey) -> impl Future<Output = Result<()>> + Send;
}

/// Reads what became of a person's pushes.
pub trait DeliveryReader: Sync {
    /// What became of those of a post, and has not expired, in the order of their devices' ids.
    fn of(
        &self,
        owner: UserId,
        post_id: PostId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Delivered>>> + Send;
}

/// Forgets a person's pushes.
pub trait DeliveryEraser: Sync {
    /// Removes all that is remembered of those of a post, reservations among it.
    fn erase(&self, owner: UserId, post_id: PostId) -> impl Future<Output = Result<()>> + Send;
}

/// What became of a push to a device, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The device.
    pub device_id: DeviceId,
    /// Why it was pushed.
    pub because: Because,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// How long it is remembered that a push was sent, in seconds: 30 days, longer than the log keeps a record.
pub const REMEMBERED_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Which push: of a post, to a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushKey {
    /// The post.
    pub post_id: PostId,
    /// The device's owner.
    pub user_id: UserId,
    /// The device.
    pub device_id: DeviceId,
}

/// Whether a push may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It may.
    Ours,
    /// It was.
    Done,
    /// Somebody else is about to: look again later.
    Held,
}

/// How long a reservation holds, in seconds: longer than any invocation of `deliver-push`.
pub const RESERVED_SECONDS: u64 = 60;

/// What became of a push, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The gateway took it.
    Pushed,
    /// The device's token was dead, and it was removed; or it went, or got another token, just before.
    DeviceGone,
}

/// How many of a job's recipients are served at once.
const CONCURRENT_RECIPIENTS: usize = 16;
/// How long after a post was made, or shared, its push is worth delivering, in seconds: a day.
const TIME_TO_LIVE_SECONDS: u64 = 24 * 60 * 60;
/// How often it is tried to record what became of a push: without the record it may be sent again.
const MOST_RECORDINGS: usize = 3;

/// The ports of [`Delivery::deliver`].
#[derive(Debug)]
pub struct Delivery<'a, D, G, R, I> {
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

impl<D: DeviceEditor, G: PushGateway, R: Deliveries, I: Inboxes> Delivery<'_, D, G, R, I> {
    /// Sends a job's pushes, and adds each to its recipient's inbox, also of who has no device. One that fails does not
    /// hold up the others; the job is done when none failed. Where the post is too old, or no longer listed, nobody is told
    /// of it any more, and nothing is kept of that.
    pub async fn deliver(&self, job: &PushJob, now: Timestamp) -> Tally {
        let Some(time_to_live) = time_to_live(job, now) else {
            return Tally { refused: job.recipients.len(), ..Tally::default() };
        };
        let one = |recipient: PushRecipient| async move {
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
            let there = devices.into_iter().filter(|device| device.created_at <= job.told_at());
            for device in there {
                let push = Push { post: job.post.clone(), because: recipient.because, time_to_live };
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
        };
        stream::iter(job.recipients.iter().copied())
            .map(one)
            .buffer_unordered(CONCURRENT_RECIPIENTS)
            .fold(Tally::default(), |sum, tally| async move { sum.plus(tally) })
            .await
    }

    /// Adds what is pushed to its recipient's inbox, unless it is there. What was shared has been added by who shared it.
    async fn remember(&self, job: &PushJob, recipient: PushRecipient, now: Timestamp) -> Result<()> {
        let PushRecipient { user_id, because } = recipient;
        if matches!(because, Because::Subscription { .. }) {
            self.inboxes.add(user_id, &Notification::new(job.post.post_id, because, now)).await?;
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
        let key = PushKey { post_id: push.post.post_id, user_id, device_id: device.device_id.clone() };
        match self.deliveries.reserve(&key, now).await? {
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

/// How long the pushes of a job are still worth delivering, if they are.
fn time_to_live(job: &PushJob, now: Timestamp) -> Option<Duration> {
    let post = &job.post;
    let stale = time::after(job.told_at(), TIME_TO_LIVE_SECONDS);
    let end = post.expires_at.map_or(stale, |expires| expires.min(stale));
    let left = Duration::try_from(now.duration_until(end)).ok()?;
    (posts::is_listed(post, now) && !left.is_zero()).then_some(left)
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
