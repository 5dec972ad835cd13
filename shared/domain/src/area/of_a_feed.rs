//! Areas as feeds draw them: with thousands of points, where a post is kept, sent and matched with what some hundred cost.
//!
//! An outline is drawn again through those of its points that tell most of it: first a few at even distances, then, of the
//! points that lie beside what is drawn, always the one that is farthest away (U. Ramer 1972; D. Douglas and T. Peucker 1973).
//! A line that is moved by less than some distance goes around the same points as before, save those that are nearer to it
//! than that: whatever the outline, even where it crosses itself, nobody is lost who is that far inside.
//!
//! Where so few points do not suffice (an archipelago, say), shapes that are near each other are taken as one, with all that
//! is between them: too many are told rather than too few.

use std::collections::{BTreeMap, BinaryHeap};

use super::{Area, Polygon, nearest};
use crate::{
    error::Invalid,
    place::{Cell, Circle, EARTH_RADIUS_M, Point},
    vector::Vector,
};

impl Area {
    /// The most points of polygons of what a feed tells of, a circle being as much as three: at most some 23 kB, where an item of
    /// DynamoDB may have 400, and a page of a hundred posts 6 MB.
    pub const MOST_OF_A_FEED: usize = 400;
    /// How far the area of a feed reaches from its middle at most, in metres.
    pub const MOST_REACH_OF_A_FEED_M: f64 = 2_500_000.0;
    /// Who is farther inside a feed's area than this, in metres, is inside what is kept of it.
    pub const MOST_LOSS_M: f64 = 1_000.0;

    /// The area of something that a feed tells of: as it is drawn, or where that is with more than
    /// [`Self::MOST_OF_A_FEED`] points, with so many at most, and without at most what lies nearer to its rim than
    /// [`Self::MOST_LOSS_M`].
    pub fn of_a_feed(circles: Vec<Circle>, polygons: Vec<Polygon>) -> Result<Self, Invalid> {
        let area = Self::new(circles, polygons)?;
        let middle = mean(area.anchors()).map(Vector::point);
        if middle.is_none_or(|middle| area.reach_m(middle) > Self::MOST_REACH_OF_A_FEED_M) {
            let most = Self::MOST_REACH_OF_A_FEED_M / 1_000.0;
            let detail = format!("reaches farther than {most} km from its middle");
            return Err(Invalid::new("out_of_range", detail));
        }
        let points: usize = area.polygons.iter().map(|polygon| polygon.points.len()).sum();
        if area.circles.len() * POINTS_OF_A_CIRCLE + points <= Self::MOST_OF_A_FEED {
            return Ok(area);
        }
        area.simplified().ok_or_else(|| Invalid::new("out_of_range", "cannot be drawn with few points"))
    }

    fn anchors(&self) -> impl Iterator<Item = Vector> {
        let centres = self.circles.iter().map(|circle| Vector::of(circle.centre()));
        centres.chain(self.polygons.iter().flat_map(|polygon| polygon.corners.iter().copied()))
    }

    fn simplified(&self) -> Option<Self> {
        let room = Self::MOST_OF_A_FEED.checked_sub(self.circles.len() * POINTS_OF_A_CIRCLE);
        if let Some(polygons) = room.and_then(|room| redrawn(&self.polygons, room)) {
            return Self::new(self.circles.clone(), polygons).ok();
        }
        let rims = self.rims();
        // By ever larger cells, and at last all that there is.
        let together = (0..=FINEST)
            .rev()
            .find_map(|resolution| redrawn(&hulls(&rims, resolution)?, Self::MOST_OF_A_FEED));
        let all = || redrawn(&[hull(rims.iter().flat_map(|(_, rim)| rim))?], Self::MOST_OF_A_FEED);
        Self::new(Vec::new(), together.or_else(all)?).ok()
    }

    /// For each shape, points between which it lies, and the cell that its middle is in.
    fn rims(&self) -> Vec<(Cell, Vec<Vector>)> {
        let rim = |circle: &Circle| {
            let around = Polygon::around(circle.centre(), circle.radius_m(), 8);
            (circle.centre().cell(FINEST), around.map(|polygon| polygon.corners).unwrap_or_default())
        };
        let polygons =
            self.polygons.iter().map(|polygon| (polygon.middle().cell(FINEST), polygon.corners.clone()));
        self.circles.iter().map(rim).chain(polygons).collect()
    }
}

/// The resolution of the cells in which shapes are taken together first: a cell is some 2 km wide.
const FINEST: u8 = 7;

/// What holds the shapes whose middles are in the same cell, for each such cell; none where these are too many.
fn hulls(rims: &[(Cell, Vec<Vector>)], resolution: u8) -> Option<Vec<Polygon>> {
    let mut near: BTreeMap<&str, Vec<&Vec<Vector>>> = BTreeMap::new();
    for (cell, rim) in rims {
        near.entry(cell.split(resolution).0).or_default().push(rim);
    }
    let are_few = near.len() * FEWEST_POINTS <= Area::MOST_OF_A_FEED;
    are_few.then(|| near.into_values().map(|rims| hull(rims.into_iter().flatten())).collect())?
}

/// As how many points a circle counts: in JSON it is as long.
const POINTS_OF_A_CIRCLE: usize = 3;
/// The fewest points of a polygon.
const FEWEST_POINTS: usize = 3;
/// How many points are drawn first. They bound the work: the way from one to the next is looked at again for each that is
/// found on it.
const FIRST_POINTS: usize = 100;
/// What is nearer to what is drawn than this, in metres, is not worth a point.
const FINE_M: f64 = 10.0;
/// Edges are measured at their ends. In between, one of 5,000 km may bulge by a twelfth more.
const MOST_DEVIATION_M: f64 = Area::MOST_LOSS_M * 0.9;

/// The polygons with so many points in all; none where that would lose too much of them.
fn redrawn(polygons: &[Polygon], most: usize) -> Option<Vec<Polygon>> {
    let all: usize = polygons.iter().map(|polygon| polygon.corners.len()).sum();
    let mut drawn: Vec<Vec<usize>> = Vec::new();
    let mut stretches = BinaryHeap::new();
    for (number, polygon) in polygons.iter().enumerate() {
        let corners = polygon.corners.len();
        let count = (corners * FIRST_POINTS / all).clamp(FEWEST_POINTS, corners);
        let first: Vec<usize> = (0..count).map(|index| index * corners / count).collect();
        let ends = first.iter().copied().skip(1).chain([corners]);
        stretches.extend(first.iter().zip(ends).map(|(from, to)| Stretch::of(polygon, number, *from, to)));
        drawn.push(first);
    }
    let mut count: usize = drawn.iter().map(Vec::len).sum();
    while count < most
        && let Some(Stretch { deviation_mm, polygon, from, to, farthest }) = stretches.pop()
    {
        if deviation_mm <= in_mm(FINE_M) {
            break;
        }
        drawn[polygon].push(farthest);
        count += 1;
        for (from, to) in [(from, farthest), (farthest, to)] {
            stretches.push(Stretch::of(&polygons[polygon], polygon, from, to));
        }
    }
    let is_lost = stretches.peek().is_some_and(|worst| worst.deviation_mm > in_mm(MOST_DEVIATION_M));
    if count > most || is_lost {
        return None;
    }
    let with_points = |(polygon, mut drawn): (&Polygon, Vec<usize>)| {
        drawn.sort_unstable();
        Polygon::new(drawn.into_iter().map(|index| polygon.points[index]).collect()).ok()
    };
    polygons.iter().zip(drawn).map(with_points).collect()
}

/// The way from one point of a polygon that is drawn to the next. That which deviates most is the greatest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    /// In whole millimetres, so that all machines find the same.
    deviation_mm: u64,
    polygon: usize,
    from: usize,
    /// The number of its points, where it ends at the first.
    to: usize,
    /// The point that is farthest from the straight line.
    farthest: usize,
}

impl Stretch {
    fn of(whole: &Polygon, polygon: usize, from: usize, to: usize) -> Self {
        let line = (whole.corners[from], whole.corners[to % whole.corners.len()]);
        let deviations = (from + 1..to).map(|index| {
            let corner = whole.corners[index];
            (in_mm(corner.angle(nearest(corner, line)) * EARTH_RADIUS_M), index)
        });
        let (deviation_mm, farthest) = deviations.max().unwrap_or((0, from));
        Self { deviation_mm, polygon, from, to, farthest }
    }
}

fn in_mm(metres: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a distance on the Earth")]
    let millimetres = (metres * 1_000.0).round() as u64;
    millimetres
}

fn mean(vectors: impl Iterator<Item = Vector>) -> Option<Vector> {
    vectors.fold(Vector::default(), Vector::plus).unit()
}

/// The smallest polygon without dents that holds all of these points (A. Andrew 1979): seen from the Earth's centre, where the
/// shortest lines are straight.
fn hull<'a>(corners: impl Iterator<Item = &'a Vector> + Clone) -> Option<Polygon> {
    let middle = mean(corners.clone().copied())?;
    // Any direction that is not nearly the middle's own.
    let aside = if middle.dot(Vector::of(Point::POLE)).abs() < 0.9 { Point::POLE } else { Point::ORIGIN };
    let east = Vector::of(aside).cross(middle).unit()?;
    let north = middle.cross(east);
    let mut seen: Vec<(f64, f64, Vector)> = corners
        .filter(|corner| corner.dot(middle) > 0.0)
        .map(|corner| {
            let ahead = corner.dot(middle);
            (corner.dot(east) / ahead, corner.dot(north) / ahead, *corner)
        })
        .collect();
    seen.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let side = |sorted: &mut dyn Iterator<Item = &(f64, f64, Vector)>| {
        let mut side: Vec<(f64, f64, Vector)> = Vec::new();
        for point in sorted {
            while let [.., a, b] = side[..]
                && (b.0 - a.0) * (point.1 - a.1) <= (b.1 - a.1) * (point.0 - a.0)
            {
                side.pop();
            }
            side.push(*point);
        }
        side.pop();
        side
    };
    let (lower, upper) = (side(&mut seen.iter()), side(&mut seen.iter().rev()));
    Polygon::new(lower.iter().chain(&upper).map(|(_, _, corner)| corner.point()).collect()).ok()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;
    use crate::{cover::Region, place::tests::point};

    /// An outline around a point: waves of some lengths and heights on a circle, and a share of mere noise.
    fn outline() -> impl Strategy<Value = (Point, f64, Polygon)> {
        let waves = prop::collection::vec((1..200u32, 0.0..TAU, 0.0..1.0f64), 1..6);
        let radius = 1_000f64.ln()..=2_000_000f64.ln();
        let noise = prop_oneof![3 => Just(0.0), 1 => 0.0..0.2f64];
        (point(), radius, waves, 501..2_500u32, noise, 0..1_000u16).prop_map(
            |(centre, ln, waves, count, noise, seed)| {
                let radius_m = ln.exp();
                let corner = |index: u32| {
                    let bearing = TAU * f64::from(index) / f64::from(count);
                    let heights = waves.iter().map(|(turns, phase, height)| {
                        height * (f64::from(*turns) * bearing + phase).sin() / f64::from(*turns)
                    });
                    let random = f64::from(index).mul_add(0.618_033_988_75, f64::from(seed)).sin() * 43_758.5;
                    let share = 0.6 + 0.3 * heights.sum::<f64>() / 3.0 + noise * random.fract();
                    centre.destination(radius_m * share.clamp(0.05, 1.0), bearing)
                };
                (centre, radius_m, Polygon::new((0..count).map(corner).collect()).unwrap())
            },
        )
    }

    fn size(area: &Area) -> usize {
        area.circles.len() + area.polygons.iter().map(|polygon| polygon.points.len()).sum::<usize>()
    }

    /// Points in and around, half of them where the outline is.
    fn shots(centre: Point, radius_m: f64, polygon: &Polygon, shots: &[(f64, f64, usize)]) -> Vec<Point> {
        let around = shots.iter().map(|(far, bearing, _)| centre.destination(radius_m * far, *bearing));
        let corners = shots.iter().map(|(far, bearing, index)| {
            polygon.points[index % polygon.points.len()].destination(far * 4_000.0, *bearing)
        });
        around.chain(corners).collect()
    }

    fn some_shots() -> impl Strategy<Value = Vec<(f64, f64, usize)>> {
        prop::collection::vec((0.0..=1.0f64, 0.0..TAU, any::<usize>()), 16)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn who_is_well_inside_stays_inside((centre, radius_m, polygon) in outline(), shots in some_shots()) {
            let whole = Area::new(Vec::new(), vec![polygon.clone()]).unwrap();
            let kept = Area::of_a_feed(Vec::new(), vec![polygon.clone()]).unwrap();
            prop_assert!(size(&kept) <= Area::MOST_OF_A_FEED);
            for shot in self::shots(centre, radius_m, &polygon, &shots) {
                let (depth_m, kept_m) = (-whole.signed_distance_m(shot), kept.signed_distance_m(shot));
                prop_assert!(depth_m <= Area::MOST_LOSS_M || kept_m < 0.0, "{shot:?} is {depth_m} m inside");
            }
        }

        /// And where it is redrawn, not replaced, nobody is told who is far away.
        #[test]
        fn what_is_redrawn_goes_around_the_same((centre, radius_m, polygon) in outline(), shots in some_shots()) {
            if let Some(redrawn) = redrawn(std::slice::from_ref(&polygon), Area::MOST_OF_A_FEED) {
                for shot in self::shots(centre, radius_m, &polygon, &shots) {
                    let (before_m, after_m) = (polygon.signed_distance_m(shot), redrawn[0].signed_distance_m(shot));
                    prop_assert!((before_m - after_m).abs() <= Area::MOST_LOSS_M, "{before_m} m, then {after_m} m");
                }
            }
        }

        /// Outlines that go to and fro, and cross themselves.
        #[test]
        fn who_is_well_inside_a_tangle_stays_inside(
            centre in point(),
            corners in prop::collection::vec((0.0..300_000.0f64, 0.0..TAU), 5..60),
            jitter_m in prop_oneof![Just(0.0), 0.0..3_000.0f64],
            shots in some_shots(),
        ) {
            // With many points on each of its edges, or beside them.
            let corners: Vec<_> = corners.iter().map(|(far, bearing)| centre.destination(*far, *bearing)).collect();
            let next = corners.iter().cycle().skip(1);
            let edges = corners.iter().zip(next).flat_map(|(from, to)| {
                (0..120).map(|step| {
                    let step = f64::from(step);
                    from.towards(*to, step / 120.0).destination(jitter_m * (step * 7.0).sin().abs(), step * 11.0)
                })
            });
            let polygon = Polygon::new(edges.collect()).unwrap();
            let kept = Area::of_a_feed(Vec::new(), vec![polygon.clone()]).unwrap();
            prop_assert!(size(&kept) <= Area::MOST_OF_A_FEED);
            for shot in self::shots(centre, 300_000.0, &polygon, &shots) {
                prop_assert!(polygon.signed_distance_m(shot) >= -Area::MOST_LOSS_M || kept.signed_distance_m(shot) < 0.0);
            }
        }

        #[test]
        fn islands_are_taken_together(
            centre in point(),
            islands in prop::collection::vec((0.0..1_500_000.0f64, 0.0..TAU, 60.0..30_000.0f64, any::<bool>()), 200..400),
        ) {
            let (mut circles, mut polygons) = (Vec::new(), Vec::new());
            for (far, bearing, radius_m, is_circle) in &islands {
                let middle = centre.destination(*far, *bearing);
                if *is_circle {
                    circles.push(Circle::new(middle, *radius_m).unwrap());
                } else {
                    polygons.push(Polygon::around(middle, *radius_m, 12).unwrap());
                }
            }
            let kept = Area::of_a_feed(circles, polygons).unwrap();
            prop_assert!(size(&kept) <= Area::MOST_OF_A_FEED);
            for (far, bearing, radius_m, _) in &islands {
                let middle = centre.destination(*far, *bearing);
                let shot = middle.destination((radius_m - Area::MOST_LOSS_M).max(0.0) * 0.99, far * 7.0);
                let most_m = if *radius_m > Area::MOST_LOSS_M { 0.0 } else { Area::MOST_LOSS_M };
                prop_assert!(kept.signed_distance_m(shot) < most_m);
            }
        }
    }

    #[test]
    fn what_has_few_points_stays_as_it_is() {
        let centre = Point::new(60.0, 5.0).unwrap();
        let circle = Circle::new(centre, 500.0).unwrap();
        let polygon = Polygon::around(centre, 2_000.0, 397).unwrap();
        let area = Area::of_a_feed(vec![circle], vec![polygon.clone()]).unwrap();
        assert_eq!(area, Area::new(vec![circle], vec![polygon]).unwrap());
        // Where ten metres do, it is drawn with less than the most.
        let small =
            Area::of_a_feed(vec![circle], vec![Polygon::around(centre, 2_000.0, 5_000).unwrap()]).unwrap();
        assert!((50..=FIRST_POINTS + 1).contains(&size(&small)), "{}", size(&small));
    }

    #[test]
    fn what_reaches_across_half_the_world_is_refused() {
        let at = |lat, lon| Point::new(lat, lon).unwrap();
        let circle = |at| Circle::new(at, 1_000.0).unwrap();
        let far = Area::of_a_feed(vec![circle(at(0.0, 0.0)), circle(at(0.0, 60.0))], Vec::new()).unwrap_err();
        assert_eq!(far.detail, "reaches farther than 2500 km from its middle");
        let apart = Area::of_a_feed(vec![circle(at(0.0, 0.0)), circle(at(0.0, 180.0))], Vec::new());
        assert_eq!(apart.unwrap_err().code, "out_of_range");
        Area::of_a_feed(vec![circle(at(0.0, 0.0)), circle(at(0.0, 40.0))], Vec::new()).unwrap();
        let wide = Polygon::new(vec![at(0.0, 0.0), at(0.0, 60.0), at(10.0, 30.0)]).unwrap();
        Area::of_a_feed(Vec::new(), vec![wide]).unwrap_err();
    }

    /// The work for the worst outline is as for any: a comb, of which each tooth is farther out than the one before.
    #[test]
    fn the_work_is_bounded() {
        let centre = Point::new(60.0, 5.0).unwrap();
        let tooth = |index: u32| {
            let far = if index.is_multiple_of(2) { 10_000.0 } else { 10_000.0 + 40.0 * f64::from(index) };
            centre.destination(far, TAU * f64::from(index) / 20_000.0)
        };
        let polygon = Polygon::new((0..20_000).map(tooth).collect()).unwrap();
        let begin = std::time::Instant::now();
        let area = Area::of_a_feed(Vec::new(), vec![polygon]).unwrap();
        assert!(size(&area) <= Area::MOST_OF_A_FEED && begin.elapsed().as_secs() < 5);
    }
}
