//! The table of subscriptions: by their user, and a second time by where their audience is looked for.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `user#<id>` | `sub#<id>` | `subscription` |
//! | `user#<id>` | `count` | `subscriptions`: how many the user has |
//! | `aud#<category>#<tag or *>#<cell to resolution 3, or *>` | `<the cell's other digits>/<user>/<id>` | `user_id`, `subscription` |
//! | `large` | an audience's key | `since`: when it was first seen to be large; `expires_at` |
//!
//! A subscription changes together with its entries in one transaction: at most 48 keys go and 48 come, and with the
//! subscription itself that is within DynamoDB's 100 actions.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use tocsin_domain::{
    Error, Result,
    audience::{Audience, AudienceEntry, AudienceKey, COARSEST, Lookup, Position},
    ids::{SubscriptionId, UserId},
    large_audience::{LargeKey, LargeKeys, MOST_STALE_SECONDS, REMEMBERED_SECONDS},
    subscription::{self, MOST_SUBSCRIPTIONS, Subscription, SubscriptionEditor, Subscriptions},
    time::{self, Timestamp},
};
use tokio::sync::Mutex;

use super::{Action, Item, Table, Transacted, keys, number, read, text, write};
use crate::aws::failed;

/// Subscriptions by user, and by the posts that they match.
#[derive(Clone, Debug)]
pub struct SubscriptionsTable {
    table: Table,
    large: Known,
}

/// The large keys, and when they were read.
type Known = Arc<Mutex<Option<(Instant, Arc<[LargeKey]>)>>>;

impl SubscriptionsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "subscriptions"), large: Known::default() }
    }

    /// The items that a person's subscriptions are stored as, each with the keys that its audience is found by: for who
    /// fills a table with more of them than can be added one after the other.
    #[doc(hidden)]
    pub fn items(owner: UserId, subscriptions: &[(Subscription, Vec<AudienceKey>)]) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (subscription, audience) in subscriptions {
            let (id, value) = (subscription.subscription_id, write("a subscription", subscription)?);
            items.push(with(own_key(owner, id), &value));
            items.extend(audience.iter().map(|key| entry(key, owner, id, &value)));
        }
        let mut count = keys(user(owner), "count");
        count.insert(
            "subscriptions".to_owned(),
            number(i64::try_from(subscriptions.len()).unwrap_or(i64::MAX)),
        );
        items.push(count);
        Ok(items)
    }

    fn count(&self, owner: UserId, change: i64) -> Action {
        self.table
            .update(keys(user(owner), "count"), "ADD subscriptions :change")
            .with(":change", number(change))
    }
}

impl Subscriptions for SubscriptionsTable {
    async fn of(&self, owner: UserId) -> Result<Vec<Subscription>> {
        let mut items = self.table.under(user(owner)).await?;
        items.retain(|item| item.contains_key("subscription"));
        let read_one = |mut item: Item| read("a subscription", &mut item, "subscription");
        let mut all = items.into_iter().map(read_one).collect::<Result<Vec<Subscription>>>()?;
        all.sort_by_key(|subscription| std::cmp::Reverse(subscription.subscription_id));
        Ok(all)
    }
}

impl SubscriptionEditor for SubscriptionsTable {
    async fn add(&self, owner: UserId, subscription: &Subscription, audience: &[AudienceKey]) -> Result<()> {
        let (id, value) = (subscription.subscription_id, write("a subscription", subscription)?);
        let most = i64::try_from(MOST_SUBSCRIPTIONS).unwrap_or(i64::MAX);
        let mut actions = vec![
            self.count(owner, 1)
                .on("attribute_not_exists(subscriptions) OR subscriptions < :most")
                .with(":most", number(most)),
            self.table.put(with(own_key(owner, id), &value)).on("attribute_not_exists(pk)"),
        ];
        actions.extend(audience.iter().map(|key| self.table.put(entry(key, owner, id, &value))));
        match self.table.transact(actions).await? {
            Transacted::Done => Ok(()),
            Transacted::Cancelled { held } if held.first() == Some(&false) => {
                Err(subscription::too_many().into())
            }
            Transacted::Cancelled { .. } => Err(Error::unavailable("subscriptions", "the new id is not new")),
        }
    }

    async fn get(&self, owner: UserId, id: SubscriptionId) -> Result<Option<Subscription>> {
        let item = self.table.get(own_key(owner, id)).await?;
        item.map(|mut item| read("a subscription", &mut item, "subscription")).transpose()
    }

    async fn replace(
        &self,
        owner: UserId,
        (old, old_audience): (&Subscription, &[AudienceKey]),
        (new, new_audience): (&Subscription, &[AudienceKey]),
    ) -> Result<bool> {
        let (id, value) = (new.subscription_id, write("a subscription", new)?);
        let mut actions = vec![
            self.table
                .put(with(own_key(owner, id), &value))
                .on("subscription = :old")
                .with(":old", write("a subscription", old)?),
        ];
        let gone = old_audience.iter().filter(|key| !new_audience.contains(key));
        actions.extend(gone.map(|key| self.table.delete(audience_key(key, owner, id))));
        actions.extend(new_audience.iter().map(|key| self.table.put(entry(key, owner, id, &value))));
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }

    async fn remove(&self, owner: UserId, (old, audience): (&Subscription, &[AudienceKey])) -> Result<bool> {
        let id = old.subscription_id;
        let own = self.table.delete(own_key(owner, id)).on("subscription = :old");
        let mut actions = vec![own.with(":old", write("a subscription", old)?), self.count(owner, -1)];
        actions.extend(audience.iter().map(|key| self.table.delete(audience_key(key, owner, id))));
        Ok(matches!(self.table.transact(actions).await?, Transacted::Done))
    }

    async fn forget_count(&self, owner: UserId) -> Result<()> {
        let request = self
            .table
            .delete_item(keys(user(owner), "count"))
            .condition_expression("attribute_not_exists(pk) OR subscriptions = :none")
            .expression_attribute_values(":none", number(0));
        self.table.held(request.send().await).map(drop)
    }
}

impl Audience for SubscriptionsTable {
    async fn entries(
        &self,
        lookup: &Lookup,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<AudienceEntry>, Option<Position>)> {
        let (pk, cell) = audience_place(&lookup.key);
        let start = from.map(|sk| keys(&pk, sk));
        // Consistently: a timeline that was rebuilt after a subscription was made must not miss a post for it.
        let query = self.table.query().expression_attribute_values(":pk", text(&pk));
        let query = match (lookup.inside, cell) {
            // DynamoDB takes no empty text for a key, and all that is in the partition is inside.
            (true, "") => query.key_condition_expression("pk = :pk"),
            (inside, cell) => {
                // What is inside a cell has its digits, and more of them.
                let begin = if inside { cell.to_owned() } else { format!("{cell}/") };
                query
                    .key_condition_expression("pk = :pk AND begins_with(sk, :cell)")
                    .expression_attribute_values(":cell", text(begin))
            }
        };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let answer = query.set_exclusive_start_key(start).limit(limit).send().await;
        let answer = answer.map_err(failed(self.table.service))?;
        let read_one = |mut item: Item| {
            let sk: String = read("an audience entry", &mut item, "sk")?;
            let finer = sk.split('/').next().unwrap_or_default();
            let inner = lookup.key.cell.as_ref().map(|cell| [cell.split(COARSEST).0, finer].concat().parse());
            let cell = inner
                .transpose()
                .map_err(|_| Error::unreadable("an audience entry", "its key names no cell"))?;
            Ok(AudienceEntry {
                key: AudienceKey { cell, ..lookup.key.clone() },
                user_id: read("an audience entry", &mut item, "user_id")?,
                subscription: read("an audience entry", &mut item, "subscription")?,
            })
        };
        let entries = answer.items.unwrap_or_default().into_iter().map(read_one).collect::<Result<_>>()?;
        let next = answer.last_evaluated_key.as_ref().and_then(position);
        Ok((entries, next))
    }
}

/// The partition of the large keys. In a country they are some hundreds, and read whole: by who builds a timeline or writes
/// to some, but at most every [`MOST_STALE_SECONDS`] by one process.
const LARGE: &str = "large";

impl LargeKeys for SubscriptionsTable {
    async fn all(&self) -> Result<Arc<[LargeKey]>> {
        let mut known = self.large.lock().await;
        if let Some((at, keys)) = &*known
            && at.elapsed() < Duration::from_secs(MOST_STALE_SECONDS)
        {
            return Ok(Arc::clone(keys));
        }
        let items = self.table.under(LARGE.to_owned()).await?;
        let keys = items.into_iter().map(large_key).collect::<Result<Arc<[_]>>>()?;
        *known = Some((Instant::now(), Arc::clone(&keys)));
        Ok(keys)
    }

    async fn remember(&self, key: &AudienceKey, now: Timestamp) -> Result<()> {
        let until = time::after(now, REMEMBERED_SECONDS).as_second();
        let update = |update: &str| {
            let request = self.table.update_item(keys(LARGE, key)).update_expression(update);
            request
                .expression_attribute_values(":now", number(now.as_second()))
                .expression_attribute_values(":until", number(until))
        };
        // Seen again while it is remembered, or anew.
        let again = update("SET expires_at = :until").condition_expression("expires_at > :now");
        if self.table.held(again.send().await)? {
            return Ok(());
        }
        let anew = update("SET since = :now, expires_at = :until");
        let anew = anew.condition_expression("attribute_not_exists(pk) OR expires_at <= :now");
        // If not, somebody else has just done so.
        self.table.held(anew.send().await).map(drop)
    }
}

fn large_key(mut item: Item) -> Result<LargeKey> {
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(LargeKey {
        key: read("a large key", &mut item, "sk")?,
        since: at(read("a large key", &mut item, "since")?),
        until: at(read("a large key", &mut item, "expires_at")?),
    })
}

fn position(key: &HashMap<String, AttributeValue>) -> Option<Position> {
    key.get("sk")?.as_s().ok().cloned()
}

fn user(owner: UserId) -> String {
    format!("user#{owner}")
}

fn own_key(owner: UserId, id: SubscriptionId) -> Item {
    keys(user(owner), format!("sub#{id}"))
}

fn audience_key(key: &AudienceKey, owner: UserId, id: SubscriptionId) -> Item {
    let (pk, cell) = audience_place(key);
    keys(pk, format!("{cell}/{owner}/{id}"))
}

fn with(mut key: Item, subscription: &AttributeValue) -> Item {
    key.insert("subscription".to_owned(), subscription.clone());
    key
}

fn entry(key: &AudienceKey, owner: UserId, id: SubscriptionId, subscription: &AttributeValue) -> Item {
    let mut item = audience_key(key, owner, id);
    item.insert("user_id".to_owned(), text(owner));
    with(item, subscription)
}

/// The partition of a key, and what its sort keys begin with. Cells of one neighbourhood share a partition, so that a
/// partition is not one street, and neither a whole country.
fn audience_place(AudienceKey { category, tag, cell }: &AudienceKey) -> (String, &str) {
    let (coarse, fine) = cell.as_ref().map_or(("*", ""), |cell| cell.split(COARSEST));
    let tag = tag.as_ref().map_or("*", |tag| tag.as_str());
    (format!("aud#{category}#{tag}#{coarse}"), fine)
}
