//! The ledger's door: operations go in as values, answers come out after the commit.
//!
//! Here live opening, writing, reading and backing up. The two databases live in `lite` and `pg`.

use crate::asked::{Answer, Asked, Operation, Question, answer};
use crate::changes::Changes;
use crate::clock::Clock;
use crate::lane::Together;
use crate::lite::Lite;
use crate::migrate::Schema;
use crate::pg::Pg;
use crate::tx::Tx;
use crate::url::Url;
use quorate_model::{Error, Result};
use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Work in a transaction that ends with a `T` or an error.
///
/// Boxed, so that an operation is compiled once, where it is defined: a plain future is compiled anew in every crate
/// that waits for it.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// An operation that changes the ledger. It may be applied again after a conflict, so it has no effect
/// but through `tx`. An error means that nothing is changed (and only the error's own event is logged).
pub trait Write: Sized + Send + Sync + 'static {
    /// What the caller gets after the commit.
    type Answer: Send + 'static;
    /// Applies the operation within a transaction.
    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Self::Answer>;

    /// Returns how those that wait for each other on PostgreSQL are applied together, if they are ([`Merge`](crate::Merge)).
    fn together() -> Option<Together> {
        None
    }
}

/// A question to the ledger, answered from one consistent state.
pub trait Read: Send + Sync + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;
    /// Fetches the answer within a read-only transaction.
    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Self::Answer>;
}

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema to migrate to.
    pub schema: &'static Schema,
    /// The clock of an embedded ledger.
    pub clock: Clock,
    /// Connections to PostgreSQL at most, for writing; half as many again for reading.
    pub connections: usize,
    /// Whether a missing embedded ledger is made; else its absence is [`Kind::NotFound`](quorate_model::Kind).
    pub create: bool,
    /// How long an embedded ledger that another program has locked is waited for.
    pub busy: Duration,
    /// How long an answer of PostgreSQL to a write is waited for before its connection counts as lost.
    pub answer: Duration,
}

/// How long an answer of PostgreSQL is waited for, unless said otherwise: nobody there waits long for a lock.
const ANSWER: Duration = Duration::from_secs(30);
/// How long an embedded ledger that another program has locked is waited for, unless said otherwise.
const BUSY: Duration = Duration::from_secs(10);

impl Options {
    /// Returns the options of a command: the host's clock, 8 connections, making what is missing.
    pub fn new(schema: &'static Schema) -> Options {
        Options { schema, clock: Clock::System, connections: 8, create: true, busy: BUSY, answer: ANSWER }
    }
}

/// An open ledger. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<Backend>,
}

#[derive(Debug)]
enum Backend {
    Lite(Lite),
    Pg(Box<Pg>),
}

impl Store {
    /// Opens the ledger at `url` and brings its schema up to date.
    pub async fn open(url: &Url, options: Options) -> Result<Store> {
        let backend = match url {
            Url::Lite(path) => Backend::Lite(Lite::open(path.clone(), options).await?),
            Url::Pg(text) => Backend::Pg(Box::new(Pg::open(text, url.shown(), options).await?)),
        };
        Ok(Store { backend: Arc::new(backend) })
    }

    /// Applies `work` and returns its answer after the commit.
    pub async fn write<W: Write>(&self, work: W) -> Result<W::Answer> {
        self.apply(Box::new(Operation(work)), W::together()).await.map(answer)
    }

    fn apply(&self, work: Box<dyn Asked>, together: Option<Together>) -> Boxed<'_, Answer> {
        match &*self.backend {
            Backend::Lite(lite) => Box::pin(lite.write(work)),
            Backend::Pg(pg) => Box::pin(pg.write(work, together)),
        }
    }

    /// Answers a question.
    pub async fn read<R: Read>(&self, query: R) -> Result<R::Answer> {
        self.fetch(Box::new(Question(query))).await.map(answer)
    }

    fn fetch(&self, query: Box<dyn Asked>) -> Boxed<'_, Answer> {
        match &*self.backend {
            Backend::Lite(lite) => Box::pin(lite.read(query)),
            Backend::Pg(pg) => Box::pin(pg.read(query)),
        }
    }

    /// Subscribes to hints of changes, those of other processes included.
    ///
    /// A hint may be lost or false: look again by yourself after a while.
    pub fn changes(&self) -> Changes {
        match &*self.backend {
            Backend::Lite(lite) => lite.changes(),
            Backend::Pg(pg) => pg.changes(),
        }
    }

    /// Writes a consistent copy of an embedded ledger to a new file while everything runs.
    pub async fn backup(&self, file: &Path) -> Result<()> {
        match &*self.backend {
            Backend::Lite(lite) => lite.backup(file.to_owned()).await,
            Backend::Pg(_) => Err(by_pg_dump()),
        }
    }

    /// Returns such a copy as an open file that has no name: it is gone once it is closed.
    pub async fn copy(&self) -> Result<File> {
        match &*self.backend {
            Backend::Lite(lite) => lite.copy().await,
            Backend::Pg(_) => Err(by_pg_dump()),
        }
    }

    /// Sends what is left to be told to others. Call it before the process ends.
    pub async fn close(&self) {
        if let Backend::Pg(pg) = &*self.backend {
            pg.close().await;
        }
    }
}

fn by_pg_dump() -> Error {
    Error::invalid("a ledger on PostgreSQL is copied by pg_dump, not by this program itself")
        .hint("`quorate backup FILE` calls it, where PostgreSQL's client programs are installed")
}
