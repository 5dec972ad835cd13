//! Reads a JSON object of a request, field by field, and gathers everything that is wrong with it.
//!
//! serde stops at the first error and has no codes; clients are owed every reason at once, each with its pointer.
//!
//! ```
//! use serde_json::json;
//! use tocsin_domain::input::{Fields, text};
//!
//! let body = json!({"title": 7, "colour": "red"});
//! let mut fields = Fields::of(&body).unwrap();
//! let title = fields.required("title", text(1, 200));
//! let refusal = fields.finish().unwrap_err();
//! assert_eq!(title, None);
//! assert_eq!(refusal.errors[0].pointer, "/title");
//! assert_eq!(refusal.errors[1].code, "unknown_field");
//! ```

use serde_json::{Map, Value};

use crate::error::{FieldError, Invalid, Refusal};

/// A JSON object that is being read.
#[derive(Debug)]
pub struct Fields<'a> {
    pointer: String,
    object: &'a Map<String, Value>,
    read: Vec<&'static str>,
    errors: Vec<FieldError>,
}

/// How many unknown fields of an object are named: an answer is not larger than what it answers.
const MOST_UNKNOWN: usize = 20;

/// What a PATCH says of one field (RFC 7396).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Absent: it stays as it is.
    #[default]
    Keep,
    /// `null`: it is removed.
    Clear,
    /// A value: it takes this one.
    Set(T),
}

impl<T> Patch<T> {
    /// The field's value after the patch.
    pub fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Keep => current,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// The value that is asked for, if one is: none is one.
    pub fn asked(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

impl<'a> Fields<'a> {
    /// The fields of a body, which must be an object.
    pub fn of(body: &'a Value) -> Result<Self, Refusal> {
        object(body)
            .map(|object| Self::at(String::new(), object))
            .map_err(|invalid| Refusal::invalid(vec![invalid.at("")]))
    }

    fn at(pointer: String, object: &'a Map<String, Value>) -> Self {
        Self { pointer, object, read: Vec::new(), errors: Vec::new() }
    }

    /// A field that must be there. `None` says that it is not, or not valid; [`Self::finish`] then refuses.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.read.push(name);
        match self.object.get(name) {
            None => self.refuse(name, Invalid::new("required", "is required")),
            Some(value) => self.keep(name, read(value)),
        }
    }

    /// A field that may be absent. `null` is not absence.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.read.push(name);
        let value = self.object.get(name)?;
        self.keep(name, read(value))
    }

    /// A field of a PATCH that can also be removed.
    pub fn patch<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a Value) -> Result<T, Invalid>,
    ) -> Patch<T> {
        match self.object.get(name) {
            Some(Value::Null) => {
                self.read.push(name);
                Patch::Clear
            }
            _ => self.optional(name, read).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// A field that must be there, and is an object itself.
    pub fn required_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let object = self.required(name, object)?;
        self.inside(name, object, read)
    }

    /// A field of a PATCH that is an object itself, and can also be removed.
    pub fn patch_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Patch<T> {
        match self.patch(name, object) {
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(object) => self.inside(name, object, read).map_or(Patch::Keep, Patch::Set),
        }
    }

    /// A field that may be absent, and is an object itself.
    pub fn optional_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let object = self.optional(name, object)?;
        self.inside(name, object, read)
    }

    fn inside<T>(
        &mut self,
        name: &str,
        object: &'a Map<String, Value>,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let mut inner = Fields::at(format!("{}/{name}", self.pointer), object);
        let value = read(&mut inner);
        inner.name_unknown_fields();
        let valid = inner.errors.is_empty();
        self.errors.append(&mut inner.errors);
        value.filter(|_| valid)
    }

    /// A field that is an array, each item read by `read`.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&'a Value) -> Result<T, Invalid>,
    ) -> Option<Vec<T>> {
        let items = self.optional(name, |value| match value {
            Value::Array(items) if items.len() > most => {
                Err(Invalid::new("too_many", format!("must have at most {most} items")))
            }
            Value::Array(items) => Ok(items),
            other => Err(wrong_type("an array", other)),
        })?;
        let before = self.errors.len();
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(value) => list.push(value),
                Err(invalid) => self.errors.push(invalid.at(format!("{}/{name}/{index}", self.pointer))),
            }
        }
        (self.errors.len() == before).then_some(list)
    }

    /// A field that is an array of objects; none where it is absent.
    pub fn objects<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if !self.has(name) {
            return Some(Vec::new());
        }
        let objects = self.list(name, most, Ok)?;
        let before = self.errors.len();
        let mut list = Vec::with_capacity(objects.len());
        for (index, item) in objects.into_iter().enumerate() {
            let place = format!("{name}/{index}");
            match object(item) {
                Ok(item) => list.extend(self.inside(&place, item, &read)),
                Err(invalid) => self.errors.push(invalid.at(format!("{}/{place}", self.pointer))),
            }
        }
        (self.errors.len() == before).then_some(list)
    }

    /// Notes that the object itself is not valid.
    pub fn refuse_whole<T>(&mut self, invalid: Invalid) -> Option<T> {
        self.errors.push(invalid.at(self.pointer.clone()));
        None
    }

    /// Notes that a field is not valid, for a rule over several fields.
    pub fn refuse<T>(&mut self, name: &str, invalid: Invalid) -> Option<T> {
        self.errors.push(invalid.at(format!("{}/{name}", self.pointer)));
        None
    }

    /// Whether a field is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// Ends the reading: an unknown field, or anything noted before, is a refusal.
    pub fn finish(mut self) -> Result<(), Refusal> {
        self.name_unknown_fields();
        if self.errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(self.errors)) }
    }

    /// The refusal of an object in which a required field could not be read.
    #[must_use]
    pub fn refusal(mut self) -> Refusal {
        self.name_unknown_fields();
        Refusal::invalid(self.errors)
    }

    fn keep<T>(&mut self, name: &str, value: Result<T, Invalid>) -> Option<T> {
        value.map_or_else(|invalid| self.refuse(name, invalid), Some)
    }

    fn name_unknown_fields(&mut self) {
        let unknown = self.object.keys().filter(|name| !self.read.contains(&name.as_str()));
        for name in unknown.take(MOST_UNKNOWN) {
            // RFC 6901, 3: `~` and `/` are escaped in a pointer.
            let escaped = name.replace('~', "~0").replace('/', "~1");
            let unknown = Invalid::new("unknown_field", "is not a field of this request");
            self.errors.push(unknown.at(format!("{}/{escaped}", self.pointer)));
        }
    }
}

/// Reads a string of `least` to `most` characters (Unicode scalar values), with no control character but line breaks
/// and tabs.
pub fn text(least: usize, most: usize) -> impl Fn(&Value) -> Result<String, Invalid> {
    move |value| bounded(string(value)?, least, most).map(str::to_owned)
}

/// Reads a string, and makes a newtype of it.
pub fn parsed<T>(parse: impl Fn(&str) -> Result<T, Invalid>) -> impl Fn(&Value) -> Result<T, Invalid> {
    move |value| parse(string(value)?)
}

/// Reads a string.
pub fn string(value: &Value) -> Result<&str, Invalid> {
    value.as_str().ok_or_else(|| wrong_type("a string", value))
}

fn object(value: &Value) -> Result<&Map<String, Value>, Invalid> {
    value.as_object().ok_or_else(|| wrong_type("an object", value))
}

/// Reads `true` or `false`.
pub fn boolean(value: &Value) -> Result<bool, Invalid> {
    value.as_bool().ok_or_else(|| wrong_type("a boolean", value))
}

/// Reads a number within a range.
pub fn number(least: f64, most: f64) -> impl Fn(&Value) -> Result<f64, Invalid> {
    move |value| {
        let number = value.as_f64().ok_or_else(|| wrong_type("a number", value))?;
        within(number, least, most)
    }
}

/// Reads a whole number within a range.
pub fn whole(least: u16, most: u16) -> impl Fn(&Value) -> Result<u16, Invalid> {
    move |value| {
        let number = value.as_f64().ok_or_else(|| wrong_type("a number", value))?;
        let whole = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let within = whole.filter(|whole| (least..=most).contains(whole));
        let invalid = || match number.fract() {
            0.0 => out_of_range(least.into(), most.into()),
            _ => Invalid::new("not_whole", "must be a whole number"),
        };
        within.ok_or_else(invalid)
    }
}

/// A number, if it is within a range.
pub fn within(number: f64, least: f64, most: f64) -> Result<f64, Invalid> {
    if (least..=most).contains(&number) { Ok(number) } else { Err(out_of_range(least, most)) }
}

/// A number that is not within its range.
#[must_use]
pub fn out_of_range(least: f64, most: f64) -> Invalid {
    Invalid::new("out_of_range", format!("must be from {least} to {most}"))
}

/// A text, if its length is within bounds and it has no control character but line breaks and tabs.
pub fn bounded(text: &str, least: usize, most: usize) -> Result<&str, Invalid> {
    let length = text.chars().count();
    if least > 0 && text.trim().is_empty() {
        Err(Invalid::new("too_short", "must not be blank"))
    } else if length < least {
        Err(Invalid::new("too_short", format!("must have at least {least} characters")))
    } else if length > most {
        Err(Invalid::new("too_long", format!("must have at most {most} characters")))
    } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        Err(Invalid::new("invalid_character", "must have no control characters"))
    } else {
        Ok(text)
    }
}

fn wrong_type(wanted: &str, value: &Value) -> Invalid {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Invalid::new("wrong_type", format!("must be {wanted}, not {found}"))
}
