//! Reads the query of a request, parameter by parameter, and gathers everything that is wrong with it: one that the
//! contract does not name, one that comes twice, one whose value is not valid.

use tocsin_domain::{
    Refusal,
    cursor::{Cursor, Limit, Position, Scope},
    error::{FieldError, Invalid},
    input::within,
    place::{Circle, Point},
};

use crate::request::decode;

/// A query that is being read.
#[derive(Debug)]
pub struct Query {
    parameters: Vec<(String, String)>,
    read: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Query {
    /// The parameters of a raw query, without its question mark.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        let parameters = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // `application/x-www-form-urlencoded`, as browsers and HTTP libraries write it.
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self { parameters: parameters.collect(), read: Vec::new(), errors: Vec::new() }
    }

    /// A parameter that may be absent.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.read.push(name);
        let mut values = self.parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() {
            return self.refuse(name, Invalid::new("not_unique", "must come once"));
        }
        match parse(value) {
            Ok(value) => Some(value),
            Err(invalid) => self.refuse(name, invalid),
        }
    }

    /// A parameter that must be there. `None` says that it is not, or not valid; [`Self::finish`] then refuses.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if self.parameters.iter().all(|(known, _)| known != name) {
            self.read.push(name);
            return self.refuse(name, Invalid::new("required", "is required"));
        }
        self.optional(name, parse)
    }

    /// `lat`, `lon` and `radius_m`.
    pub fn circle(&mut self) -> Option<Circle> {
        let lat = self.required("lat", number(-90.0, 90.0));
        let lon = self.required("lon", number(-180.0, 180.0));
        let radius = self.required("radius_m", number(Circle::LEAST_RADIUS_M, Circle::MOST_RADIUS_M));
        Circle::new(Point::new(lat?, lon?).ok()?, radius?).ok()
    }

    /// `lat`, `lon` and `radius_m`, which come together, or not at all.
    pub fn optional_circle(&mut self) -> Option<Circle> {
        let is_of_it = |(name, _): &(String, String)| matches!(name.as_str(), "lat" | "lon" | "radius_m");
        if self.parameters.iter().any(is_of_it) { self.circle() } else { None }
    }

    /// `limit`, or its default.
    pub fn limit(&mut self) -> Limit {
        self.optional("limit", Limit::parse).unwrap_or_default()
    }

    /// `cursor`, as a page of this very list gave it. Without a scope, where other parameters are not valid, it is not
    /// looked at.
    pub fn cursor<P: Position>(&mut self, scope: Option<Scope>) -> Option<Cursor<P>> {
        self.optional("cursor", |text| scope.map(|scope| Cursor::decode(text, scope)).transpose()).flatten()
    }

    /// Ends the reading: an unknown parameter, or anything noted before, is a refusal.
    pub fn finish(mut self) -> Result<(), Refusal> {
        self.name_unknown_parameters();
        if self.errors.is_empty() { Ok(()) } else { Err(Refusal::malformed(self.errors)) }
    }

    /// Ends the reading of what another service wrote: a parameter that is not known is passed over (RFC 6749, 4.1.2).
    pub fn finish_with_others(self) -> Result<(), Refusal> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.refusal_with_others()) }
    }

    /// The refusal of what another service wrote.
    #[must_use]
    pub fn refusal_with_others(self) -> Refusal {
        Refusal::malformed(self.errors)
    }

    /// The refusal of a query in which a required parameter could not be read.
    #[must_use]
    pub fn refusal(mut self) -> Refusal {
        self.name_unknown_parameters();
        Refusal::malformed(self.errors)
    }

    fn refuse<T>(&mut self, name: &str, invalid: Invalid) -> Option<T> {
        self.errors.push(invalid.at(format!("?{name}")));
        None
    }

    fn name_unknown_parameters(&mut self) {
        for (name, _) in self.parameters.iter().filter(|(name, _)| !self.read.contains(&name.as_str())) {
            let unknown = Invalid::new("unknown_parameter", "is not a parameter of this request");
            self.errors.push(unknown.at(format!("?{name}")));
        }
    }
}

fn number(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, Invalid> {
    move |text| {
        let number = text.parse().map_err(|_| Invalid::new("wrong_type", "must be a number"))?;
        within(number, least, most)
    }
}

#[cfg(test)]
mod tests {
    use tocsin_domain::ids::PostId;

    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let mut query = Query::of("lat=60.4&lon=%2B5.3&radius_m=1e3&category=lost+and%20found&limit=7");
        let circle = query.circle().unwrap();
        assert!((circle.centre().lon() - 5.3).abs() < 1e-9 && (circle.radius_m() - 1e3).abs() < 1e-9);
        assert_eq!(query.optional("category", |text| Ok(text.to_owned())).unwrap(), "lost and found");
        assert_eq!(query.limit().get(), 7);
        query.finish().unwrap();
    }

    #[test]
    fn a_circle_that_may_be_absent_is_whole_or_not_there() {
        let mut whole = Query::of("lat=60.4&lon=5.3&radius_m=1000");
        assert!(whole.optional_circle().is_some());
        whole.finish().unwrap();
        let mut absent = Query::of("limit=7");
        assert_eq!((absent.optional_circle(), absent.limit().get()), (None, 7));
        absent.finish().unwrap();
        let mut part = Query::of("lon=5.3");
        assert_eq!(part.optional_circle(), None);
        let refusal = part.finish().unwrap_err();
        let found: Vec<_> = refusal.errors.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        assert_eq!(found, [("?lat", "required"), ("?radius_m", "required")]);
    }

    #[test]
    fn every_mistake_is_named_with_its_parameter() {
        let mut query = Query::of("lat=91&lon=NaN&limit=20&limit=30&colour=red&cursor=%FF");
        assert_eq!(query.circle(), None);
        query.limit();
        query.cursor::<PostId>(Some(Scope::of(["x"])));
        let refusal = query.finish().unwrap_err();
        let found: Vec<_> = refusal.errors.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        assert_eq!(
            found,
            [
                ("?lat", "out_of_range"),
                ("?lon", "out_of_range"),
                ("?radius_m", "required"),
                ("?limit", "not_unique"),
                ("?cursor", "invalid_cursor"),
                ("?colour", "unknown_parameter"),
            ]
        );
    }
}
