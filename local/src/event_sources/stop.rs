//! The wish of a source's owner that it ends.

use tokio::sync::watch;

/// Seen by everything that a source runs. An owner that is gone wants the end too.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    pub(super) fn new(owner: &watch::Sender<bool>) -> Self {
        Self(owner.subscribe())
    }

    pub(super) fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    pub(super) async fn requested(&self) {
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}
