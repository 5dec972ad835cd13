//! The table of notifications: people's inboxes.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `<user>` | `pushed.<post>`, `shared.<post>.<friend>` | `notification`; `created`: its place in the inbox; `is_read` once it was; `push`: what became of its push |
//! | `<user>` | `read` | `until`: all that were made until then, in ms, are read |
//!
//! The index `created` has a person's notifications by `created`, which is `<ms>#<sk>`.

use aws_sdk_dynamodb::Client;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use serde::{Deserialize, Serialize};
use tocsin_domain::{
    Result,
    ids::UserId,
    notification::{
        Because, Inbox, InboxEraser, InboxMarker, Inboxes, LIFETIME_SECONDS, Notification, NotificationId,
        Place,
    },
    push::Outcome,
    time::{self, Timestamp},
};

use super::{Item, Table, has_expired, keys, number, read, text, write};
use crate::aws::failed;

/// People's inboxes.
#[derive(Clone, Debug)]
pub struct NotificationsTable {
    table: Table,
}

const WHAT: &str = "what became of a push";

/// How many notifications are marked or removed at once.
const CONCURRENT: usize = 16;

impl NotificationsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "notifications") }
    }

    async fn mark_one(&self, owner: UserId, id: NotificationId) -> Result<()> {
        let request = self
            .table
            .update_item(keys(owner, id))
            .update_expression("SET is_read = :yes")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":yes", aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        self.table.held(request.send().await).map(drop)
    }

    async fn delete(&self, owner: UserId, sk: String) -> Result<()> {
        let request = self.table.delete_item(keys(owner, sk));
        request.send().await.map(drop).map_err(failed(self.table.service))
    }

    /// Until when everything is read, in ms.
    async fn read_until(&self, owner: UserId) -> Result<i64> {
        let item = self.table.get(keys(owner, READ)).await?;
        item.map_or(Ok(i64::MIN), |mut item| read("what was read", &mut item, "until"))
    }

    /// Up to `limit` items, expired ones among them.
    async fn items(&self, owner: UserId, before: Option<Place>, limit: usize) -> Result<Vec<Item>> {
        let start = before.map(|(created_at, id)| {
            let mut key = keys(owner, id);
            key.insert("created".to_owned(), text(place(created_at, id)));
            key
        });
        let query = self
            .table
            .query()
            .index_name("created")
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(owner))
            .scan_index_forward(false)
            .set_exclusive_start_key(start);
        self.table.find(query, limit).await
    }
}

/// What a notification says, save for its id, which is its key.
#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    because: Because,
    created_at: Timestamp,
}

impl Inboxes for NotificationsTable {
    async fn add(&self, owner: UserId, notification: &Notification) -> Result<bool> {
        let Notification { id, because, created_at, push, .. } = *notification;
        let mut item = keys(owner, id);
        item.insert("created".to_owned(), text(place(created_at, id)));
        item.insert("notification".to_owned(), write("a notification", &Content { because, created_at })?);
        let expires_at = time::after(created_at, LIFETIME_SECONDS).as_second();
        item.insert("expires_at".to_owned(), number(expires_at));
        if let Some(push) = push {
            item.insert("push".to_owned(), write(WHAT, &push)?);
        }
        let request = self.table.put_item(item).condition_expression("attribute_not_exists(pk)");
        self.table.held(request.send().await)
    }

    async fn tell(&self, owner: UserId, id: NotificationId, push: Outcome) -> Result<()> {
        let request = self
            .table
            .update_item(keys(owner, id))
            .update_expression("SET push = :push")
            .expression_attribute_values(":push", write(WHAT, &push)?);
        let request = if push.has_rung() {
            request.condition_expression("attribute_exists(pk)")
        } else {
            request
                .condition_expression("attribute_exists(pk) AND (attribute_not_exists(push) OR push = :held)")
                .expression_attribute_values(":held", write(WHAT, &Outcome::Held)?)
        };
        self.table.held(request.send().await).map(drop)
    }
}

impl Inbox for NotificationsTable {
    async fn newest(
        &self,
        owner: UserId,
        before: Option<Place>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Notification>> {
        let (items, read_until) = try_join(self.items(owner, before, limit), self.read_until(owner)).await?;
        let read_one = |mut item: Item| {
            let id = read("a notification", &mut item, "sk")?;
            let is_marked = item.contains_key("is_read");
            let push = if item.contains_key("push") { Some(read(WHAT, &mut item, "push")?) } else { None };
            let Content { because, created_at } = read("a notification", &mut item, "notification")?;
            let read = is_marked || created_at.as_millisecond() <= read_until;
            Ok(Notification { id, because, created_at, read, push })
        };
        // They expire in the order in which they were made: what has expired is at the end.
        items.into_iter().take_while(|item| !has_expired(item, now)).map(read_one).collect()
    }
}

impl InboxMarker for NotificationsTable {
    async fn mark(&self, owner: UserId, ids: &[NotificationId]) -> Result<()> {
        let marks = stream::iter(ids.to_vec()).map(|id| self.mark_one(owner, id));
        marks.buffer_unordered(CONCURRENT).try_collect().await
    }

    async fn mark_until(&self, owner: UserId, until: Timestamp) -> Result<()> {
        let mut item = keys(owner, READ);
        item.insert("until".to_owned(), number(until.as_millisecond()));
        // By then, everything that it is about has expired.
        let expires_at = time::after(until, LIFETIME_SECONDS).as_second();
        item.insert("expires_at".to_owned(), number(expires_at));
        let request = self
            .table
            .put_item(item)
            .condition_expression("attribute_not_exists(pk) OR #until < :until")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":until", number(until.as_millisecond()));
        self.table.held(request.send().await).map(drop)
    }
}

impl InboxEraser for NotificationsTable {
    async fn remove(&self, owner: UserId, ids: &[NotificationId]) -> Result<()> {
        let deletes = stream::iter(ids.to_vec()).map(|id| self.delete(owner, id.to_string()));
        deletes.buffer_unordered(CONCURRENT).try_collect().await
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        let items = self.table.under(owner.to_string()).await?;
        let delete = |mut item: Item| async move {
            self.delete(owner, read("a notification", &mut item, "sk")?).await
        };
        stream::iter(items).map(delete).buffer_unordered(CONCURRENT).try_collect().await
    }
}

/// The sort key of what says until when everything is read: no notification's.
const READ: &str = "read";

/// Thirteen digits of milliseconds last until 2286.
fn place(created_at: Timestamp, id: NotificationId) -> String {
    format!("{:013}#{id}", created_at.as_millisecond())
}
