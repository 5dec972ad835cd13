//! Signing up and in, over the adapters in memory: who shares an address, a password or a limit with whom.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

use serde_json::{Value, json};
use tocsin_adapters::memory::{
    MemoryMailer, MemoryRateLimiter, MemoryResetQueue, MemorySessions, MemoryUsers,
};
use tocsin_conformance::fixtures;
use tocsin_domain::{
    Error, Refusal, Result,
    access_token::{Caller, Role, TokenSigner},
    account::{self, Account, AccountFinder, Credentials, Registration},
    email_change::{self, EmailChange},
    error::Kind,
    identity::{Identities as _, Identity, NewIdentity},
    ids::{SessionId, UserId},
    password_change::{self, PasswordChange},
    password_reset::{self, Reset, ResetRequest},
    person::Profile,
    rate_limit::{
        MAIL_TO_ADDRESS, PASSWORD_PROOF, RESET_FROM_ADDRESS, RESET_OF_ACCOUNT, SIGN_IN_FROM_ADDRESS,
        SIGN_IN_TO_ACCOUNT, SIGN_IN_TO_ACCOUNT_FROM_ADDRESS, SIGN_UP,
    },
    secret::SecretHash,
    session::{
        self, FRESH_SECONDS, MOST_SESSIONS, Origin, Session, SessionKeeper, SessionToken, SessionView,
        Sessions, Tokens,
    },
    time::{self, Timestamp},
};

const EMAIL: &str = "ada@example.org";

struct Town {
    users: MemoryUsers,
    sessions: MemorySessions,
    mailer: MemoryMailer,
    resets: MemoryResetQueue,
    limiter: MemoryRateLimiter,
    signer: TokenSigner,
}

impl Town {
    fn new() -> Self {
        Self {
            users: MemoryUsers::default(),
            sessions: MemorySessions::default(),
            mailer: MemoryMailer::default(),
            resets: MemoryResetQueue::default(),
            limiter: MemoryRateLimiter::default(),
            signer: fixtures::token_signer(),
        }
    }

    async fn register(&self, username: &str, password: &str) -> Result<()> {
        let body = json!({"email": EMAIL, "username": username, "password": password});
        let registration = Registration::from_json(&body)?;
        let Self { users, mailer, limiter, .. } = self;
        account::register(users, mailer, limiter, registration, "192.0.2.1", time::now()).await.map(drop)
    }

    async fn login(&self, email: &str, password: &str, address: &str) -> Result<Tokens> {
        let credentials = Credentials::from_json(&json!({"email": email, "password": password}))?;
        let Self { users, sessions, limiter, signer, .. } = self;
        let origin = Origin::new(Some("tocsin-app/1.0"), address);
        account::login(users, sessions, limiter, signer, &credentials, &origin, time::now()).await
    }

    /// Verifies the account that was registered with this name.
    async fn verify(&self, username: &str) -> Result<Tokens> {
        let token = account::token_from_json(&self.mailed_token(username))?;
        let Self { users, sessions, signer, .. } = self;
        let origin = Origin::new(None, "192.0.2.1");
        account::verify_email(users, sessions, signer, &token, &origin, time::now()).await
    }

    async fn renew(&self, session_token: &str) -> Result<Tokens> {
        let token = SessionToken::decode(session_token)?;
        let Self { users, sessions, signer, .. } = self;
        let origin = Origin::new(Some("tocsin-app/1.1"), "192.0.2.9");
        session::renew(sessions, users, signer, &token, &origin, time::now()).await
    }

    /// Whose access token it is.
    fn caller(tokens: &Tokens) -> Caller {
        fixtures::token_verifier().verify(&tokens.access_token).unwrap()
    }

    async fn sessions_of(&self, caller: &Caller) -> Vec<SessionView> {
        session::list(&self.sessions, &self.users, caller, time::now()).await.unwrap()
    }

    async fn ask_for_reset(&self, email: &str, address: &str) -> Result<()> {
        let request = ResetRequest::from_json(&json!({"email": email}))?;
        password_reset::ask(&self.resets, &self.limiter, &request, address).await
    }

    /// Does what waits in the queue.
    async fn mail_resets(&self) {
        for request in self.resets.take() {
            password_reset::mail_token(&self.users, &self.mailer, &request, time::now()).await.unwrap();
        }
    }

    async fn reset(&self, token: &str, password: &str) -> Result<()> {
        let reset = Reset::from_json(&json!({"token": token, "password": password}))?;
        let Self { users, sessions, mailer, limiter, .. } = self;
        password_reset::confirm(users, sessions, mailer, limiter, &reset, "192.0.2.1", time::now()).await
    }

    async fn change_password(&self, caller: &Caller, current: &str, new: &str) -> Result<()> {
        let change = json!({"current_password": current, "new_password": new});
        let change = PasswordChange::from_json(&change)?;
        let Self { users, sessions, mailer, limiter, .. } = self;
        password_change::change(users, sessions, mailer, limiter, caller, &change, time::now()).await
    }

    async fn ask_for_email(&self, caller: &Caller, body: &Value) -> Result<()> {
        self.ask_for_email_at(caller, body, time::now()).await
    }

    async fn ask_for_email_at(&self, caller: &Caller, body: &Value, now: Timestamp) -> Result<()> {
        let change = EmailChange::from_json(body)?;
        let Self { users, sessions, mailer, limiter, .. } = self;
        email_change::ask(users, sessions, mailer, limiter, caller, &change, now).await
    }

    async fn confirm_email(&self, caller: &Caller, token: &str) -> Result<()> {
        let token = email_change::token_from_json(&json!({"token": token}))?;
        email_change::confirm(&self.users, &self.mailer, caller, &token, time::now()).await
    }

    /// The account of [`EMAIL`].
    async fn account(&self) -> Account {
        AccountFinder::find(&self.users, &EMAIL.parse().unwrap(), time::now()).await.unwrap().remove(0)
    }

    /// To whom the newest mail is, and the token in it, if there is one.
    fn newest_mail(&self) -> (String, Option<String>) {
        let mail = self.mailer.mails().pop().unwrap();
        let token = mail.body.lines().find(|line| line.len() == 43).map(str::to_owned);
        (mail.to.to_string(), token)
    }

    /// The token of the mail that is about this name.
    fn mailed_token(&self, username: &str) -> Value {
        let named = format!("\"{username}\"");
        let mail = self.mailer.mails().into_iter().find(|mail| mail.body.contains(&named)).unwrap();
        json!({"token": mail.body.lines().find(|line| line.len() == 43).unwrap()})
    }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_registration_of_an_address_is_verified_with_its_own_password() {
    let town = Town::new();
    let (hers, theirs) = ("harbour lantern eleven", "window copper thirteen");
    town.register("ada", hers).await.unwrap();
    town.register("mallory", theirs).await.unwrap();
    for (password, code) in [
        (hers, "email_not_verified"),
        (theirs, "email_not_verified"),
        ("bicycle meadow seventeen", "credentials_invalid"),
    ] {
        assert_eq!(refusal(town.login(EMAIL, password, "192.0.2.1").await).code, code);
    }

    town.verify("ada").await.unwrap();
    town.login(EMAIL, hers, "192.0.2.1").await.unwrap();
    assert_eq!(refusal(town.login(EMAIL, theirs, "192.0.2.1").await).code, "credentials_invalid");
    assert_eq!(refusal(town.verify("mallory").await).code, "token_invalid");
}

#[tokio::test]
async fn a_common_password_is_refused_at_its_place_and_costs_no_mail() {
    let town = Town::new();
    for _ in 0..=MAIL_TO_ADDRESS.most {
        let refusal = refusal(town.register("ada", "ada@example.org").await);
        assert_eq!(refusal.kind, Kind::Invalid);
        let [error] = &refusal.errors[..] else { panic!("{refusal:?}") };
        assert_eq!((error.pointer.as_str(), error.code), ("/password", "password_too_common"));
    }
    town.register("ada", "harbour lantern eleven").await.unwrap();
}

#[tokio::test]
async fn names_that_are_taken_cost_no_mail() {
    let (town, _) = town_of_ada().await;
    let register = async |username: &str| {
        let body = json!({"email": "eve@example.org", "username": username, "password": SECOND});
        let registration = Registration::from_json(&body)?;
        let Town { users, mailer, limiter, .. } = &town;
        account::register(users, mailer, limiter, registration, "192.0.2.1", time::now()).await
    };
    for _ in 0..=MAIL_TO_ADDRESS.most {
        assert_eq!(refusal(register("Ada").await).code, "username_taken");
    }
    assert_eq!(refusal(town.register("countess", SECOND).await).code, "email_taken");
    for _ in 0..MAIL_TO_ADDRESS.most {
        register("eve").await.unwrap();
    }
    assert_eq!(refusal(register("eve").await).kind, Kind::RateLimited);
}

#[tokio::test]
async fn who_tries_passwords_from_one_address_does_not_lock_the_owner_out() {
    let town = Town::new();
    let login = async |address: &str| {
        refusal(town.login("nobody@example.org", "not the password", address).await).code
    };
    for _ in 0..SIGN_IN_TO_ACCOUNT_FROM_ADDRESS.most {
        assert_eq!(login("192.0.2.66").await, "credentials_invalid");
    }
    for _ in 0..SIGN_IN_TO_ACCOUNT.most / 3 {
        assert_eq!(login("192.0.2.66").await, "rate_limited");
    }
    assert_eq!(login("192.0.2.1").await, "credentials_invalid");
}

#[tokio::test]
async fn what_is_printed_tells_no_secret() {
    let town = Town::new();
    let password = "harbour lantern eleven";
    town.register("ada", password).await.unwrap();
    let token = town.mailed_token("ada");
    let printed = format!("{:?} {:?}", town.users, town.mailer);
    for secret in [password, "$argon2id", token["token"].as_str().unwrap()] {
        assert!(!printed.contains(secret), "{secret} is in {printed}");
    }
}

const FIRST: &str = "harbour lantern eleven";
const SECOND: &str = "window copper thirteen";
const THIRD: &str = "bicycle meadow seventeen";

/// A town with one verified account, and its first session.
async fn town_of_ada() -> (Town, Tokens) {
    let town = Town::new();
    town.register("ada", FIRST).await.unwrap();
    let tokens = town.verify("ada").await.unwrap();
    (town, tokens)
}

/// A person without an address and a password, by the identity that they came with.
async fn outsider(town: &Town) -> Account {
    let now = time::now();
    let account = Account {
        user_id: UserId::new(now),
        email: None,
        email_verified: false,
        username: "bob".parse().unwrap(),
        former_username: None,
        password: None,
        roles: vec![Role::User],
        created_at: now,
    };
    let identity = Identity::new("https://issuer.example", "bob").unwrap();
    let profile = Profile::new(account.user_id, account.username.clone(), None);
    let stored = town.users.register(&account, &identity, None, &profile).await.unwrap();
    assert_eq!(stored, NewIdentity::Stored);
    account
}

/// Sessions that are ended, and then ended again, since the answer was lost.
struct AnswersLost<'a>(&'a MemorySessions);

impl Sessions for AnswersLost<'_> {
    async fn begin(&self, session: &Session) -> Result<()> {
        self.0.begin(session).await
    }

    async fn get(&self, owner: UserId, id: SessionId, now: Timestamp) -> Result<Option<Session>> {
        self.0.get(owner, id, now).await
    }

    async fn rotate(&self, old: &SecretHash, new: &Session) -> Result<bool> {
        self.0.rotate(old, new).await
    }
}

impl SessionKeeper for AnswersLost<'_> {
    async fn of(&self, owner: UserId, now: Timestamp) -> Result<Vec<Session>> {
        self.0.of(owner, now).await
    }

    async fn end(&self, owner: UserId, id: SessionId) -> Result<bool> {
        self.0.end(owner, id).await?;
        self.0.end(owner, id).await
    }
}

#[tokio::test]
async fn a_session_is_ended_also_where_the_answer_to_that_is_lost() {
    let (town, now) = (Town::new(), time::now());
    let (account, origin) = (outsider(&town).await, Origin::new(None, "192.0.2.1"));
    session::begin(&town.sessions, &town.signer, &account, &origin, now).await.unwrap();
    let (owner, id) = (account.user_id, town.sessions.of(account.user_id, now).await.unwrap()[0].session_id);
    let sessions = AnswersLost(&town.sessions);
    assert_eq!(refusal(session::end(&sessions, UserId::new(now), id, now).await).kind, Kind::NotFound);
    session::end(&sessions, owner, id, now).await.unwrap();
    assert_eq!(refusal(session::end(&sessions, owner, id, now).await).kind, Kind::NotFound);
}

#[tokio::test]
async fn sessions_are_listed_with_where_they_are_used() {
    let (town, first) = town_of_ada().await;
    // Of two that were used within one millisecond, neither is the later.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let second = town.login(EMAIL, FIRST, "192.0.2.7").await.unwrap();
    let caller = Town::caller(&second);
    let views = town.sessions_of(&caller).await;
    let shown: Vec<_> =
        views.iter().map(|view| (view.device.as_deref(), view.address.as_str(), view.current)).collect();
    assert_eq!(shown, [(Some("tocsin-app/1.0"), "192.0.2.7", true), (None, "192.0.2.1", false)]);
    assert!(views.iter().all(|view| view.created_at == view.last_used_at));

    // Renewed from elsewhere, by a newer app.
    town.renew(&first.session_token).await.unwrap();
    let renewed = town.sessions_of(&caller).await.remove(1);
    assert_eq!((renewed.device.as_deref(), renewed.address.as_str()), (Some("tocsin-app/1.1"), "192.0.2.9"));
    assert!(renewed.last_used_at >= renewed.created_at && renewed.expires_at > renewed.last_used_at);

    // What a client calls itself is anybody's text.
    let long = format!(" {}\u{7}\n ", "é".repeat(300));
    let device = Origin::new(Some(&long), "192.0.2.1").device.unwrap();
    assert_eq!((device.chars().count(), device.contains(char::is_control)), (200, false));
    assert_eq!(Origin::new(Some(" \t "), "192.0.2.1").device, None);
}

#[tokio::test]
async fn a_person_has_a_bounded_number_of_sessions() {
    let (town, first) = town_of_ada().await;
    let owner = Town::caller(&first).user_id;
    let account = town.account().await;
    let begin = async |seconds: u64| {
        let origin = Origin::new(None, "192.0.2.1");
        let now = time::after(time::now(), seconds);
        session::begin(&town.sessions, &town.signer, &account, &origin, now).await.unwrap()
    };
    let mut later = Vec::new();
    for number in 1..MOST_SESSIONS {
        later.push(begin(u64::try_from(number).unwrap()).await);
    }
    assert_eq!(town.sessions.of(owner, time::now()).await.unwrap().len(), MOST_SESSIONS);
    town.renew(&first.session_token).await.unwrap();
    // The first is as old as any, and was used before all others were; one more, and it is gone.
    begin(100).await;
    assert_eq!(town.sessions.of(owner, time::now()).await.unwrap().len(), MOST_SESSIONS);
    assert_eq!(refusal(town.renew(&first.session_token).await).code, "session_invalid");
    town.renew(&later[0].session_token).await.unwrap();
}

#[tokio::test]
async fn a_reset_password_is_the_only_one_and_ends_all_sessions() {
    let (town, tokens) = town_of_ada().await;
    town.ask_for_reset("Ada@example.org", "192.0.2.1").await.unwrap();
    town.ask_for_reset("nobody@example.org", "192.0.2.1").await.unwrap();
    town.ask_for_reset(EMAIL, "192.0.2.1").await.unwrap();
    assert_eq!(town.mailer.mails().len(), 1, "nothing is done before the answer");
    town.mail_resets().await;
    let resets: Vec<_> = town.mailer.mails().drain(1..).map(|mail| mail.to.to_string()).collect();
    assert_eq!(resets, [EMAIL, EMAIL], "nobody else is written to");
    let (_, token) = town.newest_mail();
    let token = token.unwrap();

    let short = refusal(town.reset(&token, "short").await);
    assert_eq!((short.kind, short.errors[0].pointer.as_str()), (Kind::Invalid, "/password"));
    let common = refusal(town.reset(&token, "ada@example.org").await);
    assert_eq!((common.kind, common.errors[0].code), (Kind::Invalid, "password_too_common"));
    town.reset(&token, SECOND).await.unwrap();
    assert_eq!(town.newest_mail(), (EMAIL.to_owned(), None), "the owner is told");
    for void in [token, town.mailer.mails()[1].body.lines().find(|line| line.len() == 43).unwrap().to_owned()]
    {
        assert_eq!(refusal(town.reset(&void, THIRD).await).code, "token_invalid");
    }
    assert_eq!(refusal(town.login(EMAIL, FIRST, "192.0.2.1").await).code, "credentials_invalid");
    assert_eq!(refusal(town.renew(&tokens.session_token).await).code, "session_invalid");
    let again = town.login(EMAIL, SECOND, "192.0.2.1").await.unwrap();
    assert_eq!(town.sessions_of(&Town::caller(&again)).await.len(), 1);
}

#[tokio::test]
async fn a_registration_that_waits_gets_no_other_password() {
    let town = Town::new();
    town.register("ada", FIRST).await.unwrap();
    town.ask_for_reset(EMAIL, "192.0.2.1").await.unwrap();
    town.mail_resets().await;
    assert_eq!(town.mailer.mails().len(), 1, "only the verification");
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_also_one_that_begins_meanwhile() {
    let (town, tokens) = town_of_ada().await;
    let other = town.login(EMAIL, FIRST, "192.0.2.2").await.unwrap();
    let caller = Town::caller(&tokens);
    let before = town.account().await;

    let wrong = refusal(town.change_password(&caller, SECOND, THIRD).await);
    assert_eq!(
        (wrong.errors[0].pointer.as_str(), wrong.errors[0].code),
        ("/current_password", "password_wrong")
    );
    let common = refusal(town.change_password(&caller, FIRST, "ada@example.org").await);
    assert_eq!(common.errors[0].pointer, "/new_password");
    town.change_password(&caller, FIRST, SECOND).await.unwrap();
    assert_eq!(town.newest_mail(), (EMAIL.to_owned(), None), "the owner is told");

    // Somebody knew the old password, and was let in an instant before: their session begins when all have been ended.
    let origin = Origin::new(None, "192.0.2.66");
    let late = session::begin(&town.sessions, &town.signer, &before, &origin, time::now()).await.unwrap();
    for ended in [&other, &late] {
        assert_eq!(refusal(town.renew(&ended.session_token).await).code, "session_invalid");
    }
    let mine = town.sessions_of(&caller).await;
    assert_eq!(mine.len(), 1, "{mine:?}");
    assert!(mine[0].current);
    town.renew(&tokens.session_token).await.unwrap();
    town.login(EMAIL, SECOND, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn who_has_no_password_is_told_how_to_get_one() {
    let town = Town::new();
    let account = outsider(&town).await;
    let origin = Origin::new(None, "192.0.2.1");
    let tokens = session::begin(&town.sessions, &town.signer, &account, &origin, time::now()).await.unwrap();
    let bob = Town::caller(&tokens);
    let refused = refusal(town.change_password(&bob, FIRST, SECOND).await);
    assert_eq!((refused.kind, refused.code), (Kind::Conflict, "password_missing"));
    let email = "bob@example.org";
    let refused = refusal(town.ask_for_email(&bob, &json!({"email": email, "password": FIRST})).await);
    assert_eq!(
        (refused.errors[0].pointer.as_str(), refused.errors[0].code),
        ("/password", "password_missing")
    );

    town.ask_for_email(&bob, &json!({"email": email})).await.unwrap();
    let (to, token) = town.newest_mail();
    assert_eq!(to, email);
    town.confirm_email(&bob, &token.unwrap()).await.unwrap();
    assert_eq!(town.mailer.mails().len(), 1, "there is no old address to tell");
    town.ask_for_reset(email, "192.0.2.1").await.unwrap();
    town.mail_resets().await;
    town.reset(&town.newest_mail().1.unwrap(), FIRST).await.unwrap();
    town.login(email, FIRST, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn who_has_no_password_must_have_signed_in_just_now_to_ask_for_an_address() {
    let town = Town::new();
    let account = outsider(&town).await;
    let (now, origin) = (time::now(), Origin::new(None, "192.0.2.1"));
    let tokens = session::begin(&town.sessions, &town.signer, &account, &origin, now).await.unwrap();
    let bob = Town::caller(&tokens);
    let body = json!({"email": "mallory@example.org"});
    // Renewed or not: it is the same session, of the same sign-in.
    town.renew(&tokens.session_token).await.unwrap();
    let late = time::after(now, FRESH_SECONDS + 1);
    let outside = Caller { session_id: None, ..bob.clone() };
    for (caller, now) in [(&bob, late), (&outside, now)] {
        let refused = refusal(town.ask_for_email_at(caller, &body, now).await);
        assert_eq!((refused.kind, refused.code), (Kind::Forbidden, "sign_in_again"));
    }
    assert_eq!(town.mailer.mails(), [], "nobody is written to");
    let in_time = time::after(now, FRESH_SECONDS - 1);
    town.ask_for_email_at(&bob, &body, in_time).await.unwrap();

    // Who has signed out has no session, though the access token is still good.
    session::end(&town.sessions, bob.user_id, bob.session_id.unwrap(), in_time).await.unwrap();
    assert_eq!(refusal(town.ask_for_email_at(&bob, &body, in_time).await).code, "sign_in_again");
}

#[tokio::test]
async fn who_asks_for_somebodys_address_is_not_told_and_they_are() {
    let (town, _) = town_of_ada().await;
    let account = outsider(&town).await;
    let origin = Origin::new(None, "192.0.2.1");
    let tokens = session::begin(&town.sessions, &town.signer, &account, &origin, time::now()).await.unwrap();
    let bob = Town::caller(&tokens);
    let body = json!({"email": "ADA@example.org"});
    // One mail has brought her the token of her registration.
    for _ in 1..MAIL_TO_ADDRESS.most {
        town.ask_for_email(&bob, &body).await.unwrap();
        assert_eq!(town.newest_mail(), (EMAIL.to_owned(), None), "no token, and her own spelling");
    }
    assert_eq!(refusal(town.ask_for_email(&bob, &body).await).kind, Kind::RateLimited);
    let free = json!({"email": "nobody@example.org"});
    for _ in 0..MAIL_TO_ADDRESS.most {
        town.ask_for_email(&bob, &free).await.unwrap();
    }
    assert_eq!(refusal(town.ask_for_email(&bob, &free).await).kind, Kind::RateLimited);
}

#[tokio::test]
async fn another_address_is_asked_for_with_the_password_and_made_by_its_mail() {
    let (town, tokens) = town_of_ada().await;
    let caller = Town::caller(&tokens);
    let new = "lovelace@example.org";
    for (body, code) in
        [(json!({"email": new}), "required"), (json!({"email": new, "password": SECOND}), "password_wrong")]
    {
        let refused = refusal(town.ask_for_email(&caller, &body).await);
        assert_eq!((refused.errors[0].pointer.as_str(), refused.errors[0].code), ("/password", code));
    }
    let unchanged = json!({"email": EMAIL, "password": FIRST});
    assert_eq!(refusal(town.ask_for_email(&caller, &unchanged).await).code, "email_unchanged");

    town.ask_for_email(&caller, &json!({"email": new, "password": FIRST})).await.unwrap();
    let (to, token) = town.newest_mail();
    let token = token.unwrap();
    assert_eq!(to, new);
    town.login(EMAIL, FIRST, "192.0.2.1").await.unwrap();
    // Whoever reads that mail, and is somebody else here, does not give their address away with it.
    let stranger = Caller { user_id: UserId::new(time::now()), ..caller.clone() };
    assert_eq!(refusal(town.confirm_email(&stranger, &token).await).code, "token_invalid");
    town.confirm_email(&caller, &token).await.unwrap();
    assert_eq!(town.newest_mail(), (EMAIL.to_owned(), None), "the old address is told");
    assert_eq!(refusal(town.confirm_email(&caller, &token).await).code, "token_invalid");
    assert_eq!(refusal(town.login(EMAIL, FIRST, "192.0.2.1").await).code, "credentials_invalid");
    town.login(new, FIRST, "192.0.2.1").await.unwrap();

    // Whoever stole the session asked for an address of theirs; the owner takes the account back.
    town.ask_for_email(&caller, &json!({"email": "mallory@example.org", "password": FIRST})).await.unwrap();
    let (_, stolen) = town.newest_mail();
    town.ask_for_reset(new, "192.0.2.1").await.unwrap();
    town.mail_resets().await;
    town.reset(&town.newest_mail().1.unwrap(), SECOND).await.unwrap();
    assert_eq!(refusal(town.confirm_email(&caller, &stolen.unwrap()).await).code, "token_invalid");
}

/// How often something is let through until it is refused for its number, and that it says how long to wait.
async fn let_through(attempt: impl AsyncFn(u32) -> Refusal) -> u32 {
    for count in 0..2_000 {
        let refusal = attempt(count).await;
        if refusal.kind == Kind::RateLimited {
            assert!(refusal.retry_after.is_some_and(|wait| !wait.is_zero()), "{refusal:?}");
            return count;
        }
    }
    panic!("it is not limited");
}

#[tokio::test]
async fn signing_in_up_and_resets_are_limited_per_account_and_per_address() {
    let fine = || Refusal::new(Kind::NotFound, "fine", "");
    let or_fine = |answer: Result<()>| answer.err().map_or_else(fine, |error| refusal::<()>(Err(error)));

    let town = Town::new();
    let per_account = let_through(async |_| or_fine(town.register("ada", FIRST).await)).await;
    assert_eq!(per_account, MAIL_TO_ADDRESS.most);
    let town = Town::new();
    let per_address = let_through(async |_| or_fine(town.register("ada", "ada@example.org").await)).await;
    assert_eq!(per_address, SIGN_UP.most);

    let town = Town::new();
    let login = async |email: &str, address: &str| refusal(town.login(email, FIRST, address).await);
    let both = let_through(async |_| login(EMAIL, "192.0.2.1").await).await;
    assert_eq!(both, SIGN_IN_TO_ACCOUNT_FROM_ADDRESS.most);
    let per_address =
        let_through(async |n| login(&format!("nobody{n}@example.org"), "192.0.2.1").await).await;
    assert_eq!(per_address + both + 1, SIGN_IN_FROM_ADDRESS.most);
    let per_account = let_through(async |n| login(EMAIL, &format!("198.51.100.{n}")).await).await;
    assert_eq!(per_account + both, SIGN_IN_TO_ACCOUNT.most);

    let reset = async |email: &str, address: &str| or_fine(town.ask_for_reset(email, address).await);
    let per_account = let_through(async |n| reset(EMAIL, &format!("198.51.100.{n}")).await).await;
    assert_eq!(per_account, RESET_OF_ACCOUNT.most);
    let per_address =
        let_through(async |n| reset(&format!("nobody{n}@example.org"), "192.0.2.1").await).await;
    assert_eq!(per_address, RESET_FROM_ADDRESS.most);

    let (town, tokens) = town_of_ada().await;
    let caller = Town::caller(&tokens);
    let proofs = let_through(async |_| or_fine(town.change_password(&caller, SECOND, THIRD).await)).await;
    assert_eq!(proofs, PASSWORD_PROOF.most);
}
