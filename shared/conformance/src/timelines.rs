//! Cached timelines.

use proptest::prelude::*;
use tocsin_domain::{
    audience::Recipient,
    ids::{PostId, SubscriptionId, UserId},
    post::Post,
    time::{self, Timestamp},
    timeline::{CachedPage, Entry, TimelineEraser, TimelineLoader, Timelines, WHOLE},
};

use crate::fixtures::{post, post_id, user};

fn with_id(post_id: PostId) -> Post {
    Post { post_id, ..post() }
}

fn recipient(user_id: UserId, because: SubscriptionId) -> Recipient {
    Recipient { user_id, because, push_because: None }
}

/// A timeline promises what its floor says, takes each post once, and is whole again after it was forgotten and rebuilt.
pub async fn timelines(timelines: &(impl Timelines + TimelineLoader + TimelineEraser)) {
    let (owner, absent) = (user(), user());
    let because = SubscriptionId::new(time::now());
    let start = u64::try_from(time::now().as_millisecond()).unwrap() - 10_000;
    let ids: Vec<_> = (0..6).map(|n| post_id(start + n, 1)).collect();
    let entry = |post_id: PostId| Entry { post_id, because };
    let load = async |id: PostId| {
        let recipients = vec![recipient(owner, because), recipient(absent, because)];
        timelines.load(&[(with_id(id), recipients)]).await.unwrap()
    };
    let page = async |before, limit| timelines.page(owner, before, limit).await.unwrap();
    let entries = |page: Option<CachedPage>| page.unwrap().entries;

    assert_eq!(page(None, 10).await, None);
    assert_eq!(load(ids[3]).await, 0, "only timelines that exist are written to");
    assert_eq!(page(None, 10).await, None);

    let rebuild = timelines.begin_rebuild(owner).await.unwrap().unwrap();
    assert_eq!(timelines.begin_rebuild(owner).await.unwrap(), None, "one at a time");
    let meanwhile = page(None, 10).await;
    assert!(meanwhile.is_none_or(|page| page.floor > time::now()), "a rebuild promises nothing");
    assert_eq!(load(ids[5]).await, 1, "what is loaded meanwhile is not lost");
    let floor = Timestamp::from_millisecond(i64::try_from(start).unwrap()).unwrap();
    timelines
        .finish_rebuild(owner, rebuild.clone(), &[entry(ids[4]), entry(ids[3]), entry(ids[0])], floor)
        .await
        .unwrap();
    let all = page(None, 10).await.unwrap();
    assert_eq!(
        all.entries,
        [entry(ids[5]), entry(ids[4]), entry(ids[3])],
        "above the floor, the newest first"
    );
    assert_eq!(all.floor, floor);
    let mut at_hand: Vec<_> = all.posts.iter().map(|post| post.post_id).collect();
    at_hand.sort();
    assert_eq!(at_hand, [ids[3], ids[5]], "with the posts that are at hand");
    assert_eq!(timelines.begin_rebuild(owner).await.unwrap(), None, "what is whole is not rebuilt");

    assert_eq!(load(ids[4]).await, 0, "a post is taken once");
    assert_eq!(load(ids[0]).await, 0, "what is not above the floor is not taken");
    assert_eq!(load(ids[2]).await, 1, "a post that comes late takes its place");
    let other = SubscriptionId::new(time::now());
    timelines.load(&[(with_id(ids[2]), vec![recipient(owner, other)])]).await.unwrap();
    assert_eq!(entries(page(None, 2).await), [entry(ids[5]), entry(ids[4])]);
    assert_eq!(entries(page(Some(ids[4]), 2).await), [entry(ids[3]), entry(ids[2])]);
    assert_eq!(entries(page(Some(ids[2]), 2).await), []);
    assert_eq!(entries(page(Some(ids[0]), 2).await), []);
    let between = post_id(start + 4, 0);
    assert_eq!(entries(page(Some(between), 1).await), [entry(ids[3])]);

    // Posts of one millisecond are in the order of their ids.
    let tied: Vec<_> = (1..=4).map(|rest| post_id(start + 20, rest)).collect();
    for id in [tied[2], tied[0], tied[3], tied[1]] {
        load(id).await;
    }
    assert_eq!(entries(page(None, 2).await), [entry(tied[3]), entry(tied[2])]);
    assert_eq!(entries(page(Some(tied[2]), 3).await), [entry(tied[1]), entry(tied[0]), entry(ids[5])]);

    // Forgotten in the middle of a rebuild, a timeline is not filled with what it was to be filled with.
    timelines.forget(owner).await.unwrap();
    assert_eq!(page(None, 10).await, None);
    let stale = timelines.begin_rebuild(owner).await.unwrap().unwrap();
    timelines.forget(owner).await.unwrap();
    let fresh = timelines.begin_rebuild(owner).await.unwrap().unwrap();
    timelines.finish_rebuild(owner, stale, &[entry(ids[1])], WHOLE).await.unwrap();
    timelines.finish_rebuild(owner, rebuild, &[entry(ids[1])], WHOLE).await.unwrap();
    timelines.finish_rebuild(owner, fresh, &[entry(ids[2])], WHOLE).await.unwrap();
    let whole = page(None, 10).await.unwrap();
    assert_eq!((whole.entries, whole.floor), (vec![entry(ids[2])], WHOLE));
}

/// What happens to one timeline after its rebuild has begun.
#[derive(Clone, Debug)]
pub struct History {
    /// What the rebuild found in the storage.
    found: Vec<PostId>,
    floor: Timestamp,
    /// Posts that are loaded, some together.
    loads: Vec<Vec<PostId>>,
    /// Two orders of the loads and the rebuild's end.
    orders: [Vec<usize>; 2],
}

/// Any history: few milliseconds, so that posts share them; and some posts loaded twice.
pub fn any_history() -> impl Strategy<Value = History> {
    let start = 1_790_000_000_000u64;
    let id = (0u64..12, 1u8..5).prop_map(move |(ms, rest)| post_id(start + ms, rest));
    let ids = |most| prop::collection::vec(id.clone(), 0..most);
    let loads = prop::collection::vec(prop::collection::vec(id.clone(), 1..4), 1..12);
    (ids(8), 0i64..12, loads).prop_flat_map(move |(found, floor, loads)| {
        let steps: Vec<usize> = (0..=loads.len()).collect();
        let floor = Timestamp::from_millisecond(start.cast_signed() + floor).unwrap();
        let orders = (Just(steps.clone()).prop_shuffle(), Just(steps).prop_shuffle());
        orders.prop_map(move |(a, b)| History {
            found: found.clone(),
            floor,
            loads: loads.clone(),
            orders: [a, b],
        })
    })
}

/// Timeline operations in any order end in the same timeline: this one.
pub async fn any_order(
    timelines: &(impl Timelines + TimelineLoader),
    history: &History,
) -> (Vec<Entry>, Timestamp) {
    let because = SubscriptionId::from_bytes([7; 16]);
    let mut ends = Vec::new();
    for order in &history.orders {
        let owner = user();
        let mut rebuild = timelines.begin_rebuild(owner).await.unwrap();
        for step in order {
            if let Some(ids) = history.loads.get(*step) {
                let load: Vec<_> =
                    ids.iter().map(|id| (with_id(*id), vec![recipient(owner, because)])).collect();
                timelines.load(&load).await.unwrap();
            } else if let Some(rebuild) = rebuild.take() {
                let entries: Vec<_> =
                    history.found.iter().map(|post_id| Entry { post_id: *post_id, because }).collect();
                timelines.finish_rebuild(owner, rebuild, &entries, history.floor).await.unwrap();
            }
        }
        let page = timelines.page(owner, None, 100).await.unwrap().unwrap();
        let mut paged = Vec::new();
        while let page =
            timelines.page(owner, paged.last().map(|entry: &Entry| entry.post_id), 2).await.unwrap().unwrap()
            && !page.entries.is_empty()
        {
            paged.extend(page.entries);
        }
        assert_eq!(paged, page.entries, "pages end where the next ones begin");
        ends.push((page.entries, page.floor));
    }
    assert_eq!(ends[0], ends[1], "{history:?}");
    ends.swap_remove(0)
}
