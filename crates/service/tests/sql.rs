//! What people and programs that speak only SQL may rely on: the documented queries run, every column is documented,
//! and on PostgreSQL two functions keep terms.

use quorate_model::{Kind, Result};
use quorate_service::SCHEMA;
use quorate_service::agent::{Begin, Tell, Word};
use quorate_service::claim;
use quorate_service::event::{After, Filter};
use quorate_service::task::Kinds;
use quorate_service::task::NewTask;
use quorate_store::{Boxed, Read, Tx, Write};
use quorate_testkit::cluster::Installation;
use quorate_testkit::ledger::{Backend, TestLedger};
use quorate_testkit::verbs::{LEASE_MS, claiming, command, texts, want};
use std::path::Path;

fn schema_document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema.md");
    std::fs::read_to_string(path).expect("docs/schema.md is there")
}

/// Returns the text of each block that is marked as `sql`, for all databases or for this one.
fn blocks<'a>(document: &'a str, database: &str) -> Vec<&'a str> {
    let is_ours = |info: &str| info == "sql" || info == format!("sql {database}");
    let blocks = document.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    blocks.filter(|(info, _)| is_ours(info.trim())).map(|(_, text)| text).collect()
}

/// A ledger with a little of everything in it.
async fn lived_in(backend: Backend) -> TestLedger {
    let ledger = TestLedger::new(backend).await;
    let (_, ids) = ledger
        .start(vec![command("one"), NewTask { needs_new: vec![0], ..claiming("two", &["src"]) }])
        .await
        .expect("starts");
    ledger.store.write(session("alpha")).await.expect("begins");
    let taken = ledger.must_take("alpha").await.expect("takes");
    assert_eq!(taken.task.id, ids[0]);
    ledger.claim("alpha", &["docs"]).await.expect("claims");
    ledger
}

fn session(name: &str) -> Begin {
    Begin {
        name: name.into(),
        driver: "command".into(),
        capabilities: texts(&["docs"]),
        takes: Kinds::Any,
        node: "1".into(),
        host: "here".into(),
        pid: 7,
        lease_ms: LEASE_MS,
        token: None,
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

#[test]
fn every_documented_query_runs_on_sqlite() {
    block_on(async {
        let ledger = lived_in(Backend::Lite).await;
        let quorate_store::Url::Lite(path) = &ledger.url else { panic!("it is SQLite") };
        let conn = rusqlite::Connection::open(path).expect("opens");
        let document = schema_document();
        let queries = blocks(&document, "sqlite");
        assert!(queries.len() > 12);
        for query in queries {
            let mut statement = conn.prepare(query).unwrap_or_else(|e| panic!("{e}\n{query}"));
            let mut rows = statement.query([]).unwrap_or_else(|e| panic!("{e}\n{query}"));
            while rows.next().unwrap_or_else(|e| panic!("{e}\n{query}")).is_some() {}
        }
    });
}

#[test]
fn every_documented_query_runs_on_postgres() {
    block_on(async {
        let ledger = lived_in(Backend::Pg).await;
        let document = schema_document();
        let queries = blocks(&document, "postgres");
        assert!(queries.len() > 12);
        for query in queries {
            psql(&ledger, query).unwrap_or_else(|e| panic!("{e}\n{query}"));
        }
    });
}

/// Runs SQL as a person would, in the ledger's schema.
fn psql(ledger: &TestLedger, sql: &str) -> Result<String, String> {
    let quorate_store::Url::Pg(url) = &ledger.url else { panic!("it is PostgreSQL") };
    Installation::find().expect("found before").psql(url, sql)
}

struct Columns;

impl Read for Columns {
    type Answer = Vec<(String, String)>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let sql =
                "select m.name as place, c.name as name from sqlite_schema m join pragma_table_info(m.name) c
                        where m.type in ('table', 'view') and m.name not like 'sqlite_%'
                          and m.name not in (select name from pragma_table_list where type = 'shadow')
                          and c.name <> m.name";
            tx.all(sql, &[], |row| Ok((row.text("place")?, row.text("name")?))).await
        })
    }
}

#[test]
fn every_table_and_column_is_documented() {
    block_on(async {
        let document = schema_document();
        let columns = TestLedger::new(Backend::Lite).await.store.read(Columns).await.expect("reads");
        let missing = columns.iter().filter(|(place, name)| {
            let part = document.split("\n### ").find(|part| part.starts_with(&format!("`{place}`")));
            !part.is_some_and(|part| part.contains(&format!("`{name}`")) && part.contains("```sql"))
        });
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "docs/schema.md says nothing of {missing:?}, or has no example there");
        assert_eq!(SCHEMA.version(), 8, "say in docs/schema.md what the next version brings");
    });
}

/// The steps in which SQLite does a statement.
struct Steps(&'static str);

impl Read for Steps {
    type Answer = Vec<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<String>> {
        Box::pin(async move { tx.all(self.0, &[], |row| row.text("opcode")).await })
    }
}

#[test]
fn a_row_is_written_without_a_table_in_memory_for_each_condition() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Lite).await;
        for statement in [
            "explain insert into tasks (title, state, max_attempts, created_at) values ('a', 'ready', 1, 0)",
            "explain update tasks set state = 'running', owner = 'a', lease_until = 1 where id = 1",
            "explain update tasks set state = 'completed', run_id = 2, due_at = 3 where id = 1",
            "explain update attempts set outcome = 'completed' where task_id = 1 and number = 1",
        ] {
            let steps = ledger.store.read(Steps(statement)).await.expect("explained");
            assert!(steps.iter().any(|step| step == "MakeRecord"), "{steps:?}");
            assert!(!steps.iter().any(|step| step == "OpenEphemeral"), "{statement}: {steps:?}");
        }
    });
}

#[test]
fn claim_task_takes_the_next_task_with_term_attempt_and_event() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        ledger.add(NewTask { priority: 2, ..command("low") }).await?;
        let id = ledger.add(NewTask { key: Some("k".into()), ..command("next") }).await?;
        ledger.add(NewTask { priority: 0, ..claiming("holds", &["src"]) }).await?;
        ledger.join("beta").await?;
        ledger.add(NewTask { priority: 0, agent: Some("beta".into()), ..command("for beta") }).await?;
        let got = psql(&ledger, "select id, state, term, attempt, owner from claim_task('alpha', 60000)");
        assert_eq!(got, Ok(format!("{id}|running|1|1|alpha")));
        let story = ledger.story(id).await?;
        assert_eq!((story.attempts.len(), story.attempts[0].term), (1, story.task.term));
        assert_eq!(story.task.lease_until, Some(story.now + 60_000));
        let event = ledger.events().await.pop().expect("it is in the log");
        assert_eq!(event.message, format!("task {id} (k) taken by alpha, attempt 1"));
        assert_eq!(ledger.count("agent.added").await, 2);
        let done = quorate_service::task::Done { id, term: story.task.term, result: None, tail: None };
        ledger.store.write(done.clone()).await?;
        let stale = quorate_service::task::Done { term: quorate_model::Term(9), ..done };
        assert_eq!(ledger.store.write(stale).await.expect_err("not its term").kind, Kind::Stale);
        let both = psql(&ledger, "begin; select title from claim_task('alpha', 1); select title from claim_task('beta', 1); commit");
        assert_eq!(both, Ok("low\nfor beta".into()), "twice in one transaction, each with its place in the log");
        assert_eq!(psql(&ledger, "select count(*) from claim_task('alpha', 1)"), Ok("0".into()), "what has claims is left");
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

#[test]
fn claim_task_asks_what_the_agent_can_and_may() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        ledger.store.write(session("alpha")).await?;
        ledger.add(NewTask { capability: Some("gpu".into()), ..command("gpu") }).await?;
        ledger.add(NewTask { capability: Some("docs".into()), ..command("docs") }).await?;
        ledger.store.write(Tell { name: "alpha".into(), word: Word::Pause }).await?;
        assert_eq!(psql(&ledger, "select count(*) from claim_task('alpha')"), Ok("0".into()));
        ledger.store.write(Tell { name: "alpha".into(), word: Word::Resume }).await?;
        assert_eq!(psql(&ledger, "select title from claim_task('alpha')"), Ok("docs".into()));
        assert_eq!(psql(&ledger, "select title from claim_task('newcomer')"), Ok("gpu".into()));
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

#[test]
fn claim_task_called_by_many_gives_each_task_to_one() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        for _ in 0..30 {
            ledger.add(command("x")).await?;
        }
        let mut takers = tokio::task::JoinSet::new();
        for n in 0..6 {
            let store = ledger.again().await;
            takers.spawn(async move {
                let mut got = Vec::new();
                while let Some(id) = store.write(BySql(format!("agent-{n}"))).await? {
                    got.push(id);
                }
                Ok::<_, quorate_model::Error>(got)
            });
        }
        let mut got = Vec::new();
        while let Some(ids) = takers.join_next().await {
            got.extend(ids.expect("no panic")?);
        }
        got.sort_unstable();
        assert_eq!(got, (1..=30).collect::<Vec<i64>>());
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

struct BySql(String);

impl Write for BySql {
    type Answer = Option<i64>;

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Option<i64>> {
        Box::pin(async move {
            tx.one("select id from claim_task($1, 60000)", quorate_store::args![&self.0], |row| row.int("id"))
                .await
        })
    }
}

/// Their holders could not renew: tasks are spared for as long, too.
#[test]
fn during_the_first_lease_after_the_servers_start_nobody_is_stale() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        ledger.store.write(session("alpha")).await?;
        ledger.store.write(claim::Take { ttl_ms: 10 * LEASE_MS, ..want("alpha", &["src"]) }).await?;
        ledger.advance(LEASE_MS - 1_000).await;
        let started = "create or replace function server_started_ms() returns bigint language sql stable as";
        let now = psql(&ledger, "select now_ms()").expect("the ledger's time");
        let replaced =
            ledger.client().await.batch_execute(&format!("{started} 'select {now}::bigint'")).await;
        replaced.expect("the server's start is replaced");
        ledger.advance(LEASE_MS).await;
        assert_eq!(ledger.check().await?.stale, 0);
        assert_eq!(psql(&ledger, "select name from detect_stale_agents()"), Ok(String::new()));
        assert_eq!(psql(&ledger, "select resource from claims"), Ok("src".into()));
        ledger.advance(1).await;
        assert_eq!(psql(&ledger, "select name from detect_stale_agents()"), Ok("alpha".into()));
        assert_eq!(psql(&ledger, "select resource from claims"), Ok(String::new()));
        ledger.store.write(session("beta")).await?;
        ledger.advance(LEASE_MS + 1).await;
        assert_eq!(ledger.check().await?.stale, 1);
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

#[test]
fn detect_stale_agents_marks_each_once_and_logs_it() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        for name in ["alpha", "beta"] {
            ledger.store.write(session(name)).await?;
        }
        ledger.claim("alpha", &["src"]).await?;
        assert_eq!(psql(&ledger, "select name from detect_stale_agents()"), Ok(String::new()));
        ledger.advance(LEASE_MS + 1_000).await;
        let found =
            psql(&ledger, "select name, node, silent_seconds from detect_stale_agents() order by name");
        assert_eq!(found, Ok("alpha|1|61\nbeta|1|61".into()));
        assert_eq!(psql(&ledger, "select name from detect_stale_agents()"), Ok(String::new()));
        assert_eq!(psql(&ledger, "select count(*) from stale_agents"), Ok("2".into()));
        assert_eq!(ledger.check().await?.stale, 0);
        assert_eq!(ledger.count("agent.stale").await, 2);
        ledger.events().await;
        let released = Filter { kind: Some("claim.released".into()), ..Filter::default() };
        let page = ledger.store.read(After { seq: None, filter: released, limit: 9 }).await?;
        assert_eq!(page.events[0].resource.as_deref(), Some("src"));
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}
