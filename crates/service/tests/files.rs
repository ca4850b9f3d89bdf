//! What opening and sharing a ledger promises: foreign, newer, missing, read-only and locked ones are refused in
//! clear words, a clock that jumps ends no lease, several processes share one, and copies are whole.
//!
//! Other processes are this very test program: [`worker`] does what its environment says.

use quorate_model::{Kind, Result};
use quorate_service::SCHEMA;
use quorate_service::log::Line;
use quorate_service::task::{Add, Done, Fail, NewTask};
use quorate_service::view::{Claims, Story};
use quorate_service::{claim, health};
use quorate_store::{Boxed, Clock, Options, Store, Tx, Url, Write, args};
use quorate_testkit::ledger::{Backend, START_MS, TestLedger};
use quorate_testkit::on_every_backend;
use quorate_testkit::verbs::{LEASE_MS, claiming, command, failure, next_of, want};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn open(path: &Path) -> Result<Store> {
    Store::open(&Url::Lite(path.to_owned()), Options::new(&SCHEMA)).await
}

fn new_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("quorate.db");
    (folder, path)
}

fn line(message: &str) -> Line {
    Line {
        agent: "alpha".into(),
        action: "note".into(),
        status: None,
        resource: None,
        progress: None,
        metadata: None,
        message: message.into(),
        ttl_ms: LEASE_MS,
    }
}

/// Opens the file and checks how that is refused: the kind, words of the message and of the hint.
fn check_refused(path: &Path, kind: Kind, message: &str, hint: &str) {
    let error = block_on(open(path)).expect_err("refused");
    assert_eq!(error.kind, kind, "{error:?}");
    assert!(
        error.message.contains(message) && error.hint.as_ref().is_some_and(|h| h.contains(hint)),
        "{error:?}"
    );
}

struct Sql(&'static str);

impl Write for Sql {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move { tx.run(self.0, &[]).await.map(drop) })
    }
}

#[test]
fn a_newer_schema_is_refused_on_sqlite() {
    let (_folder, path) = new_file();
    block_on(open(&path)).expect("it is new");
    Connection::open(&path).expect("opens").execute_batch("pragma user_version = 99").expect("writes");
    check_refused(
        &path,
        Kind::Unavailable,
        "has schema version 99, newer than version",
        "use the newer quorate",
    );
}

#[test]
fn a_newer_schema_is_refused_on_postgres() {
    block_on(async {
        let ledger = TestLedger::new(Backend::Pg).await;
        ledger.store.write(Sql("update meta set value = '99' where key = 'schema'")).await.expect("writes");
        let error = Store::open(&ledger.url, Options::new(&SCHEMA)).await.expect_err("newer");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("has schema version 99"), "{error}");
        assert!(!error.message.contains("password"), "{error}");
    });
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let (_folder, path) = new_file();
    let theirs = Connection::open(&path).expect("opens");
    theirs.execute_batch("create table photos (id integer)").expect("writes");
    check_refused(&path, Kind::Unavailable, "not a Quorate ledger", "QUORATE_STORE");
    let tables: i64 =
        theirs.query_row("select count(*) from sqlite_schema", [], |row| row.get(0)).expect("reads");
    assert_eq!(tables, 1);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (_folder, path) = new_file();
    std::fs::write(&path, "a letter to a friend\n".repeat(400)).expect("writes");
    check_refused(&path, Kind::Unavailable, "is not a SQLite database", "name another file");
    assert!(std::fs::read_to_string(&path).expect("reads").starts_with("a letter"));
}

#[test]
fn a_missing_ledger_is_made_with_its_folder_or_not_found_as_asked() {
    let (folder, _) = new_file();
    let path = folder.path().join("a/b/quorate.db");
    let asked = Options { create: false, ..Options::new(&SCHEMA) };
    let error = block_on(Store::open(&Url::Lite(path.clone()), asked)).expect_err("it is not there");
    assert_eq!(error.kind, Kind::NotFound);
    assert!(!path.parent().expect("has one").exists());
    block_on(open(&path)).expect("it is made");
    assert!(path.exists());
    check_refused(&path.join("quorate.db"), Kind::Unavailable, "cannot", "QUORATE_STORE");
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_no_wait() {
    let (folder, _) = new_file();
    let url = Url::Pg(format!("postgres://me:secret@/x?host={}", folder.path().display()));
    let begun = Instant::now();
    let error = block_on(Store::open(&url, Options::new(&SCHEMA))).expect_err("nobody listens");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!error.message.contains("secret") && begun.elapsed() < Duration::from_secs(5), "{error}");
}

const JOB: &str = "QUORATE_TEST_JOB";

/// What the other process does, when it is one.
#[test]
fn worker() {
    let Ok(job) = std::env::var(JOB) else { return };
    let (verb, path) = job.split_once(' ').expect("VERB PATH");
    block_on(async {
        match (verb, open(Path::new(path)).await) {
            ("open", Ok(store)) => match store.write(line("x")).await {
                Ok(()) => println!("worker: ok"),
                Err(error) => println!("worker: {:?} {} | {:?}", error.kind, error.message, error.hint),
            },
            ("write", Ok(store)) => println!("worker: longest {} ms", write_many(&store).await),
            (_, Err(error)) => println!("worker: {:?} {} | {:?}", error.kind, error.message, error.hint),
            _ => panic!("{job}"),
        }
    });
}

const WRITES: usize = 1_000;

/// Writes one after the other; returns the longest wait in milliseconds.
async fn write_many(store: &Store) -> u128 {
    let mut longest = 0;
    for n in 0..WRITES {
        let begun = Instant::now();
        store.write(line(&format!("{} {n}", std::process::id()))).await.expect("it is written");
        longest = longest.max(begun.elapsed().as_millis());
    }
    longest
}

fn spawn(verb: &str, path: &Path, user: Option<u32>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "worker", "--nocapture"]).env(JOB, format!("{verb} {}", path.display()));
    if let Some(id) = user {
        command.uid(id).gid(id);
    }
    command.stdout(Stdio::piped()).spawn().expect("it starts")
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.split_once("worker: ")).unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

#[test]
fn two_processes_share_a_file_from_its_first_moment_and_nothing_is_lost() {
    let (_folder, path) = new_file();
    let (one, two) = (spawn("write", &path, None), spawn("write", &path, None));
    for said in [said(one), said(two)] {
        println!("two processes, {WRITES} single writes each: {said}");
        let longest: u128 =
            said.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(longest < 2_000, "one starved: {longest} ms");
    }
    let count: i64 = Connection::open(&path)
        .and_then(|conn| conn.query_row("select count(distinct message) from events", [], |row| row.get(0)))
        .expect("reads");
    assert_eq!(count, 2 * WRITES as i64);
}

/// A user that may not write, if this process may do everything.
fn nobody() -> Option<u32> {
    quorate_testkit::cluster::is_root().then_some(65_534)
}

#[test]
fn a_ledger_that_may_not_be_written_is_refused_with_whom_to_ask() {
    let (folder, path) = new_file();
    block_on(open(&path)).expect("it is new");
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    for entry in std::fs::read_dir(folder.path()).expect("reads").flatten() {
        mode(&entry.path(), 0o444);
    }
    mode(folder.path(), 0o555);
    let answer = said(spawn("open", &path, nobody()));
    assert!(answer.starts_with("Unavailable cannot write ") && answer.contains("ls -l"), "{answer}");
    let answer = said(spawn("open", &folder.path().join("sub/quorate.db"), nobody()));
    assert!(
        answer.starts_with("Unavailable cannot make the folder ") && answer.contains("permissions"),
        "{answer}"
    );
    mode(folder.path(), 0o755);
}

#[test]
fn a_ledger_locked_by_another_program_is_an_error_and_no_hang() {
    let (_folder, path) = new_file();
    let options = Options { busy: Duration::from_millis(200), ..Options::new(&SCHEMA) };
    block_on(async {
        let store = Store::open(&Url::Lite(path.clone()), options).await.expect("opens");
        let other = Connection::open(&path).expect("opens");
        other.execute_batch("begin immediate").expect("it is free");
        let begun = Instant::now();
        let error = store.write(line("x")).await.expect_err("locked");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.ends_with("is locked by another program"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(store.read(Claims::default()).await.is_ok(), "who reads need not wait");
        other.execute_batch("rollback").expect("ends");
        store.write(line("y")).await.expect("it is free again");
    });
}

#[test]
fn a_stopped_process_that_holds_the_fair_lock_is_an_error_and_no_hang() {
    let (_folder, path) = new_file();
    let options = Options { busy: Duration::from_millis(100), ..Options::new(&SCHEMA) };
    block_on(async {
        let store = Store::open(&Url::Lite(path.clone()), options.clone()).await.expect("opens");
        let lock =
            std::fs::File::options().write(true).open(path.with_extension("db.lock")).expect("it is there");
        lock.lock().expect("it is free");
        let error = store.write(line("given up")).await.expect_err("locked");
        assert_eq!(error.kind, Kind::Unavailable);
        let waited = store.write(line("given up too")).await.expect_err("locked");
        assert_eq!(waited.kind, Kind::Unavailable);
        let late = Store::open(&Url::Lite(path.clone()), options).await.expect("who reads needs no lock");
        let error = late.write(line("given up as well")).await.expect_err("locked");
        assert_eq!(error.kind, Kind::Unavailable);
        lock.unlock().expect("ours");
        store.write(line("kept")).await.expect("it is free again");
        let count: i64 = Connection::open(&path)
            .and_then(|conn| conn.query_row("select count(*) from events", [], |row| row.get(0)))
            .expect("reads");
        assert_eq!(count, 1, "what its caller gave up is not done later");
    });
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_wall_clock_that_jumps_neither_ends_nor_doubles_a_lease() {
    let (_folder, path) = new_file();
    let clock = Clock::sim(START_MS);
    let options = Options { clock: clock.clone(), ..Options::new(&SCHEMA) };
    let check = health::Check { stuck_after_ms: LEASE_MS * 2, judge: true };
    block_on(async {
        let store = Store::open(&Url::Lite(path), options).await?;
        store.write(Add { run: None, tasks: vec![claiming("x", &["src"])], by: None }).await?;
        store.write(next_of("alpha")).await?.task().expect("there is one");
        store.write(want("beta", &["docs"])).await?;
        for jump in [HOUR_MS, -HOUR_MS, -HOUR_MS, HOUR_MS] {
            clock.advance(10_000);
            clock.step_wall(jump);
            let checked = store.write(check.clone()).await?;
            assert_eq!(
                (checked.lapsed, checked.claims, checked.stuck),
                (0, 0, 0),
                "after a jump of {jump} ms"
            );
        }
        clock.advance(LEASE_MS - 40_000);
        assert_eq!(store.write(check.clone()).await?.claims, 1, "the claim had its time, no more");
        clock.advance(1);
        assert_eq!(store.write(check).await?.lapsed, 1);
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

#[test]
fn an_attempt_took_as_long_as_it_took_however_the_clock_was_set() {
    for jump in [HOUR_MS, -HOUR_MS] {
        let (_folder, path) = new_file();
        let clock = Clock::sim(START_MS);
        let options = Options { clock: clock.clone(), ..Options::new(&SCHEMA) };
        block_on(async {
            let store = Store::open(&Url::Lite(path), options).await?;
            store.write(Add { run: None, tasks: vec![command("x")], by: None }).await?;
            let taken = store.write(next_of("alpha")).await?.task().expect("there is one");
            clock.advance(10_000);
            clock.step_wall(jump);
            clock.advance(5_000);
            let id = taken.task.id;
            store.write(Done { id, term: taken.task.term, result: None, tail: None }).await?;
            clock.step_wall(-jump);
            let story = store.read(Story { id }).await?;
            let (task, attempt) = (&story.task, &story.attempts[0]);
            assert_eq!(attempt.ended_at.map(|end| end - attempt.started_at), Some(15_000), "after {jump} ms");
            assert_eq!(task.finished_at.zip(task.started_at).map(|(end, start)| end - start), Some(15_000));
            Ok::<(), quorate_model::Error>(())
        })
        .expect("no error");
    }
}

#[test]
fn a_pause_moves_with_the_clock_and_an_appointment_does_not() {
    let (_folder, path) = new_file();
    let clock = Clock::sim(START_MS);
    let options = Options { clock: clock.clone(), ..Options::new(&SCHEMA) };
    let check = health::Check { stuck_after_ms: LEASE_MS, judge: true };
    block_on(async {
        let store = Store::open(&Url::Lite(path), options).await?;
        let appointment = NewTask { due_at: Some(START_MS + HOUR_MS), ..command("at one") };
        store.write(Add { run: None, tasks: vec![command("x"), appointment], by: None }).await?;
        let taken = store.write(next_of("alpha")).await?.task().expect("there is one");
        store.write(Fail { retry_after_ms: 1_000, ..failure(&taken, "boom") }).await?;
        clock.step_wall(-HOUR_MS);
        clock.advance(1_200);
        assert_eq!(store.write(check.clone()).await?.due, 1, "a pause of a second is over after a second");
        clock.step_wall(2 * HOUR_MS);
        assert_eq!(store.write(check).await?.due, 1, "the clock on the wall says it is time");
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

/// Writes two rows that belong together.
struct Pair(usize);

impl Write for Pair {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            for half in ["a", "b"] {
                let key = format!("pair {} {half}", self.0);
                tx.run("insert into meta (key, value) values ($1, 'pair')", args![key]).await?;
            }
            Ok(())
        })
    }
}

#[test]
fn a_copy_without_a_name_is_whole_and_leaves_nothing_behind() {
    let (folder, path) = new_file();
    let old = path
        .with_file_name(format!("{}.copy-1-0", path.file_name().and_then(|n| n.to_str()).expect("a name")));
    let new =
        old.with_file_name(old.file_name().and_then(|n| n.to_str()).expect("a name").replace("-1-0", "-1-1"));
    let copied = block_on(async {
        let store = open(&path).await?;
        for n in 0..20 {
            store.write(Pair(n)).await?;
        }
        for left in [&old, &new] {
            std::fs::write(left, "half a copy").expect("writes");
        }
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
        let file = std::fs::File::options().write(true).open(&old).expect("opens");
        file.set_modified(long_ago).expect("may set a time");
        store.copy().await
    });
    let mut copied = copied.expect("copied");
    let named: Vec<_> =
        std::fs::read_dir(path.parent().expect("a folder")).expect("reads").flatten().collect();
    let copies: Vec<_> =
        named.iter().map(|entry| entry.path()).filter(|p| p.to_string_lossy().contains(".copy-")).collect();
    assert_eq!(copies, [new], "one that may still grow is left alone, its own has no name");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut copied, &mut bytes).expect("reads");
    let kept = folder.path().join("kept.db");
    std::fs::write(&kept, bytes).expect("writes");
    let count =
        |sql: &str| Connection::open(&kept).and_then(|conn| conn.query_row(sql, [], |row| row.get(0)));
    assert_eq!(count("select count(*) from meta where value = 'pair'"), Ok(40_i64));
    let checked: String = Connection::open(&kept)
        .and_then(|conn| conn.query_row("pragma integrity_check", [], |row| row.get(0)))
        .expect("reads");
    assert_eq!(checked, "ok");
}

#[test]
fn a_copy_made_while_everything_runs_is_whole() {
    let (folder, path) = new_file();
    let copy = folder.path().join("copy.db");
    block_on(async {
        let store = open(&path).await?;
        store.write(Pair(0)).await?;
        let writing = async {
            for n in 1..300 {
                store.write(Pair(n)).await?;
            }
            Ok::<(), quorate_model::Error>(())
        };
        let (written, copied) = tokio::join!(writing, store.backup(&copy));
        written?;
        copied?;
        let again = store.backup(&copy).await.expect_err("it is there already");
        assert_eq!(again.kind, Kind::Invalid);
        let nowhere = store.backup(&folder.path().join("no/such/copy.db")).await.expect_err("no folder");
        assert_eq!(nowhere.kind, Kind::Unavailable);
        open(&copy).await?.write(line("a ledger like any")).await?;
        let rows: i64 = Connection::open(&copy)
            .and_then(|conn| {
                conn.query_row("select count(*) from meta where value = 'pair'", [], |row| row.get(0))
            })
            .expect("reads");
        assert!(rows >= 2 && rows % 2 == 0, "{rows}");
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

/// Columns, without those by which each database finds words in its own way.
struct Columns;

impl quorate_store::Read for Columns {
    type Answer = Vec<String>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<String>> {
        Box::pin(async move {
            let sql = quorate_store::Sql::Each {
                lite: "select m.name || '.' || c.name as name from sqlite_schema m join pragma_table_info(m.name) c
                        where m.type in ('table', 'view') and m.name not like 'sqlite_%' and m.name not like 'memory_words%'
                        order by 1",
                pg: "select (table_name || '.' || column_name) collate \"C\" as name from information_schema.columns
                      where table_schema = current_schema() and table_name not in ('log_era', 'sim_clock')
                        and table_name || '.' || column_name <> 'memories.words' order by 1",
            };
            tx.all(sql, &[], |row| row.text("name")).await
        })
    }
}

#[test]
fn both_databases_have_the_same_tables_and_columns() {
    block_on(async {
        let lite = TestLedger::new(Backend::Lite).await.store.read(Columns).await?;
        let pg = TestLedger::new(Backend::Pg).await.store.read(Columns).await?;
        assert!(lite.len() > 100);
        assert_eq!(lite, pg);
        Ok::<(), quorate_model::Error>(())
    })
    .expect("no error");
}

async fn many_may_open_a_new_ledger_at_once(ledger: TestLedger) -> Result<()> {
    let (a, b, c) = tokio::join!(ledger.again(), ledger.again(), ledger.again());
    for (n, store) in [a, b, c].iter().enumerate() {
        store.write(claim::Take { ttl_ms: 1_000, ..want("alpha", &[&format!("port:{n}")]) }).await?;
    }
    assert_eq!(ledger.held().await?.len(), 3);
    Ok(())
}

#[test]
fn many_may_migrate_one_new_postgres_schema_at_once() {
    let schema = quorate_testkit::postgres::Schema::create();
    let url = Url::Pg(schema.url().to_owned());
    block_on(async {
        let open = || Store::open(&url, Options::new(&SCHEMA));
        let (a, b, c, d) = tokio::join!(open(), open(), open(), open());
        for store in [a, b, c, d] {
            store.expect("one migrates, the others find it done").write(line("x")).await.expect("writes");
        }
    });
}

on_every_backend!(many_may_open_a_new_ledger_at_once);

/// Turning the write-ahead log on is the one thing for which SQLite does not wait: whoever opens a new ledger beside
/// others must not meet that moment.
#[test]
fn many_who_open_a_new_ledger_at_once_all_get_it() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("quorate.db");
        let open = || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                Store::open(&Url::Lite(path.clone()), Options::new(&SCHEMA)).await.map(drop)
            })
        };
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
            for opener in openers {
                opener.join().expect("no panic").expect("it opens");
            }
        });
    }
}

/// Lets the file grow to so many pages and no further, as a full disk does: SQLite then answers `SQLITE_FULL`.
struct Room(i64);

impl Write for Room {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let sql =
                if self.0 > 0 { "pragma max_page_count = 1" } else { "pragma max_page_count = 1000000" };
            // SQLite takes the present size for a smaller limit: from here on there is no room.
            tx.all(sql, &[], |_| Ok(())).await.map(drop)
        })
    }
}

#[test]
fn a_full_disk_is_an_error_in_words_and_what_was_acknowledged_stays() {
    block_on(async {
        let (_folder, path) = new_file();
        let store = open(&path).await.expect("it opens");
        store.write(Room(1)).await.expect("the limit is set");
        let mut acknowledged = 0;
        let refused = loop {
            let add = Add { run: None, tasks: vec![NewTask::new("x".repeat(2_000))], by: None };
            match store.write(add).await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
            assert!(acknowledged < 10_000, "the disk is never full");
        };
        assert_eq!(refused.kind, Kind::Unavailable);
        assert!(refused.message.contains("is full"), "{refused}");
        store.write(Room(0)).await.expect("there is room again");
        let add = Add { run: None, tasks: vec![NewTask::new("after")], by: None };
        store.write(add).await.expect("it goes on by itself");
        let tasks = store.read(quorate_service::view::Tasks::default()).await.expect("readable");
        assert_eq!(tasks.len(), acknowledged + 1);
    });
}
