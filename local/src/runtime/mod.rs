//! Runs the function binaries as AWS Lambda does: each is a process of its own that asks the Runtime API for its next
//! event, handles one at a time, and is killed when it takes too long.
//!
//! A function cannot tell this from the cloud: the environment, the headers and the errors are those of AWS
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>). Each process has a listener of its own, so
//! that its requests need no name in them and every runtime, of any language, finds the API where AWS puts it:
//! `AWS_LAMBDA_RUNTIME_API=host:port`.

mod environment;
mod fleet;
pub mod invoke_api;
mod logs;
mod process;
mod runtime_api;
pub(crate) mod server;

pub use fleet::{Capacity, Fleet, FleetOptions, FunctionError, Invocation, InvokeError, Program};
pub use logs::{LogLevel, Logs};

/// The most bytes that an event or an answer may have: 6 MiB and 100 bytes
/// (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>).
pub const MAX_PAYLOAD: usize = 6_291_556;
