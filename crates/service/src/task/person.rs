//! What a person may wish of a task, and what a supervisor gives back.
//!
//! Here live cancel, retry, reassign, release, park and unpark. Each raises the term, so that whoever had the task
//! can no longer write to it.

use super::finish::AVOID_MS;
use super::{AttemptEnd, Task, cancel_dependents, columns, end_attempt, lock, refuse};
use crate::claim::{release_of_task, take_from};
use quorate_model::{Error, EventKind, Kind, Result, RunId, TaskId, TaskState, Term};
use quorate_store::{Boxed, Sql, Tx, Write, args};
use std::collections::BTreeSet;

/// Calls a task off, and with it a run that does its work; a running child is stopped by its supervisor, who finds the
/// term changed.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// The task.
    pub id: TaskId,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Cancel {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            crate::goal::lock_runs_of(tx, &[self.id.0]).await?;
            let task = lock(tx, self.id).await?;
            if task.state.is_over() {
                return Err(over(&task, "cancel"));
            }
            cancel_all(tx, std::slice::from_ref(&task), &self.reason).await?;
            Ok(task)
        })
    }
}

/// Cancels tasks whose rows are locked and which are not over, all that need them, and the runs that do their work.
pub(crate) async fn cancel_all(tx: &mut Tx, tasks: &[Task], reason: &str) -> Result<()> {
    let ids: Vec<i64> = tasks.iter().map(|task| task.id.0).collect();
    tx.later(CANCEL, args![ids.as_slice(), reason]);
    tx.later(CANCEL_ATTEMPTS, args![ids.as_slice(), reason]);
    for task in tasks {
        tx.record(task.event(EventKind::TaskCancelled, format!("task {} cancelled: {reason}", task.named())));
        if task.holds {
            take_from(tx, task).await?;
        }
    }
    // Mostly none are left, since a run is cancelled as a whole: ask before going through them one by one.
    let needed = tx.all(NEEDED, args![ids], |row| row.int("id")).await?;
    for task in tasks.iter().filter(|task| needed.contains(&task.id.0)) {
        cancel_dependents(tx, task, "was cancelled").await?;
    }
    crate::goal::cancel_runs_of(tx, tasks).await
}

const CANCEL: Sql = Sql::Each {
    lite: "update tasks set state = 'cancelled', term = term + 1, lease_until = null, reason = $2, holds = 0, stuck = 0,
                  finished_at = now_ms() where id in (select value from json_each($1))",
    pg: "update tasks set state = 'cancelled', term = term + 1, lease_until = null, reason = $2, holds = 0, stuck = 0,
                  finished_at = now_ms() where id = any($1::bigint[])",
};
const CANCEL_ATTEMPTS: Sql = Sql::Each {
    lite: "update attempts set ended_at = now_ms(), outcome = 'cancelled', reason = $2
            where ended_at is null and task_id in (select value from json_each($1))",
    pg: "update attempts set ended_at = now_ms(), outcome = 'cancelled', reason = $2
            where ended_at is null and task_id = any($1::bigint[])",
};
const NEEDED: Sql = Sql::Each {
    lite: "select distinct n.needs_id as id from task_needs n join tasks t on t.id = n.task_id
            where n.needs_id in (select value from json_each($1)) and t.state in ('waiting', 'parked')",
    pg: "select distinct n.needs_id as id from task_needs n join tasks t on t.id = n.task_id
            where n.needs_id = any($1::bigint[]) and t.state in ('waiting', 'parked')",
};

fn over(task: &Task, what: &str) -> Error {
    Error::new(Kind::Conflict, format!("cannot {what} task {}: it is {} already", task.named(), task.state))
        .hint(format!("quorate task show {} tells how it ended", task.id))
}

/// Lets a failed or cancelled task be tried anew, and with it those that were cancelled because of it.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The task.
    pub id: TaskId,
}

impl Write for Retry {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            crate::run::lock_of(tx, self.id).await?;
            let task = lock(tx, self.id).await?;
            if !matches!(task.state, TaskState::Failed | TaskState::Cancelled) {
                let hint = match task.state {
                    TaskState::Completed => "add a new task to do it again".into(),
                    TaskState::Parked => crate::goal::moves(&task),
                    _ => "it is tried by itself; take it from its owner with `quorate task reassign`"
                        .to_owned(),
                };
                return Err(Error::new(
                    Kind::Conflict,
                    format!("task {} is {}: nothing to retry", task.named(), task.state),
                )
                .hint(hint));
            }
            if let Some(need) = dead_need(tx, &task).await? {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("task {} needs task {need}, which did not complete", task.named()),
                )
                .hint(format!("quorate task retry {need}: those that need it follow by themselves")));
            }
            reopen_all(tx, &[task], "a person asked for it").await?;
            lock(tx, self.id).await
        })
    }
}

/// Returns the task at the root of a need that failed or was cancelled, if there is one.
async fn dead_need(tx: &mut Tx, task: &Task) -> Result<Option<TaskId>> {
    let sql = "select coalesce(x.blocked_by, x.id) as id from task_needs n join tasks x on x.id = n.needs_id
                where n.task_id = $1 and x.state in ('failed', 'cancelled') order by 1 limit 1";
    tx.one(sql, args![task.id], |row| Ok(TaskId(row.int("id")?))).await
}

/// Opens failed or cancelled tasks again, those that were cancelled because of them, and the runs of all. One that waited for
/// its plan to be approved waits for that again.
pub(crate) async fn reopen_all(tx: &mut Tx, tasks: &[Task], why: &str) -> Result<()> {
    let mut ids: Vec<i64> = tasks.iter().map(|task| task.id.0).collect();
    for task in tasks {
        tx.later(
            "update tasks set state = case when parked_for = $2 then 'parked'
                                      when unmet = 0 and (not_before is null or not_before <= now_ms()) then 'ready'
                                      else 'waiting' end,
                    reason = case when parked_for = $2 then parked_for end,
                    parked_for = case when parked_for = $2 then parked_for end,
                    due_at = case when parked_for = $2 then null else not_before end,
                    term = term + 1, failures = 0, blocked_by = null,
                    finished_at = null, avoid_agent = null, result = null, claims_since = null, ready_at = now_ms()
              where id = $1",
            args![task.id, crate::goal::APPROVAL],
        );
        tx.record(task.event(EventKind::TaskRetried, format!("task {} is tried anew: {why}", task.named())));
    }
    let mut runs: BTreeSet<RunId> = tasks.iter().filter_map(|task| task.run_id).collect();
    for task in tx.all(REOPEN_BELOW, args![ids.as_slice()], Task::from_row).await? {
        let message = format!("task {} waits again: what it needs is tried anew", task.named());
        tx.record(task.event(EventKind::TaskRetried, message));
        ids.push(task.id.0);
        runs.extend(task.run_id);
    }
    cancel_hopeless(tx, &ids).await?;
    for run in runs {
        crate::run::reopen(tx, run).await?;
    }
    Ok(())
}

const REOPEN_BELOW: Sql = Sql::Each {
    lite: concat!(
        "update tasks set state = case when parked_for is null then 'waiting' else 'parked' end, term = term + 1,
                reason = parked_for, blocked_by = null, finished_at = null
          where state = 'cancelled' and blocked_by in (select value from json_each($1)) returning ",
        columns!()
    ),
    pg: concat!(
        "update tasks set state = case when parked_for is null then 'waiting' else 'parked' end, term = term + 1,
                reason = parked_for, blocked_by = null, finished_at = null
          where state = 'cancelled' and blocked_by = any($1::bigint[]) returning ",
        columns!()
    ),
};

/// Cancels again those of the tasks that need another task which did not complete either, or their run would
/// never end.
async fn cancel_hopeless(tx: &mut Tx, ids: &[i64]) -> Result<()> {
    for need in tx.all(DEAD_NEEDS, args![ids], |row| Ok(TaskId(row.int("id")?))).await? {
        let need = lock(tx, need).await?;
        cancel_dependents(tx, &need, "did not complete").await?;
    }
    Ok(())
}

const DEAD_NEEDS: Sql = Sql::Each {
    lite: "select distinct x.id from task_needs n join tasks t on t.id = n.task_id join tasks x on x.id = n.needs_id
            where n.task_id in (select value from json_each($1)) and t.state in ('waiting', 'parked')
              and x.state in ('failed', 'cancelled') order by x.id",
    pg: "select distinct x.id from task_needs n join tasks t on t.id = n.task_id join tasks x on x.id = n.needs_id
            where n.task_id = any($1::bigint[]) and t.state in ('waiting', 'parked')
              and x.state in ('failed', 'cancelled') order by x.id",
};

/// Takes a task from its owner, and, with `to`, keeps it for another.
#[derive(Debug, Clone)]
pub struct Reassign {
    /// The task.
    pub id: TaskId,
    /// The only agent that may take it from now on; `None` leaves that as it is: another than who had it comes first.
    pub to: Option<String>,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Reassign {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            crate::agent::must_exist(tx, self.to.as_deref()).await?;
            let task = lock(tx, self.id).await?;
            if task.state.is_over() {
                return Err(over(&task, "reassign"));
            }
            if matches!(task.state, TaskState::Running | TaskState::Verifying) {
                give_back(tx, &task, &self.reason, None);
                take_from(tx, &task).await?;
                // Whoever it was taken from is not the first to have it again.
                tx.later(
                    "update tasks set avoid_agent = owner, avoid_until = now_ms() + $2 where id = $1",
                    args![task.id, AVOID_MS],
                );
            } else {
                tx.later("update tasks set term = term + 1 where id = $1", args![task.id]);
            }
            tx.later("update tasks set agent = coalesce($2, agent) where id = $1", args![task.id, &self.to]);
            let message = format!("task {} taken from its owner: {}", task.named(), self.reason);
            tx.record(
                task.event(EventKind::TaskReleased, message)
                    .data(serde_json::json!({ "to": self.to, "reason": self.reason })),
            );
            Ok(task)
        })
    }
}

/// Makes a running task ready again without counting the attempt as a failure.
fn give_back(tx: &mut Tx, task: &Task, reason: &str, tail: Option<&str>) {
    tx.later(
        "update tasks set state = 'ready', term = term + 1, lease_until = null, holds = 0, stuck = 0, reason = $2,
                result = null, ready_at = now_ms() where id = $1",
        args![task.id, reason],
    );
    let end = AttemptEnd { outcome: "released", reason: Some(reason), tail, ..AttemptEnd::default() };
    end_attempt(tx, task, &end);
}

/// Gives a running task back on its owner's side: whoever takes it next begins anew, and what was claimed for it is free.
pub(super) async fn release(tx: &mut Tx, task: &Task, reason: &str, tail: Option<&str>) -> Result<()> {
    give_back(tx, task, reason, tail);
    release_of_task(tx, task).await?;
    tell_released(tx, task, reason);
    Ok(())
}

fn tell_released(tx: &mut Tx, task: &Task, reason: &str) {
    let message = format!("task {} given back: {reason}", task.named());
    tx.record(task.event(EventKind::TaskReleased, message));
}

/// How the reason of a task begins whose check was given back: a node that has taken it again may wait for the same still.
pub(crate) const CHECK_GIVEN_BACK: &str = "its check was given back: ";

/// The owner gives the task back unfinished: its node stops, say. Not counted as a failure.
#[derive(Debug, Clone)]
pub struct Release {
    /// The task.
    pub id: TaskId,
    /// The term under which it is held.
    pub term: Term,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Release {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if task.term != self.term || task.lease_until.is_none() {
                return Err(refuse(&task, self.term, "release"));
            }
            match task.state {
                TaskState::Running => release(tx, &task, &self.reason, None).await?,
                TaskState::Verifying => {
                    tx.later(
                        "update tasks set term = term + 1, lease_until = null, node = null, reason = $2 where id = $1",
                        args![task.id, format!("{CHECK_GIVEN_BACK}{}", self.reason)],
                    );
                    tell_released(tx, &task, &self.reason);
                }
                _ => return Err(refuse(&task, self.term, "release")),
            }
            Ok(())
        })
    }
}

/// Puts a task aside. With a term it is its owner's word; without, a person's.
#[derive(Debug, Clone)]
pub struct Park {
    /// The task.
    pub id: TaskId,
    /// The term under which it is held.
    pub term: Option<Term>,
    /// Why: rate limit, budget, approval.
    pub reason: String,
    /// When it goes on by itself: milliseconds since 1970 (UTC).
    pub until: Option<i64>,
}

impl Write for Park {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if self.term.is_some_and(|term| term != task.term || task.state != TaskState::Running) {
                return Err(refuse(&task, self.term.unwrap_or(task.term), "park"));
            }
            if !matches!(task.state, TaskState::Waiting | TaskState::Ready | TaskState::Running) {
                return Err(over(&task, "park"));
            }
            if task.state == TaskState::Running {
                end_attempt(
                    tx,
                    &task,
                    &AttemptEnd { outcome: "parked", reason: Some(&self.reason), ..AttemptEnd::default() },
                );
                if self.term.is_some() {
                    release_of_task(tx, &task).await?
                } else {
                    take_from(tx, &task).await?
                }
            }
            set_aside(tx, &task, &self.reason, self.until);
            Ok(task)
        })
    }
}

/// Makes a task parked whose attempt, if it had one, is ended.
pub(crate) fn set_aside(tx: &mut Tx, task: &Task, reason: &str, until: Option<i64>) {
    tx.later(
        "update tasks set state = 'parked', term = term + 1, lease_until = null, holds = 0, stuck = 0, reason = $2,
                parked_for = $2, due_at = $3 where id = $1",
        args![task.id, reason, until],
    );
    tx.record(task.event(EventKind::TaskParked, format!("task {} parked: {reason}", task.named())));
}

/// Lets a parked task go on. Where a budget was reached, the same is granted again, and all that waits for it goes on.
#[derive(Debug, Clone)]
pub struct Unpark {
    /// The task.
    pub id: TaskId,
}

impl Write for Unpark {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if task.state != TaskState::Parked {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("task {} is {}, not parked", task.named(), task.state),
                )
                .hint(format!("quorate task show {} tells why it is where it is", task.id)));
            }
            for task in crate::usage::grant(tx, task.clone()).await? {
                unpark(tx, &task, "a person asked for it");
            }
            Ok(task)
        })
    }
}

/// Makes a parked task ready, or waiting if needs are unmet or it was added for later.
pub(crate) fn unpark(tx: &mut Tx, task: &Task, why: &str) {
    tx.later(
        "update tasks set state = case when unmet = 0 and (not_before is null or not_before <= now_ms()) then 'ready'
                                  else 'waiting' end,
                term = term + 1, reason = null, parked_for = null, due_at = not_before, claims_since = null,
                ready_at = now_ms() where id = $1",
        args![task.id],
    );
    tx.record(task.event(EventKind::TaskUnparked, format!("task {} goes on: {why}", task.named())));
}
