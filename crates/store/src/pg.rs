//! The shared ledger: PostgreSQL through a small pool, statements sent ahead of their answers.
//!
//! Here live the ledger as its users see it and the writing of operations: conflicts that the server names (deadlock,
//! serialization) are tried again here and nowhere else. What is sent on a connection lives in `conn`, the pools in
//! `door`, what happens when a ledger is opened in `schema`, the telling of others in `hint`: beside the transactions,
//! never inside one, and merged under load.

mod conn;
mod door;
mod hint;
mod schema;
mod wrong;

pub(crate) use self::conn::PgConn;

use self::conn::{commit, conn, rollback};
use self::door::{Door, Purpose};
use self::hint::Teller;
use crate::asked::{Answer, Asked};
use crate::changes::{Bell, Changes};
use crate::lane::{ApplyAll, Lanes, Merged, Together};
use crate::pooler::Pooler;
use crate::store::Options;
use crate::tls::Server;
use crate::tx::Tx;
use quorate_model::{Error, Result};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Who has waited for another must see what that one did, whatever the database's own default is.
const BEGIN: &str = "begin isolation level read committed";
/// The same for what a crash may forget: renewals, for which there is no time to wait for what somebody keeps locked.
const BEGIN_RELAXED: &str = "begin isolation level read committed; set local synchronous_commit = off; set local lock_timeout = '250ms'";
/// A question sees one moment of the ledger.
const BEGIN_TO_READ: &str = "begin isolation level repeatable read read only";
/// How often a transaction that met a conflict is applied again.
const TRIES_MAX: u32 = 8;
/// A read may take so many times as long as a write: it may fetch a whole history.
const READS_LONGER: u32 = 2;
#[derive(Debug)]
pub(crate) struct Pg {
    writer: Arc<Writer>,
    lanes: Lanes,
    reading: Door,
    server: Server,
    channel: Arc<str>,
    listening: OnceLock<()>,
}

/// What a writing transaction needs.
#[derive(Debug)]
pub(crate) struct Writer {
    door: Door,
    bell: Bell,
    teller: Arc<Teller>,
}

/// What came of one try.
pub(crate) enum Tried {
    Ended(Result<Answer>),
    /// Rolled back, because another transaction stood in its way.
    Conflict,
}

impl Pg {
    pub(crate) async fn open(text: &str, shown: String, options: Options) -> Result<Pg> {
        let (shown, patience): (Arc<str>, _) = (shown.into(), options.answer);
        let server = Server::parse(text, &shown)?.bound();
        let door = Door::new(&server, Purpose::Write, options.connections, &shown, patience)?;
        let readers = options.connections.div_ceil(2);
        let reading = Door::new(&server, Purpose::Read, readers, &shown, patience * READS_LONGER)?;
        let channel: Arc<str> = schema::prepare(&door, &server, options.schema).await?.into();
        let teller = Teller::begin(reading.clone(), Arc::clone(&channel));
        let writer = Arc::new(Writer { door, bell: Bell::new(), teller });
        let (lanes, listening) = (Lanes::default(), OnceLock::new());
        Ok(Pg { writer, lanes, reading, server, channel, listening })
    }

    pub(crate) async fn write(&self, work: Box<dyn Asked>, together: Option<Together>) -> Result<Answer> {
        match together {
            Some(together) => self.lanes.of(together).write(&self.writer, work).await,
            None => self.writer.write(&*work).await,
        }
    }

    pub(crate) async fn read(&self, query: Box<dyn Asked>) -> Result<Answer> {
        let mut tx = self.reading.begin(BEGIN_TO_READ).await?;
        let answer = query.run(&mut tx).await;
        rollback(tx).await;
        answer
    }

    pub(crate) fn changes(&self) -> Changes {
        self.listening.get_or_init(|| {
            let bell = self.writer.bell.clone();
            let (server, channel) = (self.server.clone(), Arc::clone(&self.channel));
            match self.server.pooler {
                Some(Pooler::Transaction) => drop(tokio::spawn(hint::poll(self.reading.clone(), bell))),
                _ => drop(tokio::spawn(hint::listen(server, channel, bell, self.writer.door.way.patience))),
            }
        });
        self.writer.bell.changes()
    }

    pub(crate) async fn close(&self) {
        self.writer.teller.tell_now().await;
    }
}

impl Writer {
    /// Applies an operation in a transaction of its own, again where the server names a conflict.
    pub(crate) async fn write(&self, work: &dyn Asked) -> Result<Answer> {
        match self.try_once(work, 1).await {
            Tried::Ended(answer) => answer,
            Tried::Conflict => self.write_again(work).await,
        }
    }

    /// Goes on with an operation that met a conflict when it was tried first.
    pub(crate) async fn write_again(&self, work: &dyn Asked) -> Result<Answer> {
        let mut tries = 1;
        loop {
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
            if let Tried::Ended(answer) = self.try_once(work, tries).await {
                return answer;
            }
        }
    }

    /// Applies an operation in a transaction of its own, for the `tries`th time; the last one ends in any case.
    pub(crate) async fn try_once(&self, work: &dyn Asked, tries: u32) -> Tried {
        let mut tx = match self.begin().await {
            Ok(tx) => tx,
            Err(error) => return Tried::Ended(Err(error)),
        };
        tx.is_again = tries > 1;
        let applied = work.run(&mut tx).await;
        match self.finish(&mut tx, applied).await {
            Ok(answer) => Tried::Ended(Ok(answer)),
            Err(error) => {
                let again = conn(&mut tx).conflict && tries < TRIES_MAX;
                rollback(tx).await;
                if again { Tried::Conflict } else { Tried::Ended(Err(self.log_refusal(error).await)) }
            }
        }
    }

    /// Applies several operations in one transaction.
    pub(crate) async fn write_all(&self, works: &[Box<dyn Asked>], apply_all: ApplyAll) -> Merged {
        let Ok(mut tx) = self.begin().await else { return Merged::RolledBack };
        let applied = apply_all(works, &mut tx).await;
        match self.finish(&mut tx, applied).await {
            Ok(answers) => Merged::Done(answers),
            Err(error) => {
                let is_unknown = conn(&mut tx).is_unknown();
                rollback(tx).await;
                if is_unknown { Merged::Unknown(error) } else { Merged::RolledBack }
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
        self.door.begin(BEGIN).await
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
        self.teller.note();
    }
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
