//! `geojson`: earthquakes as the US Geological Survey publishes them, and alerts as the US National Weather Service does, as
//! features of GeoJSON (RFC 7946).
//!
//! ```json
//! {"type": "FeatureCollection", "features": [
//!   {"type": "Feature", "id": "us7000abcd",
//!    "properties": {"mag": 6.1, "place": "10 km W of Bergen, Norway", "time": 1795287600000, "type": "earthquake"},
//!    "geometry": {"type": "Point", "coordinates": [5.1, 60.4, 10.0]}},
//!   {"type": "Feature", "id": "https://api.weather.gov/alerts/urn:oid:1",
//!    "properties": {"id": "urn:oid:1", "messageType": "Alert", "event": "Flood Warning", "severity": "Severe"},
//!    "geometry": {"type": "Polygon", "coordinates": [[[5, 60], [6, 60], [6, 61], [5, 60]]]}}
//! ]}
//! ```
//!
//! The document is looked through for its features, and each is then read by itself: so one that is bad is only that, and no
//! more than one is held, beside the document.

use std::{collections::BTreeSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tocsin_domain::{
    category::CategoryName,
    feed_item::{BadEntry, Entry, Item, ItemPlace, MessageId, Reading},
    place::Point,
    post::{PostKind, Severity},
    time::Timestamp,
};

use crate::{
    Adapter, Context, MOST_ENTRIES, NotThisFormat,
    alert::{Alert, Block, MOST_REFERENCES, MOST_TAGS, link, message_id},
    each_once,
    shapes::{self, MOST_POINTS, MOST_SHAPES, Shape},
};

pub(crate) struct Geojson;

#[derive(Deserialize)]
struct Document<'a> {
    r#type: String,
    #[serde(borrow)]
    features: Option<First<&'a RawValue, MOST_ENTRIES>>,
}

#[derive(Deserialize)]
struct Feature<'a> {
    id: Option<String>,
    #[serde(borrow)]
    properties: &'a RawValue,
    #[serde(borrow)]
    geometry: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Geometry<'a> {
    r#type: String,
    #[serde(borrow)]
    coordinates: &'a RawValue,
}

impl Adapter for Geojson {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        let wrong = |error: serde_json::Error| NotThisFormat(format!("it is no GeoJSON: {error}"));
        let bytes = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
        let whole: &RawValue = serde_json::from_slice(bytes).map_err(wrong)?;
        let document: Document<'_> = serde_json::from_str(whole.get()).map_err(wrong)?;
        let features = match (document.r#type.as_str(), document.features) {
            ("FeatureCollection", Some(features)) => features,
            ("Feature", None) => First { items: vec![whole], count: 1 },
            (other, _) => {
                return Err(NotThisFormat(format!("its type is {other}, not FeatureCollection or Feature")));
            }
        };
        let mut reading = Reading::default();
        for (number, feature) in (1..).zip(&features.items) {
            if let Err(reason) = read_feature(feature.get(), context, &mut reading) {
                reading.bad.push(BadEntry { entry: format!("feature {number}"), reason });
            }
        }
        each_once(&mut reading);
        if features.count > MOST_ENTRIES {
            let reason = format!("only the first {MOST_ENTRIES} of {} are read", features.count);
            reading.bad.push(BadEntry { entry: "features".to_owned(), reason });
        }
        Ok(reading)
    }
}

/// Reads a feature by what is said of it.
fn read_feature(text: &str, context: &Context<'_>, reading: &mut Reading) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "messageType")]
        message_type: Option<IgnoredAny>,
        time: Option<IgnoredAny>,
    }
    let feature: Feature<'_> = parsed(text)?;
    let properties = feature.properties.get();
    let kind: Kind = parsed(properties)?;
    if kind.message_type.is_some() {
        let alert: WeatherAlert = parsed(properties)?;
        alert.alert(feature.geometry).read(context, reading);
    } else if kind.time.is_some() {
        let earthquake: Earthquake = parsed(properties)?;
        let entry = earthquake.entry(&feature, context, &mut reading.bad)?;
        reading.entries.push(entry);
    } else {
        return Err("has no messageType and no time: it is no alert, and no earthquake".to_owned());
    }
    Ok(())
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("is not read: {error}"))
}

/// An earthquake (earthquake.usgs.gov/earthquakes/feed/v1.0/geojson.php), or another tremor: an explosion, say.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Earthquake {
    mag: Option<f64>,
    mag_type: Option<String>,
    place: Option<String>,
    /// Milliseconds since 1970.
    time: i64,
    url: Option<String>,
    status: Option<String>,
    /// One for large events in oceanic regions, whether or not there is a tsunami.
    tsunami: Option<i64>,
    /// PAGER's.
    alert: Option<String>,
    title: Option<String>,
    /// The ids that networks gave to it, of which the feature's is the preferred one: `,us7000abcd,no1,`.
    ids: Option<String>,
}

/// The most other ids of an earthquake: there are some twenty networks.
const MOST_ALIASES: usize = 20;

impl Earthquake {
    fn entry(
        &self,
        feature: &Feature<'_>,
        context: &Context<'_>,
        bad: &mut Vec<BadEntry>,
    ) -> Result<Entry, String> {
        let id = feature.id.as_deref().map(str::trim).filter(|id| !id.is_empty()).ok_or("has no id")?;
        let starts_at = Timestamp::from_millisecond(self.time)
            .map_err(|_| format!("{id}: time is no time: {}", self.time))?;
        let geometry = feature.geometry.ok_or_else(|| format!("{id}: has no geometry"))?;
        let geometry: Geometry<'_> = parsed(geometry.get())?;
        if geometry.r#type != "Point" {
            return Err(format!("{id}: is not at a Point, but a {}", geometry.r#type));
        }
        let (location, depth_km) = position(geometry.coordinates)?;
        let is_withdrawn =
            self.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("deleted"));
        let link =
            self.url.as_deref().map(|url| link(url, context.url)).transpose().unwrap_or_else(|reason| {
                bad.push(BadEntry { entry: id.to_owned(), reason });
                None
            });
        let item = Item {
            link,
            category: "earthquake".parse::<CategoryName>().ok(),
            severity: if is_withdrawn { Severity::Unknown } else { self.severity() },
            place: Some(ItemPlace { location, area: None }),
            starts_at: Some(starts_at),
            // It never was: nothing rings, and what was posted of it is over.
            is_all_clear: is_withdrawn,
            ..Item::new(PostKind::Alert, &self.title()).with_body(&self.body(depth_km, is_withdrawn))
        };
        Ok(Entry { id: id.to_owned(), aliases: self.aliases(id), message: None, items: vec![item] })
    }

    fn aliases(&self, id: &str) -> BTreeSet<String> {
        let ids = self.ids.as_deref().unwrap_or_default().split(',').map(str::trim);
        ids.filter(|other| !other.is_empty() && *other != id).take(MOST_ALIASES).map(str::to_owned).collect()
    }

    fn title(&self) -> String {
        let title = self.title.as_deref().map(str::trim).filter(|title| !title.is_empty());
        let place = self.place.as_deref().unwrap_or("at an unnamed place");
        let magnitude = self.mag.map_or_else(|| "M ?".to_owned(), |mag| format!("M {mag:.1}"));
        title.map_or_else(|| format!("{magnitude} - {place}"), ToOwned::to_owned)
    }

    /// What does not change as people report that they felt it: each change is an update to all who have the post.
    fn body(&self, depth_km: Option<f64>, is_withdrawn: bool) -> String {
        let mag_type = self.mag_type.as_deref().unwrap_or_default();
        let lines = [
            is_withdrawn.then(|| "Withdrawn: there was no such event.".to_owned()),
            self.mag.map(|mag| format!("Magnitude: {mag:.1} {mag_type}").trim_end().to_owned()),
            depth_km.map(|depth_km| format!("Depth: {depth_km:.0} km")),
            self.alert.as_deref().map(|level| format!("Estimated impact (PAGER): {level}")),
            self.is_at_sea().then(|| {
                "It is large, and at sea: https://www.tsunami.gov/ says whether there is a tsunami."
                    .to_owned()
            }),
        ];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn is_at_sea(&self) -> bool {
        self.tsunami.is_some_and(|flag| flag != 0)
    }

    /// How bad it is. PAGER knows where people live, and magnitude does not: so its level counts where there is one. But it
    /// leaves out tsunamis: at sea, it is no less than the magnitude's.
    fn severity(&self) -> Severity {
        match (self.of_impact(), self.of_magnitude()) {
            (Some(of_impact), of_magnitude) if self.is_at_sea() => of_impact.max(of_magnitude),
            (Some(of_impact), _) => of_impact,
            (None, of_magnitude) => of_magnitude,
        }
    }

    /// By the Earthquake Impact Scale (D. Wald and others, Natural Hazards Review 12, 2011): red is from 1,000 deaths or 1,000
    /// million dollars on, and calls for help from abroad; orange from 100, and for the nation's; yellow from 1, and for
    /// the region's; green is little or no impact.
    fn of_impact(&self) -> Option<Severity> {
        Some(match self.alert.as_deref()? {
            "red" => Severity::Extreme,
            "orange" => Severity::Severe,
            "yellow" => Severity::Moderate,
            "green" => Severity::Minor,
            _ => return None,
        })
    }

    /// By the effects near the epicentre (Michigan Tech, Earthquake Magnitude Scale): from 8 on it can destroy communities,
    /// from 7 on the damage is serious, from 5.5 on it is slight, or much where many people live; below, it is minor.
    fn of_magnitude(&self) -> Severity {
        match self.mag {
            None => Severity::Unknown,
            Some(mag) if mag >= 8.0 => Severity::Extreme,
            Some(mag) if mag >= 7.0 => Severity::Severe,
            Some(mag) if mag >= 5.5 => Severity::Moderate,
            Some(_) => Severity::Minor,
        }
    }
}

/// An alert, whose properties are those of CAP (www.weather.gov/documentation/services-web-api).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WeatherAlert {
    #[serde(rename = "@id")]
    address: Option<String>,
    id: Option<String>,
    area_desc: Option<String>,
    geocode: Option<Geocode>,
    references: Option<First<Reference, { MOST_REFERENCES + 1 }>>,
    sent: Option<String>,
    effective: Option<String>,
    onset: Option<String>,
    expires: Option<String>,
    ends: Option<String>,
    status: Option<String>,
    message_type: Option<String>,
    scope: Option<String>,
    language: Option<String>,
    category: Option<String>,
    severity: Option<String>,
    certainty: Option<String>,
    urgency: Option<String>,
    event: Option<String>,
    event_code: Option<EventCode>,
    sender: Option<String>,
    headline: Option<String>,
    description: Option<String>,
    instruction: Option<String>,
    response: Option<String>,
    web: Option<String>,
    parameters: Option<Parameters>,
}

/// Codes of one list: one more than can be tags, so that it is seen that there are too many.
type Codes = Option<First<String, { MOST_TAGS + 1 }>>;

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Geocode {
    same: Codes,
    ugc: Codes,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct EventCode {
    same: Codes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    event_ending_time: Codes,
    expired_references: Codes,
}

#[derive(Deserialize)]
struct Reference {
    sender: Option<String>,
    identifier: Option<String>,
}

impl WeatherAlert {
    /// The alert that it is.
    fn alert<'a>(&'a self, geometry: Option<&RawValue>) -> Alert<'a> {
        let parameters = self.parameters.as_ref();
        let (geocode, event_code) = (self.geocode.as_ref(), self.event_code.as_ref());
        let named = |name, codes: &'a Codes| words(codes).map(move |code| (name, code));
        let block = Block {
            language: self.language.as_deref(),
            categories: self.category.as_deref().into_iter().collect(),
            event: self.event.as_deref(),
            response_types: self.response.as_deref().into_iter().collect(),
            urgency: self.urgency.as_deref(),
            severity: self.severity.as_deref(),
            certainty: self.certainty.as_deref(),
            same_events: event_code.into_iter().flat_map(|codes| words(&codes.same)).collect(),
            effective: self.effective.as_deref(),
            onset: self.onset.as_deref(),
            expires: self.expires.as_deref(),
            ends: self
                .ends
                .as_deref()
                .or_else(|| parameters.and_then(|all| words(&all.event_ending_time).next())),
            headline: self.headline.as_deref(),
            description: self.description.as_deref(),
            instruction: self.instruction.as_deref(),
            web: self.web.as_deref().or(self.address.as_deref()),
            areas: self.area_desc.as_deref().into_iter().collect(),
            expired_references: parameters
                .into_iter()
                .flat_map(|all| words(&all.expired_references))
                .collect(),
            geocodes: geocode
                .into_iter()
                .flat_map(|all| named("SAME", &all.same).chain(named("UGC", &all.ugc)))
                .collect(),
            shapes: geometry.map(|geometry| shapes(geometry.get())).unwrap_or_default(),
        };
        Alert {
            identifier: self.id.as_deref(),
            sender: self.sender.as_deref(),
            sent: self.sent.as_deref(),
            status: self.status.as_deref(),
            message_type: self.message_type.as_deref(),
            // It was left out for years, and all that is published there is public.
            scope: self.scope.as_deref().or(Some("Public")),
            references: self.references.iter().flat_map(|all| &all.items).map(Reference::id).collect(),
            blocks: vec![block],
        }
    }
}

impl Reference {
    fn id(&self) -> Result<MessageId, String> {
        match (&self.sender, &self.identifier) {
            (Some(sender), Some(identifier)) => {
                message_id(sender, identifier).map_err(|reason| format!("a reference {reason}"))
            }
            _ => Err("a reference has no sender or no identifier".to_owned()),
        }
    }
}

fn words(codes: &Codes) -> impl Iterator<Item = &str> {
    codes.iter().flat_map(|codes| &codes.items).map(String::as_str)
}

/// The shapes of a geometry, or what is wrong with them.
fn shapes(geometry: &str) -> Vec<Result<Shape, String>> {
    let read = |geometry| {
        let Geometry { r#type, coordinates } = parsed(geometry)?;
        Ok(match r#type.as_str() {
            "Point" => vec![position(coordinates).map(|(point, _)| Shape::Point(point))],
            "Polygon" => vec![polygon(coordinates)],
            // One more, so that it is seen that there are too many.
            "MultiPolygon" => {
                let polygons: First<&RawValue, { MOST_SHAPES + 1 }> = parsed(coordinates.get())?;
                polygons.items.into_iter().map(polygon).collect()
            }
            other => return Err(format!("is a {other}, which is not read")),
        })
    };
    read(geometry).unwrap_or_else(|reason: String| vec![Err(format!("its geometry {reason}"))])
}

/// A polygon's outer ring alone. Ours have no holes; and whoever is in the hole of an area that is warned is near enough to it
/// to be told.
fn polygon(coordinates: &RawValue) -> Result<Shape, String> {
    let read = || {
        // One point more, so that it is seen that there are too many.
        let rings: First<First<First<f64, 2>, { MOST_POINTS + 1 }>, 1> = parsed(coordinates.get())?;
        let outer = rings.items.into_iter().next().ok_or("has no ring")?;
        let points = outer.items.iter().map(|position| match position.items[..] {
            [lon, lat] => shapes::point(lat, lon),
            _ => Err("has a point without lon and lat".to_owned()),
        });
        Shape::polygon(points.collect::<Result<_, _>>()?)
    };
    read().map_err(|reason: String| format!("a polygon {reason}"))
}

/// A point, and how deep it lies in kilometres (so the US Geological Survey: in RFC 7946 it would be the height in metres).
fn position(coordinates: &RawValue) -> Result<(Point, Option<f64>), String> {
    let read = || {
        let position: First<Option<f64>, 3> = parsed(coordinates.get())?;
        match position.items[..] {
            [Some(lon), Some(lat), ref depth_km @ ..] => {
                Ok((shapes::point(lat, lon)?, depth_km.first().copied().flatten()))
            }
            _ => Err("has no lon and lat".to_owned()),
        }
    };
    read().map_err(|reason: String| format!("its point {reason}"))
}

/// The first of an array, and how many it has. What is beyond takes no memory.
struct First<T, const MOST: usize> {
    items: Vec<T>,
    count: usize,
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for First<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Array<T, MOST> {
            type Value = First<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MOST
                    && let Some(item) = array.next_element()?
                {
                    items.push(item);
                }
                let mut count = items.len();
                while array.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(First { items, count })
            }
        }

        deserializer.deserialize_seq(Array(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tocsin_domain::{feed::Format, feed_item::Action};

    use super::*;
    use crate::testing;

    fn read(features: &[Value]) -> Reading {
        let document = json!({"type": "FeatureCollection", "features": features, "bbox": [0, 0, 1, 1]});
        testing::read(&Geojson, document.to_string().as_bytes()).unwrap()
    }

    fn only(reading: Reading) -> Entry {
        assert_eq!(reading.bad, []);
        let [entry] = <[Entry; 1]>::try_from(reading.entries).unwrap();
        entry
    }

    fn reasons(reading: &Reading) -> Vec<String> {
        reading.bad.iter().map(|bad| format!("{}: {}", bad.entry, bad.reason)).collect()
    }

    /// A feature with other properties than the usual.
    fn with(mut feature: Value, properties: &Value) -> Value {
        let changed = properties.as_object().unwrap().clone();
        feature["properties"].as_object_mut().unwrap().extend(changed);
        feature
    }

    fn earthquake() -> Value {
        json!({
            "type": "Feature",
            "id": "us7000abcd",
            "properties": {
                "mag": 6.14, "magType": "mww", "place": "10 km W of Bergen, Norway",
                "time": 1_795_287_600_123_i64, "updated": 1_795_287_900_000_i64, "tz": null,
                "url": "https://earthquake.usgs.gov/earthquakes/eventpage/us7000abcd", "felt": 12, "alert": "yellow",
                "status": "reviewed", "tsunami": 0, "ids": ",us7000abcd,no1,", "type": "earthquake",
                "title": "M 6.1 - 10 km W of Bergen, Norway"
            },
            "geometry": {"type": "Point", "coordinates": [5.1, 60.4, 10.2]}
        })
    }

    fn alert() -> Value {
        json!({
            "type": "Feature",
            "id": "https://api.weather.gov/alerts/urn:oid:2",
            "geometry": null,
            "properties": {
                "@id": "https://api.weather.gov/alerts/urn:oid:2", "@type": "wx:Alert", "id": "urn:oid:2",
                "areaDesc": "Marin; Sonoma", "geocode": {"SAME": ["006041", "006097"], "UGC": ["CAZ502"]},
                "affectedZones": ["https://api.weather.gov/zones/forecast/CAZ502"],
                "references": [
                    {"@id": "x", "identifier": "urn:oid:1", "sender": "nws@example.org", "sent": "2026-11-21T10:00:00-08:00"}
                ],
                "sent": "2026-11-21T12:00:00-08:00", "effective": "2026-11-21T12:00:00-08:00",
                "onset": "2026-11-21T16:00:00-08:00", "expires": "2026-11-21T20:00:00-08:00",
                "ends": null, "status": "Actual", "messageType": "Update", "category": "Met", "severity": "Extreme",
                "certainty": "Possible", "urgency": "Expected", "event": "Flood Watch", "sender": "nws@example.org",
                "senderName": "NWS", "headline": null, "description": "Rain.", "instruction": "Stay high.",
                "response": "Prepare",
                "parameters": {
                    "VTEC": ["/O.CON/"], "eventEndingTime": ["2026-11-22T06:00:00+00:00"],
                    "expiredReferences": ["nws@example.org,urn:oid:0,2026-11-20T10:00:00-08:00"]
                }
            }
        })
    }

    #[test]
    fn an_earthquake_is_an_alert_at_a_point() {
        let entry = only(read(&[earthquake()]));
        assert_eq!((entry.id.as_str(), &entry.message), ("us7000abcd", &None));
        assert_eq!(entry.aliases, BTreeSet::from(["no1".to_owned()]));
        let [item] = &entry.items[..] else { panic!("{entry:?}") };
        assert_eq!((item.kind, item.title.as_str()), (PostKind::Alert, "M 6.1 - 10 km W of Bergen, Norway"));
        assert_eq!(
            item.body.as_deref(),
            Some("Magnitude: 6.1 mww\nDepth: 10 km\nEstimated impact (PAGER): yellow")
        );
        assert_eq!(item.category.as_ref().unwrap().as_str(), "earthquake");
        assert_eq!(item.severity, Severity::Moderate);
        assert_eq!(item.place, Some(ItemPlace { location: Point::new(60.4, 5.1).unwrap(), area: None }));
        assert_eq!(item.starts_at, Some("2026-11-21T19:00:00.123Z".parse().unwrap()));
        assert_eq!(item.link.as_ref().unwrap().path(), "/earthquakes/eventpage/us7000abcd");
        assert!(!item.is_all_clear);
        let felt_by_more = with(earthquake(), &json!({"felt": 99, "updated": 1_795_287_999_000_i64}));
        assert_eq!(only(read(&[felt_by_more])), entry, "it is still the same");
        let alone = testing::read(&Geojson, earthquake().to_string().as_bytes()).unwrap();
        assert_eq!(only(alone), entry);
    }

    #[test]
    fn an_earthquake_is_one_though_networks_disagree() {
        let named = |id: &str, ids: &str| {
            let mut feature = with(earthquake(), &json!({ "ids": ids }));
            feature["id"] = json!(id);
            feature
        };
        let reading = read(&[
            named("us1", ",us1,no1,"),
            named("no1", ",no1,us1,"),
            named("us2", ",us2,"),
            named("ci2", "us2"),
        ]);
        let ids: Vec<_> = reading.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(
            (ids, reasons(&reading)),
            (vec!["us1", "us2"], vec!["no1: is there twice".to_owned(), "ci2: is there twice".to_owned()])
        );
        let many: Vec<_> = (0..200).map(|number| format!("no{number}")).collect();
        assert_eq!(only(read(&[named("us1", &many.join(","))])).aliases.len(), MOST_ALIASES);
    }

    #[test]
    fn an_earthquake_is_as_bad_as_its_impact_or_else_its_magnitude() {
        for (mag, alert, tsunami, severity) in [
            (json!(8.0), Value::Null, json!(0), Severity::Extreme),
            (json!(7.9), Value::Null, Value::Null, Severity::Severe),
            (json!(5.5), json!("pending"), json!(0), Severity::Moderate),
            (json!(-0.3), Value::Null, json!(0), Severity::Minor),
            (Value::Null, Value::Null, json!(0), Severity::Unknown),
            (json!(6.0), json!("red"), json!(0), Severity::Extreme),
            (json!(7.1), json!("orange"), json!(0), Severity::Severe),
            (json!(7.1), json!("green"), json!(0), Severity::Minor),
            (json!(8.1), json!("green"), json!(1), Severity::Extreme),
        ] {
            let feature = with(earthquake(), &json!({"mag": mag, "alert": alert, "tsunami": tsunami}));
            let item = only(read(&[feature])).items.remove(0);
            assert_eq!(item.severity, severity, "{mag} {alert} {tsunami}");
            assert_eq!(item.body.unwrap().contains("tsunami.gov"), tsunami == json!(1));
        }
    }

    #[test]
    fn an_earthquake_that_is_withdrawn_is_over() {
        let changes = json!({"status": "deleted", "mag": null, "title": " ", "place": null, "alert": null, "url": null});
        let item = only(read(&[with(earthquake(), &changes)])).items.remove(0);
        assert!(item.is_all_clear);
        assert_eq!((item.severity, item.title.as_str()), (Severity::Unknown, "M ? - at an unnamed place"));
        assert_eq!(item.body.as_deref(), Some("Withdrawn: there was no such event.\nDepth: 10 km"));
    }

    #[test]
    fn an_alert_is_as_in_cap() {
        let entry = only(read(&[alert()]));
        assert_eq!(entry.id, "nws@example.org,urn:oid:2");
        let message = entry.message.unwrap();
        assert_eq!(message.action, Action::Update);
        let references: Vec<_> = message.references.iter().map(|id| id.identifier.as_str()).collect();
        assert_eq!(references, ["urn:oid:1", "urn:oid:0"]);
        let [item] = &entry.items[..] else { panic!("{:?}", entry.items) };
        assert_eq!((item.title.as_str(), item.sub_id.as_ref()), ("Flood Watch", None));
        assert_eq!(item.body.as_deref(), Some("Rain.\n\nStay high.\n\nMarin; Sonoma"));
        assert_eq!(item.category.as_ref().unwrap().as_str(), "flood");
        assert_eq!(item.severity, Severity::Severe, "what is only possible is not extreme");
        let tags: Vec<_> = item.tags.iter().map(tocsin_domain::post::Tag::as_str).collect();
        assert_eq!(tags, ["same:006041", "same:006097", "ugc:caz502"]);
        let time = |text: &str| Some(text.parse().unwrap());
        assert_eq!(item.starts_at, time("2026-11-22T00:00:00Z"));
        assert_eq!(item.ends_at, time("2026-11-22T06:00:00Z"));
        assert_eq!(item.expires_at, time("2026-11-22T04:00:00Z"));
        assert_eq!(item.link.as_ref().unwrap().as_str(), "https://api.weather.gov/alerts/urn:oid:2");
        assert_eq!(item.place, None);
    }

    #[test]
    fn the_rules_of_cap_hold_for_alerts() {
        let changed = |properties: &Value| read(&[with(alert(), properties)]);
        let test = changed(&json!({"status": "Test"}));
        assert_eq!(
            (test.entries.len(), reasons(&test)),
            (0, vec!["alert urn:oid:2: its status is Test, not Actual".to_owned()])
        );
        let private = changed(&json!({"scope": "Private"}));
        assert_eq!(reasons(&private), ["alert urn:oid:2: its scope is Private, not Public"]);
        let answer = changed(&json!({"messageType": "Ack"}));
        assert_eq!((answer.entries.len(), answer.bad.len()), (0, 0));
        let late = changed(&json!({"sent": "date:now"}));
        assert_eq!(reasons(&late), ["alert urn:oid:2: sent is no time: \"date:now\""]);
        let broken = changed(&json!({"references": [{"identifier": "urn:oid:1"}], "onset": "later"}));
        assert_eq!(
            reasons(&broken),
            [
                "alert urn:oid:2: a reference has no sender or no identifier",
                "alert urn:oid:2: onset is no time: \"later\""
            ]
        );
        assert_eq!(broken.entries.len(), 1);
        let clear = only(changed(
            &json!({"response": "AllClear", "eventCode": {"SAME": ["TOE"]}, "messageType": "Cancel"}),
        ));
        assert_eq!(clear.message.unwrap().action, Action::Cancel);
        assert!(clear.items[0].is_all_clear);
        assert_eq!(clear.items[0].category.as_ref().unwrap().as_str(), "utilities");
        let bare = json!({"type": "Feature", "properties": {
            "messageType": "Alert", "id": "1", "sender": "a", "sent": "2026-11-21T12:00:00Z", "status": "Actual", "event": "x"
        }});
        assert_eq!(only(read(&[bare])).items.len(), 1);
    }

    #[test]
    fn geometries_are_read_and_what_is_bad_in_them_is_named() {
        let at = |geometry: Value| {
            let mut feature = alert();
            feature["geometry"] = geometry;
            read(&[feature])
        };
        let ring = json!([[5, 60], [6, 60, 100], [6, 61], [5, 60]]);
        let hole = json!([[5.8, 60.1], [5.9, 60.1], [5.9, 60.2], [5.8, 60.1]]);
        let outer = only(at(json!({"type": "Polygon", "coordinates": [ring]})));
        let place = outer.items[0].place.clone().unwrap();
        assert!((60.0..61.0).contains(&place.location.lat()) && (5.0..6.0).contains(&place.location.lon()));
        assert_eq!(only(at(json!({"type": "Polygon", "coordinates": [ring, hole]}))), outer);
        let point = only(at(json!({"type": "Point", "coordinates": [5, 60]})));
        assert_eq!(point.items[0].place.as_ref().unwrap().location, Point::new(60.0, 5.0).unwrap());
        let several = at(json!({"type": "MultiPolygon", "coordinates": [
            [ring], [], [[[5, 60], [6, 60]]], [[[5], [6, 60], [6, 61]]], [[[5, 95], [6, 60], [6, 61]]], 7
        ]}));
        let named = reasons(&several);
        assert_eq!(
            named[..4],
            [
                "alert urn:oid:2: a polygon has no ring",
                "alert urn:oid:2: a polygon must have at least three different points",
                "alert urn:oid:2: a polygon has a point without lon and lat",
                "alert urn:oid:2: a polygon has a point that is not on the Earth: 95,5",
            ]
        );
        assert!(named.len() == 5 && named[4].starts_with("alert urn:oid:2: a polygon is not read: "));
        assert_eq!(several.entries[0].items[0].place.clone().unwrap(), place);
        for geometry in [
            json!({"type": "LineString", "coordinates": [[5, 60], [6, 60]]}),
            json!({"type": "Polygon", "coordinates": 1}),
            json!({"type": "Polygon"}),
            json!("Polygon"),
        ] {
            let reading = at(geometry);
            assert_eq!((reading.entries.len(), reading.bad.len()), (1, 1), "{reading:?}");
            assert_eq!(reading.entries[0].items[0].place, None);
        }
    }

    #[test]
    fn what_is_bad_is_named_and_the_rest_goes_on() {
        let changed = |path: &str, value: Value| {
            let mut feature = earthquake();
            *feature.pointer_mut(path).unwrap() = value;
            feature
        };
        let reading = read(&[
            changed("/id", Value::Null),
            changed("/id", json!("far")),
            changed("/properties/time", json!(i64::MAX)),
            changed("/geometry", Value::Null),
            changed("/geometry/coordinates", json!([5.1, 91.0])),
            changed("/geometry/coordinates", json!([null, 1.0])),
            changed("/geometry/type", json!("Polygon")),
            changed("/properties", json!({"name": "a lighthouse"})),
            changed("/properties", Value::Null),
            changed("/properties/mag", json!("strong")),
            changed("/id", json!("far")),
            json!(7),
        ]);
        let ids: Vec<_> = reading.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["far"]);
        let named = reasons(&reading);
        assert_eq!(
            named[..7],
            [
                "feature 1: has no id",
                "feature 3: us7000abcd: time is no time: 9223372036854775807",
                "feature 4: us7000abcd: has no geometry",
                "feature 5: its point has a point that is not on the Earth: 91,5.1",
                "feature 6: its point has no lon and lat",
                "feature 7: us7000abcd: is not at a Point, but a Polygon",
                "feature 8: has no messageType and no time: it is no alert, and no earthquake",
            ]
        );
        assert!(named[7].starts_with("feature 9: is not read: "), "{}", named[7]);
        assert!(named[8].starts_with("feature 10: is not read: "), "{}", named[8]);
        assert!(named[9].starts_with("feature 12: is not read: "), "{}", named[9]);
        assert_eq!(named[10], "far: is there twice");
        assert_eq!(named.len(), 11);
    }

    #[test]
    fn another_document_is_none() {
        let whole = json!({"type": "FeatureCollection", "features": [earthquake()]}).to_string();
        for document in [
            "",
            "<alert/>",
            "[]",
            "{}",
            r#"{"type": "Topology", "features": []}"#,
            r#"{"type": "FeatureCollection"}"#,
            r#"{"type": "FeatureCollection", "features": {}}"#,
            r#"{"type": "FeatureCollection", "features": []} more"#,
            &whole[..whole.len() - 2],
            &"[".repeat(1_000_000),
        ] {
            testing::read(&Geojson, document.as_bytes()).unwrap_err();
        }
        testing::read(&Geojson, b"{\"type\": \"FeatureCollection\", \"features\": [\"\xff\"]}").unwrap_err();
        let marked = format!("\u{feff}{whole}");
        assert_eq!(testing::read(&Geojson, marked.as_bytes()).unwrap().entries.len(), 1);
    }

    #[test]
    fn the_work_is_bounded() {
        let numbers = "0,".repeat(MOST_ENTRIES + 4);
        let document = format!(r#"{{"type": "FeatureCollection", "features": [{numbers}0]}}"#);
        let reading = testing::read(&Geojson, document.as_bytes()).unwrap();
        assert_eq!(reading.bad.len(), MOST_ENTRIES + 1);
        let last = reading.bad.last().unwrap();
        assert_eq!(
            (last.entry.as_str(), last.reason.as_str()),
            ("features", "only the first 20000 of 20005 are read")
        );
        let mut feature = alert();
        let point = |n: u32| json!([f64::from(n % 100) / 100.0, f64::from(n) / 10_000.0]);
        let ring: Vec<_> = (0..110_000).map(point).collect();
        feature["geometry"] = json!({"type": "Polygon", "coordinates": [ring]});
        let many: Vec<_> = (0..5_000).map(|n| n.to_string()).collect();
        feature["properties"]["geocode"]["UGC"] = json!(many);
        let reading = read(&[feature.clone()]);
        assert_eq!(
            reasons(&reading),
            [
                "alert urn:oid:2: has more than 1000 geocodes",
                "alert urn:oid:2: a polygon has more than 100000 points"
            ]
        );
        feature["geometry"] = json!({"type": "MultiPolygon", "coordinates": vec![1; 5_001]});
        assert_eq!(read(&[feature]).bad.len(), 21);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(document in testing::damaged(Format::Geojson)) {
            let _ = testing::read(&Geojson, &document);
        }
    }
}
