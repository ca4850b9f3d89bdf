//! The embedded ledger: SQLite, one writer thread per process, group commit.
//!
//! All writes of a process go to one thread. It takes the fair lock (so that processes sharing the file take
//! turns instead of starving in SQLite's busy handler), begins one transaction, runs whatever waits, commits once,
//! and answers only then. There is no timer: a group is what arrived during the last commit. When one of a group
//! fails, all is rolled back and the group is run again, a savepoint each.
//!
//! Only SQLite itself may open or close the database file: any other open-and-close in this process would cancel
//! its POSIX locks. The fair lock is a file of its own.

use crate::arg::Arg;
use crate::asked::{Answer, Asked};
use crate::changes::{Bell, Changes};
use crate::clock::{Clock, Kept, ledger};
use crate::copy;
use crate::migrate::Schema;
use crate::row::Row;
use crate::store::{Boxed, Options};
use crate::tx::{Conn, Later, Tx, event_args};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use quorate_model::{Error, Event, EventKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, functions::FunctionFlags};
use std::fs::{DirBuilder, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Marks a file as ours ("QUOR").
const APPLICATION_ID: i64 = 0x5155_4F52;
/// Operations in one commit at most, so that the first of a group does not wait for all.
const GROUP_MAX: usize = 128;
/// Operations that may wait for the writer before callers wait for a place.
const QUEUE_MAX: usize = 4_096;
/// Connections kept for reading.
const READERS_KEPT: usize = 4;
/// Connections that read at once: each has files, a cache and a thread of its own. Who comes then waits for the first that is
/// through, since more readers than processors gain little.
const READERS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Lite {
    path: PathBuf,
    clock: Clock,
    busy: Duration,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Mutex<Vec<Tx>>>,
    places: Arc<Semaphore>,
    bell: Bell,
    watching: OnceLock<()>,
}

impl Lite {
    /// Opens a ledger. Where there is one that this program knows, only to read: the writer is opened when there is something
    /// to write, so that who only looks waits for nobody who writes, be it one that was stopped in the midst of it.
    pub(crate) async fn open(path: PathBuf, options: Options) -> Result<Lite> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let bell = Bell::new();
        let (clock, busy) = (options.clock.clone(), options.busy);
        let reader = {
            let (path, schema) = (path.clone(), options.schema);
            tokio::task::spawn_blocking(move || reader_of_known(&path, busy, schema)).await.ok().flatten()
        };
        let (ready, opened) = reader.is_none().then(oneshot::channel).unzip();
        let readers = Arc::new(Mutex::new(Vec::from_iter(reader)));
        let places = Arc::new(Semaphore::new(READERS_MAX));
        let lite = Lite { path, clock, busy, jobs, readers, places, bell, watching: OnceLock::new() };
        let (path, bell) = (lite.path.clone(), lite.bell.clone());
        std::thread::Builder::new()
            .name("ledger-writer".into())
            .spawn(move || match ready {
                Some(ready) => match Writer::open(&path, &options) {
                    Ok(writer) => {
                        let _ = ready.send(Ok(()));
                        writer.serve(None, queue, &bell);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                },
                None => open_and_serve(&path, &options, queue, &bell),
            })
            .map_err(|e| Error::failed(format!("cannot start the ledger's writer thread: {e}")))?;
        if let Some(opened) = opened {
            lite.in_time(opened, &AtomicBool::new(false)).await??;
        }
        Ok(lite)
    }

    pub(crate) async fn write(&self, work: Box<dyn Asked>) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let job = Job { work, out: None, begun: Arc::clone(&begun), reply };
        self.jobs.send(job).await.map_err(|_| gone())?;
        self.in_time(answer, &begun).await?
    }

    /// Waits for the writer, but not for ever: whoever holds the fair lock may have been stopped (Ctrl-Z) with it.
    ///
    /// SQLite's own wait, which is shorter, comes first and knows more. An operation whose caller no longer waits
    /// is not begun. One that has begun when its caller gives up may still be committed (its disk may be slow), so that he
    /// must not be told to try again.
    async fn in_time<T>(&self, mut answer: oneshot::Receiver<T>, begun: &AtomicBool) -> Result<T> {
        let limit = self.busy * 2;
        if let Ok(answer) = tokio::time::timeout(limit, &mut answer).await {
            return answer.map_err(|_| gone());
        }
        // In this order: the writer sets the mark before it looks whether somebody waits (`Job::begin`), so that at least
        // one of the two notices the other.
        answer.close();
        fence(Ordering::SeqCst);
        let is_begun = begun.load(Ordering::SeqCst);
        answer.try_recv().map_err(|_| if is_begun { unheard(&self.path, limit) } else { locked(&self.path) })
    }

    pub(crate) async fn read(&self, query: Box<dyn Asked>) -> Result<Answer> {
        let (path, clock, readers, busy) =
            (self.path.clone(), self.clock.clone(), self.readers.clone(), self.busy);
        // With the reader on its thread, not with the caller: who goes away does not end what he asked.
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes it");
        let job = move || {
            let _place = place;
            let kept = readers.lock().expect("no reader panics while it holds the list").pop();
            let mut tx = match kept {
                Some(tx) => tx,
                None => Tx::new(Conn::Lite(LiteConn::open_to_read(&path, busy)?), Arc::default()),
            };
            let answer = read_once(&*query, &mut tx, &clock);
            let mut list = readers.lock().expect("no reader panics while it holds the list");
            if list.len() < READERS_KEPT {
                list.push(tx);
            }
            answer
        };
        tokio::task::spawn_blocking(job).await.map_err(|e| Error::failed(format!("a reader stopped: {e}")))?
    }

    pub(crate) fn changes(&self) -> Changes {
        self.watching.get_or_init(|| watch_file(&self.path, self.bell.clone()));
        self.bell.changes()
    }

    pub(crate) async fn backup(&self, file: PathBuf) -> Result<()> {
        copy::to(file, self.path.clone(), self.busy).await
    }

    pub(crate) async fn copy(&self) -> Result<File> {
        copy::without_name(self.path.clone(), self.busy).await
    }
}

/// Opens a ledger to read it, if it is there as this program wants it: nothing is to be made or changed first. What is
/// wrong with it otherwise, its writer finds out and says.
fn reader_of_known(path: &Path, busy: Duration, schema: &Schema) -> Option<Tx> {
    let conn = path.exists().then(|| LiteConn::open_to_read(path, busy).ok())??;
    let is_ready = check_ours(&conn, path).ok()? == schema.version() && conn.has_log().ok()?;
    is_ready.then(|| Tx::new(Conn::Lite(conn), Arc::default()))
}

/// Opens the writer when there is something to write. Where that fails, whoever asked is told, and the next asks anew.
fn open_and_serve(path: &Path, options: &Options, mut queue: mpsc::Receiver<Job>, bell: &Bell) {
    while let Some(mut job) = queue.blocking_recv() {
        match Writer::open(path, options) {
            Ok(writer) => return writer.serve(Some(job), queue, bell),
            Err(error) => {
                job.fail(error);
                job.answer();
            }
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the ledger's writer has stopped")
}

fn read_once(query: &dyn Asked, tx: &mut Tx, clock: &Clock) -> Result<Answer> {
    let conn = lite(tx);
    conn.exec("begin")?;
    let answer = conn.set_now(clock).and_then(|_| now_or_never(query.run(tx)));
    // The read transaction must end whatever happened, or it would hold the write-ahead log back.
    lite(tx).exec("rollback")?;
    answer
}

fn lite(tx: &mut Tx) -> &mut LiteConn {
    match &mut tx.conn {
        Conn::Lite(conn) => conn,
        Conn::Pg(_) => unreachable!("made by this module"),
    }
}

/// Polls an operation once. On SQLite nothing in a transaction ever waits, so once is enough.
fn now_or_never(mut work: Boxed<'_, Answer>) -> Result<Answer> {
    let mut context = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context))) {
        Ok(Poll::Ready(answer)) => answer,
        Ok(Poll::Pending) => Err(Error::failed("an operation waited inside a transaction (this is a bug)")),
        Err(_) => Err(Error::failed("an operation panicked inside a transaction (this is a bug)")),
    }
}

/// An operation on its way through the writer.
struct Job {
    work: Box<dyn Asked>,
    out: Option<Result<Answer>>,
    /// Whether it may be done from now on, also for one who no longer waits.
    begun: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Answer>>,
}

impl Job {
    /// Marks it as begun, if someone still waits for the answer.
    fn begin(&self) -> bool {
        self.begun.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        !self.reply.is_closed()
    }

    fn run(&mut self, tx: &mut Tx) -> Result<()> {
        self.out = Some(Ok(now_or_never(self.work.run(tx))?));
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.out = Some(Err(error));
    }

    fn answer(self) {
        // A caller that went away needs no answer; its operation was perhaps not even begun.
        if let Some(out) = self.out {
            let _ = self.reply.send(out);
        }
    }
}

struct Writer {
    path: PathBuf,
    lock: Option<File>,
    clock: Clock,
    schema: &'static Schema,
    tx: Tx,
    /// Whether the log has grown since the bell was last rung: what leaves no event wakes nobody.
    news: bool,
}

impl Writer {
    fn open(path: &Path, options: &Options) -> Result<Writer> {
        make_folder(path, options.create)?;
        let lock = open_lock(path)?;
        let held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| lock_failed(path, e))?;
        make_private(path);
        // Under the lock from the first moment: SQLite does not wait for one who turns the write-ahead log on.
        let conn = LiteConn::open_to_write(path, options.busy)?;
        migrate(&conn, options.schema, path)?;
        let lock = held.unlock().map_err(|(_, e)| lock_failed(path, e))?;
        Ok(Writer {
            path: path.to_owned(),
            lock: Some(lock),
            clock: options.clock.clone(),
            schema: options.schema,
            news: false,
            tx: Tx::new(Conn::Lite(conn), Arc::default()),
        })
    }

    /// Holds the fair lock during `work`. Waiting here is first come, first served by the kernel.
    fn with_lock<T>(&mut self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let file = self.lock.take().expect("the lock file is put back below");
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(held) => {
                let answer = work(self);
                self.lock = Some(held.unlock().map_err(|(_, e)| lock_failed(&self.path, e))?);
                answer
            }
            Err((file, e)) => {
                self.lock = Some(file);
                Err(lock_failed(&self.path, e))
            }
        }
    }

    fn serve(mut self, mut waiting: Option<Job>, mut queue: mpsc::Receiver<Job>, bell: &Bell) {
        while let Some(first) = waiting.take().or_else(|| queue.blocking_recv()) {
            let mut group = vec![first];
            let done = self.with_lock(|writer| writer.commit_group(&mut group, &mut queue));
            if let Err(error) = done {
                self.abandon();
                group.iter_mut().for_each(|job| job.fail(error.clone()));
            }
            if std::mem::take(&mut self.news) {
                bell.ring();
            }
            group.into_iter().for_each(Job::answer);
        }
    }

    fn commit_group(&mut self, group: &mut Vec<Job>, queue: &mut mpsc::Receiver<Job>) -> Result<()> {
        self.begin()?;
        let mut all_went_well = self.run_bare(&mut group[0]).is_ok();
        while all_went_well && group.len() < GROUP_MAX {
            let Ok(mut job) = queue.try_recv() else { break };
            all_went_well = self.run_bare(&mut job).is_ok();
            group.push(job);
        }
        if all_went_well {
            return lite(&mut self.tx).exec("commit");
        }
        self.abandon();
        self.commit_apart(group)
    }

    /// Begins again and runs each operation in a savepoint of its own, so that one that fails leaves nothing and
    /// the others stay. That costs a copy of every page they touch, so it is done only after one has failed.
    fn commit_apart(&mut self, group: &mut [Job]) -> Result<()> {
        self.begin()?;
        group.iter_mut().try_for_each(|job| self.run_apart(job))?;
        lite(&mut self.tx).exec("commit")
    }

    fn begin(&mut self) -> Result<()> {
        self.news = false;
        lite(&mut self.tx).exec("begin immediate")?;
        self.settle_clock()
    }

    fn run_bare(&mut self, job: &mut Job) -> Result<()> {
        if !job.begin() {
            return Ok(());
        }
        job.run(&mut self.tx).and_then(|()| self.flush())
    }

    /// Runs one operation in a savepoint of its own. An error means that the whole group is lost.
    fn run_apart(&mut self, job: &mut Job) -> Result<()> {
        lite(&mut self.tx).exec("savepoint op")?;
        if let Err(error) = self.run_bare(job) {
            self.tx.forget();
            if lite(&mut self.tx).conn.is_autocommit() {
                // SQLite has ended the whole transaction by itself (a full disk): nobody of the group got through.
                return Err(error);
            }
            lite(&mut self.tx).exec("rollback to op")?;
            if let Some(event) = error.event.clone() {
                self.tx.record(*event);
                self.flush()?;
            }
            job.fail(error);
        }
        lite(&mut self.tx).exec("release op")
    }

    fn flush(&mut self) -> Result<()> {
        let (later, events) = (std::mem::take(&mut self.tx.later), std::mem::take(&mut self.tx.events));
        let conn = lite(&mut self.tx);
        conn.run_each(&later)?;
        for event in &events {
            conn.run(INSERT_EVENT, &event_args(event))?;
        }
        self.news |= !events.is_empty();
        Ok(())
    }

    fn settle_clock(&mut self) -> Result<()> {
        let Some((keep, shift)) = lite(&mut self.tx).set_now(&self.clock)? else { return Ok(()) };
        lite(&mut self.tx).run(KEEP_CLOCK, &[keep.text().into()])?;
        let Some(shift) = shift else { return Ok(()) };
        for sql in self.schema.shift_leases {
            lite(&mut self.tx).run(sql, &[shift.into()])?;
        }
        let message = format!("the wall clock was stepped by {shift} ms; leases were moved with it");
        self.tx.record(Event::new(EventKind::ClockStepped, message));
        self.flush()
    }

    /// Gives up an open transaction after a failure that took the whole group.
    fn abandon(&mut self) {
        self.tx.forget();
        let conn = lite(&mut self.tx);
        if !conn.conn.is_autocommit() {
            // If even this fails, the next `begin` says so to its callers.
            let _ = conn.exec("rollback");
        }
    }
}

/// Brings the schema up to date, in one transaction.
fn migrate(conn: &LiteConn, schema: &Schema, path: &Path) -> Result<()> {
    let found = check_ours(conn, path)?;
    let missing = schema.missing(found, &format!("{}", path.display()))?;
    if missing.is_empty() {
        return Ok(());
    }
    conn.exec("begin immediate")?;
    for step in missing {
        conn.conn.execute_batch(step.lite).map_err(|e| wrong(&e, path))?;
    }
    let stamp =
        format!("pragma application_id = {APPLICATION_ID}; pragma user_version = {}", schema.version());
    conn.conn.execute_batch(&stamp).map_err(|e| wrong(&e, path))?;
    conn.exec("commit")
}

const INSERT_EVENT: &str = "insert into events (at, kind, agent, task_id, run_id, resource, message, data)
     values (now_ms(), $1, $2, $3, $4, $5, $6, $7)";
const NEWEST_EVENT: &str = "select at from events order by seq desc limit 1";
const KEEP_CLOCK: &str = "insert into meta (key, value) values ('clock', $1) on conflict (key) do update set value = excluded.value";

/// One connection to the file.
#[derive(Debug)]
pub(crate) struct LiteConn {
    pub(crate) conn: Connection,
    path: PathBuf,
    now: Arc<AtomicI64>,
}

impl LiteConn {
    fn open_to_write(path: &Path, busy: Duration) -> Result<LiteConn> {
        let conn =
            LiteConn::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, busy)?;
        conn.pragmas("pragma journal_mode = wal; pragma synchronous = full;")?;
        Ok(conn)
    }

    pub(crate) fn open_to_read(path: &Path, busy: Duration) -> Result<LiteConn> {
        // Not opened read-only: a reader of a write-ahead log must be able to make its shared memory.
        let conn = LiteConn::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
        conn.pragmas("pragma query_only = on;")?;
        Ok(conn)
    }

    /// Holds on to this moment of the ledger: what others write from now on is not seen here.
    pub(crate) fn hold(&self) -> Result<()> {
        // The moment is that of the first look, not of `begin`.
        self.pragmas("begin; select count(*) from sqlite_schema")
    }

    fn open(path: &Path, flags: OpenFlags, busy: Duration) -> Result<LiteConn> {
        let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(|e| wrong(&e, path))?;
        conn.busy_timeout(busy).map_err(|e| wrong(&e, path))?;
        conn.set_prepared_statement_cache_capacity(256);
        let now = Arc::new(AtomicI64::new(0));
        let read = now.clone();
        // Deterministic within one statement, which is what the flag promises.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        conn.create_scalar_function("now_ms", 0, flags, move |_| Ok(read.load(Ordering::Relaxed)))
            .and_then(|()| conn.create_scalar_function("log_head", 0, flags, |_| Ok(i64::MAX)))
            .and_then(|()| crate::vector::register(&conn))
            .map_err(|e| wrong(&e, path))?;
        Ok(LiteConn { conn, path: path.to_owned(), now })
    }

    /// Tells whether the file has a write-ahead log: without one, who reads is in the way of who writes.
    fn has_log(&self) -> Result<bool> {
        Ok(self.all("pragma journal_mode", &[], |row| row.text("journal_mode"))? == ["wal"])
    }

    fn pragmas(&self, text: &str) -> Result<()> {
        self.conn.execute_batch(text).map_err(|e| wrong(&e, &self.path))
    }

    fn exec(&self, text: &str) -> Result<()> {
        let mut statement = self.conn.prepare_cached(text).map_err(|e| wrong(&e, &self.path))?;
        statement.raw_execute().map_err(|e| wrong(&e, &self.path))?;
        Ok(())
    }

    /// Sets the ledger's time for this transaction; returns what is to be kept if the clock changed.
    fn set_now(&self, clock: &Clock) -> Result<Option<(Kept, Option<i64>)>> {
        let text = self.all("select value from meta where key = 'clock'", &[], |row| row.text("value"))?;
        let kept = text.first().and_then(|text| Kept::parse(text));
        let reading = clock.reading();
        let newest = match &kept {
            Some(kept) if kept.boot == reading.boot => None,
            _ => self.all(NEWEST_EVENT, &[], |row| row.int("at"))?.first().copied(),
        };
        let ledger = ledger(kept.as_ref(), &reading, newest);
        self.now.store(ledger.now, Ordering::Relaxed);
        Ok(ledger.keep.map(|keep| (keep, ledger.shift)))
    }

    pub(crate) fn all<T>(
        &self,
        sql: &str,
        args: &[Arg<'_>],
        decode: fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql, args)?;
        let mut rows = statement.raw_query();
        let mut list = Vec::new();
        while let Some(row) = rows.next().map_err(|e| wrong(&e, &self.path))? {
            list.push(decode(&Row::lite(row))?);
        }
        Ok(list)
    }

    pub(crate) fn run_each(&self, list: &[Later]) -> Result<()> {
        list.iter().try_for_each(|(sql, args)| self.run(sql, args).map(drop))
    }

    pub(crate) fn run(&self, sql: &str, args: &[Arg<'_>]) -> Result<u64> {
        let mut statement = self.prepare(sql, args)?;
        let changed = statement.raw_execute().map_err(|e| wrong(&e, &self.path))?;
        Ok(changed as u64)
    }

    /// Binds by name: SQLite numbers `$n` by first appearance, so positions would swap arguments silently.
    fn prepare(&self, sql: &str, args: &[Arg<'_>]) -> Result<rusqlite::CachedStatement<'_>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(|e| wrong(&e, &self.path))?;
        for (arg, name) in args.iter().zip(NAMES) {
            if matches!(arg, Arg::Text(text) if text.contains('\0')) {
                return Err(crate::arg::unstorable());
            }
            let index = statement.parameter_index(name).map_err(|e| wrong(&e, &self.path))?;
            let Some(index) = index else {
                return Err(Error::failed(format!("statement has no {name} (this is a bug): {sql}")));
            };
            bind(&mut statement, index, arg).map_err(|e| wrong(&e, &self.path))?;
        }
        Ok(statement)
    }
}

const NAMES: [&str; 40] = [
    "$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16",
    "$17", "$18", "$19", "$20", "$21", "$22", "$23", "$24", "$25", "$26", "$27", "$28", "$29", "$30", "$31",
    "$32", "$33", "$34", "$35", "$36", "$37", "$38", "$39", "$40",
];

fn bind(statement: &mut rusqlite::Statement<'_>, index: usize, arg: &Arg<'_>) -> rusqlite::Result<()> {
    match arg {
        Arg::Null => statement.raw_bind_parameter(index, rusqlite::types::Null),
        Arg::Int(n) => statement.raw_bind_parameter(index, n),
        Arg::Text(text) => statement.raw_bind_parameter(index, text.as_ref()),
        Arg::Ints(list) => statement.raw_bind_parameter(index, json_list(list, i64::to_string)),
        Arg::Texts(list) => statement.raw_bind_parameter(index, json_list(list, |text| json_text(text))),
        Arg::Vector(numbers) => {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            statement.raw_bind_parameter(index, bytes)
        }
    }
}

fn json_list<T>(items: &[Option<T>], shown: fn(&T) -> String) -> String {
    let items = items.iter().map(|item| item.as_ref().map_or_else(|| "null".to_owned(), shown));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn make_folder(path: &Path, create: bool) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if !create {
        return Err(Error::not_found(format!("no ledger at {}", path.display()))
            .hint("start one with `quorate run PLAN`, `quorate up` or `quorate init`"));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    private_folder(folder).map_err(|e| {
        Error::unavailable(format!("cannot make the folder {}: {e}", folder.display()))
            .hint("choose another place with QUORATE_STORE=sqlite:PATH, or mend the folder's permissions")
    })
}

/// Makes a folder, and those above it that are missing, for this user alone: what is in a ledger is nobody else's business.
///
/// # Errors
/// As of the operating system. A folder that is there is left as it is.
pub fn private_folder(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes the file before SQLite would, readable by this user alone: its write-ahead log takes after it. One that is there
/// is not opened, which would end SQLite's locks on it, nor changed, for somebody may have opened it to a group; and what
/// keeps a new one from being made, SQLite says better.
fn make_private(path: &Path) {
    let _ = File::options().write(true).create_new(true).mode(0o600).open(path);
}

fn open_lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    // Who may read it could hold it, and with it every writer.
    let opened = File::options().create(true).truncate(false).write(true).mode(0o600).open(&name);
    opened.map_err(|e| {
        Error::unavailable(format!("cannot write {}: {e}", Path::new(&name).display()))
            .hint(permission_hint(path))
    })
}

fn lock_failed(path: &Path, e: nix::Error) -> Error {
    Error::unavailable(format!("cannot lock {}: {e}", path.display()))
        .hint("a network file system may not know locks: put the ledger on a local disk")
}

/// Returns the schema version of a file that is ours, 0 for an empty one, or the refusal of another's.
fn check_ours(conn: &LiteConn, path: &Path) -> Result<i64> {
    let id = conn.all("pragma application_id", &[], |row| row.int("application_id"))?;
    let version = conn.all("pragma user_version", &[], |row| row.int("user_version"))?;
    let objects = conn.all("select count(*) as n from sqlite_schema", &[], |row| row.int("n"))?;
    match (id.first(), objects.first()) {
        (Some(&APPLICATION_ID), _) => Ok(version.first().copied().unwrap_or(0)),
        (_, Some(0)) => Ok(0),
        _ => Err(Error::unavailable(format!(
            "{} is a SQLite database, but not a Quorate ledger",
            path.display()
        ))
        .hint("name another file under [store] url, or with QUORATE_STORE=sqlite:PATH")),
    }
}

fn permission_hint(path: &Path) -> String {
    format!("see who owns it with `ls -l {}`; `quorate doctor` tells more", path.display())
}

fn locked(path: &Path) -> Error {
    Error::unavailable(format!("the ledger {} is locked by another program", path.display()))
        .hint("end or continue the other program (`fuser` shows it), then try again")
}

/// Nobody knows whether what was asked for is done.
fn unheard(path: &Path, limit: Duration) -> Error {
    Error::unavailable(format!(
        "the ledger {} has not said within {limit:?} whether it has written this; it may be written yet",
        path.display()
    ))
    .hint("look whether it is there before you ask for it once more; `quorate doctor` looks at the disk")
}

/// Translates SQLite's errors into the words of a person with a file.
pub(crate) fn wrong(e: &rusqlite::Error, path: &Path) -> Error {
    let shown = path.display();
    match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => locked(path),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::unavailable(format!("cannot write the ledger {shown}: {e}")).hint(permission_hint(path))
        }
        Some(ErrorCode::DiskFull) => {
            Error::unavailable(format!("the disk that holds the ledger {shown} is full"))
                .hint("free some space; nothing that was acknowledged is lost")
        }
        Some(ErrorCode::NotADatabase) => Error::unavailable(format!("{shown} is not a SQLite database"))
            .hint("name another file under [store] url, or with QUORATE_STORE=sqlite:PATH"),
        Some(ErrorCode::SystemIoFailure) => {
            Error::unavailable(format!("cannot read or write the ledger {shown}: {e}"))
                .hint("`quorate doctor` looks at the disk and the file")
        }
        _ => Error::failed(format!("the ledger {shown}: {e}")),
    }
}

/// After a write that has not shown yet, the log is looked at again after these pauses, in milliseconds: a commit
/// becomes visible only after its flush to the disk, and the kernel speaks before it.
const LOOK_AGAIN_MS: [u16; 6] = [0, 1, 4, 16, 64, 256];

/// How long the look at the log waits for a lock: it is only a hint.
const BELL_BUSY: Duration = Duration::from_millis(100);

/// Rings the bell when another process adds to the log, by the kernel's word on the write-ahead log: no polling.
fn watch_file(path: &Path, bell: Bell) {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut wal = path.file_name().map(std::ffi::OsStr::to_owned).unwrap_or_default();
    wal.push("-wal");
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .and_then(|watch| watch.add_watch(&folder, AddWatchFlags::IN_MODIFY).map(|_| watch));
    // Without the kernel's help followers still look by themselves, every few seconds.
    let (Ok(watch), Ok(conn)) = (watch, LiteConn::open_to_read(path, BELL_BUSY)) else { return };
    let serve = move || {
        let mut seen = log_end(&conn);
        while wait_for_write(&watch, &wal, PollTimeout::NONE) != Heard::Nobody {
            if has_grown(&watch, &wal, &conn, &mut seen) {
                bell.ring();
            }
        }
    };
    let _ = std::thread::Builder::new().name("ledger-watch".into()).spawn(serve);
}

/// What the kernel said about the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Write,
    Nothing,
    /// The kernel will say nothing more.
    Nobody,
}

fn wait_for_write(watch: &Inotify, wal: &std::ffi::OsStr, limit: PollTimeout) -> Heard {
    loop {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(0) => return Heard::Nothing,
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(_) => return Heard::Nobody,
        }
        match watch.read_events() {
            Ok(events) if events.iter().any(|event| event.name.as_deref() == Some(wal)) => {
                return Heard::Write;
            }
            Ok(_) | Err(nix::Error::EAGAIN) => {}
            Err(_) => return Heard::Nobody,
        }
    }
}

/// Returns whether the log has grown since it was last looked at: a renewed lease writes too, and is no news. A write
/// that comes meanwhile is looked for at once.
fn has_grown(watch: &Inotify, wal: &std::ffi::OsStr, conn: &LiteConn, seen: &mut Option<i64>) -> bool {
    let mut looks = 0;
    while let Some(pause) = LOOK_AGAIN_MS.get(looks) {
        looks = match wait_for_write(watch, wal, PollTimeout::from(*pause)) {
            Heard::Write => 0,
            Heard::Nothing => looks + 1,
            Heard::Nobody => LOOK_AGAIN_MS.len(),
        };
        let end = log_end(conn);
        if end.is_none() || end != *seen {
            *seen = end;
            return true;
        }
    }
    false
}

fn log_end(conn: &LiteConn) -> Option<i64> {
    let sql = "select seq from sqlite_sequence where name = 'events'";
    conn.all(sql, &[], |row| row.int("seq")).ok().map(|seqs| seqs.first().copied().unwrap_or(0))
}
