//! What a person may wish of a task, and what a supervisor gives back.
//!
//! Here live cancel, retry, reassign, release, park and unpark. Each raises the term, so that whoever had the task
//! can no longer write to it.

use super::{AttemptEnd, Task, cancel_dependents, columns, end_attempt, lock, refuse};
use crate::claim::release_of_task;
use quorate_model::{Error, EventKind, Kind, Result, TaskId, TaskState, Term};
use quorate_store::{Tx, Write, args};

/// Calls a task off; a running child is stopped by its supervisor, who finds the term changed.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// The task.
    pub id: TaskId,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Cancel {
    type Answer = Task;

    async fn apply(&self, tx: &mut Tx) -> Result<Task> {
        let task = lock(tx, self.id).await?;
        if task.state.is_over() {
            return Err(over(&task, "cancel"));
        }
        cancel_one(tx, &task, &self.reason).await?;
        cancel_dependents(tx, &task, "was cancelled").await?;
        Ok(task)
    }
}

/// Cancels one task whose row is locked and which is not over.
pub(crate) async fn cancel_one(tx: &mut Tx, task: &Task, reason: &str) -> Result<()> {
    tx.later(
        "update tasks set state = 'cancelled', term = term + 1, lease_until = null, reason = $2, holds = 0, stuck = 0,
                finished_at = now_ms() where id = $1",
        args![task.id, reason],
    );
    end_attempt(tx, task, &AttemptEnd { outcome: "cancelled", reason: Some(reason), ..AttemptEnd::default() });
    release_of_task(tx, task).await?;
    tx.record(task.event(EventKind::TaskCancelled, format!("task {} cancelled: {reason}", task.named())));
    Ok(())
}

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

    async fn apply(&self, tx: &mut Tx) -> Result<Task> {
        let task = lock(tx, self.id).await?;
        if !matches!(task.state, TaskState::Failed | TaskState::Cancelled) {
            let hint = match task.state {
                TaskState::Completed => "add a new task to do it again",
                TaskState::Parked => "let it go on with `quorate task unpark`",
                _ => "it is tried by itself; take it from its owner with `quorate task reassign`",
            };
            return Err(Error::new(Kind::Conflict, format!("task {} is {}: nothing to retry", task.named(), task.state)).hint(hint));
        }
        if let Some(need) = task.blocked_by.filter(|_| task.unmet > 0) {
            return Err(Error::new(Kind::Conflict, format!("task {} needs task {need}, which did not complete", task.named()))
                .hint(format!("quorate task retry {need}: those that need it follow by themselves")));
        }
        reopen_one(tx, &task, "a person asked for it").await?;
        crate::run::reopen(tx, task.run_id).await?;
        lock(tx, self.id).await
    }
}

/// Opens one failed or cancelled task again, and those that were cancelled because of it.
pub(crate) async fn reopen_one(tx: &mut Tx, task: &Task, why: &str) -> Result<()> {
    tx.run(
        "update tasks set state = case when unmet = 0 then 'ready' else 'waiting' end, term = term + 1, failures = 0,
                reason = null, blocked_by = null, due_at = null, finished_at = null, avoid_agent = null,
                ready_at = now_ms() where id = $1",
        args![task.id],
    )
    .await?;
    tx.record(task.event(EventKind::TaskRetried, format!("task {} is tried anew: {why}", task.named())));
    let sql = concat!(
        "update tasks set state = 'waiting', term = term + 1, reason = null, blocked_by = null, finished_at = null
          where state = 'cancelled' and blocked_by = $1 returning ",
        columns!()
    );
    for task in tx.all(sql, args![task.id], Task::from_row).await? {
        let message = format!("task {} waits again: what it needs is tried anew", task.named());
        tx.record(task.event(EventKind::TaskRetried, message));
    }
    cancel_hopeless(tx, task).await
}

/// Cancels again what waits for another need that did not complete either, or its run would never end.
async fn cancel_hopeless(tx: &mut Tx, task: &Task) -> Result<()> {
    let sql = "select distinct x.id from tasks w join task_needs n on n.task_id = w.id join tasks x on x.id = n.needs_id
                where w.state = 'waiting' and x.state in ('failed', 'cancelled') and x.id <> $1
                  and w.id in (select task_id from task_needs where needs_id = $1)";
    for need in tx.all(sql, args![task.id], |row| Ok(TaskId(row.int("id")?))).await? {
        let need = lock(tx, need).await?;
        cancel_dependents(tx, &need, "did not complete").await?;
    }
    Ok(())
}

/// Takes a task from its owner, and, with `to`, keeps it for another.
#[derive(Debug, Clone)]
pub struct Reassign {
    /// The task.
    pub id: TaskId,
    /// The only agent that may take it from now on; `None` leaves that open.
    pub to: Option<String>,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Reassign {
    type Answer = Task;

    async fn apply(&self, tx: &mut Tx) -> Result<Task> {
        crate::agent::must_exist(tx, self.to.as_deref()).await?;
        let task = lock(tx, self.id).await?;
        if task.state.is_over() {
            return Err(over(&task, "reassign"));
        }
        if matches!(task.state, TaskState::Running | TaskState::Verifying) {
            give_back(tx, &task, "released", &self.reason).await?;
        } else {
            tx.later("update tasks set term = term + 1 where id = $1", args![task.id]);
        }
        tx.later("update tasks set agent = coalesce($2, agent) where id = $1", args![task.id, &self.to]);
        let message = format!("task {} taken from its owner: {}", task.named(), self.reason);
        tx.record(task.event(EventKind::TaskReleased, message).data(serde_json::json!({ "to": self.to, "reason": self.reason })));
        Ok(task)
    }
}

/// Makes a running task ready again without counting the attempt as a failure.
async fn give_back(tx: &mut Tx, task: &Task, outcome: &'static str, reason: &str) -> Result<()> {
    tx.later(
        "update tasks set state = 'ready', term = term + 1, lease_until = null, holds = 0, stuck = 0, reason = $2,
                result = null, ready_at = now_ms() where id = $1",
        args![task.id, reason],
    );
    end_attempt(tx, task, &AttemptEnd { outcome, reason: Some(reason), ..AttemptEnd::default() });
    release_of_task(tx, task).await
}

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

    async fn apply(&self, tx: &mut Tx) -> Result<()> {
        let task = lock(tx, self.id).await?;
        if task.term != self.term || task.lease_until.is_none() {
            return Err(refuse(&task, self.term, "release"));
        }
        match task.state {
            TaskState::Running => give_back(tx, &task, "released", &self.reason).await?,
            TaskState::Verifying => tx.later(
                "update tasks set term = term + 1, lease_until = null, node = null where id = $1",
                args![task.id],
            ),
            _ => return Err(refuse(&task, self.term, "release")),
        }
        tx.record(task.event(EventKind::TaskReleased, format!("task {} given back: {}", task.named(), self.reason)));
        Ok(())
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

    async fn apply(&self, tx: &mut Tx) -> Result<Task> {
        let task = lock(tx, self.id).await?;
        if self.term.is_some_and(|term| term != task.term || task.state != TaskState::Running) {
            return Err(refuse(&task, self.term.unwrap_or(task.term), "park"));
        }
        if task.state.is_over() || task.state == TaskState::Verifying {
            return Err(over(&task, "park"));
        }
        if task.state == TaskState::Running {
            end_attempt(tx, &task, &AttemptEnd { outcome: "parked", reason: Some(&self.reason), ..AttemptEnd::default() });
            release_of_task(tx, &task).await?;
        }
        tx.later(
            "update tasks set state = 'parked', term = term + 1, lease_until = null, holds = 0, stuck = 0, reason = $2,
                    due_at = $3 where id = $1",
            args![task.id, &self.reason, self.until],
        );
        tx.record(task.event(EventKind::TaskParked, format!("task {} parked: {}", task.named(), self.reason)));
        Ok(task)
    }
}

/// Lets a parked task go on.
#[derive(Debug, Clone)]
pub struct Unpark {
    /// The task.
    pub id: TaskId,
}

impl Write for Unpark {
    type Answer = Task;

    async fn apply(&self, tx: &mut Tx) -> Result<Task> {
        let task = lock(tx, self.id).await?;
        if task.state != TaskState::Parked {
            return Err(Error::new(Kind::Conflict, format!("task {} is {}, not parked", task.named(), task.state)));
        }
        unpark(tx, &task, "a person asked for it");
        Ok(task)
    }
}

/// Makes a parked task ready, or waiting if needs are unmet.
pub(crate) fn unpark(tx: &mut Tx, task: &Task, why: &str) {
    tx.later(
        "update tasks set state = case when unmet = 0 then 'ready' else 'waiting' end, term = term + 1, reason = null,
                due_at = null, ready_at = now_ms() where id = $1",
        args![task.id],
    );
    tx.record(task.event(EventKind::TaskUnparked, format!("task {} goes on: {why}", task.named())));
}
