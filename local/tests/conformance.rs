//! What is kept, queued, sent and logged outside of DynamoDB does what the ports promise, over the services that a stack
//! runs. (The tables have their suite in `tocsin-adapters`, where their storage is embedded.)

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod town;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use local::stack::Stack;
use proptest::{strategy::Strategy as _, strategy::ValueTree as _, test_runner::TestRunner};
use tocsin_adapters::{
    kafka::{KafkaAuth, KafkaPostLog},
    memory::MemoryTimelines,
    redis::{Redis, RedisHiddenCache, RedisPostCache, RedisPushShare, RedisRateLimiter, RedisTimelines},
    ses::SesMailer,
    sns::SnsPushGateway,
    sqs::SqsPushQueue,
};
use tocsin_conformance::{fixtures, friendships, posts, pushes, rate_limits, timelines};
use tocsin_domain::{
    Error,
    device::{self, Device, DeviceToken, Platform},
    ids::{PostId, SubscriptionId},
    mail::{Mail, Mailer as _},
    notification::Because,
    post_log::{PostLog as _, PostRecord},
    posts::{AtHand, PostCache as _},
    push::{News, Published, Push, PushGateway as _, PushJob, PushQueue as _, PushRecipient},
    time,
};
use town::Town;

fn because() -> Because {
    Because::Subscription { subscription_id: SubscriptionId::new(time::now()) }
}

fn redis(stack: &Stack) -> Redis {
    Redis::open(&stack.endpoints().redis_url.clone().into()).unwrap()
}

#[tokio::test]
async fn what_redis_keeps_is_kept_as_promised() {
    let town = Town::up().await;
    let redis = redis(&town.stack);
    posts::cache(&RedisPostCache::new(&redis)).await;
    friendships::hidden_cache(&RedisHiddenCache::new(&redis)).await;
    rate_limits::rate_limits(&RedisRateLimiter::new(&redis)).await;
    pushes::share(&RedisPushShare::new(&redis, 10.try_into().unwrap())).await;
    timelines::timelines(&RedisTimelines::new(&redis)).await;
    timelines::merged(&RedisTimelines::new(&redis)).await;
    timelines::checked(&RedisTimelines::new(&redis).trusted_for(1)).await;

    // Operations in any order end in the same timeline, and in the one that memory has.
    let mut runner = TestRunner::default();
    for capacity in (1..8).cycle().take(128) {
        let in_redis = RedisTimelines::new(&redis).with_capacity(capacity);
        let in_memory = MemoryTimelines::default().with_capacity(capacity);
        let history = timelines::any_history().new_tree(&mut runner).unwrap().current();
        let end = timelines::any_order(&in_redis, &history).await;
        assert_eq!(end, timelines::any_order(&in_memory, &history).await);
    }
    town.down().await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_at_once_and_used_again_when_it_is_back() {
    let town = Town::up().await;
    let cache = RedisPostCache::new(&redis(&town.stack));
    let id = PostId::new(time::now());
    assert_eq!(cache.get(&[id]).await.unwrap(), AtHand::default());

    town.stack.stop_redis().await;
    for _ in 0..3 {
        let since = Instant::now();
        assert!(cache.get(&[id]).await.is_err());
        // No wait for a reconnection: with it, a request would have nothing left of its time.
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    }
    town.stack.start_redis().await.unwrap();
    let back = async {
        while cache.get(&[id]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(town::PATIENCE, back).await.expect("it is used again");

    // Restarted while nobody looked, as when a function was frozen: nobody notices.
    town.stack.stop_redis().await;
    town.stack.start_redis().await.unwrap();
    assert_eq!(cache.get(&[id]).await.unwrap(), AtHand::default());
    town.down().await;
}

#[tokio::test]
async fn the_log_has_what_was_appended_and_nothing_is_said_to_be_in_it_that_is_not() {
    let town = Town::up().await;
    let servers = &town.stack.endpoints().bootstrap_servers;
    let log = KafkaPostLog::new(servers, KafkaAuth::None, "posts");
    let records: Vec<_> = (0..20).map(|_| PostRecord::created(fixtures::post())).collect();
    for record in &records {
        log.append(record).await.unwrap();
    }
    let mut appended = BTreeMap::new();
    let consumer = town.stack.kafka().consumer_without_group().build().await.unwrap();
    let partitions: Vec<_> = (0..4).collect();
    consumer.assign("posts", partitions.clone()).await.unwrap();
    for partition in partitions {
        consumer.seek_to_beginning("posts", partition).await.unwrap();
    }
    let read = async {
        while appended.len() < records.len() {
            for record in consumer.poll(Duration::from_millis(500)).await.unwrap() {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                if key != "heartbeat" {
                    appended.insert(key, PostRecord::from_json(&record.value.unwrap()).unwrap());
                }
            }
        }
    };
    tokio::time::timeout(town::PATIENCE, read).await.expect("all are there");
    let expected = records.into_iter().map(|record| (record.key(), record)).collect();
    assert_eq!(appended, expected);

    town.stack.stop_broker().await;
    let since = Instant::now();
    assert!(log.append(&PostRecord::created(fixtures::post())).await.is_err());
    // It must be told within the time of a request.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    town.stack.start_broker().await.unwrap();
    log.append(&PostRecord::created(fixtures::post())).await.unwrap();
    town.down().await;
}

#[tokio::test]
async fn every_push_job_is_queued() {
    let town = Town::up().await;
    let config = town.stack.endpoints().sdk_config("SQS");
    let client = aws_sdk_sqs::Client::new(&config);
    let made = client.create_queue().queue_name("conformance").send().await.unwrap();
    let url = made.queue_url.unwrap();
    let recipient = |_| PushRecipient { user_id: fixtures::user(), because: because() };
    // More than one request takes, and some large.
    let job = |number: usize| {
        let count = if number.is_multiple_of(2) { 1 } else { PushJob::MOST_RECIPIENTS };
        fixtures::job(&fixtures::post(), (0..count).map(recipient).collect())
    };
    let jobs: Vec<_> = (0..25).map(job).collect();
    SqsPushQueue::new(&config, &url).enqueue(&jobs).await.unwrap();

    let mut queued: Vec<PushJob> = Vec::new();
    let until = Instant::now() + town::PATIENCE;
    while queued.len() < jobs.len() && Instant::now() < until {
        let received = client.receive_message().queue_url(&url).max_number_of_messages(10).send().await;
        let received = received.unwrap();
        queued.extend(
            received.messages().iter().map(|message| serde_json::from_str(message.body().unwrap()).unwrap()),
        );
    }
    queued.sort_by_key(|queued| jobs.iter().position(|job| job == queued));
    assert_eq!(queued, jobs);
    town.down().await;
}

#[tokio::test]
async fn a_device_has_one_endpoint_and_hears_of_its_end() {
    let town = Town::up().await;
    let functions = &town.stack.app().functions;
    let application =
        |name: &str| functions.iter().find_map(|function| function.environment.get(name)).unwrap();
    let gateway = SnsPushGateway::new(
        &town.stack.endpoints().sdk_config("SNS"),
        application("APNS_APPLICATION_ARN"),
        application("FCM_APPLICATION_ARN"),
    );
    let now = time::now();
    let elsewhere = application("APNS_APPLICATION_ARN").replace("/tocsin-local", "/tocsin-elsewhere");
    let one_platform = SnsPushGateway::new(
        &town.stack.endpoints().sdk_config("SNS"),
        elsewhere,
        application("FCM_APPLICATION_ARN"),
    );
    let token = DeviceToken { platform: Platform::Apns, token: "of-no-platform".to_owned() };
    let refused = one_platform.register(fixtures::user(), &"phone".parse().unwrap(), &token).await;
    assert!(matches!(refused, Err(Error::Refused(refusal)) if refusal == device::no_platform()));
    for platform in [Platform::Apns, Platform::Fcm] {
        let (ada, eve) = (fixtures::user(), fixtures::user());
        let token = DeviceToken { platform, token: format!("{platform:?}-token") };
        let device_id = "phone".parse().unwrap();
        let endpoint = gateway.register(ada, &device_id, &token).await.unwrap();
        assert_eq!(gateway.register(ada, &device_id, &token).await.unwrap(), endpoint);
        // Eve signs in on Ada's phone.
        assert_eq!(gateway.register(eve, &device_id, &token).await.unwrap(), endpoint);

        let device = Device { device_id, token, endpoint, created_at: now, updated_at: now };
        let because = because();
        let push = Push {
            post: fixtures::post(),
            news: News::Posted,
            because,
            time_to_live: Duration::from_mins(5),
        };
        assert_eq!(gateway.publish(&device, &push).await.unwrap(), Published::Accepted);
        assert_eq!(town.pushes().await.last(), Some(&("phone".to_owned(), push.post.post_id.to_string())));

        let sns = aws_sdk_sns::Client::new(&town.stack.endpoints().sdk_config("SNS"));
        let off =
            sns.set_endpoint_attributes().endpoint_arn(&device.endpoint.0).attributes("Enabled", "false");
        off.send().await.unwrap();
        assert_eq!(gateway.publish(&device, &push).await.unwrap(), Published::EndpointDisabled);
        let again = gateway.register(eve, &device.device_id, &device.token).await.unwrap();
        assert_eq!(again, device.endpoint, "and switched on");
        assert_eq!(gateway.publish(&device, &push).await.unwrap(), Published::Accepted);

        gateway.unregister(&device.endpoint).await.unwrap();
        gateway.unregister(&device.endpoint).await.unwrap();
        assert_eq!(gateway.publish(&device, &push).await.unwrap(), Published::EndpointMissing);
    }
    town.down().await;
}

#[tokio::test]
async fn a_mail_arrives_as_it_was_written() {
    let town = Town::up().await;
    let functions = &town.stack.app().functions;
    let from = functions.iter().find_map(|function| function.environment.get("MAIL_FROM")).unwrap();
    let mail = Mail {
        to: "ada@example.org".parse().unwrap(),
        subject: "Røyk over havna ❗".to_owned(),
        body: "First line,\n\nand \"another\".\n".to_owned(),
    };
    SesMailer::new(&town.stack.endpoints().sdk_config("SESV2"), from).send(&mail).await.unwrap();
    let outbox = town.stack.outbox().unwrap().read().await.unwrap();
    let newest = outbox["emails"].as_array().unwrap().last().unwrap();
    assert_eq!(newest["to"], mail.to.as_str());
    assert_eq!((&newest["subject"], &newest["body"]), (&mail.subject.into(), &mail.body.into()));
    town.down().await;
}
