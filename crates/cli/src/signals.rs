//! Ctrl-C and its relatives.
//!
//! Here lives the count of how often a person asked to stop; what follows is decided by each command.

use quorate_model::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a command to stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    count: usize,
}

impl Signals {
    /// Begins to listen; from now on the signals no longer end the process by themselves.
    pub(crate) fn new() -> Result<Signals> {
        let listen =
            |kind| signal(kind).map_err(|e| Error::failed(format!("cannot listen for signals: {e}")));
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            count: 0,
        })
    }

    /// Waits for the next one; answers whether it is urgent (TERM or HUP: what runs is handed back at once).
    pub(crate) async fn next(&mut self) -> bool {
        let urgent = tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => true,
            _ = self.hangup.recv() => true,
        };
        self.count += 1;
        urgent
    }

    /// Returns how many came so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
