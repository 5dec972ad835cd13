//! Consumes the queue of departures: erases what is kept of who leaves, and lets the log know of their posts.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DeparturesTable, DevicesTable, FriendshipsTable, HeldPushesTable,
        NotificationsTable, PeopleTable, PostsTable, PreferencesTable, ReactionsTable, SessionsTable,
        SubscriptionsTable, UsersTable,
    },
    kafka::KafkaPostLog,
    redis::RedisTimelines,
    s3::S3ImageStore,
    sns::SnsPushGateway,
    sqs::{SqsDepartureQueue, SqsReactionQueue},
};
use tocsin_domain::{
    Result,
    departure::{self, AccountCloser as _, Departing, DepartureJob, long_step, step},
    friendship,
    held_push::HeldPushEraser as _,
    person::ProfileEraser as _,
    preferences::PreferencesEditor as _,
    profile_image, reaction, session, time,
};
use tocsin_lambda::start;

type Ports = (Person, Things, Wishes, Outside, Reactions);
type Person = (UsersTable, SessionsTable, PeopleTable, S3ImageStore, FriendshipsTable);
type Things = (DevicesTable, SubscriptionsTable, NotificationsTable, DeliveriesTable, PostsTable);
type Wishes = (PreferencesTable, HeldPushesTable);
type Outside = (SnsPushGateway, RedisTimelines, KafkaPostLog, DeparturesTable, SqsDepartureQueue);
type Reactions = (ReactionsTable, SqsReactionQueue);

fn main() -> ExitCode {
    start::messages(erase_account)
}

async fn erase_account(ports: &Ports, job: DepartureJob) -> Result<()> {
    let (person, things, wishes, outside, reactions) = ports;
    let (users, sessions, people, images, friendships) = person;
    let (devices, subscriptions, inbox, deliveries, stored) = things;
    let (preferences, held) = wishes;
    let (gateway, timelines, log, departures, queue) = outside;
    let (reactions, counting) = reactions;
    let (owner, now) = (job.user_id, time::now());
    let steps = vec![
        step("account", users.close(owner)),
        step("sessions", session::end_all(sessions, owner, None, now)),
        step("preferences", preferences.erase(owner)),
        step("held pushes", held.erase(owner)),
        step("reactions", reaction::erase(reactions, counting, owner)),
        step("profile", async { people.erase(owner).await.map(drop) }),
        step("images", profile_image::remove_all(images, owner)),
        step("devices", departure::erase_devices(devices, gateway, owner)),
        step("subscriptions", departure::erase_subscriptions(subscriptions, owner)),
        step("timeline", departure::erase_timeline(timelines, owner)),
        long_step("notifications", departure::erase_inbox(inbox, deliveries, owner, now)),
        // Without a profile nobody new asks them.
        long_step("friendships", friendship::forget(friendships, friendships, owner, now)),
    ];
    Departing { index: stored, posts: stored, log, departures, queue }.go_on(job, steps, now).await
}
