//! Accounts and sessions.

use std::slice::from_ref;

use tocsin_domain::{
    Error,
    access_token::Role,
    account::{
        Account, AccountFinder, MOST_WAITING, Registered, Registrations, RoleEditor, VERIFICATION_SECONDS,
        Verifications,
    },
    email_change::{EMAIL_CHANGE_SECONDS, EmailChangeTokens, EmailChanged, EmailChanges},
    identity::{Holder, Identities, Identity, Linked, NewIdentity},
    ids::{SessionId, UserId},
    mail::EmailAddress,
    password::PasswordHash,
    password_change::PasswordEditor,
    password_reset::{PasswordResets, RESET_SECONDS, ResetTokens},
    person::{Profile, Profiles},
    secret::{Salt, Secret, SecretHash},
    session::{AccountReader, Origin, Session, SessionPasswords, Sessions},
    time::{self, Timestamp},
};

fn account(email: &str, username: &str, now: Timestamp) -> Account {
    Account {
        user_id: UserId::new(now),
        email: Some(email.parse().unwrap()),
        email_verified: false,
        username: username.parse().unwrap(),
        former_username: None,
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
pub async fn users<U>(users: &U, newcomers: &impl Verifications, people: &impl Profiles)
where
    U: Registrations + AccountFinder + AccountReader + RoleEditor,
{
    let now = time::now();
    let (name, unique) = (|who: &str| format!("{who}-{}", now.as_millisecond()), now.as_millisecond());
    let email = |who: &str| format!("{who}.{unique}@example.org");
    let until = time::after(now, VERIFICATION_SECONDS);
    let register = async |account: &Account, token: &SecretHash| {
        let (email, at) = (account.email.as_ref().unwrap(), account.created_at);
        let until = time::after(at, VERIFICATION_SECONDS);
        let foreseen = users.foresee(email, &account.username, at).await.unwrap();
        let registered = users.register(account, token, until).await.unwrap();
        assert_eq!(foreseen, registered);
        registered
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
    let profile = Profile::new(first.user_id, first.username.clone(), first.email.clone());
    let all = [first.user_id, second.user_id, third.user_id];
    assert_eq!(people.get(&all).await.unwrap(), [profile], "a person begins with the account");
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
pub async fn identities<U, N>(users: &U, newcomers: &N, people: &impl Profiles)
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
        newcomers.register(account, identity, None, &profile).await.unwrap()
    };
    let find = async |identity: &Identity| newcomers.find(identity).await.unwrap();
    let at = async |email: &str| users.find(&email.parse().unwrap(), now).await.unwrap();

    // Without an address: the account is found by the identity and by its id.
    let bare = outsider("bare", None);
    assert_eq!(find(&identity("bare")).await, Holder::Nobody);
    assert_eq!(register(&bare, &identity("bare")).await, NewIdentity::Stored);
    let profile = Profile::new(bare.user_id, bare.username.clone(), None);
    assert_eq!(people.get(&[bare.user_id]).await.unwrap(), [profile]);
    assert_eq!(find(&identity("bare")).await, Holder::Account(bare.clone()));
    assert_eq!(users.get(bare.user_id).await.unwrap(), Some(bare.clone()));
    let elsewhere = Identity::new("https://other.example", identity("bare").subject()).unwrap();
    assert_eq!(find(&elsewhere).await, Holder::Nobody, "another issuer's subject is another person");
    let again = outsider("again", Some(&email("again")));
    assert_eq!(register(&again, &identity("bare")).await, NewIdentity::Taken);
    assert_eq!(users.get(again.user_id).await.unwrap(), None, "what is refused leaves nothing");
    assert_eq!(people.get(&[again.user_id]).await.unwrap(), []);
    assert_eq!(at(&email("again")).await, []);
    let other = outsider("BARE", Some(&email("again")));
    assert_eq!(register(&other, &identity("other")).await, NewIdentity::UsernameTaken);
    assert_eq!(find(&identity("other")).await, Holder::Nobody);

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
    assert_eq!(find(&identity("second")).await, Holder::Nobody);

    // Another identity of the same person; once more, which changes nothing; and of somebody else, which must not.
    let link =
        async |identity: &Identity, account: &Account| newcomers.link(identity, account).await.unwrap();
    for _ in 0..2 {
        assert_eq!(link(&identity("second"), &ada).await, Linked::Done);
    }
    assert_eq!(find(&identity("second")).await, Holder::Account(ada.clone()));
    assert_eq!(find(&identity("ada")).await, Holder::Account(ada.clone()));
    assert_eq!(link(&identity("second"), &bare).await, Linked::Taken);
    assert_eq!(find(&identity("second")).await, Holder::Account(ada.clone()));
    assert_eq!(link(&identity("third"), &bare).await, Linked::Done);
    // The address, which was the reason, is not the account's (any more); or there is no account.
    let moved = Account { email: Some(email("moved").parse().unwrap()), ..ada.clone() };
    let nobody = outsider("nobody", None);
    for account in [&moved, &nobody, &Account { email: None, ..ada.clone() }] {
        assert_eq!(link(&identity("fourth"), account).await, Linked::Superseded);
        assert_eq!(find(&identity("fourth")).await, Holder::Nobody);
    }
}

/// A verified account of now.
async fn verified<U: Registrations>(users: &U, newcomers: &impl Verifications, who: &str) -> Account {
    let now = time::now();
    let id = UserId::new(now).to_string();
    // The end of an id is random.
    let (unique, token) = (&id[24..], token());
    let account = account(&format!("{who}.{unique}@example.org"), &format!("{who}-{unique}"), now);
    let until = time::after(now, VERIFICATION_SECONDS);
    assert_eq!(users.register(&account, &token, until).await.unwrap(), Registered::Stored);
    newcomers.verify(&token, now).await.unwrap().unwrap()
}

fn hash(text: &str) -> PasswordHash {
    PasswordHash(format!("$argon2id${text}"))
}

/// A password is changed by who knows the one before, or with a token: once, in time, and only as long as the account is
/// as it was when the token was issued.
pub async fn passwords<U>(users: &U, newcomers: &impl Verifications)
where
    U: Registrations + AccountReader + PasswordEditor + ResetTokens + PasswordResets,
{
    let (now, ada) = (time::now(), verified(users, newcomers, "ada").await);
    let until = time::after(now, RESET_SECONDS);
    let issue = async |account: &Account| {
        let token = token();
        users.issue(account, &token, until).await.unwrap();
        token
    };
    let find = async |token: &SecretHash, now| users.find(token, now).await.unwrap();
    let confirm = async |token: &SecretHash, account: &Account, new: &str| {
        users.confirm(token, account, &hash(new)).await.unwrap()
    };
    let stored = async || users.get(ada.user_id).await.unwrap().unwrap();

    assert_eq!(find(&token(), now).await, None);
    let (first, second) = (issue(&ada).await, issue(&ada).await);
    assert_eq!(find(&first, until).await, None, "a token expires");
    assert_eq!(find(&first, now).await, Some(ada.clone()));
    assert!(!confirm(&token(), &ada, "unknown").await);
    assert!(confirm(&first, &ada, "first").await);
    let after_first = Account { password: Some(hash("first")), ..ada.clone() };
    assert_eq!(stored().await, after_first, "nothing else changes");
    assert_eq!(find(&first, now).await, None, "a token is used once");
    assert!(!confirm(&first, &after_first, "again").await);
    // The other token was issued for the password before.
    assert_eq!(find(&second, now).await, None);
    assert!(!confirm(&second, &ada, "second").await, "also for who found it in time");

    let third = issue(&after_first).await;
    assert!(!users.set_password(ada.user_id, &hash("wrong"), &hash("new")).await.unwrap());
    assert!(users.set_password(ada.user_id, &hash("first"), &hash("third")).await.unwrap());
    assert!(!users.set_password(ada.user_id, &hash("first"), &hash("late")).await.unwrap());
    assert_eq!(stored().await.password, Some(hash("third")));
    assert_eq!(find(&third, now).await, None);
    assert!(!users.set_password(UserId::new(now), &hash("third"), &hash("new")).await.unwrap());
}

/// An address moves to an account with a token, in the account and the profile, and the one before is anybody's.
pub async fn addresses<U>(
    users: &U,
    newcomers: &(impl Verifications + Identities),
    addresses: &impl EmailChanges,
    people: &impl Profiles,
) where
    U: Registrations + AccountFinder + AccountReader + PasswordEditor + EmailChangeTokens,
{
    let now = time::now();
    let (ada, eve) = (verified(users, newcomers, "ada").await, verified(users, newcomers, "eve").await);
    let until = time::after(now, EMAIL_CHANGE_SECONDS);
    let unique = &ada.user_id.to_string()[24..];
    let new: EmailAddress = format!("Lovelace.{unique}@example.org").parse().unwrap();
    let issue = async |account: &Account, email: &EmailAddress| {
        let token = token();
        users.issue(account, email, &token, until).await.unwrap();
        token
    };
    let find = async |token: &SecretHash, now| addresses.find(token, now).await.unwrap();
    let confirm = async |token: &SecretHash, account: &Account, email: &EmailAddress| {
        addresses.confirm(token, account, email).await.unwrap()
    };
    let at = async |email: &EmailAddress| users.find(email, now).await.unwrap();
    let old = ada.email.clone().unwrap();

    // Somebody else's: it is not moved.
    let theirs = eve.email.clone().unwrap();
    let token_for_theirs = issue(&ada, &theirs).await;
    assert_eq!(confirm(&token_for_theirs, &ada, &theirs).await, EmailChanged::Taken);
    assert_eq!(at(&theirs).await, from_ref(&eve));

    // One that somebody has registered who cannot read its mails: it is.
    let (squatter, squatters) = (account(new.as_str(), &format!("squatter-{unique}"), now), token());
    assert_eq!(users.register(&squatter, &squatters, until).await.unwrap(), Registered::Stored);
    let (first, second) = (issue(&ada, &new).await, issue(&ada, &new).await);
    assert_eq!(find(&first, until).await, None, "a token expires");
    assert_eq!(find(&first, now).await, Some((ada.clone(), new.clone())));
    assert_eq!(confirm(&token(), &ada, &new).await, EmailChanged::Superseded);
    assert_eq!(confirm(&first, &ada, &new).await, EmailChanged::Done);
    let moved = Account { email: Some(new.clone()), ..ada.clone() };
    assert_eq!(users.get(ada.user_id).await.unwrap(), Some(moved.clone()), "nothing else changes");
    assert_eq!(at(&new).await, from_ref(&moved));
    assert_eq!(at(&old).await, []);
    let profiles = people.get(&[ada.user_id]).await.unwrap();
    assert_eq!(profiles[0].email, Some(new.clone()));
    assert_eq!(newcomers.verify(&squatters, now).await.unwrap(), None);
    for used in [&first, &second] {
        assert_eq!(find(used, now).await, None, "a token is used once, and is about the address before");
        assert_eq!(confirm(used, &ada, &new).await, EmailChanged::Superseded);
    }
    let another = account(old.as_str(), &format!("another-{unique}"), now);
    assert_eq!(users.register(&another, &token(), until).await.unwrap(), Registered::Stored, "it is free");

    // The same address in another case; and after another password, none that was asked for before.
    let spelt: EmailAddress = new.as_str().to_lowercase().parse().unwrap();
    let (third, fourth) = (issue(&moved, &spelt).await, issue(&moved, &old).await);
    assert_eq!(confirm(&third, &moved, &spelt).await, EmailChanged::Done);
    let spelled = Account { email: Some(spelt.clone()), ..moved.clone() };
    assert_eq!(at(&new).await, from_ref(&spelled));
    assert_eq!(find(&fourth, now).await, None);
    let fifth = issue(&spelled, &old).await;
    let before = spelled.password.clone().unwrap();
    assert!(users.set_password(ada.user_id, &before, &hash("another")).await.unwrap());
    assert_eq!(find(&fifth, now).await, None);
    assert_eq!(confirm(&fifth, &spelled, &old).await, EmailChanged::Superseded);

    // Who came without an address gets one.
    let named = account("nobody@example.org", &format!("bare-{unique}"), now);
    let bare = Account { email: None, email_verified: false, password: None, ..named };
    let identity = Identity::new("https://issuer.example", format!("bare-{unique}")).unwrap();
    let profile = Profile::new(bare.user_id, bare.username.clone(), None);
    assert_eq!(newcomers.register(&bare, &identity, None, &profile).await.unwrap(), NewIdentity::Stored);
    let email: EmailAddress = format!("bare.{unique}@example.org").parse().unwrap();
    let sixth = issue(&bare, &email).await;
    assert_eq!(confirm(&sixth, &bare, &email).await, EmailChanged::Done);
    assert_eq!(at(&email).await, [Account { email: Some(email.clone()), email_verified: true, ..bare }]);
}

/// A session is its owner's, ends in time, and is exchanged once for each token.
pub async fn sessions(sessions: &(impl Sessions + SessionPasswords)) {
    let now = time::now();
    let (first, second, third) = (token(), token(), token());
    let session = Session {
        user_id: UserId::new(now),
        session_id: SessionId::new(now),
        salt: Salt::random().unwrap(),
        current: first.clone(),
        previous: None,
        password: Some(PasswordHash("$argon2id$…".to_owned()).mark()),
        kept_for: Vec::new(),
        origin: Origin::new(Some("tocsin-app/1.0"), "192.0.2.1"),
        created_at: now,
        last_used_at: now,
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
        origin: Origin::new(None, "192.0.2.2"),
        last_used_at: time::after(now, 5),
        expires_at: time::after(now, 120),
        ..session.clone()
    };
    assert!(sessions.rotate(&first, &rotated).await.unwrap());
    let late = Session { current: third.clone(), ..session.clone() };
    assert!(!sessions.rotate(&first, &late).await.unwrap());
    assert_eq!(sessions.get(owner, id, now).await.unwrap().as_ref(), Some(&rotated));

    // Its password is changed while it is renewed: neither undoes the other.
    let (mark, other) = (hash("another").mark(), hash("other").mark());
    sessions.keep_for(owner, id, &mark).await.unwrap();
    let again = Session { current: third.clone(), previous: None, ..rotated.clone() };
    assert!(sessions.rotate(&second, &again).await.unwrap());
    let again = Session { kept_for: vec![mark.clone()], ..again };
    assert_eq!(sessions.get(owner, id, now).await.unwrap().as_ref(), Some(&again));
    // Two changes at once, of which one does not come about; and what is not there is forgotten.
    sessions.keep_for(owner, id, &other).await.unwrap();
    for _ in 0..2 {
        assert_eq!(sessions.get(owner, id, now).await.unwrap().unwrap().kept_for.len(), 2);
        sessions.keep_for(owner, id, &other).await.unwrap();
    }
    for _ in 0..2 {
        sessions.forget(owner, id, &other).await.unwrap();
        assert_eq!(sessions.get(owner, id, now).await.unwrap().as_ref(), Some(&again));
    }

    // The one used last comes first; those of others, and those that have ended, are not among them.
    let other = |user_id, seconds| Session {
        user_id,
        session_id: SessionId::new(now),
        current: token(),
        last_used_at: time::after(now, seconds),
        expires_at: time::after(now, 10 * seconds),
        ..session.clone()
    };
    let (newer, older, gone) = (other(owner, 6), other(owner, 4), other(owner, 2));
    for session in [&newer, &older, &gone, &other(UserId::new(now), 9)] {
        sessions.begin(session).await.unwrap();
    }
    let mine = sessions.of(owner, gone.expires_at).await.unwrap();
    assert_eq!(mine, [newer.clone(), again, older.clone()]);

    assert!(!sessions.end(UserId::new(now), id).await.unwrap(), "it is its owner's alone");
    assert!(sessions.end(owner, id).await.unwrap());
    assert!(!sessions.end(owner, id).await.unwrap());
    assert_eq!(sessions.get(owner, id, now).await.unwrap(), None);
    sessions.keep_for(owner, id, &mark).await.unwrap();
    sessions.forget(owner, id, &mark).await.unwrap();
    assert!(!sessions.rotate(&third, &rotated).await.unwrap(), "what has ended is not begun again");
    assert_eq!(sessions.of(owner, gone.expires_at).await.unwrap(), [newer, older]);
}
