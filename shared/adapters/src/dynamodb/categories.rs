//! The table of categories: few items, under one key, which every post is checked against.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::Client;
use tocsin_domain::{
    Result,
    category::{Categories, Category, CategoryEditor},
};

use super::{Table, keys, read_all, write_all};
use crate::aws::failed;

/// The list of categories, kept for a minute by a function that stays warm.
#[derive(Clone, Debug)]
pub struct CategoriesTable {
    table: Table,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// A list, and when it was read.
type Kept = (Instant, Vec<Category>);

/// How long a list is good for. A new category is known everywhere after it.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// The one partition key.
const ALL: &str = "categories";

impl CategoriesTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "categories"), kept: Arc::default() }
    }

    fn keep(&self, list: Option<Vec<Category>>) {
        let kept = list.filter(|list| !list.is_empty()).map(|list| (Instant::now(), list));
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}

impl Categories for CategoriesTable {
    async fn all(&self) -> Result<Vec<Category>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, list)) = kept.filter(|(since, _)| since.elapsed() < KEPT_FOR) {
            return Ok(list);
        }
        let items = self.table.under(ALL.to_owned()).await?;
        let list: Vec<Category> =
            items.into_iter().map(|item| read_all("a category", item)).collect::<Result<_>>()?;
        self.keep(Some(list.clone()));
        Ok(list)
    }
}

impl CategoryEditor for CategoriesTable {
    async fn put(&self, category: &Category) -> Result<()> {
        let mut item = write_all("a category", category)?;
        item.extend(keys(ALL, &category.category));
        let request = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        request.send().await.map_err(failed(self.table.service))?;
        self.keep(None);
        Ok(())
    }
}
