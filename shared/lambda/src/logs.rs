//! Logs: one JSON object a line, on stdout, in the form that Lambda's JSON logging expects (`timestamp`, `level`,
//! `message`), with the invocation that a line belongs to.

use std::env;

use tracing::{Level, Span, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Begins to log. The level is `RUST_LOG`'s, which may name modules too (`info,krafka=debug`), or else
/// `AWS_LAMBDA_LOG_LEVEL`'s.
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
        .with(lines)
        .try_init()
        .ok();
}

fn targets(text: &str) -> Option<Targets> {
    // Lambda's own scale ends with FATAL.
    let text = if text.eq_ignore_ascii_case("fatal") { "error" } else { text };
    text.parse().ok().filter(|_| !text.is_empty())
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
}
