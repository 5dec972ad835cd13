//! Feeds, and their polls.

use tocsin_domain::{
    Error,
    feed::{Feed, FeedSettings},
    feed_fetch::Validators,
    feed_item::{Entry, Item},
    feed_life::Known,
    feed_poll::{KeptAt, Poll, PollEnd, PollJob, PollSchedule, PollStore},
    feeds::{FeedEditor, LastPoll, PollOutcome, Polls},
    ids::{FeedId, PostId},
    post::PostKind,
    time::{self, Timestamp},
};

/// All of the table's ports.
pub trait FeedStore: FeedEditor + PollSchedule + PollStore {}

impl<T: FeedEditor + PollSchedule + PollStore> FeedStore for T {}

/// A feed at an address of its own.
#[must_use]
pub fn feed(now: Timestamp) -> Feed {
    let feed_id = FeedId::new(now);
    let body = serde_json::json!({
        "url": format!("https://example.org/{feed_id}"), "format": "cap", "category": "weather",
        "every_minutes": 5, "tags": ["met"], "location": {"lat": 60.4, "lon": 5.3},
    });
    let settings = FeedSettings::from_json(&body).unwrap();
    Feed { feed_id, settings, created_at: now, updated_at: now }
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> bool {
    matches!(outcome.unwrap_err(), Error::Refused(refusal) if refusal.code == "feed_exists")
}

/// Feeds are listed, changed as they were read, and ended; no two have one address.
pub async fn feeds(table: &impl FeedStore) {
    let now = time::now();
    let first = feed(now);
    let second = feed(time::after(now, 1));
    assert_eq!(table.get(first.feed_id).await.unwrap(), None);
    table.add(&first, Some(now)).await.unwrap();
    table.add(&second, None).await.unwrap();
    let record = table.get(first.feed_id).await.unwrap().unwrap();
    assert_eq!((&record.feed, record.next_poll_at, record.polls), (&first, Some(now), Polls::default()));
    let newest = table.page(None, 2).await.unwrap();
    let ids = |records: &[tocsin_domain::feeds::FeedRecord]| -> Vec<_> {
        records.iter().map(|record| record.feed.feed_id).collect()
    };
    assert_eq!(ids(&newest), [second.feed_id, first.feed_id]);
    let after = table.page(Some(second.feed_id), 1).await.unwrap();
    assert_eq!(ids(&after), [first.feed_id]);

    let same = Feed { settings: first.settings.clone(), ..feed(now) };
    assert!(is_refused(table.add(&same, Some(now)).await));
    assert_eq!(table.get(same.feed_id).await.unwrap(), None);
    let same = Feed { settings: first.settings.clone(), ..second.clone() };
    assert!(is_refused(table.replace(&second, &same, None).await));
    assert_eq!(table.get(second.feed_id).await.unwrap().unwrap().feed, second);

    let elsewhere = Feed { settings: feed(now).settings, updated_at: time::after(now, 1), ..first.clone() };
    assert!(table.replace(&first, &elsewhere, None).await.unwrap());
    assert!(!table.replace(&first, &second, None).await.unwrap(), "it is another one by now");
    let record = table.get(first.feed_id).await.unwrap().unwrap();
    assert_eq!((record.feed, record.next_poll_at), (elsewhere.clone(), None));
    // Its old address is free.
    assert!(table.replace(&second, &same, None).await.unwrap());

    assert!(!table.remove(&first).await.unwrap());
    for is_there in [true, false] {
        assert_eq!(table.remove(&elsewhere).await.unwrap(), is_there);
    }
    assert_eq!(table.get(elsewhere.feed_id).await.unwrap(), None);
    let again = Feed { settings: elsewhere.settings, ..feed(now) };
    table.add(&again, None).await.unwrap();
    for left in [same, again] {
        table.remove(&left).await.unwrap();
    }
}

fn ends(at: Timestamp, next_poll_at: Timestamp, kept_at: KeptAt, since: Option<Timestamp>) -> PollEnd {
    let reason = Some("500".to_owned());
    let last = LastPoll { started_at: at, ended_at: at, outcome: PollOutcome::Failed, reason };
    let polls = Polls { failures: 2, last_poll: Some(last), last_reading: None };
    let validators = Validators::new(Some("\"1\""), None);
    PollEnd { polls, next_poll_at, validators, kept_at, since }
}

/// A feed is due until its poll has ended, and polled once at a time.
pub async fn polls(table: &impl FeedStore) {
    let now = time::now();
    let later = |seconds| time::after(now, seconds);
    let one = feed(now);
    let id = one.feed_id;
    table.add(&one, Some(later(10))).await.unwrap();
    let due = async |at| {
        let jobs = table.due(at, 1_000).await.unwrap();
        jobs.into_iter().filter(|job| job.feed_id == id).collect::<Vec<_>>()
    };
    assert_eq!(due(later(9)).await, []);
    let job = PollJob { feed_id: id, due: Some(later(10)) };
    assert_eq!(due(later(10)).await, [job]);
    let begin = async |job: PollJob, at, until| table.begin(&job, at, until).await.unwrap();
    assert_eq!(begin(PollJob { due: Some(now), ..job }, later(10), later(90)).await, None, "not due then");
    let poll = begin(job, later(10), later(90)).await.unwrap();
    assert_eq!((&poll.feed, poll.next_poll_at, poll.since), (&one, Some(later(10)), None));
    assert_eq!(due(later(60)).await, [job], "until its poll has ended");
    let asked = PollJob { due: None, ..job };
    for job in [job, asked] {
        assert_eq!(begin(job, later(60), later(150)).await, None, "somebody polls it");
    }
    // It died. The next one goes on.
    table.publishing(&poll, later(11)).await.unwrap();
    let next = begin(job, later(91), later(150)).await.unwrap();
    assert_eq!((next.since, next.died), (Some(later(11)), 1));
    table.publishing(&poll, later(12)).await.unwrap_err();
    assert!(
        !table.end(&poll, &ends(now, later(300), none(), None)).await.unwrap(),
        "it has the lease no more"
    );
    let end = ends(later(92), later(300), next.kept_at.clone(), None);
    assert!(table.end(&next, &end).await.unwrap());
    assert!(!table.end(&next, &end).await.unwrap());
    assert_eq!((due(later(299)).await, due(later(300)).await.len()), (vec![], 1));
    let record = table.get(id).await.unwrap().unwrap();
    assert_eq!((record.next_poll_at, record.polls), (Some(later(300)), end.polls));
    assert_eq!(begin(job, later(300), later(390)).await, None, "it was polled since");

    // Changed while it is polled: it is due as that said, and read again.
    let poll = begin(asked, later(200), later(290)).await.unwrap();
    assert_eq!((&poll.validators, poll.since, poll.died), (&end.validators, None, 0));
    let other = Feed { updated_at: later(201), ..one.clone() };
    assert!(table.replace(&one, &other, Some(later(201))).await.unwrap());
    assert!(table.end(&poll, &ends(later(202), later(600), none(), Some(later(200)))).await.unwrap());
    assert_eq!(due(later(201)).await.len(), 1);
    let poll = begin(PollJob { feed_id: id, due: Some(later(201)) }, later(203), later(290)).await.unwrap();
    assert_eq!((poll.validators.clone(), poll.since), (Validators::default(), Some(later(200))));

    // Disabled, it is not due; and of one that is gone nothing is left.
    assert!(table.replace(&other, &one, None).await.unwrap());
    table.end(&poll, &ends(later(204), later(600), none(), None)).await.unwrap();
    assert_eq!(due(later(10_000)).await, []);
    assert_eq!(begin(asked, later(700), later(790)).await, None);
    assert!(table.replace(&one, &other, Some(later(701))).await.unwrap());
    let poll = begin(asked, later(702), later(790)).await.unwrap();
    assert!(table.remove(&other).await.unwrap());
    assert_eq!(begin(asked, later(800), later(890)).await, None);
    assert!(!table.end(&poll, &ends(later(702), later(900), none(), None)).await.unwrap());
}

/// What is known of a feed is kept, whatever it comes to, and forgotten with it.
pub async fn known(table: &impl FeedStore) {
    let now = time::now();
    let one = feed(now);
    let job = PollJob { feed_id: one.feed_id, due: None };
    table.add(&one, Some(now)).await.unwrap();
    let mut expected = Known::default();
    for count in [0, 3, 3, 4_000, 20] {
        let poll: Poll = table.begin(&job, now, now).await.unwrap().unwrap();
        let mut known = table.known(&poll).await.unwrap();
        assert_eq!(known, expected);
        if count == 20 {
            known = Known::default();
        }
        for number in 0..count {
            let item = Item::new(PostKind::Event, &format!("a fair, {number}"));
            let entry = Entry { id: number.to_string(), items: vec![item], ..Entry::default() };
            known.take(&entry, now, |name| PostId::named(now, &[entry.id.as_bytes(), name.as_bytes()]));
        }
        expected = known.clone();
        let kept_at = table.keep(&poll, known).await.unwrap();
        assert_eq!(table.known(&poll).await.unwrap() == expected, poll.kept_at == kept_at, "until it ends");
        assert!(table.end(&poll, &ends(now, now, kept_at, None)).await.unwrap());
    }
    // A poll that keeps something, and dies, changes nothing.
    let poll = table.begin(&job, now, now).await.unwrap().unwrap();
    table.keep(&poll, Known::default()).await.unwrap();
    let poll = table.begin(&job, time::after(now, 1), time::after(now, 60)).await.unwrap().unwrap();
    assert_eq!((table.known(&poll).await.unwrap(), poll.died), (expected.clone(), 1));
    assert!(table.remove(&one).await.unwrap());
    // It was being polled.
    table.keep(&poll, expected).await.unwrap();
    assert!(!table.end(&poll, &ends(now, now, poll.kept_at.clone(), None)).await.unwrap());
}

fn none() -> KeptAt {
    KeptAt::default()
}
