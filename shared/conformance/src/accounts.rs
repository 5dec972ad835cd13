//! Accounts and sessions.

use std::slice::from_ref;

use tocsin_domain::{
    Error,
    access_token::Role,
    account::{
        Account, AccountFinder, MOST_WAITING, Registered, Registrations, RoleEditor, VERIFICATION_SECONDS,
        Verifications,
    },
    identity::{Identities, Identity, Linked, NewIdentity},
    ids::{SessionId, UserId},
    mail::EmailAddress,
    password::PasswordHash,
    person::Profile,
    secret::{Salt, Secret, SecretHash},
    session::{AccountReader, Session, Sessions},
    time::{self, Timestamp},
};

fn account(email: &str, username: &str, now: Timestamp) -> Account {
    Account {
        user_id: UserId::new(now),
        email: Some(email.parse().unwrap()),
        email_verified: false,
        username: username.parse().unwrap(),
        password: Some(PasswordHash("$argon2id$…".to_owned())),
        roles: vec![Role::User],
        created_at: now,
    }
}

fn token() -> SecretHash {
    Secret::random().unwrap().hash()
}

/// An address and a name are one account's, once it is verified; until then, a name is reserved for an address, and
/// registrations of one address do not touch each other.
pub async fn users<U>(users: &U, newcomers: &impl Verifications)
where
    U: Registrations + AccountFinder + AccountReader + RoleEditor,
{
    let now = time::now();
    let (name, unique) = (|who: &str| format!("{who}-{}", now.as_millisecond()), now.as_millisecond());
    let email = |who: &str| format!("{who}.{unique}@example.org");
    let until = time::after(now, VERIFICATION_SECONDS);
    let register = async |account: &Account, token: &SecretHash| {
        let until = time::after(account.created_at, VERIFICATION_SECONDS);
        users.register(account, token, until).await.unwrap()
    };
    let verify = async |token: &SecretHash, now| newcomers.verify(token, now).await.unwrap();
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
    let second = Account { password: Some(PasswordHash("$argon2id$another".to_owned())), ..second };
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

/// An identity is one account's, and makes one at most. A verified address that it brings is taken as if by its mail.
pub async fn identities<U, N>(users: &U, newcomers: &N)
where
    U: Registrations + AccountFinder + AccountReader,
    N: Verifications + Identities,
{
    let now = time::now();
    let unique = now.as_millisecond();
    let email = |who: &str| format!("{who}.by.identity.{unique}@example.org");
    let name = |who: &str| format!("{who}-i-{unique}");
    let identity =
        |subject: &str| Identity::new("https://issuer.example", format!("{subject}-{unique}")).unwrap();
    let outsider = |who: &str, email: Option<&str>| {
        let email: Option<EmailAddress> = email.map(|email| email.parse().unwrap());
        let named = account("nobody@example.org", &name(who), now);
        Account { email_verified: email.is_some(), email, password: None, ..named }
    };
    let register = async |account: &Account, identity: &Identity| {
        let profile = Profile::new(account.user_id, account.username.clone(), account.email.clone());
        newcomers.register(account, identity, &profile).await.unwrap()
    };
    let find = async |identity: &Identity| newcomers.find(identity).await.unwrap();
    let at = async |email: &str| users.find(&email.parse().unwrap(), now).await.unwrap();

    // Without an address: the account is found by the identity and by its id.
    let bare = outsider("bare", None);
    assert_eq!(find(&identity("bare")).await, None);
    assert_eq!(register(&bare, &identity("bare")).await, NewIdentity::Stored);
    assert_eq!(find(&identity("bare")).await, Some(bare.clone()));
    assert_eq!(users.get(bare.user_id).await.unwrap(), Some(bare.clone()));
    let elsewhere = Identity::new("https://other.example", identity("bare").subject()).unwrap();
    assert_eq!(find(&elsewhere).await, None, "another issuer's subject is another person");
    let again = outsider("again", Some(&email("again")));
    assert_eq!(register(&again, &identity("bare")).await, NewIdentity::Taken);
    assert_eq!(users.get(again.user_id).await.unwrap(), None, "what is refused leaves nothing");
    assert_eq!(at(&email("again")).await, []);
    let other = outsider("BARE", Some(&email("again")));
    assert_eq!(register(&other, &identity("other")).await, NewIdentity::UsernameTaken);
    assert_eq!(find(&identity("other")).await, None);

    // With an address that somebody registers, who cannot read its mails: it is not theirs any more.
    let (squatter, squatters_token) = (account(&email("ada"), &name("squatter"), now), token());
    let until = time::after(now, VERIFICATION_SECONDS);
    let registered = users.register(&squatter, &squatters_token, until).await.unwrap();
    assert_eq!(registered, Registered::Stored);
    let reserved = outsider("squatter", Some(&email("eve")));
    assert_eq!(register(&reserved, &identity("ada")).await, NewIdentity::UsernameTaken, "it is reserved");
    let ada = outsider("ada", Some(&email("Ada")));
    assert_eq!(register(&ada, &identity("ada")).await, NewIdentity::Stored);
    assert_eq!(at(&email("ada")).await, from_ref(&ada));
    assert_eq!(newcomers.verify(&squatters_token, now).await.unwrap(), None);
    let late = account(&email("ada"), &name("late"), now);
    assert_eq!(users.register(&late, &token(), until).await.unwrap(), Registered::EmailTaken);
    let second = outsider("second", Some(&email("ADA")));
    assert_eq!(register(&second, &identity("second")).await, NewIdentity::EmailTaken);
    assert_eq!(find(&identity("second")).await, None);

    // Another identity of the same person; once more, which changes nothing; and of somebody else, which must not.
    let link =
        async |identity: &Identity, account: &Account| newcomers.link(identity, account).await.unwrap();
    for _ in 0..2 {
        assert_eq!(link(&identity("second"), &ada).await, Linked::Done);
    }
    assert_eq!(find(&identity("second")).await, Some(ada.clone()));
    assert_eq!(find(&identity("ada")).await, Some(ada.clone()));
    assert_eq!(link(&identity("second"), &bare).await, Linked::Taken);
    assert_eq!(find(&identity("second")).await, Some(ada.clone()));
    assert_eq!(link(&identity("third"), &bare).await, Linked::Done);
    // The address, which was the reason, is not the account's (any more); or there is no account.
    let moved = Account { email: Some(email("moved").parse().unwrap()), ..ada.clone() };
    let nobody = outsider("nobody", None);
    for account in [&moved, &nobody, &Account { email: None, ..ada.clone() }] {
        assert_eq!(link(&identity("fourth"), account).await, Linked::Superseded);
        assert_eq!(find(&identity("fourth")).await, None);
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
