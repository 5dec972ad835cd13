//! Notification preferences over the adapters in memory: what rings, what is muted, what is held, and how it is told.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use tocsin_adapters::memory::{
    MemoryCategories, MemoryDeliveries, MemoryDevices, MemoryDigestQueue, MemoryFriendships,
    MemoryHeldPushes, MemoryHiddenCache, MemoryInboxes, MemoryPostCache, MemoryPosts, MemoryPreferences,
    MemoryPushGateway,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    category::{self, CategoryEditor as _},
    delivery::{Delivery, Tally},
    device::{self, Device, DeviceId, DeviceToken, Platform},
    digest::{Digest, Digesting},
    friendship::{self, Action},
    held_push::{self, DigestJob, DigestSchedule as _, HeldPushReader as _, Minute},
    ids::{PostId, SubscriptionId, UserId},
    notification::{Because, Inbox as _},
    post::{Author, Post, PostStatus, Severity},
    post_edit::{Edit, FieldChange},
    post_log::Deletion,
    posts::{PostEditor as _, PostStore as _},
    preferences::{self, Preferences, PreferencesEditor as _},
    push::{
        DeliveryReader as _, Endpoint, News, Outcome, Published, Push, PushGateway, PushJob, PushRecipient,
        RESERVED_SECONDS,
    },
    time::{self, Timestamp},
};

/// A gateway that is away so often, and takes no more than so many.
struct Gateway {
    inner: MemoryPushGateway,
    away: AtomicUsize,
    takes: AtomicUsize,
    asked: AtomicUsize,
}

impl Default for Gateway {
    fn default() -> Self {
        let (inner, takes) = (MemoryPushGateway::default(), usize::MAX.into());
        Self { inner, away: AtomicUsize::default(), takes, asked: AtomicUsize::default() }
    }
}

impl Gateway {
    fn fails(&self) -> bool {
        self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Whether it takes one more.
    fn take(&self) -> Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let taken = self.takes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map(drop).map_err(|_| Error::Throttled { service: "the gateway" })
    }
}

impl PushGateway for Gateway {
    async fn register(&self, owner: UserId, device_id: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        self.inner.register(owner, device_id, token).await
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        self.inner.unregister(endpoint).await
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        if self.fails() {
            return Err(Error::unavailable("the gateway", "away"));
        }
        self.take()?;
        self.inner.publish(device, push).await
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        if self.fails() {
            return Err(Error::unavailable("the gateway", "away"));
        }
        self.take()?;
        self.inner.publish_digest(device, digest).await
    }
}

#[derive(Default)]
struct Town {
    gateway: Gateway,
    devices: MemoryDevices,
    deliveries: MemoryDeliveries,
    posts: MemoryPosts,
    friendships: MemoryFriendships,
    preferences: MemoryPreferences,
    held: MemoryHeldPushes,
    inboxes: MemoryInboxes,
    queue: MemoryDigestQueue,
}

/// The night of 10 to 11 January, in Oslo.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const EVENING: &str = "2026-01-10T20:30:00Z";
const NIGHT: &str = "2026-01-10T23:00:00Z";
const MORNING: &str = "2026-01-11T06:00:00Z";

fn wish(value: Value) -> Preferences {
    serde_json::from_value(value).unwrap()
}

fn night() -> Preferences {
    wish(json!({"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"}}))
}

impl Town {
    /// A person with these preferences, and these devices since long ago.
    async fn person(&self, preferences: &Preferences, devices: &[&str]) -> UserId {
        let user = fixtures::user();
        self.preferences.put(user, preferences).await.unwrap();
        for device in devices {
            let token = DeviceToken { platform: Platform::Fcm, token: format!("{user}-{device}") };
            let long_ago = at("2025-01-01T00:00:00Z");
            device::put(&self.devices, &self.gateway, user, device.parse().unwrap(), token, long_ago)
                .await
                .unwrap();
        }
        user
    }

    /// A post that is stored.
    async fn post(&self, title: &str, severity: Severity, now: Timestamp) -> Post {
        let post_id = PostId::new(now);
        let (title, created_at) = (title.to_owned(), now);
        let post = Post { post_id, title, severity, created_at, ..fixtures::post() };
        self.posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
        post
    }

    async fn push(&self, to: UserId, post: &Post, news: News, now: Timestamp) -> Tally {
        let because = Because::Subscription { subscription_id: SubscriptionId::new(at(EVENING)) };
        let recipients = vec![PushRecipient { user_id: to, because }];
        let job = PushJob { post_id: post.post_id, news, told_at: now, recipients };
        self.deliver(&job, now).await
    }

    async fn deliver(&self, job: &PushJob, now: Timestamp) -> Tally {
        let Self { gateway, devices, deliveries, posts, preferences, held, inboxes, .. } = self;
        // Nothing is at hand from before a change.
        let (hidden, cache) = (&self.friendships, &MemoryPostCache::default());
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes }
            .deliver(job, now)
            .await
    }

    /// Lets the schedule fire until it has come up to now; answers who is due.
    async fn release(&self, now: Timestamp) -> Vec<UserId> {
        while self.held.done().await.unwrap() < Some(Minute::of(now)) {
            held_push::release(&self.held, &self.queue, now).await.unwrap();
        }
        self.queue.take().into_iter().map(|job| job.user_id).collect()
    }

    async fn digest(&self, user_id: UserId, now: Timestamp) -> Result<usize> {
        let Self { gateway, devices, deliveries, posts, preferences, held, inboxes, .. } = self;
        let hidden = &self.friendships;
        Digesting { preferences, held, posts, hidden, devices, gateway, deliveries, inboxes }
            .deliver(DigestJob { user_id }, now)
            .await
    }

    /// What rang: the titles of pushes, and of digests all of theirs.
    fn rung(&self) -> Vec<String> {
        self.gateway.inner.pushes().into_iter().map(|(_, push)| push.post.title).collect()
    }

    fn digests(&self) -> Vec<Vec<String>> {
        let titles = |digest: Digest| digest.posts.into_iter().map(|post| post.title).collect();
        self.gateway.inner.digests().into_iter().map(|(_, digest)| titles(digest)).collect()
    }

    /// What the inbox says of the pushes, the newest last.
    async fn said(&self, owner: UserId) -> Vec<Option<Outcome>> {
        let all = self.inboxes.newest(owner, None, 100, at(MORNING)).await.unwrap();
        all.iter().rev().map(|one| one.push).collect()
    }

    async fn held(&self, owner: UserId) -> usize {
        self.held.of(owner, 100, at(MORNING)).await.unwrap().len()
    }
}

const MUTED: Tally =
    Tally { pushed: 0, refused: 0, done: 0, muted: 1, held: 0, failed: Vec::new(), put_off: Vec::new() };
const HELD: Tally =
    Tally { pushed: 0, refused: 0, done: 0, muted: 0, held: 1, failed: Vec::new(), put_off: Vec::new() };
const RUNG: Tally =
    Tally { pushed: 1, refused: 0, done: 0, muted: 0, held: 0, failed: Vec::new(), put_off: Vec::new() };

#[tokio::test]
async fn each_mistake_is_named() {
    let categories = MemoryCategories::default();
    for category in category::initial() {
        categories.put(&category).await.unwrap();
    }
    let read = async |body: Value| Preferences::from_json(&categories, &body).await;
    assert_eq!(read(json!({})).await.unwrap(), Preferences::default());
    assert_eq!(read(json!({"quiet_hours": null})).await.unwrap(), Preferences::default());
    let whole = json!({
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"},
        "min_severity": "moderate", "muted_categories": ["crime", "fire"],
    });
    assert_eq!(serde_json::to_value(read(whole.clone()).await.unwrap()).unwrap(), whole);
    let hours = |start, end, zone| json!({"quiet_hours": {"start": start, "end": end, "time_zone": zone}});
    let many: Vec<_> = (0..=preferences::MOST_MUTED).map(|number| format!("c{number}")).collect();
    for (body, expected) in [
        (hours("22:00", "07:00", "Europe/Bergen"), vec![("/quiet_hours/time_zone", "unknown_time_zone")]),
        (hours("22:00", "22:00", "Europe/Oslo"), vec![("/quiet_hours/end", "same_as_start")]),
        (
            hours("24:00", "7:00", "x"),
            vec![
                ("/quiet_hours/start", "invalid_time_of_day"),
                ("/quiet_hours/end", "invalid_time_of_day"),
                ("/quiet_hours/time_zone", "unknown_time_zone"),
            ],
        ),
        (
            json!({"quiet_hours": {}}),
            vec![
                ("/quiet_hours/start", "required"),
                ("/quiet_hours/end", "required"),
                ("/quiet_hours/time_zone", "required"),
            ],
        ),
        (json!({"quiet_hours": "always"}), vec![("/quiet_hours", "wrong_type")]),
        (
            json!({"min_severity": "bad", "loud": true}),
            vec![("/min_severity", "not_in_list"), ("/loud", "unknown_field")],
        ),
        (
            json!({"muted_categories": ["fire", "dragons", "fire"]}),
            vec![("/muted_categories/1", "unknown_category"), ("/muted_categories/2", "not_unique")],
        ),
        (json!({"muted_categories": ["Fire"]}), vec![("/muted_categories/0", "invalid_category")]),
        (json!({"muted_categories": many}), vec![("/muted_categories", "too_many")]),
    ] {
        let Err(Error::Refused(refusal)) = read(body.clone()).await else { panic!("{body}") };
        let found: Vec<_> = refusal.errors.iter().map(|one| (one.pointer.as_str(), one.code)).collect();
        assert_eq!(found, expected, "{body}");
    }
}

#[tokio::test]
async fn what_is_muted_does_not_ring_and_the_inbox_says_why() {
    let town = Town::default();
    let now = at(EVENING);
    let fire = wish(json!({"muted_categories": ["fire"]}));
    let severe = wish(json!({"min_severity": "severe"}));
    let (ada, bob) = (town.person(&fire, &["phone"]).await, town.person(&severe, &["phone"]).await);
    let post = town.post("smoke", Severity::Moderate, now).await;
    for _ in 0..2 {
        assert_eq!(town.push(ada, &post, News::Posted, now).await, MUTED);
        assert_eq!(town.push(bob, &post, News::Posted, now).await, MUTED);
    }
    assert_eq!(town.rung(), [""; 0]);
    assert_eq!(town.said(ada).await, [Some(Outcome::MutedCategory)]);
    assert_eq!(town.said(bob).await, [Some(Outcome::MutedSeverity)]);
    let noted = town.deliveries.of(bob, post.post_id, now).await.unwrap();
    assert_eq!((noted.len(), noted[0].outcome, &noted[0].device_id), (1, Outcome::MutedSeverity, &None));

    let worse = town.post("flames", Severity::Severe, now).await;
    assert_eq!(town.push(bob, &worse, News::Posted, now).await, RUNG);
    let extreme = town.post("explosion", Severity::Extreme, now).await;
    assert_eq!(town.push(ada, &extreme, News::Posted, now).await, RUNG, "it breaks through");
    assert_eq!(town.rung(), ["flames", "explosion"]);
    let nobody = town.person(&Preferences::default(), &[]).await;
    assert_eq!(town.push(nobody, &post, News::Posted, now).await, Tally::default());
    assert_eq!(town.said(nobody).await, [Some(Outcome::NoDevice)]);
}

#[tokio::test]
async fn what_is_held_comes_once_in_one_push_when_the_quiet_hours_end() {
    let town = Town::default();
    let ada = town.person(&night(), &["phone", "pad"]).await;
    let mut posts = Vec::new();
    for (seconds, title, severity) in [
        (1, "one", Severity::Minor),
        (2, "two", Severity::Severe),
        (3, "three", Severity::Minor),
        (4, "gone", Severity::Minor),
    ] {
        let now = time::after(at(NIGHT), seconds);
        let post = town.post(title, severity, now).await;
        for _ in 0..2 {
            assert_eq!(town.push(ada, &post, News::Posted, now).await, HELD);
        }
        posts.push(post);
    }
    let raised = News::Raised(Severity::Severe);
    assert_eq!(town.push(ada, &posts[1], raised, at(NIGHT)).await, HELD);
    let later = time::after(at(NIGHT), 60);
    let extreme = town.post("explosion", Severity::Extreme, later).await;
    assert_eq!(town.push(ada, &extreme, News::Posted, later).await.pushed, 2);
    assert_eq!(town.rung(), ["explosion", "explosion"]);
    assert_eq!(
        town.said(ada).await,
        [[Some(Outcome::Held); 4].as_slice(), &[Some(Outcome::Pushed)]].concat()
    );
    town.posts.remove(&Deletion { post_id: posts[3].post_id, deleted_at: at(NIGHT) }).await.unwrap();

    // Nobody is due before. One that comes all the same waits on.
    assert_eq!(town.release(time::after(at(NIGHT), 3_600)).await, []);
    assert_eq!(town.digest(ada, time::after(at(NIGHT), 3_600)).await.unwrap(), 0);
    assert_eq!(town.held(ada).await, 5);
    assert_eq!(town.release(at(MORNING)).await, [ada]);
    assert_eq!(town.release(time::after(at(MORNING), 30)).await, [], "once");
    for (sent, later) in [(2, 0), (0, 1), (0, 2 * RESERVED_SECONDS)] {
        assert_eq!(town.digest(ada, time::after(at(MORNING), later)).await.unwrap(), sent);
    }
    assert_eq!(
        town.digests(),
        [["two", "three", "one"], ["two", "three", "one"]],
        "the worst, then the newest"
    );
    assert_eq!(town.held(ada).await, 0);
    let said = town.said(ada).await;
    assert_eq!(said.iter().filter(|said| **said == Some(Outcome::Digested)).count(), 3, "{said:?}");
    assert_eq!(said.iter().filter(|said| **said == Some(Outcome::Dropped)).count(), 1, "{said:?}");
    // A job that comes late, or twice, rings nobody again.
    let late = time::after(at(MORNING), 60);
    let tally = town.push(ada, &posts[0], News::Posted, at(NIGHT)).await;
    assert_eq!(tally, HELD);
    assert_eq!(town.digest(ada, late).await.unwrap(), 0);
    assert_eq!((town.digests().len(), town.rung().len()), (2, 2));
    assert_eq!(town.said(ada).await, said);
}

#[tokio::test]
async fn who_is_not_rung_since_the_gateway_takes_no_more_is_put_off_and_the_gateway_left_alone() {
    let town = Town::default();
    let now = at(MORNING);
    let because = Because::Subscription { subscription_id: SubscriptionId::new(at(EVENING)) };
    let mut recipients = Vec::new();
    for _ in 0..PushJob::MOST_RECIPIENTS {
        let user_id = town.person(&Preferences::default(), &["phone", "tablet"]).await;
        recipients.push(PushRecipient { user_id, because });
    }
    let post = town.post("news", Severity::Minor, now).await;
    let mut job = PushJob { recipients, ..fixtures::job(&post, vec![]) };
    for round in 0..100 {
        if job.recipients.is_empty() {
            break;
        }
        assert!(round < 50, "it comes to an end");
        town.gateway.takes.store(7, Ordering::Relaxed);
        let asked = town.gateway.asked.swap(0, Ordering::Relaxed);
        // As many may be under way as are served at once, and no more are begun.
        assert!(asked <= 7 + 16, "{asked}");
        let tally = town.deliver(&job, now).await;
        assert_eq!((tally.failed.len(), tally.refused), (0, 0));
        assert!(tally.pushed <= 7);
        job = PushJob { recipients: tally.put_off, ..job };
    }
    let mut rung: Vec<_> =
        town.gateway.inner.pushes().into_iter().map(|(device, _)| device.token.token).collect();
    rung.sort();
    assert_eq!(rung.len(), 2 * PushJob::MOST_RECIPIENTS);
    rung.dedup();
    assert_eq!(rung.len(), 2 * PushJob::MOST_RECIPIENTS, "each device once");
}

#[tokio::test]
async fn only_what_is_shared_is_waited_for_until_it_is_stored() {
    let (town, now) = (Town::default(), time::now());
    let ada = town.person(&Preferences::default(), &["phone"]).await;
    // Deleted, and nothing at hand says so any more.
    let gone = Post { post_id: PostId::new(now), ..fixtures::post() };
    let over = Tally { refused: 1, ..Tally::default() };
    assert_eq!(town.push(ada, &gone, News::Posted, now).await, over);
    let because = Because::Shared { shared_by: fixtures::user() };
    let job = fixtures::job(&gone, vec![PushRecipient { user_id: ada, because }]);
    assert_eq!(town.deliver(&job, now).await, Tally { failed: job.recipients.clone(), ..Tally::default() });
    assert_eq!(town.deliver(&job, time::after(now, 11 * 60)).await, over);
}

#[tokio::test]
async fn a_digest_for_which_the_gateway_takes_no_more_is_due_again_soon() {
    let town = Town::default();
    let ada = town.person(&night(), &["phone", "tablet"]).await;
    for title in ["one", "two"] {
        let post = town.post(title, Severity::Minor, at(NIGHT)).await;
        assert_eq!(town.push(ada, &post, News::Posted, at(NIGHT)).await, HELD);
    }
    assert_eq!(town.release(at(MORNING)).await, [ada]);
    town.gateway.takes.store(1, Ordering::Relaxed);
    assert_eq!(town.digest(ada, at(MORNING)).await.unwrap(), 0, "it is no failure");
    assert_eq!((town.digests().len(), town.held(ada).await), (1, 2));
    town.gateway.takes.store(usize::MAX, Ordering::Relaxed);
    let soon = time::after(at(MORNING), 3 * 60);
    assert_eq!(town.release(soon).await, [ada]);
    assert_eq!(town.digest(ada, soon).await.unwrap(), 1, "the device that has not rung");
    assert_eq!(town.held(ada).await, 0);
    let mut rung: Vec<_> =
        town.gateway.inner.digests().into_iter().map(|(device, _)| device.device_id.to_string()).collect();
    rung.sort();
    assert_eq!(rung, ["phone", "tablet"]);
}

#[tokio::test]
async fn one_that_was_held_comes_as_its_own_push_and_its_end_only_where_it_was_told() {
    let town = Town::default();
    let ada = town.person(&night(), &["phone"]).await;
    let told = town.post("told", Severity::Minor, at(EVENING)).await;
    assert_eq!(town.push(ada, &told, News::Posted, at(EVENING)).await, RUNG);
    let untold = town.post("untold", Severity::Minor, at(NIGHT)).await;
    assert_eq!(town.push(ada, &untold, News::Posted, at(NIGHT)).await, HELD);
    for post in [&told, &untold] {
        let edit = Edit::new(post, vec![FieldChange::Status(PostStatus::Resolved)], at(NIGHT));
        town.posts.edit(&edit).await.unwrap();
    }
    // Only to who was told of it.
    assert_eq!(town.push(ada, &told, News::Resolved, at(NIGHT)).await, HELD);
    assert_eq!(town.digest(ada, at(MORNING)).await.unwrap(), 1);
    let pushes = town.gateway.inner.pushes();
    let shown: Vec<_> = pushes.iter().map(|(_, push)| (push.post.title.as_str(), push.news)).collect();
    assert_eq!(shown, [("told", News::Posted), ("told", News::Resolved)]);
    assert_eq!(town.digests(), [[""; 0]; 0]);
    assert_eq!(town.said(ada).await, [Some(Outcome::Pushed), Some(Outcome::Dropped)]);
}

#[tokio::test]
async fn what_has_changed_by_the_morning_holds_then() {
    let town = Town::default();
    let (ada, eve) = (town.person(&night(), &["phone"]).await, fixtures::user());
    let mut held = Vec::new();
    for title in ["withheld", "expired", "by eve", "shared by eve", "muted", "left"] {
        let mut post = Post { post_id: PostId::new(at(NIGHT)), ..fixtures::post() };
        (post.title, post.created_at, post.severity) = (title.to_owned(), at(NIGHT), Severity::Minor);
        match title {
            "withheld" => post.withheld = true,
            "expired" => post.expires_at = Some(at("2026-01-11T01:00:00Z")),
            "by eve" => post.author = Some(Author { user_id: eve, username: "eve".into() }),
            "muted" => post.category = "crime".parse().unwrap(),
            _ => {}
        }
        let now = Post { withheld: false, ..post.clone() };
        town.posts.store(std::slice::from_ref(&now)).await.pop().unwrap().unwrap();
        if title == "shared by eve" {
            let recipients =
                vec![PushRecipient { user_id: ada, because: Because::Shared { shared_by: eve } }];
            let job = PushJob { recipients, ..fixtures::job(&now, vec![]) };
            assert_eq!(town.deliver(&job, at(NIGHT)).await, HELD);
        } else {
            assert_eq!(town.push(ada, &now, News::Posted, at(NIGHT)).await, HELD, "{title}");
        }
        if post.withheld {
            let edit = Edit::new(&now, vec![FieldChange::Withheld(true)], at(NIGHT));
            town.posts.edit(&edit).await.unwrap();
        }
        held.push(post);
    }
    let cache = MemoryHiddenCache::default();
    friendship::change_block(&town.friendships, &cache, ada, eve, Action::Block, at(NIGHT)).await.unwrap();
    // She puts preferences at night: it stays quiet, until another time.
    let other = wish(json!({
        "quiet_hours": {"start": "22:00", "end": "08:30", "time_zone": "Europe/Oslo"},
        "muted_categories": ["crime"],
    }));
    let put = async |wishes: &Preferences, now| {
        let Town { preferences, held, queue, .. } = &town;
        held_push::put_preferences(preferences, held, queue, ada, wishes, now).await.unwrap();
    };
    put(&other, at(NIGHT)).await;
    assert_eq!(town.release(at(MORNING)).await, [ada]);
    assert_eq!(town.digest(ada, at(MORNING)).await.unwrap(), 0, "it is quiet still");
    let later = at("2026-01-11T07:30:00Z");
    assert_eq!(town.release(at("2026-01-11T07:00:00Z")).await, []);
    assert_eq!(town.release(later).await, [ada]);
    // And ends them before that.
    put(&wish(json!({"muted_categories": ["crime"]})), at("2026-01-11T07:00:00Z")).await;
    assert_eq!(town.queue.take().len(), 1);
    assert_eq!(town.digest(ada, later).await.unwrap(), 1);
    assert_eq!((town.rung(), town.digests().len()), (vec!["left".to_owned()], 0));
    // What is withheld waits until a moderator has decided.
    assert_eq!(town.held(ada).await, 1);
    assert_eq!(town.digest(ada, later).await.unwrap(), 0);
    let seen = Post { updated_at: time::after(held[0].updated_at, 1), ..held[0].clone() };
    let kept = Edit::new(&seen, vec![FieldChange::Withheld(false)], later);
    town.posts.edit(&kept).await.unwrap();
    let then = time::after(later, 10 * 60);
    assert_eq!(town.release(then).await, [ada]);
    assert_eq!(town.digest(ada, then).await.unwrap(), 1);
    assert_eq!(town.rung(), ["left", "withheld"]);
    assert_eq!(town.held(ada).await, 0);
    put(&Preferences::default(), later).await;
    assert_eq!(town.queue.take().len(), 0, "nothing is held");
}

#[tokio::test]
async fn what_rang_worse_at_night_is_not_told_again_in_the_morning() {
    let town = Town::default();
    let ada = town.person(&night(), &["phone"]).await;
    let (worse, other) = (
        town.post("worse", Severity::Minor, at(NIGHT)).await,
        town.post("other", Severity::Minor, at(NIGHT)).await,
    );
    for post in [&worse, &other] {
        assert_eq!(town.push(ada, post, News::Posted, at(NIGHT)).await, HELD);
    }
    let raise = Edit::new(&worse, vec![FieldChange::Severity(Severity::Extreme)], at(NIGHT));
    let extreme = town.posts.edit(&raise).await.unwrap().unwrap();
    assert_eq!(town.push(ada, &extreme, News::Raised(Severity::Extreme), at(NIGHT)).await, RUNG);
    assert_eq!(town.digest(ada, at(MORNING)).await.unwrap(), 1);
    assert_eq!((town.rung(), town.digests().len()), (vec!["worse".to_owned(), "other".to_owned()], 0));
    assert_eq!(town.held(ada).await, 0);
}

#[tokio::test]
async fn a_schedule_that_was_down_makes_it_late_and_not_lost() {
    let town = Town::default();
    let ada = town.person(&night(), &["phone"]).await;
    assert_eq!(town.release(at(EVENING)).await, []);
    let post = town.post("late", Severity::Minor, at(NIGHT)).await;
    assert_eq!(town.push(ada, &post, News::Posted, at(NIGHT)).await, HELD);
    let (mut due, mut now) = (Vec::new(), at("2026-01-12T20:00:00Z"));
    for _ in 0..60 {
        held_push::release(&town.held, &town.queue, now).await.unwrap();
        due.extend(town.queue.take().into_iter().map(|job| job.user_id));
        now = time::after(now, 60);
    }
    assert_eq!(due, [ada]);
    assert_eq!(town.held.done().await.unwrap(), Some(Minute(Minute::of(now).0 - 1)));
    assert_eq!(town.digest(ada, at("2026-01-12T20:30:00Z")).await.unwrap(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often the gateway is away, and messages come twice: each device is told of each post once.
    #[test]
    fn a_digest_that_is_tried_until_it_is_done_rings_every_device_once(
        count in 1usize..6,
        away in 0usize..5,
        devices in 1usize..4,
        again in 1usize..3,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let town = Town::default();
            let names = ["phone", "pad", "watch"];
            let ada = town.person(&night(), &names[..devices]).await;
            for number in 0..count {
                let post = town.post(&number.to_string(), Severity::Minor, at(NIGHT)).await;
                assert_eq!(town.push(ada, &post, News::Posted, at(NIGHT)).await, HELD);
            }
            town.gateway.away.store(away, Ordering::Relaxed);
            let (mut tries, mut sent) = (0, 0);
            while town.held(ada).await > 0 {
                tries += 1;
                assert!(tries < 20);
                sent += town.digest(ada, at(MORNING)).await.unwrap_or(0);
            }
            for later in 0..again {
                let later = time::after(at(MORNING), u64::try_from(later).unwrap() * 2 * RESERVED_SECONDS);
                assert_eq!(town.digest(ada, later).await.unwrap(), 0);
            }
            let rung = town.rung().len() + town.digests().len();
            assert_eq!(rung, devices);
            assert!(sent <= devices);
            assert!(town.digests().iter().all(|digest| digest.len() == count));
        });
    }
}
