//! What is done with posts: accepted into the log, stored, read, and found by place.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    future::Future,
    ops::RangeInclusive,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, Refusal, Result,
    access_token::Caller,
    audience::AudienceKey,
    category::{self, Categories, CategoryName},
    cover::{self, Region},
    error::{Invalid, Kind},
    friendship::HiddenPeople,
    ids::{PostId, UserId},
    place::{Cell, Circle, Point},
    post::{Author, NewPost, Post, Severity, Tags},
    post_edit::Edit,
    post_log::{Deletion, PostChange, PostLog, PostRecord},
    subscription::{Happening, Wish},
    time::{self, Timestamp},
};

/// Reads posts.
pub trait Posts: Sync {
    /// These posts, in any order; those that are not there are left out. Read consistently.
    fn get(&self, ids: &[PostId]) -> impl Future<Output = Result<Vec<Post>>> + Send;
}

/// Stores posts.
pub trait PostStore: Sync {
    /// Stores each post that is not there yet, with its entries in the place index, which are there before it is.
    /// Answers for each in turn; storing a post again changes nothing.
    fn store(&self, posts: &[Post]) -> impl Future<Output = Vec<Result<Stored>>> + Send;
}

/// Changes stored posts.
pub trait PostEditor: Sync {
    /// Merges an edit into the stored post, with its entries in the place index; answers the post as it is then, or none
    /// where it was deleted. Of a post that is not stored it is an error: it has not begun yet.
    fn edit(&self, edit: &Edit) -> impl Future<Output = Result<Option<Post>>> + Send;
    /// Removes a post and its entries, and remembers that it was deleted: nothing stores it again.
    fn remove(&self, deletion: &Deletion) -> impl Future<Output = Result<()>> + Send;
}

/// What became of a post that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is new.
    New,
    /// It was there, in this form or a later one.
    Already,
    /// It was deleted.
    Deleted,
}

/// Keeps posts at hand for a while: they are read there first.
pub trait PostCache: Sync {
    /// What is at hand of these posts.
    fn get(&self, ids: &[PostId]) -> impl Future<Output = Result<AtHand>> + Send;
    /// Keeps these posts, but none in place of one that is there, or is known to be deleted.
    fn put(&self, posts: &[Post]) -> impl Future<Output = Result<()>> + Send;
}

/// Changes posts at hand. The changes of one post come one after the other.
pub trait PostCacheEditor: Sync {
    /// Keeps the stored form of a post in place of one with as many revisions or fewer, or of none.
    fn replace(&self, post: &Post) -> impl Future<Output = Result<()>> + Send;
    /// Keeps a post, as it will be when the log is read, in place of a form of it with fewer revisions, or of none. Who edits
    /// it at the same time foresees another form of as many revisions: the stored one replaces both.
    fn foresee(&self, post: &Post) -> impl Future<Output = Result<()>> + Send;
    /// Keeps a post no more, and remembers that it was deleted, so that a late reader puts none in its place.
    fn remove(&self, id: PostId) -> impl Future<Output = Result<()>> + Send;
}

/// What is at hand of some posts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AtHand {
    /// Posts, in any order.
    pub posts: Vec<Post>,
    /// Those that are known to be deleted.
    pub deleted: Vec<PostId>,
}

/// Reads posts by place.
pub trait PlaceIndex: Sync {
    /// Up to `limit` entries under a key, the newest first, from the first one before `before` on. Read consistently.
    fn newest(
        &self,
        key: &PlaceKey,
        before: Option<PostId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<PlaceEntry>>> + Send;
}

/// Where in the place index a post stands: in its cell of each of [`PlaceKey::RESOLUTIONS`], in its category, and under its
/// author, if it has one.
///
/// A post with an area stands in each cell of a cover of it, and in the cells around that. Where a cell of the cover is
/// coarse, all cells in it would have the post as well: who looks into one of these looks for [`PlaceKey::Wide`] posts in
/// the cells around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlaceKey {
    /// All posts in a cell, but those that are as wide as a cell around it.
    Cell(Cell),
    /// The posts with an area that covers a cell.
    Wide(Cell),
    /// All posts of a category, anywhere.
    Anywhere(CategoryName),
    /// All posts of a person.
    By(UserId),
}

/// What the place index knows of a post: enough to tell whether it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceEntry {
    /// The post.
    pub post_id: PostId,
    /// Its category.
    pub category: CategoryName,
    /// Its tags.
    pub tags: Tags,
    /// How bad it is.
    pub severity: Severity,
    /// Where it happens.
    pub location: Point,
    /// How far from there it reaches, in metres: 0 unless it has an area.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reach_m: f64,
    /// Who wrote it, so that posts of hidden people are passed over here. An entry from before this was told has none.
    #[serde(default)]
    pub author: Option<UserId>,
}

impl Happening for PlaceEntry {
    fn category(&self) -> &CategoryName {
        &self.category
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }

    fn severity(&self) -> Severity {
        self.severity
    }
}

/// What is known of an area here: it is never farther away than this says.
impl Region for PlaceEntry {
    fn signed_distance_m(&self, point: Point) -> f64 {
        self.location.distance_m(point) - self.reach_m
    }

    fn may_touch(&self, cell: &Cell) -> bool {
        if self.reach_m > 0.0 { cover::may_touch(self, cell) } else { cell.holds(self.location) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl PlaceEntry {
    /// A post's entry.
    #[must_use]
    pub fn of(post: &Post) -> Self {
        Self {
            post_id: post.post_id,
            category: post.category.clone(),
            tags: post.tags.clone(),
            severity: post.severity,
            location: post.location,
            reach_m: post.area.as_ref().map_or(0.0, |area| area.reach_m(post.location)),
            author: post.author.as_ref().map(|author| author.user_id),
        }
    }

    /// Whether its author is nobody who is hidden.
    #[must_use]
    pub fn is_shown(&self, hidden: &HiddenPeople) -> bool {
        self.author.is_none_or(|author| !hidden.contains(&author))
    }
}

impl PlaceKey {
    /// The resolutions of the index: edges of 1.4, 9.9 and 69 km. A circle is looked up at the finest one at which few
    /// cells cover it.
    pub const RESOLUTIONS: [u8; 3] = [7, 5, 3];
    /// How many cells are few.
    const FEW: usize = 32;

    /// The most cells that an area is covered with, unless it is larger than as many of the coarsest.
    const MOST_CELLS: usize = 16;

    /// The keys under which a post is stored: five, and some tens where it has an area.
    #[must_use]
    pub fn of(post: &Post) -> BTreeSet<Self> {
        let author = post.author.as_ref().map(|author| Self::By(author.user_id));
        let mut keys: BTreeSet<_> = author.into_iter().collect();
        keys.insert(Self::Anywhere(post.category.clone()));
        let [finest, .., coarsest] = Self::RESOLUTIONS;
        let cover = match &post.area {
            Some(area) => cover::cover(area, coarsest, finest, Self::MOST_CELLS),
            None => vec![post.location.cell(finest)],
        };
        for cell in cover.iter().map(Self::indexed) {
            keys.extend(Self::resolutions_to(&cell).map(|resolution| Self::Cell(cell.ancestor(resolution))));
            if cell.resolution() < finest {
                keys.insert(Self::Wide(cell));
            }
        }
        keys
    }

    /// The cell of the index that a cell is in.
    fn indexed(cell: &Cell) -> Cell {
        cell.ancestor(Self::resolutions_to(cell).next().unwrap_or_default())
    }

    /// The resolutions of the index from a cell's own on, the finest first.
    fn resolutions_to(cell: &Cell) -> impl Iterator<Item = u8> + use<> {
        let own = cell.resolution();
        Self::RESOLUTIONS.into_iter().filter(move |resolution| *resolution <= own)
    }

    /// Keys under which all posts are that touch one of these cells of the index.
    fn touching(cells: &[Cell]) -> BTreeSet<Self> {
        let wide = cells.iter().flat_map(|cell| {
            Self::resolutions_to(cell).skip(1).map(|resolution| Self::Wide(cell.ancestor(resolution)))
        });
        cells.iter().cloned().map(Self::Cell).chain(wide).collect()
    }

    /// Keys under which all posts are that an audience's key finds.
    #[must_use]
    pub fn around(key: &AudienceKey) -> BTreeSet<Self> {
        match &key.cell {
            Some(cell) => Self::touching(&[Self::indexed(cell)]),
            None => BTreeSet::from([Self::Anywhere(key.category.clone())]),
        }
    }

    /// Keys under which all posts are that lie in a circle.
    #[must_use]
    pub fn within(circle: Circle) -> BTreeSet<Self> {
        Self::at_the_finest(&[circle])
    }

    /// Keys under which all posts are that match one of these wishes.
    #[must_use]
    pub fn wished_for<'a>(wishes: impl Iterator<Item = &'a Wish>) -> BTreeSet<Self> {
        let (mut circles, mut anywhere) = (Vec::new(), BTreeSet::new());
        for wish in wishes {
            match wish.area {
                // Many wishes are around one home.
                Some(area) if !circles.contains(&area) => circles.push(area),
                Some(_) => {}
                None => {
                    anywhere.insert(Self::Anywhere(wish.category.clone()));
                }
            }
        }
        let mut keys = Self::at_the_finest(&circles);
        keys.append(&mut anywhere);
        keys
    }

    /// The keys of the cells that cover the circles: of the finest resolution at which they are few, or of the coarsest.
    fn at_the_finest(circles: &[Circle]) -> BTreeSet<Self> {
        let cells = |resolution: u8, most: usize| {
            let mut cells = BTreeSet::new();
            for circle in circles {
                cells.extend(cover::cells(circle, resolution, most)?);
                if cells.len() > most {
                    return None;
                }
            }
            Some(Vec::from_iter(cells))
        };
        let [fine, middle, coarse] = Self::RESOLUTIONS;
        let few = cells(fine, Self::FEW).or_else(|| cells(middle, Self::FEW));
        Self::touching(&few.or_else(|| cells(coarse, usize::MAX)).unwrap_or_default())
    }
}

/// The newest posts under several keys, merged: the way from the place index to every list.
#[derive(Debug)]
pub struct Newest<'a, I> {
    index: &'a I,
    streams: Vec<Stream>,
    /// How many entries may still be looked at.
    budget: usize,
    last: Option<PostId>,
}

#[derive(Debug)]
struct Stream {
    key: PlaceKey,
    before: Option<PostId>,
    read: VecDeque<PlaceEntry>,
    /// How many entries were read at once the last time.
    chunk: usize,
    ended: bool,
}

/// What [`Newest`] found.
#[derive(Debug)]
pub struct Found {
    /// The entries that were wanted, the newest first.
    pub entries: Vec<PlaceEntry>,
    /// The last entry that was looked at, wanted or not, if there may be more after it.
    pub more_after: Option<PostId>,
}

impl<'a, I: PlaceIndex> Newest<'a, I> {
    /// How many entries one list looks at, wanted or not: what is read of them in a second or two.
    const BUDGET: usize = 50_000;
    /// How many entries are read at once under a key, at first; twice as many each time, as long as little is wanted.
    const FIRST_CHUNKS: RangeInclusive<usize> = 10..=100;
    /// How many are at most: some 250 KiB.
    const MOST_IN_CHUNK: usize = 1_000;
    const CONCURRENT_READS: usize = 16;

    /// Begins after `before`.
    pub fn new(index: &'a I, keys: BTreeSet<PlaceKey>, before: Option<PostId>) -> Self {
        let streams: Vec<_> = keys
            .into_iter()
            .map(|key| Stream { key, before, read: VecDeque::new(), chunk: 0, ended: false })
            .collect();
        Self { index, streams, budget: Self::BUDGET, last: before }
    }

    /// The next `count` entries that are wanted, or fewer at the end, or when the budget is spent.
    pub async fn take(&mut self, count: usize, wanted: impl Fn(&PlaceEntry) -> bool) -> Result<Found> {
        let mut entries = Vec::new();
        while entries.len() < count && !self.is_spent() {
            self.refill(count).await?;
            let newest =
                self.streams.iter_mut().max_by_key(|stream| stream.read.front().map(|entry| entry.post_id));
            let Some(entry) = newest.and_then(|stream| stream.read.pop_front()) else {
                return Ok(Found { entries, more_after: None });
            };
            self.budget -= 1;
            // A post can stand under two of the keys: then it comes twice in a row.
            let again = self.last == Some(entry.post_id);
            self.last = Some(entry.post_id);
            if !again && wanted(&entry) {
                entries.push(entry);
            }
        }
        Ok(Found { entries, more_after: self.last })
    }

    /// Whether it has looked at as many entries as one list may.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.budget == 0
    }

    /// Reads on wherever the next entry is not known: little under each of many keys, since most of it is not looked at.
    async fn refill(&mut self, count: usize) -> Result<()> {
        let fair = Self::BUDGET / self.streams.len().max(1);
        let first = count.min(fair).clamp(*Self::FIRST_CHUNKS.start(), *Self::FIRST_CHUNKS.end());
        let index = self.index;
        let dry = self.streams.iter_mut().filter(|stream| stream.read.is_empty() && !stream.ended);
        stream::iter(dry)
            .map(|stream| async move {
                stream.chunk = (2 * stream.chunk).clamp(first, Self::MOST_IN_CHUNK);
                let entries = index.newest(&stream.key, stream.before, stream.chunk).await?;
                stream.ended = entries.len() < stream.chunk;
                stream.before = entries.last().map(|entry| entry.post_id).or(stream.before);
                stream.read = entries.into();
                Ok::<_, Error>(())
            })
            .buffer_unordered(Self::CONCURRENT_READS)
            .try_collect()
            .await
    }
}

/// A key that makes a repeated request the same post: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses the header.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("invalid_idempotency_key", "must be 1 to 255 visible ASCII characters"))
        }
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Remembers which post a request was.
pub trait Idempotency: Sync {
    /// Claims a key for a request, or answers what it was claimed for. A claim lasts for a day.
    fn claim(
        &self,
        owner: UserId,
        key: &IdempotencyKey,
        claim: &Claim,
        now: Timestamp,
    ) -> impl Future<Output = Result<Claim>> + Send;
}

/// The request behind a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The post that it is.
    pub post_id: PostId,
    /// A hash of its content.
    pub fingerprint: String,
}

/// How long a claim lasts, in seconds.
pub const CLAIM_SECONDS: u64 = 24 * 60 * 60;

/// The ports of [`create`].
#[derive(Debug)]
pub struct Creation<'a, C, I, L, P> {
    /// The list of categories.
    pub categories: &'a C,
    /// The claims.
    pub idempotency: &'a I,
    /// The log.
    pub log: &'a L,
    /// The cache, for the author to read the post in at once.
    pub cache: &'a P,
}

impl<C: Categories, I: Idempotency, L: PostLog, P: PostCache> Creation<'_, C, I, L, P> {
    /// Accepts a post: once this answers, the log has it. The same key and content is the same post.
    ///
    /// What fails leaves nothing half done: a claim without a record only names the post that a repetition becomes.
    pub async fn create(
        &self,
        caller: &Caller,
        key: Option<IdempotencyKey>,
        new: NewPost,
        now: Timestamp,
    ) -> Result<PostId> {
        category::must_exist(self.categories, &new.category, "/category").await?;
        let mut post_id = PostId::new(now);
        if let Some(key) = key {
            let mine = Claim { post_id, fingerprint: fingerprint(&new) };
            let claim = self.idempotency.claim(caller.user_id, &key, &mine, now).await?;
            if claim.fingerprint != mine.fingerprint {
                let detail = "this Idempotency-Key came with another post before";
                return Err(Refusal::new(Kind::Conflict, "idempotency_key_reused", detail).into());
            }
            post_id = claim.post_id;
        }
        let author = Author { user_id: caller.user_id, username: caller.username.clone() };
        let post = new.into_post(post_id, author);
        let detail = "the log did not confirm the post; send it again, with the same Idempotency-Key";
        append(self.log, &PostRecord::created(post.clone()), detail).await?;
        if let Err(error) = self.cache.put(&[post]).await {
            tracing::warn!(cache_unavailable = true, %error, %post_id, "an accepted post is not in the cache: its author reads it once stored");
        }
        Ok(post_id)
    }
}

/// Appends to the log; where it does not confirm that, the caller is told so, with what to do.
pub(crate) async fn append(
    log: &impl PostLog,
    record: &PostRecord,
    detail: &'static str,
) -> Result<(), Refusal> {
    log.append(record).await.map_err(|error| {
        tracing::error!(%error, key = record.key(), "the log did not take a record");
        Refusal::unavailable("log_unavailable", detail, Duration::from_secs(5))
    })
}

fn fingerprint(new: &NewPost) -> String {
    // `Debug` of the parsed post, so that spaces and the order of the JSON do not matter.
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{new:?}")))
}

/// Reads one post, from the cache or the storage. One by somebody who is hidden is not found, and neither is one that is
/// withheld, save by its author. Moderators find all: nobody escapes them by a block.
pub async fn get(
    cache: &impl PostCache,
    posts: &impl Posts,
    hidden: impl Future<Output = Result<HiddenPeople>>,
    caller: &Caller,
    id: PostId,
) -> Result<Post> {
    let ids = [id];
    let (found, hidden) = try_join(read(cache, posts, &ids), hidden).await?;
    let is_there = |post: &Post| {
        let may_change = may_change(caller, post);
        let is_shown = is_shown(post, &hidden) || caller.is_moderator();
        is_shown && (!post.withheld || may_change)
    };
    let found = found.into_iter().find(is_there);
    found.ok_or_else(|| Refusal::not_found("post").into())
}

/// A post that the caller sees, and may change.
pub async fn get_own(
    cache: &impl PostCache,
    posts: &impl Posts,
    hidden: impl Future<Output = Result<HiddenPeople>>,
    caller: &Caller,
    id: PostId,
) -> Result<Post> {
    let post = get(cache, posts, hidden, caller, id).await?;
    if may_change(caller, &post) {
        return Ok(post);
    }
    let detail = "it is for the post's author, and for moderators";
    Err(Refusal::new(Kind::Forbidden, "not_your_post", detail).into())
}

/// Whether somebody may change a post: its author, and moderators.
#[must_use]
fn may_change(caller: &Caller, post: &Post) -> bool {
    let is_author = post.author.as_ref().is_some_and(|author| author.user_id == caller.user_id);
    is_author || caller.is_moderator()
}

/// Reads posts, each from the cache or the storage, in the order of `ids`. What the cache lacked is put there; where it
/// fails, the storage alone serves.
pub async fn read(cache: &impl PostCache, posts: &impl Posts, ids: &[PostId]) -> Result<Vec<Post>> {
    let at_hand = cache.get(ids).await.unwrap_or_else(|error| {
        tracing::warn!(cache_unavailable = true, %error, "the post cache failed: posts are read from the storage");
        AtHand::default()
    });
    let AtHand { posts: mut found, deleted } = at_hand;
    let is_known = |id: &PostId| deleted.contains(id) || found.iter().any(|post| post.post_id == *id);
    let missing: Vec<_> = ids.iter().copied().filter(|id| !is_known(id)).collect();
    if !missing.is_empty() {
        let stored = posts.get(&missing).await?;
        if !stored.is_empty()
            && let Err(error) = cache.put(&stored).await
        {
            tracing::warn!(cache_unavailable = true, %error, "the post cache failed: posts are not kept at hand");
        }
        found.extend(stored);
    }
    let at = |post: &Post| ids.iter().position(|id| *id == post.post_id);
    found.sort_by_key(at);
    Ok(found)
}

/// Whether a post is still listed.
#[must_use]
pub fn is_listed(post: &Post, now: Timestamp) -> bool {
    !post.withheld && post.expires_at.is_none_or(|expires| expires > now)
}

/// Whether a post is by nobody who is hidden.
#[must_use]
pub fn is_shown(post: &Post, hidden: &HiddenPeople) -> bool {
    post.author.as_ref().is_none_or(|author| !hidden.contains(&author.user_id))
}

/// Makes sure that these posts are stored; answers each in turn as it is stored, which may be a later form, or none where
/// it was deleted.
pub async fn ensure_stored(
    posts: &impl Posts,
    store: &impl PostStore,
    wanted: &[Post],
) -> Vec<Result<Option<Post>>> {
    let ids: Vec<_> = wanted.iter().map(|post| post.post_id).collect();
    let there = posts.get(&ids).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell which posts are stored: all are stored again");
        Vec::new()
    });
    let mut there: HashMap<PostId, Post> = there.into_iter().map(|post| (post.post_id, post)).collect();
    let missing: Vec<_> = wanted.iter().filter(|post| !there.contains_key(&post.post_id)).cloned().collect();
    let stored = if missing.is_empty() { Vec::new() } else { store.store(&missing).await };
    let mut outcomes: HashMap<PostId, Result<Option<Post>>> = HashMap::new();
    for (post, outcome) in missing.into_iter().zip(stored) {
        let id = post.post_id;
        let form = match outcome {
            Ok(Stored::New) => Ok(Some(post)),
            // Somebody else stored it in between, or it could not be read before.
            Ok(Stored::Already) => posts.get(&[id]).await.map(|mut found| found.pop()),
            Ok(Stored::Deleted) => Ok(None),
            Err(error) => Err(error),
        };
        outcomes.insert(id, form);
    }
    let unanswered = || Err(Error::unavailable("posts", "the storage did not answer for a post"));
    let one = |id: &PostId| match there.remove(id) {
        Some(post) => Ok(Some(post)),
        None => outcomes.remove(id).unwrap_or_else(unanswered),
    };
    ids.iter().map(one).collect()
}

/// How many posts are changed at once.
const CONCURRENT_CHANGES: usize = 8;

/// Stores what happened to posts, each another; answers for each in turn. To do it again changes nothing.
pub async fn ingest(store: &(impl PostStore + PostEditor), changes: &[PostChange]) -> Vec<Result<Stored>> {
    let created: Vec<Post> = changes.iter().filter_map(PostChange::created).cloned().collect();
    let mut stored = if created.is_empty() { Vec::new() } else { store.store(&created).await }.into_iter();
    let outcomes: Vec<_> = changes
        .iter()
        .map(|change| {
            let created = change.created().map(|_| stored.next());
            async move {
                match change {
                    PostChange::Created(_) => created.flatten().unwrap_or_else(|| {
                        Err(Error::unavailable("posts", "the storage did not answer for a post"))
                    }),
                    PostChange::Edited(edit) => {
                        let post = store.edit(edit).await?;
                        Ok(post.map_or(Stored::Deleted, |_| Stored::Already))
                    }
                    PostChange::Deleted(deletion) => store.remove(deletion).await.map(|()| Stored::Deleted),
                }
            }
        })
        .collect();
    stream::iter(outcomes).buffered(CONCURRENT_CHANGES).collect().await
}

/// Publishes a sign of life into the log.
pub async fn send_heartbeat(log: &impl PostLog) -> Result<()> {
    log.append(&PostRecord::heartbeat(time::now())).await
}
