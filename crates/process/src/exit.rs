//! How a child ended.
//!
//! Here live the answer of [`crate::supervise`] and its words for people. It decides nothing: whether an end is a
//! success is the caller's to say.

use nix::sys::signal::Signal;
use quorate_model::usage::{Parked, Used};
use serde_json::Value;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Why a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitKind {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It was stopped at its timeout.
    TimedOut,
    /// It was stopped on request, with the reason that was given.
    Stopped(String),
}

/// All that is known of a child that ended. Its whole tree has ended, except for `survivors`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// Why.
    pub kind: ExitKind,
    /// The last lines of output, masked: 40 lines, 4 KiB at most.
    pub tail: String,
    /// The last result it gave, masked.
    pub result: Option<Value>,
    /// What it said to have used of each model.
    pub used: Vec<Used>,
    /// That it cannot go on, if that was its last word, masked.
    pub parked: Option<Parked>,
    /// How many processes it had left behind when it exited; they were ended.
    pub leaked: usize,
    /// How many processes could not be ended even by KILL (the kernel holds them).
    pub survivors: usize,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Bytes written to the log, as far as that is known.
    pub log_bytes: u64,
    /// Bytes of output that are not in the log.
    pub dropped_bytes: u64,
    /// Why the log has not all it should have.
    pub log_error: Option<String>,
    /// Why its output was not read to its end: then a result may be missing.
    pub read_error: Option<String>,
    /// The kernel ended it, or part of it, at its memory limit (known with control groups only).
    pub out_of_memory: bool,
}

impl Exit {
    /// Returns true if it exited by itself with code 0, and all it said was read.
    pub fn is_success(&self) -> bool {
        self.kind == ExitKind::Exited(0) && self.read_error.is_none()
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitKind::Exited(code) => write!(f, "exited with code {code}"),
            ExitKind::Signalled(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "was ended by signal {number} ({signal})"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            ExitKind::TimedOut => f.write_str("was stopped at its timeout"),
            ExitKind::Stopped(reason) => write!(f, "was stopped: {reason}"),
        }
    }
}

impl From<ExitStatus> for ExitKind {
    fn from(status: ExitStatus) -> ExitKind {
        match (status.code(), status.signal()) {
            (Some(code), _) => ExitKind::Exited(code),
            (None, Some(signal)) => ExitKind::Signalled(signal),
            // A stopped child is not reported by wait without being asked for.
            (None, None) => ExitKind::Exited(status.into_raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let check = |kind: ExitKind, expected: &str| assert_eq!(kind.to_string(), expected);
        check(ExitKind::Exited(3), "exited with code 3");
        check(ExitKind::Signalled(9), "was ended by signal 9 (SIGKILL)");
        check(ExitKind::Signalled(40), "was ended by signal 40");
        check(ExitKind::TimedOut, "was stopped at its timeout");
        check(ExitKind::Stopped("cancelled".into()), "was stopped: cancelled");
    }
}
