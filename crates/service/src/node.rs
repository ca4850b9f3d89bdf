//! Nodes: the processes that supervise.
//!
//! Here live a node's beginning and end, and the election of the one that does what only one should: a lease with
//! a term, like everything. Orphans of a node that died are listed here; `process` ends them.

use crate::task::{self, Task};
use crate::{agent, claim, health};
use quorate_model::{Event, EventKind, Result, TaskId, Term};
use quorate_store::{Boxed, Read, Row, Sql, Tx, Write, args};

/// A node as it is stored.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its id.
    pub id: i64,
    /// What it is: up, run or agent.
    pub kind: String,
    /// Its host.
    pub host: String,
    /// Its process …
    pub pid: i64,
    /// … and when that began, as the kernel counts.
    pub pid_started: String,
    /// The folder it works in.
    pub folder: String,
    /// When it began.
    pub started_at: i64,
    /// The end of its lease.
    pub lease_until: i64,
    /// Whether the lease is alive.
    pub alive: bool,
}

fn from_row(row: &Row<'_>) -> Result<Node> {
    Ok(Node {
        id: row.int("id")?,
        kind: row.text("kind")?,
        host: row.text("host")?,
        pid: row.int("pid")?,
        pid_started: row.text("pid_started")?,
        folder: row.text("folder")?,
        started_at: row.int("started_at")?,
        lease_until: row.int("lease_until")?,
        alive: row.flag("alive")?,
    })
}

/// Begins a node; answers with its id.
#[derive(Debug, Clone)]
pub struct Begin {
    /// What it is: up, run or agent.
    pub kind: &'static str,
    /// Its host.
    pub host: String,
    /// Its process …
    pub pid: i64,
    /// … and when that began, as the kernel counts.
    pub pid_started: String,
    /// The folder it works in.
    pub folder: String,
    /// How long its lease lasts, in milliseconds.
    pub lease_ms: i64,
}

impl Write for Begin {
    type Answer = i64;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, i64> {
        Box::pin(async move {
            let sql = "insert into nodes (kind, host, pid, pid_started, folder, started_at, lease_until)
                       values ($1, $2, $3, $4, $5, now_ms(), now_ms() + $6) returning id";
            let args = args![self.kind, &self.host, self.pid, &self.pid_started, &self.folder, self.lease_ms];
            let id = tx.one(sql, args, |row| row.int("id")).await?.expect("an insert returns its row");
            let data =
                serde_json::json!({ "node": id, "kind": self.kind, "host": self.host, "pid": self.pid });
            tx.record(
                Event::new(EventKind::NodeStarted, format!("node {id} started ({})", self.kind)).data(data),
            );
            Ok(id)
        })
    }
}

/// Ends a node in order: its lease and its singletons are free at once.
#[derive(Debug, Clone)]
pub struct End {
    /// The node.
    pub id: i64,
}

impl Write for End {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql = "update nodes set stopped_at = now_ms(), lease_until = now_ms() where id = $1 and stopped_at is null";
            if tx.run(sql, args![self.id]).await? > 0 {
                tx.later("update leaders set lease_until = now_ms() where node = $1", args![self.id]);
                let data = serde_json::json!({ "node": self.id });
                tx.record(Event::new(EventKind::NodeStopped, format!("node {} stopped", self.id)).data(data));
            }
            Ok(())
        })
    }
}

/// Asks to be the one node that does `duty`, or to stay it; answers with the term, or `None` while another is.
#[derive(Debug, Clone)]
pub struct Lead {
    /// What only one node does.
    pub duty: &'static str,
    /// Who asks.
    pub node: i64,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: i64,
}

impl Write for Lead {
    type Answer = Option<Term>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Term>> {
        Box::pin(async move {
            // A leader whose lease is still long writes nothing: leading costs nothing while nothing happens.
            let sql = "select term from leaders where duty = $1 and node = $2 and lease_until > now_ms() + $3 * 2 / 3";
            if let Some(term) =
                tx.one(sql, args![self.duty, self.node, self.lease_ms], |row| row.int("term")).await?
            {
                return Ok(Some(Term(term)));
            }
            let sql = "insert into leaders (duty, node, term, lease_until) values ($1, $2, 1, now_ms() + $3)
                       on conflict (duty) do update set node = excluded.node, lease_until = excluded.lease_until,
                          term = case when leaders.node = excluded.node then leaders.term else leaders.term + 1 end
                       where leaders.node = excluded.node or leaders.lease_until <= now_ms() returning term";
            let term = tx.one(sql, args![self.duty, self.node, self.lease_ms], |row| row.int("term")).await?;
            Ok(term.map(Term))
        })
    }
}

/// Lists nodes that have not stopped in order, the latest first.
#[derive(Debug, Clone)]
pub struct List;

impl Read for List {
    type Answer = Vec<Node>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Node>> {
        Box::pin(async move {
            let sql = "select id, kind, host, pid, pid_started, folder, started_at, lease_until,
                              case when lease_until > now_ms() then 1 else 0 end as alive
                         from nodes where stopped_at is null order by id desc limit 1000";
            tx.all(sql, &[], from_row).await
        })
    }
}

/// Ends a node whose process is known to be dead: what it held lapses at once instead of when its lease ends.
///
/// Only for a node of this very host, whose process was looked for and not found.
#[derive(Debug, Clone)]
pub struct Bury {
    /// The node.
    pub id: i64,
}

impl Write for Bury {
    /// The children of what it held: nobody supervises them any more.
    type Answer = Vec<Orphan>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Orphan>> {
        Box::pin(async move {
            let name = self.id.to_string();
            let mut orphans = Vec::new();
            for task in held_by(tx, &name).await? {
                orphans.push(child_of(tx, &task).await?);
                health::lapse_one(tx, &task, &format!("node {name} died")).await?;
            }
            agent::leave_with(tx, &name).await?;
            tx.later("update agents set lease_until = now_ms() - 1 where node = $1", args![&name]);
            tx.later("update leaders set lease_until = now_ms() where node = $1", args![self.id]);
            tx.later(
                "update nodes set stopped_at = now_ms(), lease_until = now_ms() where id = $1",
                args![self.id],
            );
            let message = format!("node {name} died: its process is gone");
            tx.record(
                Event::new(EventKind::NodeStopped, message)
                    .data(serde_json::json!({ "node": self.id, "died": true })),
            );
            Ok(orphans)
        })
    }
}

async fn child_of(tx: &mut Tx, task: &Task) -> Result<Orphan> {
    let sql =
        "select number, pid, pid_started from attempts where task_id = $1 and term = $2 and pid is not null";
    let noted = tx.one(sql, args![task.id, task.term], noted).await?;
    Ok(Orphan { task: task.id, term: task.term, noted, supervisor: None })
}

async fn held_by(tx: &mut Tx, node: &str) -> Result<Vec<Task>> {
    let sql = Sql::Each {
        lite: concat!(
            "select ",
            task::columns!(),
            " from tasks where node = $1 and state in ('running', 'verifying') and lease_until is not null order by id"
        ),
        pg: concat!(
            "select ",
            task::columns!(),
            " from tasks where node = $1 and state in ('running', 'verifying') and lease_until is not null
              order by id for update"
        ),
    };
    tx.all(sql, args![node], Task::from_row).await
}

/// A child that its supervisor has not reported as ended and does not keep any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The task.
    pub task: TaskId,
    /// The term under which it ran.
    pub term: Term,
    /// Its process. `None` when it was started a moment before anyone could note it, or not at all, and for a check.
    pub noted: Option<Noted>,
    /// The process that supervised it and when that began, if it is known and may still live.
    pub supervisor: Option<(i64, String)>,
}

/// What was noted of the child of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The attempt's number.
    pub attempt: i64,
    /// The process …
    pub pid: i64,
    /// … and when it began.
    pub pid_started: String,
}

fn noted(row: &Row<'_>) -> Result<Noted> {
    Ok(Noted { attempt: row.int("number")?, pid: row.int("pid")?, pid_started: row.text("pid_started")? })
}

/// Lists the noted children on a host whose attempt is over in the ledger's eyes, or whose supervisor's lease has
/// lapsed.
#[derive(Debug, Clone)]
pub struct Orphans {
    /// The host.
    pub host: String,
}

impl Read for Orphans {
    type Answer = Vec<Orphan>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Orphan>> {
        Box::pin(async move {
            let sql = "select a.task_id, a.number, a.term, a.pid, a.pid_started,
                              n.pid as node_pid, n.pid_started as node_started
                         from attempts a left join tasks t on t.id = a.task_id
                              left join nodes n on cast(n.id as text) = a.node and n.host = a.host
                        where a.host = $1 and a.pid is not null
                          and (a.outcome in ('lost', 'released', 'cancelled', 'parked')
                               or (a.ended_at is null
                                   and (t.id is null or t.term <> a.term or t.lease_until < now_ms())))
                        order by a.started_at desc limit 10000";
            tx.all(sql, args![&self.host], |row| {
                let (task, term) = (TaskId(row.int("task_id")?), Term(row.int("term")?));
                let supervisor = row.opt_int("node_pid")?.zip(row.opt_text("node_started")?);
                Ok(Orphan { task, term, noted: Some(noted(row)?), supervisor })
            })
            .await
        })
    }
}

/// Says that the child of an attempt is gone: its process is forgotten, and what was kept for it is released.
#[derive(Debug, Clone)]
pub struct Gone {
    /// The task.
    pub task: TaskId,
    /// The attempt's number.
    pub attempt: i64,
    /// The term under which the child worked.
    pub term: Term,
}

impl Write for Gone {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.later(
                "update attempts set pid = null where task_id = $1 and number = $2",
                args![self.task, self.attempt],
            );
            claim::release_left(tx, self.task, self.term).await
        })
    }
}
