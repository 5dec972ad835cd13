//! Feeds: outside sources that are polled, and what a moderator says of each.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    Refusal,
    category::CategoryName,
    error::Invalid,
    ids::FeedId,
    input::{Fields, Patch, boolean, parsed, whole},
    place::Point,
    post::Tags,
    quiet_hours::ZoneName,
    time::Timestamp,
};

/// A feed, as the API shows it and the storage keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// Its id.
    pub feed_id: FeedId,
    /// What a moderator says of it.
    #[serde(flatten)]
    pub settings: FeedSettings,
    /// When it was added.
    pub created_at: Timestamp,
    /// When a moderator last changed it; at first, when it was added.
    pub updated_at: Timestamp,
}

impl Feed {
    /// What its posts name as their source.
    #[must_use]
    pub fn source(&self) -> String {
        format!("feeds/{}", self.feed_id)
    }
}

/// What a moderator says of a feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedSettings {
    /// Where it is: `http` or `https`.
    pub url: Url,
    /// In which format.
    pub format: Format,
    /// The category of items that have none of ours.
    pub category: CategoryName,
    /// Tags that all of its items have, besides their own.
    pub tags: Tags,
    /// Where items are that do not say so.
    pub location: Option<Point>,
    /// How often it is polled: from each minute to each day.
    pub every_minutes: u16,
    /// Whether it is polled.
    pub enabled: bool,
    /// Which language is taken where there are several, as in BCP 47.
    pub language: Option<Language>,
    /// Of what zone its times are that name none.
    pub time_zone: ZoneName,
}

/// The format of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Atom 1.0, with the places and the alerts in it.
    Atom,
    /// Alerts of the Common Alerting Protocol 1.2, and indexes of them in Atom or RSS.
    Cap,
    /// Earthquakes of the US Geological Survey, and alerts of the US National Weather Service, in GeoJSON.
    Geojson,
    /// Calendars, in iCalendar.
    Ics,
    /// Lists of plans, or events, of ticket sellers, in XML.
    PlanListXml,
    /// RSS 2.0 and 1.0, with the places and the alerts in it.
    Rss,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Atom, Self::Cap, Self::Geojson, Self::Ics, Self::PlanListXml, Self::Rss];
}

impl std::str::FromStr for Format {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        serde_json::from_value(Value::from(text))
            .map_err(|_| Invalid::new("not_in_list", "must be atom, cap, geojson, ics, plan-list-xml or rss"))
    }
}

/// A language, as in BCP 47: `nb`, `en-US`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

impl Language {
    /// Its tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Language {
    type Err = Invalid;

    /// Subtags of 1 to 8 letters and digits, the first of at least 2 letters (RFC 5646, 2.1): 35 characters in all.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut subtags = text.split('-');
        let is_first = |tag: &str| tag.len() >= 2 && tag.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_one =
            |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_language = subtags.next().is_some_and(|first| is_first(first) && is_one(first));
        if is_language && subtags.all(is_one) && text.len() <= 35 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("invalid_language", "must be a language as in BCP 47, such as nb or en-US"))
        }
    }
}

impl TryFrom<String> for Language {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

/// The most characters of a feed's address.
const MOST_OF_URL: usize = 2_000;
/// How often a feed may be polled, in minutes: a schedule comes each minute, and what is older than a day is no news.
const EVERY_MINUTES: (u16, u16) = (1, 24 * 60);

/// An address of a feed. Whether it is a public one is found out when it is asked: its name may resolve to another by then.
fn address(text: &str) -> Result<Url, Invalid> {
    let invalid = |detail| Invalid::new("invalid_url", detail);
    if text.len() > MOST_OF_URL {
        return Err(Invalid::new("too_long", format!("must have at most {MOST_OF_URL} characters")));
    }
    let mut url = Url::parse(text).map_err(|_| invalid("must be an http or https URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid("must be an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // It is shown to all moderators, and would be in logs.
        return Err(invalid("must have no name and no password"));
    }
    url.set_fragment(None);
    Ok(url)
}

impl FeedSettings {
    /// Reads the body of `create-feed`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let url = fields.required("url", parsed(address));
        let format = fields.required("format", parsed(str::parse));
        let category = fields.required("category", parsed(str::parse));
        let tags = Tags::read(&mut fields);
        let location = fields.optional_object("location", Point::read);
        let every_minutes = fields.required("every_minutes", whole(EVERY_MINUTES.0, EVERY_MINUTES.1));
        let enabled = fields.optional("enabled", boolean).unwrap_or(true);
        let language = fields.optional("language", parsed(str::parse));
        let time_zone = fields.optional("time_zone", parsed(str::parse)).unwrap_or_default();
        let (Some(url), Some(format), Some(category), Some(tags), Some(every_minutes)) =
            (url, format, category, tags, every_minutes)
        else {
            return Err(fields.refusal());
        };
        fields.finish()?;
        Ok(Self { url, format, category, tags, location, every_minutes, enabled, language, time_zone })
    }
}

/// What a PATCH asks of a feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedPatch {
    url: Option<Url>,
    format: Option<Format>,
    category: Option<CategoryName>,
    tags: Option<Tags>,
    location: Patch<Point>,
    every_minutes: Option<u16>,
    enabled: Option<bool>,
    language: Patch<Language>,
    time_zone: Option<ZoneName>,
}

impl FeedPatch {
    /// Reads the body of `update-feed`.
    pub fn from_json(body: &Value) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let patch = Self {
            url: fields.optional("url", parsed(address)),
            format: fields.optional("format", parsed(str::parse)),
            category: fields.optional("category", parsed(str::parse)),
            tags: if fields.has("tags") { Tags::read(&mut fields) } else { None },
            location: fields.patch_object("location", Point::read),
            every_minutes: fields.optional("every_minutes", whole(EVERY_MINUTES.0, EVERY_MINUTES.1)),
            enabled: fields.optional("enabled", boolean),
            language: fields.patch("language", parsed(str::parse)),
            time_zone: fields.optional("time_zone", parsed(str::parse)),
        };
        fields.finish()?;
        Ok(patch)
    }

    /// The category that it asks for, which must exist.
    #[must_use]
    pub const fn category(&self) -> Option<&CategoryName> {
        self.category.as_ref()
    }

    /// The settings after the patch.
    #[must_use]
    pub fn apply(self, settings: FeedSettings) -> FeedSettings {
        FeedSettings {
            url: self.url.unwrap_or(settings.url),
            format: self.format.unwrap_or(settings.format),
            category: self.category.unwrap_or(settings.category),
            tags: self.tags.unwrap_or(settings.tags),
            location: self.location.apply(settings.location),
            every_minutes: self.every_minutes.unwrap_or(settings.every_minutes),
            enabled: self.enabled.unwrap_or(settings.enabled),
            language: self.language.apply(settings.language),
            time_zone: self.time_zone.unwrap_or(settings.time_zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(refusal: Refusal) -> Vec<(String, &'static str)> {
        refusal.errors.into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    #[test]
    fn a_feed_needs_an_address_a_format_a_category_and_how_often() {
        let body = json!({
            "url": "https://example.org/alerts.xml#all", "format": "plan-list-xml", "category": "community",
            "every_minutes": 5,
        });
        let settings = FeedSettings::from_json(&body).unwrap();
        assert_eq!(settings.url.as_str(), "https://example.org/alerts.xml");
        assert!(settings.enabled && settings.location.is_none());
        assert_eq!(settings.time_zone.as_str(), "UTC");
        let missing = codes(FeedSettings::from_json(&json!({})).unwrap_err());
        let required = ["/url", "/format", "/category", "/every_minutes"];
        assert_eq!(missing, required.map(|pointer| (pointer.to_owned(), "required")));
    }

    #[test]
    fn what_is_wrong_of_a_feed_is_said() {
        for (field, value, code) in [
            ("url", json!("ftp://example.org/a"), "invalid_url"),
            ("url", json!("alerts.xml"), "invalid_url"),
            ("url", json!("https://me:secret@example.org/"), "invalid_url"),
            ("url", json!(format!("https://example.org/{}", "a".repeat(2_000))), "too_long"),
            ("format", json!("csv"), "not_in_list"),
            ("every_minutes", json!(0), "out_of_range"),
            ("every_minutes", json!(1_441), "out_of_range"),
            ("every_minutes", json!(1e300), "out_of_range"),
            ("every_minutes", json!(1.5), "not_whole"),
            ("every_minutes", json!("5"), "wrong_type"),
            ("language", json!("n"), "invalid_language"),
            ("language", json!("nb-"), "invalid_language"),
            ("time_zone", json!("Mars"), "unknown_time_zone"),
        ] {
            let refusal = FeedPatch::from_json(&json!({field: value})).unwrap_err();
            assert_eq!(codes(refusal), [(format!("/{field}"), code)], "{value}");
        }
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let body = json!({
            "url": "https://example.org/", "format": "plan-list-xml", "category": "community",
            "every_minutes": 5, "location": {"lat": 60.4, "lon": 5.3}, "language": "nb",
        });
        let old = FeedSettings::from_json(&body).unwrap();
        let patch = json!({"every_minutes": 60, "location": null, "enabled": false});
        let new = FeedPatch::from_json(&patch).unwrap().apply(old.clone());
        assert_eq!(new, FeedSettings { every_minutes: 60, location: None, enabled: false, ..old.clone() });
        assert_eq!(FeedPatch::default().apply(old.clone()), old);
    }
}
