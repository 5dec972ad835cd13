//! What stands in an index under several keys, merged into one list: an entry at a time, and as little read as that needs.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Debug,
    future::Future,
    ops::RangeInclusive,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{Error, Result};

/// An index in which what stands under a key is in the order of its position.
pub trait Ordered: Sync {
    /// What entries stand under.
    type Key: Debug + Ord + Send + Sync;
    /// What the index knows of something.
    type Entry: Debug + Send;
    /// What it is in the order of: each thing has one of its own.
    type Position: Copy + Debug + Ord + Send;

    /// Up to `limit` entries under a key, the first ones first, from the first one after `after` on.
    fn read(
        &self,
        key: &Self::Key,
        after: Option<Self::Position>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Self::Entry>>> + Send;

    /// Where an entry stands.
    fn position(entry: &Self::Entry) -> Self::Position;
}

/// The entries under several keys, in order.
#[derive(Debug)]
pub struct Merged<I: Ordered> {
    index: I,
    streams: Vec<Stream<I>>,
    /// How many entries may still be looked at.
    budget: usize,
    last: Option<I::Position>,
}

#[derive(Debug)]
struct Stream<I: Ordered> {
    key: I::Key,
    after: Option<I::Position>,
    read: VecDeque<I::Entry>,
    /// How many entries were read at once the last time.
    chunk: usize,
    ended: bool,
}

/// What [`Merged`] found.
#[derive(Debug)]
pub struct Found<E, P> {
    /// The entries that were wanted, in order.
    pub entries: Vec<E>,
    /// The last entry that was looked at, wanted or not, if there may be more after it.
    pub more_after: Option<P>,
}

impl<I: Ordered> Merged<I> {
    /// How many entries one list looks at, wanted or not: what is read of them in a second or two.
    const BUDGET: usize = 50_000;
    /// How many entries are read at once under a key, at first; twice as many each time, as long as little is wanted.
    const FIRST_CHUNKS: RangeInclusive<usize> = 10..=100;
    /// How many are at most: some 250 KiB.
    const MOST_IN_CHUNK: usize = 1_000;
    const CONCURRENT_READS: usize = 16;

    /// Begins after `after`.
    pub fn under(index: I, keys: BTreeSet<I::Key>, after: Option<I::Position>) -> Self {
        let stream = |key| Stream { key, after, read: VecDeque::new(), chunk: 0, ended: false };
        Self { index, streams: keys.into_iter().map(stream).collect(), budget: Self::BUDGET, last: after }
    }

    /// The next `count` entries that are wanted, or fewer at the end, or when the budget is spent.
    pub async fn take(
        &mut self,
        count: usize,
        wanted: impl Fn(&I::Entry) -> bool,
    ) -> Result<Found<I::Entry, I::Position>> {
        let mut entries = Vec::new();
        while entries.len() < count && !self.is_spent() {
            self.refill(count).await?;
            let next = self.streams.iter_mut().filter(|stream| !stream.read.is_empty());
            let next = next.min_by_key(|stream| stream.read.front().map(I::position));
            let Some(entry) = next.and_then(|stream| stream.read.pop_front()) else {
                return Ok(Found { entries, more_after: None });
            };
            self.budget -= 1;
            // A post can stand under two of the keys: then it comes twice in a row.
            let position = Some(I::position(&entry));
            let again = self.last == position;
            self.last = position;
            if !again && wanted(&entry) {
                entries.push(entry);
            }
        }
        Ok(Found { entries, more_after: self.last })
    }

    /// Whether it has looked at as many entries as one list may.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.budget == 0
    }

    /// Reads on wherever the next entry is not known: little under each of many keys, since most of it is not looked at.
    async fn refill(&mut self, count: usize) -> Result<()> {
        let fair = Self::BUDGET / self.streams.len().max(1);
        let first = count.min(fair).clamp(*Self::FIRST_CHUNKS.start(), *Self::FIRST_CHUNKS.end());
        let index = &self.index;
        let dry = self.streams.iter_mut().filter(|stream| stream.read.is_empty() && !stream.ended);
        stream::iter(dry)
            .map(|stream| async move {
                stream.chunk = (2 * stream.chunk).clamp(first, Self::MOST_IN_CHUNK);
                let entries = index.read(&stream.key, stream.after, stream.chunk).await?;
                stream.ended = entries.len() < stream.chunk;
                stream.after = entries.last().map(I::position).or(stream.after);
                stream.read = entries.into();
                Ok::<_, Error>(())
            })
            .buffer_unordered(Self::CONCURRENT_READS)
            .try_collect()
            .await
    }
}
