//! How many messages a history may cost: what was posted and changed says how many must be sent, and what went wrong may
//! multiply them by some factor, but not without end.
//!
//! A step, or a job, that is tried again must not leave another one each time: that would show in no timeline and on no
//! phone, and bring down the bell when something is away for long.

use std::time::Duration;

use crate::{
    checker::{Life, lives, raises},
    model::{Form, Reader, Status},
    record::{Event, Fate},
    story::PART,
};

/// How many messages were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Of what is left of audiences.
    pub(crate) steps: usize,
    /// Of pushes, each time that they are tried or put off.
    pub(crate) turns: usize,
    /// Of people whose quiet hours have ended.
    pub(crate) digests: usize,
}

/// How much more there may be than must be: everything is in the log twice, and batches and messages are done again when
/// somebody died at them or was not heard.
const FACTOR: usize = 4;

impl Sent {
    /// Whether there are more messages of any kind.
    pub(crate) const fn exceeds(self, most: Self) -> bool {
        self.steps > most.steps || self.turns > most.turns || self.digests > most.digests
    }

    /// How many there may be at most.
    pub(crate) fn most(events: &[(Duration, Event)], readers: &[Reader]) -> Self {
        let lives = lives(events);
        let all = || lives.values();
        // Each time that SNS takes no more, those who are left of a job are another one.
        let throttled = events.iter().filter(|(_, event)| is_throttled(event)).count();
        let woken = events.iter().filter(|(_, event)| matches!(event, Event::Woken { .. })).count();
        Self {
            steps: FACTOR * all().map(|life| steps(life, readers)).sum::<usize>(),
            turns: FACTOR * all().map(|life| jobs(life, readers)).sum::<usize>() + throttled,
            digests: FACTOR * woken,
        }
    }
}

fn is_throttled(event: &Event) -> bool {
    matches!(event, Event::Publish { fate, .. } | Event::Digest { fate, .. } if *fate == Fate::Throttled)
}

/// How many steps it takes to tell everybody of a post: of each form the timelines, and of each news the phones, in parts of
/// the wishes that are looked at; and of its end the second look. (That a wish stands under several cells of an area, and is
/// looked at there as often, is within [`FACTOR`].)
fn steps(life: &Life, readers: &[Reader]) -> usize {
    let looked_at = |form: &Form| {
        let wishes = readers.iter().flat_map(|reader| &reader.wishes);
        wishes.filter(|wish| wish.category == form.category).count().div_ceil(PART)
    };
    let timelines: usize = life.forms.iter().map(looked_at).sum();
    let phones: usize = news(life).map(looked_at).sum();
    timelines + phones + usize::from(has_ended(life))
}

/// How many jobs it takes to ring everybody: at most one for each who asked to be rung, of each news; and again of its end.
fn jobs(life: &Life, readers: &[Reader]) -> usize {
    let asks = |form: &Form| readers.iter().filter(|reader| reader.asks_for(form)).count();
    let told: usize = news(life).map(asks).sum();
    told + if has_ended(life) { 2 } else { 0 }
}

/// What a post was when phones rang for it.
fn news(life: &Life) -> impl Iterator<Item = &Form> {
    life.forms.first().into_iter().chain(raises(life).into_iter().map(|(place, _)| &life.forms[place]))
}

fn has_ended(life: &Life) -> bool {
    life.forms.last().is_some_and(|form| form.status != Status::Active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Wish;

    #[test]
    fn messages_that_multiply_are_found() {
        let at = Duration::from_secs(1);
        let wish = |push| Wish { category: "fire", push, ..Wish::default() };
        // Two parts of wishes, by two who ask to be rung and many who do not.
        let readers: Vec<_> =
            (0..=PART).map(|number| Reader { wishes: vec![wish(number < 2)], ..Reader::default() }).collect();
        let form = |severity, status| Form { category: "fire", severity, status, ..Form::default() };
        let posted = Event::Posted { post: "p".into(), author: "eve".into(), form: form(1, Status::Active) };
        let changed = |form| (at, Event::Changed { post: "p".into(), form });
        let most = |events: &[(Duration, Event)]| Sent::most(events, &readers);
        let events = vec![(at, posted)];
        assert_eq!(most(&events), Sent { steps: 4 * FACTOR, turns: 2 * FACTOR, digests: 0 });
        let worse = [events, vec![changed(form(3, Status::Active))]].concat();
        assert_eq!(most(&worse), Sent { steps: 8 * FACTOR, turns: 4 * FACTOR, digests: 0 });
        let over = [worse.clone(), vec![changed(form(3, Status::Resolved))]].concat();
        assert_eq!(most(&over), Sent { steps: 11 * FACTOR, turns: 6 * FACTOR, digests: 0 });

        let sent = most(&worse);
        assert!(!sent.exceeds(sent));
        for more in [
            Sent { steps: sent.steps + 1, ..sent },
            Sent { turns: sent.turns + 1, ..sent },
            Sent { digests: sent.digests + 1, ..sent },
        ] {
            assert!(more.exceeds(sent), "{more:?}");
        }
        let woken = Event::Woken { reader: "ada".into(), from: at };
        assert_eq!(most(&[(at, woken)]).digests, FACTOR);
    }
}
