//! Waiting for something in the ledger to change: what `--wait` and `--follow` have in common.
//!
//! Here lives the pause between two looks. A hint of a change ends it early; a hint may be lost, so it also ends by
//! itself after a second. Only the pause can be interrupted, never a write: what was taken is always told.

use crate::signals::Signals;
use quorate_model::{Error, Kind, Result};
use quorate_store::{Changes, Store};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest: hints that lead to nothing must not keep anyone busy.
const LOOK_LEAST: Duration = Duration::from_millis(50);

/// How a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Look again.
    Over,
    /// The time to wait is used up.
    TooLate,
    /// A signal asks to end.
    Interrupted,
}

/// Someone who looks again and again.
pub(crate) struct Lookout {
    store: Store,
    changes: Changes,
    deadline: Option<Instant>,
    signals: Signals,
}

impl Lookout {
    /// Begins to watch; `wait_ms` from now it is too late, or never.
    pub(crate) fn new(store: &Store, wait_ms: Option<i64>) -> Result<Lookout> {
        let wait = wait_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
        Ok(Lookout { store: store.clone(), changes: store.changes(), deadline, signals: Signals::new()? })
    }

    /// Pauses until a look may pay. What the caller itself wrote since the last pause is no reason to look again.
    pub(crate) async fn pause(&mut self) -> Pause {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Pause::TooLate;
        }
        let (least, most) = (self.until(now + LOOK_LEAST), self.until(now + LOOK_EVERY));
        let hint = async {
            tokio::time::sleep_until(least).await;
            self.changes.wait(most.saturating_duration_since(Instant::now())).await;
        };
        tokio::select! {
            () = hint => Pause::Over,
            _ = self.signals.next() => Pause::Interrupted,
        }
    }

    /// Forgets hints that came until now: the caller has just looked by itself.
    pub(crate) fn has_looked(&mut self) {
        self.changes = self.store.changes();
    }

    fn until(&self, at: Instant) -> Instant {
        self.deadline.map_or(at, |deadline| at.min(deadline))
    }
}

/// What a command that was interrupted while it waited comes to.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "interrupted while waiting").hint("nothing was taken")
}
