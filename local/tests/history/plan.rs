//! What a seed makes of a town: its people, and what is done there.

use std::collections::BTreeSet;

use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, IteratorRandom as _},
};

use crate::model::{Form, Place, Reader, SEVERITIES, Status, Wish};

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

/// Something that somebody does. Posts are named by their place in the order of posting.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Post { author: usize, form: Form },
    Change { post: usize, form: Form },
    Delete { post: usize },
    Confirm { post: usize, by: usize },
    Read { reader: usize },
}

/// The people. The first [`AUTHORS`] write.
pub(crate) fn readers(chance: &mut StdRng) -> Vec<Reader> {
    let number = AUTHORS + READERS;
    (0..number).map(|number| reader(format!("reader{number}"), chance)).collect()
}

fn reader(name: String, chance: &mut StdRng) -> Reader {
    let devices = *[0, 1, 1, 1, 2].choose(chance).unwrap();
    let muted = if chance.random_bool(0.2) { CATEGORIES.choose(chance).copied() } else { None };
    Reader {
        devices: (0..devices).map(|number| format!("{name}-{number}")).collect(),
        wishes: (0..chance.random_range(1..=4)).map(|_| wish(chance)).collect(),
        muted: muted.into_iter().collect(),
        least: if chance.random_bool(0.2) { chance.random_range(1..4) } else { 0 },
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

/// What is done, in order.
pub(crate) fn deeds(count: usize, readers: usize, chance: &mut StdRng) -> Vec<Deed> {
    let (mut deeds, mut posts) = (Vec::new(), Vec::<Option<Form>>::new());
    while deeds.len() < count {
        let living: Vec<usize> = (0..posts.len()).filter(|post| posts[*post].is_some()).collect();
        let Some(post) = living.choose(chance).copied().filter(|_| chance.random_bool(0.55)) else {
            let number = posts.len();
            let author = chance.random_range(0..AUTHORS);
            let form = Form {
                title: format!("Post {number}"),
                category: CATEGORIES.choose(chance).unwrap(),
                tags: tags(chance),
                severity: chance.random_range(0..4),
                place: *PLACES.choose(chance).unwrap(),
                status: Status::Active,
            };
            posts.push(Some(form.clone()));
            deeds.push(Deed::Post { author, form });
            continue;
        };
        let Some(before) = posts[post].clone() else { continue };
        let by = chance.random_range(0..readers);
        let deed = match chance.random_range(0..10) {
            0 | 1 => Deed::Read { reader: by },
            2 => Deed::Confirm { post, by },
            3 if deeds.len() > count / 2 => {
                posts[post] = None;
                Deed::Delete { post }
            }
            _ => match changed(&before, deeds.len(), chance) {
                Some(form) => {
                    posts[post] = Some(form.clone());
                    Deed::Change { post, form }
                }
                None => continue,
            },
        };
        deeds.push(deed);
    }
    deeds
}

/// Another form of a post. What has ended stays as it is.
fn changed(form: &Form, number: usize, chance: &mut StdRng) -> Option<Form> {
    if form.status != Status::Active {
        return None;
    }
    let form = form.clone();
    Some(match chance.random_range(0..7) {
        // Only worse: an edit is made of what its author sees, and that it changes nothing of that is no edit.
        0 | 1 if form.severity + 1 < SEVERITIES.len() => {
            Form { severity: chance.random_range(form.severity + 1..SEVERITIES.len()), ..form }
        }
        2 => Form { place: *PLACES.iter().filter(|place| **place != form.place).choose(chance)?, ..form },
        3 => {
            let others = CATEGORIES.into_iter().filter(|category| *category != form.category);
            Form { category: others.choose(chance)?, ..form }
        }
        4 => Form { status: Status::Resolved, ..form },
        5 => Form { status: Status::Cancelled, ..form },
        _ => Form { title: format!("{}, changed by {number}", form.title), ..form },
    })
}
