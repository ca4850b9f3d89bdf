//! The ledger's rules in plain memory: what every operation on tasks and claims must answer.
//!
//! Here lives [`Oracle`], the slow and obvious twin of `service`: no SQL, no counters, everything derived from what
//! is there. The transitions come from `model::task`, the retries from `model::retry`, the overlaps from
//! `model::resource`. A random test plays the same operations against it and both databases. Queues of waiters and
//! impatient tasks are left out: they have suites of their own.

use quorate_model::resource::{Mode, Resource, conflict};
use quorate_model::retry::{self, Failure};
use quorate_model::task::{Next, TaskInput};
use quorate_model::{Kind, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// How long a retry prefers another agent once it is ready, in milliseconds.
const AVOID_MS: i64 = 2_000;

/// A task or claim operation, with every value that matters.
#[derive(Debug, Clone)]
pub enum Op {
    /// Adds a task.
    Add(Wish),
    /// The agent takes its next task.
    Take {
        /// Who.
        agent: &'static str,
        /// For how long.
        lease_ms: i64,
    },
    /// A supervisor renews one lease.
    Renew(i64, i64, i64),
    /// The owner of (task, term) reports a percentage.
    Progress(i64, i64, i64),
    /// The owner of (task, term) says done, with a result.
    Done(i64, i64, Option<&'static str>),
    /// The owner of (task, term) says failed, for good or not.
    Fail(i64, i64, bool),
    /// A node takes a check, of a task or of any, for so long.
    TakeCheck(Option<i64>, i64),
    /// The check of (task, term) passed or failed.
    SettleCheck(i64, i64, bool),
    /// A person cancels a task.
    Cancel(i64),
    /// A person lets a task be tried anew.
    Retry(i64),
    /// A person takes a task away, for another or for all.
    Reassign(i64, Option<&'static str>),
    /// The owner of (task, term) gives it back.
    Release(i64, i64),
    /// The owner or a person parks a task, perhaps for so long.
    Park(i64, Option<i64>, Option<i64>),
    /// A person lets a parked task go on.
    Unpark(i64),
    /// The agent claims resources, perhaps for a (task, term).
    Claim {
        /// Who.
        agent: &'static str,
        /// What.
        resources: Vec<&'static str>,
        /// Alone or shared.
        mode: Mode,
        /// For how long.
        ttl_ms: i64,
        /// The task it is bound to.
        task: Option<(i64, i64)>,
    },
    /// The agent gives up a resource, perhaps only that holding of it.
    ReleaseClaim(&'static str, &'static str, Option<i64>),
    /// A person ends all claims on a resource.
    ForceRelease(&'static str),
    /// Time passes.
    Advance(i64),
    /// A health check.
    Check,
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
}

/// An agent of the random test.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What it can do; `None` is everything.
    pub capabilities: Option<&'static [&'static str]>,
}

/// First pause before another attempt, in milliseconds.
pub const RETRY_AFTER_MS: i64 = 40;

#[derive(Debug, Clone)]
struct Task {
    wish: Wish,
    needs: BTreeSet<i64>,
    state: TaskState,
    term: i64,
    attempt: i64,
    attempt_term: i64,
    failures: i64,
    owner: Option<&'static str>,
    lease_ms: i64,
    lease_until: Option<i64>,
    not_before: Option<i64>,
    due_at: Option<i64>,
    avoid: Option<(&'static str, i64)>,
    blocked_by: Option<i64>,
    is_put_aside: bool,
    progress: i64,
    result: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct Claim {
    term: i64,
    resource: Resource,
    agent: &'static str,
    task: Option<i64>,
    mode: Mode,
    /// Ends with its task's holding, not by time.
    is_bound: bool,
    expires_at: i64,
}

/// The state of the ledger, as the rules have it.
#[derive(Debug, Clone)]
pub struct Oracle {
    now: i64,
    team: &'static [Member],
    tasks: BTreeMap<i64, Task>,
    claims: Vec<Claim>,
    claims_made: i64,
}

type Answer = Result<String, Kind>;

impl Oracle {
    /// Makes an empty ledger at a time, with a team.
    pub fn new(now: i64, team: &'static [Member]) -> Oracle {
        Oracle { now, team, tasks: BTreeMap::new(), claims: Vec::new(), claims_made: 0 }
    }

    /// Returns how many tasks there are; their ids begin with 1.
    pub fn count(&self) -> i64 {
        self.tasks.len() as i64
    }

    /// Returns the current term of a task, 0 without it.
    pub fn term(&self, id: i64) -> i64 {
        self.tasks.get(&id).map_or(0, |task| task.term)
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

    /// Writes down every task and live claim, a line each.
    pub fn picture(&self) -> Vec<String> {
        let tasks = self.tasks.iter().map(|(id, t)| {
            task_line(&TaskLine {
                id: *id,
                state: t.state,
                term: t.term,
                attempt: t.attempt,
                failures: t.failures,
                unmet: self.unmet(t),
                progress: t.progress,
                owner: t.owner,
                lease_until: t.lease_until,
                due_at: t.due_at,
                blocked_by: t.blocked_by,
                result: t.result,
            })
        });
        let claims = self
            .live()
            .map(|c| claim_line(c.term, c.resource.as_str(), c.agent, c.task, c.mode, c.expires_at));
        tasks.chain(claims).collect()
    }

    fn act(&mut self, op: &Op) -> Answer {
        match op {
            Op::Add(wish) => self.add(wish),
            Op::Take { agent, lease_ms } => Ok(self.take(agent, *lease_ms)),
            Op::Renew(id, term, lease_ms) => Ok(self.renew(*id, *term, *lease_ms)),
            Op::Progress(id, term, percent) => self.progress(*id, *term, *percent),
            Op::Done(id, term, result) => self.done(*id, *term, *result),
            Op::Fail(id, term, is_final) => self.fail(*id, *term, *is_final),
            Op::TakeCheck(id, lease_ms) => Ok(self.take_check(*id, *lease_ms)),
            Op::SettleCheck(id, term, passed) => self.settle_check(*id, *term, *passed),
            Op::Cancel(id) => self.cancel(*id),
            Op::Retry(id) => self.retry(*id),
            Op::Reassign(id, to) => self.reassign(*id, *to),
            Op::Release(id, term) => self.release(*id, *term),
            Op::Park(id, term, wait) => self.park(*id, *term, *wait),
            Op::Unpark(id) => self.unpark_by_person(*id),
            Op::Claim { agent, resources, mode, ttl_ms, task } => {
                self.claim(agent, resources, *mode, *ttl_ms, *task)
            }
            Op::ReleaseClaim(agent, resource, term) => self.release_claim(agent, resource, *term),
            Op::ForceRelease(resource) => self.force_release(resource),
            Op::Advance(ms) => {
                self.now += ms;
                Ok("later".into())
            }
            Op::Check => Ok(self.check()),
        }
    }

    fn add(&mut self, wish: &Wish) -> Answer {
        if wish.agent.is_some_and(|name| !self.team.iter().any(|member| member.name == name)) {
            return Err(Kind::NotFound);
        }
        let needs: BTreeSet<i64> = wish.needs.iter().copied().collect();
        for need in &needs {
            let state = self.task(*need)?.state;
            if matches!(state, TaskState::Failed | TaskState::Cancelled) {
                return Err(Kind::Invalid);
            }
        }
        let due = wish.due_in_ms.map(|ms| self.now + ms);
        let id = self.count() + 1;
        let mut task = Task {
            wish: wish.clone(),
            needs,
            state: TaskState::Waiting,
            term: 0,
            attempt: 0,
            attempt_term: 0,
            failures: 0,
            owner: None,
            lease_ms: 0,
            lease_until: None,
            not_before: due,
            due_at: due,
            avoid: None,
            blocked_by: None,
            is_put_aside: false,
            progress: 0,
            result: None,
        };
        if self.unmet(&task) == 0 && due.is_none_or(|due| due <= self.now) {
            task.state = TaskState::Ready;
        }
        self.tasks.insert(id, task);
        Ok(format!("added {id}"))
    }

    fn take(&mut self, agent: &'static str, lease_ms: i64) -> String {
        let mut able: Vec<(i64, i64)> = self
            .tasks
            .iter()
            .filter(|(_, task)| self.may_take(agent, task))
            .map(|(id, t)| (t.wish.priority, *id))
            .collect();
        able.sort_unstable();
        let free = able.into_iter().map(|(_, id)| id).find(|id| {
            let wanted = resources(&self.tasks[id].wish.claims);
            !self.is_held(agent, &wanted, Mode::Exclusive)
        });
        let Some(id) = free else { return "none".into() };
        for resource in resources(&self.tasks[&id].wish.claims) {
            self.make_claim(agent, resource, Mode::Exclusive, lease_ms, Some(id), true);
        }
        let now = self.now;
        let task = self.move_on(id, TaskInput::Take);
        task.term += 1;
        task.attempt += 1;
        task.attempt_term = task.term;
        task.owner = Some(agent);
        task.lease_ms = lease_ms;
        task.lease_until = Some(now + lease_ms);
        task.progress = 0;
        format!("took {id} term {} attempt {}", task.term, task.attempt)
    }

    fn may_take(&self, agent: &str, task: &Task) -> bool {
        let member = self.team.iter().find(|member| member.name == agent).expect("only the team takes");
        let is_kept_for = task.wish.agent == Some(agent);
        let can = |wanted| member.capabilities.is_none_or(|all| all.contains(&wanted));
        let avoided = task.avoid.is_some_and(|(name, until)| name == agent && until > self.now);
        task.state == TaskState::Ready
            && (task.wish.agent.is_none() || is_kept_for)
            && (is_kept_for || task.wish.capability.is_none_or(can))
            && (is_kept_for || !avoided)
    }

    fn renew(&mut self, id: i64, term: i64, lease_ms: i64) -> String {
        let until = self.now + lease_ms;
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.term == term) else {
            return "none".into();
        };
        if task.state.on(TaskInput::Renew).is_err() {
            return "none".into();
        }
        task.lease_until = Some(until);
        self.extend_claims(id, until);
        "renewed".into()
    }

    fn extend_claims(&mut self, id: i64, until: i64) {
        let now = self.now;
        for claim in
            self.claims.iter_mut().filter(|c| c.task == Some(id) && (c.is_bound || c.expires_at > now))
        {
            claim.expires_at = claim.expires_at.max(until);
        }
    }

    fn progress(&mut self, id: i64, term: i64, percent: i64) -> Answer {
        if !(0..=100).contains(&percent) {
            return Err(Kind::Invalid);
        }
        self.running(id, term)?;
        let now = self.now;
        let task = self.move_on(id, TaskInput::Renew);
        task.progress = percent;
        let until = now + task.lease_ms;
        task.lease_until = Some(until);
        self.extend_claims(id, until);
        Ok(format!("at {percent}"))
    }

    fn done(&mut self, id: i64, term: i64, result: Option<&'static str>) -> Answer {
        if result.is_some_and(|text| text.starts_with("no json")) {
            return Err(Kind::Invalid);
        }
        let task = self.task(id)?;
        let is_repeated = matches!(task.state, TaskState::Completed | TaskState::Verifying)
            && task.result == result
            && task.attempt_term == term;
        if !is_repeated {
            self.running(id, term)?;
            let verify = self.task(id)?.wish.verify;
            let task = self.move_on(id, TaskInput::Done { verify });
            task.result = result;
            task.lease_until = None;
            if verify {
                task.term += 1;
                self.bind_claims(id);
            } else {
                self.complete(id);
            }
        }
        Ok(self.task(id)?.state.to_string())
    }

    fn bind_claims(&mut self, id: i64) {
        let now = self.now;
        for claim in self.claims.iter_mut().filter(|c| c.task == Some(id) && c.expires_at > now) {
            claim.is_bound = true;
        }
    }

    /// What follows a completed task: its claims are free, those that needed only it go on.
    fn complete(&mut self, id: i64) {
        let task = self.tasks.get_mut(&id).expect("it is there");
        task.progress = 100;
        task.lease_until = None;
        self.drop_claims(id);
        let now = self.now;
        let free: Vec<i64> = self
            .tasks
            .iter()
            .filter(|(_, t)| t.needs.contains(&id) && t.state == TaskState::Waiting && self.unmet(t) == 0)
            .filter(|(_, t)| t.due_at.is_none_or(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in free {
            self.move_on(id, TaskInput::Open);
        }
    }

    fn fail(&mut self, id: i64, term: i64, is_final: bool) -> Answer {
        self.running(id, term)?;
        self.end_attempt(id, if is_final { Failure::Final } else { Failure::Ordinary });
        Ok(self.task(id)?.state.to_string())
    }

    fn end_attempt(&mut self, id: i64, failure: Failure) {
        self.drop_claims(id);
        let now = self.now;
        let task = &self.tasks[&id];
        let failures = task.failures + 1;
        let next = retry::next(failure, failures, task.wish.max_attempts, RETRY_AFTER_MS, TaskId(id));
        let input =
            if failure == Failure::Lapsed { TaskInput::Lapse { next } } else { TaskInput::Fail { next } };
        let task = self.move_on(id, input);
        task.term += 1;
        task.failures = failures;
        task.lease_until = None;
        let wait = match next {
            Next::GiveUp => return self.cancel_below(id),
            Next::Again => 0,
            Next::After(ms) => ms,
        };
        task.due_at = Some(now + wait);
        task.avoid = task.owner.map(|owner| (owner, now + wait + AVOID_MS));
        task.result = None;
    }

    fn take_check(&mut self, only: Option<i64>, lease_ms: i64) -> String {
        let now = self.now;
        let due = self.tasks.iter().find(|(id, task)| {
            task.state == TaskState::Verifying
                && task.lease_until.is_none_or(|until| until < now)
                && only.is_none_or(|only| only == **id)
        });
        let Some(id) = due.map(|(id, _)| *id) else { return "none".into() };
        let task = self.move_on(id, TaskInput::TakeCheck);
        task.term += 1;
        task.lease_ms = lease_ms;
        task.lease_until = Some(now + lease_ms);
        format!("checks {id} term {}", task.term)
    }

    fn settle_check(&mut self, id: i64, term: i64, passed: bool) -> Answer {
        let task = self.task(id)?;
        if task.term != term || task.state != TaskState::Verifying {
            return Err(Kind::Stale);
        }
        if passed {
            self.move_on(id, TaskInput::Passed);
            self.complete(id);
        } else {
            self.end_attempt(id, Failure::Ordinary);
        }
        Ok(self.task(id)?.state.to_string())
    }

    fn cancel(&mut self, id: i64) -> Answer {
        if self.task(id)?.state.on(TaskInput::Cancel).is_err() {
            return Err(Kind::Conflict);
        }
        let task = self.move_on(id, TaskInput::Cancel);
        task.term += 1;
        task.lease_until = None;
        self.drop_claims(id);
        self.cancel_below(id);
        Ok("cancelled".into())
    }

    /// Cancels all that need a task, directly or not, and have not ended.
    fn cancel_below(&mut self, id: i64) {
        let root = self.tasks[&id].blocked_by.unwrap_or(id);
        for below in self.below(id) {
            if self.tasks[&below].state.on(TaskInput::Cancel).is_ok() {
                let task = self.move_on(below, TaskInput::Cancel);
                task.term += 1;
                task.blocked_by = Some(root);
            }
        }
    }

    fn below(&self, id: i64) -> BTreeSet<i64> {
        let direct: Vec<i64> =
            self.tasks.iter().filter(|(_, t)| t.needs.contains(&id)).map(|(id, _)| *id).collect();
        direct.iter().copied().chain(direct.iter().flat_map(|id| self.below(*id))).collect()
    }

    fn retry(&mut self, id: i64) -> Answer {
        let task = self.task(id)?;
        let met = self.is_open(task);
        if !matches!(task.state, TaskState::Failed | TaskState::Cancelled) || self.has_dead_need(task) {
            return Err(Kind::Conflict);
        }
        let task = self.move_on(id, TaskInput::Retry { met });
        task.term += 1;
        task.failures = 0;
        (task.blocked_by, task.avoid, task.result, task.due_at) = (None, None, None, task.not_before);
        task.is_put_aside = false;
        let mut back: BTreeSet<i64> = [id].into();
        for (below, task) in self.tasks.iter_mut().filter(|(_, task)| task.blocked_by == Some(id)) {
            task.state = if task.is_put_aside { TaskState::Parked } else { TaskState::Waiting };
            task.term += 1;
            task.blocked_by = None;
            back.insert(*below);
        }
        let dead: BTreeSet<i64> = back
            .iter()
            .filter(|id| matches!(self.tasks[id].state, TaskState::Waiting | TaskState::Parked))
            .flat_map(|id| self.tasks[id].needs.iter().copied())
            .filter(|need| matches!(self.tasks[need].state, TaskState::Failed | TaskState::Cancelled))
            .collect();
        for need in dead {
            self.cancel_below(need);
        }
        Ok(self.task(id)?.state.to_string())
    }

    fn has_dead_need(&self, task: &Task) -> bool {
        task.needs
            .iter()
            .any(|need| matches!(self.tasks[need].state, TaskState::Failed | TaskState::Cancelled))
    }

    fn reassign(&mut self, id: i64, to: Option<&'static str>) -> Answer {
        if to.is_some_and(|name| !self.team.iter().any(|member| member.name == name)) {
            return Err(Kind::NotFound);
        }
        let state = self.task(id)?.state;
        if state.is_over() {
            return Err(Kind::Conflict);
        }
        if matches!(state, TaskState::Running | TaskState::Verifying) {
            self.drop_claims(id);
            let task = self.move_on(id, TaskInput::Fail { next: Next::Again });
            task.lease_until = None;
            task.result = None;
        }
        let task = self.tasks.get_mut(&id).expect("it is there");
        task.term += 1;
        task.wish.agent = to.or(task.wish.agent);
        Ok("taken away".into())
    }

    fn release(&mut self, id: i64, term: i64) -> Answer {
        let task = self.task(id)?;
        if task.term != term || task.lease_until.is_none() || task.state.on(TaskInput::Release).is_err() {
            return Err(Kind::Stale);
        }
        if task.state == TaskState::Running {
            self.drop_claims(id);
        }
        let task = self.move_on(id, TaskInput::Release);
        task.term += 1;
        task.lease_until = None;
        if task.state == TaskState::Ready {
            task.result = None;
        }
        Ok("given back".into())
    }

    fn park(&mut self, id: i64, term: Option<i64>, wait: Option<i64>) -> Answer {
        let task = self.task(id)?;
        if term.is_some_and(|term| term != task.term || task.state != TaskState::Running) {
            return Err(Kind::Stale);
        }
        if task.state.on(TaskInput::Park).is_err() {
            return Err(Kind::Conflict);
        }
        self.drop_claims(id);
        let until = wait.map(|ms| self.now + ms);
        let task = self.move_on(id, TaskInput::Park);
        task.term += 1;
        task.lease_until = None;
        task.due_at = until;
        task.is_put_aside = true;
        Ok("parked".into())
    }

    fn unpark_by_person(&mut self, id: i64) -> Answer {
        if self.task(id)?.state != TaskState::Parked {
            return Err(Kind::Conflict);
        }
        self.unpark(id);
        Ok("goes on".into())
    }

    fn unpark(&mut self, id: i64) {
        let met = self.is_open(&self.tasks[&id]);
        let task = self.move_on(id, TaskInput::Unpark { met });
        task.term += 1;
        task.due_at = task.not_before;
        task.is_put_aside = false;
    }

    fn claim(
        &mut self,
        agent: &'static str,
        names: &[&'static str],
        mode: Mode,
        ttl_ms: i64,
        task: Option<(i64, i64)>,
    ) -> Answer {
        if let Some((id, term)) = task {
            self.running(id, term)?;
            if self.task(id)?.owner != Some(agent) {
                return Err(Kind::Conflict);
            }
        }
        let wanted = resources(names);
        if self.is_held(agent, &wanted, mode) {
            return Err(Kind::Conflict);
        }
        let terms = wanted.into_iter().map(|resource| {
            self.make_claim(agent, resource, mode, ttl_ms, task.map(|(id, _)| id), false).to_string()
        });
        Ok(format!("claimed {}", terms.collect::<Vec<_>>().join(" ")))
    }

    fn is_held(&self, agent: &str, wanted: &[Resource], mode: Mode) -> bool {
        self.live()
            .filter(|claim| claim.agent != agent)
            .any(|claim| wanted.iter().any(|r| conflict(r, mode, &claim.resource, claim.mode)))
    }

    /// Makes a claim, or renews the same one, which is bound if it was.
    fn make_claim(
        &mut self,
        agent: &'static str,
        resource: Resource,
        mode: Mode,
        ttl_ms: i64,
        task: Option<i64>,
        is_bound: bool,
    ) -> i64 {
        let expires_at = self.now + ttl_ms;
        let own = self
            .live()
            .position(|c| c.agent == agent && c.resource == resource && c.mode == mode && c.task == task);
        if let Some(term) = own.and_then(|place| self.live().nth(place)).map(|claim| claim.term) {
            let claim = self.claims.iter_mut().find(|claim| claim.term == term).expect("found above");
            claim.expires_at = expires_at;
            return term;
        }
        self.claims_made += 1;
        let term = self.claims_made;
        self.claims.push(Claim { term, resource, agent, task, mode, is_bound, expires_at });
        term
    }

    fn release_claim(&mut self, agent: &str, resource: &str, term: Option<i64>) -> Answer {
        let named: Vec<&Claim> = self.live().filter(|claim| claim.resource.as_str() == resource).collect();
        let own: Vec<i64> = named.iter().filter(|c| c.agent == agent).map(|claim| claim.term).collect();
        let ended: Vec<i64> = match term {
            Some(term) if own.contains(&term) => vec![term],
            Some(_) => return Err(Kind::Stale),
            None if !own.is_empty() => own,
            None if named.is_empty() => return Err(Kind::NotFound),
            None => return Err(Kind::Conflict),
        };
        self.claims.retain(|claim| !ended.contains(&claim.term));
        Ok(format!("released {}", ended.len()))
    }

    fn force_release(&mut self, resource: &str) -> Answer {
        let ended: Vec<i64> =
            self.live().filter(|claim| claim.resource.as_str() == resource).map(|claim| claim.term).collect();
        if ended.is_empty() {
            return Err(Kind::NotFound);
        }
        self.claims.retain(|claim| !ended.contains(&claim.term));
        Ok(format!("released {}", ended.len()))
    }

    fn check(&mut self) -> String {
        let now = self.now;
        let is_due = |task: &Task| task.due_at.is_some_and(|due| due <= now);
        let due =
            self.where_task(|oracle, t| t.state == TaskState::Waiting && oracle.unmet(t) == 0 && is_due(t));
        for id in &due {
            self.move_on(*id, TaskInput::Open);
        }
        let parked = self.where_task(|_, t| t.state == TaskState::Parked && is_due(t));
        for id in &parked {
            self.unpark(*id);
        }
        let mut lapsed = self.where_task(|_, t| t.lease_until.is_some_and(|until| until < now));
        lapsed.sort_by_key(|id| (self.tasks[id].lease_until, *id));
        for id in &lapsed {
            match self.tasks[id].state {
                TaskState::Verifying => {
                    let task = self.move_on(*id, TaskInput::Lapse { next: Next::Again });
                    task.term += 1;
                    task.lease_until = None;
                }
                _ => self.end_attempt(*id, Failure::Lapsed),
            }
        }
        let alive: Vec<i64> = self.live().map(|claim| claim.term).collect();
        let expired = self.claims.len() - alive.len();
        self.claims.retain(|claim| alive.contains(&claim.term));
        format!("due {} lapsed {} expired {expired}", due.len() + parked.len(), lapsed.len())
    }

    fn where_task(&self, holds: impl Fn(&Oracle, &Task) -> bool) -> Vec<i64> {
        self.tasks.iter().filter(|(_, task)| holds(self, task)).map(|(id, _)| *id).collect()
    }

    fn task(&self, id: i64) -> Result<&Task, Kind> {
        self.tasks.get(&id).ok_or(Kind::NotFound)
    }

    fn running(&self, id: i64, term: i64) -> Result<(), Kind> {
        let task = self.task(id)?;
        let is_its = task.state == TaskState::Running && task.term == term;
        is_its.then_some(()).ok_or(Kind::Stale)
    }

    fn move_on(&mut self, id: i64, input: TaskInput) -> &mut Task {
        let task = self.tasks.get_mut(&id).expect("it was looked up");
        task.state =
            task.state.on(input).unwrap_or_else(|e| panic!("task {id} {}: {input:?}: {e:?}", task.state));
        task
    }

    fn unmet(&self, task: &Task) -> i64 {
        task.needs.iter().filter(|need| self.tasks[need].state != TaskState::Completed).count() as i64
    }

    fn is_open(&self, task: &Task) -> bool {
        self.unmet(task) == 0 && task.not_before.is_none_or(|due| due <= self.now)
    }

    fn live(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.expires_at > self.now || self.is_kept_by_task(claim))
    }

    fn is_kept_by_task(&self, claim: &Claim) -> bool {
        let task = claim.task.and_then(|id| self.tasks.get(&id));
        claim.is_bound && task.is_some_and(|t| matches!(t.state, TaskState::Running | TaskState::Verifying))
    }

    fn drop_claims(&mut self, id: i64) {
        self.claims.retain(|claim| claim.task != Some(id));
    }
}

fn resources(names: &[&'static str]) -> Vec<Resource> {
    let mut read = Vec::<Resource>::new();
    for name in names {
        let resource = Resource::parse(name, None).expect("the test's names are resources");
        if !read.contains(&resource) {
            read.push(resource);
        }
    }
    read
}

/// What is compared of a task.
#[derive(Debug)]
pub struct TaskLine<'a> {
    /// Its id.
    pub id: i64,
    /// Its state.
    pub state: TaskState,
    /// Its term.
    pub term: i64,
    /// The number of its latest attempt.
    pub attempt: i64,
    /// The failures that count.
    pub failures: i64,
    /// How many of its needs are not completed.
    pub unmet: i64,
    /// Percent.
    pub progress: i64,
    /// Who has it, or had it last.
    pub owner: Option<&'a str>,
    /// The end of its lease.
    pub lease_until: Option<i64>,
    /// Not before.
    pub due_at: Option<i64>,
    /// The task whose end cancelled it.
    pub blocked_by: Option<i64>,
    /// Its result.
    pub result: Option<&'a str>,
}

/// Writes down a task.
pub fn task_line(line: &TaskLine<'_>) -> String {
    format!("{line:?}")
}

/// Writes down a claim.
pub fn claim_line(
    term: i64,
    resource: &str,
    agent: &str,
    task: Option<i64>,
    mode: Mode,
    expires_at: i64,
) -> String {
    format!("claim {term} {resource} {agent} {task:?} {mode} {expires_at}")
}
