//! The table of friendships: what people are to each other, and each one's circle.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `<me>` | `with#<other>` | `relation`: what they are to me; `listed`: where in which of my lists they stand |
//! | `<me>` | `circle` | `friends`: the ids of my friends, of 16 bytes each; `outgoing`, `blocking`: how many I asked and block |
//!
//! The index `listed` has the relations of a person by `listed`:
//!
//! | listed | who |
//! |---|---|
//! | `accepted#<ms>#<other>`, `incoming#…`, `outgoing#…` | friends, who asked me, whom I asked |
//! | `hidden#mine#<ms>#<other>` | whom I block |
//! | `hidden#theirs#<ms>#<other>` | who blocks me, whom I do not block |
//!
//! A relation that is nothing is no item. The two sides and the circles change in one transaction, so they always agree.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tocsin_domain::{
    Error, Result,
    friendship::{
        Circle, Circles, Friendship, FriendshipEditor, Friendships, Hidden, HiddenPeople, List, MOST_BLOCKS,
        MOST_FRIENDS, MOST_OUTGOING, Place, Relation, Relations, Replaced,
    },
    ids::UserId,
    time::Timestamp,
};

use super::{Action, Item, Table, Transacted, keys, number, read, text, write};
use crate::aws::failed;

/// What people are to each other.
#[derive(Clone, Debug)]
pub struct FriendshipsTable {
    table: Table,
}

/// DynamoDB's limit for one `BatchGetItem`.
const MOST_READ: usize = 100;
/// How many requests of one read are under way at once.
const CONCURRENT: usize = 8;

impl FriendshipsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "friendships") }
    }

    /// Items by their keys, each of which comes once, in as many requests as these need.
    async fn get_all(&self, keys: Vec<Item>) -> Result<Vec<Item>> {
        let chunks: Vec<_> = keys.chunks(MOST_READ).map(<[Item]>::to_vec).collect();
        let reads = stream::iter(chunks).map(|chunk| self.table.get_all(chunk));
        reads.buffer_unordered(CONCURRENT).try_concat().await
    }

    /// One side of a change, if it is still as it was seen.
    fn put_side(&self, me: UserId, other: UserId, old: &Relation, new: &Relation) -> Result<Action> {
        let key = relation_key(me, other);
        let action = if new.is_nothing() {
            self.table.delete(key)
        } else {
            let mut item = key;
            item.insert("relation".to_owned(), write("a relation", new)?);
            item.insert("listed".to_owned(), text(listed(other, new)?));
            self.table.put(item)
        };
        Ok(if old.is_nothing() {
            action.on("attribute_not_exists(pk)")
        } else {
            action.on("relation = :old").with(":old", write("a relation", old)?)
        })
    }

    /// What a change is to a person's circle, if it is anything to it.
    fn change_circle(&self, me: UserId, other: UserId, old: &Relation, new: &Relation) -> Option<Action> {
        let change = |holds: fn(&Relation) -> bool| i64::from(holds(new)) - i64::from(holds(old));
        let friends = change(|relation| relation.friendship == Friendship::Accepted);
        let outgoing = change(|relation| relation.friendship == Friendship::Outgoing);
        let blocking = change(|relation| relation.blocks.is_some());
        if (friends, outgoing, blocking) == (0, 0, 0) {
            return None;
        }
        let mut expression = "ADD outgoing :outgoing, blocking :blocking".to_owned();
        expression.push_str(match friends {
            0 => "",
            1.. => ", friends :friend",
            _ => " DELETE friends :friend",
        });
        let mut action = self
            .table
            .update(circle_key(me), &expression)
            .with(":outgoing", number(outgoing))
            .with(":blocking", number(blocking));
        if friends != 0 {
            let friend = AttributeValue::Bs(vec![Blob::new(other.as_bytes().as_slice())]);
            action = action.with(":friend", friend);
        }
        // A change makes one of the three more, at most.
        let cap = match (friends, outgoing, blocking) {
            (1.., ..) => Some(("attribute_not_exists(friends) OR size(friends) < :most", MOST_FRIENDS)),
            (_, 1.., _) => Some(("attribute_not_exists(outgoing) OR outgoing < :most", MOST_OUTGOING)),
            (.., 1..) => Some(("attribute_not_exists(blocking) OR blocking < :most", MOST_BLOCKS)),
            _ => None,
        };
        Some(match cap {
            Some((condition, most)) => {
                action.on(condition).with(":most", number(i64::try_from(most).unwrap_or(i64::MAX)))
            }
            None => action,
        })
    }

    /// Up to `limit` items of the index that begin with `prefix`.
    async fn listed_under(
        &self,
        owner: UserId,
        prefix: &str,
        mut start: Option<Item>,
        limit: Option<usize>,
        backwards: bool,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        // One round, unless a megabyte holds less.
        loop {
            let left = limit.map(|limit| i32::try_from(limit - items.len()).unwrap_or(i32::MAX));
            let request = self
                .table
                .client
                .query()
                .table_name(&self.table.name)
                .index_name("listed")
                .key_condition_expression("pk = :pk AND begins_with(listed, :prefix)")
                .expression_attribute_values(":pk", text(owner))
                .expression_attribute_values(":prefix", text(prefix))
                .scan_index_forward(!backwards)
                .consistent_read(true)
                .set_limit(left)
                .set_exclusive_start_key(start);
            let answer = request.send().await.map_err(failed(self.table.service))?;
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key;
            if start.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                return Ok(items);
            }
        }
    }
}

impl Relations for FriendshipsTable {
    async fn of(&self, me: UserId, ids: &[UserId]) -> Result<HashMap<UserId, Relation>> {
        // A batch that names a key twice is refused.
        let ids: HashSet<UserId> = ids.iter().copied().collect();
        let keys = ids.into_iter().map(|other| relation_key(me, other)).collect();
        let items = self.get_all(keys).await?;
        items.into_iter().map(relation).collect()
    }
}

impl Circles for FriendshipsTable {
    async fn of(&self, ids: &[UserId]) -> Result<HashMap<UserId, Circle>> {
        let ids: HashSet<UserId> = ids.iter().copied().collect();
        let items = self.get_all(ids.into_iter().map(circle_key).collect()).await?;
        let read_one = |mut item: Item| {
            let owner: UserId = read("a circle", &mut item, "pk")?;
            let unreadable = || Error::unreadable("a circle", "an id has not 16 bytes");
            let ids = match item.remove("friends") {
                Some(AttributeValue::Bs(ids)) => ids,
                _ => Vec::new(),
            };
            let id = |id: Blob| id.as_ref().try_into().map(UserId::from_bytes).map_err(|_| unreadable());
            Ok((owner, ids.into_iter().map(id).collect::<Result<Circle>>()?))
        };
        items.into_iter().map(read_one).collect()
    }
}

impl FriendshipEditor for FriendshipsTable {
    async fn replace(&self, me: UserId, other: UserId, old: &Relation, new: &Relation) -> Result<Replaced> {
        let (their_old, their_new) = (old.mirrored(), new.mirrored());
        let mut actions =
            vec![self.put_side(me, other, old, new)?, self.put_side(other, me, &their_old, &their_new)?];
        actions.extend(self.change_circle(me, other, old, new));
        actions.extend(self.change_circle(other, me, &their_old, &their_new));
        Ok(match self.table.transact(actions).await? {
            Transacted::Done => Replaced::Done,
            Transacted::Cancelled { held } if held[..2] == [true, true] => Replaced::Full,
            Transacted::Cancelled { .. } => Replaced::Changed,
        })
    }

    async fn forget_circle(&self, me: UserId) -> Result<()> {
        let request = self
            .table
            .delete_item(circle_key(me))
            .condition_expression(
                "attribute_not_exists(pk) OR (attribute_not_exists(friends) AND outgoing = :none AND blocking = :none)",
            )
            .expression_attribute_values(":none", number(0));
        self.table.held(request.send().await).map(drop)
    }
}

impl Friendships for FriendshipsTable {
    async fn list(
        &self,
        owner: UserId,
        list: List,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Place, Relation)>> {
        let start = before.map(|(since, other)| {
            let mut key = relation_key(owner, other);
            key.insert("listed".to_owned(), text(place(prefix(list), since, other)));
            key
        });
        let items = self.listed_under(owner, prefix(list), start, Some(limit), true).await?;
        let read_one = |item| {
            let (other, relation) = relation(item)?;
            let since = list.since(&relation);
            let since = since.ok_or_else(|| Error::unreadable("a relation", "it is in a wrong list"))?;
            Ok(((since, other), relation))
        };
        items.into_iter().map(read_one).collect()
    }

    async fn all(
        &self,
        owner: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Relation)>> {
        let query = self
            .table
            .query()
            .key_condition_expression("pk = :pk AND begins_with(sk, :with)")
            .expression_attribute_values(":pk", text(owner))
            .expression_attribute_values(":with", text(WITH))
            .set_exclusive_start_key(after.map(|other| relation_key(owner, other)));
        self.table.find(query, limit).await?.into_iter().map(relation).collect()
    }
}

impl Hidden for FriendshipsTable {
    async fn of(&self, owner: UserId) -> Result<HiddenPeople> {
        let items = self.listed_under(owner, "hidden#", None, None, false).await?;
        items.into_iter().map(|item| Ok(relation(item)?.0)).collect()
    }
}

const WITH: &str = "with#";

fn relation_key(me: UserId, other: UserId) -> Item {
    keys(me, format!("{WITH}{other}"))
}

fn circle_key(me: UserId) -> Item {
    keys(me, "circle")
}

/// Who it is with, and what it is.
fn relation(mut item: Item) -> Result<(UserId, Relation)> {
    let sk: String = read("a relation", &mut item, "sk")?;
    let other = sk.strip_prefix(WITH).and_then(|id| id.parse().ok());
    let other = other.ok_or_else(|| Error::unreadable("a relation", "its key names nobody"))?;
    Ok((other, read("a relation", &mut item, "relation")?))
}

const fn prefix(list: List) -> &'static str {
    match list {
        List::Accepted => "accepted#",
        List::Incoming => "incoming#",
        List::Outgoing => "outgoing#",
        List::Blocks => "hidden#mine#",
    }
}

fn listed(other: UserId, relation: &Relation) -> Result<String> {
    let mine = [List::Blocks, List::Accepted, List::Incoming, List::Outgoing]
        .into_iter()
        .find_map(|list| Some((prefix(list), list.since(relation)?)));
    let (prefix, since) = mine
        .or_else(|| Some(("hidden#theirs#", relation.blocked_by?)))
        .ok_or_else(|| Error::unreadable("a relation", "it is in no list"))?;
    Ok(place(prefix, since, other))
}

/// Thirteen digits of milliseconds last until 2286.
fn place(prefix: &str, since: Timestamp, other: UserId) -> String {
    format!("{prefix}{:013}#{other}", since.as_millisecond())
}
