//! Friends, as people see them: asked, listed, and those of others.

use std::collections::HashMap;

use futures::future::{try_join, try_join3};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Refusal, Result,
    cursor::{Cursor, Limit, Page, Scope},
    error::Kind,
    friendship::{
        self, Action, Circles, Friendship, FriendshipEditor, Friendships, HiddenCache, HiddenPeople, List,
        Place, Relation, Relations,
    },
    ids::UserId,
    input::{Fields, parsed},
    person::{self, Closeness, Profile, ProfileImageUrls, Profiles, PublicProfile},
    time::Timestamp,
};

/// Reads the body of `create-friendship`: whom the caller asks.
pub fn asked_from_json(body: &Value) -> Result<UserId, Refusal> {
    let mut fields = Fields::of(body)?;
    let user_id = fields.required("user_id", parsed(str::parse));
    let Some(user_id) = user_id else { return Err(fields.refusal()) };
    fields.finish()?;
    Ok(user_id)
}

/// Asks for somebody's friendship, or takes it, where they have asked.
pub async fn ask(
    profiles: &impl Profiles,
    editor: &impl FriendshipEditor,
    me: UserId,
    other: UserId,
    now: Timestamp,
) -> Result<Relation> {
    if me == other {
        return Err(friendship::oneself("/user_id").into());
    }
    person::existing(profiles, other).await?;
    friendship::change(editor, me, other, Action::Request, now).await
}

/// Takes a friendship that somebody has asked for. Who does not exist is told from who blocks by nothing.
pub async fn accept(
    profiles: &impl Profiles,
    editor: &impl FriendshipEditor,
    me: UserId,
    other: UserId,
    now: Timestamp,
) -> Result<Relation> {
    person::existing(profiles, other).await?;
    friendship::change(editor, me, other, Action::Accept, now).await
}

/// Blocks somebody.
pub async fn block(
    profiles: &impl Profiles,
    editor: &impl FriendshipEditor,
    cache: &impl HiddenCache,
    me: UserId,
    other: UserId,
    now: Timestamp,
) -> Result<()> {
    person::existing(profiles, other).await?;
    friendship::change_block(editor, cache, me, other, Action::Block, now).await.map(drop)
}

/// What somebody is to the caller. Of nobody, and of who is hidden, as if there were no such person.
pub async fn state(
    profiles: &impl Profiles,
    relations: &impl Relations,
    me: UserId,
    other: UserId,
) -> Result<Friendship> {
    let (there, relation) =
        try_join(person::existing(profiles, other), friendship::between(relations, me, other)).await?;
    drop(there);
    if relation.is_hidden() { Err(friendship::no_such_person().into()) } else { Ok(relation.friendship) }
}

/// Somebody, as the caller sees them, and what they are to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acquaintance {
    /// Who it is.
    #[serde(flatten)]
    pub profile: PublicProfile,
    /// What they are to the caller.
    pub friendship: Friendship,
    /// Since when they are that; only in the caller's own lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// Somebody whom the caller blocks: no more of them than it takes to know whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Who it is.
    pub user_id: UserId,
    /// What they are called; none where they block the caller as well, and show them nothing of themselves: not what they
    /// call themselves since.
    pub username: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// A page of a list of people, and how many there are in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted<T> {
    /// The page.
    #[serde(flatten)]
    pub page: Page<T>,
    /// How many the whole list has.
    pub total: usize,
}

/// Which list one of a person's own is.
#[must_use]
pub fn scope(me: UserId, list: List) -> Scope {
    Scope::of(["friendships", &format!("{list:?}"), &me.to_string()])
}

/// Which list the friends of somebody are, as `me` sees them.
#[must_use]
pub fn scope_of_friends(me: UserId, owner: UserId) -> Scope {
    Scope::of(["friends", &me.to_string(), &owner.to_string()])
}

/// Which list the friends are whom `me` and somebody have in common.
#[must_use]
pub fn scope_of_mutual(me: UserId, owner: UserId) -> Scope {
    Scope::of(["mutual", &me.to_string(), &owner.to_string()])
}

/// The ports of the lists.
#[derive(Debug)]
pub struct Listing<'a, P, F> {
    /// People.
    pub profiles: &'a P,
    /// What they are to each other.
    pub friendships: &'a F,
    /// Where their images are.
    pub images: &'a ProfileImageUrls,
}

impl<P: Profiles, F: Friendships> Listing<'_, P, F> {
    /// A page of the caller's friends, of those who asked, or of those who were asked, the newest first.
    pub async fn mine(
        &self,
        me: UserId,
        list: List,
        before: Option<Cursor<Place>>,
        limit: Limit,
    ) -> Result<Page<Acquaintance>> {
        let (page, profiles) = self.page(me, list, before, limit).await?;
        let one = |((since, id), relation): (Place, Relation)| {
            self.acquaintance(profiles.get(&id)?, me, &relation, Some(since))
        };
        Ok(Page { items: page.items.into_iter().filter_map(one).collect(), next_cursor: page.next_cursor })
    }

    /// A page of those whom the caller blocks, the newest first.
    pub async fn blocks(
        &self,
        me: UserId,
        before: Option<Cursor<Place>>,
        limit: Limit,
    ) -> Result<Page<Blocked>> {
        let (page, profiles) = self.page(me, List::Blocks, before, limit).await?;
        let one = |((since, user_id), relation): (Place, Relation)| {
            let username = &profiles.get(&user_id)?.username;
            let shown = relation.blocked_by.is_none().then(|| username.to_string());
            Some(Blocked { user_id, username: shown, since })
        };
        Ok(Page { items: page.items.into_iter().filter_map(one).collect(), next_cursor: page.next_cursor })
    }

    /// A page of a list, and the people in it. Whoever is leaving Tocsin has no profile any more.
    async fn page(
        &self,
        me: UserId,
        list: List,
        before: Option<Cursor<Place>>,
        limit: Limit,
    ) -> Result<(Page<(Place, Relation)>, HashMap<UserId, Profile>)> {
        let before = before.map(|cursor| cursor.0);
        let entries = self.friendships.list(me, list, before, limit.and_one()).await?;
        let page = Page::cut(entries, limit, scope(me, list), |(place, _)| *place);
        let ids: Vec<_> = page.items.iter().map(|((_, id), _)| *id).collect();
        let profiles = self.profiles_of(&ids).await?;
        Ok((page, profiles))
    }
}

impl<P: Profiles, F: Relations + Circles> Listing<'_, P, F> {
    /// A page of somebody's friends, in the order of their ids, as the caller sees them: without those who are hidden
    /// from the caller.
    pub async fn friends_of(
        &self,
        me: UserId,
        owner: UserId,
        hidden: impl Future<Output = Result<HiddenPeople>>,
        after: Option<Cursor<UserId>>,
        limit: Limit,
    ) -> Result<Counted<Acquaintance>> {
        let owners = [owner];
        let circles = Circles::of(self.friendships, &owners);
        let ((), mut circles, hidden) = try_join3(self.must_show_friends(me, owner), circles, hidden).await?;
        let friends = circles.remove(&owner).unwrap_or_default();
        let shown: Vec<_> = friends.ids().iter().copied().filter(|id| !hidden.contains(id)).collect();
        let total = shown.len();
        let scope = scope_of_friends(me, owner);
        let page = Page::of(shown, limit, scope, after.as_ref(), |id| *id);
        let (profiles, relations) =
            try_join(self.profiles_of(&page.items), Relations::of(self.friendships, me, &page.items)).await?;
        let one = |id: &UserId| {
            self.acquaintance(profiles.get(id)?, me, &relations.get(id).copied().unwrap_or_default(), None)
        };
        let items = page.items.iter().filter_map(one).collect();
        Ok(Counted { page: Page { items, next_cursor: page.next_cursor }, total })
    }

    /// A page of the friends whom the caller and somebody have in common, in the order of their ids.
    pub async fn mutual_with(
        &self,
        me: UserId,
        owner: UserId,
        after: Option<Cursor<UserId>>,
        limit: Limit,
    ) -> Result<Counted<Acquaintance>> {
        let both = [me, owner];
        let circles = Circles::of(self.friendships, &both);
        let ((), mut circles) = try_join(self.must_show_friends(me, owner), circles).await?;
        let theirs = circles.remove(&owner).unwrap_or_default();
        let common = if me == owner {
            theirs.ids().to_vec()
        } else {
            circles.remove(&me).unwrap_or_default().common(&theirs)
        };
        let (total, scope) = (common.len(), scope_of_mutual(me, owner));
        let page = Page::of(common, limit, scope, after.as_ref(), |id| *id);
        let profiles = self.profiles_of(&page.items).await?;
        // All of them are the caller's friends, and so none is hidden from the caller.
        let friend = Relation { friendship: Friendship::Accepted, ..Relation::default() };
        let one = |id: &UserId| self.acquaintance(profiles.get(id)?, me, &friend, None);
        let items = page.items.iter().filter_map(one).collect();
        Ok(Counted { page: Page { items, next_cursor: page.next_cursor }, total })
    }

    /// Refuses where somebody is not there for the caller, or keeps their friends to themselves.
    async fn must_show_friends(&self, me: UserId, owner: UserId) -> Result<()> {
        let (profile, relation) = try_join(
            person::existing(self.profiles, owner),
            friendship::between(self.friendships, me, owner),
        )
        .await?;
        let closeness = Closeness::of(me, owner, &relation).ok_or_else(friendship::no_such_person)?;
        if profile.visibility.friends.includes(closeness) {
            return Ok(());
        }
        let detail = "they do not show you their friends";
        Err(Refusal::new(Kind::Forbidden, "friends_not_shown", detail).into())
    }
}

impl<P: Profiles, F: Sync> Listing<'_, P, F> {
    async fn profiles_of(&self, ids: &[UserId]) -> Result<HashMap<UserId, Profile>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let profiles = self.profiles.get(ids).await?;
        Ok(profiles.into_iter().map(|profile| (profile.user_id, profile)).collect())
    }

    fn acquaintance(
        &self,
        profile: &Profile,
        me: UserId,
        relation: &Relation,
        since: Option<Timestamp>,
    ) -> Option<Acquaintance> {
        let closeness = Closeness::of(me, profile.user_id, relation)?;
        let profile = PublicProfile::of(profile, closeness, self.images);
        Some(Acquaintance { profile, friendship: relation.friendship, since })
    }
}
