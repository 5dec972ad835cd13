//! YAML as CloudFormation writes it: scalars, lists and mappings that know their line, and the tag of a short intrinsic.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::Located;

/// A value of the template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Counted from 1.
    pub(super) line: usize,
    /// The intrinsic that the value is the argument of, as its short form is written: `Ref`, `Sub`, `GetAtt` …
    pub(super) intrinsic: Option<String>,
    pub(super) value: Value,
}

/// What a node holds. Numbers and booleans stay text until someone wants them as such.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `quoted` tells the text `"null"` from nothing.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    /// In the template's order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A value that the evaluation of an intrinsic made.
    pub(super) fn text(line: usize, text: impl Into<String>) -> Self {
        Self { line, intrinsic: None, value: Value::Scalar { text: text.into(), quoted: true } }
    }

    /// The value under a key, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// A value without intrinsics, as JSON. What is neither a list nor a mapping is text, as IAM takes it.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar { text, .. } => serde_json::Value::String(text.clone()),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
            }
        }
    }

    /// The entries of a mapping; nothing for an empty value.
    pub(super) fn entries(&self, what: &str) -> Located<&[(String, Node)]> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            Value::Scalar { text, quoted: false } if text.is_empty() => Ok(&[]),
            _ => self.refuse(format!("{what} must be a mapping")),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self, what: &str) -> Located<&[Node]> {
        match &self.value {
            Value::List(items) => Ok(items),
            _ => self.refuse(format!("{what} must be a list")),
        }
    }

    /// The text of a scalar.
    pub(super) fn as_text(&self, what: &str) -> Located<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Ok(text),
            _ => self.refuse(format!("{what} must be a text or a number")),
        }
    }

    /// A number, or anything else that is written as one scalar.
    pub(super) fn parsed<T: std::str::FromStr>(&self, what: &str, expected: &str) -> Located<T> {
        let text = self.as_text(what)?;
        text.parse().or_else(|_| self.refuse(format!("{what} must be {expected}, and is `{text}`")))
    }

    /// `true` or `false`.
    pub(super) fn as_bool(&self, what: &str) -> Located<bool> {
        self.parsed(what, "true or false")
    }

    /// An error at this node's line.
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Located<T> {
        Err((self.line, message.into()))
    }
}

/// Reads the one document of a template.
pub(super) fn parse(text: &str) -> Located<Node> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), error.info().to_owned()))?;
        let line = span.start.line();
        let finished = match event {
            Event::Scalar(text, style, _, tag) => Some(Node {
                line,
                intrinsic: intrinsic_of(tag.as_deref(), line)?,
                value: Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain },
            }),
            Event::SequenceStart(_, tag) => {
                open.push(Open::new(line, intrinsic_of(tag.as_deref(), line)?, Value::List(Vec::new())));
                None
            }
            Event::MappingStart(_, tag) => {
                open.push(Open::new(line, intrinsic_of(tag.as_deref(), line)?, Value::Map(Vec::new())));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| open.node),
            Event::Alias(_) => {
                return Err((line, "CloudFormation knows no aliases: repeat the value".to_owned()));
            }
            _ => None,
        };
        if let Some(node) = finished {
            match open.last_mut() {
                Some(parent) => parent.take(node)?,
                None => root = Some(node),
            }
        }
    }
    root.ok_or_else(|| (1, "the template is empty".to_owned()))
}

/// A list or mapping whose end was not read yet.
struct Open {
    node: Node,
    /// The key that was read, and whose value comes next.
    key: Option<String>,
}

impl Open {
    fn new(line: usize, intrinsic: Option<String>, value: Value) -> Self {
        Self { node: Node { line, intrinsic, value }, key: None }
    }

    fn take(&mut self, node: Node) -> Located<()> {
        match (&mut self.node.value, self.key.take()) {
            (Value::List(items), _) => items.push(long_form(node)),
            (Value::Map(entries), Some(key)) => entries.push((key, long_form(node))),
            (Value::Map(entries), None) => {
                let key = node.as_text("a key")?.to_owned();
                if entries.iter().any(|(known, _)| *known == key) {
                    return node.refuse(format!("the key `{key}` is here twice"));
                }
                self.key = Some(key);
            }
            (Value::Scalar { .. }, _) => return node.refuse("a value follows a scalar"),
        }
        Ok(())
    }
}

fn intrinsic_of(tag: Option<&Tag>, line: usize) -> Located<Option<String>> {
    match tag {
        None => Ok(None),
        Some(tag) if tag.is_yaml_core_schema() => Ok(None),
        Some(tag) if tag.handle == "!" => Ok(Some(tag.suffix.clone())),
        Some(tag) => Err((line, format!("the tag `{}{}` is no intrinsic", tag.handle, tag.suffix))),
    }
}

/// `{"Fn::Sub": x}` and `{Ref: x}` are `!Sub x` and `!Ref x`.
fn long_form(node: Node) -> Node {
    if let Value::Map(entries) = &node.value
        && let [(key, argument)] = entries.as_slice()
        && argument.intrinsic.is_none()
        && let Some(name) = key.strip_prefix("Fn::").or((key == "Ref").then_some("Ref"))
    {
        return Node { intrinsic: Some(name.to_owned()), ..argument.clone() };
    }
    node
}
