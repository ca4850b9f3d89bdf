//! The life of a task: its states, and the one total function that says what may follow what.
//!
//! Here lives no storage: the statements in `service::task` repeat these rules as guards, and a random test
//! proves that they agree. The drawing is in `docs/state_machine.md`.

use crate::error::{Error, Kind};
use std::fmt;
use std::str::FromStr;

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Needs are unmet, or it is not yet due.
    Waiting,
    /// Anyone who can may take it.
    Ready,
    /// An agent has it.
    Running,
    /// The agent said done; a supervisor is to run the check.
    Verifying,
    /// Done, and checked if there was a check.
    Completed,
    /// Given up after its attempts.
    Failed,
    /// Called off, or a need of it ended without success.
    Cancelled,
    /// Put aside, with a reason and perhaps a time.
    Parked,
}

impl TaskState {
    /// Every state, in the order of life.
    pub const ALL: [TaskState; 8] = [
        TaskState::Waiting,
        TaskState::Ready,
        TaskState::Running,
        TaskState::Verifying,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Cancelled,
        TaskState::Parked,
    ];

    /// Returns the stable name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Ready => "ready",
            TaskState::Running => "running",
            TaskState::Verifying => "verifying",
            TaskState::Completed => "completed",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
            TaskState::Parked => "parked",
        }
    }

    /// Returns whether the task has ended; only a person's `retry` goes on from here.
    pub fn is_over(self) -> bool {
        matches!(self, TaskState::Completed | TaskState::Failed | TaskState::Cancelled)
    }

    /// Returns the state after `input`, or the refusal with the word for it.
    ///
    /// Terms are not looked at here: whoever carries an old one is refused before this is asked.
    pub fn on(self, input: TaskInput) -> Result<TaskState, TaskRefusal> {
        use TaskInput as I;
        use TaskState as S;
        match (self, input) {
            (S::Waiting, I::Open) => Ok(S::Ready),
            (S::Ready, I::Take) => Ok(S::Running),
            (S::Running, I::Renew) => Ok(S::Running),
            (S::Running, I::Done { verify: false }) => Ok(S::Completed),
            (S::Running, I::Done { verify: true }) => Ok(S::Verifying),
            (S::Verifying, I::Renew | I::TakeCheck) => Ok(S::Verifying),
            (S::Verifying, I::Passed) => Ok(S::Completed),
            (S::Running, I::Fail { next } | I::Lapse { next }) | (S::Verifying, I::Fail { next }) => {
                Ok(next.state())
            }
            // The check's supervisor died: another runs the check. The work itself is not lost.
            (S::Verifying, I::Lapse { .. }) => Ok(S::Verifying),
            (S::Running, I::Release) => Ok(S::Ready),
            (S::Verifying, I::Release) => Ok(S::Verifying),
            (S::Running | S::Ready | S::Waiting, I::Park) => Ok(S::Parked),
            (S::Parked, I::Unpark { met }) => Ok(if met { S::Ready } else { S::Waiting }),
            (S::Failed | S::Cancelled, I::Retry { met }) => Ok(if met { S::Ready } else { S::Waiting }),
            (S::Waiting | S::Ready | S::Running | S::Verifying | S::Parked, I::Cancel) => Ok(S::Cancelled),
            (S::Completed | S::Failed | S::Cancelled, _) => Err(TaskRefusal::Over),
            _ => Err(TaskRefusal::NotNow),
        }
    }
}

/// What may happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskInput {
    /// Its needs are met and it is due.
    Open,
    /// An agent takes it.
    Take,
    /// Its owner renews the lease or reports progress.
    Renew,
    /// Its owner says done; there is a check, or not.
    Done {
        /// Whether the task has a `verify`.
        verify: bool,
    },
    /// A supervisor takes over to run the check.
    TakeCheck,
    /// The check passed.
    Passed,
    /// The attempt, or its check, failed.
    Fail {
        /// What the retry rule says.
        next: Next,
    },
    /// The lease ended without a word.
    Lapse {
        /// What the retry rule says.
        next: Next,
    },
    /// The owner gives it back, or a person takes it away.
    Release,
    /// Put aside.
    Park,
    /// Let go on.
    Unpark {
        /// Whether its needs are met.
        met: bool,
    },
    /// Tried anew by a person's wish.
    Retry {
        /// Whether its needs are met.
        met: bool,
    },
    /// Called off.
    Cancel,
}

/// Why a transition is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskRefusal {
    /// The task has ended.
    Over,
    /// Not in this state.
    NotNow,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt at once.
    Again,
    /// Another attempt after so many milliseconds.
    After(i64),
    /// No more.
    GiveUp,
}

impl Next {
    fn state(self) -> TaskState {
        match self {
            Next::Again => TaskState::Ready,
            Next::After(_) => TaskState::Waiting,
            Next::GiveUp => TaskState::Failed,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = Error;
    fn from_str(text: &str) -> Result<TaskState, Error> {
        TaskState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::new(Kind::Invalid, format!("`{text}` is no task state")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line a row: state, input, and the state after it or the refusal.
    const TABLE: &str = "
        waiting    open             ready
        waiting    take             not now
        waiting    done             not now
        waiting    park             parked
        waiting    cancel           cancelled
        ready      take             running
        ready      done             not now
        ready      renew            not now
        ready      park             parked
        ready      cancel           cancelled
        running    take             not now
        running    renew            running
        running    done             completed
        running    done+verify      verifying
        running    fail again       ready
        running    fail after       waiting
        running    fail give-up     failed
        running    lapse again      ready
        running    lapse give-up    failed
        running    release          ready
        running    park             parked
        running    cancel           cancelled
        running    passed           not now
        verifying  take-check       verifying
        verifying  renew            verifying
        verifying  passed           completed
        verifying  fail again       ready
        verifying  fail after       waiting
        verifying  fail give-up     failed
        verifying  lapse again      verifying
        verifying  release          verifying
        verifying  done             not now
        verifying  cancel           cancelled
        parked     unpark met       ready
        parked     unpark unmet     waiting
        parked     take             not now
        parked     cancel           cancelled
        completed  cancel           over
        completed  retry met        over
        completed  done             over
        failed     retry met        ready
        failed     retry unmet      waiting
        failed     take             over
        cancelled  retry met        ready
        cancelled  retry unmet      waiting
        cancelled  cancel           over
    ";

    fn input(words: &str) -> TaskInput {
        let next = |word| match word {
            "again" => Next::Again,
            "after" => Next::After(5),
            "give-up" => Next::GiveUp,
            _ => panic!("{words}"),
        };
        match words.split(' ').collect::<Vec<_>>()[..] {
            ["open"] => TaskInput::Open,
            ["take"] => TaskInput::Take,
            ["renew"] => TaskInput::Renew,
            ["done"] => TaskInput::Done { verify: false },
            ["done+verify"] => TaskInput::Done { verify: true },
            ["take-check"] => TaskInput::TakeCheck,
            ["passed"] => TaskInput::Passed,
            ["fail", word] => TaskInput::Fail { next: next(word) },
            ["lapse", word] => TaskInput::Lapse { next: next(word) },
            ["release"] => TaskInput::Release,
            ["park"] => TaskInput::Park,
            ["unpark", word] => TaskInput::Unpark { met: word == "met" },
            ["retry", word] => TaskInput::Retry { met: word == "met" },
            ["cancel"] => TaskInput::Cancel,
            _ => panic!("{words}"),
        }
    }

    #[test]
    fn the_table_of_transitions_holds() {
        for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            let [state, words, expected] = cells[..] else { panic!("{line}") };
            let found = match TaskState::from_str(state).unwrap().on(input(words)) {
                Ok(state) => state.as_str(),
                Err(TaskRefusal::Over) => "over",
                Err(TaskRefusal::NotNow) => "not now",
            };
            assert_eq!(found, expected, "{line}");
        }
    }
}
