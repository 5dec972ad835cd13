//! The tables do what the ports promise, in a DynamoDB in this process.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use storage::{storage, storage_of};
use tocsin_adapters::{
    dynamodb::{
        AddressEditor, CategoriesTable, DeliveriesTable, DevicesTable, FeedsTable, HeldPushesTable,
        IdempotencyTable, Newcomers, PeopleEditor, PeopleTable, PostsTable, PreferencesTable, ReactionsTable,
        SessionsTable, SubscriptionsTable, UsersTable,
    },
    memory::MemoryPostCache,
};
use tocsin_conformance::{
    accounts, departures, events, feeds, fixtures, people, posts, preferences, pushes, reactions,
    subscriptions, usernames,
};
use tocsin_domain::{
    place_index::{PlaceIndex as _, PlaceKey},
    post::Post,
    posts::{PostStore as _, Posts as _, Stored},
};

#[tokio::test]
async fn users() {
    let client = storage(&[("users", false), ("people", true)]).await;
    let (users, people) = (UsersTable::new(&client, "users"), PeopleTable::new(&client, "people"));
    let newcomers = Newcomers::new(users.clone(), people.clone());
    accounts::users(&users, &newcomers, &people).await;
    accounts::identities(&users, &newcomers, &people).await;
    departures::closing(&users, &newcomers).await;
    accounts::passwords(&users, &newcomers).await;
    let addresses = AddressEditor::new(users.clone(), people.clone());
    accounts::addresses(&users, &newcomers, &addresses, &people).await;
}

#[tokio::test]
async fn sessions() {
    accounts::sessions(&SessionsTable::new(&storage(&[("sessions", true)]).await, "sessions")).await;
}

#[tokio::test]
async fn people() {
    let client = storage(&[("people", true), ("users", false)]).await;
    let table = PeopleTable::new(&client, "people");
    people::profiles(&table, async |person| table.add(person).await.unwrap()).await;
    people::images(&table, async |person| table.add(person).await.unwrap()).await;
    people::names(&table, async |person| table.add(person).await.unwrap()).await;
    let users = UsersTable::new(&client, "users");
    let newcomers = Newcomers::new(users.clone(), table.clone());
    let editor = PeopleEditor::new(&client, "people", "users");
    people::edits(&editor, &table, &newcomers).await;
    usernames::former(&users, &newcomers, &editor).await;
}

#[tokio::test]
async fn subscriptions() {
    let client = storage(&[("subscriptions", true), ("categories", true)]).await;
    let subscriptions = || SubscriptionsTable::new(&client, "subscriptions");
    subscriptions::subscriptions(&subscriptions()).await;
    subscriptions::large_keys(&subscriptions(), &subscriptions()).await;
    subscriptions::categories(&CategoriesTable::new(&client, "categories")).await;
}

#[tokio::test]
async fn posts() {
    let client = storage(&[("posts", true), ("idempotency", false)]).await;
    posts::posts(&PostsTable::new(&client, "posts")).await;
    posts::changes(&PostsTable::new(&client, "posts")).await;
    posts::edits_at_once(&PostsTable::new(&client, "posts")).await;
    posts::edits_by_several(&PostsTable::new(&client, "posts")).await;
    posts::edited_areas(&PostsTable::new(&client, "posts")).await;
    posts::nowhere(&PostsTable::new(&client, "posts")).await;
    events::at_the_edges(&PostsTable::new(&client, "posts")).await;
    posts::idempotency(&IdempotencyTable::new(&client, "idempotency")).await;
}

#[tokio::test]
async fn events_by_time() {
    let table = async || PostsTable::new(&storage(&[("posts", true)]).await, "posts");
    events::moved_by_several(&table().await).await;
    let mut runner = TestRunner::default();
    for _ in 0..8 {
        let history = events::any_history().new_tree(&mut runner).unwrap().current();
        events::all_are_found(&table().await, &MemoryPostCache::default(), &history).await;
    }
}

#[tokio::test]
async fn pushes() {
    let client = storage(&[("devices", true), ("deliveries", true)]).await;
    pushes::devices(&DevicesTable::new(&client, "devices")).await;
    pushes::removing_while_putting(&DevicesTable::new(&client, "devices")).await;
    pushes::repairs(&DevicesTable::new(&client, "devices")).await;
    pushes::deliveries(&DeliveriesTable::new(&client, "deliveries")).await;
    pushes::delivered(&DeliveriesTable::new(&client, "deliveries")).await;
    pushes::told(&DeliveriesTable::new(&client, "deliveries")).await;
    pushes::counted(&DeliveriesTable::new(&client, "deliveries")).await;
}

#[tokio::test]
async fn reactions() {
    let client = storage_of(&[("reactions", &["pk", "sk", "noted"])]).await;
    let table = ReactionsTable::new(&client, "reactions");
    reactions::reactions(&table).await;
    reactions::own_reactions(&table).await;
    reactions::standings(&table).await;
}

#[tokio::test]
async fn feeds_and_what_is_known_of_them() {
    let table = FeedsTable::new(&storage_of(&[("feeds", &["pk", "sk", "next_poll_at"])]).await, "feeds");
    feeds::feeds(&table).await;
    feeds::polls(&table).await;
    feeds::known(&table).await;
}

#[tokio::test]
async fn preferences_and_what_is_held() {
    let client = storage(&[("preferences", false), ("held", true)]).await;
    preferences::preferences(&PreferencesTable::new(&client, "preferences")).await;
    let held = HeldPushesTable::new(&client, "held");
    preferences::held_pushes(&held).await;
    preferences::schedule(&held).await;
}

#[tokio::test]
async fn a_post_that_cannot_be_stored_fails_alone() {
    let table = PostsTable::new(&storage(&[("posts", true)]).await, "posts");
    let first = fixtures::post();
    let last = Post { author: first.author.clone(), ..fixtures::post() };
    // An entry of more than 400 KiB, which is an item's limit: the batch that it is in is refused.
    let words: Vec<_> = (0..60_000).map(|number| format!("tag-{number}")).collect();
    let many = fixtures::tags(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let huge = Post { tags: many, ..fixtures::post() };
    let outcomes = table.store(&[first.clone(), huge.clone(), last.clone()]).await;
    assert!(matches!(outcomes[..], [Ok(Stored::New), Err(_), Ok(Stored::New)]), "{outcomes:?}");
    for key in PlaceKey::of(&last) {
        let there: Vec<_> = table.newest(&key, None, 10).await.unwrap();
        let there: Vec<_> = there.into_iter().map(|entry| entry.post_id).collect();
        assert!(there.contains(&first.post_id) && there.contains(&last.post_id), "{key:?}: {there:?}");
        assert!(!there.contains(&huge.post_id));
    }
}

#[tokio::test]
async fn any_post_is_read_as_it_was_stored() {
    let table = PostsTable::new(&storage(&[("posts", true)]).await, "posts");
    let mut runner = TestRunner::default();
    let strategy = proptest::collection::vec(fixtures::any_post(), 200);
    let mut all = strategy.new_tree(&mut runner).unwrap().current();
    all.sort_by_key(|post| post.post_id);
    all.dedup_by_key(|post| post.post_id);
    for outcome in table.store(&all).await {
        outcome.unwrap();
    }
    let ids: Vec<_> = all.iter().map(|post| post.post_id).collect();
    let mut found = table.get(&ids).await.unwrap();
    found.sort_by_key(|post| post.post_id);
    assert_eq!(found, all);
}
