//! Pages of a list, and the opaque cursor from one to the next.

use std::cmp::Reverse;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    error::Invalid,
    ids::{FeedId, PostId, SessionId, SubscriptionId, UserId},
    time::Timestamp,
};

/// How many items of a list one answer has: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    /// The largest.
    pub const MOST: usize = 100;

    /// As many as one answer can have.
    pub const LARGEST: Self = Self(Self::MOST);

    /// Parses a query parameter.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(limit @ 1..=Self::MOST) => Ok(Self(limit)),
            Ok(_) => Err(Invalid::new("out_of_range", "must be from 1 to 100")),
            Err(_) => Err(Invalid::new("wrong_type", "must be a whole number from 1 to 100")),
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }

    /// How many items are read for a page: one more, which tells whether another page follows.
    #[must_use]
    pub const fn and_one(self) -> usize {
        self.0 + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(20)
    }
}

/// Which list a cursor belongs to: one made for another query is refused, instead of skipping items silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope([u8; 8]);

impl Scope {
    /// The list of these query values, in this order.
    #[must_use]
    pub fn of<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> Self {
        let mut hash = Sha256::new();
        for value in values {
            hash.update(value.as_ref());
            hash.update([0]);
        }
        let digest = hash.finalize();
        Self(std::array::from_fn(|i| digest[i]))
    }
}

/// What a list is in the order of, in the bytes of a cursor.
pub trait Position: Sized {
    /// Its bytes.
    fn to_bytes(&self) -> Vec<u8>;
    /// From these bytes, if they are one's.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! positions {
    ($($id:ty),*) => {$(
        impl Position for $id {
            fn to_bytes(&self) -> Vec<u8> {
                self.as_bytes().to_vec()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                let id = Self::from_bytes(bytes.try_into().ok()?);
                id.is_ours().then_some(id)
            }
        }
    )*};
}

positions!(FeedId, PostId, SessionId, SubscriptionId, UserId);

/// Of a list that begins with the greatest.
impl<P: Position> Position for Reverse<P> {
    fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        P::from_bytes(bytes).map(Self)
    }
}

/// Of a list in the order of time, in which several may share a millisecond.
impl<P: Position> Position for (Timestamp, P) {
    fn to_bytes(&self) -> Vec<u8> {
        [self.0.as_millisecond().to_be_bytes().to_vec(), self.1.to_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ms, rest) = bytes.split_first_chunk()?;
        let time = Timestamp::from_millisecond(i64::from_be_bytes(*ms)).ok()?;
        Some((time, P::from_bytes(rest)?))
    }
}

/// Where a page ended: the next one begins with the first item after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor<P = PostId>(pub P);

impl<P: Position> Cursor<P> {
    /// What the client is given.
    #[must_use]
    pub fn encode(&self, scope: Scope) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(scope.0);
        bytes.extend(self.0.to_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the client gave back.
    pub fn decode(text: &str, scope: Scope) -> Result<Self, Invalid> {
        let position = || {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
            let (head, rest) = bytes.split_first_chunk::<9>()?;
            let is_of_this_list = head[0] == VERSION && head[1..] == scope.0;
            P::from_bytes(rest).filter(|_| is_of_this_list)
        };
        position().map(Self).ok_or_else(|| {
            Invalid::new("invalid_cursor", "must be the next_cursor of a page of this very list")
        })
    }
}

/// First byte of a cursor: another form of it gets another number.
const VERSION: u8 = 1;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for the next page with; none at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of a list that is short by its rules, and is read whole: all of its items, in the order of their positions.
    /// What was added or removed meanwhile makes no other item come twice, or not at all.
    #[must_use]
    pub fn of<P: Position + Ord>(
        all: Vec<T>,
        limit: Limit,
        scope: Scope,
        after: Option<&Cursor<P>>,
        position: impl Fn(&T) -> P,
    ) -> Self {
        let is_before = |item: &T| after.is_some_and(|Cursor(last)| position(item) <= *last);
        let rest = all.into_iter().skip_while(is_before).take(limit.and_one()).collect();
        Self::cut(rest, limit, scope, position)
    }

    /// The page of a list of which one item more than `limit` was read, if there is one: so the last page is known to be
    /// the last.
    #[must_use]
    pub fn cut<P: Position>(
        mut items: Vec<T>,
        limit: Limit,
        scope: Scope,
        position: impl Fn(&T) -> P,
    ) -> Self {
        let more = items.len() > limit.get();
        items.truncate(limit.get());
        let next_cursor = items.last().filter(|_| more).map(|last| Cursor(position(last)).encode(scope));
        Self { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_only_for_its_list() {
        let (id, scope) = (PostId::new(crate::time::now()), Scope::of(["60.39", "5.32"]));
        let text = Cursor(id).encode(scope);
        assert_eq!(Cursor::decode(&text, scope), Ok(Cursor(id)));
        assert!(Cursor::<PostId>::decode(&text, Scope::of(["60.39", "5.33"])).is_err());
        for bad in ["", "AA", "é", &text[1..], &format!("{text}A")] {
            assert!(Cursor::<PostId>::decode(bad, scope).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_that_is_read_whole_has_pages_too() {
        let (scope, limit) = (Scope::of(["categories"]), Limit::parse("2").unwrap());
        let names = |text: &str| -> Vec<crate::category::CategoryName> {
            text.split(' ').map(|name| name.parse().unwrap()).collect()
        };
        let page = |all: &str, after: Option<&str>| {
            let after = after.map(|text| Cursor::decode(text, scope).unwrap());
            Page::of(names(all), limit, scope, after.as_ref(), Clone::clone)
        };
        let first = page("crime fire flood weather", None);
        assert_eq!(first.items, names("crime fire"));
        let second = page("crime fire flood weather", first.next_cursor.as_deref());
        assert_eq!((second.items, second.next_cursor), (names("flood weather"), None));
        // The last one of the page is gone, and others came.
        let second = page("avalanche crime fire-2 flood weather", first.next_cursor.as_deref());
        assert_eq!(second.items, names("fire-2 flood"));
        assert!(second.next_cursor.is_some());
        let newest =
            Page::of(vec![3, 2, 1], limit, scope, None, |n: &u8| Reverse(PostId::from_bytes([*n; 16])));
        assert_eq!(newest.items, [3, 2]);
    }

    #[test]
    fn a_cursor_of_a_list_by_time_keeps_both_parts() {
        let (now, scope) = (crate::time::now(), Scope::of(["friendships"]));
        let position = (now, UserId::new(now));
        let text = Cursor(position).encode(scope);
        assert_eq!(Cursor::decode(&text, scope), Ok(Cursor(position)));
        assert!(Cursor::<PostId>::decode(&text, scope).is_err(), "another list's position");
    }
}
