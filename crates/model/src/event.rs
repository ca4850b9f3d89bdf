//! Past facts: what the log holds.
//!
//! Here live the closed list of event kinds and the event before it has its place (`seq`) and time in the log.
//! How events are stored and read lives in `store` and `service::event`.

use crate::ids::{RunId, TaskId};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The kind of an event: a fact in the past tense, `noun.verb`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind { $($(#[$doc])* $name,)* }

        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$name,)*];

            /// Returns the stable name, as stored and printed.
            pub fn as_str(self) -> &'static str {
                match self { $(EventKind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A task was added to the ledger.
    TaskAdded = "task.added",
    /// A waiting task became ready: its needs are met and it is due.
    TaskReady = "task.ready",
    /// An agent took a task: a new attempt, a new term.
    TaskTaken = "task.taken",
    /// Progress was reported.
    TaskProgress = "task.progress",
    /// The agent said done and the check is to be run.
    TaskVerifying = "task.verifying",
    /// The task is completed.
    TaskCompleted = "task.completed",
    /// The task failed for good.
    TaskFailed = "task.failed",
    /// An attempt failed and the task will be tried again; or a person asked for it.
    TaskRetried = "task.retried",
    /// The task was cancelled.
    TaskCancelled = "task.cancelled",
    /// The task is parked, with a reason and perhaps a time.
    TaskParked = "task.parked",
    /// A parked task was let go on.
    TaskUnparked = "task.unparked",
    /// The check of a task that was said to be done failed.
    TaskVerifyFailed = "task.verify_failed",
    /// The lease of a task's owner lapsed.
    TaskLeaseExpired = "task.lease_expired",
    /// The owner gave the task back, or a person took it away.
    TaskReleased = "task.released",
    /// No sign of life of a running task for `stuck_after`: a warning.
    TaskStuck = "task.stuck",
    /// What an attempt has used of models, told once, when its child has ended.
    TaskUsed = "task.used",
    /// What was used has reached a budget.
    BudgetReached = "budget.reached",
    /// A resource was claimed.
    ClaimTaken = "claim.taken",
    /// A claim was refused because another holds an overlapping resource.
    ClaimRefused = "claim.refused",
    /// A claim was given up.
    ClaimReleased = "claim.released",
    /// A claim's time ran out.
    ClaimExpired = "claim.expired",
    /// An agent was added to the team.
    AgentAdded = "agent.added",
    /// An agent's session began.
    AgentStarted = "agent.started",
    /// An agent's session ended in order.
    AgentStopped = "agent.stopped",
    /// An agent's session ended badly, or its brake is on.
    AgentFailed = "agent.failed",
    /// An agent was started again after its process died.
    AgentRespawned = "agent.respawned",
    /// An agent was paused.
    AgentPaused = "agent.paused",
    /// An agent was resumed.
    AgentResumed = "agent.resumed",
    /// An agent was removed from the team.
    AgentRemoved = "agent.removed",
    /// A person gave an agent a token for the network.
    TokenGiven = "token.given",
    /// A person made an agent's tokens void.
    TokenRevoked = "token.revoked",
    /// An agent's lease lapsed.
    AgentStale = "agent.stale",
    /// An agent says what state it is in (`quorate log`).
    AgentReported = "agent.reported",
    /// The context of an agent's session reached the threshold.
    ContextFilled = "context.filled",
    /// `/clear` was sent to an agent's session.
    ContextCleared = "context.cleared",
    /// An agent's session got the context back after it lost it.
    ContextRestored = "context.restored",
    /// A line an agent logged of its own accord.
    LogLine = "log.line",
    /// A run began.
    RunStarted = "run.started",
    /// A run ended.
    RunFinished = "run.finished",
    /// A run was cancelled by a person.
    RunCancelled = "run.cancelled",
    /// A task of a run has failed for good, and a new plan was asked for.
    RunReplanned = "run.replanned",
    /// A finished run was opened again.
    RunResumed = "run.resumed",
    /// A message was sent.
    MessageSent = "message.sent",
    /// The team's memory has grown.
    MemoryAdded = "memory.added",
    /// Something was said again that the memory holds already: it is counted.
    MemoryMerged = "memory.merged",
    /// A memory was removed on purpose.
    MemoryForgotten = "memory.forgotten",
    /// Memories were removed because of their age or number, as `[memory]` says; an archive file has them.
    MemoryPruned = "memory.pruned",
    /// A state was saved.
    CheckpointSaved = "checkpoint.saved",
    /// A write that carried an old term, or came from one who is not the owner, was refused.
    WriteRefused = "write.refused",
    /// A node began.
    NodeStarted = "node.started",
    /// A node ended.
    NodeStopped = "node.stopped",
    /// The wall clock was stepped and live leases were moved with it.
    ClockStepped = "clock.stepped",
    /// The ledger was restored to an earlier moment, and terms and numbers jumped ahead (`quorate sql restored`).
    LedgerRestored = "ledger.restored",
    /// Old history was removed, as `[retention]` says.
    LogPruned = "log.pruned",
}

/// An event before it is written: kind and subjects. `seq` and time are given by the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The agent (or person) who did it or whom it concerns.
    pub agent: Option<String>,
    /// The task it concerns.
    pub task: Option<TaskId>,
    /// The run it concerns.
    pub run: Option<RunId>,
    /// The resource it concerns.
    pub resource: Option<String>,
    /// One sentence for people.
    pub message: String,
    /// Further facts, as a JSON object.
    pub data: Option<serde_json::Value>,
}

impl Event {
    /// Makes an event of `kind` with a sentence for people.
    pub fn new(kind: EventKind, message: impl Into<String>) -> Event {
        Event {
            kind,
            agent: None,
            task: None,
            run: None,
            resource: None,
            message: message.into(),
            data: None,
        }
    }

    /// Sets the agent.
    #[must_use]
    pub fn agent(mut self, agent: impl Into<String>) -> Event {
        self.agent = Some(agent.into());
        self
    }

    /// Sets the task.
    #[must_use]
    pub fn task(mut self, task: TaskId) -> Event {
        self.task = Some(task);
        self
    }

    /// Sets the run, if there is one.
    #[must_use]
    pub fn run(mut self, run: Option<RunId>) -> Event {
        self.run = run;
        self
    }

    /// Sets the resource.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Event {
        self.resource = Some(resource.into());
        self
    }

    /// Sets the further facts.
    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Event {
        self.data = Some(data);
        self
    }
}
