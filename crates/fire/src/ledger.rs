//! The ledger as anyone may read it: plain SQL, without the product's own code.
//!
//! Here live the connections. Every value comes as text, so that one reading serves both databases.

use crate::Outcome;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

const WITNESS_LITE: &str = include_str!("../sql/witness_sqlite.sql");
const WITNESS_PG: &str = include_str!("../sql/witness_postgres.sql");

/// A row; `None` is null.
pub type Row = Vec<Option<String>>;

/// A reader of one ledger.
#[derive(Debug)]
pub enum Ledger {
    /// The file of SQLite.
    Lite(PathBuf),
    /// A server of PostgreSQL.
    Pg(Box<Remote>),
}

/// A connection to PostgreSQL that is made again when it was lost.
#[derive(Debug)]
pub struct Remote {
    url: String,
    runtime: Runtime,
    client: Option<Client>,
}

impl Ledger {
    /// Reads a file.
    pub fn lite(path: PathBuf) -> Ledger {
        Ledger::Lite(path)
    }

    /// Reads from a server.
    pub fn pg(url: &str) -> Outcome<Ledger> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start: {e}"))?;
        Ok(Ledger::Pg(Box::new(Remote { url: url.to_owned(), runtime, client: None })))
    }

    /// Asks one question.
    pub fn rows(&mut self, sql: &str) -> Outcome<Vec<Row>> {
        match self {
            Ledger::Lite(path) => lite_rows(path, sql).map_err(|e| format!("{sql}: {e}")),
            Ledger::Pg(remote) => remote.rows(sql),
        }
    }

    /// Lets a witness of claims into the ledger: a table in which triggers note each grant and end as it is made.
    ///
    /// On PostgreSQL the log alone cannot tell: its order is that of the transactions' beginnings.
    pub fn add_witness(&mut self) -> Outcome {
        match self {
            Ledger::Lite(path) => rusqlite::Connection::open(path)
                .and_then(|connection| connection.execute_batch(WITNESS_LITE))
                .map_err(|e| format!("cannot add the witness: {e}")),
            Ledger::Pg(remote) => remote.rows(WITNESS_PG).map(drop),
        }
    }

    /// Asks for one number.
    pub fn number(&mut self, sql: &str) -> Outcome<i64> {
        let rows = self.rows(sql)?;
        let cell = rows.first().and_then(|row| row.first()).and_then(Option::as_ref);
        cell.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{sql}: no number"))
    }
}

fn lite_rows(path: &PathBuf, sql: &str) -> rusqlite::Result<Vec<Row>> {
    let connection = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    let mut statement = connection.prepare(sql)?;
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| Ok(as_text(row.get_ref(at)?))).collect())?;
    rows.collect()
}

fn as_text(value: rusqlite::types::ValueRef<'_>) -> Option<String> {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

impl Remote {
    fn rows(&mut self, sql: &str) -> Outcome<Vec<Row>> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.connect()?,
        };
        let asked = async { tokio::time::timeout(PATIENCE, client.simple_query(sql)).await };
        let answer = self.runtime.block_on(asked);
        let messages = answer.map_err(|_| format!("{sql}: no answer"))?.map_err(|e| format!("{sql}: {e}"))?;
        self.client = Some(client);
        Ok(messages.iter().filter_map(row).collect())
    }

    fn connect(&self) -> Outcome<Client> {
        let connect = async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            // It ends with the client; what goes wrong shows in the answers.
            tokio::spawn(connection);
            Ok(client)
        };
        self.runtime.block_on(connect).map_err(|e: tokio_postgres::Error| format!("no connection: {e}"))
    }
}

fn row(message: &SimpleQueryMessage) -> Option<Row> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
}
