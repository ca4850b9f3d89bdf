//! Checkpoints: enough of an orchestrator's or an agent's state to go on after `/clear`, a crash or a reboot.
//!
//! Here live saving and looking. An agent saves what it likes, and its last [`KEPT_MAX`] are kept; of each run the ledger saves one by itself,
//! which is brought up to date whenever something about the run changes that matters. The memory finds both.

use crate::memory::{self, New};
use crate::run::{self, Run, run_columns};

use quorate_model::memory::MemoryKind;
use quorate_model::{CheckpointId, Error, Event, EventKind, Result, RunId};
use quorate_store::{Boxed, Read, Row, Tx, Write, args};
use serde_json::{Value, json};

/// The longest state, in bytes.
pub const STATE_MAX: usize = 64 * 1024;
/// Checkpoints of one agent that are kept: the last ones.
pub const KEPT_MAX: i64 = 20;
/// Tasks that the checkpoint of a run names.
pub const TASKS_MAX: i64 = 100;
/// The longest title in the checkpoint of a run, in characters.
const TITLE_MAX: usize = 120;

/// A saved state.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// The run it is about.
    pub run: Option<RunId>,
    /// Who saved it; `None`: it was saved by itself.
    pub agent: Option<String>,
    /// The state, a JSON text.
    pub state: String,
    /// When it was saved, milliseconds since 1970 (UTC).
    pub created_at: i64,
}

fn from_row(row: &Row<'_>) -> Result<Checkpoint> {
    Ok(Checkpoint {
        id: CheckpointId(row.int("id")?),
        run: row.opt_int("run_id")?.map(RunId),
        agent: row.opt_text("agent")?,
        state: row.text("state")?,
        created_at: row.int("created_at")?,
    })
}

/// Saves a state; answers with its id.
#[derive(Debug, Clone)]
pub struct Save {
    /// Who saves it.
    pub agent: String,
    /// The run it is about.
    pub run: Option<RunId>,
    /// The state; words are a JSON string.
    pub state: Value,
}

impl Write for Save {
    type Answer = CheckpointId;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, CheckpointId> {
        Box::pin(async move {
            let state = self.state.to_string();
            if state.len() > STATE_MAX {
                return Err(Error::invalid(format!(
                    "the state has {} bytes, more than {STATE_MAX}",
                    state.len()
                ))
                .hint("put the long parts into a file and save its path"));
            }
            if let Some(run) = self.run {
                let found =
                    tx.one("select id from runs where id = $1", args![run], |row| row.int("id")).await?;
                found.ok_or_else(|| run::unknown(run))?;
            }
            let sql = "insert into checkpoints (run_id, agent, state, created_at) values ($1, $2, $3, now_ms()) returning id";
            let id = tx.one(sql, args![self.run, &self.agent, &state], |row| row.int("id")).await?;
            let id = CheckpointId(id.expect("an insert returns its row"));
            self.drop_old(tx).await?;
            index(tx, id, self.run, Some(&self.agent), &in_words(&self.state)).await?;
            let event =
                Event::new(EventKind::CheckpointSaved, format!("{} saved checkpoint {id}", self.agent));
            tx.record(event.agent(&self.agent).run(self.run).data(json!({ "id": id.0 })));
            Ok(id)
        })
    }
}

impl Save {
    async fn drop_old(&self, tx: &mut Tx) -> Result<()> {
        let sql = "delete from checkpoints where agent = $1 and id <= coalesce(
                       (select id from checkpoints where agent = $1 order by id desc limit 1 offset $2), -1) returning id";
        for id in tx.all(sql, args![&self.agent, KEPT_MAX], |row| row.int("id")).await? {
            memory::expire(tx, &source(CheckpointId(id)));
        }
        Ok(())
    }
}

/// Removes so many states that are older than so long; that of a run stays for as long as the run goes on. Answers with how many.
pub(crate) async fn forget_old(tx: &mut Tx, age_ms: i64, limit: i64) -> Result<u64> {
    let gone = tx.all(OLD, args![age_ms, limit], |row| row.int("id")).await?;
    for id in &gone {
        memory::expire(tx, &source(CheckpointId(*id)));
    }
    Ok(gone.len() as u64)
}

const OLD: &str = "delete from checkpoints where id in
    (select c.id from checkpoints c where c.created_at < now_ms() - $1
        and not exists (select 1 from runs r where r.id = c.run_id and r.state = 'running')
      order by c.id limit $2) returning id";

fn source(id: CheckpointId) -> String {
    format!("checkpoint:{id}")
}

/// The text by which a state is found.
fn in_words(state: &Value) -> String {
    match state {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn index(
    tx: &mut Tx,
    id: CheckpointId,
    run: Option<RunId>,
    agent: Option<&str>,
    text: &str,
) -> Result<()> {
    let (text, source, at) = (memory::shortened(text), source(id), tx.now().await?);
    let new = New {
        kind: MemoryKind::Checkpoint,
        text: &text,
        tags: &[],
        agent,
        task: None,
        run,
        source: Some(&source),
        at,
        expires_at: None,
    };
    memory::keep_of(tx, &new).await.map(drop)
}

/// Saves the state of a run by itself, in the place of what was saved before.
pub(crate) async fn save_run(tx: &mut Tx, id: RunId) -> Result<()> {
    let sql = concat!("select ", run_columns!(), " from runs where id = $1");
    let Some(run) = tx.one(sql, args![id], Run::from_row).await? else { return Ok(()) };
    let state = run_state(tx, &run).await?;
    let text = state.to_string();
    let known = tx
        .one("select id from checkpoints where run_id = $1 and agent is null", args![id], |row| row.int("id"))
        .await?;
    let checkpoint = match known {
        Some(known) => {
            let sql = "update checkpoints set state = $2, created_at = now_ms() where id = $1";
            tx.later(sql, args![known, &text]);
            known
        }
        None => {
            let sql =
                "insert into checkpoints (run_id, state, created_at) values ($1, $2, now_ms()) returning id";
            tx.one(sql, args![id, &text], |row| row.int("id")).await?.expect("an insert returns its row")
        }
    };
    index(tx, CheckpointId(checkpoint), Some(id), None, &text).await
}

/// What somebody needs to go on with a run: its goal, how far it is, and its tasks, those first about which something is to be done.
async fn run_state(tx: &mut Tx, run: &Run) -> Result<Value> {
    let sql = "select state, count(*) as n from tasks where run_id = $1 group by state order by state";
    let counts = tx.all(sql, args![run.id], |row| Ok((row.text("state")?, row.int("n")?))).await?;
    let sql = "select id, key, title, state, owner, progress, reason from tasks where run_id = $1
                order by case state when 'failed' then 0 when 'parked' then 1 when 'running' then 2 when 'verifying' then 2
                                    when 'ready' then 3 when 'waiting' then 4 else 5 end, id limit $2";
    let tasks = tx
        .all(sql, args![run.id, TASKS_MAX], |row| {
            let short = |text: String| text.chars().take(TITLE_MAX).collect::<String>();
            Ok(json!({ "id": row.int("id")?, "key": row.opt_text("key")?, "title": short(row.text("title")?),
                       "state": row.text("state")?, "agent": row.opt_text("owner")?, "progress": row.int("progress")?,
                       "reason": row.opt_text("reason")?.map(short) }))
        })
        .await?;
    let total: i64 = counts.iter().map(|(_, n)| n).sum();
    let counts: serde_json::Map<String, Value> =
        counts.into_iter().map(|(state, n)| (state, n.into())).collect();
    let left_out = total - tasks.len() as i64;
    Ok(
        json!({ "run_id": run.id.0, "goal": run.goal, "state": run.state, "reason": run.reason, "counts": counts,
               "tasks": tasks, "left_out": left_out }),
    )
}

/// Asks for one checkpoint.
#[derive(Debug, Clone)]
pub struct Show {
    /// Which.
    pub id: CheckpointId,
}

impl Read for Show {
    type Answer = Checkpoint;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Checkpoint> {
        Box::pin(async move {
            let sql = "select id, run_id, agent, state, created_at from checkpoints where id = $1";
            let found = tx.one(sql, args![self.id], from_row).await?;
            found.ok_or_else(|| {
                Error::not_found(format!("no checkpoint {}", self.id))
                    .hint("`quorate checkpoint list` shows all")
            })
        })
    }
}

/// Lists checkpoints, the latest first.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Only of this agent.
    pub agent: Option<String>,
    /// Only of this run.
    pub run: Option<RunId>,
    /// Leaves out those that were saved by themselves.
    pub told: bool,
    /// So many at most; all if not said.
    pub limit: Option<i64>,
}

impl Read for List {
    type Answer = Vec<Checkpoint>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Checkpoint>> {
        Box::pin(async move {
            let sql = "select id, run_id, agent, state, created_at from checkpoints
                        where (cast($1 as text) is null or agent = $1) and (cast($2 as bigint) is null or run_id = $2)
                          and ($3 = 0 or agent is not null)
                        order by created_at desc, id desc limit $4";
            // In one piece: that of a run moves to the front whenever the run changes, and would be missed between two pages.
            let limit = self.limit.unwrap_or(i64::MAX);
            tx.all(sql, args![&self.agent, self.run, self.told, limit], from_row).await
        })
    }
}
