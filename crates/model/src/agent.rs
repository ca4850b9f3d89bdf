//! What state an agent is in, as a reading of facts, and what it can do.
//!
//! Here lives the one function that turns facts into the state that people see. The facts are stored; the state
//! is not, so it cannot disagree with them.

/// Reads what somebody says he can do, `*` being everything; `None` is anything.
pub fn abilities(capabilities: &[String]) -> Option<Vec<String>> {
    (!capabilities.iter().any(|capability| capability == "*")).then(|| capabilities.to_vec())
}

/// The state of an agent that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// Known, not running.
    Idle,
    /// Running, waits for work.
    Ready,
    /// Has a task.
    Working,
    /// Waits for a resource that another holds.
    Blocked,
    /// Its task is parked.
    Parked,
    /// A person told it to take nothing.
    Paused,
    /// Its lease lapsed.
    Stale,
    /// Its task shows no sign of life: a warning.
    Stuck,
    /// Its respawns are used up.
    Failed,
}

impl AgentState {
    /// Every state.
    pub const ALL: [AgentState; 9] = [
        AgentState::Idle,
        AgentState::Ready,
        AgentState::Working,
        AgentState::Blocked,
        AgentState::Parked,
        AgentState::Paused,
        AgentState::Stale,
        AgentState::Stuck,
        AgentState::Failed,
    ];

    /// Returns the stable name, as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            AgentState::Idle => "idle",
            AgentState::Ready => "ready",
            AgentState::Working => "working",
            AgentState::Blocked => "blocked",
            AgentState::Parked => "parked",
            AgentState::Paused => "paused",
            AgentState::Stale => "stale",
            AgentState::Stuck => "stuck",
            AgentState::Failed => "failed",
        }
    }
}

/// The facts that the state is read from.
#[derive(Debug, Clone, Copy, Default)]
pub struct AgentFacts {
    /// The crash brake is on.
    pub failed: bool,
    /// A person paused it.
    pub paused: bool,
    /// It, or its supervisor, gave a sign of life within a lease.
    pub alive: bool,
    /// Its session's lease, or the lease of its task, has lapsed.
    pub lapsed: bool,
    /// It has a task.
    pub has_task: bool,
    /// That task is marked stuck.
    pub stuck: bool,
    /// A task of its is parked.
    pub parked: bool,
    /// It waits for a claim, or said so.
    pub blocked: bool,
}

/// Reads the state from the facts; the first that holds, worst first.
pub fn state(facts: AgentFacts) -> AgentState {
    match facts {
        AgentFacts { failed: true, .. } => AgentState::Failed,
        AgentFacts { lapsed: true, .. } => AgentState::Stale,
        AgentFacts { has_task: true, stuck: true, .. } => AgentState::Stuck,
        AgentFacts { has_task: true, .. } => AgentState::Working,
        AgentFacts { paused: true, .. } => AgentState::Paused,
        AgentFacts { blocked: true, .. } => AgentState::Blocked,
        AgentFacts { parked: true, .. } => AgentState::Parked,
        AgentFacts { alive: true, .. } => AgentState::Ready,
        _ => AgentState::Idle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_fact_names_the_state() {
        let working = AgentFacts { alive: true, has_task: true, ..AgentFacts::default() };
        let check = |facts, expected: &str| assert_eq!(state(facts).as_str(), expected);
        check(AgentFacts::default(), "idle");
        check(AgentFacts { alive: true, ..AgentFacts::default() }, "ready");
        check(working, "working");
        check(AgentFacts { stuck: true, ..working }, "stuck");
        check(AgentFacts { lapsed: true, ..working }, "stale");
        check(AgentFacts { paused: true, ..working }, "working");
        check(AgentFacts { paused: true, alive: true, ..AgentFacts::default() }, "paused");
        check(AgentFacts { failed: true, paused: true, ..AgentFacts::default() }, "failed");
    }
}
