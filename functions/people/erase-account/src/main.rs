//! Consumes the queue of departures: erases what is kept of who leaves, and lets the log know of their posts.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DeparturesTable, DevicesTable, FriendshipsTable, HeldPushesTable,
        NotificationsTable, PeopleTable, PostsTable, PreferencesTable, SessionsTable, SubscriptionsTable,
        UsersTable,
    },
    kafka::KafkaPostLog,
    redis::RedisTimelines,
    s3::S3ImageStore,
    sns::SnsPushGateway,
    sqs::SqsDepartureQueue,
};
use tocsin_domain::{
    Result,
    departure::{self, AccountCloser as _, Departing, DepartureJob, step},
    friendship,
    held_push::HeldPushEraser as _,
    person::ProfileEraser as _,
    preferences::PreferencesEditor as _,
    profile_image, session, time,
    timeline::TimelineEraser as _,
};
use tocsin_lambda::start;

type Ports = (Person, Things, Wishes, Outside);
type Person = (UsersTable, SessionsTable, PeopleTable, S3ImageStore, FriendshipsTable);
type Things = (DevicesTable, SubscriptionsTable, NotificationsTable, DeliveriesTable, PostsTable);
type Wishes = (PreferencesTable, HeldPushesTable);
type Outside = (SnsPushGateway, RedisTimelines, KafkaPostLog, DeparturesTable, SqsDepartureQueue);

fn main() -> ExitCode {
    start::messages(erase_account)
}

async fn erase_account((person, things, wishes, outside): &Ports, job: DepartureJob) -> Result<()> {
    let (users, sessions, people, images, friendships) = person;
    let (devices, subscriptions, inbox, deliveries, posts) = things;
    let (preferences, held) = wishes;
    let (gateway, timelines, log, departures, queue) = outside;
    let (owner, now) = (job.user_id, time::now());
    let steps = vec![
        step("account", users.close(owner)),
        step("sessions", session::end_all(sessions, owner, None, now)),
        step("devices", departure::erase_devices(devices, gateway, owner)),
        step("subscriptions", departure::erase_subscriptions(subscriptions, owner)),
        step("preferences", preferences.erase(owner)),
        step("held pushes", held.erase(owner)),
        step("timeline", timelines.forget(owner)),
        step("friendships", friendship::forget(friendships, friendships, owner, now)),
        step("notifications", departure::erase_inbox(inbox, deliveries, owner, now)),
        step("profile", async { people.erase(owner).await.map(drop) }),
        step("images", profile_image::remove_all(images, owner)),
    ];
    Departing { index: posts, posts, log, departures, queue }.go_on(job, steps, now).await
}
