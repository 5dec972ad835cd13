//! Posts, at hand and stored, and the requests that they were.

use std::collections::{BTreeMap, HashMap};

use tocsin_domain::{
    Result,
    ids::{PostId, UserId},
    post::Post,
    posts::{
        CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey, PlaceEntry, PlaceIndex, PlaceKey, PostCache,
        PostStore, Posts, Stored,
    },
    time::{self, Timestamp},
};

use super::Shared;

/// Stored posts, by id and by place.
#[derive(Clone, Debug, Default)]
pub struct MemoryPosts {
    tables: Shared<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    posts: HashMap<PostId, Post>,
    places: HashMap<PlaceKey, BTreeMap<PostId, PlaceEntry>>,
}

impl Posts for MemoryPosts {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        let tables = self.tables.lock();
        Ok(tables.posts.values().filter(|post| ids.contains(&post.post_id)).cloned().collect())
    }
}

impl PostStore for MemoryPosts {
    async fn store(&self, posts: &[Post]) -> Vec<Result<Stored>> {
        let mut tables = self.tables.lock();
        let store = |post: &Post| {
            for key in PlaceKey::of(post) {
                tables.places.entry(key).or_default().insert(post.post_id, PlaceEntry::of(post));
            }
            if tables.posts.contains_key(&post.post_id) {
                return Ok(Stored::Already);
            }
            tables.posts.insert(post.post_id, post.clone());
            Ok(Stored::New)
        };
        posts.iter().map(store).collect()
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

/// Posts at hand.
#[derive(Clone, Debug, Default)]
pub struct MemoryPostCache {
    posts: Shared<HashMap<PostId, Post>>,
}

impl PostCache for MemoryPostCache {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        let posts = self.posts.lock();
        Ok(ids.iter().filter_map(|id| posts.get(id)).cloned().collect())
    }

    async fn put(&self, posts: &[Post]) -> Result<()> {
        let mut kept = self.posts.lock();
        for post in posts {
            kept.entry(post.post_id).or_insert_with(|| post.clone());
        }
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
