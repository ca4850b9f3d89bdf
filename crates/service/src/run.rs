//! Runs: a goal and the tasks that serve it.
//!
//! Here live beginning a run from a plan's tasks, ending it when its tasks have ended, and a person's wishes.

use crate::goal::{self, AfterFailure};
use crate::task::{self, NewTask, Task, columns};
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId};
use quorate_store::{Boxed, Read, Row, Sql, Tx, Write, args};

/// A run as it is stored.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What is wanted.
    pub goal: String,
    /// The plan's file name.
    pub source: Option<String>,
    /// running, completed, failed or cancelled.
    pub state: String,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Whether a node works at it, rather than the command that began it.
    pub detached: bool,
    /// The folder of its written report.
    pub report: Option<String>,
    /// When it began, milliseconds since 1970 (UTC).
    pub created_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
}

macro_rules! run_columns {
    () => {
        "id, goal, source, state, reason, detached, report, created_at, finished_at"
    };
}
pub(crate) use run_columns;

impl Run {
    pub(crate) fn from_row(row: &Row<'_>) -> Result<Run> {
        Ok(Run {
            id: RunId(row.int("id")?),
            goal: row.text("goal")?,
            source: row.opt_text("source")?,
            state: row.text("state")?,
            reason: row.opt_text("reason")?,
            detached: row.flag("detached")?,
            report: row.opt_text("report")?,
            created_at: row.int("created_at")?,
            finished_at: row.opt_int("finished_at")?,
        })
    }

    /// Returns whether it has ended.
    pub fn is_over(&self) -> bool {
        self.state != "running"
    }
}

const BY_ID: Sql = Sql::Each {
    lite: concat!("select ", run_columns!(), " from runs where id = $1"),
    pg: concat!("select ", run_columns!(), " from runs where id = $1 for update"),
};

async fn lock(tx: &mut Tx, id: RunId) -> Result<Run> {
    tx.one(BY_ID, args![id], Run::from_row).await?.ok_or_else(|| unknown(id))
}

/// Locks a run, and before it the run of the task whose work it does, if it does that of one: who calls off goes down the
/// same way.
fn lock_from_above(tx: &mut Tx, id: RunId) -> Boxed<'_, Run> {
    Box::pin(async move {
        let sql = concat!("select ", run_columns!(), " from runs where id = $1");
        let run = tx.one(sql, args![id], Run::from_row).await?.ok_or_else(|| unknown(id))?;
        if let Some(task) = goal::task_of(&run) {
            lock_of(tx, task).await?;
        }
        lock(tx, id).await
    })
}

/// Locks the run of a task, if it has one: before the task, as all do who lock both.
pub(crate) async fn lock_of(tx: &mut Tx, task: TaskId) -> Result<()> {
    let sql = "select run_id from tasks where id = $1";
    match tx.one(sql, args![task], |row| row.opt_int("run_id")).await?.flatten() {
        Some(id) => lock_from_above(tx, RunId(id)).await.map(drop),
        None => Ok(()),
    }
}

pub(crate) fn unknown(id: RunId) -> Error {
    Error::not_found(format!("no run {id}")).hint("`quorate runs list` shows all")
}

/// The longest goal, in bytes.
pub const GOAL_MAX: usize = 64 * 1024;

/// Begins a run with its tasks, all or nothing.
#[derive(Debug)]
pub struct Start {
    /// What is wanted.
    pub goal: String,
    /// The plan's file name.
    pub source: Option<String>,
    /// Whether a node is to work at it.
    pub detached: bool,
    /// Its tasks; each stands behind those it needs or names them by place.
    pub tasks: Vec<NewTask>,
}

impl Write for Start {
    type Answer = (RunId, Vec<TaskId>);

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, (RunId, Vec<TaskId>)> {
        Box::pin(async move {
            if self.goal.len() > GOAL_MAX {
                let error =
                    Error::invalid(format!("the goal has {} bytes, more than {GOAL_MAX}", self.goal.len()));
                return Err(error.hint("put the long parts into a file and name its path"));
            }
            let sql = "insert into runs (goal, source, detached, created_at) values ($1, $2, $3, now_ms()) returning id";
            let id = tx.one(sql, args![&self.goal, &self.source, self.detached], |row| row.int("id")).await?;
            let id = RunId(id.expect("an insert returns its row"));
            let message = format!("run {id} started: {} ({} tasks)", self.goal, self.tasks.len());
            tx.record(Event::new(EventKind::RunStarted, message).run(Some(id)));
            let tasks = task::add_tasks(tx, Some(id), &self.tasks, None).await?;
            Ok((id, tasks))
        })
    }
}

/// Refuses a run that is unknown or over, and says what to do instead. It cannot end before this transaction does; others
/// may look at the same moment.
pub(crate) async fn must_be_open(tx: &mut Tx, id: RunId, instead: &str) -> Result<()> {
    let sql = Sql::Each {
        lite: concat!("select ", run_columns!(), " from runs where id = $1"),
        pg: concat!("select ", run_columns!(), " from runs where id = $1 for share"),
    };
    let run = tx.one(sql, args![id], Run::from_row).await?.ok_or_else(|| unknown(id))?;
    if run.is_over() {
        return Err(Error::new(Kind::Conflict, format!("run {id} is {} already", run.state)).hint(instead));
    }
    Ok(())
}

/// Opens a run again, because one of its tasks is tried anew. What its report told is no longer so.
pub(crate) fn reopen(tx: &mut Tx, id: RunId) -> Boxed<'_, ()> {
    Box::pin(async move {
        // Locked before one looks: who ends it at this moment has seen no task that goes on.
        let run = lock(tx, id).await?;
        if !run.is_over() {
            return Ok(());
        }
        tx.later(
            "update runs set state = 'running', reason = null, finished_at = null, report = null where id = $1",
            args![id],
        );
        tx.record(Event::new(EventKind::RunResumed, format!("run {id} goes on")).run(Some(id)));
        goal::wait_again(tx, &run).await
    })
}

/// Ends a run if all its tasks have ended; answers with the run as it then is.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The run.
    pub id: RunId,
}

impl Write for Settle {
    type Answer = Run;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Run> {
        Box::pin(async move {
            let run = lock(tx, self.id).await?;
            if run.is_over() || has_open_tasks(tx, self.id).await? {
                return Ok(run);
            }
            finish(tx, &run).await
        })
    }
}

async fn has_open_tasks(tx: &mut Tx, id: RunId) -> Result<bool> {
    let sql = "select id from tasks where run_id = $1 and state <> 'completed' and state <> 'failed' and state <> 'cancelled' limit 1";
    Ok(tx.one(sql, args![id], |row| row.int("id")).await?.is_some())
}

async fn finish(tx: &mut Tx, run: &Run) -> Result<Run> {
    let sql = "select state, count(*) as n from tasks where run_id = $1 group by state";
    let counts = tx.all(sql, args![run.id], |row| Ok((row.text("state")?, row.int("n")?))).await?;
    let count = |state: &str| counts.iter().filter(|(s, _)| s == state).map(|(_, n)| n).sum::<i64>();
    let (completed, failed, cancelled) = (count("completed"), count("failed"), count("cancelled"));
    let replaced = match failed + cancelled {
        0 => 0,
        _ => match goal::after_failure(tx, run).await? {
            AfterFailure::PlansAnew => return Ok(run.clone()),
            AfterFailure::Counts { replaced } => replaced,
        },
    };
    let state = if failed + cancelled == replaced { "completed" } else { "failed" };
    let reason = format!("{completed} completed, {failed} failed, {cancelled} cancelled");
    let sql = concat!(
        "update runs set state = $2, reason = $3, finished_at = now_ms() where id = $1 returning ",
        run_columns!()
    );
    let run = tx.one(sql, args![run.id, state, &reason], Run::from_row).await?.expect("its row is locked");
    goal::end_decomposed(tx, &run, state, &reason).await?;
    let data = serde_json::json!({ "state": state, "completed": completed, "failed": failed, "cancelled": cancelled });
    tx.record(
        Event::new(EventKind::RunFinished, format!("run {} {state}: {reason}", run.id))
            .run(Some(run.id))
            .data(data),
    );
    Ok(run)
}

/// Ends every run whose tasks have ended. Part of the health check.
pub(crate) async fn settle_all(tx: &mut Tx, limit: i64) -> Result<usize> {
    let sql = "select id from runs r where state = 'running' and not exists
                 (select 1 from tasks t where t.run_id = r.id and t.state <> 'completed' and t.state <> 'failed' and t.state <> 'cancelled')
               order by id limit $1";
    let over = tx.all(sql, args![limit], |row| Ok(RunId(row.int("id")?))).await?;
    for id in &over {
        let run = lock(tx, *id).await?;
        if !run.is_over() && !has_open_tasks(tx, *id).await? {
            finish(tx, &run).await?;
        }
    }
    Ok(over.len())
}

/// Calls off a run: every task that has not ended is cancelled.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// The run.
    pub id: RunId,
    /// Why, for the log.
    pub reason: String,
}

impl Write for Cancel {
    type Answer = Run;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Run> {
        Box::pin(async move {
            let run = lock(tx, self.id).await?;
            if run.is_over() {
                return Err(Error::new(Kind::Conflict, format!("run {} is {} already", self.id, run.state))
                    .hint(format!("quorate runs show {} tells how it ended", self.id)));
            }
            cancel(tx, run.id, &self.reason).await
        })
    }
}

/// Calls off a run that is open and locked, and with it those that do the work of its tasks.
pub(crate) fn cancel<'a>(tx: &'a mut Tx, id: RunId, reason: &'a str) -> Boxed<'a, Run> {
    Box::pin(async move {
        let sql = "select id from tasks where run_id = $1 and state = 'parked' order by id";
        let parked = tx.all(sql, args![id], |row| row.int("id")).await?;
        goal::lock_runs_of(tx, &parked).await?;
        let open = open_tasks(tx, id).await?;
        task::cancel_all(tx, &open, reason).await?;
        let sql = concat!(
            "update runs set state = 'cancelled', reason = $2, finished_at = now_ms() where id = $1 returning ",
            run_columns!()
        );
        let run = tx.one(sql, args![id, reason], Run::from_row).await?.expect("its row is locked");
        goal::end_decomposed(tx, &run, "cancelled", reason).await?;
        tx.record(Event::new(EventKind::RunCancelled, format!("run {id} cancelled: {reason}")).run(Some(id)));
        let data = serde_json::json!({ "state": "cancelled" });
        tx.record(Event::new(EventKind::RunFinished, format!("run {id} cancelled")).run(Some(id)).data(data));
        Ok(run)
    })
}

async fn open_tasks(tx: &mut Tx, id: RunId) -> Result<Vec<Task>> {
    let sql = Sql::Each {
        lite: concat!(
            "select ",
            columns!(),
            " from tasks where run_id = $1 and state <> 'completed' and state <> 'failed' and state <> 'cancelled' order by id"
        ),
        pg: concat!(
            "select ",
            columns!(),
            " from tasks where run_id = $1 and state <> 'completed' and state <> 'failed' and state <> 'cancelled' order by id for update"
        ),
    };
    tx.all(sql, args![id], Task::from_row).await
}

/// Lets a run go on: what failed or was cancelled is tried anew, also in one that a crash left in the middle. Not so what a
/// later plan has replaced: others do that work now.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The run.
    pub id: RunId,
}

impl Write for Resume {
    type Answer = Run;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Run> {
        Box::pin(async move {
            let run = lock_from_above(tx, self.id).await?;
            if run.state == "completed" {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("run {} is completed: nothing to resume", run.id),
                )
                .hint("begin a new one with `quorate run`"));
            }
            if run.is_over() {
                goal::must_not_be_done(tx, &run).await?;
            }
            let replaced = goal::replaced_below(tx, run.id).await?;
            let ended = tx.all(ENDED_BY_THEMSELVES, args![run.id, replaced], Task::from_row).await?;
            task::reopen_all(tx, &ended, "its run was resumed").await?;
            let waiting = crate::usage::grant_run(tx, run.id).await?;
            waiting.iter().for_each(|task| task::unpark(tx, task, "its run was resumed"));
            if !run.is_over() {
                return Ok(run);
            }
            if !has_open_tasks(tx, run.id).await? {
                return Err(hopeless(tx, &run).await?);
            }
            // What waited for its budget may have been called off with it, and waits for nothing now.
            crate::usage::grant_anew(tx, run.id);
            reopen(tx, run.id).await?;
            lock(tx, run.id).await
        })
    }
}

// Those cancelled because of a need follow that need by themselves.
const ENDED_BY_THEMSELVES: Sql = Sql::Each {
    lite: concat!(
        "select ",
        columns!(),
        " from tasks where run_id = $1 and id >= $2 and state in ('failed', 'cancelled') and blocked_by is null
          order by id"
    ),
    pg: concat!(
        "select ",
        columns!(),
        " from tasks where run_id = $1 and id >= $2 and state in ('failed', 'cancelled') and blocked_by is null
          order by id for update"
    ),
};

/// Says that all that is left of a run needs tasks outside of it that did not complete.
async fn hopeless(tx: &mut Tx, run: &Run) -> Result<Error> {
    let sql =
        "select blocked_by as id from tasks where run_id = $1 and blocked_by is not null order by id limit 1";
    let need = tx.one(sql, args![run.id], |row| row.int("id")).await?.unwrap_or_default();
    Ok(Error::new(
        Kind::Conflict,
        format!("nothing of run {} can go on: it needs task {need}, which did not complete", run.id),
    )
    .hint(format!("quorate task retry {need}: what needs it follows by itself")))
}

/// Notes where the report of a run was written, if it tells the run's end: one that goes on has none yet.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The run.
    pub id: RunId,
    /// The folder.
    pub report: String,
    /// The end of which it tells: when the run had ended, as it was read.
    pub finished_at: Option<i64>,
}

impl Write for Reported {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql = "update runs set report = $2 where id = $1 and finished_at = $3";
            tx.run(sql, args![self.id, &self.report, self.finished_at]).await?;
            Ok(())
        })
    }
}

/// How long the command that works at a run in the foreground has for its report, in milliseconds.
pub const FOREGROUND_MS: i64 = 5_000;

/// Asks for runs that have ended and whose report nobody has written: no node was there, or who worked at it died before.
///
/// The command that works at a run in the foreground writes its report at once; so such a run counts only some seconds later.
#[derive(Debug, Clone)]
pub struct Unreported {
    /// So many at most, the oldest first.
    pub limit: i64,
}

impl Read for Unreported {
    type Answer = Vec<RunId>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<RunId>> {
        Box::pin(async move {
            let sql = "select id from runs where state <> 'running' and report is null
                  and (detached = 1 or finished_at <= now_ms() - $2) order by id limit $1";
            tx.all(sql, args![self.limit, FOREGROUND_MS], |row| Ok(RunId(row.int("id")?))).await
        })
    }
}
