//! Where the entries of XML feeds are: GeoRSS Simple and GML (OGC 17-002r1), and the W3C's basic geo vocabulary.

use tocsin_domain::{feed_item::ItemPlace, place::Point};

use crate::{
    shapes::{MOST_POINTS, Shape, Shapes, point},
    xml::Element,
};

const GEORSS: [&str; 2] = ["http://www.georss.org/georss", "http://www.georss.org/georss/10"];
const GML: &str = "http://www.opengis.net/gml";
const W3C: &str = "http://www.w3.org/2003/01/geo/wgs84_pos#";

/// Where an entry is, where it says so. What is wrong in it is an error: elsewhere it would be wrong too.
pub(crate) fn place(entry: &Element) -> Result<Option<ItemPlace>, String> {
    let mut shapes = Shapes::default();
    for child in entry.children.iter().filter(|child| GEORSS.contains(&&*child.namespace)) {
        match child.name.as_str() {
            "where" => add_gml(child, &mut shapes)?,
            name => {
                let added = simple(name, &child.text)
                    .and_then(|shape| shape.map_or(Ok(()), |shape| shapes.add(shape)));
                added.map_err(|reason| format!("its {name} {reason}"))?;
            }
        }
    }
    if shapes.is_empty()
        && let Some(point) = w3c_point(entry)?
    {
        shapes.add(Shape::Point(point))?;
    }
    shapes.place()
}

/// A shape of GeoRSS Simple: numbers alone, the latitude before the longitude. None where it says nothing, or more of the same
/// place: its elevation, its name, its radius.
fn simple(name: &str, text: &str) -> Result<Option<Shape>, String> {
    if text.trim().is_empty() || !matches!(name, "point" | "line" | "polygon" | "box" | "circle") {
        return Ok(None);
    }
    let shape = match (name, &numbers(text)?[..]) {
        ("point", [lat, lon]) => Shape::Point(point(*lat, *lon)?),
        ("circle", [lat, lon, radius_m]) => Shape::circle(point(*lat, *lon)?, *radius_m)?,
        ("box", [south, west, north, east]) => Shape::rectangle((*south, *west), (*north, *east))?,
        ("line", all) => Shape::line(points(all, 2)?)?,
        ("polygon", all) => Shape::polygon(points(all, 2)?)?,
        (_, all) => return Err(format!("has {} numbers", all.len())),
    };
    Ok(Some(shape))
}

/// Adds the shapes of GML that lie in an element.
fn add_gml(element: &Element, shapes: &mut Shapes) -> Result<(), String> {
    for child in element.children.iter().filter(|child| child.namespace.starts_with(GML)) {
        let shape = match child.name.as_str() {
            "Point" => positions(child).map(|points| Shape::Point(points[0])),
            "LineString" => positions(child).and_then(Shape::line),
            // What is left out of it is warned too.
            "Polygon" => child
                .child("exterior")
                .and_then(|exterior| exterior.child("LinearRing"))
                .ok_or_else(|| "has no exterior ring".to_owned())
                .and_then(positions)
                .and_then(Shape::polygon),
            "Envelope" => positions(child).and_then(|corners| match corners[..] {
                [low, high] => Shape::rectangle((low.lat(), low.lon()), (high.lat(), high.lon())),
                _ => Err("has not two corners".to_owned()),
            }),
            "CircleByCenterPoint" => {
                positions(child).and_then(|centre| Shape::circle(centre[0], radius_m(child)?))
            }
            _ => {
                add_gml(child, shapes)?;
                continue;
            }
        };
        let added = shape.and_then(|shape| shapes.add(shape));
        added.map_err(|reason| format!("its {} {reason}", child.name))?;
    }
    Ok(())
}

/// The points that a shape of GML lists directly, one at least.
fn positions(shape: &Element) -> Result<Vec<Point>, String> {
    let system = shape.attribute("srsName").unwrap_or("EPSG:4326");
    let is_lon_first = system.ends_with("CRS84");
    if !is_lon_first && !system.ends_with("4326") && !system.ends_with("4979") {
        return Err(format!("is in a reference system that is not known: {system:?}"));
    }
    let mut all = Vec::new();
    for list in &shape.children {
        if matches!(list.name.as_str(), "pos" | "posList" | "lowerCorner" | "upperCorner") {
            let mut numbers = numbers(&list.text)?;
            let dimension = list.attribute("srsDimension").or(shape.attribute("srsDimension"));
            let per_point = match (dimension, list.name.as_str()) {
                (Some("2"), _) | (None, "posList") => 2,
                (Some("3"), _) => 3,
                (Some(other), _) => return Err(format!("has {other:?} dimensions")),
                (None, _) => numbers.len().clamp(2, 3),
            };
            if is_lon_first {
                numbers.chunks_exact_mut(per_point).for_each(|point| point.swap(0, 1));
            }
            all.extend(points(&numbers, per_point)?);
        }
    }
    if all.is_empty() { Err("has no position".to_owned()) } else { Ok(all) }
}

fn numbers(text: &str) -> Result<Vec<f64>, String> {
    const MOST: usize = 2 * MOST_POINTS;
    let words = text.split([',', ' ', '\t', '\n', '\r']).filter(|word| !word.is_empty());
    let number = |word: &str| word.parse().map_err(|_| format!("has something that is no number: {word:?}"));
    // One more, so that it is seen that there are too many.
    let all: Vec<f64> = words.take(MOST + 1).map(number).collect::<Result<_, _>>()?;
    if all.len() > MOST { Err(format!("has more than {MOST_POINTS} points")) } else { Ok(all) }
}

/// The point of `geo:lat` and `geo:long`, which may lie in a `geo:Point`.
fn w3c_point(entry: &Element) -> Result<Option<Point>, String> {
    let holder = entry.child_in(W3C, "Point").unwrap_or(entry);
    let lon = holder.text_in(W3C, "long").or(holder.text_in(W3C, "lon"));
    let (Some(lat), Some(lon)) = (holder.text_in(W3C, "lat"), lon) else { return Ok(None) };
    let number =
        |text: &str| text.parse().map_err(|_| format!("its point has something that is no number: {text:?}"));
    let point = point(number(lat)?, number(lon)?);
    point.map(Some).map_err(|reason| format!("its point {reason}"))
}

/// The radius of a circle of GML.
fn radius_m(circle: &Element) -> Result<f64, String> {
    let radius = circle.child("radius").ok_or("has no radius")?;
    let number: f64 = radius.text.trim().parse().map_err(|_| format!("has a radius of {:?}", radius.text))?;
    let unit_m = match radius.attribute("uom").unwrap_or("m").rsplit([':', '#', '/']).next() {
        Some("m" | "M" | "metre" | "meter" | "9001") => 1.0,
        Some("km" | "kilometre" | "9036") => 1_000.0,
        Some("[nmi_i]" | "nmi" | "NM" | "9030") => 1_852.0,
        Some("[mi_i]" | "mi" | "SM" | "9093") => 1_609.344,
        _ => return Err("has a radius in a unit that is not known".to_owned()),
    };
    Ok(number * unit_m)
}

/// The points of a list of so many numbers each, the latitude first.
fn points(numbers: &[f64], per_point: usize) -> Result<Vec<Point>, String> {
    let all = numbers.chunks_exact(per_point);
    if !all.remainder().is_empty() {
        return Err(format!("has {} numbers", numbers.len()));
    }
    all.map(|pair| point(pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use tocsin_domain::cover::Region;

    use super::*;
    use crate::xml;

    fn read(shapes: &str) -> Result<Option<ItemPlace>, String> {
        let document = format!(
            r#"<item xmlns:georss="{}" xmlns:gml="{GML}" xmlns:geo="{W3C}">{shapes}</item>"#,
            GEORSS[0]
        );
        let mut place = Ok(None);
        xml::each(document.as_bytes(), &["item"], |item| place = super::place(&item)).unwrap();
        place
    }

    /// Whether each of these points is in the area.
    fn holds(shapes: &str, points: &[(f64, f64)]) -> Vec<bool> {
        let area = read(shapes).unwrap().unwrap().area.unwrap();
        points.iter().map(|(lat, lon)| area.signed_distance_m(point(*lat, *lon).unwrap()) <= 1.0).collect()
    }

    #[test]
    fn points_are_places() {
        for shapes in [
            "<georss:point>60.39 5.32</georss:point><georss:elev>313</georss:elev>",
            "<georss:point> 60.39,5.32\n</georss:point><georss:line/>",
            "<geo:lat>60.39</geo:lat><geo:long>5.32</geo:long>",
            "<geo:Point><geo:lat>60.39</geo:lat><geo:long>5.32</geo:long><geo:alt>3</geo:alt></geo:Point>",
            "<georss:where><gml:Point><gml:pos>60.39 5.32</gml:pos></gml:Point></georss:where>",
            "<georss:where><gml:Point srsName='urn:ogc:def:crs:OGC:1.3:CRS84'><gml:pos>5.32 60.39 10</gml:pos></gml:Point></georss:where>",
            "<georss:circle>60.39 365.32 0</georss:circle>",
        ] {
            let ItemPlace { location, area } = read(shapes).unwrap().unwrap();
            assert!(
                (location.lat() - 60.39).abs() < 1e-9 && (location.lon() - 5.32).abs() < 1e-9,
                "{shapes}"
            );
            assert_eq!(area, None);
        }
        for nowhere in [
            "",
            "<georss:point> </georss:point>",
            "<geo:lat>60</geo:lat>",
            "<georss:featurename>Bergen</georss:featurename>",
        ] {
            assert_eq!(read(nowhere), Ok(None));
        }
    }

    #[test]
    fn polygons_boxes_and_circles_are_areas() {
        let ring = "60 5 60 6 61 6 61 5 60 5";
        let hole = "<gml:interior><gml:LinearRing><gml:posList>60.4 5.4 60.4 5.6 60.6 5.5 60.4 5.4</gml:posList></gml:LinearRing></gml:interior>";
        for shapes in [
            format!("<georss:polygon>{ring}</georss:polygon>"),
            format!("<georss:where><gml:Polygon><gml:exterior><gml:LinearRing><gml:posList>{ring}</gml:posList></gml:LinearRing></gml:exterior>{hole}</gml:Polygon></georss:where>"),
            "<georss:where><gml:Polygon><gml:exterior><gml:LinearRing><gml:pos>60 5</gml:pos><gml:pos>60 6</gml:pos><gml:pos>61 6</gml:pos><gml:pos>61 5</gml:pos></gml:LinearRing></gml:exterior></gml:Polygon></georss:where>".to_owned(),
            "<georss:box>60 5 61 6</georss:box>".to_owned(),
            "<georss:where><gml:Envelope><gml:lowerCorner>60 5</gml:lowerCorner><gml:upperCorner>61 6</gml:upperCorner></gml:Envelope></georss:where>".to_owned(),
        ] {
            assert_eq!(holds(&shapes, &[(60.5, 5.5), (60.5, 4.9), (61.1, 5.5)]), [true, false, false], "{shapes}");
        }
        let island = "<georss:box>-20 177 -16 -178</georss:box>";
        assert_eq!(holds(island, &[(-18.0, 180.0), (-18.0, -177.0), (-18.0, 176.0)]), [true, false, false]);
        let wide = "<georss:box>60 -30 61 30</georss:box>";
        assert_eq!(
            holds(wide, &[(60.01, 0.0), (60.99, 0.0), (61.1, 0.0), (59.9, 0.0)]),
            [true, true, false, false]
        );
        // A degree of a meridian is 111.2 km.
        for circle in [
            "<georss:circle>60 5 30000</georss:circle>",
            "<georss:where><gml:CircleByCenterPoint><gml:pos>60 5</gml:pos><gml:radius uom='km'>30</gml:radius></gml:CircleByCenterPoint></georss:where>",
        ] {
            assert_eq!(holds(circle, &[(60.26, 5.0), (60.28, 5.0)]), [true, false]);
        }
        let large = "<georss:circle>60 5 300000</georss:circle>";
        assert_eq!(holds(large, &[(62.69, 5.0), (57.31, 5.0), (62.73, 5.0)]), [true, true, false]);
        let small = "<georss:circle>60 5 1</georss:circle>";
        assert_eq!(holds(small, &[(60.0004, 5.0), (60.001, 5.0)]), [true, false]);
    }

    #[test]
    fn lines_are_areas_without_a_width() {
        for line in [
            "<georss:line>60 5 60.5 5 60.5 6</georss:line>",
            "<georss:line>60 5 60.5 5</georss:line><georss:line>60.5 5 60.5 6 60.5 6 60.5 5</georss:line>",
            "<georss:where><gml:LineString><gml:posList srsDimension='3'>60 5 0 60.5 5 0 60.5 6 0</gml:posList></gml:LineString></georss:where>",
        ] {
            assert_eq!(
                holds(line, &[(60.2, 5.0), (60.5, 6.0), (60.2, 5.2), (60.4, 5.1)]),
                [true, true, false, false],
                "{line}"
            );
        }
    }

    #[test]
    fn a_point_is_where_its_area_is_shown() {
        let both =
            "<georss:polygon>60 5 60 6 61 6 60 5</georss:polygon><georss:point>60.1 5.9</georss:point>";
        let place = read(both).unwrap().unwrap();
        assert_eq!((place.location.lat(), place.area.is_some()), (60.1, true));
        let several = "<georss:point>60 5</georss:point><georss:point>61 6</georss:point>";
        assert_eq!(holds(several, &[(60.0, 5.0), (61.0, 6.0), (60.5, 5.5)]), [true, true, false]);
        let area = read("<georss:polygon>60 5 60 6 61 6 61 5</georss:polygon>").unwrap().unwrap();
        assert!(area.area.unwrap().signed_distance_m(area.location) < -10_000.0);
    }

    #[test]
    fn what_is_bad_is_named() {
        let long = format!("<georss:line>{}</georss:line>", "1 2 ".repeat(100_001));
        for (shapes, reason) in [
            ("<georss:point>60</georss:point>", "its point has 1 numbers"),
            ("<georss:point>60 x</georss:point>", "its point has something that is no number: \"x\""),
            ("<georss:point>NaN 5</georss:point>", "its point has a point that is not on the Earth: NaN,5"),
            (
                "<geo:lat>60</geo:lat><geo:long>541</geo:long>",
                "its point has a point that is not on the Earth: 60,541",
            ),
            (
                "<georss:polygon>60 5 60 6</georss:polygon>",
                "its polygon must have at least three different points",
            ),
            ("<georss:polygon>60 5 60</georss:polygon>", "its polygon has 3 numbers"),
            ("<georss:line>60 5</georss:line>", "its line has not two points"),
            ("<georss:circle>60 5 -1</georss:circle>", "its circle has a radius of -1 m"),
            ("<georss:circle>60 5 inf</georss:circle>", "its circle has a radius of inf m"),
            ("<georss:where><gml:Point/></georss:where>", "its Point has no position"),
            (
                "<georss:where><gml:Point srsName='EPSG:25833'><gml:pos>1 2</gml:pos></gml:Point></georss:where>",
                "its Point is in a reference system that is not known: \"EPSG:25833\"",
            ),
            ("<georss:box>-90 -180 90 180</georss:box>", "its box must lie within 5,000 km of its middle"),
            (&long, "its line has more than 100000 points"),
        ] {
            assert_eq!(read(shapes), Err(reason.to_owned()), "{}", &shapes[..shapes.len().min(80)]);
        }
    }
}
