//! Delivery: the jobs are done by which phones ring.
//!
//! A job names a post, and not what it says: that is looked up when its turn comes, so that nobody is told of what was
//! deleted, has ended, or is by somebody hidden by then.
//!
//! That a post is there is told again when it is for others as well. Whose phones have rung for it, for whatever news, hear
//! nothing new by that, and nothing of it is written down.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::{StreamExt as _, future::try_join, stream};

use crate::{
    Error, Result,
    device::{self, Device, DeviceEditor},
    digest::Digest,
    friendship::{Hidden, HiddenPeople},
    held_push::{HeldPush, HeldPushes},
    ids::UserId,
    notification::{Because, Inboxes, Notification, NotificationId},
    post::Post,
    posts::{self, PostCache, Posts},
    preferences::{Decision, Preferences, PreferencesReader},
    push::{
        Delivered, Deliveries, DeliveryReader, News, NewsKey, Outcome, Published, Push, PushGateway, PushJob,
        PushKey, PushRecipient, Reservation,
    },
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
pub struct Delivery<'a, C, P, H, S, Q, D, G, R, I> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// Who is hidden from whom.
    pub hidden: &'a H,
    /// For what, and when, the recipients' phones ring.
    pub preferences: &'a S,
    /// Where pushes wait for the end of quiet hours.
    pub held: &'a Q,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent now.
    pub pushed: usize,
    /// Not sent, for good.
    pub refused: usize,
    /// Sent by an earlier try; and people who had heard of the post before it was told again.
    pub done: usize,
    /// People whose preferences say that their phones do not ring for it.
    pub muted: usize,
    /// People whose quiet hours it waits for.
    pub held: usize,
    /// Those of whom something failed: to be tried again.
    pub failed: Vec<PushRecipient>,
    /// Those for whom the gateway takes no more just now, or whose push another try holds: for some of their devices, or
    /// for all; and all, while the post is withheld.
    pub put_off: Vec<PushRecipient>,
}

/// Why a job is not done, and nobody of it told.
enum Undone {
    /// Nobody needs to know any more.
    Gone,
    /// The post is withheld: that a moderator decides is waited for.
    Withheld,
    /// It is tried again.
    Failed(Error),
}

impl<C, P, H, S, Q, D, G, R, I> Delivery<'_, C, P, H, S, Q, D, G, R, I>
where
    C: PostCache,
    P: Posts,
    H: Hidden,
    S: PreferencesReader,
    Q: HeldPushes,
    D: DeviceEditor,
    G: PushGateway,
    R: Deliveries + DeliveryReader,
    I: Inboxes,
{
    /// Sends a job's pushes, and adds each to its recipient's inbox, also of who has no device. One that fails does not
    /// hold up the others; the job is done when none failed, and nobody is put off. Where the gateway takes no more, it is
    /// not asked for the others of the job. Where the news holds no longer, no phone rings, and the inbox says so. Where it is
    /// old, or the post is gone, nobody is told of it any more, and nothing is kept of that. While the post is withheld, all
    /// are put off.
    pub async fn deliver(&self, job: &PushJob, now: Timestamp) -> Tally {
        let (post, time_to_live) = match self.look(job, now).await {
            Ok(found) => found,
            Err(Undone::Gone) => return Tally { refused: job.recipients.len(), ..Tally::default() },
            Err(Undone::Withheld) => return Tally { put_off: job.recipients.clone(), ..Tally::default() },
            Err(Undone::Failed(error)) => {
                tracing::warn!(%error, post_id = %job.post_id, "cannot read a post that is to be pushed");
                return Tally { failed: job.recipients.clone(), ..Tally::default() };
            }
        };
        let recipients = match self.recipients(job, &post).await {
            Ok(recipients) => recipients,
            Err(error) => {
                tracing::warn!(%error, post_id = %job.post_id, "cannot tell who is to be told of a post");
                return Tally { failed: job.recipients.clone(), ..Tally::default() };
            }
        };
        let throttled = AtomicBool::new(false);
        let news = Told { job, post: &post, time_to_live, now, throttled: &throttled };
        let one = |(recipient, preferences): (PushRecipient, Preferences)| async move {
            self.tell(news, recipient, &preferences).await.unwrap_or_else(|error| {
                tracing::warn!(%error, user_id = %recipient.user_id, "a recipient cannot be told");
                Tally { failed: vec![recipient], ..Tally::default() }
            })
        };
        stream::iter(recipients)
            .map(one)
            .buffer_unordered(CONCURRENT_RECIPIENTS)
            .fold(Tally::default(), |sum, tally| async move { sum.plus(tally) })
            .await
    }

    /// A job's recipients, without those who have been hidden from the author since, each with their preferences.
    async fn recipients(&self, job: &PushJob, post: &Post) -> Result<Vec<(PushRecipient, Preferences)>> {
        let hidden = async {
            match &post.author {
                Some(author) => self.hidden.of(author.user_id).await,
                None => Ok(HiddenPeople::new()),
            }
        };
        let people: Vec<UserId> = job.recipients.iter().map(|one| one.user_id).collect();
        let (hidden, preferences): (_, HashMap<_, Preferences>) =
            try_join(hidden, self.preferences.of(&people)).await?;
        let with = |one: &PushRecipient| (*one, preferences.get(&one.user_id).cloned().unwrap_or_default());
        Ok(job.recipients.iter().filter(|one| !hidden.contains(&one.user_id)).map(with).collect())
    }

    /// The post as it is now, and how long its news is worth delivering, if it still holds.
    async fn look(&self, job: &PushJob, now: Timestamp) -> Result<(Post, Option<Duration>), Undone> {
        let found = posts::read(self.cache, self.posts, &[job.post_id]).await.map_err(Undone::Failed)?;
        let Some(mut post) = found.into_iter().next() else {
            // It was deleted; or it was shared, and is not stored yet. Who is told by a subscription is told of what is stored.
            let at_hand = self.cache.get(&[job.post_id]).await;
            let is_deleted = at_hand.is_ok_and(|at_hand| at_hand.deleted.contains(&job.post_id));
            let is_shared = job.recipients.iter().any(|to| matches!(to.because, Because::Shared { .. }));
            let is_recent = now < time::after(job.post_id.time(), MOST_UNSTORED_SECONDS);
            let is_new = is_shared && is_recent && !is_deleted;
            let error = || Error::unavailable("posts", "a post is not there, which may be still to come");
            return Err(if is_new { Undone::Failed(error()) } else { Undone::Gone });
        };

        if now >= stale(job) {
            return Err(Undone::Gone);
        }
        if left(job, &post, now).is_none() {
            // News is of what is stored, and what is at hand may be an older form of it.
            let stored = self.posts.get(&[job.post_id]).await.map_err(Undone::Failed)?;
            post = stored.into_iter().next().unwrap_or(post);
        }
        match left(job, &post, now) {
            Some(_) if post.withheld => Err(Undone::Withheld),
            left => Ok((post, left)),
        }
    }

    /// Tells one person: by their phones, or when it is quiet no more, or in their inbox alone.
    async fn tell(&self, told: Told<'_>, to: PushRecipient, preferences: &Preferences) -> Result<Tally> {
        let Told { job, post, now, throttled, .. } = told;
        if throttled.load(Ordering::Relaxed) {
            return Ok(Tally { put_off: vec![to], ..Tally::default() });
        }
        if self.has_heard(told, to).await? {
            return Ok(Tally { done: 1, ..Tally::default() });
        }
        let mut devices = self.devices.of(to.user_id).await?;
        // A phone is not told of what happened before it was there: the log can be replayed long after.
        devices.retain(|device| device.created_at <= job.told_at);
        let decision = preferences.decide(post, now);
        if let Decision::Muted(muted) = decision {
            self.leave(told, to, muted.into()).await?;
            return Ok(Tally { muted: 1, ..Tally::default() });
        }
        if devices.is_empty() {
            self.leave(told, to, Outcome::NoDevice).await?;
            return Ok(Tally::default());
        }
        let Some(time_to_live) = told.time_to_live else {
            return self.pass_over(told, to).await;
        };
        if let Decision::Quiet(until) = decision {
            self.leave(told, to, Outcome::Held).await?;
            let (post_id, news, told_at) = (job.post_id, job.news, job.told_at);
            let held = HeldPush { post_id, news, because: to.because, told_at };
            self.held.hold(to.user_id, &held, until).await?;
            return Ok(Tally { held: 1, ..Tally::default() });
        }
        // No phone rings for what is not in its owner's inbox.
        self.remember(told, to, None).await?;
        Ok(self.ring_all(told, time_to_live, to, devices).await)
    }

    /// Whether it is told again that a post is there, and this person's phones have rung for it before that.
    async fn has_heard(&self, told: Told<'_>, to: PushRecipient) -> Result<bool> {
        let Told { job, post, now, .. } = told;
        let is_subscribed = matches!(to.because, Because::Subscription { .. });
        if job.news != News::Posted || job.told_at <= post.created_at || !is_subscribed {
            return Ok(false);
        }
        let known = self.deliveries.of(to.user_id, job.post_id, now).await?;
        // What rang for the same since may be another try of the job, with other devices to go.
        let before = |known: &Delivered| known.news != job.news || known.recorded_at < job.told_at;
        Ok(known.iter().any(|known| known.outcome.has_rung() && before(known)))
    }

    /// Says that there was nothing to tell somebody any more, unless something has become of it before: jobs come again.
    async fn pass_over(&self, told: Told<'_>, to: PushRecipient) -> Result<Tally> {
        let known = self.deliveries.of(to.user_id, told.job.post_id, told.now).await?;
        if known.iter().all(|known| known.news != told.job.news) {
            self.leave(told, to, Outcome::Dropped).await?;
        }
        Ok(Tally { refused: 1, ..Tally::default() })
    }

    /// Tells somebody in their inbox, and notes why no phone rings.
    async fn leave(&self, told: Told<'_>, to: PushRecipient, why: Outcome) -> Result<()> {
        self.remember(told, to, Some(why)).await?;
        let (post_id, news) = (told.job.post_id, told.job.news);
        let key = NewsKey { post_id, news, user_id: to.user_id };
        self.deliveries.note(&key, to.because, why, told.now).await
    }

    /// Adds what is pushed to its recipient's inbox, unless it is there, with what becomes of the push, if that is known.
    /// What was shared has been added by who shared it.
    async fn remember(&self, told: Told<'_>, to: PushRecipient, push: Option<Outcome>) -> Result<()> {
        let PushRecipient { user_id, because } = to;
        let notification = Notification { push, ..Notification::new(told.job.post_id, because, told.now) };
        let is_new = matches!(because, Because::Subscription { .. })
            && self.inboxes.add(user_id, &notification).await?;
        match push {
            Some(push) if !is_new => self.inboxes.tell(user_id, notification.id, push).await,
            _ => Ok(()),
        }
    }

    /// Rings a person's devices. One that fails does not hold up the others.
    async fn ring_all(
        &self,
        told: Told<'_>,
        time_to_live: Duration,
        to: PushRecipient,
        devices: Vec<Device>,
    ) -> Tally {
        let Told { job, post, now, throttled, .. } = told;
        let (mut tally, mut became) = (Tally::default(), None);
        for device in devices {
            if throttled.load(Ordering::Relaxed) {
                tally.put_off = vec![to];
                break;
            }
            let push = Push { post: post.clone(), news: job.news, because: to.because, time_to_live };
            match self.ring(push, to.user_id, &device, now).await {
                Ok(Rung::Now(outcome)) => {
                    tally.pushed += usize::from(outcome.has_rung());
                    tally.refused += usize::from(!outcome.has_rung());
                    became = became.filter(|other: &Outcome| other.has_rung()).or(Some(outcome));
                }
                Ok(Rung::Before) => tally.done += 1,
                Ok(Rung::Elsewhere) => tally.put_off = vec![to],
                Err(Error::Throttled { .. }) => {
                    throttled.store(true, Ordering::Relaxed);
                    tally.put_off = vec![to];
                }
                Err(error) => {
                    tracing::warn!(%error, user_id = %to.user_id, device_id = %device.device_id, "a push failed");
                    tally.failed = vec![to];
                }
            }
        }
        if let Some(outcome) = became {
            let id = NotificationId::of(job.post_id, to.because);
            if let Err(error) = self.inboxes.tell(to.user_id, id, outcome).await {
                // To do the job again for this would be in vain: the push is done.
                tracing::warn!(%error, user_id = %to.user_id, "an inbox does not say what became of a push");
            }
        }
        tally
    }

    /// Rings one device, unless it has rung.
    async fn ring(&self, push: Push, user_id: UserId, device: &Device, now: Timestamp) -> Result<Rung> {
        let because = push.because;
        let device_id = device.device_id.clone();
        let key = PushKey { post_id: push.post.post_id, news: push.news, user_id, device_id };
        match self.deliveries.reserve(&key, because, now).await? {
            Reservation::Ours => {}
            Reservation::Done => return Ok(Rung::Before),
            Reservation::Held => return Ok(Rung::Elsewhere),
        }
        let message = Message::Push(Box::new(push));
        let sent = send(self.devices, self.gateway, &message, user_id, device.clone()).await;
        let outcome = match sent {
            Ok(outcome) => outcome,
            Err(error) => {
                // If this fails too, the reservation runs out by itself.
                self.deliveries.release(&key).await.ok();
                return Err(error);
            }
        };
        record(self.deliveries, &key, because, outcome, now).await;
        Ok(Rung::Now(outcome))
    }
}

/// From when on a job's news is old.
fn stale(job: &PushJob) -> Timestamp {
    time::after(job.told_at, TIME_TO_LIVE_SECONDS)
}

/// How long a job's news is worth delivering, if it holds of the post in this form.
fn left(job: &PushJob, post: &Post, now: Timestamp) -> Option<Duration> {
    let end = post.expires_at.map_or(stale(job), |expires| expires.min(stale(job)));
    let left = Duration::try_from(now.duration_until(end)).ok()?;
    (!left.is_zero() && job.news.holds(post)).then_some(left)
}

/// How it went to ring a device.
enum Rung {
    /// It came to this.
    Now(Outcome),
    /// It has rung before.
    Before,
    /// Another try is at it, or died at it: that is told when its reservation is over.
    Elsewhere,
}

/// What a job tells.
#[derive(Clone, Copy)]
struct Told<'a> {
    job: &'a PushJob,
    post: &'a Post,
    /// How long the news is worth delivering; none where it holds no longer.
    time_to_live: Option<Duration>,
    now: Timestamp,
    /// Whether the gateway has said that it takes no more.
    throttled: &'a AtomicBool,
}

/// What is sent to a device.
#[derive(Debug)]
pub(crate) enum Message {
    Push(Box<Push>),
    Digest(Digest),
}

/// Records what became of a push. Where that fails, the push is done all the same: to fail the job would send it
/// again for certain, and without a record it is sent again only if the job comes again.
pub(crate) async fn record(
    deliveries: &impl Deliveries,
    key: &PushKey,
    because: Because,
    outcome: Outcome,
    now: Timestamp,
) {
    for _ in 0..MOST_RECORDINGS {
        let Err(error) = deliveries.record(key, because, outcome, now).await else { return };
        tracing::warn!(%error, post_id = %key.post_id, device_id = %key.device_id, "a push is not recorded");
    }
}

/// Sends something to a device as it was seen. Its owner may change it at the same time, and then their change holds:
/// nothing that was removed comes back, and nothing that was put goes.
pub(crate) async fn send<D: DeviceEditor, G: PushGateway>(
    devices: &D,
    gateway: &G,
    message: &Message,
    owner: UserId,
    mut device: Device,
) -> Result<Outcome> {
    let mut published = publish(gateway, &device, message).await?;
    if published == Published::EndpointMissing {
        match gateway.register(owner, &device.device_id, &device.token).await {
            Ok(endpoint) => {
                if !devices.repair(owner, &device, &endpoint).await? {
                    // The endpoint stays: it is of the token's device, if there is one.
                    return Ok(Outcome::DeviceGone);
                }
                device.endpoint = endpoint;
                published = publish(gateway, &device, message).await?;
            }
            // The platform does not take the token any more: it is dead.
            Err(Error::Refused(refusal)) if refusal == device::bad_token() => {}
            Err(error) => return Err(error),
        }
    }
    if published == Published::Accepted {
        return Ok(Outcome::Pushed);
    }
    if devices.remove_if(owner, &device).await? {
        device::unregister(gateway, &device.endpoint).await;
    }
    Ok(Outcome::DeviceGone)
}

async fn publish(gateway: &impl PushGateway, device: &Device, message: &Message) -> Result<Published> {
    match message {
        Message::Push(push) => gateway.publish(device, push).await,
        Message::Digest(digest) => gateway.publish_digest(device, digest).await,
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            pushed: self.pushed + other.pushed,
            refused: self.refused + other.refused,
            done: self.done + other.done,
            muted: self.muted + other.muted,
            held: self.held + other.held,
            failed: [self.failed, other.failed].concat(),
            put_off: [self.put_off, other.put_off].concat(),
        }
    }
}
