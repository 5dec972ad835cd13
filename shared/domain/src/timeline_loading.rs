//! Loading: what happens to posts is brought to the cached timelines that it belongs in.

use std::time::Duration;

use futures::{StreamExt as _, stream};

use crate::{
    Error, Result,
    audience::{Audience, Sizes, Walk},
    fan_out::{Step, StepQueue, Task},
    large_audience::LargeKeys,
    post::Post,
    post_edit::Edit,
    post_log::PostChange,
    posts::{self, PostCacheEditor, PostEditor, PostStore, Posts},
    time,
    timeline::{Load, Owner, TimelineLoader},
};

/// The ports of [`Loading::load`].
#[derive(Debug)]
pub struct Loading<'a, P, A, L, T, C, Q> {
    /// The stored posts.
    pub posts: &'a P,
    /// Who is told.
    pub audience: &'a A,
    /// The keys with a large audience.
    pub large: &'a L,
    /// The cached timelines.
    pub timelines: &'a T,
    /// The cached posts.
    pub cache: &'a C,
    /// Where the rest of a large audience waits.
    pub queue: &'a Q,
    /// What is much.
    pub sizes: Sizes,
}

/// How many posts' audiences are found at once.
const CONCURRENT_AUDIENCES: usize = 8;

impl<P, A, L, T, C, Q> Loading<'_, P, A, L, T, C, Q>
where
    P: Posts + PostStore + PostEditor,
    A: Audience,
    L: LargeKeys,
    T: TimelineLoader,
    C: PostCacheEditor,
    Q: StepQueue,
{
    /// Brings what happened to posts, each another, to the cached timelines: new ones to those of their audiences, and
    /// what is there to its newest form. Answers for each in turn, with the number of timelines that it belongs in, as far
    /// as it was done at once. To load a change again changes nothing.
    pub async fn load(&self, changes: &[PostChange]) -> Vec<Result<usize>> {
        let stored = self.store(changes).await;
        // All timelines of all posts are written together.
        let begun: Vec<_> = stream::iter(stored)
            .map(|stored| async move {
                match stored? {
                    Some(post) => {
                        let walk = Walk::over(&post);
                        self.begin(post, walk).await.map(Some)
                    }
                    None => Ok(None),
                }
            })
            .buffered(CONCURRENT_AUDIENCES)
            .collect()
            .await;
        let (mut loads, mut outcomes) = (Vec::new(), Vec::with_capacity(changes.len()));
        for one in begun {
            outcomes.push(one.map(|part| {
                let (load, rest): (Option<Load>, _) = part.unzip();
                let size = load.as_ref().map_or(0, |load| load.owners.len());
                loads.extend(load);
                (size, rest.flatten())
            }));
        }
        if !loads.is_empty()
            && let Err(error) = self.timelines.load(&loads).await
        {
            let cause = error.to_string();
            return changes.iter().map(|_| Err(Error::unavailable("timelines", cause.clone()))).collect();
        }
        // Only now: a part that has to be done again must not have left a step each time.
        let queued = outcomes.into_iter().map(|outcome| async {
            let (size, rest) = outcome?;
            self.leave(rest).await.map(|()| size)
        });
        stream::iter(queued.collect::<Vec<_>>()).buffered(CONCURRENT_AUDIENCES).collect().await
    }

    /// Goes on with an audience that was too large to be done at once.
    pub async fn go_on(&self, post: Post, walk: Walk) -> Result<usize> {
        let (load, rest) = self.begin(post, walk).await?;
        let size = load.owners.len();
        self.timelines.load(&[load]).await?;
        self.leave(rest).await?;
        Ok(size)
    }

    /// Queues what is left of an audience, if anything is.
    async fn leave(&self, rest: Option<Step>) -> Result<()> {
        match rest {
            Some(step) => self.queue.enqueue(&step, Duration::ZERO).await,
            None => Ok(()),
        }
    }

    /// Makes sure that what happened is stored, and is so at hand; answers each post that is to be loaded.
    async fn store(&self, changes: &[PostChange]) -> Vec<Result<Option<Post>>> {
        let created: Vec<Post> = changes.iter().filter_map(PostChange::created).cloned().collect();
        let mut created = if created.is_empty() {
            Vec::new().into_iter()
        } else {
            posts::ensure_stored(self.posts, self.posts, &created).await.into_iter()
        };
        let mut stored = Vec::with_capacity(changes.len());
        for change in changes {
            stored.push(match change {
                // Where it was deleted, the log is replayed, and says so later.
                PostChange::Created(_) => created.next().unwrap_or(Ok(None)),
                PostChange::Edited(edit) => self.edit(edit).await,
                PostChange::Deleted(deletion) => self.cache.remove(deletion.post_id).await.map(|()| None),
            });
        }
        stored
    }

    /// Edits the post at hand, which is all that those need who have it in their timeline; answers it where it may be
    /// in others as well now.
    async fn edit(&self, edit: &Edit) -> Result<Option<Post>> {
        let Some(post) = self.posts.edit(edit).await? else {
            self.cache.remove(edit.post_id).await?;
            return Ok(None);
        };
        self.cache.replace(&post).await?;
        Ok(edit.enters_timelines().then_some(post))
    }

    /// The next part of a post's audience, and what is left after it. What is under a large key goes to the key's own
    /// timeline, and to nobody else's once all readers merge it.
    async fn begin(&self, post: Post, mut walk: Walk) -> Result<(Load, Option<Step>)> {
        let now = time::now();
        let known = self.large.all().await?;
        let merged = known.iter().filter(|large| large.is_merged(now));
        walk.pass_over(merged.map(|large| large.key.clone()));
        let part = walk.next(self.audience, self.large, &post, post.created_at, self.sizes).await?;
        let rest = (!walk.is_over()).then(|| Step { post_id: post.post_id, task: Task::Load { walk } });
        let users = part.into_iter().map(|recipient| Owner::User(recipient.user_id));
        let large = known.iter().filter(|large| large.is_remembered(now) && large.key.finds(&post));
        let keys = large.map(|large| Owner::Key(large.key.clone()));
        Ok((Load { owners: users.chain(keys).collect(), post }, rest))
    }
}
