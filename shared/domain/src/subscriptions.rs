//! What is done with subscriptions: made, changed, and ended.
//!
//! What a timeline was built from changes with them, so it is forgotten after each change, and rebuilt when it is next
//! read. That is done as well as can be: where the cache cannot be reached, the change stands. New posts then still go
//! to the right people, since an audience is not found by the cache; only what came before stays as it was, in a timeline
//! that outlives the failure.

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
    let subscription = Subscription { subscription_id: SubscriptionId::new(now), wish, created_at: now };
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
) -> Result<Subscription> {
    if let Some(category) = patch.category() {
        category::must_exist(categories, category, "/category").await?;
    }
    for _ in 0..ROUNDS {
        let old = editor.get(owner, id).await?.ok_or_else(not_found)?;
        let new = Subscription { wish: patch.clone().apply(old.wish.clone()), ..old.clone() };
        if new == old {
            return Ok(old);
        }
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
        tracing::warn!(%error, user_id = %owner, "a timeline was not forgotten: what came before stays as it was");
    }
}

fn not_found() -> Refusal {
    Refusal::not_found("subscription")
}

fn contended() -> Error {
    Error::unavailable("subscriptions", "a subscription is changed by many at once")
}
