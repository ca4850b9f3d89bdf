//! One connection while it has a transaction: statements sent ahead of their answers.
//!
//! A transaction is two flights: `begin` rides with the first statement; writes that need no answer, the events
//! and `commit` ride together. Here lives what is sent; which connection it is lives in `door`.

use super::door::Way;
use super::wrong::{unheard, wrong};
use super::{BEGIN, BEGIN_RELAXED, is_conflict};
use crate::arg::Arg;
use crate::line::{Lent, Silent, heard};
use crate::pooler;
use crate::row::Row;
use crate::tx::{Conn, Later, Tx, event_args};
use deadpool_postgres::Object;
use futures_util::future::{join, join_all, join3};
use quorate_model::{Error, Event, Result};
use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::ToSql;

/// Events of one transaction at most: so many places one turn of the log has.
const PLACES: usize = 1 << 20;
/// Statements sent ahead in one flight at most.
const FLIGHT_MAX: usize = 256;

/// What was heard within the time.
pub(super) type Answer<T> = Result<Result<T, tokio_postgres::Error>, Silent>;

/// One connection, at most one transaction open on it.
pub(crate) struct PgConn {
    lent: Lent,
    /// The text that begins the transaction, until it is sent with the first statement.
    begin: Option<&'static str>,
    /// Whether the server named a conflict, so that the operation may be applied again.
    pub(super) conflict: bool,
    /// Whether the server itself refused a statement: then nothing of the transaction is committed.
    refused: bool,
    /// Whether the server was asked to commit, and has not said yet whether it did.
    commits: bool,
    way: Arc<Way>,
}

impl std::fmt::Debug for PgConn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConn").field("begin", &self.begin).finish_non_exhaustive()
    }
}

impl PgConn {
    pub(super) fn new(lent: Lent, begin: &'static str, way: Arc<Way>) -> PgConn {
        PgConn { lent, begin: Some(begin), conflict: false, refused: false, commits: false, way }
    }

    /// Returns whether nobody knows if the transaction was committed: it was asked for, and the answer did not come.
    pub(super) fn is_unknown(&self) -> bool {
        self.commits && !self.refused
    }

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
        if before.is_empty() && self.begin == Some(BEGIN) && self.way.settings.is_empty() {
            let statement = self.prepare(sql).await?;
            self.commits = true;
            let (client, asked) = self.lent.parts();
            let answer = heard(asked, self.way.patience, fetch(client, &statement, args)).await;
            let rows = self.said(answer)?;
            self.commits = false;
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
        let begin = self.take_begin();
        self.commits = ending == Ending::Commit;
        let (client, asked) = self.lent.parts();
        let flight = async {
            let query = fetch(client, &statement, args);
            let (sent, rows, ended) = join3(send(client, begin, &rest), query, end(client, ending)).await;
            sent.and(rows).and_then(|rows| ended.map(|()| rows))
        };
        let answer = heard(asked, self.way.patience, flight).await;
        let rows = self.said(answer)?;
        if std::mem::take(&mut self.commits) {
            self.begin = Some(BEGIN);
        }
        rows.iter().map(|row| decode(&Row::pg(row))).collect()
    }

    pub(crate) async fn run(&mut self, before: &[Later], sql: &str, args: &[Arg<'_>]) -> Result<u64> {
        let statement = self.prepare(sql).await?;
        let rest = self.send_most(before).await?;
        let begin = self.take_begin();
        let (client, asked) = self.lent.parts();
        let flight = async {
            let execute = execute(client, &statement, args);
            let (sent, changed) = join(send(client, begin, &rest), execute).await;
            sent.and(changed)
        };
        let answer = heard(asked, self.way.patience, flight).await;
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
            let begin = self.take_begin();
            let (client, asked) = self.lent.parts();
            let answer = heard(asked, self.way.patience, send(client, begin, part)).await;
            self.said(answer)?;
        }
        Ok(ready.split_off(last))
    }

    async fn prepare<'a>(&mut self, sql: &'a str) -> Result<Prepared<'a>> {
        if !self.way.named {
            return Ok(Prepared::Text(sql));
        }
        let (client, asked) = self.lent.parts();
        let answer = heard(asked, self.way.patience, client.prepare_cached(sql)).await;
        self.said(answer).map(Prepared::Named)
    }

    /// Returns the text that begins the transaction, if it has not begun.
    fn take_begin(&mut self) -> Option<Cow<'static, str>> {
        let (begin, settings) = (self.begin.take()?, &self.way.settings);
        if settings.is_empty() {
            return Some(begin.into());
        }
        let (begin, more) = begin.split_once(';').unwrap_or((begin, ""));
        Some(format!("{begin}; {settings}{more}").into())
    }

    /// Sends the last flight of a transaction.
    async fn commit(&mut self, flight: &[Later]) -> Result<()> {
        let rest = self.send_most(flight).await?;
        let begin = self.take_begin();
        self.commits = true;
        let (client, asked) = self.lent.parts();
        let last = async {
            let (sent, ended) = join(send(client, begin, &rest), client.batch_execute("commit")).await;
            sent.and(ended)
        };
        let answer = heard(asked, self.way.patience, last).await;
        self.said(answer)?;
        self.commits = false;
        self.begin = Some(BEGIN);
        Ok(())
    }

    /// Ends the transaction, unless the server owes an answer: then the connection is closed, which ends it too.
    async fn rollback(&mut self) {
        if !self.is_open() || self.lent.owes() {
            return;
        }
        let (client, asked) = self.lent.parts();
        if let Ok(Ok(())) = heard(asked, self.way.patience, client.batch_execute("rollback")).await {
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
            Err(silent) => Err(unheard(silent, &self.way.shown)),
        }
    }

    fn wrong(&mut self, e: &tokio_postgres::Error) -> Error {
        if e.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            self.lent.is_unfit();
        }
        self.refused |= e.as_db_error().is_some_and(|db| db.parsed_severity() == Some(Severity::Error));
        self.conflict |= is_conflict(e);
        wrong(e, &self.way.shown)
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

pub(super) fn conn(tx: &mut Tx) -> &mut PgConn {
    match &mut tx.conn {
        Conn::Pg(conn) => conn,
        Conn::Lite(_) => unreachable!("made by `door`"),
    }
}

/// Sends what is buffered and `commit`. An error inside the flight turns the commit into a rollback without an
/// error of its own, so every answer is looked at.
pub(super) async fn commit(tx: &mut Tx) -> Result<()> {
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

/// A statement as the connection knows it.
enum Prepared<'a> {
    /// By a name that it was given there.
    Named(tokio_postgres::Statement),
    /// Not at all: its text goes with its arguments.
    Text(&'a str),
}

/// A statement that is prepared, with its arguments.
type Ready<'a> = (Prepared<'a>, &'a [Arg<'static>]);

async fn fetch(
    client: &Object,
    statement: &Prepared<'_>,
    args: &[Arg<'_>],
) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
    match statement {
        Prepared::Named(statement) => client.query(statement, &params(args)).await,
        Prepared::Text(sql) => client.query_typed(sql, &pooler::typed(args)).await,
    }
}

async fn execute(
    client: &Object,
    statement: &Prepared<'_>,
    args: &[Arg<'_>],
) -> Result<u64, tokio_postgres::Error> {
    match statement {
        Prepared::Named(statement) => client.execute(statement, &params(args)).await,
        Prepared::Text(sql) => client.execute_typed(sql, &pooler::typed(args)).await,
    }
}

/// Sends statements that need no answer, `begin` before them. Its first poll puts all on the wire, in order.
async fn send(
    client: &Object,
    begin: Option<Cow<'static, str>>,
    part: &[Ready<'_>],
) -> Result<(), tokio_postgres::Error> {
    let begun = async { if let Some(begin) = begin { client.batch_execute(&begin).await } else { Ok(()) } };
    let ran = join_all(part.iter().map(|(statement, args)| execute(client, statement, args)));
    let (begun, ran) = join(begun, ran).await;
    begun.and(ran.into_iter().find_map(std::result::Result::err).map_or(Ok(()), Err))
}

/// One statement for several events, or the plainer one for one.
fn insert_events(events: &[Event]) -> Later {
    if let [event] = events {
        return (INSERT_EVENT, event_args(event));
    }
    let texts = |of: fn(&Event) -> Option<String>| Arg::sparse_column(events.iter().map(of).collect());
    let ints = |of: fn(&Event) -> Option<i64>| Arg::sparse_column(events.iter().map(of).collect());
    let args = vec![
        Arg::column(events.iter().map(|event| Some(event.kind.as_str().to_owned())).collect()),
        texts(|event| event.agent.clone()),
        ints(|event| event.task.map(|id| id.0)),
        ints(|event| event.run.map(|id| id.0)),
        texts(|event| event.resource.clone()),
        Arg::Texts(events.iter().map(|event| Some(event.message.clone())).collect()),
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
/// `first` is before all numbers of the rows, and so is where they begin within the turn.
const INSERT_EVENTS: &str = concat!(
    "insert into events (seq, at, kind, agent, task_id, run_id, resource, message, data)
     select turn + (first & 1048575) + after, at, coalesce(kind, ($1::text[])[1]), agent, task_id, run_id, resource, message, data
       from (select ", turn!(), " as turn, log_time() as at, nextval('log_order') as first offset 0) now,
            lateral (select t.*, nextval('log_order') - now.first as after
                       from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])
                            as t (kind, agent, task_id, run_id, resource, message, data) offset 0) e"
);

pub(super) async fn rollback(mut tx: Tx) {
    conn(&mut tx).rollback().await;
}
