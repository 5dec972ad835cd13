//! Subscriptions: one user's wish to be told of a category, of some tags, within an area, from a severity up.

use std::future::Future;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Refusal, Result,
    audience::AudienceKey,
    category::CategoryName,
    cover::Region,
    ids::{SubscriptionId, UserId},
    input::{Fields, Patch, boolean, parsed},
    place::Circle,
    post::{Post, Severity, Tags},
    time::Timestamp,
};

/// A subscription, as the API shows it and the storage keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub subscription_id: SubscriptionId,
    /// What its owner wishes.
    #[serde(flatten)]
    pub wish: Wish,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its owner last wished something else of it; at first, when it was made.
    pub updated_at: Timestamp,
}

/// What a subscription's owner wishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Posts of this category.
    pub category: CategoryName,
    /// With tags of these; with none, all posts of the category.
    pub tags: Tags,
    /// Whether a post must have all of the tags, or any.
    #[serde(rename = "match")]
    pub tag_match: TagMatch,
    /// Within this circle; anywhere without one.
    pub area: Option<Circle>,
    /// At least this severe.
    pub min_severity: Option<Severity>,
    /// Whether the phone rings as well.
    pub push: bool,
}

/// How many of a subscription's tags a post must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagMatch {
    /// One of them.
    #[default]
    Any,
    /// Each of them.
    All,
}

impl Wish {
    /// Reads the body of `create-subscription`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let category = fields.required("category", parsed(str::parse));
        let tags = Tags::read(&mut fields);
        let tag_match = fields.optional("match", parsed(tag_match)).unwrap_or_default();
        let area = fields.optional_object("area", Circle::read);
        let min_severity = fields.optional("min_severity", parsed(str::parse));
        let push = fields.optional("push", boolean).unwrap_or(true);
        let (Some(category), Some(tags)) = (category, tags) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { category, tags, tag_match, area, min_severity, push })
    }

    /// Whether a post is one that is wished for: the rule that every index only hastens.
    #[must_use]
    pub fn matches(&self, post: &impl Happening) -> bool {
        let has = |tag| post.tags().contains(tag);
        let tags_match = match self.tag_match {
            _ if self.tags.is_empty() => true,
            TagMatch::Any => self.tags.iter().any(has),
            TagMatch::All => self.tags.iter().all(has),
        };
        tags_match
            && self.category == *post.category()
            && self.min_severity.is_none_or(|least| post.severity() >= least)
            && self.area.is_none_or(|area| post.meets(&area))
    }
}

/// What a wish is held against: a post, or its entry in an index, which may seem to be nearer than it is.
pub trait Happening: Region {
    /// Its category.
    fn category(&self) -> &CategoryName;
    /// Its tags.
    fn tags(&self) -> &Tags;
    /// How bad it is.
    fn severity(&self) -> Severity;
}

impl Happening for Post {
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

/// What a PATCH asks of a subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WishPatch {
    category: Option<CategoryName>,
    tags: Option<Tags>,
    tag_match: Option<TagMatch>,
    area: Patch<Circle>,
    min_severity: Patch<Severity>,
    push: Option<bool>,
}

impl WishPatch {
    /// Reads the body of `update-subscription`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let patch = Self {
            category: fields.optional("category", parsed(str::parse)),
            tags: if fields.has("tags") { Tags::read(&mut fields) } else { None },
            tag_match: fields.optional("match", parsed(tag_match)),
            area: fields.patch_object("area", Circle::read),
            min_severity: fields.patch("min_severity", parsed(str::parse)),
            push: fields.optional("push", boolean),
        };
        fields.finish()?;
        Ok(patch)
    }

    /// The category that it asks for, which must exist.
    #[must_use]
    pub const fn category(&self) -> Option<&CategoryName> {
        self.category.as_ref()
    }

    /// The wish after the patch.
    #[must_use]
    pub fn apply(self, wish: Wish) -> Wish {
        Wish {
            category: self.category.unwrap_or(wish.category),
            tags: self.tags.unwrap_or(wish.tags),
            tag_match: self.tag_match.unwrap_or(wish.tag_match),
            area: self.area.apply(wish.area),
            min_severity: self.min_severity.apply(wish.min_severity),
            push: self.push.unwrap_or(wish.push),
        }
    }
}

fn tag_match(text: &str) -> Result<TagMatch, crate::error::Invalid> {
    match text {
        "any" => Ok(TagMatch::Any),
        "all" => Ok(TagMatch::All),
        _ => Err(crate::error::Invalid::new("not_in_list", "must be any or all")),
    }
}

/// The most subscriptions that one user has.
pub const MOST_SUBSCRIPTIONS: usize = 100;

/// Reads one user's subscriptions.
pub trait Subscriptions: Sync {
    /// All of them (at most [`MOST_SUBSCRIPTIONS`]), the newest first. Read consistently: a timeline is rebuilt from
    /// them right after one is made.
    fn of(&self, owner: UserId) -> impl Future<Output = Result<Vec<Subscription>>> + Send;
}

/// Changes one user's subscriptions. Each call is atomic: the entries that an audience is found by change with it.
pub trait SubscriptionEditor: Sync {
    /// Adds one, with its `keys`. Refused with [`too_many`] where the owner has [`MOST_SUBSCRIPTIONS`].
    fn add(
        &self,
        owner: UserId,
        subscription: &Subscription,
        keys: &[AudienceKey],
    ) -> impl Future<Output = Result<()>> + Send;

    /// The owner's subscription, if they have it.
    fn get(
        &self,
        owner: UserId,
        id: SubscriptionId,
    ) -> impl Future<Output = Result<Option<Subscription>>> + Send;

    /// Puts `new` in place of `old`, if `old` is what is stored; answers whether it was.
    fn replace(
        &self,
        owner: UserId,
        old: (&Subscription, &[AudienceKey]),
        new: (&Subscription, &[AudienceKey]),
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Removes one, if `old` is what is stored; answers whether it was.
    fn remove(
        &self,
        owner: UserId,
        old: (&Subscription, &[AudienceKey]),
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Forgets how many somebody has who has none (any more); of anybody else it stays.
    fn forget_count(&self, owner: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// The refusal of one subscription too many.
#[must_use]
pub fn too_many() -> Refusal {
    let detail = format!("a user has at most {MOST_SUBSCRIPTIONS} subscriptions");
    Refusal::new(crate::error::Kind::Conflict, "too_many_subscriptions", detail)
}
