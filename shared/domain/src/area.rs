//! Areas: where a post happens that is larger than a point. Some circles and polygons, taken together.
//!
//! All of it is measured on the sphere, as distances are everywhere: an edge of a polygon is the shortest line between its
//! ends. So the antimeridian and the poles are places like all others.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI, TAU};

use serde::{Deserialize, Serialize};

use crate::{
    cover::Region,
    error::Invalid,
    input::Fields,
    place::{Circle, EARTH_RADIUS_M, Point},
    vector::Vector,
};

mod of_a_feed;

/// Some circles and polygons, at least one in all: what lies in one of them lies in the area.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawArea")]
pub struct Area {
    circles: Vec<Circle>,
    polygons: Vec<Polygon>,
    /// A point and a distance, in metres, within which all of it lies.
    #[serde(skip)]
    bound: (Point, f64),
}

#[derive(Deserialize)]
struct RawArea {
    circles: Vec<Circle>,
    polygons: Vec<Polygon>,
}

impl TryFrom<RawArea> for Area {
    type Error = Invalid;

    fn try_from(raw: RawArea) -> Result<Self, Invalid> {
        Self::new(raw.circles, raw.polygons)
    }
}

impl Area {
    /// The most circles, and the most polygons, of what a person posts.
    pub const MOST_SHAPES: usize = 10;
    /// The most points of all polygons of what a person posts: a page of a hundred such posts is one megabyte of them.
    pub const MOST_POINTS: usize = 200;
    /// How far an area that a person posts reaches from the post's location at most, in metres: as far as a subscription's.
    pub const MOST_REACH_M: f64 = Circle::MOST_RADIUS_M;

    /// At least one circle or polygon.
    pub fn new(circles: Vec<Circle>, polygons: Vec<Polygon>) -> Result<Self, Invalid> {
        let middles = circles.iter().map(|circle| circle.centre());
        let Some(middle) = middles.chain(polygons.iter().map(Polygon::middle)).next() else {
            return Err(Invalid::new("too_few", "must have a circle or a polygon"));
        };
        let area = Self { circles, polygons, bound: (middle, 0.0) };
        let reach_m = area.reach_m(middle);
        Ok(Self { bound: (middle, reach_m), ..area })
    }

    /// Reads `circles` and `polygons`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let circles = fields.objects("circles", Self::MOST_SHAPES, Circle::read);
        let polygons = fields.objects("polygons", Self::MOST_SHAPES, Polygon::read);
        let (circles, polygons) = (circles?, polygons?);
        if polygons.iter().map(|polygon| polygon.points.len()).sum::<usize>() > Self::MOST_POINTS {
            let most = Self::MOST_POINTS;
            return fields.refuse(
                "polygons",
                Invalid::new("too_many", format!("must have at most {most} points in all")),
            );
        }
        match Self::new(circles, polygons) {
            Ok(area) => Some(area),
            Err(invalid) => fields.refuse_whole(invalid),
        }
    }

    /// Its circles.
    #[must_use]
    pub fn circles(&self) -> &[Circle] {
        &self.circles
    }

    /// Its polygons.
    #[must_use]
    pub fn polygons(&self) -> &[Polygon] {
        &self.polygons
    }

    /// A point of it: the centre of its first circle, or where it has none, the middle of its first polygon, or what of the
    /// area is nearest to that.
    #[must_use]
    pub fn middle(&self) -> Point {
        self.nearest(self.bound.0)
    }

    /// How far its farthest point is from a point, in metres.
    #[must_use]
    pub fn reach_m(&self, from: Point) -> f64 {
        let circles = self.circles.iter().map(|circle| from.distance_m(circle.centre()) + circle.radius_m());
        // A polygon's farthest point is a corner, since no polygon is larger than an eighth of the Earth.
        let corners = self.polygons.iter().flat_map(|polygon| &polygon.points);
        let farthest = circles.chain(corners.map(|corner| from.distance_m(*corner))).fold(0.0, f64::max);
        // Beyond a quarter of the way around the Earth an edge may be farther than its ends.
        if farthest < EARTH_RADIUS_M * FRAC_PI_2 { farthest } else { EARTH_RADIUS_M * PI }
    }

    /// Its point that is nearest to another: that one itself, where it lies within.
    #[must_use]
    pub fn nearest(&self, point: Point) -> Point {
        let circles = self.circles.iter().map(|circle| circle.nearest(point));
        let all = circles.chain(self.polygons.iter().map(|polygon| polygon.nearest(point)));
        let nearest = all.map(|one| (one, one.distance_m(point))).min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(point, |(nearest, _)| nearest)
    }

    /// Refuses an area that reaches farther than a person's may ([`Self::MOST_REACH_M`]).
    pub fn within_reach(&self, location: Point) -> Result<(), Invalid> {
        if self.reach_m(location) <= Self::MOST_REACH_M {
            Ok(())
        } else {
            let most = Self::MOST_REACH_M / 1_000.0;
            Err(Invalid::new("out_of_range", format!("must lie within {most} km of the location")))
        }
    }
}

impl Region for Area {
    fn signed_distance_m(&self, point: Point) -> f64 {
        let circles = self.circles.iter().map(|circle| circle.signed_distance_m(point));
        let polygons = self.polygons.iter().map(|polygon| polygon.signed_distance_m(point));
        circles.chain(polygons).fold(f64::INFINITY, f64::min)
    }

    fn meets(&self, circle: &Circle) -> bool {
        // Most that do not are far away.
        let (middle, reach_m) = self.bound;
        middle.distance_m(circle.centre()) <= reach_m + circle.radius_m()
            && self.signed_distance_m(circle.centre()) <= circle.radius_m()
    }
}

/// What lies within a line that goes from each of its points to the next, and from the last to the first. Where the line
/// crosses itself, all that it goes around.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawPolygon")]
pub struct Polygon {
    points: Vec<Point>,
    /// The points, from the Earth's centre.
    #[serde(skip)]
    corners: Vec<Vector>,
    #[serde(skip)]
    middle: Vector,
}

#[derive(Deserialize)]
struct RawPolygon {
    points: Vec<Point>,
}

impl TryFrom<RawPolygon> for Polygon {
    type Error = Invalid;

    fn try_from(raw: RawPolygon) -> Result<Self, Invalid> {
        Self::new(raw.points)
    }
}

impl PartialEq for Polygon {
    fn eq(&self, other: &Self) -> bool {
        self.points == other.points
    }
}

/// How far a polygon's corners may lie from its middle, as an angle: 45°, which is some 5,000 km. Beyond, it could not be told
/// what is within.
const MOST_ANGLE: f64 = FRAC_PI_4;

impl Polygon {
    /// The most points of what a person posts.
    pub const MOST_POINTS: usize = 100;

    /// At least three different points, which lie within some 5,000 km of their middle. The last may be the first again.
    pub fn new(mut points: Vec<Point>) -> Result<Self, Invalid> {
        points.dedup();
        while points.len() > 1 && points.first() == points.last() {
            points.pop();
        }
        // The first two differ.
        let is_line = match points[..] {
            [first, second, ..] => points.iter().all(|point| *point == first || *point == second),
            _ => true,
        };
        if is_line {
            return Err(Invalid::new("too_few", "must have at least three different points"));
        }
        let corners: Vec<Vector> = points.iter().map(|point| Vector::of(*point)).collect();
        let middle = corners.iter().fold(Vector::default(), |sum, corner| sum.plus(*corner)).unit();
        match middle {
            Some(middle) if corners.iter().all(|corner| middle.angle(*corner) <= MOST_ANGLE) => {
                Ok(Self { points, corners, middle })
            }
            _ => Err(Invalid::new("out_of_range", "must lie within 5,000 km of its middle")),
        }
    }

    /// The polygon of so many corners whose edges touch a circle, and hold it.
    pub fn around(centre: Point, radius_m: f64, corners: u16) -> Result<Self, Invalid> {
        // So far a corner is that the edges' middles lie on the circle (Napier's rules for the right-angled triangle of
        // centre, middle and corner).
        let step = TAU / f64::from(corners.max(1));
        let angle = ((radius_m / EARTH_RADIUS_M).tan() / (step / 2.0).cos()).atan();
        let corner = |number| centre.destination(angle * EARTH_RADIUS_M, step * f64::from(number));
        Self::new((0..corners).map(corner).collect())
    }

    /// Reads `points`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        // One more, for a ring that is closed.
        let points = fields.objects("points", Self::MOST_POINTS + 1, Point::read)?;
        match Self::new(points) {
            Ok(polygon) => Some(polygon),
            Err(invalid) => fields.refuse("points", invalid),
        }
    }

    /// The points of its line, the first not repeated.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    fn middle(&self) -> Point {
        self.middle.point()
    }

    fn edges(&self) -> impl Iterator<Item = (Vector, Vector)> {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().copied().zip(next.copied())
    }

    fn nearest(&self, point: Point) -> Point {
        let from = Vector::of(point);
        if self.goes_around(from) { point } else { self.nearest_of_rim(from).point() }
    }

    fn nearest_of_rim(&self, point: Vector) -> Vector {
        let all = self.edges().map(|edge| nearest(point, edge));
        let nearest = all.map(|one| {
            let way = one.minus(point);
            (one, way.dot(way))
        });
        nearest.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(self.middle, |(nearest, _)| nearest)
    }

    /// Whether the line goes around a point that does not lie on it.
    fn goes_around(&self, point: Vector) -> bool {
        // The line turns as often around the point on the other side of the Earth, which is never within.
        if point.dot(self.middle) <= 0.0 {
            return false;
        }
        // The directions in which the corners are seen from the point: once around is a full turn.
        let direction = |corner: Vector| corner.minus(point.times(corner.dot(point)));
        let turn = |(from, to)| {
            let (from, to) = (direction(from), direction(to));
            point.dot(from.cross(to)).atan2(from.dot(to))
        };
        self.edges().map(turn).sum::<f64>().abs() > PI
    }
}

impl Region for Polygon {
    fn signed_distance_m(&self, point: Point) -> f64 {
        let point = Vector::of(point);
        let metres = point.angle(self.nearest_of_rim(point)) * EARTH_RADIUS_M;
        if self.goes_around(point) { -metres } else { metres }
    }
}

/// The point that is nearest to another, of those on the shortest line between two.
fn nearest(point: Vector, (from, to): (Vector, Vector)) -> Vector {
    let nearer_end = if point.dot(from) >= point.dot(to) { from } else { to };
    let Some(pole) = from.cross(to).unit() else { return nearer_end };
    // Whether the point of the great circle that is nearest lies between the ends.
    let is_beside = pole.cross(from).dot(point) >= 0.0 && to.cross(pole).dot(point) >= 0.0;
    let beside = is_beside.then(|| point.minus(pole.times(pole.dot(point))).unit());
    beside.flatten().unwrap_or(nearer_end)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        cover::{cells, cover},
        place::tests::{destination, point},
    };

    /// A star around a point: its corners lie at these shares of a radius.
    fn star(centre: Point, radius_m: f64, shares: &[f64]) -> Polygon {
        let count = f64::from(u32::try_from(shares.len()).unwrap());
        let corner = |(index, share): (u32, &f64)| {
            destination(centre, radius_m * share, TAU * f64::from(index) / count)
        };
        Polygon::new((0..).zip(shares).map(corner).collect()).unwrap()
    }

    /// Areas that reach so far from a place, in metres: stars, with a circle that may lie elsewhere.
    pub(crate) fn areas(reach_m: std::ops::RangeInclusive<f64>) -> impl Strategy<Value = (Point, f64, Area)> {
        let shares = prop::collection::vec(0.2..=1.0f64, 5..12);
        let circle = prop::option::weighted(0.2, (point(), 50.0..=100_000.0f64));
        (point(), reach_m.start().ln()..=reach_m.end().ln(), shares, circle).prop_map(
            |(centre, ln, shares, circle)| {
                let circle = circle.map(|(centre, radius_m)| Circle::new(centre, radius_m).unwrap());
                let polygons = vec![star(centre, ln.exp(), &shares)];
                (centre, ln.exp(), Area::new(circle.into_iter().collect(), polygons).unwrap())
            },
        )
    }

    fn a_star() -> impl Strategy<Value = (Point, f64, Polygon)> {
        let shares = prop::collection::vec(0.2..=1.0f64, 5..40);
        (point(), 500f64.ln()..=100_000f64.ln(), shares)
            .prop_map(|(centre, ln, shares)| (centre, ln.exp(), star(centre, ln.exp(), &shares)))
    }

    /// Some points of each edge.
    fn rim(polygon: &Polygon) -> Vec<Vector> {
        let between = |(from, to): (Vector, Vector)| {
            (0..=50).filter_map(move |step| {
                let share = f64::from(step) / 50.0;
                from.times(1.0 - share).plus(to.times(share)).unit()
            })
        };
        polygon.edges().flat_map(between).collect()
    }

    proptest! {
        #[test]
        fn a_distance_is_that_of_the_nearest_point_of_the_rim(
            (centre, radius_m, polygon) in a_star(),
            far in 0.0..3.0f64,
            bearing in 0.0..TAU,
        ) {
            let asked = destination(centre, radius_m * far, bearing);
            let nearest = rim(&polygon).into_iter().map(|on| on.angle(Vector::of(asked))).fold(f64::INFINITY, f64::min);
            let (nearest_m, distance_m) = (nearest * EARTH_RADIUS_M, polygon.signed_distance_m(asked).abs());
            // The samples of an edge are at most a fiftieth of two radii apart.
            prop_assert!(distance_m <= nearest_m + 1e-3 && nearest_m <= distance_m + radius_m / 25.0);
        }

        #[test]
        fn what_is_within_a_star_is_seen_from_its_middle((centre, radius_m, polygon) in a_star(), bearing in 0.0..TAU) {
            prop_assert!(polygon.signed_distance_m(centre) < 0.0);
            prop_assert!(polygon.signed_distance_m(destination(centre, radius_m * 1.01, bearing)) > 0.0);
            // Along a ray from the middle, the rim is crossed once: before it is within, after it is not.
            let within = |step: f64| polygon.signed_distance_m(destination(centre, radius_m * step / 100.0, bearing)) < 0.0;
            let crossings = (0..101).filter(|step| within(f64::from(*step)) != within(f64::from(*step) + 1.0)).count();
            prop_assert_eq!(crossings, 1);
            // And from the other side of the Earth it is far.
            let other_side = Point::new(-centre.lat(), (centre.lon() + 360.0) % 360.0 - 180.0).unwrap();
            prop_assert!(polygon.signed_distance_m(other_side) > 1e7);
        }

        #[test]
        fn the_nearest_point_is_within_and_as_near_as_the_area(
            (centre, radius_m, polygon) in a_star(),
            far in 0.0..3.0f64,
            bearing in 0.0..TAU,
            wish_m in 50.0..100_000.0f64,
        ) {
            let circle = Circle::new(destination(centre, radius_m, 1.0), 5_000.0).unwrap();
            let area = Area::new(vec![circle], vec![polygon]).unwrap();
            let asked = destination(centre, radius_m * far, bearing);
            let (nearest, distance_m) = (area.nearest(asked), area.signed_distance_m(asked));
            prop_assert!((nearest.distance_m(asked) - distance_m.max(0.0)).abs() < 1e-2);
            prop_assert!(area.signed_distance_m(nearest) < 1e-2);
            prop_assert_eq!(area.meets(&Circle::new(asked, wish_m).unwrap()), distance_m <= wish_m);
        }

        #[test]
        fn cells_cover_a_polygon(
            (centre, radius_m, polygon) in a_star(),
            shots in prop::collection::vec((0.0..=1.0f64, 0.0..TAU), 32),
        ) {
            let mixed = cover(&polygon, 3, 8, 24);
            let at_five = cells(&polygon, 5, 500).unwrap();
            for (share, bearing) in shots {
                let shot = destination(centre, radius_m * share, bearing);
                if polygon.signed_distance_m(shot) <= 0.0 {
                    let path = shot.cell(15);
                    prop_assert!(mixed.iter().any(|cell| path.as_str().starts_with(cell.as_str())));
                    prop_assert!(at_five.contains(&path.ancestor(5)));
                }
            }
        }

        #[test]
        fn an_area_reaches_no_farther_than_it_says((centre, radius_m, polygon) in a_star(), bearing in 0.0..TAU, far in 0.0..2.0f64) {
            let circle = Circle::new(destination(centre, radius_m, 1.0), 5_000.0).unwrap();
            let area = Area::new(vec![circle], vec![polygon]).unwrap();
            let (from, asked) = (destination(centre, radius_m / 2.0, 2.0), destination(centre, radius_m * far, bearing));
            // What the place index knows of an area is never farther away than the area.
            let bound = from.distance_m(asked) - area.reach_m(from);
            prop_assert!(bound <= area.signed_distance_m(asked).max(0.0) + 1e-3);
        }
    }

    fn at(lat: f64, lon: f64) -> Point {
        Point::new(lat, lon).unwrap()
    }

    #[test]
    fn the_antimeridian_and_the_poles_are_places_like_others() {
        let fiji =
            Polygon::new(vec![at(-18.0, 179.0), at(-18.0, -179.0), at(-16.0, -179.0), at(-16.0, 179.0)]);
        let fiji = fiji.unwrap();
        assert!(
            fiji.signed_distance_m(at(-17.0, 180.0)) < 0.0 && fiji.signed_distance_m(at(-17.0, -180.0)) < 0.0
        );
        assert!(fiji.signed_distance_m(at(-17.0, 0.0)) > 0.0);
        let around_the_pole = Polygon::new(vec![at(85.0, 0.0), at(85.0, 120.0), at(85.0, -120.0)]).unwrap();
        assert!(around_the_pole.signed_distance_m(at(90.0, 77.0)) < 0.0);
        assert!(around_the_pole.signed_distance_m(at(80.0, 0.0)) > 0.0);
    }

    #[test]
    fn a_line_and_too_large_a_polygon_are_none() {
        let refused = |points: &[(f64, f64)]| {
            Polygon::new(points.iter().map(|(lat, lon)| at(*lat, *lon)).collect()).unwrap_err().code
        };
        assert_eq!(refused(&[]), "too_few");
        assert_eq!(refused(&[(1.0, 1.0), (2.0, 2.0), (1.0, 1.0), (1.0, 1.0)]), "too_few");
        assert_eq!(refused(&[(1.0, 1.0), (2.0, 2.0), (1.0, 1.0), (2.0, 2.0)]), "too_few");
        assert_eq!(refused(&[(1.0, 1.0), (2.0, 2.0), (2.0, 2.0), (1.0, 1.0)]), "too_few");
        assert_eq!(refused(&[(0.0, 0.0), (0.0, 120.0), (0.0, -120.0)]), "out_of_range");
        assert_eq!(refused(&[(0.0, 0.0), (0.0, 100.0), (10.0, 50.0)]), "out_of_range");
    }

    #[test]
    fn every_mistake_in_an_area_is_named() {
        let body = json!({"area": {
            "circles": [{"lat": 60.0, "lon": 5.0, "radius_m": 1}],
            "polygons": [{"points": [{"lat": 60.0, "lon": 500.0}]}, {"points": [{"lat": 1, "lon": 1}]}, 7],
        }});
        let mut fields = Fields::of(&body).unwrap();
        assert_eq!(fields.optional_object("area", Area::read), None);
        let errors = fields.finish().unwrap_err().errors;
        let found: Vec<_> = errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        assert_eq!(
            found,
            [
                ("/area/circles/0/radius_m", "out_of_range"),
                ("/area/polygons/0/points/0/lon", "out_of_range"),
                ("/area/polygons/1/points", "too_few"),
                ("/area/polygons/2", "wrong_type"),
            ]
        );
        // Too many points in all, though each polygon may have so many.
        let point = |number: i32| json!({"lat": 60.0, "lon": f64::from(number) / 100.0});
        let polygon = json!({"points": (0..80).map(point).collect::<Vec<_>>()});
        let body = json!({"area": {"polygons": [polygon, polygon, polygon]}});
        let mut fields = Fields::of(&body).unwrap();
        assert_eq!(fields.optional_object("area", Area::read), None);
        assert_eq!(fields.finish().unwrap_err().errors[0].pointer, "/area/polygons");
        for empty in [json!({"area": {}}), json!({"area": {"circles": [], "polygons": []}})] {
            let mut fields = Fields::of(&empty).unwrap();
            assert_eq!(fields.optional_object("area", Area::read), None);
            assert_eq!(fields.finish().unwrap_err().errors[0].pointer, "/area");
        }
    }

    proptest! {
        /// Else what was accepted could not be read.
        #[test]
        fn a_polygon_that_is_taken_is_read_again(corners in prop::collection::vec((0u8..2, 0u8..2), 0..8)) {
            let points = corners.into_iter().map(|(lat, lon)| at(f64::from(lat), f64::from(lon)));
            if let Ok(polygon) = Polygon::new(points.collect()) {
                let again: Polygon = serde_json::from_value(serde_json::to_value(&polygon).unwrap()).unwrap();
                prop_assert_eq!(again, polygon);
            }
        }
    }

    #[test]
    fn an_area_is_written_and_read_again() {
        let area = json!({
            "circles": [{"lat": 60.0, "lon": 5.0, "radius_m": 500.0}],
            "polygons": [{"points": [{"lat": 60.0, "lon": 5.0}, {"lat": 61.0, "lon": 5.0}, {"lat": 60.0, "lon": 6.0}]}],
        });
        let read: Area = serde_json::from_value(area.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), area);
        assert!(read.within_reach(at(60.0, 5.0)).is_err() && read.within_reach(at(60.5, 5.3)).is_ok());
        assert!(serde_json::from_value::<Area>(json!({"circles": [], "polygons": []})).is_err());
    }
}
