//! The table of deliveries: which pushes were sent. pk = post, sk = `<user>/<device>/<news>`, or `<user>//<news>` where it is
//! of a person, whatever their devices.
//!
//! A reservation is an item with `reserved_until`; what became of it is `outcome`, and from then on it stays. Both have
//! `because`, and `news`.

use aws_sdk_dynamodb::{
    Client, operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure,
};
use tocsin_domain::{
    Error, Result,
    audience::Position,
    ids::{PostId, UserId},
    notification::Because,
    push::{
        Delivered, Deliveries, DeliveryEraser, DeliveryReader, NewsKey, Outcome, PushKey, PushRecipient,
        REMEMBERED_SECONDS, RESERVED_SECONDS, Reservation, Told,
    },
    time::{self, Timestamp},
};

use super::{Item, Table, has_expired, keys, number, read, text, write};
use crate::aws::failed;

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
        let query = query.expression_attribute_values(":pk", text(post_id));
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
                "attribute_not_exists(pk) OR (attribute_not_exists(outcome) AND reserved_until <= :now)",
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
        let mut item = keys(news.post_id, format!("{}/{}", of_owner(news.user_id), news.news));
        item.insert("news".to_owned(), write("news", &news.news)?);
        item.insert("because".to_owned(), write("a reason", &because)?);
        item.insert("outcome".to_owned(), write("an outcome", &outcome)?);
        item.insert("recorded_at".to_owned(), text(now));
        item.insert("expires_at".to_owned(), number(time::after(now, REMEMBERED_SECONDS).as_second()));
        self.table.put_item(item).send().await.map(drop).map_err(failed(self.table.service))
    }

    async fn release(&self, push: &PushKey) -> Result<()> {
        let request = self.table.delete_item(push_key(push));
        let request = request.condition_expression("attribute_not_exists(outcome)");
        self.table.held(request.send().await).map(drop)
    }
}

impl DeliveryReader for DeliveriesTable {
    async fn of(&self, owner: UserId, post_id: PostId, now: Timestamp) -> Result<Vec<Delivered>> {
        let mut items = self.items(owner, post_id).await?;
        items.retain(|item| item.contains_key("outcome") && !has_expired(item, now));
        let read_one = |mut item: Item| {
            let sk: String = read("a delivery", &mut item, "sk")?;
            let device_and_news = sk.strip_prefix(&of_owner(owner)).unwrap_or_default();
            let device_id = device_and_news.split('/').next().filter(|device| !device.is_empty());
            let device_id = device_id.map(str::parse).transpose();
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
        let request = self.table.client.query().table_name(&self.table.name);
        let request = request
            .key_condition_expression("pk = :pk")
            .filter_expression("attribute_not_exists(outcome) OR outcome IN (:pushed, :digested)")
            .expression_attribute_values(":pk", text(post_id))
            .expression_attribute_values(":pushed", write("an outcome", &Outcome::Pushed)?)
            .expression_attribute_values(":digested", write("an outcome", &Outcome::Digested)?)
            .consistent_read(true)
            .set_exclusive_start_key(from.map(|sk| keys(post_id, sk)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = request.send().await.map_err(failed(self.table.service))?;
        let read_one = |mut item: Item| {
            let sk: String = read("a delivery", &mut item, "sk")?;
            let user_id = sk.split('/').next().unwrap_or_default().parse();
            Ok(PushRecipient {
                user_id: user_id.map_err(|_| Error::unreadable("a delivery", "its key names nobody"))?,
                because: read("a delivery", &mut item, "because")?,
            })
        };
        let told = answer.items.unwrap_or_default().into_iter().map(read_one).collect::<Result<_>>()?;
        let next = answer.last_evaluated_key.and_then(|mut key| key.remove("sk")?.as_s().ok().cloned());
        Ok((told, next))
    }
}

impl DeliveryEraser for DeliveriesTable {
    async fn erase(&self, owner: UserId, post_id: PostId) -> Result<()> {
        for mut item in self.items(owner, post_id).await? {
            let sk: String = read("a delivery", &mut item, "sk")?;
            let request = self.table.delete_item(keys(post_id, sk));
            request.send().await.map_err(failed(self.table.service))?;
        }
        Ok(())
    }
}

fn push_key(push: &PushKey) -> Item {
    keys(push.post_id, format!("{}{}/{}", of_owner(push.user_id), push.device_id, push.news))
}

/// What the sort keys of a person's pushes begin with.
fn of_owner(owner: UserId) -> String {
    format!("{owner}/")
}
