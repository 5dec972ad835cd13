//! Subscriptions with their audience, and categories.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tocsin_domain::{
    Error, Result,
    audience::{Audience, AudienceEntry, AudienceKey, Lookup, Position},
    category::{Categories, Category, CategoryEditor, CategoryName},
    ids::{SubscriptionId, UserId},
    large_audience::{LargeKey, LargeKeys, REMEMBERED_SECONDS},
    subscription::{self, MOST_SUBSCRIPTIONS, Subscription, SubscriptionEditor, Subscriptions},
    time::{self, Timestamp},
};

use super::Shared;

/// Subscriptions, by user and by the posts that they match.
#[derive(Clone, Debug, Default)]
pub struct MemorySubscriptions {
    tables: Shared<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    subscriptions: BTreeMap<(UserId, SubscriptionId), Subscription>,
    audience: BTreeMap<AudienceKey, BTreeSet<(UserId, SubscriptionId)>>,
    large: BTreeMap<AudienceKey, LargeKey>,
}

/// Small, so that tests meet several pages.
const ENTRIES_PER_PAGE: usize = 3;

impl Tables {
    fn index(&mut self, owner: UserId, id: SubscriptionId, keys: &[AudienceKey]) {
        for key in keys {
            self.audience.entry(key.clone()).or_default().insert((owner, id));
        }
    }

    fn unindex(&mut self, owner: UserId, id: SubscriptionId, keys: &[AudienceKey]) {
        for key in keys {
            self.audience.entry(key.clone()).or_default().remove(&(owner, id));
        }
    }
}

impl Subscriptions for MemorySubscriptions {
    async fn of(&self, owner: UserId) -> Result<Vec<Subscription>> {
        let tables = self.tables.lock();
        let mine = tables.subscriptions.iter().rev().filter(|((user, _), _)| *user == owner);
        Ok(mine.map(|(_, subscription)| subscription.clone()).collect())
    }
}

impl SubscriptionEditor for MemorySubscriptions {
    async fn add(&self, owner: UserId, subscription: &Subscription, keys: &[AudienceKey]) -> Result<()> {
        let mut tables = self.tables.lock();
        let id = subscription.subscription_id;
        if tables.subscriptions.keys().filter(|(user, _)| *user == owner).count() >= MOST_SUBSCRIPTIONS {
            return Err(subscription::too_many().into());
        }
        if tables.subscriptions.contains_key(&(owner, id)) {
            return Err(Error::unavailable("subscriptions", "the new id is not new"));
        }
        tables.subscriptions.insert((owner, id), subscription.clone());
        tables.index(owner, id, keys);
        Ok(())
    }

    async fn get(&self, owner: UserId, id: SubscriptionId) -> Result<Option<Subscription>> {
        Ok(self.tables.lock().subscriptions.get(&(owner, id)).cloned())
    }

    async fn replace(
        &self,
        owner: UserId,
        (old, old_keys): (&Subscription, &[AudienceKey]),
        (new, new_keys): (&Subscription, &[AudienceKey]),
    ) -> Result<bool> {
        let mut tables = self.tables.lock();
        let id = new.subscription_id;
        if tables.subscriptions.get(&(owner, id)) != Some(old) {
            return Ok(false);
        }
        tables.subscriptions.insert((owner, id), new.clone());
        tables.unindex(owner, id, old_keys);
        tables.index(owner, id, new_keys);
        Ok(true)
    }

    async fn remove(&self, owner: UserId, (old, keys): (&Subscription, &[AudienceKey])) -> Result<bool> {
        let mut tables = self.tables.lock();
        let id = old.subscription_id;
        if tables.subscriptions.get(&(owner, id)) != Some(old) {
            return Ok(false);
        }
        tables.subscriptions.remove(&(owner, id));
        tables.unindex(owner, id, keys);
        Ok(true)
    }

    /// Here they are counted when that is asked for.
    async fn forget_count(&self, _: UserId) -> Result<()> {
        Ok(())
    }
}

impl Audience for MemorySubscriptions {
    async fn entries(
        &self,
        lookup: &Lookup,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<AudienceEntry>, Option<Position>)> {
        let limit = limit.min(ENTRIES_PER_PAGE);
        let tables = self.tables.lock();
        let from = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let keys = tables.audience.iter().filter(|(key, _)| lookup.has(key));
        let ids = keys.flat_map(|(key, ids)| ids.iter().map(move |id| (key.clone(), *id)));
        let ids: Vec<_> = ids.skip(from).collect();
        let entry = |(key, id): &(AudienceKey, (UserId, SubscriptionId))| {
            let subscription = tables.subscriptions.get(id)?.clone();
            Some(AudienceEntry { key: key.clone(), user_id: id.0, subscription })
        };
        let page = ids.iter().take(limit).filter_map(entry).collect();
        let next = (ids.len() > limit).then(|| (from + limit).to_string());
        Ok((page, next))
    }
}

impl LargeKeys for MemorySubscriptions {
    async fn all(&self) -> Result<Arc<[LargeKey]>> {
        Ok(self.tables.lock().large.values().cloned().collect())
    }

    async fn remember(&self, key: &AudienceKey, now: Timestamp) -> Result<()> {
        let mut tables = self.tables.lock();
        let until = time::after(now, REMEMBERED_SECONDS);
        let known = tables.large.get(key).filter(|large| large.is_remembered(now));
        let since = known.map_or(now, |large| large.since);
        tables.large.insert(key.clone(), LargeKey { key: key.clone(), since, until });
        Ok(())
    }
}

/// Categories.
#[derive(Clone, Debug, Default)]
pub struct MemoryCategories {
    list: Shared<BTreeMap<CategoryName, Category>>,
}

impl Categories for MemoryCategories {
    async fn all(&self) -> Result<Vec<Category>> {
        Ok(self.list.lock().values().cloned().collect())
    }

    async fn has(&self, name: &CategoryName) -> Result<bool> {
        Ok(self.list.lock().contains_key(name))
    }
}

impl CategoryEditor for MemoryCategories {
    async fn put(&self, category: &Category) -> Result<()> {
        self.list.lock().insert(category.category.clone(), category.clone());
        Ok(())
    }
}
