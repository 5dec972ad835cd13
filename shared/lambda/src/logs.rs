//! Logs: one JSON object a line, on stdout, in the form that Lambda's JSON logging expects (`timestamp`, `level`,
//! `message`), with the invocation that a line belongs to.

use std::env;

use tracing::{Level, Span, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::metrics;

/// Crates that trace what they carry: bodies of requests with passwords and tokens, headers, credentials.
const CARRIERS: [&str; 9] =
    ["aws_", "h2", "hyper", "krafka", "lambda_runtime", "redis", "reqwest", "rustls", "tower"];

/// Begins to log. The level is `RUST_LOG`'s, which may name modules too (`info,krafka=debug`), or else
/// `AWS_LAMBDA_LOG_LEVEL`'s. What carries our requests logs no more than INFO, unless it is named.
pub fn begin() {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_ansi(false)
        .with_current_span(true)
        .with_span_list(false);
    let level =
        ["RUST_LOG", "AWS_LAMBDA_LOG_LEVEL"].into_iter().find_map(|name| targets(&env::var(name).ok()?));
    // It fails only where somebody logs already, as tests do.
    tracing_subscriber::registry()
        .with(level.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
        .with(metrics::OfWarnings)
        .with(lines)
        .try_init()
        .ok();
}

fn targets(text: &str) -> Option<Targets> {
    // Lambda's own scale ends with FATAL.
    let text = if text.eq_ignore_ascii_case("fatal") { "error" } else { text };
    text.parse().ok().filter(|_| !text.is_empty()).map(discreet)
}

fn discreet(targets: Targets) -> Targets {
    let level = targets.default_level().unwrap_or(LevelFilter::OFF).min(LevelFilter::INFO);
    let is_named = |carrier: &&str| targets.iter().any(|(target, _)| target == *carrier);
    let unnamed: Vec<_> = CARRIERS.into_iter().filter(|carrier| !is_named(carrier)).collect();
    targets.with_targets(unnamed.into_iter().map(|carrier| (carrier, level)))
}

/// What every line of an invocation carries. A span of the highest level, so that it is there whatever is logged.
#[must_use]
pub fn invocation(request_id: &str) -> Span {
    tracing::span!(Level::ERROR, "invocation", request_id, function = function_name())
}

/// The function's name, as AWS gives it.
#[must_use]
pub fn function_name() -> String {
    env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_lambda_and_rust_write_them() {
        let debug = targets("DEBUG").unwrap();
        assert!(debug.would_enable("anything", &Level::DEBUG));
        let module = targets("info,krafka=debug").unwrap();
        assert!(module.would_enable("krafka", &Level::DEBUG) && !module.would_enable("redis", &Level::DEBUG));
        assert!(!targets("FATAL").unwrap().would_enable("anything", &Level::WARN));
        assert!(targets("").is_none());
    }

    #[test]
    fn what_carries_requests_traces_them_only_if_it_is_named() {
        let trace = targets("TRACE").unwrap();
        assert!(trace.would_enable("tocsin_domain::posts", &Level::TRACE));
        for carrier in ["lambda_runtime::layers", "aws_smithy_runtime::client", "hyper_util::client", "h2"] {
            assert!(!trace.would_enable(carrier, &Level::DEBUG), "{carrier}");
            assert!(trace.would_enable(carrier, &Level::INFO), "{carrier}");
            assert!(!targets("warn").unwrap().would_enable(carrier, &Level::INFO), "{carrier}");
        }
        let named = targets("trace,redis=debug,aws_sdk_sqs=trace").unwrap();
        assert!(
            named.would_enable("redis::aio", &Level::DEBUG) && !named.would_enable("redis", &Level::TRACE)
        );
        assert!(named.would_enable("aws_sdk_sqs", &Level::TRACE) && !named.would_enable("h2", &Level::TRACE));
    }
}
