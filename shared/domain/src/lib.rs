//! The rules of Tocsin, with no I/O.
//!
//! A type that exists is valid: what comes from outside is parsed into these types once, and only they are passed on.
//! A trait is a port: one capability that a use case needs, in this domain's words, as narrow as its callers are.
//! `tocsin-adapters` implements the ports over DynamoDB, Redis, Kafka, SQS, SNS, SES and S3, and, for tests, in
//! memory; both pass the same conformance suite.

pub mod access_token;
pub mod account;
pub mod area;
pub mod audience;
pub mod category;
pub mod cover;
pub mod cursor;
pub mod delivery;
pub mod delivery_counts;
pub mod departure;
pub mod device;
pub mod digest;
pub mod email_change;
pub mod error;
pub mod event_index;
pub mod events;
pub mod export;
pub mod fan_out;
pub mod feed;
pub mod feed_fetch;
pub mod feed_item;
pub mod feed_life;
pub mod feed_poll;
pub mod feed_post;
pub mod feed_print;
pub mod feeds;
pub mod friends;
pub mod friendship;
pub mod held_push;
pub mod identity;
pub mod ids;
pub mod input;
pub mod large_audience;
pub mod mail;
pub mod merge;
pub mod moderation;
pub mod near;
pub mod notification;
pub mod notifying;
pub mod outside_sign_in;
pub mod password;
pub mod password_change;
pub mod password_reset;
pub mod person;
pub mod person_search;
pub mod place;
pub mod place_index;
pub mod post;
pub mod post_edit;
pub mod post_life;
pub mod post_log;
pub mod posts;
pub mod preferences;
pub mod profile_image;
pub mod profile_patch;
pub mod push;
pub mod push_turn;
pub mod quiet_hours;
pub mod rate_limit;
pub mod reaction;
pub mod secret;
pub mod session;
pub mod sharing;
pub mod subscription;
pub mod subscriptions;
pub mod time;
pub mod timeline;
pub mod timeline_loading;
mod vector;

pub use error::{Error, Refusal, Result};
