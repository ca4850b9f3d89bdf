//! The health check: what ends, lapses or comes due by itself.
//!
//! Here lives one request, [`Check`], which does a bounded part of everything that time alone brings about. It may
//! be asked by anyone at any time: by the node that is health leader, and by a command that finds nothing to take.
//! Who is stuck is only marked, never stopped here. What grows old is the matter of [`retention`](crate::retention).

use crate::task::{self, Failed, Task, columns};
use crate::{claim, run};
use quorate_model::retry::Failure;
use quorate_model::{Event, EventKind, Result, TaskState};
use quorate_store::{Boxed, Sql, Tx, Write, args};

/// Rows of each kind handled by one check; what is more is handled by the next, which follows at once.
const BATCH: i64 = 200;

/// Does what time has brought about; answers with what was done.
#[derive(Debug, Clone)]
pub struct Check {
    /// No sign of life for so long marks a task as stuck, in milliseconds.
    pub stuck_after_ms: i64,
    /// Whether leases are judged. Not during the first lease after the database or the host was away: their
    /// holders could not renew.
    pub judge: bool,
}

/// What a health check did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Tasks whose owner's lease had lapsed.
    pub lapsed: usize,
    /// Tasks that became due.
    pub due: usize,
    /// Claims whose time was over.
    pub claims: usize,
    /// Tasks newly marked stuck.
    pub stuck: usize,
    /// Agents whose session's lease had lapsed.
    pub stale: usize,
    /// Runs that ended.
    pub runs: usize,
    /// Whether more is left to do at once.
    pub more: bool,
    /// In how many milliseconds something comes due by itself, if anything does. What is over and could not be dealt with now
    /// does not count: it waits for something else than time.
    pub next_in_ms: Option<i64>,
}

impl Write for Check {
    type Answer = Checked;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Checked> {
        Box::pin(async move {
            let mut done = Checked { due: due(tx).await?, ..Checked::default() };
            if self.judge {
                done.lapsed = lapse(tx).await?;
                done.claims = claim::expire(tx, BATCH).await?;
                done.stale = stale_agents(tx).await?;
            }
            done.stuck = mark_stuck(tx, self.stuck_after_ms).await?;
            done.runs = run::settle_all(tx, BATCH).await?;
            let most =
                [done.due, done.lapsed, done.claims, done.stale, done.stuck, done.runs].into_iter().max();
            done.more = most.is_some_and(|n| n as i64 >= BATCH);
            done.next_in_ms = next(tx).await?;
            Ok(done)
        })
    }
}

/// Opens what has come due: waiting tasks and parked ones with a time.
async fn due(tx: &mut Tx) -> Result<usize> {
    let waiting = Sql::Each {
        lite: concat!(
            "select ",
            columns!(),
            " from tasks where state = 'waiting' and unmet = 0 and due_at <= now_ms() order by due_at limit $1"
        ),
        pg: concat!(
            "select ",
            columns!(),
            " from tasks where state = 'waiting' and unmet = 0 and due_at <= now_ms() order by due_at limit $1 for update skip locked"
        ),
    };
    let parked = Sql::Each {
        lite: concat!(
            "select ",
            columns!(),
            " from tasks where state = 'parked' and due_at <= now_ms() order by due_at limit $1"
        ),
        pg: concat!(
            "select ",
            columns!(),
            " from tasks where state = 'parked' and due_at <= now_ms() order by due_at limit $1 for update skip locked"
        ),
    };
    let due = tx.all(waiting, args![BATCH], Task::from_row).await?;
    due.iter().for_each(|task| task::open(tx, task, "it is due"));
    let parked = tx.all(parked, args![BATCH], Task::from_row).await?;
    parked.iter().for_each(|task| task::unpark(tx, task, "its time has come"));
    Ok(due.len() + parked.len())
}

/// Ends the ownership of tasks whose lease has lapsed. A lapsed lease counts as an attempt, without backoff.
///
/// During the first lease after the database server's start nobody is judged: holders could not renew before.
async fn lapse(tx: &mut Tx) -> Result<usize> {
    let sql = Sql::Each {
        lite: concat!(
            "select ",
            columns!(),
            " from tasks where state in ('running', 'verifying') and lease_until < now_ms() order by lease_until, id limit $1"
        ),
        pg: concat!(
            "select ",
            columns!(),
            " from tasks where state in ('running', 'verifying') and lease_until < now_ms()
                and now_ms() - coalesce(lease_ms, 0) > server_started_ms() order by lease_until, id limit $1 for update skip locked"
        ),
    };
    let lapsed = tx.all(sql, args![BATCH], Task::from_row).await?;
    for task in &lapsed {
        let owner = task.owner.as_deref().unwrap_or("its owner");
        lapse_one(tx, task, &format!("no sign of life from {owner} until its lease ended")).await?;
    }
    Ok(lapsed.len())
}

/// Ends the ownership of one task whose holder is gone. Its row is locked.
pub(crate) async fn lapse_one(tx: &mut Tx, task: &Task, why: &str) -> Result<()> {
    let owner = task.owner.as_deref().unwrap_or("its owner");
    let message = format!("the lease of {owner} on task {} has ended: {why}", task.named());
    tx.record(task.event(EventKind::TaskLeaseExpired, message));
    if task.state == TaskState::Verifying {
        tx.later(
            "update tasks set term = term + 1, lease_until = null, node = null where id = $1",
            args![task.id],
        );
        return Ok(());
    }
    let failed =
        Failed { failure: Failure::Lapsed, outcome: "lost", reason: why, tail: None, retry_after_ms: 0 };
    task::fail_attempt(tx, task, &failed).await.map(drop)
}

/// Marks agents whose session's lease has lapsed, except where tasks would not be judged either: see [`lapse`].
async fn stale_agents(tx: &mut Tx) -> Result<usize> {
    let sql = Sql::Each {
        lite: "update agents set state = 'stale' where state in ('ready', 'blocked') and lease_until < now_ms()
               returning name, node",
        pg: "update agents set state = 'stale'
              where name = any(array(select name from agents
                                      where state in ('ready', 'blocked') and lease_until < now_ms()
                                        and now_ms() - coalesce(lease_ms, 0) > server_started_ms() for update skip locked))
            returning name, node",
    };
    let stale = tx.all(sql, &[], |row| Ok((row.text("name")?, row.opt_text("node")?))).await?;
    for (name, node) in &stale {
        let message = format!("no sign of life from {name} until its lease ended");
        tx.record(
            Event::new(EventKind::AgentStale, message).agent(name).data(serde_json::json!({ "node": node })),
        );
        claim::release_of_agent(tx, name).await?;
    }
    Ok(stale.len())
}

macro_rules! silent {
    () => {
        "state = 'running' and stuck = 0 and lease_until >= now_ms()
            and active_at < now_ms() - case when lease_ms / 2 > $1 then lease_ms / 2 else $1 end"
    };
}

/// Life is told with each renewal, a third of the lease after the last one: where leases are long, silence is, too.
async fn mark_stuck(tx: &mut Tx, stuck_after_ms: i64) -> Result<usize> {
    let sql = Sql::Each {
        lite: concat!("update tasks set stuck = 1 where ", silent!(), " returning ", columns!()),
        pg: concat!(
            "update tasks set stuck = 1
              where id = any(array(select id from tasks where ",
            silent!(),
            " for update skip locked)) returning ",
            columns!()
        ),
    };
    let stuck = tx.all(sql, args![stuck_after_ms], Task::from_row).await?;
    for task in &stuck {
        let message = format!(
            "task {} shows no sign of life: no output, no progress, no work of the processor",
            task.named()
        );
        let silent = serde_json::json!({ "silent_since": task.active_at.map(crate::time::rfc3339) });
        tx.record(task.event(EventKind::TaskStuck, message).data(silent));
    }
    Ok(stuck.len())
}

/// Asks when the next thing comes due by itself. What is over and was not dealt with waits for something else than time: a
/// claim for the check of its task, a lease for being judged, a row for whoever has locked it.
async fn next(tx: &mut Tx) -> Result<Option<i64>> {
    let sql = "select min(at) - now_ms() as ms from (
                   select min(due_at) as at from tasks where state = 'waiting' and unmet = 0 and due_at > now_ms()
                   union all select min(due_at) from tasks where state = 'parked' and due_at > now_ms()
                   union all select min(lease_until) from tasks
                              where state in ('running', 'verifying') and lease_until >= now_ms()
                   union all select min(expires_at) from claims where expires_at > now_ms()) as times";
    Ok(tx.one(sql, &[], |row| row.opt_int("ms")).await?.flatten().map(|ms| ms.max(0)))
}
