//! Timelines of many readers, however large an audience is taken to be: what each reads is what a look at every post would
//! give, without a gap, and without a repetition.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use proptest::{prelude::*, sample::Index};
use tocsin_adapters::memory::{
    MemoryFriendships, MemoryHiddenCache, MemoryPostCache, MemoryPosts, MemoryStepQueue, MemorySubscriptions,
    MemoryTimelines,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    audience::{self, Sizes, Walk},
    cursor::{Cursor, Limit},
    fan_out::Task,
    ids::{PostId, UserId},
    large_audience::LargeKeys as _,
    post::{Post, Severity},
    post_edit::{Edit, FieldChange},
    post_log::{Deletion, PostChange},
    posts::{PostEditor as _, Posts as _},
    subscription::{Subscription, SubscriptionEditor as _, Wish},
    time::{self, Timestamp},
    timeline::{self, Load, Reading, TimelineLoader},
    timeline_loading::Loading,
};

#[derive(Default)]
struct Town {
    subscriptions: MemorySubscriptions,
    stored: MemoryPosts,
    cache: MemoryPostCache,
    timelines: MemoryTimelines,
    hidden_cache: MemoryHiddenCache,
    hidden: MemoryFriendships,
    steps: MemoryStepQueue,
    sizes: Option<Sizes>,
}

impl Town {
    async fn load(&self, changes: &[PostChange]) {
        let (posts, audience, timelines, cache) =
            (&self.stored, &self.subscriptions, &self.timelines, &self.cache);
        let (queue, sizes) = (&self.steps, self.sizes.unwrap());
        let loading = Loading { posts, audience, large: audience, timelines, cache, queue, sizes };
        for outcome in loading.load(changes).await {
            outcome.unwrap();
        }
        let mut brought = Vec::new();
        while let Some(step) = self.steps.take() {
            let Task::Load { walk } = &step.task else { panic!("{step:?}") };
            // A queue may bring a step twice; more often would only take longer.
            brought.push(step.clone());
            if brought.iter().filter(|other| **other == step).count() <= 2 {
                let post = posts.get(&[step.post_id]).await.unwrap().pop().unwrap();
                for _ in 0..2 {
                    loading.go_on(post.clone(), walk.clone()).await.unwrap();
                }
            }
        }
    }

    /// The whole timeline of a reader, by pages of `limit`.
    async fn read(&self, reader: UserId, limit: usize) -> Vec<PostId> {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let (page, next) = self.page(reader, before, limit).await;
            ids.extend(page);
            let Some(next) = next else { return ids };
            before = Some(next);
        }
    }

    /// A page of a reader's timeline, full unless it is the last, and where the next one begins.
    async fn page(
        &self,
        reader: UserId,
        before: Option<Cursor>,
        limit: usize,
    ) -> (Vec<PostId>, Option<Cursor>) {
        let Self { subscriptions, stored, cache, timelines, hidden_cache, hidden, .. } = self;
        let (index, posts, large) = (stored, stored, subscriptions);
        let reading = Reading { timelines, subscriptions, large, index, cache, posts, hidden_cache, hidden };
        let limit = Limit::parse(&limit.to_string()).unwrap();
        let page = reading.page(reader, before, limit, time::now()).await.unwrap();
        let ids = page.items.iter().map(|item| item.post.post_id).collect();
        let Some(cursor) = page.next_cursor else { return (ids, None) };
        assert_eq!(page.items.len(), limit.get(), "a page is full unless it is the last");
        (ids, Some(Cursor::decode(&cursor, timeline::scope(reader)).unwrap()))
    }

    /// What a reader's timeline should have now, of these posts: the newest first.
    async fn expected(&self, reader: UserId, wished: &[(UserId, Wish)], ids: &[PostId]) -> Vec<PostId> {
        let mut posts = self.stored.get(ids).await.unwrap();
        let now = time::now();
        posts.retain(|post| {
            let matches = wished.iter().any(|(user, wish)| *user == reader && wish.matches(post));
            matches && tocsin_domain::posts::is_listed(post, now)
        });
        let mut expected: Vec<_> = posts.iter().map(|post| post.post_id).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        expected
    }
}

/// What happens in a town, one after the other.
#[derive(Clone, Debug)]
enum Event {
    /// So many of the posts that are left are loaded.
    Load(usize),
    /// Somebody reads.
    Read(Index, usize),
    /// A post that is loaded changes.
    Edit(Index, FieldChange),
    /// A key of somebody's was seen to be large so long ago, in days.
    Large(Index, u64),
}

fn change() -> impl Strategy<Value = FieldChange> {
    prop_oneof![
        prop::sample::select(vec!["fire", "flood"])
            .prop_map(|name| FieldChange::Category(fixtures::category(name))),
        prop::sample::select(vec![Severity::Minor, Severity::Extreme]).prop_map(FieldChange::Severity),
        fixtures::any_point().prop_map(|location| FieldChange::Location(Some(location))),
        Just(FieldChange::Location(None)),
        fixtures::any_point()
            .prop_flat_map(fixtures::any_area)
            .prop_map(|area| FieldChange::Area(Some(area))),
        Just(FieldChange::Area(None)),
        any::<bool>().prop_map(FieldChange::Withheld),
        Just(FieldChange::ExpiresAt(None)),
        fixtures::any_time().prop_map(|time| FieldChange::ExpiresAt(Some(time))),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1usize..6).prop_map(Event::Load),
        3 => (any::<Index>(), 1usize..8).prop_map(|(reader, limit)| Event::Read(reader, limit)),
        1 => (any::<Index>(), change()).prop_map(|(post, change)| Event::Edit(post, change)),
        1 => (any::<Index>(), prop::sample::select(vec![0u64, 2, 10])).prop_map(|(key, days)| Event::Large(key, days)),
    ]
}

fn days_ago(days: u64) -> Timestamp {
    time::now() - std::time::Duration::from_secs(days * 24 * 60 * 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_reader_reads_what_matches_their_subscriptions(
        wishes in prop::collection::vec((0usize..6, fixtures::any_wish()), 1..16),
        posts in prop::collection::vec(fixtures::any_post(), 1..30),
        events in prop::collection::vec(event(), 1..25),
        (large_key, part) in (0usize..4, 1usize..8),
        capacity in 2usize..20,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let cache = MemoryPostCache::default();
            let timelines = MemoryTimelines::over(&cache).with_capacity(capacity);
            let sizes = Some(Sizes { large_key, part });
            let town = Town { cache, timelines, sizes, ..Town::default() };
            let readers: Vec<_> = (0..6).map(|_| fixtures::user()).collect();
            let (mut wished, mut keys): (Vec<(UserId, Wish)>, Vec<_>) = (Vec::new(), Vec::new());
            for (reader, wish) in wishes {
                let subscription: Subscription = fixtures::subscription(wish.clone());
                let stands = audience::keys_of(&wish);
                town.subscriptions.add(readers[reader], &subscription, &stands).await.unwrap();
                keys.extend(stands);
                wished.push((readers[reader], wish));
            }
            // Large ones are known before anybody has built a timeline without them.
            let (large, events): (Vec<_>, Vec<_>) =
                events.into_iter().partition(|event| matches!(event, Event::Large(_, days) if *days > 0));
            let mut left: Vec<Post> = posts;
            left.sort_by_key(|post| post.post_id);
            left.dedup_by_key(|post| post.post_id);
            left.reverse();
            let (mut loaded, mut edits) = (Vec::<Post>::new(), Vec::<Edit>::new());
            for event in large.into_iter().chain(events) {
                match event {
                    Event::Large(key, days) => {
                        town.subscriptions.remember(key.get(&keys), days_ago(days)).await.unwrap();
                    }
                    Event::Load(count) => {
                        let some: Vec<Post> = (0..count).filter_map(|_| left.pop()).collect();
                        let created = some.iter().cloned().map(|post| PostChange::Created(Box::new(post)));
                        town.load(&created.collect::<Vec<_>>()).await;
                        loaded.extend(some);
                    }
                    Event::Edit(post, change) if !loaded.is_empty() => {
                        let post = post.get(&loaded);
                        let edit = Edit::new(post, vec![change], time::now());
                        town.load(&[PostChange::Edited(edit.clone())]).await;
                        edits.push(edit);
                        // An older one again changes nothing.
                        town.load(&[PostChange::Edited(edits[0].clone())]).await;
                    }
                    Event::Edit(..) => {}
                    Event::Read(reader, limit) => {
                        assert_reads(&town, *reader.get(&readers), &wished, &loaded, limit).await;
                    }
                }
            }
            for reader in &readers {
                assert_reads(&town, *reader, &wished, &loaded, 5).await;
            }
        });
    }
}

async fn assert_reads(town: &Town, reader: UserId, wished: &[(UserId, Wish)], loaded: &[Post], limit: usize) {
    let ids: Vec<_> = loaded.iter().map(|post| post.post_id).collect();
    let expected = town.expected(reader, wished, &ids).await;
    assert_eq!(town.read(reader, limit).await, expected);
}

/// What happens between two pages.
#[derive(Clone, Debug)]
enum Meanwhile {
    Arrives(Box<Post>),
    Changes(Index, FieldChange),
    IsDeleted(Index),
    /// Redis is flushed.
    Flush,
    /// The reader looks at their first page on another device, which rebuilds the timeline if it is not cached.
    LooksElsewhere,
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        3 => fixtures::any_post().prop_map(|post| Meanwhile::Arrives(Box::new(post))),
        3 => (any::<Index>(), change()).prop_map(|(post, change)| Meanwhile::Changes(post, change)),
        1 => any::<Index>().prop_map(Meanwhile::IsDeleted),
        1 => Just(Meanwhile::Flush),
        1 => Just(Meanwhile::LooksElsewhere),
    ]
}

impl Town {
    async fn happens(
        &mut self,
        meanwhile: Meanwhile,
        reader: UserId,
        ids: &mut Vec<PostId>,
        capacity: usize,
    ) {
        match meanwhile {
            Meanwhile::Arrives(post) => {
                // Now, whatever time it was made up with.
                let post = Post { post_id: PostId::new(time::now()), ..*post };
                ids.push(post.post_id);
                self.load(&[PostChange::Created(Box::new(post))]).await;
            }
            Meanwhile::Changes(post, change) => {
                let Some(post) = self.stored.get(&[*post.get(ids)]).await.unwrap().pop() else { return };
                self.load(&[PostChange::Edited(Edit::new(&post, vec![change], time::now()))]).await;
            }
            Meanwhile::IsDeleted(post) => {
                let deletion = Deletion { post_id: *post.get(ids), deleted_at: time::now() };
                self.stored.remove(&deletion).await.unwrap();
                self.load(&[PostChange::Deleted(deletion)]).await;
            }
            Meanwhile::Flush => {
                self.cache = MemoryPostCache::default();
                self.timelines = MemoryTimelines::over(&self.cache).with_capacity(capacity);
                self.hidden_cache = MemoryHiddenCache::default();
            }
            Meanwhile::LooksElsewhere => drop(self.page(reader, None, 3).await),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn who_pages_through_a_timeline_misses_nothing_that_stays_and_sees_nothing_twice(
        wishes in prop::collection::vec(fixtures::any_wish(), 1..8),
        posts in prop::collection::vec(fixtures::any_post(), 5..40),
        between in prop::collection::vec(prop::collection::vec(meanwhile(), 0..4), 40),
        (limit, capacity) in (1usize..6, 2usize..20),
        (large_key, part) in (0usize..4, 1usize..8),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let cache = MemoryPostCache::default();
            let timelines = MemoryTimelines::over(&cache).with_capacity(capacity);
            let mut town =
                Town { cache, timelines, sizes: Some(Sizes { large_key, part }), ..Town::default() };
            let reader = fixtures::user();
            let mut wished = Vec::new();
            for wish in wishes {
                let keys = audience::keys_of(&wish);
                let subscription = fixtures::subscription(wish.clone());
                town.subscriptions.add(reader, &subscription, &keys).await.unwrap();
                wished.push((reader, wish));
            }
            let created = posts.iter().cloned().map(|post| PostChange::Created(Box::new(post)));
            town.load(&created.collect::<Vec<_>>()).await;
            let mut ids: Vec<_> = posts.iter().map(|post| post.post_id).collect();

            let mut stays = town.expected(reader, &wished, &ids).await;
            let (mut seen, mut before) = (Vec::new(), None);
            for meanwhile in between.into_iter().chain(std::iter::repeat(Vec::new())) {
                let (page, next) = town.page(reader, before, limit).await;
                let there = town.expected(reader, &wished, &ids).await;
                prop_assert!(page.iter().all(|id| there.contains(id)), "{page:?} of {there:?}");
                stays.retain(|id| there.contains(id));
                seen.extend(page);
                let Some(next) = next else { break };
                before = Some(next);
                for one in meanwhile {
                    town.happens(one, reader, &mut ids, capacity).await;
                    let there = town.expected(reader, &wished, &ids).await;
                    stays.retain(|id| there.contains(id));
                }
            }
            prop_assert!(seen.is_sorted_by(|newer, older| newer > older), "in order, and once each: {seen:?}");
            let missed: Vec<_> = stays.iter().filter(|id| !seen.contains(id)).collect();
            prop_assert!(missed.is_empty(), "{missed:?} are not among {seen:?}");
            Ok(())
        })?;
    }
}

/// Timelines that are away.
struct Away;

impl TimelineLoader for Away {
    async fn load(&self, _: &[Load]) -> Result<usize> {
        Err(Error::unavailable("timelines", "away"))
    }
}

/// Else each try would leave the rest of the audience to another one.
#[tokio::test]
async fn a_part_that_is_not_done_leaves_no_step() {
    let town = Town { sizes: Some(Sizes { large_key: 100, part: 3 }), ..Town::default() };
    for _ in 0..10 {
        let subscription = fixtures::subscription(fixtures::wish("fire"));
        let keys = fixtures::keys(&subscription);
        town.subscriptions.add(fixtures::user(), &subscription, &keys).await.unwrap();
    }
    let (posts, audience, cache, queue) = (&town.stored, &town.subscriptions, &town.cache, &town.steps);
    let sizes = town.sizes.unwrap();
    let loading = Loading { posts, audience, large: audience, timelines: &Away, cache, queue, sizes };
    let post = fixtures::post();
    for _ in 0..3 {
        let created = PostChange::Created(Box::new(post.clone()));
        assert!(loading.load(&[created]).await.pop().unwrap().is_err());
        assert!(loading.go_on(post.clone(), Walk::over(&post)).await.is_err());
    }
    assert!(town.steps.take().is_none());
}
