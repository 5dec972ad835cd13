//! The text of what is written in HTML: no tags, no scripts, no comments, and the characters that its entities name.

use quick_xml::escape::resolve_html5_entity;

use crate::xml::Element;

/// What is in these is no text.
const HIDDEN: [&str; 6] = ["script", "style", "template", "noscript", "iframe", "object"];

/// These end a line.
const BLOCKS: [&str; 24] = [
    "address",
    "article",
    "blockquote",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "ol",
    "p",
    "section",
    "table",
    "tr",
    "ul",
];

/// The text of a piece of HTML, or of a plain text: in that, lines stay as they are.
pub(crate) fn text(html: &str) -> String {
    let has_markup = html.match_indices('<').any(|(at, _)| is_markup(&html[at..]));
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        push(&mut text, &rest[..at], has_markup);
        rest = &rest[at..];
        rest = if is_markup(rest) {
            after_markup(rest, &mut text)
        } else if let Some((characters, after)) = entity(rest) {
            text.push_str(&characters);
            after
        } else {
            text.push_str(&rest[..1]);
            &rest[1..]
        };
    }
    push(&mut text, rest, has_markup);
    tidy(&text)
}

/// The text of elements of XHTML.
pub(crate) fn text_of(element: &Element) -> String {
    let mut text = String::new();
    add_text_of(element, &mut text);
    tidy(&text)
}

fn add_text_of(element: &Element, text: &mut String) {
    let mut from = 0;
    for child in &element.children {
        push(text, &element.text[from..child.at], true);
        from = child.at;
        if !HIDDEN.contains(&child.name.as_str()) {
            text.push_str(gap(&child.name));
            add_text_of(child, text);
            text.push_str(gap(&child.name));
        }
    }
    push(text, &element.text[from..], true);
}

/// Adds text, where markup would end its lines if it is in use.
fn push(text: &mut String, more: &str, has_markup: bool) {
    if has_markup {
        text.extend(more.chars().map(|c| if c.is_whitespace() { ' ' } else { c }));
    } else {
        text.push_str(more);
    }
}

/// Whether a tag or a comment begins here, not a mere "less than".
fn is_markup(rest: &str) -> bool {
    let mut characters = rest.chars();
    characters.next() == Some('<')
        && match characters.next() {
            Some('!' | '?') => true,
            Some('/') => characters.next().is_some_and(|c| c.is_ascii_alphabetic()),
            next => next.is_some_and(|c| c.is_ascii_alphabetic()),
        }
}

/// What is after the tag or the comment that begins here. One that does not end takes all that follows with it, as in browsers.
fn after_markup<'a>(rest: &'a str, text: &mut String) -> &'a str {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, after)| after);
    }
    let is_end = rest.starts_with("</");
    let tag = rest.trim_start_matches(['<', '/']);
    let name =
        &tag[..tag.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(tag.len())].to_ascii_lowercase();
    text.push_str(gap(name));
    let after = after_tag(tag);
    if is_end || !HIDDEN.contains(&name.as_str()) {
        return after;
    }
    let end = after
        .match_indices("</")
        .map(|(at, _)| &after[at + 2..])
        .find(|end| end.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    end.map_or("", after_tag)
}

/// What is after the end of a tag, which may be within the quotes of a value.
fn after_tag(tag: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return &tag[at + 1..],
            (None, '"' | '\'') if before == '=' => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    ""
}

/// What stands between the text before an element and the text in it.
fn gap(name: &str) -> &'static str {
    match name {
        "td" | "th" => " ",
        block if BLOCKS.contains(&block) => "\n",
        _ => "",
    }
}

/// The characters that an entity names, and what is after it.
fn entity(rest: &str) -> Option<(String, &str)> {
    // The longest name of HTML's has 31 characters.
    let end = rest.bytes().take(34).position(|byte| byte == b';')?;
    let name = &rest[1..end];
    let characters = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?.to_string()
        }
        None => resolve_html5_entity(name)?.to_owned(),
    };
    Some((characters, &rest[end + 1..]))
}

/// Lines with single spaces, and something in each.
fn tidy(text: &str) -> String {
    let visible = |word: &str| word.chars().filter(|c| !c.is_control()).collect::<String>();
    let line = |line: &str| line.split_whitespace().map(visible).collect::<Vec<_>>().join(" ");
    text.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_is_reduced_to_its_text() {
        for (html, expected) in [
            (
                "<p>High  water\nin <b>Bergen</b> &amp; Os</p><p>Stay away</p>",
                "High water in Bergen & Os\nStay away",
            ),
            ("<SCRIPT src='a>b'>alert('</p>')</script >after", "after"),
            ("<style>p { color: red }</style><img alt=\"a > b\" src=x>seen", "seen"),
            ("a<!-- <b> -->b<br/>c<td>d</td>", "ab\nc d"),
            (
                "Wind < 20 m/s, 3 <4 & AT&T &unknown; &#229;&#xE5;&eacute;&nbsp;x",
                "Wind < 20 m/s, 3 <4 & AT&T &unknown; ååé x",
            ),
            ("two\n\nlines &lt;b&gt;", "two\nlines <b>"),
            ("cut <a href='", "cut"),
            ("cut <script>alert(1)", "cut"),
            ("&#0;&#x110000;&#xD800;bell\u{7}", "&#x110000;&#xD800;bell"),
            ("", ""),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_text(html in "(<|>|&|;|/|!|--|script|p|'|\"|=|#|x|å| |\n|.){0,60}") {
            text(&html);
        }
    }

    #[test]
    fn work_is_as_the_length() {
        for piece in ["<a =\"", "<!--", "<script>", "&amp", "</", "<script></"] {
            text(&piece.repeat(200_000));
        }
    }
}
