//! What a seed makes of a town: its people, and what is done there.

use std::collections::BTreeSet;

use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};

use crate::model::{Area, Form, Place, Quiet, Reader, SEVERITIES, Status, Wish};

/// Those who write posts; they read as well.
pub(crate) const AUTHORS: usize = 3;
/// Those who only read.
const READERS: usize = 17;

const CATEGORIES: [&str; 3] = ["fire", "flood", "traffic"];
const TAGS: [&str; 4] = ["harbour", "smoke", "ferry", "night"];
/// In and around Bergen; none lies within a twentieth of a radius from the border of a circle around another.
const PLACES: [Place; 6] = [
    (60.3972, 5.3238),
    (60.4005, 5.3049),
    (60.3925, 5.3221),
    (60.3691, 5.3500),
    (60.2934, 5.2181),
    (60.6352, 5.5602),
];
const RADII: [f64; 3] = [700.0, 2_600.0, 21_000.0];
/// How far around its place a post happens: none of these areas ends within a twentieth of a radius from the border of a
/// circle around a place.
const REACHES: [Reach; 4] =
    [Reach::Metres(3_000.0), Reach::Metres(15_000.0), Reach::Degrees(0.02, 0.05), Reach::Degrees(0.2, 0.3)];

/// How far an area reaches from its middle.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// In metres, everywhere.
    Metres(f64),
    /// In degrees, north and south, and east and west.
    Degrees(f64, f64),
}

impl Reach {
    fn around(self, (lat, lon): Place) -> Area {
        match self {
            Self::Metres(radius) => Area::Circle((lat, lon), radius),
            Self::Degrees(north, east) => {
                Area::Rectangle((lat - north, lon - east), (lat + north, lon + east))
            }
        }
    }
}

/// Something that somebody does. Posts are named by their place in the order of posting. Who wakes ends their quiet hours.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Post { author: usize, form: Form },
    Change { post: usize, form: Form },
    Delete { post: usize },
    Confirm { post: usize, by: usize },
    Read { reader: usize },
    Block { by: usize, whom: usize },
    Wake { reader: usize },
}

/// The people. The first [`AUTHORS`] write.
pub(crate) fn readers(chance: &mut StdRng) -> Vec<Reader> {
    (0..AUTHORS + READERS).map(|number| reader(number, chance)).collect()
}

fn reader(number: usize, chance: &mut StdRng) -> Reader {
    let name = format!("reader{number}");
    let quiet = match number {
        3..=5 => Some(Quiet::UntilEnded),
        6 | 7 => Some(Quiet::UntilMinute),
        _ => None,
    };
    // Whoever it is quiet for has a phone that could ring.
    let devices = *[usize::from(quiet.is_some()), 1, 1, 1, 2].choose(chance).unwrap();
    let muted = if chance.random_bool(0.2) { CATEGORIES.choose(chance).copied() } else { None };
    Reader {
        devices: (0..devices).map(|number| format!("{name}-{number}")).collect(),
        wishes: (0..chance.random_range(1..=4)).map(|_| wish(chance)).collect(),
        muted: muted.into_iter().collect(),
        least: if chance.random_bool(0.2) { chance.random_range(1..4) } else { 0 },
        quiet,
        name,
    }
}

fn wish(chance: &mut StdRng) -> Wish {
    Wish {
        category: CATEGORIES.choose(chance).unwrap(),
        tags: if chance.random_bool(0.3) { tags(chance) } else { BTreeSet::new() },
        all: chance.random_bool(0.5),
        area: chance
            .random_bool(0.5)
            .then(|| (*PLACES.choose(chance).unwrap(), *RADII.choose(chance).unwrap())),
        least: chance.random_bool(0.25).then(|| chance.random_range(1..4)),
        push: chance.random_bool(0.85),
    }
}

fn tags(chance: &mut StdRng) -> BTreeSet<&'static str> {
    let count = chance.random_range(1..=2);
    TAGS.into_iter().choose_multiple(chance, count).into_iter().collect()
}

/// What is done, in order. Posts end only among the first `endings`: those who are told of that are looked for again a
/// minute later, and nobody wants to wait for it for longer.
pub(crate) fn deeds(count: usize, endings: usize, readers: &[Reader], chance: &mut StdRng) -> Vec<Deed> {
    let mut plan = Plan::default();
    let sleepers = (0..readers.len()).filter(|reader| readers[*reader].quiet == Some(Quiet::UntilEnded));
    // One after the other, the last one first, while functions die.
    let mut wakes: Vec<_> = sleepers
        .enumerate()
        .map(|(place, reader)| (endings.saturating_sub(6 * (place + 1)), reader))
        .collect();
    while plan.deeds.len() < count {
        if let Some((_, reader)) = wakes.pop_if(|(at, _)| *at <= plan.deeds.len()) {
            plan.deeds.push(Deed::Wake { reader });
            continue;
        }
        let may_end = plan.deeds.len() < endings;
        plan.go_on(may_end, readers.len(), count, chance);
    }
    plan.deeds
}

/// What is done so far.
#[derive(Default)]
struct Plan {
    deeds: Vec<Deed>,
    /// The author and all forms of each post, the last one as it is; none where it was deleted.
    posts: Vec<(usize, Vec<Form>)>,
    /// Who are hidden from each other.
    blocks: BTreeSet<(usize, usize)>,
}

impl Plan {
    fn go_on(&mut self, may_end: bool, readers: usize, count: usize, chance: &mut StdRng) {
        let living: Vec<usize> =
            (0..self.posts.len()).filter(|post| !self.posts[*post].1.is_empty()).collect();
        let Some(post) = living.choose(chance).copied().filter(|_| chance.random_bool(0.6)) else {
            return self.post(chance);
        };
        let (author, by) = (self.posts[post].0, chance.random_range(0..readers));
        let is_hidden = self.blocks.contains(&(by, author)) || self.blocks.contains(&(author, by));
        match chance.random_range(0..22) {
            0..4 => self.deeds.push(Deed::Read { reader: by }),
            4 | 5 if !is_hidden => self.deeds.push(Deed::Confirm { post, by }),
            6 if by != author && !is_hidden => {
                let (by, whom) = *[(by, author), (author, by)].choose(chance).unwrap();
                self.blocks.insert((by, whom));
                self.deeds.push(Deed::Block { by, whom });
            }
            7 | 8 if self.deeds.len() > count / 2 => {
                self.posts[post].1.clear();
                self.deeds.push(Deed::Delete { post });
            }
            _ => {
                let (_, forms) = &mut self.posts[post];
                if let Some(form) = changed(forms, may_end, self.deeds.len(), chance) {
                    forms.push(form.clone());
                    self.deeds.push(Deed::Change { post, form });
                }
            }
        }
    }

    fn post(&mut self, chance: &mut StdRng) {
        let author = chance.random_range(0..AUTHORS);
        let place = *PLACES.choose(chance).unwrap();
        let form = Form {
            title: format!("Post {}", self.posts.len()),
            category: CATEGORIES.choose(chance).unwrap(),
            tags: tags(chance),
            severity: chance.random_range(0..4),
            place,
            area: chance.random_bool(0.3).then(|| area(place, chance)),
            status: Status::Active,
        };
        self.posts.push((author, vec![form.clone()]));
        self.deeds.push(Deed::Post { author, form });
    }
}

fn area(place: Place, chance: &mut StdRng) -> Area {
    REACHES.choose(chance).unwrap().around(place)
}

/// Another form of a post, which may be as it was before. What has ended stays as it is.
fn changed(forms: &[Form], may_end: bool, number: usize, chance: &mut StdRng) -> Option<Form> {
    let form = forms.last().filter(|form| form.status == Status::Active)?.clone();
    Some(match chance.random_range(0..8) {
        0 | 1 if form.severity + 1 < SEVERITIES.len() => {
            Form { severity: chance.random_range(form.severity + 1..SEVERITIES.len()), ..form }
        }
        2 => {
            let others = PLACES.iter().filter(|place| form.place != **place);
            let place = *others.choose(chance)?;
            Form { place, area: form.area.map(|_| area(place, chance)), ..form }
        }
        3 => {
            let others = CATEGORIES.iter().filter(|name| form.category != **name);
            Form { category: others.choose(chance)?, ..form }
        }
        4 => {
            let area = form.area.is_none().then(|| area(form.place, chance));
            Form { area, ..form }
        }
        5 if may_end => Form { status: Status::Resolved, ..form },
        6 if may_end => Form { status: Status::Cancelled, ..form },
        _ => Form { title: format!("{}, changed by {number}", form.title), ..form },
    })
}

#[test]
fn nothing_lies_so_near_to_a_border_that_one_could_argue() {
    for (place, other) in PLACES.iter().flat_map(|place| PLACES.iter().map(move |other| (*place, *other))) {
        let areas = REACHES.iter().map(|reach| Some(reach.around(place)));
        for area in areas.chain([None]) {
            let metres = Form { place, area, ..Form::default() }.metres_from(other);
            for radius in RADII {
                assert!(
                    (metres - radius).abs() > radius / 20.0,
                    "{area:?} at {place:?} from {other:?}: {metres}"
                );
            }
        }
    }
}
