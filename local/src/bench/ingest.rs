//! Storing posts: `ingest-posts`, handed batches of the log through the Lambda Runtime API, by the measure of a loop that
//! writes the same items by the SDK's `BatchWriteItem`, 25 in each, with the same concurrency, into the same table.
//!
//! A post is its item and five entries of the place index. The loop writes them as they are: on no condition, in no order,
//! and without reading a log.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::{
    Client,
    types::{PutRequest, WriteRequest},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tocsin_adapters::dynamodb::{Item, PostsTable};
use tocsin_domain::{
    ids::UserId,
    post::{Author, Post},
    time,
};

use super::{Bench, Bound, Figure, Of, Report, Unit, samples};
use crate::runtime::Capacity;

const ROUNDS: usize = 7;
/// Batches of the log in a round, posts in each, and how many are under way at once.
const BATCHES: usize = 24;
const POSTS: usize = 100;
const AT_ONCE: usize = 4;
/// The bytes of a post, as the log has it within its envelope.
const BYTES: usize = 500;
/// How many requests are under way at once for each batch, as in the function.
const REQUESTS: usize = 16;
/// The most of one request.
const MOST_WRITTEN: usize = 25;

impl Bench<'_> {
    /// Measures how posts are stored.
    pub(super) async fn ingest(&self, report: &mut Report) -> Result<()> {
        let (client, table) = self.stack.foundation().table("POSTS_TABLE").context("no table of posts")?;
        let (mut function, mut bare) = (Vec::new(), Vec::new());
        // The first starts the processes.
        for round in 0..=ROUNDS {
            let stored = self.ingested().await?;
            let written = written(&client, table).await?;
            if round > 0 {
                function.push(stored);
                bare.push(written);
            }
        }
        let ratios: Vec<_> = function.iter().zip(&bare).map(|(function, bare)| function / bare).collect();
        report.add(Figure::new("ingest-posts, posts of 500 bytes", Unit::PerSecond, function));
        report.add(Figure::new("a bare loop of BatchWriteItem with their items", Unit::PerSecond, bare));
        let ratio = Figure::new("ingest-posts, by the bare loop", Unit::Ratio, ratios);
        report.add(ratio.wanted(Of::Median, Bound::AtLeast(0.7)));
        Ok(())
    }

    /// How many posts a second the function stores.
    async fn ingested(&self) -> Result<f64> {
        let events = batches()?.iter().map(|posts| samples::event(posts)).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        stream::iter(events)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |event| self.ingest_batch(event))
            .await?;
        Ok(per_second(began))
    }

    async fn ingest_batch(&self, event: Bytes) -> Result<()> {
        let answer = self.stack.fleet().invoke("ingest-posts", event, Capacity::Wait).await?;
        let failures = br#"{"batchItemFailures":[]}"#;
        ensure!(answer.payload == failures[..], "ingest-posts answered {:?}", answer.payload);
        Ok(())
    }
}

/// How many posts a second the SDK writes.
async fn written(client: &Client, table: &str) -> Result<f64> {
    let batches = batches()?;
    let items = |posts: &Vec<Post>| {
        let items = posts.iter().map(PostsTable::items).collect::<Result<Vec<_>, _>>()?;
        anyhow::Ok(items.concat())
    };
    let batches = batches.iter().map(items).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    stream::iter(batches)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |items| async move {
            let writes = items.chunks(MOST_WRITTEN).map(<[Item]>::to_vec).collect::<Vec<_>>();
            let writes = stream::iter(writes).map(Ok);
            writes.try_for_each_concurrent(REQUESTS, |items| write(client, table, items)).await
        })
        .await?;
    Ok(per_second(began))
}

async fn write(client: &Client, table: &str, items: Vec<Item>) -> Result<()> {
    let put = |item| {
        let put = PutRequest::builder().set_item(Some(item)).build()?;
        anyhow::Ok(WriteRequest::builder().put_request(put).build())
    };
    let writes = items.into_iter().map(put).collect::<Result<Vec<_>>>()?;
    let answer = client.batch_write_item().request_items(table, writes).send().await?;
    let unprocessed = answer.unprocessed_items.unwrap_or_default();
    ensure!(unprocessed.is_empty(), "the storage leaves writes unprocessed");
    Ok(())
}

/// New posts of one size.
fn batches() -> Result<Vec<Vec<Post>>> {
    let author = Author { user_id: UserId::new(time::now()), username: "ingrid".to_owned() };
    let post = || {
        let post = Post { author: Some(author.clone()), source: None, ..samples::post(samples::place()?)? };
        let bare = serde_json::to_vec(&post)?.len();
        // A body is a field of `null`, and its text is within quotes.
        let body = "x".repeat((BYTES + 2).saturating_sub(bare));
        anyhow::Ok(Post { body: Some(body), ..post })
    };
    (0..BATCHES).map(|_| (0..POSTS).map(|_| post()).collect()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "some thousand posts")]
fn per_second(began: Instant) -> f64 {
    (BATCHES * POSTS) as f64 / began.elapsed().as_secs_f64()
}
