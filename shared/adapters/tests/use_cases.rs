//! The use cases over the adapters in memory, where one of their neighbours is away, or fails in the middle.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tocsin_adapters::memory::{
    MemoryDeliveries, MemoryDevices, MemoryFriendships, MemoryHeldPushes, MemoryHiddenCache, MemoryInboxes,
    MemoryPostCache, MemoryPosts, MemoryPreferences, MemoryPushGateway, MemoryStepQueue, MemorySubscriptions,
    MemoryTimelines,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    audience::{AudienceKey, Sizes, keys_of},
    cover::Region as _,
    cursor::{Cursor, Limit, Page},
    delivery::{Delivery, Tally},
    device::{self, Device, DeviceId, DeviceToken, Platform},
    digest::Digest,
    friendship::{Hidden, HiddenCache, HiddenPeople},
    ids::{PostId, UserId},
    large_audience::{LargeKey, LargeKeys},
    near::Near,
    notification::{Because, Inbox as _, Notification},
    place::Circle,
    place_index::{PlaceEntry, PlaceIndex, PlaceKey},
    post::Post,
    post_edit::{Edit, FieldChange},
    post_log::PostChange,
    posts::{self, PostCache as _, PostStore as _, Posts},
    push::{Endpoint, Outcome, Published, Push, PushGateway, PushRecipient, RESERVED_SECONDS},
    subscription::{Subscription, SubscriptionEditor as _, Subscriptions, Wish},
    time,
    timeline::{self, Reading, TimelineEraser, TimelineItem, Timelines},
    timeline_loading::Loading,
};

/// A neighbour that is away.
struct Away;

fn away<T>() -> Result<T> {
    Err(Error::unavailable("a neighbour", "away"))
}

impl Subscriptions for Away {
    async fn of(&self, _: UserId) -> Result<Vec<Subscription>> {
        away()
    }
}

impl PlaceIndex for Away {
    async fn newest(&self, _: &PlaceKey, _: Option<PostId>, _: usize) -> Result<Vec<PlaceEntry>> {
        away()
    }
}

impl Posts for Away {
    async fn get(&self, _: &[PostId]) -> Result<Vec<Post>> {
        away()
    }
}

impl tocsin_domain::posts::PostCache for Away {
    async fn get(&self, _: &[PostId]) -> Result<posts::AtHand> {
        away()
    }

    async fn put(&self, _: &[Post]) -> Result<()> {
        away()
    }
}

impl Hidden for Away {
    async fn of(&self, _: UserId) -> Result<HiddenPeople> {
        away()
    }
}

impl HiddenCache for Away {
    async fn get(&self, _: UserId) -> Result<Option<HiddenPeople>> {
        away()
    }

    async fn put(&self, _: UserId, _: &HiddenPeople) -> Result<()> {
        away()
    }

    async fn set_aside(&self, _: &[UserId]) -> Result<()> {
        away()
    }
}

impl LargeKeys for Away {
    async fn all(&self) -> Result<Arc<[LargeKey]>> {
        away()
    }

    async fn remember(&self, _: &AudienceKey, _: time::Timestamp) -> Result<()> {
        away()
    }
}

impl Timelines for Away {
    async fn page(&self, _: UserId, _: Option<PostId>, _: usize) -> Result<Option<timeline::CachedPage>> {
        away()
    }

    async fn begin_rebuild(&self, _: &timeline::Owner) -> Result<Option<timeline::Rebuild>> {
        away()
    }

    async fn finish_rebuild(
        &self,
        _: &timeline::Owner,
        _: timeline::Rebuild,
        _: &[PostId],
        _: time::Timestamp,
        _: &timeline::Sources,
    ) -> Result<()> {
        away()
    }
}

impl TimelineEraser for Away {
    async fn forget(&self, _: UserId) -> Result<()> {
        away()
    }
}

/// A reader who follows everything of a category, and the posts of it.
struct Town {
    reader: UserId,
    subscriptions: MemorySubscriptions,
    stored: MemoryPosts,
    cache: MemoryPostCache,
    timelines: MemoryTimelines,
    hidden_cache: MemoryHiddenCache,
    steps: MemoryStepQueue,
}

impl Town {
    async fn new(capacity: usize) -> Self {
        let town = Self {
            reader: fixtures::user(),
            subscriptions: MemorySubscriptions::default(),
            stored: MemoryPosts::default(),
            cache: MemoryPostCache::default(),
            timelines: MemoryTimelines::default().with_capacity(capacity),
            hidden_cache: MemoryHiddenCache::default(),
            steps: MemoryStepQueue::default(),
        };
        let subscription = fixtures::subscription(fixtures::wish(fixtures::post().category.as_str()));
        town.subscriptions.add(town.reader, &subscription, &fixtures::keys(&subscription)).await.unwrap();
        town
    }

    async fn load(&self, posts: &[Post]) {
        let created: Vec<_> = posts.iter().cloned().map(|post| PostChange::Created(Box::new(post))).collect();
        self.load_changes(&created).await;
    }

    async fn load_changes(&self, changes: &[PostChange]) {
        let (stored, audience) = (&self.stored, &self.subscriptions);
        let (timelines, cache) = (&self.timelines, &self.cache);
        let (queue, sizes) = (&self.steps, Sizes { part: 1_000, ..fixtures::SIZES });
        let loading = Loading { posts: stored, audience, large: audience, timelines, cache, queue, sizes };
        for outcome in loading.load(changes).await {
            assert_eq!(outcome.unwrap(), 1, "the reader is the audience");
        }
    }

    async fn page(&self, before: Option<Cursor>, limit: &str) -> Page<TimelineItem> {
        let Self { reader, subscriptions, stored, cache, timelines, .. } = self;
        let (hidden_cache, hidden) = (&self.hidden_cache, &MemoryFriendships::default());
        let (index, posts, large) = (stored, stored, subscriptions);
        let reading = Reading { timelines, subscriptions, large, index, cache, posts, hidden_cache, hidden };
        reading.page(*reader, before, Limit::parse(limit).unwrap(), time::now()).await.unwrap()
    }

    /// The whole timeline, by pages of `limit`.
    async fn pages(&self, limit: &str) -> Vec<PostId> {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = self.page(before, limit).await;
            ids.extend(page.items.iter().map(|item| item.post.post_id));
            let Some(cursor) = page.next_cursor else { return ids };
            assert!(!page.items.is_empty(), "a page with a cursor is not empty");
            before = Some(Cursor::decode(&cursor, timeline::scope(self.reader)).unwrap());
        }
    }
}

/// Posts that differ in their millisecond, the newest last.
fn posts(count: u64) -> Vec<Post> {
    (1..=count)
        .map(|second| Post { post_id: fixtures::post_id(1_000 * second, 0), ..fixtures::post() })
        .collect()
}

#[tokio::test]
async fn a_warm_timeline_is_read_from_the_cache_alone() {
    let town = Town::new(100).await;
    assert!(town.pages("20").await.is_empty());
    town.load(&posts(10)).await;
    let warm = Reading {
        timelines: &town.timelines,
        subscriptions: &Away,
        large: &Away,
        index: &Away,
        cache: &Away,
        posts: &Away,
        hidden_cache: &town.hidden_cache,
        hidden: &Away,
    };
    let page = warm.page(town.reader, None, Limit::default(), time::now()).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (10, None));
}

#[tokio::test]
async fn a_timeline_that_was_not_forgotten_is_rebuilt_when_it_is_checked() {
    let mut town = Town::new(100).await;
    town.timelines = town.timelines.clone().not_trusted();
    town.load(&posts(10)).await;
    assert_eq!(town.pages("20").await.len(), 10);
    // Who ended the subscription died before the timeline was forgotten.
    let [subscription] = &town.subscriptions.of(town.reader).await.unwrap()[..] else { panic!("it is one") };
    let keys = keys_of(&subscription.wish);
    assert!(town.subscriptions.remove(town.reader, (subscription, &keys)).await.unwrap());
    assert!(town.pages("20").await.is_empty());
}

#[tokio::test]
async fn without_the_cache_the_storage_serves_the_same() {
    let town = Town::new(100).await;
    town.page(None, "20").await;
    town.load(&posts(10)).await;
    let Town { reader, subscriptions, stored, .. } = &town;
    let cold = Reading {
        timelines: &Away,
        subscriptions,
        large: subscriptions,
        index: stored,
        cache: &Away,
        posts: stored,
        hidden_cache: &Away,
        hidden: &MemoryFriendships::default(),
    };
    let page = cold.page(*reader, None, Limit::default(), time::now()).await.unwrap();
    assert_eq!(page, town.page(None, "20").await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever the timeline is first looked at, and however little the cache holds: no gap, and no repetition.
    #[test]
    fn pages_go_past_the_caches_end(
        count in 0u64..40,
        looked_at in 0u64..40,
        capacity in 1usize..20,
        limit in 1usize..15,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let town = Town::new(capacity).await;
            let posts = posts(count);
            let (before, after) = posts.split_at(usize::try_from(looked_at.min(count)).unwrap());
            for outcome in town.stored.store(before).await {
                outcome.unwrap();
            }
            town.page(None, "1").await;
            town.load(after).await;
            let expected: Vec<_> = posts.iter().rev().map(|post| post.post_id).collect();
            assert_eq!(town.pages(&limit.to_string()).await, expected);
        });
    }
}

/// A gateway of which every other call fails, after it was done or before.
#[derive(Default)]
struct Flaky {
    gateway: MemoryPushGateway,
    calls: AtomicUsize,
}

impl PushGateway for Flaky {
    async fn register(&self, owner: UserId, device_id: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        self.gateway.register(owner, device_id, token).await
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        self.gateway.unregister(endpoint).await
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return away();
        }
        self.gateway.publish(device, push).await
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return away();
        }
        self.gateway.publish_digest(device, digest).await
    }
}

#[tokio::test]
async fn a_job_that_is_tried_until_it_is_done_rings_every_device_once() {
    let (devices, gateway, deliveries) =
        (MemoryDevices::default(), Flaky::default(), MemoryDeliveries::default());
    let now = time::now();
    let subscription_id = fixtures::subscription(fixtures::wish("fire")).subscription_id;
    let because = Because::Subscription { subscription_id };
    let mut recipients = Vec::new();
    for number in 0..5 {
        let user_id = fixtures::user();
        for device_id in ["phone", "tablet"] {
            let token = DeviceToken { platform: Platform::Fcm, token: format!("{number}-{device_id}") };
            let device_id = device_id.parse().unwrap();
            device::put(&devices, &gateway, user_id, device_id, token, now).await.unwrap();
        }
        recipients.push(PushRecipient { user_id, because });
    }
    let post = fixtures::post();
    let job = fixtures::job(&post, recipients);
    let (cache, posts) = (&MemoryPostCache::default(), &MemoryPosts::default());
    cache.put(&[post]).await.unwrap();
    let (inboxes, hidden) = (&MemoryInboxes::default(), &MemoryFriendships::default());
    let (devices, gateway, deliveries) = (&devices, &gateway, &deliveries);
    let (preferences, held) = (&MemoryPreferences::default(), &MemoryHeldPushes::default());
    let delivery =
        Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
    let mut tries = 0;
    while !delivery.deliver(&job, now).await.failed.is_empty() {
        tries += 1;
        assert!(tries < 20);
    }
    assert!(tries > 0, "nothing failed");
    assert_eq!(gateway.gateway.pushes().len(), 10);
    // Once more, as a queue may: nothing rings, also when the reservations have run out.
    for later in [now, time::after(now, 2 * RESERVED_SECONDS)] {
        let tally = delivery.deliver(&job, later).await;
        assert_eq!(tally, Tally { done: 10, ..Tally::default() });
    }
    assert_eq!(gateway.gateway.pushes().len(), 10);
    for PushRecipient { user_id, .. } in &job.recipients {
        let inbox = inboxes.newest(*user_id, None, 10, now).await.unwrap();
        let told =
            Notification { push: Some(Outcome::Pushed), ..Notification::new(job.post_id, because, now) };
        assert_eq!(inbox, [told], "one of each post, however often");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What the index gives, however many keys are asked and however much of it is not wanted, is what a look at every
    /// post would.
    #[test]
    fn the_newest_near_a_place_are_those_of_all_posts(
        posts in prop::collection::vec(fixtures::any_post(), 0..40),
        centre in fixtures::any_point(),
        radius_m in 50.0..100_000.0f64,
        limit in 1usize..15,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let (stored, cache) = (MemoryPosts::default(), MemoryPostCache::default());
            for outcome in stored.store(&posts).await {
                outcome.unwrap();
            }
            let circle = Circle::new(centre, radius_m).unwrap();
            let now = time::now();
            let mut expected: Vec<_> = posts
                .iter()
                .filter(|post| post.signed_distance_m(centre) <= radius_m && posts::is_listed(post, now))
                .map(|post| post.post_id)
                .collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let near = Near { circle, category: None, limit: Limit::parse(&limit.to_string()).unwrap(), before };
                let page = near.list(&stored, &cache, &stored, &HiddenPeople::new(), now).await.unwrap();
                found.extend(page.items.iter().map(|item| item.post.post_id));
                let Some(cursor) = page.next_cursor else { break };
                before = Some(Cursor::decode(&cursor, Near::scope(circle, None)).unwrap());
            }
            assert_eq!(found, expected);
        });
    }
}

/// A hundred wishes that share no place: more keys than a list may look at entries of.
#[tokio::test]
async fn many_wide_wishes_fill_a_page() {
    let town = Town::new(100).await;
    for number in 0..60u8 {
        let lon = f64::from(number) * 3.0;
        let area = Circle::new(fixtures::point(0.0, lon), 100_000.0).unwrap();
        let wish = Wish { area: Some(area), ..fixtures::wish("flood") };
        let subscription = fixtures::subscription(wish);
        town.subscriptions.add(town.reader, &subscription, &fixtures::keys(&subscription)).await.unwrap();
        for millis in 0..10 {
            let post_id = fixtures::post_id(1_000 + 10 * u64::from(number) + millis, number);
            let post = Post {
                post_id,
                category: fixtures::category("flood"),
                ..fixtures::post_at(fixtures::point(0.0, lon))
            };
            assert!(town.stored.store(&[post]).await.remove(0).is_ok());
        }
    }
    assert_eq!(town.page(None, "100").await.items.len(), 100);
    assert_eq!(town.pages("100").await.len(), 600);
}

/// Stored posts, and how many of them were asked for.
struct Counted<'a>(&'a MemoryPosts, AtomicUsize);

impl Posts for Counted<'_> {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        self.1.fetch_add(ids.len(), Ordering::Relaxed);
        self.0.get(ids).await
    }
}

/// However many alerts have come and gone since: what is listed is read, and nothing else, and a cached timeline has room for
/// it.
#[tokio::test]
async fn what_has_expired_is_not_read_and_takes_no_room() {
    let town = Town::new(25).await;
    let now = time::now();
    let mut all = posts(3_000);
    for post in &mut all[20..] {
        post.expires_at = Some(now);
    }
    assert!(town.stored.store(&all).await.iter().all(Result::is_ok));
    let listed: Vec<_> = all[..20].iter().rev().map(|post| post.post_id).collect();

    let counted = Counted(&town.stored, AtomicUsize::default());
    let Town { reader, subscriptions, stored, cache, timelines, hidden_cache, .. } = &town;
    let hidden = &MemoryFriendships::default();
    let circle = Circle::new(all[0].location.unwrap(), 1_000.0).unwrap();
    let near = Near { circle, category: None, limit: Limit::default(), before: None };
    let page = near.list(stored, &Away, &counted, &HiddenPeople::new(), now).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.post.post_id).collect::<Vec<_>>(), listed);
    assert_eq!((page.next_cursor, counted.1.swap(0, Ordering::Relaxed)), (None, 20));

    let (cold, large) = (&Away, subscriptions);
    let reading = Reading {
        timelines: cold,
        subscriptions,
        large,
        index: stored,
        cache,
        posts: &counted,
        hidden_cache,
        hidden,
    };
    let page = reading.page(*reader, None, Limit::default(), now).await.unwrap();
    assert_eq!(page.items.iter().map(|item| item.post.post_id).collect::<Vec<_>>(), listed);
    assert_eq!((page.next_cursor, counted.1.into_inner()), (None, 20));

    assert_eq!(town.pages("20").await, listed);
    let cached = timelines.page(*reader, None, 100).await.unwrap().unwrap();
    assert_eq!((cached.entries, cached.floor), (listed.clone(), timeline::WHOLE));

    // What is listed again comes back where it was left out.
    let back = all.last().unwrap();
    for expires in [None, Some(time::after(now, 3_600))] {
        let edit = Edit::new(back, vec![FieldChange::ExpiresAt(expires)], now);
        town.load_changes(&[PostChange::Edited(edit)]).await;
        assert_eq!(town.pages("20").await, [&[back.post_id], &listed[..]].concat());
    }
}

/// However much else happens there: a page has as much as there is.
#[tokio::test]
async fn a_page_is_full_though_thousands_of_other_posts_lie_between() {
    let town = Town::new(100).await;
    let area = Circle::new(fixtures::point(0.0, 0.0), 2_000.0).unwrap();
    let subscription = fixtures::subscription(Wish { area: Some(area), ..fixtures::wish("flood") });
    town.subscriptions.add(town.reader, &subscription, &fixtures::keys(&subscription)).await.unwrap();
    let post = |millis: u64, name: &str| Post {
        post_id: fixtures::post_id(1_000 + millis, 0),
        category: fixtures::category(name),
        ..fixtures::post_at(fixtures::point(0.0, 0.0))
    };
    let floods = (0..30).map(|millis| post(millis, "flood"));
    let posts: Vec<_> = floods.chain((30..10_030).map(|millis| post(millis, "traffic"))).collect();
    assert!(town.stored.store(&posts).await.iter().all(Result::is_ok));
    let page = town.page(None, "20").await;
    assert_eq!(page.items.len(), 20);
    assert_eq!(town.pages("20").await.len(), 30);
}
