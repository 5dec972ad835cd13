//! Fills the embedded storage with more than can be written over HTTP in minutes: items in the adapters' own form, put past
//! HTTP, in large transactions.

use std::{
    collections::HashMap,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aws_sdk_dynamodb::types::AttributeValue as Sdk;
use dynoxide::{AttributeValue, Database, ImportOptions};
use tocsin_adapters::dynamodb::Item;

/// What was filled in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// How many items.
    pub(super) items: usize,
    /// How long it took.
    pub(super) took: Duration,
}

/// How many chunks wait at most: they are made as quickly as they are stored.
const WAITING: usize = 2;

/// Puts the items of some chunks, each of which is made while the one before is stored. Blocks.
pub(super) fn fill<M>(database: &Database, table: &str, chunks: usize, make: M) -> Result<Filled>
where
    M: Fn(usize) -> Result<Vec<Item>> + Sync,
{
    let began = Instant::now();
    let (give, ready) = mpsc::sync_channel(WAITING);
    let items = thread::scope(|scope| {
        scope.spawn(|| {
            // Moved in, so that the channel closes with the last chunk.
            let give = give;
            for chunk in 0..chunks {
                let items = make(chunk).and_then(|items| items.into_iter().map(converted).collect());
                let failed = items.is_err();
                if give.send(items).is_err() || failed {
                    return;
                }
            }
        });
        let mut count = 0;
        for chunk in ready {
            let mut chunk: Vec<HashMap<String, AttributeValue>> = chunk?;
            count += chunk.len();
            // Neighbours in the table are stored together.
            chunk.sort_by_cached_key(|item| [text(item, "pk"), text(item, "sk")]);
            let imported = database.import_items(table, chunk, ImportOptions::default());
            imported
                .map_err(|error| anyhow::anyhow!("{error}"))
                .with_context(|| format!("cannot fill {table}"))?;
        }
        anyhow::Ok(count)
    })?;
    Ok(Filled { items, took: began.elapsed() })
}

fn text(item: &HashMap<String, AttributeValue>, name: &str) -> String {
    match item.get(name) {
        Some(AttributeValue::S(text)) => text.clone(),
        _ => String::new(),
    }
}

fn converted(item: Item) -> Result<HashMap<String, AttributeValue>> {
    item.into_iter().map(|(name, value)| Ok((name, attribute(value)?))).collect()
}

fn attribute(value: Sdk) -> Result<AttributeValue> {
    Ok(match value {
        Sdk::S(text) => AttributeValue::S(text),
        Sdk::N(digits) => AttributeValue::N(digits),
        Sdk::Bool(value) => AttributeValue::BOOL(value),
        Sdk::Null(value) => AttributeValue::NULL(value),
        Sdk::L(list) => AttributeValue::L(list.into_iter().map(attribute).collect::<Result<_>>()?),
        Sdk::M(map) => AttributeValue::M(converted(map)?),
        other => bail!("no table of ours has {other:?}"),
    })
}
