//! What every function's `main` needs, so that it reads like its line in the contract.
//!
//! A function is a setup, that makes its adapters from its settings, and a handler. [`start`] has an entry point for each
//! kind of trigger: a request ([`request`], [`response`], [`problem`]), a batch of the log or of a queue ([`batch`]), a
//! schedule. Logs ([`logs`]) and metrics ([`metrics`]) are JSON lines on stdout.
//!
//! `lambda_http` is not used: it panics on some of the requests that API Gateway lets through (a URI that the `http` crate
//! refuses, a header that is not ASCII), and the client would get a bare 500 for them.

pub mod adapters;
pub mod asset;
pub mod batch;
pub mod callers;
pub mod deadline;
pub mod json;
pub mod limits;
pub mod logs;
pub mod metrics;
pub mod outside;
mod persistence;
pub mod problem;
pub mod query;
pub mod request;
pub mod response;
pub mod settings;
pub mod start;
