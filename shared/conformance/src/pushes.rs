//! Devices, and what was sent to them.

use std::{collections::BTreeMap, slice::from_ref, time::Duration};

use futures::future::join;
use tocsin_domain::{
    delivery_counts::{DeliveryCounter, DeliveryCounts, DeviceCounts, PeopleCounts},
    device::{Device, DeviceEditor, DeviceToken, Platform},
    ids::{PostId, SubscriptionId},
    notification::Because,
    post::Severity,
    push::{
        Delivered, Deliveries, DeliveryEraser, DeliveryReader, Endpoint, News, NewsKey, Outcome, PushKey,
        PushRecipient, REMEMBERED_SECONDS, RESERVED_SECONDS, Reservation, Told,
    },
    push_turn::PushShare,
    time::{self, Timestamp},
};

use crate::fixtures::user;

fn device(id: &str, token: &str, now: Timestamp) -> Device {
    Device {
        device_id: id.parse().unwrap(),
        token: DeviceToken { platform: Platform::Fcm, token: format!("{token}-{}", now.as_nanosecond()) },
        endpoint: Endpoint(format!("arn:aws:sns:eu-north-1:000000000000:endpoint/GCM/tocsin/{token}")),
        created_at: now,
        updated_at: now,
    }
}

/// A device is its owner's, and a token is one device's.
pub async fn devices(devices: &impl DeviceEditor) {
    let now = Timestamp::now();
    let (ada, eve) = (user(), user());
    let (phone, tablet) = (device("phone", "one", now), device("Tablet.2", "two", now));
    devices.put(ada, &phone).await.unwrap();
    devices.put(ada, &tablet).await.unwrap();
    devices.put(ada, &phone).await.unwrap();
    assert_eq!(devices.of(ada).await.unwrap(), [tablet.clone(), phone.clone()], "by id");
    assert_eq!(devices.of(eve).await.unwrap(), []);

    // Eve signs in on Ada's phone.
    devices.put(eve, &phone).await.unwrap();
    assert_eq!(devices.of(ada).await.unwrap(), from_ref(&tablet));
    assert_eq!(devices.of(eve).await.unwrap(), from_ref(&phone));
    // And the app is given another name on it.
    let renamed = Device { device_id: "phone-2".parse().unwrap(), ..phone.clone() };
    devices.put(eve, &renamed).await.unwrap();
    assert_eq!(devices.of(eve).await.unwrap(), from_ref(&renamed));

    // A new token; the old one is then free for another.
    let renewed = Device { token: device("x", "three", now).token, ..renamed.clone() };
    devices.put(eve, &renewed).await.unwrap();
    devices.put(ada, &phone).await.unwrap();
    assert_eq!(devices.of(eve).await.unwrap(), from_ref(&renewed));
    assert_eq!(devices.of(ada).await.unwrap(), [tablet, phone.clone()]);

    assert_eq!(devices.remove(ada, &renewed.device_id).await.unwrap(), None, "it is not hers");
    assert_eq!(devices.remove(eve, &renewed.device_id).await.unwrap().as_ref(), Some(&renewed));
    assert_eq!(devices.remove(eve, &renewed.device_id).await.unwrap(), None);
    devices.put(ada, &Device { device_id: "pad".parse().unwrap(), ..renewed }).await.unwrap();
    assert_eq!(devices.of(ada).await.unwrap().len(), 3);
}

/// However removing and putting meet, a token is one device's: whoever puts it next takes it from all others.
pub async fn removing_while_putting(devices: &impl DeviceEditor) {
    let (ada, eve) = (user(), user());
    for round in 0..20 {
        let phone = device("phone", &format!("round-{round}"), time::now());
        devices.put(ada, &phone).await.unwrap();
        let (removed, put) = join(devices.remove(ada, &phone.device_id), devices.put(ada, &phone)).await;
        removed.unwrap();
        put.unwrap();
        devices.put(eve, &phone).await.unwrap();
        assert_eq!(devices.of(ada).await.unwrap(), [], "round {round}");
        assert_eq!(devices.remove(eve, &phone.device_id).await.unwrap(), Some(phone));
    }
}

/// What a push finds out about a device changes it only where nobody else has.
pub async fn repairs(devices: &impl DeviceEditor) {
    let now = time::now();
    let (ada, eve) = (user(), user());
    let seen = device("phone", "four", now);
    let repaired = Device { endpoint: device("x", "five", now).endpoint, ..seen.clone() };
    assert!(!devices.repair(ada, &seen, &repaired.endpoint).await.unwrap(), "it is not there");
    assert!(!devices.remove_if(ada, &seen).await.unwrap(), "it is not there");
    assert_eq!(devices.of(ada).await.unwrap(), []);

    devices.put(ada, &seen).await.unwrap();
    assert!(!devices.repair(eve, &seen, &repaired.endpoint).await.unwrap(), "it is not hers");
    assert!(devices.repair(ada, &seen, &repaired.endpoint).await.unwrap());
    assert_eq!(devices.of(ada).await.unwrap(), from_ref(&repaired));
    assert!(!devices.remove_if(ada, &seen).await.unwrap(), "it has another endpoint");
    assert!(!devices.remove_if(eve, &repaired).await.unwrap(), "it is not hers");

    let again = Device { updated_at: time::after(now, 1), ..repaired.clone() };
    devices.put(ada, &again).await.unwrap();
    assert!(!devices.remove_if(ada, &repaired).await.unwrap(), "it was put again, with the same token");
    let renewed = Device { token: device("x", "six", now).token, ..again.clone() };
    devices.put(ada, &renewed).await.unwrap();
    assert!(!devices.remove_if(ada, &again).await.unwrap(), "it has another token");
    assert!(!devices.repair(ada, &again, &seen.endpoint).await.unwrap(), "it has another token");
    assert_eq!(devices.of(ada).await.unwrap(), from_ref(&renewed));
    assert!(devices.remove_if(ada, &renewed).await.unwrap());
    assert_eq!(devices.of(ada).await.unwrap(), []);

    // The token is free again, and taken from one by another.
    devices.put(eve, &renewed).await.unwrap();
    devices.put(ada, &renewed).await.unwrap();
    assert!(!devices.repair(eve, &renewed, &seen.endpoint).await.unwrap());
    assert!(!devices.remove_if(eve, &renewed).await.unwrap());
    assert_eq!(devices.of(ada).await.unwrap(), [renewed]);
}

/// Shares, of ten pushes a second, begin one after the other, and none far ahead.
pub async fn share(share: &impl PushShare) {
    let is_in = async |pushes, seconds: u64| {
        let Some(wait) = share.take(pushes).await.unwrap() else { panic!("it is not taken") };
        let early = Duration::from_secs(seconds).saturating_sub(wait);
        assert!(wait <= Duration::from_secs(seconds) && early < Duration::from_secs(1), "{wait:?}");
    };
    is_in(50, 0).await;
    is_in(10, 5).await;
    is_in(7_300, 6).await;
    assert_eq!(share.take(1).await.unwrap(), None, "its turn is later than that");
}

/// A push is one try's at a time, and once done it stays so.
pub async fn deliveries(deliveries: &impl Deliveries) {
    let now = time::now();
    let (post_id, news) = (PostId::new(now), News::Posted);
    let push = PushKey { post_id, news, user_id: user(), device_id: "phone".parse().unwrap() };
    let other = PushKey { device_id: "pad".parse().unwrap(), ..push.clone() };
    let later_news = PushKey { news: News::Raised(Severity::Extreme), ..push.clone() };
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    let reserve = async |push: &PushKey, at| deliveries.reserve(push, because, at).await.unwrap();
    assert_eq!(reserve(&push, now).await, Reservation::Ours);
    assert_eq!(reserve(&push, now).await, Reservation::Held);
    assert_eq!(reserve(&other, now).await, Reservation::Ours, "each device has its own");
    assert_eq!(reserve(&later_news, now).await, Reservation::Ours, "and so has each news");
    deliveries.release(&push).await.unwrap();
    deliveries.release(&push).await.unwrap();
    assert_eq!(reserve(&push, now).await, Reservation::Ours);
    let later = time::after(now, RESERVED_SECONDS);
    assert_eq!(reserve(&push, later).await, Reservation::Ours, "a reservation runs out");
    deliveries.record(&push, because, Outcome::Pushed, later).await.unwrap();
    assert_eq!(reserve(&push, later).await, Reservation::Done);
    deliveries.release(&push).await.unwrap();
    assert_eq!(reserve(&push, time::after(later, 3_600)).await, Reservation::Done, "what is done stays done");
}

/// What became of a person's pushes of a post is read, and erased, by the two.
pub async fn delivered(deliveries: &(impl Deliveries + DeliveryReader + DeliveryEraser)) {
    let now = time::now();
    let (ada, eve, post_id) = (user(), user(), PostId::new(now));
    let key = |user_id, post_id, device: &str| PushKey {
        post_id,
        news: News::Posted,
        user_id,
        device_id: device.parse().unwrap(),
    };
    let of = async |owner, at| deliveries.of(owner, post_id, at).await.unwrap();
    assert_eq!(of(ada, now).await, []);
    let subscribed = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    let shared = Because::Shared { shared_by: eve };
    let later = time::after(now, 60);
    let expected = [("Pad", shared, Outcome::DeviceGone, later), ("phone", subscribed, Outcome::Pushed, now)];
    for (device, because, outcome, at) in expected {
        let push = key(ada, post_id, device);
        assert_eq!(deliveries.reserve(&push, because, at).await.unwrap(), Reservation::Ours);
        deliveries.record(&push, because, outcome, at).await.unwrap();
    }
    let reserved = key(ada, post_id, "watch");
    assert_eq!(deliveries.reserve(&reserved, shared, now).await.unwrap(), Reservation::Ours);
    let (eves, another) = (key(eve, post_id, "phone"), key(ada, PostId::new(now), "phone"));
    for push in [&eves, &another] {
        deliveries.record(push, subscribed, Outcome::Pushed, now).await.unwrap();
    }
    let expected = expected.map(|(device, because, outcome, recorded_at)| Delivered {
        device_id: Some(device.parse().unwrap()),
        news: News::Posted,
        because,
        outcome,
        recorded_at,
    });
    assert_eq!(of(ada, later).await, expected, "by device; nothing has become of the third yet");
    // What is said of her, and not of a device; of what is said of another nothing is hers.
    let news = NewsKey { post_id, news: News::Resolved, user_id: ada };
    for (outcome, at) in [(Outcome::Held, now), (Outcome::Dropped, later)] {
        deliveries.note(&news, shared, outcome, at).await.unwrap();
        deliveries.note(&NewsKey { user_id: user(), ..news }, shared, outcome, at).await.unwrap();
        let noted =
            Delivered { device_id: None, news: News::Resolved, because: shared, outcome, recorded_at: at };
        assert_eq!(of(ada, later).await, [&[noted][..], &expected[..]].concat());
    }
    let expected = [of(ada, later).await, expected.to_vec()].concat();
    let expected = &expected[..3];
    let expired = time::after(now, REMEMBERED_SECONDS + 1);
    assert_eq!(of(ada, expired).await, expected[..2], "the other has expired");

    for _ in 0..2 {
        deliveries.erase(ada, post_id).await.unwrap();
        assert_eq!(of(ada, now).await, []);
    }
    assert_eq!(
        deliveries.reserve(&reserved, shared, now).await.unwrap(),
        Reservation::Ours,
        "it was free again"
    );
    assert_eq!(of(eve, now).await.len(), 1, "nobody else's");
    assert_eq!(deliveries.of(ada, another.post_id, now).await.unwrap().len(), 1, "and no other post's");
}

/// What became of the pushes of a post is counted, each as it stands, whoever's they are.
pub async fn counted(deliveries: &(impl Deliveries + DeliveryCounter)) {
    let now = time::now();
    let (post_id, because) =
        (PostId::new(now), Because::Subscription { subscription_id: SubscriptionId::new(now) });
    let news = News::Raised(Severity::Severe);
    let count = async |at| deliveries.count(post_id, at).await.unwrap();
    assert_eq!(count(now).await, BTreeMap::new());
    let outcomes = [Outcome::Pushed, Outcome::Pushed, Outcome::Digested, Outcome::DeviceGone];
    let devices = || PushKey { post_id, news, user_id: user(), device_id: "phone".parse().unwrap() };
    for outcome in outcomes {
        deliveries.record(&devices(), because, outcome, now).await.unwrap();
    }
    // Enough of them to be everywhere, two of which fail; and one of those comes to something.
    let under_way: Vec<_> = (0..40).map(|_| devices()).collect();
    for push in &under_way {
        deliveries.reserve(push, because, now).await.unwrap();
    }
    deliveries.release(&under_way[0]).await.unwrap();
    deliveries.release(&under_way[1]).await.unwrap();
    assert_eq!(deliveries.reserve(&under_way[1], because, now).await.unwrap(), Reservation::Ours);
    deliveries.record(&under_way[1], because, Outcome::Pushed, now).await.unwrap();
    let why =
        [Outcome::NoDevice, Outcome::Held, Outcome::MutedSeverity, Outcome::MutedCategory, Outcome::Dropped];
    let people: Vec<_> = (0..6).map(|_| NewsKey { post_id, news, user_id: user() }).collect();
    for (news, outcome) in people.iter().zip(why.into_iter().cycle()) {
        deliveries.note(news, because, outcome, now).await.unwrap();
    }
    // What is said later is said in the place of what was said before.
    deliveries.note(&people[1], because, Outcome::Digested, now).await.unwrap();
    let posted = PushKey { news: News::Posted, ..devices() };
    deliveries.record(&posted, because, Outcome::Pushed, now).await.unwrap();
    let others = PushKey { post_id: PostId::new(now), ..devices() };
    deliveries.record(&others, because, Outcome::Pushed, now).await.unwrap();

    let raised = DeliveryCounts {
        devices: DeviceCounts { pushed: 3, digested: 1, device_gone: 1, under_way: 38, failed: 1 },
        people: PeopleCounts { muted_severity: 1, muted_category: 1, no_device: 2, held: 0, dropped: 1 },
    };
    let mut first = DeliveryCounts::default();
    first.devices.pushed = 1;
    assert_eq!(count(now).await, BTreeMap::from([(News::Posted, first), (news, raised)]));
    // Whoever has reserved them so long ago does not send them any more.
    let late = count(time::after(now, RESERVED_SECONDS)).await[&news];
    assert_eq!((late.devices.under_way, late.devices.failed), (0, 39));
    let later = count(time::after(now, REMEMBERED_SECONDS + 1)).await;
    assert!(later.values().all(|counts| counts.devices.pushed == 0), "they have expired: {later:?}");
}

/// Who was told of a post is found by it, also who is just being told, and not whose device was gone.
pub async fn told(deliveries: &(impl Deliveries + Told)) {
    let now = time::now();
    let (post_id, because) =
        (PostId::new(now), Because::Subscription { subscription_id: SubscriptionId::new(now) });
    let key =
        |user_id, news, device: &str| PushKey { post_id, news, user_id, device_id: device.parse().unwrap() };
    let [ada, bob, cleo, eve] = [(); 4].map(|()| user());
    for (push, outcome) in [
        (key(ada, News::Posted, "phone"), Some(Outcome::Pushed)),
        (key(ada, News::Posted, "pad"), Some(Outcome::Pushed)),
        (key(ada, News::Raised(Severity::Severe), "phone"), Some(Outcome::DeviceGone)),
        (key(bob, News::Posted, "phone"), Some(Outcome::DeviceGone)),
        (key(cleo, News::Posted, "phone"), None),
        (key(cleo, News::Posted, "pad"), None),
    ] {
        deliveries.reserve(&push, because, now).await.unwrap();
        if let Some(outcome) = outcome {
            deliveries.record(&push, because, outcome, now).await.unwrap();
        }
    }
    // Whom it was tried to tell was not told.
    deliveries.release(&key(cleo, News::Posted, "pad")).await.unwrap();
    let others = PushKey { post_id: PostId::new(now), ..key(eve, News::Posted, "phone") };
    deliveries.reserve(&others, because, now).await.unwrap();
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let (told, next) = deliveries.told(post_id, from, 2).await.unwrap();
        assert!(told.len() <= 2);
        all.extend(told);
        from = next;
        if from.is_none() {
            break;
        }
    }
    let mut expected = [ada, ada, cleo].map(|user_id| PushRecipient { user_id, because });
    expected.sort_by_key(|one| one.user_id);
    all.sort_by_key(|one| one.user_id);
    assert_eq!(all, expected);
}
