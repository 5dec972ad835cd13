//! Directions from the Earth's centre: what is reckoned on the sphere without exceptions for its poles and its antimeridian.

use crate::place::Point;

/// A direction from the Earth's centre.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Vector {
    x: f64,
    y: f64,
    z: f64,
}

impl Vector {
    pub(crate) fn of(point: Point) -> Self {
        let (lat, lon) = (point.lat().to_radians(), point.lon().to_radians());
        Self { x: lat.cos() * lon.cos(), y: lat.cos() * lon.sin(), z: lat.sin() }
    }

    /// Where it meets the Earth's surface.
    pub(crate) fn point(self) -> Point {
        let lat = self.z.atan2(self.x.hypot(self.y)).to_degrees().clamp(-90.0, 90.0);
        let lon = self.y.atan2(self.x).to_degrees().clamp(-180.0, 180.0);
        Point::new(lat, lon).unwrap_or(Point::POLE)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { x: self.x + other.x, y: self.y + other.y, z: self.z + other.z }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.plus(other.times(-1.0))
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self { x: self.x * factor, y: self.y * factor, z: self.z * factor }
    }

    pub(crate) fn dot(self, other: Self) -> f64 {
        self.x.mul_add(other.x, self.y.mul_add(other.y, self.z * other.z))
    }

    pub(crate) fn cross(self, other: Self) -> Self {
        Self {
            x: self.y.mul_add(other.z, -(self.z * other.y)),
            y: self.z.mul_add(other.x, -(self.x * other.z)),
            z: self.x.mul_add(other.y, -(self.y * other.x)),
        }
    }

    /// As long as one; none of nothing.
    pub(crate) fn unit(self) -> Option<Self> {
        let length = self.dot(self).sqrt();
        (length > f64::EPSILON).then(|| self.times(length.recip()))
    }

    /// The angle between two directions.
    pub(crate) fn angle(self, other: Self) -> f64 {
        let chord = self.minus(other);
        2.0 * (chord.dot(chord).sqrt() / 2.0).min(1.0).asin()
    }
}
