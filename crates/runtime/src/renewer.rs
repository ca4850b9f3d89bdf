//! Keeping leases: a thread of its own, whatever the children or the machine's load do.
//!
//! Every third of a lease it renews all that this node holds, in one transaction; what fails is tried again soon, so
//! that a database that restarts costs nothing. A task that is no longer held, or whose lease would end before the database
//! answers again, loses its child at once: another may have the task.
//! Beside that, a hint that the ledger changed makes it look whether something was taken away, so that a cancel is felt
//! in milliseconds and not at the next renewal. A renewal waits for nothing: not even for such a look.

use quorate_model::{Error, Result, TaskId, Term};
use quorate_process::{Activity, Control};
use quorate_service::SCHEMA;
use quorate_service::task::{Held, Renew, Renewed};
use quorate_service::view::StillHeld;
use quorate_store::{Options, Store, Url};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Hints of changes are looked at no oftener than this.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a way to the database may take to be made, where the first of its hosts does not answer.
const WAY_MAX: Duration = Duration::from_secs(4);
/// The part of a lease after which a renewal that failed is tried again: often enough before a child has to go.
const AGAIN: u32 = 20;

/// Why a task is no longer ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The ledger says so: another has it, or nobody.
    TakenAway,
    /// Its lease may be over before the ledger answers again, or somebody keeps it locked there. Ours it still is, if that ends
    /// in time.
    Unreachable,
    /// The same, because this node did not run: it was stopped, suspended, or had no processor.
    Asleep,
}

impl Lost {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Lost::TakenAway => "the task is no longer ours: its term has changed",
            Lost::Unreachable => {
                "the lease could not be renewed before its end: the database did not answer, or somebody keeps the task locked"
            }
            Lost::Asleep => {
                "the lease could not be renewed before its end: the node was stopped, or had no processor"
            }
        }
    }
}

/// The renewer of one node.
#[derive(Debug)]
pub(crate) struct Renewer {
    shared: Arc<Shared>,
    lease: Duration,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// Something has to be renewed before its turn.
    hurry: Notify,
    stop: Notify,
}

/// What this node holds. A task may be there twice: it was taken away, and an agent of this same node has it again while
/// the child of the first still ends. At most one of the two is not lost.
#[derive(Debug, Default)]
struct Book {
    tasks: HashMap<(TaskId, Term), Holding>,
    /// The agents whose sessions live here, and when each session ends for certain.
    agents: BTreeMap<String, Instant>,
}

impl Book {
    /// Returns the tasks that are ours as far as is known.
    fn ours(&mut self) -> impl Iterator<Item = (TaskId, Term, &mut Holding)> {
        let ours = self.tasks.iter_mut().filter(|(_, holding)| holding.lost() != Some(Lost::TakenAway));
        ours.map(|((id, term), holding)| (*id, *term, holding))
    }
}

#[derive(Debug)]
struct Holding {
    /// When the lease ends for certain, on this process's clock.
    until: Instant,
    control: Option<Control>,
    /// What the child had done when the ledger was told last.
    seen: Option<Activity>,
    lost: watch::Sender<Option<Lost>>,
    killed: bool,
}

impl Holding {
    /// Returns what the child has done until now.
    fn activity(&self) -> Option<Activity> {
        self.control.as_ref().map(Control::activity)
    }

    fn lost(&self) -> Option<Lost> {
        *self.lost.borrow()
    }

    /// Ends the child at once, if that was not done before.
    fn kill(&mut self, why: Lost) {
        if let (false, Some(control)) = (self.killed, &self.control) {
            control.kill(why.reason());
            self.killed = true;
        }
    }

    /// Stops the child. What was taken away after it could not be reached is taken away.
    fn lose(&self, why: Lost) {
        self.lost.send_if_modified(|lost| {
            let is_news = lost.is_none() || why == Lost::TakenAway;
            if is_news {
                *lost = Some(why);
            }
            is_news
        });
        if let Some(control) = &self.control {
            control.stop(why.reason());
        }
    }
}

/// A task that this node holds, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    id: TaskId,
    term: Term,
    lost: watch::Receiver<Option<Lost>>,
}

impl Hold {
    /// Gives the child that works at it, to be stopped if the task is lost.
    pub(crate) fn attach(&self, control: Control) {
        let mut book = self.shared.book();
        let Some(holding) = book.tasks.get_mut(&(self.id, self.term)) else { return };
        holding.control = Some(control);
        if let Some(why) = holding.lost() {
            // It has only just begun: there is nothing for it to end in order.
            holding.kill(why);
        }
    }

    /// Begins anew, where the ledger has given the lease again until then. The child is gone by now.
    pub(crate) fn regain(&mut self, until: Instant) {
        let (sender, lost) = watch::channel(None);
        let mut book = self.shared.book();
        let Some(holding) = book.tasks.get_mut(&(self.id, self.term)) else { return };
        *holding = Holding { until, control: None, seen: None, lost: sender, killed: false };
        self.lost = lost;
    }

    /// Returns why the task is lost, if it is.
    pub(crate) fn lost(&self) -> Option<Lost> {
        *self.lost.borrow()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.book().tasks.remove(&(self.id, self.term));
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it holds the book; a poisoned one is still right.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread needs to know.
#[derive(Debug, Clone)]
pub(crate) struct RenewerOptions {
    pub url: Url,
    pub node: String,
    pub lease: Duration,
}

impl Renewer {
    pub(crate) fn start(store: &Store, options: RenewerOptions) -> Result<Renewer> {
        let shared = Arc::new(Shared { book: Mutex::default(), hurry: Notify::new(), stop: Notify::new() });
        let (thread_shared, store, lease) = (shared.clone(), store.clone(), options.lease);
        let wrong = |e| Error::failed(format!("cannot start the thread that keeps leases: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
        let body = move || runtime.block_on(serve(&thread_shared, store, &options));
        let thread = std::thread::Builder::new().name("renewer".into()).spawn(body).map_err(wrong)?;
        Ok(Renewer { shared, lease, thread: Some(thread) })
    }

    /// Begins to keep the lease of a task that was taken until then. Who had it before in this node has lost it.
    pub(crate) fn hold(&self, id: TaskId, term: Term, until: Instant) -> Hold {
        let (sender, lost) = watch::channel(None);
        let holding = Holding { until, control: None, seen: None, lost: sender, killed: false };
        let mut book = self.shared.book();
        for ((_, other), before) in book.tasks.iter().filter(|((same, _), _)| *same == id) {
            if *other < term { before } else { &holding }.lose(Lost::TakenAway);
        }
        book.tasks.insert((id, term), holding);
        Hold { shared: self.shared.clone(), id, term, lost }
    }

    /// Renews everything now: something that is held has less of its lease left than a fresh one.
    pub(crate) fn hurry(&self) {
        self.shared.hurry.notify_one();
    }

    /// Begins to keep the lease of an agent's session, which was begun until then.
    pub(crate) fn add_agent(&self, name: &str, until: Instant) {
        self.shared.book().agents.insert(name.to_owned(), until);
    }

    /// Returns whether a session is certain to go on long enough for something to be asked for in its name. One that may
    /// have ended may be another node's by now.
    pub(crate) fn keeps_agent(&self, name: &str) -> bool {
        let left = |until: &Instant| until.saturating_duration_since(Instant::now());
        self.shared.book().agents.get(name).is_some_and(|until| left(until) > self.lease / 4)
    }

    /// No longer keeps the lease of an agent's session.
    pub(crate) fn remove_agent(&self, name: &str) {
        self.shared.book().agents.remove(name);
    }
}

impl Drop for Renewer {
    /// Ends the thread. Leases that are still held end by themselves.
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to keep.
            let _ = thread.join();
        }
    }
}

async fn serve(shared: &Shared, store: Store, options: &RenewerOptions) {
    // What loses goes on while the way to the database is still being made.
    let keep = async { tokio::join!(keep(shared, store, options), lose_for_ever(shared, options.lease)) };
    tokio::select! {
        _ = keep => {}
        () = shared.stop.notified() => {}
    }
}

/// On PostgreSQL the thread has connections of its own, so that a busy pool cannot keep a renewal waiting.
async fn own_store(store: Store, url: &Url) -> Store {
    match url {
        Url::Lite(_) => store,
        Url::Pg(_) => {
            let options = Options { connections: 1, ..Options::new(&SCHEMA) };
            Store::open(url, options).await.unwrap_or(store)
        }
    }
}

async fn keep(shared: &Shared, store: Store, options: &RenewerOptions) {
    let store = own_store(store, &options.url).await;
    tokio::join!(renew_for_ever(shared, &store, options), look_for_ever(shared, &store, options.lease));
}

async fn renew_for_ever(shared: &Shared, store: &Store, options: &RenewerOptions) {
    let (mut due, mut pause) = (Instant::now(), options.lease / 3);
    loop {
        due = (due + pause).max(Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = shared.hurry.notified() => due = Instant::now(),
        }
        let part = if renew(shared, store, options).await { 3 } else { AGAIN };
        pause = options.lease / part;
    }
}

async fn look_for_ever(shared: &Shared, store: &Store, lease: Duration) {
    let mut changes = store.changes();
    loop {
        changes.wait(lease).await;
        // Given up when renewals have told by then; what was taken away meanwhile is seen by the next.
        let _ = tokio::time::timeout(lease, look(shared, store)).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Renews all that is held; answers whether the ledger did so, with all of it.
async fn renew(shared: &Shared, store: &Store, options: &RenewerOptions) -> bool {
    let (asked, agents) = {
        let mut book = shared.book();
        let asked: Vec<Asked> = book.ours().map(|(id, term, holding)| Asked::of(id, term, holding)).collect();
        (asked, book.agents.keys().cloned().collect())
    };
    let sent = Instant::now();
    let lease_ms = i64::try_from(options.lease.as_millis()).unwrap_or(i64::MAX);
    let held = asked.iter().map(|asked| asked.held).collect();
    let request = Renew { held, agents, node: options.node.clone(), lease_ms };
    let limit = (options.lease / 4).max(WAY_MAX.min(options.lease / 2));
    let Ok(Ok(renewed)) = tokio::time::timeout(limit, store.write(request)).await else { return false };
    settle(shared, &asked, &renewed, sent + options.lease);
    renewed.busy.is_empty()
}

/// What is to be renewed, and what its child had done then.
struct Asked {
    held: Held,
    activity: Option<Activity>,
}

impl Asked {
    fn of(id: TaskId, term: Term, holding: &Holding) -> Asked {
        let activity = holding.activity();
        Asked { held: Held { id, term, active: activity != holding.seen }, activity }
    }
}

fn settle(shared: &Shared, asked: &[Asked], renewed: &Renewed, until: Instant) {
    let mut book = shared.book();
    for name in &renewed.agents {
        if let Some(end) = book.agents.get_mut(name) {
            *end = until;
        }
    }
    for Asked { held, activity } in asked {
        let Some(holding) = book.tasks.get_mut(&(held.id, held.term)) else { continue };
        if renewed.kept.contains(&held.id) {
            (holding.until, holding.seen) = (until, *activity);
        } else if !renewed.busy.contains(&held.id) {
            holding.lose(Lost::TakenAway);
        }
    }
}

/// Stops children early enough that they are gone when another may take their task, whatever grace they have: a quarter of
/// the lease before its end they are told to go, and at half of that they are killed.
async fn lose_for_ever(shared: &Shared, lease: Duration) {
    let margin = lease / 4;
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        let why = if now - due > margin / 2 { Lost::Asleep } else { Lost::Unreachable };
        // Nothing that is taken meanwhile ends sooner than this.
        let mut next = now + margin;
        for holding in shared.book().tasks.values_mut() {
            let left = holding.until.saturating_duration_since(now);
            if left > margin {
                next = next.min(now + left - margin);
                continue;
            }
            if holding.lost().is_none() {
                holding.lose(why);
            }
            match left > margin / 2 {
                true => next = next.min(now + left - margin / 2),
                false => holding.kill(holding.lost().unwrap_or(why)),
            }
        }
        due = next;
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Looks whether something was taken away since the last renewal.
async fn look(shared: &Shared, store: &Store) {
    let held: Vec<(TaskId, Term)> = shared.book().ours().map(|(id, term, _)| (id, term)).collect();
    if held.is_empty() {
        return;
    }
    let Ok(still) = store.read(StillHeld { held: held.clone() }).await else { return };
    let book = shared.book();
    for held in held.iter().filter(|(id, _)| !still.contains(id)) {
        if let Some(holding) = book.tasks.get(held) {
            holding.lose(Lost::TakenAway);
        }
    }
}
