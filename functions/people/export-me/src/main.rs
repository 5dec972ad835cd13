//! `GET /v1/users/me/export?limit&cursor`: 200 with a page of everything that is kept of the caller.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DevicesTable, FriendshipsTable, HeldPushesTable, NotificationsTable, PeopleTable,
        PostsTable, PreferencesTable, ReactionsTable, SessionsTable, SubscriptionsTable, UsersTable,
    },
    redis::RedisRateLimiter,
};
use tocsin_domain::{
    Result,
    export::{self, Export},
    person::ProfileImageUrls,
    time,
};
use tocsin_lambda::{callers::Callers, limits, request::Request, response::Response, start};

type Ports = (Callers, RedisRateLimiter, Person, Things, Wishes);
type Person = (UsersTable, PeopleTable, ProfileImageUrls, SessionsTable, FriendshipsTable);
type Things =
    (DevicesTable, SubscriptionsTable, NotificationsTable, DeliveriesTable, PostsTable, ReactionsTable);
type Wishes = (PreferencesTable, HeldPushesTable);

fn main() -> ExitCode {
    start::http(export_me)
}

async fn export_me(ports: &Ports, request: &Request) -> Result<Response> {
    let (callers, limiter, person, things, (preferences, held)) = ports;
    let caller = request.caller(callers).await?;
    let (users, people, images, sessions, friendships) = person;
    let (devices, subscriptions, inbox, deliveries, stored, reactions) = things;
    let page = async {
        let mut query = request.query();
        let limit = query.limit();
        let after = query.cursor(Some(export::scope(caller.user_id)));
        query.finish()?;
        let export = Export {
            users,
            people,
            images,
            sessions,
            devices,
            subscriptions,
            preferences,
            held,
            friendships,
            inbox,
            deliveries,
            posts: stored,
            reactions,
        };
        export.page(caller.user_id, after, limit, time::now()).await
    };
    // No cache keeps it.
    Response::ok(&limits::read(limiter, &caller, page).await?)
}
