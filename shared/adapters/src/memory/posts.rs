//! Posts, at hand and stored, and the requests that they were.

use std::collections::{BTreeMap, HashMap, HashSet};

use tocsin_domain::{
    Error, Result,
    event_index::{EventEntry, EventIndex, EventKey, EventPosition, Span},
    ids::{PostId, UserId},
    place_index::{PlaceEntry, PlaceIndex, PlaceKey},
    post::Post,
    post_edit::{Edit, Edited},
    post_log::Deletion,
    posts::{
        AtHand, CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey, PostCache, PostCacheEditor, PostEditor,
        PostStore, Posts, Stored,
    },
    time::{self, Timestamp},
};

use super::Shared;

/// Stored posts, by id, by place and by time.
#[derive(Clone, Debug, Default)]
pub struct MemoryPosts {
    tables: Shared<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    posts: HashMap<PostId, Edited>,
    deleted: HashSet<PostId>,
    places: HashMap<PlaceKey, BTreeMap<PostId, PlaceEntry>>,
    events: HashMap<EventKey, BTreeMap<EventPosition, EventEntry>>,
}

impl Posts for MemoryPosts {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        let tables = self.tables.lock();
        Ok(ids
            .iter()
            .collect::<HashSet<_>>()
            .into_iter()
            .filter_map(|id| Some(tables.posts.get(id)?.post.clone()))
            .collect())
    }
}

impl Tables {
    fn put(&mut self, edited: Edited) {
        let post = &edited.post;
        for key in PlaceKey::of(post) {
            self.places.entry(key).or_default().insert(post.post_id, PlaceEntry::of(post));
        }
        if let Some(entry) = EventEntry::of(post) {
            for key in EventKey::of(post) {
                self.events.entry(key).or_default().insert(entry.position(), entry.clone());
            }
        }
        self.posts.insert(post.post_id, edited);
    }

    fn take(&mut self, id: PostId) -> Option<Edited> {
        let taken = self.posts.remove(&id)?;
        for key in PlaceKey::of(&taken.post) {
            self.places.entry(key).or_default().remove(&id);
        }
        if let Some(entry) = EventEntry::of(&taken.post) {
            for key in EventKey::of(&taken.post) {
                self.events.entry(key).or_default().remove(&entry.position());
            }
        }
        Some(taken)
    }
}

impl PostStore for MemoryPosts {
    async fn store(&self, posts: &[Post]) -> Vec<Result<Stored>> {
        let mut tables = self.tables.lock();
        let store = |post: &Post| {
            if tables.deleted.contains(&post.post_id) {
                return Ok(Stored::Deleted);
            }
            if tables.posts.contains_key(&post.post_id) {
                return Ok(Stored::Already);
            }
            tables.put(Edited::not_yet(post.clone()));
            Ok(Stored::New)
        };
        posts.iter().map(store).collect()
    }
}

impl PostEditor for MemoryPosts {
    async fn edit(&self, edit: &Edit) -> Result<Option<Post>> {
        let mut tables = self.tables.lock();
        if tables.deleted.contains(&edit.post_id) {
            return Ok(None);
        }
        let Some(mut edited) = tables.take(edit.post_id) else {
            return Err(Error::unavailable("posts", "a post is edited that is not stored"));
        };
        edited.merge(edit);
        let post = edited.post.clone();
        tables.put(edited);
        Ok(Some(post))
    }

    async fn remove(&self, deletion: &Deletion) -> Result<()> {
        let mut tables = self.tables.lock();
        tables.take(deletion.post_id);
        tables.deleted.insert(deletion.post_id);
        Ok(())
    }
}

impl PlaceIndex for MemoryPosts {
    async fn newest(&self, key: &PlaceKey, before: Option<PostId>, limit: usize) -> Result<Vec<PlaceEntry>> {
        let tables = self.tables.lock();
        let entries = tables.places.get(key).into_iter().flat_map(|entries| entries.values().rev());
        let older = entries.filter(|entry| before.is_none_or(|before| entry.post_id < before));
        Ok(older.take(limit).cloned().collect())
    }
}

impl EventIndex for MemoryPosts {
    async fn soonest(
        &self,
        key: &EventKey,
        span: Span,
        after: Option<EventPosition>,
        limit: usize,
    ) -> Result<Vec<EventEntry>> {
        let tables = self.tables.lock();
        let entries = tables.events.get(key).into_iter().flatten();
        let begin_within = entries.filter(|(position, entry)| {
            span.holds(entry.starts_at, None) && after.is_none_or(|after| **position > after)
        });
        Ok(begin_within.map(|(_, entry)| entry.clone()).take(limit).collect())
    }
}

/// Posts at hand; none for those that were deleted.
#[derive(Clone, Debug, Default)]
pub struct MemoryPostCache {
    posts: Shared<HashMap<PostId, Option<Post>>>,
}

impl MemoryPostCache {
    fn replace_if(&self, post: &Post, is_older: impl Fn(&Post) -> bool) {
        let mut kept = self.posts.lock();
        let is_replaced = match kept.get(&post.post_id) {
            Some(Some(other)) => is_older(other),
            Some(None) => false,
            None => true,
        };
        if is_replaced {
            kept.insert(post.post_id, Some(post.clone()));
        }
    }
}

impl PostCache for MemoryPostCache {
    async fn get(&self, ids: &[PostId]) -> Result<AtHand> {
        let (posts, mut at_hand) = (self.posts.lock(), AtHand::default());
        for (id, post) in ids.iter().filter_map(|id| Some((id, posts.get(id)?))) {
            match post {
                Some(post) => at_hand.posts.push(post.clone()),
                None => at_hand.deleted.push(*id),
            }
        }
        Ok(at_hand)
    }

    async fn put(&self, posts: &[Post]) -> Result<()> {
        let mut kept = self.posts.lock();
        for post in posts {
            kept.entry(post.post_id).or_insert_with(|| Some(post.clone()));
        }
        Ok(())
    }
}

impl PostCacheEditor for MemoryPostCache {
    async fn replace(&self, post: &Post) -> Result<()> {
        self.replace_if(post, |other| other.revision <= post.revision);
        Ok(())
    }

    async fn foresee(&self, post: &Post) -> Result<()> {
        self.replace_if(post, |other| other.revision < post.revision);
        Ok(())
    }

    async fn remove(&self, id: PostId) -> Result<()> {
        self.posts.lock().insert(id, None);
        Ok(())
    }
}

/// Claims of keys.
#[derive(Clone, Debug, Default)]
pub struct MemoryIdempotency {
    claims: Shared<HashMap<(UserId, String), (Claim, Timestamp)>>,
}

impl Idempotency for MemoryIdempotency {
    async fn claim(
        &self,
        owner: UserId,
        key: &IdempotencyKey,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Claim> {
        let mut claims = self.claims.lock();
        let claimed = claims
            .entry((owner, key.as_str().to_owned()))
            .and_modify(|claimed| {
                if claimed.1 <= now {
                    *claimed = (claim.clone(), time::after(now, CLAIM_SECONDS));
                }
            })
            .or_insert_with(|| (claim.clone(), time::after(now, CLAIM_SECONDS)));
        Ok(claimed.0.clone())
    }
}
