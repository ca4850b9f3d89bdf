//! Keeping a lease: renewal in batches by the supervisor, and progress by whoever works.
//!
//! Here live the writes that move a lease's end. Taking lives in `take`, the end of a lease in `health`.

use super::{Task, columns, lock, refuse};
use quorate_model::said::shortened;
use quorate_model::{Error, EventKind, Result, TaskId, Term};
use quorate_store::{Boxed, Dialect, Row, Tx, Write, args};

/// A task that a supervisor says it holds.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The task.
    pub id: TaskId,
    /// The term under which it is held.
    pub term: Term,
    /// Whether its child showed a sign of life since the last time.
    pub active: bool,
}

/// Renews the leases of a supervisor's tasks and sessions.
///
/// Where somebody keeps one of them locked (a person in `psql`, on PostgreSQL), the others are renewed after 250 ms.
/// A crash of the database server may forget a renewal, which only ends a lease early: terms make that safe.
#[derive(Debug, Clone)]
pub struct Renew {
    /// What is held.
    pub held: Vec<Held>,
    /// Agents whose sessions live here.
    pub agents: Vec<String>,
    /// The node they live in.
    pub node: String,
    /// How long the leases last from now, in milliseconds.
    pub lease_ms: i64,
}

/// What a renewal came to. What is in neither list is no longer held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// Tasks that are still held, until a whole lease from now.
    pub kept: Vec<TaskId>,
    /// Tasks that are still held as far as is known, and no longer than before: somebody keeps them locked.
    pub busy: Vec<TaskId>,
    /// Agents whose sessions go on, until a whole lease from now.
    pub agents: Vec<String>,
}

impl Write for Renew {
    type Answer = Renewed;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Renewed> {
        Box::pin(async move {
            tx.relax();
            match tx.dialect() {
                Dialect::Lite => self.in_turn(tx).await,
                Dialect::Pg => self.at_once(tx).await,
            }
        })
    }
}

impl Renew {
    async fn in_turn(&self, tx: &mut Tx) -> Result<Renewed> {
        let (ids, terms, active) = self.columns();
        let kept = tx.all(RENEW_TASKS, args![ids, terms, active, self.lease_ms], kept).await?;
        let holding: Vec<i64> = kept.iter().filter(|(_, holds)| *holds).map(|(id, _)| id.0).collect();
        if !holding.is_empty() {
            tx.later(RENEW_CLAIMS, args![holding, self.lease_ms]);
        }
        let agents = args![self.agents.as_slice(), &self.node, self.lease_ms];
        let agents = tx.all(RENEW_AGENTS, agents, |row| row.text("name")).await?;
        tx.later(RENEW_NODE, args![&self.node, self.lease_ms]);
        Ok(Renewed { kept: kept.into_iter().map(|(id, _)| id).collect(), busy: Vec::new(), agents })
    }

    /// The same as one statement, so that a renewal is one flight to the server and back.
    async fn at_once(&self, tx: &mut Tx) -> Result<Renewed> {
        let (ids, terms, active) = self.columns();
        let args = args![ids, terms, active, self.lease_ms, self.agents.as_slice(), &self.node];
        let sql = if tx.is_again() { RENEW_FREE } else { RENEW_ALL };
        let mut renewed = Renewed { kept: Vec::new(), busy: Vec::new(), agents: Vec::new() };
        for (id, busy, name) in tx.last(sql, args, one_renewed).await? {
            match name {
                Some(name) => renewed.agents.push(name),
                None if busy => renewed.busy.push(TaskId(id)),
                None => renewed.kept.push(TaskId(id)),
            }
        }
        Ok(renewed)
    }

    fn columns(&self) -> (Vec<i64>, Vec<i64>, Vec<i64>) {
        let ids = self.held.iter().map(|h| h.id.0).collect();
        let terms = self.held.iter().map(|h| h.term.0).collect();
        (ids, terms, self.held.iter().map(|h| h.active.into()).collect())
    }
}

/// A task and whether it is busy, or the name of an agent.
fn one_renewed(row: &Row<'_>) -> Result<(i64, bool, Option<String>)> {
    Ok((row.int("id")?, row.flag("busy")?, row.opt_text("name")?))
}

fn kept(row: &Row<'_>) -> Result<(TaskId, bool)> {
    Ok((TaskId(row.int("id")?), row.flag("holds")?))
}

const RENEW_TASKS: &str = "update tasks set lease_until = now_ms() + $4,
                  active_at = case when n.active = 1 then now_ms() else active_at end,
                  stuck = case when n.active = 1 then 0 else stuck end
             from (select i.value as id, t.value as term, a.value as active
                     from json_each($1) i join json_each($2) t on t.key = i.key join json_each($3) a on a.key = i.key) n
            where tasks.id = n.id and tasks.term = n.term and tasks.state in ('running', 'verifying')
        returning tasks.id, tasks.holds";

// What has expired is not brought back to life: another may hold it by now.
const RENEW_CLAIMS: &str = "update claims set expires_at = max(expires_at, now_ms() + $2)
            where task_id in (select value from json_each($1)) and left_term is null
              and (ttl_ms is null or expires_at > now_ms())";

const RENEW_AGENTS: &str = "update agents set heartbeat_at = now_ms(), lease_until = now_ms() + $3,
                  state = case when state = 'stale' then 'ready' else state end
            where name in (select value from json_each($1)) and node = $2 returning name";

const RENEW_NODE: &str =
    "update nodes set lease_until = now_ms() + $2 where id = cast($1 as integer) and stopped_at is null";

const RENEW_ALL: &str =
    "with kept as (
         update tasks set lease_until = now_ms() + $4,
                active_at = case when n.active = 1 then now_ms() else active_at end,
                stuck = case when n.active = 1 then 0 else stuck end
           from (select * from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as n (id, term, active) order by 1) n
          where tasks.id = n.id and tasks.term = n.term and tasks.state in ('running', 'verifying')
      returning tasks.id, tasks.holds),
     bound as (
         update claims set expires_at = greatest(expires_at, now_ms() + $4)
          where task_id in (select id from kept where holds = 1) and left_term is null
            and (ttl_ms is null or expires_at > now_ms())),
     sessions as (
         update agents set heartbeat_at = now_ms(), lease_until = now_ms() + $4,
                state = case when state = 'stale' then 'ready' else state end
          where name = any($5::text[]) and node = $6
      returning name),
     here as (
         update nodes set lease_until = now_ms() + $4 where id = $6::text::bigint and stopped_at is null)
     select id, 0 as busy, null as name from kept union all select 0, 0, name from sessions";

/// The same for what nobody else keeps locked. Dearer: each row is locked first and then written. What is locked keeps
/// the lease that it has.
const RENEW_FREE: &str =
    "with n as (select * from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as n (id, term, active)),
     free as materialized (
         select id from tasks where id = any($1) and coalesce(state, '') in ('running', 'verifying')
          order by id for update skip locked),
     kept as (
         update tasks set lease_until = now_ms() + $4,
                active_at = case when n.active = 1 then now_ms() else active_at end,
                stuck = case when n.active = 1 then 0 else stuck end
           from n
          where tasks.id = any(array(select id from free)) and tasks.id = n.id and tasks.term = n.term
            and tasks.state in ('running', 'verifying')
      returning tasks.id, tasks.holds),
     bound as (
         update claims set expires_at = greatest(expires_at, now_ms() + $4)
          where id = any(array(select id from claims
                                where task_id in (select id from kept where holds = 1) and left_term is null
                                  and (ttl_ms is null or expires_at > now_ms()) for update skip locked))),
     sessions as (
         update agents set heartbeat_at = now_ms(), lease_until = now_ms() + $4,
                state = case when state = 'stale' then 'ready' else state end
          where name = any(array(select name from agents
                                  where name = any($5::text[]) and node = $6 order by name for update skip locked))
      returning name),
     here as (
         update nodes set lease_until = now_ms() + $4
          where id = (select id from nodes where id = $6::text::bigint and stopped_at is null for update skip locked))
     select id, 0 as busy, null as name from kept
      union all
     select 0, 0, name from sessions
      union all
     select t.id, 1, null from n join tasks t on t.id = n.id and t.term = n.term
      where coalesce(t.state, '') in ('running', 'verifying') and t.id <> all (array(select id from free))";

/// Reports progress and renews the lease by its own length.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The task.
    pub id: TaskId,
    /// The term under which it was taken.
    pub term: Term,
    /// 0 to 100.
    pub percent: Option<i64>,
    /// A word for people; of a longer one only the first [`WORD_MAX`] bytes are kept.
    pub message: Option<String>,
}

/// The longest word about an attempt's progress, in bytes, as the supervisor keeps it of a child.
pub const WORD_MAX: usize = 4 * 1024;

impl Write for Progress {
    type Answer = Task;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Task> {
        Box::pin(async move {
            if self.percent.is_some_and(|n| !(0..=100).contains(&n)) {
                return Err(Error::invalid("progress is a number from 0 to 100"));
            }
            let sql = concat!(
                "update tasks set progress = coalesce($3, progress), message = coalesce($4, message), active_at = now_ms(),
                        stuck = 0, lease_until = now_ms() + lease_ms
                  where id = $1 and term = $2 and state = 'running' returning ",
                columns!()
            );
            let word = self.message.as_deref().map(|word| shortened(word, WORD_MAX).into_owned());
            let Some(task) =
                tx.one(sql, args![self.id, self.term, self.percent, &word], Task::from_row).await?
            else {
                let task = lock(tx, self.id).await?;
                return Err(refuse(&task, self.term, "progress"));
            };
            if task.holds {
                let until = task.lease_until.unwrap_or_default();
                tx.later(
                    "update claims set expires_at = $2
                      where task_id = $1 and left_term is null and expires_at < $2
                        and (ttl_ms is null or expires_at > now_ms())",
                    args![task.id, until],
                );
            }
            let said = word.as_deref().unwrap_or("");
            let message =
                format!("task {} at {} % {said}", task.named(), task.progress).trim_end().to_owned();
            let data = serde_json::json!({ "percent": task.progress, "message": word });
            tx.record(task.event(EventKind::TaskProgress, message).data(data));
            Ok(task)
        })
    }
}

/// Notes which process works on an attempt, so that it can be found and ended if its supervisor dies.
#[derive(Debug, Clone)]
pub struct Started {
    /// The task.
    pub id: TaskId,
    /// The attempt's number.
    pub attempt: i64,
    /// The host it runs on.
    pub host: String,
    /// The process …
    pub pid: i64,
    /// … and when it began, as the kernel counts: together they name one process for ever.
    pub pid_started: String,
    /// The file with its kept output.
    pub log: String,
}

impl Write for Started {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.run(
                "update attempts set host = $3, pid = $4, pid_started = $5, log = $6 where task_id = $1 and number = $2",
                args![self.id, self.attempt, &self.host, self.pid, &self.pid_started, &self.log],
            )
            .await?;
            Ok(())
        })
    }
}
