//! What a live screen shows of the ledger, bounded whatever the ledger's size.
//!
//! Here live two looks. [`Look`] reads what changes by the second: the team, and the tasks that somebody works at or
//! that somebody should look at; each list is cut at a length and says so. [`Tally`] counts all tasks, which takes the
//! longer the more there are: whoever asks again and again leaves pauses that fit. Neither changes anything.

use crate::session::Sessions;
use crate::usage;
use crate::view::{AgentView, team};
use quorate_model::usage::MICROS;
use quorate_model::{Result, RunId, TaskId, TaskState};
use quorate_store::{Boxed, Read, Row, Tx, args};
use std::collections::BTreeMap;

/// The most rows of one list.
pub const ROWS_MAX: i64 = 2_000;
/// Failed tasks are looked for among so many that were added last.
const FAILED_AMONG: i64 = 20_000;

/// A task in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its id.
    pub id: TaskId,
    /// Its name within its run.
    pub key: Option<String>,
    /// What it is about.
    pub title: String,
    /// Its state.
    pub state: TaskState,
    /// Who has it or had it last.
    pub owner: Option<String>,
    /// Number of its latest attempt.
    pub attempt: i64,
    /// Failures at most.
    pub max_attempts: i64,
    /// Percent.
    pub progress: i64,
    /// The last word of progress.
    pub message: Option<String>,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// Whether it is marked stuck.
    pub stuck: bool,
    /// Waiting or parked until then.
    pub due_at: Option<i64>,
    /// When its latest attempt began.
    pub started_at: Option<i64>,
    /// The last sign of life of that attempt.
    pub active_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// Since when it is passed over for its claims.
    pub blocked_since: Option<i64>,
}

impl Line {
    fn from_row(row: &Row<'_>) -> Result<Line> {
        Ok(Line {
            id: TaskId(row.int("id")?),
            key: row.opt_text("key")?,
            title: row.text("title")?,
            state: row.text("state")?.parse()?,
            owner: row.opt_text("owner")?,
            attempt: row.int("attempt")?,
            max_attempts: row.int("max_attempts")?,
            progress: row.int("progress")?,
            message: row.opt_text("message")?,
            reason: row.opt_text("reason")?,
            stuck: row.flag("stuck")?,
            due_at: row.opt_int("due_at")?,
            started_at: row.opt_int("started_at")?,
            active_at: row.opt_int("active_at")?,
            finished_at: row.opt_int("finished_at")?,
            blocked_since: row.opt_int("claims_since")?,
        })
    }
}

macro_rules! lines {
    ($which:literal) => {
        concat!(
            "select id, key, title, state, owner, attempt, max_attempts, progress, message, reason, stuck, due_at, started_at,
                    active_at, finished_at, claims_since from tasks where ",
            $which
        )
    };
}

/// A list that may have been cut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether there are more of them.
    pub is_cut: bool,
}

impl<T> Listed<T> {
    /// Makes a list of rows that were asked for with one more than `most`.
    fn cut(mut rows: Vec<T>, most: i64) -> Listed<T> {
        let most = usize::try_from(most).unwrap_or_default();
        let is_cut = rows.len() > most;
        rows.truncate(most);
        Listed { rows, is_cut }
    }
}

/// What is known of what an agent has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Use {
    /// How full its context is.
    pub context_percent: Option<i64>,
    /// What it has cost in dollars.
    pub usd: Option<f64>,
}

/// What a live screen shows.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The ledger's time.
    pub now: i64,
    /// The team, by name.
    pub agents: Listed<AgentView>,
    /// Tasks that are running or being checked, by id.
    pub running: Listed<Line>,
    /// Tasks that are parked, the newest first.
    pub parked: Listed<Line>,
    /// Tasks that are passed over since others hold what they claim, the longest so first.
    pub blocked: Listed<Line>,
    /// Tasks that failed for good, the newest first; only among those that were added last.
    pub failed: Listed<Line>,
    /// The newest run that goes on, with its goal, and how many do.
    pub run: Option<(RunId, String)>,
    /// How many runs go on.
    pub runs: i64,
    /// What agents have used, by name; who has not said is not in it.
    pub usage: BTreeMap<String, Use>,
}

/// Looks at what changes by the second.
#[derive(Debug, Clone)]
pub struct Look {
    /// So many rows of each list at most, and never more than [`ROWS_MAX`].
    pub most: i64,
}

impl Read for Look {
    type Answer = Looked;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Looked> {
        Box::pin(async move {
            let most = self.most.clamp(1, ROWS_MAX);
            let agents = Listed::cut(team(tx, None, most + 1).await?, most);
            // With the plus, since the order by id would else lead a ledger without statistics through all its tasks, and not
            // to the index of those that are under way.
            let running =
                listed(tx, lines!("state in ('running', 'verifying') order by +id limit $1"), most).await?;
            let parked = listed(tx, lines!("state = 'parked' order by +id desc limit $1"), most).await?;
            let blocked =
                lines!("state = 'ready' and claims_since is not null order by claims_since, id limit $1");
            let blocked = listed(tx, blocked, most).await?;
            let failed = failed(tx, most).await?;
            let sql = "select id, goal, (select count(*) from runs where state = 'running') as n
                         from runs where state = 'running' order by id desc limit 1";
            let run =
                tx.one(sql, &[], |row| Ok((RunId(row.int("id")?), row.text("goal")?, row.int("n")?))).await?;
            let runs = run.as_ref().map_or(0, |(_, _, count)| *count);
            let run = run.map(|(id, goal, _)| (id, goal));
            let usage = used(tx, &agents.rows).await?;
            Ok(Looked { now: tx.now().await?, agents, running, parked, blocked, failed, run, runs, usage })
        })
    }
}

/// What is known of what each has used: by its attempts, and by its session where no node supervises it.
async fn used(tx: &mut Tx, team: &[AgentView]) -> Result<BTreeMap<String, Use>> {
    let contexts = usage::contexts(tx).await?;
    let sessions = Sessions::default().fetch(tx).await?;
    let mut known = BTreeMap::new();
    for view in team {
        let name = &view.agent.name;
        let session = sessions.iter().find(|session| session.agent == *name);
        let attempt = contexts.get(name).filter(|_| view.task.is_some());
        let part = attempt.and_then(|(tokens, window)| percent(*tokens, (*window)?));
        let micros = session.and_then(|session| session.usd_micros);
        let micros = micros.or(Some(view.spent.usd_micros)).filter(|micros| *micros > 0);
        let one = Use {
            context_percent: session.and_then(|session| session.used_percent).or(part),
            usd: micros.map(|micros| micros as f64 / MICROS),
        };
        if one != Use::default() {
            known.insert(name.clone(), one);
        }
    }
    Ok(known)
}

fn percent(tokens: i64, window: i64) -> Option<i64> {
    (window > 0).then(|| (tokens.saturating_mul(100) / window).clamp(0, 100))
}

async fn listed(tx: &mut Tx, sql: &'static str, most: i64) -> Result<Listed<Line>> {
    Ok(Listed::cut(tx.all(sql, args![most + 1], Line::from_row).await?, most))
}

/// No index holds the failed ones, so that the search goes back through the newest tasks, and only so far.
async fn failed(tx: &mut Tx, most: i64) -> Result<Listed<Line>> {
    let newest = tx.one("select coalesce(max(id), 0) as id from tasks", &[], |row| row.int("id")).await?;
    let oldest = newest.unwrap_or(0) - FAILED_AMONG;
    let sql = lines!("id > $2 and state = 'failed' order by id desc limit $1");
    Ok(Listed::cut(tx.all(sql, args![most + 1, oldest], Line::from_row).await?, most))
}

/// Counts all tasks by state.
#[derive(Debug, Clone)]
pub struct Tally;

impl Read for Tally {
    type Answer = Vec<(String, i64)>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<(String, i64)>> {
        Box::pin(async move {
            let sql = "select state, count(*) as n from tasks group by state order by state";
            tx.all(sql, &[], |row| Ok((row.text("state")?, row.int("n")?))).await
        })
    }
}
