//! The table of claims: which post an `Idempotency-Key` of a user stands for. pk = `<user>#<key>`.

use aws_sdk_dynamodb::{
    Client, operation::put_item::PutItemError, types::ReturnValuesOnConditionCheckFailure,
};
use tocsin_domain::{
    Result,
    ids::UserId,
    posts::{CLAIM_SECONDS, Claim, Idempotency, IdempotencyKey},
    time::{self, Timestamp},
};

use super::{Table, key, number, read_all, write_all};
use crate::aws::failed;

/// Claims by user and key.
#[derive(Clone, Debug)]
pub struct IdempotencyTable {
    table: Table,
}

impl IdempotencyTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "idempotency") }
    }
}

impl Idempotency for IdempotencyTable {
    async fn claim(
        &self,
        owner: UserId,
        idempotency_key: &IdempotencyKey,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Claim> {
        let mut item = write_all("a claim", claim)?;
        item.extend(key(format!("{owner}#{}", idempotency_key.as_str())));
        item.insert("expires_at".to_owned(), number(time::after(now, CLAIM_SECONDS).as_second()));
        let request = self
            .table
            .put_item(item)
            .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
            .expression_attribute_values(":now", number(now.as_second()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = request.send().await else { return Ok(claim.clone()) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failure)) if failure.item().is_some() => {
                read_all("a claim", failure.item().cloned().unwrap_or_default())
            }
            _ => Err(failed(self.table.service)(error)),
        }
    }
}
