//! Covers: the cells that hold every point of a circle or an area.
//!
//! Whatever knows how far a point lies from it ([`Region`]) can be covered. A cell counts as touched unless it surely is
//! not: a cover may reach a little beyond its region, and never falls short of it. An exact test comes after.

use std::collections::VecDeque;

use h3o::{CellIndex, LatLng, Resolution};

use crate::place::{Cell, Circle, Point};

/// A part of the Earth.
pub trait Region {
    /// How far a point lies from it, in metres; where it lies within, how deep, as a negative number, or less deep.
    fn signed_distance_m(&self, point: Point) -> f64;

    /// Whether it has a point in common with a circle.
    fn meets(&self, circle: &Circle) -> bool {
        self.signed_distance_m(circle.centre()) <= circle.radius_m()
    }

    /// Whether a cell may hold some of its points: it does not where the answer is no.
    fn may_touch(&self, cell: &Cell) -> bool {
        may_touch(self, cell)
    }
}

/// Whether a cell may hold some points of a region, by how far its centre is.
pub fn may_touch(region: &(impl Region + ?Sized), cell: &Cell) -> bool {
    cell.index().is_some_and(|cell| overlap(region, cell) != Overlap::None)
}

/// Cells at mixed resolutions that hold every point of a region: the whole cells inside it, and finer ones along its rim as
/// long as there are at most `most`. Cells are from `coarsest` to `finest`; where `most` cells of the coarsest do not do,
/// there are more than `most`.
#[must_use]
pub fn cover(region: &impl Region, coarsest: u8, finest: u8, most: usize) -> Vec<Cell> {
    let touches = |cell: &CellIndex| overlap(region, *cell) != Overlap::None;
    let mut done = Vec::new();
    // Breadth first, so that the bound is spent on the coarsest cells of the rim before the finer ones.
    let mut open: VecDeque<CellIndex> = CellIndex::base_cells().filter(touches).collect();
    while let Some(cell) = open.pop_front() {
        let resolution = u8::from(cell.resolution());
        let whole = resolution >= coarsest && overlap(region, cell) == Overlap::Whole;
        if whole || resolution >= finest {
            done.push(cell);
            continue;
        }
        let next = cell.resolution().succ().unwrap_or(Resolution::Fifteen);
        let children: Vec<_> = cell.children(next).filter(touches).collect();
        if resolution < coarsest || done.len() + open.len() + children.len() <= most {
            open.extend(children);
        } else {
            done.push(cell);
        }
    }
    done.into_iter().map(Cell::of).collect()
}

/// The cells of one resolution that hold every point of a region; none where they would be more than `most`.
#[must_use]
pub fn cells(region: &impl Region, resolution: u8, most: usize) -> Option<Vec<Cell>> {
    let touches = |cell: &CellIndex| overlap(region, *cell) != Overlap::None;
    let mut cells: Vec<CellIndex> = CellIndex::base_cells().filter(touches).collect();
    for finer in Resolution::range(Resolution::One, Resolution::try_from(resolution).ok()?) {
        cells = cells.iter().flat_map(|cell| cell.children(finer)).filter(touches).collect();
        // Nearly every cell that touches the region has children that do: a level's count bounds those below.
        if cells.len() > most.saturating_mul(2) {
            return None;
        }
    }
    (cells.len() <= most).then(|| cells.into_iter().map(Cell::of).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overlap {
    None,
    Part,
    Whole,
}

fn overlap(region: &(impl Region + ?Sized), cell: CellIndex) -> Overlap {
    let centre = LatLng::from(cell);
    let centre = Point::of(centre);
    let (distance, reach) = (region.signed_distance_m(centre), reach(cell, centre));
    if distance > reach {
        Overlap::None
    } else if distance <= -reach {
        Overlap::Whole
    } else {
        Overlap::Part
    }
}

/// How far from a cell's centre, in metres, a point that the cell holds can lie.
///
/// Its descendants' centres lie at most `e·(√3/√7 + √3/7 + …)` = 1.053 edges away on a plane; the cells' distortion on
/// the sphere is within the rest of the fifth that is added to the distance of the farthest vertex.
fn reach(cell: CellIndex, centre: Point) -> f64 {
    let vertices = cell.boundary();
    let farthest = vertices.iter().map(|vertex| centre.distance_m(Point::of(*vertex))).fold(0.0, f64::max);
    farthest * 1.2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::place::tests::{destination, point};

    fn circle() -> impl Strategy<Value = Circle> {
        (point(), 50f64.ln()..=100_000f64.ln())
            .prop_map(|(centre, ln)| Circle::new(centre, ln.exp().clamp(50.0, 100_000.0)).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn the_cells_of_a_circle_cover_it(
            circle in circle(),
            shots in prop::collection::vec((0.0..=1.0f64, 0.0..std::f64::consts::TAU), 64),
            most in 4usize..48,
        ) {
            let cover = cover(&circle, 3, 8, most);
            let at_one: Vec<_> =
                [3, 5, 7].into_iter().filter_map(|resolution| Some((resolution, cells(&circle, resolution, 32)?))).collect();
            for (share, bearing) in shots {
                // Half of the shots at the rim, where a cover fails first.
                let share = if share < 0.5 { share.sqrt() } else { 0.999_999 };
                let inside = destination(circle.centre(), circle.radius_m() * share, bearing);
                let path = inside.cell(15);
                for (resolution, cells) in &at_one {
                    prop_assert!(cells.contains(&path.ancestor(*resolution)));
                }
                prop_assert!(
                    cover.iter().any(|cell| path.as_str().starts_with(cell.as_str())),
                    "{inside:?} of {circle:?} is in none of {cover:?}",
                );
                prop_assert!((3..=8).all(|resolution| circle.may_touch(&path.ancestor(resolution))));
            }
        }

        #[test]
        fn a_cover_is_bounded_and_has_no_cell_inside_another(circle in circle(), most in 16usize..48) {
            let cover = cover(&circle, 3, 8, most);
            prop_assert!(cover.len() <= most, "{} cells", cover.len());
            for (i, a) in cover.iter().enumerate() {
                prop_assert!((3..=8).contains(&a.resolution()));
                prop_assert!(cover.iter().skip(i + 1).all(|b| !a.as_str().starts_with(b.as_str()) && !b.as_str().starts_with(a.as_str())));
            }
        }

        #[test]
        fn a_circle_of_a_few_kilometres_has_few_cells(centre in point()) {
            let circle = Circle::new(centre, 3_000.0).unwrap();
            prop_assert!(cells(&circle, 7, 32).is_some());
            let large = Circle::new(centre, 100_000.0).unwrap();
            prop_assert!(cells(&large, 7, 32).is_none());
            prop_assert!(cells(&large, 3, 32).is_some());
        }

        #[test]
        fn every_cell_holds_its_points_within_reach(point in point(), resolution in 0u8..=9) {
            let cell = point.cell(resolution).index().unwrap();
            let centre = Point::of(LatLng::from(cell));
            prop_assert!(centre.distance_m(point) <= reach(cell, centre));
        }
    }
}
