//! How an attempt ends by its owner's word: done, checked, failed.
//!
//! Here live the writes that carry a term. Each says in the same statement that it only counts for the current
//! term; one that does not count changes nothing and leaves `write.refused` in the log.

use super::{AttemptEnd, Task, cancel_dependents, columns, end_attempt, free_dependents, lock, refuse};
use crate::claim::{release_of_task, take_from};
use quorate_model::retry::{self, Failure};
use quorate_model::said::shortened;
use quorate_model::task::Next;
use quorate_model::{Error, Event, EventKind, Result, RunId, TaskId, TaskState, Term};
use quorate_store::{Boxed, Dialect, Merge, Row, Together, Tx, Write, args};

/// How an attempt that did not succeed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It failed.
    Failed,
    /// It reached its timeout.
    TimedOut,
    /// Its check failed.
    VerifyFailed,
    /// Its owner could not keep it.
    Lost,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::VerifyFailed => "verify_failed",
            Outcome::Lost => "lost",
        }
    }
}

/// The owner says that the work is done. With a check the task becomes `verifying`, else it is completed.
///
/// Said again with the same term and result, it is no error.
#[derive(Debug, Clone)]
pub struct Done {
    /// The task.
    pub id: TaskId,
    /// The term under which it was taken.
    pub term: Term,
    /// The result, a JSON text.
    pub result: Option<String>,
    /// The end of the output.
    pub tail: Option<String>,
}

/// What `done` led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoneAnswer {
    /// The task is completed.
    Completed {
        /// The run that may be over now.
        run: Option<RunId>,
    },
    /// A node is to run the check; the term has risen.
    Verifying,
}

impl Write for Done {
    type Answer = DoneAnswer;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, DoneAnswer> {
        Box::pin(async move {
            self.check()?;
            if tx.dialect() == Dialect::Pg
                && let Some(run) = self.at_once(tx).await?
            {
                return Ok(DoneAnswer::Completed { run });
            }
            let sql = concat!(
                "update tasks set state = 'completed', result = $3, progress = 100, lease_until = null, reason = null,
                        stuck = 0, finished_at = now_ms()
                  where id = $1 and term = $2 and state = 'running' and verify is null returning ",
                columns!()
            );
            let completed = tx.one(sql, args![self.id, self.term, &self.result], Task::from_row).await?;
            match completed {
                Some(task) => {
                    complete(tx, &task, "said", self.tail.as_deref()).await?;
                    Ok(DoneAnswer::Completed { run: task.run_id })
                }
                None => self.otherwise(tx).await,
            }
        })
    }

    fn together() -> Option<Together> {
        Some(Together::of::<Done>())
    }
}

impl Merge for Done {
    /// Only the plain way: no check, nothing held. Whatever else happens, each says for itself.
    fn apply_all<'a>(list: &'a [&'a Done], tx: &'a mut Tx) -> Boxed<'a, Vec<Option<DoneAnswer>>> {
        Box::pin(async move {
            let places: Vec<usize> = (0..list.len()).filter(|place| list[*place].check().is_ok()).collect();
            let plain = || places.iter().map(|place| &list[*place]);
            let ids: Vec<i64> = plain().map(|done| done.id.0).collect();
            let terms: Vec<i64> = plain().map(|done| done.term.0).collect();
            let results: Vec<Option<String>> = plain().map(|done| done.result.clone()).collect();
            let tails: Vec<Option<String>> = plain().map(|done| done.tail.clone()).collect();
            let completed = tx.last(DONE_ALL, args![ids, terms, results, tails], Completed::from_row).await?;
            let mut answers: Vec<Option<DoneAnswer>> = list.iter().map(|_| None).collect();
            for Completed { place, run } in completed {
                tx.tell();
                if let Some(answer) = places.get(place).and_then(|place| answers.get_mut(*place)) {
                    *answer = Some(DoneAnswer::Completed { run });
                }
            }
            Ok(answers)
        })
    }
}

/// What one statement has completed.
struct Completed {
    /// Which of those that were asked for, from 0.
    place: usize,
    run: Option<RunId>,
}

impl Completed {
    fn from_row(row: &Row<'_>) -> Result<Completed> {
        let place = usize::try_from(row.int("place")? - 1).unwrap_or(usize::MAX);
        Ok(Completed { place, run: row.opt_int("run_id")?.map(RunId) })
    }
}

/// The longest result, in bytes: what is bigger belongs into a file.
pub const RESULT_MAX: usize = 1024 * 1024;

/// How many of the needs of a task were completed. As arrays, which are made once: a row that another transaction has
/// changed meanwhile is looked at again, and a subquery for it would be asked again.
macro_rules! met_pg {
    () => {
        "(array(select met from n))[array_position(array(select task_id from n), id)]"
    };
}

/// Whether a task is ready with that.
macro_rules! opens_pg {
    () => {
        concat!("state = 'waiting' and unmet = ", met_pg!(), " and (due_at is null or due_at <= now_ms())")
    };
}

/// All who need it are known to the statement: whoever was added since it began is not, and would wait for ever. The row
/// tells how many there are now, the table how many there were.
macro_rules! sees_dependents_pg {
    () => {
        "(dependents = 0 or dependents = (select count(*) from task_needs where needs_id = tasks.id))"
    };
}

/// What follows the tasks `u` in the plain way: what `complete` writes. No joins: a plan that was made while a table was
/// empty would walk through all of it. Those who need them are asked for in the order of their ids, so that two that meet do
/// not wait for each other in a circle.
macro_rules! end_pg {
    () => {
        concat!(
            "a as (
         update attempts set ended_at = now_ms(), outcome = 'completed', evidence = 'said',
                tail = coalesce((select u.last from u where u.id = task_id), tail), pid = null
          where task_id = any(array(select id from u)) and number = (select u.attempt from u where u.id = task_id)
            and ended_at is null),
     g as (update agents set respawns = 0, last_crash = null
            where name = any(array(select owner from u)) and respawns > 0),
     n as (
         select task_id, count(*) as met from task_needs
          where needs_id = any(array(select id from u where dependents > 0)) group by task_id),
     w as (
         update tasks set unmet = unmet - ",
            met_pg!(),
            ", state = case when ",
            opens_pg!(),
            " then 'ready' else state end,
                ready_at = case when ",
            opens_pg!(),
            " then now_ms() else ready_at end,
                reason = case when ",
            opens_pg!(),
            " then null else reason end
          where id = any(array(select task_id from n))
      returning id, key, run_id, unmet = 0 and state = 'ready' as opened),
     e as (
         insert into events (seq, at, kind, agent, task_id, run_id, message, data)
         select log_place((select era from log_era)), log_time(), kind, owner, id, run_id,
                'task ' || id || coalesce(' (' || key || ')', '') || said, data
           from (select 1 as step, 'task.completed' as kind, owner, id, key, run_id, ' completed' as said,
                        '{\"attempt\":' || attempt || ',\"evidence\":\"said\",\"term\":' || term || '}' as data from u
                 union all
                 select 2, 'task.ready', null, id, key, run_id, ' is ready: its needs are completed', null
                   from w where opened
                 order by step, id) news)
     select place, run_id from u"
        )
    };
}

/// The plain way as one statement, so that it is one flight to PostgreSQL: no check, nothing held.
/// `coalesce` keeps the planner from the indexes of running tasks, which it would walk through for a handful of ids.
const DONE_ONE: &str = concat!(
    "with u as (
         update tasks set state = 'completed', result = $3, progress = 100, lease_until = null, reason = null,
                stuck = 0, finished_at = now_ms()
          where id = $1 and term = $2 and coalesce(state, '') = 'running' and verify is null and holds = 0
            and ",
    sees_dependents_pg!(),
    " returning 1 as place, id, key, run_id, attempt, term, owner, dependents, $4::text as last),
     ",
    end_pg!()
);
/// The same for several. The index is asked for them in the order of their ids: two that meet do not wait for each other in
/// a circle. Of two that name the same task only the first counts here.
const DONE_ALL: &str = concat!(
    "with u as (
         update tasks set state = 'completed', result = ($3::text[])[array_position($1::bigint[], id)], progress = 100,
                lease_until = null, reason = null, stuck = 0, finished_at = now_ms()
          where id = any($1::bigint[]) and term = ($2::bigint[])[array_position($1::bigint[], id)]
            and coalesce(state, '') = 'running' and verify is null and holds = 0
            and ",
    sees_dependents_pg!(),
    " returning array_position($1::bigint[], id) as place, id, key, run_id, attempt, term, owner, dependents,
               ($4::text[])[array_position($1::bigint[], id)] as last),
     ",
    end_pg!()
);

impl Done {
    /// Answers with the run of the completed task, or with nothing when it is not the plain way.
    async fn at_once(&self, tx: &mut Tx) -> Result<Option<Option<RunId>>> {
        let args = args![self.id, self.term, &self.result, &self.tail];
        let done = tx.last(DONE_ONE, args, Completed::from_row).await?;
        if !done.is_empty() {
            tx.tell();
        }
        Ok(done.into_iter().next().map(|completed| completed.run))
    }

    fn check(&self) -> Result<()> {
        let Some(text) = &self.result else { return Ok(()) };
        if text.len() > RESULT_MAX {
            return Err(Error::invalid(format!(
                "the result has {} bytes, more than {RESULT_MAX}",
                text.len()
            ))
            .hint("put it into a file and give its path as the result"));
        }
        serde_json::from_str::<serde_json::Value>(text).map_err(|e| {
            Error::invalid(format!("the result is no JSON: {e}"))
                .hint("a text is JSON in quotes: --result '\"words\"'")
        })?;
        Ok(())
    }

    /// The ways that are not the plain one: a check is due, it was said before, or it does not count.
    async fn otherwise(&self, tx: &mut Tx) -> Result<DoneAnswer> {
        let task = lock(tx, self.id).await?;
        if task.state == TaskState::Running && task.term == self.term {
            return Ok(self.verify(tx, &task));
        }
        if self.was_said(tx, &task).await? {
            return Ok(match task.state {
                TaskState::Verifying => DoneAnswer::Verifying,
                _ => DoneAnswer::Completed { run: task.run_id },
            });
        }
        Err(refuse(&task, self.term, "done"))
    }

    fn verify(&self, tx: &mut Tx, task: &Task) -> DoneAnswer {
        tx.later(
            "update tasks set state = 'verifying', term = term + 1, lease_until = null, node = null, result = $2,
                    message = null, stuck = 0, reason = 'waits for a node to run its check' where id = $1",
            args![task.id, &self.result],
        );
        // Until the check is settled the work is not over: what is still held is now held as long as the task is.
        tx.later(
            "update claims set ttl_ms = null
              where task_id = $1 and left_term is null and (ttl_ms is null or expires_at > now_ms())",
            args![task.id],
        );
        tx.later(
            "update attempts set evidence = 'said', tail = $3 where task_id = $1 and number = $2",
            args![task.id, task.attempt, &self.tail],
        );
        tx.record(task.event(
            EventKind::TaskVerifying,
            format!("task {} is said to be done; its check is due", task.named()),
        ));
        DoneAnswer::Verifying
    }

    async fn was_said(&self, tx: &mut Tx, task: &Task) -> Result<bool> {
        let is_open = !matches!(task.state, TaskState::Completed | TaskState::Verifying);
        if is_open || !say_the_same(task.result.as_deref(), self.result.as_deref()) {
            return Ok(false);
        }
        let sql = "select number from attempts where task_id = $1 and number = $2 and term = $3
                      and (outcome is null or outcome = 'completed')";
        Ok(tx.one(sql, args![task.id, task.attempt, self.term], |row| row.int("number")).await?.is_some())
    }
}

/// Tells whether two results are the same, however their JSON is written.
fn say_the_same(one: Option<&str>, other: Option<&str>) -> bool {
    let read = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    match (one, other) {
        (Some(one), Some(other)) if one != other => {
            read(one).zip(read(other)).is_some_and(|(one, other)| one == other)
        }
        (one, other) => one == other,
    }
}

/// What follows a completed task: its attempt ends, its claims are free, those who needed it go on.
async fn complete(tx: &mut Tx, task: &Task, evidence: &str, tail: Option<&str>) -> Result<()> {
    let end = AttemptEnd { outcome: "completed", evidence: Some(evidence), tail, reason: None };
    end_attempt(tx, task, &end);
    if task.holds {
        tx.later("update tasks set holds = 0 where id = $1", args![task.id]);
        release_of_task(tx, task).await?;
    }
    if let Some(owner) = &task.owner {
        tx.later(
            "update agents set respawns = 0, last_crash = null where name = $1 and respawns > 0",
            args![owner],
        );
    }
    tx.record(completed(task, evidence));
    free_dependents(tx, task).await
}

fn completed(task: &Task, evidence: &str) -> Event {
    let message = format!("task {} completed", task.named());
    let data = serde_json::json!({ "attempt": task.attempt, "term": task.term.0, "evidence": evidence });
    task.event(EventKind::TaskCompleted, message).data(data)
}

/// The supervisor's word on the check of a task that it took with [`TakeCheck`](super::TakeCheck).
#[derive(Debug, Clone)]
pub struct SettleCheck {
    /// The task.
    pub id: TaskId,
    /// The term under which the check was taken.
    pub term: Term,
    /// `None` when it passed, else why it did not.
    pub failure: Option<String>,
    /// Whether another attempt could not mend that.
    pub is_final: bool,
    /// The end of the check's output.
    pub tail: Option<String>,
    /// First pause before another attempt.
    pub retry_after_ms: i64,
}

impl Write for SettleCheck {
    type Answer = TaskState;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TaskState> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if task.state != TaskState::Verifying || task.term != self.term {
                return Err(refuse(&task, self.term, "the check's outcome"));
            }
            let Some(why) = &self.failure else {
                tx.later(
                    "update tasks set state = 'completed', progress = 100, lease_until = null, reason = null,
                            stuck = 0, finished_at = now_ms() where id = $1",
                    args![task.id],
                );
                complete(tx, &task, "checked", None).await?;
                return Ok(TaskState::Completed);
            };
            tx.record(task.event(
                EventKind::TaskVerifyFailed,
                format!("the check of task {} failed: {why}", task.named()),
            ));
            let failed = Failed {
                failure: if self.is_final { Failure::Final } else { Failure::Ordinary },
                outcome: Outcome::VerifyFailed.as_str(),
                reason: why,
                tail: self.tail.as_deref(),
                retry_after_ms: self.retry_after_ms,
            };
            fail_attempt(tx, &task, &failed).await
        })
    }
}

/// Ends a parked task whose work others have done: as an attempt of `by`, taken and ended in one step. With a check, a node
/// runs it first.
pub(crate) async fn end_for(
    tx: &mut Tx,
    task: &Task,
    by: &str,
    end: Result<Option<String>, &str>,
) -> Result<()> {
    let task = begin_for(tx, task, by);
    match end {
        Ok(result) if task.verify.is_some() => {
            let done = Done { id: task.id, term: task.term, result, tail: None };
            done.verify(tx, &task);
        }
        Ok(result) => {
            tx.later(
                "update tasks set state = 'completed', result = $2, progress = 100, lease_until = null, reason = null,
                        stuck = 0, finished_at = now_ms() where id = $1",
                args![task.id, &result],
            );
            complete(tx, &task, "said", None).await?;
        }
        Err(why) => {
            let failed = Failed {
                failure: Failure::Final,
                outcome: Outcome::Failed.as_str(),
                reason: why,
                tail: None,
                retry_after_ms: 0,
            };
            fail_attempt(tx, &task, &failed).await?;
        }
    }
    Ok(())
}

fn begin_for(tx: &mut Tx, task: &Task, by: &str) -> Task {
    let task = Task {
        state: TaskState::Running,
        term: Term(task.term.0 + 1),
        attempt: task.attempt + 1,
        owner: Some(by.to_owned()),
        ..task.clone()
    };
    tx.later(
        "update tasks set state = 'running', term = $2, attempt = $3, owner = $4, node = null, started_at = now_ms(),
                active_at = now_ms(), reason = null, parked_for = null, due_at = null where id = $1",
        args![task.id, task.term, task.attempt, by],
    );
    tx.later(
        "insert into attempts (task_id, number, term, agent, started_at) values ($1, $2, $3, $4, now_ms())",
        args![task.id, task.attempt, task.term, by],
    );
    let message = format!("task {} taken by {by}, attempt {}", task.named(), task.attempt);
    let data = serde_json::json!({ "attempt": task.attempt, "term": task.term.0 });
    tx.record(task.event(EventKind::TaskTaken, message).data(data));
    task
}

/// The owner, or its supervisor, says that the attempt failed.
#[derive(Debug, Clone)]
pub struct Fail {
    /// The task.
    pub id: TaskId,
    /// The term under which it was taken.
    pub term: Term,
    /// Why.
    pub error: String,
    /// Whether trying again is of no use.
    pub is_final: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The end of the output.
    pub tail: Option<String>,
    /// First pause before another attempt.
    pub retry_after_ms: i64,
}

impl Write for Fail {
    type Answer = TaskState;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TaskState> {
        Box::pin(async move {
            let task = lock(tx, self.id).await?;
            if task.state != TaskState::Running || task.term != self.term {
                return Err(refuse(&task, self.term, "fail"));
            }
            let failed = Failed {
                failure: if self.is_final { Failure::Final } else { Failure::Ordinary },
                outcome: self.outcome.as_str(),
                reason: &self.error,
                tail: self.tail.as_deref(),
                retry_after_ms: self.retry_after_ms,
            };
            fail_attempt(tx, &task, &failed).await
        })
    }
}

/// A failed attempt, whoever noticed it.
pub(crate) struct Failed<'a> {
    pub failure: Failure,
    pub outcome: &'static str,
    pub reason: &'a str,
    pub tail: Option<&'a str>,
    pub retry_after_ms: i64,
}

/// The longest reason of a failure, in bytes; a longer one is cut, for it is told in several places.
pub const REASON_MAX: usize = 16 * 1024;
/// A retry prefers another agent for so long after it becomes ready.
pub(super) const AVOID_MS: i64 = 2_000;

/// Ends the attempt and decides what follows. The task's row is locked.
pub(crate) async fn fail_attempt(tx: &mut Tx, task: &Task, failed: &Failed<'_>) -> Result<TaskState> {
    let reason = &*shortened(failed.reason, REASON_MAX);
    let end = AttemptEnd { outcome: failed.outcome, reason: Some(reason), tail: failed.tail, evidence: None };
    end_attempt(tx, task, &end);
    if task.holds {
        if failed.outcome == "cancelled" {
            take_from(tx, task).await?
        } else {
            release_of_task(tx, task).await?
        }
    }
    let failures = task.failures + 1;
    let next = retry::next(failed.failure, failures, task.max_attempts, failed.retry_after_ms, task.id);
    let (state, wait) = match next {
        Next::GiveUp => return give_up(tx, task, failures, reason).await,
        Next::Again => (TaskState::Ready, 0),
        Next::After(ms) => (TaskState::Waiting, ms),
    };
    tx.later(
        "update tasks set state = $2, term = term + 1, failures = $3, lease_until = null, reason = $4, holds = 0, stuck = 0,
                result = null, due_at = now_ms() + $5, ready_at = case when $2 = 'ready' then now_ms() else ready_at end,
                avoid_agent = owner, avoid_until = now_ms() + $5 + $6
          where id = $1",
        args![task.id, state.as_str(), failures, reason, wait, AVOID_MS],
    );
    tx.record(retried(task, failures, reason, wait));
    Ok(state)
}

fn retried(task: &Task, failures: i64, reason: &str, wait_ms: i64) -> Event {
    let left = task.max_attempts - failures;
    let message = format!("attempt {} of task {} failed: {reason}; {left} left", task.attempt, task.named());
    task.event(EventKind::TaskRetried, message)
        .data(serde_json::json!({ "attempt": task.attempt, "failures": failures, "retry_in_ms": wait_ms, "reason": reason }))
}

async fn give_up(tx: &mut Tx, task: &Task, failures: i64, reason: &str) -> Result<TaskState> {
    tx.later(
        "update tasks set state = 'failed', term = term + 1, failures = $2, lease_until = null, reason = $3, holds = 0,
                stuck = 0, finished_at = now_ms() where id = $1",
        args![task.id, failures, reason],
    );
    let message = format!("task {} failed after attempt {}: {reason}", task.named(), task.attempt);
    tx.record(
        task.event(EventKind::TaskFailed, message)
            .data(serde_json::json!({ "attempt": task.attempt, "reason": reason })),
    );
    cancel_dependents(tx, task, "failed").await?;
    Ok(TaskState::Failed)
}
