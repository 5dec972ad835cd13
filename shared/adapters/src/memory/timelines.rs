//! Cached timelines, by the rules of the ones in Redis: see there why the order of operations does not matter.

use std::collections::{BTreeMap, HashMap, HashSet};

use tocsin_domain::{
    Result,
    audience::Recipient,
    ids::{PostId, SubscriptionId, UserId},
    post::Post,
    posts::PostCache as _,
    time::Timestamp,
    timeline::{CAPACITY, CachedPage, Entry, Rebuild, TimelineEraser, TimelineLoader, Timelines},
};

use super::{MemoryPostCache, Shared};

/// Cached timelines.
#[derive(Clone, Debug)]
pub struct MemoryTimelines {
    timelines: Shared<State>,
    posts: MemoryPostCache,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    timelines: HashMap<UserId, Timeline>,
    rebuilds: HashMap<UserId, Rebuild>,
    begun: u64,
}

#[derive(Debug)]
struct Timeline {
    entries: BTreeMap<PostId, SubscriptionId>,
    /// None while it is rebuilt.
    floor: Option<Timestamp>,
}

impl Default for MemoryTimelines {
    fn default() -> Self {
        Self { timelines: Shared::default(), posts: MemoryPostCache::default(), capacity: CAPACITY }
    }
}

impl MemoryTimelines {
    /// Timelines that hold less, so that a test can fill them.
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }
}

impl Timeline {
    fn add(&mut self, Entry { post_id, because }: Entry) -> bool {
        let fits = self.floor.is_none_or(|floor| post_id.time() > floor);
        fits && !self.entries.contains_key(&post_id) && self.entries.insert(post_id, because).is_none()
    }

    /// Drops what exceeds the capacity, and all that is not above the floor.
    fn trim(&mut self, capacity: usize) {
        let Some(mut floor) = self.floor else { return };
        self.entries.retain(|post_id, _| post_id.time() > floor);
        if let Some(excess) = self.entries.len().checked_sub(capacity + 1) {
            floor = self.entries.keys().nth(excess).map_or(floor, |highest| highest.time());
            self.entries.retain(|post_id, _| post_id.time() > floor);
        }
        self.floor = Some(floor);
    }
}

impl Timelines for MemoryTimelines {
    async fn page(&self, owner: UserId, before: Option<PostId>, limit: usize) -> Result<Option<CachedPage>> {
        let page = {
            let state = self.timelines.lock();
            let Some(timeline) = state.timelines.get(&owner) else { return Ok(None) };
            let entries = timeline.entries.iter().rev();
            let older =
                entries.filter(|(post_id, _)| before.is_none_or(|before| **post_id < before)).take(limit);
            let entry = |(post_id, because): (&PostId, &SubscriptionId)| Entry {
                post_id: *post_id,
                because: *because,
            };
            match timeline.floor {
                Some(floor) => {
                    CachedPage { entries: older.map(entry).collect(), posts: Vec::new(), floor, hidden: None }
                }
                None => {
                    CachedPage { entries: Vec::new(), posts: Vec::new(), floor: Timestamp::MAX, hidden: None }
                }
            }
        };
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.post_id).collect();
        Ok(Some(CachedPage { posts: self.posts.get(&ids).await?.posts, ..page }))
    }

    async fn begin_rebuild(&self, owner: UserId) -> Result<Option<Rebuild>> {
        let mut state = self.timelines.lock();
        if state.rebuilds.contains_key(&owner) || state.timelines.contains_key(&owner) {
            return Ok(None);
        }
        state.begun += 1;
        let rebuild = Rebuild(state.begun.to_string());
        state.rebuilds.insert(owner, rebuild.clone());
        state.timelines.insert(owner, Timeline { entries: BTreeMap::new(), floor: None });
        Ok(Some(rebuild))
    }

    async fn finish_rebuild(
        &self,
        owner: UserId,
        rebuild: Rebuild,
        entries: &[Entry],
        floor: Timestamp,
    ) -> Result<()> {
        let mut state = self.timelines.lock();
        if state.rebuilds.get(&owner) != Some(&rebuild) {
            return Ok(());
        }
        state.rebuilds.remove(&owner);
        if let Some(timeline) = state.timelines.get_mut(&owner) {
            for entry in entries {
                timeline.add(*entry);
            }
            timeline.floor = Some(floor);
            timeline.trim(self.capacity);
        }
        Ok(())
    }
}

impl TimelineLoader for MemoryTimelines {
    async fn load(&self, posts: &[(Post, Vec<Recipient>)]) -> Result<usize> {
        let bodies: Vec<_> = posts.iter().map(|(post, _)| post.clone()).collect();
        self.posts.put(&bodies).await?;
        let mut state = self.timelines.lock();
        let mut took: HashSet<UserId> = HashSet::new();
        for (post, recipients) in posts {
            for Recipient { user_id, because, .. } in recipients {
                let Some(timeline) = state.timelines.get_mut(user_id) else { continue };
                if timeline.add(Entry { post_id: post.post_id, because: *because }) {
                    took.insert(*user_id);
                }
                timeline.trim(self.capacity);
            }
        }
        Ok(took.len())
    }
}

impl TimelineEraser for MemoryTimelines {
    async fn forget(&self, owner: UserId) -> Result<()> {
        let mut state = self.timelines.lock();
        state.timelines.remove(&owner);
        state.rebuilds.remove(&owner);
        Ok(())
    }
}
