//! The life of tasks: added, taken, reported on, finished, and a person's wishes.

use super::claims::{Place, Refusal, resources};
use super::picture::TaskRow;
use super::{Answer, Oracle, RETRY_AFTER_MS, Wish};
use quorate_model::resource::Mode;
use quorate_model::retry::{self, Failure};
use quorate_model::task::{Next, TaskInput};
use quorate_model::{Kind, TaskId, TaskState};
use std::collections::BTreeSet;

/// How long a retry prefers another agent once it is ready, in milliseconds.
const AVOID_MS: i64 = 2_000;
/// Tasks on which one take writes why it passed them over.
const NOTES_MAX: usize = 16;
/// A task that is passed over for the same reason again is written to this rarely, in milliseconds.
const NOTE_EVERY_MS: i64 = 5_000;

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) wish: Wish,
    pub(super) run: Option<i64>,
    needs: BTreeSet<i64>,
    pub(super) state: TaskState,
    pub(super) term: i64,
    pub(super) attempt: i64,
    attempt_term: i64,
    failures: i64,
    pub(super) owner: Option<&'static str>,
    pub(super) node: Option<i64>,
    pub(super) lease_ms: i64,
    pub(super) lease_until: Option<i64>,
    pub(super) active_at: i64,
    pub(super) stuck: bool,
    pub(super) not_before: Option<i64>,
    pub(super) due_at: Option<i64>,
    avoid: Option<&'static str>,
    pub(super) avoid_until: i64,
    pub(super) blocked_by: Option<i64>,
    is_put_aside: bool,
    progress: i64,
    result: Option<&'static str>,
    /// Passed over for its claims since then, the last time then, for this reason.
    pub(super) claims_since: Option<i64>,
    pub(super) claims_seen: Option<i64>,
    note: Option<Refusal>,
}

impl Task {
    fn new(wish: &Wish, run: Option<i64>, needs: BTreeSet<i64>, due: Option<i64>) -> Task {
        Task {
            wish: wish.clone(),
            run,
            needs,
            state: TaskState::Waiting,
            term: 0,
            attempt: 0,
            attempt_term: 0,
            failures: 0,
            owner: None,
            node: None,
            lease_ms: 0,
            lease_until: None,
            active_at: 0,
            stuck: false,
            not_before: due,
            due_at: due,
            avoid: None,
            avoid_until: 0,
            blocked_by: None,
            is_put_aside: false,
            progress: 0,
            result: None,
            claims_since: None,
            claims_seen: None,
            note: None,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.state, TaskState::Failed | TaskState::Cancelled)
    }
}

impl Oracle {
    pub(super) fn add(&mut self, run: Option<i64>, wish: &Wish) -> Answer {
        if let Some(run) = run
            && self.run(run)?.state != "running"
        {
            return Err(Kind::Conflict);
        }
        if wish.agent.is_some_and(|name| !self.is_member(name)) {
            return Err(Kind::NotFound);
        }
        self.add_all(run, std::slice::from_ref(wish))?;
        Ok(format!("added {}", self.count()))
    }

    pub(super) fn add_all(&mut self, run: Option<i64>, wishes: &[Wish]) -> Result<(), Kind> {
        let first = self.count() + 1;
        for wish in wishes {
            for need in wish.needs.iter().copied().collect::<BTreeSet<i64>>() {
                if self.task(need)?.is_lost() {
                    return Err(Kind::Invalid);
                }
            }
        }
        for wish in wishes {
            let new = wish.needs_new.iter().map(|place| first + *place as i64);
            let needs: BTreeSet<i64> = wish.needs.iter().copied().chain(new).collect();
            let due = wish.due_in_ms.map(|ms| self.now + ms);
            let mut task = Task::new(wish, run, needs, due);
            if self.is_open(&task) {
                task.state = TaskState::Ready;
            }
            self.tasks.insert(self.count() + 1, task);
        }
        Ok(())
    }

    pub(super) fn take(
        &mut self,
        agent: &'static str,
        node: Option<i64>,
        run: Option<i64>,
        resume: bool,
        lease_ms: i64,
    ) -> String {
        let held =
            self.where_task(|_, t| t.state == TaskState::Running && t.owner == Some(agent) && t.node == node);
        let id = match held.first() {
            Some(id) if resume => Some(self.hold_on(*id, lease_ms)),
            _ => self.begin_next(agent, node, run, lease_ms),
        };
        let Some(id) = id else {
            return self.again(agent, run).map_or("none".into(), |ms| format!("none for {ms} ms"));
        };
        let task = &self.tasks[&id];
        format!("took {id} term {} attempt {}", task.term, task.attempt)
    }

    fn hold_on(&mut self, id: i64, lease_ms: i64) -> i64 {
        let now = self.now;
        let task = self.tasks.get_mut(&id).expect("found by the caller");
        task.lease_ms = lease_ms;
        task.lease_until = Some(now + lease_ms);
        (task.active_at, task.stuck) = (now, false);
        id
    }

    fn begin_next(
        &mut self,
        agent: &'static str,
        node: Option<i64>,
        run: Option<i64>,
        lease_ms: i64,
    ) -> Option<i64> {
        let id = self.first_free(agent, run)?;
        for resource in resources(&self.tasks[&id].wish.claims) {
            self.make_claim(agent, resource, Mode::Exclusive, lease_ms, Some(id), true);
        }
        let now = self.now;
        let task = self.move_on(id, TaskInput::Take);
        task.term += 1;
        task.attempt += 1;
        task.attempt_term = task.term;
        (task.owner, task.node) = (Some(agent), node);
        task.lease_ms = lease_ms;
        task.lease_until = Some(now + lease_ms);
        (task.active_at, task.stuck) = (now, false);
        task.progress = 0;
        (task.claims_since, task.note) = (None, None);
        Some(id)
    }

    /// The first in order whose claims nothing stands in the way of; those before it are noted as passed over.
    fn first_free(&mut self, agent: &'static str, run: Option<i64>) -> Option<i64> {
        let mut able = self.where_task(|oracle, task| oracle.may_take(agent, run, task));
        able.sort_by_key(|id| (self.tasks[id].wish.priority, *id));
        let first_list = self.tasks[able.first()?].wish.claims.clone();
        let mut line = self.line();
        let mut notes = 0;
        for (place, id) in able.into_iter().enumerate() {
            let task = &self.tasks[&id];
            let wanted = resources(&task.wish.claims);
            // What asks for the very list that is held already need not be looked at.
            if place > 0 && !wanted.is_empty() && task.wish.claims == first_list {
                continue;
            }
            let in_order = Place::Task(task.wish.priority, id);
            let Some(why) = self.refusal(&line, agent, &wanted, Mode::Exclusive, in_order) else {
                return Some(id);
            };
            if self.is_impatient(task.claims_since) {
                self.join_line(&mut line, id);
            }
            if notes < NOTES_MAX {
                self.note(id, why);
            }
            notes += 1;
        }
        None
    }

    fn note(&mut self, id: i64, why: Refusal) {
        let now = self.now;
        let task = self.tasks.get_mut(&id).expect("it was passed over");
        let is_old = task.claims_seen.is_none_or(|at| at <= now - NOTE_EVERY_MS);
        if is_old || task.claims_since.is_none() && task.note.as_ref() != Some(&why) {
            task.claims_since.get_or_insert(now);
            task.claims_seen = Some(now);
            task.note = Some(why);
        }
    }

    /// In how long it may have one that until then is left to others.
    fn again(&self, agent: &str, run: Option<i64>) -> Option<i64> {
        let left = self
            .where_task(|oracle, task| oracle.is_ready_for(agent, run, task) && oracle.leaves(agent, task));
        left.into_iter().map(|id| self.tasks[&id].avoid_until - self.now).min()
    }

    fn may_take(&self, agent: &str, run: Option<i64>, task: &Task) -> bool {
        self.is_ready_for(agent, run, task) && !self.leaves(agent, task)
    }

    /// It failed at that last, and is to leave it to others for a while.
    fn leaves(&self, agent: &str, task: &Task) -> bool {
        task.wish.agent != Some(agent) && task.avoid == Some(agent) && task.avoid_until > self.now
    }

    fn is_ready_for(&self, agent: &str, run: Option<i64>, task: &Task) -> bool {
        let member = self.team.iter().find(|member| member.name == agent).expect("only the team takes");
        let is_kept_for = task.wish.agent == Some(agent);
        let can = |wanted| member.capabilities.is_none_or(|all| all.contains(&wanted));
        task.state == TaskState::Ready
            && self.may_work(agent)
            && (run.is_none() || task.run == run)
            && (task.wish.agent.is_none() || is_kept_for)
            && (is_kept_for || task.wish.capability.is_none_or(can))
    }

    pub(super) fn renew(
        &mut self,
        node: i64,
        held: &[(i64, i64, bool)],
        agents: &[&'static str],
        lease_ms: i64,
    ) -> String {
        let (now, until) = (self.now, self.now + lease_ms);
        let mut kept = BTreeSet::new();
        for (id, term, active) in held {
            let Some(task) = self.tasks.get_mut(id).filter(|task| task.term == *term) else { continue };
            if task.state.on(TaskInput::Renew).is_err() {
                continue;
            }
            task.lease_until = Some(until);
            if *active {
                (task.active_at, task.stuck) = (now, false);
            }
            kept.insert(*id);
        }
        kept.iter().for_each(|id| self.extend_claims(*id, until));
        self.renew_home(node, agents, until);
        format!("kept {kept:?}")
    }

    pub(super) fn progress(&mut self, id: i64, term: i64, percent: i64) -> Answer {
        if !(0..=100).contains(&percent) {
            return Err(Kind::Invalid);
        }
        self.running(id, term)?;
        let now = self.now;
        let task = self.move_on(id, TaskInput::Renew);
        task.progress = percent;
        (task.active_at, task.stuck) = (now, false);
        let until = now + task.lease_ms;
        task.lease_until = Some(until);
        self.extend_claims(id, until);
        Ok(format!("at {percent}"))
    }

    pub(super) fn done(&mut self, id: i64, term: i64, result: Option<&'static str>) -> Answer {
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
            task.stuck = false;
            if verify {
                task.term += 1;
                task.node = None;
                self.bind_claims(id);
            } else {
                self.complete(id);
            }
        }
        Ok(self.task(id)?.state.to_string())
    }

    /// What follows a completed task: its claims are free, those that needed only it go on.
    fn complete(&mut self, id: i64) {
        let task = self.tasks.get_mut(&id).expect("it is there");
        task.progress = 100;
        task.lease_until = None;
        let owner = task.owner;
        self.drop_claims(id);
        owner.iter().for_each(|name| self.has_completed(name));
        let now = self.now;
        let free = self.where_task(|oracle, t| {
            t.needs.contains(&id)
                && t.state == TaskState::Waiting
                && oracle.unmet(t) == 0
                && t.due_at.is_none_or(|due| due <= now)
        });
        free.into_iter().for_each(|id| self.open(id));
    }

    pub(super) fn open(&mut self, id: i64) {
        self.move_on(id, TaskInput::Open).note = None;
    }

    pub(super) fn fail(&mut self, id: i64, term: i64, is_final: bool) -> Answer {
        self.running(id, term)?;
        self.drop_claims(id);
        self.end_attempt(id, if is_final { Failure::Final } else { Failure::Ordinary });
        Ok(self.task(id)?.state.to_string())
    }

    /// What follows a failed attempt, its claims aside.
    pub(super) fn end_attempt(&mut self, id: i64, failure: Failure) {
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
        (task.note, task.stuck) = (None, false);
        let wait = match next {
            Next::GiveUp => return self.cancel_below(id),
            Next::Again => 0,
            Next::After(ms) => ms,
        };
        task.due_at = Some(now + wait);
        (task.avoid, task.avoid_until) = (task.owner, now + wait + AVOID_MS);
        task.result = None;
    }

    pub(super) fn take_check(
        &mut self,
        only: Option<i64>,
        run: Option<i64>,
        node: i64,
        lease_ms: i64,
    ) -> String {
        let now = self.now;
        let due = self.where_task(|_, task| {
            task.state == TaskState::Verifying
                && task.lease_until.is_none_or(|until| until < now)
                && (run.is_none() || task.run == run)
        });
        let Some(id) = due.into_iter().find(|id| only.is_none_or(|only| only == *id)) else {
            return "none".into();
        };
        let task = self.move_on(id, TaskInput::TakeCheck);
        task.term += 1;
        task.node = Some(node);
        task.lease_ms = lease_ms;
        task.lease_until = Some(now + lease_ms);
        format!("checks {id} term {}", task.term)
    }

    pub(super) fn settle_check(&mut self, id: i64, term: i64, passed: bool) -> Answer {
        let task = self.task(id)?;
        if task.term != term || task.state != TaskState::Verifying {
            return Err(Kind::Stale);
        }
        if passed {
            self.move_on(id, TaskInput::Passed);
            self.complete(id);
        } else {
            self.drop_claims(id);
            self.end_attempt(id, Failure::Ordinary);
        }
        Ok(self.task(id)?.state.to_string())
    }

    pub(super) fn cancel(&mut self, id: i64) -> Answer {
        if self.task(id)?.state.on(TaskInput::Cancel).is_err() {
            return Err(Kind::Conflict);
        }
        self.cancel_all(&[id]);
        Ok("cancelled".into())
    }

    /// Cancels tasks that have not ended, and all that need them.
    pub(super) fn cancel_all(&mut self, ids: &[i64]) {
        for id in ids {
            self.leave_claims(*id);
            let task = self.move_on(*id, TaskInput::Cancel);
            task.term += 1;
            task.lease_until = None;
            (task.note, task.stuck) = (None, false);
        }
        let is_open = |t: &Task| matches!(t.state, TaskState::Waiting | TaskState::Parked);
        let needed: BTreeSet<i64> =
            self.tasks.values().filter(|t| is_open(t)).flat_map(|t| t.needs.iter().copied()).collect();
        ids.iter().filter(|id| needed.contains(id)).for_each(|id| self.cancel_below(*id));
    }

    /// Cancels all that need a task, directly or not, and have not ended.
    fn cancel_below(&mut self, id: i64) {
        let root = self.tasks[&id].blocked_by.unwrap_or(id);
        for below in self.below(id) {
            if self.tasks[&below].state.on(TaskInput::Cancel).is_ok() {
                let task = self.move_on(below, TaskInput::Cancel);
                task.term += 1;
                task.blocked_by = Some(root);
                task.note = None;
            }
        }
    }

    fn below(&self, id: i64) -> BTreeSet<i64> {
        let direct = self.where_task(|_, t| t.needs.contains(&id));
        direct.iter().copied().chain(direct.iter().flat_map(|id| self.below(*id))).collect()
    }

    pub(super) fn retry(&mut self, id: i64) -> Answer {
        let task = self.task(id)?;
        if !task.is_lost() || task.needs.iter().any(|need| self.tasks[need].is_lost()) {
            return Err(Kind::Conflict);
        }
        self.try_anew(&[id]);
        Ok(self.task(id)?.state.to_string())
    }

    /// Opens lost tasks again, those that were cancelled because of them, and the runs of all.
    pub(super) fn try_anew(&mut self, ids: &[i64]) {
        let mut back: BTreeSet<i64> = ids.iter().copied().collect();
        for id in ids {
            let met = self.is_open(&self.tasks[id]);
            let task = self.move_on(*id, TaskInput::Retry { met });
            task.term += 1;
            task.failures = 0;
            (task.blocked_by, task.avoid, task.result, task.due_at) = (None, None, None, task.not_before);
            (task.claims_since, task.note, task.is_put_aside) = (None, None, false);
        }
        for (below, task) in &mut self.tasks {
            if task.blocked_by.is_some_and(|root| ids.contains(&root)) {
                task.state = if task.is_put_aside { TaskState::Parked } else { TaskState::Waiting };
                task.term += 1;
                task.blocked_by = None;
                back.insert(*below);
            }
        }
        let runs: BTreeSet<i64> = back.iter().filter_map(|id| self.tasks[id].run).collect();
        let dead: BTreeSet<i64> = back
            .iter()
            .filter(|id| matches!(self.tasks[id].state, TaskState::Waiting | TaskState::Parked))
            .flat_map(|id| self.tasks[id].needs.iter().copied())
            .filter(|need| self.tasks[need].is_lost())
            .collect();
        dead.into_iter().for_each(|need| self.cancel_below(need));
        runs.into_iter().for_each(|run| self.reopen_run(run));
    }

    pub(super) fn reassign(&mut self, id: i64, to: Option<&'static str>) -> Answer {
        if to.is_some_and(|name| !self.is_member(name)) {
            return Err(Kind::NotFound);
        }
        let state = self.task(id)?.state;
        if state.is_over() {
            return Err(Kind::Conflict);
        }
        if matches!(state, TaskState::Running | TaskState::Verifying) {
            self.leave_claims(id);
            self.give_back(id, TaskInput::Fail { next: Next::Again });
            let until = self.now + AVOID_MS;
            let task = self.tasks.get_mut(&id).expect("it is there");
            (task.avoid, task.avoid_until) = (task.owner, until);
        } else {
            self.tasks.get_mut(&id).expect("it is there").term += 1;
        }
        let task = self.tasks.get_mut(&id).expect("it is there");
        task.wish.agent = to.or(task.wish.agent);
        Ok("taken away".into())
    }

    fn give_back(&mut self, id: i64, input: TaskInput) {
        let task = self.move_on(id, input);
        task.term += 1;
        task.lease_until = None;
        (task.result, task.note, task.stuck) = (None, None, false);
    }

    pub(super) fn release(&mut self, id: i64, term: i64) -> Answer {
        let task = self.task(id)?;
        if task.term != term || task.lease_until.is_none() || task.state.on(TaskInput::Release).is_err() {
            return Err(Kind::Stale);
        }
        if task.state == TaskState::Running {
            self.drop_claims(id);
            self.give_back(id, TaskInput::Release);
        } else {
            let task = self.move_on(id, TaskInput::Release);
            task.term += 1;
            (task.lease_until, task.node) = (None, None);
        }
        Ok("given back".into())
    }

    pub(super) fn park(&mut self, id: i64, term: Option<i64>, wait: Option<i64>) -> Answer {
        let task = self.task(id)?;
        if term.is_some_and(|term| term != task.term || task.state != TaskState::Running) {
            return Err(Kind::Stale);
        }
        if task.state.on(TaskInput::Park).is_err() {
            return Err(Kind::Conflict);
        }
        match (task.state, term) {
            (TaskState::Running, Some(_)) => self.drop_claims(id),
            (TaskState::Running, None) => self.leave_claims(id),
            _ => {}
        }
        let until = wait.map(|ms| self.now + ms);
        let task = self.move_on(id, TaskInput::Park);
        task.term += 1;
        task.lease_until = None;
        task.due_at = until;
        task.is_put_aside = true;
        (task.note, task.stuck) = (None, false);
        Ok("parked".into())
    }

    pub(super) fn unpark_by_person(&mut self, id: i64) -> Answer {
        if self.task(id)?.state != TaskState::Parked {
            return Err(Kind::Conflict);
        }
        self.unpark(id);
        Ok("goes on".into())
    }

    pub(super) fn unpark(&mut self, id: i64) {
        let met = self.is_open(&self.tasks[&id]);
        let task = self.move_on(id, TaskInput::Unpark { met });
        task.term += 1;
        task.due_at = task.not_before;
        task.is_put_aside = false;
        (task.claims_since, task.note) = (None, None);
    }

    pub(super) fn where_task(&self, holds: impl Fn(&Oracle, &Task) -> bool) -> Vec<i64> {
        self.tasks.iter().filter(|(_, task)| holds(self, task)).map(|(id, _)| *id).collect()
    }

    pub(super) fn task(&self, id: i64) -> Result<&Task, Kind> {
        self.tasks.get(&id).ok_or(Kind::NotFound)
    }

    pub(super) fn running(&self, id: i64, term: i64) -> Result<(), Kind> {
        let task = self.task(id)?;
        let is_its = task.state == TaskState::Running && task.term == term;
        is_its.then_some(()).ok_or(Kind::Stale)
    }

    pub(super) fn move_on(&mut self, id: i64, input: TaskInput) -> &mut Task {
        let task = self.tasks.get_mut(&id).expect("it was looked up");
        task.state =
            task.state.on(input).unwrap_or_else(|e| panic!("task {id} {}: {input:?}: {e:?}", task.state));
        task
    }

    pub(super) fn unmet(&self, task: &Task) -> i64 {
        task.needs.iter().filter(|need| self.tasks[need].state != TaskState::Completed).count() as i64
    }

    fn is_open(&self, task: &Task) -> bool {
        self.unmet(task) == 0 && task.not_before.is_none_or(|due| due <= self.now)
    }

    pub(super) fn task_rows(&self) -> Vec<TaskRow> {
        self.tasks.iter().map(|(id, task)| self.task_row(*id, task)).collect()
    }

    fn task_row(&self, id: i64, task: &Task) -> TaskRow {
        TaskRow {
            id,
            run: task.run,
            state: task.state,
            agent: task.wish.agent.map(str::to_owned),
            term: task.term,
            attempt: task.attempt,
            failures: task.failures,
            unmet: self.unmet(task),
            progress: task.progress,
            owner: task.owner.map(str::to_owned),
            node: task.node.map(|id| id.to_string()),
            lease_until: task.lease_until,
            due_at: task.due_at,
            avoid: task.avoid.map(|name| (name.to_owned(), task.avoid_until)),
            blocked_by: task.blocked_by,
            claims_since: task.claims_since,
            claims_seen: task.claims_seen,
            result: task.result.map(str::to_owned),
            stuck: task.stuck,
        }
    }
}
