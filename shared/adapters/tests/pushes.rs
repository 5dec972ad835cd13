//! Pushes over the adapters in memory, while their owner changes a device, and while the record cannot be written.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    slice::from_ref,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tocsin_adapters::memory::{
    MemoryDeliveries, MemoryDevices, MemoryFriendships, MemoryHeldPushes, MemoryInboxes, MemoryPostCache,
    MemoryPosts, MemoryPreferences, MemoryPushGateway,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    delivery::{Delivery, Tally},
    device::{self, Device, DeviceId, DeviceToken, Devices as _, Platform},
    digest::Digest,
    ids::{PostId, SubscriptionId, UserId},
    notification::{Because, Inbox as _, Inboxes, Notification, NotificationId},
    post::{Post, PostStatus, Severity},
    post_edit::{Edit, FieldChange},
    posts::{PostCache as _, PostCacheEditor as _, PostEditor as _, PostStore as _},
    push::{
        Delivered, Deliveries, DeliveryReader, Endpoint, News, NewsKey, Outcome, Published, Push,
        PushGateway, PushJob, PushKey, PushRecipient, RESERVED_SECONDS, Reservation,
    },
    time::{self, Timestamp},
};

/// What happens to Ada's phone right after the gateway has said what became of a push to it.
#[derive(Clone, Debug)]
enum Meanwhile {
    Removed,
    Put(&'static str),
    TakenBy(UserId),
}

#[derive(Default)]
struct Town {
    gateway: MemoryPushGateway,
    devices: MemoryDevices,
    deliveries: MemoryDeliveries,
    cache: MemoryPostCache,
    posts: MemoryPosts,
    preferences: MemoryPreferences,
    held: MemoryHeldPushes,
    meanwhile: Mutex<Option<(UserId, Meanwhile)>>,
    /// Whether somebody has taken the platform away.
    no_platform: AtomicBool,
}

fn phone() -> DeviceId {
    "phone".parse().unwrap()
}

impl Town {
    async fn put(&self, owner: UserId, token: &str, now: Timestamp) -> Device {
        let token = DeviceToken { platform: Platform::Fcm, token: token.to_owned() };
        device::put(&self.devices, &self.gateway, owner, phone(), token, now).await.unwrap()
    }

    async fn push(&self, owner: UserId, post: Post, now: Timestamp) -> Tally {
        let subscription_id = fixtures::subscription(fixtures::wish("fire")).subscription_id;
        let because = Because::Subscription { subscription_id };
        let recipients = vec![PushRecipient { user_id: owner, because }];
        let job = fixtures::job(&post, recipients);
        let (inboxes, hidden) = (&MemoryInboxes::default(), &MemoryFriendships::default());
        let Self { devices, deliveries, cache, posts, preferences, held, .. } = self;
        cache.put(&[post]).await.unwrap();
        let gateway = self;
        let delivery =
            Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
        delivery.deliver(&job, now).await
    }

    /// Where the pushes went.
    fn rung(&self) -> Vec<String> {
        self.gateway.pushes().into_iter().map(|(device, _)| device.token.token).collect()
    }
}

impl PushGateway for Town {
    async fn register(&self, owner: UserId, device_id: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        if self.no_platform.load(Ordering::Relaxed) {
            return Err(device::no_platform().into());
        }
        self.gateway.register(owner, device_id, token).await
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        self.gateway.unregister(endpoint).await
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        let published = self.gateway.publish(device, push).await;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some((owner, meanwhile)) = meanwhile {
            let later = time::after(time::now(), 1);
            match meanwhile {
                Meanwhile::Removed => {
                    device::remove(&self.devices, &self.gateway, owner, &phone()).await.unwrap();
                }
                Meanwhile::Put(token) => drop(self.put(owner, token, later).await),
                Meanwhile::TakenBy(other) => drop(self.put(other, &device.token.token, later).await),
            }
        }
        published
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        self.gateway.publish_digest(device, digest).await
    }
}

const GONE: Tally =
    Tally { pushed: 0, refused: 1, done: 0, muted: 0, held: 0, failed: Vec::new(), put_off: Vec::new() };
const RUNG: Tally =
    Tally { pushed: 1, refused: 0, done: 0, muted: 0, held: 0, failed: Vec::new(), put_off: Vec::new() };

#[tokio::test]
async fn what_its_owner_does_to_a_device_holds() {
    for is_missing in [true, false] {
        let eve = fixtures::user();
        for meanwhile in [Meanwhile::Removed, Meanwhile::Put("new"), Meanwhile::TakenBy(eve)] {
            let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
            let before = town.put(ada, "old", now).await;
            if is_missing {
                town.gateway.unregister(&before.endpoint).await.unwrap();
            } else {
                town.gateway.switch_off(&before.endpoint);
            }
            *town.meanwhile.lock().unwrap() = Some((ada, meanwhile.clone()));
            assert_eq!(town.push(ada, fixtures::post(), now).await, GONE, "{meanwhile:?}");
            assert_eq!(town.rung(), [""; 0], "{meanwhile:?}");

            let (adas, eves) = match meanwhile {
                Meanwhile::Removed => (None, None),
                Meanwhile::Put(token) => (Some(token), None),
                Meanwhile::TakenBy(_) => (None, Some("old")),
            };
            for (owner, token) in [(ada, adas), (eve, eves)] {
                let there = town.devices.of(owner).await.unwrap();
                let tokens: Vec<_> = there.iter().map(|device| device.token.token.as_str()).collect();
                assert_eq!(tokens, Vec::from_iter(token), "{meanwhile:?}");
                let expected = if token.is_some() { RUNG } else { Tally::default() };
                // Of after the change.
                let post = Post { created_at: time::after(time::now(), 1), ..fixtures::post() };
                assert_eq!(town.push(owner, post, now).await, expected, "{meanwhile:?}");
            }
        }
    }
}

#[tokio::test]
async fn pushes_of_a_withheld_post_wait_until_it_is_shown_again() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    town.put(ada, "one", now).await;
    let withheld = Post { withheld: true, ..fixtures::post() };
    for _ in 0..2 {
        let tally = town.push(ada, withheld.clone(), now).await;
        assert_eq!(tally.put_off.iter().map(|one| one.user_id).collect::<Vec<_>>(), [ada]);
        assert_eq!(tally, Tally { put_off: tally.put_off.clone(), ..Tally::default() });
    }
    assert_eq!(town.rung(), [""; 0]);
    let kept = Post { withheld: false, revision: withheld.revision + 1, ..withheld };
    town.cache.replace(&kept).await.unwrap();
    assert_eq!(town.push(ada, kept, now).await, RUNG);
}

#[tokio::test]
async fn a_device_is_not_told_of_what_was_before_it() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    let later = time::after(now, 1);
    town.put(ada, "new", later).await;
    assert_eq!(town.push(ada, fixtures::post(), later).await, Tally::default());
    assert_eq!(town.push(ada, Post { created_at: later, ..fixtures::post() }, later).await, RUNG);
}

#[tokio::test]
async fn a_device_that_is_put_again_while_its_token_seems_dead_stays() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    let before = town.put(ada, "same", now).await;
    town.gateway.switch_off(&before.endpoint);
    *town.meanwhile.lock().unwrap() = Some((ada, Meanwhile::Put("same")));
    assert_eq!(town.push(ada, fixtures::post(), now).await, GONE);
    assert_eq!(town.push(ada, fixtures::post(), now).await, RUNG);
}

#[tokio::test]
async fn a_platform_that_is_taken_away_takes_no_device_with_it() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    let device = town.put(ada, "one", now).await;
    town.gateway.unregister(&device.endpoint).await.unwrap();
    town.no_platform.store(true, Ordering::Relaxed);
    let post = fixtures::post();
    let tally = town.push(ada, post.clone(), now).await;
    assert_eq!(tally.failed.iter().map(|one| one.user_id).collect::<Vec<_>>(), [ada]);
    assert_eq!(tally, Tally { failed: tally.failed.clone(), ..Tally::default() });
    assert_eq!(town.devices.of(ada).await.unwrap().len(), 1);
    town.no_platform.store(false, Ordering::Relaxed);
    assert_eq!(town.push(ada, post, now).await, RUNG);
}

#[tokio::test]
async fn a_missing_endpoint_is_made_again_and_a_dead_one_goes_with_its_device() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    let device = town.put(ada, "one", now).await;
    town.gateway.unregister(&device.endpoint).await.unwrap();
    assert_eq!(town.push(ada, fixtures::post(), now).await, RUNG);
    assert_eq!(town.devices.of(ada).await.unwrap(), from_ref(&device));
    town.gateway.switch_off(&device.endpoint);
    assert_eq!(town.push(ada, fixtures::post(), now).await, GONE);
    assert_eq!(town.devices.of(ada).await.unwrap(), []);
}

#[tokio::test]
async fn a_new_token_takes_the_endpoint_of_the_old_one_away() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    let old = town.put(ada, "old", now).await;
    town.put(ada, "new", now).await;
    let push = Push {
        post: fixtures::post(),
        news: News::Posted,
        because: Because::Subscription { subscription_id: SubscriptionId::new(now) },
        time_to_live: Duration::from_hours(1),
    };
    assert_eq!(town.gateway.publish(&old, &push).await.unwrap(), Published::EndpointMissing);
}

#[tokio::test]
async fn a_push_lives_until_a_day_after_its_post_and_no_longer_than_it() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    town.put(ada, "one", now).await;
    let post = |expires_at| Post { created_at: now, expires_at, ..fixtures::post() };
    let hours = |hours: u64| time::after(now, hours * 3_600);
    assert_eq!(town.push(ada, post(None), hours(23)).await, RUNG);
    assert_eq!(town.push(ada, post(Some(hours(3))), hours(1)).await, RUNG);
    assert_eq!(town.push(ada, post(None), hours(24)).await, GONE, "too old");
    assert_eq!(town.push(ada, post(Some(hours(3))), hours(3)).await, GONE, "no longer listed");
    let left: Vec<_> = town.gateway.pushes().into_iter().map(|(_, push)| push.time_to_live).collect();
    assert_eq!(left, [Duration::from_hours(1), Duration::from_hours(2)]);
}

/// Inboxes that are away at first.
struct AwayOnce {
    inboxes: MemoryInboxes,
    is_away: AtomicBool,
}

impl Inboxes for AwayOnce {
    async fn add(&self, owner: UserId, notification: &Notification) -> Result<bool> {
        if self.is_away.swap(false, Ordering::Relaxed) {
            return Err(Error::unavailable("inboxes", "away"));
        }
        self.inboxes.add(owner, notification).await
    }

    async fn tell(&self, owner: UserId, id: NotificationId, push: Outcome) -> Result<()> {
        self.inboxes.tell(owner, id, push).await
    }
}

#[tokio::test]
async fn whatever_is_remembered_of_a_push_is_found_by_its_inbox() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    town.put(ada, "one", now).await;
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    let recipients = vec![PushRecipient { user_id: ada, because }];
    let post = fixtures::post();
    let job = fixtures::job(&post, recipients);
    town.cache.put(&[post]).await.unwrap();
    let inboxes = AwayOnce { inboxes: MemoryInboxes::default(), is_away: true.into() };
    let (Town { devices, deliveries, cache, posts, preferences, held, .. }, inboxes) = (&town, &inboxes);
    let (gateway, hidden) = (&town, &MemoryFriendships::default());
    let delivery =
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
    let key = PushKey { post_id: job.post_id, news: job.news, user_id: ada, device_id: phone() };
    let kept = async || {
        let inbox = inboxes.inboxes.newest(ada, None, 10, now).await.unwrap().len();
        (inbox, deliveries.outcome(&key), town.rung().len())
    };
    // Too old: nobody is told, and nothing is kept of that.
    assert_eq!(delivery.deliver(&job, time::after(now, 24 * 3_600)).await, GONE);
    assert_eq!(kept().await, (0, None, 0));
    // What is not in the inbox does not ring.
    assert_eq!(
        delivery.deliver(&job, now).await,
        Tally { failed: job.recipients.clone(), ..Tally::default() }
    );
    assert_eq!(kept().await, (0, None, 0));
    assert_eq!(delivery.deliver(&job, now).await, RUNG);
    assert_eq!(kept().await, (1, Some((because, Outcome::Pushed)), 1));
}

#[tokio::test]
async fn news_that_holds_no_longer_when_its_turn_comes_is_said_to_be_dropped_and_rings_nobody() {
    let (town, ada, bob, now) = (Town::default(), fixtures::user(), fixtures::user(), time::now());
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    let recipient = |user_id| PushRecipient { user_id, because };
    let post = Post { created_at: now, ..fixtures::post() };
    let job = |people: &[UserId]| fixtures::job(&post, people.iter().copied().map(recipient).collect());
    let over = Post { status: PostStatus::Resolved, revision: 1, ..post.clone() };
    let inboxes = MemoryInboxes::default();
    let deliver = async |job: &PushJob| {
        let Town { devices, deliveries, cache, posts, preferences, held, .. } = &town;
        let (gateway, hidden, inboxes) = (&town, &MemoryFriendships::default(), &inboxes);
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes }
            .deliver(job, now)
            .await
    };
    let became = async |person| {
        let delivered = town.deliveries.of(person, post.post_id, now).await.unwrap();
        let inbox = inboxes.newest(person, None, 10, now).await.unwrap();
        let told: Vec<_> = delivered.iter().map(|delivered| delivered.outcome).collect();
        (told, inbox.into_iter().map(|one| one.push).collect::<Vec<_>>())
    };
    for (person, token) in [(ada, "one"), (bob, "another")] {
        town.put(person, token, now).await;
    }
    town.cache.put(std::slice::from_ref(&post)).await.unwrap();
    assert_eq!(deliver(&job(&[ada])).await, RUNG);
    town.cache.replace(&over).await.unwrap();
    // The queue brings it again, and now with Bob, whose turn had not come.
    for _ in 0..2 {
        assert_eq!(deliver(&job(&[ada, bob])).await, Tally { refused: 2, ..Tally::default() });
        assert_eq!(became(ada).await, (vec![Outcome::Pushed], vec![Some(Outcome::Pushed)]));
        assert_eq!(became(bob).await, (vec![Outcome::Dropped], vec![Some(Outcome::Dropped)]));
    }
    assert_eq!(town.rung().len(), 1);
}

#[tokio::test]
async fn news_holds_that_is_stored_though_what_is_at_hand_is_older() {
    let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
    town.put(ada, "phone", now).await;
    let minor = Post { created_at: now, severity: Severity::Minor, ..fixtures::post() };
    town.posts.store(from_ref(&minor)).await.pop().unwrap().unwrap();
    let raise = Edit::new(&minor, vec![FieldChange::Severity(Severity::Severe)], now);
    town.posts.edit(&raise).await.unwrap();
    town.cache.put(from_ref(&minor)).await.unwrap();
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    let recipients = vec![PushRecipient { user_id: ada, because }];
    let job = PushJob { news: News::Raised(Severity::Severe), ..fixtures::job(&minor, recipients) };
    let Town { devices, deliveries, cache, posts, preferences, held, .. } = &town;
    let (gateway, hidden, inboxes) = (&town, &MemoryFriendships::default(), &MemoryInboxes::default());
    let delivery =
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
    assert_eq!(delivery.deliver(&job, now).await, RUNG);
    let (_, push) = town.gateway.pushes().pop().unwrap();
    assert_eq!(push.post.severity, Severity::Severe, "and it tells what is stored");
}

/// Deliveries that cannot be recorded so many times.
struct Unrecorded {
    deliveries: MemoryDeliveries,
    times: AtomicUsize,
}

impl Deliveries for Unrecorded {
    async fn reserve(&self, push: &PushKey, because: Because, now: Timestamp) -> Result<Reservation> {
        self.deliveries.reserve(push, because, now).await
    }

    async fn record(&self, push: &PushKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        let left =
            self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1));
        match left {
            Ok(_) => Err(Error::unavailable("deliveries", "away")),
            Err(_) => self.deliveries.record(push, because, outcome, now).await,
        }
    }

    async fn note(&self, news: &NewsKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        self.deliveries.note(news, because, outcome, now).await
    }

    async fn release(&self, push: &PushKey) -> Result<()> {
        self.deliveries.release(push).await
    }
}

impl DeliveryReader for Unrecorded {
    async fn of(&self, owner: UserId, post_id: PostId, now: Timestamp) -> Result<Vec<Delivered>> {
        self.deliveries.of(owner, post_id, now).await
    }
}

#[tokio::test]
async fn a_record_that_fails_for_a_moment_rings_nobody_twice() {
    for (times, again) in [(2, Tally { done: 1, ..Tally::default() }), (3, RUNG)] {
        let (town, ada, now) = (Town::default(), fixtures::user(), time::now());
        town.put(ada, "one", now).await;
        let deliveries =
            Unrecorded { deliveries: MemoryDeliveries::default(), times: AtomicUsize::new(times) };
        let subscription_id = SubscriptionId::new(now);
        let because = Because::Subscription { subscription_id };
        let recipients = vec![PushRecipient { user_id: ada, because }];
        let post = fixtures::post();
        let job = fixtures::job(&post, recipients);
        town.cache.put(&[post]).await.unwrap();
        let (inboxes, hidden) = (&MemoryInboxes::default(), &MemoryFriendships::default());
        let (Town { devices, cache, posts, preferences, held, .. }, deliveries) = (&town, &deliveries);
        let gateway = &town;
        let delivery =
            Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
        assert_eq!(
            delivery.deliver(&job, now).await,
            RUNG,
            "the job is done, and does not come again for this"
        );
        // A queue may send a message twice all the same.
        assert_eq!(delivery.deliver(&job, time::after(now, RESERVED_SECONDS)).await, again);
    }
}
