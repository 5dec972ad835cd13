//! The one error of the domain, and the one way from it to an answer.
//!
//! A caller is told only what a [`Refusal`] says: it is made for them. Everything else is ours: what failed goes to the
//! log, and the caller learns a request id.

use std::time::Duration;

/// What every use case answers with.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error of ours, kept for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a use case did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be met, and its author is told why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A service that is needed does not answer, or does not do what it is asked. Worth another try.
    #[error("{service} failed: {cause}")]
    Unavailable {
        /// The port that failed: `posts`, `timelines`.
        service: &'static str,
        /// What it said.
        #[source]
        cause: Cause,
    },
    /// A service takes no more just now. Worth another try, but not at once.
    #[error("{service} takes no more just now")]
    Throttled {
        /// The port that refused: `the push gateway`.
        service: &'static str,
    },
    /// Something stored or sent cannot be read: another try will not help.
    #[error("unreadable {what}: {cause}")]
    Unreadable {
        /// What could not be read: `a post`, `a record of the log`.
        what: &'static str,
        /// Why not.
        #[source]
        cause: Cause,
    },
}

impl Error {
    /// A failed call of a port.
    pub fn unavailable(service: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { service, cause: cause.into() }
    }

    /// Data that is not what it should be.
    pub fn unreadable(what: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unreadable { what, cause: cause.into() }
    }
}

/// A reason for the caller, in the terms of RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// What kind of refusal it is, which decides the status.
    pub kind: Kind,
    /// Stable, for programs: `email_taken`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// What is wrong where, for bad input.
    pub errors: Vec<FieldError>,
    /// When another try makes sense.
    pub retry_after: Option<Duration>,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read (400).
    Malformed,
    /// The caller has not shown who they are (401).
    Unauthenticated,
    /// The caller may not do this (403).
    Forbidden,
    /// There is no such thing, or it is another's (404).
    NotFound,
    /// It contradicts what is there (409).
    Conflict,
    /// The body is too large (413).
    TooLarge,
    /// The body is not JSON (415).
    UnsupportedMediaType,
    /// The request can be read, but its content is not valid (422).
    Invalid,
    /// Too many requests (429).
    RateLimited,
    /// It cannot be done now (503).
    Unavailable,
}

/// One thing that is wrong in an input.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901) into the body, or `?name` for a query parameter, `{name}` for one in the path,
    /// `#name` for a header.
    pub pointer: String,
    /// Stable, for programs: `required`, `too_long`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// Why a value is not one of a type's: what a newtype's parser answers with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Invalid {
    /// Stable, for programs: `too_long`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl Invalid {
    /// A reason with its code.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// This reason, at a place of an input.
    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> FieldError {
        FieldError { pointer: pointer.into(), code: self.code, detail: self.detail }
    }
}

impl Refusal {
    /// A refusal of a kind, with its code and what people are told.
    pub fn new(kind: Kind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// A body whose content is not valid, with every reason.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} things in the request are not valid", several.len()),
        };
        Self { errors, ..Self::new(Kind::Invalid, "invalid_input", detail) }
    }

    /// A query parameter or header that cannot be read, with every reason.
    #[must_use]
    pub fn malformed(errors: Vec<FieldError>) -> Self {
        Self { kind: Kind::Malformed, ..Self::invalid(errors) }
    }

    /// There is no such thing, or it is another's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, "not_found", format!("there is no such {what}"))
    }

    /// It cannot be done now; try again after some seconds.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Kind::Unavailable, code, detail) }
    }
}
