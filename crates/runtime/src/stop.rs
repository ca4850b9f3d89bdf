//! How a node is told to stop.
//!
//! Here live the three levels and their two ends: the stopper that sets one, and the stop that loops look at.

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

/// The end that says stop.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Level>);

/// The end that loops look at.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Level>);

impl Stopper {
    /// Makes a pair that says go.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(Level::Go);
        (Stopper(sender), Stop(receiver))
    }

    /// Says stop; a lower level than before changes nothing.
    pub fn stop(&self, level: Level) {
        self.0.send_if_modified(|current| {
            let grows = level > *current;
            if grows {
                *current = level;
            }
            grows
        });
    }
}

impl Stop {
    /// Returns the level as it is now.
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// Waits until the level is at least `level`. A stopper that is gone means now.
    pub async fn reached(&mut self, level: Level) {
        // An error means that nobody is left who could say go on.
        let _ = self.0.wait_for(|current| *current >= level).await;
    }
}
