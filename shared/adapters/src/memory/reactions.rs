//! Reactions to posts, what they come to, and what waits for moderators.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use tocsin_domain::{
    Result,
    ids::{PostId, UserId},
    moderation::{FlaggedPosts, Standing, Standings},
    reaction::{
        CountJob, Counts, Flag, OwnReactions, Reaction, ReactionCounts, ReactionEraser, ReactionKind,
        ReactionQueue, Reactions,
    },
    time::Timestamp,
};

use super::Shared;

/// Reactions to posts.
#[derive(Clone, Debug, Default)]
pub struct MemoryReactions {
    tables: Shared<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    of_posts: BTreeMap<(PostId, ReactionKind, UserId), Reaction>,
    /// With whether it was taken from the post.
    of_people: BTreeMap<(UserId, ReactionKind, PostId), (Reaction, bool)>,
    standings: HashMap<PostId, Standing>,
    waiting: BTreeMap<PostId, Timestamp>,
}

impl Tables {
    fn put(&mut self, post_id: PostId, user_id: UserId, kind: ReactionKind, reaction: Reaction) {
        self.of_posts.insert((post_id, kind, user_id), reaction.clone());
        self.of_people.insert((user_id, kind, post_id), (reaction, false));
    }

    fn of_post(&self, post_id: PostId) -> impl Iterator<Item = &Reaction> {
        let all = self.of_posts.iter().filter(move |((post, ..), _)| *post == post_id);
        all.map(|(_, reaction)| reaction)
    }
}

impl Reactions for MemoryReactions {
    async fn confirm(&self, post_id: PostId, user_id: UserId, now: Timestamp) -> Result<()> {
        let (mut tables, kind) = (self.tables.lock(), ReactionKind::Confirmation);
        if !tables.of_posts.contains_key(&(post_id, kind, user_id)) {
            tables.put(post_id, user_id, kind, Reaction::Confirmation { confirmed_at: now });
        }
        Ok(())
    }

    async fn withdraw(&self, post_id: PostId, user_id: UserId) -> Result<()> {
        let (mut tables, kind) = (self.tables.lock(), ReactionKind::Confirmation);
        if tables.of_posts.remove(&(post_id, kind, user_id)).is_some() {
            tables.of_people.remove(&(user_id, kind, post_id));
        }
        Ok(())
    }

    async fn flag(&self, post_id: PostId, user_id: UserId, flag: &Flag) -> Result<()> {
        let (mut tables, kind) = (self.tables.lock(), ReactionKind::Flag);
        let same = |old: &Reaction| match old {
            Reaction::Flag(old) => (old.reason, &old.note) == (flag.reason, &flag.note),
            Reaction::Confirmation { .. } => false,
        };
        if !tables.of_posts.get(&(post_id, kind, user_id)).is_some_and(same) {
            tables.put(post_id, user_id, kind, Reaction::Flag(flag.clone()));
        }
        Ok(())
    }
}

impl ReactionCounts for MemoryReactions {
    async fn of(&self, post_id: PostId) -> Result<Counts> {
        let mut counts = Counts::default();
        for reaction in self.tables.lock().of_post(post_id) {
            match reaction {
                Reaction::Confirmation { .. } => counts.confirmations += 1,
                Reaction::Flag(flag) => *counts.flags.entry(flag.reason).or_default() += 1,
            }
        }
        Ok(counts)
    }
}

impl OwnReactions for MemoryReactions {
    async fn of(
        &self,
        owner: UserId,
        kind: ReactionKind,
        after: Option<PostId>,
        limit: usize,
    ) -> Result<Vec<(PostId, Reaction)>> {
        let tables = self.tables.lock();
        let mine = tables.of_people.iter().filter(|((user, of, _), _)| (*user, *of) == (owner, kind));
        let mine = mine.map(|((.., post_id), (reaction, _))| (*post_id, reaction.clone()));
        Ok(mine.filter(|(id, _)| after.is_none_or(|after| *id > after)).take(limit).collect())
    }
}

impl ReactionEraser for MemoryReactions {
    async fn uncount(&self, owner: UserId, post_id: PostId, kind: ReactionKind) -> Result<()> {
        let mut tables = self.tables.lock();
        if tables.of_posts.remove(&(post_id, kind, owner)).is_some()
            && let Some((_, uncounted)) = tables.of_people.get_mut(&(owner, kind, post_id))
        {
            *uncounted = true;
        }
        Ok(())
    }

    async fn forget(&self, owner: UserId, post_id: PostId, kind: ReactionKind) -> Result<()> {
        let (mut tables, key) = (self.tables.lock(), (owner, kind, post_id));
        if tables.of_people.get(&key).is_some_and(|(_, uncounted)| *uncounted) {
            tables.of_people.remove(&key);
        }
        Ok(())
    }
}

impl Standings for MemoryReactions {
    async fn get(&self, post_id: PostId) -> Result<Option<Standing>> {
        Ok(self.tables.lock().standings.get(&post_id).copied())
    }

    async fn claim(&self, post_id: PostId, old: Option<&Standing>, new: &Standing) -> Result<bool> {
        let mut tables = self.tables.lock();
        let there = tables.standings.get(&post_id).map(|there| there.edit_id);
        if there != old.map(|old| old.edit_id) {
            return Ok(false);
        }
        tables.standings.insert(post_id, *new);
        if new.is_undecided() {
            tables.waiting.entry(post_id).or_insert(new.edit_id.time());
        }
        Ok(true)
    }

    async fn settle(&self, post_id: PostId, standing: &Standing) -> Result<()> {
        let mut tables = self.tables.lock();
        let Some(there) = tables.standings.get_mut(&post_id) else { return Ok(()) };
        if there.edit_id != standing.edit_id {
            return Ok(());
        }
        there.told = true;
        if standing.decision.is_some() {
            tables.waiting.remove(&post_id);
        }
        Ok(())
    }
}

impl FlaggedPosts for MemoryReactions {
    async fn waiting(&self, after: Option<PostId>, limit: usize) -> Result<Vec<(PostId, Timestamp)>> {
        let tables = self.tables.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let waiting = tables.waiting.range((from, Bound::Unbounded)).take(limit);
        Ok(waiting.map(|(post_id, withheld_at)| (*post_id, *withheld_at)).collect())
    }

    async fn newest_notes(&self, post_id: PostId, limit: usize) -> Result<Vec<Flag>> {
        let tables = self.tables.lock();
        let flags = tables.of_post(post_id).filter_map(|reaction| match reaction {
            Reaction::Flag(flag) if flag.note.is_some() => Some(flag.clone()),
            _ => None,
        });
        let mut flags: Vec<_> = flags.collect();
        flags.sort_by_key(|flag| Reverse(flag.flagged_at));
        flags.truncate(limit);
        Ok(flags)
    }
}

/// A queue of posts whose reactions are to be counted.
#[derive(Clone, Debug, Default)]
pub struct MemoryReactionQueue {
    jobs: Shared<Vec<CountJob>>,
}

impl MemoryReactionQueue {
    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<CountJob> {
        std::mem::take(&mut self.jobs.lock())
    }
}

impl ReactionQueue for MemoryReactionQueue {
    async fn enqueue(&self, posts: &[PostId]) -> Result<()> {
        self.jobs.lock().extend(posts.iter().map(|post_id| CountJob { post_id: *post_id }));
        Ok(())
    }
}
