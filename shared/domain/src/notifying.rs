//! Notifying: who is told when something happens to a post, and the jobs that their phones ring by.
//!
//! A new post is told to its audience, and so is one that is worse than it was. That it is over is told to those who were
//! told of it, and a minute later again to those who were just being told: a push that was under way when the post ended
//! is followed by its end as well.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Result,
    audience::{Audience, Position, Sizes, Walk},
    fan_out::{Step, StepQueue, Task},
    friendship::Hidden,
    large_audience::LargeKeys,
    notification::Because,
    post::Post,
    post_log::PostChange,
    posts::{self, PostEditor, PostStore, Posts},
    push::{News, PushJob, PushQueue, PushRecipient, Told},
    time::Timestamp,
};

/// The ports of [`Notifying::notify`].
#[derive(Debug)]
pub struct Notifying<'a, P, A, L, H, D, Q, S> {
    /// The posts.
    pub posts: &'a P,
    /// Who is told.
    pub audience: &'a A,
    /// The keys with a large audience.
    pub large: &'a L,
    /// Who is hidden from whom.
    pub hidden: &'a H,
    /// Who was told.
    pub told: &'a D,
    /// Where pushes wait.
    pub queue: &'a Q,
    /// Where the rest of a large audience waits.
    pub steps: &'a S,
    /// What is much.
    pub sizes: Sizes,
}

/// How long after the end of a post those are looked for who were being told of it, in seconds: longer than a job takes.
const AFTERWARDS_SECONDS: u64 = 60;
/// How many pushes of a post are looked through at once.
const PUSHES_AT_ONCE: usize = 1_000;

impl<P, A, L, H, D, Q, S> Notifying<'_, P, A, L, H, D, Q, S>
where
    P: Posts + PostStore + PostEditor,
    A: Audience,
    L: LargeKeys,
    H: Hidden,
    D: Told,
    Q: PushQueue,
    S: StepQueue,
{
    /// Queues the pushes of what happened to a post, if it is anything that phones ring for. Answers to how many people, as
    /// far as it was done at once.
    pub async fn notify(&self, change: &PostChange) -> Result<usize> {
        match change {
            PostChange::Created(post) => {
                // A job names the post alone, and must find it, also while nothing is at hand.
                let stored =
                    posts::ensure_stored(self.posts, self.posts, std::slice::from_ref(&**post)).await;
                let Some(post) = stored.into_iter().next().transpose()?.flatten() else { return Ok(0) };
                let (told_at, walk) = (post.created_at, Walk::over(&post));
                self.ring(&post, News::Posted, told_at, walk).await
            }
            PostChange::Edited(edit) => {
                let Some(news) = News::of(edit) else { return Ok(0) };
                let Some(post) = self.posts.edit(edit).await? else { return Ok(0) };
                if !news.is_an_end() {
                    return self.ring(&post, news, edit.time(), Walk::over(&post)).await;
                }
                let count = self.ring_again(&post, news, edit.time(), None).await?;
                let task = Task::RingAgain { news, told_at: edit.time(), from: None };
                let again = Step { post_id: post.post_id, task };
                self.steps.enqueue(&again, Duration::from_secs(AFTERWARDS_SECONDS)).await?;
                Ok(count)
            }
            PostChange::Deleted(_) => Ok(0),
        }
    }

    /// The next part of those who follow a post, without its author, and nobody who is hidden from them; what is left of
    /// them after it is queued.
    pub async fn ring(&self, post: &Post, news: News, told_at: Timestamp, mut walk: Walk) -> Result<usize> {
        if !news.holds(post) {
            return Ok(0);
        }
        let part = walk.next(self.audience, self.large, post, told_at, self.sizes).await?;
        let recipients = part.into_iter().filter_map(|recipient| {
            let because = Because::Subscription { subscription_id: recipient.push_because? };
            Some(PushRecipient { user_id: recipient.user_id, because })
        });
        let count = self.queue(post, news, told_at, recipients.collect()).await?;
        if !walk.is_over() {
            let task = Task::Ring { news, told_at, walk };
            self.steps.enqueue(&Step { post_id: post.post_id, task }, Duration::ZERO).await?;
        }
        Ok(count)
    }

    /// The next of those who were told of a post; what is left of them after it is queued.
    pub async fn ring_again(
        &self,
        post: &Post,
        news: News,
        told_at: Timestamp,
        from: Option<Position>,
    ) -> Result<usize> {
        if !news.holds(post) {
            return Ok(0);
        }
        let (told, next) = self.told.told(post.post_id, from, PUSHES_AT_ONCE).await?;
        let once: BTreeMap<_, _> = told.into_iter().map(|one| (one.user_id, one)).collect();
        let count = self.queue(post, news, told_at, once.into_values().collect()).await?;
        if next.is_some() {
            let task = Task::RingAgain { news, told_at, from: next };
            self.steps.enqueue(&Step { post_id: post.post_id, task }, Duration::ZERO).await?;
        }
        Ok(count)
    }

    async fn queue(
        &self,
        post: &Post,
        news: News,
        told_at: Timestamp,
        mut recipients: Vec<PushRecipient>,
    ) -> Result<usize> {
        if let Some(author) = post.author.as_ref().filter(|_| !recipients.is_empty()) {
            let hidden = self.hidden.of(author.user_id).await?;
            recipients.retain(|one| one.user_id != author.user_id && !hidden.contains(&one.user_id));
        }
        let job = |some: &[PushRecipient]| PushJob {
            post_id: post.post_id,
            news,
            told_at,
            recipients: some.to_vec(),
        };
        let jobs: Vec<_> = recipients.chunks(PushJob::MOST_RECIPIENTS).map(job).collect();
        if !jobs.is_empty() {
            self.queue.enqueue(&jobs).await?;
        }
        Ok(recipients.len())
    }
}
