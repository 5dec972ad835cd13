//! Timelines.
//!
//! | key | what |
//! |---|---|
//! | `timeline:<user>`, `timeline:<large key>` | a sorted set: post ids by time in ms, and the member `~`, whose score is the floor |
//! | `sources:<user>` | what a user's timeline is built from, a hash: `subscriptions` in JSON, the `large` keys that are merged into it, a line each, when it was `built`, and when the subscriptions were last `checked`, if they were, in ms |
//! | `rebuild:<user>`, `rebuild:<large key>` | who rebuilds the timeline, for [`REBUILD_MS`] |
//! | `post:<id>` | the post ([`super::post_cache`]) |
//! | `hidden:<user>` | who is hidden from the user ([`super::hidden`]): read together with their timeline |
//!
//! A timeline holds only posts above its floor. That is what makes the order of operations indifferent: a post at or
//! below the floor is not added, whoever comes first, and the floor is always where the newest post lies that did not
//! fit. Posts of one millisecond are in the order of their ids, as members of one score are; and an id, being a UUIDv7,
//! begins with its time, so that ids as texts are in the order of a timeline.
//!
//! A user's timeline expires a day after it was last read, and three days after it was built ([`LIFETIME_SECONDS`],
//! [`MOST_LIFETIME_SECONDS`]); a key's a day after it was built.
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
    ids::{PostId, UserId},
    time::{self, Timestamp},
    timeline::{
        CAPACITY, CachedPage, LIFETIME_SECONDS, Load, MOST_LIFETIME_SECONDS, Owner, Rebuild, Sources,
        TRUSTED_SECONDS, TimelineEraser, TimelineLoader, Timelines,
    },
};

use super::{LOAD_TIMEOUT, Redis, Request, hidden, post_cache};

/// Cached timelines.
#[derive(Clone, Debug)]
pub struct RedisTimelines {
    redis: Redis,
    capacity: usize,
    trusted_seconds: u64,
}

/// How long a rebuild may take, in ms: longer than any invocation that does one.
const REBUILD_MS: u64 = 30_000;
/// How many timelines one call of a script writes to: some milliseconds, in which Redis does nothing else.
const TIMELINES_PER_CALL: usize = 500;
const SERVICE: &str = "timelines";

impl RedisTimelines {
    /// Those that a Redis keeps.
    #[must_use]
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone(), capacity: CAPACITY, trusted_seconds: TRUSTED_SECONDS }
    }

    /// Timelines that hold less, so that a test can fill them.
    #[doc(hidden)]
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Timelines that are trusted for so long, in seconds, so that a test need not wait.
    #[doc(hidden)]
    #[must_use]
    pub fn trusted_for(self, trusted_seconds: u64) -> Self {
        Self { trusted_seconds, ..self }
    }
}

/// KEYS: timeline, sources, hidden. ARGV: limit, lifetime, most lifetime and time of trust in s, now in ms, and before which post:
/// its ms and id, or nothing.
/// Answers nothing, or the floor, who is hidden or nothing, the subscriptions, 1 if they are to be checked, the large keys that
/// are missing, a line each,
/// and for each entry the post's id, and the post or nothing.
static PAGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local floor = redis.call('ZSCORE', KEYS[1], '~')
         if not floor then return false end
         local hidden = redis.call('GET', KEYS[3])
         if floor == 'inf' then return {floor, hidden, '[]', '0', ''} end
         local sources = redis.call('HMGET', KEYS[2], 'subscriptions', 'large', 'built', 'checked')
         if not sources[1] then
             redis.call('DEL', KEYS[1])
             return false
         end
         local limit, now, ms, id = tonumber(ARGV[1]), tonumber(ARGV[5]), ARGV[6], ARGV[7]
         local left = math.min(ARGV[2] * 1000, sources[3] + ARGV[3] * 1000 - now)
         for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], math.max(left, 1)) end
         local check = '0'
         if now - (sources[4] or sources[3]) >= ARGV[4] * 1000 then
             check = '1'
             redis.call('HSET', KEYS[2], 'checked', ARGV[5])
         end
         local timelines, missing = {KEYS[1]}, {}
         for key in string.gmatch(sources[2], '[^\\n]+') do
             local above = redis.call('ZSCORE', 'timeline:' .. key, '~')
             if not above or above == 'inf' then
                 missing[#missing + 1] = key
             else
                 timelines[#timelines + 1] = 'timeline:' .. key
                 if tonumber(above) > tonumber(floor) then floor = above end
             end
         end
         local answer = {floor, hidden, sources[1], check, table.concat(missing, '\\n')}
         if #missing > 0 then return answer end
         local ids, seen, top = {}, {}, '+inf'
         if ms then top = '(' .. ms end
         for _, timeline in ipairs(timelines) do
             local count = 0
             local function take(entries)
                 for _, post in ipairs(entries) do
                     if count < limit and (not id or post < id) then
                         count = count + 1
                         if not seen[post] then
                             seen[post] = true
                             ids[#ids + 1] = post
                         end
                     end
                 end
             end
             if ms and tonumber(ms) > tonumber(floor) then
                 take(redis.call('ZREVRANGEBYSCORE', timeline, ms, ms))
             end
             take(redis.call('ZREVRANGEBYSCORE', timeline, top, '(' .. floor, 'LIMIT', 0, limit - count))
         end
         if #timelines > 1 then table.sort(ids, function(a, b) return a > b end) end
         for i = 1, math.min(limit, #ids) do
             answer[#answer + 1] = ids[i]
             answer[#answer + 1] = redis.call('GET', 'post:' .. ids[i])
         end
         return answer",
    )
});

/// Drops what exceeds the capacity, and all that is not above the floor. For the scripts below.
const TRIM: &str = "
    local function trim(timeline, floor, capacity)
        local excess = redis.call('ZCOUNT', timeline, '(' .. floor, '+inf') - capacity
        if excess > 0 then
            local highest = redis.call('ZRANGEBYSCORE', timeline, '(' .. floor, '+inf', 'WITHSCORES', 'LIMIT', excess - 1, 1)
            floor = highest[2]
        end
        redis.call('ZREMRANGEBYSCORE', timeline, '-inf', floor)
        redis.call('ZADD', timeline, floor, '~')
    end";

/// KEYS: rebuild, timeline. ARGV: token, time in ms.
static BEGIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local floor = redis.call('ZSCORE', KEYS[2], '~')
         if floor and floor ~= 'inf' then return 0 end
         local ours = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
         if not ours and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('ZADD', KEYS[2], '+inf', '~')
         redis.call('PEXPIRE', KEYS[2], ARGV[2])
         return 1",
    )
});

/// KEYS: rebuild, timeline, and a user's sources. ARGV: token, floor in ms, lifetime in s, capacity, now in ms, the
/// subscriptions, the large keys, and for each entry the post's ms and id.
static FINISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{TRIM}
         if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('DEL', KEYS[1])
         if redis.call('ZSCORE', KEYS[2], '~') ~= 'inf' then return 0 end
         for i = 8, #ARGV, 2 do redis.call('ZADD', KEYS[2], 'NX', ARGV[i], ARGV[i + 1]) end
         redis.call('ZADD', KEYS[2], ARGV[2], '~')
         trim(KEYS[2], ARGV[2], tonumber(ARGV[4]))
         redis.call('EXPIRE', KEYS[2], ARGV[3])
         if KEYS[3] then
             redis.call('HSET', KEYS[3], 'built', ARGV[5], 'subscriptions', ARGV[6], 'large', ARGV[7])
             redis.call('EXPIRE', KEYS[3], ARGV[3])
         end
         return 1"
    ))
});

/// KEYS: timelines. ARGV: capacity, the number of posts, each post's ms and id, and then for each timeline the number of
/// entries, and for each of these the post's place in the list.
/// Answers how many timelines took one.
static LOAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{TRIM}
         local capacity, next, took = tonumber(ARGV[1]), 3 + 2 * ARGV[2], 0
         for _, timeline in ipairs(KEYS) do
             local count = tonumber(ARGV[next])
             local floor, added = redis.call('ZSCORE', timeline, '~'), 0
             if floor then
                 for i = next + 1, next + count do
                     local ms, post = ARGV[1 + 2 * ARGV[i]], ARGV[2 + 2 * ARGV[i]]
                     if floor == 'inf' or tonumber(ms) > tonumber(floor) then
                         added = added + redis.call('ZADD', timeline, 'NX', ms, post)
                     end
                 end
             end
             if added > 0 then
                 took = took + 1
                 if floor ~= 'inf' and redis.call('ZCARD', timeline) > capacity + 1 then
                     trim(timeline, floor, capacity)
                 end
             end
             next = next + 1 + count
         end
         return took"
    ))
});

impl Timelines for RedisTimelines {
    async fn page(&self, user: UserId, before: Option<PostId>, limit: usize) -> Result<Option<CachedPage>> {
        let owner = Owner::User(user);
        let mut call = PAGE.key(timeline_key(&owner));
        call.key(sources_key(user)).key(hidden::key(user)).arg(limit);
        call.arg(LIFETIME_SECONDS).arg(MOST_LIFETIME_SECONDS).arg(self.trusted_seconds);
        call.arg(time::now().as_millisecond());
        if let Some(before) = before {
            call.arg(ms(before)).arg(before.to_string());
        }
        let answer: Option<Vec<Option<Vec<u8>>>> = self.redis.run(SERVICE, Request::Script(&call)).await?;
        answer.map(|answer| read_page(&answer)).transpose()
    }

    async fn begin_rebuild(&self, owner: &Owner) -> Result<Option<Rebuild>> {
        let token = PostId::new(time::now()).to_string();
        let mut call = BEGIN.key(rebuild_key(owner));
        call.key(timeline_key(owner)).arg(&token).arg(REBUILD_MS);
        let begun: bool = self.redis.run(SERVICE, Request::Script(&call)).await?;
        Ok(begun.then_some(Rebuild(token)))
    }

    async fn finish_rebuild(
        &self,
        owner: &Owner,
        rebuild: Rebuild,
        posts: &[PostId],
        floor: Timestamp,
        sources: &Sources,
    ) -> Result<()> {
        let subscriptions = serde_json::to_string(&sources.subscriptions);
        let subscriptions = subscriptions.map_err(|error| Error::unreadable("subscriptions", error))?;
        let large: Vec<_> = sources.large.iter().map(ToString::to_string).collect();
        let mut call = FINISH.key(rebuild_key(owner));
        call.key(timeline_key(owner));
        if let Owner::User(user) = owner {
            call.key(sources_key(*user));
        }
        call.arg(rebuild.0).arg(floor.as_millisecond()).arg(LIFETIME_SECONDS).arg(self.capacity);
        call.arg(time::now().as_millisecond()).arg(subscriptions).arg(large.join("\n"));
        for post_id in posts {
            call.arg(ms(*post_id)).arg(post_id.to_string());
        }
        self.redis.run(SERVICE, Request::Script(&call)).await
    }
}

impl TimelineLoader for RedisTimelines {
    /// In one round trip, whatever the number of posts and timelines.
    async fn load(&self, loads: &[Load]) -> Result<usize> {
        if loads.is_empty() {
            return Ok(0);
        }
        let trip = self.trip(loads)?;
        let request = Request::Calls(&LOAD, &trip);
        let counts: Vec<usize> = self.redis.run_within(LOAD_TIMEOUT, SERVICE, request).await?;
        Ok(counts.into_iter().sum())
    }
}

impl RedisTimelines {
    /// What is sent to load posts: for who measures others by it.
    #[doc(hidden)]
    pub fn trip(&self, loads: &[Load]) -> Result<Pipeline> {
        // The bodies first: who sees an entry finds the post at hand.
        let mut trip = Pipeline::new();
        for load in loads {
            post_cache::keep(&mut trip, &load.post)?;
        }
        let mut timelines: BTreeMap<&Owner, Vec<usize>> = BTreeMap::new();
        for (place, load) in (1..).zip(loads) {
            for owner in &load.owners {
                timelines.entry(owner).or_default().push(place);
            }
        }
        let timelines: Vec<_> = timelines.into_iter().collect();
        for some in timelines.chunks(TIMELINES_PER_CALL) {
            self.add_call(&mut trip, loads, some);
        }
        Ok(trip)
    }

    fn add_call(&self, trip: &mut Pipeline, loads: &[Load], timelines: &[(&Owner, Vec<usize>)]) {
        let call = trip.cmd("EVALSHA").arg(LOAD.get_hash()).arg(timelines.len());
        for (owner, _) in timelines {
            call.arg(timeline_key(owner));
        }
        call.arg(self.capacity).arg(loads.len());
        for Load { post, .. } in loads {
            call.arg(ms(post.post_id)).arg(post.post_id.to_string());
        }
        for (_, places) in timelines {
            call.arg(places.len());
            for place in places {
                call.arg(*place);
            }
        }
    }
}

impl TimelineEraser for RedisTimelines {
    async fn forget(&self, user: UserId) -> Result<()> {
        let owner = Owner::User(user);
        let mut pipeline = Pipeline::new();
        pipeline.del(&[timeline_key(&owner), sources_key(user), rebuild_key(&owner)]);
        self.redis.run::<()>(SERVICE, Request::Commands(&pipeline)).await
    }
}

fn read_page(answer: &[Option<Vec<u8>>]) -> Result<CachedPage> {
    let unreadable = |cause: &str| Error::unreadable("a cached timeline", cause.to_owned());
    let text = |field: &Option<Vec<u8>>| {
        let bytes = field.as_deref().ok_or_else(|| unreadable("a field is missing"))?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| unreadable("a field is no text"))
    };
    let [floor, hidden, subscriptions, check, missing, fields @ ..] = answer else {
        return Err(unreadable("no floor"));
    };
    // What cannot be read of them is read from the storage.
    let hidden = hidden.as_deref().and_then(|kept| hidden::read(kept).ok()).flatten();
    let floor = match text(floor)?.as_str() {
        "inf" => Timestamp::MAX,
        ms => {
            let ms = ms.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            ms.ok_or_else(|| unreadable("the floor is no time"))?
        }
    };
    let subscriptions = serde_json::from_str(&text(subscriptions)?);
    let subscriptions =
        subscriptions.map_err(|error| Error::unreadable("a timeline's subscriptions", error))?;
    let missing = text(missing)?.lines().map(str::parse).collect::<Result<_, _>>();
    let missing = missing.map_err(|_| unreadable("a large key"))?;
    let (mut entries, mut posts) = (Vec::new(), HashMap::new());
    for field in fields.chunks_exact(2) {
        let [post_id, body] = field else { continue };
        let post_id: PostId = text(post_id)?.parse().map_err(|_| unreadable("a post id"))?;
        entries.push(post_id);
        // One that cannot be read is read from the storage.
        if let Some(post) = body.as_deref().and_then(|body| post_cache::read(body).ok()) {
            posts.insert(post_id, post);
        }
    }
    let is_to_be_checked = check.as_deref() == Some(b"1");
    let posts = posts.into_values().collect();
    Ok(CachedPage { entries, posts, floor, subscriptions, missing, hidden, is_to_be_checked })
}

fn ms(id: PostId) -> i64 {
    id.time().as_millisecond()
}

fn name(owner: &Owner) -> String {
    match owner {
        Owner::User(user) => user.to_string(),
        Owner::Key(key) => key.to_string(),
    }
}

fn timeline_key(owner: &Owner) -> String {
    format!("timeline:{}", name(owner))
}

fn rebuild_key(owner: &Owner) -> String {
    format!("rebuild:{}", name(owner))
}

fn sources_key(user: UserId) -> String {
    format!("sources:{user}")
}
