//! The embedded ledger where it is slow, crowded, or on a host that lost the time.

use quorate_model::{Event, EventKind, Kind};
use quorate_store::{Boxed, Clock, Migration, Options, Read, Schema, Store, Tx, Url, Write, args};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// No test may take as long as someone who waits for ever.
const FOR_EVER: Duration = Duration::from_secs(30);

/// What the store itself asks for, and something to keep.
static SCHEMA: Schema = Schema {
    migrations: &[Migration {
        name: "tables",
        lite: "create table meta (key text primary key, value text not null);
               create table events (seq integer primary key autoincrement, at integer not null, kind text not null, agent text,
                                    task_id integer, run_id integer, resource text, message text not null, data text);
               create table leases (name text primary key, until integer not null);",
        pg: "",
    }],
    shift_leases: &["update leases set until = until + $1"],
};

async fn open(path: &Path, busy: Duration, clock: &Clock) -> quorate_model::Result<Store> {
    let options = Options { busy, clock: clock.clone(), ..Options::new(&SCHEMA) };
    Store::open(&Url::Lite(path.to_owned()), options).await
}

/// Keeps a lease for a minute, and says so in the log.
struct Keep(&'static str);

const LEASE_MS: i64 = 60_000;

impl Write for Keep {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            let until = tx.now().await? + LEASE_MS;
            tx.run("insert into leases (name, until) values ($1, $2)", args![self.0, until]).await?;
            tx.record(Event::new(EventKind::TaskTaken, self.0));
            Ok(())
        })
    }
}

/// Tells how long each lease still lasts, in milliseconds.
struct Left;

impl Read for Left {
    type Answer = Vec<(String, i64)>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Self::Answer> {
        Box::pin(async move {
            let sql = "select name, until - now_ms() as ms from leases order by name";
            tx.all(sql, &[], |row| Ok((row.text("name")?, row.int("ms")?))).await
        })
    }
}

/// Keeps a lease and then does not come to its end before it is told to, as on a disk that does not answer.
struct Slow {
    begun: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl Write for Slow {
    type Answer = ();

    fn apply<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, ()> {
        Box::pin(async move {
            Keep("slow").apply(tx).await?;
            self.begun.send(()).expect("somebody listens");
            self.go_on.lock().expect("nobody panics").recv().expect("it is told");
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_write_that_has_begun_is_not_said_to_be_undone_and_one_that_waits_is_not_done_later() -> Tested {
    let folder = tempfile::tempdir()?;
    let store = open(&folder.path().join("a.db"), Duration::from_millis(300), &Clock::System).await?;
    let ((begun, has_begun), (go, go_on)) = (channel(), channel());
    let slow = tokio::spawn({
        let store = store.clone();
        async move { store.write(Slow { begun, go_on: Mutex::new(go_on) }).await }
    });
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(FOR_EVER)).await??;
    let waiting = store.write(Keep("waiting")).await.expect_err("it is not begun");
    assert!(waiting.hint.is_some_and(|hint| hint.contains("then try again")), "{}", waiting.message);
    let error = slow.await?.expect_err("it takes too long");
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("it may be written yet"), "{error}");
    assert!(
        error.hint.is_some_and(|hint| hint.contains("before you ask for it once more")),
        "{}",
        error.message
    );
    go.send(())?;
    let done = async {
        while store.read(Left).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.write(Keep("after")).await?;
        store.read(Left).await
    };
    let kept: Vec<String> =
        tokio::time::timeout(FOR_EVER, done).await??.into_iter().map(|lease| lease.0).collect();
    assert_eq!(kept, ["after", "slow"]);
    Ok(())
}

/// Where readers wait within their transaction until it is opened.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    inside: usize,
    most: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("nobody panics");
        state.inside += 1;
        state.most = state.most.max(state.inside);
        state = self.opened.wait_while(state, |state| !state.is_open).expect("nobody panics");
        state.inside -= 1;
    }

    fn open(&self) {
        self.state.lock().expect("nobody panics").is_open = true;
        self.opened.notify_all();
    }

    fn most(&self) -> usize {
        self.state.lock().expect("nobody panics").most
    }
}

struct Look(Arc<Gate>);

impl Read for Look {
    type Answer = Vec<i64>;

    fn fetch<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Vec<i64>> {
        Box::pin(async move {
            self.0.pass();
            tx.all("select 7 as seven", &[], |row| row.int("seven")).await
        })
    }
}

#[tokio::test]
async fn who_only_reads_does_not_wait_for_one_who_holds_the_writers_lock() -> Tested {
    let folder = tempfile::tempdir()?;
    let (path, clock) = (folder.path().join("ledger.db"), Clock::default());
    open(&path, FOR_EVER, &clock).await?.write(Keep("first")).await?;
    // Another program that was stopped in the midst of a write.
    let lock = std::fs::File::options().write(true).open(folder.path().join("ledger.db.lock"))?;
    lock.lock()?;
    let busy = Duration::from_millis(200);
    let reader = open(&path, busy, &clock).await?;
    assert_eq!(reader.read(Left).await?.len(), 1);
    let refused = reader.write(Keep("second")).await.expect_err("nobody can write");
    assert!(refused.kind == Kind::Unavailable && refused.message.contains("locked"), "{refused}");
    lock.unlock()?;
    reader.write(Keep("third")).await?;
    assert_eq!(reader.read(Left).await?.len(), 2, "what was refused was not done later");
    Ok(())
}

#[tokio::test]
async fn a_new_ledger_is_readable_by_its_user_alone() -> Tested {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let store = open(&state.join("ledger.db"), FOR_EVER, &Clock::default()).await?;
    store.write(Keep("first")).await?;
    store.backup(&folder.path().join("copy.db")).await?;
    let mut files: Vec<_> =
        std::fs::read_dir(&state)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    assert!(files.len() >= 3, "the ledger, its log and its lock: {files:?}");
    files.extend([state, folder.path().join("copy.db")]);
    for file in files {
        let mode = file.metadata()?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn so_many_read_at_once_and_the_others_wait_for_a_place() -> Tested {
    const PLACES: usize = 16;
    let folder = tempfile::tempdir()?;
    let store = open(&folder.path().join("a.db"), Duration::from_secs(10), &Clock::System).await?;
    let gate = Arc::new(Gate::default());
    let reads: Vec<_> = (0..3 * PLACES)
        .map(|_| {
            let (store, gate) = (store.clone(), Arc::clone(&gate));
            tokio::spawn(async move { store.read(Look(gate)).await })
        })
        .collect();
    let full = async {
        while gate.most() < PLACES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, full).await?;
    // Whoever went away has not given his place to another: his question is still being answered.
    reads[0].abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let most = gate.most();
    gate.open();
    assert_eq!(most, PLACES);
    for read in reads.into_iter().skip(1) {
        assert_eq!(tokio::time::timeout(FOR_EVER, read).await???, [7]);
    }
    assert_eq!(gate.most(), PLACES);
    Ok(())
}

const START_MS: i64 = 1_767_225_600_000;

#[tokio::test]
async fn a_host_that_boots_without_the_time_makes_no_lease_last_for_years() -> Tested {
    let (folder, busy, clock) = (tempfile::tempdir()?, Duration::from_secs(10), Clock::sim(START_MS));
    let path = folder.path().join("a.db");
    let left = async |store: &Store| store.read(Left).await.map(|list| list[0].1);
    let store = open(&path, busy, &clock).await?;
    store.write(Keep("a")).await?;
    assert_eq!(left(&store).await?, LEASE_MS);
    drop(store);
    // Another boot, at the beginning of all time.
    let kept = rusqlite::Connection::open(&path)?;
    assert_eq!(kept.execute("update meta set value = 'another-boot 5' where key = 'clock'", [])?, 1);
    clock.step_wall(5_000 - START_MS);
    let store = open(&path, busy, &clock).await?;
    store.write(Keep("b")).await?;
    assert_eq!(left(&store).await?, LEASE_MS, "it has what it had left");
    clock.advance(1_000);
    // The time comes over the network.
    clock.step_wall(START_MS + 3_600_000);
    store.write(Keep("c")).await?;
    assert_eq!(left(&store).await?, LEASE_MS - 1_000, "it had a second, and the rest is left");
    Ok(())
}
