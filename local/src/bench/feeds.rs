//! Polling: a list of ten thousand plans, as it comes, again, and changed; and a hundred feeds that are due at once, whose
//! providers take half a second each.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tocsin_adapters::{
    dynamodb::{CategoriesTable, FeedsTable, Requests},
    feed_source::HttpFeedSource,
    http::Http,
    memory::MemoryPostLog,
};
use tocsin_domain::{
    feed_poll::{PollJob, Polling},
    ids::FeedId,
    time,
};
use tocsin_feeds::samples::plan_list;
use tokio::time::sleep;

use super::{
    Bench, Bound, Figure, Of, Report, Unit,
    endpoint::{Endpoint, serve},
    mebibytes,
};
use crate::{
    api_client::{ApiClient, Person, text},
    runtime::Capacity,
};

/// How many plans a long list has: some 10 MB.
const PLANS: u32 = 10_000;
/// How often a list is polled as it comes, of a feed of its own each time; and again.
const ROUNDS: usize = 7;
/// How many feeds are due at once, with how many plans each, and how long their providers take.
const FEEDS: usize = 100;
const PLANS_EACH: u32 = 20;
const PROVIDER_TAKES: Duration = Duration::from_millis(500);
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A provider, that has one document at every path.
struct Provider {
    endpoint: Endpoint,
    document: Arc<Mutex<Bytes>>,
}

impl Provider {
    async fn start(takes: Duration) -> Result<Self> {
        let document: Arc<Mutex<Bytes>> = Arc::default();
        let shared = Arc::clone(&document);
        let endpoint = serve(move |_| {
            let document = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
            async move {
                sleep(takes).await;
                Response::new(Full::new(document))
            }
        });
        Ok(Self { endpoint: endpoint.await?, document })
    }

    fn publish(&self, document: String) {
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = document.into();
    }

    fn feed(&self, number: usize) -> Value {
        json!({
            "url": format!("{}/{number}", self.endpoint.url()), "format": "plan-list-xml",
            "category": "community", "every_minutes": 1_440,
        })
    }
}

impl Bench<'_> {
    /// Measures polls.
    pub(super) async fn feeds(&self, report: &mut Report) -> Result<()> {
        let moderator = self.moderator().await?;
        self.long_lists(&moderator, report).await?;
        self.many_at_once(&moderator, report).await
    }

    async fn moderator(&self) -> Result<Person> {
        let api = ApiClient::new(self.stack.base_url());
        let person = api.register("moderator", "moderator@example.org").await?;
        api.post("/_local/admins", &json!({"email": person.email})).await?.expect(200)?;
        // The roles are in the next access token.
        let tokens = api.with_token(&person.session_token).post("/v1/auth/session", &Value::Null).await?;
        let api = api.with_token(text(&tokens.expect(200)?, "access_token")?);
        Ok(Person { api, ..person })
    }

    async fn add(&self, moderator: &Person, feed: &Value) -> Result<FeedId> {
        let made = moderator.api.post("/v1/feeds", feed).await?.expect(201)?;
        text(&made, "feed_id")?.parse().context("the id of a feed")
    }

    async fn last_reading(&self, moderator: &Person, id: FeedId) -> Result<Value> {
        let feed = moderator.api.get(&format!("/v1/feeds/{id}")).await?.expect(200)?;
        ensure!(feed["last_poll"]["outcome"] == "read", "{feed}");
        Ok(feed["last_reading"].clone())
    }

    /// Has the function poll a feed; answers how long that took.
    async fn poll(&self, id: FeedId) -> Result<Duration> {
        let job = PollJob { feed_id: id, due: None };
        let event = json!({"Records": [{
            "messageId": id, "body": serde_json::to_string(&job)?, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-north-1:123456789012:PollQueue",
        }]});
        let polled = self.stack.fleet().invoke("poll-feed", event.to_string().into(), Capacity::Wait).await?;
        ensure!(
            polled.payload == br#"{"batchItemFailures":[]}"#[..],
            "poll-feed answered {:?}",
            polled.payload
        );
        Ok(polled.duration)
    }

    async fn long_lists(&self, moderator: &Person, report: &mut Report) -> Result<()> {
        let provider = Provider::start(Duration::ZERO).await?;
        let now = time::now();
        let list = plan_list(PLANS, now);
        let (mut first, mut second, mut published) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            provider.publish(list.clone());
            let id = self.add(moderator, &provider.feed(round)).await?;
            first.push(self.poll(id).await?);
            published.push(count(&self.last_reading(moderator, id).await?, "created"));
            second.push(self.poll(id).await?);
            published.push(count(&self.last_reading(moderator, id).await?, "created"));
            ensure!(self.stack.settle(PATIENCE).await, "ten thousand plans are never stored");
        }
        let what = format!(
            "poll-feed, a list of {PLANS} plans ({:.1} MB)",
            mebibytes(list.len() as u64) * 1.048_576
        );
        report.add(
            Figure::times(format!("{what}, for the first time"), first)
                .wanted(Of::Median, Bound::Below(1_500.0)),
        );
        report.add(Figure::times(format!("{what}, again"), second));
        let new = published.iter().copied().step_by(2);
        let again = published.iter().copied().skip(1).step_by(2);
        report.add(
            Figure::counts("posts published, the first time", new)
                .wanted(Of::All, Bound::Is(f64::from(PLANS))),
        );
        report.add(Figure::counts("posts published, again", again).wanted(Of::All, Bound::Is(0.0)));
        self.stack.fleet().observe_memory();
        let peak = self.stack.metrics().function("poll-feed").peak_memory.get();
        let figure = Figure::new("peak memory, poll-feed", Unit::Mebibytes, [mebibytes(peak)]);
        report.add(figure.wanted(Of::All, Bound::Within(1.0, 64.0)));
        self.requests(moderator, &provider, report).await
    }

    /// How often the storage is asked for a list that is the same: to take the lease, for the categories, for what is known,
    /// and to end the poll. The function's adapters, in this process, with another log.
    async fn requests(&self, moderator: &Person, provider: &Provider, report: &mut Report) -> Result<()> {
        let feed_id = self.add(moderator, &provider.feed(ROUNDS)).await?;
        let requests = Requests::default();
        let table = |name| {
            let (client, table) = self.stack.foundation().table(name).context("no such table")?;
            anyhow::Ok((requests.of(&client), table.to_owned()))
        };
        let (client, feeds) = table("FEEDS_TABLE")?;
        let polls = FeedsTable::new(&client, feeds);
        let (client, categories) = table("CATEGORIES_TABLE")?;
        let categories = CategoriesTable::new(&client, categories);
        let (source, log) = (HttpFeedSource::new(&Http::new(["127.0.0.1"])), MemoryPostLog::default());
        let polling = Polling {
            polls: &polls,
            source: &source,
            read: tocsin_feeds::read,
            categories: &categories,
            log: &log,
        };
        let (mut asked, mut records) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            polling
                .poll(&PollJob { feed_id, due: None }, time::now)
                .await?
                .context("nobody else polls it")?;
            asked.push(requests.take());
            records.push(log.records().len());
        }
        report.add(Figure::count("DynamoDB requests of such a poll, the first time", asked[0]));
        report.add(Figure::count("DynamoDB requests of such a poll, again", asked[1]));
        ensure!(records[0] == records[1], "a list that is the same was published again");
        Ok(())
    }

    async fn many_at_once(&self, moderator: &Person, report: &mut Report) -> Result<()> {
        let provider = Provider::start(PROVIDER_TAKES).await?;
        provider.publish(plan_list(PLANS_EACH, time::now()));
        for number in 0..FEEDS {
            self.add(moderator, &provider.feed(number)).await?;
        }
        let began = Instant::now();
        let event = self.event("schedule-feeds", "")?;
        self.stack.fleet().invoke("schedule-feeds", event, Capacity::Wait).await?;
        let took = loop {
            let waiting = self.waiting(moderator).await?;
            if waiting == 0 {
                break began.elapsed();
            }
            ensure!(began.elapsed() < PATIENCE, "{waiting} feeds are never polled");
            sleep(Duration::from_millis(100)).await;
        };
        let name = format!("{FEEDS} feeds that are due at once, ten at a time, half a second each");
        report.add(Figure::times(name, [took]).wanted(Of::All, Bound::Below(60_000.0)));
        Ok(())
    }

    /// How many of the newest feeds have not been polled yet.
    async fn waiting(&self, moderator: &Person) -> Result<usize> {
        let page = moderator.api.get(&format!("/v1/feeds?limit={FEEDS}")).await?.expect(200)?;
        let feeds = page["items"].as_array().context("a page")?;
        Ok(feeds.iter().filter(|feed| feed["state"] == "waiting").count())
    }
}

fn count(reading: &Value, name: &str) -> usize {
    reading[name].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}
