//! Every sample in `events/` is replayed, as `cargo run -p local -- replay` does it.

mod town;

use std::path::Path;

use local::replay::{Replayed, Samples};
use serde_json::json;
use town::Town;

/// Each function, and the status that its sample gets; none for those that are not asked by HTTP. In this order: some need
/// what those before them leave.
const SAMPLES: [(&str, Option<u64>); 90] = [
    ("get-status", Some(200)),
    ("get-openapi", Some(200)),
    ("get-docs", Some(200)),
    ("get-docs-asset", Some(200)),
    ("get-jwks", Some(200)),
    ("send-heartbeat", None),
    ("register", Some(201)),
    // The sample's token is nobody's.
    ("verify-email", Some(400)),
    // Registered by the sample before, and not verified.
    ("login", Some(403)),
    ("renew-session", Some(200)),
    ("list-sessions", Some(200)),
    // The sample's session is nobody's.
    ("end-session", Some(404)),
    ("request-password-reset", Some(202)),
    ("mail-password-reset", None),
    // The sample's token is nobody's.
    ("confirm-password-reset", Some(400)),
    // The sample's password is not the person's: it stays as it is, for other samples.
    ("change-password", Some(422)),
    ("request-email-change", Some(202)),
    ("confirm-email-change", Some(400)),
    // `local` has no client at Google or Apple.
    ("begin-google-sign-in", Some(404)),
    ("complete-google-sign-in", Some(404)),
    ("sign-in-with-apple", Some(404)),
    ("list-categories", Some(200)),
    // Only moderators may.
    ("put-category", Some(403)),
    ("list-feeds", Some(403)),
    ("create-feed", Some(403)),
    ("get-feed", Some(403)),
    ("update-feed", Some(403)),
    ("delete-feed", Some(403)),
    ("request-feed-poll", Some(403)),
    ("schedule-feeds", None),
    // The sample's feed is not there.
    ("poll-feed", None),
    ("create-subscription", Some(201)),
    ("list-subscriptions", Some(200)),
    // The sample's subscription is nobody's.
    ("update-subscription", Some(404)),
    ("delete-subscription", Some(404)),
    ("put-device", Some(201)),
    ("list-devices", Some(200)),
    ("get-notification-preferences", Some(200)),
    ("put-notification-preferences", Some(200)),
    ("ingest-posts", None),
    ("load-timelines", None),
    ("notify-subscribers", None),
    ("deliver-push", None),
    ("release-held-pushes", None),
    // Nothing is held for the sample's person.
    ("deliver-digest", None),
    ("get-post", Some(200)),
    // The sample's post is another's.
    ("get-deliveries", Some(403)),
    ("list-posts", Some(200)),
    ("list-events", Some(200)),
    ("get-timeline", Some(200)),
    ("create-post", Some(202)),
    ("continue-fan-out", None),
    ("delete-device", Some(204)),
    ("get-me", Some(200)),
    ("update-me", Some(200)),
    // The sample's people are nobody's.
    ("get-user", Some(404)),
    ("list-users", Some(200)),
    ("search-users", Some(200)),
    ("create-profile-image-upload", Some(201)),
    ("accept-profile-image", None),
    ("delete-profile-image", Some(204)),
    // The sample's friend is nobody.
    ("create-friendship", Some(404)),
    ("get-friendship", Some(404)),
    ("accept-friendship", Some(404)),
    ("delete-friendship", Some(204)),
    ("list-friendships", Some(200)),
    ("list-user-friends", Some(404)),
    ("list-mutual-friends", Some(404)),
    ("put-block", Some(404)),
    ("delete-block", Some(204)),
    ("list-blocks", Some(200)),
    ("share-post", Some(422)),
    ("put-confirmation", Some(204)),
    ("put-flag", Some(204)),
    ("delete-confirmation", Some(204)),
    ("count-reactions", None),
    // Only moderators may.
    ("list-flagged-posts", Some(403)),
    ("decide-flagged-post", Some(403)),
    // The sample's post is another's.
    ("update-post", Some(403)),
    ("resolve-post", Some(403)),
    ("cancel-post", Some(403)),
    ("delete-post", Some(403)),
    ("list-notifications", Some(200)),
    ("mark-notifications-read", Some(204)),
    ("end-sessions", Some(204)),
    ("logout", Some(204)),
    ("export-me", Some(200)),
    ("erase-account", None),
    ("resume-departures", None),
    // Last: who sends the samples leaves.
    ("delete-me", Some(202)),
];

#[tokio::test]
async fn every_sample_is_answered() {
    let events = Path::new(town::ROOT).join("events");
    let mut files: Vec<_> = std::fs::read_dir(&events)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    files.sort();
    let mut names = SAMPLES.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(files, names, "a sample for each function");

    let town = Town::up().await;
    let samples = Samples::new(&town.api);
    for (name, status) in SAMPLES {
        let Replayed { failed, answer, .. } =
            samples.send(&events.join(format!("{name}.json"))).await.unwrap();
        assert!(!failed, "{name}: {answer}");
        match status {
            Some(status) => assert_eq!(answer["statusCode"], status, "{name}: {answer}"),
            None => assert!(
                answer.is_null() || answer["batchItemFailures"] == json!([]),
                "{name} did not do its whole batch: {answer}"
            ),
        }
    }
    town.down().await;
}
