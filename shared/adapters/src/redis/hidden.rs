//! Who is hidden from whom, at hand: `hidden:<user>` is their ids, of 16 bytes each, one after the other; or [`ASIDE`]
//! where the user is set aside.

use redis::Pipeline;
use tocsin_domain::{
    Error, Result,
    friendship::{HIDDEN_SECONDS, HiddenCache, HiddenPeople, SET_ASIDE_SECONDS},
    ids::UserId,
};

use super::{Redis, Request};

/// Who is hidden from whom.
#[derive(Clone, Debug)]
pub struct RedisHiddenCache {
    redis: Redis,
}

/// No number of ids has so many bytes.
const ASIDE: &str = "-";
const SERVICE: &str = "the cache of hidden people";

impl RedisHiddenCache {
    /// What a Redis keeps of them.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone() }
    }
}

impl HiddenCache for RedisHiddenCache {
    async fn get(&self, owner: UserId) -> Result<Option<HiddenPeople>> {
        let mut pipeline = Pipeline::new();
        pipeline.get(key(owner));
        let (kept,): (Option<Vec<u8>>,) = self.redis.run(SERVICE, Request::Commands(&pipeline)).await?;
        kept.map_or(Ok(None), |kept| read(&kept))
    }

    async fn put(&self, owner: UserId, hidden: &HiddenPeople) -> Result<()> {
        let ids: Vec<u8> = hidden.iter().flat_map(|id| *id.as_bytes()).collect();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(key(owner)).arg(ids).arg("NX").arg("EX").arg(HIDDEN_SECONDS).ignore();
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }

    async fn set_aside(&self, owners: &[UserId]) -> Result<()> {
        let mut pipeline = Pipeline::new();
        for owner in owners {
            pipeline.cmd("SET").arg(key(*owner)).arg(ASIDE).arg("EX").arg(SET_ASIDE_SECONDS).ignore();
        }
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

pub(super) fn key(owner: UserId) -> String {
    format!("hidden:{owner}")
}

/// What is kept, or none for who is set aside.
pub(super) fn read(kept: &[u8]) -> Result<Option<HiddenPeople>> {
    if kept == ASIDE.as_bytes() {
        return Ok(None);
    }
    let (ids, rest) = kept.as_chunks();
    if !rest.is_empty() {
        return Err(Error::unreadable("hidden people", "their ids have not 16 bytes each"));
    }
    Ok(Some(ids.iter().copied().map(UserId::from_bytes).collect()))
}
