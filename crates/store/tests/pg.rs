//! PostgreSQL where a question takes too long, where nobody waits for its answer, and where nobody answers at all.

use quorate_model::Kind;
use quorate_store::{Boxed, Migration, Options, Read, Schema, Store, Tx, Url, Write};
use quorate_testkit::bouncer::Bouncer;
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::postgres;
use quorate_testkit::server::Server;
use std::net::TcpListener;
use std::time::Duration;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// No test may take as long as someone who waits for ever.
const FOR_EVER: Duration = Duration::from_secs(30);

/// What the store itself asks for.
static SCHEMA: Schema = Schema {
    migrations: &[Migration {
        name: "tables",
        lite: "",
        pg: "create table events (seq bigint primary key, at bigint not null);
             create table log_era (era bigint not null);
             insert into log_era values (0);",
    }],
    shift_leases: &[],
};

/// A question that takes longer than anyone waits.
struct Sleep;

/// As the server shows it while it works at it.
const SLEEP: &str = "select 1::bigint as one from pg_sleep(307)";

impl Read for Sleep {
    type Answer = Vec<i64>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<i64>> {
        Box::pin(async move { tx.all(SLEEP, &[], |row| row.int("one")).await })
    }
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_ends_in_the_server() -> Tested {
    let ledger = TestLedger::new(Backend::Pg).await;
    let server = ledger.client().await;
    let at_work = async |expected: i64| {
        let sql = "select count(*) from pg_stat_activity where state = 'active' and query like $1 || '%'";
        loop {
            let row = server.query_one(sql, &[&SLEEP]).await?;
            if row.get::<_, i64>(0) == expected {
                return Ok::<(), tokio_postgres::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let store = ledger.store.clone();
    let asked = tokio::spawn(async move { store.read(Sleep).await });
    tokio::time::timeout(FOR_EVER, at_work(1)).await??;
    asked.abort();
    tokio::time::timeout(FOR_EVER, at_work(0)).await??;
    Ok(())
}

/// Tells how long a statement may take.
struct Limit;

const LIMIT: &str = "select current_setting('statement_timeout') as text";

impl Read for Limit {
    type Answer = Vec<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<String>> {
        Box::pin(async move { tx.all(LIMIT, &[], |row| row.text("text")).await })
    }
}

impl Write for Limit {
    type Answer = Vec<String>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<String>> {
        self.fetch(tx)
    }
}

async fn open(url: &str) -> quorate_model::Result<Store> {
    let options = Options { answer: Duration::from_secs(10), ..Options::new(&SCHEMA) };
    Store::open(&Url::Pg(url.to_owned()), options).await
}

#[tokio::test]
async fn the_server_ends_a_question_before_its_reader_gives_up_and_no_write() -> Tested {
    let schema = postgres::Schema::create();
    let store = open(schema.url()).await?;
    assert_eq!((store.read(Limit).await?, store.write(Limit).await?), (vec!["18s".into()], vec!["0".into()]));
    Ok(())
}

#[tokio::test]
async fn a_question_has_its_limit_through_a_pooler_too() -> Tested {
    let Some(program) = Bouncer::find() else {
        eprintln!("not tested: PgBouncer is not here (`cargo xtask setup` installs it where it can)");
        return Ok(());
    };
    let server = Server::start()?;
    let bouncer = Bouncer::start(&program, &server, &["postgres"], "pool_mode = transaction")?;
    let store = open(&format!("{}&pooler=transaction", bouncer.url_for("postgres", "postgres"))).await?;
    assert_eq!((store.read(Limit).await?, store.write(Limit).await?), (vec!["18s".into()], vec!["0".into()]));
    Ok(())
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_refused_with_what_to_do() -> Tested {
    let schema = postgres::Schema::create();
    open(schema.url()).await?;
    let store = open(&format!("{}%20-cstatement_timeout%3D2s", schema.url())).await?;
    let error = tokio::time::timeout(FOR_EVER, store.read(Sleep)).await?.expect_err("it takes too long");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("ask for less at a time")), "{error:?}");
    store.read(Limit).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_a_connection_and_says_nothing_cannot_be_reached() -> Tested {
    // The kernel takes connections for it, and nobody answers.
    let deaf = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("postgres://me:secret@{}/x?connect_timeout=1", deaf.local_addr()?);
    let error = tokio::time::timeout(FOR_EVER, open(&url)).await?.expect_err("nobody answers");
    assert_eq!(error.kind, Kind::Unavailable);
    let words = "cannot reach the ledger postgres://me:***@127.0.0.1:";
    assert!(error.message.starts_with(words) && error.message.ends_with("no answer within 1s"), "{error}");
    assert!(error.hint.is_some_and(|hint| hint.contains("at that host and port")));
    Ok(())
}
