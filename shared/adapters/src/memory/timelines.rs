//! Cached timelines, by the rules of the ones in Redis: see there why the order of operations does not matter.

use std::collections::{BTreeSet, HashMap, HashSet};

use tocsin_domain::{
    Result,
    ids::{PostId, UserId},
    posts::PostCache as _,
    time::Timestamp,
    timeline::{
        CAPACITY, CachedPage, Load, Owner, Rebuild, Sources, TimelineEraser, TimelineLoader, Timelines,
    },
};

use super::{MemoryPostCache, Shared};

/// Cached timelines.
#[derive(Clone, Debug)]
pub struct MemoryTimelines {
    timelines: Shared<State>,
    posts: MemoryPostCache,
    capacity: usize,
    is_trusted: bool,
}

#[derive(Debug, Default)]
struct State {
    timelines: HashMap<Owner, Timeline>,
    rebuilds: HashMap<Owner, Rebuild>,
    begun: u64,
}

#[derive(Debug, Default)]
struct Timeline {
    entries: BTreeSet<PostId>,
    /// None while it is rebuilt.
    floor: Option<Timestamp>,
    sources: Sources,
}

impl Default for MemoryTimelines {
    fn default() -> Self {
        Self {
            timelines: Shared::default(),
            posts: MemoryPostCache::default(),
            capacity: CAPACITY,
            is_trusted: true,
        }
    }
}

impl MemoryTimelines {
    /// With the posts that are at hand here.
    #[must_use]
    pub fn over(posts: &MemoryPostCache) -> Self {
        Self { posts: posts.clone(), ..Self::default() }
    }

    /// Timelines that hold less, so that a test can fill them.
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Timelines that are to be checked whenever they are read.
    #[must_use]
    pub fn not_trusted(self) -> Self {
        Self { is_trusted: false, ..self }
    }
}

impl Timeline {
    fn add(&mut self, post_id: PostId) -> bool {
        self.floor.is_none_or(|floor| post_id.time() > floor) && self.entries.insert(post_id)
    }

    /// Drops what exceeds the capacity, and all that is not above the floor.
    fn trim(&mut self, capacity: usize) {
        let Some(mut floor) = self.floor else { return };
        self.entries.retain(|post_id| post_id.time() > floor);
        if let Some(excess) = self.entries.len().checked_sub(capacity + 1) {
            floor = self.entries.iter().nth(excess).map_or(floor, |highest| highest.time());
            self.entries.retain(|post_id| post_id.time() > floor);
        }
        self.floor = Some(floor);
    }
}

impl State {
    fn page(&self, user: UserId, before: Option<PostId>, limit: usize) -> Option<CachedPage> {
        let timeline = self.timelines.get(&Owner::User(user))?;
        let empty = CachedPage {
            entries: Vec::new(),
            posts: Vec::new(),
            floor: Timestamp::MAX,
            subscriptions: timeline.sources.subscriptions.clone(),
            missing: Vec::new(),
            hidden: None,
            is_to_be_checked: false,
        };
        let Some(mut floor) = timeline.floor else { return Some(empty) };
        let (mut missing, mut entries) = (Vec::new(), timeline.entries.clone());
        for key in &timeline.sources.large {
            let merged = self.timelines.get(&Owner::Key(key.clone()));
            match merged.and_then(|merged| Some((merged.floor?, merged))) {
                Some((above, merged)) => {
                    floor = floor.max(above);
                    entries.extend(&merged.entries);
                }
                None => missing.push(key.clone()),
            }
        }
        let older = |id: &PostId| id.time() > floor && before.is_none_or(|before| *id < before);
        let entries = entries.into_iter().rev().filter(older).take(limit);
        let entries = if missing.is_empty() { entries.collect() } else { Vec::new() };
        Some(CachedPage { entries, floor, missing, ..empty })
    }
}

impl Timelines for MemoryTimelines {
    async fn page(&self, user: UserId, before: Option<PostId>, limit: usize) -> Result<Option<CachedPage>> {
        let page = self.timelines.lock().page(user, before, limit);
        let Some(page) = page else { return Ok(None) };
        let is_to_be_checked = !self.is_trusted && page.floor < Timestamp::MAX;
        Ok(Some(CachedPage { posts: self.posts.get(&page.entries).await?.posts, is_to_be_checked, ..page }))
    }

    async fn begin_rebuild(&self, owner: &Owner) -> Result<Option<Rebuild>> {
        let mut state = self.timelines.lock();
        if state.rebuilds.contains_key(owner) || state.timelines.contains_key(owner) {
            return Ok(None);
        }
        state.begun += 1;
        let rebuild = Rebuild(state.begun.to_string());
        state.rebuilds.insert(owner.clone(), rebuild.clone());
        state.timelines.insert(owner.clone(), Timeline::default());
        Ok(Some(rebuild))
    }

    async fn finish_rebuild(
        &self,
        owner: &Owner,
        rebuild: Rebuild,
        posts: &[PostId],
        floor: Timestamp,
        sources: &Sources,
    ) -> Result<()> {
        let mut state = self.timelines.lock();
        if state.rebuilds.get(owner) != Some(&rebuild) {
            return Ok(());
        }
        state.rebuilds.remove(owner);
        if let Some(timeline) = state.timelines.get_mut(owner) {
            for post_id in posts {
                timeline.add(*post_id);
            }
            timeline.floor = Some(floor);
            timeline.sources = sources.clone();
            timeline.trim(self.capacity);
        }
        Ok(())
    }
}

impl TimelineLoader for MemoryTimelines {
    async fn load(&self, loads: &[Load]) -> Result<usize> {
        let bodies: Vec<_> = loads.iter().map(|load| load.post.clone()).collect();
        self.posts.put(&bodies).await?;
        let mut state = self.timelines.lock();
        let mut took: HashSet<&Owner> = HashSet::new();
        for Load { post, owners } in loads {
            for owner in owners {
                let Some(timeline) = state.timelines.get_mut(owner) else { continue };
                if timeline.add(post.post_id) {
                    took.insert(owner);
                }
                timeline.trim(self.capacity);
            }
        }
        Ok(took.len())
    }
}

impl TimelineEraser for MemoryTimelines {
    async fn forget(&self, user: UserId) -> Result<()> {
        let mut state = self.timelines.lock();
        state.timelines.remove(&Owner::User(user));
        state.rebuilds.remove(&Owner::User(user));
        Ok(())
    }
}
