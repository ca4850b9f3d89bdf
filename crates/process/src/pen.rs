//! The writing of a log beside everything else: on a thread of its own, one piece after the other.
//!
//! Here live the piece that is under way and the end of all of them. What a log is lives in [`crate::log`].

use crate::log::Log;
use std::mem;
use tokio::task::{JoinHandle, spawn_blocking};

/// What became of a log.
#[derive(Debug)]
pub(crate) struct Written {
    /// Bytes that are in it, as far as that is known.
    pub bytes: u64,
    /// Why it has not all it should have.
    pub error: Option<String>,
}

impl Written {
    /// Says of a log that nobody has an answer for why it is not whole.
    pub(crate) fn unknown(why: &str) -> Written {
        Written { bytes: 0, error: Some(why.to_owned()) }
    }
}

/// Writes a log on a thread of its own, so that a disk that is slow makes nobody wait for it.
#[derive(Debug)]
pub(crate) enum Pen {
    /// Nothing is being written.
    Idle(Log),
    /// A piece is on its way to the disk.
    Busy(JoinHandle<Log>),
    /// Its thread ended with the program.
    Lost,
}

impl Pen {
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Pen::Busy(_))
    }

    /// Begins to write. Nothing else may be under way: pieces would change places.
    pub(crate) fn begin(&mut self, text: String) {
        debug_assert!(!self.is_busy());
        *self = match mem::replace(self, Pen::Lost) {
            Pen::Idle(mut log) => Pen::Busy(spawn_blocking(move || {
                log.write(&text);
                log
            })),
            other => other,
        };
    }

    /// Waits until what is under way is written; for ever if nothing is. May be given up and asked for again.
    pub(crate) async fn rests(&mut self) {
        let Pen::Busy(writing) = self else { return std::future::pending().await };
        let log = writing.await;
        *self = log.map_or(Pen::Lost, Pen::Idle);
    }

    /// Writes the last piece and tells what became of the log.
    pub(crate) async fn end(mut self, rest: String) -> Written {
        if self.is_busy() {
            self.rests().await;
        }
        if !rest.is_empty() {
            self.begin(rest);
        }
        if self.is_busy() {
            self.rests().await;
        }
        match self {
            Pen::Idle(log) => Written { bytes: log.bytes, error: log.error },
            Pen::Busy(_) | Pen::Lost => Written::unknown("the program was ending"),
        }
    }
}
