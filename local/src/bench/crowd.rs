//! A post to a crowd, and one to ten people right after it: whether every timeline and every phone has it once, how much
//! memory the functions take, and how long the ten wait. Once for 100,000 people, while SNS takes as much as comes; and once
//! for 10,000, while it takes no more than it does in most regions.
//!
//! SQS and SNS are endpoints of the bench's own, that count: moto takes milliseconds for each push, and would be what is
//! measured. People, what they follow and their phones are put into the tables directly, since nobody registers a hundred
//! thousand people in minutes.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use secrecy::SecretString;
use serde_json::json;
use tocsin_adapters::{
    dynamodb::{DevicesTable, Item, SubscriptionsTable},
    redis::{Redis, RedisTimelines},
};
use tocsin_domain::{
    device::{Device, DeviceToken, Platform},
    ids::{PostId, UserId},
    place::{Circle, Point},
    push::Endpoint,
    subscription::{Subscription, Wish},
    time::{self, Timestamp},
    timeline::Timelines as _,
};
use tokio::time::sleep;

use super::{
    Bench, Bound, Figure, Of, Report, Unit, fan_out::empty_timeline, filling::fill, mebibytes, people_of,
    samples, sns_endpoint::SnsEndpoint, sqs_endpoint::SqsEndpoint,
};
use crate::{
    api_client::{ApiClient, text},
    scenario,
};

/// How many people the small post is for.
const FEW: usize = 10;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// How many people the large post is for.
    people: usize,
    /// How many pushes a second SNS takes, if that is bounded.
    sns_per_second: Option<u32>,
    /// How many of them are for large audiences.
    bulk_per_second: u32,
}

impl Scene {
    /// All that is measured. SNS takes 300 a second where it takes the least
    /// (<https://docs.aws.amazon.com/general/latest/gr/sns.html>), and large audiences have half of that.
    pub const ALL: [Self; 2] = [
        Self { people: 100_000, sns_per_second: None, bulk_per_second: 100_000 },
        Self { people: 10_000, sns_per_second: Some(300), bulk_per_second: 150 },
    ];

    /// What the functions are told of it.
    #[must_use]
    pub fn environment(self) -> BTreeMap<String, String> {
        [("BULK_PUSHES_PER_SECOND".to_owned(), self.bulk_per_second.to_string())].into()
    }

    /// What its figures are called.
    fn name(self) -> String {
        let limit = self.sns_per_second.map(|limit| format!(" at {limit} pushes/s")).unwrap_or_default();
        format!("a post to {}{limit}", self.people)
    }
}

/// How many people are put into the tables at once.
const CHUNK: usize = 5_000;
/// How many timelines are made or read at once.
const AT_ONCE: usize = 64;
/// How long between two looks at the timelines of the ten.
const POLL: Duration = Duration::from_millis(10);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(20);
/// How long nothing more may come, before nothing more is expected.
const SILENCE: Duration = Duration::from_secs(3);
/// The application whose endpoints the phones have.
const APPLICATION: &str = "arn:aws:sns:eu-north-1:123456789012:app/GCM/tocsin-local";

/// SQS and SNS of the bench's own.
#[derive(Debug)]
pub struct Endpoints {
    /// SQS.
    pub sqs: SqsEndpoint,
    /// SNS.
    pub sns: SnsEndpoint,
}

impl Endpoints {
    /// Starts both.
    pub async fn start() -> Result<Self> {
        Ok(Self { sqs: SqsEndpoint::start().await?, sns: SnsEndpoint::start().await? })
    }

    /// Where they are, by the services' names.
    #[must_use]
    pub fn addresses(&self) -> BTreeMap<String, String> {
        [("SQS".to_owned(), self.sqs.url()), ("SNS".to_owned(), self.sns.url())].into()
    }
}

/// Somebody with a phone.
#[derive(Clone)]
struct Follower {
    user_id: UserId,
    subscription: Subscription,
    /// Their phone's endpoint.
    endpoint: String,
}

pub(super) async fn measure(
    bench: &Bench<'_>,
    scene: Scene,
    endpoints: &Endpoints,
    report: &mut Report,
) -> Result<()> {
    let crowd = Crowd { bench, endpoints };
    let (name, people) = (scene.name(), scene.people);
    if let Some(limit) = scene.sns_per_second {
        endpoints.sns.limit(limit);
    }
    let timelines =
        RedisTimelines::new(&Redis::open(&SecretString::from(bench.stack.endpoints().redis_url.as_str()))?);
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(100_000);
    let place = samples::place()?;
    let many = crowd.settle(&timelines, people, || around(&mut random, place)).await?;
    let few = crowd.settle(&timelines, FEW, || samples::wish("flood")).await?;
    (bench.say)(&format!("{} people live here after {:.1} s", people + FEW, began.elapsed().as_secs_f64()));

    let author = people_of(&ApiClient::new(bench.stack.base_url()), "author", 1).await?.remove(0);
    // Started before, as the functions of a busy place are.
    let post = |category: &str| {
        let body = json!({"title": "Smoke over the harbour", "category": category,
            "severity": "severe", "location": {"lat": place.lat(), "lon": place.lon()}});
        let api = author.api.clone();
        async move {
            text(&api.post("/v1/posts", &body).await?.expect(202)?, "post_id")?
                .parse::<PostId>()
                .context("a post id")
        }
    };
    post("weather").await?;
    ensure!(bench.stack.settle(PATIENCE).await, "a post to nobody is never done");

    let began = Instant::now();
    let large = post("fire").await?;
    let posted = Instant::now();
    let small = post("flood").await?;
    let reached = crowd.until_reached(&timelines, &few, small, posted).await?;
    report.add(
        Figure::times(
            format!("{name}, and one to 10 right after it: from POST to each timeline"),
            reached.timelines,
        )
        .wanted(Of::All, Bound::Below(2_000.0)),
    );
    report.add(
        Figure::times(
            format!("{name}, and one to 10 right after it: from POST to each push"),
            reached.pushes,
        )
        .wanted(Of::All, Bound::Below(2_000.0)),
    );
    crowd.until_done(began).await?;
    let took = began.elapsed();

    let (timelines_once, pushes_once) =
        (crowd.timelines_with(&timelines, &many, large).await?, crowd.pushes_of(&many, large));
    for (what, count, wanted) in [
        ("timelines that have it once", timelines_once, people),
        ("phones that rang for it once", pushes_once, people),
        ("pushes in all", endpoints.sns.count(), people + FEW),
    ] {
        let figure = Figure::count(format!("{name}: {what}"), count);
        report.add(figure.wanted(Of::All, Bound::Is(as_number(wanted))));
    }
    report.add(Figure::times(format!("{name}: until all is done"), [took]));
    if scene.sns_per_second.is_some() {
        report.add(Figure::count(format!("{name}: pushes that SNS throttled"), endpoints.sns.throttled()));
    }
    crowd.failures(&name, report);
    crowd.memory(&name, report);
    Ok(())
}

/// A wish for fires in a circle that the place is in.
fn around(random: &mut StdRng, place: Point) -> Result<Wish> {
    let radius_m = random.random_range(8_000.0..40_000.0);
    let mut off = |of: f64| of + random.random_range(-0.05..0.05);
    let centre = Point::new(off(place.lat()), off(place.lon()))?;
    Ok(Wish { area: Some(Circle::new(centre, radius_m)?), ..samples::wish("fire")? })
}

/// When each of the ten had the small post, after it was posted.
#[derive(Default)]
struct Reached {
    timelines: Vec<Duration>,
    pushes: Vec<Duration>,
}

struct Crowd<'a> {
    bench: &'a Bench<'a>,
    endpoints: &'a Endpoints,
}

impl Crowd<'_> {
    /// Puts people into the tables, each with a wish, a phone, and an empty timeline.
    async fn settle(
        &self,
        timelines: &RedisTimelines,
        count: usize,
        mut wish: impl FnMut() -> Result<Wish>,
    ) -> Result<Vec<Follower>> {
        let since = time::now() - Duration::from_mins(1);
        let mut followers = Vec::with_capacity(count);
        while followers.len() < count {
            let some = CHUNK.min(count - followers.len());
            let some = (0..some).map(|_| Ok((UserId::new(since), samples::subscription(wish()?, since))));
            let some = some.collect::<Result<Vec<_>>>()?;
            self.store(
                "SUBSCRIPTIONS_TABLE",
                some.iter()
                    .map(|(user, one)| Ok(SubscriptionsTable::items(*user, std::slice::from_ref(one))?)),
            )
            .await?;
            let some: Vec<_> = some
                .into_iter()
                .map(|(user_id, (subscription, _))| {
                    let endpoint = self.endpoints.sns.register(APPLICATION, &user_id.to_string());
                    Follower { user_id, subscription, endpoint }
                })
                .collect();
            let devices = some.iter().map(|follower| {
                Ok(DevicesTable::items(follower.user_id, &phone(follower, since)?)?.to_vec())
            });
            self.store("DEVICES_TABLE", devices).await?;
            followers.extend(some);
        }
        stream::iter(&followers)
            .map(|one| empty_timeline(timelines, one.user_id, vec![one.subscription.clone()]))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(followers)
    }

    /// Puts items into the table that functions know by a variable.
    async fn store(&self, variable: &str, items: impl Iterator<Item = Result<Vec<Item>>>) -> Result<()> {
        let foundation = self.bench.stack.foundation();
        let (_, table) = foundation.table(variable).with_context(|| format!("no {variable}"))?;
        let (table, items) = (table.to_owned(), items.collect::<Result<Vec<_>>>()?.concat());
        let database = foundation.database().await.context("the bench needs the embedded storage")?;
        tokio::task::spawn_blocking(move || fill(&database, &table, 1, |_| Ok(items.clone()))).await??;
        Ok(())
    }

    /// Waits until a post has reached each of these, by their timeline and by their phone.
    async fn until_reached(
        &self,
        timelines: &RedisTimelines,
        followers: &[Follower],
        post_id: PostId,
        posted: Instant,
    ) -> Result<Reached> {
        let mut reached = Reached::default();
        let mut waiting: Vec<&Follower> = followers.iter().collect();
        while !waiting.is_empty() {
            ensure!(posted.elapsed() < PATIENCE, "the small post does not reach {} people", waiting.len());
            let mut left = Vec::new();
            for follower in waiting {
                if has(timelines, follower, post_id).await? {
                    reached.timelines.push(posted.elapsed());
                } else {
                    left.push(follower);
                }
            }
            waiting = left;
            sleep(POLL).await;
        }
        for follower in followers {
            let pushed = loop {
                if let Some(push) = self.endpoints.sns.published(&follower.endpoint).first() {
                    break push.at;
                }
                ensure!(posted.elapsed() < PATIENCE, "the small post rings not every phone");
                sleep(POLL).await;
            };
            reached.pushes.push(pushed - posted);
        }
        Ok(reached)
    }

    /// Waits until no more pushes come, and nothing is left to be done.
    async fn until_done(&self, began: Instant) -> Result<()> {
        let mut seen = 0;
        loop {
            sleep(SILENCE).await;
            ensure!(began.elapsed() < PATIENCE, "not everything is done: {seen} pushes");
            let now = self.endpoints.sns.count();
            (self.bench.say)(&format!("{now} pushes after {} s", began.elapsed().as_secs()));
            if now == seen {
                break;
            }
            seen = now;
        }
        ensure!(self.bench.stack.settle(PATIENCE).await, "not everything is done");
        Ok(())
    }

    /// How many timelines have a post, once.
    async fn timelines_with(
        &self,
        timelines: &RedisTimelines,
        followers: &[Follower],
        post_id: PostId,
    ) -> Result<usize> {
        let looks = stream::iter(followers).map(|follower| has(timelines, follower, post_id));
        looks
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |sum, has| async move { Ok(sum + usize::from(has)) })
            .await
    }

    /// How many phones rang once, and for this post.
    fn pushes_of(&self, followers: &[Follower], post_id: PostId) -> usize {
        let wanted = post_id.to_string();
        let once = |follower: &&Follower| {
            let pushes = self.endpoints.sns.published(&follower.endpoint);
            matches!(pushes.as_slice(), [push]
                if scenario::find(&push.message.clone().into(), "post_id").as_ref() == Some(&wanted))
        };
        followers.iter().filter(once).count()
    }

    fn failures(&self, name: &str, report: &mut Report) {
        let snapshot = self.bench.stack.metrics().snapshot();
        let errors: u64 =
            snapshot.functions.values().map(|function| function.errors + function.crashes).sum();
        let retries: u64 = snapshot.event_sources.values().map(|source| source.retries).sum();
        let given_up =
            snapshot.event_sources.values().map(|source| source.dead_letters + source.discarded).sum::<u64>();
        let dead: usize = self.endpoints.sqs.counts().values().map(|queue| queue.dead).sum();
        for (what, count) in [
            ("errors of functions", errors),
            ("dead letters, and what was given up", given_up + dead as u64),
            ("batches that were tried again", retries),
        ] {
            let figure =
                Figure::count(format!("{name}: {what}"), usize::try_from(count).unwrap_or(usize::MAX));
            report.add(figure.wanted(Of::All, Bound::Is(0.0)));
        }
        let counts = self.endpoints.sqs.counts();
        let used = counts.iter().filter(|(_, queue)| queue.sent > 0);
        let used = used.map(|(name, queue)| format!("{name} {}", queue.sent)).collect::<Vec<_>>();
        report.note(format!("{name}: messages sent, by queue: {}", used.join(", ")));
    }

    fn memory(&self, scene: &str, report: &mut Report) {
        self.bench.stack.fleet().observe_memory();
        let functions = [
            "create-post",
            "ingest-posts",
            "load-timelines",
            "notify-subscribers",
            "continue-fan-out",
            "deliver-push",
        ];
        for name in functions {
            let peak = self.bench.stack.metrics().function(name).peak_memory.get();
            let figure =
                Figure::new(format!("{scene}: peak memory, {name}"), Unit::Mebibytes, [mebibytes(peak)]);
            report.add(figure.wanted(Of::All, Bound::Within(1.0, 64.0)));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousand people")]
const fn as_number(count: usize) -> f64 {
    count as f64
}

/// Whether a timeline has a post, once.
async fn has(timelines: &RedisTimelines, follower: &Follower, post_id: PostId) -> Result<bool> {
    let page = timelines.page(follower.user_id, None, 10).await?;
    let entries = page.map(|page| page.entries).unwrap_or_default();
    let each: HashSet<_> = entries.iter().collect();
    Ok(each.len() == entries.len() && entries.contains(&post_id))
}

fn phone(follower: &Follower, since: Timestamp) -> Result<Device> {
    Ok(Device {
        device_id: "phone".parse()?,
        token: DeviceToken { platform: Platform::Fcm, token: follower.user_id.to_string() },
        endpoint: Endpoint(follower.endpoint.clone()),
        created_at: since,
        updated_at: since,
    })
}
