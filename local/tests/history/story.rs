//! A seed's history, played in a stack of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use futures::{StreamExt as _, stream};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use local::{
    api_client::{Answer, Person, text},
    stack::Options,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    checker::{self, Broken, Outcome, Seen},
    gremlins::{self, flush, kill_at_work, mishaps, plague, release},
    messages::Sent,
    model::{Form, Quiet, Reader, SEVERITIES, Status},
    plan::{self, AUTHORS, Deed},
    record::{Event, Fate, Record},
    sns::Sns,
    town::{PATIENCE, Town},
};

/// How much is done.
const DEEDS: usize = 60;
/// Among how many of the first deeds posts end.
const ENDINGS: usize = 30;
/// How many entries a part of an audience has at least, but the last one: so a handful of people are many steps.
pub(crate) const PART: usize = 5;
/// How many people under a key are a large audience.
const LARGE: usize = 5;
/// Keys that were large before it all began: what is posted under them is merged.
const LARGE_KEYS: [&str; 2] = ["fire#*#*", "flood#harbour#*"];
/// How long ago they became so, and for how long it is remembered, in days.
const LARGE_DAYS: i64 = 10;
/// Where it is quiet.
const QUIET_ZONE: &str = "Asia/Kathmandu";
/// For how long it is quiet at least where a clock ends it.
const LEAST_QUIET: SignedDuration = SignedDuration::from_secs(12);
/// How many people settle in at once.
const SETTLING: usize = 4;
/// How long all may take to come to rest: a push that was reserved by who died waits for a minute, and so does the end of
/// a post for those who were just being told of it.
const REST: Duration = Duration::from_mins(4);

/// A played history.
pub(crate) struct Story {
    seed: u64,
    record: Arc<Record>,
    sent: Sent,
    most: Sent,
    took: Duration,
    broken: Vec<String>,
}

impl Story {
    /// Plays the history of a seed, and holds it against the promises.
    pub(crate) async fn play(seed: u64) -> Self {
        let record = Arc::new(Record::new());
        let mut chance = StdRng::seed_from_u64(seed);
        let sns = Sns::serve(chance.random(), Arc::clone(&record)).await;
        let is_on = Arc::new(AtomicBool::new(false));
        let mishaps = mishaps(chance.random(), Arc::clone(&record), Arc::clone(&is_on));
        let environment = [
            ("AUDIENCE_PART", PART.to_string()),
            ("LARGE_AUDIENCE", LARGE.to_string()),
            ("AWS_ENDPOINT_URL_SNS", sns.url().to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let options = Options { environment, mishaps: Some(mishaps), ..Options::in_memory() };
        let town = Town::start(options).await;
        sns.stand_before(town.stack.endpoints().moto.as_deref().unwrap());

        enlarge(&town).await;
        let readers = plan::readers(&mut chance);
        let people = settle_in(&town, &sns, &record, &readers).await;
        let deeds = plan::deeds(DEEDS, ENDINGS, &readers, &mut chance);
        sns.set(gremlins::SHARES);
        is_on.store(true, Ordering::Relaxed);
        let gremlins = plague(&town, &sns, &record, chance.random(), &is_on);
        let done = async {
            Doing { town: &town, readers: &readers, people: &people, record: &record, posts: Vec::new() }
                .all(deeds, &mut chance)
                .await;
            is_on.store(false, Ordering::Relaxed);
        };
        tokio::join!(gremlins, done);
        record.note(Event::Fault("from here on nothing goes wrong".to_owned()));
        rest(&town).await;
        end_quiet_hours(&town, &record, &readers, &people).await;

        let mut broken = dead_letters(&town);
        let (sent, most) = (sent(&town), Sent::most(&record.events(), &readers));
        broken.extend(sent.exceeds(most).then(|| format!("{sent:?} are more than {most:?}")));
        for place in ["at hand", "in the storage"] {
            let outcome = outcome(&readers, &people).await;
            let found = checker::check(&readers, &record.events(), &outcome);
            broken.extend(found.into_iter().map(|promise: Broken| format!("{place}: {promise:?}")));
            flush(&town).await;
        }
        town.down().await;
        Self { seed, took: record.now(), record, sent, most, broken }
    }

    /// Whether every promise was kept; if not, tells what happened.
    pub(crate) fn is_kept(&self) -> bool {
        if self.broken.is_empty() {
            return true;
        }
        eprintln!("seed {}:", self.seed);
        for (at, event) in self.record.events() {
            eprintln!("{:8.3} s  {event}", at.as_secs_f64());
        }
        eprintln!("seed {} breaks:", self.seed);
        for promise in &self.broken {
            eprintln!("  {promise}");
        }
        eprintln!("again: TOCSIN_SEED={} cargo test -p local --test history", self.seed);
        false
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let events = self.record.events();
        let count = |is: fn(&Event) -> bool| events.iter().filter(|(_, event)| is(event)).count();
        let calm = events.iter().rfind(|(_, event)| matches!(event, Event::Fault(_)));
        let calm = calm.map(|(at, _)| *at).unwrap_or_default();
        let rings = count(
            |event| matches!(event, Event::Publish { fate, .. } | Event::Digest { fate, .. } if fate.rings()),
        );
        format!(
            "seed {}: {} posts, {} changes, {rings} pushes after {} requests, {} deaths, {} other faults until {calm:.0?}; {:?} of {:?}; all done after {:.0?}",
            self.seed,
            count(|event| matches!(event, Event::Posted { .. })),
            count(|event| matches!(event, Event::Changed { .. } | Event::Deleted { .. })),
            count(|event| matches!(event, Event::Publish { .. } | Event::Digest { .. })),
            count(|event| matches!(event, Event::Killed { .. })),
            count(|event| matches!(event, Event::Fault(_))),
            self.sent,
            self.most,
            self.took,
        )
    }
}

/// Lets keys have been large for so long that what is posted under them is written into nobody's timeline.
async fn enlarge(town: &Town) {
    let (client, table) = town.stack.foundation().table("SUBSCRIPTIONS_TABLE").unwrap();
    let day = |days: i64| (Timestamp::now() + SignedDuration::from_hours(24 * days)).as_second();
    for key in LARGE_KEYS {
        let item = client.put_item().table_name(table);
        let item = item.item("pk", AttributeValue::S("large".to_owned()));
        let item = item.item("sk", AttributeValue::S(key.to_owned()));
        let item = item.item("since", AttributeValue::N(day(-LARGE_DAYS).to_string()));
        let item = item.item("expires_at", AttributeValue::N(day(LARGE_DAYS).to_string()));
        item.send().await.unwrap();
    }
}

/// Registers everybody, with what they wish for. Two thirds have looked at their timelines.
async fn settle_in(town: &Town, sns: &Sns, record: &Record, readers: &[Reader]) -> Vec<Person> {
    let settling = readers.iter().enumerate().map(async |(number, reader)| {
        let person = town.person(&reader.name).await;
        sns.introduce(person.user_id(), &reader.name);
        for wish in &reader.wishes {
            person.api.post("/v1/subscriptions", &wish.to_json()).await.unwrap().expect(201).unwrap();
        }
        for (place, device) in reader.devices.iter().enumerate() {
            let platform = ["fcm", "apns"][place % 2];
            let body = json!({"platform": platform, "token": format!("{device}-token")});
            let put = person.api.put(&format!("/v1/devices/{device}"), &body).await.unwrap();
            assert_eq!(put.status, 201, "{}", put.body);
        }
        if number % 3 > 0 {
            assert!(person.api.timeline().await.unwrap().is_empty());
        }
        person
    });
    let people: Vec<_> = stream::iter(settling.collect::<Vec<_>>()).buffered(SETTLING).collect().await;
    for (reader, person) in readers.iter().zip(&people) {
        let until = reader.quiet.map(|quiet| quiet_until(quiet, Timestamp::now()));
        if let (Some(Quiet::UntilMinute), Some(until)) = (reader.quiet, until) {
            let left = Duration::try_from(Timestamp::now().duration_until(until)).unwrap();
            record.note(Event::Woken { reader: reader.name.clone(), from: record.now() + left });
        }
        let put = person.api.put(PREFERENCES, &preferences(reader, until)).await.unwrap();
        put.expect(200).unwrap();
    }
    people
}

const PREFERENCES: &str = "/v1/notification-preferences";

/// When quiet hours end that have begun: with a minute, in any case.
fn quiet_until(quiet: Quiet, now: Timestamp) -> Timestamp {
    let least = match quiet {
        Quiet::UntilEnded => SignedDuration::from_hours(2),
        Quiet::UntilMinute => LEAST_QUIET,
    };
    (now + least).round(TimestampRound::new().smallest(Unit::Minute).mode(RoundMode::Ceil)).unwrap()
}

/// A reader's preferences, with quiet hours until then, which began an hour ago.
fn preferences(reader: &Reader, quiet_until: Option<Timestamp>) -> Value {
    let clock = |time: Timestamp| time.in_tz(QUIET_ZONE).unwrap().strftime("%H:%M").to_string();
    let began = Timestamp::now() - SignedDuration::from_hours(1);
    let quiet =
        quiet_until.map(|end| json!({"start": clock(began), "end": clock(end), "time_zone": QUIET_ZONE}));
    json!({
        "quiet_hours": quiet,
        "min_severity": SEVERITIES[reader.least],
        "muted_categories": reader.muted,
    })
}

/// Waits until everybody's quiet hours are over and what was held has been told. Who was put off for minutes, or had
/// something held just as they ended their quiet hours, puts their preferences, which tells it at once.
async fn end_quiet_hours(town: &Town, record: &Record, readers: &[Reader], people: &[Person]) {
    let woken = record.events().into_iter().filter_map(|(_, event)| match event {
        Event::Woken { from, .. } => Some(from),
        _ => None,
    });
    let last = woken.max().unwrap_or_default();
    tokio::time::sleep(last.saturating_sub(record.now())).await;
    release(town).await.unwrap();
    rest(town).await;
    let events = record.events();
    for (reader, person) in readers.iter().zip(people) {
        let was_throttled = events.iter().any(|(_, event)| match event {
            Event::Publish { reader: other, fate, .. } | Event::Digest { reader: other, fate, .. } => {
                *other == reader.name && *fate == Fate::Throttled
            }
            _ => false,
        });
        if reader.quiet == Some(Quiet::UntilEnded) || (reader.quiet.is_some() && was_throttled) {
            let put = person.api.put(PREFERENCES, &preferences(reader, None)).await.unwrap();
            put.expect(200).unwrap();
        }
    }
    rest(town).await;
}

/// Does what is to be done.
struct Doing<'a> {
    town: &'a Town,
    readers: &'a [Reader],
    people: &'a [Person],
    record: &'a Record,
    /// The id and the author of each post.
    posts: Vec<(String, usize)>,
}

impl Doing<'_> {
    async fn all(mut self, deeds: Vec<Deed>, chance: &mut StdRng) {
        for deed in deeds {
            self.one(deed, chance).await;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..150))).await;
        }
    }

    async fn one(&mut self, deed: Deed, chance: &mut StdRng) {
        match deed {
            Deed::Post { author, form } => {
                let key = format!("post-{}", self.posts.len());
                let accepted = self.accepted(author, Method::POST, "/v1/posts", &form.to_json(), &key).await;
                let post = text(&accepted.body, "post_id").unwrap();
                self.posts.push((post.clone(), author));
                let author = self.readers[author].name.clone();
                self.record.note(Event::Posted { post, author, form });
            }
            Deed::Change { post, form } => {
                let (post, author) = self.posts[post].clone();
                self.change(author, &post, &form).await;
                self.record.note(Event::Changed { post, form });
            }
            Deed::Delete { post } => {
                let (post, author) = self.posts[post].clone();
                let path = format!("/v1/posts/{post}");
                self.accepted(author, Method::DELETE, &path, &Value::Null, "").await;
                self.record.note(Event::Deleted { post });
            }
            Deed::Confirm { post, by } => {
                let (post, author) = self.posts[post].clone();
                if by == author || by < AUTHORS {
                    return;
                }
                let path = format!("/v1/posts/{post}/confirmation");
                self.accepted(by, Method::PUT, &path, &Value::Null, "").await;
                self.record.note(Event::Confirmed { post, by: self.readers[by].name.clone() });
            }
            Deed::Block { by, whom } => {
                let path = format!("/v1/blocks/{}", self.people[whom].user_id());
                self.accepted(by, Method::PUT, &path, &Value::Null, "").await;
                let name = |reader: usize| self.readers[reader].name.clone();
                self.record.note(Event::Blocked { by: name(by), whom: name(whom) });
            }
            Deed::Wake { reader } => {
                let (name, from) = (self.readers[reader].name.clone(), self.record.now());
                self.record.note(Event::Woken { reader: name, from });
                let awake = preferences(&self.readers[reader], None);
                let put = self.accepted(reader, Method::PUT, PREFERENCES, &awake, "");
                // What is told then is told by who may die at it.
                let kill = kill_at_work(self.town, self.record, "deliver-digest", chance.random_range(0..12));
                tokio::join!(put, kill);
            }
            Deed::Read { reader } => {
                let posts = self.walk(reader, chance.random_range(1..8)).await;
                self.record.note(Event::Read { reader: self.readers[reader].name.clone(), posts });
            }
        }
    }

    async fn change(&self, author: usize, post: &str, form: &Form) {
        let path = format!("/v1/posts/{post}");
        match form.status {
            Status::Active => {
                self.accepted(author, Method::PATCH, &path, &form.to_patch(), "").await;
            }
            Status::Resolved => {
                self.accepted(author, Method::POST, &format!("{path}/resolve"), &Value::Null, "").await;
            }
            Status::Cancelled => {
                self.accepted(author, Method::POST, &format!("{path}/cancel"), &Value::Null, "").await;
            }
        }
    }

    /// Sends a request until it is accepted: what is not there yet, or is away, comes.
    async fn accepted(&self, by: usize, method: Method, path: &str, body: &Value, key: &str) -> Answer {
        let (api, begun) = (&self.people[by].api, Instant::now());
        let body = (!body.is_null()).then_some(body);
        let headers = [("idempotency-key", key)];
        let headers = if key.is_empty() { &[][..] } else { &headers[..] };
        loop {
            let answer = api.send_with(method.clone(), path, body, headers).await.unwrap();
            if (200..300).contains(&answer.status) {
                return answer;
            }
            let comes = matches!(answer.status, 404 | 409 | 429 | 503) && begun.elapsed() < 2 * PATIENCE;
            assert!(comes, "{method} {path}: {} {}", answer.status, answer.body);
            self.record.note(Event::Fault(format!("{method} {path}: {}", answer.status)));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A whole timeline, in small pages.
    async fn walk(&self, reader: usize, limit: usize) -> Vec<String> {
        let (mut posts, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/timeline?limit={limit}{cursor}");
            let page = self.accepted(reader, Method::GET, &path, &Value::Null, "").await.body;
            let items = page["items"].as_array().unwrap();
            posts.extend(items.iter().map(|item| text(item, "post_id").unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return posts,
            }
        }
    }
}

/// Appends every record that is in the topic once more, behind the others.
pub(crate) async fn append_again(town: &Town) {
    let producer = town.stack.kafka().producer().build().await.unwrap();
    let records = tokio::time::timeout(PATIENCE, town.whole_topic()).await.unwrap();
    for (key, value) in records {
        let _ = producer.send(krafka::Record::new("posts", value).key(key)).await.unwrap();
    }
}

/// Waits until nothing is left to do, now or later.
async fn rest(town: &Town) {
    let (begun, sqs) = (Instant::now(), town.sqs());
    loop {
        let left = REST.saturating_sub(begun.elapsed());
        assert!(town.stack.settle(left).await, "not everything was done within {REST:?}");
        let mut delayed = 0;
        for queue in ["PushQueue", "BulkPushQueue", "FanOutQueue", "ReactionsQueue"] {
            let name = QueueAttributeName::ApproximateNumberOfMessagesDelayed;
            let url = &town.stack.queues()[queue].url;
            let asked = sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone());
            let attributes = asked.send().await.unwrap().attributes.unwrap();
            delayed += attributes[&name].parse::<usize>().unwrap();
        }
        if delayed == 0 && town.stack.settle(left).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How many messages were sent, as far as they are done: all, at the end.
fn sent(town: &Town) -> Sent {
    let sources = town.stack.metrics().snapshot().event_sources;
    let done = |function: &str| {
        let of_function = sources.iter().filter(|(name, _)| name.split('/').next() == Some(function));
        of_function.map(|(_, source)| usize::try_from(source.done).unwrap()).sum()
    };
    Sent { steps: done("continue-fan-out"), turns: done("deliver-push"), digests: done("deliver-digest") }
}

fn dead_letters(town: &Town) -> Vec<String> {
    let sources = town.stack.metrics().snapshot().event_sources;
    let dead = sources.into_iter().filter(|(_, source)| source.dead_letters + source.discarded > 0);
    dead.map(|(name, source)| format!("{name}: {} dead letters", source.dead_letters + source.discarded))
        .collect()
}

async fn outcome(readers: &[Reader], people: &[Person]) -> Outcome {
    let mut timelines = BTreeMap::new();
    for (reader, person) in readers.iter().zip(people) {
        let items = person.api.timeline().await.unwrap();
        let seen = |item: &Value| Seen {
            post: text(item, "post_id").unwrap(),
            title: text(item, "title").unwrap(),
            severity: text(item, "severity").unwrap(),
            status: text(item, "status").unwrap(),
            confirmations: usize::try_from(item["confirmations"].as_u64().unwrap()).unwrap(),
        };
        timelines.insert(reader.name.clone(), items.iter().map(seen).collect());
    }
    Outcome { timelines }
}
