//! Finds people by their names.
//!
//! A name is folded into words, without case and accents, and the index has an entry for each word of each person, in the
//! order of the words: those that begin with what somebody types stand next to each other. An entry knows all words of
//! its person, so that the other words of a query are looked for in it, and so that a person with several words that match
//! is shown once: at the smallest of them.
//!
//! Only what everyone may see is in the index: so what is found by it gives away nothing.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    str::FromStr,
};

use futures::future::{try_join, try_join3};
use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use crate::{
    Result,
    cursor::{Cursor, Limit, Page, Position, Scope},
    error::Invalid,
    friendship::{Circles, Friendship, Hidden, HiddenCache, Relations, hidden_from},
    ids::UserId,
    input::bounded,
    mail::EmailAddress,
    person::{Closeness, Profile, ProfileImageUrls, Profiles, PublicProfile},
};

/// A word of a name, as it is found: letters and digits, without case and accents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Word(String);

impl Word {
    /// The most characters of a word; those after them are not looked at.
    const MOST: usize = 30;

    /// The words of a text, each once.
    #[must_use]
    pub fn all_of(text: &str) -> BTreeSet<Self> {
        let folded = folded(text);
        let words = folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(|word| Self(word.chars().take(Self::MOST).collect())).collect()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with this one.
    #[must_use]
    pub fn begins_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// On which shelf of the index it stands: with the words that have the same first two characters, or the same first
    /// one, in scripts that have thousands (from U+2E80 on: Han and its neighbours), where a name may be one character.
    /// None if it is too short to stand on one.
    #[must_use]
    pub fn shelf(&self) -> Option<&str> {
        let mut characters = self.0.char_indices();
        let (_, first) = characters.next()?;
        if first >= '\u{2E80}' {
            return self.0.get(..first.len_utf8());
        }
        let (at, second) = characters.next()?;
        self.0.get(..at + second.len_utf8())
    }
}

/// A text without case, accents and apostrophes.
pub(crate) fn folded(text: &str) -> String {
    // What accents are taken off from, as far as Unicode knows (UAX 15); and forms of a letter are the letter.
    let letters = text.nfkd().filter(|c| !is_combining_mark(*c) && !joins(*c));
    letters.flat_map(char::to_lowercase).flat_map(plain).collect()
}

/// Apostrophes are part of a word: `O'Hara` is `ohara`.
const fn joins(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{02BC}' | '\u{02BB}' | '\u{0060}' | '\u{00B4}')
}

/// The letters that people without them on their keyboard write instead, where Unicode does not see an accent.
fn plain(c: char) -> impl Iterator<Item = char> {
    let plain = match c {
        'ø' => "o",
        'æ' => "ae",
        'œ' => "oe",
        'ß' => "ss",
        'đ' | 'ð' => "d",
        'þ' => "th",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'ŋ' => "n",
        'ŧ' => "t",
        'ə' => "e",
        // At the end of a word, the same letter has another form.
        'ς' => "σ",
        _ => "",
    };
    plain.chars().chain(plain.is_empty().then_some(c))
}

/// The most words of a person that they are found by: so a change of them all fits into one transaction of DynamoDB, which
/// has at most 100 actions, with what else it changes.
pub const MOST_WORDS: usize = 24;

impl Profile {
    /// The words that everyone finds the person by, each once: first those of the username, which no others crowd out.
    #[must_use]
    pub fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        for word in self.open_names().flat_map(|name| Word::all_of(&name)) {
            if !words.contains(&word) && words.len() < MOST_WORDS {
                words.push(word);
            }
        }
        words.sort_unstable();
        words
    }
}

/// What the index knows of one word of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The word.
    pub word: Word,
    /// Whose it is.
    pub user_id: UserId,
    /// All of their words, in order.
    pub words: Vec<Word>,
}

impl NameEntry {
    /// The entries of a person.
    #[must_use]
    pub fn of(profile: &Profile) -> Vec<Self> {
        let words = profile.words();
        let indexed = words.iter().filter(|word| word.shelf().is_some());
        let entry = |word: &Word| Self { word: word.clone(), user_id: profile.user_id, words: words.clone() };
        indexed.map(entry).collect()
    }
}

/// Where an entry stands among those of a shelf: in the order of the words, and then of the people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePlace {
    /// The word.
    pub word: Word,
    /// The person.
    pub user_id: UserId,
}

impl Position for NamePlace {
    fn to_bytes(&self) -> Vec<u8> {
        [self.user_id.as_bytes(), self.word.as_str().as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, word) = bytes.split_first_chunk()?;
        let word = std::str::from_utf8(word).ok()?;
        // Only what can be a word is looked for.
        let word = Word::all_of(word).pop_first().filter(|parsed| parsed.as_str() == word)?;
        let user_id = UserId::from_bytes(*id);
        user_id.is_ours().then_some(Self { word, user_id })
    }
}

/// Some entries of the index, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntries {
    /// Those.
    pub entries: Vec<NameEntry>,
    /// Whether there may be more after them.
    pub more: bool,
}

/// Finds words of people's names.
pub trait NameIndex: Sync {
    /// The entries of the words that begin with `prefix`, in their order, the first `limit` after a place; or fewer, and at
    /// least one, where there are more of them than one answer holds. A prefix that is on no shelf has none. One request.
    fn beginning(
        &self,
        prefix: &Word,
        after: Option<&NamePlace>,
        limit: usize,
    ) -> impl Future<Output = Result<NameEntries>> + Send;
}

/// What somebody types to find a person: some words, each the beginning of one of the person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuery {
    /// The one that is looked for in the index: the longest, which the fewest begin with.
    lead: Word,
    others: Vec<Word>,
}

impl NameQuery {
    /// The most words that are looked at.
    const MOST_WORDS: usize = 8;

    /// Reads a query.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut words: Vec<Word> = Word::all_of(bounded(text, 1, 100)?).into_iter().collect();
        if words.len() > Self::MOST_WORDS {
            return Err(Invalid::new("too_long", format!("must have at most {} words", Self::MOST_WORDS)));
        }
        words.sort_by_key(|word| word.as_str().chars().count());
        let lead = words.pop().filter(|lead| lead.shelf().is_some());
        let too_short = || Invalid::new("too_short", "must have a word of at least two letters or digits");
        Ok(Self { lead: lead.ok_or_else(too_short)?, others: words })
    }

    /// The word that is looked for in the index.
    #[must_use]
    pub const fn lead(&self) -> &Word {
        &self.lead
    }

    /// Whether an entry that begins with the lead is where its person is shown: they have all words, and no smaller one
    /// that begins with the lead.
    #[must_use]
    pub fn is_shown_at(&self, entry: &NameEntry) -> bool {
        let has = |prefix: &Word| entry.words.iter().any(|word| word.begins_with(prefix));
        let smallest = entry.words.iter().filter(|word| word.begins_with(&self.lead)).min();
        smallest == Some(&entry.word) && self.others.iter().all(has)
    }

    /// Whether other words are looked for in the entries of the lead: then few of them may be what is meant.
    #[must_use]
    pub const fn has_others(&self) -> bool {
        !self.others.is_empty()
    }
}

impl NameQuery {
    /// Which list the answers to it are.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let words = std::iter::once(&self.lead).chain(&self.others).map(Word::as_str);
        Scope::of(std::iter::once("people by name").chain(words))
    }
}

/// Finds people by their mail address.
pub trait EmailIndex: Sync {
    /// Whose address it is, if somebody has shown that it is theirs.
    fn owner(&self, email: &EmailAddress) -> impl Future<Output = Result<Option<UserId>>> + Send;
}

/// What people are searched by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The words of their names.
    Name,
    /// Their mail address.
    Email,
}

impl FromStr for By {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "name" => Ok(Self::Name),
            "email" => Ok(Self::Email),
            _ => Err(Invalid::new("not_in_list", "must be name or email")),
        }
    }
}

/// A person who was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// What they show.
    #[serde(flatten)]
    pub profile: PublicProfile,
    /// What they are to the caller.
    pub friendship: Friendship,
    /// How many friends they have in common; none where they do not show their friends to the caller.
    pub mutual_friends: Option<usize>,
}

/// The ports of a search.
#[derive(Debug)]
pub struct Search<'a, I, P, R, H> {
    /// The words of names.
    pub names: &'a I,
    /// The people.
    pub profiles: &'a P,
    /// What they are to the caller, their circles, and who is hidden.
    pub friendships: &'a R,
    /// Who is hidden, at hand.
    pub hidden: &'a H,
    /// Where their images are.
    pub images: &'a ProfileImageUrls,
}

/// How many entries of the index are read at once for a page: enough for one round, unless most are of people who are
/// left out.
const fn batch(query: &NameQuery, limit: Limit) -> usize {
    if query.has_others() { 500 } else { 2 * limit.get() + 10 }
}

/// How many rounds are read for one page at the most. A page that is not full then, or even empty, ends where the last
/// round did, and the next one goes on from there: so one request is a bounded amount of work, whatever is asked for.
const MOST_ROUNDS: usize = 4;

impl<I, P, R, H> Search<'_, I, P, R, H>
where
    I: NameIndex,
    P: Profiles,
    R: Relations + Circles + Hidden,
    H: HiddenCache,
{
    /// A page of the people whose names have the words of a query, but for the caller and who is hidden from them.
    pub async fn by_name(
        &self,
        me: UserId,
        query: &NameQuery,
        after: Option<NamePlace>,
        limit: Limit,
    ) -> Result<Page<Hit>> {
        let hidden = hidden_from(self.hidden, self.friendships, me).await?;
        let (mut found, mut after, mut more) = (Vec::new(), after, true);
        for _ in 0..MOST_ROUNDS {
            let batch = batch(query, limit);
            let read = self.names.beginning(&query.lead, after.as_ref(), batch).await?;
            more = read.more;
            for entry in read.entries {
                let is_left_out = entry.user_id == me || hidden.contains(&entry.user_id);
                if !is_left_out && query.is_shown_at(&entry) {
                    if found.len() == limit.get() {
                        // One too many: the page ends before it.
                        return self.page(me, found, after, query).await;
                    }
                    found.push(entry.user_id);
                }
                after = Some(NamePlace { word: entry.word, user_id: entry.user_id });
            }
            if !more {
                break;
            }
        }
        self.page(me, found, after.filter(|_| more), query).await
    }

    async fn page(
        &self,
        me: UserId,
        found: Vec<UserId>,
        next: Option<NamePlace>,
        query: &NameQuery,
    ) -> Result<Page<Hit>> {
        let items = self.hits(me, &found).await?;
        Ok(Page { items, next_cursor: next.map(|place| Cursor(place).encode(query.scope())) })
    }

    /// The person who has an address, if they show it to the caller.
    pub async fn by_email(
        &self,
        emails: &impl EmailIndex,
        me: UserId,
        email: &EmailAddress,
    ) -> Result<Page<Hit>> {
        let owner = emails.owner(email).await?.filter(|owner| *owner != me);
        let mut hits = self.hits(me, owner.as_slice()).await?;
        // Since the address was looked for, it may have been exchanged.
        hits.retain(|hit| hit.profile.email.as_ref().is_some_and(|shown| shown.key() == email.key()));
        Ok(Page { items: hits, next_cursor: None })
    }

    /// These people as the caller sees them, in this order.
    async fn hits(&self, me: UserId, ids: &[UserId]) -> Result<Vec<Hit>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let circles = async {
            // Hundred of them are one request, and the caller's would be one too many.
            let (theirs, mine) =
                try_join(Circles::of(self.friendships, ids), Circles::of(self.friendships, &[me])).await?;
            Ok((theirs, mine.into_values().next().unwrap_or_default()))
        };
        let (profiles, relations, (circles, mine)) =
            try_join3(self.profiles.get(ids), Relations::of(self.friendships, me, ids), circles).await?;
        let mut hits: HashMap<UserId, Hit> = profiles
            .iter()
            .filter_map(|profile| {
                let id = profile.user_id;
                let relation = relations.get(&id).copied().unwrap_or_default();
                let closeness = Closeness::of(me, id, &relation)?;
                let common = || circles.get(&id).map_or(0, |circle| circle.common(&mine).len());
                let hit = Hit {
                    profile: PublicProfile::of(profile, closeness, self.images),
                    friendship: relation.friendship,
                    // To be told how many would be to be told of a list that is not shown.
                    mutual_friends: profile.visibility.friends.includes(closeness).then(common),
                };
                Some((id, hit))
            })
            .collect();
        Ok(ids.iter().filter_map(|id| hits.remove(id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    fn words(text: &str) -> Vec<String> {
        Word::all_of(text).into_iter().map(|word| word.0).collect()
    }

    #[test]
    fn words_are_without_case_and_accents() {
        for (text, folded) in [
            ("Ærøskøbing", vec!["aeroskobing"]),
            ("Łukasz Żółć", vec!["lukasz", "zolc"]),
            ("Renée O'Hara-Đorđević", vec!["dordevic", "ohara", "renee"]),
            ("STRASSE Straße", vec!["strasse"]),
            ("İstanbul ısı", vec!["isi", "istanbul"]),
            ("ΣΊΣΥΦΟΣ Σίσυφος", vec!["σισυφοσ"]),
            ("ﬁnn Ⅷ", vec!["finn", "viii"]),
            ("ada.lovelace_99", vec!["99", "ada", "lovelace"]),
            ("李小龙", vec!["李小龙"]),
            (" … ", vec![]),
        ] {
            assert_eq!(words(text), folded, "{text}");
        }
        let long = "x".repeat(100);
        assert_eq!(words(&long), ["x".repeat(Word::MOST)]);
    }

    #[test]
    fn a_word_is_folded_once() {
        // What is folded again is the same: so a word that comes back in a cursor is known again.
        for text in ["Ærøskøbing", "İstanbul", "Σίσυφος", "ﷺ", "Ǆ", "ŉ", "ΐ", "각", "が", "ﬃ", "Ⅷ", "ẞ"]
        {
            for word in Word::all_of(text) {
                assert_eq!(Word::all_of(word.as_str()), BTreeSet::from([word.clone()]), "{text}: {word:?}");
            }
        }
    }

    #[test]
    fn a_query_is_led_by_its_longest_word() {
        let query = NameQuery::parse("J Løv").unwrap();
        assert_eq!(query.lead().as_str(), "lov");
        for bad in ["", " ", "a", "a b", "…", &"x".repeat(101), "a b c d e f g h ij"] {
            assert!(NameQuery::parse(bad).is_err(), "{bad}");
        }
        assert!(NameQuery::parse("李").is_ok(), "a character of thousands is enough");
    }

    #[test]
    fn a_person_is_shown_at_one_of_their_words() {
        let now = time::now();
        let profile = Profile {
            first_name: Some("Anna Annika".to_owned()),
            last_name: Some("Åse".to_owned()),
            ..Profile::new(UserId::new(now), "ann.a".parse().unwrap(), None)
        };
        let entries = NameEntry::of(&profile);
        let all: Vec<_> = entries.iter().map(|entry| entry.word.as_str()).collect();
        assert_eq!(all, ["ann", "anna", "annika", "ase"], "a single letter is found only with another word");
        for (text, shown) in
            [("ann", 1), ("anna", 1), ("anni a", 1), ("ase ann a", 1), ("anno", 0), ("ann x", 0)]
        {
            let query = NameQuery::parse(text).unwrap();
            let of_lead = entries.iter().filter(|entry| entry.word.begins_with(query.lead()));
            assert_eq!(of_lead.filter(|entry| query.is_shown_at(entry)).count(), shown, "{text}");
        }
    }
}
