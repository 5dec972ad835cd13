//! SNS takes no more for longer than it takes a message to be received in vain too often: it is asked less and less, and
//! then everybody rings, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use local::stack::Options;

use crate::{
    record::{Event, Fate, Record},
    sns::{Shares, Sns},
    town::{PATIENCE, Town, fire},
};

const FOLLOWERS: usize = 5;
const POSTS: usize = 3;
/// What is asked within this of each other is of one turn of a job.
const TURN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_slows_pushes_down_and_loses_none() {
    let record = Arc::new(Record::new());
    let sns = Sns::serve(0, Arc::clone(&record)).await;
    let environment = BTreeMap::from([("AWS_ENDPOINT_URL_SNS".to_owned(), sns.url().to_owned())]);
    let town = Town::start(Options { environment, ..Options::in_memory() }).await;
    sns.stand_before(town.stack.endpoints().moto.as_deref().unwrap());
    let author = town.person("author").await;
    for number in 0..FOLLOWERS {
        let name = format!("reader{number}");
        sns.introduce(town.follower(&name).await.user_id(), &name);
    }
    let mut queues = town.stack.app().queues.iter();
    let (_, receives) =
        queues.find(|queue| queue.logical_id == "PushQueue").unwrap().redrive.clone().unwrap();

    sns.set(Shares { throttled: 1.0, ..Shares::default() });
    let mut posted = BTreeSet::new();
    for number in 0..POSTS {
        posted.insert(town.post(&author, &fire(&format!("Spark {number}"))).await);
    }
    // Were each turn a receive, the messages would be dead by then.
    let begun = Instant::now();
    while !posted.iter().all(|post| turns(&record, post).len() > receives as usize) {
        assert!(begun.elapsed() < 4 * PATIENCE, "{:?}", turns(&record, posted.first().unwrap()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let throttled = record.events();
    sns.set(Shares::default());
    while rings(&record).len() < FOLLOWERS * POSTS {
        assert!(begun.elapsed() < 8 * PATIENCE, "not everybody rings");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    town.settle().await;

    let rings = rings(&record);
    assert_eq!(rings.len(), FOLLOWERS * POSTS);
    assert!(rings.values().all(|times| *times == 1), "once each: {rings:?}");
    let pushes = &town.stack.metrics().snapshot().event_sources["deliver-push/PushQueue"];
    assert_eq!((pushes.dead_letters, pushes.retries), (0, 0), "no message was received twice");
    for post in &posted {
        let turns = turns(&record, post);
        let gaps: Vec<_> = turns.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        // A busy machine comes later to it, and never sooner.
        for (gap, pause) in gaps.iter().zip([2, 4, 8, 16, 32]) {
            assert!(*gap > Duration::from_secs(pause).mul_f64(0.75), "SNS is asked less and less: {gaps:?}");
        }
        let asked = throttled.iter().filter(|(_, event)| is_of(event, post)).count();
        assert!(
            asked <= turns.len() * FOLLOWERS,
            "each device once a turn: {asked} in {} turns",
            turns.len()
        );
    }
    town.down().await;
}

fn is_of(event: &Event, of: &str) -> bool {
    matches!(event, Event::Publish { post, .. } if post == of)
}

/// When SNS was asked to ring for a post, once for each turn of its job.
fn turns(record: &Record, post: &str) -> Vec<Duration> {
    let mut turns = Vec::<Duration>::new();
    for (at, event) in record.events() {
        if is_of(&event, post) && turns.last().is_none_or(|last| at.saturating_sub(*last) > TURN) {
            turns.push(at);
        }
    }
    turns
}

/// How often each device rang for each post.
fn rings(record: &Record) -> BTreeMap<(String, String), usize> {
    let mut rings = BTreeMap::new();
    for (_, event) in record.events() {
        if let Event::Publish { device, post, fate: Fate::Taken, .. } = event {
            *rings.entry((device, post)).or_default() += 1;
        }
    }
    rings
}
