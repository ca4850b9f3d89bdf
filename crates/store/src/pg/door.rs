//! The way in: a pool of connections to one server, and how statements are sent over them.
//!
//! Here live the pool and its limits. How a single connection is made and given up lives in `line`, what a pooler in
//! between changes in `pooler`.

use super::conn::{Answer, PgConn};
use super::wrong::{no_connection, unheard, wrong};
use crate::line::{Dialer, Lent, heard};
use crate::pooler::{self, Pooler};
use crate::slots::Slots;
use crate::tls::Server;
use crate::tx::{Conn, Tx};
use deadpool_postgres::{Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime, Timeouts};
use quorate_model::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// How long a caller waits for a free connection.
pub(super) const POOL_WAIT: Duration = Duration::from_secs(15);

/// Writes meet small rows by key: plans that scan are never right, and compiling them costs more than they take.
///
/// Nobody waits long for a lock: a lease that is taken counts from the transaction's beginning. And nobody keeps others
/// waiting long: a process that was stopped (Ctrl-Z) within a transaction loses it.
const WRITE_OPTIONS: &str = "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off \
     -c enable_hashjoin=off -c enable_mergejoin=off -c enable_bitmapscan=off \
     -c lock_timeout=1s -c idle_in_transaction_session_timeout=5s -c synchronous_commit=on";
/// A cursor over the log must neither build a bitmap of it nor read all of it, as a plan would that was made while it was
/// empty. What does count a whole table goes along an index then.
const READ_OPTIONS: &str =
    "-c jit=off -c enable_bitmapscan=off -c enable_seqscan=off -c idle_in_transaction_session_timeout=5s";
/// Whoever gives up a question closes its connection, and the next gets a new one. So the server is to look now and then
/// whether anyone is still there to be answered: else it would work on for each that ever gave up. No option of a
/// connection's beginning, since a server that cannot look (Windows) would refuse it.
const LOOK_FOR_READER: &str = "set client_connection_check_interval = '1s'";

/// A statement that is a transaction by itself has no BEGIN that could say it. After the address's own options: another
/// isolation would see the log as it was before the statement waited.
const ISOLATION: &str = "-c default_transaction_isolation=read\\ committed";

/// What the connections of a pool are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
}

impl Purpose {
    /// Returns the settings of a connection whose answers are waited for so long. The server ends a question a little
    /// earlier, so that whoever asked it is told why.
    fn options(self, patience: Duration) -> String {
        match self {
            Purpose::Write => WRITE_OPTIONS.to_owned(),
            Purpose::Read => {
                let limit = (patience - patience / 10).as_millis();
                format!("{READ_OPTIONS} -c statement_timeout={limit}ms")
            }
        }
    }
}

/// Lets the ledger see on which timeline the server is, and that it is no standby.
const SETTLE: &str = "select settle_timeline()";

/// How statements are sent over the connections of a pool.
#[derive(Debug)]
pub(super) struct Way {
    /// The address, without its secret.
    pub(super) shown: Arc<str>,
    /// Sent at the beginning of every transaction; empty on a direct connection, which has its settings for good.
    pub(super) settings: String,
    /// Whether statements are prepared and keep their name on the connection.
    pub(super) named: bool,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
    /// How long the making of a connection is waited for.
    pub(super) reach: Duration,
}

/// A pool of connections that all have the same settings.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pool: Pool,
    pub(super) way: Arc<Way>,
    memory: Arc<Slots>,
}

impl Door {
    /// Makes a pool; its connections are made when they are needed.
    pub(super) fn new(
        server: &Server,
        purpose: Purpose,
        size: usize,
        shown: &Arc<str>,
        patience: Duration,
    ) -> Result<Door> {
        let options = purpose.options(patience);
        let settings = match server.pooler {
            None => String::new(),
            Some(_) => pooler::set_local(&format!("{options} {}", server.options))?,
        };
        let named = server.pooler != Some(Pooler::Transaction);
        let dialer = match purpose {
            Purpose::Write => Dialer { asked: Some(format!("{settings}{SETTLE}")), ..Dialer::to(server) },
            // Through a pooler it would reach the connection of another.
            Purpose::Read if server.pooler.is_some() => Dialer::to(server),
            Purpose::Read => Dialer { told: Some(LOOK_FOR_READER), ..Dialer::to(server) },
        };
        let way = Way { shown: Arc::clone(shown), settings, named, patience, reach: server.connect_wait() };
        Ok(Door { pool: pool(dialer, &options, size)?, way: Arc::new(way), memory: Arc::default() })
    }

    /// Borrows a connection and prepares the beginning of a transaction on it.
    pub(super) async fn begin(&self, begin: &'static str) -> Result<Tx> {
        let conn = PgConn::new(self.lent().await?, begin, Arc::clone(&self.way));
        Ok(Tx::new(Conn::Pg(Box::new(conn)), Arc::clone(&self.memory)))
    }

    pub(super) async fn lent(&self) -> Result<Lent> {
        self.pool.get().await.map(Lent::new).map_err(|e| no_connection(&e, &self.way.shown, self.way.reach))
    }

    /// Asks a question without arguments and returns the first cell of the answer.
    pub(super) async fn ask(&self, sql: &str) -> Result<Option<String>> {
        let mut lent = self.lent().await?;
        let (client, asked) = lent.parts();
        self.timely(heard(asked, self.way.patience, first(client, &self.way.settings, sql)).await)
    }

    pub(super) fn timely<T>(&self, answer: Answer<T>) -> Result<T> {
        match answer {
            Ok(said) => said.map_err(|e| wrong(&e, &self.way.shown)),
            Err(silent) => Err(unheard(silent, &self.way.shown)),
        }
    }
}

/// Asks a question on a connection. Settings and question are one message, so that both are one transaction even where
/// each may go another way.
pub(super) async fn first(
    client: &Client,
    settings: &str,
    sql: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let answer = client.simple_query(&format!("{settings}{sql}")).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

fn pool(mut dialer: Dialer, options: &str, size: usize) -> Result<Pool> {
    let server = &mut dialer.server;
    if server.pooler.is_none() {
        server.config.options(format!("{options} {} {} {ISOLATION}", pooler::SIGN, server.options));
    }
    if server.config.get_application_name().is_none() {
        server.config.application_name("quorate");
    }
    let timeouts = Timeouts { wait: Some(POOL_WAIT), create: Some(server.connect_wait()), recycle: None };
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(server.config.clone(), dialer, how);
    Pool::builder(manager)
        .max_size(size.max(1))
        .timeouts(timeouts)
        // The one used last: its server process has what it needs at hand.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::failed(format!("cannot make a pool of connections: {e}")))
}
