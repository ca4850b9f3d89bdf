//! Wake-ups: a hint that something in the ledger may have changed.
//!
//! Here lives the counter that followers wait on. A hint may be lost or false; the tables are the truth, so
//! whoever waits also looks again after a while by itself.

use std::time::Duration;
use tokio::sync::watch;

/// A subscription to hints that the ledger has changed.
#[derive(Debug, Clone)]
pub struct Changes(pub(crate) watch::Receiver<u64>);

impl Changes {
    /// Waits for the next hint, at most `limit`.
    pub async fn wait(&mut self, limit: Duration) {
        // A closed channel means that the store is being closed: then only the time limit ends the wait.
        match tokio::time::timeout(limit, self.0.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(limit).await,
        }
    }
}

/// The sending side: bumped after every commit here and on every hint from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(crate) fn new() -> Bell {
        Bell(watch::Sender::new(0))
    }

    pub(crate) fn ring(&self) {
        self.0.send_modify(|n| *n += 1);
    }

    pub(crate) fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}
