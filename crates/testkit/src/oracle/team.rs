//! The team: sessions with leases and terms, the crash brake, a person's words; and the nodes they live in.

use super::picture::{AgentRow, NodeRow};
use super::{Answer, MAX_RESPAWNS, Oracle, Word};
use quorate_model::retry::Failure;
use quorate_model::{Kind, TaskState};

#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) state: &'static str,
    paused: bool,
    removed: bool,
    pub(super) node: Option<i64>,
    term: i64,
    pub(super) lease_until: Option<i64>,
    respawns: i64,
    last_crash: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) lease_until: i64,
    pub(super) stopped: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Leader {
    pub(super) node: i64,
    pub(super) term: i64,
    pub(super) lease_until: i64,
}

const STRANGER: Agent = Agent {
    state: "idle",
    paused: false,
    removed: false,
    node: None,
    term: 0,
    lease_until: None,
    respawns: 0,
    last_crash: None,
};

impl Oracle {
    pub(super) fn seen(&mut self, name: &'static str) -> String {
        let agent = self.agents.entry(name).or_insert(STRANGER);
        // Who comes back is a newcomer, whatever stood in its way before.
        if agent.removed {
            (agent.removed, agent.paused, agent.state) = (false, false, "idle");
        }
        format!("saw {name}")
    }

    /// Returns whether the name is in the team.
    pub(super) fn is_member(&self, name: &str) -> bool {
        self.agents.get(name).is_some_and(|agent| !agent.removed)
    }

    pub(super) fn may_work(&self, name: &str) -> bool {
        self.agents.get(name).is_none_or(|a| !a.paused && !a.removed && a.state != "failed")
    }

    fn member(&mut self, name: &str) -> Result<&mut Agent, Kind> {
        self.agents.get_mut(name).filter(|agent| !agent.removed).ok_or(Kind::NotFound)
    }

    pub(super) fn begin_session(&mut self, name: &'static str, node: i64, lease_ms: i64) -> Answer {
        let now = self.now;
        let agent = self.agents.entry(name).or_insert(STRANGER);
        let is_same_node = agent.node == Some(node);
        let works_elsewhere = self.tasks.values().any(|task| {
            matches!(task.state, TaskState::Running | TaskState::Verifying)
                && task.owner == Some(name)
                && task.node.is_some_and(|other| other != node)
                && task.lease_until.is_some_and(|until| until >= now)
        });
        if works_elsewhere || (agent.lease_until.is_some_and(|until| until >= now) && !is_same_node) {
            return Err(Kind::Conflict);
        }
        // A restart in the same node is no cure.
        if !is_same_node {
            (agent.respawns, agent.last_crash) = (0, None);
        }
        if agent.state != "failed" || !is_same_node {
            agent.state = "ready";
        }
        agent.removed = false;
        agent.node = Some(node);
        agent.term += 1;
        agent.lease_until = Some(now + lease_ms);
        Ok(format!("session {}", agent.term))
    }

    pub(super) fn end_session(&mut self, name: &str, node: i64) -> String {
        let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.node == Some(node)) else {
            return "ended".into();
        };
        (agent.lease_until, agent.node) = (None, None);
        if agent.state != "failed" {
            agent.state = "idle";
        }
        self.drop_claims_of(name);
        "ended".into()
    }

    pub(super) fn crash(&mut self, name: &'static str, task: i64, spawn: bool) -> Answer {
        let agent = self.member(name)?;
        // A task that kills whoever takes it is bounded by its own attempts.
        let counts = spawn || agent.last_crash != Some(task);
        if counts && agent.respawns >= MAX_RESPAWNS {
            agent.state = "failed";
            self.drop_claims_of(name);
            return Ok("failed".into());
        }
        agent.respawns += i64::from(counts);
        agent.last_crash = Some(task);
        Ok(format!("respawned {}", agent.respawns))
    }

    /// A completed task lifts the count of respawns of its owner.
    pub(super) fn has_completed(&mut self, name: &str) {
        if let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.respawns > 0) {
            (agent.respawns, agent.last_crash) = (0, None);
        }
    }

    pub(super) fn tell(&mut self, name: &'static str, word: Word) -> Answer {
        let agent = self.member(name)?;
        match word {
            Word::Pause => agent.paused = true,
            Word::Resume => {
                (agent.paused, agent.respawns, agent.last_crash) = (false, 0, None);
                if agent.state == "failed" {
                    agent.state = if agent.lease_until.is_none() { "idle" } else { "ready" };
                }
            }
            Word::Kill => self.kill(name),
            Word::Remove => return self.remove(name),
        }
        Ok("told".into())
    }

    fn running_of(&self, name: &str) -> Vec<i64> {
        self.where_task(|_, task| task.owner == Some(name) && task.state == TaskState::Running)
    }

    fn kill(&mut self, name: &str) {
        for id in self.running_of(name) {
            self.leave_claims(id);
            self.end_attempt(id, Failure::Lapsed);
        }
    }

    fn remove(&mut self, name: &str) -> Answer {
        // Its node would have it back.
        let now = self.now;
        let lives =
            |agent: &Agent| agent.node.is_some() && agent.lease_until.is_some_and(|until| until >= now);
        if self.agents.get(name).is_some_and(lives) || !self.running_of(name).is_empty() {
            return Err(Kind::Conflict);
        }
        let agent = self.member(name)?;
        (agent.removed, agent.lease_until, agent.node) = (true, None, None);
        self.drop_claims_of(name);
        Ok("told".into())
    }

    /// Marks agents whose session's lease has lapsed; what they held apart from any task is free.
    pub(super) fn mark_stale(&mut self) -> usize {
        let now = self.now;
        let is_stale =
            |agent: &Agent| agent.state == "ready" && agent.lease_until.is_some_and(|until| until < now);
        let stale: Vec<&'static str> =
            self.agents.iter().filter(|(_, agent)| is_stale(agent)).map(|(name, _)| *name).collect();
        for name in &stale {
            self.agents.get_mut(name).expect("found above").state = "stale";
            self.drop_claims_of(name);
        }
        stale.len()
    }

    pub(super) fn renew_home(&mut self, node: i64, agents: &[&'static str], until: i64) {
        for name in agents {
            if let Some(agent) = self.agents.get_mut(name).filter(|agent| agent.node == Some(node)) {
                agent.lease_until = Some(until);
                if agent.state == "stale" {
                    agent.state = "ready";
                }
            }
        }
        if let Some(node) = self.node_mut(node).filter(|node| !node.stopped) {
            node.lease_until = until;
        }
    }

    pub(super) fn begin_node(&mut self, lease_ms: i64) -> String {
        self.nodes.push(Node { lease_until: self.now + lease_ms, stopped: false });
        format!("node {}", self.nodes())
    }

    fn node_mut(&mut self, id: i64) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id - 1).ok()?)
    }

    pub(super) fn end_node(&mut self, id: i64) -> String {
        let now = self.now;
        if let Some(node) = self.node_mut(id).filter(|node| !node.stopped) {
            *node = Node { lease_until: now, stopped: true };
            self.dethrone(id);
        }
        "ended".into()
    }

    fn dethrone(&mut self, node: i64) {
        let now = self.now;
        if let Some(leader) = self.leader.as_mut().filter(|leader| leader.node == node) {
            leader.lease_until = now;
        }
    }

    /// What a dead node held lapses at once.
    pub(super) fn bury(&mut self, id: i64) -> String {
        let held = self.where_task(|_, task| {
            let is_owned = matches!(task.state, TaskState::Running | TaskState::Verifying);
            is_owned && task.node == Some(id) && task.lease_until.is_some()
        });
        held.iter().for_each(|id| self.lapse_one(*id));
        let now = self.now;
        for agent in self.agents.values_mut().filter(|agent| agent.node == Some(id)) {
            agent.lease_until = Some(now - 1);
        }
        self.dethrone(id);
        if let Some(node) = self.node_mut(id) {
            *node = Node { lease_until: now, stopped: true };
        }
        format!("buried with {}", held.len())
    }

    pub(super) fn lead(&mut self, node: i64, lease_ms: i64) -> String {
        let (now, until) = (self.now, self.now + lease_ms);
        let term = match &self.leader {
            None => 1,
            Some(leader) if leader.node == node => leader.term,
            Some(leader) if leader.lease_until <= now => leader.term + 1,
            Some(_) => return "none".into(),
        };
        let is_long = |leader: &Leader| leader.node == node && leader.lease_until > now + lease_ms * 2 / 3;
        if !self.leader.as_ref().is_some_and(is_long) {
            self.leader = Some(Leader { node, term, lease_until: until });
        }
        format!("leads {term}")
    }

    pub(super) fn agent_rows(&self) -> Vec<AgentRow> {
        let row = |(name, agent): (&&str, &Agent)| AgentRow {
            name: (*name).into(),
            state: agent.state.into(),
            paused: agent.paused,
            removed: agent.removed,
            node: agent.node.map(|id| id.to_string()),
            term: agent.term,
            lease_until: agent.lease_until,
            respawns: agent.respawns,
            last_crash: agent.last_crash,
        };
        self.agents.iter().map(row).collect()
    }

    pub(super) fn node_rows(&self) -> Vec<NodeRow> {
        let rows = (1..).zip(&self.nodes);
        rows.map(|(id, node)| NodeRow { id, lease_until: node.lease_until, stopped: node.stopped }).collect()
    }
}
