//! Reactions over the adapters in memory: counted by several at once, who end in between; decided on; and erased.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::{
    collections::HashSet,
    future::ready,
    num::NonZeroU32,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures::future::join_all;
use proptest::prelude::*;
use tocsin_adapters::memory::{
    MemoryPostCache, MemoryPostLog, MemoryPosts, MemoryReactionQueue, MemoryReactions,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    access_token::{Caller, Role},
    cursor::{Cursor, Limit},
    error::Kind,
    friendship::HiddenPeople,
    ids::{PostId, UserId},
    moderation::{
        self, Counting, Deciding, Decision, FlaggedPosts as _, FlagsToWithhold, Queue, Standing, Standings,
    },
    post::Post,
    post_edit::{Edit, Edited, FieldChange},
    post_log::{Change, PostChange, PostLog, PostRecord},
    posts::{self, PostCache as _, PostCacheEditor as _, PostStore as _},
    reaction::{
        self, Counts, Flag, FlagReason, OwnReactions, Reacting, ReactionCounts, ReactionKind, ReactionQueue,
        Reactions as _,
    },
    time,
};

const THREE: FlagsToWithhold = FlagsToWithhold(NonZeroU32::new(3).unwrap());

/// What happens when: numbers that are used up one after the other, and then are 0.
struct Plan(Mutex<Vec<u8>>);

impl Plan {
    fn next(&self) -> u8 {
        self.0.lock().unwrap().pop().unwrap_or_default()
    }

    /// Lets others go on for a while.
    async fn wait(&self) {
        for _ in 0..self.next() % 4 {
            tokio::task::yield_now().await;
        }
    }
}

/// A log that takes its time, and fails: before it has a record, or after.
struct Log<'a> {
    log: &'a MemoryPostLog,
    plan: &'a Plan,
}

impl PostLog for Log<'_> {
    async fn append(&self, record: &PostRecord) -> Result<()> {
        self.plan.wait().await;
        let fate = self.plan.next() % 4;
        if fate == 1 {
            return Err(Error::unavailable("the log", "away"));
        }
        self.log.append(record).await?;
        self.plan.wait().await;
        if fate == 2 { Err(Error::unavailable("the log", "its answer got lost")) } else { Ok(()) }
    }
}

/// Reactions that take their time.
struct Slow<'a> {
    reactions: &'a MemoryReactions,
    plan: &'a Plan,
}

impl ReactionCounts for Slow<'_> {
    async fn of(&self, post_id: PostId) -> Result<Counts> {
        self.plan.wait().await;
        ReactionCounts::of(self.reactions, post_id).await
    }
}

impl Standings for Slow<'_> {
    async fn get(&self, post_id: PostId) -> Result<Option<Standing>> {
        self.plan.wait().await;
        self.reactions.get(post_id).await
    }

    async fn claim(&self, post_id: PostId, old: Option<&Standing>, new: &Standing) -> Result<bool> {
        self.plan.wait().await;
        self.reactions.claim(post_id, old, new).await
    }

    async fn settle(&self, post_id: PostId, standing: &Standing) -> Result<()> {
        self.plan.wait().await;
        self.reactions.settle(post_id, standing).await
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Confirm(usize),
    Withdraw(usize),
    Flag(usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0usize..5).prop_map(Op::Confirm),
        (0usize..5).prop_map(Op::Withdraw),
        (0usize..5).prop_map(Op::Flag),
    ]
}

/// Does all of this at once, each with a count after it that is tried again until it is done, as a message is.
async fn react(ops: &[Op], plan: &Plan) -> (Post, MemoryReactions, MemoryPostLog) {
    let (post, people) = (fixtures::post(), (0..5).map(|_| fixtures::user()).collect::<Vec<_>>());
    let (posts, cache) = (MemoryPosts::default(), MemoryPostCache::default());
    posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
    let (reactions, log) = (MemoryReactions::default(), MemoryPostLog::default());
    let slow = Slow { reactions: &reactions, plan };
    let counting = Counting {
        cache: &cache,
        posts: &posts,
        reactions: &slow,
        log: &Log { log: &log, plan },
        flags_to_withhold: THREE,
    };
    let one = async |op: &Op| {
        plan.wait().await;
        let id = post.post_id;
        match *op {
            Op::Confirm(person) => reactions.confirm(id, people[person], time::now()).await.unwrap(),
            Op::Withdraw(person) => reactions.withdraw(id, people[person]).await.unwrap(),
            Op::Flag(person) => reactions.flag(id, people[person], &flag(None)).await.unwrap(),
        }
        while counting.count(id, time::now()).await.is_err() {}
    };
    join_all(ops.iter().map(one)).await;
    (post, reactions, log)
}

fn flag(note: Option<&str>) -> Flag {
    Flag { reason: FlagReason::False, note: note.map(str::to_owned), flagged_at: time::now() }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The post as the log makes it, whatever the order of its records.
fn merged(post: &Post, log: &MemoryPostLog, reversed: bool) -> Post {
    let mut edited = Edited::not_yet(post.clone());
    let mut records = log.records();
    if reversed {
        records.reverse();
    }
    for record in records {
        match record.change {
            Change::Post(PostChange::Edited(edit)) => drop(edited.merge(&edit)),
            other => panic!("{other:?}"),
        }
    }
    edited.post
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whoever_counts_at_once_and_ends_in_between_the_log_has_the_last_count(
        ops in prop::collection::vec(any_op(), 1..12),
        plan in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        wait(async {
            let (post, reactions, log) = react(&ops, &Plan(Mutex::new(plan))).await;
            let counts = ReactionCounts::of(&reactions, post.post_id).await.unwrap();
            let withheld = counts.flags_in_all() >= 3;
            for reversed in [false, true] {
                let merged = merged(&post, &log, reversed);
                prop_assert_eq!((merged.confirmations, merged.withheld), (counts.confirmations, withheld));
            }
            let waiting = reactions.waiting(None, 100).await.unwrap();
            prop_assert_eq!(waiting.len(), usize::from(withheld));
            if let Some(standing) = reactions.get(post.post_id).await.unwrap() {
                prop_assert!(standing.told);
            }
            Ok(())
        })?;
    }
}

/// A town in memory.
#[derive(Default)]
struct Town {
    cache: MemoryPostCache,
    posts: MemoryPosts,
    reactions: MemoryReactions,
    log: MemoryPostLog,
}

impl Town {
    async fn post(&self) -> Post {
        let post = fixtures::post();
        self.posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
        post
    }

    async fn flagged_by(&self, post_id: PostId, people: usize) {
        for number in 0..people {
            let flag = flag(Some(&format!("note {number}")));
            self.reactions.flag(post_id, fixtures::user(), &flag).await.unwrap();
        }
    }

    /// Counts, and lets the posts be as the log then says.
    async fn count(&self, post_id: PostId) {
        let Self { cache, posts, reactions, log } = self;
        let counting = Counting { cache, posts, reactions, log, flags_to_withhold: THREE };
        counting.count(post_id, time::now()).await.unwrap();
        self.ingest().await;
    }

    async fn ingest(&self) {
        for record in self.log.records() {
            let Change::Post(change) = record.change else { continue };
            posts::ingest(&self.posts, &[change]).await.pop().unwrap().unwrap();
        }
    }

    async fn decide(&self, post_id: PostId, decision: Decision, log: &impl PostLog) -> Result<()> {
        let Self { cache, posts, reactions, .. } = self;
        let deciding = Deciding { cache, posts, standings: reactions, log };
        deciding.decide(&moderator(), post_id, decision, time::now()).await
    }

    async fn waiting(&self) -> Vec<PostId> {
        let waiting = self.reactions.waiting(None, 100).await.unwrap();
        waiting.into_iter().map(|(post_id, _)| post_id).collect()
    }

    async fn read(&self, post_id: PostId) -> Option<Post> {
        posts::read(&MemoryPostCache::default(), &self.posts, &[post_id]).await.unwrap().pop()
    }

    fn reacting<'a, Q>(
        &'a self,
        queue: &'a Q,
    ) -> Reacting<'a, MemoryPostCache, MemoryPosts, MemoryReactions, Q> {
        Reacting { cache: &self.cache, posts: &self.posts, reactions: &self.reactions, queue }
    }
}

fn moderator() -> Caller {
    Caller { roles: vec![Role::User, Role::Moderator], ..fixtures::caller(fixtures::user()) }
}

fn nobody_hidden() -> std::future::Ready<Result<HiddenPeople>> {
    ready(Ok(HashSet::new()))
}

fn refused(outcome: Result<impl std::fmt::Debug>) -> (Kind, &'static str) {
    match outcome.unwrap_err() {
        Error::Refused(refusal) => (refusal.kind, refusal.code),
        other => panic!("{other}"),
    }
}

/// A queue that can be away.
#[derive(Default)]
struct Away {
    queue: MemoryReactionQueue,
    is_away: AtomicBool,
}

impl ReactionQueue for Away {
    async fn enqueue(&self, posts: &[PostId]) -> Result<()> {
        if self.is_away.load(Relaxed) {
            return Err(Error::unavailable("the queue", "away"));
        }
        self.queue.enqueue(posts).await
    }
}

/// A log that is away.
struct NoLog;

impl PostLog for NoLog {
    async fn append(&self, _: &PostRecord) -> Result<()> {
        Err(Error::unavailable("the log", "away"))
    }
}

#[tokio::test]
async fn a_reaction_that_could_not_be_queued_is_sent_again_and_counts_once() {
    let (town, queue) = (Town::default(), Away::default());
    let post = town.post().await;
    let caller = fixtures::caller(fixtures::user());
    let confirm = async || {
        let reacting = town.reacting(&queue);
        reacting.confirm(&caller, nobody_hidden(), post.post_id, time::now()).await
    };
    queue.is_away.store(true, Relaxed);
    assert!(matches!(confirm().await, Err(Error::Unavailable { .. })));
    queue.is_away.store(false, Relaxed);
    confirm().await.unwrap();
    confirm().await.unwrap();
    assert_eq!(queue.queue.take().len(), 2, "also where it was stored before");
    town.count(post.post_id).await;
    assert_eq!(town.read(post.post_id).await.unwrap().confirmations, 1);

    // One's own, one of somebody hidden, one that is withheld, and none.
    let author = post.author.as_ref().unwrap().user_id;
    let mine = fixtures::caller(author);
    let reacting = town.reacting(&queue);
    let own = reacting.flag(&mine, nobody_hidden(), post.post_id, &flag(None)).await;
    assert_eq!(refused(own), (Kind::Conflict, "own_post"));
    let hidden = ready(Ok(HashSet::from([author])));
    let hidden = reacting.confirm(&caller, hidden, post.post_id, time::now()).await;
    assert_eq!(refused(hidden), (Kind::NotFound, "not_found"));
    let none = reacting.withdraw(&caller, nobody_hidden(), PostId::new(time::now())).await;
    assert_eq!(refused(none), (Kind::NotFound, "not_found"));
    town.flagged_by(post.post_id, 3).await;
    town.count(post.post_id).await;
    let fresh = MemoryPostCache::default();
    let reacting = Reacting { cache: &fresh, ..town.reacting(&queue) };
    for caller in [caller, moderator()] {
        let withheld = reacting.flag(&caller, nobody_hidden(), post.post_id, &flag(None)).await;
        assert_eq!(refused(withheld), (Kind::NotFound, "not_found"));
    }
    let counts = ReactionCounts::of(&town.reactions, post.post_id).await.unwrap();
    assert_eq!(
        (counts.confirmations, counts.flags_in_all()),
        (1, 3),
        "nothing of what was refused is stored"
    );
}

#[tokio::test]
async fn many_reactions_are_one_record_and_none_is_nothing_new() {
    let town = Town::default();
    let post = town.post().await;
    town.count(post.post_id).await;
    assert_eq!(town.log.records().len(), 0);
    for _ in 0..50 {
        town.reactions.confirm(post.post_id, fixtures::user(), time::now()).await.unwrap();
    }
    for _ in 0..3 {
        town.count(post.post_id).await;
        let [record] = &town.log.records()[..] else { panic!("one") };
        let Change::Post(PostChange::Edited(edit)) = &record.change else { panic!("an edit") };
        assert_eq!(edit.changes, [FieldChange::Confirmations(50)]);
    }
    // Fewer flags than it takes are nothing to tell.
    town.flagged_by(post.post_id, 2).await;
    town.count(post.post_id).await;
    assert_eq!((town.log.records().len(), town.waiting().await), (1, Vec::new()));
    town.flagged_by(post.post_id, 1).await;
    for _ in 0..2 {
        town.count(post.post_id).await;
        assert_eq!((town.log.records().len(), town.waiting().await), (2, vec![post.post_id]));
    }
    let stored = town.read(post.post_id).await.unwrap();
    assert!(stored.withheld && stored.confirmations == 50 && stored.updated_at == post.updated_at);
    // Of a post that is gone, or that nobody knows.
    let nowhere = PostId::new(time::now());
    town.flagged_by(nowhere, 3).await;
    town.count(nowhere).await;
    assert_eq!((town.log.records().len(), town.waiting().await), (2, vec![post.post_id]));
}

#[tokio::test]
async fn what_was_kept_is_withheld_no_more_and_what_was_removed_never_returns() {
    let town = Town::default();
    let post = town.post().await;
    let id = post.post_id;
    for decision in [Decision::Keep, Decision::Remove] {
        let unflagged = town.decide(id, decision, &town.log).await;
        assert_eq!(refused(unflagged), (Kind::NotFound, "not_found"));
    }
    town.flagged_by(id, 3).await;
    town.count(id).await;
    let deciding =
        Deciding { cache: &town.cache, posts: &town.posts, standings: &town.reactions, log: &town.log };
    let other = fixtures::caller(fixtures::user());
    let forbidden = deciding.decide(&other, id, Decision::Keep, time::now()).await;
    assert_eq!(refused(forbidden), (Kind::Forbidden, "forbidden"));

    // The log is away: they are told so, and the post waits on.
    for decision in [Decision::Remove, Decision::Keep] {
        let failed = town.decide(id, decision, &NoLog).await;
        assert_eq!(refused(failed), (Kind::Unavailable, "log_unavailable"));
        assert_eq!(town.waiting().await, [id]);
        assert!(town.read(id).await.unwrap().withheld);
    }
    for _ in 0..2 {
        town.decide(id, Decision::Keep, &town.log).await.unwrap();
        assert_eq!((town.log.records().len(), town.waiting().await), (2, Vec::new()));
    }
    let at_hand = town.cache.get(&[id]).await.unwrap().posts.pop().unwrap();
    assert!(!at_hand.withheld, "whoever decides sees it at once");
    town.ingest().await;
    assert!(!town.read(id).await.unwrap().withheld);
    town.flagged_by(id, 9).await;
    town.count(id).await;
    assert_eq!((town.log.records().len(), town.waiting().await), (2, Vec::new()), "no flags any more");
    // Something else than what the moderator has seen, and flagged as often again.
    let title = FieldChange::Title("Something else".to_owned());
    let edit = Edit::new(&town.read(id).await.unwrap(), vec![title], time::after(time::now(), 1));
    town.log.append(&PostChange::Edited(edit).into()).await.unwrap();
    town.ingest().await;
    town.cache.replace(&town.read(id).await.unwrap()).await.unwrap();
    town.count(id).await;
    assert_eq!((town.log.records().len(), town.waiting().await), (4, vec![id]));
    assert!(town.read(id).await.unwrap().withheld);
    town.decide(id, Decision::Keep, &town.log).await.unwrap();
    assert_eq!((town.log.records().len(), town.waiting().await), (5, Vec::new()));
    town.ingest().await;

    for _ in 0..2 {
        town.decide(id, Decision::Remove, &town.log).await.unwrap();
        assert_eq!(town.log.records().len(), 6);
        town.ingest().await;
        assert_eq!(town.read(id).await, None);
    }
    assert_eq!(refused(town.decide(id, Decision::Keep, &town.log).await), (Kind::NotFound, "not_found"));
    town.reactions.confirm(id, fixtures::user(), time::now()).await.unwrap();
    town.count(id).await;
    assert_eq!(town.log.records().len(), 6, "nothing is said of it any more");
}

#[tokio::test]
async fn the_queue_has_what_waits_with_its_flags_and_not_what_is_gone() {
    let town = Town::default();
    let mut ids = Vec::new();
    for _ in 0..7 {
        let post = town.post().await;
        town.flagged_by(post.post_id, 3).await;
        town.flagged_by(post.post_id, 4).await;
        town.count(post.post_id).await;
        ids.push(post.post_id);
    }
    ids.sort_unstable();
    // Its author deleted it.
    let gone =
        PostChange::Deleted(tocsin_domain::post_log::Deletion { post_id: ids[2], deleted_at: time::now() });
    posts::ingest(&town.posts, &[gone]).await.pop().unwrap().unwrap();
    ids.remove(2);
    let (cache, moderator) = (MemoryPostCache::default(), moderator());
    let queue = Queue { cache: &cache, posts: &town.posts, reactions: &town.reactions };
    let other = fixtures::caller(fixtures::user());
    assert_eq!(refused(queue.page(&other, None, Limit::default()).await), (Kind::Forbidden, "forbidden"));
    for limit in ["1", "2", "6", "100"] {
        let limit = Limit::parse(limit).unwrap();
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = queue.page(&moderator, after, limit).await.unwrap();
            read.extend(page.items.into_iter().map(|item| item.post.post_id));
            let Some(next) = page.next_cursor else { break };
            after = Some(Cursor::decode(&next, moderation::scope()).unwrap());
        }
        assert_eq!(read, ids);
    }
    let page = queue.page(&moderator, None, Limit::default()).await.unwrap();
    let first = serde_json::to_value(&page.items[0]).unwrap();
    assert_eq!(first["flags"], serde_json::json!({"false": 7, "spam": 0, "abuse": 0, "other": 0}));
    assert_eq!(first["newest_notes"].as_array().unwrap().len(), 5);
    assert_eq!((&first["post"]["withheld"], first["withheld_at"].is_string()), (&true.into(), true));
}

#[tokio::test]
async fn who_leaves_takes_their_reactions_also_where_it_ends_in_between() {
    let (town, queue) = (Town::default(), Away::default());
    let (ada, eve): (UserId, UserId) = (fixtures::user(), fixtures::user());
    let mut ids = Vec::new();
    for _ in 0..120 {
        let post = town.post().await;
        for who in [ada, eve] {
            town.reactions.confirm(post.post_id, who, time::now()).await.unwrap();
        }
        ids.push(post.post_id);
    }
    town.reactions.flag(ids[0], ada, &flag(Some("Hers"))).await.unwrap();
    queue.is_away.store(true, Relaxed);
    reaction::erase(&town.reactions, &queue, ada).await.unwrap_err();
    queue.is_away.store(false, Relaxed);
    reaction::erase(&town.reactions, &queue, ada).await.unwrap();
    let queued: HashSet<_> = queue.queue.take().into_iter().map(|job| job.post_id).collect();
    assert_eq!(queued, ids.iter().copied().collect(), "each is counted again");
    for kind in ReactionKind::ALL {
        assert_eq!(OwnReactions::of(&town.reactions, ada, kind, None, 1_000).await.unwrap(), []);
    }
    for id in &ids {
        let counts = ReactionCounts::of(&town.reactions, *id).await.unwrap();
        assert_eq!((counts.confirmations, counts.flags_in_all()), (1, 0));
    }
    assert_eq!(
        OwnReactions::of(&town.reactions, eve, ReactionKind::Confirmation, None, 1_000).await.unwrap().len(),
        120
    );
    reaction::erase(&town.reactions, &queue, ada).await.unwrap();
    assert_eq!(queue.queue.take(), []);
}
