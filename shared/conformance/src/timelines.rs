//! Cached timelines.

use proptest::prelude::*;
use tocsin_domain::{
    audience::AudienceKey,
    ids::PostId,
    post::Post,
    time::{self, Timestamp},
    timeline::{CachedPage, Load, Owner, Sources, TimelineEraser, TimelineLoader, Timelines, WHOLE},
};

use crate::fixtures::{post, post_id, subscription, user, wish};

fn with_id(post_id: PostId) -> Post {
    Post { post_id, ..post() }
}

fn sources() -> Sources {
    Sources { subscriptions: vec![subscription(wish("fire"))], large: Vec::new() }
}

/// A timeline promises what its floor says, takes each post once, and is whole again after it was forgotten and rebuilt.
pub async fn timelines(timelines: &(impl Timelines + TimelineLoader + TimelineEraser)) {
    let (owner, absent) = (user(), user());
    let (timeline, sources) = (Owner::User(owner), sources());
    let start = u64::try_from(time::now().as_millisecond()).unwrap() - 10_000;
    let ids: Vec<_> = (0..6).map(|n| post_id(start + n, 1)).collect();
    let load = async |id: PostId| {
        let owners = vec![timeline.clone(), Owner::User(absent)];
        timelines.load(&[Load { post: with_id(id), owners }]).await.unwrap()
    };
    let page = async |before, limit| timelines.page(owner, before, limit).await.unwrap();
    let entries = |page: Option<CachedPage>| page.unwrap().entries;

    assert_eq!(page(None, 10).await, None);
    assert_eq!(load(ids[3]).await, 0, "only timelines that exist are written to");
    assert_eq!(page(None, 10).await, None);

    let rebuild = timelines.begin_rebuild(&timeline).await.unwrap().unwrap();
    assert_eq!(timelines.begin_rebuild(&timeline).await.unwrap(), None, "one at a time");
    let meanwhile = page(None, 10).await;
    assert!(meanwhile.is_none_or(|page| page.floor > time::now()), "a rebuild promises nothing");
    assert_eq!(load(ids[5]).await, 1, "what is loaded meanwhile is not lost");
    let floor = Timestamp::from_millisecond(i64::try_from(start).unwrap()).unwrap();
    timelines
        .finish_rebuild(&timeline, rebuild.clone(), &[ids[4], ids[3], ids[0]], floor, &sources)
        .await
        .unwrap();
    let all = page(None, 10).await.unwrap();
    assert_eq!(all.entries, [ids[5], ids[4], ids[3]], "above the floor, the newest first");
    assert_eq!(all.floor, floor);
    let mut at_hand: Vec<_> = all.posts.iter().map(|post| post.post_id).collect();
    at_hand.sort();
    assert_eq!(at_hand, [ids[3], ids[5]], "with the posts that are at hand");
    assert_eq!(timelines.begin_rebuild(&timeline).await.unwrap(), None, "what is whole is not rebuilt");

    assert_eq!(load(ids[4]).await, 0, "a post is taken once");
    assert_eq!(load(ids[0]).await, 0, "what is not above the floor is not taken");
    assert_eq!(load(ids[2]).await, 1, "a post that comes late takes its place");
    assert_eq!(all.subscriptions, sources.subscriptions);
    assert_eq!(entries(page(None, 2).await), [ids[5], ids[4]]);
    assert_eq!(entries(page(Some(ids[4]), 2).await), [ids[3], ids[2]]);
    assert_eq!(entries(page(Some(ids[2]), 2).await), []);
    assert_eq!(entries(page(Some(ids[0]), 2).await), []);
    let between = post_id(start + 4, 0);
    assert_eq!(entries(page(Some(between), 1).await), [ids[3]]);

    // Posts of one millisecond are in the order of their ids.
    let tied: Vec<_> = (1..=4).map(|rest| post_id(start + 20, rest)).collect();
    for id in [tied[2], tied[0], tied[3], tied[1]] {
        load(id).await;
    }
    assert_eq!(entries(page(None, 2).await), [tied[3], tied[2]]);
    assert_eq!(entries(page(Some(tied[2]), 3).await), [tied[1], tied[0], ids[5]]);

    // Forgotten in the middle of a rebuild, a timeline is not filled with what it was to be filled with.
    timelines.forget(owner).await.unwrap();
    assert_eq!(page(None, 10).await, None);
    let stale = timelines.begin_rebuild(&timeline).await.unwrap().unwrap();
    timelines.forget(owner).await.unwrap();
    let fresh = timelines.begin_rebuild(&timeline).await.unwrap().unwrap();
    timelines.finish_rebuild(&timeline, stale, &[ids[1]], WHOLE, &sources).await.unwrap();
    timelines.finish_rebuild(&timeline, rebuild, &[ids[1]], WHOLE, &sources).await.unwrap();
    timelines.finish_rebuild(&timeline, fresh, &[ids[2]], WHOLE, &sources).await.unwrap();
    let whole = page(None, 10).await.unwrap();
    assert_eq!((whole.entries, whole.floor), (vec![ids[2]], WHOLE));
}

/// What a timeline was built from is looked at again when it is not trusted any longer, here after a second, by one reader.
pub async fn checked(timelines: &(impl Timelines + TimelineEraser)) {
    let owner = user();
    let timeline = Owner::User(owner);
    let is_to_be_checked = async || timelines.page(owner, None, 10).await.unwrap().unwrap().is_to_be_checked;
    let rebuild = timelines.begin_rebuild(&timeline).await.unwrap().unwrap();
    assert!(!is_to_be_checked().await, "it is being rebuilt");
    timelines.finish_rebuild(&timeline, rebuild, &[], time::now(), &sources()).await.unwrap();
    for _ in 0..2 {
        assert!(!is_to_be_checked().await);
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        assert!(is_to_be_checked().await);
    }
    assert!(!is_to_be_checked().await, "one reader looks");
}

/// What is under a large key is in the timelines that it is merged into, once, in its place; and they are whole only with
/// it.
pub async fn merged(timelines: &(impl Timelines + TimelineLoader)) {
    let (reader, start) = (user(), u64::try_from(time::now().as_millisecond()).unwrap() - 10_000);
    // Of no other test: these posts are at hand only if they were loaded here.
    let id = |n: u64| post_id(start + n, 9);
    let floor = |n: u64| id(n).time();
    let key = |name: &str| {
        let key = format!("{name}{start}#*#*").parse::<AudienceKey>().unwrap();
        (Owner::Key(key.clone()), key)
    };
    let ((fires, fire), (storms, storm), own) = (key("fire"), key("storm"), Owner::User(reader));
    let build = async |owner: &Owner, posts: &[PostId], floor, large: &[AudienceKey]| {
        let rebuild = timelines.begin_rebuild(owner).await.unwrap().unwrap();
        let sources = Sources { large: large.to_vec(), ..sources() };
        timelines.finish_rebuild(owner, rebuild, posts, floor, &sources).await.unwrap();
    };
    let page = async |before, limit| timelines.page(reader, before, limit).await.unwrap().unwrap();
    build(&own, &[id(9), id(5), id(1)], floor(0), &[fire.clone(), storm.clone()]).await;
    let without = page(None, 10).await;
    assert_eq!((without.is_whole(), without.missing), (false, vec![fire, storm.clone()]));
    build(&fires, &[id(8), id(5), id(2)], WHOLE, &[]).await;
    let rebuild = timelines.begin_rebuild(&storms).await.unwrap().unwrap();
    assert_eq!(page(None, 10).await.missing, [storm], "it is being rebuilt");
    timelines.finish_rebuild(&storms, rebuild, &[id(7), id(4)], floor(3), &Sources::default()).await.unwrap();
    let load = Load { post: with_id(id(6)), owners: vec![fires, storms] };
    assert_eq!(timelines.load(&[load]).await.unwrap(), 2);

    let whole = page(None, 10).await;
    assert!(whole.is_whole());
    assert_eq!(whole.entries, [9, 8, 7, 6, 5, 4].map(id), "below the highest floor it promises nothing");
    assert_eq!((whole.floor, whole.posts.len()), (floor(3), 1));
    let (mut paged, mut last) = (Vec::new(), None);
    while let page = page(last, 2).await
        && !page.entries.is_empty()
    {
        last = page.entries.last().copied();
        paged.extend(page.entries);
    }
    assert_eq!(paged, whole.entries);
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
) -> (Vec<PostId>, Timestamp) {
    let mut ends = Vec::new();
    for order in &history.orders {
        let owner = user();
        let timeline = Owner::User(owner);
        let mut rebuild = timelines.begin_rebuild(&timeline).await.unwrap();
        for step in order {
            if let Some(ids) = history.loads.get(*step) {
                let load = |id: &PostId| Load { post: with_id(*id), owners: vec![timeline.clone()] };
                timelines.load(&ids.iter().map(load).collect::<Vec<_>>()).await.unwrap();
            } else if let Some(rebuild) = rebuild.take() {
                let (found, floor) = (&history.found, history.floor);
                timelines.finish_rebuild(&timeline, rebuild, found, floor, &sources()).await.unwrap();
            }
        }
        let page = timelines.page(owner, None, 100).await.unwrap().unwrap();
        let mut paged = Vec::new();
        while let page = timelines.page(owner, paged.last().copied(), 2).await.unwrap().unwrap()
            && !page.entries.is_empty()
        {
            paged.extend(page.entries);
        }
        let paged: Vec<PostId> = paged;
        assert_eq!(paged, page.entries, "pages end where the next ones begin");
        ends.push((page.entries, page.floor));
    }
    assert_eq!(ends[0], ends[1], "{history:?}");
    ends.swap_remove(0)
}
