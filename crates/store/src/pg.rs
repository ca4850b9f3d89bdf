//! The shared ledger: PostgreSQL through a small pool, statements sent ahead of their answers.
//!
//! A transaction is two flights: `begin` rides with the first statement; writes that need no answer, the events
//! and `commit` ride together. Conflicts that the server names (deadlock, serialization) are tried again here
//! and nowhere else. Wake-ups are sent beside the transaction, never inside it, and merge under load. How connections
//! are made, and given up, lives in `line`.

use crate::arg::Arg;
use crate::changes::{Bell, Changes};
use crate::lane::{Lanes, Merged};
use crate::line::{Dialer, Lent, Silent, heard};
use crate::migrate::Schema;
use crate::row::Row;
use crate::store::{Options, Read, Write};
use crate::tls::{self, Server};
use crate::tx::{Conn, Later, Tx, event_args};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use futures_util::future::{join, join_all, join3};
use quorate_model::{Error, Event, Result};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, error::Severity, error::SqlState, types::ToSql};

/// Who has waited for another must see what that one did, whatever the database's own default is.
const BEGIN: &str = "begin isolation level read committed";
/// The same for what a crash may forget.
const BEGIN_RELAXED: &str = "begin isolation level read committed; set local synchronous_commit = off";
/// How often a transaction that met a conflict is applied again.
const TRIES_MAX: u32 = 8;
/// Events of one transaction at most: so many places one turn of the log has.
const PLACES: usize = 1 << 20;
/// Statements sent ahead in one flight at most.
const FLIGHT_MAX: usize = 256;
/// Wake-ups under load are this far apart.
const NOTIFY_EVERY: Duration = Duration::from_millis(10);
/// How long a caller waits for a free connection.
const POOL_WAIT: Duration = Duration::from_secs(15);
/// A read may take so many times as long as a write: it may fetch a whole history.
const READS_LONGER: u32 = 2;
/// How long a migration may take, with the waiting for another's.
const MIGRATION_WAIT: Duration = Duration::from_secs(600);
/// How long the telling of others may take.
const NOTIFY_WAIT: Duration = Duration::from_secs(5);
/// One who listens asks this often whether the server is still there.
const LISTEN_ASK: Duration = Duration::from_secs(60);
/// Writes meet small rows by key: plans that scan are never right, and compiling them costs more than they take.
///
/// Nobody waits long for a lock: a lease that is taken counts from the transaction's beginning. And nobody keeps others
/// waiting long: a process that was stopped (Ctrl-Z) within a transaction loses it.
const WRITE_OPTIONS: &str = "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
     -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off \
     -c lock_timeout=1s -c idle_in_transaction_session_timeout=5s -c synchronous_commit=on";
/// Reads may scan, but a cursor over the log must not build a bitmap of it.
const READ_OPTIONS: &str = "-c jit=off -c enable_bitmapscan=off -c idle_in_transaction_session_timeout=5s";

#[derive(Debug)]
pub(crate) struct Pg {
    writer: Arc<Writer>,
    lanes: Lanes,
    read: Pool,
    server: Server,
    channel: Arc<str>,
    listening: OnceLock<()>,
    patience: Duration,
}

/// What a writing transaction needs.
#[derive(Debug)]
pub(crate) struct Writer {
    pool: Pool,
    bell: Bell,
    shown: Arc<str>,
    teller: Arc<Teller>,
    patience: Duration,
}

/// Remembers that others are to be told of a commit.
#[derive(Debug, Default)]
struct Teller {
    dirty: AtomicBool,
    wake: Notify,
    /// Held while one is told, so that a process that ends waits for what it has begun to say.
    telling: tokio::sync::Mutex<()>,
}

impl Pg {
    pub(crate) async fn open(text: &str, shown: String, options: Options) -> Result<Pg> {
        let shown: Arc<str> = shown.into();
        let server = Server::parse(text, &shown)?.bound();
        let patience = options.answer;
        let pool_to_write = pool(&server, true, options.connections)?;
        let read = pool(&server, false, options.connections.div_ceil(2))?;
        let channel: Arc<str> =
            prepare_schema(&pool_to_write, options.schema, &shown, patience).await?.into();
        let teller = Arc::new(Teller::default());
        tokio::spawn(tell(read.clone(), teller.clone(), Arc::clone(&channel)));
        let writer = Arc::new(Writer { pool: pool_to_write, bell: Bell::new(), shown, teller, patience });
        let (lanes, listening) = (Lanes::default(), OnceLock::new());
        Ok(Pg { writer, lanes, read, server, channel, listening, patience })
    }

    pub(crate) async fn write<W: Write>(&self, work: W) -> Result<W::Answer> {
        if W::MERGES {
            return self.lanes.of::<W>().write(&self.writer, work).await;
        }
        self.writer.write(&work).await
    }

    pub(crate) async fn read<R: Read>(&self, query: R) -> Result<R::Answer> {
        let begin = "begin isolation level repeatable read read only";
        let mut tx = begin_on(&self.read, &self.writer.shown, begin, self.patience * READS_LONGER).await?;
        let answer = query.fetch(&mut tx).await;
        rollback(tx).await;
        answer
    }

    pub(crate) fn changes(&self) -> Changes {
        self.listening.get_or_init(|| {
            let bell = self.writer.bell.clone();
            tokio::spawn(listen(self.server.clone(), Arc::clone(&self.channel), bell, self.patience));
        });
        self.writer.bell.changes()
    }

    pub(crate) async fn close(&self) {
        tell_now(&self.read, &self.writer.teller, &self.channel).await;
    }
}

impl Writer {
    /// Applies an operation in a transaction of its own, again where the server names a conflict.
    pub(crate) async fn write<W: Write>(&self, work: &W) -> Result<W::Answer> {
        let mut tries = 1;
        loop {
            let mut tx = self.begin().await?;
            let applied = work.apply(&mut tx).await;
            match self.finish(&mut tx, applied).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let again = conn(&mut tx).conflict && tries < TRIES_MAX;
                    rollback(tx).await;
                    if !again {
                        return Err(self.log_refusal(error).await);
                    }
                }
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }

    /// Applies several operations in one transaction.
    pub(crate) async fn write_all<W: Write>(&self, works: &[W]) -> Merged<W::Answer> {
        let Ok(mut tx) = self.begin().await else { return Merged::RolledBack };
        let Ok(answers) = W::apply_all(works, &mut tx).await else {
            rollback(tx).await;
            return Merged::RolledBack;
        };
        match self.finish(&mut tx, Ok(answers)).await {
            Ok(answers) => Merged::Done(answers),
            Err(error) => {
                let is_rolled_back = conn(&mut tx).refused;
                rollback(tx).await;
                if is_rolled_back { Merged::RolledBack } else { Merged::Unknown(error) }
            }
        }
    }

    /// Commits what was applied and tells others.
    async fn finish<T>(&self, tx: &mut Tx, applied: Result<T>) -> Result<T> {
        let answer = applied?;
        // What leaves no event (a renewed lease, a take of nothing) wakes nobody.
        let is_news = !tx.events.is_empty() || tx.has_news;
        commit(tx).await?;
        if is_news {
            self.tell_all();
        }
        Ok(answer)
    }

    async fn begin(&self) -> Result<Tx> {
        begin_on(&self.pool, &self.shown, BEGIN, self.patience).await
    }

    /// Writes the event that an error carries, in a transaction of its own: the refused one is rolled back.
    async fn log_refusal(&self, error: Error) -> Error {
        let Some(event) = error.event.clone() else { return error };
        let Ok(mut tx) = self.begin().await else { return error };
        tx.record(*event);
        if commit(&mut tx).await.is_ok() {
            self.tell_all();
        } else {
            rollback(tx).await;
        }
        error
    }

    fn tell_all(&self) {
        self.bell.ring();
        self.teller.dirty.store(true, Ordering::SeqCst);
        self.teller.wake.notify_one();
    }
}

async fn begin_on(pool: &Pool, shown: &Arc<str>, begin: &'static str, patience: Duration) -> Result<Tx> {
    let lent = lent(pool, shown).await?;
    let (begin, shown) = (Some(begin), Arc::clone(shown));
    let conn = PgConn { lent, begin, conflict: false, refused: false, shown, patience };
    Ok(Tx::new(Conn::Pg(Box::new(conn))))
}

async fn lent(pool: &Pool, shown: &str) -> Result<Lent> {
    pool.get().await.map(Lent::new).map_err(|e| no_connection(&e, shown))
}

/// After these an operation is applied again: another transaction stood in its way.
const CONFLICTS: [SqlState; 3] =
    [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::LOCK_NOT_AVAILABLE];

fn is_conflict(e: &tokio_postgres::Error) -> bool {
    e.code().is_some_and(|code| CONFLICTS.contains(code))
}

fn pause(tries: u32) -> Duration {
    // Spread by the address of a local: two that met here must not meet again at the same moment.
    let spread = (std::ptr::from_ref(&tries) as usize >> 4) % 7;
    Duration::from_millis(u64::from(1_u32 << tries.min(6)) + spread as u64)
}

fn pool(server: &Server, writes: bool, size: usize) -> Result<Pool> {
    let options = if writes { WRITE_OPTIONS } else { READ_OPTIONS };
    let mut server = server.clone();
    let config = &mut server.config;
    let own = config.get_options().map(str::to_owned).unwrap_or_default();
    config.options(format!("{options} {own}").trim());
    if config.get_application_name().is_none() {
        config.application_name("quorate");
    }
    let timeouts = Timeouts { wait: Some(POOL_WAIT), create: Some(server.connect_wait()), recycle: None };
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(server.config.clone(), Dialer { server, writes }, how);
    Pool::builder(manager)
        .max_size(size.max(1))
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::failed(format!("cannot make a pool of connections: {e}")))
}

/// One connection, at most one transaction open on it.
pub(crate) struct PgConn {
    lent: Lent,
    /// The text that begins the transaction, until it is sent with the first statement.
    begin: Option<&'static str>,
    /// Whether the server named a conflict, so that the operation may be applied again.
    conflict: bool,
    /// Whether the server itself refused a statement: then nothing of the transaction is committed.
    refused: bool,
    shown: Arc<str>,
    /// How long an answer is waited for.
    patience: Duration,
}

impl std::fmt::Debug for PgConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConn").field("begin", &self.begin).finish_non_exhaustive()
    }
}

impl PgConn {
    pub(crate) async fn all<T>(
        &mut self,
        before: &[Later],
        sql: &str,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.query(before, sql, args, decode, Ending::Open).await
    }

    /// Like [`all`](PgConn::all), with `commit` in the same flight.
    pub(crate) async fn last<T>(
        &mut self,
        before: &[Later],
        sql: &str,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        if before.is_empty() && self.begin == Some(BEGIN) {
            let statement = self.prepare(sql).await?;
            let (client, asked) = self.lent.parts();
            let answer = heard(asked, self.patience, client.query(&statement, &params(args))).await;
            let rows = self.said(answer)?;
            return rows.iter().map(|row| decode(&Row::pg(row))).collect();
        }
        self.query(before, sql, args, decode, Ending::Commit).await
    }

    async fn query<T>(
        &mut self,
        before: &[Later],
        sql: &str,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
        ending: Ending,
    ) -> Result<Vec<T>> {
        let statement = self.prepare(sql).await?;
        let rest = self.send_most(before).await?;
        let (begin, params) = (self.begin.take(), params(args));
        let (client, asked) = self.lent.parts();
        let flight = async {
            let query = client.query(&statement, &params);
            let (sent, rows, ended) = join3(send(client, begin, &rest), query, end(client, ending)).await;
            sent.and(rows).and_then(|rows| ended.map(|()| rows))
        };
        let answer = heard(asked, self.patience, flight).await;
        let rows = self.said(answer)?;
        if ending == Ending::Commit {
            self.begin = Some(BEGIN);
        }
        rows.iter().map(|row| decode(&Row::pg(row))).collect()
    }

    pub(crate) async fn run(&mut self, before: &[Later], sql: &str, args: &[Arg<'_>]) -> Result<u64> {
        let statement = self.prepare(sql).await?;
        let rest = self.send_most(before).await?;
        let (begin, params) = (self.begin.take(), params(args));
        let (client, asked) = self.lent.parts();
        let flight = async {
            let execute = client.execute(&statement, &params);
            let (sent, changed) = join(send(client, begin, &rest), execute).await;
            sent.and(changed)
        };
        let answer = heard(asked, self.patience, flight).await;
        self.said(answer)
    }

    /// Sends what needs no answer, but for the last flight's worth, which rides with what follows it.
    async fn send_most<'a>(&mut self, list: &'a [Later]) -> Result<Vec<Ready<'a>>> {
        let mut ready = Vec::with_capacity(list.len());
        for (sql, args) in list {
            ready.push((self.prepare(sql).await?, args.as_slice()));
        }
        let last = ready.len().saturating_sub(1) / FLIGHT_MAX * FLIGHT_MAX;
        for part in ready[..last].chunks(FLIGHT_MAX) {
            let begin = self.begin.take();
            let (client, asked) = self.lent.parts();
            let answer = heard(asked, self.patience, send(client, begin, part)).await;
            self.said(answer)?;
        }
        Ok(ready.split_off(last))
    }

    async fn prepare(&mut self, sql: &str) -> Result<tokio_postgres::Statement> {
        let (client, asked) = self.lent.parts();
        let answer = heard(asked, self.patience, client.prepare_cached(sql)).await;
        self.said(answer)
    }

    /// Sends the last flight of a transaction.
    async fn commit(&mut self, flight: &[Later]) -> Result<()> {
        let rest = self.send_most(flight).await?;
        let begin = self.begin.take();
        let (client, asked) = self.lent.parts();
        let last = async {
            let (sent, ended) = join(send(client, begin, &rest), client.batch_execute("commit")).await;
            sent.and(ended)
        };
        let answer = heard(asked, self.patience, last).await;
        self.said(answer)?;
        self.begin = Some(BEGIN);
        Ok(())
    }

    /// Ends the transaction, unless the server owes an answer: then the connection is closed, which ends it too.
    async fn rollback(&mut self) {
        if !self.is_open() || self.lent.owes() {
            return;
        }
        let (client, asked) = self.lent.parts();
        if let Ok(Ok(())) = heard(asked, self.patience, client.batch_execute("rollback")).await {
            self.begin = Some(BEGIN);
        }
    }

    pub(crate) fn relax(&mut self) {
        if self.begin.is_some() {
            self.begin = Some(BEGIN_RELAXED);
        }
    }

    fn is_open(&self) -> bool {
        self.begin.is_none()
    }

    fn said<T>(&mut self, answer: Answer<T>) -> Result<T> {
        match answer {
            Ok(said) => said.map_err(|e| self.wrong(&e)),
            Err(silent) => Err(unheard(silent, &self.shown)),
        }
    }

    fn wrong(&mut self, e: &tokio_postgres::Error) -> Error {
        if e.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            self.lent.is_unfit();
        }
        self.refused |= e.as_db_error().is_some_and(|db| db.parsed_severity() == Some(Severity::Error));
        self.conflict |= is_conflict(e);
        wrong(e, &self.shown)
    }
}

impl Drop for PgConn {
    /// A transaction that was left open (its caller went away) is ended before the connection is used again:
    /// one poll queues the message, in order, before anything the next user sends.
    fn drop(&mut self) {
        if self.is_open() && !self.lent.owes() {
            let mut context = Context::from_waker(Waker::noop());
            let _ = pin!(self.lent.client().batch_execute("rollback")).poll(&mut context);
        }
    }
}

fn params<'a>(args: &'a [Arg<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    args.iter().map(|arg| arg as &(dyn ToSql + Sync)).collect()
}

fn conn(tx: &mut Tx) -> &mut PgConn {
    match &mut tx.conn {
        Conn::Pg(conn) => conn,
        Conn::Lite(_) => unreachable!("made by this module"),
    }
}

/// Sends what is buffered and `commit`. An error inside the flight turns the commit into a rollback without an
/// error of its own, so every answer is looked at.
async fn commit(tx: &mut Tx) -> Result<()> {
    let mut flight = std::mem::take(&mut tx.later);
    let events = std::mem::take(&mut tx.events);
    if events.len() >= PLACES {
        return Err(Error::invalid(format!(
            "one operation records {} events; at most {PLACES}",
            events.len()
        )));
    }
    let parts = events.chunks(EVENTS_AT_ONCE);
    flight.extend(parts.map(insert_events));
    let conn = conn(tx);
    if flight.is_empty() && !conn.is_open() {
        return Ok(());
    }
    conn.commit(&flight).await
}

/// What follows a statement in the same flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    Commit,
}

async fn end(client: &Object, ending: Ending) -> Result<(), tokio_postgres::Error> {
    match ending {
        Ending::Open => Ok(()),
        Ending::Commit => client.batch_execute("commit").await,
    }
}

/// A statement that is prepared, with its arguments.
type Ready<'a> = (tokio_postgres::Statement, &'a [Arg<'static>]);

/// Sends statements that need no answer, `begin` before them. Its first poll puts all on the wire, in order.
async fn send(client: &Object, begin: Option<&str>, part: &[Ready<'_>]) -> Result<(), tokio_postgres::Error> {
    let begun = async { if let Some(begin) = begin { client.batch_execute(begin).await } else { Ok(()) } };
    let ran = join_all(
        part.iter().map(|(statement, args)| async move { client.execute(statement, &params(args)).await }),
    );
    let (begun, ran) = join(begun, ran).await;
    begun.and(ran.into_iter().find_map(std::result::Result::err).map_or(Ok(()), Err))
}

/// One statement for several events, or the plainer one for one.
fn insert_events(events: &[Event]) -> Later {
    if let [event] = events {
        return (INSERT_EVENT, event_args(event));
    }
    let texts = |of: fn(&Event) -> Option<String>| Arg::Texts(events.iter().map(of).collect());
    let args = vec![
        texts(|event| Some(event.kind.as_str().to_owned())),
        texts(|event| event.agent.clone()),
        Arg::Ints(events.iter().map(|event| event.task.map(|id| id.0)).collect()),
        Arg::Ints(events.iter().map(|event| event.run.map(|id| id.0)).collect()),
        texts(|event| event.resource.clone()),
        texts(|event| Some(event.message.clone())),
        texts(|event| event.data.as_ref().map(ToString::to_string)),
    ];
    (INSERT_EVENTS, args)
}

/// Events in one statement at most.
const EVENTS_AT_ONCE: usize = 4_096;

/// Where a transaction's events begin in the log: at the number of the youngest transaction that has ended, or its own
/// if that is higher. It is looked up with the insert, after all waiting: what a transaction has waited for stands
/// before it. Readers stay below the oldest open transaction, so that none appears behind them; `era` keeps the order
/// after a dump was restored elsewhere. (docs/design/2026-11-21-log-cursor.md)
macro_rules! turn {
    () => {
        "((greatest(pg_snapshot_xmax(pg_current_snapshot()), pg_current_xact_id())::text::bigint
           + (select era from log_era)) << 20)"
    };
}
const INSERT_EVENT: &str = concat!(
    "insert into events (seq, at, kind, agent, task_id, run_id, resource, message, data)
     values (",
    turn!(),
    " + (nextval('log_order') & 1048575), log_time(), $1, $2, $3, $4, $5, $6, $7)"
);
const INSERT_EVENTS: &str = concat!(
    "insert into events (seq, at, kind, agent, task_id, run_id, resource, message, data)
     select turn + (first & 1048575) + number - first, at, kind, agent, task_id, run_id, resource, message, data
       from (select n.*, min(number) over () as first
               from (select t.*, nextval('log_order') as number
                       from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])
                            as t (kind, agent, task_id, run_id, resource, message, data)) n) e,
            (select ", turn!(), " as turn, log_time() as at) now"
);

async fn rollback(mut tx: Tx) {
    conn(&mut tx).rollback().await;
}

/// Brings the schema up to date and returns the name of the channel for wake-ups.
async fn prepare_schema(pool: &Pool, schema: &Schema, shown: &str, patience: Duration) -> Result<String> {
    if found(pool, shown, patience).await? != schema.version() {
        // Whether it came to its end is seen by the next who looks: it is one transaction.
        let migrated = tokio::time::timeout(MIGRATION_WAIT, migrate(pool, schema, shown)).await;
        migrated.unwrap_or_else(|_| Err(unheard(Silent(MIGRATION_WAIT), shown)))?;
    }
    let mut lent = lent(pool, shown).await?;
    let (client, asked) = lent.parts();
    timely(heard(asked, patience, again(|| settle_era(client))).await, shown)?;
    let asking = client.query_one("select current_schema()", &[]);
    let row = timely(heard(asked, patience, asking).await, shown)?;
    Ok(format!("quorate_{}", row.try_get::<_, Option<String>>(0).ok().flatten().unwrap_or_default()))
}

async fn found(pool: &Pool, shown: &str, patience: Duration) -> Result<i64> {
    let mut lent = lent(pool, shown).await?;
    let (client, asked) = lent.parts();
    timely(heard(asked, patience, version(client)).await, shown)
}

async fn version(client: &tokio_postgres::Client) -> Result<i64, tokio_postgres::Error> {
    match client.query_opt("select value from meta where key = 'schema'", &[]).await {
        Ok(row) => Ok(row.and_then(|row| row.get::<_, String>(0).parse().ok()).unwrap_or(0)),
        Err(e) if e.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(0),
        Err(e) => Err(e),
    }
}

async fn migrate(pool: &Pool, schema: &Schema, shown: &str) -> Result<()> {
    let mut client = pool.get().await.map_err(|e| no_connection(&e, shown))?;
    let tx = client.transaction().await.map_err(|e| wrong(&e, shown))?;
    // Two processes that meet a new database take turns; the second finds the work done.
    tx.batch_execute(
        "set local lock_timeout = 0;
         select pg_advisory_xact_lock(hashtext('quorate.schema'));
         create table if not exists meta (key text primary key, value text not null)",
    )
    .await
    .map_err(|e| wrong(&e, shown))?;
    let found = version(tx.client()).await.map_err(|e| wrong(&e, shown))?;
    for step in schema.missing(found, shown)? {
        tx.batch_execute(step.pg).await.map_err(|e| migration_failed(step.name, &e, shown))?;
    }
    tx.execute(
        "insert into meta (key, value) values ('schema', $1) on conflict (key) do update set value = excluded.value",
        &[&schema.version().to_string()],
    )
    .await
    .map_err(|e| wrong(&e, shown))?;
    tx.commit().await.map_err(|e| wrong(&e, shown))
}

fn migration_failed(name: &str, e: &tokio_postgres::Error, shown: &str) -> Error {
    Error::unavailable(format!("cannot make the schema ({name}) in {shown}: {}", text(e)))
        .hint("use an empty database, or an empty schema with ?options=-csearch_path%3DNAME")
}

/// Does what is a transaction by itself, again where another stood in its way.
async fn again<T, F>(work: impl Fn() -> F) -> Result<T, tokio_postgres::Error>
where
    F: Future<Output = Result<T, tokio_postgres::Error>>,
{
    let mut tries = 1;
    loop {
        let answer = work().await;
        let conflict = answer.as_ref().is_err_and(is_conflict);
        if !conflict || tries >= TRIES_MAX {
            return answer;
        }
        tokio::time::sleep(pause(tries)).await;
        tries += 1;
    }
}

/// After a dump was restored into another cluster, transaction numbers begin lower: the era makes up for it.
async fn settle_era(client: &tokio_postgres::Client) -> Result<u64, tokio_postgres::Error> {
    client
        .execute(
            "update log_era set era = (select max(seq) >> 20 from events) + 1
              where (select max(seq) >> 20 from events)
                    > era + pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
            &[],
        )
        .await
}

/// Tells others of commits: at once when idle, merged under load, never inside a transaction.
async fn tell(pool: Pool, teller: Arc<Teller>, channel: Arc<str>) {
    loop {
        teller.wake.notified().await;
        tell_now(&pool, &teller, &channel).await;
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}

async fn tell_now(pool: &Pool, teller: &Teller, channel: &str) {
    let _telling = teller.telling.lock().await;
    if !teller.dirty.swap(false, Ordering::SeqCst) {
        return;
    }
    // A hint that cannot be sent costs time, never correctness: everyone also looks by himself.
    let Ok(mut lent) = pool.get().await.map(Lent::new) else { return };
    let (client, asked) = lent.parts();
    let notify = async {
        // Nobody waits for the disk to be told.
        let notify = "select set_config('synchronous_commit', 'off', true), pg_notify($1, '')";
        let statement = client.prepare_cached(notify).await?;
        client.execute(&statement, &[&channel]).await
    };
    let _ = heard(asked, NOTIFY_WAIT, notify).await;
}

/// Rings the bell on every notification; connects again for ever, since it is only a hint.
async fn listen(server: Server, channel: Arc<str>, bell: Bell, patience: Duration) {
    loop {
        if let Ok(Ok((client, mut connection))) =
            tokio::time::timeout(server.connect_wait(), server.connect()).await
        {
            let pump = async {
                while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    if matches!(message, AsyncMessage::Notification(_)) {
                        bell.ring();
                    }
                }
            };
            // Whichever ends first: only another round follows.
            tokio::select! {
                () = pump => {}
                () = keep_listening(&client, &channel, patience) => {}
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        bell.ring();
    }
}

/// Asks to be told, and asks now and then whether anyone is still there to tell; ends when nobody is.
async fn keep_listening(client: &tokio_postgres::Client, channel: &str, patience: Duration) {
    let mut question = format!("listen \"{channel}\"");
    while let Ok(Ok(())) = tokio::time::timeout(patience, client.batch_execute(&question)).await {
        question.clear();
        tokio::time::sleep(LISTEN_ASK).await;
    }
}

/// What was heard within the time.
type Answer<T> = Result<Result<T, tokio_postgres::Error>, Silent>;

fn timely<T>(answer: Answer<T>, shown: &str) -> Result<T> {
    match answer {
        Ok(said) => said.map_err(|e| wrong(&e, shown)),
        Err(silent) => Err(unheard(silent, shown)),
    }
}

/// Nobody knows whether what was asked for is done.
fn unheard(silent: Silent, shown: &str) -> Error {
    Error::unavailable(format!("the ledger {shown} did not answer within {:?}", silent.0))
        .hint("the connection was given up, and a new one will be made; `quorate doctor` looks")
}

fn no_connection(e: &PoolError, shown: &str) -> Error {
    match e {
        PoolError::Backend(e) => wrong(e, shown),
        PoolError::Timeout(_) => {
            Error::unavailable(format!("no free connection to {shown} within {POOL_WAIT:?}"))
                .hint("`quorate doctor` shows what holds the database")
        }
        e => Error::unavailable(format!("cannot reach {shown}: {e}")),
    }
}

fn text(e: &tokio_postgres::Error) -> String {
    match e.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => {
            let mut text = e.to_string();
            let mut source = std::error::Error::source(e);
            while let Some(inner) = source {
                text = format!("{text}: {inner}");
                source = inner.source();
            }
            text
        }
    }
}

fn wrong(e: &tokio_postgres::Error, shown: &str) -> Error {
    let Some(code) = e.code() else {
        return Error::unavailable(format!("cannot reach the ledger {shown}: {}", text(e)))
            .hint(tls::hint(e).unwrap_or("is the server running? `quorate doctor` looks"));
    };
    let class = &code.code()[..2];
    let message = format!("the ledger {shown}: {}", text(e));
    match class {
        "22" if code == &SqlState::CHARACTER_NOT_IN_REPERTOIRE => crate::arg::unstorable(),
        "55" if code == &SqlState::LOCK_NOT_AVAILABLE => {
            Error::unavailable(format!("{message}, {TRIES_MAX} times"))
                .hint("`quorate doctor` names the process that holds a lock for long")
        }
        "40" => Error::unavailable(format!("{message}, {TRIES_MAX} times"))
            .hint("others change the same at the same moment: try again; `quorate doctor` shows who"),
        "08" | "57" | "53" => {
            Error::unavailable(message).hint("the server will be asked again; `quorate doctor` looks")
        }
        "28" => Error::unavailable(message).hint("check the user and password in the store's url"),
        "3D" => Error::unavailable(message)
            .hint("make the database with `createdb`, or name another in the store's url"),
        "25" => {
            Error::unavailable(message).hint("this server is read-only: name the primary in the store's url")
        }
        "42" if code == &SqlState::INSUFFICIENT_PRIVILEGE => {
            Error::unavailable(message).hint("grant the role the right, or use another")
        }
        _ => Error::failed(message),
    }
}
