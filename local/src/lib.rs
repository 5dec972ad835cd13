//! Runs template.yaml on one machine: starts the services that it needs, makes what it declares in them, runs the
//! functions' binaries, and does around them what AWS does.

pub mod api_client;
pub mod bench;
pub mod builds;
pub mod checks;
pub mod cli;
pub mod cloud;
pub mod commands;
pub mod contract_examples;
pub mod data;
pub mod demo;
pub mod env_file;
pub mod event_sources;
pub mod http_api;
pub mod installation;
pub mod local_routes;
pub mod metrics;
pub mod outbox;
pub mod provision;
pub mod replay;
pub mod runtime;
pub mod scenario;
pub mod services;
pub mod signing_key;
pub mod stack;
pub mod template;
pub mod tools;
