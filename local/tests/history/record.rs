//! What happened, and when.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::model::Form;

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A post was accepted.
    Posted { post: String, author: String, form: Form },
    /// A change of it was accepted: an edit, or its end.
    Changed { post: String, form: Form },
    /// Its deletion was accepted.
    Deleted { post: String },
    /// A confirmation of it was accepted.
    Confirmed { post: String, by: String },
    /// SNS was asked to ring a device.
    Publish { asked: Duration, reader: String, device: String, post: String, news: String, fate: Fate },
    /// SNS was asked to ring a device for several posts, of which it names some.
    Digest { asked: Duration, reader: String, device: String, posts: Vec<String>, count: usize, fate: Fate },
    /// That two people are hidden from each other was accepted.
    Blocked { by: String, whom: String },
    /// Somebody's quiet hours end, at that time or later.
    Woken { reader: String, from: Duration },
    /// Processes of a function were killed: between then and now.
    Killed { function: String, from: Duration },
    /// Something else went wrong.
    Fault(String),
    /// Somebody read their whole timeline.
    Read { reader: String, posts: Vec<String> },
}

/// What became of a request to SNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It took the push, and said so.
    Taken,
    /// It took the push, and the answer was lost.
    TakenUnanswered,
    /// It said that it takes no more.
    Throttled,
    /// It said that it failed.
    Failed,
    /// It was never reached.
    Unreached,
}

impl Fate {
    /// Whether the phone rings.
    pub(crate) const fn rings(self) -> bool {
        matches!(self, Self::Taken | Self::TakenUnanswered)
    }
}

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Record {
    began: Instant,
    events: Mutex<Vec<(Duration, Event)>>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), events: Mutex::default() }
    }

    /// How long it has been going on.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn note(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push((self.began.elapsed(), event));
    }

    /// In the order in which it happened.
    pub(crate) fn events(&self) -> Vec<(Duration, Event)> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posted { post, author, form } => write!(f, "{author} posts {post}: {form:?}"),
            Self::Changed { post, form } => write!(f, "{post} changes: {form:?}"),
            Self::Deleted { post } => write!(f, "{post} is deleted"),
            Self::Confirmed { post, by } => write!(f, "{by} confirms {post}"),
            Self::Publish { asked, reader, device, post, news, fate } => {
                write!(f, "push to {reader}/{device} of {post} ({news}), asked at {asked:.3?}: {fate:?}")
            }
            Self::Digest { asked, reader, device, posts, count, fate } => {
                write!(
                    f,
                    "digest to {reader}/{device} of {count}, asked at {asked:.3?}: {fate:?}: {}",
                    posts.join(" ")
                )
            }
            Self::Blocked { by, whom } => write!(f, "{by} blocks {whom}"),
            Self::Woken { reader, from } => write!(f, "{reader} may be rung from {from:.3?} on"),
            Self::Killed { function, from } => write!(f, "{function} was killed since {from:.3?}"),
            Self::Fault(what) => f.write_str(what),
            Self::Read { reader, posts } => write!(f, "{reader} reads {}", posts.join(" ")),
        }
    }
}
