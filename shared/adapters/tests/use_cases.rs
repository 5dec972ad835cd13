//! The use cases over the adapters in memory, where one of their neighbours is away, or fails in the middle, or where two of
//! them come at once.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{future::maybe_done, pending, poll};
use proptest::prelude::*;
use tocsin_adapters::memory::{
    MemoryDeliveries, MemoryDevices, MemoryFriendships, MemoryHeldPushes, MemoryHiddenCache, MemoryInboxes,
    MemoryMailer, MemoryPostCache, MemoryPosts, MemoryPreferences, MemoryPushGateway, MemoryRateLimiter,
    MemorySessions, MemoryStepQueue, MemorySubscriptions, MemoryTimelines, MemoryUsers,
};
use tocsin_conformance::{
    fixtures,
    people::{join, person},
};
use tocsin_domain::{
    Error, Result,
    access_token::TokenSigner,
    account::Account,
    audience::{AudienceKey, Sizes},
    cursor::{Cursor, Limit, Page},
    delivery::{Delivery, Tally},
    device::{self, Device, DeviceId, DeviceToken, Platform},
    digest::Digest,
    friendship::{Hidden, HiddenCache, HiddenPeople},
    ids::{PostId, SessionId, UserId},
    large_audience::{LargeKey, LargeKeys},
    notification::{Because, Inbox as _, Notification},
    password::{Password, PasswordHash, PasswordMark},
    password_change::{self, PasswordChange, PasswordEditor},
    place::Circle,
    post::Post,
    post_log::PostChange,
    posts::{self, Near, PlaceEntry, PlaceIndex, PlaceKey, PostCache as _, PostStore as _, Posts},
    push::{Endpoint, Outcome, Published, Push, PushGateway, PushRecipient, RESERVED_SECONDS},
    secret::SecretHash,
    session::{
        self, AccountReader, Origin, Session, SessionKeeper, SessionPasswords, SessionToken, Sessions, Tokens,
    },
    subscription::{Subscription, SubscriptionEditor as _, Subscriptions, Wish},
    time::{self, Timestamp},
    timeline::{self, Reading, TimelineItem, Timelines},
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
        let (stored, audience) = (&self.stored, &self.subscriptions);
        let (timelines, cache) = (&self.timelines, &self.cache);
        let (queue, sizes) = (&self.steps, Sizes { part: 1_000, ..fixtures::SIZES });
        let loading = Loading { posts: stored, audience, large: audience, timelines, cache, queue, sizes };
        let created: Vec<_> = posts.iter().cloned().map(|post| PostChange::Created(Box::new(post))).collect();
        for outcome in loading.load(&created).await {
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
    while delivery.deliver(&job, now).await.failed > 0 {
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
                .filter(|post| circle.contains(post.location) && posts::is_listed(post, now))
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

/// Accounts whose passwords are set, and then set again, since the answer was lost.
struct AnswersLost(MemoryUsers);

impl AccountReader for AnswersLost {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        self.0.get(id).await
    }
}

impl PasswordEditor for AnswersLost {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        self.0.set_password(id, old, new).await?;
        self.0.set_password(id, old, new).await
    }
}

/// A port of which each call begins only when whoever waits for it is polled again: so that others come in between.
struct InSteps<T>(T);

impl AccountReader for InSteps<MemoryUsers> {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        pending!();
        self.0.get(id).await
    }
}

impl PasswordEditor for InSteps<MemoryUsers> {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        pending!();
        self.0.set_password(id, old, new).await
    }
}

impl Sessions for InSteps<MemorySessions> {
    async fn begin(&self, session: &Session) -> Result<()> {
        pending!();
        self.0.begin(session).await
    }

    async fn get(&self, owner: UserId, id: SessionId, now: Timestamp) -> Result<Option<Session>> {
        pending!();
        self.0.get(owner, id, now).await
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        pending!();
        self.0.rotate(old, new).await
    }
}

impl SessionKeeper for InSteps<MemorySessions> {
    async fn of(&self, owner: UserId, now: Timestamp) -> Result<Vec<Session>> {
        pending!();
        self.0.of(owner, now).await
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<bool> {
        pending!();
        self.0.end(owner, id).await
    }
}

impl SessionPasswords for InSteps<MemorySessions> {
    async fn keep_for(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        pending!();
        self.0.keep_for(owner, id, password).await
    }

    async fn forget(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        pending!();
        self.0.forget(owner, id, password).await
    }
}

/// Does both, one call of a port after the other: each of `after` is a call of the second, and how many calls of the first come
/// before it. What is left is done in the end, the first before the second.
async fn in_turn<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
    after: &[usize],
) -> (A, B) {
    let (mut first, mut second) = (pin!(maybe_done(first)), pin!(maybe_done(second)));
    // As far as the first call of each.
    let _ = (poll!(first.as_mut()), poll!(second.as_mut()));
    let mut calls = 0;
    for place in after {
        for _ in calls..*place {
            let _ = poll!(first.as_mut());
        }
        calls = *place;
        let _ = poll!(second.as_mut());
    }
    while poll!(first.as_mut()).is_pending() {}
    while poll!(second.as_mut()).is_pending() {}
    (first.take_output().unwrap(), second.take_output().unwrap())
}

/// Somebody with a password, and a session.
struct SignedIn {
    users: InSteps<MemoryUsers>,
    sessions: InSteps<MemorySessions>,
    signer: TokenSigner,
    account: Account,
    tokens: Tokens,
}

const PASSWORD: &str = "harbour lantern eleven";

impl SignedIn {
    /// With the hash of [`PASSWORD`], which was not the first in this session.
    async fn new(password: &PasswordHash) -> Self {
        let (users, sessions) = (MemoryUsers::default(), MemorySessions::default());
        let before = PasswordHash("$argon2id$before".to_owned());
        let account = join(&users, &person("ada"), Some(before.clone())).await;
        let (signer, origin) = (fixtures::token_signer(), Origin::new(None, "192.0.2.1"));
        let tokens = session::begin(&sessions, &signer, &account, &origin, time::now()).await.unwrap();
        let session = sessions.of(account.user_id, time::now()).await.unwrap().remove(0);
        sessions.keep_for(account.user_id, session.session_id, &password.mark()).await.unwrap();
        assert!(users.set_password(account.user_id, &before, password).await.unwrap());
        Self { users: InSteps(users), sessions: InSteps(sessions), signer, account, tokens }
    }

    async fn renew(&self, tokens: &Tokens) -> Result<Tokens> {
        let token = SessionToken::decode(&tokens.session_token).unwrap();
        let Self { users, sessions, signer, .. } = self;
        let origin = Origin::new(None, "192.0.2.1");
        session::renew(sessions, users, signer, &token, &origin, time::now()).await
    }

    async fn change_password(&self, new: &str) -> Result<()> {
        let change = serde_json::json!({"current_password": PASSWORD, "new_password": new});
        let change = PasswordChange::from_json(&change).unwrap();
        let (mailer, limiter) = (MemoryMailer::default(), MemoryRateLimiter::default());
        let caller = fixtures::token_verifier().verify(&self.tokens.access_token).unwrap();
        let Self { users, sessions, .. } = self;
        password_change::change(users, sessions, &mailer, &limiter, &caller, &change, time::now()).await
    }

    /// The session is good, and remembers one password that was chosen in it.
    async fn must_be_kept(&self, tokens: &Tokens) {
        let ((), tokens) = in_turn(async {}, self.renew(tokens), &[]).await;
        tokens.unwrap();
        let sessions = self.sessions.0.of(self.account.user_id, time::now()).await.unwrap();
        let account = self.users.0.get(self.account.user_id).await.unwrap().unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].kept_for, [account.password_mark().unwrap()]);
    }
}

fn hash_of(password: &str) -> PasswordHash {
    Password::read(&password.into()).unwrap().hash().unwrap()
}

/// How many calls a change makes: it reads the account, keeps the session, sets the password, forgets the one before, and looks
/// for other sessions.
const CALLS_OF_CHANGE: usize = 5;

#[tokio::test]
async fn a_session_is_kept_through_a_change_of_the_password_whenever_it_is_renewed() {
    let password = hash_of(PASSWORD);
    // A renewal reads the account and the session, and exchanges the token.
    for first in 0..=CALLS_OF_CHANGE {
        for second in first..=CALLS_OF_CHANGE {
            for third in second..=CALLS_OF_CHANGE {
                let ada = SignedIn::new(&password).await;
                let (change, renewal) =
                    (ada.change_password("window copper thirteen"), ada.renew(&ada.tokens));
                let (changed, renewed) = in_turn(change, renewal, &[first, second, third]).await;
                changed.unwrap();
                let renewed = renewed.unwrap_or_else(|error| panic!("{first} {second} {third}: {error}"));
                ada.must_be_kept(&renewed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_password_is_changed_also_where_the_answer_to_that_is_lost() {
    let ada = SignedIn::new(&hash_of(PASSWORD)).await;
    let change = serde_json::json!({"current_password": PASSWORD, "new_password": "window copper thirteen"});
    let change = PasswordChange::from_json(&change).unwrap();
    let (mailer, limiter) = (MemoryMailer::default(), MemoryRateLimiter::default());
    let caller = fixtures::token_verifier().verify(&ada.tokens.access_token).unwrap();
    let (users, sessions) = (AnswersLost(ada.users.0.clone()), &ada.sessions.0);
    password_change::change(&users, sessions, &mailer, &limiter, &caller, &change, time::now())
        .await
        .unwrap();
    ada.must_be_kept(&ada.tokens).await;
}

#[tokio::test]
async fn of_two_changes_in_one_session_one_is_made_and_the_session_is_kept() {
    let password = hash_of(PASSWORD);
    for place in 0..=CALLS_OF_CHANGE {
        // The second change begins before, and does the rest all at once, or call by call.
        for after in [[0, place, place, place, place], [0, 0, place, place + 1, place + 2]] {
            let ada = SignedIn::new(&password).await;
            let changes = (
                ada.change_password("window copper thirteen"),
                ada.change_password("bicycle meadow seventeen"),
            );
            let (one, other) = in_turn(changes.0, changes.1, &after).await;
            assert_ne!(one.is_ok(), other.is_ok(), "{after:?}: {one:?} {other:?}");
            ada.must_be_kept(&ada.tokens).await;
        }
    }
}
