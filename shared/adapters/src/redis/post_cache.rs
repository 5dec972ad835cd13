//! Posts at hand: `post:<id>` is the post in JSON, with the timelines' lifetime.

use redis::Pipeline;
use tocsin_domain::{Error, Result, ids::PostId, post::Post, posts::PostCache, timeline::LIFETIME_SECONDS};

use super::{Redis, Request};

/// Posts at hand.
#[derive(Clone, Debug)]
pub struct RedisPostCache {
    redis: Redis,
}

const SERVICE: &str = "the post cache";

impl RedisPostCache {
    /// Those that a Redis keeps.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone() }
    }
}

impl PostCache for RedisPostCache {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::new();
        pipeline.mget(ids.iter().map(key).collect::<Vec<_>>());
        let (bodies,): (Vec<Option<Vec<u8>>>,) =
            self.redis.run(SERVICE, Request::Commands(&pipeline)).await?;
        let (mut posts, mut unreadable) = (Vec::new(), Vec::new());
        for (id, body) in ids.iter().zip(bodies) {
            match body.map(|body| read(&body)) {
                Some(Ok(post)) => posts.push(post),
                Some(Err(error)) => {
                    tracing::warn!(%error, post_id = %id, "a post is not kept at hand any more");
                    unreadable.push(key(id));
                }
                None => {}
            }
        }
        if !unreadable.is_empty() {
            // Since `keep` replaces none. If this fails, the next reader does it.
            let mut pipeline = Pipeline::new();
            pipeline.del(unreadable);
            self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await.ok();
        }
        Ok(posts)
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

/// Adds the command that keeps a post, unless it is there.
pub(super) fn keep(pipeline: &mut Pipeline, post: &Post) -> Result<()> {
    let body = serde_json::to_vec(post).map_err(|error| Error::unreadable("a post", error))?;
    pipeline.cmd("SET").arg(key(&post.post_id)).arg(body).arg("NX").arg("EX").arg(LIFETIME_SECONDS).ignore();
    Ok(())
}

pub(super) fn key(id: &PostId) -> String {
    format!("post:{id}")
}

pub(super) fn read(body: &[u8]) -> Result<Post> {
    serde_json::from_slice(body).map_err(|error| Error::unreadable("a cached post", error))
}
