//! What the server, or the way to it, says is wrong: in our words, with what mends it.

use super::TRIES_MAX;
use super::door::POOL_WAIT;
use crate::line::Silent;
use crate::{pooler, tls};
use deadpool_postgres::{PoolError, TimeoutType};
use quorate_model::Error;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Nobody knows whether what was asked for is done.
pub(super) fn unheard(silent: Silent, shown: &str) -> Error {
    Error::unavailable(format!("the ledger {shown} did not answer within {:?}", silent.0))
        .hint("the connection was given up, and a new one will be made; `quorate doctor` looks")
}

/// Says why there is no connection; a new one was waited for as long as `reach`.
pub(super) fn no_connection(e: &PoolError, shown: &str, reach: Duration) -> Error {
    match e {
        PoolError::Backend(e) => wrong(e, shown),
        PoolError::Timeout(TimeoutType::Create) => {
            Error::unavailable(format!("cannot reach the ledger {shown}: no answer within {reach:?}"))
                .hint("is a PostgreSQL server at that host and port, and does it let new connections in? `quorate doctor` looks")
        }
        PoolError::Timeout(TimeoutType::Wait | TimeoutType::Recycle) => {
            Error::unavailable(format!("no free connection to {shown} within {POOL_WAIT:?}"))
                .hint("`quorate doctor` shows what holds the database")
        }
        e => Error::unavailable(format!("cannot reach {shown}: {e}")),
    }
}

pub(super) fn text(e: &tokio_postgres::Error) -> String {
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

/// A prepared statement that is not there, or is already.
const NAMES_LOST: [SqlState; 2] = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];

pub(super) fn wrong(e: &tokio_postgres::Error, shown: &str) -> Error {
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
        // A pooler's words: it takes no settings, or hands over statements by the names of another.
        "08" if message.contains("startup parameter") => Error::unavailable(message).hint(pooler::MENTION_IT),
        "26" | "42" if NAMES_LOST.contains(code) => Error::unavailable(message).hint(pooler::MENTION_IT),
        "40" => Error::unavailable(format!("{message}, {TRIES_MAX} times"))
            .hint("others change the same at the same moment: try again; `quorate doctor` shows who"),
        "57" if code == &SqlState::QUERY_CANCELED => Error::unavailable(message).hint(
            "ask for less at a time (statement_timeout is the limit); `quorate doctor` shows what keeps the database busy",
        ),
        "08" | "57" | "53" => {
            Error::unavailable(message).hint("the server will be asked again; `quorate doctor` looks")
        }
        "28" => Error::unavailable(message).hint("check the user and password in the store's url"),
        "3D" => Error::unavailable(message)
            .hint("make the database with `createdb`, or name another in the store's url"),
        "25" => {
            Error::unavailable(message).hint("this server is read-only: name the primary in the store's url")
        }
        "42" if code == &SqlState::INSUFFICIENT_PRIVILEGE => Error::unavailable(message)
            .hint("the owner of the tables gives a role its rights: `quorate sql roles`"),
        _ => Error::failed(message),
    }
}
