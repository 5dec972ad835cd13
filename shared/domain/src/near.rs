//! Lists of posts around a point.

use std::cmp::Reverse;

use serde::Serialize;

use crate::{
    Result,
    category::CategoryName,
    cover::Region as _,
    cursor::{Cursor, Limit, Page, Scope},
    friendship::HiddenPeople,
    place::Circle,
    place_index::{Newest, PlaceEntry, PlaceIndex, PlaceKey},
    post::Post,
    posts::{PostCache, Posts, is_listed, is_shown, read},
    time::Timestamp,
};

/// A list of posts around a point.
#[derive(Clone, Debug)]
pub struct Near {
    /// Where.
    pub circle: Circle,
    /// Only of this category.
    pub category: Option<CategoryName>,
    /// How many.
    pub limit: Limit,
    /// After which.
    pub before: Option<Cursor>,
}

/// A post, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearPost {
    /// The post.
    #[serde(flatten)]
    pub post: Post,
    /// Its distance from the point that was asked for, in metres: 0 where its area has that point.
    pub distance_m: f64,
}

impl Near {
    /// Which list it is a page of.
    #[must_use]
    pub fn scope(circle: Circle, category: Option<&CategoryName>) -> Scope {
        let centre = circle.centre();
        let numbers = [centre.lat(), centre.lon(), circle.radius_m()].map(|number| number.to_string());
        Scope::of(numbers.into_iter().chain(category.map(ToString::to_string)))
    }

    /// The posts in the circle, newest first, without those of people who are hidden.
    pub async fn list(
        &self,
        index: &impl PlaceIndex,
        cache: &impl PostCache,
        posts: &impl Posts,
        hidden: &HiddenPeople,
        now: Timestamp,
    ) -> Result<Page<NearPost>> {
        let mut newest =
            Newest::new(index, PlaceKey::within(self.circle), self.before.map(|cursor| cursor.0));
        let wanted = |entry: &PlaceEntry| {
            entry.meets(&self.circle)
                && self.category.as_ref().is_none_or(|category| *category == entry.category)
                && entry.is_listed(now)
                && entry.is_shown(hidden)
        };
        let scope = Self::scope(self.circle, self.category.as_ref());
        let mut items: Vec<NearPost> = Vec::new();
        loop {
            let found = newest.take(self.limit.and_one() - items.len(), wanted).await?;
            let ids: Vec<_> = found.entries.iter().map(|entry| entry.post_id).collect();
            let read = read(cache, posts, &ids).await?.into_iter();
            let listed = read.filter(|post| {
                // The post may have moved since the index was read.
                is_listed(post, now) && is_shown(post, hidden)
            });
            items.extend(listed.filter_map(|post| {
                let distance_m = post.signed_distance_m(self.circle.centre());
                let distance_m = (distance_m <= self.circle.radius_m()).then_some(distance_m.max(0.0));
                Some(NearPost { distance_m: (distance_m? * 10.0).round() / 10.0, post })
            }));
            let full = items.len() > self.limit.get();
            match found.more_after {
                Some(Reverse(last)) if !full && newest.is_spent() => {
                    return Ok(Page { items, next_cursor: Some(Cursor(last).encode(scope)) });
                }
                Some(_) if !full => {}
                _ => return Ok(Page::cut(items, self.limit, scope, |item| item.post.post_id)),
            }
        }
    }
}
