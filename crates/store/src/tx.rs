//! One transaction that runs one text of SQL on either database.
//!
//! Here live the statement with its two texts, the buffered events and the writes that need no answer.
//! What is written lives in `service`; how a connection talks lives in `lite` and `pg`.

use crate::arg::Arg;
use crate::lite::LiteConn;
use crate::pg::PgConn;
use crate::row::Row;
use crate::slots::Slots;
use quorate_model::{Event, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which database a transaction runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Lite,
    /// PostgreSQL.
    Pg,
}

/// A statement: one text for both databases, or one for each where they truly differ.
///
/// Arguments are `$1`, `$2`, …; `now_ms()` is the ledger's time, the same during one transaction, in
/// milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy)]
pub enum Sql {
    /// The same text on both.
    Same(&'static str),
    /// A text for each.
    Each {
        /// For SQLite.
        lite: &'static str,
        /// For PostgreSQL.
        pg: &'static str,
    },
}

impl Sql {
    fn text(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Sql::Same(text), _)
            | (Sql::Each { lite: text, .. }, Dialect::Lite)
            | (Sql::Each { pg: text, .. }, Dialect::Pg) => text,
        }
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Sql {
        Sql::Same(text)
    }
}

#[derive(Debug)]
pub(crate) enum Conn {
    Lite(LiteConn),
    Pg(Box<PgConn>),
}

/// A transaction in which an operation is applied.
///
/// Helpers take `&mut Tx`, always: `&Tx` is not `Send`.
#[derive(Debug)]
pub struct Tx {
    pub(crate) conn: Conn,
    pub(crate) events: Vec<Event>,
    pub(crate) later: Vec<Later>,
    /// Whether a statement has written an event by itself.
    pub(crate) has_news: bool,
    /// Whether the operation is applied again, after another transaction stood in its way.
    pub(crate) is_again: bool,
    memory: Arc<Slots>,
}

/// A statement whose answer is not needed, and its arguments.
pub(crate) type Later = (&'static str, Vec<Arg<'static>>);

impl Tx {
    pub(crate) fn new(conn: Conn, memory: Arc<Slots>) -> Tx {
        Tx { conn, events: Vec::new(), later: Vec::new(), has_news: false, is_again: false, memory }
    }

    /// Returns what this process remembers of the ledger between operations, one value of each type.
    ///
    /// A hint and no more: other processes change the ledger too, and a transaction may be rolled back.
    pub fn memory<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.memory.of()
    }

    /// Returns which database it is.
    pub fn dialect(&self) -> Dialect {
        match self.conn {
            Conn::Lite(_) => Dialect::Lite,
            Conn::Pg(_) => Dialect::Pg,
        }
    }

    /// Runs a statement and returns its rows, each decoded by `decode`.
    pub async fn all<T: Send>(
        &mut self,
        sql: impl Into<Sql> + Send,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let text = sql.into().text(self.dialect());
        let before = std::mem::take(&mut self.later);
        match &mut self.conn {
            Conn::Lite(conn) => conn.run_each(&before).and_then(|()| conn.all(text, args, decode)),
            Conn::Pg(conn) => conn.all(&before, text, args, decode).await,
        }
    }

    /// Runs a statement and returns its first row, if there is one.
    pub async fn one<T: Send>(
        &mut self,
        sql: impl Into<Sql> + Send,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(sql, args, decode).await?.into_iter().next())
    }

    /// Runs the last statement of an operation that records nothing and returns its rows; the commit rides with it.
    /// A statement that is the only one is a transaction by itself.
    ///
    /// What it did stands: an operation must not fail after it. If it did nothing, the operation may begin anew.
    pub async fn last<T: Send>(
        &mut self,
        sql: impl Into<Sql> + Send,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        if let Conn::Pg(conn) = &mut self.conn
            && self.events.is_empty()
        {
            let text = sql.into().text(Dialect::Pg);
            return conn.last(&std::mem::take(&mut self.later), text, args, decode).await;
        }
        self.all(sql, args, decode).await
    }

    /// Runs a statement and returns how many rows it changed.
    pub async fn run(&mut self, sql: impl Into<Sql> + Send, args: &[Arg<'_>]) -> Result<u64> {
        let text = sql.into().text(self.dialect());
        let before = std::mem::take(&mut self.later);
        match &mut self.conn {
            Conn::Lite(conn) => conn.run_each(&before).and_then(|()| conn.run(text, args)),
            Conn::Pg(conn) => conn.run(&before, text, args).await,
        }
    }

    /// Adds a statement whose answer is not needed: it rides with whatever is sent next, in order.
    ///
    /// The next statement sees its effect; without one it rides with the events and the commit.
    pub fn later(&mut self, sql: impl Into<Sql>, args: &[Arg<'_>]) {
        let text = sql.into().text(self.dialect());
        self.later.push((text, args.iter().cloned().map(Arg::into_owned).collect()));
    }

    /// Records an event, which is written by the commit and not at all if the operation fails.
    pub fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Says that a statement has written an event by itself, so that others are told.
    pub fn tell(&mut self) {
        self.has_news = true;
    }

    /// Returns the ledger's time in milliseconds since 1970 (UTC), the same during the whole transaction.
    pub async fn now(&mut self) -> Result<i64> {
        let now = self.one("select now_ms() as now", &[], |row| row.int("now")).await?;
        Ok(now.expect("a select without `from` has one row"))
    }

    /// Returns the machine's monotonic clock: for what a process remembers, never for what the ledger is told.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Says that a crash of the database server may forget this transaction after it was acknowledged, and that it waits for a
    /// lock no longer than 250 ms before it is applied again.
    ///
    /// Only for renewals: a forgotten one ends a lease early, which terms make safe. SQLite commits in groups
    /// and forgets nothing. To be called before the first statement.
    pub fn relax(&mut self) {
        if let Conn::Pg(conn) = &mut self.conn {
            conn.relax();
        }
    }

    /// Returns whether this operation was applied before and rolled back because another transaction stood in its way: it
    /// held a lock too long, or each waited for the other. On SQLite nothing can.
    pub fn is_again(&self) -> bool {
        self.is_again
    }

    /// Lets the transactions of others end, longer with every `look`: 2 ms, 4 ms, 8 ms, … On SQLite there are none.
    pub async fn wait(&mut self, look: u32) {
        if self.dialect() == Dialect::Pg {
            tokio::time::sleep(Duration::from_millis(2 << look.min(8))).await;
        }
    }

    pub(crate) fn forget(&mut self) {
        self.events.clear();
        self.later.clear();
    }
}

/// The arguments of an event row, in the order of the insert of either database.
pub(crate) fn event_args(event: &Event) -> Vec<Arg<'static>> {
    let data = event.data.as_ref().map(ToString::to_string);
    vec![
        event.kind.as_str().into(),
        event.agent.clone().into(),
        event.task.into(),
        event.run.into(),
        event.resource.clone().into(),
        event.message.clone().into(),
        data.into(),
    ]
}
