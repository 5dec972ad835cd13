//! `GET /v1/users/me/export?limit&cursor`: 200 with a page of everything that is kept of the caller.

use std::process::ExitCode;

use tocsin_adapters::{
    dynamodb::{
        DeliveriesTable, DevicesTable, FriendshipsTable, NotificationsTable, PeopleTable, PostsTable,
        ReactionsTable, SessionsTable, SubscriptionsTable, UsersTable,
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

type Ports = (Callers, RedisRateLimiter, Person, Things);
type Person = (UsersTable, PeopleTable, ProfileImageUrls, SessionsTable, FriendshipsTable);
type Things =
    (DevicesTable, SubscriptionsTable, NotificationsTable, DeliveriesTable, PostsTable, ReactionsTable);

fn main() -> ExitCode {
    start::http(export_me)
}

async fn export_me((callers, limiter, person, things): &Ports, request: &Request) -> Result<Response> {
    let caller = request.caller(callers).await?;
    let (users, people, images, sessions, friendships) = person;
    let (devices, subscriptions, inbox, deliveries, posts, reactions) = things;
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
            friendships,
            inbox,
            deliveries,
            posts,
            reactions,
        };
        export.page(caller.user_id, after, limit, time::now()).await
    };
    // No cache keeps it.
    Response::ok(&limits::read(limiter, &caller, page).await?)
}
