//! A town as the contract has it: who wishes for what, and what is posted. Nothing here is Tocsin's own code, which is
//! what it is held against.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// CAP's scale, the least first.
pub(crate) const SEVERITIES: [&str; 5] = ["unknown", "minor", "moderate", "severe", "extreme"];

/// A place on Earth, in degrees.
pub(crate) type Place = (f64, f64);

/// Somebody who reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    pub(crate) name: String,
    pub(crate) devices: Vec<String>,
    pub(crate) wishes: Vec<Wish>,
    /// No phone rings for these, unless it is extreme.
    pub(crate) muted: BTreeSet<&'static str>,
    /// No phone rings for less than this: a place in [`SEVERITIES`].
    pub(crate) least: usize,
}

/// A subscription.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) category: &'static str,
    pub(crate) tags: BTreeSet<&'static str>,
    /// Whether all of the tags are asked for, or any.
    pub(crate) all: bool,
    /// A centre, and so many metres around it.
    pub(crate) area: Option<(Place, f64)>,
    /// A place in [`SEVERITIES`].
    pub(crate) least: Option<usize>,
    pub(crate) push: bool,
}

/// What a post says at some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Form {
    pub(crate) title: String,
    pub(crate) category: &'static str,
    pub(crate) tags: BTreeSet<&'static str>,
    /// A place in [`SEVERITIES`].
    pub(crate) severity: usize,
    pub(crate) place: Place,
    pub(crate) status: Status,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    #[default]
    Active,
    Resolved,
    Cancelled,
}

impl Status {
    /// As the API names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Wish {
    pub(crate) fn matches(&self, form: &Form) -> bool {
        let has_tags = match self.all {
            _ if self.tags.is_empty() => true,
            true => self.tags.is_subset(&form.tags),
            false => !self.tags.is_disjoint(&form.tags),
        };
        has_tags
            && self.category == form.category
            && self.least.is_none_or(|least| form.severity >= least)
            && self.area.is_none_or(|(centre, radius)| metres(centre, form.place) <= radius)
    }

    /// As the API takes it.
    pub(crate) fn to_json(&self) -> Value {
        let mut wish = json!({
            "category": self.category,
            "tags": self.tags,
            "match": if self.all { "all" } else { "any" },
            "push": self.push,
        });
        if let Some(((lat, lon), radius)) = self.area {
            wish["area"] = json!({"lat": lat, "lon": lon, "radius_m": radius});
        }
        if let Some(least) = self.least {
            wish["min_severity"] = json!(SEVERITIES[least]);
        }
        wish
    }
}

impl Reader {
    /// Whether a post is for their timeline.
    pub(crate) fn follows(&self, form: &Form) -> bool {
        self.wishes.iter().any(|wish| wish.matches(form))
    }

    /// Whether they asked to be rung for it.
    pub(crate) fn asks_for(&self, form: &Form) -> bool {
        self.wishes.iter().any(|wish| wish.push && wish.matches(form))
    }

    /// Whether their phones may ring for it.
    pub(crate) fn allows(&self, form: &Form) -> bool {
        let is_muted = form.severity < self.least || self.muted.contains(form.category);
        SEVERITIES[form.severity] == "extreme" || !is_muted
    }

    /// Whether their phones ring for it.
    pub(crate) fn listens_to(&self, form: &Form) -> bool {
        self.asks_for(form) && self.allows(form)
    }
}

impl Form {
    /// As the API takes it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "title": self.title,
            "category": self.category,
            "tags": self.tags,
            "severity": SEVERITIES[self.severity],
            "location": {"lat": self.place.0, "lon": self.place.1},
        })
    }
}

/// How far two places are from each other, on a sphere of the mean radius of WGS 84.
fn metres(one: Place, other: Place) -> f64 {
    const RADIUS: f64 = 6_371_008.8;
    let (from, to) = (one.0.to_radians(), other.0.to_radians());
    let (south_north, west_east) = (to - from, (other.1 - one.1).to_radians());
    let haversine =
        (south_north / 2.0).sin().powi(2) + from.cos() * to.cos() * (west_east / 2.0).sin().powi(2);
    2.0 * RADIUS * haversine.sqrt().asin()
}

#[test]
fn a_wish_is_met_as_the_contract_says() {
    let form = Form {
        category: "fire",
        tags: BTreeSet::from(["harbour", "smoke"]),
        severity: 2,
        place: (60.3972, 5.3238),
        ..Form::default()
    };
    let wish = Wish { category: "fire", push: true, ..Wish::default() };
    assert!(wish.matches(&form));
    assert!(!Wish { category: "flood", ..wish.clone() }.matches(&form));
    for (all, tags, met) in [
        (false, vec!["smoke", "forest"], true),
        (true, vec!["smoke", "forest"], false),
        (true, vec!["smoke", "harbour"], true),
        (false, vec!["forest"], false),
    ] {
        assert_eq!(Wish { all, tags: tags.into_iter().collect(), ..wish.clone() }.matches(&form), met);
    }
    for (least, met) in [(1, true), (2, true), (3, false)] {
        assert_eq!(Wish { least: Some(least), ..wish.clone() }.matches(&form), met);
    }
    // A hundredth of a degree of latitude is 1,112 m.
    for (radius, met) in [(1_100.0, false), (1_125.0, true)] {
        let area = Some(((60.4072, 5.3238), radius));
        assert_eq!(Wish { area, ..wish.clone() }.matches(&form), met);
    }
    let reader = Reader { wishes: vec![wish.clone()], least: 3, ..Reader::default() };
    assert!(reader.follows(&form) && !reader.listens_to(&form));
    assert!(reader.listens_to(&Form { severity: 4, ..form.clone() }), "what is extreme breaks through");
    let silent = Reader { wishes: vec![Wish { push: false, ..wish }], ..Reader::default() };
    assert!(silent.follows(&form) && !silent.listens_to(&form));
}
