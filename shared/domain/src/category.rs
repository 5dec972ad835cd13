//! Categories: the managed list of kinds of happenings, under one of which each post is.

use std::{fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    access_token::Caller,
    cursor::Position,
    error::{Invalid, Kind},
    input::{Fields, text},
};

/// A category's name: `fire`, `flood`, `street_fair`. 1 to 32 of `a-z`, `0-9`, `_` and `-`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CategoryName(String);

impl CategoryName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Position for CategoryName {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
}

impl FromStr for CategoryName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if text.len() <= 32 && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "invalid_category",
                "must be 1 to 32 of a-z, 0-9, _ and -, beginning with a letter",
            ))
        }
    }
}

impl TryFrom<String> for CategoryName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<CategoryName> for String {
    fn from(name: CategoryName) -> Self {
        name.0
    }
}

impl fmt::Display for CategoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its name.
    pub category: CategoryName,
    /// What people read: 1 to 80 characters.
    pub title: String,
    /// What belongs under it: up to 500 characters.
    pub description: String,
}

impl Category {
    /// Reads the body of a PUT.
    pub fn from_json(category: CategoryName, body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let title = fields.required("title", text(1, 80));
        let description = fields.required("description", text(0, 500));
        let (Some(title), Some(description)) = (title, description) else { return Err(fields.refusal()) };
        fields.finish()?;
        Ok(Self { category, title, description })
    }
}

/// The list that a new installation begins with.
#[must_use]
pub fn initial() -> Vec<Category> {
    [
        ("community", "Community", "Fairs, markets, meetings, clean-ups: what neighbours do together."),
        ("crime", "Crime", "Break-ins, thefts, violence, and what the police ask the public."),
        ("earthquake", "Earthquakes", "Tremors, aftershocks and what they damaged."),
        ("fire", "Fire", "Fires, smoke and explosions."),
        ("flood", "Floods", "High water, flooded roads and basements, storm surges."),
        ("health", "Health", "Outbreaks, contaminated water, air quality."),
        ("lost_and_found", "Lost and found", "Missing people, animals and things."),
        ("traffic", "Traffic", "Closed roads, accidents, delays, ferries and trains that do not run."),
        ("utilities", "Utilities", "Power, water, heating and network failures."),
        ("weather", "Weather", "Storms, ice, heat and other weather that matters."),
    ]
    .into_iter()
    .map(|(name, title, description)| Category {
        category: CategoryName(name.to_owned()),
        title: title.to_owned(),
        description: description.to_owned(),
    })
    .collect()
}

/// Reads the list.
pub trait Categories: Sync {
    /// All categories, by name. They are few: a list is one read.
    fn all(&self) -> impl Future<Output = Result<Vec<Category>>> + Send;
    /// Whether this is one of them.
    fn has(&self, name: &CategoryName) -> impl Future<Output = Result<bool>> + Send;
}

/// Changes the list.
pub trait CategoryEditor: Sync {
    /// Adds a category, or changes it.
    fn put(&self, category: &Category) -> impl Future<Output = Result<()>> + Send;
}

/// A moderator adds or changes a category.
pub async fn put(editor: &impl CategoryEditor, caller: &Caller, category: &Category) -> Result<()> {
    caller.must_moderate()?;
    editor.put(category).await
}

/// What was read from a body with a `category`. Where it was refused, and names a category that is not in the list, it is
/// refused for that too: its author learns of everything at once.
pub async fn with_unknown<T>(
    categories: &impl Categories,
    body: &Value,
    read: Result<T, Refusal>,
) -> Result<T> {
    let mut refusal = match read {
        Ok(read) => return Ok(read),
        Err(refusal) => refusal,
    };
    let name = body.get("category").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if let (Kind::Invalid, Some(name)) = (refusal.kind, name)
        && let Err(Error::Refused(unknown)) = must_exist(categories, &name, "/category").await
    {
        refusal.errors.extend(unknown.errors);
        refusal = Refusal::invalid(refusal.errors);
    }
    Err(refusal.into())
}

/// Refuses a category that is not in the list; `field` is where the request names it.
pub async fn must_exist(categories: &impl Categories, name: &CategoryName, field: &str) -> Result<()> {
    if categories.has(name).await? {
        return Ok(());
    }
    let unknown =
        Invalid::new("unknown_category", format!("{name} is not a category; GET /v1/categories lists them"));
    Err(Refusal::invalid(vec![unknown.at(field)]).into())
}
