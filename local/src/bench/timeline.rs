//! A page of a timeline, in the function: from the cache, and across the cache's end into the storage.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tocsin_adapters::dynamodb::PostsTable;
use tocsin_domain::{
    cursor::Cursor,
    ids::{PostId, UserId},
    post::Post,
    posts::PostStore as _,
    time,
    timeline::{self, CAPACITY},
};

use super::{Bench, Bound, Figure, Of, Report, people_of, samples};
use crate::api_client::{ApiClient, Person};

/// How many posts a page has.
const PAGE: usize = 20;
/// How many pages are read in a round, each by somebody else: an account may read 1,200 times a minute.
const READS: usize = 300;
const ROUNDS: usize = 3;
/// More posts than a cached timeline holds.
const POSTS: usize = CAPACITY + 60;
/// How far apart they were posted, in milliseconds.
const APART_MS: i64 = 10;

impl Bench<'_> {
    /// Measures pages of a timeline.
    pub(super) async fn timeline(&self, report: &mut Report) -> Result<()> {
        let api = ApiClient::new(self.stack.base_url());
        let readers = people_of(&api, "pager", ROUNDS).await?;
        let ids = self.store_posts().await?;
        for reader in &readers {
            reader.api.post("/v1/subscriptions", &json!({"category": "earthquake"})).await?.expect(201)?;
            // Rebuilds it, from the newest that there are.
            reader.api.timeline().await?;
        }
        // Half of it is the cache's, and half of it the storage's.
        let crossing = ids.get(CAPACITY - PAGE / 2 - 1).copied().context("too few posts")?;
        for (what, before, most) in
            [("warm get-timeline", None, 3.0), ("across the cache's end", Some(crossing), 40.0)]
        {
            for (round, reader) in (1..).zip(&readers) {
                let times = self.pages(reader, before).await?;
                let figure = Figure::times(format!("{what}, {PAGE} posts, round {round}"), times);
                report.add(figure.wanted(Of::Median, Bound::Below(most)));
            }
        }
        Ok(())
    }

    /// Stores posts of a category that nobody else follows; answers their ids, the newest first.
    async fn store_posts(&self) -> Result<Vec<PostId>> {
        let (client, name) = self.stack.foundation().table("POSTS_TABLE").context("no table of posts")?;
        let table = PostsTable::new(&client, name);
        let (place, now) = (samples::place()?, time::now());
        let post = |number: i64| {
            let at = now - Duration::from_millis((number * APART_MS).unsigned_abs());
            let category = "earthquake".parse()?;
            Ok(Post {
                post_id: PostId::new(at),
                category,
                created_at: at,
                updated_at: at,
                ..samples::post(place)?
            })
        };
        let posts = (1..).take(POSTS).map(post).collect::<Result<Vec<_>>>()?;
        let stores = posts.chunks(25).map(|some| table.store(some));
        let outcomes: Vec<_> = stream::iter(stores).buffered(4).collect().await;
        outcomes.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
        Ok(posts.into_iter().map(|post| post.post_id).collect())
    }

    async fn pages(&self, reader: &Person, before: Option<PostId>) -> Result<Vec<Duration>> {
        let event = self.event("get-timeline", reader.api.access_token().unwrap_or_default())?;
        let mut event: Value = serde_json::from_slice(&event)?;
        event["queryStringParameters"] = json!({"limit": PAGE.to_string()});
        if let Some(before) = before {
            let owner: UserId = reader.user_id().parse()?;
            let cursor = Cursor(before).encode(timeline::scope(owner));
            event["queryStringParameters"]["cursor"] = cursor.as_str().into();
            event["rawQueryString"] = format!("limit={PAGE}&cursor={cursor}").into();
        }
        let event = bytes::Bytes::from(event.to_string());
        let page = self.answer("get-timeline", event.clone()).await?;
        let items = page["items"].as_array().map_or(0, Vec::len);
        ensure!(items == PAGE, "a page has {items} posts: {page}");
        stream::iter(0..READS).then(|_| self.invoke("get-timeline", event.clone())).try_collect().await
    }
}
