//! The table of people: what they say of themselves, and the words that they are found by.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `person#<user id>` | `profile` | the profile |
//! | `name#<shelf>` | `<word>#<user id>` | `user_id`; `words`: all words of the person |
//!
//! A shelf holds the words that have the same first two characters ([`Word::shelf`]), so that those with the same beginning
//! are a range of one partition. A profile and its words are written in one transaction, and begin with the account's.

use std::collections::HashSet;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use serde::Deserialize;
use tocsin_domain::{
    Error, Result,
    ids::{ImageId, UserId},
    mail::EmailAddress,
    person::{MOST_AT_ONCE, Profile, ProfileEditor, ProfileEraser, Profiles, Replaced},
    person_search::{NameEntries, NameEntry, NameIndex, NamePlace, Word},
    profile_image::ImageEditor,
    time::Timestamp,
};

use super::{Action, Item, Table, Transacted, UsersTable, keys, number, read_all, text, write, write_all};
use crate::aws::failed;

/// People, and what they are found by.
#[derive(Clone, Debug)]
pub struct PeopleTable {
    table: Table,
}

impl PeopleTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: &Client, table: impl Into<String>) -> Self {
        Self { table: Table::new(client, table, "people") }
    }

    /// Stores a new person alone, without an account; answers whether there was none of this id.
    pub async fn add(&self, profile: &Profile) -> Result<bool> {
        Ok(matches!(self.table.transact(self.new_person(profile)?).await?, Transacted::Done))
    }

    /// What is done for a new person: part of the transaction that makes their account.
    pub(crate) fn new_person(&self, profile: &Profile) -> Result<Vec<Action>> {
        let mut actions = vec![self.put_profile(profile)?.on("attribute_not_exists(pk)")];
        for entry in NameEntry::of(profile) {
            actions.push(self.put_entry(&entry)?);
        }
        Ok(actions)
    }

    /// What is done for a person with another mail address: part of the transaction that changes their account.
    pub(crate) fn new_email(&self, id: UserId, email: &EmailAddress) -> Action {
        let update = "SET email = :email, revision = revision + :one";
        let update = self.table.update(profile_key(id), update).on("attribute_exists(pk)");
        update.with(":email", text(email)).with(":one", number(1))
    }

    fn put_profile(&self, profile: &Profile) -> Result<Action> {
        let mut item = write_all("a profile", profile)?;
        item.extend(profile_key(profile.user_id));
        Ok(self.table.put(item))
    }

    fn put_entry(&self, entry: &NameEntry) -> Result<Action> {
        let mut item = entry_key(&entry.word, entry.user_id);
        item.insert("user_id".to_owned(), text(entry.user_id));
        item.insert("words".to_owned(), write("words", &entry.words)?);
        Ok(self.table.put(item))
    }

    /// What changes in the index.
    fn move_entries(&self, old: &[NameEntry], new: &[NameEntry]) -> Result<Vec<Action>> {
        let gone = old.iter().filter(|old| new.iter().all(|new| new.word != old.word));
        let mut actions: Vec<_> =
            gone.map(|entry| self.table.delete(entry_key(&entry.word, entry.user_id))).collect();
        // An entry has all words: where one changes, all entries do.
        for entry in new.iter().filter(|entry| !old.contains(entry)) {
            actions.push(self.put_entry(entry)?);
        }
        Ok(actions)
    }

    /// What changes of a person: the first action is that of the profile, and fails where it is not `old` any more.
    fn replace_person(&self, old: &Profile, new: &Profile) -> Result<Vec<Action>> {
        let mut actions = vec![unchanged(self.put_profile(new)?, old)];
        actions.extend(self.move_entries(&NameEntry::of(old), &NameEntry::of(new))?);
        Ok(actions)
    }
}

fn unchanged(action: Action, old: &Profile) -> Action {
    action.on("revision = :seen").with(":seen", revision(old))
}

fn revision(profile: &Profile) -> AttributeValue {
    AttributeValue::N(profile.revision.to_string())
}

impl Profiles for PeopleTable {
    async fn get(&self, ids: &[UserId]) -> Result<Vec<Profile>> {
        // A batch that names a key twice is refused.
        let ids: Vec<_> = ids.iter().copied().collect::<HashSet<_>>().into_iter().collect();
        let mut profiles = Vec::with_capacity(ids.len());
        for some in ids.chunks(MOST_AT_ONCE) {
            for item in self.table.get_all(some.iter().copied().map(profile_key).collect()).await? {
                profiles.push(read_all("a profile", item)?);
            }
        }
        Ok(profiles)
    }
}

impl ImageEditor for PeopleTable {
    async fn set_image(&self, old: &Profile, image: Option<ImageId>) -> Result<bool> {
        let revise = "SET revision = revision + :one";
        let expression = if image.is_some() {
            format!("{revise}, image = :image")
        } else {
            format!("{revise} REMOVE image")
        };
        let request = self
            .table
            .update_item(profile_key(old.user_id))
            .update_expression(expression)
            .condition_expression("revision = :seen")
            .expression_attribute_values(":seen", revision(old))
            .expression_attribute_values(":one", number(1));
        let request = match image {
            Some(image) => request.expression_attribute_values(":image", text(image)),
            None => request,
        };
        self.table.held(request.send().await)
    }
}

impl ProfileEraser for PeopleTable {
    async fn erase(&self, id: UserId) -> Result<Option<Profile>> {
        for _ in 0..MOST_TRIES {
            let Some(item) = self.table.get(profile_key(id)).await? else { return Ok(None) };
            let profile: Profile = read_all("a profile", item)?;
            let mut actions = vec![unchanged(self.table.delete(profile_key(id)), &profile)];
            actions.extend(self.move_entries(&NameEntry::of(&profile), &[])?);
            if matches!(self.table.transact(actions).await?, Transacted::Done) {
                return Ok(Some(profile));
            }
        }
        Err(Error::unavailable(self.table.service, "a profile is changed by many at once"))
    }
}

const MOST_TRIES: usize = 5;

#[derive(Deserialize)]
struct Entry {
    sk: String,
    user_id: UserId,
    words: Vec<Word>,
}

impl NameIndex for PeopleTable {
    async fn beginning(&self, prefix: &Word, after: Option<&NamePlace>, limit: usize) -> Result<NameEntries> {
        let Some(pk) = prefix.shelf().map(shelf_pk) else {
            return Ok(NameEntries { entries: Vec::new(), more: false });
        };
        // The key that a page ended with need not be there any more: what comes after it is read all the same. A key is at
        // most 1,024 bytes long, far more than a word and an id.
        let request = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":prefix", text(prefix.as_str()))
            .set_exclusive_start_key(after.map(|after| entry_key(&after.word, after.user_id)))
            .consistent_read(true)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = request.send().await.map_err(failed(self.table.service))?;
        let read = |item| {
            let Entry { sk, user_id, words } = read_all("a word of a name", item)?;
            // Of a person's words, one is where the entry stands.
            let word = words.iter().find(|word| sk == entry_sk(word, user_id)).cloned();
            let word =
                word.ok_or_else(|| Error::unreadable("a word of a name", "it is not among its words"))?;
            Ok(NameEntry { word, user_id, words })
        };
        // Also where a megabyte was full before the limit was reached.
        let more = answer.last_evaluated_key.is_some();
        let entries = answer.items.unwrap_or_default().into_iter().map(read).collect::<Result<_>>()?;
        Ok(NameEntries { entries, more })
    }
}

/// People, together with the accounts that their usernames are in.
#[derive(Clone, Debug)]
pub struct PeopleEditor {
    people: PeopleTable,
    users: UsersTable,
}

impl PeopleEditor {
    /// The tables of these names.
    #[must_use]
    pub fn new(client: &Client, people: impl Into<String>, users: impl Into<String>) -> Self {
        Self { people: PeopleTable::new(client, people), users: UsersTable::new(client, users) }
    }
}

impl Profiles for PeopleEditor {
    async fn get(&self, ids: &[UserId]) -> Result<Vec<Profile>> {
        self.people.get(ids).await
    }
}

impl ProfileEditor for PeopleEditor {
    async fn replace(&self, old: &Profile, new: &Profile, now: Timestamp) -> Result<Replaced> {
        let mut actions = self.people.replace_person(old, new)?;
        let mut takes_name = false;
        if old.username != new.username {
            let renaming = self.users.renaming(old.user_id, &old.username, &new.username, now).await?;
            let Some(renaming) = renaming else { return Ok(Replaced::AccountClosed) };
            actions.extend(renaming.actions);
            takes_name = renaming.takes_name;
        }
        match self.people.table.transact(actions).await? {
            Transacted::Done => Ok(Replaced::Done),
            Transacted::Cancelled { held } if takes_name && only_the_last_failed(&held) => {
                Ok(Replaced::UsernameTaken)
            }
            Transacted::Cancelled { .. } => Ok(Replaced::Superseded),
        }
    }
}

fn only_the_last_failed(held: &[bool]) -> bool {
    held.split_last().is_some_and(|(last, others)| !last && others.iter().all(|held| *held))
}

fn profile_key(id: UserId) -> Item {
    keys(format!("person#{id}"), "profile")
}

fn shelf_pk(shelf: &str) -> String {
    format!("name#{shelf}")
}

fn entry_sk(word: &Word, id: UserId) -> String {
    format!("{}#{id}", word.as_str())
}

/// Only words that stand on a shelf have entries.
fn entry_key(word: &Word, id: UserId) -> Item {
    keys(shelf_pk(word.shelf().unwrap_or_default()), entry_sk(word, id))
}
