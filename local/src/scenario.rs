//! A scenario: people, what they follow, and what is posted; and what everybody must get of it.
//!
//! The files are under `events/scenarios`. A scenario is played through the front door, and what came of it is held
//! against its `expect`, which was computed by brute force: `because` names the subscriptions any one of which may be the
//! reason, nobody is pushed their own post, each device rings once for a post, and no post lies within 1 % of an area's
//! edge.

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

/// An expected push: one, and not two.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedPush {
    /// The post's key.
    pub post: String,
    /// The device.
    pub device_id: String,
    /// The keys of the subscriptions any of which may be the reason: of those that ask to be rung.
    pub because: BTreeSet<String>,
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

/// A push that SNS took.
#[derive(Clone, Debug)]
struct SeenPush {
    /// When it was first seen.
    at: Instant,
    device_id: String,
    post_id: String,
    /// The subscription that it names.
    because: String,
}

/// Pushes by the ids of their messages: a phone that rings twice for a post gets two.
type SeenPushes = HashMap<String, SeenPush>;

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
            let mut rung: Vec<&SeenPush> =
                pushes.values().filter(|push| settled.devices.contains(&push.device_id)).collect();
            rung.sort_by_key(|push| (&push.post_id, &push.device_id));
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
                let got = rung
                    .iter()
                    .map(|push| (key(&push.post_id), push.device_id.as_str(), reason(&push.because)));
                outcome.differences.extend(differences(&expected.pushes, got.collect(), name));
            }
            let sent = |id: &str| posted.values().find(|(post_id, _)| post_id == id).map(|(_, since)| *since);
            outcome
                .to_push
                .extend(rung.iter().filter_map(|push| Some(push.at.duration_since(sent(&push.post_id)?))));
            outcome.people.push(PersonOutcome {
                person: settled.person.clone(),
                home: settled.home.clone(),
                timeline: found.iter().map(|(post_id, because)| (title(post_id), because.clone())).collect(),
                pushes: rung
                    .iter()
                    .map(|push| (title(&push.post_id), push.device_id.clone(), reason(&push.because)))
                    .collect(),
            });
        }
        Ok(outcome)
    }
}

/// What the pushes that somebody got, each by its post's key, its device and its reason's key, have too few, too many, and
/// for another reason.
fn differences(expected: &[ExpectedPush], mut got: Vec<(String, &str, String)>, name: &str) -> Vec<String> {
    let mut differences = Vec::new();
    for ExpectedPush { post, device_id, because } in expected {
        let found = got.iter().position(|(key, device, _)| key == post && device == device_id);
        match found.map(|found| got.swap_remove(found)) {
            None => differences.push(format!("{device_id} of {name} did not ring for {post}")),
            Some((_, _, reason)) if !because.contains(&reason) => {
                differences.push(format!("{device_id} of {name} rang for {post} because of {reason}"));
            }
            Some(_) => {}
        }
    }
    let unwanted = got.into_iter().map(|(post, device_id, because)| {
        format!("{device_id} of {name} rang for {post} because of {because}, which nobody expected")
    });
    differences.extend(unwanted);
    differences
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
                    let id = push["message_id"].as_str().map(str::to_owned);
                    if let Some((id, (device_id, post_id, because))) = id.zip(push_facts(push)) {
                        let push = SeenPush { at: Instant::now(), device_id, post_id, because };
                        seen.entry(id).or_insert(push);
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
    let because =
        ["subscription_id", "shared_by"].into_iter().find_map(|field| find(&push["payload"], field));
    Some((device, find(&push["payload"], "post_id")?, because?))
}

/// A text field anywhere in a payload, whose platforms' parts are JSON within strings.
#[must_use]
pub fn find(value: &Value, field: &str) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_that_rings_twice_or_for_another_reason_or_not_at_all_is_told() {
        let push = |post: &str| ExpectedPush {
            post: post.to_owned(),
            device_id: "phone".to_owned(),
            because: ["fires".to_owned(), "harbour".to_owned()].into(),
        };
        let expected = [push("smoke"), push("fire")];
        let rung = |post: &str, because: &str| (post.to_owned(), "phone", because.to_owned());
        let told = |got| differences(&expected, got, "ada");
        let good = [rung("fire", "harbour"), rung("smoke", "fires")];
        assert_eq!(told(good.to_vec()), [""; 0]);
        assert_eq!(told(good[..1].to_vec()), ["phone of ada did not ring for smoke"]);
        let twice = told([&good[..], &good[1..]].concat());
        assert_eq!(twice, ["phone of ada rang for smoke because of fires, which nobody expected"]);
        let other = told(vec![good[0].clone(), rung("smoke", "weather")]);
        assert_eq!(other, ["phone of ada rang for smoke because of weather"]);
    }
}
