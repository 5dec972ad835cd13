//! Notifications: each person's inbox, of the posts that were pushed or shared to them, and why.
//!
//! A notification is known by what it is about, so that whoever makes it twice has made it once: one of each post that was
//! pushed to a person, and one of each post and friend who shared it. It holds no word of the post: that is read when the
//! inbox is, as it is then, and left out where it is gone.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    str::FromStr,
};

use futures::future::try_join;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    cursor::{Cursor, Limit, Page, Position, Scope},
    error::Invalid,
    friendship::{self, Hidden, HiddenCache, HiddenPeople},
    ids::{PostId, SubscriptionId, UserId},
    input::{Fields, parsed},
    person::Profiles,
    post::Post,
    posts::{self, PostCache, Posts},
    push::Outcome,
    time::{self, Timestamp},
};

/// Why somebody is told of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Because {
    /// A subscription matched.
    Subscription {
        /// Which.
        subscription_id: SubscriptionId,
    },
    /// A friend shared it.
    Shared {
        /// Who.
        shared_by: UserId,
    },
}

/// Which notification it is, of one person: about which post, and whether it was pushed, or who shared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NotificationId {
    /// The post.
    pub post_id: PostId,
    /// Who shared it; none where it was pushed.
    pub shared_by: Option<UserId>,
}

impl NotificationId {
    /// Which tells of a post for this reason.
    #[must_use]
    pub const fn of(post_id: PostId, because: Because) -> Self {
        let shared_by = match because {
            Because::Subscription { .. } => None,
            Because::Shared { shared_by } => Some(shared_by),
        };
        Self { post_id, shared_by }
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shared_by {
            None => write!(f, "pushed.{}", self.post_id),
            Some(from) => write!(f, "shared.{}.{from}", self.post_id),
        }
    }
}

impl FromStr for NotificationId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.split('.');
        let id = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("pushed"), Some(post), None, None) => {
                post.parse().ok().map(|post_id| Self { post_id, shared_by: None })
            }
            (Some("shared"), Some(post), Some(from), None) => post
                .parse()
                .ok()
                .zip(from.parse().ok())
                .map(|(post_id, from)| Self { post_id, shared_by: Some(from) }),
            _ => None,
        };
        id.ok_or_else(|| Invalid::new("invalid_id", "must be the id of a notification"))
    }
}

impl TryFrom<String> for NotificationId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<NotificationId> for String {
    fn from(id: NotificationId) -> Self {
        id.to_string()
    }
}

/// A post's id, and the id of who shared it, if somebody did.
impl Position for NotificationId {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.post_id.to_bytes();
        bytes.extend(self.shared_by.iter().flat_map(Position::to_bytes));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (post, from) = bytes.split_at_checked(16)?;
        let post_id = <PostId as Position>::from_bytes(post)?;
        let shared_by = if from.is_empty() { None } else { Some(<UserId as Position>::from_bytes(from)?) };
        Some(Self { post_id, shared_by })
    }
}

/// A notification, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Which it is.
    pub id: NotificationId,
    /// Why it was made.
    pub because: Because,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether its owner has read it.
    pub read: bool,
    /// What became of its push; nothing has yet, or it is not known, where there is none.
    pub push: Option<Outcome>,
}

impl Notification {
    /// The notification of a post, for this reason.
    #[must_use]
    pub const fn new(post_id: PostId, because: Because, now: Timestamp) -> Self {
        Self { id: NotificationId::of(post_id, because), because, created_at: now, read: false, push: None }
    }
}

/// How long a notification is kept, in seconds: 90 days.
pub const LIFETIME_SECONDS: u64 = 90 * 24 * 60 * 60;

/// Where in an inbox a notification stands: by when it was made, and which it is.
pub type Place = (Timestamp, NotificationId);

/// Adds to people's inboxes.
pub trait Inboxes: Sync {
    /// Adds a notification, if its owner has none of this id; answers whether it is new.
    fn add(&self, owner: UserId, notification: &Notification) -> impl Future<Output = Result<bool>> + Send;
    /// Says what became of a notification's push, if there is one of this id. That a phone has rung is true for good: it
    /// gives way to nothing else; and what was held is held no more only when something else is said.
    fn tell(
        &self,
        owner: UserId,
        id: NotificationId,
        push: Outcome,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Reads an inbox.
pub trait Inbox: Sync {
    /// Up to `limit` notifications that have not expired, the newest first, from the first one before `before` on.
    fn newest(
        &self,
        owner: UserId,
        before: Option<Place>,
        limit: usize,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Notification>>> + Send;
}

/// Marks what was read.
pub trait InboxMarker: Sync {
    /// Marks those of these notifications that there are.
    fn mark(&self, owner: UserId, ids: &[NotificationId]) -> impl Future<Output = Result<()>> + Send;
    /// Marks all that were made until a time.
    fn mark_until(&self, owner: UserId, until: Timestamp) -> impl Future<Output = Result<()>> + Send;
}

/// Empties inboxes.
pub trait InboxEraser: Sync {
    /// Removes those of these notifications that there are.
    fn remove(&self, owner: UserId, ids: &[NotificationId]) -> impl Future<Output = Result<()>> + Send;
    /// Removes everything of a person's.
    fn erase(&self, owner: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// A notification, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotificationView {
    /// Which it is.
    pub notification_id: NotificationId,
    /// Whether it was pushed or shared.
    pub kind: NotificationKind,
    /// The post, as it is now.
    pub post: Post,
    /// Why.
    pub because: Because,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it was read.
    pub read: bool,
    /// What became of its push.
    pub push: Option<Outcome>,
}

/// How a person came by a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// A subscription of theirs asks for pushes.
    Pushed,
    /// A friend shared the post.
    Shared,
}

/// Which list a person's inbox is.
#[must_use]
pub fn scope(owner: UserId) -> Scope {
    Scope::of(["notifications", &owner.to_string()])
}

/// How many times an inbox is read for one page: what is left out may be most of it.
const MOST_ROUNDS: usize = 5;

/// The ports of [`InboxReading::page`].
#[derive(Debug)]
pub struct InboxReading<'a, I, C, P, U, K, H> {
    /// The inbox.
    pub inbox: &'a I,
    /// The cached posts.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// The people who share.
    pub profiles: &'a U,
    /// Who is hidden from its owner, at hand.
    pub hidden_cache: &'a K,
    /// Who is.
    pub hidden: &'a H,
}

impl<I, C, P, U, K, H> InboxReading<'_, I, C, P, U, K, H>
where
    I: Inbox,
    C: PostCache,
    P: Posts,
    U: Profiles,
    K: HiddenCache,
    H: Hidden,
{
    /// A page of a person's inbox, the newest first: without what is of, or was shared by, people who are hidden from
    /// them or have left, and without posts that are gone or withheld. It has fewer than `limit` where much is left out.
    pub async fn page(
        &self,
        owner: UserId,
        before: Option<Cursor<Place>>,
        limit: Limit,
        now: Timestamp,
    ) -> Result<Page<NotificationView>> {
        let mut last = before.map(|cursor| cursor.0);
        let first = self.inbox.newest(owner, last, limit.and_one(), now);
        let hidden = friendship::hidden_from(self.hidden_cache, self.hidden, owner);
        let (mut read, hidden) = try_join(first, hidden).await?;
        let (mut items, mut wanted, mut rounds) = (Vec::new(), limit.and_one(), 1);
        loop {
            let is_end = read.len() < wanted;
            last = read.last().map(place).or(last);
            items.extend(self.views(&read, &hidden).await?);
            if is_end || items.len() > limit.get() {
                let place = |item: &NotificationView| (item.created_at, item.notification_id);
                return Ok(Page::cut(items, limit, scope(owner), place));
            }
            if rounds == MOST_ROUNDS {
                return Ok(Page { items, next_cursor: last.map(|last| Cursor(last).encode(scope(owner))) });
            }
            rounds += 1;
            wanted = limit.and_one() - items.len();
            read = self.inbox.newest(owner, last, wanted, now).await?;
        }
    }

    async fn views(&self, read: &[Notification], hidden: &HiddenPeople) -> Result<Vec<NotificationView>> {
        let mut ids: Vec<_> = read.iter().map(|notification| notification.id.post_id).collect();
        // Several friends may have shared one.
        ids.sort_unstable();
        ids.dedup();
        let sharers: HashSet<_> = read.iter().filter_map(|notification| notification.id.shared_by).collect();
        let sharers: Vec<_> = sharers.difference(hidden).copied().collect();
        let posts = posts::read(self.cache, self.posts, &ids);
        let (posts, sharers) = try_join(posts, self.profiles.get(&sharers)).await?;
        let posts: HashMap<_, _> = posts.into_iter().map(|post| (post.post_id, post)).collect();
        // What somebody has shared stays in others' inboxes when they leave: it is nobody's word then.
        let sharers: HashSet<_> = sharers.into_iter().map(|profile| profile.user_id).collect();
        Ok(read.iter().filter_map(|notification| view(notification, &posts, &sharers, hidden)).collect())
    }
}

fn place(notification: &Notification) -> Place {
    (notification.created_at, notification.id)
}

fn view(
    notification: &Notification,
    posts: &HashMap<PostId, Post>,
    sharers: &HashSet<UserId>,
    hidden: &HiddenPeople,
) -> Option<NotificationView> {
    let Notification { id, because, created_at, read, push } = *notification;
    let kind = match because {
        Because::Subscription { .. } => NotificationKind::Pushed,
        Because::Shared { shared_by } if sharers.contains(&shared_by) => NotificationKind::Shared,
        // They are hidden, or have left.
        Because::Shared { .. } => return None,
    };
    let is_there = |post: &&Post| posts::is_shown(post, hidden) && !post.withheld;
    let post = posts.get(&id.post_id).filter(is_there)?.clone();
    Some(NotificationView { notification_id: id, kind, post, because, created_at, read, push })
}

/// What a person says they have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// These.
    These(Vec<NotificationId>),
    /// All that were made until then.
    Until(Timestamp),
}

/// The most notifications that are marked at once one by one.
const MOST_MARKED: usize = 100;

impl Read {
    /// Reads the body of `mark-notifications-read`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let these = fields.list("notification_ids", MOST_MARKED, parsed(str::parse));
        let until = fields.optional("until", parsed(time::parse));
        if fields.has("notification_ids") == fields.has("until") {
            let detail = "send either notification_ids or until";
            fields.refuse::<()>("notification_ids", Invalid::new("either_or", detail));
        }
        match (these, until) {
            (Some(these), None) => fields.finish().map(|()| Self::These(these)),
            (None, Some(until)) => fields.finish().map(|()| Self::Until(until)),
            _ => Err(fields.refusal()),
        }
    }

    /// Marks it. What is not there, or another's, is passed over.
    pub async fn mark(&self, marker: &impl InboxMarker, owner: UserId, now: Timestamp) -> Result<()> {
        match self {
            Self::These(ids) => marker.mark(owner, ids).await,
            // What will be made has not been read.
            Self::Until(until) => marker.mark_until(owner, (*until).min(now)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let now = time::now();
        let (post_id, from) = (PostId::new(now), UserId::new(now));
        for id in
            [NotificationId { post_id, shared_by: None }, NotificationId { post_id, shared_by: Some(from) }]
        {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(NotificationId::from_bytes(&id.to_bytes()), Some(id));
        }
        for bad in
            ["", "pushed", "pushed.x", &format!("pushed.{post_id}.{from}"), &format!("shared.{post_id}")]
        {
            assert!(bad.parse::<NotificationId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_told_by_its_field() {
        let now = time::now();
        let reasons = [
            (Because::Subscription { subscription_id: SubscriptionId::new(now) }, "subscription_id"),
            (Because::Shared { shared_by: UserId::new(now) }, "shared_by"),
        ];
        for (because, field) in reasons {
            let json = serde_json::to_value(because).unwrap();
            assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), [field]);
            assert_eq!(serde_json::from_value::<Because>(json).unwrap(), because);
        }
    }

    #[test]
    fn what_was_read_is_said_in_one_way() {
        let id = format!("pushed.{}", PostId::new(time::now()));
        assert!(Read::from_json(&json!({"notification_ids": [id]})).is_ok());
        assert!(Read::from_json(&json!({"until": "2026-11-20T18:02:11Z"})).is_ok());
        for bad in [
            json!({}),
            json!({"notification_ids": [id], "until": "2026-11-20T18:02:11Z"}),
            json!({"notification_ids": ["x"]}),
            json!({"until": "yesterday"}),
            json!({"until": null}),
        ] {
            assert!(Read::from_json(&bad).is_err(), "{bad}");
        }
    }
}
