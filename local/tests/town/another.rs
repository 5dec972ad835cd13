//! Which test tries each route with an id in its path as somebody whose thing it is not.

/// Each route of the contract that needs a token and has an id in its path, with the test that holds it: `file::test` of
/// this folder. `identity::every_route_with_an_id_is_tried_as_another_user` fails where one is missing, and where the test
/// is: who adds a route adds its line here, and the test.
pub(crate) const TRIED: &[(&str, &str)] = &[
    // A post is for everybody; a category and a feed, for moderators.
    ("GET /v1/posts/{post_id}", "pipeline::a_post_is_read_at_once_listed_near_and_kept"),
    ("PATCH /v1/posts/{post_id}", "posts::only_its_author_and_moderators_change_a_post"),
    ("DELETE /v1/posts/{post_id}", "posts::only_its_author_and_moderators_change_a_post"),
    ("GET /v1/posts/{post_id}/deliveries", "posts::its_author_sees_what_became_of_its_pushes"),
    ("POST /v1/posts/{post_id}/resolve", "posts::only_its_author_and_moderators_change_a_post"),
    ("POST /v1/posts/{post_id}/cancel", "posts::only_its_author_and_moderators_change_a_post"),
    ("PUT /v1/posts/{post_id}/confirmation", "reactions::each_person_confirms_once_and_all_see_how_many"),
    ("DELETE /v1/posts/{post_id}/confirmation", "reactions::each_person_confirms_once_and_all_see_how_many"),
    ("PUT /v1/posts/{post_id}/flag", "reactions::many_flags_withhold_a_post_until_a_moderator_decides"),
    ("PUT /v1/moderation/posts/{post_id}", "reactions::many_flags_withhold_a_post_until_a_moderator_decides"),
    ("PUT /v1/categories/{category}", "identity::nobody_touches_anothers_things"),
    ("GET /v1/feeds/{feed_id}", "feeds::feeds_are_for_moderators_alone"),
    ("PATCH /v1/feeds/{feed_id}", "feeds::feeds_are_for_moderators_alone"),
    ("DELETE /v1/feeds/{feed_id}", "feeds::feeds_are_for_moderators_alone"),
    ("POST /v1/feeds/{feed_id}/poll", "feeds::feeds_are_for_moderators_alone"),
    ("PATCH /v1/subscriptions/{subscription_id}", "identity::nobody_touches_anothers_things"),
    ("DELETE /v1/subscriptions/{subscription_id}", "identity::nobody_touches_anothers_things"),
    ("DELETE /v1/auth/sessions/{session_id}", "accounts::a_person_sees_and_ends_their_sessions"),
    ("GET /v1/users/{user_id}", "people::each_field_is_shown_to_whom_its_owner_shows_it"),
    ("POST /v1/posts/{post_id}/share", "friends::somebody_who_blocks_is_like_nobody"),
    ("GET /v1/friendships/{user_id}", "friends::people_ask_answer_and_part"),
    ("DELETE /v1/friendships/{user_id}", "friends::people_ask_answer_and_part"),
    ("POST /v1/friendships/{user_id}/accept", "friends::people_ask_answer_and_part"),
    ("GET /v1/users/{user_id}/friends", "friends::somebody_who_blocks_is_like_nobody"),
    ("GET /v1/users/{user_id}/mutual-friends", "friends::somebody_who_blocks_is_like_nobody"),
    ("PUT /v1/blocks/{user_id}", "friends::somebody_who_blocks_is_like_nobody"),
    ("DELETE /v1/blocks/{user_id}", "friends::somebody_who_blocks_is_like_nobody"),
    ("PUT /v1/devices/{device_id}", "identity::nobody_touches_anothers_things"),
    ("DELETE /v1/devices/{device_id}", "identity::nobody_touches_anothers_things"),
];
