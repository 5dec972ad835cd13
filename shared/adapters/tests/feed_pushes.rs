//! Who hears of an official alert that is issued to more people later: they do, once, and nobody else again.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::time::Duration;

use serde_json::json;
use tocsin_adapters::memory::{
    MemoryDeliveries, MemoryDevices, MemoryFriendships, MemoryHeldPushes, MemoryInboxes, MemoryPostCache,
    MemoryPosts, MemoryPreferences, MemoryPushGateway, MemoryPushQueue, MemoryStepQueue, MemorySubscriptions,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    area::{Area, Polygon},
    audience::{self, Sizes},
    delivery::Delivery,
    device::{self, DeviceToken, Platform},
    digest::Digesting,
    fan_out::Task,
    held_push::DigestJob,
    ids::{EditId, PostId, SubscriptionId, UserId},
    notification::Inbox as _,
    notifying::Notifying,
    place::Circle,
    post::{Post, PostKind, PostStatus, Severity},
    post_edit::{Edit, FieldChange},
    post_log::PostChange,
    posts::{PostStore as _, Posts as _},
    preferences::PreferencesEditor as _,
    push::{News, Outcome},
    subscription::{Subscription, SubscriptionEditor as _, Wish},
    time::{self, Timestamp},
};

#[derive(Default)]
struct Town {
    subscriptions: MemorySubscriptions,
    posts: MemoryPosts,
    hidden: MemoryFriendships,
    steps: MemoryStepQueue,
    jobs: MemoryPushQueue,
    devices: MemoryDevices,
    deliveries: MemoryDeliveries,
    gateway: MemoryPushGateway,
    inboxes: MemoryInboxes,
    preferences: MemoryPreferences,
    held: MemoryHeldPushes,
}

/// The evening of 10 January, in Oslo; a later one is so many minutes after it.
fn at(minute: u64) -> Timestamp {
    time::after("2026-01-10T18:00:00Z".parse().unwrap(), 60 * minute)
}

/// Within the quiet hours, and after them.
const NIGHT: u64 = 5 * 60;
const MORNING: u64 = 12 * 60 + 30;

impl Town {
    /// Somebody who follows floods so far east, in degrees, and has a phone.
    async fn person(&self, name: &str, east: f64) -> UserId {
        let (user, long_ago) = (fixtures::user(), at(0) - Duration::from_hours(1));
        let area = Some(Circle::new(fixtures::point(60.0, 5.0 + east), 1_000.0).unwrap());
        let wish = Wish { area, ..fixtures::wish("flood") };
        let keys = audience::keys_of(&wish);
        let subscription_id = SubscriptionId::new(long_ago);
        let subscription = Subscription { subscription_id, wish, created_at: long_ago, updated_at: long_ago };
        self.subscriptions.add(user, &subscription, &keys).await.unwrap();
        self.phone(user, name, long_ago).await;
        user
    }

    async fn phone(&self, owner: UserId, name: &str, now: Timestamp) {
        let token = DeviceToken { platform: Platform::Fcm, token: name.to_owned() };
        device::put(&self.devices, &self.gateway, owner, name.parse().unwrap(), token, now).await.unwrap();
    }

    /// It is quiet for somebody at night.
    async fn sleeps(&self, user: UserId) {
        let night = json!({"quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"}});
        self.preferences.put(user, &serde_json::from_value(night).unwrap()).await.unwrap();
    }

    /// Tells a change, twice, as the log may bring it; and answers which phones rang, and for what.
    async fn tell(&self, change: &PostChange, now: Timestamp) -> Vec<(String, News)> {
        let rung = self.gateway.pushes().len();
        let Self { subscriptions, posts, hidden, steps, jobs, deliveries, .. } = self;
        let (large, sizes) = (subscriptions, Sizes { part: 1, ..fixtures::SIZES });
        let (audience, told, prompt, bulk) = (subscriptions, deliveries, jobs, jobs);
        let notifying = Notifying { posts, audience, large, hidden, told, prompt, bulk, steps, sizes };
        for _ in 0..2 {
            notifying.notify(change).await.unwrap();
            while let Some(step) = steps.take() {
                let post = posts.get(&[step.post_id]).await.unwrap().pop().unwrap();
                match step.task {
                    Task::Ring { news, told_at, walk } => {
                        notifying.ring(&post, news, told_at, walk).await.unwrap();
                    }
                    Task::RingAgain { news, told_at, from } => {
                        notifying.ring_again(&post, news, told_at, from).await.unwrap();
                    }
                    Task::Load { .. } => panic!("no timeline is loaded here"),
                }
            }
            let Self { gateway, devices, preferences, held, inboxes, .. } = self;
            for job in jobs.take() {
                let cache = &MemoryPostCache::default();
                let delivery = Delivery {
                    cache,
                    posts,
                    hidden,
                    preferences,
                    held,
                    devices,
                    gateway,
                    deliveries,
                    inboxes,
                };
                let tally = delivery.deliver(&job, now).await;
                assert!(tally.failed.is_empty() && tally.put_off.is_empty());
            }
        }
        let rung = self.gateway.pushes().split_off(rung).into_iter();
        let mut rung: Vec<_> = rung.map(|(device, push)| (device.token.token, push.news)).collect();
        rung.sort();
        rung
    }

    /// A flood warning of a feed for all that is up to so far east, which is told.
    async fn warn(&self, east: f64) -> (PostId, Vec<(String, News)>) {
        let post = warning(east);
        let rung = self.tell(&PostChange::Created(Box::new(post.clone())), at(0)).await;
        (post.post_id, rung)
    }

    /// Edits a post, and tells it.
    async fn edit(&self, id: PostId, changes: Vec<FieldChange>, minute: u64) -> Vec<(String, News)> {
        let before = self.posts.get(&[id]).await.unwrap().pop().unwrap().severity;
        let raised_from = changes.iter().find_map(|change| match change {
            FieldChange::Severity(severity) if *severity > before => Some(before),
            _ => None,
        });
        let edit = Edit { post_id: id, edit_id: EditId::new(at(minute)), changes, raised_from };
        self.tell(&PostChange::Edited(edit), at(minute)).await
    }

    async fn digest(&self, user_id: UserId, now: Timestamp) -> usize {
        let Self { gateway, devices, deliveries, posts, preferences, held, inboxes, hidden, .. } = self;
        let digesting = Digesting { preferences, held, posts, hidden, devices, gateway, deliveries, inboxes };
        digesting.deliver(DigestJob { user_id }, now).await.unwrap()
    }

    /// What the inbox says of the pushes.
    async fn said(&self, owner: UserId) -> Vec<Option<Outcome>> {
        let all = self.inboxes.newest(owner, None, 10, at(MORNING)).await.unwrap();
        all.into_iter().map(|one| one.push).collect()
    }
}

fn up_to(east: f64) -> Area {
    let corners = [(59.9, 4.9), (59.9, 5.0 + east), (60.1, 5.0 + east), (60.1, 4.9)];
    let corners = corners.map(|(lat, lon)| fixtures::point(lat, lon));
    Area::new(Vec::new(), vec![Polygon::new(corners.to_vec()).unwrap()]).unwrap()
}

fn warning(east: f64) -> Post {
    Post {
        post_id: PostId::new(at(0)),
        kind: PostKind::Alert,
        category: fixtures::category("flood"),
        severity: Severity::Moderate,
        area: Some(up_to(east)),
        author: None,
        source: Some("a feed".to_owned()),
        created_at: at(0),
        updated_at: at(0),
        expires_at: None,
        ..fixtures::post_at(fixtures::point(60.0, 5.0))
    }
}

fn widened(east: f64) -> Vec<FieldChange> {
    vec![FieldChange::Area(Some(up_to(east)))]
}

fn rang(names: &[&str], news: News) -> Vec<(String, News)> {
    names.iter().map(|name| ((*name).to_owned(), news)).collect()
}

#[tokio::test]
async fn an_alert_that_is_for_more_people_rings_for_them_and_once_for_everybody() {
    let town = Town::default();
    for (name, east) in [("ada", 0.0), ("bob", 0.5), ("cid", 1.0), ("dan", 2.0)] {
        town.person(name, east).await;
    }
    let (id, rung) = town.warn(0.2).await;
    assert_eq!(rung, rang(&["ada"], News::Posted));
    assert_eq!(town.edit(id, widened(0.6), 10).await, rang(&["bob"], News::Posted));
    assert_eq!(town.edit(id, widened(0.1), 20).await, [], "those who are in it have heard of it");
    assert_eq!(town.edit(id, widened(1.1), 30).await, rang(&["cid"], News::Posted));
    let elsewhere = vec![FieldChange::Title("Flood, still".to_owned()), FieldChange::ExpiresAt(None)];
    assert_eq!(town.edit(id, elsewhere, 40).await, []);
    let over = town.edit(id, vec![FieldChange::Status(PostStatus::Resolved)], 50).await;
    assert_eq!(over, rang(&["ada", "bob", "cid"], News::Resolved));
    assert_eq!(town.edit(id, widened(2.1), 60).await, [], "it is over");
}

#[tokio::test]
async fn a_raise_rings_for_those_who_are_new_too_and_they_have_heard_of_it_then() {
    let town = Town::default();
    for (name, east) in [("ada", 0.0), ("bob", 0.5), ("cid", 1.0)] {
        town.person(name, east).await;
    }
    let (id, _) = town.warn(0.2).await;
    let severity = |severity| vec![FieldChange::Severity(severity)];
    let worse = [widened(0.6), severity(Severity::Severe)].concat();
    assert_eq!(town.edit(id, worse, 10).await, rang(&["ada", "bob"], News::Raised(Severity::Severe)));
    assert_eq!(town.edit(id, severity(Severity::Minor), 11).await, []);
    assert_eq!(town.edit(id, widened(1.1), 12).await, rang(&["cid"], News::Posted));
}

#[tokio::test]
async fn a_phone_that_came_later_is_silent_where_its_owner_has_heard_of_it() {
    let town = Town::default();
    let (ada, bob) = (town.person("ada", 0.0).await, town.person("bob", 0.5).await);
    let (id, _) = town.warn(0.2).await;
    for (user, name) in [(ada, "adas-new"), (bob, "bobs-new")] {
        town.phone(user, name, at(5)).await;
    }
    assert_eq!(town.edit(id, widened(0.6), 10).await, rang(&["bob", "bobs-new"], News::Posted));
}

#[tokio::test]
async fn at_night_it_is_held_for_those_who_are_new_and_the_others_inboxes_say_what_they_said() {
    let town = Town::default();
    let (ada, bob) = (town.person("ada", 0.0).await, town.person("bob", 0.5).await);
    let (id, _) = town.warn(0.2).await;
    for user in [ada, bob] {
        town.sleeps(user).await;
    }
    for (minute, east) in [(NIGHT, 0.6), (NIGHT + 10, 0.7)] {
        assert_eq!(town.edit(id, widened(east), minute).await, []);
    }
    assert_eq!(town.said(ada).await, [Some(Outcome::Pushed)]);
    assert_eq!(town.said(bob).await, [Some(Outcome::Held)]);
    assert_eq!((town.digest(ada, at(MORNING)).await, town.digest(bob, at(MORNING)).await), (0, 1));
    assert_eq!(town.said(ada).await, [Some(Outcome::Pushed)]);
    assert_eq!(town.said(bob).await, [Some(Outcome::Pushed)]);
    assert_eq!(town.edit(id, widened(0.8), MORNING + 1).await, []);
}

#[tokio::test]
async fn what_a_person_wrote_and_what_is_told_quietly_does_not_ring_where_it_moves() {
    let of_a_person = Post { source: None, ..warning(0.2) };
    let quiet = Post { quiet: true, ..warning(0.2) };
    for (post, rung) in [(of_a_person, vec!["ada"]), (quiet, vec![])] {
        let town = Town::default();
        for (name, east) in [("ada", 0.0), ("bob", 0.5)] {
            town.person(name, east).await;
        }
        let id = post.post_id;
        town.posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
        assert_eq!(town.tell(&PostChange::Created(Box::new(post)), at(0)).await, rang(&rung, News::Posted));
        assert_eq!(town.edit(id, widened(0.6), 10).await, []);
    }
}
