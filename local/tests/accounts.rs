//! Accounts, through the front door: sessions, passwords and addresses, what many do at once, and what tells nobody
//! whether there is an account.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use local::api_client::{Answer, ApiClient, PASSWORD, Person, text};
use reqwest::Method;
use serde_json::{Value, json};
use tocsin_domain::{
    rate_limit::{
        MAIL_TO_ADDRESS, PASSWORD_PROOF, RESET_FROM_ADDRESS, RESET_OF_ACCOUNT, SIGN_IN_FROM_ADDRESS,
        SIGN_IN_TO_ACCOUNT_FROM_ADDRESS,
    },
    secret::Secret,
};
use town::Town;

const ANOTHER_PASSWORD: &str = "window-copper-thirteen-kites";

async fn login(api: &ApiClient, email: &str, password: &str) -> Answer {
    api.post("/v1/auth/login", &json!({"email": email, "password": password})).await.unwrap()
}

/// Signs somebody in once more, on another device.
async fn sign_in(town: &Town, person: &Person, device: &str) -> (ApiClient, String) {
    let body = json!({"email": person.email, "password": PASSWORD});
    let answer =
        town.api.send_with(Method::POST, "/v1/auth/login", Some(&body), &[("user-agent", device)]).await;
    let tokens = answer.unwrap().expect(200).unwrap();
    (town.api.with_token(text(&tokens, "access_token").unwrap()), text(&tokens, "session_token").unwrap())
}

async fn renew(api: &ApiClient, session_token: &str) -> Answer {
    api.with_token(session_token).send(Method::POST, "/v1/auth/session", None).await.unwrap()
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

/// Refused for one reason, at one place of the body.
fn refused_at(answer: &Answer, pointer: &str, code: &str) {
    refused(answer, 422, "invalid_input");
    assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{}", answer.body);
    assert_eq!(answer.body["errors"][0]["code"], code, "{}", answer.body);
}

/// All mails to an address, by their subjects.
async fn mails(town: &Town, email: &str) -> Vec<String> {
    let outbox = town.api.get("/_local/outbox").await.unwrap().expect(200).unwrap();
    let to = |mail: &&Value| mail["to"] == email;
    outbox["emails"]
        .as_array()
        .unwrap()
        .iter()
        .filter(to)
        .map(|mail| text(mail, "subject").unwrap())
        .collect()
}

/// Lets the time of a mail's token pass.
async fn expire(town: &Town, kind: &str, token: &str) {
    let client = aws_sdk_dynamodb::Client::new(&town.stack.endpoints().sdk_config("DYNAMODB"));
    let tables = &town.stack.app().tables;
    let table = &tables.iter().find(|table| table.logical_id == "UsersTable").unwrap().name;
    let pk = format!("{kind}#{}", Secret::decode(token).unwrap().hash().encode());
    let update = client.update_item().table_name(table).key("pk", AttributeValue::S(pk));
    let update =
        update.update_expression("SET expires_at = :past").condition_expression("attribute_exists(pk)");
    update.expression_attribute_values(":past", AttributeValue::N("1".to_owned())).send().await.unwrap();
}

#[tokio::test]
async fn a_person_sees_and_ends_their_sessions() {
    let town = Town::up().await;
    let (ada, eve) = (town.person("ada").await, town.person("eve").await);
    let (phone, phones_session) = sign_in(&town, &ada, "tocsin-app/1.0 (phone)").await;
    let (_, tablets_session) = sign_in(&town, &ada, "tocsin-app/1.0 (tablet)").await;

    let list = async |api: &ApiClient, query: &str| {
        api.get(&format!("/v1/auth/sessions{query}")).await.unwrap().expect(200).unwrap()
    };
    let all = list(&phone, "").await;
    let items = all["items"].as_array().unwrap();
    let devices: Vec<_> =
        items.iter().map(|item| (item["device"].as_str(), item["current"] == true)).collect();
    let expected = [(Some("tocsin-app/1.0 (tablet)"), false), (Some("tocsin-app/1.0 (phone)"), true)];
    assert_eq!(devices[..2], expected, "the newest first");
    assert_eq!((devices.len(), &all["next_cursor"]), (3, &Value::Null));
    assert!(items.iter().all(|item| item["address"] == "127.0.0.1"), "{all}");

    // Page by page; a cursor of one person is none of another.
    let page = list(&phone, "?limit=2").await;
    assert_eq!(page["items"].as_array().unwrap()[..], items[..2]);
    let cursor = text(&page, "next_cursor").unwrap();
    let rest = list(&phone, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!((&rest["items"], &rest["next_cursor"]), (&json!([items[2]]), &Value::Null));
    let foreign = eve.api.get(&format!("/v1/auth/sessions?cursor={cursor}")).await.unwrap();
    refused(&foreign, 400, "invalid_input");
    assert_eq!(list(&eve.api, "").await["items"].as_array().unwrap().len(), 1);

    // One, which nobody else can end.
    let tablet = format!("/v1/auth/sessions/{}", text(&items[0], "session_id").unwrap());
    refused(&eve.api.delete(&tablet).await.unwrap(), 404, "not_found");
    assert_eq!(phone.delete(&tablet).await.unwrap().status, 204);
    refused(&phone.delete(&tablet).await.unwrap(), 404, "not_found");
    refused(&phone.delete("/v1/auth/sessions/x").await.unwrap(), 404, "not_found");
    refused(&renew(&town.api, &tablets_session).await, 401, "session_invalid");
    let renewed = renew(&town.api, &phones_session).await.expect(200).unwrap();

    // All, but not those of others.
    assert_eq!(phone.delete("/v1/auth/sessions").await.unwrap().status, 204);
    for ended in [text(&renewed, "session_token").unwrap(), ada.session_token] {
        refused(&renew(&town.api, &ended).await, 401, "session_invalid");
    }
    assert_eq!(list(&phone, "").await["items"], json!([]));
    assert_eq!(renew(&town.api, &eve.session_token).await.status, 200);
    town.down().await;
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_mail() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    town.api.sign_up("waiting", "waiting@example.org").await.unwrap().expect(201).unwrap();
    let ask = async |email: &str| {
        let answer = town.api.post("/v1/auth/password-reset", &json!({"email": email})).await.unwrap();
        (answer.status, answer.body)
    };
    let confirm = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        town.api.post("/v1/auth/password-reset/confirm", &body).await.unwrap()
    };
    for email in ["ADA@example.org", "nobody@example.org", "waiting@example.org"] {
        assert_eq!(ask(email).await, (202, Value::Null), "{email}");
    }
    town.settle().await;
    assert_eq!(mails(&town, "nobody@example.org").await.len(), 0);
    assert_eq!(mails(&town, "waiting@example.org").await.len(), 1, "the one of its registration");
    let token = town.api.mailed_token(&ada.email).await.unwrap();

    refused_at(&confirm(&token, "short").await, "/password", "too_short");
    refused_at(&confirm(&token, "ada@example.org").await, "/password", "password_too_common");
    refused(&confirm(&ada.session_token, ANOTHER_PASSWORD).await, 400, "token_invalid");
    // A token for one thing is none for another.
    let verify = town.api.post("/v1/auth/verify-email", &json!({"token": token})).await.unwrap();
    refused(&verify, 400, "token_invalid");
    let move_email = ada.api.post("/v1/auth/email-change/confirm", &json!({"token": token})).await.unwrap();
    refused(&move_email, 400, "token_invalid");

    let done = confirm(&token, ANOTHER_PASSWORD).await;
    assert_eq!((done.status, done.body), (204, Value::Null));
    refused(&confirm(&token, PASSWORD).await, 400, "token_invalid");
    refused(&renew(&town.api, &ada.session_token).await, 401, "session_invalid");
    refused(&login(&town.api, &ada.email, PASSWORD).await, 401, "credentials_invalid");
    assert_eq!(login(&town.api, &ada.email, ANOTHER_PASSWORD).await.status, 200);
    assert_eq!(mails(&town, &ada.email).await.last().unwrap(), "Your password was changed");

    assert_eq!(ask(&ada.email).await.0, 202);
    town.settle().await;
    let late = town.api.mailed_token(&ada.email).await.unwrap();
    expire(&town, "reset", &late).await;
    refused(&confirm(&late, PASSWORD).await, 400, "token_invalid");
    assert_eq!(login(&town.api, &ada.email, ANOTHER_PASSWORD).await.status, 200);
    town.down().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions() {
    let town = Town::up().await;
    let (ada, eve) = (town.person("ada").await, town.person("eve").await);
    let (phone, phones_session) = sign_in(&town, &ada, "tocsin-app/1.0").await;
    let change = async |api: &ApiClient, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        api.put("/v1/users/me/password", &body).await.unwrap()
    };
    refused_at(&change(&phone, ANOTHER_PASSWORD, PASSWORD).await, "/current_password", "password_wrong");
    refused_at(&change(&phone, PASSWORD, "short").await, "/new_password", "too_short");
    assert_eq!(login(&town.api, &ada.email, PASSWORD).await.status, 200, "nothing has changed");

    assert_eq!(change(&phone, PASSWORD, ANOTHER_PASSWORD).await.status, 204);
    refused(&renew(&town.api, &ada.session_token).await, 401, "session_invalid");
    assert_eq!(renew(&town.api, &phones_session).await.status, 200, "this one goes on");
    let sessions = phone.get("/v1/auth/sessions").await.unwrap().expect(200).unwrap();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
    refused(&login(&town.api, &ada.email, PASSWORD).await, 401, "credentials_invalid");
    assert_eq!(login(&town.api, &ada.email, ANOTHER_PASSWORD).await.status, 200);
    assert_eq!(mails(&town, &ada.email).await.last().unwrap(), "Your password was changed");
    // Nobody else's has changed.
    assert_eq!(login(&town.api, &eve.email, PASSWORD).await.status, 200);
    assert_eq!(renew(&town.api, &eve.session_token).await.status, 200);
    town.down().await;
}

#[tokio::test]
async fn another_address_is_the_accounts_once_it_is_proved() {
    let town = Town::up().await;
    let (ada, eve) = (town.person("ada").await, town.person("eve").await);
    let new = "lovelace@example.org";
    let ask = async |api: &ApiClient, email: &str, password: Option<&str>| {
        let mut body = json!({"email": email});
        if let Some(password) = password {
            body["password"] = password.into();
        }
        api.post("/v1/users/me/email", &body).await.unwrap()
    };
    let confirm = async |api: &ApiClient, token: &str| {
        api.post("/v1/auth/email-change/confirm", &json!({"token": token})).await.unwrap()
    };
    refused_at(&ask(&ada.api, new, None).await, "/password", "required");
    refused_at(&ask(&ada.api, new, Some(ANOTHER_PASSWORD)).await, "/password", "password_wrong");
    refused(&ask(&ada.api, &ada.email, Some(PASSWORD)).await, 409, "email_unchanged");
    assert_eq!(mails(&town, new).await.len(), 0);

    // Whether somebody has an address, they alone are told.
    let owned = ask(&ada.api, &eve.email, Some(PASSWORD)).await;
    assert_eq!((owned.status, owned.body), (202, Value::Null));
    assert_eq!(mails(&town, &eve.email).await.last().unwrap(), "Somebody asked for your mail address");

    // Two people ask for the same address, which one of them can read.
    for person in [&eve, &ada] {
        let owned = ask(&person.api, new, Some(PASSWORD)).await;
        assert_eq!((owned.status, owned.body), (202, Value::Null));
    }
    let token = town.api.mailed_token(new).await.unwrap();
    assert_eq!(login(&town.api, &ada.email, PASSWORD).await.status, 200, "until then nothing changes");
    refused(&confirm(&town.api, &token).await, 401, "token_missing");
    refused(&confirm(&eve.api, &token).await, 400, "token_invalid");
    assert_eq!(confirm(&ada.api, &token).await.status, 204);
    refused(&confirm(&ada.api, &token).await, 400, "token_invalid");
    let me = ada.api.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!(me["email"], new);
    assert_eq!(mails(&town, &ada.email).await.last().unwrap(), "Your mail address was changed");
    refused(&login(&town.api, &ada.email, PASSWORD).await, 401, "credentials_invalid");
    assert_eq!(login(&town.api, new, PASSWORD).await.status, 200);
    refused(&town.api.sign_up("late", new).await.unwrap(), 409, "email_taken");
    assert_eq!(town.api.sign_up("heiress", &ada.email).await.unwrap().status, 201, "the old one is free");
    let eves = eve.api.get("/v1/users/me").await.unwrap().expect(200).unwrap();
    assert_eq!(eves["email"], eve.email.as_str());

    assert_eq!(ask(&eve.api, "evelyn@example.org", Some(PASSWORD)).await.status, 202);
    let late = town.api.mailed_token("evelyn@example.org").await.unwrap();
    expire(&town, "email-change", &late).await;
    refused(&confirm(&eve.api, &late).await, 400, "token_invalid");
    assert_eq!(login(&town.api, &eve.email, PASSWORD).await.status, 200);
    town.down().await;
}

#[tokio::test]
async fn fifty_registrations_of_one_address_make_one_account() {
    let town = Town::up().await;
    // Without counts: with them, five an hour are let through.
    town.stack.stop_redis().await;
    let email = "ada@example.org";
    let sign_up = async |number: usize| town.api.sign_up(&format!("ada-{number}"), email).await.unwrap();
    let mut registered = 0;
    for answer in join_all((0..50).map(sign_up)).await {
        match answer.status {
            201 => registered += 1,
            // Too many came in between, over and over: it says to try again.
            503 => assert!(answer.header("retry-after").is_some(), "{}", answer.body),
            other => panic!("{other}: {}", answer.body),
        }
    }
    let outbox = town.api.get("/_local/outbox").await.unwrap().expect(200).unwrap();
    let token = |mail: &Value| {
        let body = mail["body"].as_str().unwrap().to_owned();
        body.lines().find(|line| line.len() == 43).unwrap().to_owned()
    };
    let tokens: BTreeSet<_> = outbox["emails"].as_array().unwrap().iter().map(token).collect();
    assert_eq!(tokens.len(), registered, "a mail for each");
    assert!(registered >= 10, "{registered} got through");

    let verify =
        async |token: String| town.api.post("/v1/auth/verify-email", &json!({"token": token})).await.unwrap();
    let answers = join_all(tokens.into_iter().map(verify)).await;
    let (verified, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(verified.len(), 1);
    for other in others {
        refused(&other, 400, "token_invalid");
    }
    assert_eq!(login(&town.api, email, PASSWORD).await.status, 200);
    refused(&town.api.sign_up("late", email).await.unwrap(), 409, "email_taken");
    town.down().await;
}

#[tokio::test]
async fn twenty_renewals_of_one_session_token_make_one_successor() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    let answers = join_all((0..20).map(|_| renew(&town.api, &ada.session_token))).await;
    let successor = |answer: Answer| text(&answer.expect(200).unwrap(), "session_token").unwrap();
    let successors: BTreeSet<_> = answers.into_iter().map(successor).collect();
    assert_eq!(successors.len(), 1);
    let successor = successors.into_iter().next().unwrap();
    assert_ne!(successor, ada.session_token);
    assert_eq!(renew(&town.api, &successor).await.status, 200, "the session goes on");
    let sessions = ada.api.get("/v1/auth/sessions").await.unwrap().expect(200).unwrap();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    town.down().await;
}

/// How often something is let through until it is refused for its number, and that the answer says how long to wait.
async fn let_through(attempt: impl AsyncFn(u32) -> Answer) -> u32 {
    for count in 0..100 {
        let answer = attempt(count).await;
        if answer.status == 429 {
            refused(&answer, 429, "rate_limited");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3_600).contains(&wait), "{wait}");
            return count;
        }
    }
    panic!("it is not limited");
}

#[tokio::test]
async fn trying_is_limited_by_account_and_by_address() {
    let town = Town::up().await;
    let ada = town.person("ada").await;
    let wrong = async |api: &ApiClient, email: &str| login(api, email, ANOTHER_PASSWORD).await;
    let of_account = let_through(async |_| wrong(&town.api, &ada.email).await).await;
    assert_eq!(of_account, SIGN_IN_TO_ACCOUNT_FROM_ADDRESS.most);
    let elsewhere = town.api.from_address(address(2));
    assert_eq!(login(&elsewhere, &ada.email, PASSWORD).await.status, 200, "she is not locked out");
    let third = town.api.from_address(address(3));
    let of_address = let_through(async |n| wrong(&third, &format!("nobody{n}@example.org")).await).await;
    assert_eq!(of_address, SIGN_IN_FROM_ADDRESS.most);

    let sign_up = async |n: u32| town.api.sign_up(&format!("eve-{n}"), "eve@example.org").await.unwrap();
    assert_eq!(let_through(sign_up).await, MAIL_TO_ADDRESS.most);
    let reset = async |api: &ApiClient, email: &str| {
        api.post("/v1/auth/password-reset", &json!({"email": email})).await.unwrap()
    };
    assert_eq!(let_through(async |_| reset(&town.api, &ada.email).await).await, RESET_OF_ACCOUNT.most);
    assert_eq!(reset(&elsewhere, &ada.email).await.status, 429, "wherever it is asked for");
    let of_address = let_through(async |n| reset(&third, &format!("nobody{n}@example.org")).await).await;
    assert_eq!(of_address, RESET_FROM_ADDRESS.most);
    let change = json!({"current_password": ANOTHER_PASSWORD, "new_password": ANOTHER_PASSWORD});
    let proof = async |_| ada.api.put("/v1/users/me/password", &change).await.unwrap();
    assert_eq!(let_through(proof).await, PASSWORD_PROOF.most);
    town.down().await;
}

/// The address 127.0.0.x.
fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Whether medians of what takes these times tell one from the other: they are more than a tenth apart.
fn are_told_apart(one: f64, other: f64) -> bool {
    (one - other).abs() > 0.1 * one.max(other)
}

/// How long logins take, at the median, to a known account, to one whose registration waits, to none, and to one that is
/// refused before the password is looked at. They take turns, so that what else the machine does hits all alike. From one
/// address a limited number is let through, and so is to one account: each attempt has its own.
async fn medians_of_logins(town: &Town, attempt: u8) -> [f64; 4] {
    let known = town.person(&format!("ada-{attempt}")).await.email;
    let waiting = format!("waiting-{attempt}@example.org");
    town.api.sign_up(&format!("waiting-{attempt}"), &waiting).await.unwrap().expect(201).unwrap();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..100_u8 {
        let api = town.api.from_address(IpAddr::V4(Ipv4Addr::new(127, 0, 1 + attempt, 1 + round / 5)));
        // The first use of an address connects to the API.
        api.get("/v1/status").await.unwrap().expect(200).unwrap();
        let nobody = format!("nobody-{attempt}-{round}@example.org");
        for turn in 0..4 {
            let turn = (turn + usize::from(round)) % 4;
            let email = [&known, &waiting, &nobody, &nobody][turn];
            let (password, status) = if turn == 3 { ("", 422) } else { (ANOTHER_PASSWORD, 401) };
            let since = Instant::now();
            let answer = login(&api, email, password).await;
            times[turn].push(since.elapsed());
            assert_eq!(answer.status, status, "{}", answer.body);
        }
    }
    times.map(median)
}

#[tokio::test]
async fn the_time_of_a_login_does_not_tell_whether_there_is_an_account() {
    let town = Town::up().await;
    // A difference that is the machine's, which builds and tests other things meanwhile, is another one the next time.
    let mut seen = Vec::new();
    for attempt in 0..3 {
        let medians = medians_of_logins(&town, attempt).await;
        let [known, waiting, unknown, refused_early] = medians;
        // What takes another time is told apart in this way.
        assert!(are_told_apart(refused_early, unknown), "{medians:?}");
        seen.push(medians);
        if !are_told_apart(known, unknown) && !are_told_apart(waiting, unknown) {
            return town.down().await;
        }
    }
    panic!(
        "the known, the waiting and the unknown are told apart by the time that they take, in seconds: {seen:?}"
    );
}
