//! What the log promises, on both databases: order, filters, a cursor that misses and repeats nothing, and that an
//! operation which fails leaves no trace but its refusal.

use quorate_model::{Error, Event, EventKind, Kind, Result, Seq, TaskId};
use quorate_service::event::{After, Filter, Latest, Logged, PAGE_MAX};
use quorate_service::log::Line;
use quorate_service::task::Done;
use quorate_service::{SCHEMA, wire};
use quorate_store::{Boxed, Dialect, Options, Store, Tx, Url, Write, args};
use quorate_testkit::cluster::{Cluster, Durability, Installation, Until};
use quorate_testkit::ledger::TestLedger;
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, command, want};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

fn line(agent: &str, message: String) -> Line {
    Line {
        agent: agent.into(),
        action: "note".into(),
        status: None,
        resource: Some(format!("src/{agent}.rs")),
        progress: None,
        metadata: None,
        message,
        ttl_ms: LEASE_MS,
    }
}

fn after(seq: Option<Seq>, limit: i64) -> After {
    After { seq, filter: Filter::default(), limit }
}

async fn filtered(ledger: &TestLedger, filter: Filter) -> Result<Vec<String>> {
    ledger.events().await;
    let all = ledger.store.read(After { seq: None, filter: Filter::default(), limit: PAGE_MAX }).await?;
    let matching: Vec<String> =
        all.events.into_iter().filter(|event| filter.matches(event)).map(|event| event.message).collect();
    let page = ledger.store.read(After { seq: None, filter, limit: PAGE_MAX }).await?;
    let found: Vec<String> = page.events.into_iter().map(|event| event.message).collect();
    assert_eq!(found, matching, "a filter means the same in the ledger and beside it");
    Ok(found)
}

async fn every_filter_narrows(ledger: TestLedger) -> Result<()> {
    ledger.store.write(line("alpha", "one".into())).await?;
    ledger.advance(1_000).await;
    ledger.store.write(line("beta", "two".into())).await?;
    let (run, tasks) = ledger.start(vec![command("three")]).await?;
    let beta = Filter { agent: Some("beta".into()), ..Filter::default() };
    assert_eq!(filtered(&ledger, beta).await?, ["two"]);
    let resource = Filter { resource: Some("src/alpha.rs".into()), ..Filter::default() };
    assert_eq!(filtered(&ledger, resource).await?, ["one"]);
    let kind = Filter { kind: Some("run.started".into()), ..Filter::default() };
    assert_eq!(filtered(&ledger, kind).await?, ["run 1 started: a goal (1 tasks)"]);
    let task = Filter { task: Some(tasks[0]), ..Filter::default() };
    assert_eq!(filtered(&ledger, task).await?, ["task 1 added: three"]);
    let of_run = Filter { run: Some(run), ..Filter::default() };
    assert_eq!(filtered(&ledger, of_run).await?.len(), 2);
    let since = Filter { since: Some(quorate_testkit::ledger::START_MS + 1_000), ..Filter::default() };
    assert_eq!(filtered(&ledger, since).await?.len(), 3);
    Ok(())
}

async fn pages_join_without_gap_or_overlap(ledger: TestLedger) -> Result<()> {
    for n in 0..10 {
        ledger.store.write(line(["alpha", "beta"][n % 2], n.to_string())).await?;
    }
    let all: Vec<String> = ledger.events().await.into_iter().map(|event| event.message).collect();
    assert_eq!(all, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    for filter in [Filter::default(), Filter { agent: Some("beta".into()), ..Filter::default() }] {
        let whole = filtered(&ledger, filter.clone()).await?;
        let mut seen = None;
        let mut joined = Vec::new();
        loop {
            let page = ledger.store.read(After { seq: seen, filter: filter.clone(), limit: 3 }).await?;
            seen = Some(page.seen);
            joined.extend(page.events.iter().map(|event| event.message.clone()));
            if page.events.is_empty() {
                break;
            }
        }
        assert_eq!(joined, whole);
    }
    Ok(())
}

async fn the_end_of_the_log_is_the_place_after_which_the_new_is_read(ledger: TestLedger) -> Result<()> {
    let begin = ledger.store.read(Latest).await?;
    ledger.store.write(line("alpha", "old".into())).await?;
    let old = ledger.events().await.remove(0).seq;
    assert!(begin < old);
    let end = ledger.store.read(Latest).await?;
    assert_eq!(end, old);
    assert!(ledger.store.read(after(Some(end), PAGE_MAX)).await?.events.is_empty());
    ledger.store.write(line("alpha", "new".into())).await?;
    ledger.events().await;
    for (from, expected) in [(begin, vec!["old", "new"]), (end, vec!["new"])] {
        let page = ledger.store.read(after(Some(from), PAGE_MAX)).await?;
        let messages: Vec<&str> = page.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, expected);
    }
    Ok(())
}

async fn an_event_has_the_promised_shape(ledger: TestLedger) -> Result<()> {
    ledger.store.write(line("alpha", "words".into())).await?;
    let event = ledger.events().await.remove(0);
    let value = wire::value(wire::Event::from(&event));
    let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    for key in ["seq", "at", "kind", "agent", "task_id", "run_id", "message", "data"] {
        assert!(keys.contains(&key), "{key}: {value}");
    }
    // The clock of the test stands still, but the log tells how long the transaction has waited before it wrote.
    let at = value["at"].as_str().expect("a text");
    assert!(at.starts_with("2026-01-01T00:00:0") && at.ends_with('Z'), "{at}");
    assert_eq!(value["seq"], event.seq.0);
    Ok(())
}

/// Writes a row, records an event, waits a while where that is possible, and perhaps fails.
struct Trouble {
    name: String,
    pause: Duration,
    fails: bool,
}

impl Write for Trouble {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.record(Event::new(EventKind::LogLine, self.name.clone()).agent("trouble"));
            tx.later(
                "insert into meta (key, value) values ($1, 'later')",
                args![format!("{} later", self.name)],
            );
            tx.run("insert into meta (key, value) values ($1, 'now')", args![&self.name]).await?;
            if tx.dialect() == Dialect::Pg && !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            if self.fails { Err(Error::failed("as it was told")) } else { Ok(()) }
        })
    }
}

struct Kept;

impl quorate_store::Read for Kept {
    type Answer = Vec<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<String>> {
        Box::pin(async move {
            let sql = "select key from meta where value in ('now', 'later') order by key";
            tx.all(sql, &[], |row| row.text("key")).await
        })
    }
}

async fn an_operation_that_fails_after_it_recorded_leaves_nothing(ledger: TestLedger) -> Result<()> {
    let fail = Trouble { name: "bad".into(), pause: Duration::ZERO, fails: true };
    let good = Trouble { name: "good".into(), pause: Duration::ZERO, fails: false };
    // Together, so that on SQLite they share one commit.
    let (bad, fine, line) = tokio::join!(
        ledger.store.write(fail),
        ledger.store.write(good),
        ledger.store.write(line("alpha", "x".into()))
    );
    assert!(bad.is_err());
    fine?;
    line?;
    let mut messages: Vec<String> = ledger.events().await.into_iter().map(|event| event.message).collect();
    messages.sort();
    assert_eq!(messages, ["good", "x"]);
    assert_eq!(ledger.store.read(Kept).await?, ["good", "good later"]);
    Ok(())
}

async fn a_refusal_is_kept_although_its_operation_is_rolled_back(ledger: TestLedger) -> Result<()> {
    let id = ledger.add(command("x")).await?;
    ledger.must_take("alpha").await?;
    let stale = Done { id, term: quorate_model::Term(9), result: None, tail: None };
    let (done, claim) = tokio::join!(ledger.store.write(stale), ledger.store.write(want("beta", &["src"])));
    assert_eq!(done.expect_err("stale").kind, Kind::Stale);
    claim?;
    let refused =
        ledger.events().await.into_iter().find(|e| e.kind == "write.refused").expect("it is in the log");
    assert_eq!((refused.task, refused.agent.as_deref()), (Some(id), Some("alpha")));
    let unknown = Done { id: TaskId(99), term: quorate_model::Term(1), result: None, tail: None };
    assert_eq!(ledger.store.write(unknown).await.expect_err("unknown").kind, Kind::NotFound);
    Ok(())
}

/// Follows the log until `count` events of `trouble` or lines were seen, opening the ledger anew now and then.
async fn follow(url: Url, options: Options, count: usize) -> Result<Vec<Logged>> {
    let mut seen = None;
    let mut got: Vec<Logged> = Vec::new();
    let mut store = Store::open(&url, options.clone()).await?;
    let mut rounds = 0;
    while got.len() < count {
        let page = store.read(after(seen, 7)).await?;
        let is_all = page.events.is_empty();
        seen = Some(page.seen);
        got.extend(page.events);
        rounds += 1;
        if rounds % 25 == 0 {
            store = Store::open(&url, options.clone()).await?;
        }
        if is_all {
            store.changes().wait(Duration::from_millis(2)).await;
        }
    }
    Ok(got)
}

/// Eight writers, of which some sleep in mid-transaction and some fail, and two followers.
async fn storm(url: Url, options: Options, each: usize) -> Result<()> {
    let store = Store::open(&url, options.clone()).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..each {
                let name = format!("{writer}-{n}");
                let fails = writer == 1 && n % 2 == 0;
                let pause = Duration::from_millis(if writer < 2 && n % 10 == 0 { 30 } else { 0 });
                let written = match writer {
                    0 | 1 => store.write(Trouble { name, pause, fails }).await,
                    _ => store.write(line(&format!("agent-{writer}"), name)).await,
                };
                assert_eq!(written.is_err(), fails);
            }
        });
    }
    let failed = each.div_ceil(2);
    let expected = 8 * each - failed;
    let followers = tokio::join!(
        follow(url.clone(), options.clone(), expected),
        follow(url.clone(), options.clone(), expected)
    );
    writers.join_all().await;
    for got in [followers.0?, followers.1?] {
        assert!(got.windows(2).all(|pair| pair[0].seq < pair[1].seq), "in order, none twice");
        let mut names: Vec<&str> = got.iter().map(|event| event.message.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), expected, "none is missing");
    }
    let last = store.read(after(None, PAGE_MAX)).await?;
    assert_eq!(last.events.len(), expected, "what failed is not there");
    Ok(())
}

#[test]
fn followers_across_restarts_miss_and_repeat_nothing_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = Url::Lite(folder.path().join("quorate.db"));
    block_on(storm(url, Options::new(&SCHEMA), 100)).expect("no error");
}

/// On a server of its own: a transaction held open would hold up the cursors of all tests that share one.
fn own_server() -> Cluster {
    let installation = Installation::find().expect("run `cargo xtask test`, which brings PostgreSQL");
    Cluster::start(&installation, Durability::None, Until::ProcessEnds, None).expect("a server of its own")
}

#[test]
fn followers_across_restarts_miss_and_repeat_nothing_on_postgres() {
    let server = own_server();
    let url = Url::Pg(server.url().to_owned());
    block_on(storm(url, Options::new(&SCHEMA), 100)).expect("no error");
}

#[test]
fn an_open_transaction_holds_followers_back_but_no_writer_and_nothing_is_lost() {
    let server = own_server();
    let url = Url::Pg(server.url().to_owned());
    block_on(async {
        let store = Store::open(&url, Options::new(&SCHEMA)).await?;
        let slow = Trouble { name: "slow".into(), pause: Duration::from_millis(300), fails: false };
        let held = tokio::spawn({
            let store = store.clone();
            async move { store.write(slow).await }
        });
        while !store.read(OpenWriters).await? {
            tokio::task::yield_now().await;
        }
        store.write(line("alpha", "fast".into())).await?;
        assert!(
            store.read(after(None, 10)).await?.events.is_empty(),
            "`slow` will come before or after: nobody knows yet"
        );
        held.await.expect("no panic")?;
        let got = follow(url.clone(), Options::new(&SCHEMA), 2).await?;
        let names: Vec<&str> = got.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(names, ["fast", "slow"], "as they ended");
        Ok::<(), Error>(())
    })
    .expect("no error");
}

struct OpenWriters;

impl quorate_store::Read for OpenWriters {
    type Answer = bool;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, bool> {
        Box::pin(async move {
            let sql = "select count(*) as n from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()";
            Ok(tx.one(sql, &[], |row| row.int("n")).await?.unwrap_or(0) > 0)
        })
    }
}

#[test]
fn a_dump_restored_elsewhere_goes_on_with_higher_places() {
    let server = own_server();
    let url = Url::Pg(server.url().to_owned());
    block_on(async {
        let store = Store::open(&url, Options::new(&SCHEMA)).await?;
        store.write(line("alpha", "before".into())).await?;
        // As if the server that wrote it had counted many more transactions than this one.
        store.write(FarAhead).await?;
        let store = Store::open(&url, Options::new(&SCHEMA)).await?;
        store.write(line("alpha", "after".into())).await?;
        let got = follow(url.clone(), Options::new(&SCHEMA), 2).await?;
        let names: Vec<&str> = got.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(names, ["before", "after"]);
        Ok::<(), Error>(())
    })
    .expect("no error");
}

/// Has a number of its own early, then waits, and tells of it last.
struct Waits {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Write for Waits {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.run("insert into meta (key, value) values ('waits', '1')", &[]).await?;
            self.begun.notify_one();
            self.go_on.notified().await;
            tx.record(Event::new(EventKind::LogLine, "second"));
            Ok(())
        })
    }
}

#[test]
fn what_a_transaction_has_waited_for_stands_before_it() {
    let schema = quorate_testkit::postgres::Schema::create();
    let url = Url::Pg(schema.url().to_owned());
    block_on(async {
        let store = Store::open(&url, Options::new(&SCHEMA)).await?;
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let waits = Waits { begun: begun.clone(), go_on: go_on.clone() };
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.write(waits).await }
        });
        begun.notified().await;
        store.write(line("alpha", "first".into())).await?;
        go_on.notify_one();
        waiting.await.expect("it does not panic")?;
        let got = follow(url.clone(), Options::new(&SCHEMA), 2).await?;
        let messages: Vec<&str> = got.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, ["first", "second"]);
        assert!(got[0].at <= got[1].at, "times stand in the order of the log");
        Ok::<(), Error>(())
    })
    .expect("no error");
}

#[test]
fn a_process_that_is_stopped_within_a_transaction_loses_it_and_the_others_go_on() {
    let schema = quorate_testkit::postgres::Schema::create();
    let url = Url::Pg(schema.url().to_owned());
    block_on(async {
        let store = Store::open(&url, Options::new(&SCHEMA)).await?;
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let stopped = Waits { begun: begun.clone(), go_on: go_on.clone() };
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.write(stopped).await }
        });
        begun.notified().await;
        // The same row: whoever comes second must wait for the first.
        let other = Waits { begun: begun.clone(), go_on: go_on.clone() };
        let second = tokio::spawn({
            let store = store.clone();
            async move { store.write(other).await }
        });
        tokio::time::timeout(Duration::from_secs(60), begun.notified())
            .await
            .expect("the row is free at last");
        go_on.notify_one();
        go_on.notify_waiters();
        second.await.expect("it does not panic")?;
        go_on.notify_one();
        let error = waiting.await.expect("it does not panic").expect_err("its transaction was ended");
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        Ok::<(), Error>(())
    })
    .expect("no error");
}

struct FarAhead;

impl Write for FarAhead {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            tx.run("update events set seq = seq + (1000000::bigint << 20)", &[]).await.map(drop)
        })
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

on_every_backend!(
    every_filter_narrows,
    pages_join_without_gap_or_overlap,
    the_end_of_the_log_is_the_place_after_which_the_new_is_read,
    an_event_has_the_promised_shape,
    an_operation_that_fails_after_it_recorded_leaves_nothing,
    a_refusal_is_kept_although_its_operation_is_rolled_back,
);
