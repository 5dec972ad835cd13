//! Reactions to posts, what they come to, and what waits for moderators.

use std::collections::BTreeMap;

use futures::future::join_all;
use tocsin_domain::{
    ids::{EditId, PostId, UserId},
    moderation::{Decision, FlaggedPosts, Standing, Standings},
    reaction::{
        Counts, Flag, FlagReason, OwnReactions, Reaction, ReactionCounts, ReactionEraser, ReactionKind,
        Reactions,
    },
    time::{self, Timestamp},
};

use crate::fixtures::user;

/// All of the table's ports that are about reactions.
pub trait ReactionStore: Reactions + ReactionCounts + OwnReactions + ReactionEraser + FlaggedPosts {}

impl<T: Reactions + ReactionCounts + OwnReactions + ReactionEraser + FlaggedPosts> ReactionStore for T {}

fn flag(reason: FlagReason, note: Option<&str>, flagged_at: Timestamp) -> Flag {
    Flag { reason, note: note.map(str::to_owned), flagged_at }
}

async fn counted(reactions: &impl ReactionStore, post_id: PostId) -> Counts {
    ReactionCounts::of(reactions, post_id).await.unwrap()
}

fn counts<const N: usize>(confirmations: u32, flags: [(FlagReason, u32); N]) -> Counts {
    Counts { confirmations, flags: BTreeMap::from(flags) }
}

/// Somebody's reaction counts once, however often it is sent or taken back, also by many at once.
pub async fn reactions(reactions: &impl ReactionStore) {
    let now = time::now();
    let (post_id, other) = (PostId::new(now), PostId::new(now));
    assert_eq!(counted(reactions, post_id).await, Counts::default());
    let people: Vec<_> = (0..40).map(|_| user()).collect();
    // Each of them three times at once.
    let confirm = |user: &UserId| reactions.confirm(post_id, *user, now);
    for outcome in join_all(people.iter().chain(&people).chain(&people).map(confirm)).await {
        outcome.unwrap();
    }
    assert_eq!(counted(reactions, post_id).await, counts(40, []));
    assert_eq!(counted(reactions, other).await, Counts::default(), "each post has its own");
    for _ in 0..2 {
        reactions.withdraw(post_id, people[0]).await.unwrap();
        reactions.withdraw(post_id, user()).await.unwrap();
        assert_eq!(counted(reactions, post_id).await, counts(39, []));
    }
    reactions.confirm(post_id, people[0], now).await.unwrap();

    let (ada, eve) = (people[0], people[1]);
    for _ in 0..2 {
        reactions.flag(post_id, ada, &flag(FlagReason::Spam, None, now)).await.unwrap();
        assert_eq!(counted(reactions, post_id).await, counts(40, [(FlagReason::Spam, 1)]));
    }
    // The newest reason holds.
    let abuse = flag(FlagReason::Abuse, Some("It names my neighbour"), time::after(now, 1));
    reactions.flag(post_id, ada, &abuse).await.unwrap();
    reactions.flag(post_id, eve, &flag(FlagReason::Abuse, Some("Lies"), time::after(now, 2))).await.unwrap();
    assert_eq!(counted(reactions, post_id).await, counts(40, [(FlagReason::Abuse, 2)]));
    let notes = async |limit| {
        let notes = reactions.newest_notes(post_id, limit).await.unwrap();
        notes.into_iter().filter_map(|flag| flag.note).collect::<Vec<_>>()
    };
    assert_eq!(notes(5).await, ["Lies", "It names my neighbour"]);
    assert_eq!(notes(1).await, ["Lies"]);
    // Another note of the same reason, and then none.
    let later = time::after(now, 3);
    reactions.flag(post_id, ada, &flag(FlagReason::Abuse, Some("It names her"), later)).await.unwrap();
    assert_eq!(notes(5).await, ["It names her", "Lies"]);
    reactions.flag(post_id, ada, &flag(FlagReason::Abuse, None, later)).await.unwrap();
    assert_eq!(notes(5).await, ["Lies"]);
    assert_eq!(counted(reactions, post_id).await, counts(40, [(FlagReason::Abuse, 2)]));
    // All of one person's flags at once are one.
    let all = FlagReason::ALL.map(|reason| flag(reason, None, later));
    for outcome in join_all(all.iter().map(|flag| reactions.flag(post_id, ada, flag))).await {
        outcome.unwrap();
    }
    assert_eq!(counted(reactions, post_id).await.flags_in_all(), 2);
}

/// A person's reactions are found, in pages, and erased, with what they count for.
pub async fn own_reactions(reactions: &impl ReactionStore) {
    let now = time::now();
    let (ada, eve) = (user(), user());
    let mut posts: Vec<_> = (0..5).map(|_| PostId::new(now)).collect();
    posts.sort_unstable();
    for post_id in &posts {
        reactions.confirm(*post_id, ada, now).await.unwrap();
    }
    let flagged = flag(FlagReason::False, Some("No smoke"), now);
    for who in [ada, eve] {
        reactions.flag(posts[0], who, &flagged).await.unwrap();
    }
    reactions.confirm(posts[0], eve, now).await.unwrap();
    let of = async |owner, kind, after, limit| {
        OwnReactions::of(reactions, owner, kind, after, limit).await.unwrap()
    };
    let confirmed = |post_id: &PostId| (*post_id, Reaction::Confirmation { confirmed_at: now });
    let expected: Vec<_> = posts.iter().map(confirmed).collect();
    for limit in 1..7 {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = of(ada, ReactionKind::Confirmation, after, limit).await;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            read.extend(page);
        }
        assert_eq!(read, expected, "by {limit}");
    }
    let flags = async |owner| of(owner, ReactionKind::Flag, None, 100).await;
    assert_eq!(flags(ada).await, [(posts[0], Reaction::Flag(flagged.clone()))]);
    reactions.withdraw(posts[4], ada).await.unwrap();
    assert_eq!(of(ada, ReactionKind::Confirmation, None, 100).await, expected[..4]);

    // What was not taken from the post stays its person's.
    reactions.forget(ada, posts[0], ReactionKind::Flag).await.unwrap();
    assert_eq!(flags(ada).await.len(), 1);
    for _ in 0..2 {
        for kind in ReactionKind::ALL {
            reactions.uncount(ada, posts[0], kind).await.unwrap();
        }
        assert_eq!(counted(reactions, posts[0]).await, counts(1, [(FlagReason::False, 1)]), "eve's");
        assert_eq!(flags(ada).await.len(), 1, "found, until it is forgotten");
    }
    for _ in 0..2 {
        for kind in ReactionKind::ALL {
            reactions.forget(ada, posts[0], kind).await.unwrap();
        }
        assert_eq!(flags(ada).await, []);
        assert_eq!(of(ada, ReactionKind::Confirmation, None, 100).await, expected[1..4]);
    }
    assert_eq!(flags(eve).await.len(), 1, "nobody else's");
    // They react again in between: that is found by the next round.
    reactions.uncount(ada, posts[1], ReactionKind::Confirmation).await.unwrap();
    reactions.confirm(posts[1], ada, now).await.unwrap();
    reactions.forget(ada, posts[1], ReactionKind::Confirmation).await.unwrap();
    assert_eq!(of(ada, ReactionKind::Confirmation, None, 100).await, expected[1..4]);
    assert_eq!(counted(reactions, posts[1]).await, counts(1, []));
}

/// A standing is claimed by who has seen the last one, and a post waits from the claim that withholds it until a decision
/// is settled.
pub async fn standings(standings: &(impl Standings + FlaggedPosts)) {
    let now = time::now();
    let mut posts: Vec<_> = (0..3).map(|_| PostId::new(now)).collect();
    posts.sort_unstable();
    let post_id = posts[1];
    let standing = |confirmations, withheld, decision, seconds| Standing {
        confirmations,
        withheld,
        decision,
        kept_at: decision.map(|_| now),
        flags: confirmations,
        edit_id: EditId::new(time::after(now, seconds)),
        told: false,
    };
    let get = async || standings.get(post_id).await.unwrap();
    let waits = async || {
        let waiting = standings.waiting(None, 100).await.unwrap();
        waiting.into_iter().find(|(id, _)| *id == post_id).map(|(_, withheld_at)| withheld_at)
    };
    assert_eq!(get().await, None);
    let first = standing(2, false, None, 0);
    assert!(!standings.claim(post_id, Some(&first), &first).await.unwrap(), "there is none");
    assert!(standings.claim(post_id, None, &first).await.unwrap());
    assert!(!standings.claim(post_id, None, &standing(9, false, None, 1)).await.unwrap());
    assert_eq!((get().await, waits().await), (Some(first), None));

    let withheld = standing(2, true, None, 2);
    assert!(standings.claim(post_id, Some(&first), &withheld).await.unwrap());
    assert!(!standings.claim(post_id, Some(&first), &standing(3, false, None, 3)).await.unwrap());
    assert_eq!(waits().await, Some(withheld.edit_id.time()));
    for _ in 0..2 {
        // Late, by who claimed before.
        standings.settle(post_id, &first).await.unwrap();
        assert!(!get().await.unwrap().told);
    }
    for _ in 0..2 {
        standings.settle(post_id, &withheld).await.unwrap();
        assert!(get().await.unwrap().told);
        assert!(waits().await.is_some(), "until it is decided");
    }
    let more = standing(4, true, None, 4);
    assert!(standings.claim(post_id, Some(&withheld), &more).await.unwrap());
    assert_eq!(waits().await, Some(withheld.edit_id.time()), "since it was first withheld");

    let kept = standing(4, false, Some(Decision::Keep), 5);
    assert!(standings.claim(post_id, Some(&more), &kept).await.unwrap());
    assert!(waits().await.is_some(), "until the log has it");
    standings.settle(post_id, &more).await.unwrap();
    assert!(waits().await.is_some());
    for _ in 0..2 {
        standings.settle(post_id, &kept).await.unwrap();
        assert_eq!((get().await, waits().await), (Some(Standing { told: true, ..kept }), None));
    }

    for other in &posts {
        let old = standings.get(*other).await.unwrap();
        assert!(standings.claim(*other, old.as_ref(), &standing(0, true, None, 6)).await.unwrap());
    }
    for limit in 1..5 {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = standings.waiting(after, limit).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(*last);
            read.extend(page.into_iter().map(|(id, _)| id));
        }
        assert_eq!(read, posts, "by {limit}");
    }
}
