//! Posts: stored, at hand, and the requests that they were.

use std::collections::BTreeSet;

use tocsin_domain::{
    ids::PostId,
    post::Post,
    posts::{
        CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey, PlaceEntry, PlaceIndex, PlaceKey, PostCache,
        PostStore, Posts, Stored,
    },
    time,
};

use crate::fixtures::{category, point, post, post_at, user};

/// Posts are stored once, and found by id and under each of their places, the newest first.
pub async fn posts(posts: &(impl Posts + PostStore + PlaceIndex)) {
    // Somewhere in the sea, where no other test's posts are.
    let here = point(-47.0, f64::from(time::now().subsec_millisecond()) / 10.0);
    let mut all: Vec<Post> =
        (0..60).map(|_| Post { category: category("weather"), ..post_at(here) }).collect();
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

/// A post is at hand as it was first kept.
pub async fn cache(cache: &impl PostCache) {
    let (kept, other) = (post(), post());
    cache.put(std::slice::from_ref(&kept)).await.unwrap();
    cache.put(&[Post { title: "another".to_owned(), ..kept.clone() }]).await.unwrap();
    cache.put(&[]).await.unwrap();
    assert_eq!(cache.get(&[other.post_id, kept.post_id]).await.unwrap(), [kept]);
    assert_eq!(cache.get(&[]).await.unwrap(), []);
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
