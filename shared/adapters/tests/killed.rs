//! Consumers that are killed at any use of a port, and get their work again: what comes of it is what would have without.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tocsin_adapters::memory::{
    MemoryDeliveries, MemoryDevices, MemoryFriendships, MemoryHeldPushes, MemoryHiddenCache, MemoryInboxes,
    MemoryPostCache, MemoryPosts, MemoryPreferences, MemoryPushGateway, MemoryPushQueue, MemoryStepQueue,
    MemorySubscriptions, MemoryTimelines, until_killed,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    audience::{self, Sizes},
    cursor::Limit,
    delivery::Delivery,
    device::{self, DeviceId, DeviceToken, Platform},
    fan_out::{Step, Task},
    ids::{PostId, UserId},
    notifying::Notifying,
    post::{Author, Post, PostStatus, Severity},
    post_edit::{Edit, FieldChange},
    post_log::{Deletion, PostChange},
    posts::{self, Posts as _},
    push::{News, PushJob, PushKey, RESERVED_SECONDS},
    subscription::{SubscriptionEditor as _, Wish},
    time::{self, Timestamp},
    timeline::Reading,
    timeline_loading::Loading,
};

/// How many seeds are tried. Each is some milliseconds.
const SEEDS: u64 = 300;
/// Small parts, so that each audience has several.
const SIZES: Sizes = Sizes { large_key: usize::MAX, part: 2 };
/// Who dies does so before they have used ports so many times.
const MOST_USES: usize = 30;

#[derive(Default)]
struct Town {
    subscriptions: MemorySubscriptions,
    stored: MemoryPosts,
    cache: MemoryPostCache,
    timelines: MemoryTimelines,
    hidden_cache: MemoryHiddenCache,
    hidden: MemoryFriendships,
    steps: MemoryStepQueue,
    jobs: MemoryPushQueue,
    devices: MemoryDevices,
    deliveries: MemoryDeliveries,
    gateway: MemoryPushGateway,
    inboxes: MemoryInboxes,
    preferences: MemoryPreferences,
    held: MemoryHeldPushes,
    readers: Vec<(UserId, Vec<Wish>)>,
    deaths: Cell<usize>,
    /// How often more than once a device may have rung: its push was taken, and who sent it died before writing that down.
    unknown: BTreeMap<(PostId, News, UserId), usize>,
}

fn phone() -> DeviceId {
    "phone".parse().unwrap()
}

impl Town {
    async fn with_readers(chance: &mut StdRng) -> Self {
        let cache = MemoryPostCache::default();
        let mut town = Self { timelines: MemoryTimelines::over(&cache), cache, ..Self::default() };
        let long_ago = time::now() - std::time::Duration::from_hours(1);
        for number in 0..6 {
            let user = fixtures::user();
            let mut wishes = Vec::new();
            for _ in 0..chance.random_range(1..3) {
                let category = ["fire", "flood"].choose(chance).unwrap();
                let least = chance.random_bool(0.3).then_some(Severity::Severe);
                let wish =
                    Wish { min_severity: least, push: chance.random_bool(0.8), ..fixtures::wish(category) };
                let mut subscription = fixtures::subscription(wish.clone());
                (subscription.created_at, subscription.updated_at) = (long_ago, long_ago);
                let keys = audience::keys_of(&wish);
                town.subscriptions.add(user, &subscription, &keys).await.unwrap();
                wishes.push(wish);
            }
            let token = DeviceToken { platform: Platform::Fcm, token: format!("token-{number}") };
            device::put(&town.devices, &town.gateway, user, phone(), token, long_ago).await.unwrap();
            town.readers.push((user, wishes));
            if chance.random_bool(0.7) {
                assert_eq!(town.read(user).await, []);
            }
        }
        town
    }

    async fn read(&self, reader: UserId) -> Vec<Post> {
        let Self { subscriptions, stored, cache, timelines, hidden_cache, hidden, .. } = self;
        let (index, posts, large) = (stored, stored, subscriptions);
        let reading = Reading { timelines, subscriptions, large, index, cache, posts, hidden_cache, hidden };
        let page = reading.page(reader, None, Limit::parse("100").unwrap(), time::now()).await.unwrap();
        assert_eq!(page.next_cursor, None);
        page.items.into_iter().map(|item| item.post).collect()
    }

    async fn ingest(&self, change: &PostChange) {
        posts::ingest(&self.stored, std::slice::from_ref(change)).await.pop().unwrap().unwrap();
    }

    async fn load(&self, change: &PostChange) {
        self.loading().load(std::slice::from_ref(change)).await.pop().unwrap().unwrap();
    }

    async fn notify(&self, change: &PostChange) {
        self.notifying().notify(change).await.unwrap();
    }

    async fn go_on(&self, step: &Step) {
        let Some(post) = self.stored.get(&[step.post_id]).await.unwrap().pop() else { return };
        match step.task.clone() {
            Task::Load { walk } => drop(self.loading().go_on(post, walk).await.unwrap()),
            Task::Ring { news, told_at, walk } => {
                self.notifying().ring(&post, news, told_at, walk).await.unwrap();
            }
            Task::RingAgain { news, told_at, from } => {
                self.notifying().ring_again(&post, news, told_at, from).await.unwrap();
            }
        }
    }

    /// Answers whether the job is done: if nobody failed, and nobody is put off.
    async fn deliver(&self, job: &PushJob, now: Timestamp) -> bool {
        let Self { cache, stored, hidden, preferences, held, devices, gateway, deliveries, inboxes, .. } =
            self;
        let posts = stored;
        let delivery =
            Delivery { cache, posts, hidden, preferences, held, devices, gateway, deliveries, inboxes };
        let tally = delivery.deliver(job, now).await;
        tally.failed.is_empty() && tally.put_off.is_empty()
    }

    fn loading(
        &self,
    ) -> Loading<
        '_,
        MemoryPosts,
        MemorySubscriptions,
        MemorySubscriptions,
        MemoryTimelines,
        MemoryPostCache,
        MemoryStepQueue,
    > {
        let (posts, audience, large) = (&self.stored, &self.subscriptions, &self.subscriptions);
        let (timelines, cache, queue) = (&self.timelines, &self.cache, &self.steps);
        Loading { posts, audience, large, timelines, cache, queue, sizes: SIZES }
    }

    fn notifying(
        &self,
    ) -> Notifying<
        '_,
        MemoryPosts,
        MemorySubscriptions,
        MemorySubscriptions,
        MemoryFriendships,
        MemoryDeliveries,
        MemoryPushQueue,
        MemoryStepQueue,
    > {
        let (posts, audience, large) = (&self.stored, &self.subscriptions, &self.subscriptions);
        let (hidden, told, queue, steps) = (&self.hidden, &self.deliveries, &self.jobs, &self.steps);
        Notifying { posts, audience, large, hidden, told, prompt: queue, bulk: queue, steps, sizes: SIZES }
    }

    /// A consumer gets its work until it has lived to its end, and sometimes once more.
    async fn consume<T>(&self, chance: &mut StdRng, work: impl AsyncFn(&Self) -> T) {
        let mut tries = 0;
        loop {
            let lived = until_killed(lifetime(chance, tries), work(self)).await.is_some();
            self.deaths.update(|deaths| deaths + usize::from(!lived));
            if lived && chance.random_bool(0.8) {
                return;
            }
            tries += 1;
        }
    }

    /// Does what is queued, in any order, until nothing is. Who delivers and dies is followed by another when what they held
    /// is free again; meanwhile `now` passes.
    async fn rest(&mut self, chance: &mut StdRng, now: &mut Timestamp) {
        loop {
            if let Some(step) = self.steps.take() {
                self.consume(chance, async |town: &Self| town.go_on(&step).await).await;
                continue;
            }
            let jobs = self.jobs.take();
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let mut tries = 0;
                loop {
                    let before = self.gateway.pushes().len();
                    let done = until_killed(lifetime(chance, tries), self.deliver(&job, *now)).await;
                    tries += 1;
                    if done.is_none() {
                        self.deaths.update(|deaths| deaths + 1);
                        self.note_unknown(before);
                    }
                    if done == Some(true) && chance.random_bool(0.8) {
                        break;
                    }
                    assert!(tries < 50);
                    *now = time::after(*now, RESERVED_SECONDS + 1);
                }
            }
        }
    }

    fn note_unknown(&mut self, before: usize) {
        let readers: BTreeSet<_> = self.readers.iter().map(|(user, _)| *user).collect();
        for (device, push) in self.gateway.pushes().split_off(before) {
            let number: usize = device.token.token.trim_start_matches("token-").parse().unwrap();
            let (user_id, _) = self.readers[number];
            assert!(readers.contains(&user_id));
            let (post_id, news, device_id) = (push.post.post_id, push.news, device.device_id);
            if self.deliveries.outcome(&PushKey { post_id, news, user_id, device_id }).is_none() {
                *self.unknown.entry((post_id, news, user_id)).or_default() += 1;
            }
        }
    }
}

/// After how many uses of ports it dies; who has died often lives.
fn lifetime(chance: &mut StdRng, tries: usize) -> usize {
    if tries < 4 && chance.random_bool(0.6) { chance.random_range(0..MOST_USES) } else { usize::MAX }
}

/// What may happen to a post, whatever has happened to it.
fn later(post: &Post, chance: &mut StdRng) -> PostChange {
    let taken = match chance.random_range(0..9) {
        0 | 1 => FieldChange::Severity(Severity::Severe),
        2 => FieldChange::Severity(Severity::Extreme),
        3 => FieldChange::Severity(Severity::Minor),
        4 | 5 => FieldChange::Category(fixtures::category("flood")),
        6 => FieldChange::Category(fixtures::category("fire")),
        7 => FieldChange::Status(PostStatus::Resolved),
        _ => {
            return PostChange::Deleted(Deletion { post_id: post.post_id, deleted_at: time::now() });
        }
    };
    PostChange::Edited(Edit::new(post, vec![taken], time::now()))
}

#[tokio::test]
async fn whoever_dies_at_whatever_use_of_a_port_nothing_is_lost_and_nothing_known_is_done_twice() {
    let (mut deaths, mut unknown) = (0, 0);
    for seed in 0..SEEDS {
        let mut chance = StdRng::seed_from_u64(seed);
        let mut town = Town::with_readers(&mut chance).await;
        let (author, mut now) = (fixtures::user(), time::now());
        let (mut ids, mut audience) = (Vec::new(), Vec::<(PostId, News, UserId)>::new());
        for number in 0..4 {
            let author = Author { user_id: author, username: "author".to_owned() };
            let is_of_a_feed = chance.random_bool(0.5);
            let post = Post {
                author: (!is_of_a_feed).then_some(author),
                source: is_of_a_feed.then(|| "a feed".to_owned()),
                title: format!("Post {number}"),
                category: fixtures::category("fire"),
                severity: Severity::Minor,
                ..fixtures::post()
            };
            ids.push(post.post_id);
            let mut next = Some(PostChange::Created(Box::new(post.clone())));
            // All is done before it changes, so that nobody misses news that are old by then.
            while let Some(change) = next {
                for consumer in chance_order(&mut chance) {
                    town.consume(&mut chance, async |town: &Town| match consumer {
                        0 => town.ingest(&change).await,
                        1 => town.load(&change).await,
                        _ => town.notify(&change).await,
                    })
                    .await;
                }
                town.rest(&mut chance, &mut now).await;
                let told: BTreeSet<_> =
                    audience.iter().filter(|one| one.0 == post.post_id).map(|one| one.2).collect();
                audience.extend(who_rings(&town, &change, &told).await);
                let as_it_is = town.stored.get(&[post.post_id]).await.unwrap().pop();
                next = as_it_is.filter(|_| chance.random_bool(0.6)).map(|post| later(&post, &mut chance));
            }
        }

        let stored = town.stored.get(&ids).await.unwrap();
        for (reader, wishes) in &town.readers {
            let mut expected: Vec<Post> = stored.clone();
            expected.retain(|post| wishes.iter().any(|wish| wish.matches(post)));
            expected.sort_by_key(|post| std::cmp::Reverse(post.post_id));
            assert_eq!(town.read(*reader).await, expected, "seed {seed}");
        }
        let mut rung = BTreeMap::<(PostId, News, UserId), usize>::new();
        for (device, push) in town.gateway.pushes() {
            let number: usize = device.token.token.trim_start_matches("token-").parse().unwrap();
            *rung.entry((push.post.post_id, push.news, town.readers[number].0)).or_default() += 1;
        }
        let who: BTreeSet<_> = rung.keys().copied().collect();
        assert_eq!(who, audience.into_iter().collect(), "seed {seed}");
        for (key, times) in rung {
            let unknown = town.unknown.get(&key).copied().unwrap_or_default();
            assert!(times <= 1 + unknown, "seed {seed}: {key:?} {times} times, {unknown} of them unknown");
        }
        deaths += town.deaths.get();
        unknown += town.unknown.len();
    }
    // It is not for want of trying.
    assert!(
        deaths > 5 * usize::try_from(SEEDS).unwrap() && unknown > 10,
        "{deaths} deaths, {unknown} of them at the worst time"
    );
}

/// The consumers in any order: they do not wait for each other.
fn chance_order(chance: &mut StdRng) -> [usize; 3] {
    *[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].choose(chance).unwrap()
}

/// Whose phones ring for a change, where these have been told of the post.
async fn who_rings(town: &Town, change: &PostChange, told: &BTreeSet<UserId>) -> Vec<(PostId, News, UserId)> {
    let Some(post) = town.stored.get(&[change.post_id()]).await.unwrap().pop() else { return Vec::new() };
    let news = match change {
        PostChange::Created(_) => Some(News::Posted),
        PostChange::Edited(edit) => News::of(edit, &post),
        PostChange::Deleted(_) => None,
    };
    let Some(news) = news.filter(|news| news.holds(&post)) else { return Vec::new() };
    let rings = |(user, wishes): &&(UserId, Vec<Wish>)| {
        let follows = || wishes.iter().any(|wish| wish.push && wish.matches(&post));
        match news {
            News::Posted => follows() && !told.contains(user),
            News::Raised(_) => follows(),
            News::Resolved | News::Cancelled => told.contains(user),
        }
    };
    town.readers.iter().filter(rings).map(|(user, _)| (post.post_id, news, *user)).collect()
}
