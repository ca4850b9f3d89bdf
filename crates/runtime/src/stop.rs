//! How a node is told to stop.
//!
//! Here live the three levels and their two ends: the stopper that sets one, and the stop that loops look at.

use quorate_model::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How urgently to stop. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Go on.
    Go,
    /// Take nothing more; finish what is running.
    Finish,
    /// Stop children and hand their tasks back.
    Now,
}

/// The end that says stop. It keeps since when the level is what it is.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<(Level, Instant)>);

/// The end that loops look at.
#[derive(Debug, Clone)]
pub struct Stop {
    level: watch::Receiver<(Level, Instant)>,
    /// Whether somebody has waited for the ledger in vain since the node is to stop at once.
    is_silent: Arc<AtomicBool>,
}

impl Stopper {
    /// Makes a pair that says go.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel((Level::Go, Instant::now()));
        (Stopper(sender), Stop { level: receiver, is_silent: Arc::default() })
    }

    /// Says stop; a lower level than before changes nothing.
    pub fn stop(&self, level: Level) {
        self.0.send_if_modified(|current| {
            let grows = level > current.0;
            if grows {
                *current = (level, Instant::now());
            }
            grows
        });
    }
}

/// How long a node that is to stop at once still waits for the ledger to hear its last words. What it does not hear ends by
/// itself, with the leases.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long after that for a word that comes late, because a child used all of its grace: as long as nobody waited in vain.
const LATE_WORD: Duration = Duration::from_secs(2);

impl Stop {
    /// Waits until the time for last words that begin now is over.
    async fn last_words(&mut self) {
        let begun = Instant::now();
        self.reached(Level::Now).await;
        let since = self.level.borrow().1;
        let late = if self.is_silent.load(Ordering::Relaxed) { begun } else { begun + LATE_WORD };
        tokio::time::sleep_until((since + LAST_WORDS).max(late).into()).await;
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Does something with the ledger, for as long as a node that stops has time for it.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut stop = self.clone();
        tokio::select! {
            done = work => done,
            () = stop.last_words() => {
                Err(Error::unavailable("the node stops, and the ledger does not answer"))
            }
        }
    }

    /// Returns the level as it is now.
    pub fn level(&self) -> Level {
        self.level.borrow().0
    }

    /// Waits until the level is at least `level`. A stopper that is gone means now.
    pub async fn reached(&mut self, level: Level) {
        // An error means that nobody is left who could say go on.
        let _ = self.level.wait_for(|(current, _)| *current >= level).await;
    }
}
