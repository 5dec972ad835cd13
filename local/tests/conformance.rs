//! What is kept, queued, sent and logged outside of DynamoDB does what the ports promise, over the services that a stack
//! runs. (The tables have their suite in `tocsin-adapters`, where their storage is embedded.)

mod town;

use std::time::{Duration, Instant};

use local::stack::Stack;
use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};
use tocsin_adapters::{
    memory::MemoryTimelines,
    redis::{Redis, RedisPostCache, RedisRateLimiter, RedisTimelines},
};
use tocsin_conformance::{posts, rate_limits, timelines};
use tocsin_domain::{ids::PostId, posts::PostCache as _, time};
use town::Town;

fn redis(stack: &Stack) -> Redis {
    Redis::open(&stack.endpoints().redis_url.clone().into()).unwrap()
}

#[tokio::test]
async fn what_redis_keeps_is_kept_as_promised() {
    let town = Town::up().await;
    let redis = redis(&town.stack);
    posts::cache(&RedisPostCache::new(&redis)).await;
    rate_limits::rate_limits(&RedisRateLimiter::new(&redis)).await;
    timelines::timelines(&RedisTimelines::new(&redis)).await;

    // Operations in any order end in the same timeline, and in the one that memory has.
    let mut runner = TestRunner::default();
    for capacity in (1..8).cycle().take(128) {
        let in_redis = RedisTimelines::new(&redis).with_capacity(capacity);
        let in_memory = MemoryTimelines::default().with_capacity(capacity);
        let history = timelines::any_history().new_tree(&mut runner).unwrap().current();
        let end = timelines::any_order(&in_redis, &history).await;
        assert_eq!(end, timelines::any_order(&in_memory, &history).await);
    }
    town.down().await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_at_once_and_used_again_when_it_is_back() {
    let town = Town::up().await;
    let cache = RedisPostCache::new(&redis(&town.stack));
    let id = PostId::new(time::now());
    assert_eq!(cache.get(&[id]).await.unwrap(), []);

    town.stack.stop_redis().await;
    for _ in 0..3 {
        let since = Instant::now();
        assert!(cache.get(&[id]).await.is_err());
        // No wait for a reconnection: with it, a request would have nothing left of its time.
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    }
    town.stack.start_redis().await.unwrap();
    let back = async {
        while cache.get(&[id]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(town::PATIENCE, back).await.expect("it is used again");

    // Restarted while nobody looked, as when a function was frozen: nobody notices.
    town.stack.stop_redis().await;
    town.stack.start_redis().await.unwrap();
    assert_eq!(cache.get(&[id]).await.unwrap(), []);
    town.down().await;
}
