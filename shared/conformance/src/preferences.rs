//! Notification preferences, and what is held by them.

use tocsin_domain::{
    held_push::{
        DigestSchedule, HeldPush, HeldPushEraser, HeldPushRescheduler, HeldPushes, LIFETIME_SECONDS, Minute,
    },
    ids::{PostId, SubscriptionId},
    notification::Because,
    post::Severity,
    preferences::{self, Preferences, PreferencesEditor, PreferencesReader},
    push::News,
    time::{self, Timestamp},
};

use crate::fixtures::user;

/// Preferences are their owner's, and the last that were put hold.
pub async fn preferences(table: &(impl PreferencesReader + PreferencesEditor)) {
    let (ada, bob, eve) = (user(), user(), user());
    let night = serde_json::json!({
        "quiet_hours": {"start": "22:00", "end": "07:00", "time_zone": "Europe/Oslo"},
        "min_severity": "moderate", "muted_categories": ["crime", "traffic"],
    });
    let night: Preferences = serde_json::from_value(night).unwrap();
    assert_eq!(preferences::get(table, ada).await.unwrap(), Preferences::default());
    table.put(ada, &Preferences::default()).await.unwrap();
    table.put(ada, &night).await.unwrap();
    assert_eq!(preferences::get(table, ada).await.unwrap(), night);
    let loud = Preferences { min_severity: Severity::Minor, ..Preferences::default() };
    table.put(bob, &loud).await.unwrap();
    // As many as one request has, and one of them twice.
    let mut people: Vec<_> = (0..97).map(|_| user()).collect();
    people.extend([ada, bob, ada]);
    let found = table.of(&people).await.unwrap();
    assert_eq!((found.len(), &found[&ada], &found[&bob]), (2, &night, &loud));
    assert_eq!(table.of(&[]).await.unwrap().len(), 0);
    assert_eq!(table.of(&[eve]).await.unwrap().len(), 0);

    table.put(ada, &loud).await.unwrap();
    assert_eq!(preferences::get(table, ada).await.unwrap(), loud, "nothing is left of what was");
    for _ in 0..2 {
        table.erase(ada).await.unwrap();
        assert_eq!(preferences::get(table, ada).await.unwrap(), Preferences::default());
    }
    assert_eq!(preferences::get(table, bob).await.unwrap(), loud);
}

/// All of the table's ports.
pub trait HeldStore: HeldPushes + HeldPushRescheduler + HeldPushEraser + DigestSchedule {}

impl<T: HeldPushes + HeldPushRescheduler + HeldPushEraser + DigestSchedule> HeldStore for T {}

fn held(news: News, now: Timestamp) -> HeldPush {
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    HeldPush { post_id: PostId::new(now), news, because, told_at: now }
}

/// What is held is its owner's, once each, until it is removed as it was read, or expires.
pub async fn held_pushes(table: &impl HeldStore) {
    let now = time::now();
    let until = time::after(now, 600);
    let (ada, eve) = (user(), user());
    let of = async |owner, limit| table.of(owner, limit, now).await.unwrap();
    assert_eq!(of(ada, 10).await, []);
    let posted = held(News::Posted, now);
    let raised = HeldPush { news: News::Raised(Severity::Severe), ..posted };
    let other = held(News::Posted, time::after(now, 1));
    for _ in 0..2 {
        for one in [other, raised, posted] {
            table.hold(ada, &one, until).await.unwrap();
        }
    }
    assert_eq!(of(ada, 10).await, [posted, raised, other], "each once");
    assert_eq!(of(ada, 2).await, [posted, raised]);
    assert_eq!(of(eve, 10).await, []);
    table.hold(eve, &posted, until).await.unwrap();

    // It is held again since it was read; and for another reason, too.
    let again = HeldPush { told_at: time::after(now, 5), ..posted };
    let shared = HeldPush { because: Because::Shared { shared_by: eve }, ..posted };
    table.hold(ada, &shared, until).await.unwrap();
    table.hold(ada, &again, until).await.unwrap();
    table.remove(ada, &[posted, other]).await.unwrap();
    table.remove(ada, &[posted, other]).await.unwrap();
    assert_eq!(of(ada, 10).await, [again, raised, shared]);
    assert_eq!(of(eve, 10).await, [posted], "hers alone");
    let late = time::after(until, LIFETIME_SECONDS + 1);
    assert_eq!(table.of(ada, 10, late).await.unwrap(), [], "it is no news any more");

    for _ in 0..2 {
        table.erase(ada).await.unwrap();
        assert_eq!(of(ada, 10).await, []);
    }
    let due = table.due(Minute::from(until), 10_000).await.unwrap();
    let due: Vec<_> = due.iter().map(|due| due.user_id).filter(|id| [ada, eve].contains(id)).collect();
    assert_eq!(due, [eve], "who has left is not due");
    table.erase(eve).await.unwrap();
}

/// Who is due is found in their minute, until they are forgotten; that it is said again since is not forgotten.
pub async fn schedule(table: &impl HeldStore) {
    let minute = Minute(user().as_bytes().iter().fold(40_000_000, |sum, byte| sum + i64::from(*byte) * 7));
    let until = Timestamp::from_second(minute.0 * 60).unwrap();
    let people: Vec<_> = (0..40).map(|_| user()).collect();
    let due = async |minute, limit| table.due(minute, limit).await.unwrap();
    let ids = async |minute| {
        let mut ids: Vec<_> = due(minute, 10_000).await.iter().map(|due| due.user_id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(minute).await, []);
    for person in &people {
        table.hold(*person, &held(News::Posted, until), until).await.unwrap();
        table.hold(*person, &held(News::Resolved, until), until).await.unwrap();
    }
    let mut expected = people.clone();
    expected.sort_unstable();
    assert_eq!(ids(minute).await, expected, "each once");
    assert_eq!(ids(Minute(minute.0 + 1)).await, []);
    assert_eq!(ids(Minute(minute.0 - 1)).await, []);

    // By pages, which are not empty before the end.
    let mut forgotten = Vec::new();
    loop {
        let page = due(minute, 16).await;
        assert!(page.len() <= 16);
        if page.is_empty() {
            break;
        }
        for one in page {
            table.forget(&one).await.unwrap();
            table.forget(&one).await.unwrap();
            forgotten.push(one.user_id);
        }
    }
    forgotten.sort_unstable();
    assert_eq!(forgotten, expected);

    let (ada, later) = (people[0], time::after(until, 59));
    table.reschedule(ada, later).await.unwrap();
    let next = Minute(minute.0 + 1);
    let seen = due(next, 100).await;
    assert_eq!(ids(next).await, [ada], "not before its time");
    table.reschedule(ada, later).await.unwrap();
    table.forget(&seen[0]).await.unwrap();
    assert_eq!(ids(next).await, [ada], "it was said again");
    for person in people {
        table.erase(person).await.unwrap();
    }
    for one in due(next, 100).await {
        table.forget(&one).await.unwrap();
    }
    assert_eq!(ids(next).await, []);

    let done = table.done().await.unwrap().map_or(minute, |done| Minute(done.0 + 1));
    table.set_done(done).await.unwrap();
    table.set_done(Minute(done.0 - 1)).await.unwrap();
    assert_eq!(table.done().await.unwrap(), Some(done), "it goes on, and not back");
}
