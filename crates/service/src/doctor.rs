//! What a doctor asks the ledger about itself.
//!
//! Here live the questions to the database's own catalogues: size, who holds an old snapshot, the server and our rights
//! there. What follows from
//! the answers, and what is asked of the operating system, lives at the door.

use quorate_model::Result;
use quorate_store::{Boxed, Dialect, Read, Row, Tx, args};

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
    /// The server and our rights there (PostgreSQL).
    pub server: Option<Server>,
    /// Models that were used and for which no price is known.
    pub unpriced: Vec<String>,
    /// Whether vectors can be compared (PostgreSQL).
    pub pgvector: Pgvector,
}

/// The extension that compares vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pgvector {
    /// The server does not have it.
    #[default]
    Missing,
    /// The server has it, this database does not.
    Available,
    /// It is there.
    Installed,
}

/// A server and what we may do there.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its version, as in 150018.
    pub version: i64,
    /// Whether what it has confirmed survives a crash of its machine.
    pub is_durable: bool,
    /// Connections now, of everyone.
    pub connections: i64,
    /// Connections of ordinary roles at most.
    pub connections_max: i64,
    /// Who we are there.
    pub role: String,
    /// Whether we may add work …
    pub adds: bool,
    /// … take and report it …
    pub takes: bool,
    /// … remove old history …
    pub prunes: bool,
    /// … and see what others' connections do.
    pub sees_others: bool,
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

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vitals> {
        Box::pin(async move {
            let events =
                tx.one("select count(*) as n from events", &[], |row| row.int("n")).await?.unwrap_or(0);
            let unpriced = crate::usage::unpriced(tx).await?;
            match tx.dialect() {
                Dialect::Lite => {
                    let pages =
                        tx.one("pragma page_count", &[], |row| row.int("page_count")).await?.unwrap_or(0);
                    let size =
                        tx.one("pragma page_size", &[], |row| row.int("page_size")).await?.unwrap_or(0);
                    Ok(Vitals { size_bytes: pages * size, events, unpriced, ..Vitals::default() })
                }
                Dialect::Pg => Ok(Vitals { events, unpriced, ..postgres(tx).await? }),
            }
        })
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
    let server = tx.one(SERVER, &[], server_from_row).await?;
    Ok(Vitals {
        size_bytes,
        oldest,
        is_asynchronous: standbys > 0,
        is_forgetful: forgets > 0,
        events: 0,
        server,
        unpriced: Vec::new(),
        pgvector: tx.one(PGVECTOR, &[], pgvector_from_row).await?.unwrap_or_default(),
    })
}

const PGVECTOR: &str = "select (select count(*) from pg_extension where extname = 'vector') as installed,
        (select count(*) from pg_available_extensions where name = 'vector') as available";

fn pgvector_from_row(row: &Row<'_>) -> Result<Pgvector> {
    Ok(match (row.flag("installed")?, row.flag("available")?) {
        (true, _) => Pgvector::Installed,
        (false, true) => Pgvector::Available,
        (false, false) => Pgvector::Missing,
    })
}

const SERVER: &str = "select current_setting('server_version_num')::bigint as version,
        case when current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' then 1 else 0 end
             as is_durable,
        (select count(*) from pg_stat_activity where datname is not null) as connections,
        current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
             as connections_max,
        current_user::text as role,
        case when has_table_privilege('tasks', 'insert') then 1 else 0 end as adds,
        case when has_any_column_privilege('tasks', 'update') then 1 else 0 end as takes,
        case when has_table_privilege('events', 'delete') then 1 else 0 end as prunes,
        case when pg_has_role('pg_read_all_stats', 'usage') then 1 else 0 end as sees_others";

fn server_from_row(row: &Row<'_>) -> Result<Server> {
    Ok(Server {
        version: row.int("version")?,
        is_durable: row.flag("is_durable")?,
        connections: row.int("connections")?,
        connections_max: row.int("connections_max")?,
        role: row.text("role")?,
        adds: row.flag("adds")?,
        takes: row.flag("takes")?,
        prunes: row.flag("prunes")?,
        sees_others: row.flag("sees_others")?,
    })
}

/// Standbys that confirm nothing. A role that may not see more sees that there is one; a copy in the making is none.
const LAGGARDS: &str = "select count(*) as n from pg_stat_replication
     where coalesce(state, 'streaming') = 'streaming'
       and (sync_state = 'async' or (sync_state is null and current_setting('synchronous_standby_names') = ''))";
/// What the server's own settings say does not count: a write asks for the commit that it needs, unless the address
/// says otherwise.
const FORGETS: &str = "select count(*) as n from pg_settings
     where name = 'synchronous_commit' and source = 'client' and setting in ('off', 'local')";
