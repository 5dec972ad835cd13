//! A page of the events of a year, in the function, with few and with many of them stored: of all, of a category, and around a
//! point. How often the storage is asked for one is the same.

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::Client;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use tocsin_adapters::{
    dynamodb::{Item, PostsTable, Requests},
    memory::MemoryPostCache,
};
use tocsin_domain::{
    category::{self, CategoryName},
    cursor::Limit,
    event_index::Span,
    events::Events,
    friendship::HiddenPeople,
    place::{Circle, Point},
    post::{Post, PostKind},
    time::{self, Timestamp},
};

use super::{Bench, Bound, Figure, Of, Report, Unit, filling::fill, people_of, samples};
use crate::api_client::{ApiClient, Person};

/// How many events there are within a year, at first and in the end.
const SIZES: [usize; 2] = [1_000, 100_000];
/// How many are made and stored together.
const CHUNK: usize = 1_000;
/// How many pages are read of each list: an account may read 1,200 times a minute.
const READS: usize = 300;
/// Of how many pages the requests are counted.
const COUNTED: usize = 50;
/// Half of the events are in a town, so far around its middle, and the others in its country, in degrees.
const TOWN: f64 = 0.1;
const COUNTRY: f64 = 4.0;
/// A year, in seconds.
const YEAR: u64 = 365 * 24 * 60 * 60;
/// How far around the town's middle is asked for, in metres.
const RADIUS_M: f64 = 20_000.0;

const LISTS: [Wanted; 3] = [Wanted::All, Wanted::OfCategory, Wanted::Around];

/// Of which events a page is read.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    All,
    OfCategory,
    Around,
}

impl Bench<'_> {
    /// Measures pages of events.
    pub(super) async fn events(&self, report: &mut Report) -> Result<()> {
        let foundation = self.stack.foundation();
        let (client, table) = foundation.table("POSTS_TABLE").context("no table of posts")?;
        let database = foundation.database().await.context("the bench needs the embedded storage")?;
        let year = Year::new()?;
        let api = ApiClient::new(self.stack.base_url());
        let readers = people_of(&api, "visitor", SIZES.len() * LISTS.len()).await?;
        let (mut readers, mut stored, mut requests) = (readers.iter(), 0, Vec::new());
        for total in SIZES {
            let (year_too, database, name) = (year.clone(), database.clone(), table.to_owned());
            let filling = tokio::task::spawn_blocking(move || {
                fill(&database, &name, (total - stored).div_ceil(CHUNK), |chunk| {
                    let first = stored + chunk * CHUNK;
                    year_too.items(first..(first + CHUNK).min(total))
                })
            });
            let filled = filling.await??;
            (self.say)(&format!("{} more items, in {:.1} s", filled.items, filled.took.as_secs_f64()));
            stored = total;
            for wanted in LISTS {
                let what = format!("{wanted}, of {total} in a year");
                let reader = readers.next().context("a reader")?;
                let times =
                    Figure::times(format!("list-events, {what}"), self.read(reader, &year, wanted).await?);
                report.add(times.wanted(Of::Median, Bound::Below(25.0)));
                let asked = year.requests(&client, table, wanted).await?;
                report
                    .add(Figure::counts(format!("DynamoDB requests for it, {what}"), asked.iter().copied()));
                requests.push(asked);
            }
        }
        let (few, many) = requests.split_at(LISTS.len());
        for (wanted, (few, many)) in LISTS.into_iter().zip(few.iter().zip(many)) {
            #[expect(clippy::cast_precision_loss, reason = "some dozens")]
            let ratios = many.iter().zip(few).map(|(many, few)| *many as f64 / *few as f64);
            let ratio = Figure::new(format!("those of many, by those of few, {wanted}"), Unit::Ratio, ratios);
            report.add(ratio.wanted(Of::All, Bound::Within(0.5, 1.5)));
        }
        Ok(())
    }

    /// How long the function takes for each of some pages.
    async fn read(&self, reader: &Person, year: &Year, wanted: Wanted) -> Result<Vec<Duration>> {
        let sample = self.event("list-events", reader.api.access_token().unwrap_or_default())?;
        let sample: Value = serde_json::from_slice(&sample)?;
        let mut random = StdRng::seed_from_u64(8);
        let mut event = || {
            let list = year.list(&mut random, wanted)?;
            anyhow::Ok(Bytes::from(asking_for(sample.clone(), &list).to_string()))
        };
        // The first starts the process.
        let page = self.answer("list-events", event()?).await?;
        let items = page["items"].as_array().map_or(0, Vec::len);
        ensure!(items == Limit::default().get(), "a page has {items} events: {page}");
        let events = (0..READS).map(|_| event()).collect::<Result<Vec<_>>>()?;
        stream::iter(events).then(|event| self.invoke("list-events", event)).try_collect().await
    }
}

/// The request for a page.
fn asking_for(mut event: Value, list: &Events) -> Value {
    let circle = list.circle.map(|circle| {
        let (lat, lon) = (circle.centre().lat(), circle.centre().lon());
        [("lat", lat), ("lon", lon), ("radius_m", circle.radius_m())]
            .map(|(name, number)| (name, number.to_string()))
    });
    let times = [("starts_at", list.span.starts_at()), ("ends_at", list.span.ends_at())];
    let parameters = times.map(|(name, time)| (name, time.to_string())).into_iter();
    let parameters =
        parameters.chain(list.category.iter().map(|category| ("category", category.to_string())));
    let parameters: Vec<_> = parameters.chain(circle.into_iter().flatten()).collect();
    let raw: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    event["rawQueryString"] = raw.join("&").into();
    event["queryStringParameters"] =
        parameters.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    event
}

/// What is going on in a country in the next year: the same in every run.
#[derive(Clone)]
struct Year {
    since: Timestamp,
    town: Point,
    categories: Vec<CategoryName>,
}

impl Year {
    fn new() -> Result<Self> {
        let categories = category::initial().into_iter().map(|category| category.category).collect();
        Ok(Self { since: time::now(), town: samples::place()?, categories })
    }

    /// The items of some events.
    fn items(&self, numbers: Range<usize>) -> Result<Vec<Item>> {
        let mut random = StdRng::seed_from_u64(numbers.start as u64);
        let mut items = Vec::new();
        for number in numbers {
            let degrees = if number % 2 == 0 { TOWN } else { COUNTRY };
            let mut off = |of: f64| of + random.random_range(-degrees..degrees);
            let place = Point::new(off(self.town.lat()), off(self.town.lon()))?;
            let starts_at = time::after(self.since, random.random_range(0..YEAR));
            let event = Post {
                kind: PostKind::Event,
                category: self.categories.choose(&mut random).context("a category")?.clone(),
                starts_at: Some(starts_at),
                ends_at: Some(time::after(starts_at, random.random_range(1..48) * 60 * 60)),
                ..samples::post(place)?
            };
            items.extend(PostsTable::items(&event)?);
        }
        Ok(items)
    }

    /// A list of what begins after some instant of its first half, so that most of it is not at hand.
    fn list(&self, random: &mut StdRng, wanted: Wanted) -> Result<Events> {
        let starts_at = time::after(self.since, random.random_range(0..YEAR / 2));
        let category = self.categories.first().context("a category")?.clone();
        Ok(Events {
            span: Span::new(starts_at, time::after(starts_at, YEAR))?,
            category: matches!(wanted, Wanted::OfCategory).then_some(category),
            circle: matches!(wanted, Wanted::Around).then(|| Circle::new(self.town, RADIUS_M)).transpose()?,
            limit: Limit::default(),
            after: None,
        })
    }

    /// How often DynamoDB is asked for each of some pages, where no post is at hand.
    async fn requests(&self, client: &Client, table: &str, wanted: Wanted) -> Result<Vec<usize>> {
        let requests = Requests::default();
        let posts = PostsTable::new(&requests.of(client), table);
        let (mut random, mut asked) = (StdRng::seed_from_u64(9), Vec::with_capacity(COUNTED));
        for _ in 0..COUNTED {
            let (list, cache) = (self.list(&mut random, wanted)?, MemoryPostCache::default());
            list.list(&posts, &cache, &posts, &HiddenPeople::default(), self.since).await?;
            asked.push(requests.take());
        }
        Ok(asked)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::OfCategory => "of a category",
            Self::Around => "around a point",
        })
    }
}
