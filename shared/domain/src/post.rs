//! Posts: something that happens at a place and a time.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    Refusal,
    area::Area,
    category::CategoryName,
    cover::Region,
    error::Invalid,
    ids::{PostId, UserId},
    input::{Fields, parsed, text},
    place::{Cell, Circle, Point},
    time::{self, Timestamp},
};

/// A post, as the API shows it, the log carries it and the storage keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// Its id, and, being a UUIDv7, when it was created.
    pub post_id: PostId,
    /// What kind of post it is.
    pub kind: PostKind,
    /// Whether it still goes on.
    pub status: PostStatus,
    /// One line.
    pub title: String,
    /// The rest, where there is more to say.
    pub body: Option<String>,
    /// Its category.
    pub category: CategoryName,
    /// Its tags.
    pub tags: Tags,
    /// How bad it is.
    pub severity: Severity,
    /// Where it happens; none where a feed names no place that we know.
    pub location: Option<Point>,
    /// All of where it happens, if that is more than a point. Without a location it says nothing.
    pub area: Option<Area>,
    /// Who wrote it; none for what feeds and partners send, and where its author has left.
    pub author: Option<Author>,
    /// Which feed or partner sent it; none for what a person wrote.
    pub source: Option<String>,
    /// When it was posted.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it begins.
    pub starts_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// From when on it is no longer listed.
    pub expires_at: Option<Timestamp>,
    /// What it costs at least, in the currency of who sells it, which is not named.
    pub min_price: Option<f64>,
    /// What it costs at most.
    pub max_price: Option<f64>,
    /// Where there is more to read.
    pub link: Option<Url>,
    /// How many others see it too.
    pub confirmations: u32,
    /// Whether it is withheld until a moderator has looked at it: others have flagged it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// Whether it is told in timelines alone, and no phone rings for it: it came with many others at once, or when it was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// How often it has changed: of two forms of a post, the one with more is the newer.
    #[serde(default)]
    pub revision: u32,
}

impl Post {
    /// Where it happens: in its area, or at its point; or nowhere that is known.
    fn region(&self) -> Option<&dyn Region> {
        let location = self.location.as_ref()?;
        Some(self.area.as_ref().map_or(location as &dyn Region, |area| area))
    }
}

/// What is nowhere is farther from everything than anything else, and meets nothing.
impl Region for Post {
    fn signed_distance_m(&self, point: Point) -> f64 {
        self.region().map_or(f64::INFINITY, |region| region.signed_distance_m(point))
    }

    fn meets(&self, circle: &Circle) -> bool {
        self.region().is_some_and(|region| region.meets(circle))
    }

    fn may_touch(&self, cell: &Cell) -> bool {
        self.region().is_some_and(|region| region.may_touch(cell))
    }
}

/// What kind of post it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostKind {
    /// A person wrote it.
    Report,
    /// An authority issued it.
    Alert,
    /// It is scheduled.
    Event,
}

impl PostKind {
    /// The kind of what a person posts: an event, if it has a beginning.
    #[must_use]
    pub const fn of_a_person(starts_at: Option<Timestamp>) -> Self {
        if starts_at.is_some() { Self::Event } else { Self::Report }
    }
}

/// Whether a post still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostStatus {
    /// It goes on.
    Active,
    /// It is over.
    Resolved,
    /// It was called off, or was no such thing.
    Cancelled,
}

/// How bad it is: CAP's scale (OASIS CAP 1.2, 3.2.2), the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody said.
    #[default]
    Unknown,
    /// Minimal threat.
    Minor,
    /// Possible threat.
    Moderate,
    /// Significant threat.
    Severe,
    /// Extraordinary threat.
    Extreme,
}

impl FromStr for Severity {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Ok(match text {
            "unknown" => Self::Unknown,
            "minor" => Self::Minor,
            "moderate" => Self::Moderate,
            "severe" => Self::Severe,
            "extreme" => Self::Extreme,
            _ => {
                let detail = "must be extreme, severe, moderate, minor or unknown";
                return Err(Invalid::new("not_in_list", detail));
            }
        })
    }
}

/// Who wrote a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Their id.
    pub user_id: UserId,
    /// Their name when they wrote it.
    pub username: String,
}

/// A free word for what a post is about: `smoke`, `same:006085`. 1 to 64 of `a-z`, `0-9`, `:`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: char| first(c) || matches!(c, ':' | '_' | '-');
        if text.len() <= 64 && text.starts_with(first) && text.chars().all(rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "invalid_tag",
                "must be 1 to 64 of a-z, 0-9, :, _ and -, beginning with a letter or digit",
            ))
        }
    }
}

impl TryFrom<String> for Tag {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an event costs, in the currency of who sells it, which is not named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// The cheapest place.
    pub min: f64,
    /// The dearest.
    pub max: f64,
}

/// Up to 200 tags, each once: an alert names the code of each county that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<Tag>", into = "BTreeSet<Tag>")]
pub struct Tags(BTreeSet<Tag>);

impl TryFrom<BTreeSet<Tag>> for Tags {
    type Error = Invalid;

    fn try_from(tags: BTreeSet<Tag>) -> Result<Self, Invalid> {
        if tags.len() <= Self::MOST_OF_A_FEED {
            Ok(Self(tags))
        } else {
            Err(Invalid::new("too_many", format!("must have at most {} items", Self::MOST_OF_A_FEED)))
        }
    }
}

impl From<Tags> for BTreeSet<Tag> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

impl Tags {
    /// The most that a person names, of a post or in a subscription.
    pub const MOST: usize = 10;
    /// The most that there are: those of a post that a feed has.
    pub const MOST_OF_A_FEED: usize = 200;

    /// These tags, each once.
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self(tags.into_iter().collect())
    }

    /// Reads the field `tags`; none where it is absent.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        if !fields.has("tags") {
            return Some(Self::default());
        }
        let list = fields.list("tags", Self::MOST, parsed(str::parse))?;
        let (count, tags) = (list.len(), Self::new(list));
        if tags.0.len() < count {
            return fields.refuse("tags", Invalid::new("not_unique", "must not name a tag twice"));
        }
        Some(tags)
    }

    /// Each tag, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(&self, tag: &Tag) -> bool {
        self.0.contains(tag)
    }
}

/// What a person asks to be posted.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPost {
    /// One line: 1 to 200 characters.
    pub title: String,
    /// The rest: up to 5,000 characters.
    pub body: Option<String>,
    /// Its category.
    pub category: CategoryName,
    /// Its tags.
    pub tags: Tags,
    /// How bad it is.
    pub severity: Severity,
    /// Where it happens.
    pub location: Point,
    /// All of where it happens, if that is more than a point: at most [`Area::MOST_REACH_M`] from the location.
    pub area: Option<Area>,
    /// When it begins: then it is an event.
    pub starts_at: Option<Timestamp>,
    /// When it ends: after its beginning.
    pub ends_at: Option<Timestamp>,
    /// From when on it is no longer listed: within a year.
    pub expires_at: Option<Timestamp>,
}

impl NewPost {
    /// Reads the body of `create-post`.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let title = fields.required("title", text(1, MOST_OF_TITLE));
        let text_body = fields.optional("body", text(0, MOST_OF_BODY));
        let category = fields.required("category", parsed(str::parse));
        let tags = Tags::read(&mut fields);
        let severity = fields.optional("severity", parsed(str::parse)).unwrap_or_default();
        let location = fields.required_object("location", Point::read);
        let area = fields.optional_object("area", Area::read);
        let starts_at = fields.optional("starts_at", parsed(time::parse));
        let ends_at = fields.optional("ends_at", parsed(time::parse));
        let expires_at = fields.optional("expires_at", parsed(|text| expiry(time::parse(text)?, now)));
        if ends_at.is_some_and(|ends| ends <= starts_at.unwrap_or(now)) {
            let detail = "must be after starts_at, or after now where there is none";
            fields.refuse::<()>("ends_at", Invalid::new("out_of_range", detail));
        }
        if let (Some(area), Some(location)) = (&area, location)
            && let Err(invalid) = area.within_reach(location)
        {
            fields.refuse::<()>("area", invalid);
        }
        let (Some(title), Some(category), Some(tags), Some(location)) = (title, category, tags, location)
        else {
            return Err(fields.refusal());
        };
        fields.finish()?;
        Ok(Self {
            title,
            body: text_body,
            category,
            tags,
            severity,
            location,
            area,
            starts_at,
            ends_at,
            expires_at,
        })
    }

    /// The post that it becomes: the same one, for the same id and author.
    #[must_use]
    pub fn into_post(self, post_id: PostId, author: Author) -> Post {
        Post {
            post_id,
            kind: PostKind::of_a_person(self.starts_at),
            status: PostStatus::Active,
            title: self.title,
            body: self.body,
            category: self.category,
            tags: self.tags,
            severity: self.severity,
            location: Some(self.location),
            area: self.area,
            author: Some(author),
            source: None,
            created_at: post_id.time(),
            updated_at: post_id.time(),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            expires_at: self.expires_at,
            min_price: None,
            max_price: None,
            link: None,
            confirmations: 0,
            withheld: false,
            quiet: false,
            revision: 0,
        }
    }
}

/// The most characters of a title.
pub(crate) const MOST_OF_TITLE: usize = 200;
/// The most characters of a body.
pub(crate) const MOST_OF_BODY: usize = 5_000;

/// An instant at which a post may expire.
pub(crate) fn expiry(expires_at: Timestamp, now: Timestamp) -> Result<Timestamp, Invalid> {
    if expires_at > now && expires_at <= time::after(now, YEAR) {
        Ok(expires_at)
    } else {
        Err(Invalid::new("out_of_range", "must be in the future, and at most 366 days ahead"))
    }
}

/// 366 days, in seconds.
const YEAR: u64 = 366 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let body = json!({
            "title": "", "category": "Fire", "tags": ["smoke", "Big"], "severity": "bad",
            "location": {"lat": 91, "lon": "5", "alt": 3}, "starts_at": "tonight", "a/b": 1,
        });
        let refusal = NewPost::from_json(&body, time::now()).unwrap_err();
        let found: Vec<_> = refusal.errors.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        assert_eq!(
            found,
            [
                ("/title", "too_short"),
                ("/category", "invalid_category"),
                ("/tags/1", "invalid_tag"),
                ("/severity", "not_in_list"),
                ("/location/lat", "out_of_range"),
                ("/location/lon", "wrong_type"),
                ("/location/alt", "unknown_field"),
                ("/starts_at", "invalid_time"),
                ("/a~1b", "unknown_field"),
            ]
        );
    }

    #[test]
    fn a_post_is_written_and_read_again() {
        let body = json!({"title": "Smoke", "category": "fire", "tags": ["smoke"], "location": {"lat": 60.4, "lon": 5.3}});
        let now = time::now();
        let author = Author { user_id: UserId::new(now), username: "ada".into() };
        let post = NewPost::from_json(&body, now).unwrap().into_post(PostId::new(now), author);
        let again: Post = serde_json::from_str(&serde_json::to_string(&post).unwrap()).unwrap();
        assert_eq!(again, post);
        assert_eq!(post.created_at, now);
        // As it was written before prices, links, and posts that are nowhere.
        let mut old = serde_json::to_value(&post).unwrap();
        for name in ["min_price", "max_price", "link"] {
            assert_eq!(old.as_object_mut().unwrap().remove(name), Some(Value::Null));
        }
        assert_eq!(serde_json::from_value::<Post>(old).unwrap(), post);
        let many = (0..200).map(|code| format!("same:{code:06}").parse().unwrap());
        let link = Some("https://met.example.org/1".parse().unwrap());
        let of_a_feed = Post { location: None, tags: Tags::new(many), min_price: Some(15.5), link, ..post };
        let mut json = serde_json::to_value(&of_a_feed).unwrap();
        assert_eq!((&json["location"], &json["link"]), (&Value::Null, &json!("https://met.example.org/1")));
        assert_eq!(serde_json::from_value::<Post>(json.clone()).unwrap(), of_a_feed);
        json["tags"].as_array_mut().unwrap().push("one-more".into());
        assert!(serde_json::from_value::<Post>(json).is_err());
    }

    #[test]
    fn what_a_person_posts_is_somewhere_and_has_ten_tags_and_no_price() {
        let body = json!({"title": "Smoke", "category": "fire", "location": {"lat": 60.4, "lon": 5.3}});
        let refused = |name: &str, value: Value| {
            let mut body = body.clone();
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value;
            }
            let refusal = NewPost::from_json(&body, time::now()).unwrap_err();
            refusal.errors.into_iter().map(|error| (error.pointer, error.code)).collect::<Vec<_>>()
        };
        assert_eq!(refused("location", Value::Null), [("/location".to_owned(), "required")]);
        let eleven: Vec<_> = (0..11).map(|number| format!("t{number}")).collect();
        assert_eq!(refused("tags", json!(eleven)), [("/tags".to_owned(), "too_many")]);
        for name in ["min_price", "max_price", "link"] {
            assert_eq!(refused(name, json!(5)), [(format!("/{name}"), "unknown_field")]);
        }
    }

    #[test]
    fn what_is_nowhere_is_in_no_circle_whatever_its_area() {
        let body = json!({
            "title": "Smoke", "category": "fire", "location": {"lat": 60.4, "lon": 5.3},
            "area": {"circles": [{"lat": 60.4, "lon": 5.3, "radius_m": 500}]},
        });
        let now = time::now();
        let author = Author { user_id: UserId::new(now), username: "ada".into() };
        let somewhere = NewPost::from_json(&body, now).unwrap().into_post(PostId::new(now), author);
        let here = somewhere.location.unwrap();
        let circle = Circle::new(here, 100_000.0).unwrap();
        let nowhere = Post { location: None, ..somewhere.clone() };
        assert!(somewhere.meets(&circle) && somewhere.may_touch(&here.cell(8)));
        assert!(!nowhere.meets(&circle) && !nowhere.may_touch(&here.cell(0)));
        assert!(nowhere.signed_distance_m(here).is_infinite());
    }
}
