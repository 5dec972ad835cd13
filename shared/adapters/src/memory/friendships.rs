//! What people are to each other, and who is hidden from whom.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use tocsin_domain::{
    Result,
    friendship::{
        Circle, Circles, Friendship, FriendshipEditor, Friendships, Hidden, HiddenCache, HiddenPeople, List,
        MOST_BLOCKS, MOST_FRIENDS, MOST_OUTGOING, Place, Relation, Relations, Replaced,
    },
    ids::UserId,
};

use super::Shared;

/// What people are to each other.
#[derive(Clone, Debug, Default)]
pub struct MemoryFriendships {
    tables: Shared<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    relations: BTreeMap<(UserId, UserId), Relation>,
    /// As elsewhere stored on their own, and not told from the relations: so a test finds out whether they agree.
    circles: HashMap<UserId, HashSet<UserId>>,
}

impl Tables {
    fn of(&self, owner: UserId) -> impl Iterator<Item = (UserId, &Relation)> {
        let mine = self.relations.iter().filter(move |((me, _), _)| *me == owner);
        mine.map(|((_, other), relation)| (*other, relation))
    }

    fn count(&self, owner: UserId, holds: impl Fn(&Relation) -> bool) -> usize {
        self.of(owner).filter(|(_, relation)| holds(relation)).count()
    }

    /// Whether a person's side of a change would be one too many.
    fn is_full(&self, owner: UserId, old: &Relation, new: &Relation) -> bool {
        let exceeds = |most, holds: fn(&Relation) -> bool| {
            holds(new) && !holds(old) && self.count(owner, holds) >= most
        };
        exceeds(MOST_FRIENDS, |relation| relation.friendship == Friendship::Accepted)
            || exceeds(MOST_OUTGOING, |relation| relation.friendship == Friendship::Outgoing)
            || exceeds(MOST_BLOCKS, |relation| relation.blocks.is_some())
    }

    fn put(&mut self, me: UserId, other: UserId, new: Relation) {
        if new.is_nothing() {
            self.relations.remove(&(me, other));
        } else {
            self.relations.insert((me, other), new);
        }
        let circle = self.circles.entry(me).or_default();
        if new.friendship == Friendship::Accepted {
            circle.insert(other);
        } else {
            circle.remove(&other);
        }
    }
}

impl Relations for MemoryFriendships {
    async fn of(&self, me: UserId, ids: &[UserId]) -> Result<HashMap<UserId, Relation>> {
        let tables = self.tables.lock();
        let one = |other: &UserId| Some((*other, *tables.relations.get(&(me, *other))?));
        Ok(ids.iter().filter_map(one).collect())
    }
}

impl Circles for MemoryFriendships {
    async fn of(&self, ids: &[UserId]) -> Result<HashMap<UserId, Circle>> {
        let tables = self.tables.lock();
        let one = |id: &UserId| Some((*id, tables.circles.get(id)?.iter().copied().collect()));
        Ok(ids.iter().filter_map(one).collect())
    }
}

impl FriendshipEditor for MemoryFriendships {
    async fn replace(&self, me: UserId, other: UserId, old: &Relation, new: &Relation) -> Result<Replaced> {
        let mut tables = self.tables.lock();
        let there = tables.relations.get(&(me, other)).copied().unwrap_or_default();
        if there != *old {
            return Ok(Replaced::Changed);
        }
        if tables.is_full(me, old, new) || tables.is_full(other, &old.mirrored(), &new.mirrored()) {
            return Ok(Replaced::Full);
        }
        tables.put(me, other, *new);
        tables.put(other, me, new.mirrored());
        Ok(Replaced::Done)
    }

    async fn forget_circle(&self, me: UserId) -> Result<()> {
        let mut tables = self.tables.lock();
        if tables.of(me).next().is_none() {
            tables.circles.remove(&me);
        }
        Ok(())
    }
}

impl Friendships for MemoryFriendships {
    async fn list(
        &self,
        owner: UserId,
        list: List,
        before: Option<Place>,
        limit: usize,
    ) -> Result<Vec<(Place, Relation)>> {
        let tables = self.tables.lock();
        let place =
            |(other, relation): (UserId, &Relation)| Some(((list.since(relation)?, other), *relation));
        let mut all: Vec<_> = tables.of(owner).filter_map(place).collect();
        all.sort_by_key(|(place, _)| Reverse(*place));
        all.retain(|(place, _)| before.is_none_or(|before| *place < before));
        all.truncate(limit);
        Ok(all)
    }

    async fn all(
        &self,
        owner: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Relation)>> {
        let tables = self.tables.lock();
        let all = tables.of(owner).filter(|(other, _)| after.is_none_or(|after| *other > after));
        Ok(all.map(|(other, relation)| (other, *relation)).take(limit).collect())
    }
}

impl Hidden for MemoryFriendships {
    async fn of(&self, owner: UserId) -> Result<HiddenPeople> {
        let tables = self.tables.lock();
        Ok(tables.of(owner).filter(|(_, relation)| relation.is_hidden()).map(|(other, _)| other).collect())
    }
}

/// Who is hidden from whom, at hand; none for those who are set aside, which here ends never.
#[derive(Clone, Debug, Default)]
pub struct MemoryHiddenCache {
    people: Shared<HashMap<UserId, Option<HiddenPeople>>>,
}

impl HiddenCache for MemoryHiddenCache {
    async fn get(&self, owner: UserId) -> Result<Option<HiddenPeople>> {
        Ok(self.people.lock().get(&owner).cloned().flatten())
    }

    async fn put(&self, owner: UserId, hidden: &HiddenPeople) -> Result<()> {
        self.people.lock().entry(owner).or_insert_with(|| Some(hidden.clone()));
        Ok(())
    }

    async fn set_aside(&self, owners: &[UserId]) -> Result<()> {
        self.people.lock().extend(owners.iter().map(|owner| (*owner, None)));
        Ok(())
    }
}
