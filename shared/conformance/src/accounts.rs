//! Accounts and sessions.

use std::slice::from_ref;

use tocsin_domain::{
    Error,
    access_token::Role,
    account::{
        Account, AccountFinder, MOST_WAITING, Registered, Registrations, RoleEditor, VERIFICATION_SECONDS,
        Verifications,
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

/// An address and a name are one account's, once it is verified; until then, a name is reserved for an address, and
/// registrations of one address do not touch each other.
pub async fn users<U>(users: &U)
where
    U: Registrations + Verifications + AccountFinder + AccountReader + RoleEditor,
{
    let now = time::now();
    let (name, unique) = (|who: &str| format!("{who}-{}", now.as_millisecond()), now.as_millisecond());
    let email = |who: &str| format!("{who}.{unique}@example.org");
    let until = time::after(now, VERIFICATION_SECONDS);
    let register = async |account: &Account, token: &SecretHash| {
        let until = time::after(account.created_at, VERIFICATION_SECONDS);
        users.register(account, token, until).await.unwrap()
    };
    let verify = async |token: &SecretHash, now| users.verify(token, now).await.unwrap();
    let find = async |email: &str, now| {
        let email: EmailAddress = email.parse().unwrap();
        users.find(&email, now).await.unwrap()
    };
    let verified = |account: &Account| Account { email_verified: true, ..account.clone() };

    let (first, first_token) = (account(&email("ada"), &name("ada"), now), token());
    assert_eq!(register(&first, &first_token).await, Registered::Stored);
    assert_eq!(find(&email("Ada"), now).await, from_ref(&first), "an address is found in any case");
    assert_eq!(users.get(first.user_id).await.unwrap(), None, "it is no account yet");

    let other = account(&email("eve"), &name("ADA"), now);
    assert_eq!(register(&other, &token()).await, Registered::UsernameTaken, "names differ by more than case");
    assert_eq!(find(&email("eve"), now).await, [], "what is refused leaves nothing");

    // Others register the same address: with the same name, and with another.
    let (second, second_token) = (account(&email("ADA"), &name("ada"), now), token());
    let second = Account { password: PasswordHash("$argon2id$another".to_owned()), ..second };
    assert_eq!(register(&second, &second_token).await, Registered::Stored);
    let (third, third_token) = (account(&email("ada"), &name("lovelace"), now), token());
    assert_eq!(register(&third, &third_token).await, Registered::Stored);
    let all = [third.clone(), second.clone(), first.clone()];
    assert_eq!(find(&email("ada"), now).await, all, "they stand side by side, the newest first");
    assert_eq!(
        register(&other, &token()).await,
        Registered::UsernameTaken,
        "all of their names are reserved"
    );
    let mut crowd = Vec::new();
    for _ in 0..MOST_WAITING {
        let one = account(&email("ada"), &name("countess"), now);
        assert_eq!(register(&one, &token()).await, Registered::Stored);
        crowd.insert(0, one);
    }
    assert_eq!(find(&email("ada"), now).await, crowd, "only the newest are looked at");

    assert_eq!(verify(&token(), now).await, None);
    assert_eq!(verify(&first_token, until).await, None, "a token expires");
    assert_eq!(verify(&first_token, now).await, Some(verified(&first)), "with its own password and name");
    assert_eq!(verify(&first_token, now).await, None, "a token is used once");
    for void in [&second_token, &third_token] {
        assert_eq!(verify(void, now).await, None, "the address is taken");
    }
    assert_eq!(find(&email("ada"), until).await, [verified(&first)], "a verified account stays");
    assert_eq!(users.get(first.user_id).await.unwrap(), Some(verified(&first)));
    for void in [&second, &third] {
        assert_eq!(users.get(void.user_id).await.unwrap(), None);
    }
    let again = account(&email("Ada"), &name("augusta"), now);
    assert_eq!(register(&again, &token()).await, Registered::EmailTaken);
    let again = account(&email("mallory"), &name("Ada"), until);
    assert_eq!(register(&again, &token()).await, Registered::UsernameTaken, "a verified name stays");

    // Nobody answered the mails: the name is free, and another's then.
    let (eve, eve_token) = (account(&email("eve"), &name("eve"), now), token());
    assert_eq!(register(&eve, &eve_token).await, Registered::Stored);
    assert_eq!(find(&email("eve"), until).await, []);
    let later = time::after(until, 1);
    let (late, late_token) = (account(&email("grace"), &name("Eve"), later), token());
    assert_eq!(register(&late, &late_token).await, Registered::Stored);
    let renewed = account(&email("eve"), &name("eva"), later);
    assert_eq!(register(&renewed, &token()).await, Registered::Stored);
    assert_eq!(find(&email("eve"), later).await, [renewed], "what has expired is not found");
    assert_eq!(verify(&late_token, later).await, Some(verified(&late)));
    // By a clock that is behind: the token is good, but the name is not free any more.
    assert_eq!(verify(&eve_token, now).await, None);
    assert_eq!(users.get(eve.user_id).await.unwrap(), None);

    users.set_roles(first.user_id, &[Role::User, Role::Moderator]).await.unwrap();
    let roles = users.get(first.user_id).await.unwrap().unwrap().roles;
    assert_eq!(roles, [Role::User, Role::Moderator]);
    for nobody in [UserId::new(now), third.user_id] {
        let nobody = users.set_roles(nobody, &[Role::Admin]).await;
        assert!(matches!(nobody, Err(Error::Refused(_))), "{nobody:?}");
    }
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
