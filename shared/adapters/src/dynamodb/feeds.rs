//! The table of feeds.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `feeds` | `<feed>` | `feed`; `progress`: what its polls have come to; `next_poll_at`, in milliseconds: when it is due, if it is at all; of a poll that is under way `lease` and, in milliseconds, `leased_until`; and `begun`: how many polls have begun since one ended |
//! | `url` | `<hash of a url>` | `feed_id`: of the feed that has this url |
//! | `known#<feed>` | `<hash>` | `known`: a part of what is known of the feed, in postcard; `form`: in which form |
//!
//! Which parts are known, `progress` says: so a poll changes what is known of a feed as a whole, when it ends. A part is named by
//! its hash, so that one that is the same is not written again.
//!
//! The index `next_poll_at` has the feeds in the order in which they are due.

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    primitives::Blob,
    types::{AttributeValue, ReturnValue},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tocsin_domain::{
    Error, Result,
    feed::Feed,
    feed_fetch::Validators,
    feed_life::Known,
    feed_poll::{KeptAt, Poll, PollEnd, PollJob, PollSchedule, PollStore},
    feeds::{self, FeedEditor, FeedRecord, Feeds, Polls},
    ids::FeedId,
    time::Timestamp,
};
use url::Url;
use uuid::Uuid;

use super::{Action, Item, Table, Transacted, keys, number, read, text, write};
use crate::aws::failed;

/// Feeds, their polls, and what is known of them.
#[derive(Clone, Debug)]
pub struct FeedsTable {
    table: Table,
}

/// What the polls of a feed have come to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    polls: Polls,
    #[serde(default)]
    validators: Validators,
    #[serde(default)]
    since: Option<Timestamp>,
    kept_at: KeptAt,
}

/// The partition of all feeds: some hundreds, each written twice a poll.
const FEEDS: &str = "feeds";
const URLS: &str = "url";
/// How many bytes a part of what is known has, as far as they are alike: a change of one thing in it is written at a kilobyte's
/// price for each.
const BYTES_PER_PART: usize = 48 * 1024;
/// How many it has at the most. An item may have 400 KiB.
const MOST_BYTES: usize = 380 * 1024;
/// In how many parts what is known is at the most.
const MOST_PARTS: usize = 1_024;
/// The form in which it is written. Another form gets another number, and has to be read as well as this one.
const FORM: i64 = 1;
/// How many parts are written or removed at once.
const CONCURRENT: usize = 16;

impl FeedsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "feeds") }
    }

    /// Claims an address for a feed.
    fn claim(&self, url: &Url, id: FeedId) -> Action {
        let mut item = url_key(url);
        item.insert("feed_id".to_owned(), text(id));
        self.table.put(item).on("attribute_not_exists(pk)")
    }

    /// Does what a feed must be as it was for, the first action's condition, and an address nobody's; answers whether it was.
    async fn transact(&self, actions: Vec<Action>) -> Result<bool> {
        match self.table.transact(actions).await? {
            Transacted::Done => Ok(true),
            Transacted::Cancelled { held } if held.first() == Some(&true) => Err(feeds::exists().into()),
            Transacted::Cancelled { .. } => Ok(false),
        }
    }

    /// Removes all that is known of a feed.
    async fn forget(&self, id: FeedId) -> Result<()> {
        let query = self
            .table
            .query()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(known_of(id)))
            .projection_expression("pk, sk");
        self.delete(self.table.find(query, usize::MAX).await?).await
    }

    async fn delete(&self, keys: Vec<Item>) -> Result<()> {
        let deleted = stream::iter(keys).map(|key| async {
            self.table.delete_item(key).send().await.map(drop).map_err(failed(self.table.service))
        });
        deleted.buffer_unordered(CONCURRENT).try_collect().await
    }
}

impl Feeds for FeedsTable {
    async fn page(&self, before: Option<FeedId>, limit: usize) -> Result<Vec<FeedRecord>> {
        let query = self
            .table
            .query()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(FEEDS))
            .scan_index_forward(false)
            .set_exclusive_start_key(before.map(feed_key));
        self.table.find(query, limit).await?.into_iter().map(record).collect()
    }

    async fn get(&self, id: FeedId) -> Result<Option<FeedRecord>> {
        self.table.get(feed_key(id)).await?.map(record).transpose()
    }
}

impl FeedEditor for FeedsTable {
    async fn add(&self, feed: &Feed, next_poll_at: Option<Timestamp>) -> Result<()> {
        let mut item = feed_key(feed.feed_id);
        item.insert("feed".to_owned(), write("a feed", feed)?);
        item.insert("progress".to_owned(), write("the polls of a feed", &Progress::default())?);
        item.extend(next_poll_at.map(|at| ("next_poll_at".to_owned(), instant(at))));
        let put = self.table.put(item).on("attribute_not_exists(pk)");
        if self.transact(vec![put, self.claim(&feed.settings.url, feed.feed_id)]).await? {
            Ok(())
        } else {
            Err(Error::unavailable(self.table.service, "a new feed has another's id"))
        }
    }

    async fn replace(&self, old: &Feed, new: &Feed, next_poll_at: Option<Timestamp>) -> Result<bool> {
        let expression = match next_poll_at {
            Some(_) => {
                "SET feed = :new, progress.polls.failures = :none, next_poll_at = :next REMOVE progress.validators"
            }
            None => {
                "SET feed = :new, progress.polls.failures = :none REMOVE progress.validators, next_poll_at"
            }
        };
        let update = self
            .table
            .update(feed_key(old.feed_id), expression)
            .on(AS_IT_WAS)
            .with(":was", write("a feed", &old.updated_at)?)
            .with(":new", write("a feed", new)?)
            .with(":none", number(0));
        let update = match next_poll_at {
            Some(at) => update.with(":next", instant(at)),
            None => update,
        };
        let mut actions = vec![update];
        if old.settings.url != new.settings.url {
            actions.push(self.claim(&new.settings.url, new.feed_id));
            actions.push(self.table.delete(url_key(&old.settings.url)));
        }
        self.transact(actions).await
    }

    async fn remove(&self, feed: &Feed) -> Result<bool> {
        let delete = self.table.delete(feed_key(feed.feed_id)).on(AS_IT_WAS);
        let delete = delete.with(":was", write("a feed", &feed.updated_at)?);
        let url = self.table.delete(url_key(&feed.settings.url));
        let removed = self.transact(vec![delete, url]).await?;
        if removed {
            self.forget(feed.feed_id).await?;
        }
        Ok(removed)
    }
}

impl PollSchedule for FeedsTable {
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<PollJob>> {
        let query = self
            .table
            .query()
            .index_name("next_poll_at")
            .key_condition_expression("pk = :pk AND next_poll_at <= :now")
            .expression_attribute_values(":pk", text(FEEDS))
            .expression_attribute_values(":now", instant(now));
        let job = |mut item: Item| {
            let due = time(&read::<String>("a feed that is due", &mut item, "next_poll_at")?)?;
            Ok(PollJob { feed_id: read("a feed that is due", &mut item, "sk")?, due: Some(due) })
        };
        self.table.find(query, limit).await?.into_iter().map(job).collect()
    }
}

impl PollStore for FeedsTable {
    async fn begin(&self, job: &PollJob, now: Timestamp, until: Timestamp) -> Result<Option<Poll>> {
        let lease = Uuid::new_v4();
        let is_free = "attribute_exists(pk) AND (attribute_not_exists(leased_until) OR leased_until < :now)";
        let request = self
            .table
            .update_item(feed_key(job.feed_id))
            .update_expression("SET lease = :lease, leased_until = :until ADD begun :one")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":lease", text(lease))
            .expression_attribute_values(":until", instant(until))
            .expression_attribute_values(":now", instant(now))
            .return_values(ReturnValue::AllNew);
        let request = match job.due {
            Some(due) => request
                .condition_expression(format!("{is_free} AND next_poll_at = :due"))
                .expression_attribute_values(":due", instant(due)),
            None => request.condition_expression(format!("{is_free} AND attribute_exists(next_poll_at)")),
        };
        let mut item = match request.send().await {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => return Ok(None),
            Err(error) => return Err(failed(self.table.service)(error)),
        };
        let Progress { polls, validators, since, kept_at } = read("a feed", &mut item, "progress")?;
        let next_poll_at = next_poll_at(&item)?;
        let died = read::<u32>("a feed", &mut item, "begun")?.saturating_sub(1);
        let feed = read("a feed", &mut item, "feed")?;
        Ok(Some(Poll { feed, polls, next_poll_at, validators, since, died, kept_at, lease }))
    }

    async fn publishing(&self, poll: &Poll, since: Timestamp) -> Result<()> {
        let request = self
            .table
            .update_item(feed_key(poll.feed.feed_id))
            .update_expression("SET progress.since = :since")
            .condition_expression("lease = :lease")
            .expression_attribute_values(":lease", text(poll.lease))
            .expression_attribute_values(":since", write("the polls of a feed", &since)?);
        if self.table.held(request.send().await)? {
            return Ok(());
        }
        Err(Error::unavailable(self.table.service, "a poll has lost its lease"))
    }

    async fn end(&self, poll: &Poll, end: &PollEnd) -> Result<bool> {
        let id = poll.feed.feed_id;
        let PollEnd { polls, validators, kept_at, since, next_poll_at } = end.clone();
        let progress = Progress { polls, validators, since, kept_at };
        let ends = |progress: &Progress| {
            let request = self.table.update_item(feed_key(id)).condition_expression("lease = :lease");
            let request = request.expression_attribute_values(":lease", text(poll.lease));
            let progress = write("the polls of a feed", progress)?;
            Ok::<_, Error>(request.expression_attribute_values(":progress", progress))
        };
        let as_it_was = ends(&progress)?
            .update_expression(
                "SET progress = :progress, next_poll_at = :next REMOVE lease, leased_until, begun",
            )
            .condition_expression(format!("lease = :lease AND {AS_IT_WAS}"))
            .expression_attribute_values(":was", write("a feed", &poll.feed.updated_at)?)
            .expression_attribute_values(":next", instant(next_poll_at));
        let mut ended = self.table.held(as_it_was.send().await)?;
        if !ended {
            let unread = Progress { validators: Validators::default(), ..progress };
            let expression = "SET progress = :progress REMOVE lease, leased_until, begun";
            ended = self.table.held(ends(&unread)?.update_expression(expression).send().await)?;
        }
        if ended {
            let is_kept = |part: &&String| end.kept_at.0.contains(part);
            let replaced = poll.kept_at.0.iter().filter(|part| !is_kept(part));
            self.delete(replaced.map(|part| keys(known_of(id), part)).collect()).await?;
        } else if self.get(id).await?.is_none() {
            self.forget(id).await?;
        }
        Ok(ended)
    }

    async fn known(&self, poll: &Poll) -> Result<Known> {
        let pk = known_of(poll.feed.feed_id);
        let mut items = Vec::new();
        for parts in poll.kept_at.0.chunks(MOST_READ) {
            items.extend(self.table.get_all(parts.iter().map(|part| keys(&pk, part)).collect()).await?);
        }
        if items.len() < poll.kept_at.0.len() {
            return Err(unreadable("some parts of it are not there"));
        }
        let parts: Result<Vec<_>> = items.into_iter().map(part).collect();
        Ok(Known::join(parts?))
    }

    async fn keep(&self, poll: &Poll, known: Known) -> Result<KeptAt> {
        let before = &poll.kept_at.0;
        let (mut kept_at, mut new) = (Vec::new(), Vec::new());
        for bytes in parts_of(&known, before.len())? {
            let name = format!("{:x}", Sha256::digest(&bytes));
            if !before.contains(&name) {
                let mut item = keys(known_of(poll.feed.feed_id), &name);
                item.insert("form".to_owned(), number(FORM));
                item.insert("known".to_owned(), AttributeValue::B(Blob::new(bytes)));
                new.push(item);
            }
            kept_at.push(name);
        }
        let put = stream::iter(new).map(|item| async {
            self.table.put_item(item).send().await.map(drop).map_err(failed(self.table.service))
        });
        put.buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        Ok(KeptAt(kept_at))
    }
}

/// That a feed is as it was read.
const AS_IT_WAS: &str = "feed.updated_at = :was";
/// DynamoDB's limit for one `BatchGetItem`.
const MOST_READ: usize = 100;

/// What is known, in as many parts as before where these are not too large, and not far too small.
fn parts_of(known: &Known, before: usize) -> Result<Vec<Vec<u8>>> {
    let written = |count: usize| -> Result<Vec<Vec<u8>>> {
        let parts = known.split(count).into_iter().filter(|part| *part != Known::default());
        parts.map(|part| postcard::to_stdvec(&part).map_err(unreadable)).collect()
    };
    let mut count = before.max(1).next_power_of_two();
    let mut parts = written(count)?;
    let bytes: usize = parts.iter().map(Vec::len).sum();
    let needed = bytes.div_ceil(BYTES_PER_PART).max(1).next_power_of_two();
    if count < needed || count > 4 * needed {
        count = needed;
        parts = written(count)?;
    }
    while parts.iter().any(|part| part.len() > MOST_BYTES) && count < MOST_PARTS {
        count *= 2;
        parts = written(count)?;
    }
    Ok(parts)
}

fn part(mut item: Item) -> Result<Known> {
    let form: i64 = read("what is known of a feed", &mut item, "form")?;
    match item.remove("known") {
        Some(AttributeValue::B(blob)) if form == FORM => {
            postcard::from_bytes(blob.as_ref()).map_err(unreadable)
        }
        _ => Err(unreadable(format!("it is of form {form}"))),
    }
}

fn feed_key(id: FeedId) -> Item {
    keys(FEEDS, id)
}

/// By a hash: a url may be longer than a sort key.
fn url_key(url: &Url) -> Item {
    keys(URLS, format!("{:x}", Sha256::digest(url.as_str())))
}

fn known_of(id: FeedId) -> String {
    format!("known#{id}")
}

/// Milliseconds, in the order of texts.
fn instant(time: Timestamp) -> AttributeValue {
    text(format!("{:015}", time.as_millisecond().max(0)))
}

fn time(text: &str) -> Result<Timestamp> {
    let ms = text.parse().map_err(unreadable)?;
    Timestamp::from_millisecond(ms).map_err(unreadable)
}

fn next_poll_at(item: &Item) -> Result<Option<Timestamp>> {
    item.get("next_poll_at").and_then(|at| at.as_s().ok()).map(|at| time(at)).transpose()
}

fn record(mut item: Item) -> Result<FeedRecord> {
    let next_poll_at = next_poll_at(&item)?;
    let Progress { polls, .. } = read("a feed", &mut item, "progress")?;
    Ok(FeedRecord { feed: read("a feed", &mut item, "feed")?, next_poll_at, polls })
}

fn unreadable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::unreadable("what is known of a feed", cause)
}
