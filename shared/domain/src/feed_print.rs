//! What an item of a feed says, in short, so that a change of it is noticed without its being kept.
//!
//! Prints are kept with what is known of a feed, and compared by later releases: so their form changes only on purpose, since then
//! all that is listed changes once. When an item was published is no part of them: many publish the same again.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{area::Area, category::CategoryName, feed_item::Item, place::Point};

/// Where an item is: its place, and its tags, among which are the codes of places.
#[must_use]
pub fn of_place(item: &Item) -> u64 {
    let mut print = Print(Sha256::new());
    print.place(item);
    print.value()
}

/// What decides who is told of an item.
#[must_use]
pub fn of_audience(item: &Item) -> u64 {
    let mut print = Print(Sha256::new());
    print.text(item.category.as_ref().map(CategoryName::as_str));
    print.word(&item.severity);
    print.place(item);
    print.value()
}

/// What else it says, but whether it still goes on, and until when.
#[must_use]
pub fn of_text(item: &Item) -> u64 {
    let mut print = Print(Sha256::new());
    print.text(Some(&item.title));
    print.text(item.body.as_deref());
    print.text(item.link.as_ref().map(Url::as_str));
    for time in [item.starts_at, item.ends_at] {
        print.each(&time, |print, time| print.number(time.as_millisecond()));
    }
    print.each(&item.prices, |print, prices| [prices.min, prices.max].map(|price| print.amount(price, 1e4)));
    print.value()
}

/// What is said, as a hash: numbers of eight bytes, and texts and lists after their length.
struct Print(Sha256);

impl Print {
    fn number(&mut self, number: i64) {
        self.0.update(number.to_be_bytes());
    }

    /// An amount as a whole number of its parts: what is smaller may differ by the machine that reckons it.
    fn amount(&mut self, amount: f64, parts: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "it saturates, which is as good")]
        self.number((amount * parts).round() as i64);
    }

    fn text(&mut self, text: Option<&str>) {
        self.number(text.map_or(-1, |text| i64::try_from(text.len()).unwrap_or(i64::MAX)));
        self.0.update(text.unwrap_or_default());
    }

    /// A word of the API.
    fn word(&mut self, word: &impl Serialize) {
        let word = serde_json::to_value(word).unwrap_or_default();
        self.text(word.as_str());
    }

    fn each<'a, T: 'a, R>(
        &mut self,
        list: impl IntoIterator<Item = &'a T, IntoIter: Clone>,
        one: impl Fn(&mut Self, &'a T) -> R,
    ) {
        let list = list.into_iter();
        self.number(i64::try_from(list.clone().count()).unwrap_or(i64::MAX));
        list.for_each(|item| {
            one(self, item);
        });
    }

    /// To some 10 cm.
    fn point(&mut self, point: Point) {
        self.amount(point.lat(), 1e6);
        self.amount(point.lon(), 1e6);
    }

    fn area(&mut self, area: &Area) {
        self.each(area.circles(), |print, circle| {
            print.point(circle.centre());
            print.amount(circle.radius_m(), 10.0);
        });
        self.each(area.polygons(), |print, polygon| {
            print.each(polygon.points(), |print, point| print.point(*point));
        });
    }

    fn place(&mut self, item: &Item) {
        self.each(&item.tags, |print, tag| print.text(Some(tag.as_str())));
        self.each(&item.place, |print, place| {
            print.point(place.location);
            print.each(&place.area, Print::area);
        });
    }

    fn value(self) -> u64 {
        let digest = self.0.finalize();
        u64::from_be_bytes(std::array::from_fn(|byte| digest[byte]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        area::Polygon,
        feed_item::ItemPlace,
        place::Circle,
        post::{PostKind, Prices, Severity},
    };

    /// An item that says something of everything.
    fn whole() -> Item {
        let at = |lat, lon| Point::new(lat, lon).unwrap();
        let time = |text: &str| Some(text.parse().unwrap());
        let circle = Circle::new(at(60.39, 5.32), 20_000.0).unwrap();
        let polygon = Polygon::new(vec![at(60.0, 5.0), at(60.1, 5.0), at(60.1, 5.3)]).unwrap();
        Item {
            sub_id: Some("1".to_owned()),
            link: Some("https://example.org/1".parse().unwrap()),
            category: Some("flood".parse().unwrap()),
            tags: ["same:006085", "river"].map(|tag| tag.parse().unwrap()).into(),
            severity: Severity::Severe,
            place: Some(ItemPlace {
                location: at(60.39, 5.32),
                area: Some(Area::new(vec![circle], vec![polygon]).unwrap()),
            }),
            published_at: time("2026-11-21T17:00:00Z"),
            starts_at: time("2026-11-21T18:00:00Z"),
            ends_at: time("2026-11-21T19:00:00Z"),
            expires_at: time("2026-11-21T20:00:00Z"),
            prices: Some(Prices { min: 15.5, max: 20.0 }),
            is_all_clear: true,
            is_cancelled: true,
            ..Item::new(PostKind::Alert, "High water").with_body("Stay away.")
        }
    }

    #[test]
    fn a_print_is_the_same_on_every_machine_and_in_every_release() {
        // Whoever changes these makes all posts of all feeds change once.
        let fair = Item::new(PostKind::Event, "A fair");
        assert_eq!(
            [of_audience(&whole()), of_text(&whole())],
            [1_630_965_551_990_038_720, 5_254_152_719_571_333_761]
        );
        assert_eq!(
            [of_audience(&fair), of_text(&fair)],
            [10_992_983_862_604_274_238, 11_974_330_833_389_840_666]
        );
    }

    #[test]
    fn prints_are_of_all_that_is_said_and_not_of_when_it_was_published() {
        let whole = whole();
        let prints = |item: &Item| (of_audience(item), of_text(item));
        assert_eq!(prints(&Item { published_at: None, ..whole.clone() }), prints(&whole));
        let place = whole.place.clone().unwrap();
        let moved = |metres: f64| {
            let location = Point::new(60.39 + metres / 111_000.0, 5.32).unwrap();
            Item { place: Some(ItemPlace { location, area: place.area.clone() }), ..whole.clone() }
        };
        assert_eq!(prints(&moved(0.001)), prints(&whole), "machines differ by less than a millimetre");
        let spot = Some(ItemPlace { location: place.location, area: None });
        let elsewhere = [
            Item { category: None, ..whole.clone() },
            Item { tags: BTreeSet::new(), ..whole.clone() },
            Item { severity: Severity::Extreme, ..whole.clone() },
            Item { place: None, ..whole.clone() },
            Item { place: spot, ..whole.clone() },
            moved(1.0),
        ];
        let otherwise = [
            Item { title: "Higher water".to_owned(), ..whole.clone() },
            Item { body: None, ..whole.clone() },
            Item { body: Some(String::new()), ..whole.clone() },
            // What is said is the same, but in other places.
            Item { title: "High".to_owned(), body: Some(" waterStay away.".to_owned()), ..whole.clone() },
            Item { link: None, ..whole.clone() },
            Item { starts_at: None, ..whole.clone() },
            Item { starts_at: whole.ends_at, ..whole.clone() },
            Item { ends_at: None, ..whole.clone() },
            Item { prices: None, ..whole.clone() },
            Item { prices: Some(Prices { min: 15.6, max: 20.0 }), ..whole.clone() },
        ];
        assert!(elsewhere.iter().all(|item| of_text(item) == of_text(&whole)));
        assert!(otherwise.iter().all(|item| of_audience(item) == of_audience(&whole)));
        let all = elsewhere.iter().chain(&otherwise).chain([&whole]);
        let all: BTreeSet<_> = all.map(prints).collect();
        assert_eq!(all.len(), elsewhere.len() + otherwise.len() + 1, "all differ");
    }
}
