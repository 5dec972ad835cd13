//! The table of notification preferences: pk = user; an item for each who has put any.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use tocsin_domain::{
    Result,
    ids::UserId,
    preferences::{Preferences, PreferencesEditor, PreferencesReader},
};

use super::{Item, Table, key, read, read_all, write_all};
use crate::aws::failed;

/// Preferences by person.
#[derive(Clone, Debug)]
pub struct PreferencesTable {
    table: Table,
}

impl PreferencesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "preferences") }
    }
}

impl PreferencesReader for PreferencesTable {
    async fn of(&self, people: &[UserId]) -> Result<HashMap<UserId, Preferences>> {
        let mut ids = people.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let items = self.table.get_all(ids.into_iter().map(key).collect()).await?;
        let read_one = |mut item: Item| {
            let owner = read("preferences", &mut item, "pk")?;
            Ok((owner, read_all("preferences", item)?))
        };
        items.into_iter().map(read_one).collect()
    }
}

impl PreferencesEditor for PreferencesTable {
    async fn put(&self, owner: UserId, preferences: &Preferences) -> Result<()> {
        let mut item = write_all("preferences", preferences)?;
        item.extend(key(owner));
        self.table.put_item(item).send().await.map(drop).map_err(failed(self.table.service))
    }

    async fn erase(&self, owner: UserId) -> Result<()> {
        self.table.delete_item(key(owner)).send().await.map(drop).map_err(failed(self.table.service))
    }
}
