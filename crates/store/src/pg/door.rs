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
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use quorate_model::{Error, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// How long a caller waits for a free connection.
pub(super) const POOL_WAIT: Duration = Duration::from_secs(15);

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
        options: &str,
        size: usize,
        shown: &Arc<str>,
        patience: Duration,
    ) -> Result<Door> {
        let settings = match server.pooler {
            None => String::new(),
            Some(_) => pooler::set_local(&format!("{options} {}", server.options))?,
        };
        let named = server.pooler != Some(Pooler::Transaction);
        let way = Way { shown: Arc::clone(shown), settings, named, patience };
        Ok(Door { pool: pool(server, options, size)?, way: Arc::new(way), memory: Arc::default() })
    }

    /// Borrows a connection and prepares the beginning of a transaction on it.
    pub(super) async fn begin(&self, begin: &'static str) -> Result<Tx> {
        let conn = PgConn::new(self.lent().await?, begin, Arc::clone(&self.way));
        Ok(Tx::new(Conn::Pg(Box::new(conn)), Arc::clone(&self.memory)))
    }

    pub(super) async fn lent(&self) -> Result<Lent> {
        self.pool.get().await.map(Lent::new).map_err(|e| no_connection(&e, &self.way.shown))
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

fn pool(server: &Server, options: &str, size: usize) -> Result<Pool> {
    let mut server = server.clone();
    if server.pooler.is_none() {
        server.config.options(format!("{options} {} {}", pooler::SIGN, server.options).trim());
    }
    if server.config.get_application_name().is_none() {
        server.config.application_name("quorate");
    }
    let timeouts = Timeouts { wait: Some(POOL_WAIT), create: Some(server.connect_wait()), recycle: None };
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_connect(server.config.clone(), Dialer(server), how);
    Pool::builder(manager)
        .max_size(size.max(1))
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::failed(format!("cannot make a pool of connections: {e}")))
}
