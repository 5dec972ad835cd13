//! Accounts and sessions.

use tocsin_domain::{
    Error,
    access_token::Role,
    account::{
        Account, AccountFinder, Registered, Registrations, RoleEditor, VERIFICATION_SECONDS, Verifications,
    },
    ids::{SessionId, UserId},
    mail::EmailAddress,
    password::PasswordHash,
    secret::{Salt, Secret, SecretHash},
    session::{AccountReader, Session, Sessions},
    time::{self, Timestamp},
};

fn account(email: &str, username: &str, now: Timestamp) -> Account {
    Account {
        user_id: UserId::new(now),
        email: email.parse().unwrap(),
        email_verified: false,
        username: username.parse().unwrap(),
        password: PasswordHash("$argon2id$…".to_owned()),
        roles: vec![Role::User],
        created_at: now,
    }
}

fn token() -> SecretHash {
    Secret::random().unwrap().hash()
}

/// An address and a name are one account's, once it is verified; until then, for as long as its registration waits.
pub async fn users<U>(users: &U)
where
    U: Registrations + Verifications + AccountFinder + AccountReader + RoleEditor,
{
    let now = time::now();
    let (name, unique) = (|who: &str| format!("{who}-{}", now.as_millisecond()), now.as_millisecond());
    let email = |who: &str| format!("{who}.{unique}@example.org");
    let until = time::after(now, VERIFICATION_SECONDS);
    let find = async |email: &str, now| {
        let email: EmailAddress = email.parse().unwrap();
        users.find(&email, now).await.unwrap()
    };

    let (first, first_token) = (account(&email("ada"), &name("ada"), now), token());
    assert_eq!(users.register(&first, &first_token, until).await.unwrap(), Registered::Stored);
    assert_eq!(find(&email("Ada"), now).await.as_ref(), Some(&first), "an address is found in any case");
    assert_eq!(users.get(first.user_id).await.unwrap().as_ref(), Some(&first));

    let other = account(&email("eve"), &name("ADA"), now);
    let refused = users.register(&other, &token(), until).await.unwrap();
    assert_eq!(refused, Registered::UsernameTaken, "names differ by more than case");
    assert_eq!(find(&email("eve"), now).await, None, "what is refused leaves nothing");

    // The mail got lost: the same address again, with another name, and then with the first one.
    let (second, second_token) = (account(&email("ada"), &name("lovelace"), now), token());
    assert_eq!(users.register(&second, &second_token, until).await.unwrap(), Registered::Stored);
    assert_eq!(users.verify(&first_token, now).await.unwrap(), None, "the earlier registration gave way");
    assert_eq!(
        users.register(&other, &token(), until).await.unwrap(),
        Registered::Stored,
        "its name is free"
    );
    let (third, third_token) = (account(&email("ada"), &name("lovelace"), now), token());
    assert_eq!(users.register(&third, &third_token, until).await.unwrap(), Registered::Stored);

    assert_eq!(users.verify(&token(), now).await.unwrap(), None);
    assert_eq!(users.verify(&third_token, until).await.unwrap(), None, "a token expires");
    let verified = Account { email_verified: true, ..third.clone() };
    assert_eq!(users.verify(&third_token, now).await.unwrap().as_ref(), Some(&verified));
    assert_eq!(users.verify(&third_token, now).await.unwrap(), None, "a token is used once");
    assert_eq!(find(&email("ada"), until).await.as_ref(), Some(&verified), "a verified account stays");
    let again =
        users.register(&account(&email("ada"), &name("countess"), now), &token(), until).await.unwrap();
    assert_eq!(again, Registered::EmailTaken);
    let again =
        users.register(&account(&email("mallory"), &name("lovelace"), until), &token(), until).await.unwrap();
    assert_eq!(again, Registered::UsernameTaken, "a verified account's name stays");

    // Eve never answered her mail.
    assert_eq!(find(&email("eve"), until).await, None);
    let later = time::after(until, 1);
    let (late, late_token) = (account(&email("grace"), &name("ada"), later), token());
    let stored = users.register(&late, &late_token, time::after(later, 60)).await.unwrap();
    assert_eq!(stored, Registered::Stored, "the name of an expired registration is free");

    users.set_roles(third.user_id, &[Role::User, Role::Moderator]).await.unwrap();
    let roles = users.get(third.user_id).await.unwrap().unwrap().roles;
    assert_eq!(roles, [Role::User, Role::Moderator]);
    let nobody = users.set_roles(UserId::new(now), &[Role::Admin]).await;
    assert!(matches!(nobody, Err(Error::Refused(_))), "{nobody:?}");
}

/// A session is its owner's, ends in time, and is exchanged once for each token.
pub async fn sessions(sessions: &impl Sessions) {
    let now = time::now();
    let (first, second, third) = (token(), token(), token());
    let session = Session {
        user_id: UserId::new(now),
        session_id: SessionId::new(now),
        salt: Salt::random().unwrap(),
        current: first.clone(),
        previous: None,
        created_at: now,
        expires_at: time::after(now, 60),
    };
    let (owner, id) = (session.user_id, session.session_id);
    sessions.begin(&session).await.unwrap();
    assert_eq!(sessions.get(owner, id, now).await.unwrap().as_ref(), Some(&session));
    assert_eq!(sessions.get(UserId::new(now), id, now).await.unwrap(), None, "it is its owner's alone");
    assert_eq!(sessions.get(owner, id, session.expires_at).await.unwrap(), None, "it ends in time");

    let rotated = Session {
        current: second.clone(),
        previous: Some((first.clone(), time::after(now, 10))),
        expires_at: time::after(now, 120),
        ..session.clone()
    };
    assert!(sessions.rotate(&first, &rotated).await.unwrap());
    assert!(!sessions.rotate(&first, &Session { current: third.clone(), ..session }).await.unwrap());
    assert_eq!(sessions.get(owner, id, now).await.unwrap().as_ref(), Some(&rotated));

    sessions.end(owner, id).await.unwrap();
    sessions.end(owner, id).await.unwrap();
    assert_eq!(sessions.get(owner, id, now).await.unwrap(), None);
    assert!(!sessions.rotate(&second, &rotated).await.unwrap(), "what has ended is not begun again");
}
