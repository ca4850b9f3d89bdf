//! What time alone brings about: leases lapse, tasks come due, claims expire; and what a stepped clock moves.

use super::Oracle;
use super::tasks::Task;
use quorate_model::TaskState;
use quorate_model::retry::Failure;
use quorate_model::task::{Next, TaskInput};

impl Oracle {
    pub(super) fn advance(&mut self, ms: i64) -> String {
        self.now += ms;
        "later".into()
    }

    /// Leases move with the clock on the wall; what a person asked for by that clock does not.
    pub(super) fn step_clock(&mut self, ms: i64) -> String {
        self.now += ms;
        let shift = |at: &mut Option<i64>| *at = at.map(|at| at + ms);
        for task in self.tasks.values_mut() {
            shift(&mut task.lease_until);
            task.avoid_until += ms;
            if task.state == TaskState::Running {
                task.active_at += ms;
            }
            if task.state == TaskState::Waiting && task.due_at != task.not_before {
                shift(&mut task.due_at);
            }
            if task.state == TaskState::Ready && task.claims_since.is_some() {
                shift(&mut task.claims_since);
                shift(&mut task.claims_seen);
            }
        }
        self.agents.values_mut().for_each(|agent| shift(&mut agent.lease_until));
        self.nodes.iter_mut().filter(|node| !node.stopped).for_each(|node| node.lease_until += ms);
        self.leader.iter_mut().for_each(|leader| leader.lease_until += ms);
        self.claims.iter_mut().for_each(|claim| claim.expires_at += ms);
        for wait in &mut self.waits {
            wait.since += ms;
            wait.deadline += ms;
            wait.seen_at += ms;
        }
        "stepped".into()
    }

    pub(super) fn check(&mut self, judge: bool, stuck_after_ms: i64) -> String {
        let due = self.open_due();
        let (mut lapsed, mut expired, mut stale) = (0, 0, 0);
        if judge {
            lapsed = self.lapse();
            expired = self.expire();
            stale = self.mark_stale();
        }
        let stuck = self.mark_stuck(stuck_after_ms);
        let runs = self.settle_all();
        let next = self.next_in_ms();
        format!(
            "due {due} lapsed {lapsed} expired {expired} stale {stale} stuck {stuck} runs {runs} next {next:?}"
        )
    }

    fn open_due(&mut self) -> usize {
        let now = self.now;
        let is_due = |task: &Task| task.due_at.is_some_and(|due| due <= now);
        let waiting =
            self.where_task(|oracle, t| t.state == TaskState::Waiting && oracle.unmet(t) == 0 && is_due(t));
        waiting.iter().for_each(|id| self.open(*id));
        let parked = self.where_task(|_, t| t.state == TaskState::Parked && is_due(t));
        parked.iter().for_each(|id| self.unpark(*id));
        waiting.len() + parked.len()
    }

    fn lapse(&mut self) -> usize {
        let now = self.now;
        let mut lapsed = self.where_task(|_, t| t.lease_until.is_some_and(|until| until < now));
        lapsed.sort_by_key(|id| (self.tasks[id].lease_until, *id));
        lapsed.iter().for_each(|id| self.lapse_one(*id));
        lapsed.len()
    }

    pub(super) fn lapse_one(&mut self, id: i64) {
        if self.tasks[&id].state == TaskState::Verifying {
            let task = self.move_on(id, TaskInput::Lapse { next: Next::Again });
            task.term += 1;
            (task.lease_until, task.node) = (None, None);
        } else {
            self.drop_claims(id);
            self.end_attempt(id, Failure::Lapsed);
        }
    }

    fn mark_stuck(&mut self, after_ms: i64) -> usize {
        let now = self.now;
        let silent = self.where_task(|_, t| {
            let is_alive = t.lease_until.is_some_and(|until| until >= now);
            t.state == TaskState::Running
                && !t.stuck
                && is_alive
                && t.active_at < now - after_ms.max(t.lease_ms / 2)
        });
        for id in &silent {
            self.tasks.get_mut(id).expect("found above").stuck = true;
        }
        silent.len()
    }

    /// What is over already has been done, or waits for something else than time.
    fn next_in_ms(&self) -> Option<i64> {
        let is_ahead = |at: &i64| *at > self.now;
        let tasks = self.tasks.values().filter_map(|t| match t.state {
            TaskState::Waiting if self.unmet(t) > 0 => None,
            TaskState::Waiting | TaskState::Parked => t.due_at.filter(is_ahead),
            // A lease lapses a moment after its end.
            _ => t.lease_until.filter(|until| *until >= self.now),
        });
        let claims = self.claims.iter().map(|claim| claim.expires_at).filter(is_ahead);
        tasks.chain(claims).min().map(|at| at - self.now)
    }
}
