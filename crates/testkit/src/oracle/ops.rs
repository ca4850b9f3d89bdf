//! The operations that random tests play, as values with everything that matters, and the team that plays them.

use quorate_model::resource::Mode;

/// An operation. Where two numbers stand for a task, they are its id and a term.
#[derive(Debug, Clone)]
pub enum Op {
    /// Adds a task, perhaps to a run.
    Add(Option<i64>, Wish),
    /// The agent takes its next task.
    Take {
        /// Who.
        agent: &'static str,
        /// The node that supervises.
        node: Option<i64>,
        /// Only of this run.
        run: Option<i64>,
        /// Whether what it has already is given back to it instead.
        resume: bool,
        /// For how long.
        lease_ms: i64,
    },
    /// A node renews what it believes to hold: tasks (with their term and whether there was a sign of life), sessions.
    Renew {
        /// The node.
        node: i64,
        /// Its tasks.
        held: Vec<(i64, i64, bool)>,
        /// Its sessions.
        agents: Vec<&'static str>,
        /// For how long.
        lease_ms: i64,
    },
    /// The owner reports a percentage.
    Progress(i64, i64, i64),
    /// The owner says done, with a result.
    Done(i64, i64, Option<&'static str>),
    /// The owner says failed, for good or not.
    Fail(i64, i64, bool),
    /// A node takes a check.
    TakeCheck {
        /// Only of this task.
        task: Option<i64>,
        /// Only of this run.
        run: Option<i64>,
        /// The node.
        node: i64,
        /// For how long.
        lease_ms: i64,
    },
    /// The check passed or failed.
    SettleCheck(i64, i64, bool),
    /// A person cancels a task.
    Cancel(i64),
    /// A person lets a task be tried anew.
    Retry(i64),
    /// A person takes a task away, for another or for all.
    Reassign(i64, Option<&'static str>),
    /// The owner gives it back.
    Release(i64, i64),
    /// The owner or a person parks a task, perhaps for so long.
    Park(i64, Option<i64>, Option<i64>),
    /// A person lets a parked task go on.
    Unpark(i64),
    /// A supervisor says that the child of a holding that was taken away has ended.
    Gone(i64, i64),
    /// Begins a run; its tasks name those before them by place.
    Start(Vec<Wish>),
    /// A person calls a run off.
    CancelRun(i64),
    /// A person lets a run go on.
    ResumeRun(i64),
    /// Whoever works at a run looks whether it is over.
    SettleRun(i64),
    /// An agent claims resources.
    Claim(ClaimWish),
    /// An agent gives up its place in the queue of claims.
    Leave(&'static str, i64),
    /// An agent renews claims that belong to no task.
    RenewClaims(Vec<i64>, i64),
    /// The agent gives up a resource, perhaps only that holding of it.
    ReleaseClaim(&'static str, &'static str, Option<i64>),
    /// A person ends all claims on a resource.
    ForceRelease(&'static str),
    /// A sign of life; a new name joins the team.
    Seen(&'static str),
    /// An agent's process begins in a node.
    BeginSession {
        /// Who.
        agent: &'static str,
        /// Where.
        node: i64,
        /// For how long.
        lease_ms: i64,
    },
    /// An agent's process ends in order.
    EndSession(&'static str, i64),
    /// An agent's process died at a task, or could not be started.
    Crash {
        /// Who.
        agent: &'static str,
        /// At what.
        task: i64,
        /// Whether it could not be started.
        spawn: bool,
    },
    /// A person's word to an agent.
    Tell(&'static str, Word),
    /// A node begins.
    BeginNode(i64),
    /// A node ends in order.
    EndNode(i64),
    /// A node was found dead.
    Bury(i64),
    /// A node asks to be the one that judges, for so long.
    Lead(i64, i64),
    /// Time passes.
    Advance(i64),
    /// The wall clock is stepped, by more than a second (embedded ledgers only).
    StepClock(i64),
    /// A health check.
    Check {
        /// Whether leases are judged.
        judge: bool,
        /// No sign of life for so long is stuck.
        stuck_after_ms: i64,
    },
}

/// What an agent claims.
#[derive(Debug, Clone)]
pub struct ClaimWish {
    /// Who.
    pub agent: &'static str,
    /// What.
    pub resources: Vec<&'static str>,
    /// Alone or shared.
    pub mode: Mode,
    /// For how long.
    pub ttl_ms: i64,
    /// The task and term it is bound to.
    pub task: Option<(i64, i64)>,
    /// How long it waits.
    pub wait_ms: Option<i64>,
    /// The place that it was given.
    pub place: Option<i64>,
}

/// A person's word to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Take nothing more.
    Pause,
    /// Take work again.
    Resume,
    /// Stop what you do.
    Kill,
    /// Leave.
    Remove,
}

/// A task to be added.
#[derive(Debug, Clone)]
pub struct Wish {
    /// 0 high, 1 medium, 2 low.
    pub priority: i64,
    /// Which agents may take it.
    pub capability: Option<&'static str>,
    /// The one agent that may.
    pub agent: Option<&'static str>,
    /// Whether there is a check.
    pub verify: bool,
    /// What it takes with it.
    pub claims: Vec<&'static str>,
    /// Failures at most.
    pub max_attempts: i64,
    /// Not before so many milliseconds from now.
    pub due_in_ms: Option<i64>,
    /// What it needs; a need may be named twice.
    pub needs: Vec<i64>,
    /// What it needs of those that are added with it, by place.
    pub needs_new: Vec<usize>,
}

/// An agent of a random test.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What it can do; `None` is everything.
    pub capabilities: Option<&'static [&'static str]>,
}
