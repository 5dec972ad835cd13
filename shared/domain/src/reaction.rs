//! Reactions to posts: others confirm what they see too, and flag what they think should not stand.
//!
//! Somebody's reaction to a post counts once, however often it is sent. It is stored together with the post's counts, and
//! then the post's id is queued, to be counted (see [`crate::moderation`]): many reactions to one post at once become one
//! change of it. Where the queue cannot be reached, the answer is an error, and to send the reaction again is right: it is
//! stored already, and only queued again. If nobody sends it again, the next reaction to the post makes up for it.

use std::{collections::BTreeMap, future::Future, str::FromStr};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::Caller,
    error::{Invalid, Kind},
    friendship::HiddenPeople,
    ids::{PostId, UserId},
    input::{Fields, parsed, text},
    posts::{self, PostCache, Posts},
    time::Timestamp,
};

/// Why somebody flags a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagReason {
    /// It is not so.
    False,
    /// It is there to sell, or to be seen.
    Spam,
    /// It harms somebody.
    Abuse,
    /// Something else.
    Other,
}

impl FlagReason {
    /// Each.
    pub const ALL: [Self; 4] = [Self::False, Self::Spam, Self::Abuse, Self::Other];

    /// Its name in the API and where it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::False => "false",
            Self::Spam => "spam",
            Self::Abuse => "abuse",
            Self::Other => "other",
        }
    }
}

impl FromStr for FlagReason {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| Invalid::new("not_in_list", "must be false, spam, abuse or other"))
    }
}

/// A flag. Who raised it is told to nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// Why.
    pub reason: FlagReason,
    /// What they say of it to the moderators.
    pub note: Option<String>,
    /// When.
    pub flagged_at: Timestamp,
}

impl Flag {
    /// The most characters of a note.
    pub const MOST_OF_NOTE: usize = 500;

    /// Reads the body of `put-flag`.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let reason = fields.required("reason", parsed(str::parse));
        let note = fields.optional("note", text(1, Self::MOST_OF_NOTE));
        let Some(reason) = reason else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { reason, note, flagged_at: now })
    }
}

/// What kinds of reactions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReactionKind {
    /// "I see it too".
    Confirmation,
    /// "It should not stand".
    Flag,
}

impl ReactionKind {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Confirmation, Self::Flag];
}

/// What somebody has said of a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// That they see it too, since then.
    Confirmation {
        /// When they first said so.
        confirmed_at: Timestamp,
    },
    /// That it should not stand.
    Flag(Flag),
}

/// How many people have reacted to a post, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many see it too.
    pub confirmations: u32,
    /// How many have flagged it, by their reasons.
    pub flags: BTreeMap<FlagReason, u32>,
}

impl Counts {
    /// How many have flagged it.
    #[must_use]
    pub fn flags_in_all(&self) -> u32 {
        self.flags.values().fold(0, |all, count| all.saturating_add(*count))
    }
}

/// Stores reactions, each with the post's counts at once.
pub trait Reactions: Sync {
    /// Stores a confirmation; where there is one, nothing happens.
    fn confirm(
        &self,
        post_id: PostId,
        user_id: UserId,
        now: Timestamp,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Takes a confirmation back; where there is none, nothing happens.
    fn withdraw(&self, post_id: PostId, user_id: UserId) -> impl Future<Output = Result<()>> + Send;
    /// Stores a flag, in place of an earlier one of the same person.
    fn flag(&self, post_id: PostId, user_id: UserId, flag: &Flag) -> impl Future<Output = Result<()>> + Send;
}

/// Tells what reactions come to.
pub trait ReactionCounts: Sync {
    /// A post's, read consistently.
    fn of(&self, post_id: PostId) -> impl Future<Output = Result<Counts>> + Send;
}

/// Tells a person's reactions.
pub trait OwnReactions: Sync {
    /// Up to `limit` of a kind, in the order of their posts' ids, from the first one after `after` on.
    fn of(
        &self,
        owner: UserId,
        kind: ReactionKind,
        after: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(PostId, Reaction)>>> + Send;
}

/// Erases a person's reactions, in two steps: what ends between them is found again.
pub trait ReactionEraser: Sync {
    /// Takes a reaction from what the post has, and from its counts; its person still has it.
    fn uncount(
        &self,
        owner: UserId,
        post_id: PostId,
        kind: ReactionKind,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Takes it from its person, unless they have reacted again meanwhile.
    fn forget(
        &self,
        owner: UserId,
        post_id: PostId,
        kind: ReactionKind,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Takes posts whose reactions are to be counted.
pub trait ReactionQueue: Sync {
    /// Returns once they are queued.
    fn enqueue(&self, posts: &[PostId]) -> impl Future<Output = Result<()>> + Send;
}

/// That a post's reactions are to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountJob {
    /// The post.
    pub post_id: PostId,
}

/// The ports of somebody's reaction to a post.
#[derive(Debug)]
pub struct Reacting<'a, C, P, R, Q> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// The reactions.
    pub reactions: &'a R,
    /// Where the post waits to be counted.
    pub queue: &'a Q,
}

impl<C: PostCache, P: Posts, R: Reactions, Q: ReactionQueue> Reacting<'_, C, P, R, Q> {
    /// The caller sees it too.
    pub async fn confirm(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
        now: Timestamp,
    ) -> Result<()> {
        self.must_be_anothers(caller, hidden, post_id).await?;
        self.reactions.confirm(post_id, caller.user_id, now).await?;
        self.queue.enqueue(&[post_id]).await
    }

    /// The caller does not see it any more, or never did.
    pub async fn withdraw(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
    ) -> Result<()> {
        self.must_be_anothers(caller, hidden, post_id).await?;
        self.reactions.withdraw(post_id, caller.user_id).await?;
        self.queue.enqueue(&[post_id]).await
    }

    /// The caller thinks that it should not stand.
    pub async fn flag(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
        flag: &Flag,
    ) -> Result<()> {
        self.must_be_anothers(caller, hidden, post_id).await?;
        self.reactions.flag(post_id, caller.user_id, flag).await?;
        self.queue.enqueue(&[post_id]).await
    }

    /// Refuses a post that the caller does not see, or that is withheld, or their own.
    async fn must_be_anothers(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
    ) -> Result<()> {
        let post = posts::get(self.cache, self.posts, hidden, caller, post_id).await?;
        if post.author.as_ref().is_some_and(|author| author.user_id == caller.user_id) {
            let detail = "nobody confirms or flags a post of their own";
            return Err(Refusal::new(Kind::Conflict, "own_post", detail).into());
        }
        if post.withheld {
            return Err(Refusal::not_found("post").into());
        }
        Ok(())
    }
}

const ERASED_PER_READ: usize = 100;
const CONCURRENT_ERASURES: usize = 16;

/// Erases all reactions of a person, by pages. Their posts are counted again.
pub async fn erase(
    reactions: &(impl OwnReactions + ReactionEraser),
    queue: &impl ReactionQueue,
    owner: UserId,
) -> Result<()> {
    for kind in ReactionKind::ALL {
        let mut after = None;
        loop {
            let page = OwnReactions::of(reactions, owner, kind, after, ERASED_PER_READ).await?;
            let posts: Vec<_> = page.into_iter().map(|(post_id, _)| post_id).collect();
            let Some(last) = posts.last() else { break };
            after = Some(*last);
            let uncounted = stream::iter(posts.clone()).map(|id| reactions.uncount(owner, id, kind));
            uncounted.buffer_unordered(CONCURRENT_ERASURES).try_collect::<()>().await?;
            // Before they are forgotten: else nobody would know that they are to be counted.
            queue.enqueue(&posts).await?;
            let forgotten = stream::iter(posts).map(|id| reactions.forget(owner, id, kind));
            forgotten.buffer_unordered(CONCURRENT_ERASURES).try_collect::<()>().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time;

    #[test]
    fn a_flag_has_a_reason_and_perhaps_a_note() {
        let now = time::now();
        let flag = Flag::from_json(&json!({"reason": "spam", "note": "Sells smoke detectors"}), now).unwrap();
        assert_eq!((flag.reason, flag.flagged_at), (FlagReason::Spam, now));
        for reason in FlagReason::ALL {
            let body = json!({"reason": reason.as_str()});
            assert_eq!(Flag::from_json(&body, now).unwrap(), Flag { reason, note: None, flagged_at: now });
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        let long = "x".repeat(Flag::MOST_OF_NOTE + 1);
        for (body, pointer, expected) in [
            (json!({}), "/reason", "required"),
            (json!({"reason": "boring"}), "/reason", "not_in_list"),
            (json!({"reason": false}), "/reason", "wrong_type"),
            (json!({"reason": "spam", "note": long}), "/note", "too_long"),
            (json!({"reason": "spam", "note": ""}), "/note", "too_short"),
            (json!({"reason": "spam", "by": "me"}), "/by", "unknown_field"),
        ] {
            let error = Flag::from_json(&body, now).unwrap_err().errors[0].clone();
            assert_eq!((error.pointer.as_str(), error.code), (pointer, expected), "{body}");
        }
    }
}
