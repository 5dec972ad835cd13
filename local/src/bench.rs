//! `cargo run -p local --release -- bench`: what the README states, measured through the front door of a stack of its own.
//!
//! These machines are noisy, so each figure is taken in several rounds and shown with its spread; the first line is the
//! machine's own: starting a program that does nothing.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tocsin_adapters::dynamodb::{FriendshipsTable, PeopleTable};
use tocsin_domain::{
    friendship::{Friendship, FriendshipEditor as _, Relation},
    ids::UserId,
    person::Profile,
    time,
};
use tokio::process::Command;

use crate::{
    api_client::{ApiClient, Person, text},
    demo::spread,
    metrics::Metrics,
    runtime::{Capacity, Fleet},
};

/// How often each function is started cold.
const COLD_STARTS: usize = 20;
/// Rounds of everything else.
const ROUNDS: usize = 3;
/// Posts a second, and how long one round posts.
const POSTS_PER_SECOND: u32 = 20;
const ROUND: Duration = Duration::from_secs(6);
/// Warm reads in a round.
const WARM_READS: usize = 300;
/// How many friends two people have in common.
const FRIENDS: usize = 500;
/// People who post, and as many who read.
const PEOPLE: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the bench needs of a running stack.
#[derive(Clone)]
pub struct Bench<'a> {
    /// Its functions.
    pub fleet: &'a Fleet,
    /// What they count.
    pub metrics: &'a Metrics,
    /// Its API.
    pub base_url: &'a str,
    /// The folder of its functions' binaries.
    pub binaries: &'a Path,
    /// The folder of the sample events.
    pub events: &'a Path,
    /// Its tables of people and of their friendships.
    pub people: Option<(PeopleTable, FriendshipsTable)>,
}

impl Bench<'_> {
    /// Measures everything, and prints it as a table.
    pub async fn run(&self, out: &mut impl Write) -> Result<()> {
        if cfg!(debug_assertions) {
            writeln!(
                out,
                "This is a debug build: what is wanted is wanted of a release build (--release).\n"
            )?;
        }
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["what", "n", "min", "median", "p99", "max", "wanted"]);
        let api = ApiClient::new(self.base_url);
        let (authors, readers) =
            (people_of(&api, "author", PEOPLE).await?, people_of(&api, "reader", PEOPLE).await?);
        // Apart from the others, so that what is counted of an account is not counted twice.
        let invokers = people_of(&api, "invoker", 1).await?;
        for person in readers.iter().chain(&invokers) {
            let area = json!({"lat": 60.3975, "lon": 5.3245, "radius_m": 2000});
            person
                .api
                .post("/v1/subscriptions", &json!({"category": "fire", "area": area}))
                .await?
                .expect(201)?;
            person.api.timeline().await?;
        }

        table.add_row(row("start of `true` (noise)", self.nothing().await?, "–"));
        let token = invokers.first().and_then(|invoker| invoker.api.access_token()).unwrap_or_default();
        for (name, wanted) in [("get-status", "5 ms"), ("get-timeline", "15 ms"), ("create-post", "25 ms")] {
            let times = self.cold_starts(name, token).await?;
            table.add_row(row(&format!("cold start, {name}"), times, &format!("median < {wanted}")));
        }
        for round in 1..=ROUNDS {
            let times = self.warm_reads(token).await?;
            table.add_row(row(&format!("warm get-timeline, round {round}"), times, "median < 3 ms"));
        }
        let name = format!("warm list-mutual-friends, {FRIENDS} friends each");
        table.add_row(row(&name, self.mutual_friends(&api).await?, "median < 20 ms"));
        for round in 1..=ROUNDS {
            let times = self.posts_to_timeline(&authors, &readers).await?;
            let name = format!("POST to timeline, {POSTS_PER_SECOND}/s, round {round}");
            table.add_row(row(&name, times, "median < 50 ms, p99 < 250 ms"));
        }
        writeln!(out, "{table}")?;
        self.sizes(out).await
    }

    async fn nothing(&self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..COLD_STARTS {
            let begun = Instant::now();
            Command::new("true").status().await?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }

    /// From the start of a process to its first answer.
    async fn cold_starts(&self, name: &str, token: &str) -> Result<Vec<Duration>> {
        let event = self.event(name, token)?;
        let mut times = Vec::new();
        for _ in 0..COLD_STARTS {
            self.fleet.recycle(name).await;
            times.push(self.invoke(name, event.clone()).await?);
        }
        Ok(times)
    }

    async fn warm_reads(&self, token: &str) -> Result<Vec<Duration>> {
        let event = self.event("get-timeline", token)?;
        let mut times = Vec::new();
        for _ in 0..WARM_READS {
            times.push(self.invoke("get-timeline", event.clone()).await?);
        }
        Ok(times)
    }

    /// The friends in common of two people, all of whose friends are: they are stored at once, since nobody registers five
    /// hundred people in a minute.
    async fn mutual_friends(&self, api: &ApiClient) -> Result<Vec<Duration>> {
        let (people, friendships) = self.people.as_ref().context("the template has no tables of people")?;
        let pair = people_of(api, "friend", 2).await?;
        let [me, other] = pair.as_slice() else { bail!("two people") };
        let since = Some(time::now());
        let friends = Relation { friendship: Friendship::Accepted, since, ..Relation::default() };
        for number in 0..FRIENDS {
            let common = UserId::new(time::now());
            let username = format!("common-{number}").parse().context("a username")?;
            people.add(&Profile::new(common, username, None)).await?;
            for one in [me, other] {
                let one = one.user_id().parse().context("a user id")?;
                friendships.replace(one, common, &Relation::default(), &friends).await?;
            }
        }
        let event = self.event("list-mutual-friends", me.api.access_token().unwrap_or_default())?;
        let mut event: Value = serde_json::from_slice(&event)?;
        event["pathParameters"]["user_id"] = other.user_id().into();
        let mut times = Vec::new();
        for _ in 0..WARM_READS {
            times.push(self.invoke("list-mutual-friends", event.to_string().into()).await?);
        }
        Ok(times)
    }

    /// From POST to a reader's seeing the post, at a steady rate.
    async fn posts_to_timeline(&self, authors: &[Person], readers: &[Person]) -> Result<Vec<Duration>> {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / POSTS_PER_SECOND);
        let begun = Instant::now();
        let mut looks = Vec::new();
        for (author, reader) in authors.iter().zip(readers).cycle() {
            if begun.elapsed() > ROUND {
                break;
            }
            tick.tick().await;
            let (author, reader) = (author.api.clone(), reader.api.clone());
            looks.push(tokio::spawn(async move {
                let since = Instant::now();
                let post = json!({
                    "title": "Sparks from the roof", "category": "fire", "tags": ["smoke"],
                    "location": {"lat": 60.3972, "lon": 5.3238},
                });
                let accepted = author.post("/v1/posts", &post).await?.expect(202)?;
                reader.until_in_timeline(&text(&accepted, "post_id")?, since, PATIENCE).await
            }));
        }
        try_join_all(looks).await?.into_iter().collect()
    }

    async fn invoke(&self, name: &str, event: Bytes) -> Result<Duration> {
        let invocation = self.fleet.invoke(name, event, Capacity::Wait).await?;
        let answer: Value = serde_json::from_slice(&invocation.payload)?;
        anyhow::ensure!(matches!(answer["statusCode"].as_u64(), Some(200 | 202)), "{name} answered {answer}");
        Ok(invocation.duration)
    }

    /// The sample event of a function, with a token that is good.
    fn event(&self, name: &str, token: &str) -> Result<Bytes> {
        let path = self.events.join(format!("{name}.json"));
        let sample =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut event: Value = serde_json::from_str(&sample.replace("{{access_token}}", token))?;
        // A key would make every post the same one.
        if let Some(headers) = event["headers"].as_object_mut() {
            headers.remove("idempotency-key");
        }
        Ok(event.to_string().into())
    }

    /// Prints the peak memory and the zipped size of the measured functions.
    async fn sizes(&self, out: &mut impl Write) -> Result<()> {
        self.fleet.observe_memory();
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        let architecture = std::env::consts::ARCH;
        table.set_header([
            "function",
            "peak memory (< 32 MiB)",
            &format!("zipped, {architecture} (arm64: < 6 MB)"),
        ]);
        for name in ["get-status", "get-timeline", "create-post", "login", "deliver-push"] {
            let zip = std::env::temp_dir().join(format!("tocsin-bench-{}-{name}.zip", std::process::id()));
            let zipped = Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .args([zip.as_path(), &self.binaries.join(name)])
                .status()
                .await?;
            anyhow::ensure!(zipped.success(), "python3 could not zip {name}");
            let bytes = std::fs::metadata(&zip)?.len();
            std::fs::remove_file(&zip)?;
            let peak = self.metrics.function(name).peak_memory.get();
            table.add_row([name.to_owned(), mebibytes(peak), format!("{} kB", bytes / 1_000)]);
        }
        writeln!(out, "{table}")?;
        Ok(())
    }
}

async fn people_of(api: &ApiClient, role: &str, count: usize) -> Result<Vec<Person>> {
    let mut people = Vec::new();
    for number in 0..count {
        let name = format!("{role}-{number}");
        people.push(api.register(&name, &format!("{name}@example.org")).await?);
    }
    Ok(people)
}

fn row(what: &str, mut times: Vec<Duration>, wanted: &str) -> Vec<String> {
    times.sort();
    let spread = spread(&times);
    [what.to_owned(), times.len().to_string()].into_iter().chain(spread).chain([wanted.to_owned()]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "to a tenth of a mebibyte")]
fn mebibytes(bytes: u64) -> String {
    if bytes == 0 { "–".to_owned() } else { format!("{:.1} MiB", bytes as f64 / 1_048_576.0) }
}
