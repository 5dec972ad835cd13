//! The aggregates' tables in DynamoDB.
//!
//! A table belongs to one aggregate, and has string keys `pk` and, mostly, `sk`. What expires has `expires_at` in epoch
//! seconds, by which DynamoDB deletes it some time later; so reads look at it too.
//!
//! What the domain promises is kept by conditions and transactions. A condition that did not hold is an answer of the
//! domain, and becomes one where the request is made; everything else is an [`Error`].

mod categories;
mod deliveries;
mod departures;
mod devices;
mod feeds;
mod friendships;
mod held_pushes;
mod idempotency;
mod notifications;
mod people;
mod posts;
mod preferences;
mod reactions;
mod requests;
mod sessions;
mod subscriptions;
mod users;

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        delete_item::builders::DeleteItemFluentBuilder, put_item::builders::PutItemFluentBuilder,
        query::builders::QueryFluentBuilder, transact_write_items::TransactWriteItemsError,
        update_item::builders::UpdateItemFluentBuilder,
    },
    types::{AttributeValue, Delete, KeysAndAttributes, Put, TransactWriteItem, Update},
};
use serde::{Serialize, de::DeserializeOwned};
use tocsin_domain::{Error, Result, ids::UserId};

use crate::aws::failed;

pub use self::{
    categories::CategoriesTable,
    deliveries::DeliveriesTable,
    departures::DeparturesTable,
    devices::DevicesTable,
    feeds::FeedsTable,
    friendships::FriendshipsTable,
    held_pushes::HeldPushesTable,
    idempotency::IdempotencyTable,
    notifications::NotificationsTable,
    people::{PeopleEditor, PeopleTable},
    posts::PostsTable,
    preferences::PreferencesTable,
    reactions::ReactionsTable,
    requests::Requests,
    sessions::SessionsTable,
    subscriptions::SubscriptionsTable,
    users::{AddressEditor, Newcomers, UsersTable},
};

/// An item of a table.
pub type Item = HashMap<String, AttributeValue>;

/// A table, and the client to reach it with.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) name: String,
    /// What errors call it.
    pub(crate) service: &'static str,
}

impl Table {
    pub(crate) fn new(client: &Client, name: impl Into<String>, service: &'static str) -> Self {
        Self { client: client.clone(), name: name.into(), service }
    }

    /// One item, read consistently.
    pub(crate) async fn get(&self, key: Item) -> Result<Option<Item>> {
        let request = self.client.get_item().table_name(&self.name).set_key(Some(key)).consistent_read(true);
        let answer = request.send().await.map_err(failed(self.service))?;
        Ok(answer.item)
    }

    /// Those of some items that there are, in any order, read consistently: at most 100, which are one `BatchGetItem`. Each
    /// key comes once.
    pub(crate) async fn get_all(&self, mut keys: Vec<Item>) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(keys.len());
        let mut pause = FIRST_PAUSE;
        for _ in 0..MOST_ROUNDS {
            if keys.is_empty() {
                return Ok(items);
            }
            let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let request = request.map_err(failed(self.service))?;
            let batch = self.client.batch_get_item().request_items(&self.name, request);
            let answer = batch.send().await.map_err(failed(self.service))?;
            items.extend(answer.responses.into_iter().flat_map(HashMap::into_values).flatten());
            // More than 16 MB, or more than DynamoDB does at once.
            let left = answer.unprocessed_keys.into_iter().flat_map(HashMap::into_values);
            keys = left.flat_map(|left| left.keys).collect();
            if !keys.is_empty() {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        if keys.is_empty() {
            Ok(items)
        } else {
            Err(Error::unavailable(self.service, "DynamoDB leaves reads unprocessed"))
        }
    }

    /// All items under a partition key, read consistently.
    pub(crate) async fn under(&self, pk: String) -> Result<Vec<Item>> {
        let query = self.query().key_condition_expression("pk = :pk");
        self.find(query.expression_attribute_values(":pk", text(pk)), usize::MAX).await
    }

    /// A request for items in the order of their keys, read consistently.
    pub(crate) fn query(&self) -> QueryFluentBuilder {
        self.client.query().table_name(&self.name).consistent_read(true)
    }

    /// Up to `limit` items of a query: in one round, unless a megabyte holds less.
    pub(crate) async fn find(&self, query: QueryFluentBuilder, limit: usize) -> Result<Vec<Item>> {
        let mut start = query.get_exclusive_start_key().clone();
        let mut items = Vec::new();
        loop {
            let left = i32::try_from(limit - items.len()).ok();
            let request = query.clone().set_limit(left).set_exclusive_start_key(start);
            let answer = request.send().await.map_err(failed(self.service))?;
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key;
            if start.is_none() || items.len() >= limit {
                return Ok(items);
            }
        }
    }

    /// A request to put one item.
    pub(crate) fn put_item(&self, item: Item) -> PutItemFluentBuilder {
        self.client.put_item().table_name(&self.name).set_item(Some(item))
    }

    /// A request to change one item.
    pub(crate) fn update_item(&self, key: Item) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.name).set_key(Some(key))
    }

    /// A request to delete one item.
    pub(crate) fn delete_item(&self, key: Item) -> DeleteItemFluentBuilder {
        self.client.delete_item().table_name(&self.name).set_key(Some(key))
    }

    /// Whether the condition of a request held.
    pub(crate) fn held<T, E>(&self, answer: Result<T, SdkError<E>>) -> Result<bool>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(failed(self.service)(error)),
        }
    }

    pub(crate) fn put(&self, item: Item) -> Action {
        Action::Put(Put::builder().table_name(&self.name).set_item(Some(item)))
    }

    pub(crate) fn delete(&self, key: Item) -> Action {
        Action::Delete(Delete::builder().table_name(&self.name).set_key(Some(key)))
    }

    pub(crate) fn update(&self, key: Item, expression: &str) -> Action {
        Action::Update(
            Update::builder().table_name(&self.name).set_key(Some(key)).update_expression(expression),
        )
    }

    /// Does all of the actions, or none: then it answers which of their conditions did not hold.
    pub(crate) async fn transact(&self, actions: Vec<Action>) -> Result<Transacted> {
        let actions = actions.into_iter().map(Action::build).collect::<Result<Vec<_>, _>>();
        let actions = actions.map_err(failed(self.service))?;
        let mut pause = FIRST_PAUSE;
        // Another transaction on the same items cancels this one; the SDK does not try again by itself.
        for _ in 0..MOST_CONFLICTS {
            let request = self.client.transact_write_items().set_transact_items(Some(actions.clone()));
            let Err(error) = request.send().await else { return Ok(Transacted::Done) };
            let failures = cancellations(&error);
            if failures.iter().any(|code| code == "ConditionalCheckFailed") {
                let held = failures.iter().map(|code| code != "ConditionalCheckFailed").collect();
                return Ok(Transacted::Cancelled { held });
            }
            if !failures.iter().any(|code| code == "TransactionConflict") {
                return Err(failed(self.service)(error));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Error::unavailable(self.service, "others keep changing the same items"))
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MOST_CONFLICTS: usize = 6;
/// How often what a batch did not get to is asked for again.
const MOST_ROUNDS: usize = 6;

/// Which of so many partitions a person's things are in: the last byte of an id is by chance.
pub(crate) fn shard_of(person: UserId, shards: u8) -> u8 {
    person.as_bytes()[15] % shards
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) enum Transacted {
    Done,
    /// For each action, whether its condition held.
    Cancelled {
        held: Vec<bool>,
    },
}

/// An action of a transaction.
#[derive(Debug)]
pub(crate) enum Action {
    Put(aws_sdk_dynamodb::types::builders::PutBuilder),
    Delete(aws_sdk_dynamodb::types::builders::DeleteBuilder),
    Update(aws_sdk_dynamodb::types::builders::UpdateBuilder),
}

impl Action {
    /// Only if this holds.
    pub(crate) fn on(self, condition: &str) -> Self {
        match self {
            Self::Put(put) => Self::Put(put.condition_expression(condition)),
            Self::Delete(delete) => Self::Delete(delete.condition_expression(condition)),
            Self::Update(update) => Self::Update(update.condition_expression(condition)),
        }
    }

    /// What a name of its expressions (`:now`) stands for.
    pub(crate) fn with(self, name: &str, value: AttributeValue) -> Self {
        match self {
            Self::Put(put) => Self::Put(put.expression_attribute_values(name, value)),
            Self::Delete(delete) => Self::Delete(delete.expression_attribute_values(name, value)),
            Self::Update(update) => Self::Update(update.expression_attribute_values(name, value)),
        }
    }

    fn build(self) -> Result<TransactWriteItem, aws_sdk_dynamodb::error::BuildError> {
        let item = TransactWriteItem::builder();
        Ok(match self {
            Self::Put(put) => item.put(put.build()?),
            Self::Delete(delete) => item.delete(delete.build()?),
            Self::Update(update) => item.update(update.build()?),
        }
        .build())
    }
}

fn cancellations(error: &SdkError<TransactWriteItemsError>) -> Vec<String> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .map(|reason| reason.code().unwrap_or("None").to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

/// A string.
#[expect(clippy::needless_pass_by_value, reason = "ids, which are copied, are passed as well as text")]
pub(crate) fn text(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// A whole number.
pub(crate) fn number(value: impl Into<i64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The key of an item.
pub(crate) fn key(pk: impl ToString) -> Item {
    Item::from([("pk".to_owned(), text(pk))])
}

/// The key of an item in a table with a sort key.
pub(crate) fn keys(pk: impl ToString, sk: impl ToString) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// A value of the domain as an attribute.
pub(crate) fn write<T: Serialize>(what: &'static str, value: &T) -> Result<AttributeValue> {
    let value = serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(value);
    value.map(tidy).map_err(|error| Error::unreadable(what, error))
}

/// A record as attributes.
pub(crate) fn write_all<T: Serialize>(what: &'static str, record: &T) -> Result<Item> {
    match write(what, record)? {
        AttributeValue::M(item) => Ok(item),
        _ => Err(Error::unreadable(what, "it is no record")),
    }
}

/// A value of the domain from an attribute of an item.
pub(crate) fn read<T: DeserializeOwned>(what: &'static str, item: &mut Item, attribute: &str) -> Result<T> {
    let value = item.remove(attribute).ok_or_else(|| Error::unreadable(what, format!("no {attribute}")))?;
    serde_dynamo::aws_sdk_dynamodb_1::from_attribute_value(value)
        .map_err(|error| Error::unreadable(what, error))
}

/// A record from an item.
pub(crate) fn read_all<T: DeserializeOwned>(what: &'static str, item: Item) -> Result<T> {
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_err(|error| Error::unreadable(what, error))
}

/// Leaves out what is absent, and what DynamoDB refuses: numbers nearer to nought than 1e-130, which no place needs.
fn tidy(value: AttributeValue) -> AttributeValue {
    match value {
        AttributeValue::M(map) => {
            let present = map.into_iter().filter(|(_, value)| !value.is_null());
            AttributeValue::M(present.map(|(name, value)| (name, tidy(value))).collect())
        }
        AttributeValue::L(list) => AttributeValue::L(list.into_iter().map(tidy).collect()),
        AttributeValue::N(digits) if digits.parse().is_ok_and(|number: f64| number.abs() < 1e-100) => {
            AttributeValue::N("0".to_owned())
        }
        other => other,
    }
}

/// Whether an item has expired, though DynamoDB has not deleted it yet.
pub(crate) fn has_expired(item: &Item, now: tocsin_domain::time::Timestamp) -> bool {
    let expires =
        item.get("expires_at").and_then(|value| value.as_n().ok()).and_then(|n| n.parse::<i64>().ok());
    expires.is_some_and(|expires| expires <= now.as_second())
}
