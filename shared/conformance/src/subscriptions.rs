//! Subscriptions with their audience, and categories.

use tocsin_domain::{
    Error,
    audience::{Audience, AudienceEntry, AudienceKey, COARSEST, Lookup},
    category::{Categories, Category, CategoryEditor},
    ids::SubscriptionId,
    large_audience::{LargeKey, LargeKeys, REMEMBERED_SECONDS},
    place::Circle,
    post::Post,
    subscription::{MOST_SUBSCRIPTIONS, Subscription, SubscriptionEditor, Subscriptions, TagMatch, Wish},
    time,
};

use crate::fixtures::{audience_of, category, keys, point, post, subscription, tags, user, wish};

async fn under(audience: &impl Audience, key: &AudienceKey, inside: bool) -> Vec<AudienceEntry> {
    let (mut all, mut from) = (Vec::new(), None);
    let lookup = Lookup { key: key.clone(), inside };
    loop {
        let (entries, next) = audience.entries(&lookup, from, 4).await.unwrap();
        assert!(entries.iter().all(|entry| lookup.has(&entry.key)));
        all.extend(entries);
        from = next;
        if from.is_none() {
            return all;
        }
    }
}

/// A subscription is its owner's, and in the audience exactly as long as it is there, as it is now.
pub async fn subscriptions(subscriptions: &(impl Subscriptions + SubscriptionEditor + Audience + LargeKeys)) {
    // A category of this run alone, so that no other test's subscriptions are in the way.
    let name = format!("c{}", time::now().as_millisecond());
    let (owner, other) = (user(), user());
    let harbour = Circle::new(point(60.3991, 5.3206), 800.0).unwrap();
    let near = Wish { area: Some(harbour), tags: tags(&["smoke", "tunnel"]), ..wish(&name) };
    let everywhere = wish(&name);
    let happening = Post { category: category(&name), ..post() };
    let told = async || audience_of(subscriptions, &happening).await;

    let (first, second) = (subscription(near), subscription(everywhere.clone()));
    subscriptions.add(owner, &first, &keys(&first)).await.unwrap();
    subscriptions.add(owner, &second, &keys(&second)).await.unwrap();
    let again = subscriptions.add(owner, &first, &keys(&first)).await;
    assert!(again.is_err(), "an id is new");
    assert_eq!(subscriptions.get(owner, first.subscription_id).await.unwrap().as_ref(), Some(&first));
    assert_eq!(
        subscriptions.get(other, first.subscription_id).await.unwrap(),
        None,
        "it is its owner's alone"
    );
    assert_eq!(subscriptions.get(owner, SubscriptionId::new(time::now())).await.unwrap(), None);
    let mut newest_first = vec![first.clone(), second.clone()];
    newest_first.sort_by_key(|subscription| std::cmp::Reverse(subscription.subscription_id));
    assert_eq!(subscriptions.of(owner).await.unwrap(), newest_first);
    assert_eq!(subscriptions.of(other).await.unwrap(), []);
    let [recipient] = told().await[..] else { panic!("a user counts once") };
    assert_eq!(recipient.user_id, owner);

    // Changed: other keys, and other content under the same keys.
    let strict = Wish { tag_match: TagMatch::All, push: false, ..first.wish.clone() };
    let changed = Subscription { wish: strict, ..first.clone() };
    let (old, new) = (keys(&first), keys(&changed));
    assert!(subscriptions.replace(owner, (&first, &old), (&changed, &new)).await.unwrap());
    assert!(
        !subscriptions.replace(owner, (&first, &old), (&changed, &new)).await.unwrap(),
        "it is not there any more"
    );
    assert!(
        !subscriptions.replace(other, (&changed, &new), (&first, &old)).await.unwrap(),
        "it is not theirs"
    );
    assert_eq!(subscriptions.get(owner, first.subscription_id).await.unwrap().as_ref(), Some(&changed));
    for key in &old {
        let there: Vec<_> =
            under(subscriptions, key, false).await.into_iter().map(|entry| entry.subscription).collect();
        let expected: &[Subscription] = if new.contains(key) { std::slice::from_ref(&changed) } else { &[] };
        assert_eq!(there, expected, "under {key:?}");
    }

    // Inside a cell are all that stand in a finer one, under the keys that they were added with.
    for key in &new {
        let cell = key.cell.as_ref().unwrap();
        for resolution in COARSEST..=cell.resolution() {
            let around = AudienceKey { cell: Some(cell.ancestor(resolution)), ..key.clone() };
            let inside = under(subscriptions, &around, true).await;
            assert!(inside.iter().any(|entry| entry.key == *key && entry.subscription == changed));
            let is_there = under(subscriptions, &around, false).await.iter().any(|entry| entry.key == *key);
            assert_eq!(is_there, around == *key);
        }
    }

    assert!(!subscriptions.remove(owner, (&first, &old)).await.unwrap(), "it has changed");
    assert!(!subscriptions.remove(other, (&second, &keys(&second))).await.unwrap(), "it is not theirs");
    assert!(subscriptions.remove(owner, (&second, &keys(&second))).await.unwrap());
    assert!(!subscriptions.remove(owner, (&second, &keys(&second))).await.unwrap());
    assert_eq!(told().await, [], "a post without a tunnel does not match, and the other is gone");
    assert_eq!(subscriptions.of(owner).await.unwrap(), [changed]);

    // Several pages under one key.
    let crowd: Vec<_> = (0..10).map(|_| (user(), subscription(everywhere.clone()))).collect();
    for (fan, subscription) in &crowd {
        subscriptions.add(*fan, subscription, &keys(subscription)).await.unwrap();
    }
    let mut fans: Vec<_> = crowd.iter().map(|(fan, _)| *fan).collect();
    fans.sort();
    assert_eq!(told().await.into_iter().map(|recipient| recipient.user_id).collect::<Vec<_>>(), fans);

    // Only so many, and after one is gone, one more.
    let collector = user();
    let mut all = Vec::new();
    for _ in 0..MOST_SUBSCRIPTIONS {
        let one = subscription(wish("hoard"));
        subscriptions.add(collector, &one, &keys(&one)).await.unwrap();
        all.push(one);
    }
    let one_more = subscription(wish("hoard"));
    let refused = subscriptions.add(collector, &one_more, &keys(&one_more)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(refusal) if refusal.code == "too_many_subscriptions"),
        "{refused}"
    );
    assert!(subscriptions.remove(collector, (&all[0], &keys(&all[0]))).await.unwrap());
    subscriptions.add(collector, &one_more, &keys(&one_more)).await.unwrap();
    assert_eq!(subscriptions.of(collector).await.unwrap().len(), MOST_SUBSCRIPTIONS);
    // How many there are is forgotten of nobody who has some; of who has none it is, also where nobody knows it.
    subscriptions.forget_count(collector).await.unwrap();
    let another = subscription(wish("hoard"));
    assert!(subscriptions.add(collector, &another, &keys(&another)).await.is_err());
    for one in subscriptions.of(collector).await.unwrap() {
        assert!(subscriptions.remove(collector, (&one, &keys(&one))).await.unwrap());
    }
    for _ in 0..2 {
        subscriptions.forget_count(collector).await.unwrap();
    }
    subscriptions.add(collector, &another, &keys(&another)).await.unwrap();
    assert_eq!(subscriptions.of(collector).await.unwrap(), [another]);
}

/// A key that was seen to be large is remembered, since the first time. `fresh` is over the same storage, and has read
/// nothing yet.
pub async fn large_keys(large: &impl LargeKeys, fresh: &impl LargeKeys) {
    let key: AudienceKey = format!("c{}#smoke#0142", time::now().as_millisecond()).parse().unwrap();
    let first = time::parse("2026-11-20T18:00:00Z").unwrap();
    let later = time::after(first, 24 * 60 * 60);
    large.remember(&key, first).await.unwrap();
    large.remember(&key, later).await.unwrap();
    let all = fresh.all().await.unwrap();
    let found: Vec<_> = all.iter().filter(|one| one.key == key).collect();
    let expected = LargeKey { key: key.clone(), since: first, until: time::after(later, REMEMBERED_SECONDS) };
    assert_eq!(found, [&expected]);
}

/// A category that is put is in the list, once.
pub async fn categories(categories: &(impl Categories + CategoryEditor)) {
    let one = |title: &str| Category {
        category: category("avalanche"),
        title: title.to_owned(),
        description: String::new(),
    };
    assert!(!categories.has(&category("avalanche")).await.unwrap());
    categories.put(&one("Snow")).await.unwrap();
    assert!(categories.has(&category("avalanche")).await.unwrap());
    categories.put(&one("Avalanches")).await.unwrap();
    let all = categories.all().await.unwrap();
    let there: Vec<_> = all.iter().filter(|known| known.category.as_str() == "avalanche").collect();
    assert_eq!(there, [&one("Avalanches")]);
    assert!(all.is_sorted_by(|a, b| a.category < b.category));
    assert_eq!(categories.all().await.unwrap(), all);
}
