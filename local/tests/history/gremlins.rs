//! What goes wrong meanwhile.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use local::{
    event_sources::{Mishap, Mishaps},
    runtime::{Capacity, Invocation, InvokeError},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    record::{Event, Record},
    sns::{Shares, Sns},
    story::append_again,
    town::Town,
};

/// Whose processes are killed, the more often the more often they are named.
const VICTIMS: [&str; 10] = [
    "ingest-posts",
    "load-timelines",
    "load-timelines",
    "notify-subscribers",
    "notify-subscribers",
    "continue-fan-out",
    "continue-fan-out",
    "count-reactions",
    "deliver-push",
    RELEASE,
];

/// To whose events things happen.
const UNLUCKY: [&str; 7] = [
    "ingest-posts",
    "load-timelines",
    "notify-subscribers",
    "continue-fan-out",
    "count-reactions",
    "deliver-push",
    "deliver-digest",
];

/// After a mishap none happens to the function for so long: a message that fails comes again within two seconds, and one
/// that fails four times is dead, as it should be.
const RESPITE: Duration = Duration::from_secs(3);
/// How long a function must live between two deaths: a record that is given up five times in a row is dead as well.
const LIFE: Duration = Duration::from_secs(1);
/// Who read messages: one that died with them comes again more than a minute later, when what it held is free.
const READ_MESSAGES: [&str; 3] = ["continue-fan-out", "count-reactions", "deliver-push"];
/// For how long they are killed: everything waits for that minute once.
const MESSAGES_DIE: Duration = Duration::from_secs(8);

/// What is usual of SNS.
pub(crate) const SHARES: Shares = Shares { throttled: 0.10, failed: 0.06, unreached: 0.03, unanswered: 0.03 };

/// What happens to events while the switch is on.
pub(crate) fn mishaps(seed: u64, record: Arc<Record>, is_on: Arc<AtomicBool>) -> Mishaps {
    let state = Mutex::new((StdRng::seed_from_u64(seed), BTreeMap::<String, Instant>::new()));
    Arc::new(move |function| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (chance, last) = &mut *state;
        let in_peace = last.get(function).is_some_and(|last| last.elapsed() < RESPITE);
        if in_peace || !UNLUCKY.contains(&function) || !is_on.load(Ordering::Relaxed) {
            return None;
        }
        let mishap = match chance.random_range(0..10) {
            0 | 1 => Mishap::Twice,
            2 => Mishap::AnswerLost,
            _ => return None,
        };
        last.insert(function.to_owned(), Instant::now());
        record.note(Event::Fault(format!("{function}: {mishap:?}")));
        Some(mishap)
    })
}

/// Lets things go wrong until the deeds are done, and then leaves everything in order.
pub(crate) async fn plague(town: &Town, sns: &Sns, record: &Record, seed: u64, is_on: &AtomicBool) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut deaths = BTreeMap::<&str, Instant>::new();
    let began = Instant::now();
    let (mut has_stopped, mut has_replayed) = (false, false);
    let fault = |what: &str| record.note(Event::Fault(what.to_owned()));
    while is_on.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(chance.random_range(50..250))).await;
        match chance.random_range(0..20) {
            0..12 => {
                let victim = *VICTIMS.choose(&mut chance).unwrap();
                let is_spared = deaths.get(victim).is_some_and(|death| death.elapsed() < LIFE)
                    || (READ_MESSAGES.contains(&victim) && began.elapsed() > MESSAGES_DIE);
                if !is_spared {
                    let killed = kill_at_work(town, record, victim, chance.random_range(0..12));
                    if victim == RELEASE {
                        // Nothing else gives it something to do. That it fails is what is wanted.
                        let _ = tokio::join!(killed, release(town));
                    } else {
                        killed.await;
                    }
                    deaths.insert(victim, Instant::now());
                }
            }
            12..15 => {
                fault("Redis is flushed");
                flush(town).await;
            }
            15..17 => {
                fault("SNS throttles everything");
                sns.set(Shares { throttled: 1.0, ..Shares::default() });
                tokio::time::sleep(Duration::from_millis(chance.random_range(500..3_000))).await;
                sns.set(SHARES);
                fault("SNS throttles some");
            }
            17..19 if !has_stopped => {
                has_stopped = true;
                fault("Redis stops");
                town.stack.stop_redis().await;
                tokio::time::sleep(Duration::from_millis(chance.random_range(200..1_500))).await;
                town.stack.start_redis().await.unwrap();
                fault("Redis is back, empty");
            }
            _ if !has_replayed && began.elapsed() > Duration::from_secs(5) => {
                has_replayed = true;
                fault("Kafka delivers everything again");
                append_again(town).await;
            }
            _ => drop(release(town).await),
        }
    }
    sns.set(Shares::default());
}

/// What looks for ended quiet hours.
const RELEASE: &str = "release-held-pushes";

/// Looks for those whose quiet hours have ended, as happens each minute.
pub(crate) async fn release(town: &Town) -> Result<Invocation, InvokeError> {
    town.stack.fleet().invoke(RELEASE, Bytes::from_static(b"{}"), Capacity::Wait).await
}

/// Kills the processes of a function so many milliseconds after it got something to do, if it soon gets something.
pub(crate) async fn kill_at_work(town: &Town, record: &Record, function: &str, milliseconds: u64) {
    let invocations =
        || town.stack.metrics().snapshot().functions.get(function).map_or(0, |metrics| metrics.invocations);
    let (before, patience) = (invocations(), Instant::now() + Duration::from_millis(400));
    while invocations() == before && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    let processes = town.stack.fleet().process_ids(function);
    if processes.is_empty() {
        return;
    }
    let from = record.now();
    // One that has ended meanwhile makes it fail, and the others have got it all the same.
    let _ = std::process::Command::new("kill")
        .arg("-KILL")
        .args(processes.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    record.note(Event::Killed { function: function.to_owned(), from });
}

/// Empties Redis.
pub(crate) async fn flush(town: &Town) {
    let redis = redis::Client::open(town.stack.endpoints().redis_url.as_str()).unwrap();
    let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
}
