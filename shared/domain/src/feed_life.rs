//! The life of what a feed tells of: which posts an entry makes, changes and ends, whatever came before it, and in whatever order.
//!
//! An entry without a message is what it is: its items are posts, each under its own id, and what is unchanged changes nothing.
//! What is no longer listed stays. An entry may have several ids, as an earthquake has that several networks have located: it is
//! the same by whichever of them it goes, and of two that turn out to be the same, one post is left.
//!
//! Messages are about each other. Which of them hold is a matter of all that are known, and not of the order in which they
//! came: a message holds unless another, that updates or cancels, refers to it (of two that refer to each other the later one
//! holds); and one that cancels never holds. So those that a message refers to may be unknown, ended, or several, and of two that update the same one both hold (an
//! authority that divides an area in two sends such). A message that holds has its posts: those of the messages that it took
//! the place of, where they are of the same place, so that a hazard that is issued again is the same post, and rings nobody again;
//! and new ones for what is left.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, btree_map::Entry as Slot},
    iter,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{
    feed_item::{Action, Entry, Item, Message, MessageId},
    feed_post::Told,
    ids::PostId,
    time::Timestamp,
};

/// What is known of a feed's entries. Its form is kept: see the adapters' number of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    entries: BTreeMap<String, KnownEntry>,
    /// Other ids of entries, and the id under which each is known.
    aliases: BTreeMap<String, String>,
    /// By their sender and identifier.
    messages: BTreeMap<MessageId, KnownMessage>,
    /// The documents that an index names, by a hash of their addresses.
    links: BTreeMap<u64, KnownLink>,
}

/// An entry without a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownEntry {
    /// By their ids within the entry; nothing where it has only one.
    items: BTreeMap<String, KnownItem>,
    aliases: BTreeSet<String>,
    seen: Week,
}

/// A message, or one that others refer to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownMessage {
    /// When it was sent; none where it has not come.
    sent: Option<Timestamp>,
    /// Its posts, in the order of its items, while it holds; none of an item that was over when it came.
    items: Vec<Option<KnownItem>>,
    /// The messages that take its place, or take it back.
    ended_by: BTreeMap<MessageId, (Timestamp, Ending)>,
    seen: Week,
}

/// A document that an index names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownLink {
    /// In which minute it was last asked for.
    tried: i64,
    /// Whether it was read then.
    is_read: bool,
}

/// An item that is a post.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct KnownItem {
    post_id: PostId,
    told: Told,
}

/// The week, counted from 1970, in which something was last seen in a feed: so that what stays in it is not written at each poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Week(i64);

impl Week {
    /// For how many weeks it is known what a feed does not have any more: what comes back after that is new.
    const KEPT: i64 = 8;

    fn of(time: Timestamp) -> Self {
        Self(time.as_second().div_euclid(7 * 24 * 60 * 60))
    }

    const fn is_kept(self, now: Self) -> bool {
        self.0 + Self::KEPT >= now.0
    }
}

/// The longest name that is kept as it is, in bytes: of a longer one its hash is.
const LONGEST_NAME: usize = 200;
/// After how many minutes a document that an index names is read again: most are never changed.
const READ_AGAIN_MINUTES: i64 = 60;
/// After how many minutes one that could not be read is asked for again.
const TRIED_AGAIN_MINUTES: i64 = 10;

/// How a message, and its posts, end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is called off: who was told of it is told.
    Cancelled,
    /// Another post says what it said: it is no longer listed, and nobody is told.
    Superseded,
}

/// What is to be done with a post.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// It is new.
    Make(PostId, &'a Item),
    /// It says this now; that was told of it before.
    Change(PostId, &'a Item, Told),
    /// It ends.
    End(PostId, Ending),
}

impl Known {
    /// Takes an entry in; answers what is to be done. `id` makes the id of the post of an item, by its name within the entry.
    /// To take it in again does nothing.
    pub fn take<'a>(
        &mut self,
        entry: &'a Entry,
        now: Timestamp,
        id: impl Fn(&str) -> PostId,
    ) -> Vec<Step<'a>> {
        match &entry.message {
            Some(message) => self.take_message(message, &entry.items, now, id),
            None => self.take_items(entry, now, id),
        }
    }

    fn take_items<'a>(
        &mut self,
        entry: &'a Entry,
        now: Timestamp,
        id: impl Fn(&str) -> PostId,
    ) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut known = self.known_as(entry, &mut steps);
        for item in &entry.items {
            let name = short(item.sub_id.as_deref().unwrap_or_default());
            let before = known.items.get(&*name).copied();
            let after = KnownItem::after(before, item, now, &mut steps, || id(&name));
            known.items.extend(after.map(|after| (name.into_owned(), after)));
        }
        if !known.items.is_empty() {
            let own = short(&entry.id).into_owned();
            known.aliases = entry.aliases.iter().map(|alias| short(alias).into_owned()).collect();
            known.seen = Week::of(now);
            self.aliases.extend(known.aliases.iter().map(|alias| (alias.clone(), own.clone())));
            self.entries.insert(own, known);
        }
        steps
    }

    /// Takes out what is known of an entry, under whichever of its ids. Where it was known as several, one post is left.
    fn known_as(&mut self, entry: &Entry, steps: &mut Vec<Step<'_>>) -> KnownEntry {
        let mut known: Option<KnownEntry> = None;
        let ids = iter::once(&entry.id).chain(&entry.aliases).map(|id| short(id).into_owned());
        let own: Vec<_> = ids.filter(|id| self.entries.contains_key(id)).collect();
        // What it was known as may be no longer its id: the network that gave it has withdrawn.
        let former = || self.aliases.get(&*short(&entry.id)).cloned().into_iter().collect();
        for id in if own.is_empty() { former() } else { own } {
            let Some(found) = self.entries.remove(&id) else { continue };
            for alias in &found.aliases {
                if self.aliases.get(alias) == Some(&id) {
                    self.aliases.remove(alias);
                }
            }
            match &mut known {
                None => known = Some(found),
                Some(known) => {
                    for (name, item) in found.items {
                        match known.items.entry(name) {
                            Slot::Occupied(_) => steps.push(Step::End(item.post_id, Ending::Superseded)),
                            Slot::Vacant(slot) => {
                                slot.insert(item);
                            }
                        }
                    }
                }
            }
        }
        known.unwrap_or_default()
    }

    fn take_message<'a>(
        &mut self,
        message: &Message,
        items: &'a [Item],
        now: Timestamp,
        id: impl Fn(&str) -> PostId,
    ) -> Vec<Step<'a>> {
        let inherited = self.end(message, now);
        let own = self.messages.entry(message.id.clone()).or_default();
        (own.sent, own.seen) = (Some(message.sent), Week::of(now));
        let mut posts = std::mem::take(&mut own.items);
        posts.extend(inherited.into_iter().map(Some));
        let ending = match message.action {
            Action::Cancel => Some(Ending::Cancelled),
            Action::Alert | Action::Update => self.ending(&message.id),
        };
        if let Some(ending) = ending {
            return posts.into_iter().flatten().map(|post| Step::End(post.post_id, ending)).collect();
        }
        let (befores, left) = matched(items, posts.into_iter().flatten().collect());
        let mut steps = Vec::new();
        let after = |(number, (item, before)): (usize, (&'a Item, Option<KnownItem>))| {
            KnownItem::after(before, item, now, &mut steps, || id(&number.to_string()))
        };
        let known = items.iter().zip(befores).enumerate().map(after).collect();
        steps.extend(left.into_iter().map(|post| Step::End(post.post_id, Ending::Superseded)));
        self.messages.entry(message.id.clone()).or_default().items = known;
        steps
    }

    /// Ends the messages that a message refers to; answers their posts.
    fn end(&mut self, message: &Message, now: Timestamp) -> Vec<KnownItem> {
        let ending = match message.action {
            // It only says that it is related to them.
            Action::Alert => return Vec::new(),
            Action::Update => Ending::Superseded,
            Action::Cancel => Ending::Cancelled,
        };
        let mut posts = Vec::new();
        for reference in message.references.iter().filter(|reference| **reference != message.id) {
            let other = self.messages.entry(reference.clone()).or_default();
            other.seen = Week::of(now);
            other.ended_by.insert(message.id.clone(), (message.sent, ending));
            if self.ending(reference).is_some() {
                let other = self.messages.entry(reference.clone()).or_default();
                posts.extend(std::mem::take(&mut other.items).into_iter().flatten());
            }
        }
        posts
    }
}

impl Known {
    /// How a message has ended, if it came, and has: another refers to it. Where two refer to each other the later one holds.
    fn ending(&self, id: &MessageId) -> Option<Ending> {
        let message = self.messages.get(id)?;
        let sent = message.sent?;
        let ends = |(by, (at, _)): &(&MessageId, &(Timestamp, Ending))| {
            let is_mutual = self.messages.get(*by).is_some_and(|other| other.ended_by.contains_key(id));
            !is_mutual || (at, *by) > (&sent, id)
        };
        message.ended_by.iter().filter(ends).map(|(_, (_, ending))| *ending).max()
    }
}

/// Documents that an index names.
impl Known {
    /// Those of these documents that are to be read: first those that were never asked for, then those the longest ago.
    #[must_use]
    pub fn links_due(&self, links: &[Url], now: Timestamp) -> Vec<Url> {
        let known = |link: &&Url| self.links.get(&hash(link.as_str())).copied().unwrap_or_default();
        let is_due = |link: &&Url| {
            let KnownLink { tried, is_read } = known(link);
            let pause = if is_read { READ_AGAIN_MINUTES } else { TRIED_AGAIN_MINUTES };
            minute(now) - tried >= pause
        };
        let mut due: Vec<_> = links.iter().filter(is_due).collect();
        due.sort_by_key(|link| known(link).tried);
        due.into_iter().cloned().collect()
    }

    /// Remembers that a document was asked for, and whether it could be read.
    pub fn link_was_tried(&mut self, link: &Url, is_read: bool, now: Timestamp) {
        self.links.insert(hash(link.as_str()), KnownLink { tried: minute(now), is_read });
    }

    /// Whether each of these documents was read when it was last asked for.
    #[must_use]
    pub fn has_read(&self, links: &[Url]) -> bool {
        links.iter().all(|link| self.links.get(&hash(link.as_str())).is_some_and(|known| known.is_read))
    }

    /// Remembers nothing of documents but these.
    pub fn keep_links(&mut self, links: &[Url]) {
        let mut kept = BTreeMap::new();
        for link in links.iter().map(|link| hash(link.as_str())) {
            kept.extend(self.links.remove_entry(&link));
        }
        self.links = kept;
    }
}

/// How it is kept.
impl Known {
    /// Forgets what has not been in the feed for two months.
    pub fn forget_old(&mut self, now: Timestamp) {
        let now = Week::of(now);
        self.entries.retain(|_, entry| entry.seen.is_kept(now));
        self.aliases.retain(|_, id| self.entries.contains_key(id));
        self.messages.retain(|_, message| message.seen.is_kept(now));
    }

    /// So many parts of it, each of which knows of the same things as long as they are as many.
    #[must_use]
    pub fn split(&self, parts: usize) -> Vec<Self> {
        let mut split = vec![Self::default(); parts];
        let count = u64::try_from(parts).unwrap_or(u64::MAX).max(1);
        let part = |hash: u64| usize::try_from(hash % count).unwrap_or_default();
        for (id, entry) in &self.entries {
            split[part(hash(id))].entries.insert(id.clone(), entry.clone());
        }
        for (id, message) in &self.messages {
            split[part(hash(&id.identifier))].messages.insert(id.clone(), message.clone());
        }
        for (alias, id) in &self.aliases {
            split[part(hash(alias))].aliases.insert(alias.clone(), id.clone());
        }
        for (link, known) in &self.links {
            split[part(*link)].links.insert(*link, *known);
        }
        split
    }

    /// What the parts of it know.
    #[must_use]
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), |mut all, part| {
            all.entries.extend(part.entries);
            all.aliases.extend(part.aliases);
            all.messages.extend(part.messages);
            all.links.extend(part.links);
            all
        })
    }
}

/// A name of at most [`LONGEST_NAME`].
fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME { name.into() } else { format!("{:x}", Sha256::digest(name)).into() }
}

/// The same on every machine.
fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text);
    u64::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

fn minute(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

/// Which post each item goes on with: that of the same place, or else the next of those that are left; and which are left in
/// the end.
fn matched(items: &[Item], mut posts: Vec<KnownItem>) -> (Vec<Option<KnownItem>>, Vec<KnownItem>) {
    let same_place = |item: &Item| {
        let told = Told::of(item);
        let at = posts.iter().position(|post| post.told.is_there(&told))?;
        Some(posts.remove(at))
    };
    let mut matched: Vec<_> = items.iter().map(same_place).collect();
    let mut left = posts.into_iter();
    matched.iter_mut().filter(|post| post.is_none()).for_each(|post| *post = left.next());
    (matched, left.collect())
}

impl KnownItem {
    /// A post after an item was taken in; and what that takes. What is over when it comes makes none.
    fn after<'a>(
        before: Option<Self>,
        item: &'a Item,
        now: Timestamp,
        steps: &mut Vec<Step<'a>>,
        id: impl FnOnce() -> PostId,
    ) -> Option<Self> {
        let told = Told::of(item);
        match before {
            Some(before) if before.told == told => Some(before),
            Some(Self { post_id, told: before }) => {
                steps.push(Step::Change(post_id, item, before));
                Some(Self { post_id, told })
            }
            None if !told.is_active() || item.expires_at.is_some_and(|expires| expires <= now) => None,
            None => {
                let post_id = id();
                steps.push(Step::Make(post_id, item));
                Some(Self { post_id, told })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::{post::PostKind, time};

    fn id(number: usize) -> MessageId {
        MessageId { sender: "met.example.org".to_owned(), identifier: number.to_string() }
    }

    fn now() -> Timestamp {
        time::parse("2026-11-21T20:00:00Z").unwrap()
    }

    /// A message that was sent so many seconds after the first, with an item that is named as it.
    fn entry(number: usize, action: Action, references: &[usize]) -> Entry {
        let sent = time::after(now(), number as u64);
        let references = references.iter().copied().map(id).collect();
        Entry {
            id: number.to_string(),
            aliases: BTreeSet::new(),
            message: Some(Message { id: id(number), sent, action, references }),
            items: vec![Item::new(PostKind::Alert, &number.to_string())],
        }
    }

    /// The posts that are there after some steps: what each says.
    #[derive(Debug, Default)]
    struct Posts {
        there: BTreeMap<PostId, String>,
        ended: BTreeMap<PostId, Ending>,
    }

    impl Posts {
        fn take(&mut self, known: &mut Known, entry: &Entry) {
            for step in known.take(entry, now(), |_| PostId::new(now())) {
                match step {
                    Step::Make(post_id, item) => {
                        assert_eq!(self.there.insert(post_id, item.title.clone()), None);
                    }
                    Step::Change(post_id, item, _) => {
                        let before = self.there.insert(post_id, item.title.clone());
                        assert!(before.is_some_and(|before| before != item.title), "{post_id}");
                    }
                    Step::End(post_id, ending) => {
                        assert!(self.there.remove(&post_id).is_some(), "{post_id}");
                        self.ended.insert(post_id, ending);
                    }
                }
            }
        }

        fn titles(&self) -> Vec<&str> {
            let mut titles: Vec<_> = self.there.values().map(String::as_str).collect();
            titles.sort_unstable();
            titles
        }
    }

    /// Messages, each about some of those before it, or about one that never comes.
    fn messages() -> impl Strategy<Value = Vec<Entry>> {
        let one = (0..4u8, prop::collection::vec(any::<Index>(), 0..4), any::<bool>());
        prop::collection::vec(one, 1..9).prop_map(|all| {
            let made = all.into_iter().enumerate().map(|(number, (action, references, is_unknown))| {
                let action = match action {
                    0 => Action::Alert,
                    1 => Action::Cancel,
                    _ => Action::Update,
                };
                let before = references.iter().filter(|_| number > 0).map(|index| index.index(number));
                let references: BTreeSet<_> = before.chain(is_unknown.then_some(99)).collect();
                entry(number, action, &references.into_iter().collect::<Vec<_>>())
            });
            made.collect()
        })
    }

    proptest! {
        /// Whatever the order in which messages come, and however often: those that hold are told by a post each.
        #[test]
        fn the_same_messages_hold_in_whatever_order_they_come(
            messages in messages(),
            order in prop::collection::vec(any::<Index>(), 0..30),
        ) {
            let is_ended = |message: &Message| messages.iter().filter_map(|entry| entry.message.as_ref()).any(|other| {
                other.action != Action::Alert && other.references.contains(&message.id)
            });
            let holding = messages.iter().filter(|entry| {
                entry.message.as_ref().is_some_and(|message| message.action != Action::Cancel && !is_ended(message))
            });
            let holding: Vec<_> = holding.map(|entry| entry.id.as_str()).collect();
            let (mut known, mut posts) = (Known::default(), Posts::default());
            for entry in order.iter().map(|index| index.get(&messages)).chain(&messages) {
                posts.take(&mut known, entry);
            }
            prop_assert_eq!(posts.titles(), holding);
            // Once more, and read back from where it is kept.
            let mut known: Known = serde_json::from_value(serde_json::to_value(&known).unwrap()).unwrap();
            for entry in &messages {
                prop_assert_eq!(known.take(entry, now(), |_| unreachable!()), []);
            }
        }
    }

    #[test]
    fn a_hazard_that_is_issued_again_is_the_same_post() {
        let (mut known, mut posts) = (Known::default(), Posts::default());
        let chain = [
            entry(0, Action::Alert, &[]),
            entry(1, Action::Update, &[0]),
            entry(2, Action::Update, &[0, 1]),
            entry(3, Action::Cancel, &[2]),
        ];
        let mut seen = BTreeSet::new();
        for (entry, title) in chain.iter().zip(["0", "1", "2"]) {
            posts.take(&mut known, entry);
            assert_eq!(posts.titles(), [title]);
            seen.extend(posts.there.keys().copied());
        }
        assert_eq!(seen.len(), 1);
        posts.take(&mut known, &chain[3]);
        assert_eq!(posts.ended.values().collect::<Vec<_>>(), [&Ending::Cancelled]);
    }

    #[test]
    fn what_is_called_off_by_name_is_off_whenever_that_was_sent_and_of_two_that_name_each_other_one_holds() {
        let at_once = |entry: Entry| {
            let message = entry.message.map(|message| Message { sent: now(), ..message });
            Entry { message, ..entry }
        };
        let (alert, cancel) =
            (at_once(entry(0, Action::Alert, &[])), at_once(entry(1, Action::Cancel, &[0])));
        let (first, second) = (entry(0, Action::Update, &[1]), entry(1, Action::Update, &[0]));
        for orders in [[[&alert, &cancel], [&cancel, &alert]], [[&first, &second], [&second, &first]]] {
            let titles = orders.map(|order| {
                let (mut known, mut posts) = (Known::default(), Posts::default());
                for entry in order {
                    posts.take(&mut known, entry);
                }
                posts.titles().into_iter().map(str::to_owned).collect::<Vec<_>>()
            });
            assert_eq!(titles[0], titles[1]);
            assert_eq!(titles[0], if orders[0][1] == &cancel { vec![] } else { vec!["1".to_owned()] });
        }
    }

    #[test]
    fn an_update_of_several_goes_on_with_as_many_posts_as_it_has_items() {
        let (mut known, mut posts) = (Known::default(), Posts::default());
        posts.take(&mut known, &entry(0, Action::Alert, &[]));
        posts.take(&mut known, &entry(1, Action::Alert, &[]));
        posts.take(&mut known, &entry(2, Action::Update, &[0, 1]));
        assert_eq!(
            (posts.titles(), posts.ended.values().collect::<Vec<_>>()),
            (vec!["2"], vec![&Ending::Superseded])
        );
        // And what came before them all changes nothing any more.
        let mut late = Known::default();
        let mut none = Posts::default();
        none.take(&mut late, &entry(3, Action::Cancel, &[2]));
        none.take(&mut late, &entry(2, Action::Update, &[0]));
        none.take(&mut late, &entry(0, Action::Alert, &[]));
        assert_eq!((none.titles(), none.ended.len()), (Vec::<&str>::new(), 0));
    }

    #[test]
    fn what_is_no_message_is_made_once_and_changed_when_it_says_something_else() {
        let plan = |title: &str, sub_id: &str| Item {
            sub_id: Some(sub_id.to_owned()),
            ..Item::new(PostKind::Event, title)
        };
        let list = |items| Entry { id: "291".to_owned(), aliases: BTreeSet::new(), message: None, items };
        let (mut known, mut posts) = (Known::default(), Posts::default());
        posts.take(&mut known, &list(vec![plan("Monday", "1"), plan("Tuesday", "2")]));
        posts.take(&mut known, &list(vec![plan("Wednesday", "2")]));
        assert_eq!(posts.titles(), ["Monday", "Wednesday"], "what vanishes from a list stays");
        let over = Item { expires_at: Some(now()), ..plan("Sunday", "3") };
        posts.take(&mut known, &list(vec![over]));
        assert_eq!(posts.titles().len(), 2, "what is over makes no post");
    }

    #[test]
    fn what_is_over_or_off_before_it_is_known_makes_no_post() {
        let fair = |change: fn(&mut Item)| {
            let mut fair = Item::new(PostKind::Event, "A fair");
            change(&mut fair);
            Entry { id: "fair".to_owned(), aliases: BTreeSet::new(), message: None, items: vec![fair] }
        };
        for change in [|fair: &mut Item| fair.is_cancelled = true, |fair: &mut Item| fair.is_all_clear = true]
        {
            let (mut known, off) = (Known::default(), fair(change));
            let id = PostId::new(now());
            assert_eq!(known.take(&off, now(), |_| unreachable!()), []);
            assert!(
                matches!(known.take(&fair(|_| {}), now(), |_| id)[..], [Step::Make(made, _)] if made == id)
            );
            assert!(
                matches!(known.take(&off, now(), |_| unreachable!())[..], [Step::Change(changed, ..)] if changed == id)
            );
        }
    }

    /// An earthquake, by the networks that have located it: the first is preferred.
    fn earthquake(networks: &[usize]) -> Entry {
        let (preferred, others) = networks.split_first().unwrap();
        Entry {
            id: preferred.to_string(),
            aliases: others.iter().map(ToString::to_string).collect(),
            message: None,
            items: vec![Item::new(PostKind::Alert, &preferred.to_string())],
        }
    }

    proptest! {
        /// Networks locate earthquakes, are found to have located the same, and are preferred now and then.
        #[test]
        fn an_earthquake_stays_the_same_post_by_whichever_id_it_goes(
            days in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<bool>()), 1..20),
        ) {
            let mut located: Vec<Vec<usize>> = Vec::new();
            let (mut known, mut posts) = (Known::default(), Posts::default());
            let mut of: BTreeMap<usize, PostId> = BTreeMap::new();
            for (number, (one, other, preferred, is_new)) in days.into_iter().enumerate() {
                if is_new || located.is_empty() {
                    located.push(vec![number]);
                } else {
                    let same = located.swap_remove(one.index(located.len()));
                    match located.len() {
                        0 => located.push(same),
                        count => located[other.index(count)].extend(same),
                    }
                }
                for networks in &mut located {
                    let count = networks.len();
                    networks.rotate_left(preferred.index(count));
                }
                let before: BTreeSet<_> = posts.there.keys().copied().collect();
                for networks in &located {
                    posts.take(&mut known, &earthquake(networks));
                }
                let preferred: BTreeSet<_> = located.iter().map(|networks| networks[0].to_string()).collect();
                prop_assert_eq!(posts.titles().into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), preferred);
                prop_assert_eq!(posts.there.len(), located.len(), "each is there once");
                for networks in &located {
                    let title = networks[0].to_string();
                    let (post_id, _) = posts.there.iter().find(|(_, said)| **said == title).unwrap();
                    let was: BTreeSet<_> = networks.iter().filter_map(|network| of.insert(*network, *post_id)).collect();
                    prop_assert!(was.is_empty() || was.contains(post_id), "it is the post of one of them");
                    prop_assert!(was.is_empty() || before.contains(post_id));
                }
                // Once more, and read back from where it is kept.
                known = serde_json::from_value(serde_json::to_value(&known).unwrap()).unwrap();
                for networks in &located {
                    let again = earthquake(networks);
                    prop_assert_eq!(known.take(&again, now(), |_| unreachable!()), []);
                }
            }
        }
    }

    #[test]
    fn an_earthquake_stays_the_same_post_when_its_preferred_network_withdraws() {
        let (mut known, mut posts) = (Known::default(), Posts::default());
        for networks in [&[1, 2][..], &[2], &[2, 3], &[3]] {
            posts.take(&mut known, &earthquake(networks));
        }
        assert_eq!((posts.titles(), posts.ended.len()), (vec!["3"], 0));
        // Two that are found to be two are two posts.
        for networks in [&[3, 4][..], &[3], &[4], &[3], &[4]] {
            posts.take(&mut known, &earthquake(networks));
        }
        assert_eq!((posts.titles(), posts.ended.len()), (vec!["3", "4"], 0));
    }
}
