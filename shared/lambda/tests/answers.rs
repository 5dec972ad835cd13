//! The largest answer is one that Lambda takes.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use serde_json::json;
use tocsin_domain::{
    area::{Area, Polygon},
    cursor::Page,
    near::NearPost,
    place::Point,
    post::Post,
};
use tocsin_lambda::{
    request::Request,
    response::{Caching, Response},
};

/// What a function may answer, in bytes: 6 MB (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
const MOST_BYTES: usize = 6 * 1_024 * 1_024;

/// A post as large as a feed's may be, with this area.
fn largest(area: &Area) -> Post {
    let tags: Vec<_> = (0..200).map(|number| format!("{number:0>64}")).collect();
    let id = "019a9f40-2c11-7d21-9a6b-3f1e5b7c9d01";
    let post = json!({
        "post_id": id, "kind": "alert", "status": "cancelled", "title": "水".repeat(200), "body": "水".repeat(5_000),
        "category": "community", "tags": tags, "severity": "moderate", "location": area.middle(), "area": area,
        "author": null, "source": id, "created_at": "2026-11-20T18:02:11.123Z", "updated_at": "2026-11-20T18:02:11.123Z",
        "starts_at": "2026-11-20T18:02:11.123Z", "ends_at": "2026-11-20T18:02:11.123Z",
        "expires_at": "2026-11-20T18:02:11.123Z", "min_price": 1234.56, "max_price": 1234.56,
        "link": format!("https://example.org/{}", "a".repeat(1_980)), "confirmations": 4_000_000, "revision": 4_000_000,
    });
    serde_json::from_value(post).unwrap()
}

/// Points with as many digits as there are, around the far west.
fn points() -> Vec<Point> {
    let around = |number: u32| {
        let angle = f64::from(number).to_radians() * 360.0 / 400.0;
        Point::new(-70.0 + angle.sin() / 3.0, -150.0 + angle.cos() / 3.0).unwrap()
    };
    (0..400).map(around).collect()
}

#[test]
fn a_page_of_the_largest_posts_is_one_that_lambda_takes() {
    let event = serde_json::from_str(include_str!("../../../events/list-posts.json")).unwrap();
    let request = Request::new(event, "invocation");
    let area = Area::of_a_feed(Vec::new(), vec![Polygon::new(points()).unwrap()]).unwrap();
    assert_eq!(area.polygons().len(), 1);
    let post = NearPost { post: largest(&area), distance_m: 100_000.0 / 3.0 };
    let page = Page { items: vec![post; 100], next_cursor: Some("a".repeat(100)) };
    let answer = Response::read(&request, Caching::Private, &page).unwrap();
    let bytes = serde_json::to_vec(&answer).unwrap().len();
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
}
