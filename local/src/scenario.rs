//! A scenario: people, what they follow, and what is posted; and what everybody must get of it.
//!
//! The files are under `events/scenarios`. A scenario is played through the front door, and what came of it is held
//! against its `expect`, which was computed by brute force: `because` names the subscriptions any one of which may be the
//! reason, nobody is pushed their own post, and no post lies within 1 % of an area's edge.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::api_client::{ApiClient, Person, text};

/// A file of `events/scenarios`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it tells.
    pub about: String,
    /// Who is there.
    pub people: Vec<Resident>,
    /// What happens.
    pub posts: Vec<ScheduledPost>,
    /// What each has at the end, by username.
    pub expect: BTreeMap<String, Expected>,
}

/// Somebody in a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resident {
    /// Their name.
    pub username: String,
    /// Their mail address.
    pub email: String,
    /// Where they live.
    pub home: Value,
    /// What they follow: bodies of `create-subscription`, each with the scenario's own `key`.
    pub subscriptions: Vec<Value>,
    /// What rings: bodies of `put-device`, each with its `device_id`.
    pub devices: Vec<Value>,
}

/// Something that happens in a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledPost {
    /// The scenario's own name for it.
    pub key: String,
    /// When, in milliseconds after the first.
    pub after_ms: u64,
    /// Who posts it.
    pub author: String,
    /// The body of `create-post`.
    pub post: Value,
}

/// What somebody has at the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The newest first.
    pub timeline: Vec<ExpectedItem>,
    /// One for each device.
    pub pushes: Vec<ExpectedPush>,
}

/// An expected entry of a timeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedItem {
    /// The post's key.
    pub post: String,
    /// The keys of the subscriptions any of which may be the reason.
    pub because: BTreeSet<String>,
}

/// An expected push.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct ExpectedPush {
    /// The post's key.
    pub post: String,
    /// The device.
    pub device_id: String,
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What each person got.
    pub people: Vec<PersonOutcome>,
    /// From each POST to its being visible in a timeline.
    pub to_timeline: Vec<Duration>,
    /// From each POST to each push's being taken by SNS.
    pub to_push: Vec<Duration>,
    /// What is not as expected, in words.
    pub differences: Vec<String>,
}

/// What a person got.
#[derive(Debug)]
pub struct PersonOutcome {
    /// Who.
    pub person: Person,
    /// Where they live.
    pub home: String,
    /// Titles, the newest first, each with the key of the subscription that was the reason.
    pub timeline: Vec<(String, String)>,
    /// Titles in order, each with the device that rang and the key of the subscription that was the reason.
    pub pushes: Vec<(String, String, String)>,
}

/// Pushes by device and post id, with when each was first seen and the subscription that it names.
type SeenPushes = HashMap<(String, String), (Instant, String)>;

/// How long a post may take to be everywhere.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the outbox is read: what is measured of pushes is no finer.
const OUTBOX_POLL: Duration = Duration::from_millis(20);

impl Scenario {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("{} is no scenario", path.display()))
    }

    /// Plays it against an API that nobody else uses meanwhile, and that does not know its people yet.
    pub async fn play(&self, api: &ApiClient) -> Result<Outcome> {
        let people = try_join_all(self.people.iter().map(|resident| settle(api, resident))).await?;
        let by_name: HashMap<&str, &Settled> =
            people.iter().map(|settled| (settled.person.username.as_str(), settled)).collect();
        let mut posted: HashMap<String, (String, Instant)> = HashMap::new();
        let (seen_pushes, watcher) = watch_outbox(api.clone());
        let begun = Instant::now();
        let mut looks = Vec::new();
        for (turn, scheduled) in self.posts.iter().enumerate() {
            tokio::time::sleep_until((begun + Duration::from_millis(scheduled.after_ms)).into()).await;
            let author =
                by_name.get(scheduled.author.as_str()).context("an author is not among the people")?;
            let since = Instant::now();
            let accepted = author.person.api.post("/v1/posts", &scheduled.post).await?.expect(202)?;
            let post_id = text(&accepted, "post_id")?;
            if let Some(reader) = self.somebody_who_gets(&scheduled.key, turn) {
                let api = by_name[reader].person.api.clone();
                let post_id = post_id.clone();
                looks.push(tokio::spawn(
                    async move { api.until_in_timeline(&post_id, since, PATIENCE).await },
                ));
            }
            posted.insert(scheduled.key.clone(), (post_id, since));
        }
        let to_timeline = try_join_all(looks).await?.into_iter().collect::<Result<_>>()?;
        let expected: usize = self.expect.values().map(|expected| expected.pushes.len()).sum();
        let pushes = wait_for_pushes(&seen_pushes, expected).await;
        watcher.abort();
        self.outcome(&people, &posted, &pushes, to_timeline).await
    }

    /// Each time another of those who get it: one account may not read without end, and all timelines count.
    fn somebody_who_gets(&self, key: &str, turn: usize) -> Option<&str> {
        let has = |expected: &Expected| expected.timeline.iter().any(|item| item.post == key);
        let readers: Vec<_> = self.expect.iter().filter(|(_, expected)| has(expected)).collect();
        readers.get(turn.checked_rem(readers.len())?).map(|(name, _)| name.as_str())
    }

    async fn outcome(
        &self,
        people: &[Settled],
        posted: &HashMap<String, (String, Instant)>,
        pushes: &SeenPushes,
        to_timeline: Vec<Duration>,
    ) -> Result<Outcome> {
        let keys: HashMap<&str, &str> =
            posted.iter().map(|(key, (post_id, _))| (post_id.as_str(), key.as_str())).collect();
        let title = |post_id: &str| {
            let scheduled = self.posts.iter().find(|post| keys.get(post_id) == Some(&post.key.as_str()));
            scheduled.and_then(|post| post.post["title"].as_str()).unwrap_or(post_id).to_owned()
        };
        let mut outcome =
            Outcome { people: Vec::new(), to_timeline, to_push: Vec::new(), differences: Vec::new() };
        for settled in people {
            let name = &settled.person.username;
            let reason = |id: &str| settled.subscriptions.get(id).cloned().unwrap_or_else(|| id.to_owned());
            let found: Vec<(String, String)> = settled
                .person
                .api
                .timeline()
                .await?
                .iter()
                .map(|item| Ok((text(item, "post_id")?, reason(&text(&item["because"], "subscription_id")?))))
                .collect::<Result<_>>()?;
            let mut rung: Vec<_> =
                pushes.iter().filter(|((device, _), _)| settled.devices.contains(device)).collect();
            rung.sort_by_key(|((device, post_id), _)| (post_id.clone(), device.clone()));
            if let Some(expected) = self.expect.get(name) {
                let key = |post_id: &str| keys.get(post_id).copied().unwrap_or("?").to_owned();
                let timeline: Vec<_> = found.iter().map(|(post_id, _)| key(post_id)).collect();
                let wanted: Vec<_> = expected.timeline.iter().map(|item| item.post.clone()).collect();
                if timeline != wanted {
                    outcome.differences.push(format!("{name}'s timeline is {timeline:?}, not {wanted:?}"));
                }
                for ((post_id, because), item) in found.iter().zip(&expected.timeline) {
                    if key(post_id) == item.post && !item.because.contains(because) {
                        outcome.differences.push(format!("{name} has {} because of {because}", item.post));
                    }
                }
                let got: BTreeSet<_> = rung
                    .iter()
                    .map(|((device_id, post_id), _)| ExpectedPush {
                        post: key(post_id),
                        device_id: device_id.clone(),
                    })
                    .collect();
                let wanted: BTreeSet<_> = expected.pushes.iter().cloned().collect();
                for missing in wanted.difference(&got) {
                    outcome.differences.push(format!("{name} did not get {missing:?}"));
                }
                for unwanted in got.difference(&wanted) {
                    outcome.differences.push(format!("{name} got {unwanted:?}, which nobody expected"));
                }
            }
            let sent = |id: &str| posted.values().find(|(post_id, _)| post_id == id).map(|(_, since)| *since);
            outcome.to_push.extend(
                rung.iter().filter_map(|((_, post_id), (seen, _))| Some(seen.duration_since(sent(post_id)?))),
            );
            outcome.people.push(PersonOutcome {
                person: settled.person.clone(),
                home: settled.home.clone(),
                timeline: found.iter().map(|(post_id, because)| (title(post_id), because.clone())).collect(),
                pushes: rung
                    .iter()
                    .map(|((device, post_id), (_, because))| {
                        (title(post_id), device.clone(), reason(because))
                    })
                    .collect(),
            });
        }
        Ok(outcome)
    }
}

/// A resident who has signed in, subscribed, and looked at their timeline.
struct Settled {
    person: Person,
    home: String,
    /// Subscription ids to the scenario's keys.
    subscriptions: HashMap<String, String>,
    devices: BTreeSet<String>,
}

async fn settle(api: &ApiClient, resident: &Resident) -> Result<Settled> {
    let signed_up = api.sign_up(&resident.username, &resident.email).await?;
    // Their subscriptions would be there twice, and every reason be ambiguous.
    ensure!(
        signed_up.status != 409,
        "{} lives here already: replay a scenario on a fresh stack",
        resident.username
    );
    signed_up.expect(201)?;
    let person = api.verify(&resident.username, &resident.email).await?;
    let mut subscriptions = HashMap::new();
    for subscription in &resident.subscriptions {
        let mut body = subscription.clone();
        let key = body.as_object_mut().and_then(|body| body.remove("key")).unwrap_or_default();
        let made = person.api.post("/v1/subscriptions", &body).await?.expect(201)?;
        subscriptions.insert(text(&made, "subscription_id")?, key.as_str().unwrap_or_default().to_owned());
    }
    let mut devices = BTreeSet::new();
    for device in &resident.devices {
        let device_id = text(device, "device_id")?;
        let body = json!({"platform": device["platform"], "token": device["token"]});
        let answer = person.api.put(&format!("/v1/devices/{device_id}"), &body).await?;
        ensure!(matches!(answer.status, 200 | 201), "put-device answered {}: {}", answer.status, answer.body);
        devices.insert(device_id);
    }
    // The app is opened: from now on the timeline is at hand.
    person.api.timeline().await?;
    let home = resident.home["place"].as_str().unwrap_or_default().to_owned();
    Ok(Settled { person, home, subscriptions, devices })
}

fn watch_outbox(api: ApiClient) -> (Arc<Mutex<SeenPushes>>, tokio::task::JoinHandle<()>) {
    let seen = Arc::new(Mutex::new(SeenPushes::new()));
    let written = Arc::clone(&seen);
    let watcher = tokio::spawn(async move {
        loop {
            if let Ok(outbox) = api.get("/_local/outbox").await {
                let mut seen = written.lock().await;
                for push in outbox.body["pushes"].as_array().into_iter().flatten() {
                    if let Some((device, post_id, because)) = push_facts(push) {
                        seen.entry((device, post_id)).or_insert((Instant::now(), because));
                    }
                }
            }
            tokio::time::sleep(OUTBOX_POLL).await;
        }
    });
    (seen, watcher)
}

/// The device, the post and the reason of a push in the outbox.
#[must_use]
pub fn push_facts(push: &Value) -> Option<(String, String, String)> {
    let device = push["device_id"].as_str()?.rsplit('/').next()?.to_owned();
    Some((device, find(&push["payload"], "post_id")?, find(&push["payload"], "subscription_id")?))
}

/// A text field anywhere in a payload, whose platforms' parts are JSON within strings.
fn find(value: &Value, field: &str) -> Option<String> {
    match value {
        Value::Object(object) => match object.get(field).and_then(Value::as_str) {
            Some(text) => Some(text.to_owned()),
            None => object.values().find_map(|value| find(value, field)),
        },
        Value::Array(items) => items.iter().find_map(|value| find(value, field)),
        Value::String(text) if text.starts_with('{') => find(&serde_json::from_str(text).ok()?, field),
        _ => None,
    }
}

/// Waits until as many pushes were seen as are expected, and a moment longer for those that are not.
async fn wait_for_pushes(seen: &Mutex<SeenPushes>, expected: usize) -> SeenPushes {
    let begun = Instant::now();
    while seen.lock().await.len() < expected && begun.elapsed() < PATIENCE {
        tokio::time::sleep(OUTBOX_POLL).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    seen.lock().await.clone()
}
