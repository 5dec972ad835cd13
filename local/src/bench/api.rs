//! The API through its front door: cold starts, warm reads, friends in common, and from a post to a timeline.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tocsin_domain::{
    friendship::{Friendship, FriendshipEditor as _, Relation},
    ids::UserId,
    person::Profile,
    time,
};
use tokio::process::Command;

use super::{Bench, Bound, Figure, Of, Report, Unit, mebibytes, people_of};
use crate::api_client::{ApiClient, Person, text};

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

impl Bench<'_> {
    /// Measures the API.
    pub(super) async fn api(&self, report: &mut Report) -> Result<()> {
        let api = ApiClient::new(self.stack.base_url());
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

        report.add(Figure::times("start of `true` (noise)", self.nothing().await?));
        let token = invokers.first().and_then(|invoker| invoker.api.access_token()).unwrap_or_default();
        for (name, wanted) in [("get-status", 5.0), ("get-timeline", 15.0), ("create-post", 25.0)] {
            let times = self.cold_starts(name, token).await?;
            let figure = Figure::times(format!("cold start, {name}"), times);
            report.add(figure.wanted(Of::Median, Bound::Below(wanted)));
        }
        let name = format!("warm list-mutual-friends, {FRIENDS} friends each");
        let figure = Figure::times(name, self.mutual_friends(&api).await?);
        report.add(figure.wanted(Of::Median, Bound::Below(20.0)));
        for round in 1..=ROUNDS {
            let times = self.posts_to_timeline(&authors, &readers).await?;
            let figure =
                Figure::times(format!("POST to timeline, {POSTS_PER_SECOND}/s, round {round}"), times);
            report.add(figure.wanted(Of::Median, Bound::Below(50.0)).wanted(Of::P99, Bound::Below(250.0)));
        }
        self.sizes(report).await
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
            self.stack.fleet().recycle(name).await;
            times.push(self.invoke(name, event.clone()).await?);
        }
        Ok(times)
    }

    /// The friends in common of two people, all of whose friends are: they are stored at once, since nobody registers five
    /// hundred people in a minute.
    async fn mutual_friends(&self, api: &ApiClient) -> Result<Vec<Duration>> {
        let (people, friendships) =
            self.stack.foundation().people_tables().context("the template has no tables of people")?;
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

    /// The peak memory and the zipped size of the measured functions.
    async fn sizes(&self, report: &mut Report) -> Result<()> {
        self.stack.fleet().observe_memory();
        let mut zipped = Vec::new();
        for name in ["get-status", "get-timeline", "create-post", "login", "deliver-push"] {
            let zip = std::env::temp_dir().join(format!("tocsin-bench-{}-{name}.zip", std::process::id()));
            let made = Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .args([zip.as_path(), &self.stack.binaries().join(name)])
                .status()
                .await?;
            anyhow::ensure!(made.success(), "python3 could not zip {name}");
            zipped.push(format!("{name} {} kB", std::fs::metadata(&zip)?.len() / 1_000));
            std::fs::remove_file(&zip)?;
            let memory = self.stack.metrics().function(name).peak_memory.get();
            if memory > 0 {
                let figure =
                    Figure::new(format!("peak memory, {name}"), Unit::Mebibytes, [mebibytes(memory)]);
                report.add(figure.wanted(Of::All, Bound::Below(32.0)));
            }
        }
        let architecture = std::env::consts::ARCH;
        report.note(format!("zipped, {architecture} (wanted for arm64: < 6,000 kB): {}", zipped.join(", ")));
        Ok(())
    }
}
