//! Finding an audience: a thousand people among a million subscriptions, by a post's walk over the table in DynamoDB.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tocsin_adapters::dynamodb::{Item, Requests, SubscriptionsTable};
use tocsin_domain::{
    audience::{Sizes, Walk},
    category::{self, CategoryName},
    ids::UserId,
    place::{Circle, Point},
    post::{Post, Severity, Tag},
    subscription::{TagMatch, Wish},
    time::{self, Timestamp},
};

use super::{
    Bound, Figure, Of, Report, Unit,
    filling::{Filled, fill},
    samples,
};
use crate::stack::Foundation;

/// How many subscriptions there are in the end, of a fifth as many users; and at first.
const MANY: usize = 1_000_000;
const FEW: usize = 10_000;
const OF_EACH: usize = 5;
/// How many of them match the post. As many more are around its place, and wish for something worse.
const MATCHING: usize = 1_000;
/// How many users' subscriptions are made and stored together.
const CHUNK: usize = 1_000;
/// How often the audience is found.
const ROUNDS: usize = 30;
/// More than any key has here: a large one is another figure.
const SIZES: Sizes = Sizes { large_key: usize::MAX, part: Sizes::PART };

/// How far around the post's place nobody else's area reaches, in metres.
const ALONE_M: f64 = 250_000.0;
const TOWNS: usize = 400;
const WORDS: usize = 500;
/// How far people live from their town's middle, in degrees.
const OUTSKIRTS: f64 = 0.15;

/// Fills the table, and finds the post's audience in it, at two sizes.
pub(super) async fn measure(
    foundation: &Foundation,
    report: &mut Report,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<()> {
    let (client, name) = foundation.table("SUBSCRIPTIONS_TABLE").context("no table of subscriptions")?;
    let database = foundation.database().await.context("the bench needs the embedded storage")?;
    let country = Country::new()?;
    let mut requests = Vec::new();
    let mut stored = 0;
    for total in [FEW, MANY] {
        let users = stored / OF_EACH..total / OF_EACH;
        let (people, database, table) = (country.clone(), database.clone(), name.to_owned());
        let filling = tokio::task::spawn_blocking(move || {
            let chunks = users.len().div_ceil(CHUNK);
            fill(&database, &table, chunks, |chunk| {
                let first = users.start + chunk * CHUNK;
                people.items(first..(first + CHUNK).min(users.end))
            })
        });
        let Filled { items, took } = filling.await??;
        say(&format!(
            "{} subscriptions are {items} items, stored in {:.1} s",
            total - stored,
            took.as_secs_f64()
        ));
        stored = total;
        let found = find(&client, name, &country.post).await?;
        let what = |what: &str| format!("{what}, among {}", of(total));
        report.add(Figure::counts(what("audience found"), found.sizes).wanted(Of::All, Bound::Is(1_000.0)));
        let times = Figure::times(what("finding it"), found.times);
        report.add(if total == MANY { times.wanted(Of::Median, Bound::Below(150.0)) } else { times });
        report.add(Figure::counts(what("DynamoDB requests for it"), found.requests.iter().copied()));
        requests.push(found.requests);
    }
    if let [few, many] = requests.as_slice() {
        #[expect(clippy::cast_precision_loss, reason = "some dozens")]
        let ratios = many.iter().zip(few).map(|(many, few)| *many as f64 / *few as f64);
        let ratio = Figure::new("those requests, by those among 10,000", Unit::Ratio, ratios);
        report.add(ratio.wanted(Of::All, Bound::Within(0.9, 1.1)));
    }
    Ok(())
}

fn of(total: usize) -> String {
    if total == MANY { "1,000,000".to_owned() } else { "10,000".to_owned() }
}

#[derive(Default)]
struct Findings {
    sizes: Vec<usize>,
    times: Vec<Duration>,
    requests: Vec<usize>,
}

async fn find(client: &Client, table: &str, post: &Post) -> Result<Findings> {
    let requests = Requests::default();
    let subscriptions = SubscriptionsTable::new(&requests.of(client), table);
    let mut findings = Findings::default();
    // The first opens connections.
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let (mut walk, mut found) = (Walk::over(post), BTreeSet::new());
        while !walk.is_over() {
            let part = walk.next(&subscriptions, &subscriptions, post, post.created_at, SIZES).await?;
            found.extend(part.into_iter().map(|recipient| recipient.user_id));
        }
        let (took, asked) = (began.elapsed(), requests.take());
        if round > 0 {
            findings.sizes.push(found.len());
            findings.times.push(took);
            findings.requests.push(asked);
        }
    }
    Ok(findings)
}

/// Who lives where, and wishes for what: the same in every run.
#[derive(Clone)]
struct Country {
    post: Post,
    towns: Vec<Point>,
    categories: Vec<CategoryName>,
    words: Vec<Tag>,
    since: Timestamp,
}

impl Country {
    fn new() -> Result<Self> {
        let mut random = StdRng::seed_from_u64(4);
        let place = samples::place()?;
        let mut towns = Vec::with_capacity(TOWNS);
        while towns.len() < TOWNS {
            let town = Point::new(random.random_range(36.0..70.0), random.random_range(-10.0..30.0))?;
            if town.distance_m(place) > ALONE_M {
                towns.push(town);
            }
        }
        let words = (0..WORDS).map(|number| format!("word-{number}").parse()).collect::<Result<_, _>>()?;
        let since = time::now();
        let categories = category::initial().into_iter().map(|category| category.category).collect();
        Ok(Self { post: samples::post(place)?, towns, categories, words, since })
    }

    /// The items of some users. The first ones are those around the post's place.
    fn items(&self, users: std::ops::Range<usize>) -> Result<Vec<Item>> {
        let mut random = StdRng::seed_from_u64(users.start as u64);
        let mut items = Vec::new();
        for number in users {
            let mut subscriptions = Vec::with_capacity(OF_EACH);
            for turn in 0..OF_EACH {
                // Two of the five of each of the first thousand.
                let wish = match turn {
                    0 | 1 if number < MATCHING => self.wish_around(&mut random, turn == 0)?,
                    _ => self.wish_elsewhere(&mut random)?,
                };
                subscriptions.push(samples::subscription(wish, self.since));
            }
            items.extend(SubscriptionsTable::items(UserId::new(self.since), &subscriptions)?);
        }
        Ok(items)
    }

    /// Around the post's place, and a wish for it, or for what is worse.
    fn wish_around(&self, random: &mut StdRng, matches: bool) -> Result<Wish> {
        let radius_m = random.random_range(8_000.0..30_000.0);
        let centre = near(random, self.post.location.context("a place")?, 0.05)?;
        Ok(Wish {
            area: Some(Circle::new(centre, radius_m)?),
            min_severity: (!matches).then_some(Severity::Extreme),
            ..samples::wish(self.post.category.as_str())?
        })
    }

    /// Around some town, from 1 to 100 km, small ones as often as large ones; or anywhere, which most are, since an area is
    /// some twenty items, and a million of them more than a machine's memory.
    fn wish_elsewhere(&self, random: &mut StdRng) -> Result<Wish> {
        let area = if random.random_bool(0.4) {
            let town = *self.towns.choose(random).context("a town")?;
            let radius_m = random.random_range(1_000_f64.ln()..100_000_f64.ln()).exp();
            Some(Circle::new(near(random, town, OUTSKIRTS)?, radius_m)?)
        } else {
            None
        };
        // Who wishes for something from anywhere wishes for something in particular.
        let most = if area.is_none() { 1..=2_usize } else { 0..=1 };
        let tags = (0..random.random_range(most)).filter_map(|_| self.words.choose(random)).cloned();
        let tags: BTreeSet<Tag> = tags.collect();
        Ok(Wish {
            category: self.categories.choose(random).context("a category")?.clone(),
            tags: tags.try_into()?,
            tag_match: if random.random_bool(0.5) { TagMatch::Any } else { TagMatch::All },
            area,
            min_severity: random.random_bool(0.5).then_some(Severity::Moderate),
            push: random.random_bool(0.8),
        })
    }
}

fn near(random: &mut StdRng, point: Point, degrees: f64) -> Result<Point> {
    let mut off = |of: f64| of + random.random_range(-degrees..degrees);
    Ok(Point::new(off(point.lat()), off(point.lon()))?)
}
