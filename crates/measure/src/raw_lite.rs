//! What SQLite alone needs for the same rows: hand-written statements, one writer, group commit.
//!
//! Here lives the raw limit: the writer drains what waits, runs the prepared statements of each request one after
//! the other, commits once and answers then. No savepoint, no error handling, no JSON.

use crate::load::{Call, Caller};
use crate::operation::{HELD, Operation};
use quorate_model::{Error, Result};
use rusqlite::{Connection, Statement};
use std::path::Path;
use tokio::sync::{mpsc, oneshot};

/// Requests in one commit at most, as in the ledger.
const GROUP_MAX: usize = 128;
/// Requests that may wait.
const QUEUE_MAX: usize = 4_096;
/// What statements may name.
const NAMES: [&str; 5] = ["$id", "$term", "$attempt", "$agent", "$node"];

/// The writer's door.
#[derive(Debug, Clone)]
pub struct RawLite {
    queue: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    operation: Operation,
    facts: Facts,
    reply: oneshot::Sender<Option<Facts>>,
}

/// What statements are given and give.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    id: i64,
    term: i64,
    attempt: i64,
    agent: i64,
    node: i64,
}

impl RawLite {
    /// Begins a writer of its own on the ledger's file.
    pub fn open(path: &Path) -> Result<RawLite> {
        let conn = crate::seed::open(path)?;
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("raw-writer".into());
        thread
            .spawn(move || serve(&conn, requests))
            .map_err(|e| Error::failed(format!("cannot start a thread: {e}")))?;
        Ok(RawLite { queue })
    }

    async fn ask(&self, operation: Operation, facts: Facts) -> Result<Option<Facts>> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::failed("the raw writer has stopped");
        self.queue.send(Request { operation, facts, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[allow(clippy::print_stderr, reason = "whoever measures sees why there is no answer")]
fn serve(conn: &Connection, requests: mpsc::Receiver<Request>) {
    if let Err(error) = write_groups(conn, requests) {
        eprintln!("raw SQLite: {error}");
    }
}

fn write_groups(conn: &Connection, mut requests: mpsc::Receiver<Request>) -> rusqlite::Result<()> {
    let mut programs = Programs::prepare(conn)?;
    let (mut begin, mut commit) = (conn.prepare("begin immediate")?, conn.prepare("commit")?);
    let mut answers = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = requests.blocking_recv() {
        begin.raw_execute()?;
        let mut next = Some(first);
        while let Some(request) = next {
            let answer = programs.of(request.operation).run(request.facts)?;
            answers.push((request.reply, answer));
            next = if answers.len() < GROUP_MAX { requests.try_recv().ok() } else { None };
        }
        commit.raw_execute()?;
        for (reply, answer) in answers.drain(..) {
            // A caller that went away needs no answer.
            let _ = reply.send(answer);
        }
    }
    Ok(())
}

/// The statements of every operation, prepared.
struct Programs<'c> {
    claim: Program<'c>,
    progress: Program<'c>,
    heartbeat: Program<'c>,
    complete: Program<'c>,
    enqueue: Program<'c>,
}

impl<'c> Programs<'c> {
    fn prepare(conn: &'c Connection) -> rusqlite::Result<Programs<'c>> {
        Ok(Programs {
            claim: Program::prepare(conn, include_str!("../sql/sqlite/claim.sql"))?,
            progress: Program::prepare(conn, include_str!("../sql/sqlite/progress.sql"))?,
            heartbeat: Program::prepare(conn, include_str!("../sql/sqlite/heartbeat.sql"))?,
            complete: Program::prepare(conn, include_str!("../sql/sqlite/complete.sql"))?,
            enqueue: Program::prepare(conn, include_str!("../sql/sqlite/enqueue.sql"))?,
        })
    }

    fn of(&mut self, operation: Operation) -> &mut Program<'c> {
        match operation {
            Operation::Claim | Operation::Cycle => &mut self.claim,
            Operation::Progress => &mut self.progress,
            Operation::Heartbeat => &mut self.heartbeat,
            Operation::Complete => &mut self.complete,
            Operation::Enqueue => &mut self.enqueue,
        }
    }
}

/// Statements that run one after the other; the first answers with id, term and attempt for the rest.
struct Program<'c> {
    statements: Vec<(Statement<'c>, [Option<usize>; NAMES.len()])>,
}

impl<'c> Program<'c> {
    fn prepare(conn: &'c Connection, text: &str) -> rusqlite::Result<Program<'c>> {
        let texts = text.split(";\n").filter(|text| !text.trim().is_empty());
        let statements = texts.map(|text| prepare(conn, text)).collect::<rusqlite::Result<_>>()?;
        Ok(Program { statements })
    }

    /// Answers `None` when the first statement met no row.
    fn run(&mut self, mut facts: Facts) -> rusqlite::Result<Option<Facts>> {
        for (statement, places) in &mut self.statements {
            bind(statement, places, facts)?;
            if statement.column_count() == 0 {
                statement.raw_execute()?;
                continue;
            }
            let mut rows = statement.raw_query();
            let Some(row) = rows.next()? else { return Ok(None) };
            facts = Facts { id: row.get(0)?, term: row.get(1)?, attempt: row.get(2)?, ..facts };
            // Read to its end, or the statement would still be open at the commit.
            while rows.next()?.is_some() {}
        }
        Ok(Some(facts))
    }
}

fn prepare<'c>(
    conn: &'c Connection,
    text: &str,
) -> rusqlite::Result<(Statement<'c>, [Option<usize>; NAMES.len()])> {
    let statement = conn.prepare(text)?;
    let mut places = [None; NAMES.len()];
    for (place, name) in places.iter_mut().zip(NAMES) {
        *place = statement.parameter_index(name)?;
    }
    Ok((statement, places))
}

fn bind(statement: &mut Statement<'_>, places: &[Option<usize>], facts: Facts) -> rusqlite::Result<()> {
    let numbers = [facts.id, facts.term, facts.attempt, facts.agent, facts.node];
    for ((place, name), number) in places.iter().zip(NAMES).zip(numbers) {
        match place {
            Some(place) if name == "$agent" => {
                statement.raw_bind_parameter(*place, format!("agent-{number}"))?
            }
            Some(place) => statement.raw_bind_parameter(*place, number)?,
            None => {}
        }
    }
    Ok(())
}

/// One caller of the raw writer.
pub struct RawCaller {
    door: RawLite,
    operation: Operation,
    place: i64,
    first: i64,
    count: i64,
    made: i64,
}

impl RawCaller {
    /// Makes the callers of an operation; each has its own part of the `prepared` tasks.
    pub fn callers(door: &RawLite, operation: Operation, callers: i64, prepared: i64) -> Vec<RawCaller> {
        let count = prepared / callers;
        let caller = |place| RawCaller {
            door: door.clone(),
            operation,
            place,
            first: place * count + 1,
            count,
            made: 0,
        };
        (0..callers).map(caller).collect()
    }

    fn facts(&self) -> Facts {
        let id = match self.operation {
            Operation::Complete => self.first + self.made,
            _ => self.first + self.made % HELD,
        };
        let agent = if self.operation == Operation::Heartbeat { id - 1 } else { self.place };
        Facts { id, term: 1, agent, node: self.place + 1, ..Facts::default() }
    }
}

impl Caller for RawCaller {
    async fn call(&mut self) -> Result<Call> {
        if self.operation == Operation::Complete && self.made == self.count {
            return Ok(Call::Dry);
        }
        let Some(facts) = self.door.ask(self.operation, self.facts()).await? else { return Ok(Call::Dry) };
        if self.operation == Operation::Cycle {
            self.door.ask(Operation::Complete, facts).await?;
        }
        self.made += 1;
        Ok(Call::Done)
    }
}
