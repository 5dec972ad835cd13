//! What people are to each other, and who is hidden from whom.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tocsin_domain::{
    Error,
    departure::Erased,
    friendship::{
        self, Action, Circles, Friendship, FriendshipEditor, Friendships, Hidden, HiddenCache, HiddenPeople,
        List, MOST_OUTGOING, Relation, Relations, Replaced, change,
    },
    ids::UserId,
    time::{self, Timestamp},
};

use crate::fixtures::user;

/// All of the table's ports.
pub trait FriendshipStore: FriendshipEditor + Circles + Friendships + Hidden {}

impl<T: FriendshipEditor + Circles + Friendships + Hidden> FriendshipStore for T {}

/// A friendship is the same from both sides, and in the lists and circles of both, as long as it lasts.
pub async fn friendships(store: &impl FriendshipStore) {
    use Action::{Accept, Block, Remove, Request, Unblock};
    let now = time::now();
    let [ada, bob, eve] = [user(), user(), user()];
    let relation = async |me, other| friendship::between(store, me, other).await.unwrap();
    let lists = async |owner| {
        let mut lists = Vec::new();
        for list in [List::Accepted, List::Incoming, List::Outgoing, List::Blocks] {
            let page = store.list(owner, list, None, 10).await.unwrap();
            lists.push(page.into_iter().map(|((_, other), _)| other).collect::<Vec<_>>());
        }
        lists
    };
    let nobody = Vec::new;

    assert!(relation(ada, bob).await.is_nothing());
    assert_eq!(Relations::of(store, ada, &[]).await.unwrap().len(), 0);
    let asked = change(store, ada, bob, Request, now).await.unwrap();
    assert_eq!((asked.friendship, asked.since), (Friendship::Outgoing, Some(now)));
    let later = time::after(now, 60);
    assert_eq!(change(store, ada, bob, Request, later).await.unwrap(), asked, "again is the same");
    assert_eq!((relation(ada, bob).await, relation(bob, ada).await), (asked, asked.mirrored()));
    assert_eq!(lists(ada).await, [nobody(), nobody(), vec![bob], nobody()]);
    assert_eq!(lists(bob).await, [nobody(), vec![ada], nobody(), nobody()]);

    let friends = change(store, bob, ada, Accept, later).await.unwrap();
    assert_eq!((friends.friendship, friends.since), (Friendship::Accepted, Some(later)));
    change(store, eve, ada, Request, now).await.unwrap();
    let crossing = change(store, ada, eve, Request, now).await.unwrap();
    assert_eq!(crossing.friendship, Friendship::Accepted, "asking who asked");
    let known = Relations::of(store, ada, &[bob, eve, bob, user()]).await.unwrap();
    assert_eq!(known.len(), 2, "those who are nothing are left out");
    assert_eq!((known[&bob], known[&eve]), (friends.mirrored(), crossing));
    assert_eq!(lists(ada).await[0], [bob, eve], "the newest first");
    let circles = Circles::of(store, &[ada, bob, eve, user()]).await.unwrap();
    assert_eq!(circles[&ada], [bob, eve].into_iter().collect());
    assert_eq!(circles[&bob], [ada].into_iter().collect());
    assert_eq!(circles[&bob].common(&circles[&eve]), [ada]);

    // Only what was seen is replaced.
    let gone = Relation::default();
    assert_eq!(store.replace(ada, bob, &asked, &gone).await.unwrap(), Replaced::Changed);
    assert_eq!(store.replace(ada, bob, &gone, &asked).await.unwrap(), Replaced::Changed);
    assert_eq!(relation(ada, bob).await, friends);

    let blocked = change(store, bob, ada, Block, later).await.unwrap();
    assert_eq!((blocked.blocks, blocked.friendship), (Some(later), Friendship::None));
    assert_eq!(relation(ada, bob).await, blocked.mirrored());
    assert_eq!(lists(bob).await, [nobody(), nobody(), nobody(), vec![ada]]);
    assert_eq!(lists(ada).await, [vec![eve], nobody(), nobody(), nobody()], "she does not block him");
    let hidden = async |owner| Hidden::of(store, owner).await.unwrap();
    assert_eq!((hidden(ada).await, hidden(bob).await), ([bob].into(), [ada].into()), "either from the other");
    assert_eq!(hidden(eve).await, HiddenPeople::new());
    assert!(change(store, ada, bob, Request, later).await.is_err());
    change(store, bob, ada, Unblock, later).await.unwrap();
    assert_eq!((hidden(ada).await, relation(bob, ada).await), (HiddenPeople::new(), gone));

    change(store, eve, ada, Remove, later).await.unwrap();
    change(store, eve, ada, Remove, later).await.unwrap();
    for owner in [ada, bob, eve] {
        assert_eq!(lists(owner).await, [nobody(), nobody(), nobody(), nobody()]);
        assert_eq!(store.all(owner, None, 10).await.unwrap(), []);
        let circles = Circles::of(store, &[owner]).await.unwrap();
        assert!(circles.get(&owner).is_none_or(|circle| circle.ids().is_empty()));
    }
    assert!(matches!(change(store, ada, ada, Request, now).await, Err(Error::Refused(_))), "not oneself");
}

/// Lists come in pages, the newest first, and everybody in the order of their ids; who leaves is in nobody's.
pub async fn pages(store: &impl FriendshipStore) {
    let now = time::now();
    let (owner, fans): (_, Vec<_>) = (user(), (0..25).map(|_| user()).collect());
    let mut asked = Vec::new();
    for (place, fan) in (0..).zip(&fans) {
        // Three in each second, so that the order within one is told as well.
        let since = time::after(now, place / 3);
        change(store, *fan, owner, Action::Request, since).await.unwrap();
        asked.push((since, *fan));
    }
    asked.sort_unstable();
    asked.reverse();
    for limit in [1, 4, 25, 100] {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = store.list(owner, List::Incoming, before, limit).await.unwrap();
            assert!(page.iter().all(|(_, relation)| relation.friendship == Friendship::Incoming));
            read.extend(page.iter().map(|(place, _)| *place));
            before = read.last().copied();
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(read, asked, "by {limit}");
    }
    let mut ids = fans.clone();
    ids.sort_unstable();
    let first: Vec<_> = store.all(owner, None, 10).await.unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(first, ids[..10]);
    let rest = store.all(owner, Some(ids[9]), 100).await.unwrap();
    assert_eq!(rest.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ids[10..]);

    change(store, fans[0], owner, Action::Block, now).await.unwrap();
    change(store, owner, fans[1], Action::Accept, now).await.unwrap();
    change(store, owner, fans[2], Action::Block, now).await.unwrap();
    for _ in 0..2 {
        assert_eq!(friendship::forget(store, store, owner, now).await.unwrap(), Erased::Whole);
    }
    assert_eq!(store.all(owner, None, 10).await.unwrap(), []);
    assert!(Circles::of(store, &[owner]).await.unwrap().is_empty(), "nothing of them remains");
    for fan in fans {
        assert_eq!(store.all(fan, None, 10).await.unwrap(), []);
    }
}

/// Nobody has more requests under way than they may; and after one is withdrawn, one more.
pub async fn caps(store: &impl FriendshipStore) {
    let (now, collector) = (time::now(), user());
    let mut last = user();
    for _ in 0..MOST_OUTGOING {
        last = user();
        change(store, collector, last, Action::Request, now).await.unwrap();
    }
    let one_more = user();
    let refused = change(store, collector, one_more, Action::Request, now).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(refusal) if refusal.code == "too_many_friendship_requests"),
        "{refused}"
    );
    assert!(friendship::between(store, one_more, collector).await.unwrap().is_nothing());
    change(store, user(), collector, Action::Request, now).await.unwrap();
    change(store, collector, last, Action::Remove, now).await.unwrap();
    change(store, collector, one_more, Action::Request, now).await.unwrap();
}

/// One of three people does something about one of the others.
pub type Deed = (usize, usize, Action);

/// Any deeds of three people.
pub fn any_deeds(most: usize) -> impl Strategy<Value = Vec<Deed>> {
    use Action::{Accept, Block, Forget, Remove, Request, Unblock};
    // What makes something is more frequent, so that there is something to end.
    let actions = vec![Request, Request, Request, Accept, Accept, Remove, Block, Unblock, Unblock, Forget];
    let deed = (0usize..3, 1usize..3, prop::sample::select(actions))
        .prop_map(|(who, step, action)| (who, (who + step) % 3, action));
    prop::collection::vec(deed, 0..=most)
}

/// After any deeds, and after each, both sides agree with the rule of one pair, and lists and circles with both.
pub async fn any_order(store: &impl FriendshipStore, deeds: &[Deed]) {
    let people = [user(), user(), user()];
    // What each is to each, by the rule alone.
    let mut rule = [[Relation::default(); 3]; 3];
    let start = time::now();
    for (seconds, (who, whom, action)) in (0..).zip(deeds) {
        let now: Timestamp = time::after(start, seconds);
        let expected = rule[*who][*whom].after(*action, now);
        let done = change(store, people[*who], people[*whom], *action, now).await;
        match (expected, done) {
            (Ok(expected), Ok(done)) => {
                assert_eq!(done, expected);
                (rule[*who][*whom], rule[*whom][*who]) = (expected, expected.mirrored());
            }
            (Err(expected), Err(Error::Refused(refusal))) => assert_eq!(refusal, expected),
            (expected, done) => panic!("{expected:?} is expected, and this was done: {done:?}"),
        }
        for (me, rule) in rule.iter().enumerate() {
            agrees(store, &people, me, rule).await;
        }
    }
}

async fn agrees(store: &impl FriendshipStore, people: &[UserId; 3], me: usize, rule: &[Relation; 3]) {
    let those = |holds: fn(&Relation) -> bool| -> BTreeSet<UserId> {
        (0..3).filter(|other| holds(&rule[*other])).map(|other| people[other]).collect()
    };
    let known = Relations::of(store, people[me], people).await.unwrap();
    for (other, relation) in people.iter().zip(rule) {
        assert_eq!(known.get(other).copied().unwrap_or_default(), *relation);
    }
    let circles = Circles::of(store, &[people[me]]).await.unwrap();
    let circle: BTreeSet<_> = circles.get(&people[me]).into_iter().flat_map(|c| c.ids().to_vec()).collect();
    assert_eq!(circle, those(|relation| relation.friendship == Friendship::Accepted));
    let hidden: BTreeSet<_> = Hidden::of(store, people[me]).await.unwrap().into_iter().collect();
    assert_eq!(hidden, those(Relation::is_hidden));
    for list in [List::Accepted, List::Incoming, List::Outgoing, List::Blocks] {
        let listed = store.list(people[me], list, None, 10).await.unwrap();
        let listed: BTreeSet<_> = listed.into_iter().map(|((since, id), _)| (id, Some(since))).collect();
        let expected = (0..3).map(|other| (people[other], list.since(&rule[other])));
        assert_eq!(listed, expected.filter(|(_, since)| since.is_some()).collect(), "{list:?}");
    }
}

/// What is at hand is never from before a block.
pub async fn hidden_cache(cache: &impl HiddenCache) {
    let [ada, bob, eve] = [user(), user(), user()];
    assert_eq!(cache.get(ada).await.unwrap(), None);
    cache.put(ada, &HiddenPeople::new()).await.unwrap();
    assert_eq!(
        cache.get(ada).await.unwrap(),
        Some(HiddenPeople::new()),
        "that nobody is hidden is known, too"
    );
    let many: HiddenPeople = (0..300).map(|_| user()).collect();
    cache.put(eve, &many).await.unwrap();
    assert_eq!(cache.get(eve).await.unwrap().as_ref(), Some(&many));

    cache.set_aside(&[ada, bob]).await.unwrap();
    assert_eq!(cache.get(ada).await.unwrap(), None);
    // A reader who read the storage before the block.
    for late in [ada, bob] {
        cache.put(late, &HiddenPeople::new()).await.unwrap();
        assert_eq!(cache.get(late).await.unwrap(), None);
    }
    assert_eq!(cache.get(eve).await.unwrap(), Some(many), "the others stay");
}
