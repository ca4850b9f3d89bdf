//! The operations that are measured, and what each needs to find.
//!
//! Here live their names, targets and prepared rows. How each is done through the ledger lives in `ours`; what the
//! database alone needs for the same rows lives in `raw_lite` and `raw_pg`.

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A task is taken: owner, term, attempt, event.
    Claim,
    /// Progress is reported: task, event.
    Progress,
    /// A lease is renewed: task, agent, node.
    Heartbeat,
    /// A task is completed: task, attempt, event.
    Complete,
    /// A task is added: task, event.
    Enqueue,
    /// Claim, then complete, as two transactions.
    Cycle,
}

/// What must be in the ledger before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The team, and so many ready tasks.
    Ready(i64),
    /// The team, and so many running tasks.
    Held(i64),
    /// The team alone.
    Team,
    /// A thousand agents and ten thousand tasks in every state.
    Crowd,
    /// Ten thousand agents at four nodes, each with a task, and so many tasks in every state.
    LargeCrowd(i64),
    /// The team, tasks that were completed, and tasks that are ready.
    History {
        /// Completed.
        done: i64,
        /// Ready.
        ready: i64,
    },
}

/// Tasks that each caller holds while it reports progress and renews.
pub const HELD: i64 = 64;

/// What is asked of an operation at 8 callers, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// For the median.
    pub p50: f64,
    /// For the 99th percentile.
    pub p99: f64,
}

impl Operation {
    /// Those whose latency is measured, in the order of the table.
    pub const SINGLE: [Operation; 5] = [
        Operation::Claim,
        Operation::Progress,
        Operation::Heartbeat,
        Operation::Complete,
        Operation::Enqueue,
    ];

    /// Returns its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Claim => "claim",
            Operation::Progress => "progress",
            Operation::Heartbeat => "heartbeat",
            Operation::Complete => "complete",
            Operation::Enqueue => "enqueue",
            Operation::Cycle => "claim+complete",
        }
    }

    /// Returns what it needs to find when at most `most` calls are made by so many callers.
    pub fn rows(self, most: i64, callers: i64) -> Rows {
        match self {
            Operation::Claim | Operation::Cycle => Rows::Ready(most),
            Operation::Complete => Rows::Held(most),
            Operation::Progress | Operation::Heartbeat => Rows::Held(callers * HELD),
            Operation::Enqueue => Rows::Team,
        }
    }

    /// Returns what is asked of it at 8 callers, if anything is.
    pub fn target(self) -> Option<Target> {
        match self {
            Operation::Claim => Some(Target { p50: 2.0, p99: 10.0 }),
            Operation::Heartbeat => Some(Target { p50: 1.0, p99: 5.0 }),
            Operation::Progress => Some(Target { p50: 5.0, p99: 25.0 }),
            Operation::Complete | Operation::Enqueue | Operation::Cycle => None,
        }
    }
}
