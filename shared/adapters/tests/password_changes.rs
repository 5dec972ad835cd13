//! A session is kept through a change of its password, and a change that was made is answered as one, whatever comes in
//! between: over the adapters in memory.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use std::pin::pin;

use futures::{future::maybe_done, pending, poll};
use tocsin_adapters::memory::{MemoryMailer, MemoryRateLimiter, MemorySessions, MemoryUsers};
use tocsin_conformance::{
    fixtures,
    people::{join, person},
};
use tocsin_domain::{
    Result,
    access_token::TokenSigner,
    account::Account,
    ids::{SessionId, UserId},
    password::{Password, PasswordHash, PasswordMark},
    password_change::{self, PasswordChange, PasswordEditor},
    secret::SecretHash,
    session::{
        self, AccountReader, Origin, Session, SessionKeeper, SessionPasswords, SessionToken, Sessions, Tokens,
    },
    time::{self, Timestamp},
};

/// Accounts whose passwords are set, and then set again, since the answer was lost.
struct AnswersLost(MemoryUsers);

impl AccountReader for AnswersLost {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        self.0.get(id).await
    }
}

impl PasswordEditor for AnswersLost {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        self.0.set_password(id, old, new).await?;
        self.0.set_password(id, old, new).await
    }
}

/// A port of which each call begins only when whoever waits for it is polled again: so that others come in between.
struct InSteps<T>(T);

impl AccountReader for InSteps<MemoryUsers> {
    async fn get(&self, id: UserId) -> Result<Option<Account>> {
        pending!();
        self.0.get(id).await
    }
}

impl PasswordEditor for InSteps<MemoryUsers> {
    async fn set_password(&self, id: UserId, old: &PasswordHash, new: &PasswordHash) -> Result<bool> {
        pending!();
        self.0.set_password(id, old, new).await
    }
}

impl Sessions for InSteps<MemorySessions> {
    async fn begin(&self, session: &Session) -> Result<()> {
        pending!();
        self.0.begin(session).await
    }

    async fn get(&self, owner: UserId, id: SessionId, now: Timestamp) -> Result<Option<Session>> {
        pending!();
        self.0.get(owner, id, now).await
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        pending!();
        self.0.rotate(old, new).await
    }
}

impl SessionKeeper for InSteps<MemorySessions> {
    async fn of(&self, owner: UserId, now: Timestamp) -> Result<Vec<Session>> {
        pending!();
        self.0.of(owner, now).await
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<bool> {
        pending!();
        self.0.end(owner, id).await
    }
}

impl SessionPasswords for InSteps<MemorySessions> {
    async fn keep_for(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        pending!();
        self.0.keep_for(owner, id, password).await
    }

    async fn forget(&self, owner: UserId, id: SessionId, password: &PasswordMark) -> Result<()> {
        pending!();
        self.0.forget(owner, id, password).await
    }
}

/// Does both, one call of a port after the other: each of `after` is a call of the second, and how many calls of the first come
/// before it. What is left is done in the end, the first before the second.
async fn in_turn<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
    after: &[usize],
) -> (A, B) {
    let (mut first, mut second) = (pin!(maybe_done(first)), pin!(maybe_done(second)));
    // As far as the first call of each.
    let _ = (poll!(first.as_mut()), poll!(second.as_mut()));
    let mut calls = 0;
    for place in after {
        for _ in calls..*place {
            let _ = poll!(first.as_mut());
        }
        calls = *place;
        let _ = poll!(second.as_mut());
    }
    while poll!(first.as_mut()).is_pending() {}
    while poll!(second.as_mut()).is_pending() {}
    (first.take_output().unwrap(), second.take_output().unwrap())
}

/// Somebody with a password, and a session.
struct SignedIn {
    users: InSteps<MemoryUsers>,
    sessions: InSteps<MemorySessions>,
    signer: TokenSigner,
    account: Account,
    tokens: Tokens,
}

const PASSWORD: &str = "harbour lantern eleven";

impl SignedIn {
    /// With the hash of [`PASSWORD`], which was not the first in this session.
    async fn new(password: &PasswordHash) -> Self {
        let (users, sessions) = (MemoryUsers::default(), MemorySessions::default());
        let before = PasswordHash("$argon2id$before".to_owned());
        let account = join(&users, &person("ada"), Some(before.clone())).await;
        let (signer, origin) = (fixtures::token_signer(), Origin::new(None, "192.0.2.1"));
        let tokens = session::begin(&sessions, &signer, &account, &origin, time::now()).await.unwrap();
        let session = sessions.of(account.user_id, time::now()).await.unwrap().remove(0);
        sessions.keep_for(account.user_id, session.session_id, &password.mark()).await.unwrap();
        assert!(users.set_password(account.user_id, &before, password).await.unwrap());
        Self { users: InSteps(users), sessions: InSteps(sessions), signer, account, tokens }
    }

    async fn renew(&self, tokens: &Tokens) -> Result<Tokens> {
        let token = SessionToken::decode(&tokens.session_token).unwrap();
        let Self { users, sessions, signer, .. } = self;
        let origin = Origin::new(None, "192.0.2.1");
        session::renew(sessions, users, signer, &token, &origin, time::now()).await
    }

    async fn change_password(&self, new: &str) -> Result<()> {
        let change = serde_json::json!({"current_password": PASSWORD, "new_password": new});
        let change = PasswordChange::from_json(&change).unwrap();
        let (mailer, limiter) = (MemoryMailer::default(), MemoryRateLimiter::default());
        let caller = fixtures::token_verifier().verify(&self.tokens.access_token).unwrap();
        let Self { users, sessions, .. } = self;
        password_change::change(users, sessions, &mailer, &limiter, &caller, &change, time::now()).await
    }

    /// The session is good, and remembers one password that was chosen in it.
    async fn must_be_kept(&self, tokens: &Tokens) {
        let ((), tokens) = in_turn(async {}, self.renew(tokens), &[]).await;
        tokens.unwrap();
        let sessions = self.sessions.0.of(self.account.user_id, time::now()).await.unwrap();
        let account = self.users.0.get(self.account.user_id).await.unwrap().unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].kept_for, [account.password_mark().unwrap()]);
    }
}

fn hash_of(password: &str) -> PasswordHash {
    Password::read(&password.into()).unwrap().hash().unwrap()
}

/// How many calls a change makes: it reads the account, keeps the session, sets the password, forgets the one before, and looks
/// for other sessions.
const CALLS_OF_CHANGE: usize = 5;

#[tokio::test]
async fn a_session_is_kept_through_a_change_of_the_password_whenever_it_is_renewed() {
    let password = hash_of(PASSWORD);
    // A renewal reads the account and the session, and exchanges the token.
    for first in 0..=CALLS_OF_CHANGE {
        for second in first..=CALLS_OF_CHANGE {
            for third in second..=CALLS_OF_CHANGE {
                let ada = SignedIn::new(&password).await;
                let (change, renewal) =
                    (ada.change_password("window copper thirteen"), ada.renew(&ada.tokens));
                let (changed, renewed) = in_turn(change, renewal, &[first, second, third]).await;
                changed.unwrap();
                let renewed = renewed.unwrap_or_else(|error| panic!("{first} {second} {third}: {error}"));
                ada.must_be_kept(&renewed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_password_is_changed_also_where_the_answer_to_that_is_lost() {
    let ada = SignedIn::new(&hash_of(PASSWORD)).await;
    let change = serde_json::json!({"current_password": PASSWORD, "new_password": "window copper thirteen"});
    let change = PasswordChange::from_json(&change).unwrap();
    let (mailer, limiter) = (MemoryMailer::default(), MemoryRateLimiter::default());
    let caller = fixtures::token_verifier().verify(&ada.tokens.access_token).unwrap();
    let (users, sessions) = (AnswersLost(ada.users.0.clone()), &ada.sessions.0);
    password_change::change(&users, sessions, &mailer, &limiter, &caller, &change, time::now())
        .await
        .unwrap();
    ada.must_be_kept(&ada.tokens).await;
}

#[tokio::test]
async fn of_two_changes_in_one_session_one_is_made_and_the_session_is_kept() {
    let password = hash_of(PASSWORD);
    for place in 0..=CALLS_OF_CHANGE {
        // The second change begins before, and does the rest all at once, or call by call.
        for after in [[0, place, place, place, place], [0, 0, place, place + 1, place + 2]] {
            let ada = SignedIn::new(&password).await;
            let changes = (
                ada.change_password("window copper thirteen"),
                ada.change_password("bicycle meadow seventeen"),
            );
            let (one, other) = in_turn(changes.0, changes.1, &after).await;
            assert_ne!(one.is_ok(), other.is_ok(), "{after:?}: {one:?} {other:?}");
            ada.must_be_kept(&ada.tokens).await;
        }
    }
}
