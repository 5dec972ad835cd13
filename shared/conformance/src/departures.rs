//! Accounts that are closed.

use tocsin_domain::{
    access_token::Role,
    account::{Account, AccountFinder},
    departure::AccountCloser,
    export::IdentityReader,
    identity::{Holder, Identities, Identity, Linked, NewIdentity},
    outside_sign_in::{self, PersonName, Vouched},
    person::Profile,
    session::AccountReader,
    time::{self, Timestamp},
};

use crate::fixtures::user;

/// With an account all that it is found by is gone, and free for others; to close it again is no error.
pub async fn closing<U, N>(users: &U, newcomers: &N)
where
    U: AccountFinder + AccountReader + AccountCloser + IdentityReader,
    N: Identities,
{
    let now = time::now();
    let unique = now.as_nanosecond();
    let identity =
        |subject: &str| Identity::new("https://issuer.example", format!("{subject}-{unique}")).unwrap();
    let account = |username: &str, email: Option<&str>| Account {
        user_id: user(),
        email: email.map(|email| format!("{email}.{unique}@example.org").parse().unwrap()),
        email_verified: email.is_some(),
        username: format!("{username}-{}", unique % 1_000_000_000).parse().unwrap(),
        former_username: None,
        password: None,
        roles: vec![Role::User],
        created_at: now,
    };
    let register_again = async |account: &Account, identity: &Identity, left_at: Option<Timestamp>| {
        let profile = Profile::new(account.user_id, account.username.clone(), account.email.clone());
        newcomers.register(account, identity, left_at, &profile).await.unwrap()
    };
    let register =
        async |account: &Account, identity: &Identity| register_again(account, identity, None).await;
    let (leaver, other) = (account("leaver", Some("leaver")), account("other", None));
    assert_eq!(register(&leaver, &identity("leaver")).await, NewIdentity::Stored);
    assert_eq!(register(&other, &identity("other")).await, NewIdentity::Stored);
    assert_eq!(newcomers.link(&identity("second"), &leaver).await.unwrap(), Linked::Done);
    let mut identities = IdentityReader::of(users, leaver.user_id).await.unwrap();
    identities.sort_by_key(|identity| identity.subject().to_owned());
    assert_eq!(identities, [identity("leaver"), identity("second")]);

    let mut left_at = None;
    for _ in 0..2 {
        users.close(leaver.user_id).await.unwrap();
        assert_eq!(users.get(leaver.user_id).await.unwrap(), None);
        let email = leaver.email.clone().unwrap();
        assert_eq!(users.find(&email, now).await.unwrap(), []);
        for identity in &identities {
            let left = newcomers.find(identity).await.unwrap().left_at().unwrap();
            assert!((now..=time::now()).contains(&left), "it was just now");
            assert_eq!(*left_at.get_or_insert(left), left, "and once");
        }
        assert_eq!(IdentityReader::of(users, leaver.user_id).await.unwrap(), []);
        assert_eq!(users.get(other.user_id).await.unwrap(), Some(other.clone()), "nobody else is");
    }
    let again = Account { user_id: user(), ..leaver.clone() };
    for other in [None, Some(time::after(now, 9))] {
        assert_eq!(register_again(&again, &identity("leaver"), other).await, NewIdentity::Taken);
    }
    let stored = register_again(&again, &identity("leaver"), left_at).await;
    assert_eq!(stored, NewIdentity::Stored, "all of it is free");
    users.close(leaver.user_id).await.unwrap();
    assert_eq!(
        users.get(again.user_id).await.unwrap(),
        Some(again.clone()),
        "and is not the leaver's any more"
    );
    assert_eq!(newcomers.find(&identity("leaver")).await.unwrap(), Holder::Account(again.clone()));
    assert_eq!(IdentityReader::of(users, again.user_id).await.unwrap(), [identity("leaver")]);
    assert_eq!(newcomers.link(&identity("second"), &again).await.unwrap(), Linked::Done, "by signing in");

    // An access token that was made before makes no account, and one that was made afterwards does.
    users.close(again.user_id).await.unwrap();
    let left = newcomers.find(&identity("second")).await.unwrap().left_at().unwrap();
    let provision = async |issued_at| {
        let (identity, name) = (identity("second"), PersonName::default());
        let vouched = Vouched {
            identity,
            issued_at,
            email: None,
            email_verified: false,
            preferred_username: None,
            name,
        };
        outside_sign_in::provision(newcomers, &vouched, now).await
    };
    for before in [now, left] {
        let refused = provision(before).await.unwrap_err();
        assert!(refused.to_string().starts_with("account_closed"), "{refused}");
    }
    let back = provision(time::after(left, 1)).await.unwrap();
    assert_eq!(newcomers.find(&identity("second")).await.unwrap(), Holder::Account(back));
}
