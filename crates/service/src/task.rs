//! What can be done with a task: add, take, report, finish, and a person's wishes.
//!
//! Here live the task as it is stored and the pieces that several operations share. Each operation is a request
//! value in a file of its own family: `add`, `take`, `finish`, `lease`, `park`, `person`, `rest`. The rules of what may
//! follow what live in `model::task`; the statements here repeat them as guards.

mod add;
mod finish;
mod lease;
mod park;
mod person;
mod rest;
mod take;

pub use add::{Add, NewTask, Work};
pub use finish::{Done, DoneAnswer, Fail, Outcome, REASON_MAX, RESULT_MAX, SettleCheck};
pub use lease::{Held, Progress, Renew, Renewed, Started, WORD_MAX};
pub use park::{Aside, Rest, SetAside};
pub use person::{Cancel, Park, Reassign, Release, Retry, Unpark};
pub use rest::StillRests;
pub use take::{Has, Kinds, NeedResult, PastAttempt, Take, TakeAnswer, TakeCheck, Taken};

pub(crate) use add::add_tasks;
pub(crate) use finish::{Failed, end_for, fail_attempt};
pub(crate) use person::{CHECK_GIVEN_BACK, cancel_all, reopen_all, set_aside, unpark};
pub(crate) use take::need_results;

use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState, Term};
use quorate_store::{Row, Sql, Tx, args};

/// A task as it is stored. Times are milliseconds since 1970 (UTC) on the ledger's clock.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The run it serves, if any.
    pub run_id: Option<RunId>,
    /// Its name within the run.
    pub key: Option<String>,
    /// One line for people.
    pub title: String,
    /// Where it is in its life.
    pub state: TaskState,
    /// 0 high, 1 medium, 2 low.
    pub priority: i64,
    /// Which agents may take it.
    pub capability: Option<String>,
    /// The one agent that may take it.
    pub agent: Option<String>,
    /// A command …
    pub run: Option<String>,
    /// … or words.
    pub prompt: Option<String>,
    /// The check after the agent said done.
    pub verify: Option<String>,
    /// Resources taken together with it.
    pub claims: Vec<String>,
    /// Files it is to leave.
    pub outputs: Vec<String>,
    /// How long an attempt may take.
    pub timeout_ms: Option<i64>,
    /// Failures at most.
    pub max_attempts: i64,
    /// Number of the latest attempt; 0 before the first.
    pub attempt: i64,
    /// Failures that count.
    pub failures: i64,
    /// Which holding it is.
    pub term: Term,
    /// Who has it, or had it last.
    pub owner: Option<String>,
    /// The node that supervises it.
    pub node: Option<String>,
    /// When the lease ends, while someone holds it.
    pub lease_until: Option<i64>,
    /// Not before.
    pub due_at: Option<i64>,
    /// How many tasks it needs.
    pub needs: i64,
    /// Those of them that are not completed.
    pub unmet: i64,
    /// Percent.
    pub progress: i64,
    /// The last word of progress.
    pub message: Option<String>,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// The need whose end cancelled it.
    pub blocked_by: Option<TaskId>,
    /// The result, a JSON text.
    pub result: Option<String>,
    /// When it was added.
    pub created_at: i64,
    /// When the latest attempt began.
    pub started_at: Option<i64>,
    /// The last sign of life of the attempt.
    pub active_at: Option<i64>,
    /// Whether it is marked stuck.
    pub stuck: bool,
    /// When it ended.
    pub finished_at: Option<i64>,
    pub(crate) dependents: i64,
    pub(crate) holds: bool,
}

macro_rules! columns {
    () => {
        "id, run_id, key, title, state, priority, capability, agent, run, prompt, verify, claims, outputs, timeout_ms, \
         max_attempts, attempt, failures, term, owner, node, lease_until, due_at, needs, unmet, progress, message, \
         reason, blocked_by, result, created_at, started_at, active_at, stuck, finished_at, dependents, holds"
    };
}
pub(crate) use columns;

impl Task {
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Task> {
        Ok(Task {
            id: TaskId(row.int("id")?),
            run_id: row.opt_int("run_id")?.map(RunId),
            key: row.opt_text("key")?,
            title: row.text("title")?,
            state: row.text("state")?.parse()?,
            priority: row.int("priority")?,
            capability: row.opt_text("capability")?,
            agent: row.opt_text("agent")?,
            run: row.opt_text("run")?,
            prompt: row.opt_text("prompt")?,
            verify: row.opt_text("verify")?,
            claims: list(row.opt_text("claims")?),
            outputs: list(row.opt_text("outputs")?),
            timeout_ms: row.opt_int("timeout_ms")?,
            max_attempts: row.int("max_attempts")?,
            attempt: row.int("attempt")?,
            failures: row.int("failures")?,
            term: Term(row.int("term")?),
            owner: row.opt_text("owner")?,
            node: row.opt_text("node")?,
            lease_until: row.opt_int("lease_until")?,
            due_at: row.opt_int("due_at")?,
            needs: row.int("needs")?,
            unmet: row.int("unmet")?,
            progress: row.int("progress")?,
            message: row.opt_text("message")?,
            reason: row.opt_text("reason")?,
            blocked_by: row.opt_int("blocked_by")?.map(TaskId),
            result: row.opt_text("result")?,
            created_at: row.int("created_at")?,
            started_at: row.opt_int("started_at")?,
            active_at: row.opt_int("active_at")?,
            stuck: row.flag("stuck")?,
            finished_at: row.opt_int("finished_at")?,
            dependents: row.int("dependents")?,
            holds: row.flag("holds")?,
        })
    }

    /// Returns how people name it: `12 (lint)`, or `12` without a key.
    pub fn named(&self) -> String {
        match &self.key {
            Some(key) => format!("{} ({key})", self.id),
            None => self.id.to_string(),
        }
    }

    pub(crate) fn event(&self, kind: EventKind, message: impl Into<String>) -> Event {
        let event = Event::new(kind, message).task(self.id).run(self.run_id);
        match &self.owner {
            Some(owner) => event.agent(owner.clone()),
            None => event,
        }
    }
}

/// Reads a JSON array of texts; anything else is an empty list.
pub(crate) fn list(text: Option<String>) -> Vec<String> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

const BY_ID: Sql = Sql::Each {
    lite: concat!("select ", columns!(), " from tasks where id = $1"),
    pg: concat!("select ", columns!(), " from tasks where id = $1 for update"),
};

/// Returns the task, if there is one, its row locked for the rest of the transaction.
pub(crate) async fn find(tx: &mut Tx, id: TaskId) -> Result<Option<Task>> {
    tx.one(BY_ID, args![id], Task::from_row).await
}

/// Returns the task, its row locked for the rest of the transaction.
pub(crate) async fn lock(tx: &mut Tx, id: TaskId) -> Result<Task> {
    find(tx, id).await?.ok_or_else(|| unknown(id))
}

pub(crate) fn unknown(id: TaskId) -> Error {
    Error::not_found(format!("no task {id}")).hint("`quorate task list` shows all")
}

/// Says why a write with `term` does not count, as an error that leaves `write.refused` in the log.
pub(crate) fn refuse(task: &Task, term: Term, what: &str) -> Error {
    let why = match (task.state.is_over(), task.term == term) {
        (true, _) => format!("it is {} already", task.state),
        (false, false) => format!("term {term} is not its current term {}", task.term),
        (false, true) => format!("it is {}", task.state),
    };
    let message = format!("{what} of task {} refused: {why}", task.named());
    let data = serde_json::json!({ "write": what, "term": term.0, "current_term": task.term.0, "state": task.state.as_str() });
    Error::new(Kind::Stale, message.clone())
        .hint(format!(
            "the task has moved on; `quorate task show {}` tells how, `quorate task next` gives another",
            task.id
        ))
        .event(task.event(EventKind::WriteRefused, message).data(data))
}

/// Ends the running attempt. Where its child may still run, its process is kept for whoever looks for orphans.
pub(crate) fn end_attempt(tx: &mut Tx, task: &Task, end: &AttemptEnd<'_>) {
    tx.later(
        "update attempts set ended_at = now_ms(), outcome = $3, reason = $4, evidence = coalesce($5, evidence),
                tail = coalesce($6, tail),
                pid = case when $3 in ('lost', 'cancelled', 'released', 'parked') then pid end
          where task_id = $1 and number = $2 and ended_at is null",
        args![task.id, task.attempt, end.outcome, end.reason, end.evidence, end.tail],
    );
}

/// How an attempt ended.
#[derive(Debug, Default)]
pub(crate) struct AttemptEnd<'a> {
    pub outcome: &'a str,
    pub reason: Option<&'a str>,
    pub evidence: Option<&'a str>,
    pub tail: Option<&'a str>,
}

/// Lets tasks that needed `task` go on, now that it is completed.
pub(crate) async fn free_dependents(tx: &mut Tx, task: &Task) -> Result<()> {
    if task.dependents == 0 {
        return Ok(());
    }
    // Locked in order of id, so that two needs that end together do not wait for each other in a circle.
    let freed = tx
        .all(
            Sql::Each {
                lite: concat!("update tasks set unmet = unmet - 1 where id in (select task_id from task_needs where needs_id = $1) returning ", columns!()),
                pg: concat!(
                    "update tasks set unmet = unmet - 1 where id = any(array(select id from tasks where id = any(array(
                     select task_id from task_needs where needs_id = $1)) order by id for update)) returning ",
                    columns!()
                ),
            },
            args![task.id],
            Task::from_row,
        )
        .await?;
    let now = tx.now().await?;
    for task in freed
        .iter()
        .filter(|t| t.unmet == 0 && t.state == TaskState::Waiting && t.due_at.is_none_or(|due| due <= now))
    {
        open(tx, task, "its needs are completed");
    }
    Ok(())
}

/// Makes a waiting task ready.
pub(crate) fn open(tx: &mut Tx, task: &Task, why: &str) {
    tx.later(
        "update tasks set state = 'ready', ready_at = now_ms(), reason = null where id = $1",
        args![task.id],
    );
    let event = Event::new(EventKind::TaskReady, format!("task {} is ready: {why}", task.named()));
    tx.record(event.task(task.id).run(task.run_id));
}

/// What cancels those below a task, up to who they are. On PostgreSQL by an array: a plan for `in` that was made while
/// there were few tasks compares each with each.
macro_rules! below {
    () => {
        below!("in ")
    };
    ($among:literal) => {
        concat!(
            "with recursive below (id) as (
                 select task_id from task_needs where needs_id = $1
                 union select n.task_id from task_needs n join below b on n.needs_id = b.id)
             update tasks set state = 'cancelled', term = term + 1, finished_at = now_ms(), reason = $2, blocked_by = $3
              where id ",
            $among
        )
    };
}

/// Cancels every task that needs `task`, directly or not: none of them can have begun.
///
/// They come back with the task at the root of it all: the one that was not itself cancelled because of a need.
pub(crate) async fn cancel_dependents(tx: &mut Tx, task: &Task, how: &str) -> Result<()> {
    if task.dependents == 0 {
        return Ok(());
    }
    let root = task.blocked_by.unwrap_or(task.id);
    let reason = format!("needs task {}, which {how}", task.named());
    let cancelled = tx
        .all(
            Sql::Each {
                lite: concat!(
                    below!(),
                    "(select id from below) and state in ('waiting', 'parked') returning ",
                    columns!()
                ),
                pg: concat!(
                    below!("= any(array"),
                    "(select id from below)) and state in ('waiting', 'parked') returning ",
                    columns!()
                ),
            },
            args![task.id, &reason, root],
            Task::from_row,
        )
        .await?;
    for task in cancelled {
        tx.record(task.event(EventKind::TaskCancelled, format!("task {} cancelled: {reason}", task.named())));
    }
    Ok(())
}
