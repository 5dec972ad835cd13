//! Feeds are polled: what is new in them is published once, whatever fails.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use tocsin_adapters::memory::{
    MemoryCategories, MemoryFeedSource, MemoryFeeds, MemoryPollQueue, MemoryPostLog, until_killed,
};
use tocsin_domain::{
    Error, Result,
    category::{self, CategoryEditor as _},
    feed::{Feed, FeedPatch, FeedSettings},
    feed_fetch::{FetchFailure, Fetched, Validators},
    feed_poll::{self, PollJob, Polling},
    feeds::{self, FeedRecord, Feeds as _, PollOutcome, Polls},
    ids::{FeedId, PostId},
    post::{Post, PostKind, PostStatus, Severity},
    post_edit::{Edited, FieldChange},
    post_log::{Change, PostChange, PostLog, PostRecord},
    time::{self, Timestamp},
};
use url::Url;

/// A log that takes so many records, and no more.
#[derive(Debug, Default)]
struct Log {
    taken: MemoryPostLog,
    room: Option<AtomicUsize>,
}

impl PostLog for Log {
    async fn append(&self, record: &PostRecord) -> Result<()> {
        let has_room = |left: usize| left.checked_sub(1);
        match &self.room {
            Some(room) if room.fetch_update(Relaxed, Relaxed, has_room).is_err() => {
                Err(Error::unavailable("the log", "away"))
            }
            _ => self.taken.append(record).await,
        }
    }
}

struct Town {
    polls: MemoryFeeds,
    source: MemoryFeedSource,
    categories: MemoryCategories,
    log: Log,
    id: FeedId,
    url: Url,
}

fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn at(minutes: u64) -> Timestamp {
    time::after(noon(), minutes * 60)
}

impl Town {
    /// With a feed that is polled every five minutes, from noon on.
    async fn with(format: &str) -> Self {
        let url: Url = "https://provider.example.org/feed".parse().unwrap();
        let body = json!({
            "url": url, "format": format, "category": "community", "tags": ["oslo"], "every_minutes": 5,
            "location": {"lat": 59.91, "lon": 10.75}, "time_zone": "Europe/Oslo",
        });
        let (polls, categories) = (MemoryFeeds::default(), MemoryCategories::default());
        for category in category::initial() {
            categories.put(&category).await.unwrap();
        }
        let settings = FeedSettings::from_json(&body).unwrap();
        let view = feeds::create(&categories, &polls, settings, noon()).await.unwrap();
        let (source, log) = (MemoryFeedSource::default(), Log::default());
        Self { polls, source, categories, log, id: view.feed_id(), url }
    }

    /// What the provider has from now on.
    fn publishes(&self, document: &str) {
        self.answers([Ok(document_of(&self.url, document))]);
    }

    fn answers(&self, answers: impl IntoIterator<Item = Result<Fetched, FetchFailure>>) {
        self.source.script(&self.url, answers);
    }

    async fn poll_as(&self, job: PollJob, now: Timestamp) -> Option<Polls> {
        let Self { polls, source, categories, log, .. } = self;
        let polling = Polling { polls, source, read: tocsin_feeds::read, categories, log };
        polling.poll(&job, || now).await.ok().flatten()
    }

    async fn poll(&self, now: Timestamp) -> Option<Polls> {
        self.poll_as(PollJob { feed_id: self.id, due: None }, now).await
    }

    async fn record(&self) -> FeedRecord {
        self.polls.get(self.id).await.unwrap().unwrap()
    }

    async fn state(&self) -> serde_json::Value {
        let view = serde_json::to_value(feeds::get(&self.polls, self.id).await.unwrap()).unwrap();
        view["state"].clone()
    }

    fn changes(&self) -> Vec<PostChange> {
        let changes = self.log.taken.records().into_iter().filter_map(|record| match record.change {
            Change::Post(change) => Some(change),
            Change::Heartbeat => None,
        });
        changes.collect()
    }

    /// The posts that whoever reads the log has then.
    fn posts(&self) -> BTreeMap<PostId, Post> {
        let mut posts: BTreeMap<PostId, Edited> = BTreeMap::new();
        for change in self.changes() {
            match change {
                PostChange::Created(post) => {
                    // To store a post again changes nothing.
                    posts.entry(post.post_id).or_insert_with(|| Edited::not_yet(*post));
                }
                PostChange::Edited(edit) => {
                    posts.get_mut(&edit.post_id).unwrap().merge(&edit);
                }
                PostChange::Deleted(_) => unreachable!("a feed deletes nothing"),
            }
        }
        posts.into_iter().map(|(id, edited)| (id, edited.post)).collect()
    }

    /// What they say, but when and how often.
    fn said(&self) -> BTreeSet<String> {
        let said = self.posts().into_values().map(|post| {
            let Post { title, body, status, severity, starts_at, tags, expires_at, .. } = post;
            let is_over = expires_at.is_some_and(|expires| expires < at(60));
            format!("{title} {body:?} {status:?} {severity:?} {starts_at:?} {tags:?} {is_over}")
        });
        said.collect()
    }
}

fn document_of(url: &Url, document: &str) -> Fetched {
    let bytes = document.as_bytes().to_vec();
    Fetched::Document { bytes, url: url.clone(), validators: Validators::default() }
}

fn failure(reason: &str) -> Result<Fetched, FetchFailure> {
    Err(FetchFailure { reason: reason.to_owned(), retry_after: None, is_permanent: false })
}

/// A list of plans: by their ids their titles and prices.
fn plans(plans: impl IntoIterator<Item = (usize, &'static str, f64)>) -> String {
    let plans: Vec<_> = plans
        .into_iter()
        .map(|(id, title, price)| {
            format!(
                r#"<base_plan base_plan_id="{id}" sell_mode="online" title="{title}"><plan plan_id="1"
                plan_start_date="2027-06-30T21:00:00" plan_end_date="2027-06-30T22:00:00">
                <zone zone_id="40" price="{price}" name="Floor"/></plan></base_plan>"#
            )
        })
        .collect();
    format!("<planList><output>{}</output></planList>", plans.concat())
}

/// An alert of its sender's, and what it is about.
fn alert(number: usize, kind: &str, references: &[usize], severity: &str) -> String {
    let references: Vec<_> = references
        .iter()
        .map(|one| format!("met@example.org,m{one},2026-11-21T11:0{one}:00+00:00"))
        .collect();
    format!(
        r#"<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>m{number}</identifier>
        <sender>met@example.org</sender><sent>2026-11-21T11:0{number}:00+00:00</sent><status>Actual</status>
        <msgType>{kind}</msgType><scope>Public</scope><references>{}</references>
        <info><category>Met</category><event>Storm</event><urgency>Immediate</urgency>
        <severity>{severity}</severity><certainty>Observed</certainty><expires>2026-11-22T12:00:00+00:00</expires>
        <headline>Storm {number}</headline><area><areaDesc>Oslo</areaDesc><circle>59.9,10.7 20</circle></area>
        </info></alert>"#,
        references.join(" ")
    )
}

#[tokio::test]
async fn a_list_is_published_once_and_what_changes_of_it_is_an_edit() {
    let town = Town::with("plan-list-xml").await;
    town.publishes(&plans([(1, "A fair", 15.0), (2, "A play", 20.0)]));
    let polls = town.poll(at(0)).await.unwrap();
    let reading = polls.last_reading.unwrap();
    assert_eq!((reading.items, reading.created, reading.updated, reading.bad), (2, 2, 0, 0));
    let posts: Vec<_> = town.posts().into_values().collect();
    let fair = posts.iter().find(|post| post.title == "A fair").unwrap();
    assert_eq!(
        (fair.kind, fair.category.as_str(), fair.tags.iter().len()),
        (PostKind::Event, "community", 1)
    );
    assert_eq!(fair.location.map(|point| (point.lat(), point.lon())), Some((59.91, 10.75)), "the feed's own");
    assert_eq!((fair.min_price, fair.max_price), (Some(15.0), Some(15.0)));
    assert_eq!(fair.source, Some(format!("feeds/{}", town.id)));
    assert_eq!(fair.starts_at, Some("2027-06-30T19:00:00Z".parse().unwrap()), "its zone is the feed's");
    assert_eq!((fair.created_at, fair.quiet), (at(0), false));
    let writes = town.polls.writes(town.id);

    let polls = town.poll(at(5)).await.unwrap();
    let reading = polls.last_reading.unwrap();
    assert_eq!((reading.read_at, reading.items, reading.created, reading.updated), (at(5), 2, 0, 0));
    assert_eq!((town.changes().len(), town.polls.writes(town.id)), (2, writes), "nothing but the record");

    // One changes, one vanishes, one is new.
    town.publishes(&plans([(1, "A fair", 18.5), (3, "A match", 30.0)]));
    let reading = town.poll(at(10)).await.unwrap().last_reading.unwrap();
    assert_eq!((reading.created, reading.updated, reading.ended), (1, 1, 0));
    let changes = town.changes();
    let PostChange::Edited(edit) = changes.iter().find(|change| change.created().is_none()).unwrap() else {
        unreachable!()
    };
    assert!(!edit.moves_audience() && edit.raised_from.is_none());
    let posts = town.posts();
    assert_eq!(posts.len(), 3);
    assert_eq!(posts[&edit.post_id].min_price, Some(18.5));
    assert!(posts.values().all(|post| post.status == PostStatus::Active), "what vanishes stays");

    // What is said of all of its items changes with the feed, and with that alone.
    let patch = FeedPatch::from_json(&json!({"category": "traffic", "location": null})).unwrap();
    feeds::update(&town.categories, &town.polls, town.id, &patch, at(12)).await.unwrap();
    assert_eq!(town.record().await.next_poll_at, Some(at(12)));
    let reading = town.poll(at(12)).await.unwrap().last_reading.unwrap();
    assert_eq!((reading.created, reading.updated), (0, 2));
    let posts = town.posts();
    let moved: Vec<_> = posts.values().filter(|post| post.category.as_str() == "traffic").collect();
    assert!(moved.len() == 2 && moved.iter().all(|post| post.location.is_none()));
}

#[tokio::test]
async fn many_events_at_once_ring_nobody() {
    let town = Town::with("plan-list-xml").await;
    let quiet = || town.posts().into_values().filter(|post| post.quiet).count();
    town.publishes(&plans((0..20).map(|id| (id, "A fair", 1.0))));
    town.poll(at(0)).await.unwrap();
    assert_eq!(quiet(), 0);
    town.publishes(&plans((0..41).map(|id| (id, "A fair", 1.0))));
    town.poll(at(5)).await.unwrap();
    assert_eq!((quiet(), town.posts().len()), (21, 41));
    let over = plans([(50, "A fair", 1.0)]).replace("2027-06-30", "2021-06-30");
    town.publishes(&over);
    town.poll(at(10)).await.unwrap();
    assert_eq!((quiet(), town.posts().len()), (22, 42), "it is found by its time, and no news");
}

#[tokio::test]
async fn a_hazard_is_one_post_through_its_life_and_rings_again_only_when_it_is_worse() {
    let town = Town::with("cap").await;
    let mut minute = 0;
    let mut says = async |document: String| {
        town.publishes(&document);
        minute += 5;
        town.poll(at(minute)).await.unwrap()
    };
    says(alert(1, "Alert", &[], "Moderate")).await;
    says(alert(2, "Update", &[1], "Moderate")).await;
    let raised = |changes: Vec<PostChange>| -> Vec<_> {
        let edits = changes.into_iter().filter_map(|change| match change {
            PostChange::Edited(edit) => Some(edit.raised_from),
            _ => None,
        });
        edits.collect()
    };
    assert_eq!(raised(town.changes()), [None], "it is issued again, and no worse");
    says(alert(3, "Update", &[1, 2], "Extreme")).await;
    assert_eq!(raised(town.changes()), [None, Some(Severity::Moderate)]);
    let posts: Vec<_> = town.posts().into_values().collect();
    assert_eq!((posts.len(), posts[0].title.as_str(), posts[0].severity), (1, "Storm 3", Severity::Extreme));
    let polls = says(alert(4, "Cancel", &[3, 9], "Extreme")).await;
    assert_eq!(polls.last_reading.map(|reading| reading.ended), Some(1));
    assert_eq!(
        town.posts().into_values().map(|post| post.status).collect::<Vec<_>>(),
        [PostStatus::Cancelled]
    );
    // An exercise is none, and what is late is over.
    let changes = town.changes().len();
    let polls = says(alert(5, "Alert", &[], "Extreme").replace("Actual", "Exercise")).await;
    assert_eq!(
        (town.changes().len(), polls.last_poll.map(|poll| poll.outcome)),
        (changes, Some(PollOutcome::Read))
    );
    says(alert(6, "Alert", &[], "Extreme").replace("2026-11-22", "2026-11-20")).await;
    assert_eq!(town.changes().len(), changes);
}

#[tokio::test]
async fn a_provider_that_is_down_changes_nothing_and_is_asked_less_often() {
    let town = Town::with("plan-list-xml").await;
    town.publishes(&plans([(1, "A fair", 15.0)]));
    assert_eq!(town.state().await, "waiting");
    town.poll(at(0)).await.unwrap();
    assert_eq!(town.record().await.next_poll_at, Some(at(5)));
    town.answers([failure("it answers 500")]);
    let (mut now, mut waits) = (at(5), Vec::new());
    for failures in 1..=12 {
        let job = PollJob { feed_id: town.id, due: Some(now) };
        let polls = town.poll_as(job, now).await.unwrap();
        assert_eq!(polls.failures, failures);
        let last = polls.last_poll.unwrap();
        assert_eq!((last.outcome, last.reason.as_deref()), (PollOutcome::Failed, Some("it answers 500")));
        assert_eq!(
            polls.last_reading.map(|reading| reading.created),
            Some(1),
            "what was read is still shown"
        );
        assert_eq!(town.state().await, if failures < 3 { "healthy" } else { "failing" });
        let next = town.record().await.next_poll_at.unwrap();
        waits.push(next.duration_since(now.max(last.ended_at)).as_secs_f64() / 60.0);
        now = next;
    }
    let doubled = (0..12).map(|times| (5.0 * 2_f64.powi(times)).min(360.0));
    for (wait, least) in waits.iter().zip(doubled) {
        assert!((least..least * 1.2 + 0.1).contains(wait), "{waits:?}");
    }
    assert_eq!(town.changes().len(), 1);
    // It says when it will be back; and then it is.
    let later = FetchFailure {
        reason: "it answers 503".to_owned(),
        retry_after: Some(Duration::from_hours(10)),
        is_permanent: false,
    };
    town.answers([Err(later)]);
    let ended_at = town.poll(now).await.unwrap().last_poll.unwrap().ended_at;
    let wait = town.record().await.next_poll_at.unwrap().duration_since(ended_at);
    assert_eq!(wait.as_hours(), 10);
    town.publishes(&plans([(1, "A fair", 15.0)]));
    let later = time::after(now, 60);
    assert_eq!(town.poll(later).await.unwrap().failures, 0);
    assert_eq!(town.record().await.next_poll_at, Some(time::after(later, 5 * 60)), "as often as before");
    assert_eq!((town.state().await, town.changes().len()), (json!("healthy"), 1));
}

#[tokio::test]
async fn what_is_no_document_of_the_format_is_a_failure_with_its_reason() {
    let town = Town::with("cap").await;
    town.publishes("<html>Come back later</html>");
    let polls = town.poll(at(0)).await.unwrap();
    assert!(polls.last_poll.unwrap().reason.is_some_and(|reason| reason.contains("html")));
    // And one entry that is bad is one that is skipped, and shown.
    town.publishes(&alert(1, "Alert", &[], "Severe").replace("20</circle>", "far</circle>"));
    let reading = town.poll(at(5)).await.unwrap().last_reading.unwrap();
    assert!(reading.bad > 0 && !reading.bad_entries.is_empty(), "{reading:?}");
}

#[tokio::test]
async fn a_feed_is_polled_when_it_is_due_and_by_one_at_a_time() {
    let town = Town::with("plan-list-xml").await;
    let queue = MemoryPollQueue::default();
    town.publishes(&plans([(1, "A fair", 15.0)]));
    assert_eq!(feed_poll::schedule(&town.polls, &queue, at(0)).await.unwrap(), 1);
    assert_eq!(feed_poll::schedule(&town.polls, &queue, at(1)).await.unwrap(), 1, "until it was polled");
    let [first, second] = queue.take().try_into().unwrap();
    assert!(town.poll_as(first, at(1)).await.is_some());
    assert_eq!(town.poll_as(second, at(1)).await, None);
    // Late, it is due again as it was before.
    assert_eq!(town.record().await.next_poll_at, Some(at(5)));
    assert_eq!(feed_poll::schedule(&town.polls, &queue, at(4)).await.unwrap(), 0);
    feeds::ask(&town.polls, &queue, town.id).await.unwrap();
    let asked = queue.take().pop().unwrap();
    assert!(town.poll_as(asked, at(4)).await.is_some(), "somebody asked for it");
    assert_eq!(town.record().await.next_poll_at, Some(at(5)));
    // Not enabled, it is neither due nor asked.
    let patch = FeedPatch::from_json(&json!({"enabled": false})).unwrap();
    feeds::update(&town.categories, &town.polls, town.id, &patch, at(4)).await.unwrap();
    assert_eq!(
        (town.state().await, feed_poll::schedule(&town.polls, &queue, at(9)).await.unwrap()),
        (json!("disabled"), 0)
    );
    assert!(
        matches!(feeds::ask(&town.polls, &queue, town.id).await.unwrap_err(), Error::Refused(refusal) if refusal.code == "feed_disabled")
    );
    feeds::end(&town.polls, town.id).await.unwrap();
    assert_eq!(town.poll(at(10)).await, None);
}

#[tokio::test]
async fn documents_that_an_index_names_are_read_and_not_each_time() {
    let town = Town::with("cap").await;
    let link =
        |number: usize| -> Url { format!("https://provider.example.org/{number}.cap").parse().unwrap() };
    let index = |numbers: &[usize]| {
        let entries: Vec<_> = numbers
            .iter()
            .map(|number| {
                format!(
                    r#"<entry><id>urn:m{number}</id><title>Storm</title><updated>2026-11-21T11:00:00Z</updated>
                    <link rel="alternate" type="application/cap+xml" href="{}"/></entry>"#,
                    link(*number)
                )
            })
            .collect();
        format!(
            r#"<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:all</id><title>Alerts</title>
            <updated>2026-11-21T11:00:00Z</updated>{}</feed>"#,
            entries.concat()
        )
    };
    for number in [1, 2] {
        town.source
            .script(&link(number), [Ok(document_of(&link(number), &alert(number, "Alert", &[], "Severe")))]);
    }
    town.publishes(&index(&[1, 2, 3]));
    let fetches = |link: &Url| town.source.fetches().iter().filter(|(url, _)| url == link).count();
    let reading = town.poll(at(0)).await.unwrap().last_reading.unwrap();
    assert_eq!((reading.items, reading.created, reading.bad), (2, 2, 1));
    assert_eq!(reading.bad_entries[0].entry, link(3).as_str());
    for (minutes, bad) in [(5, 0), (10, 1)] {
        let reading = town.poll(at(minutes)).await.unwrap().last_reading.unwrap();
        assert_eq!((reading.items, reading.created, reading.ended, reading.bad), (0, 0, 0, bad));
    }
    assert_eq!(
        [1, 2, 3].map(|number| fetches(&link(number))),
        [1, 1, 2],
        "what was not there is tried again"
    );
    let later = town.poll(at(70)).await.unwrap().last_reading.unwrap();
    assert_eq!((later.items, later.created), (2, 0));
    assert_eq!([1, 2].map(|number| fetches(&link(number))), [2, 2]);
}

/// The documents of a provider, one after the other, that have everything happen.
fn story() -> Vec<String> {
    let wrapped = |alerts: &[String]| alerts.last().cloned().unwrap();
    vec![
        wrapped(&[alert(1, "Alert", &[], "Moderate")]),
        wrapped(&[alert(2, "Alert", &[], "Severe")]),
        wrapped(&[alert(3, "Update", &[1], "Extreme")]),
        wrapped(&[alert(4, "Update", &[2, 3], "Severe")]),
        wrapped(&[alert(5, "Cancel", &[4], "Severe")]),
    ]
}

#[tokio::test]
async fn a_poll_that_is_killed_anywhere_comes_to_the_same_in_the_end() {
    for (format, story) in [
        ("cap", story()),
        (
            "plan-list-xml",
            vec![
                plans([(1, "A fair", 15.0), (2, "A play", 20.0)]),
                plans([(1, "A fair", 18.0), (3, "A match", 1.0)]),
            ],
        ),
    ] {
        let expected = Town::with(format).await;
        for (number, document) in (0..).zip(&story) {
            expected.publishes(document);
            expected.poll(at(5 * number)).await.unwrap();
        }
        let mut deaths = 0;
        for uses in 0..20 {
            let town = Town::with(format).await;
            for (number, document) in (0..).zip(&story) {
                town.publishes(document);
                let died = until_killed(uses, town.poll(at(5 * number))).await.is_none();
                deaths += usize::from(died);
                // Its lease is over by then.
                town.poll(at(5 * number + 2)).await.unwrap();
            }
            assert_eq!(town.said(), expected.said(), "killed after {uses} uses");
            assert_eq!(town.posts().len(), expected.posts().len(), "none is there twice");
        }
        assert!(deaths > 10, "{deaths}");
    }
}

#[tokio::test]
async fn a_log_that_takes_some_and_no_more_gets_the_rest_and_nothing_twice() {
    for room in 0..8 {
        let town = Town::with("plan-list-xml").await;
        let town = Town { log: Log { room: Some(room.into()), ..Log::default() }, ..town };
        town.publishes(&plans((0..5).map(|id| (id, "A fair", 15.0))));
        let ended = town.poll(at(0)).await;
        assert_eq!(ended.is_none(), room < 5);
        if room < 5 {
            let record = town.record().await;
            let last = record.polls.last_poll.unwrap();
            assert_eq!((last.outcome, record.polls.failures), (PollOutcome::Failed, 1));
            assert!(last.reason.unwrap().contains("no fault of its provider"));
            let wait = record.next_poll_at.unwrap().duration_since(last.ended_at);
            assert_eq!(wait.as_mins(), 1);
        }
        town.log.room.as_ref().unwrap().store(1_000, Relaxed);
        // Meanwhile one has become another.
        let changed = (0..5).map(|id| (id, if id == 0 { "A market" } else { "A fair" }, 15.0));
        town.publishes(&plans(changed));
        town.poll(at(3)).await.unwrap();
        let posts = town.posts();
        assert_eq!(posts.len(), 5);
        assert_eq!(posts.values().filter(|post| post.title == "A market").count(), 1);
        let count = town.changes().len();
        town.poll(at(8)).await.unwrap();
        assert_eq!(town.changes().len(), count);
    }
}

#[tokio::test]
async fn a_feed_whose_polls_die_is_polled_less_often() {
    let town = Town::with("plan-list-xml").await;
    town.publishes(&plans([(1, "A fair", 15.0)]));
    let mut now = at(0);
    for _ in 0..3 {
        assert!(until_killed(2, town.poll(now)).await.is_none());
        now = time::after(now, 2 * 60);
    }
    let fetches = town.source.fetches().len();
    let polls = town.poll(now).await.unwrap();
    assert_eq!((polls.failures, town.source.fetches().len()), (1, fetches), "it is not even asked for");
    assert!(polls.last_poll.unwrap().reason.is_some_and(|reason| reason.contains("cut short")));
    // Then once more: it may have another document.
    assert_eq!(town.poll(time::after(now, 600)).await.unwrap().failures, 0);
    assert_eq!(town.posts().len(), 1);
}

#[tokio::test]
async fn what_was_published_in_part_long_ago_is_told_as_of_now() {
    let town = Town::with("plan-list-xml").await;
    let town = Town { log: Log { room: Some(0.into()), ..Log::default() }, ..town };
    town.publishes(&plans([(1, "A fair", 15.0)]));
    assert!(town.poll(at(0)).await.is_none());
    town.log.room.as_ref().unwrap().store(1_000, Relaxed);
    town.poll(at(120)).await.unwrap();
    assert_eq!(town.posts().into_values().map(|post| post.created_at).collect::<Vec<_>>(), [at(120)]);
}

#[tokio::test]
async fn an_alert_goes_on_with_the_post_of_its_place() {
    let town = Town::with("cap").await;
    let info = |severity: &str, name: &str, lat: f64| {
        let whole = alert(1, "Alert", &[], severity);
        let (from, to) = (whole.find("<info>").unwrap(), whole.find("<area>").unwrap());
        let said = whole[from..to].replace("Storm 1", name);
        format!("{said}<area><areaDesc>{name}</areaDesc><circle>{lat},10.7 20</circle></area></info>")
    };
    let message = |number: usize, kind: &str, references: &[usize], infos: &[String]| {
        let whole = alert(number, kind, references, "Severe");
        format!("{}{}</alert>", &whole[..whole.find("<info>").unwrap()], infos.concat())
    };
    let (oslo, bergen) = (info("Minor", "Oslo", 59.9), info("Severe", "Bergen", 60.4));
    town.publishes(&message(1, "Alert", &[], &[oslo.clone(), bergen.clone()]));
    town.poll(at(0)).await.unwrap();
    let id_of = |title: &str| town.posts().into_values().find(|post| post.title == title).unwrap().post_id;
    let (in_oslo, in_bergen) = (id_of("Oslo"), id_of("Bergen"));
    town.publishes(&message(2, "Update", &[1], &[bergen.clone(), oslo]));
    let reading = town.poll(at(5)).await.unwrap().last_reading.unwrap();
    assert_eq!((reading.created, reading.updated, reading.ended), (0, 0, 0), "only their order is another");
    town.publishes(&message(3, "Update", &[2], &[bergen]));
    let reading = town.poll(at(10)).await.unwrap().last_reading.unwrap();
    assert_eq!((reading.created, reading.updated, reading.ended), (0, 0, 1));
    let posts = town.posts();
    assert_eq!(posts[&in_bergen].expires_at, Some("2026-11-22T12:00:00Z".parse().unwrap()));
    assert_eq!(posts[&in_oslo].expires_at, Some(at(10)), "it is over there");
}

#[tokio::test]
async fn what_a_new_feed_has_had_for_long_rings_nobody() {
    let town = Town::with("rss").await;
    let item = |number: usize, day: &str| {
        format!(
            "<item><guid>{number}</guid><title>News {number}</title>\
            <pubDate>{day} Nov 2026 11:00:00 GMT</pubDate></item>"
        )
    };
    let items = [item(1, "Sat, 21"), item(2, "Tue, 03")].concat();
    town.publishes(&format!("<rss version=\"2.0\"><channel><title>News</title>{items}</channel></rss>"));
    town.poll(at(0)).await.unwrap();
    let quiet: BTreeSet<_> = town.posts().into_values().map(|post| (post.title, post.quiet)).collect();
    assert_eq!(quiet, [("News 1".to_owned(), false), ("News 2".to_owned(), true)].into());
}

#[tokio::test]
async fn a_document_is_read_once_a_day_though_it_is_unchanged() {
    let town = Town::with("plan-list-xml").await;
    let validators = Validators::new(Some("\"1\""), None);
    let bytes = plans([(1, "A fair", 15.0)]).into_bytes();
    town.answers([Ok(Fetched::Document { bytes, url: town.url.clone(), validators })]);
    let outcome = async |minutes| town.poll(at(minutes)).await.unwrap().last_poll.unwrap().outcome;
    assert_eq!(outcome(0).await, PollOutcome::Read);
    assert_eq!(outcome(5).await, PollOutcome::Unchanged);
    assert_eq!(outcome(24 * 60 - 1).await, PollOutcome::Unchanged);
    assert_eq!(outcome(24 * 60).await, PollOutcome::Read);
    assert_eq!(outcome(24 * 60 + 5).await, PollOutcome::Unchanged);
    // And when a moderator has changed what is made of it.
    let patch = FeedPatch::from_json(&json!({"tags": ["bergen"]})).unwrap();
    feeds::update(&town.categories, &town.polls, town.id, &patch, at(24 * 60 + 6)).await.unwrap();
    assert_eq!(outcome(24 * 60 + 7).await, PollOutcome::Read);
    assert_eq!(town.changes().len(), 2);
}

#[tokio::test]
async fn two_feeds_do_not_share_an_address_and_a_feed_has_a_category_that_there_is() {
    let town = Town::with("cap").await;
    let FeedRecord { feed: Feed { settings, .. }, .. } = town.record().await;
    let again = feeds::create(&town.categories, &town.polls, settings.clone(), noon()).await.unwrap_err();
    assert!(matches!(again, Error::Refused(refusal) if refusal.code == "feed_exists"));
    let unknown = FeedSettings { category: "volcano".parse().unwrap(), ..settings };
    let refused = feeds::create(&town.categories, &town.polls, unknown, noon()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(refusal) if refusal.errors[0].code == "unknown_category"));
}

#[test]
fn an_edit_of_what_is_told_says_what_changed_alone() {
    use tocsin_domain::{feed_item::Item, feed_post};
    let fair = Item { category: Some("community".parse().unwrap()), ..Item::new(PostKind::Event, "A fair") };
    let told = feed_post::Told::of(&fair);
    let id = PostId::new(noon());
    assert_eq!(feed_post::edit(&fair, id, Some(told), noon()), None);
    let off = Item { is_cancelled: true, ..fair.clone() };
    let edit = feed_post::edit(&off, id, Some(told), noon()).unwrap();
    assert_eq!(edit.changes, [FieldChange::Status(PostStatus::Cancelled)]);
    assert!(edit.edit_id.time() > id.time(), "it is after the post itself");
}
