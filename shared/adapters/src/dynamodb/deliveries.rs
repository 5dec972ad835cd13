//! The table of deliveries: which pushes were sent. pk = `<post>#<shard>`, sk = `<user>/<device>/<news>`, or `<user>//<news>`
//! where it is of a person, whatever their devices.
//!
//! A reservation is an item with `reserved_until`; without it, a try has failed. What became of it is `outcome`, and from then
//! on it stays. All have `because`, and `news`.
//!
//! A partition of DynamoDB takes some 1,000 writes a second, and a push is two: so that the pushes of one post are not held up
//! by that, they are in several, by their users.

use std::{collections::BTreeMap, fmt, str::FromStr};

use aws_sdk_dynamodb::{
    Client, operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tocsin_domain::{
    Error, Result,
    audience::Position,
    delivery_counts::{DeliveryCounter, DeliveryCounts, PushState},
    ids::{PostId, UserId},
    notification::Because,
    push::{
        Delivered, Deliveries, DeliveryEraser, DeliveryReader, News, NewsKey, Outcome, PushKey,
        PushRecipient, REMEMBERED_SECONDS, RESERVED_SECONDS, Reservation, Told,
    },
    time::{self, Timestamp},
};

use super::{Item, Table, has_expired, keys, number, read, shard_of, text, write};
use crate::aws::failed;

/// How many partitions the deliveries of a post are in. It may not change while there are any.
const SHARDS: u8 = 16;

/// Deliveries by post.
#[derive(Clone, Debug)]
pub struct DeliveriesTable {
    table: Table,
}

impl DeliveriesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "deliveries") }
    }

    /// The items of a post's pushes to a person, in the order of their devices: as many as they have had devices.
    async fn items(&self, owner: UserId, post_id: PostId) -> Result<Vec<Item>> {
        let query = self.table.query().key_condition_expression("pk = :pk AND begins_with(sk, :owner)");
        let query =
            query.expression_attribute_values(":pk", text(partition(post_id, shard_of(owner, SHARDS))));
        let query = query.expression_attribute_values(":owner", text(of_owner(owner)));
        self.table.find(query, usize::MAX).await
    }
}

impl Deliveries for DeliveriesTable {
    async fn reserve(&self, push: &PushKey, because: Because, now: Timestamp) -> Result<Reservation> {
        let mut item = push_key(push);
        item.insert("because".to_owned(), write("a reason", &because)?);
        item.insert("news".to_owned(), write("news", &push.news)?);
        let until = time::after(now, RESERVED_SECONDS).as_millisecond();
        item.insert("reserved_until".to_owned(), number(until));
        item.insert("expires_at".to_owned(), number(time::after(now, REMEMBERED_SECONDS).as_second()));
        let request = self
            .table
            .put_item(item)
            .condition_expression(
                "attribute_not_exists(outcome) AND (attribute_not_exists(reserved_until) OR reserved_until <= :now)",
            )
            .expression_attribute_values(":now", number(now.as_millisecond()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = request.send().await else { return Ok(Reservation::Ours) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failure)) => {
                let done = failure.item().is_some_and(|item| item.contains_key("outcome"));
                Ok(if done { Reservation::Done } else { Reservation::Held })
            }
            _ => Err(failed(self.table.service)(error)),
        }
    }

    async fn record(&self, push: &PushKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        let expires_at = time::after(now, REMEMBERED_SECONDS).as_second();
        let request = self
            .table
            .update_item(push_key(push))
            .update_expression(
                "SET outcome = :outcome, because = :because, news = :news, recorded_at = :now, \
                 expires_at = :expires REMOVE reserved_until",
            )
            .expression_attribute_values(":news", write("news", &push.news)?)
            .expression_attribute_values(":outcome", write("an outcome", &outcome)?)
            .expression_attribute_values(":because", write("a reason", &because)?)
            .expression_attribute_values(":now", text(now))
            .expression_attribute_values(":expires", number(expires_at));
        request.send().await.map_err(failed(self.table.service))?;
        Ok(())
    }

    async fn note(&self, news: &NewsKey, because: Because, outcome: Outcome, now: Timestamp) -> Result<()> {
        let pk = partition(news.post_id, shard_of(news.user_id, SHARDS));
        let mut item = keys(pk, format!("{}/{}", of_owner(news.user_id), news.news));
        item.insert("news".to_owned(), write("news", &news.news)?);
        item.insert("because".to_owned(), write("a reason", &because)?);
        item.insert("outcome".to_owned(), write("an outcome", &outcome)?);
        item.insert("recorded_at".to_owned(), text(now));
        item.insert("expires_at".to_owned(), number(time::after(now, REMEMBERED_SECONDS).as_second()));
        self.table.put_item(item).send().await.map(drop).map_err(failed(self.table.service))
    }

    async fn release(&self, push: &PushKey) -> Result<()> {
        let request = self.table.update_item(push_key(push)).update_expression("REMOVE reserved_until");
        let request = request.condition_expression("attribute_exists(reserved_until)");
        self.table.held(request.send().await).map(drop)
    }
}

impl DeliveryReader for DeliveriesTable {
    async fn of(&self, owner: UserId, post_id: PostId, now: Timestamp) -> Result<Vec<Delivered>> {
        let mut items = self.items(owner, post_id).await?;
        items.retain(|item| item.contains_key("outcome") && !has_expired(item, now));
        let read_one = |mut item: Item| {
            let sk: String = read("a delivery", &mut item, "sk")?;
            let device_id = device_in(&sk).map(str::parse).transpose();
            Ok(Delivered {
                device_id: device_id
                    .map_err(|_| Error::unreadable("a delivery", "its key names no device"))?,
                news: read("a delivery", &mut item, "news")?,
                because: read("a delivery", &mut item, "because")?,
                outcome: read("a delivery", &mut item, "outcome")?,
                recorded_at: read("a delivery", &mut item, "recorded_at")?,
            })
        };
        let mut delivered = items.into_iter().map(read_one).collect::<Result<Vec<Delivered>>>()?;
        delivered.sort_by(|one, other| (&one.device_id, one.news).cmp(&(&other.device_id, other.news)));
        Ok(delivered)
    }
}

impl Told for DeliveriesTable {
    async fn told(
        &self,
        post_id: PostId,
        from: Option<Position>,
        limit: usize,
    ) -> Result<(Vec<PushRecipient>, Option<Position>)> {
        let (mut place, mut told) = (from.map_or(Ok(Place::default()), |from| from.parse())?, Vec::new());
        // A post that few were told of is read in one go, through all of its partitions.
        for _ in 0..2 * SHARDS {
            let pk = partition(post_id, place.shard);
            let request = self
                .table
                .query()
                .key_condition_expression("pk = :pk")
                .filter_expression("attribute_exists(reserved_until) OR outcome IN (:pushed, :digested)")
                .expression_attribute_values(":pk", text(&pk))
                .expression_attribute_values(":pushed", write("an outcome", &Outcome::Pushed)?)
                .expression_attribute_values(":digested", write("an outcome", &Outcome::Digested)?)
                .set_exclusive_start_key(place.after.map(|sk| keys(&pk, sk)))
                .limit(i32::try_from(limit - told.len()).unwrap_or(i32::MAX));
            let answer = request.send().await.map_err(failed(self.table.service))?;
            for mut item in answer.items.unwrap_or_default() {
                let sk: String = read("a delivery", &mut item, "sk")?;
                let user_id = sk.split('/').next().unwrap_or_default().parse();
                told.push(PushRecipient {
                    user_id: user_id.map_err(|_| Error::unreadable("a delivery", "its key names nobody"))?,
                    because: read("a delivery", &mut item, "because")?,
                });
            }
            let after = answer.last_evaluated_key.and_then(|mut key| key.remove("sk")?.as_s().ok().cloned());
            place = Place { shard: place.shard + u8::from(after.is_none()), after };
            if place.shard == SHARDS {
                return Ok((told, None));
            }
            if told.len() >= limit {
                break;
            }
        }
        Ok((told, Some(place.to_string())))
    }
}

/// Where the next deliveries of a post begin. As a text it is `<shard>/<sk>`.
#[derive(Clone, Debug, Default)]
struct Place {
    shard: u8,
    after: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard, self.after.as_deref().unwrap_or_default())
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (shard, after) = text.split_once('/').unwrap_or_default();
        let shard = shard.parse().ok().filter(|shard| *shard < SHARDS);
        let shard = shard.ok_or_else(|| Error::unreadable("a place", "it names no partition"))?;
        Ok(Self { shard, after: (!after.is_empty()).then(|| after.to_owned()) })
    }
}

impl DeliveryCounter for DeliveriesTable {
    async fn count(&self, post_id: PostId, now: Timestamp) -> Result<BTreeMap<News, DeliveryCounts>> {
        let of_shard = |shard| self.count_shard(partition(post_id, shard), now);
        let counted =
            stream::iter((0..SHARDS).map(of_shard).collect::<Vec<_>>()).buffer_unordered(CONCURRENT);
        let plus = |mut sum: BTreeMap<News, DeliveryCounts>, counts: BTreeMap<_, DeliveryCounts>| async move {
            for (news, counts) in counts {
                let sum = sum.entry(news).or_default();
                *sum = sum.plus(counts);
            }
            Ok(sum)
        };
        counted.try_fold(BTreeMap::new(), plus).await
    }
}

impl DeliveriesTable {
    /// Counts the deliveries of a partition, a megabyte at a time.
    async fn count_shard(&self, pk: String, now: Timestamp) -> Result<BTreeMap<News, DeliveryCounts>> {
        // What is missed that comes meanwhile is counted the next time.
        let query = self.table.query().consistent_read(false).key_condition_expression("pk = :pk");
        let query = query
            .projection_expression("sk, news, outcome, reserved_until, expires_at")
            .expression_attribute_values(":pk", text(pk));
        let mut counts: BTreeMap<News, DeliveryCounts> = BTreeMap::new();
        let mut items = query.into_paginator().items().send();
        while let Some(item) = items.next().await {
            let mut item = item.map_err(failed(self.table.service))?;
            if has_expired(&item, now) {
                continue;
            }
            let sk: String = read("a delivery", &mut item, "sk")?;
            let counts = counts.entry(read("a delivery", &mut item, "news")?).or_default();
            let became = item.contains_key("outcome");
            let outcome = became.then(|| read("a delivery", &mut item, "outcome")).transpose()?;
            match (device_in(&sk), outcome) {
                (Some(_), Some(outcome)) => counts.add_device(PushState::Became(outcome)),
                (Some(_), None) => {
                    let reserved = item.contains_key("reserved_until");
                    let until =
                        reserved.then(|| read("a delivery", &mut item, "reserved_until")).transpose()?;
                    let is_held = until.is_some_and(|until: i64| until > now.as_millisecond());
                    counts.add_device(if is_held { PushState::UnderWay } else { PushState::Failed });
                }
                (None, Some(outcome)) => counts.add_person(outcome),
                (None, None) => {}
            }
        }
        Ok(counts)
    }
}

/// How many partitions are counted at once.
const CONCURRENT: usize = 8;

impl DeliveryEraser for DeliveriesTable {
    async fn erase(&self, owner: UserId, post_id: PostId) -> Result<()> {
        for mut item in self.items(owner, post_id).await? {
            let sk: String = read("a delivery", &mut item, "sk")?;
            let request = self.table.delete_item(keys(partition(post_id, shard_of(owner, SHARDS)), sk));
            request.send().await.map_err(failed(self.table.service))?;
        }
        Ok(())
    }
}

fn push_key(push: &PushKey) -> Item {
    let pk = partition(push.post_id, shard_of(push.user_id, SHARDS));
    keys(pk, format!("{}{}/{}", of_owner(push.user_id), push.device_id, push.news))
}

fn partition(post_id: PostId, shard: u8) -> String {
    format!("{post_id}#{shard}")
}

/// What the sort keys of a person's pushes begin with.
fn of_owner(owner: UserId) -> String {
    format!("{owner}/")
}

/// The device that a sort key names; none where it is of a person.
fn device_in(sk: &str) -> Option<&str> {
    sk.split('/').nth(1).filter(|device| !device.is_empty())
}
