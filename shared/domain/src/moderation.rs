//! What reactions do to posts: how many confirm a post is told to all, and where many flag it, it is withheld until a
//! moderator has decided.
//!
//! A post's reactions are counted after they are stored, by whoever takes its id from the queue, and several may count at
//! once. What they tell the log is in the order in which they counted: each first claims the post's [`Standing`], which is
//! what was last told of it, under the id of its edit, and goes on only if that is as it was before it counted; also who
//! found nothing new. The later claim has counted later, and its edit is the later one; of what arrives late in the log the
//! newer stays.
//!
//! A claim that was not told, since its maker ended in between, is told again by whoever comes next, and the message that
//! it was made for is brought again. A post is in the moderators' queue from the claim that withholds it until their
//! decision is in the log: what ends in between is there, and decided again.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    num::NonZeroU32,
    str::FromStr,
};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    access_token::Caller,
    cursor::{Cursor, Limit, Page, Scope},
    error::Invalid,
    ids::{EditId, PostId},
    input::{Fields, parsed},
    post::Post,
    post_edit::{Edit, FieldChange},
    post_log::{Deletion, PostChange, PostLog},
    posts::{self, PostCache, PostCacheEditor, Posts},
    reaction::{Counts, Flag, FlagReason, ReactionCounts},
    time::Timestamp,
};

/// From how many flags on a post is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagsToWithhold(pub NonZeroU32);

/// What a moderator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The post stays, and no flags withhold it any more.
    Keep,
    /// The post is deleted.
    Remove,
}

impl FromStr for Decision {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "keep" => Ok(Self::Keep),
            "remove" => Ok(Self::Remove),
            _ => Err(Invalid::new("not_in_list", "must be keep or remove")),
        }
    }
}

impl Decision {
    /// Reads the body of `decide-flagged-post`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let decision = fields.required("decision", parsed(str::parse));
        let Some(decision) = decision else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(decision)
    }
}

/// What was last told of a post on account of its reactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How many confirm it.
    pub confirmations: u32,
    /// Whether it is withheld.
    pub withheld: bool,
    /// What a moderator has decided.
    pub decision: Option<Decision>,
    /// When they kept it.
    #[serde(default)]
    pub kept_at: Option<Timestamp>,
    /// How many flags it has; of one that was kept, had then.
    #[serde(default)]
    pub flags: u32,
    /// Which edit says so. Of a standing that follows it is a later one.
    pub edit_id: EditId,
    /// Whether the log has it. If not, somebody is at it, or ended before that.
    pub told: bool,
}

impl Standing {
    /// Whether the post waits for a moderator.
    #[must_use]
    pub const fn is_undecided(&self) -> bool {
        self.withheld && self.decision.is_none()
    }

    /// A time for the edit after it: where clocks differ, a later edit must not have an earlier id.
    fn before(old: Option<&Self>, now: Timestamp) -> Timestamp {
        let last = old.map(|old| old.edit_id.time());
        let later = last.and_then(|last| last.checked_add(jiff::SignedDuration::from_millis(1)).ok());
        later.map_or(now, |later| later.max(now))
    }

    /// What is to be said of a post after `old`: nothing, if it was said.
    fn changes(&self, old: Option<&Self>) -> Vec<FieldChange> {
        let said = old.filter(|old| old.told);
        let was = match (old, said) {
            (None, _) => Some((0, false)),
            (_, said) => said.map(|said| (said.confirmations, said.withheld)),
        };
        let confirmations = was.is_none_or(|(confirmations, _)| confirmations != self.confirmations);
        let withheld = was.is_none_or(|(_, withheld)| withheld != self.withheld);
        let confirmations = confirmations.then_some(FieldChange::Confirmations(self.confirmations));
        let withheld = withheld.then_some(FieldChange::Withheld(self.withheld));
        confirmations.into_iter().chain(withheld).collect()
    }
}

/// Keeps what was last told of posts, and the moderators' queue.
pub trait Standings: Sync {
    /// A post's, read consistently; none where there were no reactions to it.
    fn get(&self, post_id: PostId) -> impl Future<Output = Result<Option<Standing>>> + Send;
    /// Puts `new` in place of `old`, and the post into the queue where it is now undecided, at once. Where its standing has
    /// another edit than `old`, nothing happens; answers whether it was done.
    fn claim(
        &self,
        post_id: PostId,
        old: Option<&Standing>,
        new: &Standing,
    ) -> impl Future<Output = Result<bool>> + Send;
    /// Remembers that the log has it; where it is decided, the post leaves the queue, at once. Where another one has taken
    /// its place, nothing happens.
    fn settle(&self, post_id: PostId, standing: &Standing) -> impl Future<Output = Result<()>> + Send;
}

/// Reads the moderators' queue.
pub trait FlaggedPosts: Sync {
    /// Up to `limit` posts that wait, in the order of their ids, from the first one after `after` on, each with when it was
    /// withheld.
    fn waiting(
        &self,
        after: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(PostId, Timestamp)>>> + Send;
    /// The newest flags of a post that have a note, the newest first.
    fn newest_notes(&self, post_id: PostId, limit: usize) -> impl Future<Output = Result<Vec<Flag>>> + Send;
}

/// How often something is tried again that others came in the way of.
const MOST_TRIES: usize = 8;

/// The ports of [`Counting::count`].
#[derive(Debug)]
pub struct Counting<'a, C, P, R, L> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// What the reactions come to, and what was told of it.
    pub reactions: &'a R,
    /// The log.
    pub log: &'a L,
    /// From how many flags on a post is withheld.
    pub flags_to_withhold: FlagsToWithhold,
}

impl<C: PostCache, P: Posts, R: ReactionCounts + Standings, L: PostLog> Counting<'_, C, P, R, L> {
    /// Counts a post's reactions, and tells the log where that is something new. To do it again changes nothing.
    pub async fn count(&self, post_id: PostId, now: Timestamp) -> Result<()> {
        for _ in 0..MOST_TRIES {
            // Before the counts: who claims after this has seen them as they are now, or later.
            let old = self.reactions.get(post_id).await?;
            if old.is_some_and(|old| old.decision == Some(Decision::Remove)) {
                return Ok(());
            }
            let counts = self.reactions.of(post_id).await?;
            let old_decision = old.and_then(|old| old.decision);
            let decision =
                if self.is_flagged_anew(post_id, old.as_ref(), &counts).await? { None } else { old_decision };
            let new = self.counted(old.as_ref(), decision, &counts, now);
            if new.changes(old.as_ref()).is_empty() {
                // Claimed all the same: who counted before, and saw something else, must not tell it after this.
                if self.reactions.claim(post_id, old.as_ref(), &Standing { told: true, ..new }).await? {
                    return Ok(());
                }
                continue;
            }
            let post = posts::read(self.cache, self.posts, &[post_id]).await?.pop();
            // It is gone.
            let Some(post) = post else { return Ok(()) };
            let (new, edit) = edited(new, old.as_ref(), &post, now);
            if self.reactions.claim(post_id, old.as_ref(), &new).await? {
                self.log.append(&PostChange::Edited(edit).into()).await?;
                return self.reactions.settle(post_id, &new).await;
            }
        }
        Err(Error::unavailable("reactions", "a post's reactions are counted by many at once"))
    }

    /// Whether a post that was kept has as many flags again since its author has changed it: then what a moderator has seen
    /// is not what it is.
    async fn is_flagged_anew(
        &self,
        post_id: PostId,
        old: Option<&Standing>,
        counts: &Counts,
    ) -> Result<bool> {
        let Some(Standing { flags, kept_at: Some(kept_at), decision: Some(Decision::Keep), .. }) = old else {
            return Ok(false);
        };
        if counts.flags_in_all() < flags + self.flags_to_withhold.0.get() {
            return Ok(false);
        }
        let post = posts::read(self.cache, self.posts, &[post_id]).await?.pop();
        Ok(post.is_some_and(|post| post.updated_at > *kept_at))
    }

    /// What is to be told of a post after `old`.
    fn counted(
        &self,
        old: Option<&Standing>,
        decision: Option<Decision>,
        counts: &Counts,
        now: Timestamp,
    ) -> Standing {
        let kept = old.filter(|_| decision == Some(Decision::Keep));
        // What is withheld stays so until a moderator has decided, also where flags go with who raised them.
        let was_withheld = old.is_some_and(|old| old.withheld);
        let many = counts.flags_in_all() >= self.flags_to_withhold.0.get();
        Standing {
            confirmations: counts.confirmations,
            withheld: decision.is_none() && (was_withheld || many),
            decision,
            kept_at: kept.and_then(|kept| kept.kept_at),
            flags: kept.map_or(counts.flags_in_all(), |kept| kept.flags),
            edit_id: EditId::new(Standing::before(old, now)),
            told: false,
        }
    }
}

/// The edit that says what `new` has and `old` had not, and `new` with its id.
fn edited(new: Standing, old: Option<&Standing>, post: &Post, now: Timestamp) -> (Standing, Edit) {
    let edit = Edit::new(post, new.changes(old), Standing::before(old, now));
    (Standing { edit_id: edit.edit_id, ..new }, edit)
}

/// The ports of [`Deciding::decide`].
#[derive(Debug)]
pub struct Deciding<'a, C, P, S, L> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// What was told of posts.
    pub standings: &'a S,
    /// The log.
    pub log: &'a L,
}

impl<C: PostCache + PostCacheEditor, P: Posts, S: Standings, L: PostLog> Deciding<'_, C, P, S, L> {
    /// Decides on a post that was withheld; it leaves the queue when the log has it. The same decision again changes
    /// nothing, and another one takes its place, save that nothing brings back what was removed.
    pub async fn decide(
        &self,
        caller: &Caller,
        post_id: PostId,
        decision: Decision,
        now: Timestamp,
    ) -> Result<()> {
        caller.must_moderate()?;
        for _ in 0..MOST_TRIES {
            let old = self.standings.get(post_id).await?;
            let old = old.filter(|old| old.withheld || old.decision.is_some()).ok_or_else(not_flagged)?;
            if old.told && old.decision == Some(decision) {
                return Ok(());
            }
            let done = match decision {
                Decision::Keep => self.keep(post_id, &old, now).await?,
                Decision::Remove => self.remove(post_id, &old, now).await?,
            };
            if done {
                return Ok(());
            }
        }
        Err(Error::unavailable("reactions", "a post's reactions are counted by many at once"))
    }

    async fn keep(&self, post_id: PostId, old: &Standing, now: Timestamp) -> Result<bool> {
        if old.told && old.decision == Some(Decision::Remove) {
            return Err(not_flagged().into());
        }
        let post = posts::read(self.cache, self.posts, &[post_id]).await?.pop().ok_or_else(not_flagged)?;
        let (decision, kept_at) = (Some(Decision::Keep), Some(now));
        let new = Standing { withheld: false, decision, kept_at, told: false, ..*old };
        let (new, edit) = edited(new, Some(old), &post, now);
        if !self.standings.claim(post_id, Some(old), &new).await? {
            return Ok(false);
        }
        let kept = edit.applied_to(post);
        posts::append(self.log, &PostChange::Edited(edit).into(), NOT_CONFIRMED).await?;
        if let Err(error) = self.cache.foresee(&kept).await {
            tracing::warn!(cache_unavailable = true, %error, %post_id, "a post is at hand as withheld until the log is read");
        }
        self.standings.settle(post_id, &new).await?;
        Ok(true)
    }

    async fn remove(&self, post_id: PostId, old: &Standing, now: Timestamp) -> Result<bool> {
        let edit_id = EditId::new(Standing::before(Some(old), now));
        let new = Standing { decision: Some(Decision::Remove), edit_id, told: false, ..*old };
        if !self.standings.claim(post_id, Some(old), &new).await? {
            return Ok(false);
        }
        let deletion = PostChange::Deleted(Deletion { post_id, deleted_at: now });
        posts::append(self.log, &deletion.into(), NOT_CONFIRMED).await?;
        if let Err(error) = self.cache.remove(post_id).await {
            tracing::warn!(cache_unavailable = true, %error, %post_id, "a deleted post is at hand until the log is read");
        }
        self.standings.settle(post_id, &new).await?;
        Ok(true)
    }
}

const NOT_CONFIRMED: &str = "the log did not confirm the decision; send it again";

fn not_flagged() -> Refusal {
    Refusal::not_found("flagged post")
}

/// A post that waits for a decision, as moderators see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlaggedPost {
    /// The post.
    pub post: Post,
    /// How many have flagged it, by each reason.
    pub flags: BTreeMap<FlagReason, u32>,
    /// The newest flags that have a note, the newest first. Who raised them is not told.
    pub newest_notes: Vec<Flag>,
    /// Since when it is withheld.
    pub withheld_at: Timestamp,
}

/// Which list the moderators' queue is.
#[must_use]
pub fn scope() -> Scope {
    Scope::of(["flagged posts"])
}

/// How many notes of a post are shown.
const NOTES_SHOWN: usize = 5;
const CONCURRENT_READS: usize = 16;
/// How often a page reads on in place of posts that are gone: their authors deleted them.
const MOST_ROUNDS: usize = 5;

/// The ports of [`Queue::page`].
#[derive(Debug)]
pub struct Queue<'a, C, P, R> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// What waits, and why.
    pub reactions: &'a R,
}

impl<C: PostCache, P: Posts, R: FlaggedPosts + ReactionCounts> Queue<'_, C, P, R> {
    /// A page of the posts that wait for a decision, those that were posted first first. It has fewer than `limit` where
    /// many are gone.
    pub async fn page(
        &self,
        caller: &Caller,
        after: Option<Cursor>,
        limit: Limit,
    ) -> Result<Page<FlaggedPost>> {
        caller.must_moderate()?;
        let (mut items, mut last) = (Vec::new(), after.map(|cursor| cursor.0));
        for _ in 0..MOST_ROUNDS {
            let wanted = limit.and_one() - items.len();
            let waiting = self.reactions.waiting(last, wanted).await?;
            last = waiting.last().map(|(post_id, _)| *post_id).or(last);
            let is_end = waiting.len() < wanted;
            items.extend(self.views(waiting).await?);
            if is_end || items.len() > limit.get() {
                return Ok(Page::cut(items, limit, scope(), |item| item.post.post_id));
            }
        }
        Ok(Page { items, next_cursor: last.map(|last| Cursor(last).encode(scope())) })
    }

    async fn views(&self, waiting: Vec<(PostId, Timestamp)>) -> Result<Vec<FlaggedPost>> {
        let ids: Vec<_> = waiting.iter().map(|(post_id, _)| *post_id).collect();
        let posts = posts::read(self.cache, self.posts, &ids).await?;
        let mut posts: HashMap<_, _> = posts.into_iter().map(|post| (post.post_id, post)).collect();
        let there =
            waiting.into_iter().filter_map(|(id, withheld_at)| Some((posts.remove(&id)?, withheld_at)));
        let view = |(post, withheld_at): (Post, Timestamp)| async move {
            let counts = self.reactions.of(post.post_id);
            let notes = self.reactions.newest_notes(post.post_id, NOTES_SHOWN);
            let (counts, newest_notes) = try_join(counts, notes).await?;
            let count = |reason| (reason, counts.flags.get(&reason).copied().unwrap_or_default());
            let flags = FlagReason::ALL.into_iter().map(count).collect();
            Ok(FlaggedPost { post, flags, newest_notes, withheld_at })
        };
        stream::iter(there.collect::<Vec<_>>()).map(view).buffered(CONCURRENT_READS).try_collect().await
    }
}
