//! The promises, held against what happened: a pure function of a recorded history and of what everybody has at its end.
//!
//! - Every accepted post is in the timeline of each of its audience exactly once, as it was last changed, and in nobody
//!   else's; what was deleted is in none.
//! - It was pushed at least once to each device that should ring, never for what its owner did not ask for, and at most
//!   once to each device.
//!
//! Between accepting and pushing a post may change, and then both is right: to have rung for what it was, and not to have.
//! So a device *must* ring where that was so in every form that the post had since, and *may* where it was in one.
//! - What was held while it was quiet somewhere is told once it is quiet no more, by a digest or by a push of its own, and
//!   once. A digest names some of its posts, and says how many they are.
//! - Who is hidden from each other sees nothing of the other's, and is told of nothing that happened afterwards.
//!
//! "At least once" and "at most once" contradict each other where SNS takes a push and nobody learns it: its answer was
//! lost, or who asked died before it was written down. There is no key by which SNS would tell a repetition. A bell that
//! may not ring is worse than one that rings twice, whose second push takes the place of the first on the phone: so
//! there at least once is kept. Each such case allows one more push of that news to that device, and nothing else does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    model::{Form, Reader, SEVERITIES, Status},
    record::{Event, Fate},
};

/// What everybody has at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Each reader's timeline, the newest first, by name.
    pub(crate) timelines: BTreeMap<String, Vec<Seen>>,
}

/// A post, as somebody sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) post: String,
    pub(crate) title: String,
    pub(crate) severity: String,
    pub(crate) status: String,
    pub(crate) confirmations: usize,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// A post is missing from a timeline.
    Lost { reader: String, post: String },
    /// A post is in a timeline more than once.
    Doubled { reader: String, post: String },
    /// A post is in a timeline in which it should not be.
    Uninvited { reader: String, post: String },
    /// A timeline is not in the order of the posts' ids.
    Disordered { reader: String },
    /// A post is not as it was last changed.
    Outdated { reader: String, post: String },
    /// A device did not ring.
    Silent { device: String, post: String, news: String },
    /// A device rang again.
    RangAgain { device: String, post: String, news: String },
    /// What was held for a device was not told: so many of these posts.
    Untold { device: String, count: usize, posts: Vec<String> },
    /// A device rang for what its owner did not ask for, or while it was quiet.
    Disturbed { device: String, post: String, news: String },
}

/// How long after SNS has answered it is written down that a device rang, on a busy machine.
const WRITTEN_DOWN: Duration = Duration::from_secs(2);

/// Who asks SNS waits for three seconds, some of which a busy machine takes for itself: an answer that took as long as this
/// may have come too late.
const SLOW: Duration = Duration::from_millis(1_500);

/// Who asks SNS.
const DELIVERERS: [&str; 2] = ["deliver-push", "deliver-digest"];

/// What became of a post.
pub(crate) struct Life {
    author: String,
    /// What it was, from the first on, and since when.
    pub(crate) forms: Vec<Form>,
    since: Vec<Duration>,
    deleted: bool,
    confirmed_by: BTreeSet<String>,
}

/// What a reader's phones may ring for besides their wishes.
struct Situation<'a> {
    reader: &'a Reader,
    /// From whom they are hidden, and since when.
    hidden: BTreeMap<&'a str, Duration>,
    /// Until when it is quiet.
    quiet_until: Duration,
}

impl<'a> Situation<'a> {
    fn of(reader: &'a Reader, events: &'a [(Duration, Event)]) -> Self {
        let (mut hidden, mut woken) = (BTreeMap::new(), Vec::new());
        for (at, event) in events {
            match event {
                Event::Blocked { by, whom } if *by == reader.name => drop(hidden.insert(whom.as_str(), *at)),
                Event::Blocked { by, whom } if *whom == reader.name => drop(hidden.insert(by.as_str(), *at)),
                Event::Woken { reader: woken_reader, from } if *woken_reader == reader.name => {
                    woken.push(*from);
                }
                _ => {}
            }
        }
        let quiet_until = match reader.quiet {
            None => Duration::ZERO,
            Some(_) => woken.into_iter().min().unwrap_or(Duration::MAX),
        };
        Self { reader, hidden, quiet_until }
    }

    fn is_hidden_from(&self, life: &Life, at: Duration) -> bool {
        self.hidden.get(life.author.as_str()).is_some_and(|since| *since <= at)
    }

    /// Whether they are to be told of news of a post: not of their own, nor of what happened when they were hidden from
    /// its author.
    fn is_for_them(&self, life: &Life, news_at: Duration) -> bool {
        self.reader.name != life.author && !self.is_hidden_from(life, news_at)
    }
}

/// A request to SNS.
#[derive(Clone, Copy, Debug)]
struct Ring {
    asked: Duration,
    answered: Duration,
    fate: Fate,
}

/// The promises that were not kept.
pub(crate) fn check(readers: &[Reader], events: &[(Duration, Event)], outcome: &Outcome) -> BTreeSet<Broken> {
    let lives = lives(events);
    let mut broken = BTreeSet::new();
    for reader in readers {
        let situation = Situation::of(reader, events);
        broken.extend(check_timeline(&situation, &lives, outcome));
        broken.extend(check_reads(&situation, &lives, events));
        broken.extend(check_pushes(&situation, &lives, events));
        broken.extend(check_digests(&situation, &lives, events));
    }
    broken
}

pub(crate) fn lives(events: &[(Duration, Event)]) -> BTreeMap<String, Life> {
    let mut lives = BTreeMap::new();
    for (at, event) in events {
        if let Event::Posted { post, author, form } = event {
            let life = Life {
                author: author.clone(),
                forms: vec![form.clone()],
                since: vec![*at],
                deleted: false,
                confirmed_by: BTreeSet::new(),
            };
            lives.insert(post.clone(), life);
        }
    }
    for (at, event) in events {
        match event {
            Event::Changed { post, form } => {
                if let Some(life) = lives.get_mut(post) {
                    life.forms.push(form.clone());
                    life.since.push(*at);
                }
            }
            Event::Deleted { post } => {
                if let Some(life) = lives.get_mut(post) {
                    life.deleted = true;
                }
            }
            Event::Confirmed { post, by } => {
                if let Some(life) = lives.get_mut(post) {
                    life.confirmed_by.insert(by.clone());
                }
            }
            _ => {}
        }
    }
    lives
}

fn doubled(reader: &str, posts: &[String]) -> Vec<Broken> {
    let mut once = BTreeSet::new();
    let again = posts.iter().filter(|post| !once.insert(*post));
    again.map(|post| Broken::Doubled { reader: reader.to_owned(), post: post.clone() }).collect()
}

/// What somebody saw meanwhile.
fn check_reads(
    situation: &Situation<'_>,
    lives: &BTreeMap<String, Life>,
    events: &[(Duration, Event)],
) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut last = Duration::ZERO;
    for (at, event) in events {
        if let Event::Read { reader, posts } = event
            && *reader == situation.reader.name
        {
            broken.extend(doubled(reader, posts));
            let is_hidden =
                |post: &&String| lives.get(*post).is_some_and(|life| situation.is_hidden_from(life, last));
            let hidden = posts.iter().filter(is_hidden);
            broken
                .extend(hidden.map(|post| Broken::Uninvited { reader: reader.clone(), post: post.clone() }));
        }
        // What is done is done in turn: a read began after what was done before it.
        last = if is_a_deed(event) { *at } else { last };
    }
    broken
}

const fn is_a_deed(event: &Event) -> bool {
    matches!(
        event,
        Event::Posted { .. }
            | Event::Changed { .. }
            | Event::Deleted { .. }
            | Event::Confirmed { .. }
            | Event::Blocked { .. }
            | Event::Read { .. }
    )
}

fn check_timeline(
    situation: &Situation<'_>,
    lives: &BTreeMap<String, Life>,
    outcome: &Outcome,
) -> Vec<Broken> {
    let reader = situation.reader;
    let name = || reader.name.clone();
    let seen = outcome.timelines.get(&reader.name).map(Vec::as_slice).unwrap_or_default();
    let posts: Vec<String> = seen.iter().map(|seen| seen.post.clone()).collect();
    let mut broken = doubled(&reader.name, &posts);
    if !posts.is_sorted_by(|newer, older| newer >= older) {
        broken.push(Broken::Disordered { reader: name() });
    }
    let is_expected = |life: &Life| {
        let is_hidden = situation.is_hidden_from(life, Duration::MAX);
        !life.deleted && !is_hidden && life.forms.last().is_some_and(|form| reader.follows(form))
    };
    for (post, life) in lives {
        let (post, found) = (post.clone(), seen.iter().find(|seen| seen.post == *post));
        match (is_expected(life), found) {
            (true, None) => broken.push(Broken::Lost { reader: name(), post }),
            (false, Some(_)) => broken.push(Broken::Uninvited { reader: name(), post }),
            (true, Some(found)) if !is_as_last_changed(found, life) => {
                broken.push(Broken::Outdated { reader: name(), post });
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    let strangers = posts.into_iter().filter(|post| !lives.contains_key(post));
    broken.extend(strangers.map(|post| Broken::Uninvited { reader: name(), post }));
    broken
}

fn is_as_last_changed(seen: &Seen, life: &Life) -> bool {
    life.forms.last().is_some_and(|form| {
        seen.title == form.title
            && seen.severity == SEVERITIES[form.severity]
            && seen.status == form.status.name()
            && seen.confirmations == life.confirmed_by.len()
    })
}

fn check_pushes(
    situation: &Situation<'_>,
    lives: &BTreeMap<String, Life>,
    events: &[(Duration, Event)],
) -> Vec<Broken> {
    let reader = situation.reader;
    let mut rings: BTreeMap<(&str, &str, &str), Vec<Ring>> = BTreeMap::new();
    for (answered, event) in events {
        if let Event::Publish { asked, reader: owner, device, post, news, fate } = event
            && *owner == reader.name
        {
            let ring = Ring { asked: *asked, answered: *answered, fate: *fate };
            rings.entry((device, post, news)).or_default().push(ring);
        }
    }
    let mut broken = Vec::new();
    // What was held is told otherwise.
    for device in reader.devices.iter().filter(|_| reader.quiet.is_none()) {
        for (post, life) in lives {
            let is_any = |news: &str, is: fn(Fate) -> bool| {
                let all = rings.get(&(device.as_str(), post.as_str(), news));
                all.is_some_and(|all| all.iter().any(|ring| is(ring.fate)))
            };
            // Where the answer was lost, Tocsin knows of no ring whose end was to be told.
            let knows = |news: &str| is_any(news, |fate| fate == Fate::Taken);
            let must: BTreeSet<_> = must_ring(situation, life, &knows).into_iter().collect();
            let silent = must.into_iter().filter(|news| !is_any(news, Fate::rings));
            broken.extend(silent.map(|news| Broken::Silent {
                device: device.clone(),
                post: post.clone(),
                news,
            }));
        }
    }
    for ((device, post, news), all) in rings {
        let name = || (device.to_owned(), post.to_owned(), news.to_owned());
        let rung: Vec<Ring> = all.into_iter().filter(|ring| ring.fate.rings()).collect();
        if rung.windows(2).any(|pair| !may_be_repeated(pair[0], pair[1], events)) {
            let (device, post, news) = name();
            broken.push(Broken::RangAgain { device, post, news });
        }
        let is_wanted = |life: &Life| {
            let is_quiet = rung.iter().any(|ring| ring.asked < situation.quiet_until);
            may_ring(situation, life, news) && (!is_quiet || breaks_through(life))
        };
        if !rung.is_empty() && !lives.get(post).is_some_and(is_wanted) {
            let (device, post, news) = name();
            broken.push(Broken::Disturbed { device, post, news });
        }
    }
    broken
}

/// What was held is told, once, when it is quiet no more.
fn check_digests(
    situation: &Situation<'_>,
    lives: &BTreeMap<String, Life>,
    events: &[(Duration, Event)],
) -> Vec<Broken> {
    let mut broken = Vec::new();
    for device in situation.reader.devices.iter().filter(|_| situation.reader.quiet.is_some()) {
        let (mut told, mut unnamed) = (BTreeSet::<&str>::new(), 0);
        let mut named = BTreeMap::<&str, Vec<Ring>>::new();
        for (answered, event) in events {
            match event {
                Event::Publish { device: rung, post, fate, .. } if rung == device && fate.rings() => {
                    told.insert(post);
                }
                Event::Digest { asked, device: rung, posts, count, fate, .. }
                    if rung == device && fate.rings() =>
                {
                    let digest = Ring { asked: *asked, answered: *answered, fate: *fate };
                    for post in posts {
                        named.entry(post).or_default().push(digest);
                    }
                    unnamed += count.saturating_sub(posts.len());
                }
                _ => {}
            }
        }
        for (post, rings) in &named {
            let of = |news: &str| (device.clone(), (*post).to_owned(), news.to_owned());
            let is_wanted = |life: &Life| {
                let is_quiet = rings.iter().any(|ring| ring.asked < situation.quiet_until);
                !is_quiet && all_news(life).iter().any(|news| may_ring(situation, life, news))
            };
            if !lives.get(*post).is_some_and(is_wanted) {
                let (device, post, news) = of("digest");
                broken.push(Broken::Disturbed { device, post, news });
            }
            // A digest each of what was news at another time.
            let repeated = rings.windows(2).filter(|pair| !may_be_repeated(pair[0], pair[1], events)).count();
            if repeated >= lives.get(*post).map_or(1, |life| all_news(life).len()) {
                let (device, post, news) = of("digest");
                broken.push(Broken::RangAgain { device, post, news });
            }
        }
        told.extend(named.into_keys());
        let must = lives.iter().filter(|(_, life)| must_be_told(situation, life));
        let missing: Vec<_> =
            must.map(|(post, _)| post).filter(|post| !told.contains(post.as_str())).collect();
        if missing.len() > unnamed {
            let posts = missing.iter().copied().cloned().collect();
            broken.push(Broken::Untold { device: device.clone(), count: missing.len() - unnamed, posts });
        }
    }
    broken
}

/// Whether somebody is told of a post in any case, were it at the end of quiet hours.
fn must_be_told(situation: &Situation<'_>, life: &Life) -> bool {
    must_ring(situation, life, &|_| false).contains(&"posted".to_owned())
}

/// All that a post was news for.
fn all_news(life: &Life) -> BTreeSet<String> {
    let ends = life.forms.iter().filter(|form| form.status != Status::Active);
    let ends = ends.map(|form| form.status.name().to_owned());
    let raises = raises(life).into_iter().map(|(_, news)| news);
    ends.chain(raises).chain(["posted".to_owned()]).collect()
}

/// Whether a post rings also while it is quiet, at least as it was for a while.
fn breaks_through(life: &Life) -> bool {
    life.forms.iter().any(|form| SEVERITIES[form.severity] == "extreme")
}

/// The news for which each of somebody's devices must ring.
fn must_ring(situation: &Situation<'_>, life: &Life, knows: &impl Fn(&str) -> bool) -> Vec<String> {
    let reader = situation.reader;
    if life.deleted || !situation.is_for_them(life, Duration::MAX) {
        return Vec::new();
    }
    let is_told = |form: &Form| form.status == Status::Active && reader.listens_to(form);
    let mut must = Vec::new();
    if life.forms.iter().all(is_told) {
        must.push("posted".to_owned());
    }
    for (place, news) in raises(life) {
        let severity = life.forms[place].severity;
        if life.forms[place..].iter().all(|form| is_told(form) && form.severity >= severity) {
            must.push(news);
        }
    }
    // That it has ended is for those who were told of it.
    let was_told = knows("posted") || raises(life).iter().any(|(_, news)| knows(news));
    if let Some(end) = life.forms.last().filter(|form| form.status != Status::Active)
        && was_told
        && reader.listens_to(end)
    {
        must.push(end.status.name().to_owned());
    }
    must
}

/// Whether a device of somebody's may ring for news of a post.
fn may_ring(situation: &Situation<'_>, life: &Life, news: &str) -> bool {
    let reader = situation.reader;
    let is_for_them = |place: usize| situation.is_for_them(life, life.since[place]);
    // Who is told is found by what a post is, and whether their phones ring is decided a moment later, by what it is then.
    let listens = |forms: &[Form]| {
        let asked = forms.iter().position(|form| reader.asks_for(form));
        asked.is_some_and(|asked| forms[asked..].iter().any(|form| reader.allows(form)))
    };
    match news {
        "posted" => is_for_them(0) && listens(&life.forms),
        "resolved" | "cancelled" => {
            let ended = life.forms.iter().position(|form| form.status.name() == news);
            listens(&life.forms) && ended.is_some_and(is_for_them)
        }
        _ => {
            let mut raises = raises(life).into_iter();
            raises
                .any(|(place, raised)| raised == news && is_for_them(place) && listens(&life.forms[place..]))
        }
    }
}

/// The forms in which a post was worse than before, and the news that this was.
pub(crate) fn raises(life: &Life) -> Vec<(usize, String)> {
    let pairs = life.forms.windows(2).enumerate();
    let raised = pairs.filter(|(_, pair)| pair[1].severity > pair[0].severity);
    raised.map(|(place, pair)| (place + 1, format!("raised-{}", SEVERITIES[pair[1].severity]))).collect()
}

/// Whether nobody could know that a device had rung when it rang again.
fn may_be_repeated(first: Ring, second: Ring, events: &[(Duration, Event)]) -> bool {
    let is_slow = first.answered.saturating_sub(first.asked) >= SLOW;
    let unanswered = first.fate == Fate::TakenUnanswered || is_slow;
    let died = events.iter().any(|(killed, event)| {
        let Event::Killed { function, from } = event else { return false };
        DELIVERERS.contains(&function.as_str())
            && *killed >= first.asked
            && *from <= first.answered + WRITTEN_DOWN
            && *from <= second.asked
    });
    unanswered || died
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::model::{Quiet, Wish};

    const AT: Duration = Duration::from_secs(10);

    fn ada() -> Reader {
        let wish = Wish { category: "fire", push: true, ..Wish::default() };
        Reader {
            name: "ada".to_owned(),
            devices: vec!["phone".to_owned()],
            wishes: vec![wish],
            ..Reader::default()
        }
    }

    fn fire(title: &str) -> Form {
        Form { title: title.to_owned(), category: "fire", severity: 1, ..Form::default() }
    }

    fn posted(post: &str) -> (Duration, Event) {
        let (post, author) = (post.to_owned(), "bob".to_owned());
        (AT, Event::Posted { form: fire(&post), post, author })
    }

    fn changed(post: &str, form: Form) -> (Duration, Event) {
        (AT, Event::Changed { post: post.to_owned(), form })
    }

    fn push(seconds: u64, post: &str, news: &str, fate: Fate) -> (Duration, Event) {
        let asked = Duration::from_secs(seconds);
        let (reader, device) = ("ada".to_owned(), "phone".to_owned());
        (asked, Event::Publish { asked, reader, device, post: post.to_owned(), news: news.to_owned(), fate })
    }

    fn killed(seconds: u64) -> (Duration, Event) {
        let from = Duration::from_secs(seconds);
        (from, Event::Killed { function: "deliver-push".to_owned(), from })
    }

    fn seen(form: &Form, post: &str) -> Seen {
        Seen {
            post: post.to_owned(),
            title: form.title.clone(),
            severity: SEVERITIES[form.severity].to_owned(),
            status: form.status.name().to_owned(),
            confirmations: 0,
        }
    }

    /// What is broken where Ada has these posts at the end.
    fn broken(events: &[(Duration, Event)], timeline: Vec<Seen>) -> Vec<Broken> {
        let outcome = Outcome { timelines: BTreeMap::from([("ada".to_owned(), timeline)]) };
        check(&[ada()], events, &outcome).into_iter().collect()
    }

    fn lost(post: &str) -> Broken {
        Broken::Lost { reader: "ada".to_owned(), post: post.to_owned() }
    }

    fn of_phone(post: &str, news: &str) -> (String, String, String) {
        ("phone".to_owned(), post.to_owned(), news.to_owned())
    }

    fn silent(post: &str, news: &str) -> Broken {
        let (device, post, news) = of_phone(post, news);
        Broken::Silent { device, post, news }
    }

    fn rang_again(post: &str, news: &str) -> Broken {
        let (device, post, news) = of_phone(post, news);
        Broken::RangAgain { device, post, news }
    }

    fn disturbed(post: &str, news: &str) -> Broken {
        let (device, post, news) = of_phone(post, news);
        Broken::Disturbed { device, post, news }
    }

    #[test]
    fn a_history_in_which_everything_is_kept_breaks_nothing() {
        let raised = Form { severity: 3, ..fire("p1") };
        let over = Form { status: Status::Resolved, ..raised.clone() };
        let events = [
            posted("p1"),
            posted("p2"),
            push(11, "p1", "posted", Fate::Throttled),
            push(12, "p1", "posted", Fate::Failed),
            push(13, "p1", "posted", Fate::Unreached),
            push(14, "p1", "posted", Fate::Taken),
            push(14, "p2", "posted", Fate::Taken),
            changed("p1", raised.clone()),
            push(15, "p1", "raised-severe", Fate::Taken),
            changed("p1", over.clone()),
            push(16, "p1", "resolved", Fate::Taken),
        ];
        assert_eq!(broken(&events, vec![seen(&fire("p2"), "p2"), seen(&over, "p1")]), []);
    }

    #[test]
    fn a_lost_post_a_doubled_one_and_a_strange_one_are_found() {
        let rings = ["p1", "p2"].map(|post| push(11, post, "posted", Fate::Taken));
        let events = [vec![posted("p1"), posted("p2")], rings.to_vec()].concat();
        let (p1, p2) = (seen(&fire("p1"), "p1"), seen(&fire("p2"), "p2"));
        assert_eq!(broken(&events, vec![p2.clone()]), [lost("p1")]);
        let twice = vec![p2.clone(), p1.clone(), p1.clone()];
        assert_eq!(broken(&events, twice), [Broken::Doubled { reader: "ada".into(), post: "p1".into() }]);
        let strange = vec![seen(&fire("p3"), "p3"), p2.clone(), p1.clone()];
        assert_eq!(broken(&events, strange), [Broken::Uninvited { reader: "ada".into(), post: "p3".into() }]);
        assert_eq!(
            broken(&events, vec![p1.clone(), p2.clone()]),
            [Broken::Disordered { reader: "ada".into() }]
        );
        // Also one that was there twice for a while.
        let read = Event::Read { reader: "ada".into(), posts: vec!["p1".into(), "p1".into()] };
        let events = [events, vec![(AT, read)]].concat();
        let doubled = Broken::Doubled { reader: "ada".into(), post: "p1".into() };
        assert_eq!(broken(&events, vec![p2, p1]), [doubled]);
    }

    #[test]
    fn what_is_deleted_moves_away_or_is_out_of_date_is_found() {
        let rings = push(11, "p1", "posted", Fate::Taken);
        let uninvited = Broken::Uninvited { reader: "ada".into(), post: "p1".into() };
        let outdated = Broken::Outdated { reader: "ada".into(), post: "p1".into() };
        let as_posted = || vec![seen(&fire("p1"), "p1")];
        let deleted = (AT, Event::Deleted { post: "p1".into() });
        assert_eq!(broken(&[posted("p1"), rings.clone(), deleted], as_posted()), from_ref(&uninvited));
        let flood = changed("p1", Form { category: "flood", ..fire("p1") });
        assert_eq!(broken(&[posted("p1"), rings.clone(), flood.clone()], as_posted()), [uninvited]);
        assert_eq!(broken(&[posted("p1"), rings.clone(), flood], vec![]), []);
        let again = changed("p1", fire("p1, again"));
        assert_eq!(broken(&[posted("p1"), rings.clone(), again], as_posted()), from_ref(&outdated));
        let confirmed = (AT, Event::Confirmed { post: "p1".into(), by: "eve".into() });
        assert_eq!(broken(&[posted("p1"), rings, confirmed], as_posted()), [outdated]);
    }

    #[test]
    fn a_missing_push_is_found() {
        let timeline = |form: &Form| vec![seen(form, "p1")];
        assert_eq!(broken(&[posted("p1")], timeline(&fire("p1"))), [silent("p1", "posted")]);
        for fate in [Fate::Throttled, Fate::Failed, Fate::Unreached] {
            let events = [posted("p1"), push(11, "p1", "posted", fate)];
            assert_eq!(broken(&events, timeline(&fire("p1"))), [silent("p1", "posted")], "{fate:?}");
        }
        let severe = Form { severity: 3, ..fire("p1") };
        let rang = push(11, "p1", "posted", Fate::Taken);
        let raised = [posted("p1"), rang.clone(), changed("p1", severe.clone())];
        assert_eq!(broken(&raised, timeline(&severe)), [silent("p1", "raised-severe")]);
        let over = Form { status: Status::Cancelled, ..fire("p1") };
        let ended = [posted("p1"), rang, changed("p1", over.clone())];
        assert_eq!(broken(&ended, timeline(&over)), [silent("p1", "cancelled")]);
        // Who was not told that it had begun need not be told of either.
        assert_eq!(broken(&[posted("p1"), changed("p1", over.clone())], timeline(&over)), []);
    }

    #[test]
    fn a_push_that_nobody_asked_for_is_found() {
        let rang = |news| push(11, "p1", news, Fate::Taken);
        let form = fire("p1");
        let timeline = || vec![seen(&form, "p1")];
        for news in ["raised-severe", "resolved", "cancelled"] {
            let events = [posted("p1"), rang("posted"), rang(news)];
            assert_eq!(broken(&events, timeline()), [disturbed("p1", news)]);
        }
        let flood = Form { category: "flood", ..fire("p1") };
        let of_flood = Event::Posted { post: "p1".into(), author: "bob".into(), form: flood };
        assert_eq!(broken(&[(AT, of_flood), rang("posted")], vec![]), [disturbed("p1", "posted")]);
        let own = Event::Posted { post: "p1".into(), author: "ada".into(), form: form.clone() };
        assert_eq!(broken(&[(AT, own.clone()), rang("posted")], timeline()), [disturbed("p1", "posted")]);
        assert_eq!(broken(&[(AT, own)], timeline()), [], "her own is in her timeline, and rings nowhere");
    }

    #[test]
    fn a_post_that_changes_may_be_found_as_it_was_and_ring_as_it_is() {
        let deaf = Reader { muted: BTreeSet::from(["fire"]), ..ada() };
        let flood = Form { category: "flood", ..fire("p1") };
        let rang = push(11, "p1", "posted", Fate::Taken);
        let check = |events: &[(Duration, Event)], form: Option<&Form>| {
            let timeline = form.map(|form| seen(form, "p1")).into_iter().collect();
            let outcome = Outcome { timelines: BTreeMap::from([("ada".to_owned(), timeline)]) };
            check(from_ref(&deaf), events, &outcome).into_iter().collect::<Vec<_>>()
        };
        let muted = [posted("p1"), rang.clone()];
        assert_eq!(check(&muted, Some(&fire("p1"))), [disturbed("p1", "posted")]);
        assert_eq!(check(&[posted("p1"), changed("p1", flood), rang], None), []);
    }

    #[test]
    fn a_doubled_push_is_found_and_forgiven_only_where_nobody_could_know() {
        let timeline = || vec![seen(&fire("p1"), "p1")];
        let again = |between: Vec<(Duration, Event)>, first: Fate| {
            let rings = [push(20, "p1", "posted", first), push(90, "p1", "posted", Fate::Taken)];
            broken(&[vec![posted("p1")], between, rings.to_vec()].concat(), timeline())
        };
        let doubled = [rang_again("p1", "posted")];
        assert_eq!(again(vec![], Fate::Taken), doubled);
        assert_eq!(again(vec![], Fate::TakenUnanswered), []);
        assert_eq!(again(vec![killed(20)], Fate::Taken), []);
        assert_eq!(again(vec![killed(21)], Fate::Taken), []);
        // Long after it was written down, before it rang, or of another function: that is no reason.
        assert_eq!(again(vec![killed(30)], Fate::Taken), doubled);
        assert_eq!(again(vec![killed(19)], Fate::Taken), doubled);
        let other = (Duration::from_secs(20), Event::Killed { function: "load-timelines".into(), from: AT });
        assert_eq!(again(vec![other], Fate::Taken), doubled);
        let late = |milliseconds| {
            let (_, asked) = push(20, "p1", "posted", Fate::Taken);
            let first = (Duration::from_millis(milliseconds), asked);
            broken(&[posted("p1"), first, push(90, "p1", "posted", Fate::Taken)], timeline())
        };
        assert_eq!(
            (late(21_600), late(21_400)),
            (vec![], doubled.to_vec()),
            "an answer that may have come too late"
        );
        // One reason is one more push, and not two.
        let thrice = [
            posted("p1"),
            push(20, "p1", "posted", Fate::TakenUnanswered),
            push(21, "p1", "posted", Fate::Taken),
            push(22, "p1", "posted", Fate::Taken),
        ];
        assert_eq!(broken(&thrice, timeline()), doubled);
    }

    fn blocked(seconds: u64) -> (Duration, Event) {
        (Duration::from_secs(seconds), Event::Blocked { by: "ada".into(), whom: "bob".into() })
    }

    #[test]
    fn what_is_of_somebody_hidden_is_found() {
        let timeline = || vec![seen(&fire("p1"), "p1")];
        let uninvited = Broken::Uninvited { reader: "ada".into(), post: "p1".into() };
        let rang = push(12, "p1", "posted", Fate::Taken);
        // Posted before: it may ring, and need not; and is in no timeline afterwards.
        assert_eq!(broken(&[posted("p1"), blocked(11)], vec![]), []);
        assert_eq!(broken(&[posted("p1"), blocked(11), rang.clone()], vec![]), []);
        assert_eq!(broken(&[posted("p1"), blocked(11)], timeline()), from_ref(&uninvited));
        // Afterwards, also what happens to a post of before.
        assert_eq!(broken(&[blocked(9), posted("p1")], vec![]), []);
        let other_way = (AT, Event::Blocked { by: "bob".into(), whom: "ada".into() });
        for block in [blocked(9), other_way] {
            assert_eq!(broken(&[block, posted("p1"), rang.clone()], vec![]), [disturbed("p1", "posted")]);
        }
        let severe = Event::Changed { post: "p1".into(), form: Form { severity: 3, ..fire("p1") } };
        let raised = push(13, "p1", "raised-severe", Fate::Taken);
        let events = [posted("p1"), rang, blocked(11), (Duration::from_secs(12), severe), raised];
        assert_eq!(broken(&events, vec![]), [disturbed("p1", "raised-severe")]);
        let read = |seconds| {
            (Duration::from_secs(seconds), Event::Read { reader: "ada".into(), posts: vec!["p1".into()] })
        };
        assert_eq!(broken(&[posted("p1"), read(11), blocked(12)], vec![]), []);
        assert_eq!(broken(&[posted("p1"), blocked(12), read(13)], vec![]), [uninvited]);
    }

    /// What is broken where it is quiet at Ada's until 20 s, and four posts are posted.
    fn broken_at_night(more: Vec<(Duration, Event)>) -> Vec<Broken> {
        let ada = Reader { quiet: Some(Quiet::UntilEnded), ..ada() };
        let posts = ["p1", "p2", "p3", "p4"];
        let woken = (AT, Event::Woken { reader: "ada".into(), from: Duration::from_secs(20) });
        let events = [posts.map(posted).to_vec(), vec![woken], more].concat();
        let timeline = posts.iter().rev().map(|post| seen(&fire(post), post)).collect();
        let outcome = Outcome { timelines: BTreeMap::from([("ada".to_owned(), timeline)]) };
        check(&[ada], &events, &outcome).into_iter().collect()
    }

    fn digest(seconds: u64, posts: &[&str], count: usize, fate: Fate) -> (Duration, Event) {
        let asked = Duration::from_secs(seconds);
        let (reader, device) = ("ada".to_owned(), "phone".to_owned());
        let posts = posts.iter().map(|post| (*post).to_owned()).collect();
        (asked, Event::Digest { asked, reader, device, posts, count, fate })
    }

    #[test]
    fn what_was_held_is_told_once_when_it_is_quiet_no_more() {
        let taken = |seconds, posts: &[&str], count| digest(seconds, posts, count, Fate::Taken);
        let rang = |seconds, post| push(seconds, post, "posted", Fate::Taken);
        let whole = || taken(21, &["p1", "p2", "p3", "p4"], 4);
        assert_eq!(broken_at_night(vec![whole()]), []);
        assert_eq!(broken_at_night(vec![taken(21, &["p1", "p2"], 4)]), [], "some are not named");
        assert_eq!(broken_at_night(vec![taken(21, &["p1", "p2", "p3"], 3), rang(22, "p4")]), []);
        let untold = |posts: &[&str], count| Broken::Untold {
            device: "phone".into(),
            count,
            posts: posts.iter().map(|post| (*post).to_owned()).collect(),
        };
        assert_eq!(broken_at_night(vec![]), [untold(&["p1", "p2", "p3", "p4"], 4)]);
        let failed = digest(21, &["p1", "p2", "p3", "p4"], 4, Fate::Throttled);
        assert_eq!(broken_at_night(vec![failed]), [untold(&["p1", "p2", "p3", "p4"], 4)]);
        assert_eq!(broken_at_night(vec![taken(21, &["p1", "p2"], 3)]), [untold(&["p3", "p4"], 1)]);
        // Twice, and where nobody could know.
        let again = ["p1", "p2", "p3", "p4"].map(|post| rang_again(post, "digest"));
        assert_eq!(broken_at_night(vec![whole(), taken(99, &["p1", "p2", "p3", "p4"], 4)]), again);
        let lost = digest(21, &["p1", "p2", "p3", "p4"], 4, Fate::TakenUnanswered);
        assert_eq!(broken_at_night(vec![lost, taken(99, &["p1", "p2", "p3", "p4"], 4)]), []);
        // Too soon, by a digest, or by a push of what is not extreme.
        let soon = ["p1", "p2", "p3", "p4"].map(|post| disturbed(post, "digest"));
        assert_eq!(broken_at_night(vec![taken(19, &["p1", "p2", "p3", "p4"], 4)]), soon);
        assert_eq!(broken_at_night(vec![rang(19, "p4"), whole()]), [disturbed("p4", "posted")]);
        let extreme = changed("p4", Form { severity: 4, ..fire("p4") });
        let broke_through = broken_at_night(vec![rang(19, "p4"), extreme, whole()]);
        assert!(!broke_through.contains(&disturbed("p4", "posted")), "{broke_through:?}");
        // What is told of whom nobody asked.
        let strange = broken_at_night(vec![whole(), taken(22, &["p9", "p8"], 2)]);
        assert_eq!(strange, [disturbed("p8", "digest"), disturbed("p9", "digest")]);
    }
}
