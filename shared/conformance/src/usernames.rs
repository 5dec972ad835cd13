//! Names that people give up for others.

use serde_json::json;
use tocsin_domain::{
    Error,
    access_token::Role,
    account::{Account, FORMER_USERNAME_SECONDS, Registered, Registrations, Username, VERIFICATION_SECONDS},
    departure::AccountCloser,
    error::Kind,
    identity::Identities,
    ids::UserId,
    password::PasswordHash,
    person::{Profile, ProfileEditor, Replaced},
    profile_patch::{self, ProfilePatch},
    secret::Secret,
    session::AccountReader,
    time::{self, Timestamp},
};

use crate::people::{join, person};

/// A name that somebody gave up is reserved for them for a while, and one at most is; and where the account is closed, none.
pub async fn former<U, P>(users: &U, newcomers: &impl Identities, people: &P)
where
    U: Registrations + AccountReader + AccountCloser,
    P: ProfileEditor,
{
    let now = time::now();
    let until = time::after(now, FORMER_USERNAME_SECONDS);
    let unique = &UserId::new(now).to_string()[24..];
    let name = |who: &str| -> Username { format!("{who}-{unique}").parse().unwrap() };
    let new = async |who: &str| {
        let profile = person(&name(who).to_string());
        join(newcomers, &profile, None).await;
        profile
    };
    let get = async |id: UserId| people.get(&[id]).await.unwrap().pop().unwrap();
    let rename = async |id: UserId, who: &str, now: Timestamp| {
        let old = get(id).await;
        let new = Profile { username: name(who), revision: old.revision + 1, ..old.clone() };
        people.replace(&old, &new, now).await.unwrap()
    };
    let names = async |id: UserId| {
        let account = users.get(id).await.unwrap().unwrap();
        assert_eq!(account.username, get(id).await.username);
        (account.username, account.former_username)
    };
    // What would become of a registration by mail, and does.
    let register = async |who: &str, now: Timestamp| {
        let account = Account {
            user_id: UserId::new(now),
            email: Some(format!("{}@example.org", UserId::new(now)).parse().unwrap()),
            email_verified: false,
            username: name(who),
            former_username: None,
            password: Some(PasswordHash("$argon2id$…".to_owned())),
            roles: vec![Role::User],
            created_at: now,
        };
        let foreseen = users.foresee(account.email.as_ref().unwrap(), &account.username, now).await.unwrap();
        let token = Secret::random().unwrap().hash();
        let registered = users.register(&account, &token, time::after(now, VERIFICATION_SECONDS)).await;
        assert_eq!(foreseen, registered.unwrap());
        foreseen
    };
    let (ada, eve, bob) = (new("ada").await.user_id, new("eve").await.user_id, new("bob").await.user_id);

    // Nobody else can have it: by renaming, or as somebody new.
    assert_eq!(rename(ada, "augusta", now).await, Replaced::Done);
    assert_eq!(names(ada).await, (name("augusta"), Some(name("ada"))));
    for now in [now, time::after(now, FORMER_USERNAME_SECONDS - 1)] {
        assert_eq!(rename(eve, "ADA", now).await, Replaced::UsernameTaken);
        assert_eq!(register("Ada", now).await, Registered::UsernameTaken);
    }
    // One's own name in another way changes nothing of it.
    assert_eq!(rename(ada, "Augusta", now).await, Replaced::Done);
    assert_eq!(names(ada).await, (name("Augusta"), Some(name("ada"))));
    assert_eq!(rename(eve, "ada", now).await, Replaced::UsernameTaken);

    // Of two who change it at once, the second begins again.
    let stale = Profile { username: name("ada"), revision: 0, ..get(ada).await };
    for other in ["byron", "augusta", "ada"] {
        let late = Profile { username: name(other), revision: 1, ..stale.clone() };
        assert_eq!(people.replace(&stale, &late, now).await.unwrap(), Replaced::Superseded, "{other}");
    }

    // It is taken back, and the other one is reserved then.
    assert_eq!(rename(ada, "ADA", now).await, Replaced::Done);
    assert_eq!(names(ada).await, (name("ADA"), Some(name("Augusta"))));
    assert_eq!(rename(eve, "ada", until).await, Replaced::UsernameTaken);
    assert_eq!(rename(eve, "augusta", now).await, Replaced::UsernameTaken);
    assert_eq!(rename(eve, "augusta", until).await, Replaced::Done);

    // The earlier of two is free at once.
    assert_eq!(rename(ada, "lovelace", now).await, Replaced::Done);
    assert_eq!(names(ada).await, (name("lovelace"), Some(name("ADA"))));
    assert_eq!(rename(ada, "countess", now).await, Replaced::Done);
    assert_eq!(register("ada", now).await, Registered::Stored);
    assert_eq!(register("lovelace", now).await, Registered::UsernameTaken);

    // Somebody has it by now: whoever had it before takes nothing away from them by another name, or by leaving.
    let later = time::after(until, 1);
    assert_eq!(rename(bob, "bobby", now).await, Replaced::Done);
    assert_eq!(register("lovelace", later).await, Registered::Stored);
    assert_eq!(rename(eve, "bob", later).await, Replaced::Done);
    assert_eq!(register("eve", later).await, Registered::Stored);
    assert_eq!(rename(ada, "byron", later).await, Replaced::Done);
    users.close(bob).await.unwrap();
    assert_eq!(users.get(bob).await.unwrap(), None);
    assert_eq!(register("lovelace", later).await, Registered::UsernameTaken);
    assert_eq!(register("bob", later).await, Registered::UsernameTaken);
    assert_eq!(register("bobby", later).await, Registered::Stored);

    // With the account both are free.
    users.close(ada).await.unwrap();
    for free in ["byron", "countess"] {
        assert_eq!(register(free, later).await, Registered::Stored, "{free}");
    }
    // Who has left is called nothing else, though the profile is there for a moment; not even in other letters.
    for other in ["king", "BYRON"] {
        assert_eq!(rename(ada, other, later).await, Replaced::AccountClosed);
        let patch = ProfilePatch::from_json(&json!({"username": name(other)}), now).unwrap();
        match profile_patch::update(people, ada, &patch, later).await {
            Err(Error::Refused(refusal)) => assert_eq!(refusal.kind, Kind::NotFound),
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(register("king", later).await, Registered::Stored);
}
