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
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    account::Username,
    error::{Invalid, Kind},
    friendship::{Friendship, Relation, Relations, no_such_person},
    ids::{ImageId, UserId},
    input::{Fields, Patch, parsed, text},
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
const VISIT_SHARING: ShownTo = ShownTo::Nobody;

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
    /// username is taken in the same transaction, also in the account, and the one before is free.
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
}

/// Removes people.
pub trait ProfileEraser: Sync {
    /// Removes the profile, and what the person is found by; answers the profile, if there was one.
    fn erase(&self, id: UserId) -> impl Future<Output = Result<Option<Profile>>> + Send;
}

/// What a PATCH changes of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfilePatch {
    username: Option<Username>,
    first_name: Patch<String>,
    last_name: Patch<String>,
    description: Patch<String>,
    gender: Patch<String>,
    date_of_birth: Patch<Date>,
    school: Patch<String>,
    work: Patch<String>,
    location: Patch<String>,
    visibility: Patch<VisibilityPatch>,
    visit_sharing: Patch<ShownTo>,
}

/// What a PATCH changes of a visibility: a field that is removed is as it was at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct VisibilityPatch {
    first_name: Patch<ShownTo>,
    last_name: Patch<ShownTo>,
    description: Patch<ShownTo>,
    gender: Patch<ShownTo>,
    date_of_birth: Patch<ShownTo>,
    school: Patch<ShownTo>,
    work: Patch<ShownTo>,
    location: Patch<ShownTo>,
    email: Patch<ShownTo>,
    friends: Patch<ShownTo>,
}

/// The most characters of a name, and of a gender.
pub(crate) const MOST_OF_NAME: usize = 50;
/// The most characters of a school, a work and a location.
const MOST_OF_LINE: usize = 100;
/// The most characters of a description.
const MOST_OF_DESCRIPTION: usize = 500;

impl ProfilePatch {
    /// Reads the body of `update-me`.
    pub fn from_json(body: &Value, now: Timestamp) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let patch = Self {
            username: fields.optional("username", parsed(str::parse)),
            first_name: fields.patch("first_name", line(MOST_OF_NAME)),
            last_name: fields.patch("last_name", line(MOST_OF_NAME)),
            description: fields.patch("description", text(1, MOST_OF_DESCRIPTION)),
            gender: fields.patch("gender", line(MOST_OF_NAME)),
            date_of_birth: fields.patch("date_of_birth", parsed(|text| date_of_birth(text, now))),
            school: fields.patch("school", line(MOST_OF_LINE)),
            work: fields.patch("work", line(MOST_OF_LINE)),
            location: fields.patch("location", line(MOST_OF_LINE)),
            visibility: fields.patch_object("visibility", |fields| Some(VisibilityPatch::read(fields))),
            visit_sharing: fields.patch("visit_sharing", parsed(str::parse)),
        };
        fields.finish()?;
        Ok(patch)
    }

    /// The profile after the patch.
    #[must_use]
    pub fn apply(self, profile: Profile) -> Profile {
        Profile {
            username: self.username.unwrap_or(profile.username),
            first_name: self.first_name.apply(profile.first_name),
            last_name: self.last_name.apply(profile.last_name),
            description: self.description.apply(profile.description),
            gender: self.gender.apply(profile.gender),
            date_of_birth: self.date_of_birth.apply(profile.date_of_birth),
            school: self.school.apply(profile.school),
            work: self.work.apply(profile.work),
            location: self.location.apply(profile.location),
            visibility: match self.visibility {
                Patch::Keep => profile.visibility,
                Patch::Clear => Visibility::default(),
                Patch::Set(patch) => patch.apply(&profile.visibility),
            },
            visit_sharing: or_at_first(self.visit_sharing, profile.visit_sharing, VISIT_SHARING),
            ..profile
        }
    }
}

impl VisibilityPatch {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut field = |name| fields.patch(name, parsed(str::parse));
        Self {
            first_name: field("first_name"),
            last_name: field("last_name"),
            description: field("description"),
            gender: field("gender"),
            date_of_birth: field("date_of_birth"),
            school: field("school"),
            work: field("work"),
            location: field("location"),
            email: field("email"),
            friends: field("friends"),
        }
    }

    fn apply(self, now: &Visibility) -> Visibility {
        let first = Visibility::default();
        Visibility {
            first_name: or_at_first(self.first_name, now.first_name, first.first_name),
            last_name: or_at_first(self.last_name, now.last_name, first.last_name),
            description: or_at_first(self.description, now.description, first.description),
            gender: or_at_first(self.gender, now.gender, first.gender),
            date_of_birth: or_at_first(self.date_of_birth, now.date_of_birth, first.date_of_birth),
            school: or_at_first(self.school, now.school, first.school),
            work: or_at_first(self.work, now.work, first.work),
            location: or_at_first(self.location, now.location, first.location),
            email: or_at_first(self.email, now.email, first.email),
            friends: or_at_first(self.friends, now.friends, first.friends),
        }
    }
}

/// A value after a patch; one that is removed is as it was at first.
fn or_at_first<T>(patch: Patch<T>, now: T, first: T) -> T {
    patch.apply(Some(now)).unwrap_or(first)
}

/// Reads a text of one line. What turns the direction of writing is refused: it makes one name look like another (Unicode
/// TR 36, 2.9).
fn line(most: usize) -> impl Fn(&Value) -> Result<String, Invalid> {
    move |value| {
        let line = text(1, most)(value)?;
        if !line.chars().all(stays_in_line) {
            return Err(Invalid::new("invalid_character", "must be one line"));
        }
        Ok(line.trim().to_owned())
    }
}

/// Whether a character neither breaks a line nor turns it.
pub(crate) fn stays_in_line(c: char) -> bool {
    let turns = matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let breaks = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    !turns && !breaks
}

/// A date of birth: of somebody who may be alive, and is born. It may be tomorrow already where they are.
fn date_of_birth(text: &str, now: Timestamp) -> Result<Date, Invalid> {
    let date: Date = string_of_date(text)?;
    let tomorrow = now.to_zoned(jiff::tz::TimeZone::UTC).date().saturating_add(jiff::Span::new().days(1));
    if (Date::constant(1900, 1, 1)..=tomorrow).contains(&date) {
        Ok(date)
    } else {
        Err(Invalid::new("out_of_range", "must be from 1900-01-01 to today"))
    }
}

/// `YYYY-MM-DD` (RFC 3339, full-date), and no other form of ISO 8601.
fn string_of_date(text: &str) -> Result<Date, Invalid> {
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    date.ok_or_else(|| Invalid::new("invalid_date", "must be a date, such as 1815-12-10"))
}

/// The caller's own profile.
pub async fn mine(profiles: &impl Profiles, id: UserId) -> Result<Profile> {
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

/// How often a change is tried again that another one came in the way of.
const ROUNDS: usize = 5;

/// Changes the caller's profile.
pub async fn update(
    editor: &impl ProfileEditor,
    id: UserId,
    patch: &ProfilePatch,
    now: Timestamp,
) -> Result<Profile> {
    for _ in 0..ROUNDS {
        let old = mine(editor, id).await?;
        let new = patch.clone().apply(old.clone());
        if new == old {
            return Ok(old);
        }
        let new = Profile { revision: old.revision + 1, ..new };
        match editor.replace(&old, &new, now).await? {
            Replaced::Done => return Ok(new),
            Replaced::Superseded => {}
            Replaced::UsernameTaken => {
                let detail = "somebody has this name; choose another";
                return Err(Refusal::new(Kind::Conflict, "username_taken", detail).into());
            }
        }
    }
    Err(Error::unavailable("people", "a profile is changed by many at once"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time;

    /// A profile in which everything is said.
    fn profile() -> Profile {
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

    fn patch(body: &Value) -> Result<ProfilePatch, Refusal> {
        ProfilePatch::from_json(body, time::parse("2026-11-20T23:00:00Z").unwrap())
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
                let visibility: serde_json::Map<_, _> = FIELDS
                    .into_iter()
                    .map(|other| (other.to_owned(), json!(if other == field { shown_to } else { others })))
                    .collect();
                let profile = patch(&json!({"visibility": visibility})).unwrap().apply(profile());
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

    #[test]
    fn a_patch_keeps_clears_and_sets() {
        let before = profile();
        assert_eq!(patch(&json!({})).unwrap().apply(before.clone()), before);
        let body = json!({
            "username": "Augusta", "first_name": null, "work": " Countess ", "date_of_birth": "2026-11-21",
            "visibility": {"email": "friends", "description": "nobody"}, "visit_sharing": "friends",
        });
        let after = patch(&body).unwrap().apply(before.clone());
        let visibility =
            Visibility { email: ShownTo::Friends, description: ShownTo::Nobody, ..Visibility::default() };
        let expected = Profile {
            username: "Augusta".parse().unwrap(),
            first_name: None,
            work: Some("Countess".to_owned()),
            date_of_birth: Some(Date::constant(2026, 11, 21)),
            visibility,
            visit_sharing: ShownTo::Friends,
            ..before
        };
        assert_eq!(after, expected);
        // What is not a field's to be without is as it was at first.
        let body = json!({"visibility": {"email": null}, "visit_sharing": null});
        let again = patch(&body).unwrap().apply(after.clone());
        assert_eq!(
            (again.visibility.email, again.visibility.description),
            (ShownTo::Nobody, ShownTo::Nobody)
        );
        assert_eq!(again.visit_sharing, ShownTo::Nobody);
        assert_eq!(
            patch(&json!({"visibility": null})).unwrap().apply(after).visibility,
            Visibility::default()
        );
    }

    #[test]
    fn a_patch_that_is_not_valid_is_refused_with_every_reason() {
        let body = json!({
            "username": null, "first_name": "a\nb", "last_name": "\u{202E}adA", "description": "",
            "date_of_birth": "1815-12-10", "work": "x".repeat(101), "email": "eve@example.org",
            "visibility": {"email": "all", "username": "nobody"}, "visit_sharing": 1,
        });
        let refusal = patch(&body).unwrap_err();
        let errors: Vec<_> =
            refusal.errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        for expected in [
            ("/username", "wrong_type"),
            ("/first_name", "invalid_character"),
            ("/last_name", "invalid_character"),
            ("/description", "too_short"),
            ("/date_of_birth", "out_of_range"),
            ("/work", "too_long"),
            ("/email", "unknown_field"),
            ("/visibility/email", "not_in_list"),
            ("/visibility/username", "unknown_field"),
            ("/visit_sharing", "wrong_type"),
        ] {
            assert!(errors.contains(&expected), "{expected:?}: {errors:?}");
        }
        for bad in ["2026-02-30", "2026-11-22", "20261120", "+002026-11-20", "1899-12-31", "2026-11-20T10:00"]
        {
            assert!(patch(&json!({"date_of_birth": bad})).is_err(), "{bad}");
        }
    }
}
