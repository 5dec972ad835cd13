//! What became of the pushes of a post, counted: for its author, and for moderators.

use std::{collections::BTreeMap, future::Future};

use serde::{Serialize, Serializer};

use crate::{
    Result,
    access_token::Caller,
    friendship::HiddenPeople,
    ids::PostId,
    posts::{self, PostCache, Posts},
    push::{News, Outcome},
    time::Timestamp,
};

/// Counts the pushes of a post.
pub trait DeliveryCounter: Sync {
    /// How many of a post's pushes stand how, by their news. What has expired is left out. The cost is that of reading what
    /// is remembered of them.
    fn count(
        &self,
        post_id: PostId,
        now: Timestamp,
    ) -> impl Future<Output = Result<BTreeMap<News, DeliveryCounts>>> + Send;
}

/// How many devices, and people, the pushes of some news reached, or why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryCounts {
    /// Of devices.
    pub devices: DeviceCounts,
    /// Of people whom no push was sent, whatever their devices.
    pub people: PeopleCounts,
}

/// How many devices a push was sent, or is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceCounts {
    /// The gateway took it.
    pub pushed: u64,
    /// The gateway took it, with others, when quiet hours were over.
    pub digested: u64,
    /// The device's token was dead; or it went just before.
    pub device_gone: u64,
    /// It is being sent.
    pub under_way: u64,
    /// It could not be sent, or who was at it died: it is tried again, or has become a dead letter.
    pub failed: u64,
}

/// How many people were not pushed to, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeopleCounts {
    /// They want no pushes of what is so little severe.
    pub muted_severity: u64,
    /// They want none of this category.
    pub muted_category: u64,
    /// They had no device by then.
    pub no_device: u64,
    /// It waits for the end of their quiet hours.
    pub held: u64,
    /// When it was their turn, or at the end of their quiet hours, there was nothing to tell them any more.
    pub dropped: u64,
}

/// How a push to a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushState {
    /// This became of it.
    Became(Outcome),
    /// It is reserved.
    UnderWay,
    /// A try failed.
    Failed,
}

impl DeliveryCounts {
    /// Counts a push to a device.
    pub const fn add_device(&mut self, state: PushState) {
        let devices = &mut self.devices;
        let count = match state {
            PushState::Became(Outcome::Pushed) => &mut devices.pushed,
            PushState::Became(Outcome::Digested) => &mut devices.digested,
            PushState::Became(_) => &mut devices.device_gone,
            PushState::UnderWay => &mut devices.under_way,
            PushState::Failed => &mut devices.failed,
        };
        *count += 1;
    }

    /// Counts what became of it for a person.
    pub const fn add_person(&mut self, outcome: Outcome) {
        let people = &mut self.people;
        let count = match outcome {
            Outcome::MutedSeverity => &mut people.muted_severity,
            Outcome::MutedCategory => &mut people.muted_category,
            Outcome::NoDevice => &mut people.no_device,
            Outcome::Held => &mut people.held,
            Outcome::Dropped => &mut people.dropped,
            // What became of it is said of their devices.
            Outcome::Pushed | Outcome::Digested | Outcome::DeviceGone => return,
        };
        *count += 1;
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (devices, people) = (self.devices, self.people);
        Self {
            devices: DeviceCounts {
                pushed: devices.pushed + other.devices.pushed,
                digested: devices.digested + other.devices.digested,
                device_gone: devices.device_gone + other.devices.device_gone,
                under_way: devices.under_way + other.devices.under_way,
                failed: devices.failed + other.devices.failed,
            },
            people: PeopleCounts {
                muted_severity: people.muted_severity + other.people.muted_severity,
                muted_category: people.muted_category + other.people.muted_category,
                no_device: people.no_device + other.people.no_device,
                held: people.held + other.people.held,
                dropped: people.dropped + other.people.dropped,
            },
        }
    }
}

/// The pushes of a post, as its author sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PostDeliveries {
    /// The post.
    pub post_id: PostId,
    /// By what was told, in the order in which it can happen.
    pub news: Vec<NewsDeliveries>,
}

/// The pushes of some news of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NewsDeliveries {
    /// What was told.
    #[serde(serialize_with = "as_text")]
    pub news: News,
    /// To how many, or why not.
    #[serde(flatten)]
    pub counts: DeliveryCounts,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn as_text<S: Serializer>(news: &News, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(news)
}

/// What became of the pushes of a post of the caller's. Of another's it is refused, but to moderators.
pub async fn of_post(
    cache: &impl PostCache,
    stored: &impl Posts,
    deliveries: &impl DeliveryCounter,
    hidden: impl Future<Output = Result<HiddenPeople>>,
    caller: &Caller,
    post_id: PostId,
    now: Timestamp,
) -> Result<PostDeliveries> {
    posts::get_own(cache, stored, hidden, caller, post_id).await?;
    let counted = deliveries.count(post_id, now).await?;
    let news = counted.into_iter().map(|(news, counts)| NewsDeliveries { news, counts });
    Ok(PostDeliveries { post_id, news: news.collect() })
}
