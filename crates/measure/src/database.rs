//! The two databases, each with a ledger of ours and a raw one of the same tables.
//!
//! Here live the preparing of rows and the runs of one measurement. Every run begins with fresh rows.

use crate::load::{self, Timing};
use crate::operation::{Operation, Rows};
use crate::ours::Ours;
use crate::raw_lite::{RawCaller, RawLite};
use crate::samples::Samples;
use crate::{raw_pg, seed};
use quorate_model::{Error, Result};
use quorate_service::SCHEMA;
use quorate_store::{Options, Store, Url};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_postgres::Client;

/// A database.
pub enum Database {
    /// SQLite: a new file for every run.
    Lite {
        /// Where the files lie.
        folder: PathBuf,
    },
    /// PostgreSQL: two schemas, emptied before every run.
    Pg(Box<Pg>),
}

/// A server with our schema twice.
pub struct Pg {
    ours: Store,
    raw_url: String,
    ours_client: Client,
    raw_client: Client,
    ours_url: Url,
}

/// A filled ledger.
pub struct Filled {
    /// The ledger.
    pub store: Store,
    /// Its address, for other processes.
    pub url: Url,
    _folder: Option<TempDir>,
}

/// How long a file may take to be closed.
const CLOSING: Duration = Duration::from_secs(10);

impl Filled {
    /// Waits until a file is closed: the whole log is moved into it then, which would slow down what is measured next.
    pub async fn end(self) {
        let Filled { store, url, _folder } = self;
        drop(store);
        let Url::Lite(path) = url else { return };
        let (log, begun) = (path.with_extension("db-wal"), Instant::now());
        while log.exists() && begun.elapsed() < CLOSING {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Database {
    /// Prepares both schemas on a server.
    pub async fn postgres(server: &str) -> Result<Database> {
        let (ours_url, raw_url) = (with_schema(server, "bench_ours"), with_schema(server, "bench_raw"));
        let client = seed::connect(server).await?;
        for name in ["bench_ours", "bench_raw"] {
            let fresh = format!("drop schema if exists {name} cascade; create schema {name}");
            client.batch_execute(&fresh).await.map_err(|e| seed::pg_failed(&e))?;
        }
        Store::open(&Url::Pg(raw_url.clone()), Options::new(&SCHEMA)).await?.close().await;
        Ok(Database::Pg(Box::new(Pg {
            ours: Store::open(&Url::Pg(ours_url.clone()), Options::new(&SCHEMA)).await?,
            ours_client: seed::connect(&ours_url).await?,
            raw_client: seed::connect(&raw_url).await?,
            ours_url: Url::Pg(ours_url),
            raw_url,
        })))
    }

    /// Returns its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Database::Lite { .. } => "sqlite",
            Database::Pg(_) => "postgres",
        }
    }

    /// Returns more calls than so many callers can make in a second.
    fn calls_per_second(&self, callers: i64) -> i64 {
        match (self, callers) {
            (Database::Lite { .. }, 1) => 15_000,
            (Database::Lite { .. }, _) => 50_000,
            (Database::Pg(_), 1) => 8_000,
            (Database::Pg(_), 2..=16) => 20_000,
            (Database::Pg(_), _) => 35_000,
        }
    }

    /// Makes a ledger with some rows.
    pub async fn fill(&self, rows: Rows) -> Result<Filled> {
        match self {
            Database::Lite { folder } => {
                let (folder, path) = new_file(folder)?;
                let url = Url::Lite(path.clone());
                let store = Store::open(&url, Options::new(&SCHEMA)).await?;
                seed::fill_lite(&seed::open(&path)?, rows)?;
                Ok(Filled { store, url, _folder: Some(folder) })
            }
            Database::Pg(pg) => {
                seed::fill_pg(&pg.ours_client, rows).await?;
                Ok(Filled { store: pg.ours.clone(), url: pg.ours_url.clone(), _folder: None })
            }
        }
    }

    /// Adds 1,000 tasks as often as asked, with two statements each time; answers with how long that took.
    pub async fn raw_bulk(&self, calls: u32) -> Result<Duration> {
        match self {
            Database::Lite { folder } => {
                let (_folder, path) = new_file(folder)?;
                let store = Store::open(&Url::Lite(path.clone()), Options::new(&SCHEMA)).await?;
                let conn = seed::open(&path)?;
                drop(store);
                let begun = Instant::now();
                (0..calls).try_for_each(|_| seed::bulk_lite(&conn))?;
                Ok(begun.elapsed())
            }
            Database::Pg(pg) => {
                seed::fill_pg(&pg.raw_client, Rows::Team).await?;
                let begun = Instant::now();
                for _ in 0..calls {
                    pg.raw_client.batch_execute(seed::BULK_PG).await.map_err(|e| seed::pg_failed(&e))?;
                }
                Ok(begun.elapsed())
            }
        }
    }

    /// Lets every lease of a filled ledger lapse.
    pub async fn lapse(&self, filled: &Filled) -> Result<()> {
        match (self, &filled.url) {
            (Database::Pg(pg), _) => {
                pg.ours_client.batch_execute(seed::LAPSE).await.map_err(|e| seed::pg_failed(&e))
            }
            (Database::Lite { .. }, Url::Lite(path)) => seed::lapse_lite(path),
            (Database::Lite { .. }, Url::Pg(_)) => unreachable!("filled by this module"),
        }
    }

    /// Measures an operation through the ledger.
    pub async fn ours(&self, operation: Operation, callers: i64, timing: Timing) -> Result<Samples> {
        let prepared = self.calls_per_second(callers) * seconds(timing);
        let filled = self.fill(operation.rows(prepared, callers)).await?;
        let share = share(operation, callers, prepared);
        let samples = load::run(Ours::callers(&filled.store, operation, callers, share), timing).await?;
        filled.end().await;
        Ok(samples)
    }

    /// Measures an operation in a ledger that is filled already and has enough to do.
    pub async fn ours_in(
        &self,
        filled: &Filled,
        operation: Operation,
        callers: i64,
        timing: Timing,
    ) -> Result<Samples> {
        load::run(Ours::callers(&filled.store, operation, callers, 0), timing).await
    }

    /// Returns how many tasks of a filled ledger are in a state.
    pub async fn left(&self, filled: &Filled, state: &str) -> Result<i64> {
        match (self, &filled.url) {
            (Database::Pg(pg), _) => seed::left_pg(&pg.ours_client, state).await,
            (Database::Lite { .. }, Url::Lite(path)) => seed::left_lite(path, state),
            (Database::Lite { .. }, Url::Pg(_)) => unreachable!("filled by this module"),
        }
    }

    /// Measures the same rows through the database alone.
    pub async fn raw(&self, operation: Operation, callers: i64, timing: Timing) -> Result<Samples> {
        let prepared = self.calls_per_second(callers) * seconds(timing);
        let rows = operation.rows(prepared, callers);
        match self {
            Database::Lite { folder } => {
                let (_folder, path) = new_file(folder)?;
                let store = Store::open(&Url::Lite(path.clone()), Options::new(&SCHEMA)).await?;
                seed::fill_lite(&seed::open(&path)?, rows)?;
                let door = RawLite::open(&path)?;
                drop(store);
                let prepared = share(operation, callers, prepared);
                load::run(RawCaller::callers(&door, operation, callers, prepared), timing).await
            }
            Database::Pg(pg) => pg.raw(operation, callers, rows, prepared, timing).await,
        }
    }
}

impl Pg {
    async fn raw(
        &self,
        operation: Operation,
        callers: i64,
        rows: Rows,
        prepared: i64,
        timing: Timing,
    ) -> Result<Samples> {
        seed::fill_pg(&self.raw_client, rows).await?;
        let url = self.raw_url.clone();
        let run = move || raw_pg::run(&url, operation, callers, prepared, timing);
        let samples =
            tokio::task::spawn_blocking(run).await.map_err(|e| Error::failed(format!("pgbench: {e}")))??;
        // pgbench does not notice that there is nothing left to do, and that is fast.
        let state = match operation {
            Operation::Claim | Operation::Cycle => "ready",
            Operation::Complete => "running",
            Operation::Progress | Operation::Heartbeat | Operation::Enqueue => return Ok(samples),
        };
        match seed::left_pg(&self.raw_client, state).await? {
            left if left * 20 > prepared => Ok(samples),
            left => Err(Error::failed(format!(
                "pgbench used up its tasks ({left} of {prepared} left): raise calls_per_second"
            ))),
        }
    }
}

/// Returns the prepared tasks that the callers share.
fn share(operation: Operation, callers: i64, prepared: i64) -> i64 {
    match operation.rows(prepared, callers) {
        Rows::Ready(count) | Rows::Held(count) => count,
        Rows::Team | Rows::Crowd | Rows::LargeCrowd(_) | Rows::History { .. } => 0,
    }
}

fn seconds(timing: Timing) -> i64 {
    timing.whole().as_secs_f64().ceil() as i64
}

fn new_file(folder: &Path) -> Result<(TempDir, PathBuf)> {
    let made = tempfile::tempdir_in(folder)
        .map_err(|e| Error::failed(format!("cannot make a folder in {}: {e}", folder.display())))?;
    let path = made.path().join("quorate.db");
    Ok((made, path))
}

fn with_schema(server: &str, name: &str) -> String {
    let join = if server.contains('?') { '&' } else { '?' };
    format!("{server}{join}options=-csearch_path%3D{name}")
}
