//! The table of reactions: who confirms and flags which post, what that comes to, and what waits for moderators.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `post#<post>#<shard>` | `confirmation#<user>` | that this one sees it too |
//! | `post#<post>#<shard>` | `count` | `confirmations`, `flags_<reason>`: how many there are of this shard's people |
//! | `post#<post>` | `flag#<user>` | `flag`; `flagged_for`: its reason; `noted`, if it has a note: its place among those |
//! | `post#<post>` | `standing` | what was last told of the post |
//! | `user#<user>` | `confirmation#<post>`, `flag#<post>` | `reaction`: the same, by person; `uncounted` once it is being erased |
//! | `moderation` | `post#<post>` | `withheld_at`: it waits for a moderator |
//!
//! The index `noted` has the flags of a post that have a note by `noted`, which is `<ms>#<user>`.
//!
//! A reaction changes its items and its count in one transaction. A post that everybody reacts to has [`SHARDS`] counts, in
//! a partition each: one partition takes 1,000 writes a second, and transactions on one item come one after the other.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use tocsin_domain::{
    Error, Result,
    ids::{PostId, UserId},
    moderation::{FlaggedPosts, Standing, Standings},
    reaction::{
        Counts, Flag, FlagReason, OwnReactions, Reaction, ReactionCounts, ReactionEraser, ReactionKind,
        Reactions,
    },
    time::Timestamp,
};

use super::{
    Action, Item, Table, Transacted, keys, number, read, read_all, shard_of, text, write, write_all,
};
use crate::aws::failed;

/// Who confirms and flags which post.
#[derive(Clone, Debug)]
pub struct ReactionsTable {
    table: Table,
}

/// How many counts a post has.
const SHARDS: u8 = 16;
/// How often a flag is changed again that its person changed meanwhile.
const MOST_TRIES: usize = 5;

impl ReactionsTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "reactions") }
    }

    /// The change of a count, by what is added to what: `confirmations`, or a reason's flags.
    fn count(&self, post_id: PostId, user_id: UserId, changes: &[(&str, i64)]) -> Action {
        let additions = (0..).zip(changes).map(|(place, (what, _))| format!("{what} :n{place}"));
        let expression = format!("ADD {}", additions.collect::<Vec<_>>().join(", "));
        let update = self.table.update(keys(shard(post_id, user_id), COUNT), &expression);
        let values = (0..).zip(changes).map(|(place, (_, by)): (usize, _)| (format!(":n{place}"), *by));
        values.fold(update, |update, (name, by)| update.with(&name, number(by)))
    }

    /// Somebody's flag of a post.
    async fn flag_of(&self, post_id: PostId, user_id: UserId) -> Result<Option<Flag>> {
        let item = self.table.get(reaction_key(post_id, user_id, ReactionKind::Flag)).await?;
        item.map(|mut item| read("a flag", &mut item, "flag")).transpose()
    }

    /// Up to `limit` items of a partition whose sort keys begin with `prefix`, after one of them, in their order.
    async fn page(&self, pk: String, prefix: &str, after: Option<PostId>, limit: usize) -> Result<Vec<Item>> {
        // No id is as high as this.
        let last = format!("{prefix}~");
        let first = after.map_or_else(|| prefix.to_owned(), |after| format!("{prefix}{after}"));
        let query = self
            .table
            .query()
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", text(&pk))
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last))
            .set_exclusive_start_key(after.map(|after| keys(&pk, format!("{prefix}{after}"))));
        self.table.find(query, limit).await
    }
}

impl Reactions for ReactionsTable {
    async fn confirm(&self, post_id: PostId, user_id: UserId, now: Timestamp) -> Result<()> {
        let kind = ReactionKind::Confirmation;
        let reaction = Reaction::Confirmation { confirmed_at: now };
        let confirmed = vec![
            self.table.put(reaction_key(post_id, user_id, kind)).on("attribute_not_exists(pk)"),
            self.table.put(own_item(post_id, user_id, kind, &reaction)?),
            self.count(post_id, user_id, &[(CONFIRMATIONS, 1)]),
        ];
        // Where it is not done, it was before.
        self.table.transact(confirmed).await.map(drop)
    }

    async fn withdraw(&self, post_id: PostId, user_id: UserId) -> Result<()> {
        let kind = ReactionKind::Confirmation;
        let withdrawn = vec![
            self.table.delete(reaction_key(post_id, user_id, kind)).on("attribute_exists(pk)"),
            self.table.delete(own_key(post_id, user_id, kind)),
            self.count(post_id, user_id, &[(CONFIRMATIONS, -1)]),
        ];
        self.table.transact(withdrawn).await.map(drop)
    }

    async fn flag(&self, post_id: PostId, user_id: UserId, flag: &Flag) -> Result<()> {
        for _ in 0..MOST_TRIES {
            let old = self.flag_of(post_id, user_id).await?;
            let same = |old: &Flag| (old.reason, &old.note) == (flag.reason, &flag.note);
            if old.as_ref().is_some_and(same) {
                return Ok(());
            }
            let put = self.table.put(flag_item(post_id, user_id, flag)?);
            let put = match &old {
                Some(old) => put.on("flagged_for = :seen").with(":seen", text(old.reason.as_str())),
                None => put.on("attribute_not_exists(pk)"),
            };
            let own = own_item(post_id, user_id, ReactionKind::Flag, &Reaction::Flag(flag.clone()))?;
            let mut flagged = vec![put, self.table.put(own)];
            let old = old.map(|old| old.reason);
            if old != Some(flag.reason) {
                let less = old.map(|old| (flags(old), -1));
                let changes: Vec<_> = [(flags(flag.reason), 1)].into_iter().chain(less).collect();
                flagged.push(self.count(post_id, user_id, &changes));
            }
            if matches!(self.table.transact(flagged).await?, Transacted::Done) {
                return Ok(());
            }
        }
        Err(Error::unavailable(self.table.service, "a flag changes all the time"))
    }
}

impl ReactionCounts for ReactionsTable {
    async fn of(&self, post_id: PostId) -> Result<Counts> {
        let all = (0..SHARDS).map(|shard| keys(shard_key(post_id, shard), COUNT)).collect();
        let (mut confirmations, mut counted) = (0_i64, BTreeMap::<FlagReason, i64>::new());
        for item in self.table.get_all(all).await? {
            confirmations += counted_in(&item, CONFIRMATIONS)?;
            for reason in FlagReason::ALL {
                *counted.entry(reason).or_default() += counted_in(&item, flags(reason))?;
            }
        }
        let whole = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
        let counted = counted.into_iter().filter(|(_, count)| *count > 0);
        Ok(Counts {
            confirmations: whole(confirmations),
            flags: counted.map(|(reason, count)| (reason, whole(count))).collect(),
        })
    }
}

impl OwnReactions for ReactionsTable {
    async fn of(
        &self,
        owner: UserId,
        kind: ReactionKind,
        after: Option<PostId>,
        limit: usize,
    ) -> Result<Vec<(PostId, Reaction)>> {
        let prefix = prefix(kind);
        let one = |mut item: Item| {
            let post_id = post_in(&mut item, prefix)?;
            Ok((post_id, read("a reaction", &mut item, "reaction")?))
        };
        let items = self.page(format!("user#{owner}"), prefix, after, limit).await?;
        items.into_iter().map(one).collect()
    }
}

impl ReactionEraser for ReactionsTable {
    async fn uncount(&self, owner: UserId, post_id: PostId, kind: ReactionKind) -> Result<()> {
        for _ in 0..MOST_TRIES {
            let taken = self.table.delete(reaction_key(post_id, owner, kind));
            let (taken, what) = match kind {
                ReactionKind::Confirmation => (taken.on("attribute_exists(pk)"), CONFIRMATIONS),
                ReactionKind::Flag => {
                    let Some(flag) = self.flag_of(post_id, owner).await? else { return Ok(()) };
                    let taken = taken.on("flagged_for = :seen").with(":seen", text(flag.reason.as_str()));
                    (taken, flags(flag.reason))
                }
            };
            let own = self.table.update(own_key(post_id, owner, kind), "SET uncounted = :yes");
            let own = own.with(":yes", AttributeValue::Bool(true));
            let uncounted = vec![taken, own, self.count(post_id, owner, &[(what, -1)])];
            let is_done = matches!(self.table.transact(uncounted).await?, Transacted::Done);
            // A confirmation that is not there was taken before; a flag may be another one by now.
            if is_done || kind == ReactionKind::Confirmation {
                return Ok(());
            }
        }
        Err(Error::unavailable(self.table.service, "a flag changes all the time"))
    }

    async fn forget(&self, owner: UserId, post_id: PostId, kind: ReactionKind) -> Result<()> {
        let request = self.table.delete_item(own_key(post_id, owner, kind));
        let request = request.condition_expression("attribute_exists(uncounted)");
        self.table.held(request.send().await).map(drop)
    }
}

impl Standings for ReactionsTable {
    async fn get(&self, post_id: PostId) -> Result<Option<Standing>> {
        let item = self.table.get(standing_key(post_id)).await?;
        item.map(|item| read_all("a standing", item)).transpose()
    }

    async fn claim(&self, post_id: PostId, old: Option<&Standing>, new: &Standing) -> Result<bool> {
        let mut item = write_all("a standing", new)?;
        item.extend(standing_key(post_id));
        let put = self.table.put(item);
        let mut claimed = vec![match old {
            Some(old) => put.on("edit_id = :seen").with(":seen", text(old.edit_id)),
            None => put.on("attribute_not_exists(pk)"),
        }];
        if new.is_undecided() {
            let waits = "SET withheld_at = if_not_exists(withheld_at, :now)";
            let waits = self.table.update(waiting_key(post_id), waits);
            claimed.push(waits.with(":now", write("a time", &new.edit_id.time())?));
        }
        Ok(matches!(self.table.transact(claimed).await?, Transacted::Done))
    }

    async fn settle(&self, post_id: PostId, standing: &Standing) -> Result<()> {
        let told = self.table.update(standing_key(post_id), "SET told = :yes").on("edit_id = :mine");
        let told = told.with(":yes", AttributeValue::Bool(true)).with(":mine", text(standing.edit_id));
        let decided = standing.decision.map(|_| self.table.delete(waiting_key(post_id)));
        self.table.transact([told].into_iter().chain(decided).collect()).await.map(drop)
    }
}

impl FlaggedPosts for ReactionsTable {
    async fn waiting(&self, after: Option<PostId>, limit: usize) -> Result<Vec<(PostId, Timestamp)>> {
        let one = |mut item: Item| {
            let post_id = post_in(&mut item, WAITING)?;
            Ok((post_id, read("a flagged post", &mut item, "withheld_at")?))
        };
        let items = self.page(MODERATION.to_owned(), WAITING, after, limit).await?;
        items.into_iter().map(one).collect()
    }

    async fn newest_notes(&self, post_id: PostId, limit: usize) -> Result<Vec<Flag>> {
        let request = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name("noted")
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(post_key(post_id)))
            .scan_index_forward(false)
            .consistent_read(true)
            // Few, and of 500 characters: far below a megabyte.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = request.send().await.map_err(failed(self.table.service))?;
        let items = answer.items.unwrap_or_default().into_iter();
        items.map(|mut item| read("a flag", &mut item, "flag")).collect()
    }
}

const COUNT: &str = "count";
const CONFIRMATIONS: &str = "confirmations";
const MODERATION: &str = "moderation";
const WAITING: &str = "post#";

/// The attribute of a count that has the flags for a reason.
const fn flags(reason: FlagReason) -> &'static str {
    match reason {
        FlagReason::False => "flags_false",
        FlagReason::Spam => "flags_spam",
        FlagReason::Abuse => "flags_abuse",
        FlagReason::Other => "flags_other",
    }
}

fn counted_in(item: &Item, what: &str) -> Result<i64> {
    let Some(count) = item.get(what) else { return Ok(0) };
    let count = count.as_n().ok().and_then(|digits| digits.parse().ok());
    count.ok_or_else(|| Error::unreadable("a count", format!("{what} is no whole number")))
}

/// What the sort keys of a kind begin with.
const fn prefix(kind: ReactionKind) -> &'static str {
    match kind {
        ReactionKind::Confirmation => "confirmation#",
        ReactionKind::Flag => "flag#",
    }
}

fn post_key(post_id: PostId) -> String {
    format!("post#{post_id}")
}

fn shard(post_id: PostId, user_id: UserId) -> String {
    shard_key(post_id, shard_of(user_id, SHARDS))
}

fn shard_key(post_id: PostId, shard: u8) -> String {
    format!("post#{post_id}#{shard}")
}

fn reaction_key(post_id: PostId, user_id: UserId, kind: ReactionKind) -> Item {
    let pk = match kind {
        ReactionKind::Confirmation => shard(post_id, user_id),
        ReactionKind::Flag => post_key(post_id),
    };
    keys(pk, format!("{}{user_id}", prefix(kind)))
}

fn flag_item(post_id: PostId, user_id: UserId, flag: &Flag) -> Result<Item> {
    let mut item = reaction_key(post_id, user_id, ReactionKind::Flag);
    item.insert("flag".to_owned(), write("a flag", flag)?);
    item.insert("flagged_for".to_owned(), text(flag.reason.as_str()));
    if flag.note.is_some() {
        // Thirteen digits of milliseconds last until 2286.
        let noted = format!("{:013}#{user_id}", flag.flagged_at.as_millisecond());
        item.insert("noted".to_owned(), text(noted));
    }
    Ok(item)
}

fn own_key(post_id: PostId, user_id: UserId, kind: ReactionKind) -> Item {
    keys(format!("user#{user_id}"), format!("{}{post_id}", prefix(kind)))
}

fn own_item(post_id: PostId, user_id: UserId, kind: ReactionKind, reaction: &Reaction) -> Result<Item> {
    let mut item = own_key(post_id, user_id, kind);
    item.insert("reaction".to_owned(), write("a reaction", reaction)?);
    Ok(item)
}

fn standing_key(post_id: PostId) -> Item {
    keys(post_key(post_id), "standing")
}

fn waiting_key(post_id: PostId) -> Item {
    keys(MODERATION, format!("{WAITING}{post_id}"))
}

/// The post that a sort key names after what it begins with.
fn post_in(item: &mut Item, prefix: &str) -> Result<PostId> {
    let sk: String = read("a reaction", item, "sk")?;
    let post_id = sk.strip_prefix(prefix).and_then(|id| id.parse().ok());
    post_id.ok_or_else(|| Error::unreadable("a reaction", "its key names no post"))
}
