//! Posts: stored, at hand, and the requests that they were.

use std::collections::BTreeSet;

use futures::future::{join, join_all};
use tocsin_domain::{
    area::Area,
    ids::PostId,
    place::Circle,
    place_index::{PlaceEntry, PlaceIndex, PlaceKey},
    post::{Post, Severity, Tags},
    post_edit::{Edit, FieldChange},
    post_log::Deletion,
    posts::{
        AtHand, CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey, PostCache, PostCacheEditor, PostEditor,
        PostStore, Posts, Stored,
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

/// What happens to a post later holds, whatever comes late: each field is as its latest edit has it, and what was deleted
/// stays so.
pub async fn changes(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let here = point(-48.0, f64::from(time::now().subsec_millisecond()) / 10.0);
    let created = Post { category: category("weather"), ..post_at(here) };
    let id = created.post_id;
    let at = |seconds| time::after(created.created_at, seconds);
    let (location, severity) = (point(-48.0, -120.0), Severity::Extreme);
    // More entries than DynamoDB writes at once.
    let apart = (0..9).map(|degree| Circle::new(point(-48.0 + f64::from(degree), -120.0), 50.0).unwrap());
    let area = FieldChange::Area(Some(Area::new(apart.collect(), Vec::new()).unwrap()));
    let moved = vec![FieldChange::Author(None), FieldChange::Location(Some(location)), area];
    let moved = Edit::new(&created, moved, at(60));
    let late = vec![FieldChange::Location(Some(point(-48.0, 100.0))), FieldChange::Severity(severity)];
    let late = Edit::new(&created, late, at(30));
    assert!(posts.edit(&moved).await.is_err(), "it is not there yet");
    assert_eq!(posts.store(std::slice::from_ref(&created)).await.pop().unwrap().unwrap(), Stored::New);
    let once = moved.applied_to(created.clone());
    let twice = Post { severity, revision: 2, ..once.clone() };
    for (edit, expected) in
        [(&moved, &once), (&moved, &once), (&late, &twice), (&moved, &twice), (&late, &twice)]
    {
        assert_eq!(posts.edit(edit).await.unwrap().as_ref(), Some(expected));
        let stored = posts.store(std::slice::from_ref(&created)).await.pop().unwrap();
        assert_eq!(stored.unwrap(), Stored::Already, "it was posted before");
        assert_eq!(posts.get(&[id]).await.unwrap(), std::slice::from_ref(expected));
    }
    assert!(PlaceKey::of(&twice).len() > 25);
    for key in PlaceKey::of(&twice) {
        let entry = entry_under(posts, &key, id).await;
        assert_eq!(entry, Some(PlaceEntry::of(&twice)), "{key:?}");
    }
    let left: Vec<_> =
        PlaceKey::of(&created).into_iter().filter(|key| !PlaceKey::of(&twice).contains(key)).collect();
    assert!(left.len() >= 3, "its author and its cells");
    for key in &left {
        assert_eq!(entry_under(posts, key, id).await, None, "{key:?}");
    }
    let deletion = Deletion { post_id: id, deleted_at: at(120) };
    for _ in 0..2 {
        posts.remove(&deletion).await.unwrap();
        assert_eq!(posts.get(&[id]).await.unwrap(), []);
        let stored = posts.store(std::slice::from_ref(&created)).await.pop().unwrap();
        assert_eq!(stored.unwrap(), Stored::Deleted, "nothing brings it back");
        for edit in [&late, &moved] {
            assert_eq!(posts.edit(edit).await.unwrap(), None);
        }
        for key in PlaceKey::of(&created).iter().chain(&PlaceKey::of(&twice)) {
            assert_eq!(entry_under(posts, key, id).await, None, "{key:?}");
        }
    }
    // One that comes before what it is about.
    let other = post_at(here);
    posts.remove(&Deletion { post_id: other.post_id, deleted_at: time::now() }).await.unwrap();
    assert_eq!(posts.store(&[other]).await.pop().unwrap().unwrap(), Stored::Deleted);
}

/// Of edits that come all at once, none is lost.
pub async fn edits_at_once(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let post = post_at(point(-49.0, 20.0));
    posts.store(std::slice::from_ref(&post)).await;
    let now = time::after(post.created_at, 1);
    let changes = [
        FieldChange::Title("Another".to_owned()),
        FieldChange::Severity(Severity::Minor),
        FieldChange::Location(Some(point(-49.0, 21.0))),
        FieldChange::Confirmations(7),
    ];
    let edits = changes.map(|change| Edit::new(&post, vec![change], now));
    for outcome in join_all(edits.iter().map(|edit| posts.edit(edit))).await {
        outcome.unwrap().unwrap();
    }
    let edited = posts.get(&[post.post_id]).await.unwrap().pop().unwrap();
    let expected = edits.iter().fold(post.clone(), |post, edit| edit.applied_to(post));
    assert_eq!(edited, expected);
    for key in PlaceKey::of(&post).iter().chain(&PlaceKey::of(&edited)) {
        let expected = PlaceKey::of(&edited).contains(key).then(|| PlaceEntry::of(&edited));
        assert_eq!(entry_under(posts, key, post.post_id).await, expected, "{key:?}");
    }
}

/// Whoever else is at the same edits, sooner or later: the entries end as those of the post.
pub async fn edits_by_several(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let (here, there) = (point(-49.5, 20.0), point(-49.5, 21.0));
    for _ in 0..10 {
        let post = post_at(here);
        posts.store(std::slice::from_ref(&post)).await;
        // There and back: what belongs to a form in between belongs to the last one, or to none.
        let edits: Vec<Edit> = (1..=6)
            .map(|number| {
                let location = if number % 2 == 0 { here } else { there };
                let severity = if number % 3 == 0 { Severity::Minor } else { Severity::Extreme };
                let changes = vec![FieldChange::Location(Some(location)), FieldChange::Severity(severity)];
                Edit::new(&post, changes, time::after(post.created_at, number))
            })
            .collect();
        let consumer = |_| async {
            for edit in &edits {
                posts.edit(edit).await.unwrap().unwrap();
                posts.store(std::slice::from_ref(&post)).await.pop().unwrap().unwrap();
            }
        };
        join_all((0..3).map(consumer)).await;
        let edited = posts.get(&[post.post_id]).await.unwrap().pop().unwrap();
        assert_eq!((edited.location, edited.severity, edited.revision), (Some(here), Severity::Minor, 6));
        let keys: BTreeSet<PlaceKey> =
            edits.iter().flat_map(|edit| PlaceKey::of(&edit.applied_to(post.clone()))).collect();
        for key in keys {
            let expected = PlaceKey::of(&edited).contains(&key).then(|| PlaceEntry::of(&edited));
            assert_eq!(entry_under(posts, &key, post.post_id).await, expected, "{key:?}");
        }
    }
}

/// An area may change and reach as far as before.
pub async fn edited_areas(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let circle = |lon: f64| {
        let circle = Circle::new(point(0.0, lon), 500.0).unwrap();
        Some(Area::new(vec![circle], Vec::new()).unwrap())
    };
    let post = Post { area: circle(0.2), ..post_at(point(0.0, 0.0)) };
    posts.store(std::slice::from_ref(&post)).await;
    let edit = Edit::new(&post, vec![FieldChange::Area(circle(-0.2))], time::after(post.created_at, 1));
    let edited = posts.edit(&edit).await.unwrap().unwrap();
    assert_eq!(PlaceEntry::of(&edited), PlaceEntry::of(&post), "as far as before");
    for key in PlaceKey::of(&post).union(&PlaceKey::of(&edited)) {
        let expected = PlaceKey::of(&edited).contains(key).then(|| PlaceEntry::of(&edited));
        assert_eq!(entry_under(posts, key, post.post_id).await, expected, "{key:?}");
    }
}

/// A post may be nowhere, and have as many tags as there can be: it stands under its category and its author alone.
pub async fn nowhere(posts: &(impl Posts + PostStore + PostEditor + PlaceIndex)) {
    let many = (0..Tags::MOST_OF_A_FEED).map(|code| format!("same:{code:06}").parse().unwrap());
    let somewhere = post_at(point(-46.0, 20.0));
    let link = Some("https://met.example.org/alerts/1".parse().unwrap());
    let alert =
        Post { location: None, tags: Tags::new(many), max_price: Some(20.5), link, ..somewhere.clone() };
    posts.store(std::slice::from_ref(&alert)).await.pop().unwrap().unwrap();
    let is_as = async |expected: &Post| {
        assert_eq!(posts.get(&[alert.post_id]).await.unwrap(), std::slice::from_ref(expected));
        for key in PlaceKey::of(&somewhere) {
            let entry = PlaceKey::of(expected).contains(&key).then(|| PlaceEntry::of(expected));
            assert_eq!(entry_under(posts, &key, alert.post_id).await, entry, "{key:?}");
        }
    };
    assert_eq!(PlaceKey::of(&alert).len(), 2);
    is_as(&alert).await;
    let mut stored = alert.clone();
    for (seconds, location) in [(1, somewhere.location), (2, None)] {
        let now = time::after(alert.created_at, seconds);
        let edit = Edit::new(&stored, vec![FieldChange::Location(location)], now);
        stored = posts.edit(&edit).await.unwrap().unwrap();
        assert_eq!(stored.location, location);
        is_as(&stored).await;
    }
}

async fn entry_under(posts: &impl PlaceIndex, key: &PlaceKey, id: PostId) -> Option<PlaceEntry> {
    posts.newest(key, None, 100).await.unwrap().into_iter().find(|entry| entry.post_id == id)
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

    let newer = Post { revision: kept.revision + 1, ..kept.clone() };
    for form in [&kept, &newer, &kept] {
        cache.replace(form).await.unwrap();
    }
    cache.put(std::slice::from_ref(&kept)).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&newer], &[]));
    // Of two forms that are foreseen the first stays, until the stored one comes.
    let (foreseen, stored) = (
        Post { title: "foreseen".to_owned(), ..newer.clone() },
        Post { title: "stored".to_owned(), ..newer.clone() },
    );
    cache.foresee(&foreseen).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&newer], &[]));
    for form in [&stored, &newer] {
        cache.replace(form).await.unwrap();
        cache.foresee(&foreseen).await.unwrap();
        assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[form], &[]));
    }
    cache.foresee(&other).await.unwrap();
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&other, &newer], &[]));

    // Of forms that come all at once, the newest stays; and none comes back to what is deleted meanwhile.
    let forms: Vec<_> = (2..40).rev().map(|revision| Post { revision, ..kept.clone() }).collect();
    for outcome in join_all(forms.iter().map(|form| cache.replace(form))).await {
        outcome.unwrap();
    }
    assert_eq!(cache.get(&ids).await.unwrap(), at_hand(&[&other, &forms[0]], &[]));
    let later: Vec<_> = (40..60).map(|revision| Post { revision, ..kept.clone() }).collect();
    let (removed, replaced) =
        join(cache.remove(kept.post_id), join_all(later.iter().map(|form| cache.replace(form)))).await;
    removed.unwrap();
    for outcome in replaced {
        outcome.unwrap();
    }
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
