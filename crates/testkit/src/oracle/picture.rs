//! What is compared: the rows of every table, in the words of the tables.

use super::Oracle;
use quorate_model::TaskState;

/// Everything that is compared, in order of id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// Every task.
    pub tasks: Vec<TaskRow>,
    /// Live claims.
    pub claims: Vec<ClaimRow>,
    /// The queue of claims.
    pub waits: Vec<WaitRow>,
    /// The team, by name.
    pub agents: Vec<AgentRow>,
    /// Every node.
    pub nodes: Vec<NodeRow>,
    /// The node that judges: its id, term and the end of its lease.
    pub leader: Option<(i64, i64, i64)>,
    /// Every run.
    pub runs: Vec<RunRow>,
}

/// A task, as far as it is compared: the names are those of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TaskRow {
    pub id: i64,
    pub run: Option<i64>,
    pub state: TaskState,
    pub agent: Option<String>,
    pub term: i64,
    pub attempt: i64,
    pub failures: i64,
    pub unmet: i64,
    pub progress: i64,
    pub owner: Option<String>,
    pub node: Option<String>,
    pub lease_until: Option<i64>,
    pub due_at: Option<i64>,
    /// Who is not preferred, and until when.
    pub avoid: Option<(String, i64)>,
    pub blocked_by: Option<i64>,
    pub claims_since: Option<i64>,
    pub claims_seen: Option<i64>,
    pub result: Option<String>,
    pub stuck: bool,
}

/// A live claim, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ClaimRow {
    pub id: i64,
    pub resource: String,
    pub agent: String,
    pub task: Option<i64>,
    pub mode: String,
    /// Whether it ends with its task's holding, not by time.
    pub bound: bool,
    pub left_term: Option<i64>,
    pub expires_at: i64,
}

/// Someone in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WaitRow {
    pub id: i64,
    pub agent: String,
    pub seen_at: i64,
    pub deadline: i64,
}

/// A member of the team, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AgentRow {
    pub name: String,
    pub state: String,
    pub paused: bool,
    pub removed: bool,
    pub node: Option<String>,
    pub term: i64,
    pub lease_until: Option<i64>,
    pub respawns: i64,
    pub last_crash: Option<i64>,
}

/// A node, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NodeRow {
    pub id: i64,
    pub lease_until: i64,
    pub stopped: bool,
}

/// A run, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RunRow {
    pub id: i64,
    pub state: String,
    pub reason: Option<String>,
    pub finished_at: Option<i64>,
}

impl Picture {
    /// Returns the first row that differs, of each of the two.
    pub fn difference(&self, other: &Picture) -> Option<String> {
        let lines = |picture: &Picture| -> Vec<String> {
            let tasks = picture.tasks.iter().map(|row| format!("{row:?}"));
            let claims = picture.claims.iter().map(|row| format!("{row:?}"));
            let waits = picture.waits.iter().map(|row| format!("{row:?}"));
            let agents = picture.agents.iter().map(|row| format!("{row:?}"));
            let nodes = picture.nodes.iter().map(|row| format!("{row:?}"));
            let leader = std::iter::once(format!("leader {:?}", picture.leader));
            let runs = picture.runs.iter().map(|row| format!("{row:?}"));
            tasks.chain(claims).chain(waits).chain(agents).chain(nodes).chain(leader).chain(runs).collect()
        };
        if self == other {
            return None;
        }
        let (mine, others) = (lines(self), lines(other));
        let place =
            mine.iter().zip(&others).position(|(a, b)| a != b).unwrap_or(mine.len().min(others.len()));
        let at = |lines: &[String]| lines.get(place).cloned().unwrap_or("nothing".into());
        Some(format!("  ledger {}\n  rules  {}", at(&mine), at(&others)))
    }
}

impl Oracle {
    /// Draws the whole state.
    pub fn picture(&self) -> Picture {
        Picture {
            tasks: self.task_rows(),
            claims: self.claim_rows(),
            waits: self.wait_rows(),
            agents: self.agent_rows(),
            nodes: self.node_rows(),
            leader: self.leader.as_ref().map(|leader| (leader.node, leader.term, leader.lease_until)),
            runs: self.run_rows(),
        }
    }
}
