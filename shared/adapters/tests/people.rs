//! People, how they are found, and their images: over the adapters in memory, and counted over a DynamoDB in this process.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::{StreamExt as _, stream};
use proptest::prelude::*;
use storage::storage_of;
use tocsin_adapters::{
    dynamodb::{FriendshipsTable, PeopleTable, Requests, UsersTable},
    memory::{MemoryFriendships, MemoryHiddenCache, MemoryImages, MemoryPeople},
};
use tocsin_conformance::people::person;
use tocsin_domain::{
    Result,
    cursor::{Cursor, Limit},
    friendship::{Action, Friendship, FriendshipEditor, change},
    ids::{ImageId, UserId},
    mail::EmailAddress,
    person::{self, Profile, ProfileImageUrls, Profiles as _, ShownTo, Visibility},
    person_search::{EmailIndex, NameIndex as _, NamePlace, NameQuery, Search, Word},
    profile_image::{self, Accepted, ImageEditor as _, ImageStore, StoredImage},
    time,
};

fn images() -> ProfileImageUrls {
    ProfileImageUrls::new("https://images.example")
}

fn limit(number: usize) -> Limit {
    Limit::parse(&number.to_string()).unwrap()
}

async fn befriend(friendships: &impl FriendshipEditor, one: UserId, other: UserId) {
    change(friendships, one, other, Action::Request, time::now()).await.unwrap();
    change(friendships, other, one, Action::Accept, time::now()).await.unwrap();
}

/// A town of people in memory, and a search in it.
#[derive(Default)]
struct Town {
    people: MemoryPeople,
    friendships: MemoryFriendships,
    hidden: MemoryHiddenCache,
}

impl Town {
    fn add(&self, first_name: &str, last_name: &str) -> Profile {
        let profile = Profile {
            first_name: Some(first_name.to_owned()),
            last_name: Some(last_name.to_owned()),
            ..person("zz9")
        };
        self.people.add(&profile);
        profile
    }

    /// The people who are found, page by page; and how large each page was.
    async fn search(&self, me: UserId, text: &str, size: usize) -> (Vec<UserId>, Vec<usize>) {
        let images = images();
        let (names, profiles, friendships, hidden) =
            (&self.people, &self.people, &self.friendships, &self.hidden);
        let search = Search { names, profiles, friendships, hidden, images: &images };
        let query = NameQuery::parse(text).unwrap();
        let (mut found, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = search.by_name(me, &query, after, limit(size)).await.unwrap();
            sizes.push(page.items.len());
            found.extend(page.items.iter().map(|hit| hit.profile.user_id));
            let Some(cursor) = page.next_cursor else { return (found, sizes) };
            after = Some(Cursor::<NamePlace>::decode(&cursor, query.scope()).unwrap().0);
        }
    }
}

#[tokio::test]
async fn hits_say_what_people_are_to_the_caller() {
    let town = Town::default();
    let (me, ada, eve) = (town.add("Kari", "N"), town.add("Ada", "Åse"), town.add("Ada", "Eve"));
    let (friend, other) = (town.add("Friend", "N"), town.add("Other", "N"));
    befriend(&town.friendships, me.user_id, friend.user_id).await;
    befriend(&town.friendships, ada.user_id, friend.user_id).await;
    befriend(&town.friendships, ada.user_id, other.user_id).await;
    change(&town.friendships, ada.user_id, me.user_id, Action::Request, time::now()).await.unwrap();
    let urls = images();
    let search = Search {
        names: &town.people,
        profiles: &town.people,
        friendships: &town.friendships,
        hidden: &town.hidden,
        images: &urls,
    };
    let query = NameQuery::parse("ada as").unwrap();
    let page = search.by_name(me.user_id, &query, None, limit(10)).await.unwrap();
    let [hit] = &page.items[..] else { panic!("{page:?}") };
    assert_eq!(
        (hit.profile.user_id, hit.friendship, hit.mutual_friends),
        (ada.user_id, Friendship::Incoming, Some(1))
    );
    // Who does not show their friends does not tell how many are the caller's too.
    for (shown_to, to_stranger, to_friend) in [
        (ShownTo::Everyone, Some(0), Some(0)),
        (ShownTo::Friends, None, Some(0)),
        (ShownTo::Nobody, None, None),
    ] {
        let visibility = Visibility { friends: shown_to, ..Visibility::default() };
        let shy = Profile { visibility, first_name: Some("Shy".to_owned()), ..person("shy") };
        let query = NameQuery::parse("shy").unwrap();
        let people = MemoryPeople::default();
        people.add(&shy);
        let search = Search { names: &people, profiles: &people, ..search };
        let told = async || {
            search.by_name(me.user_id, &query, None, limit(10)).await.unwrap().items[0].mutual_friends
        };
        assert_eq!(told().await, to_stranger, "{shown_to:?}");
        befriend(&town.friendships, me.user_id, shy.user_id).await;
        assert_eq!(told().await, to_friend, "{shown_to:?}");
    }

    // A block hides them from each other, in either direction; and nobody finds themselves.
    for (who, by) in [(me.user_id, eve.user_id), (eve.user_id, me.user_id)] {
        assert!(town.search(who, "ada", 10).await.0.contains(&ada.user_id));
        change(&town.friendships, by, who, Action::Block, time::now()).await.unwrap();
        assert_eq!(town.search(me.user_id, "eve", 10).await.0, []);
        assert_eq!(town.search(eve.user_id, "kari", 10).await.0, []);
        change(&town.friendships, by, who, Action::Unblock, time::now()).await.unwrap();
    }
    assert_eq!(town.search(ada.user_id, "ada", 10).await.0, [eve.user_id]);
}

/// One person's address.
struct Addresses(EmailAddress, UserId);

impl EmailIndex for Addresses {
    async fn owner(&self, email: &EmailAddress) -> Result<Option<UserId>> {
        Ok((email.key() == self.0.key()).then_some(self.1))
    }
}

#[tokio::test]
async fn a_mail_address_finds_whom_it_is_shown_by() {
    let (town, urls) = (Town::default(), images());
    let ada = person("ada");
    let email = ada.email.clone().unwrap();
    let (me, friend) = (UserId::new(time::now()), UserId::new(time::now()));
    befriend(&town.friendships, friend, ada.user_id).await;
    let addresses = Addresses(email.clone(), ada.user_id);
    for (shown_to, to_friend, to_stranger) in
        [(ShownTo::Nobody, 0, 0), (ShownTo::Friends, 1, 0), (ShownTo::Everyone, 1, 1)]
    {
        let people = MemoryPeople::default();
        let mut ada = ada.clone();
        ada.visibility.email = shown_to;
        people.add(&ada);
        let (friendships, hidden) = (&town.friendships, &town.hidden);
        let search = Search { names: &people, profiles: &people, friendships, hidden, images: &urls };
        for (who, hits) in [(friend, to_friend), (me, to_stranger), (ada.user_id, 0)] {
            let page = search.by_email(&addresses, who, &email).await.unwrap();
            assert_eq!(page.items.len(), hits, "{shown_to:?}");
        }
        let nobody = "nobody@example.org".parse().unwrap();
        assert_eq!(search.by_email(&addresses, friend, &nobody).await.unwrap().items, []);
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// What is found by the index is what is found by looking at everybody, each once, however it is paged.
    #[test]
    fn a_search_finds_whom_looking_at_everybody_finds(
        names in prop::collection::vec(("[AÅabØo]{1,3}( [AÅaboO]{1,3}){0,2}", "[AÅabo]{1,3}"), 1..40),
        text in "[AÅabø]{2,3}( [abO]{1,2}){0,2}",
        size in 1usize..6,
    ) {
        let town = Town::default();
        let me = town.add("aa bb oo", "ab");
        let hidden = town.add("aa bb oo", "ab");
        wait(change(&town.friendships, hidden.user_id, me.user_id, Action::Block, time::now())).unwrap();
        let all: Vec<_> = names.iter().map(|(first, last)| town.add(first, last)).collect();
        let expected: BTreeSet<_> = all
            .iter()
            .filter(|profile| {
                let words = profile.words();
                Word::all_of(&text).iter().all(|part| words.iter().any(|word| word.begins_with(part)))
            })
            .map(|profile| profile.user_id)
            .collect();
        let (found, sizes) = wait(town.search(me.user_id, &text, size));
        prop_assert_eq!(found.len(), expected.len(), "each once");
        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        let (last, full) = sizes.split_last().unwrap();
        prop_assert!(full.iter().all(|page| *page == size) && *last <= size, "{:?}", sizes);
    }
}

/// A page whose work is at its bound ends, and the next one goes on.
#[tokio::test]
async fn a_page_is_a_bounded_amount_of_work() {
    let town = Town::default();
    let me = town.add("Me", "Me");
    // Far more entries of the lead than one page looks at, and whom is looked for last.
    for _ in 0..2_500 {
        town.add("Anna", "Berg");
    }
    let last = town.add("Anna", "Zorn");
    let (found, sizes) = town.search(me.user_id, "anna zo", 20).await;
    assert_eq!(found, [last.user_id]);
    assert_eq!(sizes, [0, 1], "2,000 entries are looked at for one page");
}

/// DynamoDB ends a page where it has a megabyte, whatever its limit.
#[tokio::test]
async fn who_stands_after_a_page_that_was_cut_is_found() {
    let client = storage_of(&[("people", &["pk", "sk"])]).await;
    let people = PeopleTable::new(&client, "people");
    let all: Vec<_> = (0..9).map(|i| person(&format!("zoe-{i}"))).collect();
    for profile in &all {
        assert!(people.add(profile).await.unwrap());
        let key = [
            ("pk", AttributeValue::S("name#zo".to_owned())),
            ("sk", AttributeValue::S(format!("zoe#{}", profile.user_id))),
        ];
        let padded = client.update_item().table_name("people").update_expression("SET padding = :padding");
        let padded = key.into_iter().fold(padded, |padded, (name, value)| padded.key(name, value));
        let padding = AttributeValue::S("x".repeat(300_000));
        let padded = padded.condition_expression("attribute_exists(pk)");
        padded.expression_attribute_values(":padding", padding).send().await.unwrap();
    }
    let query = NameQuery::parse("zo").unwrap();
    let first = people.beginning(query.lead(), None, 20).await.unwrap();
    assert!(first.more && first.entries.len() < all.len(), "it is cut: {}", first.entries.len());
    let (friendships, hidden, urls) = (MemoryFriendships::default(), MemoryHiddenCache::default(), images());
    let search = Search {
        names: &people,
        profiles: &people,
        friendships: &friendships,
        hidden: &hidden,
        images: &urls,
    };
    let page = search.by_name(UserId::new(time::now()), &query, None, limit(20)).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (all.len(), None));
}

fn jpeg() -> StoredImage {
    StoredImage { content_type: "image/jpeg".to_owned(), size: 100, beginning: b"\xFF\xD8\xFF\xE0".to_vec() }
}

#[tokio::test]
async fn the_newest_image_is_kept_in_whatever_order_they_come() {
    let (people, images) = (MemoryPeople::default(), MemoryImages::default());
    let ada = person("ada");
    people.add(&ada);
    let owner = ada.user_id;
    let mut ids: Vec<_> = (0..3).map(|_| ImageId::new(time::now())).collect();
    ids.sort_unstable();
    let image = async || people.get(&[owner]).await.unwrap()[0].image;
    let accept = async |image| profile_image::accept(&images, &people, owner, image).await.unwrap();

    images.upload(owner, ids[1], jpeg());
    assert_eq!(accept(ids[1]).await, Accepted::Taken);
    assert_eq!(accept(ids[1]).await, Accepted::Taken, "twice");
    images.upload(owner, ids[0], jpeg());
    assert_eq!(accept(ids[0]).await, Accepted::TooLate, "an older one does not come back");
    assert_eq!((image().await, images.of(owner).await.unwrap()), (Some(ids[1]), vec![ids[1]]));
    images.upload(owner, ids[2], jpeg());
    assert_eq!(accept(ids[2]).await, Accepted::Taken);
    assert_eq!((image().await, images.of(owner).await.unwrap()), (Some(ids[2]), vec![ids[2]]));
    assert_eq!(accept(ids[1]).await, Accepted::TooLate, "it is not there any more");

    // Cut off between the profile and the bucket: the next try ends it.
    images.upload(owner, ids[0], jpeg());
    assert_eq!(accept(ids[2]).await, Accepted::Taken);
    assert_eq!(images.of(owner).await.unwrap(), [ids[2]]);

    let lying = ImageId::new(time::now());
    images.upload(owner, lying, StoredImage { beginning: b"<html>".to_vec(), ..jpeg() });
    assert_eq!(accept(lying).await, Accepted::Refused);
    assert_eq!((image().await, images.of(owner).await.unwrap()), (Some(ids[2]), vec![ids[2]]));

    // What was allowed before, and is uploaded after, is the newest.
    profile_image::remove(&images, &people, owner, time::after(time::now(), 1)).await.unwrap();
    assert_eq!((image().await, images.of(owner).await.unwrap()), (None, vec![]));
    let nobody = UserId::new(time::now());
    images.upload(nobody, ids[0], jpeg());
    assert_eq!(profile_image::accept(&images, &people, nobody, ids[0]).await.unwrap(), Accepted::TooLate);
    assert_eq!(images.of(nobody).await.unwrap(), [], "who has left has no images");
}

#[tokio::test]
async fn a_form_that_is_posted_twice_leaves_no_image_that_is_not_there() {
    let (people, images) = (MemoryPeople::default(), MemoryImages::default());
    let ada = person("ada");
    people.add(&ada);
    let (owner, id) = (ada.user_id, ImageId::new(time::now()));
    let image = async || people.get(&[owner]).await.unwrap()[0].image;
    let accept = async || profile_image::accept(&images, &people, owner, id).await.unwrap();
    let rubbish = StoredImage { beginning: b"<html>".to_vec(), ..jpeg() };

    images.upload(owner, id, jpeg());
    assert_eq!((accept().await, image().await), (Accepted::Taken, Some(id)));
    images.upload(owner, id, rubbish.clone());
    assert_eq!((accept().await, image().await), (Accepted::Refused, None));
    assert_eq!(images.of(owner).await.unwrap(), []);

    // The good one is looked at, the other one is refused and removed, and then the good one is taken.
    images.upload(owner, id, jpeg());
    let vanishing = Vanishing { images: &images, by: &people, rubbish };
    let taken = profile_image::accept(&vanishing, &people, owner, id).await.unwrap();
    assert_eq!((taken, image().await), (Accepted::TooLate, None));

    // Cut off before it was seen to be gone: the next try ends it.
    assert!(people.set_image(&people.get(&[owner]).await.unwrap()[0], Some(id)).await.unwrap());
    assert_eq!((accept().await, image().await), (Accepted::TooLate, None));

    // Another image of theirs stays.
    let other = ImageId::new(time::after(time::now(), 1));
    images.upload(owner, other, jpeg());
    assert_eq!(profile_image::accept(&images, &people, owner, other).await.unwrap(), Accepted::Taken);
    images.upload(owner, id, StoredImage { size: profile_image::MOST_BYTES + 1, ..jpeg() });
    assert_eq!((accept().await, image().await), (Accepted::Refused, Some(other)));
}

/// A bucket where each image, once it has been looked at, is posted again as rubbish, and refused by somebody else.
struct Vanishing<'a> {
    images: &'a MemoryImages,
    by: &'a MemoryPeople,
    rubbish: StoredImage,
}

impl ImageStore for Vanishing<'_> {
    async fn look(&self, owner: UserId, image: ImageId) -> Result<Option<StoredImage>> {
        let seen = self.images.look(owner, image).await?;
        if seen.is_some() {
            self.images.upload(owner, image, self.rubbish.clone());
            let refused = profile_image::accept(self.images, self.by, owner, image).await?;
            assert_eq!(refused, Accepted::Refused);
        }
        Ok(seen)
    }

    async fn of(&self, owner: UserId) -> Result<Vec<ImageId>> {
        self.images.of(owner).await
    }

    async fn remove(&self, owner: UserId, image: ImageId) -> Result<()> {
        self.images.remove(owner, image).await
    }
}

/// How many requests DynamoDB gets for each read, in a town of so many people.
async fn requests_in_a_town_of(number: usize) -> Vec<(&'static str, usize)> {
    let client = storage_of(&[
        ("people", &["pk", "sk"]),
        ("users", &["pk"]),
        ("friendships", &["pk", "sk", "listed"]),
    ])
    .await;
    let (people, friendships) =
        (PeopleTable::new(&client, "people"), FriendshipsTable::new(&client, "friendships"));
    let all: Vec<_> = (0..number)
        .map(|i| Profile { first_name: Some("Ann".to_owned()), ..person(&format!("ann-{i}")) })
        .collect();
    let adds = stream::iter(&all).map(|profile| people.add(profile));
    assert!(adds.buffer_unordered(16).all(async |added| added.unwrap()).await);
    let me = all[0].user_id;
    for other in all.iter().skip(1).step_by(2).take(20) {
        befriend(&friendships, me, other.user_id).await;
    }
    for other in all.iter().skip(2).step_by(2).take(3) {
        change(&friendships, other.user_id, me, Action::Block, time::now()).await.unwrap();
    }

    let email = all[1].email.clone().unwrap();
    let marker =
        client.put_item().table_name("users").item("pk", AttributeValue::S(format!("email#{}", email.key())));
    marker.item("user_id", AttributeValue::S(all[1].user_id.to_string())).send().await.unwrap();

    let counted = Requests::default();
    let client = counted.of(&client);
    let (people, friendships, users) = (
        PeopleTable::new(&client, "people"),
        FriendshipsTable::new(&client, "friendships"),
        UsersTable::new(&client, "users"),
    );
    let (urls, hidden) = (images(), MemoryHiddenCache::default());
    let search = Search {
        names: &people,
        profiles: &people,
        friendships: &friendships,
        hidden: &hidden,
        images: &urls,
    };
    let ids: Vec<_> = all.iter().take(100).map(|profile| profile.user_id).collect();
    let mut requests = Vec::new();
    let mut note = |what| requests.push((what, counted.take()));
    person::existing(&people, me).await.unwrap();
    note("get-me");
    let shown = person::shown_to(&people, &friendships, &urls, me, &ids[1..2]).await.unwrap();
    assert_eq!(shown.len(), 1);
    note("get-user");
    let shown = person::shown_to(&people, &friendships, &urls, me, &ids).await.unwrap();
    assert_eq!(shown.len(), ids.len() - 3);
    note("list-users");
    let query = NameQuery::parse("ann").unwrap();
    let page = search.by_name(me, &query, None, limit(5)).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor.is_some()), (5, true));
    note("search-users by name");
    let query = NameQuery::parse("an ann").unwrap();
    assert_eq!(search.by_name(me, &query, None, limit(5)).await.unwrap().items.len(), 5);
    note("search-users by two words, with who is hidden at hand");
    assert_eq!(search.by_email(&users, me, &email).await.unwrap().items.len(), 0);
    note("search-users by email");
    requests
}

#[tokio::test]
async fn a_read_is_as_many_requests_in_a_large_town_as_in_a_small_one() {
    let small = requests_in_a_town_of(10).await;
    assert_eq!(
        small,
        [
            ("get-me", 1),
            ("get-user", 2),
            ("list-users", 2),
            // Who is hidden, a part of the index, and then the people, what they are to the caller, and two times circles.
            ("search-users by name", 6),
            ("search-users by two words, with who is hidden at hand", 5),
            ("search-users by email", 5),
        ]
    );
    assert_eq!(requests_in_a_town_of(1_000).await, small);
}
