//! What is done with subscriptions: made, changed, and ended.
//!
//! What a timeline was built from changes with them, so it is forgotten after each change, and rebuilt when it is next
//! read. That is done as well as can be: where the cache cannot be reached, the change stands, and who reads the timeline
//! notices within some minutes ([`crate::timeline::TRUSTED_SECONDS`]).

use crate::{
    Error, Refusal, Result,
    audience::keys_of,
    category::{self, Categories},
    ids::{SubscriptionId, UserId},
    subscription::{Subscription, SubscriptionEditor, Wish, WishPatch},
    time::Timestamp,
    timeline::TimelineEraser,
};

/// How often a change is tried again that another one came in the way of.
const ROUNDS: usize = 5;

/// Makes a subscription.
pub async fn create(
    categories: &impl Categories,
    editor: &impl SubscriptionEditor,
    timelines: &impl TimelineEraser,
    owner: UserId,
    wish: Wish,
    now: Timestamp,
) -> Result<Subscription> {
    category::must_exist(categories, &wish.category, "/category").await?;
    let subscription =
        Subscription { subscription_id: SubscriptionId::new(now), wish, created_at: now, updated_at: now };
    editor.add(owner, &subscription, &keys_of(&subscription.wish)).await?;
    forget(timelines, owner).await;
    Ok(subscription)
}

/// Changes a subscription of its owner.
pub async fn update(
    categories: &impl Categories,
    editor: &impl SubscriptionEditor,
    timelines: &impl TimelineEraser,
    owner: UserId,
    id: SubscriptionId,
    patch: &WishPatch,
    now: Timestamp,
) -> Result<Subscription> {
    if let Some(category) = patch.category() {
        category::must_exist(categories, category, "/category").await?;
    }
    for _ in 0..ROUNDS {
        let old = editor.get(owner, id).await?.ok_or_else(not_found)?;
        let wish = patch.clone().apply(old.wish.clone());
        if wish == old.wish {
            return Ok(old);
        }
        let new = Subscription { wish, updated_at: now, ..old.clone() };
        let (old_keys, new_keys) = (keys_of(&old.wish), keys_of(&new.wish));
        if editor.replace(owner, (&old, &old_keys), (&new, &new_keys)).await? {
            forget(timelines, owner).await;
            return Ok(new);
        }
    }
    Err(contended())
}

/// Ends a subscription of its owner.
pub async fn end(
    editor: &impl SubscriptionEditor,
    timelines: &impl TimelineEraser,
    owner: UserId,
    id: SubscriptionId,
) -> Result<()> {
    for _ in 0..ROUNDS {
        let old = editor.get(owner, id).await?.ok_or_else(not_found)?;
        if editor.remove(owner, (&old, &keys_of(&old.wish))).await? {
            forget(timelines, owner).await;
            return Ok(());
        }
    }
    Err(contended())
}

async fn forget(timelines: &impl TimelineEraser, owner: UserId) {
    if let Err(error) = timelines.forget(owner).await {
        tracing::warn!(cache_unavailable = true, %error, user_id = %owner, "a timeline was not forgotten: for some minutes it is as it was");
    }
}

fn not_found() -> Refusal {
    Refusal::not_found("subscription")
}

fn contended() -> Error {
    Error::unavailable("subscriptions", "a subscription is changed by many at once")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::{
        audience::AudienceKey,
        category::{Category, CategoryName},
        error::Kind,
        time,
    };

    /// One subscription's storage, where this many other changes come in the way first; and a cache that is away.
    struct Town {
        stored: Mutex<Option<Subscription>>,
        in_the_way: Mutex<usize>,
    }

    type Keyed<'s, 'k> = (&'s Subscription, &'k [AudienceKey]);

    impl Town {
        fn of(stored: Option<Subscription>, in_the_way: usize) -> Self {
            Self { stored: Mutex::new(stored), in_the_way: Mutex::new(in_the_way) }
        }

        fn put(&self, (old, keys): Keyed<'_, '_>, new: Option<Subscription>) -> bool {
            assert_eq!(keys, keys_of(&old.wish));
            let mut in_the_way = self.in_the_way.lock().unwrap();
            let mut stored = self.stored.lock().unwrap();
            if *in_the_way > 0 {
                *in_the_way -= 1;
                return false;
            }
            let is_stored = stored.as_ref() == Some(old);
            if is_stored {
                *stored = new;
            }
            is_stored
        }
    }

    impl Categories for Town {
        async fn all(&self) -> Result<Vec<Category>> {
            Ok(category::initial())
        }

        async fn has(&self, name: &CategoryName) -> Result<bool> {
            Ok(category::initial().iter().any(|known| known.category == *name))
        }
    }

    impl TimelineEraser for Town {
        async fn forget(&self, _: UserId) -> Result<()> {
            Err(Error::unavailable("timelines", "away"))
        }
    }

    impl SubscriptionEditor for Town {
        async fn add(&self, _: UserId, subscription: &Subscription, keys: &[AudienceKey]) -> Result<()> {
            assert_eq!(keys, keys_of(&subscription.wish));
            *self.stored.lock().unwrap() = Some(subscription.clone());
            Ok(())
        }

        async fn get(&self, _: UserId, _: SubscriptionId) -> Result<Option<Subscription>> {
            Ok(self.stored.lock().unwrap().clone())
        }

        async fn replace(&self, _: UserId, old: Keyed<'_, '_>, new: Keyed<'_, '_>) -> Result<bool> {
            assert_eq!(new.1, keys_of(&new.0.wish));
            Ok(self.put(old, Some(new.0.clone())))
        }

        async fn remove(&self, _: UserId, old: Keyed<'_, '_>) -> Result<bool> {
            Ok(self.put(old, None))
        }

        async fn forget_count(&self, _: UserId) -> Result<()> {
            Ok(())
        }
    }

    fn wish(category: &str) -> Wish {
        Wish::from_json(&json!({"category": category})).unwrap()
    }

    fn subscription() -> Subscription {
        let now = time::now();
        let subscription_id = SubscriptionId::new(now);
        Subscription { subscription_id, wish: wish("fire"), created_at: now, updated_at: now }
    }

    fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> Option<Kind> {
        match outcome.unwrap_err() {
            Error::Refused(refusal) => Some(refusal.kind),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_subscription_stands_also_where_the_cache_is_away() {
        let (town, owner, now) = (Town::of(None, 0), UserId::new(time::now()), time::now());
        assert_eq!(kind(create(&town, &town, &town, owner, wish("volcano"), now).await), Some(Kind::Invalid));
        let made = create(&town, &town, &town, owner, wish("fire"), now).await.unwrap();
        assert_eq!(town.stored.lock().unwrap().as_ref(), Some(&made));
    }

    #[tokio::test]
    async fn a_change_is_tried_again_when_another_came_in_its_way() {
        let (old, owner) = (subscription(), UserId::new(time::now()));
        let (id, patch) = (old.subscription_id, WishPatch::from_json(&json!({"push": false})).unwrap());
        let town = Town::of(Some(old.clone()), 2);
        let later = time::after(old.created_at, 60);
        let new = update(&town, &town, &town, owner, id, &patch, later).await.unwrap();
        assert_eq!((new.wish.push, new.created_at, new.updated_at), (false, old.created_at, later));
        let town = Town::of(Some(old.clone()), usize::MAX);
        assert_eq!(kind(update(&town, &town, &town, owner, id, &patch, later).await), None);
        // What changes nothing is not written.
        assert_eq!(update(&town, &town, &town, owner, id, &WishPatch::default(), later).await.unwrap(), old);
    }

    #[tokio::test]
    async fn what_has_ended_is_not_found() {
        let (old, owner) = (subscription(), UserId::new(time::now()));
        let town = Town::of(Some(old.clone()), 1);
        end(&town, &town, owner, old.subscription_id).await.unwrap();
        assert_eq!(kind(end(&town, &town, owner, old.subscription_id).await), Some(Kind::NotFound));
        let patch = WishPatch::default();
        assert_eq!(
            kind(update(&town, &town, &town, owner, old.subscription_id, &patch, time::now()).await),
            Some(Kind::NotFound)
        );
    }
}
