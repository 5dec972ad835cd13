//! People, and their images.

use std::collections::BTreeMap;

use tocsin_domain::{
    Result,
    ids::{ImageId, UserId},
    mail::EmailAddress,
    person::{Profile, ProfileEraser, Profiles},
    person_search::{NameEntries, NameEntry, NameIndex, NamePlace, Word},
    profile_image::{ImageEditor, ImageStore, StoredImage},
};

use super::Shared;

/// People, by themselves: that a username is one person's alone is for their accounts.
#[derive(Clone, Debug, Default)]
pub struct MemoryPeople {
    people: Shared<BTreeMap<UserId, Profile>>,
}

impl MemoryPeople {
    /// Stores a new person; answers whether there was none of this id.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn add(&self, profile: &Profile) -> bool {
        let mut people = self.people.lock();
        let is_new = !people.contains_key(&profile.user_id);
        people.entry(profile.user_id).or_insert_with(|| profile.clone());
        is_new
    }

    /// Gives a person another mail address, as part of the change of their account.
    pub(crate) fn set_email(&self, id: UserId, email: &EmailAddress) {
        if let Some(profile) = self.people.lock().get_mut(&id) {
            (profile.email, profile.revision) = (Some(email.clone()), profile.revision + 1);
        }
    }

    /// Puts `new` in the place of `old`, if that is still how it is; answers whether it was.
    pub(crate) fn replace(&self, old: &Profile, new: &Profile) -> bool {
        let mut people = self.people.lock();
        let there = people.get_mut(&old.user_id).filter(|there| there.revision == old.revision);
        there.map(|there| *there = new.clone()).is_some()
    }
}

impl Profiles for MemoryPeople {
    async fn get(&self, ids: &[UserId]) -> Result<Vec<Profile>> {
        let people = self.people.lock();
        Ok(people.values().filter(|profile| ids.contains(&profile.user_id)).cloned().collect())
    }
}

impl ImageEditor for MemoryPeople {
    async fn set_image(&self, old: &Profile, image: Option<ImageId>) -> Result<bool> {
        let new = Profile { image, revision: old.revision + 1, ..old.clone() };
        Ok(self.replace(old, &new))
    }
}

/// The bucket of profile images.
#[derive(Clone, Debug, Default)]
pub struct MemoryImages {
    images: Shared<BTreeMap<(UserId, ImageId), StoredImage>>,
}

impl MemoryImages {
    /// Uploads an image.
    pub fn upload(&self, owner: UserId, image: ImageId, stored: StoredImage) {
        self.images.lock().insert((owner, image), stored);
    }
}

impl ImageStore for MemoryImages {
    async fn look(&self, owner: UserId, image: ImageId) -> Result<Option<StoredImage>> {
        Ok(self.images.lock().get(&(owner, image)).cloned())
    }

    async fn of(&self, owner: UserId) -> Result<Vec<ImageId>> {
        let images = self.images.lock();
        Ok(images.keys().filter(|(of, _)| *of == owner).map(|(_, image)| *image).collect())
    }

    async fn remove(&self, owner: UserId, image: ImageId) -> Result<()> {
        self.images.lock().remove(&(owner, image));
        Ok(())
    }
}

impl ProfileEraser for MemoryPeople {
    async fn erase(&self, id: UserId) -> Result<Option<Profile>> {
        Ok(self.people.lock().remove(&id))
    }
}

impl NameIndex for MemoryPeople {
    async fn beginning(&self, prefix: &Word, after: Option<&NamePlace>, limit: usize) -> Result<NameEntries> {
        let place = |entry: &NameEntry| NamePlace { word: entry.word.clone(), user_id: entry.user_id };
        let mut entries: Vec<_> = self.people.lock().values().flat_map(NameEntry::of).collect();
        entries.retain(|entry| {
            let is_on_shelf = prefix.shelf().is_some() && entry.word.shelf() == prefix.shelf();
            is_on_shelf && entry.word.begins_with(prefix) && after.is_none_or(|after| place(entry) > *after)
        });
        entries.sort_by_key(place);
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(NameEntries { entries, more })
    }
}
