//! Fan-out: posts into timelines that exist, by the code of `load-timelines`, by the measure of `redis-benchmark`, which sends
//! the same command to the same server, as deep in its pipeline.
//!
//! What is measured is [`Loading`], with the posts and their audience at hand, and the timelines in Redis: the function
//! reads both from DynamoDB, and the local one is what would be measured then. The function as it is has a row of its own.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use secrecy::SecretString;
use tocsin_adapters::{
    dynamodb::SubscriptionsTable,
    memory::{MemoryPostCache, MemoryPosts, MemoryStepQueue},
    redis::{Redis, RedisTimelines},
};
use tocsin_domain::{
    Result as DomainResult,
    audience::{self, Audience, AudienceEntry, AudienceKey, Lookup, Position, Sizes},
    category::CategoryName,
    ids::{PostId, UserId},
    large_audience::{LargeKey, LargeKeys},
    post::Post,
    post_log::PostChange,
    subscription::Subscription,
    time::{self, Timestamp},
    timeline::{Load, Owner, Sources, TimelineEraser as _, Timelines as _, WHOLE},
    timeline_loading::Loading,
};
use url::Url;

use super::{
    Bench, Bound, Figure, Of, Report, Unit, filling::fill, redis_benchmark::RedisBenchmark,
    round_trips::FarAway, samples,
};
use crate::runtime::Capacity;

const ROUNDS: usize = 7;
/// How many people follow what is posted: a part of an audience.
const PEOPLE: usize = Sizes::PART;
/// How many posts a consumer hands over together.
const POSTS: usize = 25;
/// Batches in a round: as many as fill timelines that were empty, and no more, since `redis-benchmark` cannot post at
/// another time with each command.
const BATCHES: usize = 16;
/// How many timelines are made at once.
const AT_ONCE: usize = 32;
const SIZES: Sizes = Sizes { large_key: usize::MAX, part: Sizes::PART };
/// How often each is timed.
const TURNS: usize = 3;
/// Batches whose round trips are counted: so many posts, to so many people.
const COUNTED: [(usize, usize); 4] = [(1, 1), (1, PEOPLE), (5, 500), (POSTS, PEOPLE)];

impl Bench<'_> {
    /// Measures writing into timelines.
    pub(super) async fn fan_out(&self, report: &mut Report) -> Result<()> {
        let url = self.stack.endpoints().redis_url.clone();
        let timelines = timelines(&url)?;
        let town = Town::new(PEOPLE)?;
        let benchmark = RedisBenchmark::find(self.stack.root()).await;
        if let Err(error) = &benchmark {
            report.note(format!("redis-benchmark cannot be had: {error:#}"));
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            town.empty(&timelines).await?;
            let loaded = town.loaded(&timelines).await?;
            town.empty(&timelines).await?;
            let measured = match &benchmark {
                Ok(benchmark) => town.benchmarked(benchmark, &timelines, &url).await?,
                Err(_) => town.piped(&timelines, &url).await?,
            };
            if round > 0 {
                ours.push(loaded);
                theirs.push(measured);
            }
        }
        let name = if benchmark.is_ok() { "redis-benchmark" } else { "a bare loop of the redis crate" };
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        report.add(Figure::new("insertions into timelines, by Loading", Unit::PerSecond, ours));
        report.add(Figure::new(format!("insertions into timelines, by {name}"), Unit::PerSecond, theirs));
        let ratio = Figure::new(format!("Loading, by {name}"), Unit::Ratio, ratios);
        report.add(ratio.wanted(Of::Median, Bound::AtLeast(0.5)));
        self.round_trips(&url, report).await?;
        self.by_the_function(&timelines, report).await
    }

    /// Counts the round trips of batches of several sizes.
    async fn round_trips(&self, url: &str, report: &mut Report) -> Result<()> {
        let server: Url = url.parse()?;
        let server = SocketAddr::from(([127, 0, 0, 1], server.port().context("Redis has no port")?));
        let far = FarAway::from(server).await?;
        let (near, distant) = (timelines(url)?, timelines(&format!("redis://{}", far.address()))?);
        let mut trips = Vec::new();
        for (posts, people) in COUNTED {
            let town = Town::new(people)?;
            town.empty(&near).await?;
            let from_far = town.quickest(&distant, posts).await?;
            trips.push(FarAway::trips(from_far, town.quickest(&near, posts).await?));
        }
        let what = "round trips to Redis, of batches from 1 post to 1 person to 25 to 2,000";
        report.add(Figure::counts(what, trips).wanted(Of::All, Bound::Is(1.0)));
        Ok(())
    }

    /// The function, handed batches of the log, with its posts and subscriptions in the local DynamoDB.
    async fn by_the_function(&self, timelines: &RedisTimelines, report: &mut Report) -> Result<()> {
        let (_, table) =
            self.stack.foundation().table("SUBSCRIPTIONS_TABLE").context("no table of subscriptions")?;
        let database = self.stack.foundation().database().await.context("the storage is not ours")?;
        let town = Town::new(PEOPLE)?;
        town.empty(timelines).await?;
        let items = || {
            town.people.iter().map(|entry| {
                let (user, keys) = (entry.user_id, audience::keys_of(&entry.subscription.wish));
                SubscriptionsTable::items(user, &[(entry.subscription.clone(), keys)])
            })
        };
        fill(&database, table, 1, |_| Ok(items().collect::<DomainResult<Vec<_>>>()?.concat()))?;
        let mut rates = Vec::new();
        for _ in 0..3 {
            let event = samples::event(&Town::posts(POSTS)?)?;
            let began = Instant::now();
            let answer = self.stack.fleet().invoke("load-timelines", event, Capacity::Wait).await?;
            ensure!(
                answer.payload == br#"{"batchItemFailures":[]}"#[..],
                "load-timelines: {:?}",
                answer.payload
            );
            rates.push(per_second(POSTS * PEOPLE, began.elapsed()));
        }
        report.add(Figure::new(
            "insertions by load-timelines, with the local DynamoDB",
            Unit::PerSecond,
            rates,
        ));
        Ok(())
    }
}

fn timelines(url: &str) -> Result<RedisTimelines> {
    Ok(RedisTimelines::new(&Redis::open(&SecretString::from(url))?))
}

/// People who follow what is posted, each with a timeline.
struct Town {
    people: Vec<AudienceEntry>,
}

impl Town {
    fn new(people: usize) -> Result<Self> {
        let since = time::now() - Duration::from_mins(1);
        let wish = samples::wish("flood")?;
        let key: AudienceKey = "flood#*#*".parse()?;
        let person = || {
            let (subscription, _) = samples::subscription(wish.clone(), since);
            AudienceEntry { key: key.clone(), user_id: UserId::new(since), subscription }
        };
        Ok(Self { people: std::iter::repeat_with(person).take(people).collect() })
    }

    /// Posts that all of them follow.
    fn posts(count: usize) -> Result<Vec<Post>> {
        let category: CategoryName = "flood".parse()?;
        let post = || anyhow::Ok(Post { category: category.clone(), ..samples::post(samples::place()?)? });
        std::iter::repeat_with(post).take(count).collect()
    }

    /// Makes everybody's timeline anew, with nothing in it.
    async fn empty(&self, timelines: &RedisTimelines) -> Result<()> {
        stream::iter(&self.people)
            .map(|entry| empty_timeline(timelines, entry.user_id, vec![entry.subscription.clone()]))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Loads posts as the function does; all that belongs somewhere must have been taken.
    async fn load(&self, timelines: &RedisTimelines, posts: &[Post]) -> Result<()> {
        let (stored, cache, queue) =
            (MemoryPosts::default(), MemoryPostCache::default(), MemoryStepQueue::default());
        let loading = Loading {
            posts: &stored,
            audience: self,
            large: self,
            timelines,
            cache: &cache,
            queue: &queue,
            sizes: SIZES,
        };
        let changes: Vec<_> = posts.iter().map(|post| PostChange::Created(Box::new(post.clone()))).collect();
        for loaded in loading.load(&changes).await {
            ensure!(loaded? == self.people.len(), "a post was not for everybody");
        }
        Ok(())
    }

    /// How long a batch takes, where nothing comes in between.
    async fn quickest(&self, timelines: &RedisTimelines, posts: usize) -> Result<Duration> {
        let mut quickest = Duration::MAX;
        // The first connects.
        for turn in 0..=TURNS {
            let posts = Self::posts(posts)?;
            let began = Instant::now();
            self.load(timelines, &posts).await?;
            if turn > 0 {
                quickest = quickest.min(began.elapsed());
            }
        }
        Ok(quickest)
    }

    /// Insertions a second by loading.
    async fn loaded(&self, timelines: &RedisTimelines) -> Result<f64> {
        let batches = (0..BATCHES).map(|_| Self::posts(POSTS)).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        for posts in &batches {
            self.load(timelines, posts).await?;
        }
        let rate = per_second(BATCHES * POSTS * self.people.len(), began.elapsed());
        let page = timelines.page(self.people[0].user_id, None, BATCHES * POSTS + 1).await?;
        let count = page.map_or(0, |page| page.entries.len());
        ensure!(count == BATCHES * POSTS, "a timeline has {count} posts");
        Ok(rate)
    }

    /// The commands that write a batch into everybody's timeline: each with as many insertions.
    fn commands(&self, timelines: &RedisTimelines, posts: Vec<Post>) -> Result<Vec<Vec<Vec<u8>>>> {
        let owners: Vec<_> = self.people.iter().map(|entry| Owner::User(entry.user_id)).collect();
        let loads: Vec<_> = posts.into_iter().map(|post| Load { post, owners: owners.clone() }).collect();
        let trip = timelines.trip(&loads)?;
        let arguments = |command: &redis::Cmd| {
            let simple = command.args_iter().filter_map(|argument| match argument {
                redis::Arg::Simple(bytes) => Some(bytes.to_vec()),
                _ => None,
            });
            simple.collect::<Vec<_>>()
        };
        let commands = trip.cmd_iter().map(arguments);
        Ok(commands.filter(|command| command.first().is_some_and(|name| name == b"EVALSHA")).collect())
    }

    /// Insertions a second by `redis-benchmark`: it sends one command, again and again, which posts something else each time.
    async fn benchmarked(
        &self,
        benchmark: &RedisBenchmark,
        timelines: &RedisTimelines,
        url: &str,
    ) -> Result<f64> {
        let posts = Self::posts(POSTS)?;
        let ids: Vec<_> = posts.iter().map(|post| post.post_id).collect();
        let commands = self.commands(timelines, posts)?;
        let depth = commands.len();
        let url: Url = url.parse()?;
        let port = url.port().context("Redis has no port")?;
        let mut took = Duration::ZERO;
        for mut command in commands {
            for argument in &mut command {
                if let Some(id) = ids.iter().find(|id| id.to_string().as_bytes() == argument.as_slice()) {
                    *argument = another_each_time(*id);
                }
            }
            let rate = benchmark.requests_per_second(port, depth, BATCHES, &command).await?;
            took += Duration::from_secs_f64(1.0 / rate) * u32::try_from(BATCHES)?;
        }
        let page = timelines.page(self.people[0].user_id, None, BATCHES * POSTS + 1).await?;
        let count = page.map_or(0, |page| page.entries.len());
        ensure!(count == BATCHES * POSTS, "redis-benchmark left {count} posts in a timeline");
        Ok(per_second(BATCHES * POSTS * self.people.len(), took))
    }

    /// Insertions a second by a loop of the `redis` crate.
    async fn piped(&self, timelines: &RedisTimelines, url: &str) -> Result<f64> {
        let mut pipelines = Vec::new();
        for _ in 0..BATCHES {
            let mut pipeline = redis::pipe();
            for command in self.commands(timelines, Self::posts(POSTS)?)? {
                let mut words = command.into_iter();
                let mut built = redis::Cmd::new();
                words.by_ref().for_each(|word| {
                    built.arg(word);
                });
                pipeline.add_command(built).ignore();
            }
            pipelines.push(pipeline);
        }
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let began = Instant::now();
        for pipeline in &pipelines {
            pipeline.exec_async(&mut connection).await?;
        }
        Ok(per_second(BATCHES * POSTS * self.people.len(), began.elapsed()))
    }
}

/// A post's id of the same millisecond whose last twelve digits `redis-benchmark` makes up.
fn another_each_time(id: PostId) -> Vec<u8> {
    let text = id.to_string();
    let (first, _) = text.split_at(text.len() - 12);
    [first, "__rand_int__"].concat().into_bytes()
}

/// Makes a timeline that holds nothing, and everything there is.
pub(super) async fn empty_timeline(
    timelines: &RedisTimelines,
    user: UserId,
    subscriptions: Vec<Subscription>,
) -> Result<()> {
    let owner = Owner::User(user);
    timelines.forget(user).await?;
    let rebuild = timelines.begin_rebuild(&owner).await?.context("somebody else rebuilds a timeline")?;
    let sources = Sources { subscriptions, large: Vec::new() };
    Ok(timelines.finish_rebuild(&owner, rebuild, &[], WHOLE, &sources).await?)
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// They all follow the category from anywhere.
impl Audience for Town {
    async fn entries(
        &self,
        lookup: &Lookup,
        from: Option<Position>,
        limit: usize,
    ) -> DomainResult<(Vec<AudienceEntry>, Option<Position>)> {
        if lookup.key.cell.is_some() || lookup.key.tag.is_some() {
            return Ok((Vec::new(), None));
        }
        let from: usize = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let entries = self.people.iter().skip(from).take(limit).cloned().collect();
        let next = from + limit;
        Ok((entries, (next < self.people.len()).then(|| next.to_string())))
    }
}

/// None is large.
impl LargeKeys for Town {
    async fn all(&self) -> DomainResult<Arc<[LargeKey]>> {
        Ok(Arc::default())
    }

    async fn remember(&self, _: &AudienceKey, _: Timestamp) -> DomainResult<()> {
        Ok(())
    }
}
