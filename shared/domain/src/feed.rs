//! Feeds: outside sources that are polled.

use serde::{Deserialize, Serialize};

/// The format of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lists of plans, or events, of ticket sellers, in XML.
    PlanListXml,
}
