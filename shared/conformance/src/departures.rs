//! Accounts that are closed.

use tocsin_domain::{
    access_token::Role,
    account::{Account, AccountFinder},
    departure::AccountCloser,
    export::IdentityReader,
    identity::{Identities, Identity, Linked, NewIdentity},
    person::Profile,
    session::AccountReader,
    time,
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
        password: None,
        roles: vec![Role::User],
        created_at: now,
    };
    let register = async |account: &Account, identity: &Identity| {
        let profile = Profile::new(account.user_id, account.username.clone(), account.email.clone());
        newcomers.register(account, identity, &profile).await.unwrap()
    };
    let (leaver, other) = (account("leaver", Some("leaver")), account("other", None));
    assert_eq!(register(&leaver, &identity("leaver")).await, NewIdentity::Stored);
    assert_eq!(register(&other, &identity("other")).await, NewIdentity::Stored);
    assert_eq!(newcomers.link(&identity("second"), &leaver).await.unwrap(), Linked::Done);
    let mut identities = IdentityReader::of(users, leaver.user_id).await.unwrap();
    identities.sort_by_key(|identity| identity.subject().to_owned());
    assert_eq!(identities, [identity("leaver"), identity("second")]);

    for _ in 0..2 {
        users.close(leaver.user_id).await.unwrap();
        assert_eq!(users.get(leaver.user_id).await.unwrap(), None);
        let email = leaver.email.clone().unwrap();
        assert_eq!(users.find(&email, now).await.unwrap(), []);
        for identity in &identities {
            assert_eq!(newcomers.find(identity).await.unwrap(), None);
        }
        assert_eq!(IdentityReader::of(users, leaver.user_id).await.unwrap(), []);
        assert_eq!(users.get(other.user_id).await.unwrap(), Some(other.clone()), "nobody else is");
    }
    let again = Account { user_id: user(), ..leaver.clone() };
    assert_eq!(register(&again, &identity("leaver")).await, NewIdentity::Stored, "all of it is free");
    users.close(leaver.user_id).await.unwrap();
    assert_eq!(users.get(again.user_id).await.unwrap(), Some(again), "and is not the leaver's any more");
}
