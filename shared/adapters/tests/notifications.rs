//! People's inboxes, and what is shared into them: in memory, and in a DynamoDB in this process.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use std::collections::HashSet;

use serde_json::json;
use storage::storage_of;
use tocsin_adapters::{
    dynamodb::NotificationsTable,
    memory::{
        MemoryDeliveries, MemoryFriendships, MemoryHiddenCache, MemoryInboxes, MemoryPeople, MemoryPostCache,
        MemoryPosts, MemoryPushQueue, MemoryStepQueue, MemorySubscriptions,
    },
};
use tocsin_conformance::{fixtures, notifications, people::person};
use tocsin_domain::{
    Error, Result,
    audience::Sizes,
    cursor::{Cursor, Limit},
    friendship::{Action, change, change_block},
    ids::{PostId, UserId},
    notification::{self, Because, Inbox as _, InboxReading, Inboxes as _, Notification, NotificationView},
    notifying::Notifying,
    person::ProfileEraser as _,
    post::{Author, Post},
    post_log::PostChange,
    posts::PostStore as _,
    push::PushRecipient,
    sharing::{Friends, Sharing},
    subscription::SubscriptionEditor as _,
    time::{self, Timestamp},
};

#[tokio::test]
async fn in_memory() {
    notifications::inboxes(&MemoryInboxes::default()).await;
}

#[tokio::test]
async fn in_dynamodb() {
    let client = storage_of(&[("notifications", &["pk", "sk", "created"])]).await;
    notifications::inboxes(&NotificationsTable::new(&client, "notifications")).await;
}

#[derive(Default)]
struct Town {
    cache: MemoryPostCache,
    posts: MemoryPosts,
    people: MemoryPeople,
    hidden_cache: MemoryHiddenCache,
    friendships: MemoryFriendships,
    inboxes: MemoryInboxes,
    queue: MemoryPushQueue,
    subscriptions: MemorySubscriptions,
}

impl Town {
    fn person(&self) -> UserId {
        let someone = person("someone");
        assert!(self.people.add(&someone));
        someone.user_id
    }

    async fn friends(&self, one: UserId, other: UserId) {
        for (me, other) in [(one, other), (other, one)] {
            change(&self.friendships, me, other, Action::Request, time::now()).await.unwrap();
        }
    }

    async fn block(&self, me: UserId, other: UserId, action: Action) {
        change_block(&self.friendships, &self.hidden_cache, me, other, action, time::now()).await.unwrap();
    }

    /// A post of somebody's.
    async fn post(&self, author: UserId) -> Post {
        let author = Some(Author { user_id: author, username: "someone".to_owned() });
        let post = Post { author, ..fixtures::post() };
        self.posts.store(std::slice::from_ref(&post)).await.remove(0).unwrap();
        post
    }

    async fn share(&self, me: UserId, post_id: PostId, with: &[UserId]) -> Result<()> {
        let Self { cache, posts, hidden_cache, friendships, inboxes, queue, .. } = self;
        let sharing = Sharing { cache, posts, hidden_cache, friendships, inboxes, queue };
        let with = Friends::from_json(&json!({"user_ids": with})).unwrap();
        sharing.share(&fixtures::caller(me), post_id, &with, time::now()).await
    }

    /// The whole inbox, by pages of `limit`.
    async fn inbox(&self, owner: UserId, limit: &str) -> Vec<NotificationView> {
        let Self { cache, posts, people: profiles, hidden_cache, friendships, inboxes, .. } = self;
        let reading =
            InboxReading { inbox: inboxes, cache, posts, profiles, hidden_cache, hidden: friendships };
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let limit = Limit::parse(limit).unwrap();
            let page = reading.page(owner, before, limit, time::now()).await.unwrap();
            all.extend(page.items);
            let Some(cursor) = page.next_cursor else { return all };
            before = Some(Cursor::decode(&cursor, notification::scope(owner)).unwrap());
        }
    }

    fn queued(&self) -> Vec<(PostId, PushRecipient)> {
        let jobs = self.queue.jobs();
        jobs.iter().flat_map(|job| job.recipients.iter().map(|one| (job.post_id, *one))).collect()
    }
}

fn code(outcome: Result<()>) -> (&'static str, Vec<(String, &'static str)>) {
    match outcome.unwrap_err() {
        Error::Refused(refusal) => {
            (refusal.code, refusal.errors.into_iter().map(|error| (error.pointer, error.code)).collect())
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_post_is_shared_with_friends_alone_and_once() {
    let shared_at = time::now();
    let town = Town::default();
    let [ada, bob, eve, author] = [(); 4].map(|()| town.person());
    town.friends(ada, bob).await;
    town.friends(ada, author).await;
    let post = town.post(author).await;
    let id = post.post_id;

    let strangers = code(town.share(ada, id, &[bob, eve, ada]).await);
    let expected = ["/user_ids/1", "/user_ids/2"].map(|pointer| (pointer.to_owned(), "not_a_friend"));
    assert_eq!(strangers, ("invalid_input", expected.to_vec()));
    assert!(town.inbox(bob, "20").await.is_empty(), "with all, or with none");
    assert_eq!(code(town.share(ada, PostId::new(time::now()), &[bob]).await).0, "not_found");

    for _ in 0..2 {
        town.share(ada, id, &[bob]).await.unwrap();
    }
    let inbox = town.inbox(bob, "20").await;
    assert_eq!(inbox.len(), 1, "shared twice is shared once");
    assert_eq!((inbox[0].post.post_id, inbox[0].because), (id, Because::Shared { shared_by: ada }));
    let rung: HashSet<_> = town.queued().into_iter().map(|(_, one)| (one.user_id, one.because)).collect();
    assert_eq!(rung, [(bob, Because::Shared { shared_by: ada })].into());
    assert!(town.queue.jobs().iter().all(|job| job.told_at >= shared_at), "news though the post may be old");

    // Who does not see the author is told nothing of the post, and who shares it nothing of that.
    town.block(author, bob, Action::Block).await;
    let other = town.post(author).await;
    town.share(ada, other.post_id, &[bob]).await.unwrap();
    town.block(author, bob, Action::Unblock).await;
    assert_eq!(town.inbox(bob, "20").await.len(), 1);
    // And who does not see it themselves cannot share it.
    town.block(author, ada, Action::Block).await;
    assert_eq!(code(town.share(ada, id, &[bob]).await).0, "not_found");
}

#[tokio::test]
async fn an_inbox_has_nothing_of_hidden_people_and_its_pages_have_no_gap() {
    let town = Town::default();
    let [ada, bob, eve] = [(); 3].map(|()| town.person());
    let now = time::now();
    let mut shown = HashSet::new();
    for number in 0..60 {
        let author = if number % 3 == 0 { eve } else { bob };
        let post = town.post(author).await;
        let from = if number % 5 == 0 { eve } else { bob };
        let at: Timestamp = time::after(now, number / 4);
        let notification = Notification::new(post.post_id, Because::Shared { shared_by: from }, at);
        town.inboxes.add(ada, &notification).await.unwrap();
        if author == bob && from == bob {
            shown.insert(post.post_id);
        }
    }
    // A post that is gone.
    let because = Because::Subscription {
        subscription_id: fixtures::subscription(fixtures::wish("fire")).subscription_id,
    };
    town.inboxes.add(ada, &Notification::new(PostId::new(now), because, now)).await.unwrap();
    assert_eq!(town.inbox(ada, "7").await.len(), 60);
    town.block(eve, ada, Action::Block).await;
    for limit in ["1", "7", "100"] {
        let inbox = town.inbox(ada, limit).await;
        assert_eq!(inbox.len(), shown.len(), "by {limit}");
        assert_eq!(inbox.iter().map(|one| one.post.post_id).collect::<HashSet<_>>(), shown);
        assert!(inbox.is_sorted_by_key(|one| std::cmp::Reverse(one.created_at)));
    }
    town.block(eve, ada, Action::Unblock).await;
    assert_eq!(town.inbox(ada, "7").await.len(), 60, "shown again");
    assert_eq!(town.inboxes.newest(ada, None, 100, now).await.unwrap().len(), 61);
    // What somebody shared who has left is nobody's word. What they wrote is another matter.
    town.people.erase(eve).await.unwrap().unwrap();
    let inbox = town.inbox(ada, "7").await;
    assert!(inbox.iter().all(|one| one.because == Because::Shared { shared_by: bob }));
    assert_eq!(inbox.len(), 48);
}

#[tokio::test]
async fn nobody_is_rung_for_the_post_of_somebody_hidden() {
    let town = Town::default();
    let [ada, bob, eve] = [(); 3].map(|()| fixtures::user());
    for user in [ada, bob, eve] {
        let subscription = fixtures::subscription(fixtures::wish("fire"));
        town.subscriptions.add(user, &subscription, &fixtures::keys(&subscription)).await.unwrap();
    }
    town.block(ada, eve, Action::Block).await;
    for (author, told) in [(ada, vec![bob]), (eve, vec![bob]), (bob, vec![ada, eve])] {
        let post = town.post(author).await;
        let Town { posts, subscriptions: audience, friendships: hidden, queue, .. } = &town;
        let deliveries = &MemoryDeliveries::default();
        let (steps, sizes) = (&MemoryStepQueue::default(), Sizes { part: 1_000, ..fixtures::SIZES });
        let notifying = Notifying {
            posts,
            audience,
            large: audience,
            hidden,
            told: deliveries,
            prompt: queue,
            bulk: queue,
            steps,
            sizes,
        };
        let count = notifying.notify(&PostChange::Created(Box::new(post.clone()))).await.unwrap();
        assert_eq!(count, told.len());
        let queued = town.queued().into_iter().filter(|(id, _)| *id == post.post_id);
        let queued: HashSet<_> = queued.map(|(_, one)| one.user_id).collect();
        assert_eq!(queued, told.into_iter().collect());
    }
}
