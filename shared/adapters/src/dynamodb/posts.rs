//! The table of posts, which is the place index and the index of events as well.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `post#<id>` | `post` | `post`: the post; `edits`: the latest edit of each field; or `deleted_at`, for good, so that nothing stores it again |
//! | `cell#<path>`, `wide#<path>`, `anywhere#<category>`, `by#<user>` | `<post id>` | `entry`: what the place index knows of the post |
//! | `event#*`, `event#cell#<path>`, `event#wide#<path>`, `event#anywhere#<category>` | `<begin>#<post id>` | `entry`: what the index of events knows of it |
//!
//! The sort key of the place index is a UUIDv7, so it is in the order of time; that of events begins with when they do,
//! written so that it sorts ([`sortable`]).
//!
//! A post's entries are put before it, moved when it is edited, and removed when it is deleted, all in the same way:
//! [`EntryKey`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    operation::put_item::PutItemError,
    types::{
        AttributeValue, BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementRequest,
        DeleteRequest, PutRequest, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
        WriteRequest,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tocsin_domain::{
    Error, Result,
    event_index::{EventEntry, EventIndex, EventKey, EventPosition, Span},
    ids::PostId,
    place_index::{PlaceEntry, PlaceIndex, PlaceKey},
    post::Post,
    post_edit::{Edit, Edited},
    post_log::Deletion,
    posts::{PostEditor, PostStore, Posts, Stored},
    time::Timestamp,
};

use super::{Item, Table, keys, number, read, text, write};
use crate::aws::failed;

/// Posts by id, by place and by time.
#[derive(Clone, Debug)]
pub struct PostsTable {
    table: Table,
}

/// DynamoDB's limits for one `BatchGetItem`, and for one `BatchWriteItem` or `BatchExecuteStatement`.
const MOST_READ: usize = 100;
const MOST_WRITTEN: usize = 25;
/// How many requests of one batch are under way at once.
const CONCURRENT: usize = 16;
/// How often what a batch did not get to is asked for again.
const MOST_ROUNDS: u32 = 6;

impl PostsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "posts") }
    }

    /// The items that a new post is stored as: its entries in the indexes, and itself.
    #[doc(hidden)]
    pub fn items(post: &Post) -> Result<Vec<Item>> {
        let mut items = entry_items(post)?;
        items.push(post_item(post)?);
        Ok(items)
    }

    async fn write(
        &self,
        writes: Result<Vec<WriteRequest>, aws_sdk_dynamodb::error::BuildError>,
    ) -> Result<(), Unwritten> {
        let writes = writes.map_err(|error| Unwritten::Refused(error.to_string()))?;
        let chunks = writes.chunks(MOST_WRITTEN).map(|chunk| self.write_chunk(chunk.to_vec()));
        stream::iter(chunks.collect::<Vec<_>>()).buffer_unordered(CONCURRENT).try_collect().await
    }

    async fn write_chunk(&self, mut writes: Vec<WriteRequest>) -> Result<(), Unwritten> {
        for round in 0..MOST_ROUNDS {
            let batch = self.table.client.batch_write_item().request_items(&self.table.name, writes);
            let answer = batch.send().await.map_err(|error| {
                let is_refused = error.code() == Some("ValidationException");
                let cause = failed(self.table.service)(error).to_string();
                if is_refused { Unwritten::Refused(cause) } else { Unwritten::Failed(cause) }
            })?;
            writes = answer.unprocessed_items.into_iter().flat_map(HashMap::into_values).flatten().collect();
            if writes.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(pause(round)).await;
        }
        Err(Unwritten::Failed("DynamoDB leaves writes unprocessed".to_owned()))
    }

    async fn put_entries(&self, items: Vec<Item>) -> Result<(), Unwritten> {
        let put = |item| {
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        self.write(items.into_iter().map(put).collect()).await
    }

    /// Removes what the indexes know under these keys.
    async fn delete_entries(&self, keys: impl IntoIterator<Item = &EntryKey>) -> Result<()> {
        let delete = |key: &EntryKey| {
            let delete = DeleteRequest::builder().set_key(Some(key.item())).build()?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        };
        let deletes: Result<Vec<_>, _> = keys.into_iter().map(delete).collect();
        self.write(deletes).await.map_err(|unwritten| unwritten.into_error(self.table.service))
    }

    /// Puts entries; answers of which posts that failed, and why.
    async fn put_chunk(&self, chunk: Vec<(PostId, Item)>) -> Vec<(PostId, String)> {
        let (ids, items) = chunk.iter().cloned().unzip();
        match self.put_entries(items).await {
            Ok(()) => Vec::new(),
            Err(Unwritten::Failed(cause)) => {
                let ids: HashSet<PostId> = Vec::into_iter(ids).collect();
                ids.into_iter().map(|id| (id, cause.clone())).collect()
            }
            // DynamoDB refuses a batch for one bad item in it: each post by itself, so that only that one fails.
            Err(Unwritten::Refused(_)) => {
                let mut unwritten = Vec::new();
                for entries in chunk.chunk_by(|(id, _), (next, _)| id == next) {
                    let items = entries.iter().map(|(_, item)| item.clone()).collect();
                    if let Err(Unwritten::Failed(cause) | Unwritten::Refused(cause)) =
                        self.put_entries(items).await
                    {
                        unwritten.extend(entries.first().map(|(id, _)| (*id, cause)));
                    }
                }
                unwritten
            }
        }
    }

    /// Puts posts that are not there yet, in one request; answers what became of those that it put, and of those that were
    /// there. `BatchWriteItem` knows no conditions, but `PartiQL`'s `INSERT` is one. Why another was not put,
    /// [`put_post`](Self::put_post) of that one says.
    async fn insert(&self, posts: &[&Post]) -> Vec<(PostId, Result<Stored>)> {
        let inserted = async {
            let statements = posts.iter().map(|post| self.insertion(post)).collect::<Result<_>>()?;
            let batch = self.table.client.batch_execute_statement().set_statements(Some(statements));
            batch.send().await.map_err(failed(self.table.service))
        };
        let answer = match inserted.await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "posts are put one by one");
                return Vec::new();
            }
        };
        // In the order of the statements.
        let answers = posts.iter().zip(answer.responses());
        let (mut became, mut there) = (Vec::new(), Vec::new());
        for (post, answer) in answers {
            match answer.error().map(BatchStatementError::code) {
                None => became.push((post.post_id, Ok(Stored::New))),
                Some(Some(BatchStatementErrorCodeEnum::DuplicateItem)) => there.push(*post),
                Some(_) => {}
            }
        }
        became.extend(self.there_already(&there).await);
        became
    }

    /// What posts are that were there before they were put; nothing where that cannot be read.
    async fn there_already(&self, posts: &[&Post]) -> Vec<(PostId, Result<Stored>)> {
        if posts.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Item> = posts.iter().map(|post| post_key(&post.post_id)).collect();
        let Ok(found) = self.table.get_all(keys.clone()).await else { return Vec::new() };
        let has = |item: &Item, key: &Item| key.iter().all(|(name, value)| item.get(name) == Some(value));
        let found = posts.iter().zip(&keys).filter_map(|(post, key)| {
            let item = found.iter().find(|item| has(item, key))?.clone();
            Some(async move { (post.post_id, self.settle(post, item).await) })
        });
        stream::iter(found.collect::<Vec<_>>()).buffer_unordered(CONCURRENT).collect().await
    }

    fn insertion(&self, post: &Post) -> Result<BatchStatementRequest> {
        let (names, values): (Vec<_>, _) = post_item(post)?.into_iter().unzip();
        let fields: Vec<_> = names.iter().map(|name| format!("'{name}': ?")).collect();
        let statement = format!(r#"INSERT INTO "{}" VALUE {{{}}}"#, self.table.name, fields.join(", "));
        let insertion = BatchStatementRequest::builder().statement(statement).set_parameters(Some(values));
        insertion.build().map_err(failed(self.table.service))
    }

    /// Puts a post, unless its entries were refused.
    async fn put_unless(&self, refused: Option<String>, post: &Post) -> Result<Stored> {
        match refused {
            Some(cause) => Err(Error::unavailable(self.table.service, cause)),
            None => self.put_post(post).await,
        }
    }

    async fn put_post(&self, post: &Post) -> Result<Stored> {
        let request = self.table.put_item(post_item(post)?).condition_expression("attribute_not_exists(pk)");
        let request = request.return_values_on_condition_check_failure(OnFailure::AllOld);
        let Err(error) = request.send().await else { return Ok(Stored::New) };
        let Some(PutItemError::ConditionalCheckFailedException(there)) = error.as_service_error() else {
            return Err(failed(self.table.service)(error));
        };
        self.settle(post, there.item().cloned().unwrap_or_default()).await
    }

    /// What a post is that was there before it was put. Its entries were put first: where it has changed since, they are those
    /// of an older form, and where it was deleted they are nobody's.
    async fn settle(&self, post: &Post, mut there: Item) -> Result<Stored> {
        if there.contains_key(DELETED_AT) {
            self.delete_entries(&EntryKey::of(post)).await?;
            return Ok(Stored::Deleted);
        }
        let stored: Post = read("a post", &mut there, "post")?;
        if stored.revision == post.revision {
            return Ok(Stored::Already);
        }
        let settled = self.settle_entries(post.post_id, EntryKey::of(post)).await?;
        Ok(if settled.is_some() { Stored::Already } else { Stored::Deleted })
    }

    /// Makes a post's entries those of its stored form, whoever writes others meanwhile, and removes those under other keys;
    /// answers the post, or none where it was deleted.
    async fn settle_entries(&self, id: PostId, mut others: BTreeSet<EntryKey>) -> Result<Option<Post>> {
        for _ in 0..MOST_MERGES {
            let Some(stored) = self.stored(&id).await?.ok_or_else(not_stored)? else {
                self.delete_entries(&others).await?;
                return Ok(None);
            };
            self.put_entries_in_place_of(&others, &stored.post).await?;
            let now = self.stored(&id).await?.flatten();
            if now.is_some_and(|now| now.post.revision == stored.post.revision) {
                return Ok(Some(stored.post));
            }
            others.extend(EntryKey::of(&stored.post));
        }
        Err(edited_by_many())
    }

    /// Puts a post's entries, and removes those under other keys, where other forms of it were.
    async fn put_entries_in_place_of(&self, others: &BTreeSet<EntryKey>, post: &Post) -> Result<()> {
        let put = self.put_entries(entry_items(post)?).await;
        put.map_err(|unwritten| unwritten.into_error(self.table.service))?;
        self.delete_entries(others.difference(&EntryKey::of(post))).await
    }

    /// Puts a post in place of one form of it; answers whether that was there.
    async fn replace(&self, old: &Post, new: &Edited) -> Result<bool> {
        let mut item = post_item(&new.post)?;
        item.insert(EDITS.to_owned(), write("a post's edits", &new.last)?);
        let request = self
            .table
            .put_item(item)
            .condition_expression("#post.revision = :seen")
            .expression_attribute_names("#post", "post")
            .expression_attribute_values(":seen", number(old.revision));
        self.table.held(request.send().await)
    }

    /// A post as it is stored, or that it was deleted, or neither.
    async fn stored(&self, id: &PostId) -> Result<Option<Option<Edited>>> {
        let Some(mut item) = self.table.get(post_key(id)).await? else { return Ok(None) };
        if item.contains_key(DELETED_AT) {
            return Ok(Some(None));
        }
        let last = if item.contains_key(EDITS) {
            read("a post's edits", &mut item, EDITS)?
        } else {
            BTreeMap::new()
        };
        Ok(Some(Some(Edited { post: read("a post", &mut item, "post")?, last })))
    }
}

/// Of a post that was deleted: when, in epoch seconds.
const DELETED_AT: &str = "deleted_at";
/// Of a post that was edited: the latest edit of each field.
const EDITS: &str = "edits";
/// How often an edit is merged again that another one came in the way of.
const MOST_MERGES: usize = 8;

impl PostEditor for PostsTable {
    async fn edit(&self, edit: &Edit) -> Result<Option<Post>> {
        // Where tries that came to nothing have put it.
        let mut tried = BTreeSet::new();
        for _ in 0..MOST_MERGES {
            let Some(old) = self.stored(&edit.post_id).await?.ok_or_else(not_stored)? else {
                self.delete_entries(&tried).await?;
                return Ok(None);
            };
            let mut new = old.clone();
            let changed = new.merge(edit);
            if !changed {
                // Somebody may have ended right before its entries were those of what is stored, or have written those of
                // an older form since.
                let moves = edit.moves_entries() || !tried.is_empty();
                return if moves {
                    self.settle_entries(edit.post_id, tried).await
                } else {
                    Ok(Some(old.post))
                };
            }
            // The entries first, as for a new post.
            if edit.moves_entries() {
                tried.extend(EntryKey::of(&old.post));
                self.put_entries_in_place_of(&tried, &new.post).await?;
            }
            if self.replace(&old.post, &new).await? {
                return Ok(Some(new.post));
            }
            tried.extend(EntryKey::of(&new.post));
        }
        Err(edited_by_many())
    }

    async fn remove(&self, deletion: &Deletion) -> Result<()> {
        let Deletion { post_id, deleted_at } = deletion;
        if let Some(Some(Edited { post, .. })) = self.stored(post_id).await? {
            self.delete_entries(&EntryKey::of(&post)).await?;
        }
        let mut item = post_key(post_id);
        item.insert(DELETED_AT.to_owned(), number(deleted_at.as_second()));
        let put = self.table.put_item(item).return_values(ReturnValue::AllOld).send().await;
        // Who settled entries meanwhile did so before they could see this.
        match put.map_err(failed(self.table.service))?.attributes {
            Some(mut old) if old.contains_key("post") => {
                let post: Post = read("a post", &mut old, "post")?;
                self.delete_entries(&EntryKey::of(&post)).await
            }
            _ => Ok(()),
        }
    }
}

fn not_stored() -> Error {
    Error::unavailable("posts", "a post is edited that is not stored")
}

fn edited_by_many() -> Error {
    Error::unavailable("posts", "a post is edited by many at once")
}

/// Why entries were not put.
enum Unwritten {
    /// An item is not one that DynamoDB takes.
    Refused(String),
    /// It cannot be done now.
    Failed(String),
}

impl Unwritten {
    fn into_error(self, service: &'static str) -> Error {
        let (Self::Refused(cause) | Self::Failed(cause)) = self;
        Error::unavailable(service, cause)
    }
}

impl Posts for PostsTable {
    async fn get(&self, ids: &[PostId]) -> Result<Vec<Post>> {
        // A batch that names a key twice is refused.
        let ids: Vec<PostId> = ids.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        let chunks = ids.chunks(MOST_READ).map(<[PostId]>::to_vec);
        let reads = stream::iter(chunks).map(|chunk| async move {
            let found = self.table.get_all(chunk.iter().map(post_key).collect()).await?;
            let there = found.into_iter().filter(|item| !item.contains_key(DELETED_AT));
            there.map(|mut item| read("a post", &mut item, "post")).collect::<Result<Vec<_>>>()
        });
        reads.buffer_unordered(CONCURRENT).try_concat().await
    }
}

impl PostStore for PostsTable {
    async fn store(&self, posts: &[Post]) -> Vec<Result<Stored>> {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        let mut refused: HashMap<PostId, String> = HashMap::new();
        for post in posts.iter().filter(|post| seen.insert(post.post_id)) {
            match entry_items(post) {
                Ok(items) => entries.extend(items.into_iter().map(|item| (post.post_id, item))),
                Err(error) => drop(refused.insert(post.post_id, error.to_string())),
            }
        }
        let chunks: Vec<_> =
            entries.chunks(MOST_WRITTEN).map(|chunk| self.put_chunk(chunk.to_vec())).collect();
        let unwritten: Vec<_> = stream::iter(chunks).buffer_unordered(CONCURRENT).collect().await;
        refused.extend(unwritten.into_iter().flatten());
        let indexed: Vec<_> = posts.iter().filter(|post| !refused.contains_key(&post.post_id)).collect();
        let chunks: Vec<_> = indexed.chunks(MOST_WRITTEN).map(|chunk| self.insert(chunk)).collect();
        let inserted: Vec<_> = stream::iter(chunks).buffer_unordered(CONCURRENT).collect().await;
        let mut inserted: HashMap<PostId, _> = inserted.into_iter().flatten().collect();
        let stored: Vec<_> = posts
            .iter()
            .map(|post| {
                // Where a post is named twice, this became of the first.
                let inserted = inserted.remove(&post.post_id);
                let refused = refused.get(&post.post_id).cloned();
                async move {
                    match inserted {
                        Some(became) => became,
                        None => self.put_unless(refused, post).await,
                    }
                }
            })
            .collect();
        stream::iter(stored).buffered(CONCURRENT).collect().await
    }
}

impl PlaceIndex for PostsTable {
    async fn newest(&self, key: &PlaceKey, before: Option<PostId>, limit: usize) -> Result<Vec<PlaceEntry>> {
        let condition = if before.is_some() { "pk = :pk AND sk < :before" } else { "pk = :pk" };
        let query = self.table.query().key_condition_expression(condition).scan_index_forward(false);
        let query = query.expression_attribute_values(":pk", text(place(key)));
        let query = match before {
            Some(before) => query.expression_attribute_values(":before", text(before)),
            None => query,
        };
        let items = self.table.find(query, limit).await?.into_iter();
        items.map(|mut item| read("a place entry", &mut item, "entry")).collect()
    }
}

impl EventIndex for PostsTable {
    async fn soonest(
        &self,
        key: &EventKey,
        span: Span,
        after: Option<EventPosition>,
        limit: usize,
    ) -> Result<Vec<EventEntry>> {
        // A little beyond the last one: no key is in between. And beyond all of an instant, since `$` comes after `#`.
        let after = after.map(|after| format!("{}+", event_sort_key(after)));
        let first = after.into_iter().chain([sortable(span.starts_at())]).max();
        let last = format!("{}$", sortable(span.ends_at()));
        let Some(first) = first.filter(|first| *first <= last) else { return Ok(Vec::new()) };
        let query = self.table.query().key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last");
        let query = query.expression_attribute_values(":pk", text(event_place(key)));
        let query = query.expression_attribute_values(":first", text(first));
        let query = query.expression_attribute_values(":last", text(last));
        let items = self.table.find(query, limit).await?.into_iter();
        items.map(|mut item| read("an event entry", &mut item, "entry")).collect()
    }
}

fn post_key(id: &PostId) -> Item {
    keys(format!("post#{id}"), "post")
}

fn post_item(post: &Post) -> Result<Item> {
    let mut item = post_key(&post.post_id);
    item.insert("post".to_owned(), write("a post", post)?);
    Ok(item)
}

fn place(key: &PlaceKey) -> String {
    match key {
        PlaceKey::Cell(cell) => format!("cell#{cell}"),
        PlaceKey::Wide(cell) => format!("wide#{cell}"),
        PlaceKey::Anywhere(category) => format!("anywhere#{category}"),
        PlaceKey::By(author) => format!("by#{author}"),
    }
}

fn event_place(key: &EventKey) -> String {
    match key {
        EventKey::All => "event#*".to_owned(),
        EventKey::At(key) => format!("event#{}", place(key)),
    }
}

fn event_sort_key((starts_at, id): EventPosition) -> String {
    format!("{}#{id}", sortable(starts_at))
}

/// A time as sixteen digits: of two, the one that is less as a text is the earlier one, before the year 0 too.
fn sortable(time: Timestamp) -> String {
    format!("{:016x}", time.as_millisecond().cast_unsigned() ^ (1 << 63))
}

/// Where an entry of an index stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EntryKey {
    pk: String,
    sk: String,
}

impl EntryKey {
    /// Where a post's entries stand.
    fn of(post: &Post) -> BTreeSet<Self> {
        Self::in_places(post).chain(Self::among_events(post)).collect()
    }

    fn in_places(post: &Post) -> impl Iterator<Item = Self> {
        let sk = post.post_id.to_string();
        PlaceKey::of(post).into_iter().map(move |key| Self { pk: place(&key), sk: sk.clone() })
    }

    fn among_events(post: &Post) -> impl Iterator<Item = Self> {
        let sk = EventEntry::of(post).map(|entry| event_sort_key(entry.position()));
        let keys = EventKey::of(post).into_iter();
        keys.filter_map(move |key| Some(Self { pk: event_place(&key), sk: sk.clone()? }))
    }

    fn item(&self) -> Item {
        keys(&self.pk, &self.sk)
    }
}

/// A post's entries.
fn entry_items(post: &Post) -> Result<Vec<Item>> {
    let of_places = write("a place entry", &PlaceEntry::of(post))?;
    let of_events = EventEntry::of(post).map(|entry| write("an event entry", &entry)).transpose()?;
    let with = |key: EntryKey, entry: &AttributeValue| {
        let mut item = key.item();
        item.insert("entry".to_owned(), entry.clone());
        item
    };
    let places = EntryKey::in_places(post).map(|key| with(key, &of_places));
    let events = EntryKey::among_events(post).filter_map(|key| Some(with(key, of_events.as_ref()?)));
    Ok(places.chain(events).collect())
}

fn pause(round: u32) -> Duration {
    Duration::from_millis(25 << round)
}
