//! Posts: stored, at hand, and the requests that they were.

use std::collections::BTreeSet;

use tocsin_domain::{
    ids::PostId,
    post::Post,
    post_log::Deletion,
    posts::{
        AtHand, CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey, PlaceEntry, PlaceIndex, PlaceKey,
        PostCache, PostCacheEditor, PostEditor, PostStore, Posts, Stored,
    },
    time,
};

use crate::fixtures::{category, point, post, post_at, user};

/// Posts are stored once, and found by id and under each of their places, the newest first.
pub async fn posts(posts: &(impl Posts + PostStore + PlaceIndex)) {
    // Somewhere in the sea, where no other test's posts are.
    let here = point(-47.0, f64::from(time::now().subsec_millisecond()) / 10.0);
    let author = post().author;
    let one = |_| Post { category: category("weather"), author: author.clone(), ..post_at(here) };
    let mut all: Vec<Post> = (0..60).map(one).collect();
    all.sort_by_key(|post| post.post_id);
    for outcome in posts.store(&all[..40]).await {
        assert_eq!(outcome.unwrap(), Stored::New);
    }
    let again = posts.store(&all).await;
    let stored: Vec<_> = again.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored[..40], [Stored::Already; 40], "storing a post again changes nothing");
    assert_eq!(stored[40..], [Stored::New; 20]);
    let changed = Post { title: "another".to_owned(), ..all[0].clone() };
    assert_eq!(posts.store(&[changed]).await.pop().unwrap().unwrap(), Stored::Already);

    let mut ids: Vec<PostId> = all.iter().map(|post| post.post_id).collect();
    ids.extend([PostId::new(time::now()), all[0].post_id]);
    let mut found = posts.get(&ids).await.unwrap();
    found.sort_by_key(|post| post.post_id);
    assert_eq!(found, all, "each is there once, and as it was first stored");
    assert_eq!(posts.get(&[]).await.unwrap(), []);

    for key in PlaceKey::of(&all[0]) {
        let mut read = Vec::new();
        while let page =
            posts.newest(&key, read.last().map(|entry: &PlaceEntry| entry.post_id), 7).await.unwrap()
            && !page.is_empty()
        {
            assert!(page.len() <= 7);
            read.extend(page);
        }
        assert!(read.is_sorted_by(|a, b| a.post_id > b.post_id), "the newest are first under {key:?}");
        let ours: BTreeSet<PostId> = all.iter().map(|post| post.post_id).collect();
        read.retain(|entry| ours.contains(&entry.post_id));
        let expected: Vec<_> = all.iter().rev().map(PlaceEntry::of).collect();
        assert_eq!(read, expected, "under {key:?}");
    }
    let elsewhere = PlaceKey::Cell(point(-47.0, -120.0).cell(7));
    assert_eq!(posts.newest(&elsewhere, None, 10).await.unwrap(), []);
}

/// What happens to a post later holds, whatever comes late: an older form changes nothing, and what was deleted stays so.
pub async fn changes(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let here = point(-48.0, f64::from(time::now().subsec_millisecond()) / 10.0);
    let created = Post { category: category("weather"), ..post_at(here) };
    let id = created.post_id;
    let moved = Post {
        author: None,
        location: point(-48.0, -120.0),
        updated_at: time::after(created.created_at, 60),
        ..created.clone()
    };
    assert_eq!(posts.store(std::slice::from_ref(&created)).await.pop().unwrap().unwrap(), Stored::New);
    assert_eq!(posts.update(&moved).await.unwrap(), Stored::New);
    for late in [&created, &moved] {
        assert_eq!(posts.update(late).await.unwrap(), Stored::Already, "an older form changes nothing");
        assert_eq!(posts.store(std::slice::from_ref(late)).await.pop().unwrap().unwrap(), Stored::Already);
        assert_eq!(posts.get(&[id]).await.unwrap(), std::slice::from_ref(&moved));
    }
    for key in PlaceKey::of(&moved) {
        assert!(stands_under(posts, &key, id).await, "{key:?}");
    }
    let left: Vec<_> =
        PlaceKey::of(&created).into_iter().filter(|key| !PlaceKey::of(&moved).contains(key)).collect();
    assert!(left.len() >= 3, "its author and its cells");
    for key in &left {
        assert!(!stands_under(posts, key, id).await, "{key:?}");
    }
    let deletion = Deletion { post_id: id, deleted_at: time::after(created.created_at, 120) };
    for _ in 0..2 {
        posts.remove(&deletion).await.unwrap();
        assert_eq!(posts.get(&[id]).await.unwrap(), []);
        for form in [&created, &moved] {
            let stored = posts.store(std::slice::from_ref(form)).await.pop().unwrap();
            assert_eq!(stored.unwrap(), Stored::Deleted, "nothing brings it back");
            assert_eq!(posts.update(form).await.unwrap(), Stored::Deleted);
            for key in PlaceKey::of(form) {
                assert!(!stands_under(posts, &key, id).await, "{key:?}");
            }
        }
    }
    // One that comes before what it is about, and one without.
    let other = post_at(here);
    posts.remove(&Deletion { post_id: other.post_id, deleted_at: time::now() }).await.unwrap();
    assert_eq!(posts.store(&[other]).await.pop().unwrap().unwrap(), Stored::Deleted);
    let unknown = post_at(here);
    assert_eq!(posts.update(&unknown).await.unwrap(), Stored::New);
    assert_eq!(posts.get(&[unknown.post_id]).await.unwrap(), [unknown]);
}

async fn stands_under(posts: &impl PlaceIndex, key: &PlaceKey, id: PostId) -> bool {
    posts.newest(key, None, 100).await.unwrap().iter().any(|entry| entry.post_id == id)
}

/// A post is at hand as it was first kept, until it is replaced by a newer form; and one that was deleted stays so.
pub async fn cache(cache: &(impl PostCache + PostCacheEditor)) {
    let (kept, other) = (post(), post());
    let at_hand = |posts: &[&Post], deleted: &[&Post]| AtHand {
        posts: posts.iter().copied().cloned().collect(),
        deleted: deleted.iter().map(|post| post.post_id).collect(),
    };
    cache.put(std::slice::from_ref(&kept)).await.unwrap();
    cache.put(&[Post { title: "another".to_owned(), ..kept.clone() }]).await.unwrap();
    cache.put(&[]).await.unwrap();
    let ids = [other.post_id, kept.post_id];
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&kept], &[]));
    assert_eq!(cache.get(&[]).await.unwrap(), AtHand::default());

    let newer = Post { updated_at: time::after(kept.updated_at, 60), ..kept.clone() };
    for form in [&kept, &newer, &kept] {
        cache.replace(form).await.unwrap();
    }
    cache.put(std::slice::from_ref(&kept)).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&newer], &[]));
    cache.replace(&other).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&other, &newer], &[]));

    cache.remove(kept.post_id).await.unwrap();
    cache.put(std::slice::from_ref(&newer)).await.unwrap();
    cache.replace(&newer).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&other], &[&kept]));
}

/// A key is the first request's that came with it, for a day, and only its user's.
pub async fn idempotency(idempotency: &impl Idempotency) {
    let now = time::now();
    let claim = |fingerprint: &str| Claim { post_id: PostId::new(now), fingerprint: fingerprint.to_owned() };
    let (owner, key) = (user(), IdempotencyKey::parse("a#b c".replace(' ', "/").as_str()).unwrap());
    let (first, second) = (claim("1"), claim("2"));
    assert_eq!(idempotency.claim(owner, &key, &first, now).await.unwrap(), first);
    assert_eq!(idempotency.claim(owner, &key, &second, now).await.unwrap(), first);
    assert_eq!(
        idempotency.claim(user(), &key, &second, now).await.unwrap(),
        second,
        "keys are each user's own"
    );
    let later = time::after(now, CLAIM_SECONDS + 1);
    assert_eq!(
        idempotency.claim(owner, &key, &second, later).await.unwrap(),
        second,
        "a claim lasts for a day"
    );
}
