//! People: what each says of themselves, and who may see it.
//!
//! A [`Profile`] is its owner's. Everybody else gets a [`PublicProfile`], which is made from it and from how close they
//! are ([`Closeness`]), and from nothing else: there is one place that decides what is shown.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    str::FromStr,
};

use futures::future::try_join;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    account::Username,
    error::Invalid,
    friendship::{Friendship, Relation, Relations, no_such_person},
    ids::{ImageId, UserId},
    mail::EmailAddress,
    time::Timestamp,
};

/// To whom something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownTo {
    /// To its owner alone.
    Nobody,
    /// To their friends.
    Friends,
    /// To everyone with an account, save for those in a block with them.
    Everyone,
}

impl ShownTo {
    /// Whether it is shown to somebody.
    #[must_use]
    pub fn includes(self, closeness: Closeness) -> bool {
        match closeness {
            Closeness::Myself => true,
            Closeness::Friend => self != Self::Nobody,
            Closeness::Stranger => self == Self::Everyone,
        }
    }
}

impl FromStr for ShownTo {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "nobody" => Ok(Self::Nobody),
            "friends" => Ok(Self::Friends),
            "everyone" => Ok(Self::Everyone),
            _ => Err(Invalid::new("not_in_list", "must be nobody, friends or everyone")),
        }
    }
}

/// How close a caller is to a person. One who blocks the other, or is blocked, is not even a stranger: to them the person
/// does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// They are the same.
    Myself,
    /// They are friends.
    Friend,
    /// They are not.
    Stranger,
}

impl Closeness {
    /// How close `me` is to somebody, by what they are to me; none where one of us is hidden from the other.
    #[must_use]
    pub fn of(me: UserId, other: UserId, relation: &Relation) -> Option<Self> {
        if me == other {
            return Some(Self::Myself);
        }
        let is_friend = relation.friendship == Friendship::Accepted;
        (!relation.is_hidden()).then_some(if is_friend { Self::Friend } else { Self::Stranger })
    }
}

/// To whom each field of a profile is shown. The username and the image are shown to everyone: without them, there would
/// be nobody to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Visibility {
    /// The first name.
    pub first_name: ShownTo,
    /// The last name.
    pub last_name: ShownTo,
    /// The description.
    pub description: ShownTo,
    /// The gender.
    pub gender: ShownTo,
    /// The date of birth.
    pub date_of_birth: ShownTo,
    /// The school.
    pub school: ShownTo,
    /// The work.
    pub work: ShownTo,
    /// The location.
    pub location: ShownTo,
    /// The mail address; and so by whom the person is found with it.
    pub email: ShownTo,
    /// The list of friends.
    pub friends: ShownTo,
}

impl Default for Visibility {
    fn default() -> Self {
        Self {
            first_name: ShownTo::Everyone,
            last_name: ShownTo::Everyone,
            description: ShownTo::Everyone,
            gender: ShownTo::Nobody,
            date_of_birth: ShownTo::Nobody,
            school: ShownTo::Friends,
            work: ShownTo::Friends,
            location: ShownTo::Friends,
            email: ShownTo::Nobody,
            friends: ShownTo::Everyone,
        }
    }
}

/// The default of [`Profile::visit_sharing`]: where somebody was is the most private thing here.
pub(crate) const VISIT_SHARING: ShownTo = ShownTo::Nobody;

/// What a person says of themselves, as it is stored. Its name and address are also in the account, and are changed
/// together with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Who it is.
    pub user_id: UserId,
    /// The name that everyone sees.
    pub username: Username,
    /// The mail address, if there is one: who came by another identity may have none.
    pub email: Option<EmailAddress>,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// Some words.
    pub description: Option<String>,
    /// The gender, in one's own words.
    pub gender: Option<String>,
    /// The date of birth.
    pub date_of_birth: Option<Date>,
    /// The school.
    pub school: Option<String>,
    /// The work.
    pub work: Option<String>,
    /// The place that one is from, or lives in.
    pub location: Option<String>,
    /// To whom each of these is shown.
    #[serde(default)]
    pub visibility: Visibility,
    /// Who may learn that they were near.
    pub visit_sharing: ShownTo,
    /// The image, if there is one.
    pub image: Option<ImageId>,
    /// How often it was changed: a change is made to the state that it was thought of for.
    pub revision: u64,
}

impl Profile {
    /// The profile of a new person.
    #[must_use]
    pub fn new(user_id: UserId, username: Username, email: Option<EmailAddress>) -> Self {
        Self {
            user_id,
            username,
            email,
            first_name: None,
            last_name: None,
            description: None,
            gender: None,
            date_of_birth: None,
            school: None,
            work: None,
            location: None,
            visibility: Visibility::default(),
            visit_sharing: VISIT_SHARING,
            image: None,
            revision: 0,
        }
    }

    /// The names that everyone may find the person by.
    pub(crate) fn open_names(&self) -> impl Iterator<Item = String> {
        let open = |name: &Option<String>, shown_to: ShownTo| {
            name.clone().filter(|_| shown_to.includes(Closeness::Stranger))
        };
        [
            Some(self.username.to_string()),
            open(&self.first_name, self.visibility.first_name),
            open(&self.last_name, self.visibility.last_name),
        ]
        .into_iter()
        .flatten()
    }
}

/// Where the images of profiles are: the address of the bucket, as browsers reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileImageUrls {
    base: String,
}

impl ProfileImageUrls {
    /// Images under this address.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned() }
    }

    /// The address of an image.
    #[must_use]
    pub fn url(&self, owner: UserId, image: ImageId) -> String {
        format!("{}/{}", self.base, image_key(owner, image))
    }

    fn of(&self, profile: &Profile) -> Option<String> {
        profile.image.map(|image| self.url(profile.user_id, image))
    }
}

/// What an image is called in its bucket. Another image is another name, so that caches may keep each for ever.
#[must_use]
pub fn image_key(owner: UserId, image: ImageId) -> String {
    format!("profile-images/{owner}/{image}")
}

/// A profile, as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateProfile {
    #[serde(flatten)]
    shown: PublicProfile,
    /// To whom each field is shown.
    pub visibility: Visibility,
    /// Who may learn that they were near.
    pub visit_sharing: ShownTo,
}

impl PrivateProfile {
    /// All of a profile.
    #[must_use]
    pub fn of(profile: &Profile, images: &ProfileImageUrls) -> Self {
        Self {
            shown: PublicProfile::of(profile, Closeness::Myself, images),
            visibility: profile.visibility.clone(),
            visit_sharing: profile.visit_sharing,
        }
    }
}

/// A profile, as somebody else sees it: what is not shown to them looks as if it were not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicProfile {
    /// Who it is.
    pub user_id: UserId,
    /// The name that everyone sees.
    pub username: Username,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// Some words.
    pub description: Option<String>,
    /// The gender.
    pub gender: Option<String>,
    /// The date of birth.
    pub date_of_birth: Option<Date>,
    /// The school.
    pub school: Option<String>,
    /// The work.
    pub work: Option<String>,
    /// The place that they are from, or live in.
    pub location: Option<String>,
    /// The mail address.
    pub email: Option<EmailAddress>,
    /// Where the image is.
    pub profile_image_url: Option<String>,
}

impl PublicProfile {
    /// What a profile shows to somebody.
    #[must_use]
    pub fn of(profile: &Profile, closeness: Closeness, images: &ProfileImageUrls) -> Self {
        fn shown<T: Clone>(value: Option<&T>, shown_to: ShownTo, closeness: Closeness) -> Option<T> {
            value.filter(|_| shown_to.includes(closeness)).cloned()
        }
        let Visibility {
            first_name,
            last_name,
            description,
            gender,
            date_of_birth,
            school,
            work,
            location,
            email,
            friends: _,
        } = profile.visibility;
        Self {
            user_id: profile.user_id,
            username: profile.username.clone(),
            first_name: shown(profile.first_name.as_ref(), first_name, closeness),
            last_name: shown(profile.last_name.as_ref(), last_name, closeness),
            description: shown(profile.description.as_ref(), description, closeness),
            gender: shown(profile.gender.as_ref(), gender, closeness),
            date_of_birth: shown(profile.date_of_birth.as_ref(), date_of_birth, closeness),
            school: shown(profile.school.as_ref(), school, closeness),
            work: shown(profile.work.as_ref(), work, closeness),
            location: shown(profile.location.as_ref(), location, closeness),
            email: shown(profile.email.as_ref(), email, closeness),
            profile_image_url: images.of(profile),
        }
    }
}

/// The most people that are read at once: what one `BatchGetItem` of DynamoDB answers.
pub const MOST_AT_ONCE: usize = 100;

/// Reads ids with commas between, at most [`MOST_AT_ONCE`]: each once, in the order in which they first come.
pub fn ids_from_list(list: &str) -> Result<Vec<UserId>, Invalid> {
    let mut ids: Vec<UserId> = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
    if ids.len() > MOST_AT_ONCE {
        return Err(Invalid::new("too_many", format!("must be at most {MOST_AT_ONCE} ids")));
    }
    let mut seen = HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

/// Reads people.
pub trait Profiles: Sync {
    /// Those of them that there are, in any order. At most [`MOST_AT_ONCE`] are one request, read consistently.
    fn get(&self, ids: &[UserId]) -> impl Future<Output = Result<Vec<Profile>>> + Send;
}

/// Changes people.
pub trait ProfileEditor: Profiles {
    /// Puts `new` in the place of `old`, if that is still how it is, and with it what the person is found by. Another
    /// username is taken in the same transaction, also in the account. The one before is reserved for them, who may take it
    /// back, for [`FORMER_USERNAME_SECONDS`](crate::account::FORMER_USERNAME_SECONDS); and the one before that is free.
    fn replace(
        &self,
        old: &Profile,
        new: &Profile,
        now: Timestamp,
    ) -> impl Future<Output = Result<Replaced>> + Send;
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is made.
    Done,
    /// Another change came in between, or the person is gone.
    Superseded,
    /// Somebody has this username, or it is reserved for somebody.
    UsernameTaken,
    /// There is no account to be called so: its owner has left, and the profile goes too.
    AccountClosed,
}

/// Removes people.
pub trait ProfileEraser: Sync {
    /// Removes the profile, and what the person is found by; answers the profile, if there was one.
    fn erase(&self, id: UserId) -> impl Future<Output = Result<Option<Profile>>> + Send;
}

/// The profile of somebody, who is refused where there is no such person.
pub async fn existing(profiles: &impl Profiles, id: UserId) -> Result<Profile> {
    Ok(profiles.get(&[id]).await?.pop().ok_or_else(no_such_person)?)
}

/// What these people show to the caller, in this order, each once. Who is not there, or hidden from the caller, is left
/// out. One request of either port, at the same time.
pub async fn shown_to(
    profiles: &impl Profiles,
    relations: &impl Relations,
    images: &ProfileImageUrls,
    me: UserId,
    ids: &[UserId],
) -> Result<Vec<PublicProfile>> {
    let (found, relations) = try_join(profiles.get(ids), relations.of(me, ids)).await?;
    let mut shown: HashMap<UserId, PublicProfile> = found
        .iter()
        .filter_map(|profile| {
            let id = profile.user_id;
            let closeness = Closeness::of(me, id, &relations.get(&id).copied().unwrap_or_default())?;
            Some((id, PublicProfile::of(profile, closeness, images)))
        })
        .collect();
    Ok(ids.iter().filter_map(|id| shown.remove(id)).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::time;

    /// A profile in which everything is said.
    pub(crate) fn profile() -> Profile {
        let (now, some) = (time::now(), |text: &str| Some(text.to_owned()));
        Profile {
            first_name: some("Ada"),
            last_name: some("Lovelace"),
            description: some("Poetical science."),
            gender: some("female"),
            date_of_birth: Some(Date::constant(1915, 12, 10)),
            school: some("Home"),
            work: some("Analyst"),
            location: some("Bergen"),
            image: Some(ImageId::new(now)),
            ..Profile::new(UserId::new(now), "ada".parse().unwrap(), Some("ada@example.org".parse().unwrap()))
        }
    }

    const FIELDS: [&str; 9] = [
        "first_name",
        "last_name",
        "description",
        "gender",
        "date_of_birth",
        "school",
        "work",
        "location",
        "email",
    ];

    #[test]
    fn each_field_is_shown_to_those_it_is_meant_for() {
        let images = ProfileImageUrls::new("https://images.example/");
        for field in FIELDS {
            for (shown_to, to_friends, to_strangers) in
                [("nobody", false, false), ("friends", true, false), ("everyone", true, true)]
            {
                // All others the other way round: so that one field's visibility is not another's.
                let others = if shown_to == "nobody" { "everyone" } else { "nobody" };
                let visibility: Value = FIELDS
                    .into_iter()
                    .map(|other| (other, if other == field { shown_to } else { others }))
                    .collect();
                let visibility = serde_json::from_value(visibility).unwrap();
                let profile = Profile { visibility, ..profile() };
                let shown = |closeness| {
                    let public = PublicProfile::of(&profile, closeness, &images);
                    let public = serde_json::to_value(public).unwrap();
                    assert_eq!(public["username"], "ada");
                    assert!(
                        public["profile_image_url"]
                            .as_str()
                            .unwrap()
                            .starts_with("https://images.example/profile-images/")
                    );
                    !public[field].is_null()
                };
                let all = [Closeness::Myself, Closeness::Friend, Closeness::Stranger].map(shown);
                assert_eq!(all, [true, to_friends, to_strangers], "{field} to {shown_to}");
            }
        }
    }
}
