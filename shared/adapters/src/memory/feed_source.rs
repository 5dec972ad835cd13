//! Providers of feeds, which answer as they are told.

use std::collections::{HashMap, VecDeque};

use tocsin_domain::feed_fetch::{FeedSource, FetchFailure, Fetched, Validators};
use url::Url;

use super::Shared;

/// What a provider answers.
type Answer = Result<Fetched, FetchFailure>;

/// Providers. A document whose validators were seen is unchanged; where nothing is, there is a failure for good.
#[derive(Clone, Debug, Default)]
pub struct MemoryFeedSource {
    state: Shared<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Url, VecDeque<Answer>>,
    fetches: Vec<(Url, Validators)>,
}

impl MemoryFeedSource {
    /// From now on an address answers so: in turn, and in the end the last again and again.
    pub fn script(&self, url: &Url, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().answers.insert(url.clone(), answers.into_iter().collect());
    }

    /// What was asked for, and what had been seen of it.
    #[must_use]
    pub fn fetches(&self) -> Vec<(Url, Validators)> {
        self.state.lock().fetches.clone()
    }
}

impl State {
    fn next(&mut self, url: &Url) -> Option<Answer> {
        let answers = self.answers.get_mut(url)?;
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
    }
}

impl FeedSource for MemoryFeedSource {
    async fn fetch(&self, url: &Url, seen: &Validators) -> Answer {
        let mut state = self.state.lock();
        state.fetches.push((url.clone(), seen.clone()));
        let missing =
            || FetchFailure { reason: format!("nothing is at {url}"), retry_after: None, is_permanent: true };
        match state.next(url).ok_or_else(missing)?? {
            Fetched::Document { validators, .. } if validators == *seen && !seen.is_empty() => {
                Ok(Fetched::Unchanged)
            }
            fetched => Ok(fetched),
        }
    }
}
