//! `provision` against moto, the embedded broker and the embedded storage.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use clap::Parser;
use local::{
    cloud::{self, Clients, CloudArgs},
    signing_key::SigningKey,
    stack::{Foundation, Options},
};
use serde_json::Value;
use tocsin_adapters::dynamodb::{CategoriesTable, Newcomers, PeopleTable, UsersTable};
use tocsin_domain::{
    access_token::Role,
    account::{Account, AccountFinder as _, Registrations as _, Verifications as _},
    category::{self, Categories as _},
    ids::UserId,
    password::PasswordHash,
    secret::Secret,
    time,
};

const PRIVATE_KEY: &str = "tocsin/test/access-token-private-key";
const JWKS: &str = "tocsin/test/access-token-jwks";
const REDIS_URL: &str = "tocsin/test/redis-url";
const GOOGLE_CLIENT_SECRET: &str = "tocsin/test/google-client-secret";
const SECRETS: [&str; 5] = ["hunter2", "GOCSPX-of-nobody", "PRIVATE KEY", "an APNs key", "a service account"];

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: CloudArgs,
}

struct Cloud {
    foundation: Foundation,
    clients: Clients,
    files: PathBuf,
}

impl Cloud {
    async fn up() -> Self {
        let options = Options::in_memory();
        let foundation = Box::pin(Foundation::lay(&options, "http://127.0.0.1:9000", false)).await.unwrap();
        let endpoints = foundation.endpoints();
        let moto = endpoints.moto.clone().unwrap();
        let secrets = endpoints.sdk_config("SECRETSMANAGER").into_builder().endpoint_url(moto).build();
        let clients = Clients {
            secrets: aws_sdk_secretsmanager::Client::new(&secrets),
            sns: aws_sdk_sns::Client::new(&endpoints.sdk_config("SNS")),
            sqs: aws_sdk_sqs::Client::new(&endpoints.sdk_config("SQS")),
            dynamodb: aws_sdk_dynamodb::Client::new(&endpoints.sdk_config("DYNAMODB")),
        };
        let files = std::env::temp_dir().join(format!("tocsin-provision-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&files).unwrap();
        fs::write(files.join("redis"), "rediss://default:hunter2@eu.upstash.example:6379\n").unwrap();
        fs::write(files.join("google"), "GOCSPX-of-nobody\n").unwrap();
        fs::write(files.join("apns"), "an APNs key").unwrap();
        fs::write(files.join("fcm"), "a service account").unwrap();
        Self { foundation, clients, files }
    }

    /// Runs the command, and gives what it says.
    async fn provision(&self, arguments: &str) -> anyhow::Result<String> {
        let mut out = Vec::new();
        let words = format!("provision --stage test {arguments}");
        let Cli { args } = Cli::try_parse_from(words.split_whitespace())?;
        cloud::provision(&args, &self.clients, &mut out).await?;
        let said = String::from_utf8(out)?;
        for secret in SECRETS {
            assert!(!said.contains(secret), "{said}");
        }
        Ok(said)
    }

    /// The options of every step.
    fn all(&self) -> String {
        let file = |name: &str| self.files.join(name).display().to_string();
        format!(
            "--redis-url-file {} --google-client-secret-file {} --apns-key-file {} --apns-key-id K --apns-team-id T --apns-bundle-id dev.tocsin \
             --fcm-service-account-file {} --kafka-bootstrap-servers {} --kafka-auth none --posts-topic test-posts \
             --replication-factor 1 --categories-table {} --users-table {} --admin-email ada@example.org",
            file("redis"),
            file("google"),
            file("apns"),
            file("fcm"),
            self.foundation.endpoints().bootstrap_servers,
            self.table("CategoriesTable"),
            self.table("UsersTable"),
        )
    }

    fn table(&self, logical_id: &str) -> &str {
        &self.foundation.app.tables.iter().find(|table| table.logical_id == logical_id).unwrap().name
    }

    fn users(&self) -> UsersTable {
        UsersTable::new(&self.clients.dynamodb, self.table("UsersTable"))
    }

    async fn register(&self, name: &str, verified: bool) {
        let account = Account {
            user_id: UserId::new(time::now()),
            email: Some(format!("{name}@example.org").parse().unwrap()),
            email_verified: false,
            username: name.parse().unwrap(),
            former_username: None,
            password: Some(PasswordHash("none".to_owned())),
            roles: vec![Role::User],
            created_at: time::now(),
        };
        let token = Secret::random().unwrap().hash();
        self.users().register(&account, &token, time::after(time::now(), 600)).await.unwrap();
        if verified {
            let people = PeopleTable::new(&self.clients.dynamodb, self.table("PeopleTable"));
            Newcomers::new(self.users(), people).verify(&token, time::now()).await.unwrap().unwrap();
        }
    }

    async fn secret(&self, name: &str) -> Option<String> {
        let request = self.clients.secrets.get_secret_value().secret_id(name).version_stage("AWSCURRENT");
        let found = request.send().await.ok()?;
        Some(found.secret_string.unwrap())
    }

    /// The public keys, in order.
    async fn public_keys(&self) -> Vec<Value> {
        let jwks: Value = serde_json::from_str(&self.secret(JWKS).await.unwrap()).unwrap();
        jwks["keys"].as_array().unwrap().clone()
    }

    /// The public half of the private key that functions get.
    async fn signing_key(&self) -> Value {
        let key = SigningKey::of(self.secret(PRIVATE_KEY).await.unwrap()).unwrap();
        serde_json::from_str::<Value>(&key.jwks).unwrap()["keys"][0].clone()
    }

    /// Empties the table that a stack of this machine fills by itself.
    async fn forget_categories(&self) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        for category in category::initial() {
            let delete = self.clients.dynamodb.delete_item().table_name(self.table("CategoriesTable"));
            let key = delete.key("pk", text("categories")).key("sk", text(category.category.as_str()));
            key.send().await.unwrap();
        }
    }

    async fn platform_applications(&self) -> BTreeSet<String> {
        let listed = self.clients.sns.list_platform_applications().send().await.unwrap();
        let arns = listed
            .platform_applications()
            .iter()
            .map(|app| app.platform_application_arn().unwrap().to_owned());
        arns.filter(|arn| arn.ends_with("/tocsin-test")).collect()
    }

    async fn down(self) {
        self.foundation.shutdown().await;
        fs::remove_dir_all(self.files).unwrap();
    }
}

#[tokio::test]
async fn what_is_missing_is_made_and_what_is_there_stays() {
    let cloud = Cloud::up().await;
    cloud.register("ada", true).await;
    cloud.forget_categories().await;
    let all = cloud.all();

    let said = cloud.provision(&format!("{all} --dry-run")).await.unwrap();
    assert!(
        said.lines().all(|line| line.contains("would have made") || line.contains("would have added")),
        "{said}"
    );
    assert_eq!((cloud.secret(PRIVATE_KEY).await, cloud.secret(REDIS_URL).await), (None, None));
    assert!(cloud.platform_applications().await.is_empty());

    let said = cloud.provision(&all).await.unwrap();
    assert!(said.lines().all(|line| line.contains(" made ") || line.contains(" added ")), "{said}");
    let key = cloud.signing_key().await;
    assert_eq!(cloud.public_keys().await, std::slice::from_ref(&key));
    assert_eq!(cloud.secret(GOOGLE_CLIENT_SECRET).await.as_deref(), Some("GOCSPX-of-nobody"));
    let redis_url = cloud.secret(REDIS_URL).await.unwrap();
    assert_eq!(redis_url, "rediss://default:hunter2@eu.upstash.example:6379");
    let applications = cloud.platform_applications().await;
    let deliver_push =
        cloud.foundation.app.functions.iter().find(|function| function.name == "deliver-push").unwrap();
    for (variable, platform) in [("APNS_APPLICATION_ARN", "APNS"), ("FCM_APPLICATION_ARN", "GCM")] {
        // The template makes the ARNs from the names.
        let arn = deliver_push.environment[variable].replace("/tocsin-local", "/tocsin-test");
        assert!(arn.contains(platform) && applications.contains(&arn), "{arn}: {applications:?}");
    }
    let categories = CategoriesTable::new(&cloud.clients.dynamodb, cloud.table("CategoriesTable"));
    assert_eq!(categories.all().await.unwrap().len(), category::initial().len());
    let ada = cloud.users().find(&"ada@example.org".parse().unwrap(), time::now()).await.unwrap().remove(0);
    assert_eq!(ada.roles, [Role::User, Role::Moderator, Role::Admin]);

    let said = cloud.provision(&all).await.unwrap();
    assert!(said.lines().all(|line| line.contains(" found ")), "{said}");
    assert_eq!((cloud.signing_key().await, cloud.public_keys().await), (key.clone(), vec![key]));
    assert_eq!(cloud.secret(REDIS_URL).await.unwrap(), redis_url);
    assert_eq!(cloud.platform_applications().await, applications);

    fs::write(cloud.files.join("redis"), "rediss://default:hunter2@us.upstash.example:6379").unwrap();
    let said = cloud.provision(&format!("redis-url {all}")).await.unwrap();
    assert!(said.contains("changed the secret") && said.lines().count() == 1, "{said}");
    let said = cloud.provision(&format!("push-applications {all} --renew-push-keys")).await.unwrap();
    assert!(said.lines().all(|line| line.contains("renewed the key")), "{said}");
    assert_eq!(cloud.platform_applications().await, applications);
    cloud.down().await;
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_after() {
    let cloud = Cloud::up().await;
    cloud.provision("announce-next-key").await.unwrap_err();
    cloud.provision("signing-key").await.unwrap();
    let first = cloud.signing_key().await;
    let said = cloud.provision("use-next-key").await.unwrap();
    assert!(said.contains("found no next key"), "{said}");

    for _ in 0..2 {
        cloud.provision("announce-next-key").await.unwrap();
        assert_eq!(cloud.signing_key().await, first);
        assert_eq!(cloud.public_keys().await.len(), 2);
    }
    let second = cloud.public_keys().await[1].clone();
    assert_eq!(cloud.public_keys().await, [first.clone(), second.clone()]);

    for _ in 0..2 {
        cloud.provision("use-next-key").await.unwrap();
        assert_eq!(cloud.signing_key().await, second);
        assert_eq!(cloud.public_keys().await, [second.clone(), first.clone()]);
    }
    // Making sure of the key takes none away.
    cloud.provision("signing-key").await.unwrap();
    assert_eq!(cloud.public_keys().await.len(), 2);

    for _ in 0..2 {
        cloud.provision("retire-old-keys").await.unwrap();
        assert_eq!(
            (cloud.signing_key().await, cloud.public_keys().await),
            (second.clone(), vec![second.clone()])
        );
    }
    cloud.down().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_told() {
    let cloud = Cloud::up().await;
    let said = cloud.provision("--dry-run").await.unwrap();
    assert_eq!(said.matches("skipped: --").count(), 6, "{said}");

    let refused = async |arguments: &str| format!("{:#}", cloud.provision(arguments).await.unwrap_err());
    assert!(refused("topic").await.contains("needs --kafka-bootstrap-servers"));
    assert!(refused("--apns-key-file /dev/null").await.contains("--apns-key-id"));
    assert!(refused("redis-url --redis-url-file /dev/null").await.contains("is empty"));
    let fcm = cloud.files.join("fcm");
    let no_url = refused(&format!("redis-url --redis-url-file {}", fcm.display())).await;
    assert!(no_url.contains("rediss://") && !no_url.contains("a service account"), "{no_url}");

    let admin =
        |name: &str| format!("admin --users-table {} --admin-email {name}", cloud.table("UsersTable"));
    assert!(refused(&admin("nobody@example.org")).await.contains("nobody has registered"));
    cloud.register("eve", false).await;
    assert!(refused(&admin("eve@example.org")).await.contains("is not verified"));
    cloud.down().await;
}
