//! The table of held pushes.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `user#<user>` | `<notification>/<news>` | `held`; `due`: the partition in which its owner is due |
//! | `due#<minute>#<shard>` | `<user>` | `said`: another text each time that it is said that they are due |
//! | `released` | `released` | `minute`: up to which all who are due were queued |
//!
//! Who is due in a minute is in sixteen partitions, since all of a country wakes in the same one. What is held is written
//! before it is said that it is due: so whoever reads the one finds the other. They are no transaction: two posts at once
//! would cancel each other's, and a function that dies in between is tried again.

use aws_sdk_dynamodb::Client;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use tocsin_domain::{
    Result,
    held_push::{
        DigestSchedule, DueDigest, HeldPush, HeldPushEraser, HeldPushReader, HeldPushRescheduler, HeldPushes,
        Minute, expires_at,
    },
    ids::UserId,
    time::Timestamp,
};
use uuid::Uuid;

use super::{Item, Table, has_expired, keys, number, read, shard_of, text, write};
use crate::aws::failed;

/// Held pushes by person, and who is due by minute.
#[derive(Clone, Debug)]
pub struct HeldPushesTable {
    table: Table,
}

/// In how many partitions those are who are due in a minute.
const SHARDS: u8 = 16;
/// How many items are removed at once.
const CONCURRENT: usize = 16;

impl HeldPushesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "held pushes") }
    }

    async fn say_due(&self, owner: UserId, until: Timestamp) -> Result<()> {
        let mut item = keys(due_of(owner, until), owner);
        item.insert("said".to_owned(), text(Uuid::new_v4()));
        item.insert("expires_at".to_owned(), number(expires_at(until).as_second()));
        self.table.put_item(item).send().await.map(drop).map_err(failed(self.table.service))
    }

    async fn due_in(&self, minute: Minute, shard: u8, limit: usize) -> Result<Vec<DueDigest>> {
        let request = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(due(minute, shard)))
            .consistent_read(true)
            // Far below a megabyte.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = request.send().await.map_err(failed(self.table.service))?;
        let read_one = |mut item: Item| {
            let user_id = read("who is due", &mut item, "sk")?;
            Ok(DueDigest { minute, user_id, said: read("who is due", &mut item, "said")? })
        };
        answer.items.unwrap_or_default().into_iter().map(read_one).collect()
    }

    async fn remove_one(&self, owner: UserId, held: HeldPush) -> Result<()> {
        let request = self
            .table
            .delete_item(held_key(owner, &held))
            .condition_expression("held = :held")
            .expression_attribute_values(":held", write("a held push", &held)?);
        self.table.held(request.send().await).map(drop)
    }

    async fn delete(&self, key: Item) -> Result<()> {
        self.table.delete_item(key).send().await.map(drop).map_err(failed(self.table.service))
    }
}

impl HeldPushes for HeldPushesTable {
    async fn hold(&self, owner: UserId, held: &HeldPush, until: Timestamp) -> Result<()> {
        let mut item = held_key(owner, held);
        item.insert("held".to_owned(), write("a held push", held)?);
        item.insert("due".to_owned(), text(due_of(owner, until)));
        item.insert("expires_at".to_owned(), number(expires_at(until).as_second()));
        self.table.put_item(item).send().await.map_err(failed(self.table.service))?;
        self.say_due(owner, until).await
    }
}

impl HeldPushReader for HeldPushesTable {
    async fn of(&self, owner: UserId, limit: usize, now: Timestamp) -> Result<Vec<HeldPush>> {
        let (mut found, mut start) = (Vec::new(), None);
        // One round, unless some have expired, or a megabyte holds less.
        while found.len() < limit {
            let request = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", text(held_by(owner)))
                .consistent_read(true)
                .limit(i32::try_from(limit - found.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start);
            let answer = request.send().await.map_err(failed(self.table.service))?;
            let items = answer.items.unwrap_or_default();
            for mut item in items.into_iter().filter(|item| !has_expired(item, now)) {
                found.push(read("a held push", &mut item, "held")?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

impl HeldPushRescheduler for HeldPushesTable {
    async fn reschedule(&self, owner: UserId, until: Timestamp) -> Result<()> {
        self.say_due(owner, until).await
    }
}

impl HeldPushEraser for HeldPushesTable {
    async fn remove(&self, owner: UserId, held: &[HeldPush]) -> Result<()> {
        let removed = stream::iter(held.to_vec()).map(|held| self.remove_one(owner, held));
        removed.buffer_unordered(CONCURRENT).try_collect().await
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        let erase_one = |mut item: Item| async move {
            let due: String = read("a held push", &mut item, "due")?;
            self.delete(keys(due, owner)).await?;
            let sk: String = read("a held push", &mut item, "sk")?;
            self.delete(keys(held_by(owner), sk)).await
        };
        let items = self.table.under(held_by(owner)).await?;
        stream::iter(items).map(erase_one).buffer_unordered(CONCURRENT).try_collect().await
    }
}

impl DigestSchedule for HeldPushesTable {
    async fn done(&self) -> Result<Option<Minute>> {
        let item = self.table.get(keys(RELEASED, RELEASED)).await?;
        item.map(|mut item| read("what is released", &mut item, "minute")).transpose()
    }

    async fn set_done(&self, minute: Minute) -> Result<()> {
        let mut item = keys(RELEASED, RELEASED);
        item.insert("minute".to_owned(), number(minute.0));
        let request = self
            .table
            .put_item(item)
            .condition_expression("attribute_not_exists(pk) OR #minute < :minute")
            .expression_attribute_names("#minute", "minute")
            .expression_attribute_values(":minute", number(minute.0));
        self.table.held(request.send().await).map(drop)
    }

    async fn due(&self, minute: Minute, limit: usize) -> Result<Vec<DueDigest>> {
        let each = limit.div_ceil(usize::from(SHARDS));
        let shards = try_join_all((0..SHARDS).map(|shard| self.due_in(minute, shard, each))).await?;
        let mut all = shards.concat();
        all.truncate(limit);
        Ok(all)
    }

    async fn forget(&self, due: &DueDigest) -> Result<()> {
        let request = self
            .table
            .delete_item(keys(due_in(due.minute, due.user_id), due.user_id))
            .condition_expression("said = :said")
            .expression_attribute_values(":said", text(&due.said));
        self.table.held(request.send().await).map(drop)
    }
}

const RELEASED: &str = "released";

fn held_key(owner: UserId, held: &HeldPush) -> Item {
    keys(held_by(owner), held.key())
}

fn held_by(owner: UserId) -> String {
    format!("user#{owner}")
}

fn due_of(owner: UserId, until: Timestamp) -> String {
    due_in(Minute::from(until), owner)
}

fn due_in(minute: Minute, owner: UserId) -> String {
    due(minute, shard_of(owner, SHARDS))
}

fn due(Minute(minute): Minute, shard: u8) -> String {
    format!("due#{minute}#{shard}")
}
