//! People, and what they are found by.

use tocsin_domain::{
    access_token::Role,
    account::{Account, FORMER_USERNAME_SECONDS},
    identity::{Identities, Identity, NewIdentity},
    ids::{ImageId, UserId},
    password::PasswordHash,
    person::{MOST_AT_ONCE, Profile, ProfileEditor, ProfileEraser, Profiles, Replaced, ShownTo},
    person_search::{NameEntries, NameEntry, NameIndex, NamePlace, Word},
    profile_image::ImageEditor,
    time,
};

/// A new person.
#[must_use]
pub fn person(username: &str) -> Profile {
    let id = UserId::new(time::now());
    Profile::new(id, username.parse().unwrap(), Some(format!("{id}@example.org").parse().unwrap()))
}

/// Stores a person who has an account, without an address and with this password.
pub async fn join(newcomers: &impl Identities, profile: &Profile, password: Option<PasswordHash>) -> Account {
    let account = Account {
        user_id: profile.user_id,
        email: None,
        email_verified: false,
        username: profile.username.clone(),
        former_username: None,
        password,
        roles: vec![Role::User],
        created_at: time::now(),
    };
    let identity = Identity::new("https://issuer.example", profile.user_id.to_string()).unwrap();
    let joined = newcomers.register(&account, &identity, None, profile).await.unwrap();
    assert_eq!(joined, NewIdentity::Stored);
    account
}

/// A person is read as they were written, also among many.
pub async fn profiles(people: &impl Profiles, add: impl AsyncFn(&Profile) -> bool) {
    let mut ada = person("ada");
    ada.first_name = Some("Ada Æsa".to_owned());
    ada.date_of_birth = Some("1815-12-10".parse().unwrap());
    ada.visibility.date_of_birth = ShownTo::Friends;
    ada.image = Some(ImageId::new(time::now()));
    let bare = Profile { email: None, ..person("bare") };
    assert!(add(&ada).await && add(&bare).await);
    assert!(!add(&Profile { last_name: Some("Other".to_owned()), ..ada.clone() }).await, "there is one");
    let nobody = UserId::new(time::now());
    let mut found = people.get(&[bare.user_id, ada.user_id, nobody, ada.user_id]).await.unwrap();
    found.sort_by_key(|profile| profile.user_id);
    let mut both = [ada, bare];
    both.sort_by_key(|profile| profile.user_id);
    assert_eq!(found, both);
    assert_eq!(people.get(&[]).await.unwrap(), []);

    let mut crowd = Vec::new();
    for number in 0..=MOST_AT_ONCE {
        let one = person(&format!("crowd-{number}"));
        assert!(add(&one).await);
        crowd.push(one.user_id);
    }
    assert_eq!(people.get(&crowd).await.unwrap().len(), crowd.len());
}

/// A change is made to the state that it was thought of for, and what a person is found by changes with it; and a person
/// who is removed is found by nothing.
pub async fn edits<P: ProfileEditor, I: NameIndex + ProfileEraser>(
    people: &P,
    index: &I,
    newcomers: &impl Identities,
) {
    let now = time::now();
    let get = async |profile: &Profile| people.get(&[profile.user_id]).await.unwrap().pop();
    let found = async |word: &str| {
        let entries = index.beginning(&lead(word), None, 100).await.unwrap().entries;
        entries.into_iter().map(|entry| (entry.word.as_str().to_owned(), entry.user_id)).collect::<Vec<_>>()
    };
    let unique = &UserId::new(now).to_string()[24..];
    let (eve, ada) = (person(&format!("eve-{unique}")), person(&format!("Ada.{unique}")));
    for person in [&eve, &ada] {
        join(newcomers, person, None).await;
    }
    assert_eq!(found(unique).await.len(), 2);

    let renamed = Profile {
        username: format!("augusta-{unique}").parse().unwrap(),
        last_name: Some(format!("Øst{unique}")),
        revision: ada.revision + 1,
        ..ada.clone()
    };
    assert_eq!(people.replace(&ada, &renamed, now).await.unwrap(), Replaced::Done);
    assert_eq!(get(&ada).await, Some(renamed.clone()));
    assert_eq!(people.replace(&ada, &ada, now).await.unwrap(), Replaced::Superseded, "it is another by now");
    assert_eq!(found(&format!("ost{unique}")).await, [(format!("ost{unique}"), ada.user_id)]);
    assert_eq!(found("augusta").await.len(), 1);
    let entries = index.beginning(&lead("augusta"), None, 1).await.unwrap().entries;
    assert_eq!(
        entries,
        NameEntry::of(&renamed)
            .into_iter()
            .filter(|entry| entry.word.as_str() == "augusta")
            .collect::<Vec<_>>()
    );

    let hidden = Profile {
        visibility: tocsin_domain::person::Visibility {
            last_name: ShownTo::Friends,
            ..renamed.visibility.clone()
        },
        revision: renamed.revision + 1,
        ..renamed.clone()
    };
    assert_eq!(people.replace(&renamed, &hidden, now).await.unwrap(), Replaced::Done);
    assert_eq!(
        found(&format!("ost{unique}")).await,
        [],
        "nobody is found by what they do not show to everyone"
    );

    // Names differ by more than case. Those that were given up are free after a while, and one may write one's own in another
    // way.
    let taken = |from: &Profile, name: String| Profile {
        username: name.parse().unwrap(),
        revision: from.revision + 1,
        ..from.clone()
    };
    let outcome = people.replace(&eve, &taken(&eve, format!("AUGUSTA-{unique}")), now).await;
    assert_eq!(outcome.unwrap(), Replaced::UsernameTaken);
    assert_eq!(get(&eve).await.as_ref(), Some(&eve), "what is refused changes nothing");
    let louder = taken(&hidden, format!("Augusta-{unique}"));
    assert_eq!(people.replace(&hidden, &louder, now).await.unwrap(), Replaced::Done);
    let free = taken(&eve, format!("ada.{unique}"));
    assert_eq!(people.replace(&eve, &free, now).await.unwrap(), Replaced::UsernameTaken);
    let later = time::after(now, FORMER_USERNAME_SECONDS + 1);
    assert_eq!(people.replace(&eve, &free, later).await.unwrap(), Replaced::Done);

    assert_eq!(index.erase(ada.user_id).await.unwrap(), Some(louder.clone()));
    assert_eq!(index.erase(ada.user_id).await.unwrap(), None);
    assert_eq!((get(&ada).await, found("augusta").await), (None, vec![]));
    let late = Profile { revision: louder.revision + 1, ..louder.clone() };
    assert_eq!(people.replace(&louder, &late, now).await.unwrap(), Replaced::Superseded, "nobody comes back");
}

/// A person's image changes by itself, if they are still as they were; and so does everything else then.
pub async fn images(people: &impl ImageEditor, add: impl AsyncFn(&Profile) -> bool) {
    let profile = person("portrayed");
    assert!(add(&profile).await);
    let get = async || people.get(&[profile.user_id]).await.unwrap().pop().unwrap();
    let image = Some(ImageId::new(time::now()));
    assert!(people.set_image(&profile, image).await.unwrap());
    let with_image = Profile { image, revision: profile.revision + 1, ..profile.clone() };
    assert_eq!(get().await, with_image);
    assert!(!people.set_image(&profile, None).await.unwrap(), "it is another by now");
    assert!(people.set_image(&with_image, None).await.unwrap());
    assert_eq!(get().await, Profile { revision: profile.revision + 2, ..profile.clone() });
    assert!(!people.set_image(&person("eve"), image).await.unwrap(), "nobody is made");
}

/// Words that begin alike are read in order, and page by page none is missed.
pub async fn names<P: NameIndex>(index: &P, add: impl AsyncFn(&Profile) -> bool) {
    for (first, last) in [("Zoë", "Zimmer"), ("Zora", "Zo"), ("李", "Zo Zoa"), ("Zo'é", "Z"), ("zz", "zö")]
    {
        let mut one = person("zed");
        one.first_name = Some(first.to_owned());
        one.last_name = Some(last.to_owned());
        assert!(add(&one).await);
    }
    let read = async |prefix: &str, limit: usize| {
        let (mut words, mut after) = (Vec::new(), None);
        loop {
            let NameEntries { entries, more } =
                index.beginning(&lead(prefix), after.as_ref(), limit).await.unwrap();
            assert!(entries.len() <= limit && (!more || !entries.is_empty()));
            let last = entries.last();
            after = last.map(|last| NamePlace { word: last.word.clone(), user_id: last.user_id });
            words.extend(entries.into_iter().map(|entry| entry.word.as_str().to_owned()));
            if !more {
                return words;
            }
        }
    };
    let all = ["zo", "zo", "zo", "zoa", "zoe", "zoe", "zora"];
    for limit in [1, 2, 3, 100] {
        assert_eq!(read("zo", limit).await, all, "{limit} at a time");
    }
    assert_eq!(read("zoe", 1).await, ["zoe", "zoe"]);
    assert_eq!(read("李", 10).await, ["李"], "one character of thousands is enough");
    assert_eq!(read("zox", 10).await, [""; 0]);
    assert_eq!(read("z", 10).await, [""; 0], "one of a few is not");
}

fn lead(text: &str) -> Word {
    Word::all_of(text).pop_first().unwrap()
}
