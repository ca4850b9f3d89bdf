//! Rows that a measurement finds in the ledger.
//!
//! Here live the filling of both databases, by the same texts, and the connections for it. The schema itself is
//! made by the ledger.

use crate::clock;
use crate::operation::Rows;
use quorate_model::{Error, Result};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use std::path::Path;
use tokio_postgres::{Client, NoTls};

const TEAM: &str = include_str!("../sql/seed/team.sql");
const READY: &str = include_str!("../sql/seed/ready.sql");
const HELD: &str = include_str!("../sql/seed/held.sql");
const CROWD: &str = include_str!("../sql/seed/crowd.sql");
const LARGE_CROWD: &str = include_str!("../sql/seed/large_crowd.sql");
const HISTORY: &str = include_str!("../sql/seed/history.sql");
/// Lets every lease lapse.
pub const LAPSE: &str = include_str!("../sql/seed/lapse.sql");
/// Counts the tasks in state `$1`.
const LEFT: &str = include_str!("../sql/seed/left.sql");

/// Adds 1,000 tasks with their events.
pub const BULK_PG: &str = include_str!("../sql/postgres/bulk.sql");
const BULK_LITE: &str = include_str!("../sql/sqlite/bulk.sql");

/// Returns the texts for some rows, and how many rows each one is asked for.
fn texts(rows: Rows) -> Vec<(&'static str, i64)> {
    let rows = match rows {
        Rows::Ready(count) => vec![(READY, count)],
        Rows::Held(count) => vec![(HELD, count)],
        Rows::Crowd => vec![(CROWD, 0)],
        Rows::LargeCrowd(count) => vec![(LARGE_CROWD, count)],
        Rows::History { done, ready } => vec![(HISTORY, done), (READY, ready)],
        Rows::Team => vec![],
    };
    [(TEAM, 0)].into_iter().chain(rows).collect()
}

fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|text| !text.is_empty())
}

/// Opens a ledger's file beside the ledger, with the same durability and `now_ms()`.
///
/// Within one process SQLite knows of all its connections, so this closes nothing under the ledger's feet.
pub fn open(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path).map_err(|e| lite_failed(&e))?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("now_ms", 0, flags, |_| Ok(clock::now_ms()))
        .and_then(|()| conn.execute_batch("pragma journal_mode = wal; pragma synchronous = full;"))
        .map_err(|e| lite_failed(&e))?;
    Ok(conn)
}

/// Fills a ledger's file in one transaction.
pub fn fill_lite(conn: &Connection, rows: Rows) -> Result<()> {
    let fill = || {
        conn.execute_batch("begin immediate")?;
        for (text, count) in texts(rows) {
            for sql in statements(text) {
                let mut statement = conn.prepare(sql)?;
                if statement.parameter_count() > 0 {
                    statement.raw_bind_parameter(1, count)?;
                }
                statement.raw_execute()?;
            }
        }
        conn.execute_batch("commit; pragma wal_checkpoint(truncate); analyze;")
    };
    fill().map_err(|e: rusqlite::Error| lite_failed(&e))
}

/// Lets every lease of a ledger's file lapse.
pub fn lapse_lite(path: &Path) -> Result<()> {
    open(path)?.execute_batch(LAPSE).map_err(|e| lite_failed(&e))
}

/// Adds 1,000 tasks with their events.
pub fn bulk_lite(conn: &Connection) -> Result<()> {
    conn.execute_batch(BULK_LITE).map_err(|e| lite_failed(&e))
}

fn lite_failed(error: &rusqlite::Error) -> Error {
    Error::failed(format!("SQLite: {error}"))
}

/// Connects to PostgreSQL.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|e| pg_failed(&e))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Empties all tables that measurements fill, then fills them.
pub async fn fill_pg(client: &Client, rows: Rows) -> Result<()> {
    let empty = "truncate tasks, attempts, events, agents, nodes, runs, claims, task_needs restart identity";
    client.batch_execute(empty).await.map_err(|e| pg_failed(&e))?;
    for (text, count) in texts(rows) {
        for sql in statements(text) {
            let statement = client.prepare(sql).await.map_err(|e| pg_failed(&e))?;
            let done = match statement.params().len() {
                0 => client.execute(&statement, &[]).await,
                _ => client.execute(&statement, &[&count]).await,
            };
            done.map_err(|e| pg_failed(&e))?;
        }
    }
    client
        .batch_execute("vacuum (analyze) tasks, attempts, events, agents, nodes")
        .await
        .map_err(|e| pg_failed(&e))
}

/// Returns how many tasks are in a state.
pub async fn left_pg(client: &Client, state: &str) -> Result<i64> {
    let row = client.query_one(LEFT.trim(), &[&state]).await.map_err(|e| pg_failed(&e))?;
    row.try_get(0).map_err(|e| pg_failed(&e))
}

/// Returns how many tasks of a ledger's file are in a state.
pub fn left_lite(path: &Path, state: &str) -> Result<i64> {
    let conn = open(path)?;
    conn.query_row(LEFT.trim(), [state], |row| row.get(0)).map_err(|e| lite_failed(&e))
}

/// Translates an error of the client.
pub fn pg_failed(error: &tokio_postgres::Error) -> Error {
    let said = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
    Error::failed(format!("PostgreSQL: {said}"))
}
