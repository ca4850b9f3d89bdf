//! Taking a task: the one moment at which it gets an owner.
//!
//! Here lives the choice (highest priority, then oldest, of those the agent may take and whose claims are free)
//! and the take itself: owner, term, attempt and claims in one transaction, all or nothing.

use super::{Task, columns};
use crate::claim::{self, Refused, Wish};
use quorate_model::resource::Mode;
use quorate_model::{EventKind, Result, RunId, TaskId, Term};
use quorate_store::{Dialect, Sql, Tx, Write, args};

/// Tasks whose claims are held are passed over; this many at most in one take.
const PASSED_MAX: usize = 256;
/// Tasks looked at together once the first was passed over.
const PAGE: i64 = 16;

/// Which work a taker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Commands and words.
    Any,
    /// Only tasks with a command.
    Run,
    /// Only tasks without a command.
    Prompt,
}

impl Kinds {
    fn as_str(self) -> &'static str {
        match self {
            Kinds::Any => "any",
            Kinds::Run => "run",
            Kinds::Prompt => "prompt",
        }
    }
}

/// Takes the next task that `agent` may have; answers `None` when there is none.
#[derive(Debug, Clone)]
pub struct Take {
    /// Who takes it.
    pub agent: String,
    /// What the agent can do; `None` is everything.
    pub capabilities: Option<Vec<String>>,
    /// Which work it can do.
    pub kinds: Kinds,
    /// Only tasks of this run.
    pub run: Option<RunId>,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: i64,
    /// The node that supervises, if one does.
    pub node: Option<String>,
    /// Whether a task that the agent holds already is given back to it instead.
    pub resume: bool,
}

/// A task that was taken: what its owner needs to know.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The task as it stood when it was taken, with its new term, attempt and lease.
    pub task: Task,
    /// Results of the tasks it needs.
    pub needs: Vec<NeedResult>,
    /// Earlier attempts, the oldest first.
    pub previous: Vec<PastAttempt>,
}

/// The result of a needed task.
#[derive(Debug, Clone)]
pub struct NeedResult {
    /// The needed task.
    pub id: TaskId,
    /// Its key, or its id as text.
    pub key: String,
    /// Its result, a JSON text.
    pub result: Option<String>,
}

/// An earlier attempt and why it ended.
#[derive(Debug, Clone)]
pub struct PastAttempt {
    /// Its number.
    pub number: i64,
    /// Whose it was.
    pub agent: String,
    /// How it ended.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// The end of its output.
    pub tail: Option<String>,
}

impl Write for Take {
    type Answer = Option<Taken>;

    async fn apply(&self, tx: &mut Tx) -> Result<Option<Taken>> {
        if self.resume {
            if let Some(task) = self.held(tx).await? {
                return Ok(Some(taken(tx, task).await?));
            }
        }
        let mut passed = Vec::new();
        let mut limit = 1;
        while passed.len() < PASSED_MAX {
            let picks = self.pick(tx, &passed, limit).await?;
            if picks.is_empty() {
                break;
            }
            for (task, now) in picks {
                match self.claims(tx, &task).await? {
                    None => return Ok(Some(self.begin(tx, task, now).await?)),
                    Some(refused) => {
                        passed.push(task.id.0);
                        note_refusal(tx, &task, &self.agent, &refused);
                    }
                }
            }
            limit = PAGE;
        }
        Ok(None)
    }
}

const PICK: Sql = Sql::Each {
    lite: concat!(
        "select ", columns!(), ", now_ms() as now from tasks
          where state = 'ready'
            and (agent is null or agent = $1)
            and (agent = $1 or capability is null or $2 is null or capability in (select value from json_each($2)))
            and ($3 = 'any' or ($3 = 'run') = (run is not null))
            and ($4 is null or run_id = $4)
            and (avoid_agent is null or avoid_agent <> $1 or avoid_until <= now_ms())
            and id not in (select value from json_each($5))
            and not exists (select 1 from agents a
                             where a.name = $1 and (a.paused = 1 or a.removed = 1 or a.state = 'failed'))
          order by priority, id limit $6"
    ),
    pg: concat!(
        "select ", columns!(), ", now_ms() as now from tasks
          where state = 'ready'
            and (agent is null or agent = $1)
            and (agent = $1 or capability is null or $2::text[] is null or capability = any($2))
            and ($3::text = 'any' or ($3 = 'run') = (run is not null))
            and ($4::bigint is null or run_id = $4)
            and (avoid_agent is null or avoid_agent <> $1 or avoid_until <= now_ms())
            and id <> all($5::bigint[])
            and not exists (select 1 from agents a
                             where a.name = $1 and (a.paused = 1 or a.removed = 1 or a.state = 'failed'))
          order by priority, id limit $6 for update skip locked"
    ),
};

impl Take {
    async fn pick(&self, tx: &mut Tx, passed: &[i64], limit: i64) -> Result<Vec<(Task, i64)>> {
        let capabilities = self.capabilities.as_deref();
        tx.all(PICK, args![&self.agent, capabilities, self.kinds.as_str(), self.run, passed, limit], |row| {
            Ok((Task::from_row(row)?, row.int("now")?))
        })
        .await
    }

    /// Returns the task that the agent holds, its lease renewed.
    async fn held(&self, tx: &mut Tx) -> Result<Option<Task>> {
        let sql = concat!(
            "update tasks set lease_until = now_ms() + $2, active_at = now_ms()
              where id = (select id from tasks where owner = $1 and state = 'running' order by id limit 1)
                and state = 'running' and owner = $1 returning ",
            columns!()
        );
        tx.one(sql, args![&self.agent, self.lease_ms], Task::from_row).await
    }

    async fn claims(&self, tx: &mut Tx, task: &Task) -> Result<Option<Refused>> {
        if task.claims.is_empty() {
            return Ok(None);
        }
        let wish = Wish {
            agent: &self.agent,
            resources: &task.claims,
            mode: Mode::Exclusive,
            ttl_ms: self.lease_ms,
            task: Some(task.id),
            place: None,
        };
        claim::grant(tx, &wish).await.map(std::result::Result::err)
    }

    async fn begin(&self, tx: &mut Tx, mut task: Task, now: i64) -> Result<Taken> {
        task.term = Term(task.term.0 + 1);
        task.attempt += 1;
        task.owner = Some(self.agent.clone());
        task.lease_until = Some(now + self.lease_ms);
        task.started_at = Some(now);
        task.holds = !task.claims.is_empty();
        tx.later(
            "update tasks set state = 'running', term = $2, attempt = $3, owner = $4, node = $5, lease_ms = $6,
                    lease_until = now_ms() + $6, started_at = now_ms(), active_at = now_ms(), stuck = 0, progress = 0,
                    message = null, reason = null, holds = $7
              where id = $1",
            args![task.id, task.term, task.attempt, &self.agent, &self.node, self.lease_ms, task.holds],
        );
        tx.later(
            "insert into attempts (task_id, number, term, agent, node, started_at) values ($1, $2, $3, $4, $5, now_ms())",
            args![task.id, task.attempt, task.term, &self.agent, &self.node],
        );
        let message = format!("task {} taken by {}, attempt {}", task.named(), self.agent, task.attempt);
        let data = serde_json::json!({ "attempt": task.attempt, "term": task.term.0, "lease_ms": self.lease_ms });
        tx.record(task.event(EventKind::TaskTaken, message).data(data));
        taken(tx, task).await
    }
}

/// Adds what the owner is shown: results of needs, and why earlier attempts ended.
async fn taken(tx: &mut Tx, mut task: Task) -> Result<Taken> {
    task.state = quorate_model::TaskState::Running;
    let needs = if task.needs > 0 { need_results(tx, task.id).await? } else { Vec::new() };
    let previous = if task.attempt > 1 { past_attempts(tx, &task).await? } else { Vec::new() };
    Ok(Taken { task, needs, previous })
}

pub(crate) async fn need_results(tx: &mut Tx, task: TaskId) -> Result<Vec<NeedResult>> {
    let sql = "select t.id, coalesce(t.key, cast(t.id as text)) as name, t.result
                 from task_needs n join tasks t on t.id = n.needs_id where n.task_id = $1 order by t.id";
    tx.all(sql, args![task], |row| {
        Ok(NeedResult { id: TaskId(row.int("id")?), key: row.text("name")?, result: row.opt_text("result")? })
    })
    .await
}

/// Earlier attempts that the next owner is shown, the latest few.
const PAST_MAX: i64 = 10;

async fn past_attempts(tx: &mut Tx, task: &Task) -> Result<Vec<PastAttempt>> {
    let sql = "select number, agent, outcome, reason, tail from attempts
                where task_id = $1 and number < $2 and ended_at is not null order by number desc limit $3";
    let mut past = tx
        .all(sql, args![task.id, task.attempt, PAST_MAX], |row| {
            Ok(PastAttempt {
                number: row.int("number")?,
                agent: row.text("agent")?,
                outcome: row.text("outcome")?,
                reason: row.opt_text("reason")?,
                tail: row.opt_text("tail")?,
            })
        })
        .await?;
    past.reverse();
    Ok(past)
}

/// Says on the task why it is passed over; the log gets a line only when the reason is new.
fn note_refusal(tx: &mut Tx, task: &Task, agent: &str, refused: &Refused) {
    let reason = format!("waits for {}", refused.said());
    if task.reason.as_deref() == Some(&reason) {
        return;
    }
    tx.later("update tasks set reason = $2 where id = $1 and state = 'ready'", args![task.id, &reason]);
    tx.record(refused.event(agent).task(task.id).run(task.run_id));
}

/// Takes over a task that was said to be done, to run its check; answers `None` when there is none.
#[derive(Debug, Clone)]
pub struct TakeCheck {
    /// Only this task.
    pub task: Option<TaskId>,
    /// Only tasks of this run.
    pub run: Option<RunId>,
    /// The node that runs the check.
    pub node: String,
    /// How long the lease lasts, in milliseconds.
    pub lease_ms: i64,
}

impl Write for TakeCheck {
    type Answer = Option<Task>;

    async fn apply(&self, tx: &mut Tx) -> Result<Option<Task>> {
        let lock = match tx.dialect() {
            Dialect::Lite => PICK_CHECK,
            Dialect::Pg => PICK_CHECK_LOCKED,
        };
        let Some(id) = tx.one(lock, args![self.task, self.run], |row| row.int("id")).await? else { return Ok(None) };
        let sql = concat!(
            "update tasks set term = term + 1, node = $2, lease_ms = $3, lease_until = now_ms() + $3 where id = $1 returning ",
            columns!()
        );
        tx.one(sql, args![id, &self.node, self.lease_ms], Task::from_row).await
    }
}

const PICK_CHECK: &str = "select id from tasks
      where state = 'verifying' and (lease_until is null or lease_until < now_ms())
        and (cast($1 as bigint) is null or id = $1) and (cast($2 as bigint) is null or run_id = $2) order by id limit 1";
const PICK_CHECK_LOCKED: &str = "select id from tasks
      where state = 'verifying' and (lease_until is null or lease_until < now_ms())
        and ($1::bigint is null or id = $1) and ($2::bigint is null or run_id = $2)
      order by id limit 1 for update skip locked";
