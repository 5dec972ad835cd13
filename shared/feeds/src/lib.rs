//! The formats of outside feeds, each read by an adapter of its own. A new one is a file, and a line in [`adapter`].
//!
//! A document comes from the outside: it is as large as the fetch allows, and may be anything. An adapter takes what it
//! understands of it, names what it does not, and never fails because of one entry. It expands no entities but XML's own five
//! and numbers, reads no DTD, fetches nothing, and goes no deeper than [`MOST_DEPTH`].

use tocsin_domain::{feed::Format, feed_item::Reading, time::Timestamp};
use url::Url;

mod plan_list_xml;
mod xml;

/// Reads a format.
pub trait Adapter: Send + Sync {
    /// Reads a document. An error says why it is none of this format.
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat>;
}

/// What an adapter knows besides the document.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the document was: links in it are relative to that.
    pub url: &'a Url,
    /// When it was fetched.
    pub now: Timestamp,
    /// The language that is preferred where there are several, as in BCP 47: `nb`, `en-US`.
    pub language: Option<&'a str>,
    /// The time zone of times that name none.
    pub time_zone: &'a jiff::tz::TimeZone,
}

/// A document is not of the format, or is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotThisFormat(pub String);

/// The most entries of a document: what is beyond is named as bad.
pub const MOST_ENTRIES: usize = 20_000;
/// How deep elements or values may lie within each other.
pub const MOST_DEPTH: usize = 64;

/// The adapter of a format.
#[must_use]
pub fn adapter(format: Format) -> &'static dyn Adapter {
    match format {
        Format::PlanListXml => &plan_list_xml::PlanListXml,
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Reads a document as one that was fetched from example.org, by a feed in Oslo.
    pub(crate) fn read(adapter: &dyn Adapter, document: &[u8]) -> Result<Reading, NotThisFormat> {
        let time_zone = jiff::tz::TimeZone::get("Europe/Oslo").unwrap();
        let url = Url::parse("https://example.org/feeds/all").unwrap();
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        adapter.read(document, &Context { url: &url, now, language: Some("nb"), time_zone: &time_zone })
    }
}
