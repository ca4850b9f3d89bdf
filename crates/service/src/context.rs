//! What a fresh orchestrator needs: ids, states, blockers, newest findings, in few tokens.
//!
//! Here lives the question, [`Context`], and its answer as facts, the most important first. How they are said within a number
//! of tokens lives in `say`. Nothing here comes from anyone's context window: who lost his asks again.

mod say;

pub use say::{
    ContextAgent, ContextCheckpoint, ContextMemory, ContextMessage, ContextRun, ContextTask, LeftOut, Said,
};

use crate::checkpoint::{self, Checkpoint};
use crate::memory::{self, Memory, memory_columns};
use crate::message::{self, Message};
use crate::run::{self, Run, run_columns};
use crate::task::{Task, columns};
use crate::view::{AgentView, Agents};
use quorate_model::{Result, RunId, TaskId};
use quorate_store::{Boxed, Read, Row, Sql, Tx, args};
use std::collections::BTreeMap;

/// Tokens that a context has unless another number is asked for: by our count, which is never below a tokenizer's.
pub const BUDGET_DEFAULT: usize = 2_800;
/// The fewest tokens for which a context says anything.
pub const BUDGET_LEAST: usize = 50;
/// Runs that a context looks at.
const RUNS_MAX: i64 = 20;
/// Tasks in each group of states that a context looks at.
const TASKS_MAX: i64 = 100;
/// Memories and messages that a context looks at.
const WORDS_MAX: i64 = 40;

/// Asks what somebody needs to go on.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The run; without one all that go on, or the last one.
    pub run: Option<RunId>,
    /// Who asks: his checkpoint, and what he has not read.
    pub agent: Option<String>,
}

/// What there is to say, each list with the most important first.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The ledger's time.
    pub now: i64,
    /// Runs, with the number of tasks in each state.
    pub runs: Vec<(Run, BTreeMap<String, i64>)>,
    /// Tasks; those of no run count as well if no run was asked for.
    pub tasks: Vec<Task>,
    /// What each of those that wait needs yet.
    pub needs: BTreeMap<TaskId, Vec<TaskId>>,
    /// How much there is that was not looked at.
    pub unseen: Unseen,
    /// The team.
    pub agents: Vec<AgentView>,
    /// The newest of what was told, and what goes wrong again and again.
    pub settled: Vec<Memory>,
    /// The newest of what tasks came to and why attempts failed.
    pub learnt: Vec<Memory>,
    /// Calls for help that nobody has answered, and what the asker has not read.
    pub messages: Vec<Message>,
    /// The last state that was saved.
    pub checkpoint: Option<Checkpoint>,
}

/// What there is besides what a context looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Runs that go on.
    pub runs: i64,
    /// Tasks: of these runs, of those that are looked at, and of none.
    pub tasks: i64,
}

impl Read for Context {
    type Answer = Facts;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Facts> {
        Box::pin(async move {
            let now = tx.now().await?;
            let runs = self.runs(tx).await?;
            let (runs, of_runs) = self.counted(tx, runs).await?;
            let tasks = self.tasks(tx, &of_runs).await?;
            let unseen = self.unseen(tx, &runs, &tasks).await?;
            let needs = unmet(tx, &tasks).await?;
            let agents = Agents::default().fetch(tx).await?;
            let settled = tx.all(SETTLED, args![self.run, WORDS_MAX], memory::from_row).await?;
            let learnt = tx.all(LEARNT, args![self.run, WORDS_MAX], memory::from_row).await?;
            let messages = self.messages(tx).await?;
            let checkpoint = self.checkpoint(tx).await?;
            Ok(Facts { now, runs, tasks, needs, unseen, agents, settled, learnt, messages, checkpoint })
        })
    }
}

impl Context {
    async fn runs(&self, tx: &mut Tx) -> Result<Vec<Run>> {
        if let Some(id) = self.run {
            let sql = concat!("select ", run_columns!(), " from runs where id = $1");
            let found = tx.one(sql, args![id], Run::from_row).await?;
            return Ok(vec![found.ok_or_else(|| run::unknown(id))?]);
        }
        let sql = concat!(
            "select ",
            run_columns!(),
            " from runs where state = 'running' order by id desc limit $1"
        );
        let open = tx.all(sql, args![RUNS_MAX], Run::from_row).await?;
        if !open.is_empty() {
            return Ok(open);
        }
        let sql = concat!("select ", run_columns!(), " from runs order by id desc limit 1");
        tx.all(sql, &[], Run::from_row).await
    }

    /// Counts the tasks of runs by state; answers also with the ids of the runs.
    async fn counted(
        &self,
        tx: &mut Tx,
        runs: Vec<Run>,
    ) -> Result<(Vec<(Run, BTreeMap<String, i64>)>, Vec<i64>)> {
        let ids: Vec<i64> = runs.iter().map(|run| run.id.0).collect();
        let counts = tx
            .all(COUNTS, args![ids.as_slice()], |row| {
                Ok((row.int("run_id")?, row.text("state")?, row.int("n")?))
            })
            .await?;
        let mut by_run: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
        for (run, state, n) in counts {
            by_run.entry(run).or_default().insert(state, n);
        }
        let counted = runs.into_iter().map(|run| (by_run.remove(&run.id.0).unwrap_or_default(), run));
        Ok((counted.map(|(counts, run)| (run, counts)).collect(), ids))
    }

    /// The tasks, by what they ask of a reader: stopped, running, ready, waiting, completed.
    async fn tasks(&self, tx: &mut Tx, runs: &[i64]) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for (states, sql) in [
            (&["failed", "parked"][..], OLDEST_FIRST),
            (&["running", "verifying"], OLDEST_FIRST),
            (&["ready"], OLDEST_FIRST),
            (&["waiting"], OLDEST_FIRST),
            (&["completed", "cancelled"], LATEST_FIRST),
        ] {
            let states: Vec<Option<String>> = states.iter().map(|state| Some((*state).to_owned())).collect();
            let args = args![runs, self.run.is_none(), states, TASKS_MAX];
            tasks.extend(tx.all(sql, args, Task::from_row).await?);
        }
        Ok(tasks)
    }

    /// Counts what is not looked at: where no run was asked for, also runs beyond the first, their tasks, and tasks of none.
    async fn unseen(
        &self,
        tx: &mut Tx,
        runs: &[(Run, BTreeMap<String, i64>)],
        tasks: &[Task],
    ) -> Result<Unseen> {
        let seen = runs.iter().filter(|(run, _)| !run.is_over()).count() as i64;
        let mut total: i64 = runs.iter().flat_map(|(_, counts)| counts.values()).sum();
        let mut unseen = Unseen::default();
        if self.run.is_none() {
            let first = runs.last().map_or(RunId(0), |(run, _)| run.id);
            let count = |row: &Row<'_>| Ok((row.int("runs")?, row.int("tasks")?));
            let (open, others) = tx.one(OTHERS, args![first], count).await?.unwrap_or_default();
            unseen.runs = (open - seen).max(0);
            total += others;
        }
        unseen.tasks = (total - tasks.len() as i64).max(0);
        Ok(unseen)
    }

    async fn messages(&self, tx: &mut Tx) -> Result<Vec<Message>> {
        let mut messages = tx.all(UNANSWERED, args![WORDS_MAX], message::from_row).await?;
        if let Some(agent) = &self.agent {
            let unread = tx.all(UNREAD, args![agent, WORDS_MAX], message::from_row).await?;
            messages.extend(
                unread
                    .into_iter()
                    .filter(|new| messages.iter().all(|old| old.id != new.id))
                    .collect::<Vec<_>>(),
            );
        }
        Ok(messages)
    }

    /// The asker's last checkpoint, else that of anybody who told one for the run.
    async fn checkpoint(&self, tx: &mut Tx) -> Result<Option<Checkpoint>> {
        let told = checkpoint::List { agent: None, run: self.run, told: true, limit: Some(1) };
        if self.agent.is_some() {
            let own = checkpoint::List { agent: self.agent.clone(), ..told.clone() }.fetch(tx).await?;
            if !own.is_empty() {
                return Ok(own.into_iter().next());
            }
        }
        Ok(told.fetch(tx).await?.into_iter().next())
    }
}

async fn unmet(tx: &mut Tx, tasks: &[Task]) -> Result<BTreeMap<TaskId, Vec<TaskId>>> {
    let waiting: Vec<i64> = tasks.iter().filter(|task| task.unmet > 0).map(|task| task.id.0).collect();
    let pairs = tx
        .all(UNMET, args![waiting], |row| Ok((TaskId(row.int("task_id")?), TaskId(row.int("needs_id")?))))
        .await?;
    let mut needs: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
    for (task, need) in pairs {
        needs.entry(task).or_default().push(need);
    }
    Ok(needs)
}

const COUNTS: Sql = Sql::Each {
    lite: "select run_id, state, count(*) as n from tasks where run_id in (select value from json_each($1)) group by run_id, state",
    pg: "select run_id, state, count(*) as n from tasks where run_id = any($1::bigint[]) group by run_id, state",
};

/// Runs that go on, the tasks of those that are older than the first that is looked at, and the tasks of none.
const OTHERS: &str = "select (select count(*) from runs where state = 'running') as runs,
    (select count(*) from tasks where run_id in (select id from runs where state = 'running' and id < $1))
    + (select count(*) from tasks where run_id is null) as tasks";

macro_rules! tasks_of {
    ($runs:literal, $states:literal, $order:literal) => {
        concat!(
            "select ",
            columns!(),
            " from tasks
              where (run_id ",
            $runs,
            " or ($2 = 1 and run_id is null)) and state ",
            $states,
            "
              order by ",
            $order,
            " limit $4"
        )
    };
}
const OLDEST_FIRST: Sql = Sql::Each {
    lite: tasks_of!(
        "in (select value from json_each($1))",
        "in (select value from json_each($3))",
        "priority, id"
    ),
    pg: tasks_of!("= any($1::bigint[])", "= any($3::text[])", "priority, id"),
};
const LATEST_FIRST: Sql = Sql::Each {
    lite: tasks_of!(
        "in (select value from json_each($1))",
        "in (select value from json_each($3))",
        "finished_at desc, id desc"
    ),
    pg: tasks_of!("= any($1::bigint[])", "= any($3::text[])", "finished_at desc, id desc"),
};

const UNMET: Sql = Sql::Each {
    lite: "select n.task_id, n.needs_id from task_needs n join tasks x on x.id = n.needs_id
            where x.state <> 'completed' and n.task_id in (select value from json_each($1)) order by n.task_id, n.needs_id",
    pg: "select n.task_id, n.needs_id from task_needs n join tasks x on x.id = n.needs_id
          where x.state <> 'completed' and n.task_id = any($1::bigint[]) order by n.task_id, n.needs_id",
};

macro_rules! newest {
    ($which:literal) => {
        concat!(
            "select ",
            memory_columns!(),
            " from memories m
              where ",
            $which,
            " and (m.expires_at is null or m.expires_at > now_ms())
                and (cast($1 as bigint) is null or m.run_id = $1 or m.run_id is null)
              order by m.seen_at desc, m.id desc limit $2"
        )
    };
}
const SETTLED: &str =
    newest!("(m.kind in ('decision', 'pattern') or (m.kind in ('finding', 'episode') and m.source is null))");
const LEARNT: &str = newest!("m.kind in ('finding', 'episode') and m.source is not null");

const UNANSWERED: &str = concat!(
    "select ",
    message::message_columns!(),
    " from messages m
      where kind = 'help' and not exists (select 1 from messages r where r.reply_to = m.id)
      order by id desc limit $1"
);
const UNREAD: &str = concat!(
    "select ",
    message::message_columns!(),
    " from messages where recipient = $1 and read_at is null order by id desc limit $2"
);
