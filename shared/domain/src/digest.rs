//! Digests: when a person's quiet hours are over, one push tells of all that was held.
//!
//! A digest is for each of its posts the push of that post. So each is reserved and recorded as a push is, and a post is in
//! one digest of a device, whatever comes twice. What has become of the posts meanwhile is looked at then: what is gone,
//! over, or not theirs to see any more, is left out.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};

use crate::{
    Error, Result,
    delivery::{self, Message},
    device::{Device, DeviceEditor},
    friendship::{Hidden, HiddenPeople},
    held_push::{DigestJob, HeldPush, HeldPushEraser, HeldPushRescheduler},
    ids::{PostId, UserId},
    notification::{Because, Inboxes, NotificationId},
    post::{Post, Severity},
    posts::{self, Posts},
    preferences::{self, Decision, Preferences, PreferencesReader},
    push::{Deliveries, DeliveryReader, News, NewsKey, Outcome, Push, PushGateway, PushKey, Reservation},
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

/// How long a digest waits for which the gateway takes no more just now, in seconds: two minutes.
const PUT_OFF_SECONDS: u64 = 2 * 60;

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
    R: Deliveries + DeliveryReader,
    I: Inboxes,
{
    /// Sends what is held for a person, unless it is quiet (again): then it is due when that ends. Answers how many pushes
    /// were sent. If one fails, what is held stays, for another try to send what is left; so it does where the gateway takes no
    /// more just now, or a post is withheld, and is due again in some minutes.
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
            match self.tell(owner, &preferences, &held, now).await {
                Err(Error::Throttled { .. }) => {
                    self.held.reschedule(owner, time::after(now, PUT_OFF_SECONDS)).await?;
                    return Ok(sent);
                }
                Err(error) => return Err(error),
                Ok(told) => {
                    sent += told.sent;
                    self.held.remove(owner, &told.done).await?;
                    if told.done.len() < held.len() {
                        self.held.reschedule(owner, time::after(now, PUT_OFF_SECONDS)).await?;
                        return Ok(sent);
                    }
                }
            }
            // What was held meanwhile is due by itself.
            if held.len() < MOST_POSTS {
                return Ok(sent);
            }
        }
    }

    /// Tells a person of what was held, and says what became of each of it. Posts that are withheld wait until a moderator has
    /// decided.
    async fn tell(
        &self,
        owner: UserId,
        preferences: &Preferences,
        held: &[HeldPush],
        now: Timestamp,
    ) -> Result<Told> {
        let ids: Vec<_> = held.iter().map(|held| held.post_id).collect();
        let (posts, hidden) = try_join(self.posts.get(&ids), self.hidden.of(owner)).await?;
        let (devices, told) = try_join(self.devices.of(owner), self.told(owner, &ids, now)).await?;
        let posts: HashMap<_, _> = posts.into_iter().map(|post| (post.post_id, post)).collect();
        let (mut lines, mut became) = (HashMap::<PostId, Line>::new(), Vec::new());
        for one in held {
            // Where a phone has rung for worse since, the older news would take that one's place on it.
            let is_outdone = told.get(&one.post_id).is_some_and(|news| *news > one.news);
            let post = posts.get(&one.post_id).filter(|_| !is_outdone);
            let post = post.filter(|post| is_worth_telling(one, post, &hidden, now));
            let outcome = match post.map(|post| (post, preferences.decide(post, now))) {
                None => Outcome::Dropped,
                Some((_, Decision::Muted(muted))) => muted.into(),
                Some((post, _)) if post.withheld => continue,
                Some((post, _)) => {
                    let line = || Line { post: post.clone(), held: Vec::new() };
                    lines.entry(one.post_id).or_insert_with(line).held.push(*one);
                    let is_there = |device: &Device| device.created_at <= one.told_at;
                    if devices.iter().any(is_there) { Outcome::Digested } else { Outcome::NoDevice }
                }
            };
            became.push((*one, outcome));
        }
        let mut lines: Vec<_> = lines.into_values().collect();
        lines.sort_by_key(|line| Reverse((line.post.severity, line.post.post_id)));

        let (mut sent, mut failed, mut rung) = (0, None, HashMap::new());
        for device in &devices {
            match self.ring(owner, device, &lines, now).await {
                Ok(None) => {}
                Ok(Some((told, outcome))) => {
                    sent += usize::from(outcome.has_rung());
                    for held in told {
                        let said = rung.entry(held.rings_for()).or_insert(outcome);
                        *said = if outcome.has_rung() { outcome } else { *said };
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, user_id = %owner, device_id = %device.device_id, "a digest failed");
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let done = became.iter().map(|(held, _)| *held).collect();
        let said = stream::iter(became).map(|(held, outcome)| {
            // What rang by an earlier try did so in a digest, as far as is known.
            let outcome = rung.get(&held.rings_for()).copied().unwrap_or(outcome);
            self.say(owner, held, outcome, now)
        });
        said.buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        Ok(Told { sent, done })
    }

    /// The latest news of each of these posts that a person's phones have rung for.
    async fn told(&self, owner: UserId, posts: &[PostId], now: Timestamp) -> Result<HashMap<PostId, News>> {
        let once: HashSet<PostId> = posts.iter().copied().collect();
        let latest = once.into_iter().map(|post_id| async move {
            let known = self.deliveries.of(owner, post_id, now).await?;
            let rang = known.into_iter().filter(|known| known.outcome.has_rung());
            Ok::<_, Error>(rang.map(|known| known.news).max().map(|news| (post_id, news)))
        });
        let latest: Vec<_> =
            stream::iter(latest.collect::<Vec<_>>()).buffer_unordered(CONCURRENT).try_collect().await?;
        Ok(latest.into_iter().flatten().collect())
    }

    /// Says what became of what was held.
    async fn say(&self, owner: UserId, held: HeldPush, outcome: Outcome, now: Timestamp) -> Result<()> {
        let HeldPush { post_id, news, because, .. } = held;
        let key = NewsKey { post_id, news, user_id: owner };
        self.deliveries.note(&key, because, outcome, now).await?;
        self.inboxes.tell(owner, NotificationId::of(post_id, because), outcome).await
    }

    /// Rings one device for what it has not rung for yet, if there is any; answers for what that was, and how it went.
    async fn ring(
        &self,
        owner: UserId,
        device: &Device,
        lines: &[Line],
        now: Timestamp,
    ) -> Result<Option<(Vec<HeldPush>, Outcome)>> {
        // A phone is not told of what happened before it was there.
        let there = lines.iter().flat_map(|line| &line.held).filter(|held| device.created_at <= held.told_at);
        // For whatever reasons, it rings once.
        let mut once = HashSet::new();
        let there = there.filter(|held| once.insert(held.rings_for()));
        let reserve = |held: HeldPush| async move {
            (held, self.deliveries.reserve(&key(owner, device, &held), held.because, now).await)
        };
        let reserving: Vec<_> = there.copied().map(reserve).collect();
        let reserved: Vec<_> = stream::iter(reserving).buffered(CONCURRENT).collect().await;
        let (mut ours, mut failed) = (Vec::new(), None);
        for (held, reservation) in reserved {
            match reservation {
                Ok(Reservation::Ours) => ours.push(held),
                Ok(Reservation::Done) => {}
                Ok(Reservation::Held) => {
                    failed = Some(Error::unavailable("deliveries", "another try holds this push"));
                }
                Err(error) => failed = Some(error),
            }
        }
        let sent = match (failed, message(lines, &ours, now)) {
            (Some(error), _) => Err(error),
            (None, None) => return Ok(None),
            (None, Some(message)) => {
                let sent = delivery::send(self.devices, self.gateway, &message, owner, device.clone()).await;
                let is_digest = matches!(message, Message::Digest(_));
                sent.map(|outcome| match outcome {
                    Outcome::Pushed if is_digest => Outcome::Digested,
                    outcome => outcome,
                })
            }
        };
        match sent {
            Ok(outcome) => {
                let record = |held: HeldPush| async move {
                    let key = key(owner, device, &held);
                    delivery::record(self.deliveries, &key, held.because, outcome, now).await;
                };
                let recorded = stream::iter(ours.clone()).map(record).buffer_unordered(CONCURRENT);
                recorded.for_each(|()| async {}).await;
                Ok(Some((ours, outcome)))
            }
            Err(error) => {
                let release =
                    |held: HeldPush| async move { self.deliveries.release(&key(owner, device, &held)).await };
                // What this fails for runs out by itself.
                let released = stream::iter(ours).map(release).buffer_unordered(CONCURRENT);
                released.for_each(|_| async {}).await;
                Err(error)
            }
        }
    }
}

/// What became of what was held.
struct Told {
    /// How many pushes were sent.
    sent: usize,
    /// Of what something became: the rest waits.
    done: Vec<HeldPush>,
}

/// A post, and what was held of it.
struct Line {
    post: Post,
    held: Vec<HeldPush>,
}

fn key(owner: UserId, device: &Device, held: &HeldPush) -> PushKey {
    let HeldPush { post_id, news, .. } = *held;
    PushKey { post_id, news, user_id: owner, device_id: device.device_id.clone() }
}

fn is_worth_telling(held: &HeldPush, post: &Post, hidden: &HiddenPeople, now: Timestamp) -> bool {
    let by_somebody_hidden =
        matches!(held.because, Because::Shared { shared_by } if hidden.contains(&shared_by));
    !by_somebody_hidden
        && posts::is_shown(post, hidden)
        && post.expires_at.is_none_or(|expires| expires > now)
        && held.news.holds(post)
}

/// What is shown of those of the lines that are told: of one, its own push, with the latest news.
fn message(lines: &[Line], told: &[HeldPush], now: Timestamp) -> Option<Message> {
    let is_told = |line: &&Line| line.held.iter().any(|held| told.contains(held));
    let lines: Vec<_> = lines.iter().filter(is_told).collect();
    let stale = time::after(now, TIME_TO_LIVE_SECONDS);
    let end = |line: &&Line| line.post.expires_at.map_or(stale, |expires| expires.min(stale));
    let time_to_live = Duration::try_from(now.duration_until(lines.iter().map(end).max()?)).ok()?;
    if let [line] = lines.as_slice() {
        let held = told.iter().max_by_key(|held| (held.told_at, held.news))?;
        let (news, because) = (held.news, held.because);
        let push = Push { post: line.post.clone(), news, because, time_to_live };
        return Some(Message::Push(Box::new(push)));
    }
    let posts = lines.into_iter().map(|line| line.post.clone()).collect();
    Some(Message::Digest(Digest { posts, time_to_live }))
}
