//! What happens between an event source and its function in the cloud, rarely, and here when a test wants it: an event is
//! delivered at least once, and that is all that is promised.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join};

use super::invoker::Invoke;
use crate::runtime::{FunctionError, Invocation, InvokeError};

/// What happens to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is delivered twice, at the same time: two receives of a message, or two owners of a partition.
    Twice,
    /// The function does its work, and nobody hears of it: the event comes again.
    AnswerLost,
}

/// Says what happens to the next event of a function, named as in the template.
pub type Mishaps = Arc<dyn Fn(&str) -> Option<Mishap> + Send + Sync>;

/// A function to which things happen.
pub(super) struct Unlucky<F> {
    pub(super) function: F,
    pub(super) name: String,
    pub(super) mishaps: Mishaps,
}

impl<F: Invoke> Invoke for Unlucky<F> {
    fn invoke(&self, event: Bytes) -> BoxFuture<'_, Result<Invocation, InvokeError>> {
        Box::pin(async move {
            match (self.mishaps)(&self.name) {
                None => self.function.invoke(event).await,
                Some(Mishap::Twice) => {
                    let (_, second) =
                        join(self.function.invoke(event.clone()), self.function.invoke(event)).await;
                    second
                }
                Some(Mishap::AnswerLost) => {
                    let request_id = self.function.invoke(event).await?.request_id;
                    Err(InvokeError::Function(FunctionError {
                        request_id,
                        error_type: "Runtime.ExitError".to_owned(),
                        message: "the answer was lost".to_owned(),
                        payload: Bytes::new(),
                        // It has ended its work.
                        reported: true,
                    }))
                }
            }
        })
    }

    fn arn(&self) -> &str {
        self.function.arn()
    }
}
