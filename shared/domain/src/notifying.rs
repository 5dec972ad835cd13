//! Notifying: who is told when something happens to a post, and the jobs that their phones ring by.
//!
//! A new post is told to its audience, and so is one that is worse than it was. A feed's post whose audience may be another
//! one by now is told to that, and rings for those who have not heard of it ([`crate::delivery`]). That it is over is told to
//! those who were told of it, and a minute later again to those who were just being told: a push that was under way when the
//! post ended is followed by its end as well.

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
    /// Where the pushes of an audience wait that is told at once.
    pub prompt: &'a Q,
    /// Where those of a large audience wait: the others do not wait behind them.
    pub bulk: &'a Q,
    /// Where the rest of a large audience waits.
    pub steps: &'a S,
    /// What is much.
    pub sizes: Sizes,
}

/// Which part of an audience it is.
#[derive(Clone, Copy)]
enum Part {
    First,
    Later,
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
            PostChange::Created(post) if post.quiet => Ok(0),
            PostChange::Created(post) => {
                // A job names the post alone, and must find it, also while nothing is at hand.
                let stored =
                    posts::ensure_stored(self.posts, self.posts, std::slice::from_ref(&**post)).await;
                let Some(post) = stored.into_iter().next().transpose()?.flatten() else { return Ok(0) };
                let (told_at, walk) = (post.created_at, Walk::over(&post));
                self.ring_part(&post, News::Posted, told_at, (Part::First, walk)).await
            }
            PostChange::Edited(edit) => {
                if edit.status().is_none() && !edit.moves_audience() {
                    return Ok(0);
                }
                let Some(post) = self.posts.edit(edit).await? else { return Ok(0) };
                let Some(news) = News::of(edit, &post) else { return Ok(0) };
                if !news.is_an_end() {
                    let walk = Walk::over(&post);
                    return self.ring_part(&post, news, edit.time(), (Part::First, walk)).await;
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

    /// The next part of a large audience; what is left of it after that is queued.
    pub async fn ring(&self, post: &Post, news: News, told_at: Timestamp, walk: Walk) -> Result<usize> {
        self.ring_part(post, news, told_at, (Part::Later, walk)).await
    }

    /// A part of those who follow a post, without its author, and nobody who is hidden from them; what is left of them after
    /// it is queued.
    async fn ring_part(
        &self,
        post: &Post,
        news: News,
        told_at: Timestamp,
        (part, mut walk): (Part, Walk),
    ) -> Result<usize> {
        if !news.holds(post) {
            return Ok(0);
        }
        let recipients = walk.next(self.audience, self.large, post, told_at, self.sizes).await?;
        let recipients = recipients.into_iter().filter_map(|recipient| {
            let because = Because::Subscription { subscription_id: recipient.push_because? };
            Some(PushRecipient { user_id: recipient.user_id, because })
        });
        let queue = self.queue(part, walk.is_over());
        let count = self.enqueue(queue, post, news, told_at, recipients.collect()).await?;
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
        let part = if from.is_none() { Part::First } else { Part::Later };
        let (told, next) = self.told.told(post.post_id, from, PUSHES_AT_ONCE).await?;
        let once: BTreeMap<_, _> = told.into_iter().map(|one| (one.user_id, one)).collect();
        let queue = self.queue(part, next.is_none());
        let count = self.enqueue(queue, post, news, told_at, once.into_values().collect()).await?;
        if next.is_some() {
            let task = Task::RingAgain { news, told_at, from: next };
            self.steps.enqueue(&Step { post_id: post.post_id, task }, Duration::ZERO).await?;
        }
        Ok(count)
    }

    /// Where the pushes of a part wait: of all of an audience that is one part, or of one of many.
    const fn queue(&self, part: Part, is_last: bool) -> &Q {
        match (part, is_last) {
            (Part::First, true) => self.prompt,
            _ => self.bulk,
        }
    }

    async fn enqueue(
        &self,
        queue: &Q,
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
            queue.enqueue(&jobs).await?;
        }
        Ok(recipients.len())
    }
}
