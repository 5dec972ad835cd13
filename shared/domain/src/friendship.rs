//! Friendships: what two people are to each other, and how that changes.
//!
//! A pair has one state, which is stored twice: as either sees it ([`Relation`], and its mirror). Both change in one
//! transaction, and with them both people's circles, the sets of their friends, by which mutual friends are told without
//! a look at each friendship. So a change reads what is there, tells what it becomes by the rule ([`Relation::after`]),
//! and puts that in its place, if nobody else was quicker ([`FriendshipEditor::replace`]).
//!
//! A block is one person's, and hides both from each other. Who is hidden from somebody is asked with every post they
//! read, so it is kept at hand ([`HiddenCache`]).

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    str::FromStr,
};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Refusal, Result,
    departure::Erased,
    error::{Invalid, Kind},
    ids::UserId,
    time::Timestamp,
};

/// The most friends that a person has: their ids are one item, of 16 bytes each.
pub const MOST_FRIENDS: usize = 2_000;
/// The most requests of one person that wait for an answer.
pub const MOST_OUTGOING: usize = 500;
/// The most people that one person blocks.
pub const MOST_BLOCKS: usize = 1_000;

/// What somebody is to me.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Friendship {
    /// Nothing yet, or no longer.
    #[default]
    None,
    /// I asked them.
    Outgoing,
    /// They asked me.
    Incoming,
    /// We are friends.
    Accepted,
}

impl Friendship {
    /// What I am to them.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
            Self::None | Self::Accepted => self,
        }
    }
}

/// What somebody is to me, with everything that is remembered of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// What they are to me.
    pub friendship: Friendship,
    /// Since when they are that; none where they are nothing.
    pub since: Option<Timestamp>,
    /// Since when I block them, if I do.
    pub blocks: Option<Timestamp>,
    /// Since when they block me, if they do.
    pub blocked_by: Option<Timestamp>,
}

/// What somebody does about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Asks for their friendship; takes it, where they have asked.
    Request,
    /// Takes the friendship that they have asked for.
    Accept,
    /// Withdraws what was asked, refuses it, or ends the friendship.
    Remove,
    /// Blocks them.
    Block,
    /// Blocks them no longer.
    Unblock,
    /// Leaves Tocsin: nothing remains between the two.
    Forget,
}

impl Relation {
    /// The same, as they see it.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        Self {
            friendship: self.friendship.mirrored(),
            since: self.since,
            blocks: self.blocked_by,
            blocked_by: self.blocks,
        }
    }

    /// Whether either blocks the other, so that neither sees the other.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        self.blocks.is_some() || self.blocked_by.is_some()
    }

    /// Whether my circle counts it, so that it changes with it. What others have asked or blocked is not counted.
    #[must_use]
    const fn is_counted(&self) -> bool {
        matches!(self.friendship, Friendship::Accepted | Friendship::Outgoing) || self.blocks.is_some()
    }

    /// Whether nothing is remembered of it.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What it becomes by my action. To do again what was done changes nothing.
    pub fn after(self, action: Action, now: Timestamp) -> Result<Self, Refusal> {
        let become_one = |friendship| Self { friendship, since: Some(now), ..self };
        let apart = Self { friendship: Friendship::None, since: None, ..self };
        Ok(match action {
            // Whoever is blocked is told what they are told of nobody; and so is who blocks, since they see nobody there.
            Action::Request | Action::Accept if self.is_hidden() => return Err(no_such_person()),
            Action::Request => match self.friendship {
                Friendship::None => become_one(Friendship::Outgoing),
                Friendship::Incoming => become_one(Friendship::Accepted),
                Friendship::Outgoing | Friendship::Accepted => self,
            },
            Action::Accept => match self.friendship {
                Friendship::Incoming => become_one(Friendship::Accepted),
                Friendship::Accepted => self,
                Friendship::None | Friendship::Outgoing => return Err(no_request()),
            },
            Action::Remove => apart,
            // Also where they block me: else they could end what hides us, and I could not. It tells who knows their id
            // that they are there, which another account would as well.
            Action::Block => Self { blocks: self.blocks.or(Some(now)), ..apart },
            Action::Unblock => Self { blocks: None, ..self },
            Action::Forget => Self::default(),
        })
    }
}

/// Nobody is there for the caller: they do not exist, or one of the two blocks the other.
#[must_use]
pub fn no_such_person() -> Refusal {
    Refusal::not_found("person")
}

fn no_request() -> Refusal {
    let detail = "they have not asked for your friendship, or no longer do";
    Refusal::new(Kind::Conflict, "no_friendship_request", detail)
}

/// Reads what people are to somebody.
pub trait Relations: Sync {
    /// What each of these is to `me`; those who are nothing are left out. Up to a hundred in one request, read
    /// consistently.
    fn of(
        &self,
        me: UserId,
        ids: &[UserId],
    ) -> impl Future<Output = Result<HashMap<UserId, Relation>>> + Send;
}

/// What one person is to another.
pub async fn between(relations: &impl Relations, me: UserId, other: UserId) -> Result<Relation> {
    Ok(relations.of(me, &[other]).await?.remove(&other).unwrap_or_default())
}

/// A person's friends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circle {
    /// In the order of their ids.
    ids: Vec<UserId>,
}

impl FromIterator<UserId> for Circle {
    fn from_iter<T: IntoIterator<Item = UserId>>(ids: T) -> Self {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }
}

impl Circle {
    /// Their ids, in order.
    #[must_use]
    pub fn ids(&self) -> &[UserId] {
        &self.ids
    }

    /// Whether somebody is in it.
    #[must_use]
    pub fn contains(&self, id: UserId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Who is in both, in order.
    #[must_use]
    pub fn common(&self, other: &Self) -> Vec<UserId> {
        let (few, many) = if self.ids.len() < other.ids.len() { (self, other) } else { (other, self) };
        few.ids.iter().copied().filter(|id| many.contains(*id)).collect()
    }
}

/// Reads people's circles.
pub trait Circles: Sync {
    /// The circle of each of these; of who has no friends it is left out. Up to a hundred in one request.
    fn of(&self, ids: &[UserId]) -> impl Future<Output = Result<HashMap<UserId, Circle>>> + Send;
}

/// Changes what two people are to each other.
pub trait FriendshipEditor: Relations {
    /// Puts `new` in the place of `old`, with its mirror on the other side and both circles, in one transaction.
    fn replace(
        &self,
        me: UserId,
        other: UserId,
        old: &Relation,
        new: &Relation,
    ) -> impl Future<Output = Result<Replaced>> + Send;

    /// Forgets the empty circle of who has no friendship, request or block any more; any other stays.
    fn forget_circle(&self, me: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is made.
    Done,
    /// It is not as it was seen.
    Changed,
    /// One of the two has as many friends, requests or blocks as they may.
    Full,
}

/// How often a change is tried that another one came in the way of. Each time that, the pair has changed; and it settles
/// after a few.
const ROUNDS: usize = 8;

/// Does something about another; answers what they are to `me` then.
pub async fn change(
    editor: &impl FriendshipEditor,
    me: UserId,
    other: UserId,
    action: Action,
    now: Timestamp,
) -> Result<Relation> {
    if me == other {
        return match action {
            Action::Request | Action::Accept | Action::Block => Err(oneself("{user_id}").into()),
            // Nobody is anything to themselves.
            Action::Remove | Action::Unblock | Action::Forget => Ok(Relation::default()),
        };
    }
    for _ in 0..ROUNDS {
        let old = between(editor, me, other).await?;
        let new = old.after(action, now)?;
        if new == old {
            return Ok(old);
        }
        match editor.replace(me, other, &old, &new).await? {
            Replaced::Done => return Ok(new),
            Replaced::Changed => {}
            Replaced::Full => return Err(too_many(&new).into()),
        }
    }
    Err(Error::unavailable("friendships", "a friendship is changed by many at once"))
}

/// Whoever is asked, blocked or befriended is another. They are named at this pointer.
#[must_use]
pub fn oneself(pointer: &str) -> Refusal {
    Refusal::invalid(vec![Invalid::new("oneself", "must be another person").at(pointer)])
}

fn too_many(new: &Relation) -> Refusal {
    let (code, detail) = match new.friendship {
        Friendship::Accepted => {
            ("too_many_friends", format!("you or they have {MOST_FRIENDS} friends, and nobody has more"))
        }
        Friendship::Outgoing => (
            "too_many_friendship_requests",
            format!("{MOST_OUTGOING} of your requests wait for an answer, and no more may"),
        ),
        _ => ("too_many_blocks", format!("a person blocks at most {MOST_BLOCKS}")),
    };
    Refusal::new(Kind::Conflict, code, detail)
}

/// A list of a person's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Their friends.
    Accepted,
    /// Who asked them.
    Incoming,
    /// Whom they asked.
    Outgoing,
    /// Whom they block.
    Blocks,
}

impl FromStr for List {
    type Err = Invalid;

    /// The lists that are asked for by their friendships' state.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "accepted" => Ok(Self::Accepted),
            "incoming" => Ok(Self::Incoming),
            "outgoing" => Ok(Self::Outgoing),
            _ => Err(Invalid::new("not_in_list", "must be accepted, incoming or outgoing")),
        }
    }
}

impl List {
    /// Since when a relation is in this list, if it is.
    #[must_use]
    pub const fn since(self, relation: &Relation) -> Option<Timestamp> {
        match (self, relation.friendship) {
            (Self::Blocks, _) => relation.blocks,
            (Self::Accepted, Friendship::Accepted)
            | (Self::Incoming, Friendship::Incoming)
            | (Self::Outgoing, Friendship::Outgoing) => relation.since,
            _ => None,
        }
    }
}

/// Where in a list somebody stands: since when they are in it, and who they are.
pub type Place = (Timestamp, UserId);

/// Reads a person's lists.
pub trait Friendships: Sync {
    /// Up to `limit` of a list, the newest first, from the first one before `before` on. Read consistently.
    fn list(
        &self,
        owner: UserId,
        list: List,
        before: Option<Place>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Place, Relation)>>> + Send;

    /// Up to `limit` of all who are anything to a person, in the order of their ids, from the first one after `after` on.
    fn all(
        &self,
        owner: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(UserId, Relation)>>> + Send;
}

/// Who is hidden from a person: whom they block, and who blocks them.
pub type HiddenPeople = HashSet<UserId>;

/// Reads who is hidden from whom.
pub trait Hidden: Sync {
    /// Everybody who is hidden from a person. Read consistently.
    ///
    /// The people whom one blocks are at most [`MOST_BLOCKS`], but those who block one may be any number: this grows with
    /// them, by one request for each megabyte, of some 3,000 people. So it is kept at hand ([`HiddenCache`]).
    fn of(&self, owner: UserId) -> impl Future<Output = Result<HiddenPeople>> + Send;
}

/// Keeps at hand who is hidden from whom.
///
/// What it says is never older than the last block: before a block changes, both people are set aside, and until that is
/// over ([`SET_ASIDE_SECONDS`]) nobody can keep for them what they read before the change.
pub trait HiddenCache: Sync {
    /// Who is hidden from a person, if that is at hand.
    fn get(&self, owner: UserId) -> impl Future<Output = Result<Option<HiddenPeople>>> + Send;
    /// Keeps who is hidden from a person for [`HIDDEN_SECONDS`], unless they are set aside.
    fn put(&self, owner: UserId, hidden: &HiddenPeople) -> impl Future<Output = Result<()>> + Send;
    /// Sets people aside: nothing is at hand for them, and nothing is kept, for [`SET_ASIDE_SECONDS`].
    fn set_aside(&self, owners: &[UserId]) -> impl Future<Output = Result<()>> + Send;
}

/// How long it is kept at hand who is hidden from somebody, in seconds: after a block that was made while the cache was
/// away, that long may pass until it is seen by who reads from the cache.
pub const HIDDEN_SECONDS: u64 = 10 * 60;
/// How long a person is set aside, in seconds: longer than any request, so that a read from before is over.
pub const SET_ASIDE_SECONDS: u64 = 60;

/// Who is hidden from a person: from the cache, or else from the storage.
pub async fn hidden_from(
    cache: &impl HiddenCache,
    hidden: &impl Hidden,
    owner: UserId,
) -> Result<HiddenPeople> {
    match cache.get(owner).await {
        Ok(Some(people)) => Ok(people),
        Ok(None) => read_hidden(cache, hidden, owner).await,
        Err(error) => {
            tracing::warn!(cache_unavailable = true, %error, "the cache of hidden people failed: they are read from the storage");
            hidden.of(owner).await
        }
    }
}

/// Who is hidden from a person, from the storage, where it is not at hand; it is then.
pub async fn read_hidden(
    cache: &impl HiddenCache,
    hidden: &impl Hidden,
    owner: UserId,
) -> Result<HiddenPeople> {
    let people = hidden.of(owner).await?;
    if let Err(error) = cache.put(owner, &people).await {
        tracing::warn!(cache_unavailable = true, %error, "the cache of hidden people failed: they are not kept at hand");
    }
    Ok(people)
}

/// Blocks somebody, or blocks them no longer. Both are set aside if that changes anything.
pub async fn change_block(
    editor: &impl FriendshipEditor,
    cache: &impl HiddenCache,
    me: UserId,
    other: UserId,
    action: Action,
    now: Timestamp,
) -> Result<Relation> {
    if me == other {
        return change(editor, me, other, action, now).await;
    }
    // What changes nothing, or is refused, costs nobody what is at hand for them: else whoever asks on and on would have
    // another's read from the storage each time.
    let old = between(editor, me, other).await?;
    if old.after(action, now)? == old {
        return Ok(old);
    }
    if let Err(error) = cache.set_aside(&[me, other]).await {
        tracing::warn!(cache_unavailable = true, %error, user_id = %me, "a block may be seen only some minutes later");
    }
    change(editor, me, other, action, now).await
}

/// How many relations are read at once by [`forget`].
const FORGOTTEN_PER_READ: usize = 100;
/// After how many relations [`forget`] leaves the rest to the next go: some seconds' work, or half a minute's, where all are
/// friends. Those who ask somebody, or block them, may be any number.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// How many of those that are not counted are forgotten at the same time.
const CONCURRENTLY_FORGOTTEN: usize = 16;

/// Ends everything between a person and all others, on both sides: they leave Tocsin. One go ends so many; what it does not
/// get to, or is cut off, is done by the next.
pub async fn forget(
    friendships: &impl Friendships,
    editor: &impl FriendshipEditor,
    me: UserId,
    now: Timestamp,
) -> Result<Erased> {
    for _ in 0..FORGOTTEN_AT_ONCE / FORGOTTEN_PER_READ {
        let some = friendships.all(me, None, FORGOTTEN_PER_READ).await?;
        let is_last = some.len() < FORGOTTEN_PER_READ;
        let (counted, others): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(_, relation)| relation.is_counted());
        // Each of these changes my circle: two at once would cancel each other.
        let one_by_one = async {
            for (other, _) in counted {
                change(editor, me, other, Action::Forget, now).await?;
            }
            Ok(())
        };
        let others: Vec<_> =
            others.into_iter().map(|(other, _)| change(editor, me, other, Action::Forget, now)).collect();
        let others = stream::iter(others).buffer_unordered(CONCURRENTLY_FORGOTTEN);
        try_join(one_by_one, others.map_ok(drop).try_collect::<()>()).await?;
        if is_last {
            editor.forget_circle(me).await?;
            return Ok(Erased::Whole);
        }
    }
    Ok(Erased::Part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    fn after(actions: &[(bool, Action)]) -> Relation {
        // As the first of the two sees it; an action that is refused changes nothing.
        actions.iter().fold(Relation::default(), |relation, (mine, action)| {
            let now = time::now();
            if *mine {
                relation.after(*action, now).unwrap_or(relation)
            } else {
                relation.mirrored().after(*action, now).map_or(relation, Relation::mirrored)
            }
        })
    }

    #[test]
    fn asking_and_answering_makes_friends() {
        use Action::{Accept, Remove, Request};
        let friendship = |actions: &[_]| after(actions).friendship;
        assert_eq!(friendship(&[(true, Request)]), Friendship::Outgoing);
        assert_eq!(friendship(&[(true, Request), (true, Request)]), Friendship::Outgoing);
        assert_eq!(friendship(&[(true, Request), (true, Accept)]), Friendship::Outgoing, "not by oneself");
        assert_eq!(friendship(&[(true, Request), (false, Accept)]), Friendship::Accepted);
        assert_eq!(friendship(&[(true, Request), (false, Request)]), Friendship::Accepted, "crossing");
        assert_eq!(friendship(&[(false, Request), (true, Remove)]), Friendship::None, "refused");
        assert_eq!(friendship(&[(true, Request), (false, Accept), (false, Remove)]), Friendship::None);
        let refusal = Relation::default().after(Accept, time::now()).unwrap_err();
        assert_eq!((refusal.kind, refusal.code), (Kind::Conflict, "no_friendship_request"));
    }

    #[test]
    fn a_block_ends_a_friendship_and_is_its_makers_alone() {
        use Action::{Accept, Block, Request, Unblock};
        let blocked = after(&[(true, Request), (false, Accept), (true, Block)]);
        assert!(blocked.blocks.is_some() && blocked.is_hidden() && blocked.mirrored().is_hidden());
        assert_eq!((blocked.friendship, blocked.since), (Friendship::None, None));
        for action in [Request, Accept] {
            for side in [blocked, blocked.mirrored()] {
                assert_eq!(side.after(action, time::now()).unwrap_err().kind, Kind::NotFound);
            }
        }
        let both = blocked.mirrored().after(Block, time::now()).unwrap().mirrored();
        assert!(both.after(Unblock, time::now()).unwrap().is_hidden(), "the other's holds");
        assert_eq!(blocked.mirrored().after(Unblock, time::now()), Ok(blocked.mirrored()), "not theirs");
        assert_eq!(blocked.after(Block, time::now()), Ok(blocked), "since the first time");
        assert!(blocked.after(Unblock, time::now()).unwrap().is_nothing());
    }

    #[test]
    fn circles_meet() {
        let ids: Vec<_> = (0..6).map(|_| UserId::new(time::now())).collect();
        let (one, other) = ([5, 0, 2, 3, 3], [4, 3, 0]);
        let circle = |places: &[usize]| places.iter().map(|place| ids[*place]).collect::<Circle>();
        let mut common = vec![ids[0], ids[3]];
        common.sort_unstable();
        assert_eq!(circle(&one).common(&circle(&other)), common);
        assert_eq!(circle(&other).common(&circle(&one)), common);
        assert!(circle(&one).contains(ids[5]) && !circle(&one).contains(ids[4]));
        assert_eq!(circle(&one).ids().len(), 4);
    }
}
