//! The one error type that crosses room borders.
//!
//! Here live the nine kinds of failure a door must tell apart and the error that carries one of them.
//! Vendor errors (database, operating system) do not live here: each room translates its own at its edge.

use crate::event::Event;
use std::fmt;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; doors map it to an exit code, an HTTP status or a tool error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was tried and did not work (exit 1).
    Failed,
    /// The database or another needed thing cannot be reached (exit 1).
    Unavailable,
    /// Usage or bad input (exit 2).
    Invalid,
    /// Held by another (exit 3).
    Conflict,
    /// The lease is lost: the term is stale (exit 4).
    Stale,
    /// No such thing (exit 5).
    NotFound,
    /// Refused or parked by policy or budget (exit 6).
    Refused,
    /// Nothing to do (exit 7).
    Nothing,
    /// Interrupted by a signal (exit 130).
    Interrupted,
}

impl Kind {
    /// Returns the stable name used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Unavailable => "unavailable",
            Kind::Invalid => "invalid",
            Kind::Conflict => "conflict",
            Kind::Stale => "stale",
            Kind::NotFound => "not_found",
            Kind::Refused => "refused",
            Kind::Nothing => "nothing",
            Kind::Interrupted => "interrupted",
        }
    }

    /// Returns the exit code of the command line (the table in the README).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed | Kind::Unavailable => 1,
            Kind::Invalid => 2,
            Kind::Conflict => 3,
            Kind::Stale => 4,
            Kind::NotFound => 5,
            Kind::Refused => 6,
            Kind::Nothing => 7,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure in the words of the person who caused it, with what mends it.
///
/// `message` is a lowercase fragment without a full stop; `hint` is a sentence or a command.
/// An operation that returns an `Error` changes nothing; only `event`, where given, is written to the log
/// (so that a refused write is a fact anyone can read).
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// The kind, for doors.
    pub kind: Kind,
    /// What is wrong, and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The event that records the refusal, if it is to be kept.
    pub event: Option<Box<Event>>,
}

impl Error {
    /// Makes an error of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None, event: None }
    }

    /// Bad input.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, message)
    }

    /// An unknown thing.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    /// Something needed that cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(Kind::Unavailable, message)
    }

    /// Something that was tried and did not work.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Kind::Failed, message)
    }

    /// Adds what mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the event that records the refusal.
    #[must_use]
    pub fn event(mut self, event: Event) -> Error {
        self.event = Some(Box::new(event));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Returns `": did you mean \`x\`?"`-style help: the candidate nearest to `word`, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(word, c), c))
        .filter(|(distance, c)| *distance <= 1 + c.chars().count().max(word.chars().count()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}
