//! Friends as people see them: lists that ask DynamoDB a bounded number of times whatever the number of people, and posts
//! without those of hidden people.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use std::{collections::BTreeSet, future::ready};

use futures::{StreamExt as _, stream};
use storage::storage_of;
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, NotificationsTable, PeopleTable, PostsTable, Requests},
    memory::{
        MemoryFriendships, MemoryHiddenCache, MemoryPostCache, MemoryPosts, MemorySubscriptions,
        MemoryTimelines,
    },
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Result,
    cursor::{Cursor, Limit},
    error::Kind,
    friends::{self, Counted, Listing},
    friendship::{
        Action, Friendship, FriendshipEditor as _, Hidden, HiddenCache as _, HiddenPeople, List, Relation,
        Replaced, change, change_block, hidden_from,
    },
    ids::UserId,
    near::Near,
    notification::{Because, InboxReading, Inboxes as _, Notification},
    person::{Profile, ProfileImageUrls, ShownTo, Visibility},
    place::Circle,
    post::{Author, Post},
    posts::{self, PostStore as _},
    subscription::SubscriptionEditor as _,
    time,
    timeline::{self, Reading},
};

/// A town in DynamoDB.
struct Town {
    people: PeopleTable,
    friendships: FriendshipsTable,
    inboxes: NotificationsTable,
    posts: PostsTable,
    images: ProfileImageUrls,
    requests: Requests,
}

impl Town {
    async fn new() -> Self {
        let tables: [(&str, &[&str]); 4] = [
            ("people", &["pk", "sk"]),
            ("friendships", &["pk", "sk", "listed"]),
            ("notifications", &["pk", "sk", "created"]),
            ("posts", &["pk", "sk"]),
        ];
        let requests = Requests::default();
        let client = requests.of(&storage_of(&tables).await);
        Self {
            people: PeopleTable::new(&client, "people"),
            friendships: FriendshipsTable::new(&client, "friendships"),
            inboxes: NotificationsTable::new(&client, "notifications"),
            posts: PostsTable::new(&client, "posts"),
            images: ProfileImageUrls::new("https://images.example"),
            requests,
        }
    }

    fn listing(&self) -> Listing<'_, PeopleTable, FriendshipsTable> {
        Listing { profiles: &self.people, friendships: &self.friendships, images: &self.images }
    }

    async fn person(&self, visibility: Visibility) -> UserId {
        let id = fixtures::user();
        let username = format!("user-{}", &id.to_string()[24..]).parse().unwrap();
        assert!(self.people.add(&Profile { visibility, ..Profile::new(id, username, None) }).await.unwrap());
        id
    }

    /// Makes two people friends at once.
    async fn befriend(&self, me: UserId, other: UserId) {
        let friends =
            Relation { friendship: Friendship::Accepted, since: Some(time::now()), ..Relation::default() };
        let done = self.friendships.replace(me, other, &Relation::default(), &friends).await.unwrap();
        assert_eq!(done, Replaced::Done);
    }

    async fn act(&self, me: UserId, other: UserId, action: Action) {
        change(&self.friendships, me, other, action, time::now()).await.unwrap();
    }

    async fn friends_of(&self, me: UserId, owner: UserId, limit: &str) -> Result<Vec<UserId>> {
        self.all(
            limit,
            async |after, limit| {
                let hidden = Hidden::of(&self.friendships, me);
                self.listing().friends_of(me, owner, hidden, after, limit).await
            },
            friends::scope_of_friends(me, owner),
        )
        .await
    }

    async fn mutual_with(&self, me: UserId, owner: UserId, limit: &str) -> Result<Vec<UserId>> {
        self.all(
            limit,
            async |after, limit| self.listing().mutual_with(me, owner, after, limit).await,
            friends::scope_of_mutual(me, owner),
        )
        .await
    }

    /// A whole list, by pages, each of which says how many there are.
    async fn all(
        &self,
        limit: &str,
        read: impl AsyncFn(Option<Cursor<UserId>>, Limit) -> Result<Counted<friends::Acquaintance>>,
        scope: tocsin_domain::cursor::Scope,
    ) -> Result<Vec<UserId>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let Counted { page, total } = read(after, Limit::parse(limit).unwrap()).await?;
            all.extend(page.items.iter().map(|one| one.profile.user_id));
            let Some(cursor) = page.next_cursor else {
                assert_eq!(all.len(), total);
                return Ok(all);
            };
            after = Some(Cursor::decode(&cursor, scope).unwrap());
        }
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> (Kind, &'static str) {
    match outcome.unwrap_err() {
        Error::Refused(refusal) => (refusal.kind, refusal.code),
        error => panic!("{error}"),
    }
}

/// How many requests each read needs, in a town of so many people, all of whom are friends of two.
async fn requests(count: usize) -> Vec<(&'static str, usize)> {
    let town = Town::new().await;
    let (ada, bob) = (town.person(Visibility::default()).await, town.person(Visibility::default()).await);
    let fans: Vec<_> =
        stream::iter(0..count).map(|_| town.person(Visibility::default())).buffered(16).collect().await;
    for fan in &fans {
        town.befriend(ada, *fan).await;
        town.befriend(bob, *fan).await;
    }
    let (eve, now) = (town.person(Visibility::default()).await, time::now());
    town.act(ada, eve, Action::Block).await;
    let post = fixtures::post();
    town.posts.store(std::slice::from_ref(&post)).await.remove(0).unwrap();
    for fan in &fans {
        let notification = Notification::new(post.post_id, Because::Shared { shared_by: *fan }, now);
        town.inboxes.add(ada, &notification).await.unwrap();
    }

    let (hundred, me) = (Limit::parse("100").unwrap(), ada);
    let (people, friendships, listing) = (&town.people, &town.friendships, town.listing());
    let mut counts = Vec::new();
    let mut count_of = |name| counts.push((name, town.requests.take()));
    let _ = town.requests.take();
    let most = count.min(100);
    let page = listing.mine(me, List::Accepted, None, hundred).await.unwrap();
    assert_eq!(page.items.len(), most);
    count_of("list-friendships");
    assert_eq!(friends::state(people, friendships, me, fans[0]).await.unwrap(), Friendship::Accepted);
    count_of("get-friendship");
    let hidden = hidden_from(&MemoryHiddenCache::default(), friendships, me).await;
    count_of("hidden people");
    let page = listing.friends_of(me, bob, ready(hidden), None, hundred).await.unwrap();
    assert_eq!((page.page.items.len(), page.total), (most, count));
    assert!(page.page.items.iter().all(|one| one.friendship == Friendship::Accepted));
    count_of("list-user-friends");
    let page = listing.mutual_with(me, bob, None, hundred).await.unwrap();
    assert_eq!((page.page.items.len(), page.total), (most, count));
    count_of("list-mutual-friends");
    assert_eq!(listing.blocks(me, None, hundred).await.unwrap().items[0].user_id, eve);
    count_of("list-blocks");
    let reading = InboxReading {
        inbox: &town.inboxes,
        cache: &MemoryPostCache::default(),
        posts: &town.posts,
        profiles: people,
        hidden_cache: &MemoryHiddenCache::default(),
        hidden: friendships,
    };
    // One more is read than is shown, and those who shared a hundred are one batch.
    let limit = Limit::parse("99").unwrap();
    assert_eq!(reading.page(me, None, limit, now).await.unwrap().items.len(), most.min(99));
    count_of("list-notifications");
    counts
}

#[tokio::test]
async fn reads_need_as_many_requests_among_a_thousand_people_as_among_ten() {
    let expected = [
        ("list-friendships", 2),
        ("get-friendship", 2),
        ("hidden people", 1),
        // Besides who is hidden, which is at hand mostly: the owner, what they are to the caller, their circle; and of the
        // page the profiles, and what each is to the caller.
        ("list-user-friends", 5),
        ("list-mutual-friends", 4),
        ("list-blocks", 2),
        // The page, until when all is read, who is hidden, and then who shared, and the posts, none of which is at hand.
        ("list-notifications", 5),
    ];
    assert_eq!(requests(10).await, expected);
    assert_eq!(requests(1_000).await, expected);
}

#[tokio::test]
async fn who_blocks_back_sees_the_name_of_who_blocks_them_no_more() {
    let town = Town::new().await;
    let (ada, eve) = (town.person(Visibility::default()).await, town.person(Visibility::default()).await);
    town.act(ada, eve, Action::Block).await;
    town.act(eve, ada, Action::Block).await;
    let seen = async |me| {
        let page = town.listing().blocks(me, None, Limit::LARGEST).await.unwrap();
        page.items.into_iter().map(|one| (one.user_id, one.username.is_some())).collect::<Vec<_>>()
    };
    assert_eq!((seen(ada).await, seen(eve).await), (vec![(eve, false)], vec![(ada, false)]));
    town.act(ada, eve, Action::Unblock).await;
    assert_eq!((seen(ada).await, seen(eve).await), (vec![], vec![(ada, true)]));
}

/// The one read that grows with the number of people: by a request for each megabyte.
#[tokio::test]
async fn who_is_hidden_from_somebody_whom_a_thousand_block_is_one_request() {
    let town = Town::new().await;
    let (ada, now) = (fixtures::user(), time::now());
    let blocked = Relation { blocks: Some(now), ..Relation::default() };
    let blockers: Vec<_> = (0..1_000).map(|_| fixtures::user()).collect();
    for blocker in &blockers {
        let done = town.friendships.replace(*blocker, ada, &Relation::default(), &blocked).await.unwrap();
        assert_eq!(done, Replaced::Done);
    }
    let _ = town.requests.take();
    let cache = MemoryHiddenCache::default();
    let hidden = hidden_from(&cache, &town.friendships, ada).await.unwrap();
    assert_eq!(hidden, blockers.into_iter().collect());
    assert_eq!(town.requests.take(), 1);
    hidden_from(&cache, &town.friendships, ada).await.unwrap();
    assert_eq!(town.requests.take(), 0, "it is at hand then");
}

#[tokio::test]
async fn friends_of_others_are_shown_as_each_wishes() {
    let town = Town::new().await;
    let shy = |shown_to| Visibility { friends: shown_to, ..Visibility::default() };
    let [ada, bob, eve] = [
        town.person(shy(ShownTo::Everyone)).await,
        town.person(shy(ShownTo::Friends)).await,
        town.person(shy(ShownTo::Nobody)).await,
    ];
    let mut common = BTreeSet::new();
    for number in 0..7 {
        let friend = town.person(Visibility::default()).await;
        for owner in [ada, bob, eve] {
            town.befriend(owner, friend).await;
        }
        if number < 3 {
            town.act(friend, ada, Action::Block).await;
        } else {
            common.insert(friend);
        }
    }
    let me = town.person(Visibility::default()).await;
    let ids = |ids: Vec<UserId>| {
        assert!(ids.is_sorted(), "by id");
        ids.into_iter().collect::<BTreeSet<_>>()
    };
    for limit in ["1", "3", "100"] {
        assert_eq!(ids(town.friends_of(me, ada, limit).await.unwrap()), common);
        assert_eq!(town.mutual_with(me, ada, limit).await.unwrap(), []);
        // Ada does not see those who block her among Bob's friends, and nobody is told.
        assert_eq!(refused(town.friends_of(ada, bob, limit).await), (Kind::Forbidden, "friends_not_shown"));
        assert_eq!(refused(town.mutual_with(ada, bob, limit).await), (Kind::Forbidden, "friends_not_shown"));
    }
    town.befriend(ada, bob).await;
    let mut his = common.clone();
    his.insert(ada);
    assert_eq!(ids(town.friends_of(ada, bob, "3").await.unwrap()), his);
    assert_eq!(ids(town.mutual_with(ada, bob, "3").await.unwrap()), common);
    assert_eq!(ids(town.friends_of(bob, bob, "3").await.unwrap()).len(), 8, "his own, whole");
    assert_eq!(ids(town.mutual_with(bob, bob, "3").await.unwrap()).len(), 8, "with himself all");
    town.befriend(ada, eve).await;
    assert_eq!(refused(town.friends_of(ada, eve, "3").await), (Kind::Forbidden, "friends_not_shown"));
    assert!(town.friends_of(eve, eve, "3").await.is_ok());

    let nobody = refused(town.friends_of(me, fixtures::user(), "3").await);
    assert_eq!(nobody, (Kind::NotFound, "not_found"));
    town.act(ada, me, Action::Block).await;
    assert_eq!(refused(town.friends_of(me, ada, "3").await), nobody, "as if she were not there");
    assert_eq!(refused(town.mutual_with(ada, me, "3").await), nobody);
}

/// A town of posts in memory, whose reader follows everything.
struct Posts {
    reader: UserId,
    stored: MemoryPosts,
    cache: MemoryPostCache,
    friendships: MemoryFriendships,
    hidden_cache: MemoryHiddenCache,
    timelines: MemoryTimelines,
    subscriptions: MemorySubscriptions,
}

impl Posts {
    async fn new(posts: &[Post]) -> Self {
        let town = Self {
            reader: fixtures::user(),
            stored: MemoryPosts::default(),
            cache: MemoryPostCache::default(),
            friendships: MemoryFriendships::default(),
            hidden_cache: MemoryHiddenCache::default(),
            timelines: MemoryTimelines::default().with_capacity(25),
            subscriptions: MemorySubscriptions::default(),
        };
        let subscription = fixtures::subscription(fixtures::wish("fire"));
        town.subscriptions.add(town.reader, &subscription, &fixtures::keys(&subscription)).await.unwrap();
        for stored in town.stored.store(posts).await {
            stored.unwrap();
        }
        town
    }

    async fn hidden(&self) -> HiddenPeople {
        hidden_from(&self.hidden_cache, &self.friendships, self.reader).await.unwrap()
    }

    async fn block(&self, me: UserId, other: UserId, action: Action) {
        change_block(&self.friendships, &self.hidden_cache, me, other, action, time::now()).await.unwrap();
    }

    /// The authors of all posts near, and in the timeline, by full pages of `limit`.
    async fn authors(&self, limit: &str) -> (Vec<UserId>, Vec<UserId>) {
        let limit = Limit::parse(limit).unwrap();
        let author = |post: &Post| post.author.as_ref().unwrap().user_id;
        let (circle, now) = (Circle::new(fixtures::post().location.unwrap(), 1_000.0).unwrap(), time::now());
        let (mut near, mut before) = (Vec::new(), None);
        loop {
            let list = Near { circle, category: None, limit, before };
            let Self { stored, cache, .. } = self;
            let page = list.list(stored, cache, stored, &self.hidden().await, now).await.unwrap();
            near.extend(page.items.iter().map(|item| author(&item.post)));
            let Some(cursor) = page.next_cursor else { break };
            assert_eq!(page.items.len(), limit.get(), "a page that is not the last is full");
            before = Some(Cursor::decode(&cursor, Near::scope(circle, None)).unwrap());
        }
        let (mut timeline, mut before) = (Vec::new(), None);
        loop {
            let Self { reader, stored, cache, friendships, hidden_cache, timelines, subscriptions } = self;
            let reading = Reading {
                timelines,
                subscriptions,
                large: subscriptions,
                index: stored,
                cache,
                posts: stored,
                hidden_cache,
                hidden: friendships,
            };
            let page = reading.page(*reader, before, limit, now).await.unwrap();
            timeline.extend(page.items.iter().map(|item| author(&item.post)));
            let Some(cursor) = page.next_cursor else { break };
            assert_eq!(page.items.len(), limit.get(), "a page that is not the last is full");
            before = Some(Cursor::decode(&cursor, timeline::scope(self.reader)).unwrap());
        }
        (near, timeline)
    }
}

#[tokio::test]
async fn posts_of_hidden_people_are_left_out_of_full_pages() {
    let [bob, eve] = [(); 2].map(|()| fixtures::user());
    let by = |user_id| Some(Author { user_id, username: "someone".to_owned() });
    let posts: Vec<_> = (0..60u64)
        .map(|number| Post {
            post_id: fixtures::post_id(1_000 + number, 0),
            author: by(if number % 3 == 0 { bob } else { eve }),
            ..fixtures::post()
        })
        .collect();
    let town = Posts::new(&posts).await;
    let count = |authors: &[UserId]| {
        (authors.iter().filter(|id| **id == bob).count(), authors.iter().filter(|id| **id == eve).count())
    };
    // In the cached timeline and beyond it, before and after it was built, and from either side.
    for limit in ["7", "100"] {
        for (me, other) in [(town.reader, eve), (eve, town.reader)] {
            let (near, timeline) = town.authors(limit).await;
            assert_eq!((count(&near), count(&timeline)), ((20, 40), (20, 40)));
            town.block(me, other, Action::Block).await;
            let (near, timeline) = town.authors(limit).await;
            assert_eq!((count(&near), count(&timeline)), ((20, 0), (20, 0)));
            let hidden = town.hidden().await;
            let get = async |post: &Post| {
                let hidden = ready(Ok(hidden.clone()));
                posts::get(&town.cache, &town.stored, hidden, &fixtures::caller(town.reader), post.post_id)
                    .await
            };
            assert_eq!(refused(get(&posts[1]).await), (Kind::NotFound, "not_found"));
            assert_eq!(get(&posts[0]).await.unwrap(), posts[0]);
            town.block(me, other, Action::Unblock).await;
        }
    }
}

#[tokio::test]
async fn a_read_from_before_a_block_is_not_kept_for_after_it() {
    let (friendships, cache) = (MemoryFriendships::default(), MemoryHiddenCache::default());
    let [ada, eve] = [(); 2].map(|()| fixtures::user());
    let before = Hidden::of(&friendships, ada).await.unwrap();
    change_block(&friendships, &cache, eve, ada, Action::Block, time::now()).await.unwrap();
    cache.put(ada, &before).await.unwrap();
    assert_eq!(hidden_from(&cache, &friendships, ada).await.unwrap(), [eve].into());
}

#[tokio::test]
async fn what_changes_no_block_leaves_at_hand_who_is_hidden() {
    let friendships = MemoryFriendships::default();
    let [ada, eve] = [(); 2].map(|()| fixtures::user());
    let block = async |cache: &MemoryHiddenCache, me, other, action| {
        change_block(&friendships, cache, me, other, action, time::now()).await
    };
    let kept = async || {
        let cache = MemoryHiddenCache::default();
        for owner in [ada, eve] {
            hidden_from(&cache, &friendships, owner).await.unwrap();
        }
        cache
    };
    let is_at_hand = async |cache: &MemoryHiddenCache| {
        let mut at_hand = Vec::new();
        for owner in [ada, eve] {
            at_hand.push(cache.get(owner).await.unwrap().is_some());
        }
        at_hand
    };
    let cache = kept().await;
    block(&cache, ada, eve, Action::Unblock).await.unwrap();
    assert_eq!(refused(block(&cache, ada, ada, Action::Block).await).0, Kind::Invalid);
    assert_eq!(is_at_hand(&cache).await, [true; 2]);
    block(&cache, ada, eve, Action::Block).await.unwrap();
    assert_eq!(is_at_hand(&cache).await, [false; 2]);
    let cache = kept().await;
    block(&cache, ada, eve, Action::Block).await.unwrap();
    block(&cache, eve, ada, Action::Unblock).await.unwrap();
    assert_eq!(is_at_hand(&cache).await, [true; 2]);
    for (me, other, action) in [(eve, ada, Action::Block), (ada, eve, Action::Unblock)] {
        let cache = kept().await;
        block(&cache, me, other, action).await.unwrap();
        assert_eq!(is_at_hand(&cache).await, [false; 2]);
    }
}
