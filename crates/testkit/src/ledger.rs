//! A ledger for one test, on either database, with a clock that the test moves.
//!
//! Here live [`TestLedger`] and [`on_every_backend!`](crate::on_every_backend), which stamps each test of a suite
//! on both databases.

use crate::postgres;
use quorate_model::Result;
use quorate_service::SCHEMA;
use quorate_service::event::{After, Filter, Logged, PAGE_MAX};
use quorate_store::{Clock, Options, Store, Url};
use std::future::Future;
use std::time::Duration;

/// When the simulated clock begins: 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, in a temporary folder.
    Lite,
    /// PostgreSQL, in a schema of its own.
    Pg,
}

/// An empty ledger and its simulated clock.
#[derive(Debug)]
pub struct TestLedger {
    /// The ledger.
    pub store: Store,
    /// Its address, for a second connection.
    pub url: Url,
    clock: SimClock,
}

#[derive(Debug)]
enum SimClock {
    Lite { clock: Clock, _folder: tempfile::TempDir },
    Pg { client: tokio_postgres::Client, _schema: postgres::Schema },
}

impl TestLedger {
    /// Makes an empty ledger.
    ///
    /// # Panics
    /// When it cannot be made: the test fails.
    pub async fn new(backend: Backend) -> TestLedger {
        match backend {
            Backend::Lite => TestLedger::lite().await,
            Backend::Pg => TestLedger::pg(postgres::Schema::create()).await,
        }
    }

    async fn lite() -> TestLedger {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = Url::Lite(folder.path().join("quorate.db"));
        let clock = Clock::sim(START_MS);
        let options = Options { clock: clock.clone(), ..Options::new(&SCHEMA) };
        let store = Store::open(&url, options).await.expect("the ledger opens");
        TestLedger { store, url, clock: SimClock::Lite { clock, _folder: folder } }
    }

    /// Makes an empty ledger whose database can compare vectors; `None` where pgvector is not here.
    ///
    /// # Panics
    /// When it cannot be made: the test fails.
    pub async fn with_vectors(backend: Backend) -> Option<TestLedger> {
        match backend {
            Backend::Lite => Some(TestLedger::lite().await),
            Backend::Pg => Some(TestLedger::pg(postgres::Schema::create_with_vectors()?).await),
        }
    }

    async fn pg(schema: postgres::Schema) -> TestLedger {
        let url = Url::Pg(schema.url().to_owned());
        let store = Store::open(&url, Options::new(&SCHEMA)).await.expect("the ledger opens");
        let client = connect(schema.url()).await;
        let sim = format!(
            "create table sim_clock (ms bigint not null); insert into sim_clock values ({START_MS});
             create or replace function now_ms() returns bigint language sql stable as 'select ms from sim_clock';
             create or replace function server_started_ms() returns bigint language sql stable as 'select 0::bigint'"
        );
        client.batch_execute(&sim).await.expect("the clock is replaced");
        TestLedger { store, url, clock: SimClock::Pg { client, _schema: schema } }
    }

    /// Opens the same ledger once more, as another process would.
    ///
    /// # Panics
    /// When it cannot be opened: the test fails.
    pub async fn again(&self) -> Store {
        let options = match &self.clock {
            SimClock::Lite { clock, .. } => Options { clock: clock.clone(), ..Options::new(&SCHEMA) },
            SimClock::Pg { .. } => Options::new(&SCHEMA),
        };
        Store::open(&self.url, options).await.expect("the ledger opens again")
    }

    /// Returns a connection of its own to a ledger on PostgreSQL, as another program would have.
    ///
    /// # Panics
    /// When the ledger is on SQLite, or cannot be connected to: the test fails.
    pub async fn client(&self) -> tokio_postgres::Client {
        let Url::Pg(url) = &self.url else { panic!("a ledger on PostgreSQL") };
        connect(url).await
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// When the database cannot be told: the test fails.
    pub async fn advance(&self, ms: i64) {
        match &self.clock {
            SimClock::Lite { clock, .. } => clock.advance(ms),
            SimClock::Pg { client, .. } => {
                client.execute("update sim_clock set ms = ms + $1", &[&ms]).await.expect("the clock moves");
            }
        }
    }

    /// Returns all events.
    ///
    /// # Panics
    /// When the log cannot be read: the test fails.
    pub async fn events(&self) -> Vec<Logged> {
        let written = self.last_written().await;
        let (mut events, mut seq) = (Vec::new(), None);
        loop {
            let query = After { seq, filter: Filter::default(), limit: PAGE_MAX };
            let page = self.store.read(query).await.expect("the log is readable");
            let is_full = page.events.len() as i64 == PAGE_MAX;
            seq = Some(page.seen);
            events.extend(page.events);
            if page.seen.0 >= written && !is_full {
                return events;
            }
            // On PostgreSQL the cursor stays below the oldest open transaction of the whole server, and other
            // tests share that server: theirs end soon.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn last_written(&self) -> i64 {
        match &self.clock {
            SimClock::Lite { .. } => -1,
            SimClock::Pg { client, .. } => {
                let row = client.query_one("select coalesce(max(seq), -1) from events", &[]).await;
                row.expect("the log is readable").get(0)
            }
        }
    }

    /// Returns how many events of a kind there are.
    pub async fn count(&self, kind: &str) -> usize {
        self.events().await.iter().filter(|event| event.kind == kind).count()
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let config = url.parse::<tokio_postgres::Config>().expect("a url that the store could read");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

/// Runs one test on one database.
///
/// # Panics
/// When the test does, or returns an error.
pub fn run<F: Future<Output = Result<()>>>(backend: Backend, test: impl FnOnce(TestLedger) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ledger = TestLedger::new(backend).await;
        if let Err(error) = test(ledger).await {
            panic!("{error:?}");
        }
    });
}

/// Runs one test on one database that can compare vectors; says so where pgvector is not here.
///
/// # Panics
/// When the test does, or returns an error.
#[expect(clippy::print_stderr, reason = "what is not run is said")]
pub fn run_with_vectors<F: Future<Output = Result<()>>>(
    backend: Backend,
    test: impl FnOnce(TestLedger) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let Some(ledger) = TestLedger::with_vectors(backend).await else {
            return eprintln!("not run: pgvector is not here (`cargo xtask setup` brings it where it can)");
        };
        if let Err(error) = test(ledger).await {
            panic!("{error:?}");
        }
    });
}

/// Stamps each named `async fn(TestLedger) -> Result<()>` as a test on both databases.
#[macro_export]
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { $crate::ledger::run($crate::ledger::Backend::Lite, super::$test); })*
        }
        mod postgres {
            $(#[test] fn $test() { $crate::ledger::run($crate::ledger::Backend::Pg, super::$test); })*
        }
    };
}

/// Stamps each named test on both databases, with pgvector on PostgreSQL.
#[macro_export]
macro_rules! on_every_backend_with_vectors {
    ($($test:ident),* $(,)?) => {
        mod sqlite_with_vectors {
            $(#[test] fn $test() { $crate::ledger::run_with_vectors($crate::ledger::Backend::Lite, super::$test); })*
        }
        mod postgres_with_vectors {
            $(#[test] fn $test() { $crate::ledger::run_with_vectors($crate::ledger::Backend::Pg, super::$test); })*
        }
    };
}
