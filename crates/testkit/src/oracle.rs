//! The ledger's rules in plain memory: what every operation must answer and leave behind.
//!
//! Here lives [`Oracle`], the slow and obvious twin of `service`: no SQL, no counters, everything derived from what
//! is there. The transitions come from `model::task`, the retries from `model::retry`, the overlaps from
//! `model::resource`. Random tests play the same operations against it and the databases. Tasks, claims, the team,
//! runs and the passing of time have a file each; what is compared is in `picture`.

mod claims;
mod ops;
mod picture;
mod runs;
mod tasks;
mod team;
mod time;

pub use ops::{ClaimWish, Member, Op, Wish, Word};
pub use picture::{AgentRow, ClaimRow, NodeRow, Picture, RunRow, TaskRow, WaitRow};

use claims::{Claim, Waiter};
use quorate_model::{Kind, TaskState};
use runs::Run;
use std::collections::BTreeMap;
use tasks::Task;
use team::{Agent, Leader, Node};

/// First pause before another attempt, in milliseconds.
pub const RETRY_AFTER_MS: i64 = 40;
/// Respawns at most.
pub const MAX_RESPAWNS: i64 = 2;

/// The state of the ledger, as the rules have it.
#[derive(Debug, Clone)]
pub struct Oracle {
    now: i64,
    team: &'static [Member],
    tasks: BTreeMap<i64, Task>,
    claims: Vec<Claim>,
    claims_made: i64,
    waits: Vec<Waiter>,
    waits_made: i64,
    agents: BTreeMap<&'static str, Agent>,
    nodes: Vec<Node>,
    leader: Option<Leader>,
    runs: Vec<Run>,
}

type Answer = Result<String, Kind>;

impl Oracle {
    /// Makes an empty ledger at a time, with a team.
    pub fn new(now: i64, team: &'static [Member]) -> Oracle {
        Oracle {
            now,
            team,
            tasks: BTreeMap::new(),
            claims: Vec::new(),
            claims_made: 0,
            waits: Vec::new(),
            waits_made: 0,
            agents: BTreeMap::new(),
            nodes: Vec::new(),
            leader: None,
            runs: Vec::new(),
        }
    }

    /// Returns the ledger's time, in milliseconds since 1970 (UTC).
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Returns how many tasks there are; their ids begin with 1.
    pub fn count(&self) -> i64 {
        self.tasks.len() as i64
    }

    /// Returns how many runs there are; their ids begin with 1.
    pub fn runs(&self) -> i64 {
        self.runs.len() as i64
    }

    /// Returns how many nodes there were; their ids begin with 1.
    pub fn nodes(&self) -> i64 {
        self.nodes.len() as i64
    }

    /// Returns the current term of a task, 0 without it.
    pub fn term(&self, id: i64) -> i64 {
        self.tasks.get(&id).map_or(0, |task| task.term)
    }

    /// Returns the number of a task's latest attempt, 0 without it.
    pub fn attempt(&self, id: i64) -> i64 {
        self.tasks.get(&id).map_or(0, |task| task.attempt)
    }

    /// Returns who holds a task, or held it last.
    pub fn owner(&self, id: i64) -> Option<&'static str> {
        self.tasks.get(&id).and_then(|task| task.owner)
    }

    /// Returns the tasks that are in one of the states.
    pub fn in_states(&self, states: &[TaskState]) -> Vec<i64> {
        self.tasks.iter().filter(|(_, task)| states.contains(&task.state)).map(|(id, _)| *id).collect()
    }

    /// Returns the term of a live claim on the resource, if there is one.
    pub fn claim_term(&self, resource: &str) -> Option<i64> {
        self.live().find(|claim| claim.resource.as_str() == resource).map(|claim| claim.term)
    }

    /// Returns the terms of an agent's live claims that belong to no task.
    pub fn loose_claims(&self, agent: &str) -> Vec<i64> {
        self.live().filter(|c| c.agent == agent && c.task.is_none()).map(|c| c.term).collect()
    }

    /// Returns the place, resources and mode of everyone in the queue of claims.
    pub fn queue(&self) -> Vec<(&'static str, i64)> {
        self.waits.iter().map(|waiter| (waiter.agent, waiter.place)).collect()
    }

    /// Returns where an agent's session lives.
    pub fn home(&self, agent: &str) -> Option<i64> {
        self.agents.get(agent).and_then(|agent| agent.node)
    }

    /// Returns whether something will keep an agent from taking work until a person says otherwise.
    pub fn is_braked(&self, agent: &str) -> bool {
        !self.may_work(agent)
    }

    /// Returns the runs that have not ended.
    pub fn open_runs(&self) -> Vec<i64> {
        (1..).zip(&self.runs).filter(|(_, run)| run.state == "running").map(|(id, _)| id).collect()
    }

    /// Applies an operation; the answer begins with `error` or `none` if it was refused.
    pub fn apply(&mut self, op: &Op) -> String {
        let before = self.clone();
        match self.act(op) {
            Ok(answer) => answer,
            Err(kind) => {
                *self = before;
                format!("error {}", kind.as_str())
            }
        }
    }

    fn act(&mut self, op: &Op) -> Answer {
        match op {
            Op::Add(run, wish) => self.add(*run, wish),
            Op::Take { agent, node, run, resume, lease_ms } => {
                Ok(self.take(agent, *node, *run, *resume, *lease_ms))
            }
            Op::Renew { node, held, agents, lease_ms } => Ok(self.renew(*node, held, agents, *lease_ms)),
            Op::Progress(id, term, percent) => self.progress(*id, *term, *percent),
            Op::Done(id, term, result) => self.done(*id, *term, *result),
            Op::Fail(id, term, is_final) => self.fail(*id, *term, *is_final),
            Op::TakeCheck { task, run, node, lease_ms } => Ok(self.take_check(*task, *run, *node, *lease_ms)),
            Op::SettleCheck(id, term, passed) => self.settle_check(*id, *term, *passed),
            Op::Cancel(id) => self.cancel(*id),
            Op::Retry(id) => self.retry(*id),
            Op::Reassign(id, to) => self.reassign(*id, *to),
            Op::Release(id, term) => self.release(*id, *term),
            Op::Park(id, term, wait) => self.park(*id, *term, *wait),
            Op::Unpark(id) => self.unpark_by_person(*id),
            Op::Gone(id, term) => Ok(self.gone(*id, *term)),
            Op::Start(wishes) => self.start(wishes),
            Op::CancelRun(id) => self.cancel_run(*id),
            Op::ResumeRun(id) => self.resume_run(*id),
            Op::SettleRun(id) => self.settle_run(*id),
            Op::Claim(wish) => self.claim(wish),
            Op::Leave(agent, place) => Ok(self.leave(agent, *place)),
            Op::RenewClaims(terms, ttl_ms) => Ok(self.renew_claims(terms, *ttl_ms)),
            Op::ReleaseClaim(agent, resource, term) => self.release_claim(agent, resource, *term),
            Op::ForceRelease(resource) => self.force_release(resource),
            Op::Seen(agent) => Ok(self.seen(agent)),
            Op::BeginSession { agent, node, lease_ms } => self.begin_session(agent, *node, *lease_ms),
            Op::EndSession(agent, node) => Ok(self.end_session(agent, *node)),
            Op::Crash { agent, task, spawn } => self.crash(agent, *task, *spawn),
            Op::Tell(agent, word) => self.tell(agent, *word),
            Op::BeginNode(lease_ms) => Ok(self.begin_node(*lease_ms)),
            Op::EndNode(id) => Ok(self.end_node(*id)),
            Op::Bury(id) => Ok(self.bury(*id)),
            Op::Lead(node, lease_ms) => Ok(self.lead(*node, *lease_ms)),
            Op::Advance(ms) => Ok(self.advance(*ms)),
            Op::StepClock(ms) => Ok(self.step_clock(*ms)),
            Op::Check { judge, stuck_after_ms } => Ok(self.check(*judge, *stuck_after_ms)),
        }
    }
}
