//! The table of categories: few items, under one key, which every post is checked against.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::Client;
use tocsin_domain::{
    Result,
    category::{Categories, Category, CategoryEditor, CategoryName},
};

use super::{Table, keys, read_all, write_all};
use crate::aws::failed;

/// The list of categories. A function that stays warm remembers their names: none is ever removed.
#[derive(Clone, Debug)]
pub struct CategoriesTable {
    table: Table,
    known: Arc<Mutex<BTreeSet<CategoryName>>>,
}

/// The one partition key.
const ALL: &str = "categories";

impl CategoriesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "categories"), known: Arc::default() }
    }

    fn knows(&self, name: &CategoryName) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl Categories for CategoriesTable {
    async fn all(&self) -> Result<Vec<Category>> {
        let items = self.table.under(ALL.to_owned()).await?;
        let list: Vec<Category> =
            items.into_iter().map(|item| read_all("a category", item)).collect::<Result<_>>()?;
        let names = list.iter().map(|category| category.category.clone());
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(list)
    }

    async fn has(&self, name: &CategoryName) -> Result<bool> {
        if !self.knows(name) {
            self.all().await?;
        }
        Ok(self.knows(name))
    }
}

impl CategoryEditor for CategoriesTable {
    async fn put(&self, category: &Category) -> Result<()> {
        let mut item = write_all("a category", category)?;
        item.extend(keys(ALL, &category.category));
        self.table.put_item(item).send().await.map_err(failed(self.table.service))?;
        Ok(())
    }
}
