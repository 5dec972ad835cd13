//! The lines of iCalendar (RFC 5545, 3.1), and the components that they form.

use jiff::civil::{Date, DateTime, Time};

use crate::{MOST_DEPTH, NotThisFormat};

/// The most lines and parameters of a document: some 15 for each of the most events, twice.
const MOST_PARTS: usize = 600_000;

/// The most parameters of a line: what has more is none.
const MOST_PARAMETERS: usize = 100;

/// A component: what stands between its BEGIN and its END.
#[derive(Debug, Default)]
pub(super) struct Component {
    /// `VEVENT`, in capitals.
    pub(super) name: String,
    properties: Vec<Property>,
    pub(super) children: Vec<Component>,
    /// The first line in it that is none.
    pub(super) broken: Option<String>,
}

/// A line: `DTSTART;TZID=Europe/Oslo:20261203T210000`.
#[derive(Debug)]
pub(super) struct Property {
    name: String,
    parameters: Vec<(String, String)>,
    pub(super) value: String,
}

impl Component {
    /// The properties of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Property> {
        self.properties.iter().filter(move |property| property.name == name)
    }

    /// The first property of a name that has a value.
    pub(super) fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name && !property.value.trim().is_empty())
    }

    /// The value of the first property of a name that has one, without what is around it.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.property(name).map(|property| property.value.trim())
    }

    /// The text of the first property of a name that has one.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.property(name).map(|property| unescaped(&property.value))
    }
}

impl Property {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Its texts, between which there are commas.
    pub(super) fn texts(&self) -> Vec<String> {
        let (mut texts, mut from, mut is_escaped) = (Vec::new(), 0, false);
        for (at, c) in self.value.char_indices() {
            if c == ',' && !is_escaped {
                texts.push(unescaped(&self.value[from..at]));
                from = at + 1;
            }
            is_escaped = c == '\\' && !is_escaped;
        }
        texts.push(unescaped(&self.value[from..]));
        texts
    }
}

/// The components of a document.
pub(super) fn read(document: &[u8]) -> Result<Vec<Component>, NotThisFormat> {
    let wrong = |reason: String| Err(NotThisFormat(reason));
    let text = decoded(document);
    let mut all = Vec::new();
    let mut open: Vec<Component> = Vec::new();
    let mut parts = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let property = property(line);
        parts += 1 + property.as_ref().map_or(0, |property| property.parameters.len());
        if parts > MOST_PARTS {
            return wrong(format!("it has more than {MOST_PARTS} lines and parameters"));
        }
        match (property, open.last_mut()) {
            (Some(Property { name, value, .. }), _) if name == "BEGIN" => {
                if open.len() >= MOST_DEPTH {
                    return wrong(format!("its components lie deeper than {MOST_DEPTH} within each other"));
                }
                open.push(Component { name: value.trim().to_ascii_uppercase(), ..Component::default() });
            }
            (Some(Property { name, value, .. }), Some(component)) if name == "END" => {
                if !component.name.eq_ignore_ascii_case(value.trim()) {
                    return wrong(format!("a {} ends as a {}", component.name, value.trim()));
                }
                match (open.pop(), open.last_mut()) {
                    (Some(component), Some(around)) => around.children.push(component),
                    (component, _) => all.extend(component),
                }
            }
            (Some(property), Some(component)) => component.properties.push(property),
            (None, Some(component)) => {
                component.broken.get_or_insert_with(|| line.chars().take(60).collect());
            }
            (_, None) => return wrong("it does not begin with BEGIN".to_owned()),
        }
    }
    match open.last() {
        Some(component) => wrong(format!("it ends in the middle of a {}", component.name)),
        None => Ok(all),
    }
}

/// The document as text, with its folded lines in one: in the encoding that its mark says, or UTF-8, or else what old programs
/// write. Lines may be folded within a character (RFC 5545, 3.1): so they are unfolded before.
fn decoded(document: &[u8]) -> String {
    let marked =
        encoding_rs::Encoding::for_bom(document).filter(|(encoding, _)| *encoding != encoding_rs::UTF_8);
    let lines = match marked {
        Some((encoding, _)) => unfolded(encoding.decode(document).0.as_bytes()),
        None => unfolded(document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document)),
    };
    String::from_utf8(lines)
        .unwrap_or_else(|error| encoding_rs::WINDOWS_1252.decode(error.as_bytes()).0.into_owned())
}

fn unfolded(document: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(document.len());
    for line in document.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line {
            [b' ' | b'\t', rest @ ..] => lines.extend_from_slice(rest),
            line => {
                lines.push(b'\n');
                lines.extend_from_slice(line);
            }
        }
    }
    lines
}

/// A line, if it is one. Colons, semicolons and commas may stand in quotes.
fn property(line: &str) -> Option<Property> {
    let name_end = line.find([':', ';'])?;
    let (name, mut rest) = line.split_at(name_end);
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let name = name.trim();
    if !is_name(name) {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some(parameter) = rest.strip_prefix(';') {
        let mut is_quoted = false;
        let end = parameter.find(|c| {
            is_quoted ^= c == '"';
            !is_quoted && matches!(c, ';' | ':')
        })?;
        let (key, value) = parameter[..end].split_once('=')?;
        if parameters.len() == MOST_PARAMETERS {
            return None;
        }
        parameters.push((key.trim().to_ascii_uppercase(), value.trim().trim_matches('"').to_owned()));
        rest = &parameter[end..];
    }
    // Some write a name with the group that it is of.
    let name = name.rsplit('.').next().unwrap_or(name).to_ascii_uppercase();
    Some(Property { name, parameters, value: rest.strip_prefix(':')?.to_owned() })
}

/// A text as it is meant (RFC 5545, 3.3.11).
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.trim().chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some('n' | 'N') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => {}
            },
            c => plain.push(c),
        }
    }
    plain
}

/// A date or a time as it is written (RFC 5545, 3.3.4 and 3.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Date(Date),
    Local(DateTime),
    Utc(DateTime),
}

impl Written {
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let Some((day, hour)) = text.split_once(['T', 't']) else {
            // Google writes a day in UTC, which is a day like others.
            return Some(Self::Date(date(text.trim_end_matches('Z'))?));
        };
        let day = date(day)?;
        match hour.strip_suffix(['Z', 'z']) {
            Some(hour) => Some(Self::Utc(day.to_datetime(time(hour)?))),
            None => Some(Self::Local(day.to_datetime(time(hour)?))),
        }
    }
}

fn date(text: &str) -> Option<Date> {
    let [year, month, day] = numbers(text, [4, 2, 2])?;
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn time(text: &str) -> Option<Time> {
    let [hour, minute, second] = numbers(text, [2, 2, 2])?;
    // A leap second is the one before it.
    let second = if second == 60 { 59 } else { second };
    let [hour, minute, second] = [hour, minute, second].map(|number| i8::try_from(number).ok());
    Time::new(hour?, minute?, second?, 0).ok()
}

/// The numbers of so many digits each that a text is made of.
fn numbers(text: &str, digits: [usize; 3]) -> Option<[i16; 3]> {
    if text.len() != digits.iter().sum::<usize>() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut rest = text;
    let numbers = digits.map(|count| {
        let (number, after) = rest.split_at(count);
        rest = after;
        number.parse().ok()
    });
    let [first, second, third] = numbers;
    Some([first?, second?, third?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_unfolded_and_read() {
        let document = "begin:vevent\r\nSUMMARY;LANGUAGE=nb;X-A=\"a:b;c\":A l\r\n ong\\, \\n li\n\tne\\\\\r\n\r\nCATEGORIES:One\\,two,Three,\r\nno line\r\nEND:VEVENT\r\n";
        let all = read(document.as_bytes()).unwrap();
        let [event] = &all[..] else { panic!("{all:?}") };
        assert_eq!((event.name.as_str(), event.broken.as_deref()), ("VEVENT", Some("no line")));
        let summary = event.property("SUMMARY").unwrap();
        assert_eq!((summary.parameter("LANGUAGE"), summary.parameter("X-A")), (Some("nb"), Some("a:b;c")));
        assert_eq!(event.text("SUMMARY").unwrap(), "A long, \n line\\");
        assert_eq!(event.property("CATEGORIES").unwrap().texts(), ["One,two", "Three", ""]);
    }

    #[test]
    fn a_line_with_too_many_parameters_is_none() {
        let line = |parameters: usize| format!("BEGIN:A\nX{}:1\nEND:A", ";Y=1".repeat(parameters));
        assert_eq!(read(line(100).as_bytes()).unwrap()[0].value("X"), Some("1"));
        let broken = read(line(101).as_bytes()).unwrap();
        assert!(broken[0].value("X").is_none() && broken[0].broken.is_some());
    }

    #[test]
    fn other_encodings_are_read() {
        let utf_16: Vec<u8> =
            "\u{feff}BEGIN:A\nX:å\nEND:A".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let folded = b"\xef\xbb\xbfBEGIN:A\nX:\xc3\r\n \xa5\nEND:A".to_vec();
        let latin = b"BEGIN:A\nX:\xe5\nEND:A".to_vec();
        for document in [utf_16, folded, latin] {
            assert_eq!(read(&document).unwrap()[0].value("X"), Some("å"));
        }
    }

    #[test]
    fn halves_are_refused() {
        let deep = "BEGIN:A\n".repeat(100_000);
        let long = format!("BEGIN:A\n{}END:A", "X;A=1:1\n".repeat(300_000));
        for document in [
            "BEGIN:A\nBEGIN:B\nEND:A\nEND:B",
            "BEGIN:A\nX:1",
            "X:1\nBEGIN:A\nEND:A",
            "END:A",
            "<html>",
            &deep,
            &long,
        ] {
            read(document.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_none() {
        assert!(matches!(Written::read("20261203"), Some(Written::Date(_))));
        assert_eq!(Written::read("20261203Z"), Written::read("20261203"));
        assert!(matches!(Written::read("20261203T210060"), Some(Written::Local(_))));
        assert!(matches!(Written::read("20261203t210000z"), Some(Written::Utc(_))));
        for text in [
            "",
            "20260931",
            "2026-12-03",
            "20261203T2100",
            "20261203T250000",
            "20261203T",
            "2026120å",
            "+2026103",
        ] {
            assert_eq!(Written::read(text), None, "{text}");
        }
    }
}
