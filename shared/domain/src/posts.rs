//! What is done with posts: accepted into the log, stored, and read.

use std::{collections::HashMap, future::Future, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::{StreamExt as _, future::try_join, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, Refusal, Result,
    access_token::Caller,
    category::{self, Categories},
    error::{Invalid, Kind},
    friendship::HiddenPeople,
    ids::{PostId, UserId},
    post::{Author, NewPost, Post},
    post_edit::Edit,
    post_log::{Deletion, PostChange, PostLog, PostRecord},
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
