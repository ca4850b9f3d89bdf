//! Waiting for something in the ledger to change: what `--wait` and `--follow` have in common.
//!
//! Here lives the pause between two looks. A hint of a change ends it early; a hint may be lost, so it also ends by
//! itself after a second. Only the pause can be interrupted, never a write: what was taken is always told.

use crate::signals::Signals;
use quorate_model::config::millis;
use quorate_model::{Error, Kind, Result};
use quorate_store::{Changes, Store};
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest: hints that lead to nothing must not keep anyone busy.
const LOOK_LEAST: Duration = Duration::from_millis(50);

/// How long one look may take. A database may fall silent, and who watches is to hear a Ctrl-C all the same.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Looks, but not for ever: what does not answer in time is away.
///
/// # Errors
/// Those of the look, or `Unavailable`.
pub(crate) async fn soon<T>(look: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LOOK_MAX, look).await.unwrap_or_else(|_| {
        Err(Error::unavailable(format!("the ledger has not answered for {} s", LOOK_MAX.as_secs())))
    })
}

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
    changes: Changes,
    deadline: Option<Instant>,
    signals: Signals,
}

impl Lookout {
    /// Begins to watch; `wait_ms` from now it is too late, or never.
    pub(crate) fn new(store: &Store, wait_ms: Option<i64>) -> Result<Lookout> {
        let deadline = wait_ms.and_then(|ms| Instant::now().checked_add(millis(ms)));
        Ok(Lookout { changes: store.changes(), deadline, signals: Signals::new()? })
    }

    /// Pauses until a look may pay: a hint came, or `due_ms` have passed, or a second.
    pub(crate) async fn pause(&mut self, due_ms: Option<i64>) -> Pause {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Pause::TooLate;
        }
        let due = due_ms.map_or(LOOK_EVERY, millis);
        let (least, most) =
            (self.until(now + LOOK_LEAST), self.until(now + due.clamp(LOOK_LEAST, LOOK_EVERY)));
        let hint = async {
            tokio::time::sleep_until(least).await;
            self.changes.wait(most.saturating_duration_since(Instant::now())).await;
        };
        tokio::select! {
            () = hint => Pause::Over,
            _ = self.signals.next() => Pause::Interrupted,
        }
    }

    fn until(&self, at: Instant) -> Instant {
        self.deadline.map_or(at, |deadline| at.min(deadline))
    }
}

/// What a command that was interrupted while it waited comes to.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "interrupted while waiting").hint("nothing was taken")
}
