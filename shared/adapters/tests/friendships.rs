//! What people are to each other: in memory, and in a DynamoDB in this process.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};
use futures::future::join_all;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use storage::storage_of;
use tocsin_adapters::{
    dynamodb::FriendshipsTable,
    memory::{MemoryFriendships, MemoryHiddenCache},
};
use tocsin_conformance::{fixtures::user, friendships};
use tocsin_domain::{
    Error,
    friendship::{Action, Circles, Friendship, FriendshipEditor, MOST_FRIENDS, between, change},
    ids::UserId,
    time,
};

async fn table() -> (Client, FriendshipsTable) {
    let client = storage_of(&[("friendships", &["pk", "sk", "listed"])]).await;
    let table = FriendshipsTable::new(&client, "friendships");
    (client, table)
}

#[tokio::test]
async fn in_memory() {
    friendships::friendships(&MemoryFriendships::default()).await;
    friendships::pages(&MemoryFriendships::default()).await;
    friendships::caps(&MemoryFriendships::default()).await;
    friendships::hidden_cache(&MemoryHiddenCache::default()).await;
}

#[tokio::test]
async fn in_dynamodb() {
    let (_, table) = table().await;
    friendships::friendships(&table).await;
    friendships::pages(&table).await;
    friendships::caps(&table).await;
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_deeds_of_three_people_keep_both_sides_equal(deeds in friendships::any_deeds(40)) {
        wait(friendships::any_order(&MemoryFriendships::default(), &deeds));
    }
}

#[tokio::test]
async fn any_deeds_of_three_people_keep_both_sides_equal_in_dynamodb() {
    let (_, table) = table().await;
    let mut runner = TestRunner::default();
    for _ in 0..12 {
        let deeds = friendships::any_deeds(25).new_tree(&mut runner).unwrap().current();
        friendships::any_order(&table, &deeds).await;
    }
}

async fn cross(editor: &impl FriendshipEditor) {
    let (ada, bob, now) = (user(), user(), time::now());
    let requests = (0..50).map(|number| {
        let (me, other) = if number % 2 == 0 { (ada, bob) } else { (bob, ada) };
        change(editor, me, other, Action::Request, now)
    });
    for answer in join_all(requests).await {
        answer.unwrap();
    }
    for (me, other) in [(ada, bob), (bob, ada)] {
        assert_eq!(between(editor, me, other).await.unwrap().friendship, Friendship::Accepted);
    }
}

#[tokio::test]
async fn crossing_requests_end_in_one_friendship() {
    cross(&MemoryFriendships::default()).await;
    let (_, table) = table().await;
    cross(&table).await;
}

/// Ada's circle, as if she had made so many friends.
async fn befriend(client: &Client, ada: UserId, count: usize) {
    let ids = (0..count).map(|_| Blob::new(user().as_bytes().as_slice())).collect();
    let put = client.put_item().table_name("friendships").item("pk", AttributeValue::S(ada.to_string()));
    let put = put.item("sk", AttributeValue::S("circle".to_owned())).item("friends", AttributeValue::Bs(ids));
    put.send().await.unwrap();
}

async fn friends(circles: &impl Circles, id: UserId) -> usize {
    circles.of(&[id]).await.unwrap()[&id].ids().len()
}

#[tokio::test]
async fn nobody_has_more_friends_than_are_one_item() {
    let (client, table) = table().await;
    let (ada, now) = (user(), time::now());
    befriend(&client, ada, MOST_FRIENDS - 1).await;
    let [bob, eve] = [user(), user()];
    for fan in [bob, eve] {
        change(&table, fan, ada, Action::Request, now).await.unwrap();
    }
    change(&table, ada, bob, Action::Accept, now).await.unwrap();
    // Neither may she take another, nor may another take her.
    let refused = change(&table, ada, eve, Action::Accept, now).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(refusal) if refusal.code == "too_many_friends"), "{refused}");
    let fan = user();
    change(&table, ada, fan, Action::Request, now).await.unwrap();
    assert!(change(&table, fan, ada, Action::Accept, now).await.is_err());
    assert_eq!(between(&table, eve, ada).await.unwrap().friendship, Friendship::Outgoing);
    assert_eq!(friends(&table, ada).await, MOST_FRIENDS);

    change(&table, bob, ada, Action::Remove, now).await.unwrap();
    change(&table, ada, eve, Action::Accept, now).await.unwrap();
    assert_eq!(friends(&table, ada).await, MOST_FRIENDS);
}
