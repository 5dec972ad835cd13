//! Exports: everything that is kept of a person, for them to take away, as one list of items of several kinds.
//!
//! Secrets are left out (a password's and tokens' hashes: they are of no use to anybody but us), and so is what
//! somebody else did that the person must not learn (who blocks them). What expires within days and has no word of anybody
//! is not looked for: counts of requests, and requests that could have been repeated. With a notification comes what is
//! remembered of its pushes: each push has one (`push`).

use std::{cmp::Reverse, future::Future, num::NonZeroU32};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Error, Refusal, Result,
    account::Account,
    cursor::{Cursor, Limit, Page, Position, Scope},
    device::Devices,
    friendship::{self, Friendship, Friendships, List, Relation},
    held_push::{HeldPush, HeldPushReader},
    identity::Identity,
    ids::{PostId, UserId},
    notification::{self, Inbox, NotificationId},
    person::{PrivateProfile, ProfileImageUrls, Profiles},
    place_index::{PlaceIndex, PlaceKey},
    posts::Posts,
    preferences::PreferencesReader,
    push::{Delivered, DeliveryReader},
    reaction::{Flag, OwnReactions, Reaction, ReactionKind},
    session::{AccountReader, Session, SessionKeeper},
    subscription::Subscriptions,
    time::Timestamp,
};

/// Reads by which outside identities an account is found.
pub trait IdentityReader: Sync {
    /// All of a person's, in any order.
    fn of(&self, owner: UserId) -> impl Future<Output = Result<Vec<Identity>>> + Send;
}

/// Something that is kept of a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exported {
    /// What it is.
    pub kind: Kind,
    /// What is kept: of the form that the API has for its kind.
    pub data: Value,
}

/// What kinds there are, in the order in which they are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The account.
    Account,
    /// The profile.
    Profile,
    /// An outside identity that signs in to the account.
    Identity,
    /// A session.
    Session,
    /// A device.
    Device,
    /// A subscription.
    Subscription,
    /// The notification preferences.
    Preferences,
    /// A push that waits for the end of quiet hours.
    HeldPush,
    /// Another person, and what they are to this one.
    Relation,
    /// A notification, and what became of its pushes.
    Notification,
    /// A post.
    Post,
    /// A post of another that they see too.
    Confirmation,
    /// A post of another that they flagged.
    Flag,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Account,
        Self::Profile,
        Self::Identity,
        Self::Session,
        Self::Device,
        Self::Subscription,
        Self::Preferences,
        Self::HeldPush,
        Self::Relation,
        Self::Notification,
        Self::Post,
        Self::Confirmation,
        Self::Flag,
    ];
}

/// Where in an export an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of a kind of which there are never many: its number there.
    Numbered(Kind, NonZeroU32),
    /// Of another person: in which of [`RELATIONS`], and where there.
    Relation(u8, friendship::Place),
    /// Of a notification.
    Notification(notification::Place),
    /// Of a post.
    Post(PostId),
    /// Of a reaction: to which post.
    Reaction(ReactionKind, PostId),
}

impl Place {
    const fn kind(&self) -> Kind {
        match self {
            Self::Numbered(kind, _) => *kind,
            Self::Relation(..) => Kind::Relation,
            Self::Notification(_) => Kind::Notification,
            Self::Post(_) => Kind::Post,
            Self::Reaction(ReactionKind::Confirmation, _) => Kind::Confirmation,
            Self::Reaction(ReactionKind::Flag, _) => Kind::Flag,
        }
    }
}

/// The lists of people who are something to a person.
const RELATIONS: [List; 4] = [List::Accepted, List::Incoming, List::Outgoing, List::Blocks];

/// Of how many notifications at once it is read what became of their pushes.
const CONCURRENT_READS: usize = 16;

/// How many held pushes are exported: those of more than any night. All of them are notifications, too.
const MOST_HELD: usize = 1_000;

/// First the kind, and then where in it.
impl Position for Place {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind() as u8];
        match self {
            Self::Numbered(_, number) => bytes.extend(number.get().to_be_bytes()),
            Self::Relation(list, place) => {
                bytes.push(*list);
                bytes.extend(place.to_bytes());
            }
            Self::Notification(place) => bytes.extend(place.to_bytes()),
            Self::Post(id) | Self::Reaction(_, id) => bytes.extend(Position::to_bytes(id)),
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, within) = bytes.split_first()?;
        Some(match *Kind::ALL.get(usize::from(*kind))? {
            Kind::Relation => {
                let (list, place) = within.split_first()?;
                RELATIONS.get(usize::from(*list))?;
                Self::Relation(*list, Position::from_bytes(place)?)
            }
            Kind::Notification => Self::Notification(Position::from_bytes(within)?),
            Kind::Post => Self::Post(Position::from_bytes(within)?),
            Kind::Confirmation => Self::Reaction(ReactionKind::Confirmation, Position::from_bytes(within)?),
            Kind::Flag => Self::Reaction(ReactionKind::Flag, Position::from_bytes(within)?),
            kind => {
                let number = u32::from_be_bytes(within.try_into().ok()?);
                Self::Numbered(kind, NonZeroU32::new(number)?)
            }
        })
    }
}

/// Which list a person's export is.
#[must_use]
pub fn scope(owner: UserId) -> Scope {
    Scope::of(["export", &owner.to_string()])
}

/// The ports of [`Export::page`].
#[derive(Debug)]
pub struct Export<'a, U, P, S, D, W, Q, H, F, N, R, I, O> {
    /// Accounts and their identities.
    pub users: &'a U,
    /// Profiles.
    pub people: &'a P,
    /// Where images are.
    pub images: &'a ProfileImageUrls,
    /// Sessions.
    pub sessions: &'a S,
    /// Devices.
    pub devices: &'a D,
    /// Subscriptions.
    pub subscriptions: &'a W,
    /// Notification preferences.
    pub preferences: &'a Q,
    /// Held pushes.
    pub held: &'a H,
    /// Friendships, requests and blocks.
    pub friendships: &'a F,
    /// Notifications.
    pub inbox: &'a N,
    /// What became of pushes.
    pub deliveries: &'a R,
    /// Posts, and where they are found.
    pub posts: &'a I,
    /// Reactions to posts of others.
    pub reactions: &'a O,
}

impl<U, P, S, D, W, Q, H, F, N, R, I, O> Export<'_, U, P, S, D, W, Q, H, F, N, R, I, O>
where
    U: AccountReader + IdentityReader,
    P: Profiles,
    S: SessionKeeper,
    D: Devices,
    W: Subscriptions,
    Q: PreferencesReader,
    H: HeldPushReader,
    F: Friendships,
    N: Inbox,
    R: DeliveryReader,
    I: PlaceIndex + Posts,
    O: OwnReactions,
{
    /// A page of what is kept of a person.
    pub async fn page(
        &self,
        owner: UserId,
        after: Option<Cursor<Place>>,
        limit: Limit,
        now: Timestamp,
    ) -> Result<Page<Exported>> {
        let after = after.map(|Cursor(place)| place);
        let first = after.map_or(Kind::Account, |place| place.kind());
        let mut found: Vec<(Place, Exported)> = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind >= first) {
            let after = after.filter(|place| place.kind() == kind);
            let most = limit.and_one() - found.len();
            let items = Box::pin(self.of_kind(owner, kind, after, most, now)).await?;
            found.extend(items.into_iter().map(|(place, data)| (place, Exported { kind, data })));
            if found.len() > limit.get() {
                break;
            }
        }
        let page = Page::cut(found, limit, scope(owner), |(place, _)| *place);
        let items = page.items.into_iter().map(|(_, exported)| exported).collect();
        Ok(Page { items, next_cursor: page.next_cursor })
    }

    /// Up to `most` items of a kind after a place in it, or from its beginning, each with its place.
    async fn of_kind(
        &self,
        owner: UserId,
        kind: Kind,
        after: Option<Place>,
        most: usize,
        now: Timestamp,
    ) -> Result<Vec<(Place, Value)>> {
        match kind {
            Kind::Account => {
                let account = self.users.get(owner).await?.ok_or_else(gone)?;
                whole(kind, [account_json(&account)], after, most)
            }
            Kind::Profile => {
                let profiles = self.people.get(&[owner]).await?;
                whole(
                    kind,
                    profiles.iter().map(|profile| PrivateProfile::of(profile, self.images)),
                    after,
                    most,
                )
            }
            Kind::Identity => {
                let mut identities = IdentityReader::of(self.users, owner).await?;
                identities.sort_by_key(Identity::key);
                let json =
                    |identity: &Identity| json!({"issuer": identity.issuer(), "subject": identity.subject()});
                whole(kind, identities.iter().map(json), after, most)
            }
            Kind::Session => {
                let mut sessions = self.sessions.of(owner, now).await?;
                sessions.sort_by_key(|session| session.session_id);
                let json = |session: Session| {
                    json!({
                        "session_id": session.session_id, "device": session.origin.device,
                        "address": session.origin.address, "created_at": session.created_at,
                        "last_used_at": session.last_used_at, "expires_at": session.expires_at,
                    })
                };
                whole(kind, sessions.into_iter().map(json), after, most)
            }
            Kind::Device => {
                let json = |device: crate::device::Device| {
                    json!({
                        "device_id": device.device_id, "platform": device.token.platform,
                        "token": device.token.token, "created_at": device.created_at,
                        "updated_at": device.updated_at,
                    })
                };
                whole(kind, self.devices.of(owner).await?.into_iter().map(json), after, most)
            }
            Kind::Subscription => whole(kind, self.subscriptions.of(owner).await?, after, most),
            Kind::Preferences => {
                let preferences = self.preferences.of(&[owner]).await?;
                whole(kind, preferences.into_values(), after, most)
            }
            Kind::HeldPush => {
                let json = |held: HeldPush| {
                    json!({
                        "post_id": held.post_id, "news": held.news.to_string(), "because": held.because,
                        "told_at": held.told_at,
                    })
                };
                whole(kind, self.held.of(owner, MOST_HELD, now).await?.into_iter().map(json), after, most)
            }
            Kind::Relation => self.relations(owner, after, most).await,
            Kind::Notification => self.notifications(owner, after, most, now).await,
            Kind::Post => self.own_posts(owner, after, most).await,
            Kind::Confirmation => self.own_reactions(owner, ReactionKind::Confirmation, after, most).await,
            Kind::Flag => self.own_reactions(owner, ReactionKind::Flag, after, most).await,
        }
    }

    /// By lists, which are short: who only blocks this person is in none of them.
    async fn relations(
        &self,
        owner: UserId,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(Place, Value)>> {
        let (first, mut before) = match after {
            Some(Place::Relation(list, place)) => (list, Some(place)),
            _ => (0, None),
        };
        let mut items = Vec::new();
        for (number, list) in (0_u8..).zip(RELATIONS).skip(usize::from(first)) {
            let found = self.friendships.list(owner, list, before.take(), most - items.len()).await?;
            for (place, Relation { friendship, blocks, .. }) in found {
                let (since, other) = place;
                let since = (friendship != Friendship::None).then_some(since);
                let data = json!({
                    "user_id": other, "friendship": friendship, "since": since, "blocked_since": blocks,
                });
                items.push((Place::Relation(number, place), data));
            }
            if items.len() == most {
                break;
            }
        }
        Ok(items)
    }

    async fn notifications(
        &self,
        owner: UserId,
        after: Option<Place>,
        most: usize,
        now: Timestamp,
    ) -> Result<Vec<(Place, Value)>> {
        let before = match after {
            Some(Place::Notification(place)) => Some(place),
            _ => None,
        };
        let found = self.inbox.newest(owner, before, most, now).await?;
        let item = |notification: notification::Notification| async move {
            let notification::Notification { id, because, created_at, read, push } = notification;
            let delivered = self.deliveries.of(owner, id.post_id, now).await?;
            // A post may have several, by several friends: a push belongs to the one that it was for.
            let of_this = |delivered: &&Delivered| NotificationId::of(id.post_id, delivered.because) == id;
            let deliveries: Vec<_> = delivered.iter().filter(of_this).map(delivery_json).collect();
            let data = json!({
                "notification_id": id, "post_id": id.post_id, "because": because,
                "created_at": created_at, "read": read, "push": push, "deliveries": deliveries,
            });
            Ok((Place::Notification((created_at, id)), data))
        };
        stream::iter(found).map(item).buffered(CONCURRENT_READS).try_collect().await
    }

    async fn own_posts(
        &self,
        owner: UserId,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(Place, Value)>> {
        let mut before = match after {
            Some(Place::Post(id)) => Some(id),
            _ => None,
        };
        let mut items = Vec::new();
        // A second round only where some that are listed are gone.
        while items.len() < most {
            let entries = self.posts.newest(&PlaceKey::By(owner), before, most - items.len()).await?;
            let Some(last) = entries.last() else { break };
            before = Some(last.post_id);
            let ids: Vec<_> = entries.iter().map(|entry| entry.post_id).collect();
            let mut posts = Posts::get(self.posts, &ids).await?;
            posts.sort_by_key(|post| Reverse(post.post_id));
            for post in posts {
                items.push((Place::Post(post.post_id), to_json(&post)?));
            }
        }
        Ok(items)
    }

    async fn own_reactions(
        &self,
        owner: UserId,
        kind: ReactionKind,
        after: Option<Place>,
        most: usize,
    ) -> Result<Vec<(Place, Value)>> {
        let after = match after {
            Some(Place::Reaction(_, id)) => Some(id),
            _ => None,
        };
        let found = self.reactions.of(owner, kind, after, most).await?;
        let json = |(post_id, reaction): (PostId, Reaction)| {
            let data = match reaction {
                Reaction::Confirmation { confirmed_at } => {
                    json!({"post_id": post_id, "confirmed_at": confirmed_at})
                }
                Reaction::Flag(Flag { reason, note, flagged_at }) => {
                    json!({"post_id": post_id, "reason": reason, "note": note, "flagged_at": flagged_at})
                }
            };
            (Place::Reaction(kind, post_id), data)
        };
        Ok(found.into_iter().map(json).collect())
    }
}

/// The items of a kind of which there are never many, by their numbers.
fn whole<T: Serialize>(
    kind: Kind,
    all: impl IntoIterator<Item = T>,
    after: Option<Place>,
    most: usize,
) -> Result<Vec<(Place, Value)>> {
    let done = match after {
        Some(Place::Numbered(_, number)) => number.get(),
        _ => 0,
    };
    let numbers = (1..).map_while(NonZeroU32::new);
    let numbered = numbers.zip(all).filter(|(number, _)| number.get() > done).take(most);
    numbered.map(|(number, item)| Ok((Place::Numbered(kind, number), to_json(&item)?))).collect()
}

fn delivery_json(delivered: &Delivered) -> Value {
    json!({
        "device_id": delivered.device_id, "because": delivered.because, "outcome": delivered.outcome,
        "news": delivered.news.to_string(),
        "recorded_at": delivered.recorded_at,
    })
}

fn account_json(account: &Account) -> Value {
    json!({
        "user_id": account.user_id, "username": account.username,
        "former_username": account.former_username, "email": account.email,
        "email_verified": account.email_verified, "has_password": account.password.is_some(),
        "roles": account.roles, "created_at": account.created_at,
    })
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::unreadable("an export", error))
}

fn gone() -> Refusal {
    Refusal::not_found("account")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_whole_or_none() {
        let (now, one) = (crate::time::now(), NonZeroU32::MIN);
        let (user_id, post_id) = (UserId::new(now), PostId::new(now));
        let pushed = NotificationId { post_id, shared_by: None };
        let places = [
            Place::Numbered(Kind::Account, one),
            Place::Numbered(Kind::Session, NonZeroU32::MAX),
            Place::Numbered(Kind::Subscription, one),
            Place::Relation(0, (now, user_id)),
            Place::Relation(3, (now, user_id)),
            Place::Notification((now, pushed)),
            Place::Post(post_id),
        ];
        for place in places {
            let bytes = place.to_bytes();
            assert_eq!(Place::from_bytes(&bytes), Some(place));
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_eq!(Place::from_bytes(&longer), None, "{place:?} and more");
            for cut in (0..bytes.len()).map(|length| &bytes[..length]) {
                assert_eq!(Place::from_bytes(cut), None, "{place:?}, of which {cut:?} is left");
            }
        }
        // What is left of one that was shared may be another's, that was pushed.
        let shared = Place::Notification((now, NotificationId { post_id, shared_by: Some(user_id) }));
        assert_eq!(Place::from_bytes(&shared.to_bytes()), Some(shared));
        let nowhere = |kind: Kind, within: &[u8]| Place::from_bytes(&[&[kind as u8], within].concat());
        assert_eq!(nowhere(Kind::Account, &[0; 4]), None, "the first is number one");
        let no_list = [&[4], (now, user_id).to_bytes().as_slice()].concat();
        assert_eq!(nowhere(Kind::Relation, &no_list), None);
        assert_eq!(Place::from_bytes(&[9, 0, 0, 0, 1]), None, "no kind");
    }
}
