//! Places: points, circles, and the cells that find them.
//!
//! One spatial index serves everything: H3, whose cells are numbered by digits, a parent's number being a prefix of its
//! children's. So a cell is written as a path ([`Cell`]): the cells around a point are the prefixes of the point's own
//! path, and the cells inside a cell are one `begins_with`.
//!
//! A child's outline reaches a little beyond its parent's, so what a cell holds is defined by digits alone: the points
//! whose path begins with the cell's. How cells cover circles and areas is in [`crate::cover`].

use std::{fmt, str::FromStr};

use h3o::{CellIndex, LatLng, Resolution};
use serde::{Deserialize, Serialize};

use crate::{
    cover::Region,
    error::Invalid,
    input::{Fields, number, out_of_range},
    vector::Vector,
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
    /// The north pole.
    pub(crate) const POLE: Self = Self { lat: 90.0, lon: 0.0 };
    /// Where the prime meridian meets the equator.
    pub(crate) const ORIGIN: Self = Self { lat: 0.0, lon: 0.0 };

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

    /// The point at a distance along the sphere, in a direction: in radians from north, clockwise.
    #[must_use]
    pub fn destination(self, distance_m: f64, bearing: f64) -> Self {
        let (lat, lon, angle) = (self.lat.to_radians(), self.lon.to_radians(), distance_m / EARTH_RADIUS_M);
        let sin_to = lat.sin() * angle.cos() + lat.cos() * angle.sin() * bearing.cos();
        let east = (bearing.sin() * angle.sin() * lat.cos()).atan2(angle.cos() - lat.sin() * sin_to);
        let lon = ((lon + east).to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
        Self::new(sin_to.clamp(-1.0, 1.0).asin().to_degrees(), lon).unwrap_or(self)
    }

    /// The point at a share of the shortest way to another, which is not on the other side of the Earth.
    pub(crate) fn towards(self, other: Self, share: f64) -> Self {
        let (from, to) = (Vector::of(self), Vector::of(other));
        let angle = from.angle(to);
        let between = from.times((angle * (1.0 - share)).sin()).plus(to.times((angle * share).sin()));
        between.unit().map_or(self, Vector::point)
    }

    /// A vertex or centre of a cell.
    pub(crate) fn of(place: LatLng) -> Self {
        Self { lat: place.lat(), lon: place.lng() }
    }

    fn lat_lng(self) -> LatLng {
        LatLng::new(self.lat, self.lon).unwrap_or_default()
    }
}

impl Region for Point {
    fn signed_distance_m(&self, point: Point) -> f64 {
        self.distance_m(point)
    }

    fn may_touch(&self, cell: &Cell) -> bool {
        cell.holds(*self)
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

    /// Its point that is nearest to another: that one itself, where it lies within.
    #[must_use]
    pub fn nearest(self, point: Point) -> Point {
        let distance_m = self.centre.distance_m(point);
        if distance_m <= self.radius_m {
            point
        } else {
            self.centre.towards(point, self.radius_m / distance_m)
        }
    }

    /// Whether a point lies within it.
    #[must_use]
    pub fn contains(self, point: Point) -> bool {
        self.centre.distance_m(point) <= self.radius_m
    }
}

impl Region for Circle {
    fn signed_distance_m(&self, point: Point) -> f64 {
        self.centre.distance_m(point) - self.radius_m
    }
}

/// An H3 cell, written as a path: three digits for the base cell, then a digit for each resolution.
///
/// `014250` is a cell of resolution 3; every cell and point in it has a path that begins with `014250`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(String);

impl Cell {
    const BASE: usize = 3;

    pub(crate) fn of(index: CellIndex) -> Self {
        let mut path = format!("{:03}", u8::from(index.base_cell()));
        for resolution in Resolution::range(Resolution::One, index.resolution()) {
            if let Some(direction) = index.direction_at(resolution) {
                path.push(char::from(b'0' + u8::from(direction)));
            }
        }
        Self(path)
    }

    /// The cell as H3 numbers it (its "cell index"); none where the path is no cell's.
    pub(crate) fn index(&self) -> Option<CellIndex> {
        let (base, digits) = (self.0.get(..Self::BASE)?, self.0.get(Self::BASE..)?);
        // A mode of 1, four bits of resolution, seven of base cell, and three for each digit, of which unused ones are 7.
        let mut bits = (1 << 59) | (u64::from(self.resolution()) << 52) | (base.parse::<u64>().ok()? << 45);
        for place in 0..15 {
            let digit = digits.as_bytes().get(place).map_or(7, |digit| u64::from(digit - b'0'));
            bits |= digit << (3 * (14 - place));
        }
        CellIndex::try_from(bits).ok()
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

    /// Whether a point is in it.
    #[must_use]
    pub fn holds(&self, point: Point) -> bool {
        point.cell(self.resolution()) == *self
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
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A point at a distance and bearing from another, on the sphere.
    pub(crate) fn destination(from: Point, distance_m: f64, bearing: f64) -> Point {
        from.destination(distance_m, bearing)
    }

    pub(crate) fn point() -> impl Strategy<Value = Point> {
        // The poles and the antimeridian more often than by chance.
        let lat = prop_oneof![4 => -1.0..=1.0f64, 1 => 0.9999..=1.0f64, 1 => -1.0..=-0.9999f64];
        let lon = prop_oneof![4 => -180.0..=180.0f64, 1 => 179.9..=180.0f64, 1 => -180.0..=-179.9f64];
        (lat, lon).prop_map(|(sin_lat, lon)| Point { lat: sin_lat.asin().to_degrees(), lon })
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
