//! Keeping history bounded: what has ended and is older than `[retention]` says is removed.
//!
//! Here lives one step of a round, [`Prune`], which does a bounded part. When rounds begin, and that only one node does
//! them, lives in `runtime`; what is kept how long, and why, in `docs/design/`. Nothing here touches what has not ended.

use crate::{agent, checkpoint, session};
use quorate_model::{Event, EventKind, Result, RunId, TaskId};
use quorate_store::{Boxed, Dialect, Read, Sql, Tx, Write, args};

/// Events, and messages, that one step removes at most.
pub const EVENTS_MAX: i64 = 2_000;
/// Tasks that one step looks at, at most.
pub const TASKS_MAX: i64 = 500;
/// Checkpoints, and sessions, that one step removes at most.
const CHECKPOINTS_MAX: i64 = 100;
const SESSIONS_MAX: i64 = 100;
/// A node whose lease is over may only sleep together with its host, and then it knows itself by its row: it stays for so long at
/// least, in milliseconds.
const ASLEEP_MS: i64 = 24 * 60 * 60 * 1_000;
/// Agents that one step takes out of the team at most.
const AGENTS_MAX: i64 = 100;

/// One step of a round: removes old history, the oldest first.
///
/// The log always ends where it began to be cut: what is kept has no gap, and a cursor from before it is refused by
/// [`event::After`](crate::event::After). A run that lasts longer than events are kept loses its first ones like any
/// other, else one parked task would keep the log growing for ever.
#[derive(Debug, Clone)]
pub struct Prune {
    /// Events older than this are removed, and nodes that stopped or fell silent and sessions that were seen last longer ago, in
    /// milliseconds.
    pub events_ms: i64,
    /// Output of attempts that ended longer ago than this is removed, in milliseconds.
    pub attempts_ms: i64,
    /// Tasks with their attempts and runs that ended longer ago than this are removed, and messages and checkpoints as old,
    /// in milliseconds.
    pub tasks_ms: i64,
    /// How far the round has come through the tasks; 0 begins one.
    pub after: TaskId,
}

/// Asks whether this process may remove history: on PostgreSQL its role may lack the right, and then leaves it to others.
#[derive(Debug, Clone)]
pub struct MayPrune;

impl Read for MayPrune {
    type Answer = bool;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            if tx.dialect() == Dialect::Lite {
                return Ok(true);
            }
            let sql = "select case when has_table_privilege('events', 'delete') then 1 else 0 end as may";
            Ok(tx.one(sql, &[], |row| row.flag("may")).await?.unwrap_or(false))
        })
    }
}

/// What a step removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Attempts whose output was removed.
    pub outputs: u64,
    /// Tasks, with their attempts.
    pub tasks: u64,
    /// Runs.
    pub runs: u64,
    /// Messages.
    pub messages: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Nodes.
    pub nodes: u64,
    /// How far the round has come through the tasks.
    pub seen: TaskId,
    /// Whether the round goes on.
    pub more: bool,
}

impl Pruned {
    /// Returns the answer of a step that came so far and removed nothing.
    pub fn nothing(seen: TaskId) -> Pruned {
        Pruned {
            events: 0,
            outputs: 0,
            tasks: 0,
            runs: 0,
            messages: 0,
            checkpoints: 0,
            nodes: 0,
            seen,
            more: false,
        }
    }
}

impl Write for Prune {
    type Answer = Pruned;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Pruned> {
        Box::pin(async move {
            let mut pruned = Pruned::nothing(self.after);
            let part = self.part(tx).await?;
            if let Some(last) = part.last {
                pruned.seen = last;
                pruned.outputs = tx.run(FORGET_OUTPUT, args![self.after, last, self.attempts_ms]).await?;
                pruned.tasks = self.tasks(tx, last).await?;
            }
            if part.count < TASKS_MAX {
                pruned.runs = runs(tx, self.tasks_ms).await?;
            }
            pruned.messages = tx.run(MESSAGES, args![EVENTS_MAX, self.tasks_ms]).await?;
            let silent_ms = self.events_ms.max(ASLEEP_MS);
            pruned.nodes = tx.run(NODES, args![self.events_ms, silent_ms]).await?;
            pruned.checkpoints = checkpoint::forget_old(tx, self.tasks_ms, CHECKPOINTS_MAX).await?;
            let sessions = session::forget_old(tx, self.events_ms, SESSIONS_MAX).await?;
            let agents = agent::forget_gone(tx, silent_ms, AGENTS_MAX).await?;
            let up_to = self.events(tx, &mut pruned).await?;
            pruned.more = part.count == TASKS_MAX
                || [pruned.events, pruned.messages].iter().any(|removed| *removed as i64 >= EVENTS_MAX)
                || pruned.checkpoints as i64 >= CHECKPOINTS_MAX
                || sessions as i64 >= SESSIONS_MAX
                || agents as i64 >= AGENTS_MAX;
            tell(tx, &pruned, up_to);
            Ok(pruned)
        })
    }
}

/// Removes runs of which nothing is left, and what they have used.
async fn runs(tx: &mut Tx, tasks_ms: i64) -> Result<u64> {
    let gone = tx.all(RUNS, args![tasks_ms, TASKS_MAX], |row| Ok(RunId(row.int("id")?))).await?;
    for run in &gone {
        crate::usage::forget_run(tx, *run);
    }
    Ok(gone.len() as u64)
}

/// The tasks that a step looks at.
struct Part {
    last: Option<TaskId>,
    count: i64,
}

impl Prune {
    /// The next tasks that are old enough to be looked at. No index is needed: ids grow with time, so the walk ends at
    /// the first that is young.
    async fn part(&self, tx: &mut Tx) -> Result<Part> {
        let args = args![self.after, TASKS_MAX, self.tasks_ms.min(self.attempts_ms)];
        let found = tx
            .one(PART, args, |row| {
                Ok(Part { last: row.opt_int("last")?.map(TaskId), count: row.int("count")? })
            })
            .await?;
        Ok(found.unwrap_or(Part { last: None, count: 0 }))
    }

    async fn tasks(&self, tx: &mut Tx, last: TaskId) -> Result<u64> {
        let mut gone = tx.all(OVER, args![self.after, last, self.tasks_ms], |row| row.int("id")).await?;
        if gone.is_empty() {
            return Ok(0);
        }
        let args = args![gone.as_slice(), self.tasks_ms];
        let needed = tx.all(STILL_NEEDED, args, |row| row.int("id")).await?;
        gone.retain(|id| needed.binary_search(id).is_err());
        for sql in [NEEDS_GO, NEEDED_GO, ATTEMPTS_GO, USAGE_GO, BUDGETS_GO, TASKS_GO] {
            tx.run(sql, args![gone.as_slice()]).await?;
        }
        Ok(gone.len() as u64)
    }

    /// Removes events; answers with the place up to which there are none any more.
    async fn events(&self, tx: &mut Tx, pruned: &mut Pruned) -> Result<Option<i64>> {
        let Some(last) =
            tx.one(LAST_OLD, args![EVENTS_MAX, self.events_ms], |row| row.opt_int("seq")).await?.flatten()
        else {
            return Ok(None);
        };
        pruned.events = tx.run("delete from events where seq <= $1", args![last]).await?;
        tx.later(
            "insert into meta (key, value) values ('pruned_seq', $1) on conflict (key) do update set value = excluded.value",
            args![last.to_string()],
        );
        Ok(Some(last))
    }
}

/// Notes in the log what was removed from history.
fn tell(tx: &mut Tx, pruned: &Pruned, up_to: Option<i64>) {
    let removed = [
        ("events", pruned.events),
        ("tasks", pruned.tasks),
        ("runs", pruned.runs),
        ("messages", pruned.messages),
        ("checkpoints", pruned.checkpoints),
    ];
    let mut data = serde_json::Map::new();
    let mut words = Vec::new();
    for (what, count) in removed.into_iter().filter(|(_, count)| *count > 0) {
        words.push(format!("{count} {what}"));
        data.insert(what.to_owned(), count.into());
    }
    if words.is_empty() {
        return;
    }
    data.extend(up_to.map(|seq| ("up_to".to_owned(), seq.into())));
    let message = format!("old history was removed: {}", words.join(", "));
    tx.record(Event::new(EventKind::LogPruned, message).data(data.into()));
}

/// The end of what may go: the oldest events, up to the first that is young. Times may stand a little out of order,
/// and what followers cannot see yet is left alone.
const LAST_OLD: &str =
    "with oldest as (select seq, at from events where seq < log_head() order by seq limit $1)
    select max(seq) as seq from oldest
     where seq < coalesce((select min(seq) from oldest where at >= now_ms() - $2), 9223372036854775807)";

const PART: &str = "with part as (select id, created_at from tasks where id > $1 order by id limit $2)
    select max(id) as last, count(*) as count from part
     where id < coalesce((select min(id) from part where created_at >= now_ms() - $3), 9223372036854775807)";

const FORGET_OUTPUT: &str = "update attempts set tail = null
     where task_id > $1 and task_id <= $2 and tail is not null and ended_at < now_ms() - $3";

/// Tasks that ended long ago, as their runs did. Whoever works at one of them at this moment keeps it for now.
const OVER: Sql = Sql::Each {
    lite: "select t.id from tasks t left join runs r on r.id = t.run_id
            where t.id > $1 and t.id <= $2 and t.finished_at < now_ms() - $3
              and (t.run_id is null or r.finished_at < now_ms() - $3) order by t.id",
    pg:
        "select t.id from tasks t left join runs r on r.id = t.run_id
          where t.id > $1 and t.id <= $2 and t.finished_at < now_ms() - $3
            and (t.run_id is null or r.finished_at < now_ms() - $3) order by t.id for update of t skip locked",
};

macro_rules! still_needed {
    ($these:literal) => {
        concat!(
            "select distinct t.id from tasks t join task_needs n on n.needs_id = t.id
               join tasks d on d.id = n.task_id left join runs r on r.id = d.run_id
              where t.id ",
            $these,
            " and (t.state <> 'completed' or d.finished_at is null or d.finished_at >= now_ms() - $2
                   or (d.run_id is not null and (r.finished_at is null or r.finished_at >= now_ms() - $2)))
              order by t.id"
        )
    };
}

/// Those that another may still want: whoever has not ended for as long wants the result, and whoever was cancelled
/// because of a failure comes back only with the task that failed. A completed task is not kept by one that is as old,
/// else a chain to which every day adds a task would be kept for ever.
const STILL_NEEDED: Sql = Sql::Each {
    lite: still_needed!("in (select value from json_each($1))"),
    pg: still_needed!("= any($1::bigint[])"),
};

const NEEDS_GO: Sql = Sql::Each {
    lite: "delete from task_needs where task_id in (select value from json_each($1))",
    pg: "delete from task_needs where task_id = any($1::bigint[])",
};
const NEEDED_GO: Sql = Sql::Each {
    lite: "delete from task_needs where needs_id in (select value from json_each($1))",
    pg: "delete from task_needs where needs_id = any($1::bigint[])",
};
const ATTEMPTS_GO: Sql = Sql::Each {
    lite: "delete from attempts where task_id in (select value from json_each($1))",
    pg: "delete from attempts where task_id = any($1::bigint[])",
};
const USAGE_GO: Sql = Sql::Each {
    lite: "delete from usage where task_id in (select value from json_each($1))",
    pg: "delete from usage where task_id = any($1::bigint[])",
};
// What was used by an agent is counted for as long as there is the agent; what a run has used goes with the run.
const BUDGETS_GO: Sql = Sql::Each {
    lite: "delete from budgets where subject in (select 'task ' || value from json_each($1))",
    pg: "delete from budgets where subject = any(array(select 'task ' || id from unnest($1::bigint[]) as n (id)))",
};
const TASKS_GO: Sql = Sql::Each {
    lite: "delete from tasks where id in (select value from json_each($1))",
    pg: "delete from tasks where id = any($1::bigint[])",
};

/// A run goes when nothing of it is left.
const RUNS: &str = "delete from runs where id in
    (select id from runs r where finished_at < now_ms() - $1 and not exists (select 1 from tasks t where t.run_id = r.id)
      order by id limit $2) returning id";

/// Those that died on another host, nobody buries.
const NODES: &str = "delete from nodes
     where stopped_at < now_ms() - $1 or (stopped_at is null and lease_until < now_ms() - $2)";

const MESSAGES: &str = "delete from messages where id in
    (select id from (select id, created_at from messages order by id limit $1) oldest where created_at < now_ms() - $2)";
