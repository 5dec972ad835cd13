//! A departure over the adapters in memory: again, late, with many posts, and with a part that fails.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::time::Duration;

use tocsin_adapters::memory::{MemoryDepartureQueue, MemoryPostLog, MemoryPosts};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error,
    departure::{Departing, Departure, PostsLeft, Round, Step, step},
    ids::PostId,
    post::{Author, Post},
    post_log::{Change, PostChange},
    posts::{self, PlaceIndex as _, PlaceKey, PostStore as _, Posts as _, Stored},
    time::{self, Timestamp},
};

#[derive(Default)]
struct Town {
    posts: MemoryPosts,
    log: MemoryPostLog,
    queue: MemoryDepartureQueue,
}

impl Town {
    /// Takes everything that waits, as if its time had come at `now`, until nothing waits; answers how often.
    async fn run(&self, now: Timestamp, steps: impl Fn() -> Vec<Step<'static>>) -> usize {
        let Self { posts, log, queue } = self;
        let departing = Departing { index: posts, posts, log, queue };
        let mut times = 0;
        loop {
            let waiting = queue.take();
            if waiting.is_empty() {
                return times;
            }
            for (departure, delay) in waiting {
                if delay > Duration::ZERO && departure.round != Round::First && times > 0 {
                    // It waits for its round.
                    queue_again(queue, departure, delay).await;
                    return times;
                }
                departing.go_on(departure, steps(), now).await.unwrap();
                times += 1;
            }
        }
    }
}

async fn queue_again(queue: &MemoryDepartureQueue, departure: Departure, delay: Duration) {
    use tocsin_domain::departure::DepartureQueue as _;
    queue.enqueue(&departure, delay).await.unwrap();
}

fn by(author: &Author) -> Post {
    Post { author: Some(author.clone()), ..fixtures::post() }
}

#[tokio::test]
async fn all_posts_change_and_what_is_posted_meanwhile_changes_in_the_last_round() {
    for choice in [PostsLeft::Anonymise, PostsLeft::Remove] {
        let town = Town::default();
        let author = Author { user_id: fixtures::user(), username: "ada".to_owned() };
        let theirs: Vec<Post> = (0..1_230).map(|_| by(&author)).collect();
        let others = fixtures::post();
        town.posts.store(&theirs).await;
        town.posts.store(std::slice::from_ref(&others)).await;
        let asked_at = time::now();
        let departure = Departure {
            user_id: author.user_id,
            posts: choice,
            asked_at,
            round: Round::First,
            posts_before: None,
        };
        queue_again(&town.queue, departure, Duration::ZERO).await;
        let times = town.run(asked_at, Vec::new).await;
        assert_eq!(times, 3, "500 posts at a time");
        assert_eq!(town.log.records().len(), theirs.len());
        let mut before = 0;

        // The log is consumed; each time, a post that was under way comes only after it.
        ingest(&town).await;
        let mut late = Vec::new();
        for round in [Round::Second, Round::Last] {
            late.push(by(&author));
            town.posts.store(&late[late.len() - 1..]).await;
            // A round that comes too early waits on.
            let waiting = town.queue.take();
            let [(departure, delay)] = waiting.as_slice() else { panic!("{waiting:?}") };
            let after = round.after_seconds();
            assert_eq!((departure.round, *delay), (round, Duration::from_secs(after - before)));
            queue_again(&town.queue, *departure, Duration::ZERO).await;
            town.run(time::after(asked_at, after - 900), Vec::new).await;
            let waiting = town.queue.take();
            let [(departure, delay)] = waiting.as_slice() else { panic!("{waiting:?}") };
            assert_eq!(*delay, Duration::from_mins(15));
            queue_again(&town.queue, *departure, Duration::ZERO).await;
            town.run(time::after(asked_at, after), Vec::new).await;
            before = after;
            ingest(&town).await;
        }
        assert!(town.queue.take().is_empty(), "there is no further round");
        ingest(&town).await;

        assert!(town.posts.newest(&PlaceKey::By(author.user_id), None, 10).await.unwrap().is_empty());
        let ids: Vec<PostId> = theirs.iter().chain(&late).map(|post| post.post_id).collect();
        let left = town.posts.get(&ids).await.unwrap();
        match choice {
            PostsLeft::Anonymise => {
                assert_eq!(left.len(), ids.len());
                assert!(left.iter().all(|post| post.author.is_none()));
            }
            PostsLeft::Remove => assert!(left.is_empty()),
        }
        assert_eq!(town.posts.get(&[others.post_id]).await.unwrap(), [others]);
    }
}

/// Stores what the log says, twice: the second time changes nothing.
async fn ingest(town: &Town) {
    let changes: Vec<PostChange> = town
        .log
        .records()
        .into_iter()
        .filter_map(|record| match record.change {
            Change::Post(change) => Some(change),
            Change::Heartbeat => None,
        })
        .collect();
    for _ in 0..2 {
        for outcome in posts::ingest(&town.posts, &changes).await {
            assert!(matches!(outcome, Ok(Stored::New | Stored::Already | Stored::Deleted)), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_part_that_fails_holds_up_no_other_and_the_departure_is_tried_again() {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    let town = Town::default();
    let departure = Departure {
        user_id: fixtures::user(),
        posts: PostsLeft::Remove,
        asked_at: time::now(),
        round: Round::First,
        posts_before: None,
    };
    let taken = AtomicUsize::new(0);
    let Town { posts, log, queue } = &town;
    let departing = Departing { index: posts, posts, log, queue };
    let take = || async {
        taken.fetch_add(1, Relaxed);
        Ok(())
    };
    let steps = vec![
        step("first", take()),
        step("broken", async { Err(Error::unavailable("a part", "away")) }),
        step("last", take()),
    ];
    assert!(departing.go_on(departure, steps, time::now()).await.is_err());
    assert_eq!(taken.load(Relaxed), 2);
    assert!(town.queue.take().is_empty(), "SQS brings the same message again");
    departing.go_on(departure, vec![step("first", take())], time::now()).await.unwrap();
    assert_eq!(town.queue.take().len(), 1, "the second round");
}
