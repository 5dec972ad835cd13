//! Digests: when a person's quiet hours are over, one push tells of all that was held.
//!
//! A digest is for each of its posts the push of that post. So each is reserved and recorded as a push is, and a post is in
//! one digest of a device, whatever comes twice. What has become of the posts meanwhile is looked at then: what is gone,
//! over, or not theirs to see any more, is left out.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};

use crate::{
    Error, Result,
    device::{Device, DeviceEditor},
    friendship::{Hidden, HiddenPeople},
    held_push::{DigestJob, HeldPush, HeldPushEraser, HeldPushRescheduler},
    ids::UserId,
    notification::{Because, Inboxes, NotificationId},
    post::{Post, PostStatus, Severity},
    posts::{self, Posts},
    preferences::{self, Decision, Preferences, PreferencesReader},
    push::{self, Deliveries, Message, Outcome, Push, PushGateway, PushKey, Reservation},
    time::{self, Timestamp},
};

/// What a phone shows of several posts.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// The posts, what is worst first, and of the equally bad the newest: at least two.
    pub posts: Vec<Post>,
    /// How long it is worth delivering.
    pub time_to_live: Duration,
}

impl Digest {
    /// The title: how many there are.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} posts while it was quiet", self.posts.len())
    }

    /// The worst of the severities.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.posts.iter().map(|post| post.severity).max().unwrap_or_default()
    }
}

/// How many held pushes are told of in one digest at the most. Who has more gets another one.
const MOST_POSTS: usize = 500;
/// How long a digest is worth delivering, in seconds: a day.
const TIME_TO_LIVE_SECONDS: u64 = 24 * 60 * 60;
/// How many reservations, or records, are made at once.
const CONCURRENT: usize = 16;

/// The ports of [`Digesting::deliver`].
#[derive(Debug)]
pub struct Digesting<'a, P, H, O, F, D, G, R, I> {
    /// When it is quiet.
    pub preferences: &'a P,
    /// What is held.
    pub held: &'a H,
    /// The posts.
    pub posts: &'a O,
    /// Who is hidden from whom.
    pub hidden: &'a F,
    /// The person's devices.
    pub devices: &'a D,
    /// The way to them.
    pub gateway: &'a G,
    /// What was sent.
    pub deliveries: &'a R,
    /// Where the person reads what became of it.
    pub inboxes: &'a I,
}

impl<P, H, O, F, D, G, R, I> Digesting<'_, P, H, O, F, D, G, R, I>
where
    P: PreferencesReader,
    H: HeldPushRescheduler + HeldPushEraser,
    O: Posts,
    F: Hidden,
    D: DeviceEditor,
    G: PushGateway,
    R: Deliveries,
    I: Inboxes,
{
    /// Sends what is held for a person, unless it is quiet (again): then it is due when that ends. Answers how many pushes
    /// were sent. If one fails, what is held stays, for another try to send what is left.
    pub async fn deliver(&self, job: DigestJob, now: Timestamp) -> Result<usize> {
        let owner = job.user_id;
        let mut sent = 0;
        loop {
            let held = self.held.of(owner, MOST_POSTS, now).await?;
            if held.is_empty() {
                return Ok(sent);
            }
            let preferences = preferences::get(self.preferences, owner).await?;
            if let Some(until) = preferences.quiet_until(now) {
                self.held.reschedule(owner, until).await?;
                return Ok(sent);
            }
            sent += self.tell(owner, &preferences, &held, now).await?;
            self.held.remove(owner, &held).await?;
        }
    }

    /// Tells a person of what was held; answers how many pushes that took.
    async fn tell(
        &self,
        owner: UserId,
        preferences: &Preferences,
        held: &[HeldPush],
        now: Timestamp,
    ) -> Result<usize> {
        let (worth, devices) =
            try_join(self.worth_telling(owner, preferences, held, now), self.devices.of(owner)).await?;
        let (mut rung, mut failed) = (HashMap::new(), None);
        let mut sent = 0;
        for device in devices {
            match self.ring(owner, &device, &worth, now).await {
                Ok((outcome, told)) => {
                    sent += usize::from(outcome != Outcome::DeviceGone && !told.is_empty());
                    rung.extend(told.into_iter().map(|held| (id(&held), outcome)));
                }
                // It does not hold up the other devices.
                Err(error) => failed = Some(error),
            }
        }
        let told = stream::iter(rung).map(|(id, outcome)| self.inboxes.tell(owner, id, outcome));
        told.buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        failed.map_or(Ok(sent), Err)
    }

    /// What of that which was held is still worth telling, in the order in which it is told.
    async fn worth_telling(
        &self,
        owner: UserId,
        preferences: &Preferences,
        held: &[HeldPush],
        now: Timestamp,
    ) -> Result<Vec<(HeldPush, Post)>> {
        let ids: Vec<_> = held.iter().map(|held| held.post_id).collect();
        let (posts, hidden) = try_join(self.posts.get(&ids), self.hidden.of(owner)).await?;
        let posts: HashMap<_, _> = posts.into_iter().map(|post| (post.post_id, post)).collect();
        let mut worth: Vec<_> = held
            .iter()
            .filter_map(|held| Some((*held, posts.get(&held.post_id)?.clone())))
            .filter(|(held, post)| is_worth_telling(held, post, &hidden, now))
            .filter(|(_, post)| preferences.decide(post, now) == Decision::Ring)
            .collect();
        worth.sort_by_key(|(_, post)| Reverse((post.severity, post.post_id)));
        Ok(worth)
    }

    /// Rings one device for what it has not rung for yet; answers for what that was, and how it went.
    async fn ring(
        &self,
        owner: UserId,
        device: &Device,
        worth: &[(HeldPush, Post)],
        now: Timestamp,
    ) -> Result<(Outcome, Vec<HeldPush>)> {
        // A phone is not told of what happened before it was there.
        let there = worth.iter().filter(|(held, _)| device.created_at <= held.told_at);
        let reserve = |(held, post): (HeldPush, Post)| async move {
            let reserved = self.deliveries.reserve(&key(owner, device, &held), now).await;
            (held, post, reserved)
        };
        let reserving: Vec<_> = there.cloned().map(reserve).collect();
        let mut reserved = stream::iter(reserving).buffered(CONCURRENT);
        let (mut ours, mut failed) = (Vec::new(), None);
        while let Some((held, post, reservation)) = reserved.next().await {
            match reservation {
                Ok(Reservation::Ours) => ours.push((held, post)),
                Ok(Reservation::Done) => {}
                Ok(Reservation::Held) => {
                    failed = Some(Error::unavailable("deliveries", "another try holds this push"));
                }
                Err(error) => failed = Some(error),
            }
        }
        let told: Vec<_> = ours.iter().map(|(held, _)| *held).collect();
        let sent = match (failed, message(ours, now)) {
            (Some(error), _) => Err(error),
            (None, None) => return Ok((Outcome::Digested, Vec::new())),
            (None, Some(message)) => {
                push::send(self.devices, self.gateway, &message, owner, device.clone()).await
            }
        };
        let outcome = match sent {
            Ok(Outcome::Pushed) if told.len() > 1 => Outcome::Digested,
            Ok(outcome) => outcome,
            Err(error) => {
                let release = |held| async move { self.deliveries.release(&key(owner, device, &held)).await };
                let released = stream::iter(told).map(release).buffer_unordered(CONCURRENT);
                // What this fails for runs out by itself.
                released.for_each(|_| async {}).await;
                return Err(error);
            }
        };
        let record = |held: HeldPush| async move {
            let key = key(owner, device, &held);
            push::record(self.deliveries, &key, held.because, outcome, now).await;
        };
        stream::iter(told.clone()).map(record).buffer_unordered(CONCURRENT).for_each(|()| async {}).await;
        Ok((outcome, told))
    }
}

fn key(owner: UserId, device: &Device, held: &HeldPush) -> PushKey {
    PushKey { post_id: held.post_id, user_id: owner, device_id: device.device_id.clone() }
}

fn id(held: &HeldPush) -> NotificationId {
    NotificationId::of(held.post_id, held.because)
}

fn is_worth_telling(held: &HeldPush, post: &Post, hidden: &HiddenPeople, now: Timestamp) -> bool {
    let is_shown = match held.because {
        Because::Shared { shared_by } => !hidden.contains(&shared_by),
        Because::Subscription { .. } => true,
    };
    is_shown
        && posts::is_shown(post, hidden)
        && posts::is_listed(post, now)
        && post.status == PostStatus::Active
}

/// What is shown of some posts: of one, its own push.
fn message(mut told: Vec<(HeldPush, Post)>, now: Timestamp) -> Option<Message> {
    let stale = time::after(now, TIME_TO_LIVE_SECONDS);
    let end = told.iter().map(|(_, post)| post.expires_at.map_or(stale, |expires| expires.min(stale))).max()?;
    let time_to_live = Duration::try_from(now.duration_until(end)).ok()?;
    if told.len() > 1 {
        let posts = told.into_iter().map(|(_, post)| post).collect();
        return Some(Message::Digest(Digest { posts, time_to_live }));
    }
    let (held, post) = told.pop()?;
    Some(Message::Push(Push { post, because: held.because, time_to_live }))
}
