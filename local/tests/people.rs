//! People through the front door: what each shows to whom, how they are found, and their images.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::{collections::BTreeSet, time::Instant};

use futures::future::join_all;
use local::api_client::{ApiClient, Person, text};
use serde_json::{Value, json};
use town::{PATIENCE, Town};

/// Somebody, and who they are.
struct Someone {
    api: ApiClient,
    user_id: String,
}

impl Someone {
    async fn new(town: &Town, username: &str) -> Self {
        Self::of(town.person(username).await).await
    }

    async fn of(person: Person) -> Self {
        let user_id = text(&me(&person.api).await, "user_id").unwrap();
        Self { api: person.api, user_id }
    }

    async fn patch(&self, body: Value) -> Value {
        self.api.patch("/v1/users/me", &body).await.unwrap().expect(200).unwrap()
    }

    /// What this one sees of another; none where nobody is there.
    async fn sees(&self, other: &Self) -> Option<Value> {
        let answer = self.api.get(&format!("/v1/users/{}", other.user_id)).await.unwrap();
        match answer.status {
            404 => {
                assert_eq!(answer.body["code"], "not_found");
                None
            }
            _ => Some(answer.expect(200).unwrap()),
        }
    }

    /// The ids of those who are found, and the cursor of the next page.
    async fn finds(&self, query: &str) -> (Vec<String>, Option<String>) {
        let page = self.api.get(&format!("/v1/users/search?{query}")).await.unwrap().expect(200).unwrap();
        let found = page["items"].as_array().unwrap().iter().map(|hit| text(hit, "user_id").unwrap());
        (found.collect(), page["next_cursor"].as_str().map(str::to_owned))
    }

    /// The name before, as it is kept.
    async fn former_username(&self) -> Value {
        let export = self.api.get("/v1/users/me/export?limit=1").await.unwrap().expect(200).unwrap();
        assert_eq!(export["items"][0]["kind"], "account");
        export["items"][0]["data"]["former_username"].clone()
    }

    async fn befriend(&self, other: &Self) {
        for (who, whom) in [(self, other), (other, self)] {
            let asked = who.api.post("/v1/friendships", &json!({"user_id": whom.user_id})).await.unwrap();
            assert_eq!(asked.status, 201, "{}", asked.body);
        }
    }

    async fn block(&self, other: &Self) {
        let path = format!("/v1/blocks/{}", other.user_id);
        let blocked = self.api.put(&path, &json!({})).await.unwrap();
        assert_eq!(blocked.status, 204, "{}", blocked.body);
    }

    async fn unblock(&self, other: &Self) {
        let unblocked = self.api.delete(&format!("/v1/blocks/{}", other.user_id)).await.unwrap();
        assert_eq!(unblocked.status, 204, "{}", unblocked.body);
    }
}

async fn me(api: &ApiClient) -> Value {
    api.get("/v1/users/me").await.unwrap().expect(200).unwrap()
}

#[tokio::test]
async fn a_person_says_who_they_are_and_changes_it() {
    let town = Town::up().await;
    let ada = Someone::new(&town, "ada").await;
    let first = me(&ada.api).await;
    assert_eq!((&first["username"], &first["email"]), (&json!("ada"), &json!("ada@example.org")));
    assert_eq!((&first["first_name"], &first["profile_image_url"]), (&Value::Null, &Value::Null));
    let visibility = json!({
        "first_name": "everyone", "last_name": "everyone", "description": "everyone", "gender": "nobody",
        "date_of_birth": "nobody", "school": "friends", "work": "friends", "location": "friends",
        "email": "nobody", "friends": "everyone",
    });
    assert_eq!((&first["visibility"], &first["visit_sharing"]), (&visibility, &json!("nobody")));

    let said = json!({"first_name": "Ada", "work": "Analyst", "date_of_birth": "1915-12-10"});
    let now = ada.patch(said).await;
    assert_eq!((&now["first_name"], &now["work"]), (&json!("Ada"), &json!("Analyst")));
    let now = ada.patch(json!({"work": null, "visibility": {"email": "friends"}})).await;
    assert_eq!((&now["first_name"], &now["work"]), (&json!("Ada"), &Value::Null));
    assert_eq!(
        (&now["visibility"]["email"], &now["visibility"]["school"]),
        (&json!("friends"), &json!("friends"))
    );
    assert_eq!(me(&ada.api).await, now);
    assert_eq!(ada.patch(json!({})).await, now);
    let now = ada.patch(json!({"visibility": {"email": null}})).await;
    assert_eq!(now["visibility"], visibility);

    let known = ada.api.get("/v1/users/me").await.unwrap();
    let tag = known.header("etag").unwrap().to_owned();
    let known = [("if-none-match", tag.as_str())];
    let again = ada.api.send_with(reqwest::Method::GET, "/v1/users/me", None, &known).await;
    assert_eq!(again.unwrap().status, 304);

    let bad = json!({"email": "x@example.org", "username": "a b", "date_of_birth": "2999-01-01", "work": ""});
    let refused = ada.api.patch("/v1/users/me", &bad).await.unwrap().expect(422).unwrap();
    let pointers: BTreeSet<_> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, BTreeSet::from(["/date_of_birth", "/email", "/username", "/work"]));
    assert_eq!(me(&ada.api).await, now, "what is refused changes nothing");
    town.down().await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "the same three people see each other in every way")]
async fn each_field_is_shown_to_whom_its_owner_shows_it() {
    let town = Town::up().await;
    let (ada, friend, stranger) = (
        Someone::new(&town, "ada").await,
        Someone::new(&town, "bea").await,
        Someone::new(&town, "cid").await,
    );
    ada.befriend(&friend).await;
    let fields = [
        ("first_name", json!("Ada")),
        ("last_name", json!("Lovelace")),
        ("description", json!("Poetical science.")),
        ("gender", json!("female")),
        ("date_of_birth", json!("1915-12-10")),
        ("school", json!("Home")),
        ("work", json!("Analyst")),
        ("location", json!("Bergen")),
    ];
    let all: serde_json::Map<_, _> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    ada.patch(Value::Object(all)).await;
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).chain(["email"]).collect();
    for round in 0..3 {
        let level = |place: usize| ["nobody", "friends", "everyone"][(place + round) % 3];
        let visibility: serde_json::Map<_, _> =
            names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), json!(level(i)))).collect();
        ada.patch(json!({"visibility": visibility})).await;
        for (who, sees) in [
            (&ada, ["nobody", "friends", "everyone"].as_slice()),
            (&friend, &["friends", "everyone"]),
            (&stranger, &["everyone"]),
        ] {
            let seen = who.sees(&ada).await.unwrap();
            assert_eq!(seen["username"], "ada");
            assert!(seen.get("visibility").is_none() && seen.get("visit_sharing").is_none());
            for (i, name) in names.iter().enumerate() {
                assert_eq!(!seen[*name].is_null(), sees.contains(&level(i)), "{name}: {}: {seen}", level(i));
            }
        }
        // Found by what they show, and only so.
        let by_email = "by=email&q=ADA@example.org";
        assert_eq!(stranger.finds(by_email).await.0.len(), usize::from(level(8) == "everyone"));
        assert_eq!(friend.finds(by_email).await.0.len(), usize::from(level(8) != "nobody"));
        let found = stranger.finds("by=name&q=lovel").await.0;
        assert_eq!(found.len(), usize::from(level(1) == "everyone"), "not by a name that is hidden");
        assert_eq!(stranger.finds("by=name&q=ada").await.0.len(), 1, "a username is shown to everyone");
    }

    // Several at once, in the order of the ids; nobody twice, and who is not there is left out.
    let nobody = "019a9f3e-1c00-7abc-8def-0123456789ab";
    let ids = [&friend.user_id, nobody, &ada.user_id, &friend.user_id, &stranger.user_id].join(",");
    let listed = async |who: &Someone| {
        let page = who.api.get(&format!("/v1/users?ids={ids}")).await.unwrap().expect(200).unwrap();
        assert_eq!(page["next_cursor"], Value::Null);
        let names = page["items"].as_array().unwrap().iter().map(|item| text(item, "username").unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed(&stranger).await, ["bea", "ada", "cid"]);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/users?ids={ids}&limit=2{cursor}");
        let page = stranger.api.get(&path).await.unwrap().expect(200).unwrap();
        paged.extend(page["items"].as_array().unwrap().iter().map(|item| text(item, "username").unwrap()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, ["bea", "ada", "cid"]);
    let other = format!("/v1/users?ids={nobody}{cursor}");
    assert_eq!(stranger.api.get(&other).await.unwrap().status, 400, "another list's cursor");
    for path in ["", "?ids=", "?ids=x", &format!("?ids={ids}&ids={nobody}"), &format!("?ids={ids}&by=name")] {
        assert_eq!(ada.api.get(&format!("/v1/users{path}")).await.unwrap().status, 400, "{path}");
    }
    let many = vec![nobody; 101].join(",");
    let many = ada.api.get(&format!("/v1/users?ids={many}")).await.unwrap().expect(400).unwrap();
    assert_eq!(many["errors"][0]["code"], "too_many");

    // A block hides both from each other, as if nobody were there.
    let unknown = stranger.api.get(&format!("/v1/users/{nobody}")).await.unwrap().expect(404).unwrap();
    for (one, other) in [(&ada, &stranger), (&stranger, &ada)] {
        one.block(other).await;
        assert!(ada.sees(&stranger).await.is_none());
        let hidden =
            stranger.api.get(&format!("/v1/users/{}", ada.user_id)).await.unwrap().expect(404).unwrap();
        for part in ["type", "title", "detail", "code"] {
            assert_eq!(hidden[part], unknown[part], "a block looks like nobody");
        }
        assert_eq!(listed(&stranger).await, ["bea", "cid"]);
        assert_eq!(listed(&ada).await, ["bea", "ada"]);
        for query in ["by=name&q=ada", "by=email&q=ada@example.org"] {
            assert_eq!(stranger.finds(query).await.0, [""; 0], "{query}");
        }
        assert_eq!(ada.finds("by=name&q=cid").await.0, [""; 0]);
        one.unblock(other).await;
    }
    assert!(stranger.sees(&ada).await.is_some());

    // Nobody sees anybody without a token, and one changes nobody but oneself.
    for path in ["/v1/users/me", &format!("/v1/users/{}", ada.user_id), "/v1/users?ids=x", "/v1/users/search"]
    {
        assert_eq!(town.api.get(path).await.unwrap().status, 401, "{path}");
    }
    let image = json!({"content_type": "image/png"});
    for answer in [
        town.api.patch("/v1/users/me", &json!({"first_name": "Eve"})).await,
        town.api.post("/v1/users/me/profile-image", &image).await,
        town.api.delete("/v1/users/me/profile-image").await,
    ] {
        assert_eq!(answer.unwrap().status, 401);
    }
    let other = stranger.api.patch(&format!("/v1/users/{}", ada.user_id), &json!({})).await.unwrap();
    assert_eq!(other.status, 404, "there is no such route");
    town.down().await;
}

#[tokio::test]
async fn people_are_found_by_any_beginning_of_their_words() {
    let town = Town::up().await;
    let me = Someone::new(&town, "searcher").await;
    let people = [
        ("kari_n", "Kåre", "Ødegård"),
        ("nils.odd", "Nils-Odd", "Øðegard"),
        ("lukasz", "Łukasz", "Żółkiewski"),
        ("odeon", "Émile", "Odéon Æro"),
        ("shy_one", "Odessa", "Hidden"),
    ];
    let mut ids = Vec::new();
    for (username, first_name, last_name) in people {
        let person = Someone::new(&town, username).await;
        person.patch(json!({"first_name": first_name, "last_name": last_name})).await;
        ids.push(person);
    }
    ids[4].patch(json!({"visibility": {"first_name": "friends"}})).await;
    for (query, found) in [
        ("ødegård", vec![0, 1]),
        ("ODEG", vec![0, 1]),
        ("ode", vec![0, 1, 3]),
        ("od", vec![0, 1, 3]),
        ("kare odeg", vec![0]),
        ("odeg k", vec![0]),
        ("nils od", vec![1]),
        ("zolk", vec![2]),
        ("luk z", vec![2]),
        ("emile aero", vec![3]),
        ("shy", vec![4]),
        ("hidd", vec![4]),
        ("odess", vec![]),
        ("gard", vec![]),
        ("searcher", vec![]),
    ] {
        let encoded: String = url_encoded(query);
        let all: BTreeSet<_> = me.finds(&format!("by=name&q={encoded}")).await.0.into_iter().collect();
        let expected: BTreeSet<_> = found.iter().map(|place| ids[*place].user_id.clone()).collect();
        assert_eq!(all, expected, "{query}");
        // Page by page, none is missed, and none comes twice.
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let (page, next) = me.finds(&format!("by=name&q={encoded}&limit=1{cursor}")).await;
            assert!(page.len() == 1 || next.is_none(), "{query}: pages are full");
            paged.extend(page);
            let Some(next) = next else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(paged.len(), expected.len(), "{query}");
        assert_eq!(paged.into_iter().collect::<BTreeSet<_>>(), expected, "{query}");
    }

    // Each hit says what they are to the caller.
    let (kare, nils) = (&ids[0], &ids[1]);
    me.befriend(nils).await;
    kare.befriend(nils).await;
    kare.api.post("/v1/friendships", &json!({"user_id": me.user_id})).await.unwrap().expect(201).unwrap();
    let page = me.api.get("/v1/users/search?by=name&q=odeg").await.unwrap().expect(200).unwrap();
    let facts: BTreeSet<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| {
            (text(hit, "username").unwrap(), text(hit, "friendship").unwrap(), hit["mutual_friends"].as_u64())
        })
        .collect();
    let fact = |name: &str, friendship: &str, mutual| (name.to_owned(), friendship.to_owned(), Some(mutual));
    assert_eq!(facts, BTreeSet::from([fact("kari_n", "incoming", 1), fact("nils.odd", "accepted", 0)]));

    let (_, next) = me.finds("by=name&q=ode&limit=1").await;
    let next = next.unwrap();
    for bad in [
        "by=name&q=a".to_owned(),
        "by=name&q=".to_owned(),
        "by=name&q=%20-%20".to_owned(),
        "by=name".to_owned(),
        "q=ode".to_owned(),
        "by=phone&q=ode".to_owned(),
        "by=email&q=ode".to_owned(),
        format!("by=name&q=odeg&cursor={next}"),
        format!("by=email&q=a@example.org&cursor={next}"),
        "by=name&q=ode&limit=101".to_owned(),
        "by=name&q=a+b+c+d+e+f+g+h+ij".to_owned(),
    ] {
        assert_eq!(me.api.get(&format!("/v1/users/search?{bad}")).await.unwrap().status, 400, "{bad}");
    }
    town.down().await;
}

fn url_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn a_username_is_one_persons_however_many_want_it() {
    let town = Town::up().await;
    let mut people = Vec::new();
    for number in 0..8 {
        people.push(Someone::new(&town, &format!("person{number}")).await);
    }
    let wanted = ["lovelace", "Lovelace", "LOVELACE", "loveLace"];
    let tries = people.iter().enumerate().map(|(number, person)| {
        let body = json!({"username": wanted[number % wanted.len()]});
        async move { person.api.patch("/v1/users/me", &body).await.unwrap() }
    });
    let answers = join_all(tries).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, &answer.body["code"]), (409, &json!("username_taken")));
    }
    let winner = statuses.iter().position(|status| *status == 200).unwrap();
    let loser = &people[(winner + 1) % people.len()];
    assert_eq!(loser.finds("by=name&q=lovelace").await.0, [people[winner].user_id.clone()]);
    // The name before is reserved for who had it, and not found any more; the new one is refused also at a registration.
    assert_eq!(loser.finds(&format!("by=name&q=person{winner}")).await.0, [""; 0]);
    let former = format!("PERSON{winner}");
    let must_be_taken = async |name: &str| {
        let registered = town.api.sign_up(name, "heir@example.org").await.unwrap();
        let renamed = loser.api.patch("/v1/users/me", &json!({"username": name})).await.unwrap();
        for taken in [registered, renamed] {
            assert_eq!((taken.status, &taken.body["code"]), (409, &json!("username_taken")), "{name}");
        }
    };
    must_be_taken("loVelace").await;
    must_be_taken(&former).await;
    // They take it back, and then give both up: only the last is reserved.
    let (winner, name_of_winner) = (&people[winner], wanted[winner % wanted.len()]);
    for (name, before) in [(former.as_str(), name_of_winner), ("countess", former.as_str())] {
        winner.patch(json!({"username": name})).await;
        must_be_taken(name).await;
        must_be_taken(before).await;
        assert_eq!(winner.former_username().await, json!(before));
    }
    let heir = town.api.register("LOVELACE", "heir@example.org").await.unwrap();
    let heir = Someone::of(heir).await;
    // One's own name in another case is one's own.
    heir.patch(json!({"username": "Lovelace"})).await;
    assert_eq!(heir.former_username().await, Value::Null);

    // One person who changes theirs many times at once ends with one name and the one before, and gives back all others.
    let names: Vec<_> = (0..6).map(|number| format!("name-{number}")).collect();
    let changes = names.iter().map(|name| {
        let body = json!({"username": name});
        let api = &heir.api;
        async move { api.patch("/v1/users/me", &body).await.unwrap().status }
    });
    let statuses = join_all(changes).await;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    let last = text(&me(&heir.api).await, "username").unwrap();
    let kept = [json!(last), heir.former_username().await];
    for name in &names {
        let status = loser.api.patch("/v1/users/me", &json!({"username": name})).await.unwrap().status;
        assert_eq!(status, if kept.contains(&json!(name)) { 409 } else { 200 }, "{name} of {kept:?}");
    }
    // A sign-in says it, too.
    let login = json!({"email": "heir@example.org", "password": local::api_client::PASSWORD});
    let tokens = town.api.post("/v1/auth/login", &login).await.unwrap().expect(200).unwrap();
    let claims = text(&tokens, "access_token").unwrap();
    let claims = claims.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["preferred_username"], last);
    town.down().await;
}

const PNG: &[u8] = b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";
const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xFF\xD9";

impl Someone {
    async fn may_upload(&self, content_type: &str) -> Value {
        let body = json!({"content_type": content_type});
        let upload = self.api.post("/v1/users/me/profile-image", &body).await.unwrap().expect(201).unwrap();
        assert_eq!(upload["expires_in"], 600);
        upload
    }

    async fn image_url(&self) -> Option<String> {
        me(&self.api).await["profile_image_url"].as_str().map(str::to_owned)
    }

    /// Waits until the image is another; answers its address.
    async fn next_image_url(&self, before: Option<&str>) -> String {
        let begun = Instant::now();
        loop {
            match self.image_url().await {
                Some(url) if Some(url.as_str()) != before => return url,
                now => assert!(begun.elapsed() < PATIENCE, "the image is still {now:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// Posts a form as a browser does (RFC 7578); answers the status.
async fn post_form(upload: &Value, changes: &[(&str, &str)], file: &[u8]) -> u16 {
    let mut fields = upload["fields"].as_object().unwrap().clone();
    for (name, value) in changes {
        fields.insert((*name).to_owned(), json!(value));
    }
    let mut body = Vec::new();
    for (name, value) in &fields {
        let value = value.as_str().unwrap();
        body.extend(
            format!("--boundary\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    let head = "--boundary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me\"\r\n\
                Content-Type: application/octet-stream\r\n\r\n";
    body.extend(head.bytes());
    body.extend(file);
    body.extend(b"\r\n--boundary--\r\n");
    let request = reqwest::Client::new()
        .post(upload["upload_url"].as_str().unwrap())
        .header("content-type", "multipart/form-data; boundary=boundary")
        .body(body);
    request.send().await.unwrap().status().as_u16()
}

/// What anyone gets at an address: the status, the type and the bytes.
async fn fetch(url: &str) -> (u16, String, Vec<u8>) {
    let answer = reqwest::get(url).await.unwrap();
    let content_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), content_type.unwrap_or_default(), answer.bytes().await.unwrap().to_vec())
}

async fn until_gone(url: &str) {
    let begun = Instant::now();
    while fetch(url).await.0 == 200 {
        assert!(begun.elapsed() < PATIENCE, "{url} is still there");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_image_is_uploaded_replaced_and_removed() {
    let town = Town::up().await;
    let (ada, eve) = (Someone::new(&town, "ada").await, Someone::new(&town, "eve").await);
    assert_eq!(ada.image_url().await, None);
    let gone = ada.api.delete("/v1/users/me/profile-image").await.unwrap();
    assert_eq!(gone.status, 204, "also where there is none");

    let upload = ada.may_upload("image/png").await;
    assert_eq!(post_form(&upload, &[], PNG).await, 204);
    let first = ada.next_image_url(None).await;
    assert_eq!(fetch(&first).await, (200, "image/png".to_owned(), PNG.to_vec()));
    assert_eq!(eve.sees(&ada).await.unwrap()["profile_image_url"], json!(first));

    let upload = ada.may_upload("image/jpeg").await;
    assert_eq!(post_form(&upload, &[], JPEG).await, 204);
    let second = ada.next_image_url(Some(&first)).await;
    assert_eq!(fetch(&second).await, (200, "image/jpeg".to_owned(), JPEG.to_vec()));
    until_gone(&first).await;

    let gone = ada.api.delete("/v1/users/me/profile-image").await.unwrap();
    assert_eq!(gone.status, 204);
    assert_eq!(ada.image_url().await, None);
    assert_ne!(fetch(&second).await.0, 200);
    town.down().await;
}

#[tokio::test]
async fn what_is_no_such_image_is_refused() {
    let town = Town::up().await;
    let (ada, eve) = (Someone::new(&town, "ada").await, Someone::new(&town, "eve").await);
    for bad in
        [json!({}), json!({"content_type": "image/gif"}), json!({"content_type": "image/png", "size": 1})]
    {
        assert_eq!(ada.api.post("/v1/users/me/profile-image", &bad).await.unwrap().status, 422, "{bad}");
    }

    // What the form does not allow, S3 refuses.
    let upload = ada.may_upload("image/jpeg").await;
    let large = [JPEG, &vec![0; 5 * 1024 * 1024]].concat();
    let theirs = eve.may_upload("image/jpeg").await;
    let their_key = theirs["fields"]["key"].as_str().unwrap();
    for (changes, file, status) in [
        (vec![], large.as_slice(), 400),
        (vec![], b"", 400),
        (vec![("Content-Type", "text/html")], JPEG, 403),
        (vec![("Content-Type", "image/png")], JPEG, 403),
        (vec![("key", their_key)], JPEG, 403),
        (vec![("key", "elsewhere/x")], JPEG, 403),
        (vec![("acl", "public-read-write")], JPEG, 403),
        (vec![("policy", "e30=")], JPEG, 403),
    ] {
        assert_eq!(post_form(&upload, &changes, file).await, status, "{changes:?}");
    }

    // A file that lies about what it is, and one that came past the form, are removed; and the image stays.
    assert_eq!(post_form(&upload, &[], JPEG).await, 204);
    let image = ada.next_image_url(None).await;
    let upload = ada.may_upload("image/jpeg").await;
    let address = |upload: &Value| {
        format!("{}/{}", text(upload, "upload_url").unwrap(), upload["fields"]["key"].as_str().unwrap())
    };
    assert_eq!(post_form(&upload, &[], b"<script>alert(1)</script>").await, 204);
    until_gone(&address(&upload)).await;
    let past = address(&ada.may_upload("image/jpeg").await);
    let put = reqwest::Client::new().put(&past).header("content-type", "image/jpeg").body(large);
    assert_eq!(put.send().await.unwrap().status(), 200);
    until_gone(&past).await;
    // Who is nobody has no image.
    let key = ada.image_url().await.unwrap();
    let nobody = key.replace(&ada.user_id, "019a9f3e-1c00-7abc-8def-0123456789ab");
    let put = reqwest::Client::new().put(&nobody).header("content-type", "image/jpeg").body(JPEG.to_vec());
    assert_eq!(put.send().await.unwrap().status(), 200);
    until_gone(&nobody).await;
    assert_eq!(ada.image_url().await.as_ref(), Some(&image));
    assert_eq!(fetch(&image).await.0, 200);
    town.down().await;
}
