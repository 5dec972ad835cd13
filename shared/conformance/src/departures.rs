//! Accounts that are closed, and how far departures are.

use tocsin_domain::{
    access_token::Role,
    account::{Account, AccountFinder},
    departure::{
        AccountCloser, Departure, DepartureProgress, DepartureSchedule, Departures, Due, PostsLeft, Round,
    },
    export::IdentityReader,
    identity::{Holder, Identities, Identity, Linked, NewIdentity},
    ids::PostId,
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

    // An access token of a sign-in before makes no account, and one of a sign-in afterwards does.
    users.close(again.user_id).await.unwrap();
    let left = newcomers.find(&identity("second")).await.unwrap().left_at().unwrap();
    let provision = async |signed_in_at| {
        let (identity, name) = (identity("second"), PersonName::default());
        let vouched = Vouched {
            identity,
            signed_in_at,
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

/// All of the table's ports.
pub trait DepartureStore: Departures + DepartureProgress + DepartureSchedule {}

impl<T: Departures + DepartureProgress + DepartureSchedule> DepartureStore for T {}

/// A departure is moved on by whoever saw it last, and by nobody else, until it ends.
pub async fn progress(departures: &impl DepartureStore) {
    let now = time::now();
    let first = Departure::new(user(), PostsLeft::Remove, now);
    let id = first.user_id;
    let get = async || departures.get(id).await.unwrap();
    assert_eq!(get().await, None);
    assert!(!departures.move_on(&first, &first, now).await.unwrap(), "there is none");
    assert_eq!(get().await, None, "and none is made of that");
    departures.begin(&first, now).await.unwrap();
    let other = Departure::new(user(), PostsLeft::Anonymise, now);
    departures.begin(&other, now).await.unwrap();
    assert_eq!(get().await, Some(first));

    let rest = Departure { posts_before: Some(PostId::new(now)), ..first };
    let further = Departure { posts_before: Some(PostId::new(time::after(now, 1))), ..first };
    let second = Departure { round: Round::Second, not_before: time::after(now, 60), ..first };
    assert!(departures.move_on(&first, &rest, now).await.unwrap());
    assert!(!departures.move_on(&first, &second, now).await.unwrap(), "somebody else was quicker");
    assert_eq!(get().await, Some(rest));
    assert!(departures.move_on(&rest, &further, now).await.unwrap());
    assert!(!departures.move_on(&rest, &second, now).await.unwrap());
    departures.end(&rest).await.unwrap();
    assert_eq!(get().await, Some(further), "it has not ended");
    assert!(departures.move_on(&further, &second, now).await.unwrap());
    assert_eq!(get().await, Some(second));

    // They ask once more, and for something else.
    let later = time::after(now, 5);
    let again = Departure { posts: PostsLeft::Anonymise, asked_at: later, not_before: later, ..first };
    departures.begin(&again, later).await.unwrap();
    assert!(!departures.move_on(&second, &first, now).await.unwrap());
    assert!(!departures.move_on(&first, &second, now).await.unwrap(), "as far, but another");
    departures.end(&second).await.unwrap();
    assert_eq!(get().await, Some(again));
    for _ in 0..2 {
        departures.end(&again).await.unwrap();
        assert_eq!(get().await, None);
    }
    assert_eq!(departures.get(other.user_id).await.unwrap(), Some(other), "nobody else's");
    departures.end(&other).await.unwrap();
}

/// What is due is found, the longest due first, until it is put off; what somebody else has moved is left alone.
pub async fn schedule(departures: &impl DepartureStore) {
    let now = time::now();
    let at = |seconds| time::after(now, seconds);
    let mut all = Vec::new();
    // Two at once each time.
    for seconds in [30, 10, 20, 10, 20, 30] {
        let departure = Departure::new(user(), PostsLeft::Anonymise, now);
        departures.begin(&departure, at(seconds)).await.unwrap();
        all.push((Due { since: at(seconds), user_id: departure.user_id }, departure));
    }
    all.sort_by_key(|(due, _)| *due);
    let expected: Vec<Due> = all.iter().map(|(due, _)| *due).collect();
    let due = async |now, after, limit| departures.due(now, after, limit).await.unwrap();
    assert_eq!(due(at(9), None, 100).await, []);
    assert_eq!(due(at(10), None, 100).await, expected[..2]);
    assert_eq!(due(at(29), None, 100).await, expected[..4]);
    assert_eq!(due(at(30), None, 100).await, expected);
    for limit in 1..4 {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = due(at(30), after, limit).await;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            read.extend(page);
        }
        assert_eq!(read, expected, "by {limit}");
    }

    // Put off, and again by somebody who has not seen that.
    departures.postpone(expected[0], at(100)).await.unwrap();
    departures.postpone(expected[0], at(40)).await.unwrap();
    assert_eq!(due(at(99), None, 100).await, expected[1..]);
    assert_eq!(departures.get(all[0].1.user_id).await.unwrap(), Some(all[0].1), "it is as far as it was");
    // It is moved on all the same, and is due again then.
    let next = Departure { round: Round::Second, ..all[0].1 };
    assert!(departures.move_on(&all[0].1, &next, at(5)).await.unwrap());
    assert_eq!(due(at(9), None, 1).await, [Due { since: at(5), ..expected[0] }]);
    // One that has ended does not come back by being put off.
    departures.end(&all[1].1).await.unwrap();
    departures.postpone(expected[1], at(10)).await.unwrap();
    assert_eq!(departures.get(all[1].1.user_id).await.unwrap(), None);
    departures.end(&next).await.unwrap();
    assert_eq!(due(at(30), None, 100).await, expected[2..]);
    for (_, departure) in &all[2..] {
        departures.end(departure).await.unwrap();
    }
    assert_eq!(due(at(1_000), None, 100).await, []);
}
