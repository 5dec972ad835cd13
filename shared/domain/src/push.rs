//! Pushes: from a post's audience to the phones.
//!
//! `notify-subscribers` cuts an audience into [`PushJob`]s ([`crate::notifying`]), and `deliver-push` does one each
//! ([`crate::delivery`]). What is promised: every device gets a push, and to do a job again rings nobody again. For that a push is reserved before it is sent, and
//! recorded after. It is sent twice only where the record is missing though the gateway took the push: the gateway's
//! answer got lost, the function died in between, or nothing could be recorded for several tries. The phone then shows
//! the second in place of the first, but may sound again. What the platforms do with a push that they took is theirs: a
//! phone that is off for long misses some, and has them in its timeline.
//!
//! Deliveries are found by their posts. So what is pushed to somebody is in their inbox first, and whoever reads that finds
//! every delivery to them: to export them, and to erase them when they leave.

use std::{fmt, future::Future, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    audience::Position,
    device::{Device, DeviceId, DeviceToken},
    digest::Digest,
    ids::{PostId, UserId},
    notification::Because,
    post::{Post, PostStatus, Severity},
    post_edit::{Edit, FieldChange},
    time::Timestamp,
};

/// Takes push jobs.
pub trait PushQueue: Sync {
    /// Returns once all jobs are queued. After an error some may be: to queue them again is harmless.
    fn enqueue(&self, jobs: &[PushJob]) -> impl Future<Output = Result<()>> + Send;
}

/// News of a post, and some of those whose phones ring for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushJob {
    /// The post. What is pushed is how it is when its turn comes.
    pub post_id: PostId,
    /// What they are told of it.
    pub news: News,
    /// When that happened: it was posted, or shared, or changed.
    pub told_at: Timestamp,
    /// Up to [`PushJob::MOST_RECIPIENTS`].
    pub recipients: Vec<PushRecipient>,
}

/// What phones ring for. Each is pushed to a device once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The post is there, for somebody who has not heard of it.
    Posted,
    /// It is worse than it was: as bad as this.
    Raised(Severity),
    /// It is over.
    Resolved,
    /// It was called off, or was no such thing.
    Cancelled,
}

impl News {
    /// What an edit is to those who follow the post as it is after it, if it is anything that phones ring for. What a feed
    /// issues may be issued to others later: they have not heard of it.
    #[must_use]
    pub fn of(edit: &Edit, post: &Post) -> Option<Self> {
        let raised = edit.changes.iter().find_map(|change| match change {
            FieldChange::Severity(severity) if edit.raised_from.is_some() => Some(Self::Raised(*severity)),
            _ => None,
        });
        let is_issued_to_others = edit.moves_audience() && post.source.is_some() && !post.quiet;
        match edit.status() {
            Some(PostStatus::Resolved) => Some(Self::Resolved),
            Some(PostStatus::Cancelled) => Some(Self::Cancelled),
            Some(PostStatus::Active) | None => raised.or(is_issued_to_others.then_some(Self::Posted)),
        }
    }

    /// Whether it is still so: what has ended is not called out as if it went on, and what is less bad by now not as if it
    /// were.
    #[must_use]
    pub fn holds(self, post: &Post) -> bool {
        match self {
            Self::Posted => post.status == PostStatus::Active,
            Self::Raised(severity) => post.status == PostStatus::Active && post.severity >= severity,
            Self::Resolved => post.status == PostStatus::Resolved,
            Self::Cancelled => post.status == PostStatus::Cancelled,
        }
    }

    /// Whether it is for those who were told of the post, and nobody else.
    #[must_use]
    pub const fn is_an_end(self) -> bool {
        matches!(self, Self::Resolved | Self::Cancelled)
    }
}

impl fmt::Display for News {
    /// What is stored of pushes names them so: no name changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posted => "posted",
            Self::Raised(Severity::Unknown) => "raised-unknown",
            Self::Raised(Severity::Minor) => "raised-minor",
            Self::Raised(Severity::Moderate) => "raised-moderate",
            Self::Raised(Severity::Severe) => "raised-severe",
            Self::Raised(Severity::Extreme) => "raised-extreme",
            Self::Resolved => "resolved",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Whose phone rings, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecipient {
    /// The user.
    pub user_id: UserId,
    /// Why: in the same object, as `subscription_id` or `shared_by`.
    #[serde(flatten)]
    pub because: Because,
}

impl PushJob {
    /// How many recipients one job has: enough to be worth a message, few enough for one invocation's time.
    pub const MOST_RECIPIENTS: usize = 50;
}

/// Where pushes to a device are sent: the gateway's own address of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Endpoint(pub String);

/// Sends pushes to devices.
pub trait PushGateway: Sync {
    /// The endpoint of a device: the same again, where it has one, and switched on. A token that the platform does not
    /// take is refused with [`device::bad_token`], and one of a platform that nobody has set up with
    /// [`device::no_platform`].
    fn register(
        &self,
        owner: UserId,
        device_id: &DeviceId,
        token: &DeviceToken,
    ) -> impl Future<Output = Result<Endpoint>> + Send;
    /// Removes an endpoint.
    fn unregister(&self, endpoint: &Endpoint) -> impl Future<Output = Result<()>> + Send;
    /// Sends a push. An error is worth another try; [`crate::Error::Throttled`] is worth one later.
    fn publish(&self, device: &Device, push: &Push) -> impl Future<Output = Result<Published>> + Send;
    /// Sends a digest. An error is worth another try; [`crate::Error::Throttled`] is worth one later.
    fn publish_digest(
        &self,
        device: &Device,
        digest: &Digest,
    ) -> impl Future<Output = Result<Published>> + Send;
}

/// What a phone shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The post. A later push of the same post takes the place of the one before.
    pub post: Post,
    /// What is told of it.
    pub news: News,
    /// Why this person gets it.
    pub because: Because,
    /// How long it is worth delivering.
    pub time_to_live: Duration,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The gateway took it.
    Accepted,
    /// There is no such endpoint (any more).
    EndpointMissing,
    /// The platform said that the token is dead.
    EndpointDisabled,
}

/// Remembers which pushes were sent.
pub trait Deliveries: Sync {
    /// Reserves a push, so that nobody else sends it for [`RESERVED_SECONDS`].
    fn reserve(
        &self,
        push: &PushKey,
        because: Because,
        now: Timestamp,
    ) -> impl Future<Output = Result<Reservation>> + Send;
    /// Records what became of it, with the reason that it was for.
    fn record(
        &self,
        push: &PushKey,
        because: Because,
        outcome: Outcome,
        now: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Records what became of news for a person, whatever their devices: in the place of what was said before.
    fn note(
        &self,
        news: &NewsKey,
        because: Because,
        outcome: Outcome,
        now: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Gives a reservation back: the push was not sent, and is tried again. Until then it counts as failed.
    fn release(&self, push: &PushKey) -> impl Future<Output = Result<()>> + Send;
}

/// Reads what became of a person's pushes.
pub trait DeliveryReader: Sync {
    /// What became of those of a post, and has not expired, in the order of their devices' ids, and then of the news: what
    /// is of no device first.
    fn of(
        &self,
        owner: UserId,
        post_id: PostId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Delivered>>> + Send;
}

/// Forgets a person's pushes.
pub trait DeliveryEraser: Sync {
    /// Removes all that is remembered of those of a post, reservations among it.
    fn erase(&self, owner: UserId, post_id: PostId) -> impl Future<Output = Result<()>> + Send;
}

/// Knows who was told of a post.
pub trait Told: Sync {
    /// Up to `limit` devices' owners to whom news of a post were pushed, or are being, and why; each maybe several times,
    /// and where the next ones begin, if there are more.
    fn told(
        &self,
        post_id: PostId,
        from: Option<Position>,
        limit: usize,
    ) -> impl Future<Output = Result<(Vec<PushRecipient>, Option<Position>)>> + Send;
}

/// What became of a push, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The news.
    pub news: News,
    /// The device; none where it is of the person, whatever their devices.
    pub device_id: Option<DeviceId>,
    /// Why it was pushed.
    pub because: Because,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// How long it is remembered that a push was sent, in seconds: 30 days, longer than the log keeps a record.
pub const REMEMBERED_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Which push: of news of a post, to a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushKey {
    /// The post.
    pub post_id: PostId,
    /// The news.
    pub news: News,
    /// The device's owner.
    pub user_id: UserId,
    /// The device.
    pub device_id: DeviceId,
}

/// Which news of a post, for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewsKey {
    /// The post.
    pub post_id: PostId,
    /// The news.
    pub news: News,
    /// Who gets it.
    pub user_id: UserId,
}

/// Whether a push may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It may.
    Ours,
    /// It was.
    Done,
    /// Somebody else is about to: look again later.
    Held,
}

/// How long a reservation holds, in seconds: longer than any invocation of `deliver-push`.
pub const RESERVED_SECONDS: u64 = 60;

/// What became of a push, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The gateway took it.
    Pushed,
    /// The device's token was dead, and it was removed; or it went, or got another token, just before.
    DeviceGone,
    /// The person has no device that was there by then.
    NoDevice,
    /// The person wants no pushes of what is so little severe.
    MutedSeverity,
    /// The person wants none of this category.
    MutedCategory,
    /// It waits for the end of the person's quiet hours.
    Held,
    /// The gateway took it, with others, when the quiet hours were over.
    Digested,
    /// When its turn came, or at the end of the quiet hours, the news held no longer; or by then the post was gone, or not the
    /// person's to see any more.
    Dropped,
}

impl Outcome {
    /// Whether a phone has rung.
    #[must_use]
    pub const fn has_rung(self) -> bool {
        matches!(self, Self::Pushed | Self::Digested)
    }
}
