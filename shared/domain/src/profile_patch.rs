//! PATCH of a profile: what it may say, and how it changes the profile.

use jiff::civil::Date;
use serde_json::Value;

use crate::{
    Error, Refusal, Result,
    account::Username,
    error::{Invalid, Kind},
    friendship::no_such_person,
    ids::UserId,
    input::{Fields, Patch, parsed, text},
    person::{self, Profile, ProfileEditor, Replaced, ShownTo, VISIT_SHARING, Visibility},
    time::Timestamp,
};

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
        if line.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
            return Err(Invalid::new("too_short", "must not be blank"));
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

/// Whether a character takes no room: such a name would look like none.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{3164}' | '\u{FEFF}')
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
        let old = person::existing(editor, id).await?;
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
            // As when the profile is gone as well, in a moment.
            Replaced::AccountClosed => return Err(no_such_person().into()),
        }
    }
    Err(Error::unavailable("people", "a profile is changed by many at once"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{person::tests::profile, time};

    fn patch(body: &Value) -> Result<ProfilePatch, Refusal> {
        ProfilePatch::from_json(body, time::parse("2026-11-20T23:00:00Z").unwrap())
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
            "school": "\u{200B} \u{FEFF}", "username": null, "first_name": "a\nb", "last_name": "\u{202E}adA", "description": "",
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
            ("/school", "too_short"),
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
