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
    /// Whether it is quiet where they are, and how that ends.
    pub(crate) quiet: Option<Quiet>,
}

/// How quiet hours end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// Their owner ends them.
    UntilEnded,
    /// By the clock: when a minute is over.
    UntilMinute,
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
    /// Where it happens, around its place, where that is more than a point.
    pub(crate) area: Option<Area>,
    pub(crate) status: Status,
}

/// Where a post happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Area {
    /// So many metres around a place.
    Circle(Place, f64),
    /// Between two meridians and two parallels: the corner in the south-west, and the one in the north-east.
    Rectangle(Place, Place),
}

impl Area {
    /// How far it is from a place, in metres.
    pub(crate) fn metres_from(self, place: Place) -> f64 {
        match self {
            Self::Circle(centre, radius) => (metres(centre, place) - radius).max(0.0),
            Self::Rectangle((south, west), (north, east)) => {
                metres((place.0.clamp(south, north), place.1.clamp(west, east)), place)
            }
        }
    }

    /// As the API takes it.
    fn to_json(self) -> Value {
        match self {
            Self::Circle((lat, lon), radius) => {
                json!({"circles": [{"lat": lat, "lon": lon, "radius_m": radius}]})
            }
            Self::Rectangle((south, west), (north, east)) => {
                let corners = [(south, west), (south, east), (north, east), (north, west)];
                let points: Vec<_> =
                    corners.iter().map(|(lat, lon)| json!({"lat": lat, "lon": lon})).collect();
                json!({"polygons": [{"points": points}]})
            }
        }
    }
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
            && self.area.is_none_or(|(centre, radius)| form.metres_from(centre) <= radius)
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
    /// How far it is from a place, in metres.
    pub(crate) fn metres_from(&self, place: Place) -> f64 {
        self.area.map_or_else(|| metres(self.place, place), |area| area.metres_from(place))
    }

    /// As the API takes a new post.
    pub(crate) fn to_json(&self) -> Value {
        let mut post = json!({
            "title": self.title,
            "category": self.category,
            "tags": self.tags,
            "severity": SEVERITIES[self.severity],
            "location": {"lat": self.place.0, "lon": self.place.1},
        });
        if let Some(area) = self.area {
            post["area"] = area.to_json();
        }
        post
    }

    /// As the API takes an edit, by which a post may lose its area.
    pub(crate) fn to_patch(&self) -> Value {
        let mut patch = self.to_json();
        patch["area"] = self.area.map_or(Value::Null, Area::to_json);
        patch
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
    // A circle that comes as near as 112 m, and a rectangle whose side is 556 m away.
    let near = Area::Circle(form.place, 1_000.0);
    let beside = Area::Rectangle((60.3900, 5.3000), (60.4022, 5.4000));
    for (area, radius, met) in
        [(near, 105.0, false), (near, 120.0, true), (beside, 540.0, false), (beside, 570.0, true)]
    {
        let around = Wish { area: Some(((60.4072, 5.3238), radius)), ..wish.clone() };
        assert_eq!(
            around.matches(&Form { area: Some(area), ..form.clone() }),
            met,
            "{area:?} within {radius} m"
        );
    }
    let reader = Reader { wishes: vec![wish.clone()], least: 3, ..Reader::default() };
    assert!(reader.follows(&form) && !reader.listens_to(&form));
    assert!(reader.listens_to(&Form { severity: 4, ..form.clone() }), "what is extreme breaks through");
    let silent = Reader { wishes: vec![Wish { push: false, ..wish }], ..Reader::default() };
    assert!(silent.follows(&form) && !silent.listens_to(&form));
}
