//! Places as feeds draw them: points, circles, lines and polygons, of which a place is made.

use std::collections::HashSet;

use tocsin_domain::{
    area::{Area, Polygon},
    error::Invalid,
    feed_item::ItemPlace,
    place::{Circle, Point},
};

/// The most shapes of an item.
pub(crate) const MOST_SHAPES: usize = 5_000;
/// The most points of all polygons of an item.
pub(crate) const MOST_POINTS: usize = 100_000;

/// What an area is drawn with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    Point(Point),
    Circle(Circle),
    Polygon(Polygon),
}

/// A point. Across the antimeridian some go on counting.
pub(crate) fn point(lat: f64, lon: f64) -> Result<Point, String> {
    let is_beyond = lon.abs() > 180.0 && lon.abs() <= 540.0;
    let counted = if is_beyond { lon - 360.0_f64.copysign(lon) } else { lon };
    Point::new(lat, counted).map_err(|_| format!("has a point that is not on the Earth: {lat},{lon}"))
}

impl Shape {
    /// A circle; a point, where it has no radius; and the polygon around it, where it is larger than circles may be.
    pub(crate) fn circle(centre: Point, radius_m: f64) -> Result<Self, String> {
        /// Its edges are then no more than a thousandth of the radius wider.
        const CORNERS: u16 = 72;
        if radius_m == 0.0 {
            Ok(Self::Point(centre))
        } else if radius_m > 0.0 && radius_m <= Circle::MOST_RADIUS_M {
            let circle = Circle::new(centre, radius_m.max(Circle::LEAST_RADIUS_M));
            circle.map(Self::Circle).map_err(|invalid| invalid.detail)
        } else if radius_m > 0.0 && radius_m <= Area::MOST_REACH_OF_A_FEED_M {
            Polygon::around(centre, radius_m, CORNERS).map(Self::Polygon).map_err(|invalid| invalid.detail)
        } else {
            Err(format!("has a radius of {radius_m} m"))
        }
    }

    /// What lies within a ring of points.
    pub(crate) fn polygon(points: Vec<Point>) -> Result<Self, String> {
        if points.len() > MOST_POINTS {
            return Err(format!("has more than {MOST_POINTS} points"));
        }
        Polygon::new(points).map(Self::Polygon).map_err(|invalid| invalid.detail)
    }

    /// A line, as a polygon that goes there and back.
    pub(crate) fn line(mut points: Vec<Point>) -> Result<Self, String> {
        let [first, second, ..] = points[..] else { return Err("has not two points".to_owned()) };
        if points.iter().all(|point| *point == first || *point == second) {
            // A polygon has three points at least: this one is as wide as a hand.
            points = vec![first, second, point(second.lat() - second.lat().signum() * 1e-6, second.lon())?];
        } else {
            let back: Vec<Point> = points[1..points.len() - 1].iter().rev().copied().collect();
            points.extend(back);
        }
        Self::polygon(points)
    }

    /// What lies between two parallels and two meridians, from the first eastward to the second. A parallel is no shortest
    /// line: so it has a point at each degree.
    pub(crate) fn rectangle((south, west): (f64, f64), (north, east): (f64, f64)) -> Result<Self, String> {
        let width = if east - west < 360.0 { (east - west).rem_euclid(360.0) } else { 360.0 };
        let steps = width.ceil().max(1.0);
        let side = |lat: f64| {
            let at = move |step: f64| point(lat, west + width * step / steps);
            (0_u16..=360).map(f64::from).take_while(move |step| *step <= steps).map(at)
        };
        let mut corners: Vec<Point> = side(south).collect::<Result<_, _>>()?;
        let top: Vec<Point> = side(north).collect::<Result<_, _>>()?;
        corners.extend(top.into_iter().rev());
        Self::polygon(corners)
    }

    fn points(&self) -> &[Point] {
        if let Self::Polygon(polygon) = self { polygon.points() } else { &[] }
    }

    /// The same for the same shape alone.
    pub(crate) fn key(&self) -> Vec<u64> {
        let (radius_m, points) = match self {
            Self::Point(point) => (0.0, std::slice::from_ref(point)),
            Self::Circle(circle) => (circle.radius_m(), &[circle.centre()][..]),
            Self::Polygon(polygon) => (-1.0, polygon.points()),
        };
        let degrees = points.iter().flat_map(|point| [point.lat(), point.lon()]);
        std::iter::once(radius_m).chain(degrees).map(f64::to_bits).collect()
    }
}

/// The shapes of one place, each once.
#[derive(Default)]
pub(crate) struct Shapes {
    all: Vec<Shape>,
    seen: HashSet<Vec<u64>>,
    points: usize,
}

impl Shapes {
    /// Adds a shape, if there are not too many.
    pub(crate) fn add(&mut self, shape: Shape) -> Result<(), String> {
        if self.all.len() == MOST_SHAPES {
            return Err(format!("is left out: there are more than {MOST_SHAPES}"));
        }
        if self.points + shape.points().len() > MOST_POINTS {
            return Err(format!(
                "is left out: there are more than {MOST_POINTS} points, with what is before it"
            ));
        }
        if self.seen.insert(shape.key()) {
            self.points += shape.points().len();
            self.all.push(shape);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The place that they make, if there are any: at the first point, or else in the middle of the area.
    pub(crate) fn place(self) -> Result<Option<ItemPlace>, String> {
        if let [Shape::Point(location)] = self.all[..] {
            return Ok(Some(ItemPlace { location, area: None }));
        }
        let (mut first, mut circles, mut polygons) = (None, Vec::new(), Vec::new());
        for shape in self.all {
            match shape {
                Shape::Point(point) => {
                    first.get_or_insert(point);
                    // Beside others, it is as small as an area can be.
                    circles.extend(Circle::new(point, Circle::LEAST_RADIUS_M));
                }
                Shape::Circle(circle) => circles.push(circle),
                Shape::Polygon(polygon) => polygons.push(polygon),
            }
        }
        if circles.is_empty() && polygons.is_empty() {
            return Ok(None);
        }
        let area = Area::of_a_feed(circles, polygons);
        let area = area.map_err(|Invalid { detail, .. }| format!("its area {detail}"))?;
        Ok(Some(ItemPlace { location: first.unwrap_or_else(|| area.middle()), area: Some(area) }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tocsin_domain::cover::Region;

    use super::*;

    fn at(lat: f64, lon: f64) -> Point {
        Point::new(lat, lon).unwrap()
    }

    fn place(all: impl IntoIterator<Item = Shape>) -> Option<ItemPlace> {
        let mut shapes = Shapes::default();
        for shape in all {
            shapes.add(shape).unwrap();
        }
        shapes.place().unwrap()
    }

    #[test]
    fn circles_are_points_circles_or_polygons_by_their_radius() {
        let centre = at(60.4, 5.3);
        let radius = |shape| if let Ok(Shape::Circle(circle)) = shape { circle.radius_m() } else { 0.0 };
        assert_eq!(Shape::circle(centre, 0.0), Ok(Shape::Point(centre)));
        assert!((radius(Shape::circle(centre, 1.0)) - 50.0).abs() < 1e-9);
        assert!((radius(Shape::circle(centre, 100_000.0)) - 100_000.0).abs() < 1e-9);
        assert!(matches!(Shape::circle(centre, 100_001.0), Ok(Shape::Polygon(_))));
        for radius_m in [-1.0, f64::NAN, f64::INFINITY, 6e6] {
            Shape::circle(centre, radius_m).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn a_large_circle_is_held_by_its_polygon(
            lat in -90.0..=90.0f64, lon in -180.0..=180.0f64, radius_m in 100_001.0..2_500_000.0f64,
            other_lat in -90.0..=90.0f64, other_lon in -180.0..=180.0f64,
        ) {
            let centre = at(lat, lon);
            let other = at(other_lat, other_lon);
            let Ok(Shape::Polygon(polygon)) = Shape::circle(centre, radius_m) else { panic!("no polygon") };
            let (beyond_m, distance_m) = (centre.distance_m(other) - radius_m, polygon.signed_distance_m(other));
            prop_assert!(beyond_m > -0.01 || distance_m < 0.0);
            prop_assert!(beyond_m < radius_m * 0.003 || distance_m > 0.0);
        }
    }

    #[test]
    fn a_place_has_a_location_that_is_of_it() {
        let triangle = |lat| vec![at(lat, 5.0), at(lat + 1.0, 5.0), at(lat, 6.0)];
        let polygon = Shape::polygon(triangle(60.0)).unwrap();
        let spot = Shape::Point(at(60.0, 5.0));
        assert_eq!(place([]), None);
        let only = Some(ItemPlace { location: at(60.0, 5.0), area: None });
        assert_eq!(place([spot.clone()]), only);
        assert_eq!(place([spot.clone(), spot.clone()]), only, "each shape counts once");
        assert_eq!(place([polygon.clone(), spot]).unwrap().location, at(60.0, 5.0));
        let within = place([polygon]).unwrap();
        assert!(within.area.unwrap().signed_distance_m(within.location) < -10_000.0);
        // A horseshoe goes around its middle.
        let horseshoe =
            [(0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 8.0), (1.0, 8.0), (1.0, 1.0), (9.0, 1.0), (9.0, 0.0)];
        let horseshoe = Shape::polygon(horseshoe.map(|(lat, lon)| at(lat, lon)).to_vec()).unwrap();
        let on_it = place([horseshoe]).unwrap();
        assert!(on_it.area.unwrap().signed_distance_m(on_it.location) < 1.0);
    }

    #[test]
    fn a_place_that_is_too_large_is_none() {
        let mut shapes = Shapes::default();
        for lon in [0.0, 60.0] {
            shapes.add(Shape::Point(at(0.0, lon))).unwrap();
        }
        assert_eq!(shapes.place(), Err("its area reaches farther than 2500 km from its middle".to_owned()));
    }

    #[test]
    fn too_many_shapes_are_left_out() {
        let mut shapes = Shapes::default();
        let spot = |number: u32| Shape::Point(at(1.0, f64::from(number) / 1_000.0));
        for number in 0..5_000 {
            shapes.add(spot(number)).unwrap();
        }
        assert_eq!(shapes.add(spot(5_000)).unwrap_err(), "is left out: there are more than 5000");
        let zigzag = |from: u32, count: u32| {
            let corner = |n| at(f64::from(n % 7), f64::from(from + n) / 10_000.0);
            Shape::polygon((0..count).map(corner).collect())
        };
        let mut shapes = Shapes::default();
        shapes.add(zigzag(0, 60_000).unwrap()).unwrap();
        let reason = "is left out: there are more than 100000 points, with what is before it";
        assert_eq!(shapes.add(zigzag(7, 60_000).unwrap()).unwrap_err(), reason);
        shapes.add(zigzag(7, 40_000).unwrap()).unwrap();
        zigzag(0, 100_001).unwrap_err();
    }

    #[test]
    fn across_the_antimeridian_some_go_on_counting() {
        assert_eq!(point(1.0, 190.0), Ok(at(1.0, -170.0)));
        assert_eq!(point(1.0, -190.0), Ok(at(1.0, 170.0)));
        assert_eq!(point(1.0, 180.0), Ok(at(1.0, 180.0)));
        for (lat, lon) in [(91.0, 0.0), (0.0, 541.0), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            point(lat, lon).unwrap_err();
        }
    }
}
