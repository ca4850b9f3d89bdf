//! Sessions that no node supervises: one life of an agent CLI's process, as its hooks tell of it.
//!
//! Here live whose session it is, its signs of life, how full its context is and what follows from that. How a session is
//! recognised on a machine and how `/clear` is sent is the door's business; sessions in a node belong to `agent` and `node`.
//!
//! A session without a name of an agent makes one of its own number (`claude-s3`), and keeps it when its program gives it
//! another name, as `/clear` does: it is the same process. What such an agent holds is the session's alone, and ends with it.

use crate::agent::Seen;
use crate::claim::release_of_agent;
use quorate_model::{Event, EventKind, Result};
use quorate_store::{Boxed, Read, Row, Sql, Tx, Write, args};

/// Processes that one question names at most: those from the one who asks up to the first of the machine.
pub const PROCESSES_MAX: usize = 64;
/// A session that said nothing for so long is not shown among those that go on, in milliseconds.
pub const SILENT_MS: i64 = 24 * 60 * 60 * 1000;

/// A process that cannot be mistaken for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its host.
    pub host: String,
    /// Its number …
    pub pid: i64,
    /// … and when it began, as the kernel counts.
    pub started: String,
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub agent: String,
    /// Whether the agent is called after it.
    pub is_named: bool,
    /// What its program calls it.
    pub name: String,
    /// Its process.
    pub process: Process,
    /// The model that speaks in it.
    pub model: Option<String>,
    /// How much of its context is used, in per cent.
    pub used_percent: Option<i64>,
    /// The same in tokens …
    pub used_tokens: Option<i64>,
    /// … of so many that fit.
    pub window_tokens: Option<i64>,
    /// What it has cost, in millionths of a dollar.
    pub usd_micros: Option<i64>,
    /// Whether its context reached the threshold and has not fallen below it since.
    pub is_full: bool,
    /// Whether `/clear` was sent for that.
    pub is_cleared: bool,
    /// Whether a turn goes on.
    pub is_working: bool,
    /// When it began, milliseconds since 1970 (UTC).
    pub started_at: i64,
    /// Its last sign of life.
    pub seen_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
    /// For how long it has said nothing, in milliseconds.
    pub silent_ms: i64,
}

macro_rules! columns {
    () => {
        "id, agent, is_named, name, host, pid, pid_started, model, used_percent, used_tokens, window_tokens, usd_micros,
         is_full, is_cleared, is_working, started_at, seen_at, ended_at, now_ms() - seen_at as silent_ms"
    };
}

impl Session {
    fn from_row(row: &Row<'_>) -> Result<Session> {
        Ok(Session {
            id: row.int("id")?,
            agent: row.text("agent")?,
            is_named: row.flag("is_named")?,
            name: row.text("name")?,
            process: Process {
                host: row.text("host")?,
                pid: row.int("pid")?,
                started: row.text("pid_started")?,
            },
            model: row.opt_text("model")?,
            used_percent: row.opt_int("used_percent")?,
            used_tokens: row.opt_int("used_tokens")?,
            window_tokens: row.opt_int("window_tokens")?,
            usd_micros: row.opt_int("usd_micros")?,
            is_full: row.flag("is_full")?,
            is_cleared: row.flag("is_cleared")?,
            is_working: row.flag("is_working")?,
            started_at: row.int("started_at")?,
            seen_at: row.int("seen_at")?,
            ended_at: row.opt_int("ended_at")?,
            silent_ms: row.int("silent_ms")?,
        })
    }

    /// Returns whether `/clear` is to be sent: its context is full, that was not done yet, and no turn goes on.
    pub fn may_be_cleared(&self) -> bool {
        self.is_full && !self.is_cleared && !self.is_working && self.ended_at.is_none()
    }

    /// Returns whether a sign of life is due, so long after the last one; also when that was in the future, by a clock that was
    /// set since.
    pub fn is_silent_for(&self, ms: i64) -> bool {
        !(0..ms).contains(&self.silent_ms)
    }

    fn event(&self, kind: EventKind, message: String) -> Event {
        Event::new(kind, message).agent(&self.agent)
    }
}

/// Asks for the session that a program calls so, or for that of the nearest of these processes.
#[derive(Debug, Clone)]
pub enum Find {
    /// By what its program calls it.
    Name(String),
    /// By who asks, who started that, and so on; [`PROCESSES_MAX`] at most count.
    Processes(Vec<Process>),
}

impl Read for Find {
    type Answer = Option<Session>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Session>> {
        Box::pin(async move {
            match self {
                Find::Name(name) => by_name(tx, name).await,
                Find::Processes(processes) => by_process(tx, processes).await,
            }
        })
    }
}

async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<Session>> {
    let sql = concat!("select ", columns!(), " from sessions where name = $1 order by id desc limit 1");
    tx.one(sql, args![name], Session::from_row).await
}

const OF_PROCESSES: Sql = Sql::Each {
    lite: concat!(
        "select ",
        columns!(),
        " from sessions where pid in (select value from json_each($1)) and host = $2 order by seen_at desc, id desc"
    ),
    pg: concat!(
        "select ",
        columns!(),
        " from sessions where pid = any($1) and host = $2 order by seen_at desc, id desc"
    ),
};

async fn by_process(tx: &mut Tx, processes: &[Process]) -> Result<Option<Session>> {
    let Some(first) = processes.first() else { return Ok(None) };
    let pids: Vec<i64> = processes.iter().take(PROCESSES_MAX).map(|process| process.pid).collect();
    let found = tx.all(OF_PROCESSES, args![pids, &first.host], Session::from_row).await?;
    let of = |process: &Process| found.iter().find(|session| session.process == *process).cloned();
    Ok(processes.iter().find_map(of))
}

/// Begins a session, or goes on with the one that its program calls so. Its agent joins the team.
#[derive(Debug, Clone)]
pub struct Open {
    /// What its program calls it.
    pub name: String,
    /// Its process.
    pub process: Process,
    /// Whether it may be another name for the session that this process had until now.
    pub is_renamed: bool,
    /// Whether a turn that goes on in this process still does: a context is compacted in the midst of one.
    pub is_same_turn: bool,
    /// Whose it is, if that is known.
    pub agent: Option<String>,
    /// Its program: begins the name of an agent that has none.
    pub program: &'static str,
    /// Whether an agent first seen is refused (`strict_agents`).
    pub strict: bool,
}

impl Write for Open {
    type Answer = Session;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Session> {
        Box::pin(async move {
            let known = match by_name(tx, &self.name).await? {
                None if self.is_renamed => by_process(tx, std::slice::from_ref(&self.process)).await?,
                known => known,
            };
            let (session, is_new) = match known {
                Some(known) => (self.go_on(tx, known), false),
                None => (self.insert(tx).await?, true),
            };
            Seen { name: session.agent.clone(), strict: self.strict }.apply(tx).await?;
            if is_new || session.ended_at.is_some() {
                let data = serde_json::json!({ "session": session.id, "host": self.process.host, "pid": self.process.pid });
                let message = format!("{} started", session.agent);
                tx.record(session.event(EventKind::AgentStarted, message).data(data));
            }
            Ok(Session { ended_at: None, ..session })
        })
    }
}

impl Open {
    fn go_on(&self, tx: &mut Tx, known: Session) -> Session {
        let (agent, is_named) = match &self.agent {
            Some(agent) => (agent.clone(), false),
            None => (known.agent.clone(), known.is_named),
        };
        let Process { host, pid, started } = &self.process;
        let is_working = self.is_same_turn && known.is_working && known.process == self.process;
        tx.later(
            "update sessions set agent = $2, is_named = $3, name = $4, host = $5, pid = $6, pid_started = $7,
                    seen_at = now_ms(), ended_at = null, is_working = $8 where id = $1",
            args![known.id, &agent, is_named, &self.name, host, *pid, started, i64::from(is_working)],
        );
        Session {
            agent,
            is_named,
            name: self.name.clone(),
            process: self.process.clone(),
            is_working,
            ..known
        }
    }

    async fn insert(&self, tx: &mut Tx) -> Result<Session> {
        let sql = concat!(
            "insert into sessions (agent, is_named, name, host, pid, pid_started, started_at, seen_at)
             values (coalesce($1, ''), case when $1 is null then 1 else 0 end, $2, $3, $4, $5, now_ms(), now_ms()) returning ",
            columns!()
        );
        let Process { host, pid, started } = &self.process;
        let args = args![&self.agent, &self.name, host, *pid, started];
        let session = tx.one(sql, args, Session::from_row).await?.expect("an insert returns its row");
        if !session.is_named {
            return Ok(session);
        }
        let agent = format!("{}-s{}", self.program, session.id);
        tx.later("update sessions set agent = $2 where id = $1", args![session.id, &agent]);
        Ok(Session { agent, ..session })
    }
}

/// A sign of life: keeps the leases of what the session's agent has taken and of the claims bound to it, as `progress` does.
///
/// What a node supervises is left to it.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The session.
    pub id: i64,
    /// Whether a turn goes on; `None`: as before.
    pub working: Option<bool>,
}

impl Write for Beat {
    /// The session as it is from now on: what was reported meanwhile is in it.
    type Answer = Option<Session>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Session>> {
        Box::pin(async move {
            let sql = concat!(
                "update sessions set seen_at = now_ms(), is_working = coalesce($2, is_working) where id = $1 returning ",
                columns!()
            );
            let working = self.working.map(i64::from);
            let session = tx.one(sql, args![self.id, working], Session::from_row).await?;
            if let Some(session) = &session {
                keep(tx, &session.agent);
            }
            Ok(session)
        })
    }
}

/// Keeps the leases of what an agent has taken, with the claims that go with its tasks, unless a node supervises it.
fn keep(tx: &mut Tx, agent: &str) {
    tx.later(
        "update agents set heartbeat_at = now_ms() where name = $1 and node is null and removed = 0",
        args![agent],
    );
    tx.later(
        "update tasks set lease_until = now_ms() + lease_ms, active_at = now_ms(), stuck = 0
          where owner = $1 and state = 'running' and node is null and lease_ms is not null",
        args![agent],
    );
    // What has expired is not brought back to life: another may hold it by now.
    tx.later(
        "update claims set expires_at = t.lease_until
           from tasks t
          where t.owner = $1 and t.state = 'running' and t.node is null and t.lease_ms is not null and t.holds = 1
            and claims.task_id = t.id and claims.left_term is null and claims.expires_at < t.lease_until
            and (claims.ttl_ms is null or claims.expires_at > now_ms())",
        args![agent],
    );
}

/// How full a session's context is, and what it has cost until now. What is not known stays as it was. A sign of life, as a
/// [`Beat`] is: it moves the time by which the next one is due.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The session.
    pub id: i64,
    /// The model that speaks in it.
    pub model: Option<String>,
    /// How much of its context is used, in per cent.
    pub used_percent: Option<i64>,
    /// The same in tokens …
    pub used_tokens: Option<i64>,
    /// … of so many that fit.
    pub window_tokens: Option<i64>,
    /// What it has cost, in millionths of a dollar.
    pub usd_micros: Option<i64>,
    /// From so many per cent on it is full.
    pub full_at: i64,
}

/// What a report came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The session as it is now.
    pub session: Session,
    /// Whether its context became full by this report.
    pub filled: bool,
}

impl Write for Report {
    type Answer = Option<Reported>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<Reported>> {
        Box::pin(async move {
            let sql = "select is_full from sessions where id = $1";
            let Some(was_full) = tx.one(sql, args![self.id], |row| row.flag("is_full")).await? else {
                return Ok(None);
            };
            let sql = concat!(
                "update sessions set model = coalesce($2, model), used_percent = coalesce($3, used_percent),
                        used_tokens = coalesce($4, used_tokens), window_tokens = coalesce($5, window_tokens),
                        usd_micros = coalesce($6, usd_micros), seen_at = now_ms(),
                        is_full = case when $3 is null then is_full when $3 >= $7 then 1 else 0 end,
                        is_cleared = case when $3 < $7 then 0 else is_cleared end
                  where id = $1 returning ",
                columns!()
            );
            let args = args![
                self.id,
                &self.model,
                self.used_percent,
                self.used_tokens,
                self.window_tokens,
                self.usd_micros,
                self.full_at
            ];
            let Some(session) = tx.one(sql, args, Session::from_row).await? else { return Ok(None) };
            keep(tx, &session.agent);
            let filled = session.is_full && !was_full;
            if filled {
                let percent = session.used_percent.unwrap_or_default();
                let message = format!("the context of {} is full: {percent} % are used", session.agent);
                let data = serde_json::json!({ "session": self.id, "used_percent": percent, "full_at": self.full_at });
                tx.record(session.event(EventKind::ContextFilled, message).data(data));
            }
            Ok(Some(Reported { session, filled }))
        })
    }
}

/// Takes the right to send `/clear` to a session whose context is full: once, and never while a turn goes on.
#[derive(Debug, Clone)]
pub struct Clear {
    /// The session.
    pub id: i64,
}

impl Write for Clear {
    /// Whether it is to be sent.
    type Answer = bool;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let sql = concat!(
                "update sessions set is_cleared = 1
                  where id = $1 and is_full = 1 and is_cleared = 0 and is_working = 0 and ended_at is null returning ",
                columns!()
            );
            let Some(session) = tx.one(sql, args![self.id], Session::from_row).await? else {
                return Ok(false);
            };
            let message = format!("/clear is sent to {}", session.agent);
            let data = serde_json::json!({ "session": self.id });
            tx.record(session.event(EventKind::ContextCleared, message).data(data));
            Ok(true)
        })
    }
}

/// A session has got the context back after it lost it; answers whether it had been sent `/clear`.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The session.
    pub id: i64,
    /// What its program calls the way it was lost: clear, compact, resume.
    pub source: String,
}

impl Write for Restored {
    type Answer = bool;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let sql = concat!("select ", columns!(), " from sessions where id = $1");
            let Some(session) = tx.one(sql, args![self.id], Session::from_row).await? else {
                return Ok(false);
            };
            // How full it is, the next report says.
            tx.later(
                "update sessions set is_full = 0, is_cleared = 0, used_percent = null, used_tokens = null where id = $1",
                args![self.id],
            );
            let message = format!("{} got the context back ({})", session.agent, self.source);
            let data = serde_json::json!({ "session": self.id, "source": self.source });
            tx.record(session.event(EventKind::ContextRestored, message).data(data));
            Ok(session.is_cleared)
        })
    }
}

/// Ends a session. An agent that is called after it leaves the team, and what it had claimed apart from tasks is free.
#[derive(Debug, Clone)]
pub struct End {
    /// The session.
    pub id: i64,
    /// Why, as its program says.
    pub reason: String,
}

impl Write for End {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql = concat!(
                "update sessions set ended_at = now_ms(), seen_at = now_ms(), is_working = 0
                  where id = $1 and ended_at is null returning ",
                columns!()
            );
            let Some(session) = tx.one(sql, args![self.id], Session::from_row).await? else { return Ok(()) };
            let message = format!("{} stopped ({})", session.agent, self.reason);
            let data = serde_json::json!({ "session": self.id, "reason": self.reason });
            tx.record(session.event(EventKind::AgentStopped, message).data(data));
            if session.is_named {
                release_of_agent(tx, &session.agent).await?;
                leave(tx, &session.agent).await?;
            }
            Ok(())
        })
    }
}

/// Takes an agent that nothing but its session made out of the team, unless it has a task: else every session would leave a name.
pub(crate) async fn leave(tx: &mut Tx, agent: &str) -> Result<()> {
    let sql = "update agents set removed = 1 where name = $1 and removed = 0 and node is null
                  and not exists (select 1 from tasks where owner = $1 and (state = 'running' or state = 'verifying' or state = 'parked'))";
    if tx.run(sql, args![agent]).await? > 0 {
        tx.record(Event::new(EventKind::AgentRemoved, format!("{agent} left the team")).agent(agent));
    }
    Ok(())
}

/// Removes so many sessions that said nothing for so long. An agent that is called after one leaves the team with it: no hook may
/// have told its end. Answers with how many.
pub(crate) async fn forget_old(tx: &mut Tx, silent_ms: i64, limit: i64) -> Result<u64> {
    let gone =
        tx.all(OLD, args![silent_ms, limit], |row| Ok((row.text("agent")?, row.flag("is_named")?))).await?;
    for (agent, _) in gone.iter().filter(|(_, is_named)| *is_named) {
        release_of_agent(tx, agent).await?;
        leave(tx, agent).await?;
    }
    Ok(gone.len() as u64)
}

const OLD: &str = "delete from sessions where id in
    (select id from sessions where coalesce(ended_at, seen_at) < now_ms() - $1 order by id limit $2)
    returning agent, is_named";

/// Lists the sessions that go on, the last seen first: how full each agent's context is.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// Only of this agent.
    pub agent: Option<String>,
}

impl Read for Sessions {
    type Answer = Vec<Session>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<Session>> {
        Box::pin(async move {
            let sql = concat!(
                "select ",
                columns!(),
                " from sessions where ended_at is null and seen_at > now_ms() - $2
                     and (cast($1 as text) is null or agent = $1) order by seen_at desc, id desc"
            );
            tx.all(sql, args![&self.agent, SILENT_MS], Session::from_row).await
        })
    }
}
