//! Tags, of the words and codes of feeds.

use tocsin_domain::post::Tag;
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// How long a tag is at most.
const MOST: usize = 64;

/// The tag of a word: `gagate` of `Gågate`. What a tag cannot have becomes `-`, and what is too long is cut; none where nothing
/// is left.
pub(crate) fn word(text: &str) -> Option<Tag> {
    let plain = plain(text);
    plain[..plain.len().min(MOST)].parse().ok()
}

/// The tag of a code of a list: `same:006085` of `SAME` and `006085`. None where it is too long: codes that differ at their ends
/// would be one.
pub(crate) fn code(list: &str, code: &str) -> Option<Tag> {
    let (list, code) = (plain(list), plain(code));
    if list.is_empty() || code.is_empty() { None } else { format!("{list}:{code}").parse().ok() }
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    // Decomposed, few characters become more than three.
    for c in text.trim().nfkd().take(4 * MOST).filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase)
    {
        match c {
            'a'..='z' | '0'..='9' | ':' | '_' => plain.push(c),
            'ø' => plain.push('o'),
            'æ' => plain.push_str("ae"),
            'ß' => plain.push_str("ss"),
            _ if plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    plain.trim_matches(['-', ':', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_tags() {
        for (text, expected) in [
            (" Road closures, ferries ", Some("road-closures-ferries")),
            ("Ås, Søgne, Værøy", Some("as-sogne-vaeroy")),
            ("火", None),
            ("iso3:", Some("iso3")),
            ("", None),
        ] {
            assert_eq!(word(text).as_ref().map(Tag::as_str), expected, "{text}");
        }
        assert_eq!(word(&"x".repeat(100)).unwrap().as_str().len(), 64);
    }

    #[test]
    fn codes_become_tags_as_a_whole() {
        for (list, text, expected) in [
            ("SAME", "006085", Some("same:006085")),
            ("profile:CAP-CP:Location:0.3", "3534", Some("profile:cap-cp:location:0-3:3534")),
            ("-", "1", None),
            ("SAME", " ", None),
            (&"x".repeat(60), "1234", None),
            (&"x".repeat(60), "123", Some(&format!("{}:123", "x".repeat(60)))),
            (&"x".repeat(1_000), "1", None),
        ] {
            assert_eq!(code(list, text).as_ref().map(Tag::as_str), expected, "{list} {text}");
        }
    }
}
