//! Places: points, circles, and the cells that find them.
//!
//! One spatial index serves everything: H3, whose cells are numbered by digits, a parent's number being a prefix of its
//! children's. So a cell is written as a path ([`Cell`]): the cells around a point are the prefixes of the point's own
//! path, and the cells inside a cell are one `begins_with`.
//!
//! A child's outline reaches a little beyond its parent's, so what a cell holds is defined by digits alone: the points
//! whose path begins with the cell's. [`reach`] bounds how far such points lie from the cell's centre.

use std::{collections::VecDeque, fmt, str::FromStr};

use h3o::{CellIndex, LatLng, Resolution};
use serde::{Deserialize, Serialize};

use crate::{
    error::Invalid,
    input::{Fields, number, out_of_range},
};

/// The mean radius of the Earth in metres (IUGG), the sphere on which distances are measured.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A position on the Earth, in degrees (WGS 84).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPoint")]
pub struct Point {
    lat: f64,
    lon: f64,
}

#[derive(Deserialize)]
struct RawPoint {
    lat: f64,
    lon: f64,
}

impl TryFrom<RawPoint> for Point {
    type Error = Invalid;

    fn try_from(raw: RawPoint) -> Result<Self, Invalid> {
        Self::new(raw.lat, raw.lon)
    }
}

impl Point {
    /// A latitude from -90 to 90, and a longitude from -180 to 180.
    pub fn new(lat: f64, lon: f64) -> Result<Self, Invalid> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(out_of_range(-90.0, 90.0));
        }
        if !(-180.0..=180.0).contains(&lon) {
            return Err(out_of_range(-180.0, 180.0));
        }
        Ok(Self { lat, lon })
    }

    /// Reads `lat` and `lon`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let lat = fields.required("lat", number(-90.0, 90.0));
        let lon = fields.required("lon", number(-180.0, 180.0));
        Some(Self { lat: lat?, lon: lon? })
    }

    /// Degrees north.
    #[must_use]
    pub const fn lat(self) -> f64 {
        self.lat
    }

    /// Degrees east.
    #[must_use]
    pub const fn lon(self) -> f64 {
        self.lon
    }

    /// The distance along the sphere in metres (haversine).
    #[must_use]
    pub fn distance_m(self, other: Self) -> f64 {
        let (lat1, lat2) = (self.lat.to_radians(), other.lat.to_radians());
        let half_lat = ((lat2 - lat1) / 2.0).sin();
        let half_lon = ((other.lon - self.lon).to_radians() / 2.0).sin();
        let h = half_lat.mul_add(half_lat, lat1.cos() * lat2.cos() * half_lon * half_lon);
        2.0 * EARTH_RADIUS_M * h.min(1.0).sqrt().asin()
    }

    /// The cell of this point at a resolution.
    #[must_use]
    pub fn cell(self, resolution: u8) -> Cell {
        let finest = self.lat_lng().to_cell(Resolution::Fifteen);
        Cell::of(finest).ancestor(resolution)
    }

    fn lat_lng(self) -> LatLng {
        LatLng::new(self.lat, self.lon).unwrap_or_default()
    }
}

/// A circle on the Earth: what a subscription calls its area.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawCircle", into = "RawCircle")]
pub struct Circle {
    centre: Point,
    radius_m: f64,
}

#[derive(Serialize, Deserialize)]
struct RawCircle {
    lat: f64,
    lon: f64,
    radius_m: f64,
}

impl TryFrom<RawCircle> for Circle {
    type Error = Invalid;

    fn try_from(raw: RawCircle) -> Result<Self, Invalid> {
        Self::new(Point::new(raw.lat, raw.lon)?, raw.radius_m)
    }
}

impl From<Circle> for RawCircle {
    fn from(circle: Circle) -> Self {
        Self { lat: circle.centre.lat, lon: circle.centre.lon, radius_m: circle.radius_m }
    }
}

impl Circle {
    /// The smallest radius in metres: below it, a phone's position is less exact than the circle.
    pub const LEAST_RADIUS_M: f64 = 50.0;
    /// The largest radius in metres.
    pub const MOST_RADIUS_M: f64 = 100_000.0;

    /// The points at most `radius_m` metres from `centre`.
    pub fn new(centre: Point, radius_m: f64) -> Result<Self, Invalid> {
        if (Self::LEAST_RADIUS_M..=Self::MOST_RADIUS_M).contains(&radius_m) {
            Ok(Self { centre, radius_m })
        } else {
            Err(out_of_range(Self::LEAST_RADIUS_M, Self::MOST_RADIUS_M))
        }
    }

    /// Reads `lat`, `lon` and `radius_m`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let centre = Point::read(fields);
        let radius = fields.required("radius_m", number(Self::LEAST_RADIUS_M, Self::MOST_RADIUS_M));
        Some(Self { centre: centre?, radius_m: radius? })
    }

    /// Its middle.
    #[must_use]
    pub const fn centre(self) -> Point {
        self.centre
    }

    /// Its radius in metres.
    #[must_use]
    pub const fn radius_m(self) -> f64 {
        self.radius_m
    }

    /// Whether a point lies within it.
    #[must_use]
    pub fn contains(self, point: Point) -> bool {
        self.centre.distance_m(point) <= self.radius_m
    }

    /// Cells at mixed resolutions that hold every point of the circle: the whole cells inside it, and finer ones along
    /// its rim as long as there are at most `most`. Cells are from `coarsest` to `finest`; where `most` cells of the
    /// coarsest do not do, there are more than `most`.
    #[must_use]
    pub fn cover(self, coarsest: u8, finest: u8, most: usize) -> Vec<Cell> {
        let mut done = Vec::new();
        // Breadth first, so that the bound is spent on the coarsest cells of the rim before the finer ones.
        let mut open: VecDeque<CellIndex> =
            CellIndex::base_cells().filter(|cell| self.touches(*cell)).collect();
        while let Some(cell) = open.pop_front() {
            let resolution = u8::from(cell.resolution());
            let whole = self.overlap(cell) == Overlap::Whole && resolution >= coarsest;
            if whole || resolution >= finest {
                done.push(cell);
                continue;
            }
            let next = cell.resolution().succ().unwrap_or(Resolution::Fifteen);
            let children: Vec<_> = cell.children(next).filter(|child| self.touches(*child)).collect();
            if resolution < coarsest || done.len() + open.len() + children.len() <= most {
                open.extend(children);
            } else {
                done.push(cell);
            }
        }
        done.into_iter().map(Cell::of).collect()
    }

    /// The cells of one resolution that hold every point of the circle; none where they would be more than `most`.
    #[must_use]
    pub fn cells(self, resolution: u8, most: usize) -> Option<Vec<Cell>> {
        let mut cells: Vec<CellIndex> = CellIndex::base_cells().filter(|cell| self.touches(*cell)).collect();
        for finer in Resolution::range(Resolution::One, Resolution::try_from(resolution).ok()?) {
            cells = cells
                .iter()
                .flat_map(|cell| cell.children(finer))
                .filter(|cell| self.touches(*cell))
                .collect();
            // Nearly every cell that touches the circle has children that do: a level's count bounds those below.
            if cells.len() > most.saturating_mul(2) {
                return None;
            }
        }
        (cells.len() <= most).then(|| cells.into_iter().map(Cell::of).collect())
    }

    fn touches(self, cell: CellIndex) -> bool {
        self.overlap(cell) != Overlap::None
    }

    fn overlap(self, cell: CellIndex) -> Overlap {
        let centre = LatLng::from(cell);
        let centre = Point { lat: centre.lat(), lon: centre.lng() };
        let distance = self.centre.distance_m(centre);
        let reach = reach(cell, centre);
        if distance > self.radius_m + reach {
            Overlap::None
        } else if distance + reach <= self.radius_m {
            Overlap::Whole
        } else {
            Overlap::Part
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overlap {
    None,
    Part,
    Whole,
}

/// How far from a cell's centre, in metres, a point that the cell holds can lie.
///
/// Its descendants' centres lie at most `e·(√3/√7 + √3/7 + …)` = 1.053 edges away on a plane; the cells' distortion on
/// the sphere is within the rest of the fifth that is added to the distance of the farthest vertex.
fn reach(cell: CellIndex, centre: Point) -> f64 {
    let farthest = cell
        .boundary()
        .iter()
        .map(|vertex| centre.distance_m(Point { lat: vertex.lat(), lon: vertex.lng() }))
        .fold(0.0, f64::max);
    farthest * 1.2
}

/// An H3 cell, written as a path: three digits for the base cell, then a digit for each resolution.
///
/// `014250` is a cell of resolution 3; every cell and point in it has a path that begins with `014250`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(String);

impl Cell {
    const BASE: usize = 3;

    fn of(index: CellIndex) -> Self {
        let mut path = format!("{:03}", u8::from(index.base_cell()));
        for resolution in Resolution::range(Resolution::One, index.resolution()) {
            if let Some(direction) = index.direction_at(resolution) {
                path.push(char::from(b'0' + u8::from(direction)));
            }
        }
        Self(path)
    }

    /// Its resolution: 0 is a continent's part, 15 a square metre.
    #[must_use]
    pub fn resolution(&self) -> u8 {
        u8::try_from(self.0.len() - Self::BASE).unwrap_or(u8::MAX)
    }

    /// The cell of a coarser resolution that holds this one; itself, where it is no coarser.
    #[must_use]
    pub fn ancestor(&self, resolution: u8) -> Self {
        let (ancestor, _) = self.split(resolution);
        Self(ancestor.to_owned())
    }

    /// The path of its ancestor at a resolution, and the digits that follow it.
    #[must_use]
    pub fn split(&self, resolution: u8) -> (&str, &str) {
        let end = (Self::BASE + usize::from(resolution)).min(self.0.len());
        self.0.split_at(end)
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cell {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_path = (Self::BASE..=Self::BASE + 15).contains(&text.len())
            && text.bytes().all(|digit| digit.is_ascii_digit());
        if is_path {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("invalid_cell", "must be a cell's path"))
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A point at a distance and bearing from another, on the sphere.
    fn destination(from: Point, distance_m: f64, bearing: f64) -> Point {
        let (lat, lon, d) = (from.lat.to_radians(), from.lon.to_radians(), distance_m / EARTH_RADIUS_M);
        let to_lat = (lat.sin() * d.cos() + lat.cos() * d.sin() * bearing.cos()).clamp(-1.0, 1.0).asin();
        let y = bearing.sin() * d.sin() * lat.cos();
        let to_lon = lon + y.atan2(d.cos() - lat.sin() * to_lat.sin());
        let wrapped = (to_lon.to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
        Point { lat: to_lat.to_degrees(), lon: wrapped }
    }

    fn point() -> impl Strategy<Value = Point> {
        // The poles and the antimeridian more often than by chance.
        let lat = prop_oneof![4 => -1.0..=1.0f64, 1 => 0.9999..=1.0f64, 1 => -1.0..=-0.9999f64];
        let lon = prop_oneof![4 => -180.0..=180.0f64, 1 => 179.9..=180.0f64, 1 => -180.0..=-179.9f64];
        (lat, lon).prop_map(|(sin_lat, lon)| Point { lat: sin_lat.asin().to_degrees(), lon })
    }

    fn circle() -> impl Strategy<Value = Circle> {
        (point(), 50f64.ln()..=100_000f64.ln())
            .prop_map(|(centre, ln)| Circle { centre, radius_m: ln.exp().clamp(50.0, 100_000.0) })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn the_cells_of_a_circle_cover_it(
            circle in circle(),
            shots in prop::collection::vec((0.0..=1.0f64, 0.0..std::f64::consts::TAU), 64),
            most in 4usize..48,
        ) {
            let cover = circle.cover(3, 8, most);
            let cells: Vec<_> =
                [3, 5, 7].into_iter().filter_map(|resolution| Some((resolution, circle.cells(resolution, 32)?))).collect();
            for (share, bearing) in shots {
                // Half of the shots at the rim, where a cover fails first.
                let share = if share < 0.5 { share.sqrt() } else { 0.999_999 };
                let inside = destination(circle.centre, circle.radius_m * share, bearing);
                let path = inside.cell(15);
                for (resolution, cells) in &cells {
                    prop_assert!(cells.contains(&path.ancestor(*resolution)));
                }
                prop_assert!(
                    cover.iter().any(|cell| path.as_str().starts_with(cell.as_str())),
                    "{inside:?} of {circle:?} is in none of {cover:?}",
                );
            }
        }

        #[test]
        fn a_cover_is_bounded_and_has_no_cell_inside_another(circle in circle(), most in 16usize..48) {
            let cover = circle.cover(3, 8, most);
            prop_assert!(cover.len() <= most, "{} cells", cover.len());
            for (i, a) in cover.iter().enumerate() {
                prop_assert!((3..=8).contains(&a.resolution()));
                prop_assert!(cover.iter().skip(i + 1).all(|b| !a.as_str().starts_with(b.as_str()) && !b.as_str().starts_with(a.as_str())));
            }
        }

        #[test]
        fn a_circle_of_a_few_kilometres_has_few_cells(centre in point()) {
            let circle = Circle { centre, radius_m: 3_000.0 };
            prop_assert!(circle.cells(7, 32).is_some());
            let large = Circle { centre, radius_m: 100_000.0 };
            prop_assert!(large.cells(7, 32).is_none());
            prop_assert!(large.cells(3, 32).is_some());
        }

        #[test]
        fn every_cell_holds_its_points_within_reach(point in point(), resolution in 0u8..=9) {
            let cell = point.lat_lng().to_cell(Resolution::Fifteen)
                .parent(Resolution::try_from(resolution).unwrap()).unwrap();
            let centre = LatLng::from(cell);
            let centre = Point { lat: centre.lat(), lon: centre.lng() };
            prop_assert!(centre.distance_m(point) <= reach(cell, centre));
        }
    }

    #[test]
    fn a_path_is_a_prefix_of_its_descendants() {
        let bryggen = Point::new(60.3975, 5.3245).unwrap();
        let cell = bryggen.cell(8);
        assert_eq!(cell.resolution(), 8);
        assert!(cell.as_str().starts_with(bryggen.cell(3).as_str()));
        assert_eq!(cell.ancestor(3), bryggen.cell(3));
        assert_eq!(cell.split(3).0, bryggen.cell(3).as_str());
    }

    #[test]
    fn distances_are_those_of_the_sphere() {
        let quarter = Point::new(0.0, 0.0).unwrap().distance_m(Point::new(90.0, 0.0).unwrap());
        assert!((quarter - EARTH_RADIUS_M * std::f64::consts::FRAC_PI_2).abs() < 1e-3);
        assert!(Point::new(0.0, 180.0).unwrap().distance_m(Point::new(0.0, -180.0).unwrap()) < 1e-3);
    }
}
