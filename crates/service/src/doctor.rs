//! What a doctor asks the ledger about itself.
//!
//! Here live the questions to the database's own catalogues: size, and who holds an old snapshot. What follows from
//! the answers, and what is asked of the operating system, lives at the door.

use quorate_model::Result;
use quorate_store::{Dialect, Read, Tx, args};

/// What the database says of itself.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// Bytes of tables and indexes.
    pub size_bytes: i64,
    /// Events kept.
    pub events: i64,
    /// The oldest transaction of another that is still open (PostgreSQL): dead rows pile up behind it.
    pub oldest: Option<OpenTransaction>,
    /// Whether a standby follows that confirms nothing (PostgreSQL).
    pub is_asynchronous: bool,
    /// Whether the address asks for commits that a crash of the server may forget (PostgreSQL).
    pub is_forgetful: bool,
}

/// A transaction that another program holds open.
#[derive(Debug, Clone)]
pub struct OpenTransaction {
    /// The server's process for it.
    pub pid: i64,
    /// How it calls itself.
    pub program: String,
    /// For how long, in seconds.
    pub seconds: i64,
}

/// Asks the database about itself.
#[derive(Debug, Clone)]
pub struct Ask;

impl Read for Ask {
    type Answer = Vitals;

    async fn fetch(&self, tx: &mut Tx) -> Result<Vitals> {
        let events = tx.one("select count(*) as n from events", &[], |row| row.int("n")).await?.unwrap_or(0);
        match tx.dialect() {
            Dialect::Lite => {
                let pages = tx.one("pragma page_count", &[], |row| row.int("page_count")).await?.unwrap_or(0);
                let size = tx.one("pragma page_size", &[], |row| row.int("page_size")).await?.unwrap_or(0);
                Ok(Vitals { size_bytes: pages * size, events, ..Vitals::default() })
            }
            Dialect::Pg => Ok(Vitals { events, ..postgres(tx).await? }),
        }
    }
}

async fn postgres(tx: &mut Tx) -> Result<Vitals> {
    let sql = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint as bytes from pg_class c
                where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'";
    let size_bytes = tx.one(sql, &[], |row| row.int("bytes")).await?.unwrap_or(0);
    let sql = "select pid::bigint as pid, coalesce(application_name, '') as program,
                      extract(epoch from clock_timestamp() - xact_start)::bigint as seconds
                 from pg_stat_activity
                where (backend_xmin is not null or backend_xid is not null) and pid <> pg_backend_pid()
                  and datname = current_database() and xact_start is not null order by xact_start limit 1";
    let oldest = tx
        .one(sql, args![], |row| {
            Ok(OpenTransaction {
                pid: row.int("pid")?,
                program: row.text("program")?,
                seconds: row.int("seconds")?,
            })
        })
        .await?;
    let standbys = tx.one(LAGGARDS, &[], |row| row.int("n")).await?.unwrap_or(0);
    let forgets = tx.one(FORGETS, &[], |row| row.int("n")).await?.unwrap_or(0);
    Ok(Vitals { size_bytes, oldest, is_asynchronous: standbys > 0, is_forgetful: forgets > 0, events: 0 })
}

/// Standbys that confirm nothing. A role that may not see more sees that there is one; a copy in the making is none.
const LAGGARDS: &str = "select count(*) as n from pg_stat_replication
     where coalesce(state, 'streaming') = 'streaming'
       and (sync_state = 'async' or (sync_state is null and current_setting('synchronous_standby_names') = ''))";
/// What the server's own settings say does not count: a write asks for the commit that it needs, unless the address
/// says otherwise.
const FORGETS: &str = "select count(*) as n from pg_settings
     where name = 'synchronous_commit' and source = 'client' and setting in ('off', 'local')";
