//! Sharing: one person tells their friends of a post.
//!
//! Each friend finds it in their inbox, and their phones ring, as they would for a post that they follow. To share again
//! what was shared changes nothing and rings nobody, so a request whose answer got lost is simply sent again.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _, future::join, stream};
use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::Caller,
    error::{FieldError, Invalid},
    friendship::{self, Friendship, Hidden, HiddenCache, Relations},
    ids::{PostId, UserId},
    input::{Fields, parsed},
    notification::{Because, Inboxes, Notification},
    posts::{self, PostCache, Posts},
    push::{News, PushJob, PushQueue, PushRecipient},
    time::Timestamp,
};

/// With whom a post is shared: 1 to [`Friends::MOST`] people, each once, in the order in which they were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Friends(Vec<UserId>);

impl Friends {
    /// The most at once: those of one push job.
    pub const MOST: usize = PushJob::MOST_RECIPIENTS;

    /// Reads the body of `share-post`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        if !fields.has("user_ids") {
            fields.refuse::<()>("user_ids", Invalid::new("required", "is required"));
        }
        let ids = fields.list("user_ids", Self::MOST, parsed(str::parse::<UserId>));
        if let Some(ids) = &ids {
            if ids.is_empty() {
                fields.refuse::<()>("user_ids", Invalid::new("too_few", "must have at least 1 item"));
            } else if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
                fields.refuse::<()>("user_ids", Invalid::new("not_unique", "must not name anybody twice"));
            }
        }
        let Some(ids) = ids else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self(ids))
    }
}

/// How many inboxes are added to at once.
const CONCURRENT: usize = 16;

/// The ports of [`Sharing::share`].
#[derive(Debug)]
pub struct Sharing<'a, C, P, K, F, I, Q> {
    /// The cached posts.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// Who is hidden from whom, at hand.
    pub hidden_cache: &'a K,
    /// Who is whose friend, and hidden from whom.
    pub friendships: &'a F,
    /// The friends' inboxes.
    pub inboxes: &'a I,
    /// The way to their phones.
    pub queue: &'a Q,
}

impl<C, P, K, F, I, Q> Sharing<'_, C, P, K, F, I, Q>
where
    C: PostCache,
    P: Posts,
    K: HiddenCache,
    F: Relations + Hidden,
    I: Inboxes,
    Q: PushQueue,
{
    /// Shares a post that the caller can see with friends of theirs; with all that are named, or none. A friend from whom
    /// the post's author is hidden is told nothing, and the caller nothing of it.
    pub async fn share(
        &self,
        caller: &Caller,
        post_id: PostId,
        with: &Friends,
        now: Timestamp,
    ) -> Result<()> {
        let me = caller.user_id;
        let hidden_from_me = friendship::hidden_from(self.hidden_cache, self.friendships, me);
        let post = posts::get(self.cache, self.posts, hidden_from_me, caller, post_id);
        let (post, known) = join(post, Relations::of(self.friendships, me, &with.0)).await;
        let (post, known) = (post?, known?);
        if post.withheld {
            return Err(Refusal::not_found("post").into());
        }
        let is_friend =
            |id: &UserId| known.get(id).is_some_and(|known| known.friendship == Friendship::Accepted);
        let strangers = with.0.iter().enumerate().filter(|(_, id)| !is_friend(id));
        let strangers: Vec<_> = strangers.map(|(index, _)| not_a_friend(index)).collect();
        if !strangers.is_empty() {
            return Err(Refusal::invalid(strangers).into());
        }
        let author = post.author.as_ref().map(|author| author.user_id);
        let hidden_from_author = match author.filter(|author| *author != me) {
            Some(author) => friendship::hidden_from(self.hidden_cache, self.friendships, author).await?,
            None => HashSet::new(),
        };
        let because = Because::Shared { shared_by: me };
        let told: Vec<_> = with.0.iter().copied().filter(|id| !hidden_from_author.contains(id)).collect();
        if told.is_empty() {
            return Ok(());
        }
        let notification = Notification::new(post_id, because, now);
        let add = |friend| async move { self.inboxes.add(friend, &notification).await.map(drop) };
        // Before it is queued: what rings a phone is in its owner's inbox.
        stream::iter(told.clone()).map(add).buffer_unordered(CONCURRENT).try_collect::<()>().await?;
        let recipients = told.iter().map(|user_id| PushRecipient { user_id: *user_id, because }).collect();
        // Queued also where all have it already: the try before may have ended in between, and nobody's phone rings twice.
        let job = [PushJob { post_id, news: News::Posted, told_at: now, recipients }];
        self.queue.enqueue(&job).await
    }
}

fn not_a_friend(index: usize) -> FieldError {
    Invalid::new("not_a_friend", "must be a friend of yours").at(format!("/user_ids/{index}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time;

    #[test]
    fn friends_are_named_once_and_not_too_many() {
        let ids: Vec<_> = (0..=Friends::MOST).map(|_| UserId::new(time::now()).to_string()).collect();
        assert_eq!(Friends::from_json(&json!({"user_ids": ids[1..]})).unwrap().0.len(), Friends::MOST);
        let code = |body: Value| Friends::from_json(&body).unwrap_err().errors[0].clone();
        for (body, pointer, expected) in [
            (json!({}), "/user_ids", "required"),
            (json!({"user_ids": []}), "/user_ids", "too_few"),
            (json!({"user_ids": ids}), "/user_ids", "too_many"),
            (json!({"user_ids": [ids[0], ids[0]]}), "/user_ids", "not_unique"),
            (json!({"user_ids": [ids[0], "x"]}), "/user_ids/1", "invalid_id"),
            (json!({"user_ids": "x"}), "/user_ids", "wrong_type"),
        ] {
            let error = code(body);
            assert_eq!((error.pointer.as_str(), error.code), (pointer, expected));
        }
    }
}
