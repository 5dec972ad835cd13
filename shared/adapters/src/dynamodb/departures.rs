//! The table of departures: pk = `departures`, sk = user. The index `due` has them by when they are to be looked at, in
//! thirteen digits of milliseconds.
//!
//! One partition holds them all, so that what is due is one range. It takes 1,000 writes a second, and with a local index
//! 10 GB: at about half a kilobyte and fifteen writes for each of those who left in the last nineteen days, that is ten
//! departures a second, day and night. A town that loses more keeps them in several partitions, by the ids' last digit.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use tocsin_domain::{
    Error, Result,
    departure::{Departure, DepartureProgress, DepartureSchedule, Departures, Due},
    ids::UserId,
    time::Timestamp,
};

use super::{Item, Table, keys, read, read_all, text, write, write_all};
use crate::aws::failed;

/// Departures by person, and by when they are due.
#[derive(Clone, Debug)]
pub struct DeparturesTable {
    table: Table,
}

impl DeparturesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "departures") }
    }
}

impl Departures for DeparturesTable {
    async fn begin(&self, departure: &Departure, due: Timestamp) -> Result<()> {
        let request = self.table.put_item(item(departure, due)?);
        request.send().await.map(drop).map_err(failed(self.table.service))
    }
}

impl DepartureProgress for DeparturesTable {
    async fn get(&self, id: UserId) -> Result<Option<Departure>> {
        self.table.get(departure_key(id)).await?.map(|item| read_all("a departure", item)).transpose()
    }

    async fn move_on(&self, from: &Departure, rest: &Departure, due: Timestamp) -> Result<bool> {
        let (condition, values) = is_still(from)?;
        let request = self
            .table
            .put_item(item(rest, due)?)
            .condition_expression(condition)
            .expression_attribute_names("#round", "round")
            .set_expression_attribute_values(Some(values));
        self.table.held(request.send().await)
    }

    async fn end(&self, departure: &Departure) -> Result<()> {
        let (condition, values) = is_still(departure)?;
        let request = self
            .table
            .delete_item(departure_key(departure.user_id))
            .condition_expression(condition)
            .expression_attribute_names("#round", "round")
            .set_expression_attribute_values(Some(values));
        self.table.held(request.send().await).map(drop)
    }
}

impl DepartureSchedule for DeparturesTable {
    async fn due(&self, now: Timestamp, after: Option<Due>, limit: usize) -> Result<Vec<Due>> {
        let start = after.map(|Due { since, user_id }| {
            let mut key = departure_key(user_id);
            key.insert("due".to_owned(), time(since));
            key
        });
        let request = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name("due")
            .key_condition_expression("pk = :pk AND due <= :now")
            .expression_attribute_values(":pk", text(PARTITION))
            .expression_attribute_values(":now", time(now))
            .consistent_read(true)
            // A page of keys is far below a megabyte.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start);
        let answer = request.send().await.map_err(failed(self.table.service))?;
        answer.items.unwrap_or_default().into_iter().map(due).collect()
    }

    async fn postpone(&self, due: Due, until: Timestamp) -> Result<()> {
        let request = self
            .table
            .update_item(departure_key(due.user_id))
            .update_expression("SET due = :until")
            .condition_expression("due = :since")
            .expression_attribute_values(":until", time(until))
            .expression_attribute_values(":since", time(due.since));
        self.table.held(request.send().await).map(drop)
    }
}

const PARTITION: &str = "departures";

fn departure_key(id: UserId) -> Item {
    keys(PARTITION, id)
}

fn item(departure: &Departure, due: Timestamp) -> Result<Item> {
    let mut item = write_all("a departure", departure)?;
    item.extend(departure_key(departure.user_id));
    item.insert("due".to_owned(), time(due));
    Ok(item)
}

/// The condition that a stored departure is this one, and as far, and its values. `due` does not count: it is put off
/// while the departure is gone on with.
fn is_still(departure: &Departure) -> Result<(&'static str, Item)> {
    let mut values = Item::from([
        (":asked".to_owned(), write("a departure", &departure.asked_at)?),
        (":round".to_owned(), write("a departure", &departure.round)?),
    ]);
    let Some(before) = departure.posts_before else {
        return Ok(("asked_at = :asked AND #round = :round AND attribute_not_exists(posts_before)", values));
    };
    values.insert(":before".to_owned(), text(before));
    Ok(("asked_at = :asked AND #round = :round AND posts_before = :before", values))
}

/// Thirteen digits of milliseconds last until 2286.
fn time(time: Timestamp) -> AttributeValue {
    text(format!("{:013}", time.as_millisecond()))
}

fn due(mut item: Item) -> Result<Due> {
    let user_id = read("a departure", &mut item, "sk")?;
    let due: String = read("a departure", &mut item, "due")?;
    let since = due.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let since = since.ok_or_else(|| Error::unreadable("a departure", format!("it is due at {due}")))?;
    Ok(Due { since, user_id })
}
