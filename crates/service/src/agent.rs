//! The team: who is in it, whose session lives where, who may work.
//!
//! Here live registering, sessions (one life of one agent process, held by lease and term), pause, resume, kill
//! and removal. What an agent's state is called is read from facts by `model::agent`.

use crate::claim::release_of_agent;
use crate::session::leave;
use crate::task::{self, Kinds, Task};
use crate::token;
use quorate_model::agent::abilities;
use quorate_model::name::member;
use quorate_model::{Error, Event, EventKind, Kind, Result, RunId, TaskId, TaskState, Term, nearest};
use quorate_store::{Boxed, Row, Sql, Tx, Write, args};

/// A member of the team as it is stored.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// How it is run.
    pub driver: String,
    /// What it can do; `["*"]` is everything.
    pub capabilities: Vec<String>,
    /// Which work it takes: any, run, prompt.
    pub takes: String,
    /// The stored part of its state: idle, ready, blocked, stale, failed.
    pub state: String,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Whether it was removed from the team.
    pub removed: bool,
    /// Where its session lives.
    pub node: Option<String>,
    /// The host of its session.
    pub host: Option<String>,
    /// The process of its session.
    pub pid: Option<i64>,
    /// The term of its session.
    pub term: Term,
    /// The end of its session's lease.
    pub lease_until: Option<i64>,
    /// Its last sign of life.
    pub heartbeat_at: Option<i64>,
    /// How often its process was started again since a task of its last completed.
    pub respawns: i64,
}

macro_rules! columns {
    () => {
        "name, driver, capabilities, takes, state, reason, paused, removed, node, host, pid, term, lease_until, heartbeat_at, respawns"
    };
}
pub(crate) use columns;

impl Agent {
    /// Returns what it can do; `None` is anything, as with an external agent of which nothing is known.
    pub fn abilities(&self) -> Option<Vec<String>> {
        let takes_anything = self.driver == "external" && self.capabilities.is_empty();
        if takes_anything { None } else { abilities(&self.capabilities) }
    }

    pub(crate) fn from_row(row: &Row<'_>) -> Result<Agent> {
        Ok(Agent {
            name: row.text("name")?,
            driver: row.text("driver")?,
            capabilities: task::list(row.opt_text("capabilities")?),
            takes: row.text("takes")?,
            state: row.text("state")?,
            reason: row.opt_text("reason")?,
            paused: row.flag("paused")?,
            removed: row.flag("removed")?,
            node: row.opt_text("node")?,
            host: row.opt_text("host")?,
            pid: row.opt_int("pid")?,
            term: Term(row.int("term")?),
            lease_until: row.opt_int("lease_until")?,
            heartbeat_at: row.opt_int("heartbeat_at")?,
            respawns: row.int("respawns")?,
        })
    }
}

const BY_NAME: Sql = Sql::Each {
    lite: concat!("select ", columns!(), " from agents where name = $1"),
    pg: concat!("select ", columns!(), " from agents where name = $1 for update"),
};

async fn find(tx: &mut Tx, name: &str) -> Result<Option<Agent>> {
    tx.one(BY_NAME, args![name], Agent::from_row).await
}

/// Returns the agent, its row locked, or says which name is nearest.
pub(crate) async fn lock(tx: &mut Tx, name: &str) -> Result<Agent> {
    match find(tx, name).await? {
        Some(agent) if !agent.removed => Ok(agent),
        _ => Err(unknown(tx, name).await?),
    }
}

/// Refuses a name that is not in the team.
pub(crate) async fn must_exist(tx: &mut Tx, name: Option<&str>) -> Result<()> {
    match name {
        Some(name) => lock(tx, name).await.map(drop),
        None => Ok(()),
    }
}

/// Names looked at for the nearest one.
const NAMES_MAX: i64 = 10_000;

pub(crate) async fn unknown(tx: &mut Tx, name: &str) -> Result<Error> {
    let sql = "select name from agents where removed = 0 order by name limit $1";
    let names = tx.all(sql, args![NAMES_MAX], |row| row.text("name")).await?;
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? `quorate agent list` shows the team"),
        None => format!("add it with `quorate agent add {name}`; `quorate agent list` shows the team"),
    };
    Ok(Error::not_found(format!("no agent `{name}`")).hint(hint))
}

/// Adds a member, or brings driver and capabilities up to date: of one that is there, what is not said stays as it is.
#[derive(Debug, Clone)]
pub struct Add {
    /// Its name.
    pub name: String,
    /// How it is run; a new one of which it is not said is external.
    pub driver: Option<String>,
    /// What it can do; `["*"]` is everything. Of a new one of which it is not said, nothing is known.
    pub capabilities: Option<Vec<String>>,
}

/// How a member is run of which nobody has said it.
const EXTERNAL: &str = "external";
const ADD: &str = "insert into agents (name, driver, capabilities, created_at)
     values ($1, coalesce(cast($2 as text), 'external'), coalesce(cast($3 as text), '[]'), now_ms())
     on conflict (name) do update set
        driver = case when agents.removed = 1 then excluded.driver else coalesce(cast($2 as text), agents.driver) end,
        capabilities = case when agents.removed = 1 then excluded.capabilities
                            else coalesce(cast($3 as text), agents.capabilities) end,
        paused = case when agents.removed = 1 then 0 else agents.paused end,
        state = case when agents.removed = 1 then 'idle' else agents.state end,
        reason = case when agents.removed = 1 then null else agents.reason end, removed = 0";

impl Add {
    /// Tells whether a member is as this says.
    fn holds_of(&self, agent: &Agent) -> bool {
        self.driver.as_ref().is_none_or(|driver| agent.driver == *driver)
            && self.capabilities.as_ref().is_none_or(|own| agent.capabilities == *own)
    }
}

impl Write for Add {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let known = find(tx, &self.name).await?.filter(|agent| !agent.removed);
            if known.as_ref().is_some_and(|agent| self.holds_of(agent)) {
                return Ok(());
            }
            let stored = |own: &Vec<String>| serde_json::Value::from(own.as_slice()).to_string();
            let capabilities = self.capabilities.as_ref().map(stored);
            tx.later(ADD, args![&self.name, &self.driver, &capabilities]);
            if known.is_none() {
                tx.record(added(&self.name, self.driver.as_deref().unwrap_or(EXTERNAL)));
            }
            Ok(())
        })
    }
}

fn added(name: &str, driver: &str) -> Event {
    Event::new(EventKind::AgentAdded, format!("{name} joined the team ({driver})")).agent(name)
}

/// A sign of life of an agent that pulls its work; a name first seen registers itself.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Whether a name first seen is refused (`strict_agents`).
    pub strict: bool,
}

impl Write for Seen {
    type Answer = Agent;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Agent> {
        Box::pin(async move {
            match find(tx, &self.name).await? {
                Some(agent) if !agent.removed => {
                    tx.later("update agents set heartbeat_at = now_ms() where name = $1", args![&self.name]);
                    Ok(agent)
                }
                _ if self.strict => {
                    let error = unknown(tx, &self.name).await?;
                    Err(Error {
                        kind: Kind::Refused,
                        message: format!("{}, and strict_agents is set", error.message),
                        ..error
                    })
                }
                _ => {
                    let sql = concat!(
                        "insert into agents (name, driver, created_at, heartbeat_at) values ($1, 'external', now_ms(), now_ms())
                         on conflict (name) do update set driver = 'external', capabilities = '[]', takes = 'any', paused = 0,
                            state = 'idle', reason = null, removed = 0, heartbeat_at = now_ms() returning ",
                        columns!()
                    );
                    tx.record(added(&self.name, EXTERNAL));
                    Ok(tx
                        .one(sql, args![&self.name], Agent::from_row)
                        .await?
                        .expect("an upsert returns its row"))
                }
            }
        })
    }
}

/// Begins a session: one life of one agent process. A name whose session is alive elsewhere is refused.
///
/// Begun again in the node where it lives, it keeps its count of respawns and its brake: only another node, or a
/// person, lifts them. One that is paused stays so, wherever it begins, and keeps the reason.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Its name.
    pub name: String,
    /// How it is run.
    pub driver: String,
    /// What it can do; `["*"]` is everything.
    pub capabilities: Vec<String>,
    /// Which work it takes.
    pub takes: Kinds,
    /// Where the session lives.
    pub node: String,
    /// The host.
    pub host: String,
    /// The process.
    pub pid: i64,
    /// How long its lease lasts, in milliseconds.
    pub lease_ms: i64,
    /// The digest of the token by which the network knows this session.
    pub token: Option<String>,
}

impl Write for Begin {
    type Answer = Term;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Term> {
        Box::pin(async move {
            let capabilities = serde_json::Value::from(self.capabilities.as_slice()).to_string();
            if find(tx, &self.name).await?.is_none_or(|agent| agent.removed) {
                tx.record(added(&self.name, &self.driver));
            }
            let sql = "insert into agents (name, driver, capabilities, state, node, host, pid, term, lease_ms, lease_until,
                          heartbeat_at, created_at, takes)
                       values ($1, $2, $3, 'ready', $4, $5, $6, 1, $7, now_ms() + $7, now_ms(), now_ms(), $8)
                       on conflict (name) do update set driver = excluded.driver, capabilities = excluded.capabilities,
                          takes = excluded.takes, state = case when agents.state = 'failed' and agents.node = excluded.node then 'failed' else 'ready' end,
                          reason = case when agents.paused = 1 or (agents.state = 'failed' and agents.node = excluded.node)
                                        then agents.reason end,
                          respawns = case when agents.node = excluded.node then agents.respawns else 0 end,
                          last_crash = case when agents.node = excluded.node then agents.last_crash end,
                          removed = 0, node = excluded.node, host = excluded.host, pid = excluded.pid,
                          term = agents.term + 1, lease_ms = excluded.lease_ms, lease_until = excluded.lease_until,
                          heartbeat_at = excluded.heartbeat_at
                       where (agents.lease_until is null or agents.lease_until < now_ms() or agents.node = excluded.node)
                         and not exists (select 1 from tasks t
                                          where t.owner = excluded.name and t.state in ('running', 'verifying')
                                            and t.node <> excluded.node and t.lease_until >= now_ms())
                       returning term";
            let args = args![
                &self.name,
                &self.driver,
                capabilities,
                &self.node,
                &self.host,
                self.pid,
                self.lease_ms,
                self.takes.as_str()
            ];
            let Some(term) = tx.one(sql, args, |row| row.int("term")).await? else {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("agent `{}` has a session elsewhere, or its work goes on there", self.name),
                )
                .hint(format!("`quorate agent show {}` tells where", self.name)));
            };
            token::begin_session(tx, &self.name, &self.node, self.token.as_deref());
            let data =
                serde_json::json!({ "node": self.node, "host": self.host, "pid": self.pid, "term": term });
            tx.record(
                Event::new(EventKind::AgentStarted, format!("{} started", self.name))
                    .agent(&self.name)
                    .data(data),
            );
            Ok(Term(term))
        })
    }
}

/// Ends a session in order.
#[derive(Debug, Clone)]
pub struct End {
    /// The agent.
    pub name: String,
    /// Where its session lives.
    pub node: String,
}

impl Write for End {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql = "update agents set lease_until = null, node = null, pid = null, host = null,
                              state = case when state = 'failed' then state else 'idle' end
                        where name = $1 and node = $2";
            if tx.run(sql, args![&self.name, &self.node]).await? > 0 {
                tx.record(
                    Event::new(EventKind::AgentStopped, format!("{} stopped", self.name)).agent(&self.name),
                );
                token::end_session(tx, &self.name);
                release_of_agent(tx, &self.name).await?;
                if self.name == named_after(&self.name, &self.node) {
                    leave(tx, &self.name).await?;
                }
            }
            Ok(())
        })
    }
}

/// What a node calls an agent while another node has its name. Nobody but a node calls an agent so, and none is called so again.
fn named_after(name: &str, node: &str) -> String {
    format!("{}@{node}", member(name))
}

/// Takes those out of the team whom a node that died called after itself, unless they have a task.
pub(crate) async fn leave_with(tx: &mut Tx, node: &str) -> Result<()> {
    let sql =
        "select name from agents where node = $1 and removed = 0 and name like '%@' || $1 order by name";
    for name in tx.all(sql, args![node], |row| row.text("name")).await? {
        let end = End { name, node: node.to_owned() };
        end.apply(tx).await?;
    }
    Ok(())
}

/// Takes so many out of the team whom a node called after itself and that are gone, but had a task when their session ended, or
/// lived in a node that has been silent for so long. Answers with how many.
pub(crate) async fn forget_gone(tx: &mut Tx, silent_ms: i64, limit: i64) -> Result<u64> {
    let gone = tx.all(GONE, args![silent_ms, limit], |row| row.text("name")).await?;
    for name in &gone {
        token::end_session(tx, name);
        release_of_agent(tx, name).await?;
        leave(tx, name).await?;
    }
    Ok(gone.len() as u64)
}

macro_rules! gone {
    ($among:literal, $end:literal) => {
        concat!(
            "update agents set lease_until = null, node = null, pid = null, host = null where name ",
            $among,
            "select name from agents a
              where removed = 0 and term > 0 and driver <> 'external' and name like '%@%'
                and (node is null or lease_until < now_ms() - $1)
                and not exists (select 1 from tasks where owner = a.name
                                   and (state = 'running' or state = 'verifying' or state = 'parked'))
              order by name limit $2",
            $end,
            " returning name"
        )
    };
}
/// Only a session gives a term to a name with `@`.
const GONE: Sql =
    Sql::Each { lite: gone!("in (", ")"), pg: gone!("= any(array(", " for update skip locked))") };

/// An agent's own process died, or could not be started. Decides whether it is started again.
#[derive(Debug, Clone)]
pub struct Crash {
    /// The agent.
    pub name: String,
    /// The task it was at.
    pub task: TaskId,
    /// How its process ended.
    pub reason: String,
    /// Whether the process could not even be started: that is never the task's doing.
    pub spawn: bool,
    /// Respawns at most.
    pub max_respawns: i64,
}

/// What follows a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCrash {
    /// It is started again; so many times since a task of its last completed.
    Respawned(i64),
    /// Its brake is on.
    Failed,
}

impl Write for Crash {
    type Answer = AfterCrash;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, AfterCrash> {
        Box::pin(async move {
            let agent = lock(tx, &self.name).await?;
            let sql =
                "select coalesce(last_crash, 0) as task, (select run_id from tasks where id = $2) as run_id
                         from agents where name = $1";
            let read = |row: &Row<'_>| Ok((row.int("task")?, row.opt_int("run_id")?.map(RunId)));
            let (last, run) = tx.one(sql, args![&self.name, self.task], read).await?.unwrap_or_default();
            // One task that always kills its agent is the task's fault: its attempts bound it, not the agent's brake.
            let counts = self.spawn || last != self.task.0;
            if counts && agent.respawns >= self.max_respawns {
                let reason =
                    format!("{} (respawned {} times without completing a task)", self.reason, agent.respawns);
                tx.later(
                    "update agents set state = 'failed', reason = $2 where name = $1",
                    args![&self.name, &reason],
                );
                let event = Event::new(EventKind::AgentFailed, format!("{} failed: {reason}", self.name));
                tx.record(event.agent(&self.name).task(self.task).run(run));
                release_of_agent(tx, &self.name).await?;
                return Ok(AfterCrash::Failed);
            }
            let respawns = agent.respawns + i64::from(counts);
            tx.later(
                "update agents set respawns = $2, last_crash = $3, reason = $4 where name = $1",
                args![&self.name, respawns, self.task, &self.reason],
            );
            let event =
                Event::new(EventKind::AgentRespawned, format!("{} respawned: {}", self.name, self.reason));
            let event = event.agent(&self.name).task(self.task).run(run);
            tx.record(event.data(serde_json::json!({ "respawns": respawns })));
            Ok(AfterCrash::Respawned(respawns))
        })
    }
}

/// A person's word to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Take nothing more; what it has it finishes.
    Pause,
    /// Take work again; also lifts the crash brake.
    Resume,
    /// Stop the task it has now; it is tried again.
    Kill,
    /// Leave the team.
    Remove,
}

/// Gives an agent a person's word; answers with the tasks that were taken from it.
#[derive(Debug, Clone)]
pub struct Tell {
    /// The agent.
    pub name: String,
    /// What it is told.
    pub word: Word,
}

/// A task that was taken from an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// As people call it.
    pub task: String,
    /// What became of it: it is tried again, or has failed.
    pub state: TaskState,
}

impl Write for Tell {
    type Answer = Vec<Stopped>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Stopped>> {
        Box::pin(async move {
            let agent = lock(tx, &self.name).await?;
            let mut stopped = Vec::new();
            match self.word {
                Word::Pause => tx.later("update agents set paused = 1 where name = $1", args![&self.name]),
                Word::Resume => resume(tx, &agent).await?,
                Word::Kill => stopped = kill(tx, &self.name).await?,
                Word::Remove => remove(tx, &agent).await?,
            }
            let (kind, done) = match self.word {
                Word::Pause => (EventKind::AgentPaused, "was paused: it takes nothing more"),
                Word::Resume => (EventKind::AgentResumed, "was resumed"),
                Word::Kill => (EventKind::AgentStopped, "was told to stop what it does"),
                Word::Remove => (EventKind::AgentRemoved, "left the team"),
            };
            tx.record(Event::new(kind, format!("{} {done}", self.name)).agent(&self.name));
            Ok(stopped)
        })
    }
}

async fn resume(tx: &mut Tx, agent: &Agent) -> Result<()> {
    tx.later(
        "update agents set paused = 0, respawns = 0, last_crash = null, reason = null,
                state = case when state <> 'failed' then state when lease_until is null then 'idle' else 'ready' end
          where name = $1",
        args![&agent.name],
    );
    match crate::usage::grant_agent(tx, &agent.name, agent.reason.as_deref()) {
        Some(begins) => resume_namesakes(tx, &begins).await,
        None => Ok(()),
    }
}

/// Resumes whoever was paused for a budget that is granted again: the same member of the team, as other nodes call it.
async fn resume_namesakes(tx: &mut Tx, begins: &str) -> Result<()> {
    let sql = "update agents set paused = 0, reason = null
                where paused = 1 and removed = 0 and substr(reason, 1, length(cast($1 as text))) = $1 returning name";
    for name in tx.all(sql, args![begins], |row| row.text("name")).await? {
        let message = format!("{name} was resumed: its budget was granted again");
        tx.record(Event::new(EventKind::AgentResumed, message).agent(name));
    }
    Ok(())
}

/// Pauses an agent that has reached its budget, unless that is why it is paused already.
///
/// The reason is said again where another took its place: by it one sees that the agent waits for its budget, and
/// resuming it grants that.
pub(crate) async fn pause_for_budget(tx: &mut Tx, name: &str, reason: &str) -> Result<()> {
    let sql = "update agents set paused = 1, reason = $2
                where name = $1 and (paused = 0 or reason is null or reason not like 'budget: %')";
    if tx.run(sql, args![name, reason]).await? > 0 {
        let event = Event::new(EventKind::AgentPaused, format!("{name} was paused: {reason}"));
        tx.record(event.agent(name));
    }
    Ok(())
}

/// Takes the agent's task away: the term rises, and whoever supervises it stops the child.
async fn kill(tx: &mut Tx, name: &str) -> Result<Vec<Stopped>> {
    let mut stopped = Vec::new();
    for task in running(tx, name).await? {
        let failed = task::Failed {
            failure: quorate_model::retry::Failure::Lapsed,
            outcome: "cancelled",
            reason: "a person killed its agent",
            tail: None,
            retry_after_ms: 0,
        };
        let state = task::fail_attempt(tx, &task, &failed).await?;
        stopped.push(Stopped { task: task.named(), state });
    }
    Ok(stopped)
}

async fn running(tx: &mut Tx, name: &str) -> Result<Vec<Task>> {
    let sql = Sql::Each {
        lite: concat!(
            "select ",
            task::columns!(),
            " from tasks where owner = $1 and state = 'running' order by id"
        ),
        pg: concat!(
            "select ",
            task::columns!(),
            " from tasks where owner = $1 and state = 'running' order by id for update"
        ),
    };
    tx.all(sql, args![name], Task::from_row).await
}

async fn remove(tx: &mut Tx, agent: &Agent) -> Result<()> {
    must_not_live(tx, agent).await?;
    if !running(tx, &agent.name).await?.is_empty() {
        return Err(Error::new(Kind::Conflict, format!("agent `{}` has a task", agent.name))
            .hint(format!("quorate agent kill {}, then remove it", agent.name)));
    }
    tx.later(
        "update agents set removed = 1, lease_until = null, node = null where name = $1",
        args![&agent.name],
    );
    token::forget(tx, &agent.name);
    release_of_agent(tx, &agent.name).await
}

/// Refuses to take out an agent whose session is alive: its node would begin the session anew, and have it back.
async fn must_not_live(tx: &mut Tx, agent: &Agent) -> Result<()> {
    let Some((node, until)) = agent.node.as_ref().zip(agent.lease_until) else { return Ok(()) };
    if until < tx.now().await? {
        return Ok(());
    }
    let (name, host) = (&agent.name, agent.host.as_deref().unwrap_or("?"));
    let message = format!("agent `{name}` is run by node {node} on {host}, which would have it back");
    Err(Error::new(Kind::Conflict, message).hint(format!(
        "quorate agent pause {name}: it takes nothing more; remove it once that node has ended"
    )))
}
