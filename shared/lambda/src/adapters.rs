//! The adapters as settings: which variables each is made from.
//!
//! Those of one service share its client. None waits for its service: the log and Redis are connected to ahead of the
//! first invocation, and what cannot be reached then is tried again when it is first used.

use secrecy::SecretString;
use tocsin_adapters::{
    aws::{self, SdkConfig},
    dynamodb::{
        AddressEditor, CategoriesTable, DeliveriesTable, DeparturesTable, DevicesTable, FeedsTable,
        FriendshipsTable, HeldPushesTable, IdempotencyTable, Newcomers, NotificationsTable, PeopleEditor,
        PeopleTable, PostsTable, PreferencesTable, ReactionsTable, SessionsTable, SubscriptionsTable,
        UsersTable,
    },
    kafka::{KafkaAuth, KafkaPostLog},
    redis::{Redis, RedisHiddenCache, RedisPostCache, RedisPushShare, RedisRateLimiter, RedisTimelines},
    s3::{S3ImageStore, S3ImageUploads},
    ses::SesMailer,
    sns::SnsPushGateway,
    sqs::{
        SqsDepartureQueue, SqsDigestQueue, SqsPollQueue, SqsPushQueue, SqsPushQueues, SqsReactionQueue,
        SqsResetQueue, SqsStepQueue,
    },
};
use tocsin_domain::person::ProfileImageUrls;

use crate::settings::{Environment, Setting};

fn aws_config(_: &mut Environment<'_>) -> SdkConfig {
    aws::config()
}

macro_rules! tables {
    ($($table:ty = $name:literal;)*) => {$(
        impl Setting for $table {
            fn read(environment: &mut Environment<'_>) -> Option<Self> {
                let name = environment.required($name)?;
                let client = environment.shared(|environment| aws::dynamodb(&environment.shared(aws_config)));
                Some(Self::new(&client, name))
            }
        }
    )*};
}

tables! {
    CategoriesTable = "CATEGORIES_TABLE";
    DeliveriesTable = "DELIVERIES_TABLE";
    DeparturesTable = "DEPARTURES_TABLE";
    DevicesTable = "DEVICES_TABLE";
    FeedsTable = "FEEDS_TABLE";
    FriendshipsTable = "FRIENDSHIPS_TABLE";
    HeldPushesTable = "HELD_PUSHES_TABLE";
    IdempotencyTable = "IDEMPOTENCY_TABLE";
    NotificationsTable = "NOTIFICATIONS_TABLE";
    PeopleTable = "PEOPLE_TABLE";
    PostsTable = "POSTS_TABLE";
    PreferencesTable = "PREFERENCES_TABLE";
    ReactionsTable = "REACTIONS_TABLE";
    SessionsTable = "SESSIONS_TABLE";
    SubscriptionsTable = "SUBSCRIPTIONS_TABLE";
    UsersTable = "USERS_TABLE";
}

impl Setting for Newcomers {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let users = UsersTable::read(environment);
        let people = PeopleTable::read(environment);
        Some(Self::new(users?, people?))
    }
}

impl Setting for AddressEditor {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let users = UsersTable::read(environment);
        let people = PeopleTable::read(environment);
        Some(Self::new(users?, people?))
    }
}

impl Setting for Redis {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        environment.shared(|environment| {
            let url = environment.required(REDIS_URL).map(SecretString::from)?;
            let redis = Self::open(&url).map_err(|error| environment.refuse(REDIS_URL, error)).ok()?;
            environment.ahead({
                let redis = redis.clone();
                async move { redis.warm().await }
            });
            Some(redis)
        })
    }
}

const REDIS_URL: &str = "REDIS_URL";

impl Setting for RedisPostCache {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Redis::read(environment).map(|redis| Self::new(&redis))
    }
}

impl Setting for RedisHiddenCache {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Redis::read(environment).map(|redis| Self::new(&redis))
    }
}

impl Setting for RedisPushShare {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let per_second = environment.required(BULK_PUSHES_PER_SECOND)?.parse();
        let refuse = |_| environment.refuse(BULK_PUSHES_PER_SECOND, "is no whole number from 1 on");
        let per_second = per_second.map_err(refuse).ok()?;
        Redis::read(environment).map(|redis| Self::new(&redis, per_second))
    }
}

const BULK_PUSHES_PER_SECOND: &str = "BULK_PUSHES_PER_SECOND";

impl Setting for RedisRateLimiter {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Redis::read(environment).map(|redis| Self::new(&redis))
    }
}

impl Setting for RedisTimelines {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        Redis::read(environment).map(|redis| Self::new(&redis))
    }
}

impl Setting for KafkaPostLog {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let bootstrap_servers = environment.required("KAFKA_BOOTSTRAP_SERVERS");
        let auth = kafka_auth(environment);
        let topic = environment.required("POSTS_TOPIC");
        let log = Self::new(bootstrap_servers?, auth?, topic?);
        environment.ahead({
            let log = log.clone();
            async move { log.warm().await }
        });
        Some(log)
    }
}

fn kafka_auth(environment: &mut Environment<'_>) -> Option<KafkaAuth> {
    let name = "KAFKA_AUTH";
    match environment.required(name)?.as_str() {
        "none" => Some(KafkaAuth::None),
        "iam" => Some(KafkaAuth::Iam),
        "scram" => {
            kafka_user(environment).map(|(username, password)| KafkaAuth::Scram { username, password })
        }
        "plain" => {
            kafka_user(environment).map(|(username, password)| KafkaAuth::Plain { username, password })
        }
        _ => {
            environment.refuse(name, "must be none, iam, scram or plain");
            None
        }
    }
}

fn kafka_user(environment: &mut Environment<'_>) -> Option<(String, SecretString)> {
    let username = environment.required("KAFKA_USERNAME");
    let password = environment.required("KAFKA_PASSWORD").map(SecretString::from);
    username.zip(password)
}

impl Setting for PeopleEditor {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let people = environment.required("PEOPLE_TABLE");
        let users = environment.required("USERS_TABLE");
        let client = environment.shared(|environment| aws::dynamodb(&environment.shared(aws_config)));
        Some(Self::new(&client, people?, users?))
    }
}

impl Setting for ProfileImageUrls {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        environment.required("PROFILE_IMAGES_URL").map(|url| Self::new(&url))
    }
}

impl Setting for S3ImageUploads {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let bucket = environment.required(IMAGES_BUCKET)?;
        Some(Self::new(&environment.shared(aws_config), bucket))
    }
}

impl Setting for S3ImageStore {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let bucket = environment.required(IMAGES_BUCKET)?;
        Some(Self::new(&environment.shared(aws_config), bucket))
    }
}

const IMAGES_BUCKET: &str = "PROFILE_IMAGES_BUCKET";

impl Setting for SqsDepartureQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("DEPARTURES_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsDigestQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("DIGEST_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsPollQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("POLL_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsResetQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("PASSWORD_RESET_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsStepQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("FAN_OUT_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsReactionQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("REACTIONS_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsPushQueue {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let url = environment.required("PUSH_QUEUE_URL")?;
        Some(Self::new(&environment.shared(aws_config), url))
    }
}

impl Setting for SqsPushQueues {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let prompt = SqsPushQueue::read(environment);
        let bulk = environment.required("BULK_PUSH_QUEUE_URL")?;
        let bulk = SqsPushQueue::new(&environment.shared(aws_config), bulk);
        Some(Self { prompt: prompt?, bulk })
    }
}

impl Setting for SnsPushGateway {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let apns = environment.required("APNS_APPLICATION_ARN");
        let fcm = environment.required("FCM_APPLICATION_ARN");
        Some(Self::new(&environment.shared(aws_config), apns?, fcm?))
    }
}

impl Setting for SesMailer {
    fn read(environment: &mut Environment<'_>) -> Option<Self> {
        let from = environment.required("MAIL_FROM")?;
        Some(Self::new(&environment.shared(aws_config), from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsError, read_from};

    fn read<S: Setting>(variables: &[(&str, &str)]) -> Result<S, SettingsError> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        read_from(&get).map(|(settings, _)| settings)
    }

    #[test]
    fn everything_that_is_wrong_is_named_once() {
        let variables = [("REDIS_URL", "http://:secret@host"), ("POSTS_TABLE", " "), ("KAFKA_AUTH", "scram")];
        let read =
            read::<(PostsTable, RedisTimelines, RedisPostCache, KafkaPostLog, SnsPushGateway)>(&variables);
        let error = read.map(drop).unwrap_err().to_string();
        for missing in [
            "POSTS_TABLE",
            "KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_USERNAME",
            "KAFKA_PASSWORD",
            "POSTS_TOPIC",
            "APNS_APPLICATION_ARN",
            "FCM_APPLICATION_ARN",
        ] {
            assert!(error.contains(&format!("{missing} is missing")), "{missing}: {error}");
        }
        assert_eq!(error.matches("REDIS_URL").count(), 1, "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn what_is_there_is_read() {
        let variables = [
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("POSTS_TABLE", "posts"),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ("KAFKA_AUTH", "none"),
            ("POSTS_TOPIC", "posts"),
        ];
        read::<(PostsTable, RedisTimelines, RedisRateLimiter, KafkaPostLog)>(&variables).map(drop).unwrap();
    }
}
