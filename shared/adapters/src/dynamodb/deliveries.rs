//! The table of deliveries: which pushes were sent. pk = post, sk = `<user>/<device>`.
//!
//! A reservation is an item with `reserved_until`; what became of it is `outcome`, and from then on it stays.

use aws_sdk_dynamodb::{
    Client, operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure,
};
use tocsin_domain::{
    Result,
    notification::Because,
    push::{Deliveries, Outcome, PushKey, RESERVED_SECONDS, Reservation},
    time::{self, Timestamp},
};

use super::{Item, Table, keys, number, text, write};
use crate::aws::failed;

/// Deliveries by post.
#[derive(Clone, Debug)]
pub struct DeliveriesTable {
    table: Table,
}

/// How long it is remembered that a push was sent, in seconds: 30 days, longer than the log keeps a record.
const REMEMBERED_SECONDS: u64 = 30 * 24 * 60 * 60;

impl DeliveriesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "deliveries") }
    }
}

impl Deliveries for DeliveriesTable {
    async fn reserve(&self, push: &PushKey, now: Timestamp) -> Result<Reservation> {
        let mut item = push_key(push);
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
                "SET outcome = :outcome, because = :because, recorded_at = :now, expires_at = :expires \
                 REMOVE reserved_until",
            )
            .expression_attribute_values(":outcome", write("an outcome", &outcome)?)
            .expression_attribute_values(":because", write("a reason", &because)?)
            .expression_attribute_values(":now", text(now))
            .expression_attribute_values(":expires", number(expires_at));
        request.send().await.map_err(failed(self.table.service))?;
        Ok(())
    }

    async fn release(&self, push: &PushKey) -> Result<()> {
        let request = self.table.delete_item(push_key(push));
        let request = request.condition_expression("attribute_not_exists(outcome)");
        self.table.held(request.send().await).map(drop)
    }
}

fn push_key(push: &PushKey) -> Item {
    keys(push.post_id, format!("{}/{}", push.user_id, push.device_id))
}
