//! Timelines.
//!
//! | key | what |
//! |---|---|
//! | `timeline:<user>` | a sorted set: post ids by time in ms, and the member `~`, whose score is the floor |
//! | `because:<user>` | a hash: for each of those posts the subscription that matched |
//! | `rebuild:<user>` | who rebuilds the timeline, for [`REBUILD_MS`] |
//! | `post:<id>` | the post ([`super::post_cache`]) |
//! | `hidden:<user>` | who is hidden from the user ([`super::hidden`]): read together with their timeline |
//!
//! A timeline holds only posts above its floor. That is what makes the order of operations indifferent: a post at or
//! below the floor is not added, whoever comes first, and the floor is always where the newest post lies that did not
//! fit. Posts of one millisecond are in the order of their ids, as members of one score are.
//!
//! A timeline expires a day after it was built, however often it is read ([`LIFETIME_SECONDS`]).
//!
//! While a timeline is rebuilt, its floor is at `+inf`, and it takes all posts. It then expires together with the right
//! to rebuild it, so that a rebuild that was given up leaves nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use redis::{Pipeline, Script};
use tocsin_domain::{
    Error, Result,
    audience::Recipient,
    ids::{PostId, SubscriptionId, UserId},
    post::Post,
    time::Timestamp,
    timeline::{
        CAPACITY, CachedPage, Entry, LIFETIME_SECONDS, Rebuild, TimelineEraser, TimelineLoader, Timelines,
    },
};

use super::{Redis, Request, hidden, post_cache};

/// Cached timelines.
#[derive(Clone, Debug)]
pub struct RedisTimelines {
    redis: Redis,
    capacity: usize,
}

/// How long a rebuild may take, in ms: longer than any invocation that does one.
const REBUILD_MS: u64 = 30_000;
/// How many timelines one call of a script writes to: some milliseconds, in which Redis does nothing else.
const TIMELINES_PER_CALL: usize = 500;
/// How many calls go into one round trip: some 130 KiB, which a slow line takes within the time limit.
const CALLS_PER_TRIP: usize = 2;
const SERVICE: &str = "timelines";

impl RedisTimelines {
    /// Those that a Redis keeps.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone(), capacity: CAPACITY }
    }

    /// Timelines that hold less, so that a test can fill them.
    #[doc(hidden)]
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }
}

/// KEYS: timeline, because, hidden. ARGV: limit, and before which post: its ms and id, or nothing.
/// Answers nothing, or the floor, who is hidden or nothing, and for each entry the post's id, the subscription, and the post
/// or nothing.
static PAGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local floor = redis.call('ZSCORE', KEYS[1], '~')
         if not floor then return false end
         local answer = {floor, redis.call('GET', KEYS[3])}
         if floor == 'inf' then return answer end
         local limit, ms, id = tonumber(ARGV[1]), ARGV[2], ARGV[3]
         local ids, top = {}, '+inf'
         if ms then
             top = '(' .. ms
             if tonumber(ms) > tonumber(floor) then
                 for _, tied in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], ms, ms)) do
                     if tied < id and #ids < limit then ids[#ids + 1] = tied end
                 end
             end
         end
         for _, older in ipairs(redis.call('ZREVRANGEBYSCORE', KEYS[1], top, '(' .. floor, 'LIMIT', 0, limit - #ids)) do
             ids[#ids + 1] = older
         end
         if #ids == 0 then return answer end
         local because = redis.call('HMGET', KEYS[2], unpack(ids))
         for i, post in ipairs(ids) do
             if not because[i] then
                 redis.call('DEL', KEYS[1], KEYS[2])
                 return false
             end
             local body = redis.call('GET', 'post:' .. post)
             answer[#answer + 1] = post
             answer[#answer + 1] = because[i]
             answer[#answer + 1] = body
         end
         return answer",
    )
});

/// Drops what exceeds the capacity, and all that is not above the floor. For the scripts below.
const TRIM: &str = "
    local function trim(timeline, because, floor, capacity)
        local excess = redis.call('ZCOUNT', timeline, '(' .. floor, '+inf') - capacity
        if excess > 0 then
            local highest = redis.call('ZRANGEBYSCORE', timeline, '(' .. floor, '+inf', 'WITHSCORES', 'LIMIT', excess - 1, 1)
            floor = highest[2]
        end
        local gone = redis.call('ZRANGEBYSCORE', timeline, '-inf', floor)
        for _, post in ipairs(gone) do
            if post ~= '~' then
                redis.call('ZREM', timeline, post)
                redis.call('HDEL', because, post)
            end
        end
        redis.call('ZADD', timeline, floor, '~')
    end";

/// KEYS: rebuild, timeline, because. ARGV: token, time in ms.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local floor = redis.call('ZSCORE', KEYS[2], '~')
         if floor and floor ~= 'inf' then return 0 end
         local ours = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
         if not ours and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('ZADD', KEYS[2], '+inf', '~')
         redis.call('PEXPIRE', KEYS[2], ARGV[2])
         redis.call('PEXPIRE', KEYS[3], ARGV[2])
         return 1",
    )
});

/// KEYS: rebuild, timeline, because. ARGV: token, floor in ms, lifetime in s, capacity, and for each entry the post's ms
/// and id, and the subscription.
static FINISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{TRIM}
         if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('DEL', KEYS[1])
         if redis.call('ZSCORE', KEYS[2], '~') ~= 'inf' then return 0 end
         for i = 5, #ARGV, 3 do
             if redis.call('ZADD', KEYS[2], 'NX', ARGV[i], ARGV[i + 1]) == 1 then
                 redis.call('HSET', KEYS[3], ARGV[i + 1], ARGV[i + 2])
             end
         end
         redis.call('ZADD', KEYS[2], ARGV[2], '~')
         trim(KEYS[2], KEYS[3], ARGV[2], tonumber(ARGV[4]))
         redis.call('EXPIRE', KEYS[2], ARGV[3])
         redis.call('EXPIRE', KEYS[3], ARGV[3])
         return 1"
    ))
});

/// KEYS: timeline and because of each user. ARGV: capacity, the number of posts, each post's ms and id, and then for each
/// user the number of entries, and for each of these the post's place in the list and the subscription.
/// Answers how many timelines took one.
static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{TRIM}
         local capacity, next, took = tonumber(ARGV[1]), 3 + 2 * ARGV[2], 0
         for user = 1, #KEYS, 2 do
             local timeline, because, count = KEYS[user], KEYS[user + 1], tonumber(ARGV[next])
             local floor, added = redis.call('ZSCORE', timeline, '~'), 0
             if floor then
                 for i = next + 1, next + 2 * count, 2 do
                     local ms, post = ARGV[1 + 2 * ARGV[i]], ARGV[2 + 2 * ARGV[i]]
                     if (floor == 'inf' or tonumber(ms) > tonumber(floor))
                         and redis.call('ZADD', timeline, 'NX', ms, post) == 1 then
                         redis.call('HSET', because, post, ARGV[i + 1])
                         added = added + 1
                     end
                 end
             end
             if added > 0 then
                 took = took + 1
                 local left = redis.call('PTTL', timeline)
                 if left > 0 then redis.call('PEXPIRE', because, left) end
                 if floor ~= 'inf' then trim(timeline, because, floor, capacity) end
             end
             next = next + 1 + 2 * count
         end
         return took"
    ))
});

impl Timelines for RedisTimelines {
    async fn page(&self, owner: UserId, before: Option<PostId>, limit: usize) -> Result<Option<CachedPage>> {
        let mut call = PAGE.key(timeline_key(owner));
        call.key(because_key(owner)).key(hidden::key(owner)).arg(limit);
        if let Some(before) = before {
            call.arg(ms(before)).arg(before.to_string());
        }
        let answer: Option<Vec<Option<Vec<u8>>>> = self.redis.run(SERVICE, Request::Script(&call)).await?;
        answer.map(|answer| read_page(&answer)).transpose()
    }

    async fn begin_rebuild(&self, owner: UserId) -> Result<Option<Rebuild>> {
        let token = PostId::new(tocsin_domain::time::now()).to_string();
        let mut call = BEGIN.key(rebuild_key(owner));
        call.key(timeline_key(owner)).key(because_key(owner)).arg(&token).arg(REBUILD_MS);
        let begun: bool = self.redis.run(SERVICE, Request::Script(&call)).await?;
        Ok(begun.then_some(Rebuild(token)))
    }

    async fn finish_rebuild(
        &self,
        owner: UserId,
        rebuild: Rebuild,
        entries: &[Entry],
        floor: Timestamp,
    ) -> Result<()> {
        let mut call = FINISH.key(rebuild_key(owner));
        call.key(timeline_key(owner)).key(because_key(owner));
        call.arg(rebuild.0).arg(floor.as_millisecond()).arg(LIFETIME_SECONDS).arg(self.capacity);
        for Entry { post_id, because } in entries {
            call.arg(ms(*post_id)).arg(post_id.to_string()).arg(because.to_string());
        }
        self.redis.run(SERVICE, Request::Script(&call)).await
    }
}

impl TimelineLoader for RedisTimelines {
    async fn load(&self, posts: &[(Post, Vec<Recipient>)]) -> Result<usize> {
        if posts.is_empty() {
            return Ok(0);
        }
        // The bodies first: who sees an entry finds the post at hand.
        let mut trip = Pipeline::new();
        for (post, _) in posts {
            post_cache::keep(&mut trip, post)?;
        }
        let mut users: BTreeMap<UserId, Vec<(usize, SubscriptionId)>> = BTreeMap::new();
        for (place, (_, recipients)) in (1..).zip(posts) {
            for recipient in recipients {
                users.entry(recipient.user_id).or_default().push((place, recipient.because));
            }
        }
        let users: Vec<_> = users.into_iter().collect();
        let mut took = 0;
        let chunks: Vec<_> = users.chunks(TIMELINES_PER_CALL).collect();
        for trips in chunks.chunks(CALLS_PER_TRIP) {
            for users in trips {
                self.add_call(&mut trip, posts, users);
            }
            let counts: Vec<usize> = self.redis.run(SERVICE, Request::Calls(&LOAD, &trip)).await?;
            took += counts.into_iter().sum::<usize>();
            trip = Pipeline::new();
        }
        if chunks.is_empty() {
            self.redis.run::<()>(SERVICE, Request::Commands(&trip)).await?;
        }
        Ok(took)
    }
}

impl RedisTimelines {
    fn add_call(
        &self,
        trip: &mut Pipeline,
        posts: &[(Post, Vec<Recipient>)],
        users: &[(UserId, Vec<(usize, SubscriptionId)>)],
    ) {
        let call = trip.cmd("EVALSHA").arg(LOAD.get_hash()).arg(2 * users.len());
        for (user, _) in users {
            call.arg(timeline_key(*user)).arg(because_key(*user));
        }
        call.arg(self.capacity).arg(posts.len());
        for (post, _) in posts {
            call.arg(ms(post.post_id)).arg(post.post_id.to_string());
        }
        for (_, entries) in users {
            call.arg(entries.len());
            for (place, because) in entries {
                call.arg(*place).arg(because.to_string());
            }
        }
    }
}

impl TimelineEraser for RedisTimelines {
    async fn forget(&self, owner: UserId) -> Result<()> {
        let mut pipeline = Pipeline::new();
        pipeline.del(&[timeline_key(owner), because_key(owner), rebuild_key(owner)]);
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

fn read_page(answer: &[Option<Vec<u8>>]) -> Result<CachedPage> {
    let unreadable = |cause: &str| Error::unreadable("a cached timeline", cause.to_owned());
    let text = |field: &Option<Vec<u8>>| {
        let bytes = field.as_deref().ok_or_else(|| unreadable("a field is missing"))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| unreadable("a field is no text"))
    };
    let [floor, hidden, fields @ ..] = answer else { return Err(unreadable("no floor")) };
    // What cannot be read of them is read from the storage.
    let hidden = hidden.as_deref().and_then(|kept| hidden::read(kept).ok()).flatten();
    let floor = match text(floor)?.as_str() {
        "inf" => Timestamp::MAX,
        ms => {
            let ms = ms.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            ms.ok_or_else(|| unreadable("the floor is no time"))?
        }
    };
    let (mut entries, mut posts) = (Vec::new(), HashMap::new());
    for field in fields.chunks_exact(3) {
        let [post_id, because, body] = field else { continue };
        let post_id: PostId = text(post_id)?.parse().map_err(|_| unreadable("a post id"))?;
        let because = text(because)?.parse().map_err(|_| unreadable("a subscription id"))?;
        entries.push(Entry { post_id, because });
        // One that cannot be read is read from the storage.
        if let Some(post) = body.as_deref().and_then(|body| post_cache::read(body).ok()) {
            posts.insert(post_id, post);
        }
    }
    Ok(CachedPage { entries, posts: posts.into_values().collect(), floor, hidden })
}

fn ms(id: PostId) -> i64 {
    id.time().as_millisecond()
}

fn timeline_key(owner: UserId) -> String {
    format!("timeline:{owner}")
}

fn because_key(owner: UserId) -> String {
    format!("because:{owner}")
}

fn rebuild_key(owner: UserId) -> String {
    format!("rebuild:{owner}")
}
