//! Notification preferences: for what, and when, a person's phone rings.
//!
//! They say nothing of what a person gets: that is in the timeline and the inbox all the same. What is extreme rings
//! whatever they say, since it may be about somebody's life.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Result,
    category::{Categories, CategoryName},
    error::Invalid,
    ids::UserId,
    input::{Fields, Patch, parsed},
    post::{Post, Severity},
    push::Outcome,
    quiet_hours::QuietHours,
    time::Timestamp,
};

/// A person's preferences, as the API shows them and the storage keeps them. The default is what holds for who has put
/// none: everything rings, at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    /// When the phone does not ring: what it would have rung for is held until they end.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// It rings for what is at least this severe.
    #[serde(default)]
    pub min_severity: Severity,
    /// It does not ring for these.
    #[serde(default)]
    pub muted_categories: BTreeSet<CategoryName>,
}

/// The most categories that a person mutes.
pub const MOST_MUTED: usize = 50;

impl Preferences {
    /// Reads the body of `put-notification-preferences`. Every category must exist; what is wrong is all told at once.
    pub async fn from_json(categories: &impl Categories, body: &Value) -> Result<Self> {
        let mut fields = Fields::of(body)?;
        let quiet_hours = match fields.patch_object("quiet_hours", QuietHours::read) {
            Patch::Set(hours) => Some(hours),
            Patch::Keep | Patch::Clear => None,
        };
        let min_severity = fields.optional("min_severity", parsed(str::parse)).unwrap_or_default();
        let muted = fields.list("muted_categories", MOST_MUTED, parsed(str::parse)).unwrap_or_default();
        let muted_categories = known(categories, &mut fields, muted).await?;
        fields.finish()?;
        Ok(Self { quiet_hours, min_severity, muted_categories })
    }

    /// What becomes of a push of this post.
    #[must_use]
    pub fn decide(&self, post: &Post, now: Timestamp) -> Decision {
        if post.severity == Severity::Extreme {
            return Decision::Ring;
        }
        if post.severity < self.min_severity {
            return Decision::Muted(Muted::Severity);
        }
        if self.muted_categories.contains(&post.category) {
            return Decision::Muted(Muted::Category);
        }
        self.quiet_until(now).map_or(Decision::Ring, Decision::Quiet)
    }

    /// Until when it is quiet, if it is now.
    #[must_use]
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet_hours.as_ref().and_then(|hours| hours.until(now))
    }
}

/// These categories, each once; what is none, or comes twice, is refused.
async fn known(
    categories: &impl Categories,
    fields: &mut Fields<'_>,
    muted: Vec<CategoryName>,
) -> Result<BTreeSet<CategoryName>> {
    let mut known = BTreeSet::new();
    if muted.is_empty() {
        return Ok(known);
    }
    let all = categories.all().await?;
    for (index, name) in muted.into_iter().enumerate() {
        let place = format!("muted_categories/{index}");
        if !all.iter().any(|category| category.category == name) {
            let detail = format!("{name} is not a category; GET /v1/categories lists them");
            fields.refuse::<()>(&place, Invalid::new("unknown_category", detail));
        } else if !known.insert(name) {
            fields.refuse::<()>(&place, Invalid::new("not_unique", "must not name a category twice"));
        }
    }
    Ok(known)
}

/// What becomes of a push, by its recipient's preferences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The phone rings.
    Ring,
    /// It does not.
    Muted(Muted),
    /// It does when the quiet hours are over, which is then.
    Quiet(Timestamp),
}

/// Why a phone does not ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Muted {
    /// The post is not severe enough.
    Severity,
    /// Its category is muted.
    Category,
}

impl From<Muted> for Outcome {
    fn from(muted: Muted) -> Self {
        match muted {
            Muted::Severity => Self::MutedSeverity,
            Muted::Category => Self::MutedCategory,
        }
    }
}

/// Reads preferences.
pub trait PreferencesReader: Sync {
    /// Those of these people, at most 100, who have put any. Read consistently.
    fn of(&self, people: &[UserId]) -> impl Future<Output = Result<HashMap<UserId, Preferences>>> + Send;
}

/// Changes preferences.
pub trait PreferencesEditor: Sync {
    /// Puts a person's preferences, in the place of others.
    fn put(&self, owner: UserId, preferences: &Preferences) -> impl Future<Output = Result<()>> + Send;
    /// Removes a person's preferences.
    fn erase(&self, owner: UserId) -> impl Future<Output = Result<()>> + Send;
}

/// A person's preferences.
pub async fn get(preferences: &impl PreferencesReader, owner: UserId) -> Result<Preferences> {
    Ok(preferences.of(&[owner]).await?.remove(&owner).unwrap_or_default())
}
