//! Posts at hand: `post:<id>` is the post in JSON, or [`DELETED`], with the timelines' lifetime.

use std::sync::LazyLock;

use redis::{Pipeline, Script};
use tocsin_domain::{
    Error, Result,
    ids::PostId,
    post::Post,
    posts::{AtHand, PostCache, PostCacheEditor},
    timeline::LIFETIME_SECONDS,
};

use super::{Redis, Request};

/// Posts at hand.
#[derive(Clone, Debug)]
pub struct RedisPostCache {
    redis: Redis,
}

const SERVICE: &str = "the post cache";
/// In the place of a post that was deleted: what a late reader has read of it is not put there.
const DELETED: &[u8] = b"";

impl RedisPostCache {
    /// Those that a Redis keeps.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone() }
    }
}

impl RedisPostCache {
    /// Keeps a post in place of a form of it with fewer than so many revisions.
    async fn replace_before(&self, revisions: u64, post: &Post) -> Result<()> {
        let mut call = REPLACE.key(key(&post.post_id));
        call.arg(write(post)?).arg(revisions).arg(LIFETIME_SECONDS);
        self.redis.run(SERVICE, Request::Script(&call)).await
    }
}

impl PostCache for RedisPostCache {
    async fn get(&self, ids: &[PostId]) -> Result<AtHand> {
        if ids.is_empty() {
            return Ok(AtHand::default());
        }
        let mut pipeline = Pipeline::new();
        pipeline.mget(ids.iter().map(key).collect::<Vec<_>>());
        let (bodies,): (Vec<Option<Vec<u8>>>,) =
            self.redis.run(SERVICE, Request::Commands(&pipeline)).await?;
        let (mut at_hand, mut unreadable) = (AtHand::default(), Vec::new());
        for (id, body) in ids.iter().zip(bodies) {
            let Some(body) = body else { continue };
            if body == DELETED {
                at_hand.deleted.push(*id);
                continue;
            }
            match read(&body) {
                Ok(post) => at_hand.posts.push(post),
                Err(error) => {
                    tracing::warn!(%error, post_id = %id, "a post is not kept at hand any more");
                    unreadable.push(key(id));
                }
            }
        }
        if !unreadable.is_empty() {
            // Since `keep` replaces none. If this fails, the next reader does it.
            let mut pipeline = Pipeline::new();
            pipeline.del(unreadable);
            self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await.ok();
        }
        Ok(at_hand)
    }

    async fn put(&self, posts: &[Post]) -> Result<()> {
        if posts.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for post in posts {
            keep(&mut pipeline, post)?;
        }
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

impl PostCacheEditor for RedisPostCache {
    async fn replace(&self, post: &Post) -> Result<()> {
        self.replace_before(u64::from(post.revision) + 1, post).await
    }

    async fn foresee(&self, post: &Post) -> Result<()> {
        self.replace_before(u64::from(post.revision), post).await
    }

    async fn remove(&self, id: PostId) -> Result<()> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(key(&id)).arg(DELETED).arg("EX").arg(LIFETIME_SECONDS).ignore();
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

/// KEYS: the post. ARGV: its new form, with how many revisions or more another one stays, the lifetime in s.
///
/// One step, since a post's author changes it here while the log brings what happened before: neither an older form nor one
/// of what was deleted meanwhile takes its place.
static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kept = redis.call('GET', KEYS[1])
         if kept == '' then return end
         if kept then
             local is_read, post = pcall(cjson.decode, kept)
             if is_read and (post.revision or 0) >= tonumber(ARGV[2]) then return end
         end
         redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])",
    )
});

/// Adds the command that keeps a post, unless it is there.
pub(super) fn keep(pipeline: &mut Pipeline, post: &Post) -> Result<()> {
    pipeline
        .cmd("SET")
        .arg(key(&post.post_id))
        .arg(write(post)?)
        .arg("NX")
        .arg("EX")
        .arg(LIFETIME_SECONDS)
        .ignore();
    Ok(())
}

pub(super) fn key(id: &PostId) -> String {
    format!("post:{id}")
}

fn write(post: &Post) -> Result<Vec<u8>> {
    serde_json::to_vec(post).map_err(|error| Error::unreadable("a post", error))
}

pub(super) fn read(body: &[u8]) -> Result<Post> {
    serde_json::from_slice(body).map_err(|error| Error::unreadable("a cached post", error))
}
