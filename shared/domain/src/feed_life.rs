//! The life of what a feed tells of: which posts an entry makes, changes and ends, whatever came before it, and in whatever order.
//!
//! An entry without a message is what it is: its items are posts, each under its own id, and what is unchanged changes nothing.
//! What is no longer listed stays.
//!
//! Messages are about each other. Which of them hold is a matter of all that are known, and not of the order in which they
//! came: a message holds unless a later one, that updates or cancels, refers to it; and one that cancels never holds. So
//! those that a message refers to may be unknown, ended, or several, and of two that update the same one both hold (an
//! authority that divides an area in two sends such). A message that holds has its posts: those of the messages that it took
//! the place of, so that a hazard that is issued again is the same post, and rings nobody again; and new ones for what is left.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    feed_item::{Action, Entry, Item, Message, MessageId},
    ids::PostId,
    post::Severity,
    time::Timestamp,
};

/// What is known of a feed's entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    entries: BTreeMap<String, KnownEntry>,
    /// By their sender and identifier.
    messages: BTreeMap<MessageId, KnownMessage>,
}

/// An entry without a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownEntry {
    /// By their ids within the entry; nothing where it has only one.
    items: BTreeMap<String, KnownItem>,
}

/// A message, or one that others refer to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KnownMessage {
    /// When it was sent; none where it has not come.
    sent: Option<Timestamp>,
    /// Its posts, in the order of its items, while it holds; none of an item that was over when it came.
    items: Vec<Option<KnownItem>>,
    /// The messages that take its place, or take it back, if they are later.
    ended_by: BTreeMap<MessageId, (Timestamp, Ending)>,
}

/// An item that is a post.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct KnownItem {
    post_id: PostId,
    /// What it said, in short.
    print: u64,
    severity: Severity,
}

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
    /// It says this now; it was as severe as that.
    Change(PostId, &'a Item, Severity),
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
        let known = self.entries.entry(entry.id.clone()).or_default();
        let mut steps = Vec::new();
        for item in &entry.items {
            let name = item.sub_id.as_deref().unwrap_or_default();
            let before = known.items.get(name).copied();
            let after = KnownItem::after(before, item, now, &mut steps, || id(name));
            known.items.extend(after.map(|after| (name.to_owned(), after)));
        }
        steps
    }

    fn take_message<'a>(
        &mut self,
        message: &Message,
        items: &'a [Item],
        now: Timestamp,
        id: impl Fn(&str) -> PostId,
    ) -> Vec<Step<'a>> {
        let inherited = self.end(message);
        let own = self.messages.entry(message.id.clone()).or_default();
        own.sent = Some(message.sent);
        let mut posts = std::mem::take(&mut own.items);
        posts.extend(inherited.into_iter().map(Some));
        let ending = match message.action {
            Action::Cancel => Some(Ending::Cancelled),
            Action::Alert | Action::Update => own.ending(&message.id),
        };
        if let Some(ending) = ending {
            return posts.into_iter().flatten().map(|post| Step::End(post.post_id, ending)).collect();
        }
        let mut steps = Vec::new();
        let mut posts = posts.into_iter();
        for (number, item) in items.iter().enumerate() {
            let before = posts.next().flatten();
            own.items.push(KnownItem::after(before, item, now, &mut steps, || id(&number.to_string())));
        }
        steps.extend(posts.flatten().map(|post| Step::End(post.post_id, Ending::Superseded)));
        steps
    }

    /// Ends the messages that a message refers to; answers their posts.
    fn end(&mut self, message: &Message) -> Vec<KnownItem> {
        let ending = match message.action {
            // It only says that it is related to them.
            Action::Alert => return Vec::new(),
            Action::Update => Ending::Superseded,
            Action::Cancel => Ending::Cancelled,
        };
        let mut posts = Vec::new();
        for reference in message.references.iter().filter(|reference| **reference != message.id) {
            let other = self.messages.entry(reference.clone()).or_default();
            other.ended_by.insert(message.id.clone(), (message.sent, ending));
            if other.ending(reference).is_some() {
                posts.extend(std::mem::take(&mut other.items).into_iter().flatten());
            }
        }
        posts
    }
}

impl KnownMessage {
    /// How it has ended, if it came, and has. One that is no later ends nothing: two cannot end each other.
    fn ending(&self, own: &MessageId) -> Option<Ending> {
        let sent = self.sent?;
        let later = self.ended_by.iter().filter(|(id, (at, _))| (*at, *id) > (sent, own));
        later.map(|(_, (_, ending))| *ending).max()
    }
}

impl KnownItem {
    /// A post after an item was taken in; and what that takes. What is over when it comes makes none, and leaves one as it is.
    fn after<'a>(
        before: Option<Self>,
        item: &'a Item,
        now: Timestamp,
        steps: &mut Vec<Step<'a>>,
        id: impl FnOnce() -> PostId,
    ) -> Option<Self> {
        if item.expires_at.is_some_and(|expires| expires <= now) {
            return before;
        }
        let (print, severity) = (item.print(), item.severity);
        match before {
            Some(before) if before.print == print => Some(before),
            Some(before) => {
                steps.push(Step::Change(before.post_id, item, before.severity));
                Some(Self { print, severity, ..before })
            }
            None => {
                let post_id = id();
                steps.push(Step::Make(post_id, item));
                Some(Self { post_id, print, severity })
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
        let list = |items| Entry { id: "291".to_owned(), message: None, items };
        let (mut known, mut posts) = (Known::default(), Posts::default());
        posts.take(&mut known, &list(vec![plan("Monday", "1"), plan("Tuesday", "2")]));
        posts.take(&mut known, &list(vec![plan("Wednesday", "2")]));
        assert_eq!(posts.titles(), ["Monday", "Wednesday"], "what vanishes from a list stays");
        let over = Item { expires_at: Some(now()), ..plan("Sunday", "3") };
        posts.take(&mut known, &list(vec![over]));
        assert_eq!(posts.titles().len(), 2, "what is over makes no post");
    }
}
