//! The life of a post after it was posted: its author, or a moderator, edits it, ends it, or deletes it.
//!
//! What they do is a record of the log, as the post itself was, and answered once the log has it. The post at hand is
//! changed at once, so that they see what they did; everywhere else it arrives by the log.

use std::future::Future;

use serde_json::Value;

use crate::{
    Refusal, Result,
    access_token::Caller,
    area::Area,
    category::CategoryName,
    error::{Invalid, Kind},
    friendship::HiddenPeople,
    ids::PostId,
    input::{Fields, Patch, parsed, text},
    place::Point,
    post::{self, Post, PostStatus, Severity, Tags},
    post_edit::{Edit, FieldChange},
    post_log::{Deletion, PostChange, PostLog},
    posts::{self, PostCache, PostCacheEditor, Posts},
    time::{self, Timestamp},
};

/// What a PATCH asks of a post.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostPatch {
    title: Option<String>,
    body: Patch<String>,
    category: Option<CategoryName>,
    tags: Option<Tags>,
    severity: Option<Severity>,
    location: Option<Point>,
    area: Patch<Area>,
    starts_at: Patch<Timestamp>,
    ends_at: Patch<Timestamp>,
    expires_at: Patch<Timestamp>,
}

impl PostPatch {
    /// Reads the body of `update-post`.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let patch = Self {
            title: fields.optional("title", text(1, post::MOST_OF_TITLE)),
            body: fields.patch("body", text(0, post::MOST_OF_BODY)),
            category: fields.optional("category", parsed(str::parse)),
            tags: if fields.has("tags") { Tags::read(&mut fields) } else { None },
            severity: fields.optional("severity", parsed(str::parse)),
            location: fields.optional_object("location", Point::read),
            area: fields.patch_object("area", Area::read),
            starts_at: fields.patch("starts_at", parsed(time::parse)),
            ends_at: fields.patch("ends_at", parsed(time::parse)),
            expires_at: fields.patch("expires_at", parsed(|text| post::expiry(time::parse(text)?, now))),
        };
        fields.finish()?;
        Ok(patch)
    }

    /// The category that it asks for, which must exist.
    #[must_use]
    pub const fn category(&self) -> Option<&CategoryName> {
        self.category.as_ref()
    }

    /// What it changes of a post: each field that it names, also where the post seems to be so already. What is at hand of a
    /// post may be older than what the log has, and then an edit that was left out would be one that got lost.
    pub fn changes(self, post: &Post) -> Result<Vec<FieldChange>, Refusal> {
        let starts_at = self.starts_at.clone().apply(post.starts_at);
        let ends_at = self.ends_at.clone().apply(post.ends_at);
        if ends_at.is_some_and(|ends| ends <= starts_at.unwrap_or(post.created_at)) {
            let invalid = Invalid::new("out_of_range", "must be after starts_at, or after it was posted");
            return Err(Refusal::invalid(vec![invalid.at("/ends_at")]));
        }
        let (area, location) = (self.area.clone().apply(post.area.clone()), self.location.or(post.location));
        let is_elsewhere = (&area, location) != (&post.area, post.location);
        if let Some(area) = area.as_ref().filter(|_| is_elsewhere) {
            let Some(location) = location else {
                let invalid = Invalid::new("required", "is required with an area");
                return Err(Refusal::invalid(vec![invalid.at("/location")]));
            };
            let reached = area.within_reach(location);
            reached.map_err(|invalid| Refusal::invalid(vec![invalid.at("/area")]))?;
        }
        let changes = [
            self.title.map(FieldChange::Title),
            self.body.asked().map(FieldChange::Body),
            self.category.map(FieldChange::Category),
            self.tags.map(FieldChange::Tags),
            self.severity.map(FieldChange::Severity),
            self.location.map(|location| FieldChange::Location(Some(location))),
            self.area.asked().map(FieldChange::Area),
            self.starts_at.asked().map(FieldChange::StartsAt),
            self.ends_at.asked().map(FieldChange::EndsAt),
            self.expires_at.asked().map(FieldChange::ExpiresAt),
        ];
        Ok(changes.into_iter().flatten().collect())
    }
}

/// How somebody ends a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is over.
    Resolve,
    /// It is called off, or was no such thing.
    Cancel,
}

impl End {
    const fn status(self) -> PostStatus {
        match self {
            Self::Resolve => PostStatus::Resolved,
            Self::Cancel => PostStatus::Cancelled,
        }
    }
}

/// The ports of what is done to a post.
#[derive(Debug)]
pub struct Changing<'a, C, P, L> {
    /// The posts at hand.
    pub cache: &'a C,
    /// The stored posts.
    pub posts: &'a P,
    /// The log.
    pub log: &'a L,
}

impl<C: PostCache + PostCacheEditor, P: Posts, L: PostLog> Changing<'_, C, P, L> {
    /// Edits a post of the caller's; answers it as it is then.
    pub async fn edit(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
        patch: PostPatch,
        now: Timestamp,
    ) -> Result<Post> {
        let post = posts::get_own(self.cache, self.posts, hidden, caller, post_id).await?;
        let changes = patch.changes(&post)?;
        self.change(post, changes, now).await
    }

    /// Ends a post of the caller's; answers it as it is then. What has ended so already stays as it is, and what has ended
    /// otherwise is refused.
    pub async fn end(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
        end: End,
        now: Timestamp,
    ) -> Result<Post> {
        let post = posts::get_own(self.cache, self.posts, hidden, caller, post_id).await?;
        let status = end.status();
        if post.status != PostStatus::Active && post.status != status {
            let detail = "the post has ended: it was resolved, or cancelled";
            return Err(Refusal::new(Kind::Conflict, "post_ended", detail).into());
        }
        let changes = (post.status != status).then_some(FieldChange::Status(status));
        self.change(post, changes.into_iter().collect(), now).await
    }

    /// Deletes a post of the caller's.
    pub async fn delete(
        &self,
        caller: &Caller,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        post_id: PostId,
        now: Timestamp,
    ) -> Result<()> {
        posts::get_own(self.cache, self.posts, hidden, caller, post_id).await?;
        let deletion = PostChange::Deleted(Deletion { post_id, deleted_at: now });
        posts::append(self.log, &deletion.into(), NOT_CONFIRMED).await?;
        if let Err(error) = self.cache.remove(post_id).await {
            tracing::warn!(cache_unavailable = true, %error, %post_id, "a deleted post is at hand until the log is read");
        }
        Ok(())
    }

    async fn change(&self, post: Post, changes: Vec<FieldChange>, now: Timestamp) -> Result<Post> {
        if changes.is_empty() {
            return Ok(post);
        }
        let edit = Edit::new(&post, changes, now);
        let edited = edit.applied_to(post);
        posts::append(self.log, &PostChange::Edited(edit).into(), NOT_CONFIRMED).await?;
        if let Err(error) = self.cache.foresee(&edited).await {
            tracing::warn!(cache_unavailable = true, %error, post_id = %edited.post_id, "an edited post is at hand as it was until the log is read");
        }
        Ok(edited)
    }
}

const NOT_CONFIRMED: &str = "the log did not confirm the change; send it again";
