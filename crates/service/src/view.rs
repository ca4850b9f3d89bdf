//! Read models: what screens and lists show.
//!
//! Here live the questions that look at several nouns at once. Nothing here changes anything.

use crate::agent::Agent;
use crate::claim::Claim;
use crate::run::{Run, run_columns};
use crate::task::{NeedResult, Task, columns, need_results, unknown};
use crate::{agent, claim, run, usage};
use quorate_model::agent::{AgentFacts, AgentState};
use quorate_model::budget::Spent;
use quorate_model::{Result, RunId, TaskId, Term};
use quorate_store::{Boxed, Read, Row, Sql, Tx, args};
use std::collections::{HashMap, HashSet};

/// An agent that pulls its work has no session: a sign of life within so long counts as alive (milliseconds).
const EXTERNAL_ALIVE_MS: i64 = 60_000;

/// An agent with its state read from the facts.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// As it is stored.
    pub agent: Agent,
    /// Its state.
    pub state: AgentState,
    /// The task it has.
    pub task: Option<TaskId>,
    /// What it has used, ever.
    pub spent: Spent,
    /// How full the context of its attempt is: tokens, and how many fit.
    pub context: Option<(i64, Option<i64>)>,
}

/// Tells whether somebody should start a node: of `open` tasks that are ready or said to be running there is one, and
/// of the team nobody runs. A paused, parked or braked agent is not nobody: what it waits for is said elsewhere.
pub fn is_unattended<'a>(mut team: impl Iterator<Item = &'a AgentView>, open: i64) -> bool {
    open > 0 && team.all(|view| matches!(view.state, AgentState::Idle | AgentState::Stale))
}

/// Lists the team, by name; removed members are left out.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    /// Only this one.
    pub name: Option<String>,
}

impl Read for Agents {
    type Answer = Vec<AgentView>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<AgentView>> {
        Box::pin(async move {
            let mut team = team(tx, self.name.as_deref(), i64::MAX).await?;
            let contexts = usage::contexts(tx).await?;
            for view in team.iter_mut().filter(|view| view.task.is_some()) {
                view.context = contexts.get(&view.agent.name).copied();
            }
            Ok(team)
        })
    }
}

/// Reads the team, or the one of that name; so many at most, by name.
///
/// What they have is read for all at once. Asked for each agent by itself, a ledger without statistics, such as a new
/// one, goes through all tasks for each.
pub(crate) async fn team(tx: &mut Tx, name: Option<&str>, most: i64) -> Result<Vec<AgentView>> {
    let read = |row: &Row<'_>| {
        let spent = Spent { usd_micros: row.int("usd_micros")?, tokens: row.int("tokens")? };
        Ok((Agent::from_row(row)?, row.int("now")?, spent))
    };
    let agents = tx.all(TEAM, args![name, most], read).await?;
    // The states are those of an index that is as short as what is under way.
    let sql = "select owner, min(case when state = 'running' then id end) as task_id,
                      max(case when state = 'running' then stuck else 0 end) as stuck,
                      max(case when state = 'running' and lease_until < now_ms() then 1 else 0 end) as lapsed,
                      max(case when state = 'parked' then 1 else 0 end) as parked
                 from tasks where (state = 'running' or state = 'verifying' or state = 'parked') and owner is not null
                  and (cast($1 as text) is null or owner = $1) group by owner";
    let works = tx.all(sql, args![name], work).await?;
    let sql = "select distinct agent from claim_waits
                where deadline > now_ms() and (cast($1 as text) is null or agent = $1)";
    let waits = tx.all(sql, args![name], |row| row.text("agent")).await?;
    let (works, waits): (HashMap<String, Work>, HashSet<String>) =
        (works.into_iter().collect(), waits.into_iter().collect());
    let view = |(agent, now, spent): (Agent, i64, Spent)| {
        let work = works.get(&agent.name).copied().unwrap_or_default();
        let waits = waits.contains(&agent.name);
        agent_view(agent, now, work, waits, spent)
    };
    Ok(agents.into_iter().map(view).collect())
}

macro_rules! members {
    ($member:literal) => {
        concat!(
            "select ",
            agent::columns!(),
            ", now_ms() as now,
            coalesce((select b.usd_micros from budgets b where b.subject = 'agent ' || ",
            $member,
            "), 0) as usd_micros,
            coalesce((select b.tokens from budgets b where b.subject = 'agent ' || ",
            $member,
            "), 0) as tokens
            from agents where removed = 0 and (cast($1 as text) is null or name = $1) order by name limit $2"
        )
    };
}

/// What `NAME@NODE` has used counts for `NAME`.
const TEAM: Sql = Sql::Each {
    lite: members!("substr(agents.name, 1, instr(agents.name || '@', '@') - 1)"),
    pg: members!("split_part(agents.name, '@', 1)"),
};

/// What is known of an agent's tasks.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    task: Option<TaskId>,
    is_stuck: bool,
    has_lapsed: bool,
    is_parked: bool,
}

fn work(row: &Row<'_>) -> Result<(String, Work)> {
    let work = Work {
        task: row.opt_int("task_id")?.map(TaskId),
        is_stuck: row.flag("stuck")?,
        has_lapsed: row.flag("lapsed")?,
        is_parked: row.flag("parked")?,
    };
    Ok((row.text("owner")?, work))
}

fn agent_view(agent: Agent, now: i64, work: Work, waits: bool, spent: Spent) -> AgentView {
    let session_alive = agent.lease_until.is_some_and(|until| until >= now);
    let pulls = matches!(agent.driver.as_str(), "external" | "human");
    let seen = pulls && agent.heartbeat_at.is_some_and(|at| at > now - EXTERNAL_ALIVE_MS);
    let facts = AgentFacts {
        failed: agent.state == "failed",
        paused: agent.paused,
        alive: session_alive || (agent.lease_until.is_none() && seen),
        lapsed: agent.state == "stale"
            || agent.lease_until.is_some_and(|until| until < now)
            || work.has_lapsed,
        has_task: work.task.is_some(),
        stuck: work.is_stuck,
        parked: work.is_parked,
        blocked: agent.state == "blocked" || waits,
    };
    AgentView { state: quorate_model::agent::state(facts), agent, task: work.task, spent, context: None }
}

/// Lists tasks, by id.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this owner, or kept for this agent.
    pub agent: Option<String>,
}

impl Read for Tasks {
    type Answer = Vec<Task>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Task>> {
        Box::pin(async move {
            let sql = concat!(
                "select ",
                columns!(),
                " from tasks
                  where (cast($1 as bigint) is null or run_id = $1) and (cast($2 as text) is null or state = $2)
                    and (cast($3 as text) is null or owner = $3 or agent = $3) order by id"
            );
            tx.all(sql, args![self.run, &self.state, &self.agent], Task::from_row).await
        })
    }
}

/// An attempt as it is kept.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The task.
    pub task: TaskId,
    /// Its number.
    pub number: i64,
    /// The term under which it ran.
    pub term: Term,
    /// Whose it was.
    pub agent: String,
    /// When it began.
    pub started_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How much its `done` is worth: said, or checked by the supervisor.
    pub evidence: Option<String>,
    /// The end of its output.
    pub tail: Option<String>,
    /// The file with its kept output …
    pub log: Option<String>,
    /// … on this host.
    pub host: Option<String>,
}

macro_rules! attempt_columns {
    () => {
        "task_id, number, term, agent, started_at, ended_at, outcome, reason, evidence, tail, log, host"
    };
}

fn attempt(row: &Row<'_>) -> Result<Attempt> {
    Ok(Attempt {
        task: TaskId(row.int("task_id")?),
        number: row.int("number")?,
        term: Term(row.int("term")?),
        agent: row.text("agent")?,
        started_at: row.int("started_at")?,
        ended_at: row.opt_int("ended_at")?,
        outcome: row.opt_text("outcome")?,
        reason: row.opt_text("reason")?,
        evidence: row.opt_text("evidence")?,
        tail: row.opt_text("tail")?,
        log: row.opt_text("log")?,
        host: row.opt_text("host")?,
    })
}

/// A task with everything a person asks about it.
#[derive(Debug, Clone)]
pub struct TaskStory {
    /// The task.
    pub task: Task,
    /// The ledger's time.
    pub now: i64,
    /// Its attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// What it needs, with results.
    pub needs: Vec<(NeedResult, String)>,
    /// The tasks that need it.
    pub dependents: Vec<TaskId>,
    /// Live claims bound to it.
    pub claims: Vec<Claim>,
    /// The team, for the question who could take it.
    pub team: Vec<AgentView>,
    /// What its attempts have used, by model.
    pub usage: Vec<usage::Entry>,
    /// The same against its budget.
    pub counted: usage::Counted,
}

/// Tells everything about one task.
#[derive(Debug, Clone)]
pub struct Story {
    /// The task.
    pub id: TaskId,
}

impl Read for Story {
    type Answer = TaskStory;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, TaskStory> {
        Box::pin(async move {
            let sql = concat!("select ", columns!(), " from tasks where id = $1");
            let task = tx.one(sql, args![self.id], Task::from_row).await?.ok_or_else(|| unknown(self.id))?;
            let sql =
                concat!("select ", attempt_columns!(), " from attempts where task_id = $1 order by number");
            let attempts = tx.all(sql, args![self.id], attempt).await?;
            let mut needs = Vec::new();
            for need in need_results(tx, self.id).await? {
                let state = tx
                    .one("select state from tasks where id = $1", args![need.id], |row| row.text("state"))
                    .await?;
                needs.push((need, state.unwrap_or_default()));
            }
            let sql = "select task_id from task_needs where needs_id = $1 order by task_id";
            let dependents = tx.all(sql, args![self.id], |row| Ok(TaskId(row.int("task_id")?))).await?;
            let sql = concat!(
                "select ",
                claim::columns!(),
                " from claims c where c.task_id = $1 and ",
                claim::live!(),
                " order by c.id"
            );
            let claims = tx.all(sql, args![self.id], Claim::from_row).await?;
            let team = Agents::default().fetch(tx).await?;
            let usage = usage::entries_of_task(tx, self.id).await?;
            let counted = usage::counted_of_task(tx, self.id).await?;
            let now = tx.now().await?;
            Ok(TaskStory { task, now, attempts, needs, dependents, claims, team, usage, counted })
        })
    }
}

/// Lists live claims, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// Only of this agent.
    pub agent: Option<String>,
}

impl Read for Claims {
    type Answer = Vec<Claim>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Claim>> {
        Box::pin(async move {
            let sql = concat!(
                "select ",
                claim::columns!(),
                " from claims c
                  where (cast($1 as text) is null or c.agent = $1) and ",
                claim::live!(),
                " order by c.id"
            );
            tx.all(sql, args![&self.agent], Claim::from_row).await
        })
    }
}

/// A run with its tasks and attempts.
#[derive(Debug, Clone)]
pub struct RunStory {
    /// The run.
    pub run: Run,
    /// The ledger's time.
    pub now: i64,
    /// Its tasks, by id.
    pub tasks: Vec<Task>,
    /// Their attempts, by task and number.
    pub attempts: Vec<Attempt>,
    /// Who needs whom: task, need.
    pub needs: Vec<(TaskId, TaskId)>,
    /// What its attempts have used, by model.
    pub usage: Vec<usage::Entry>,
    /// The same against a budget.
    pub counted: usage::Counted,
}

/// Tells everything about one run.
#[derive(Debug, Clone)]
pub struct RunShow {
    /// The run.
    pub id: RunId,
}

impl Read for RunShow {
    type Answer = RunStory;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, RunStory> {
        Box::pin(async move {
            let sql = concat!("select ", run_columns!(), " from runs where id = $1");
            let run =
                tx.one(sql, args![self.id], Run::from_row).await?.ok_or_else(|| run::unknown(self.id))?;
            let tasks = Tasks { run: Some(self.id), ..Tasks::default() }.fetch(tx).await?;
            let sql = concat!(
                "select ",
                attempt_columns!(),
                " from attempts
                  where task_id in (select id from tasks where run_id = $1) order by task_id, number"
            );
            let attempts = tx.all(sql, args![self.id], attempt).await?;
            let sql = "select task_id, needs_id from task_needs where task_id in (select id from tasks where run_id = $1)
                        order by task_id, needs_id";
            let needs = tx
                .all(sql, args![self.id], |row| {
                    Ok((TaskId(row.int("task_id")?), TaskId(row.int("needs_id")?)))
                })
                .await?;
            let usage = usage::entries_of_run(tx, self.id).await?;
            let counted = usage::counted_of_run(tx, self.id).await?;
            Ok(RunStory { run, now: tx.now().await?, tasks, attempts, needs, usage, counted })
        })
    }
}

/// How far a run is, without its tasks: cheap enough to be asked at every hint of a change.
#[derive(Debug, Clone)]
pub struct RunPulse {
    /// The run.
    pub run: Run,
    /// Tasks that have not ended.
    pub open: i64,
    /// Those of them that are running, on the node that was asked for if one was.
    pub running: i64,
    /// Those of them that nothing but a person's word moves: parked without a time, or behind such a one.
    pub held: i64,
}

/// Asks how far a run is.
#[derive(Debug, Clone)]
pub struct Pulse {
    /// The run.
    pub id: RunId,
    /// Counts as running only what this node has.
    pub node: Option<String>,
}

impl Read for Pulse {
    type Answer = RunPulse;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, RunPulse> {
        Box::pin(async move {
            let sql = concat!("select ", run_columns!(), " from runs where id = $1");
            let run =
                tx.one(sql, args![self.id], Run::from_row).await?.ok_or_else(|| run::unknown(self.id))?;
            let sql = "select count(*) as open,
                              coalesce(sum(case when state in ('running', 'verifying')
                                                 and (cast($2 as text) is null or node = $2) then 1 else 0 end), 0) as running,
                              coalesce(sum(case when (state = 'parked' and due_at is null) or (state = 'waiting' and unmet > 0)
                                                then 1 else 0 end), 0) as held,
                              coalesce(sum(case when state = 'parked' and due_at is null then 1 else 0 end), 0) as parked
                         from tasks where run_id = $1 and state <> 'completed' and state <> 'failed' and state <> 'cancelled'";
            let counts = tx
                .one(sql, args![self.id, &self.node], |row| {
                    Ok((row.int("open")?, row.int("running")?, row.int("held")?, row.int("parked")?))
                })
                .await?;
            let (open, running, held, parked) = counts.unwrap_or_default();
            Ok(RunPulse { run, open, running, held: if parked > 0 { held } else { 0 } })
        })
    }
}

/// Asks whether nothing of a run goes on here by itself, because agents that could go on have reached their budgets.
#[derive(Debug, Clone)]
pub struct Stalled {
    /// The run.
    pub id: RunId,
    /// The node whose agents work at it; a person may, too, and agents that pull their work and were heard of just now.
    pub node: String,
}

impl Read for Stalled {
    type Answer = bool;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let heard_since = tx.now().await? - EXTERNAL_ALIVE_MS;
            let args = args![self.id, &self.node, heard_since];
            Ok(tx.one(STALLED, args, |row| row.flag("stalled")).await?.unwrap_or(false))
        })
    }
}

macro_rules! stalled {
    ($can_all:literal, $can_it:literal) => {
        concat!(
            "select case when exists (select 1 from agents where node = $2 and paused = 1 and reason like 'budget: %')
             and not exists (
                 select 1 from tasks t where t.run_id = $1
                    and (t.state in ('running', 'verifying') or (t.state = 'parked' and t.due_at is not null)
                         or (t.state = 'waiting' and t.unmet = 0)
                         or (t.state = 'ready' and exists (
                             select 1 from agents a
                              where (a.node = $2 or a.driver = 'human'
                                     or (a.driver = 'external' and a.heartbeat_at > $3))
                                and a.paused = 0 and a.removed = 0 and a.state <> 'failed'
                                and (a.takes = 'any' or (a.takes = 'run') = (t.run is not null))
                                and (t.agent = a.name
                                     or (t.agent is null
                                         and (t.capability is null or ",
            $can_all,
            " > 0 or ",
            $can_it,
            " > 0
                                              or (a.driver = 'external' and a.capabilities = '[]'))))))))
            then 1 else 0 end as stalled"
        )
    };
}

// Not by `like`: there `_` stands for any letter, and on SQLite small letters for large ones.
const STALLED: Sql = Sql::Each {
    lite: stalled!("instr(a.capabilities, '\"*\"')", "instr(a.capabilities, '\"' || t.capability || '\"')"),
    pg: stalled!(
        "position('\"*\"' in a.capabilities)",
        "position('\"' || t.capability || '\"' in a.capabilities)"
    ),
};

/// A run with the count of its tasks by state.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// How many tasks in which state.
    pub counts: Vec<(String, i64)>,
    /// What it has used.
    pub spent: Spent,
}

/// Lists runs, by id.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// Only those that are going on.
    pub open: bool,
}

impl Read for Runs {
    type Answer = Vec<RunView>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<RunView>> {
        Box::pin(async move {
            let sql = concat!(
                "select ",
                run_columns!(),
                " from runs where ($1 = 0 or state = 'running') order by id"
            );
            let runs = tx.all(sql, args![self.open], Run::from_row).await?;
            let sql = "select run_id, state, count(*) as n from tasks where run_id is not null
                          and ($1 = 0 or run_id in (select id from runs where state = 'running'))
                        group by run_id, state order by run_id";
            let counts = tx
                .all(sql, args![self.open], |row| {
                    Ok((RunId(row.int("run_id")?), row.text("state")?, row.int("n")?))
                })
                .await?;
            let mut by_run = std::collections::HashMap::<RunId, Vec<(String, i64)>>::new();
            for (id, state, n) in counts {
                by_run.entry(id).or_default().push((state, n));
            }
            let used = usage::counted(tx, usage::Whole::Runs).await?;
            let spent =
                |run: &Run| used.get(&run.id.to_string()).map_or_else(Spent::default, |of_run| of_run.ever);
            let mut view = |run: Run| RunView {
                counts: by_run.remove(&run.id).unwrap_or_default(),
                spent: spent(&run),
                run,
            };
            Ok(runs.into_iter().map(&mut view).collect())
        })
    }
}

/// One look at everything.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The team.
    pub agents: Vec<AgentView>,
    /// How many tasks in which state.
    pub counts: Vec<(String, i64)>,
    /// All runs.
    pub runs: Vec<RunView>,
    /// What all agents have used.
    pub spent: Spent,
    /// Models that were used and for which no price is known.
    pub unpriced: Vec<String>,
    /// The ledger's time.
    pub now: i64,
}

/// Asks for one look at everything.
#[derive(Debug, Clone)]
pub struct Status;

impl Read for Status {
    type Answer = Overview;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Overview> {
        Box::pin(async move {
            let agents = Agents::default().fetch(tx).await?;
            let sql = "select state, count(*) as n from tasks group by state order by state";
            let counts = tx.all(sql, &[], |row| Ok((row.text("state")?, row.int("n")?))).await?;
            let runs = Runs::default().fetch(tx).await?;
            let used = usage::counted(tx, usage::Whole::Agents).await?;
            let spent = Spent::sum(used.values().map(|of_agent| of_agent.ever));
            let unpriced = usage::unpriced(tx).await?;
            Ok(Overview { agents, counts, runs, spent, unpriced, now: tx.now().await? })
        })
    }
}

/// Looks at the holdings of a supervisor: which of its tasks it still holds. Cheap, for every hint of a change.
#[derive(Debug, Clone)]
pub struct StillHeld {
    /// Task and term.
    pub held: Vec<(TaskId, Term)>,
}

impl Read for StillHeld {
    type Answer = Vec<TaskId>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<TaskId>> {
        Box::pin(async move {
            let mut still = Vec::new();
            for (id, term) in &self.held {
                let sql =
                    "select id from tasks where id = $1 and term = $2 and state in ('running', 'verifying')";
                still.extend(tx.one(sql, args![*id, *term], |row| Ok(TaskId(row.int("id")?))).await?);
            }
            Ok(still)
        })
    }
}
