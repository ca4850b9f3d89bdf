//! A node: one process that supervises agents.
//!
//! Here live its beginning (orphans first, then the loops), its end (sessions finish, then the loops, then the leases
//! are given up), and what its loops share.

use crate::git::Git;
use crate::renewer::{Hold, Renewer, RenewerOptions};
use crate::rests::Rests;
use crate::session::Session;
use crate::stop::{LAST_WORDS, Level, Stop, Stopper};
use crate::team::Member;
use crate::{checker, health, janitor, orphans};
use quorate_drivers::api::embeddings::Embedder;
use quorate_model::config::{Config, millis};
use quorate_model::{Kind, Result, RunId, TaskId, Term};
use quorate_service::node::{Begin, End};
use quorate_service::task::{Held, Renew};
use quorate_store::{Store, Url, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Checks that run side by side.
const CHECKERS: usize = 2;
/// How long a report is tried again while the database is away, and how long after each try.
const INSIST: Duration = Duration::from_secs(15 * 60);
const INSIST_PAUSE: Duration = Duration::from_millis(500);
/// Notices that wait for whoever shows them; more are dropped.
const NOTICES_MAX: usize = 256;

/// What a node is begun with.
#[derive(Debug)]
pub struct NodeOptions {
    /// What it is: up, run or agent.
    pub kind: &'static str,
    /// The ledger's address.
    pub url: Url,
    /// The same ledger as its children reach it: they may have fewer rights.
    pub agents_url: Url,
    /// The configuration.
    pub config: Arc<Config>,
    /// The folder in which commands run.
    pub folder: PathBuf,
    /// The folder of the product's own files, `.quorate`.
    pub state: PathBuf,
    /// Its agents.
    pub members: Vec<Member>,
    /// Works only at this run.
    pub run: Option<RunId>,
    /// Where it is asked over the network, as its children reach it: `http://127.0.0.1:8888`.
    pub door: Option<String>,
    /// The model that finds memories by their meaning.
    pub embedder: Option<Arc<Embedder>>,
}

/// What the loops of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) agents_url: Url,
    pub(crate) config: Arc<Config>,
    pub(crate) folder: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) node_id: i64,
    pub(crate) node: String,
    pub(crate) host: String,
    pub(crate) run: Option<RunId>,
    pub(crate) door: Option<String>,
    pub(crate) embedder: Option<Arc<Embedder>>,
    pub(crate) renewer: Renewer,
    pub(crate) git: Git,
    /// The `quorate` program, for the children.
    pub(crate) program: PathBuf,
    notices: mpsc::Sender<String>,
}

impl Shared {
    pub(crate) fn lease(&self) -> Duration {
        millis(self.config.health.lease_ms)
    }

    /// Begins to keep the lease of a task that was asked for at that moment; answers with `None` if it has ended.
    ///
    /// It began somewhere between the question and the answer. Where the answer was long on its way, the ledger is asked
    /// again, for another may have the task by now.
    pub(crate) async fn hold(&self, stop: &Stop, id: TaskId, term: Term, asked: Instant) -> Option<Hold> {
        let lease = self.lease();
        let mut asked = asked;
        if asked.elapsed() > lease / 2 {
            let held = vec![Held { id, term, active: true }];
            let lease_ms = self.config.health.lease_ms;
            let renew = Renew { held, agents: Vec::new(), node: self.node.clone(), lease_ms };
            let again = Instant::now();
            let renewed = stop.in_time(self.store.write(renew));
            let renewed = tokio::time::timeout(lease / 2, renewed).await.ok()?.ok()?;
            match renewed.kept.contains(&id) {
                true => asked = again,
                // Locked by somebody: it is ours for as long as it was.
                false => renewed.busy.contains(&id).then_some(())?,
            }
        }
        let hold = self.renewer.hold(id, term, asked + lease);
        if asked.elapsed() > lease / 6 {
            self.renewer.hurry();
        }
        Some(hold)
    }

    pub(crate) fn log_file(&self, task: TaskId, attempt: i64, suffix: &str) -> PathBuf {
        self.state.join("logs").join(format!("{task}-{attempt}{suffix}.log"))
    }

    /// Writes, and tries again while the ledger cannot be reached, until the node is to stop at once. Only for writes
    /// that may be said twice. What cannot be said in the end shows as a lease that lapses.
    pub(crate) async fn insist<W: Write + Clone>(
        &self,
        who: &str,
        stop: &Stop,
        work: &W,
    ) -> Result<W::Answer> {
        let (until, mut told, mut stop) = (Instant::now() + INSIST, false, stop.clone());
        loop {
            let error = match stop.in_time(self.store.write(work.clone())).await {
                Err(error) if error.kind == Kind::Unavailable => error,
                answer => return answer,
            };
            if Instant::now() >= until || stop.level() == Level::Now {
                return Err(error);
            }
            if !told {
                self.say(format!("{who}: {error}; trying again"));
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(INSIST_PAUSE) => {}
                () = stop.reached(Level::Now) => {}
            }
        }
    }

    /// Tells whoever watches this node something that is not in the log: a trouble with the ledger itself.
    pub(crate) fn say(&self, notice: String) {
        // Nobody who watches, or one who is too slow, must not hold the loops up.
        let _ = self.notices.try_send(notice);
    }
}

/// A node at work.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    sessions: JoinSet<()>,
    loops: JoinSet<()>,
    stopper: Stopper,
    loops_stopper: Stopper,
    notices: mpsc::Receiver<String>,
}

impl Node {
    /// Begins a node: what died here is cleaned up, agents are registered, loops start.
    ///
    /// # Errors
    /// `Unavailable` when the ledger cannot be reached.
    pub async fn begin(store: Store, options: NodeOptions) -> Result<Node> {
        let raised = quorate_process::limits::raise_open_files();
        let grace = millis(options.config.health.grace_ms);
        orphans::end_orphans(&store, &options.agents_url.full(), grace).await?;
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let members = options.members.clone();
        let shared = Arc::new(share(store, options, notices).await?);
        let (stopper, stop) = Stopper::new();
        let (loops_stopper, loops_stop) = Stopper::new();
        let mut node = Node {
            shared,
            sessions: JoinSet::new(),
            loops: JoinSet::new(),
            stopper,
            loops_stopper,
            notices: heard,
        };
        if let Err(error) = raised {
            node.shared.say(format!("the limit of open files stays as it is: {error}"));
        }
        node.start_sessions(members, &stop).await?;
        node.start_loops(&loops_stop);
        Ok(node)
    }

    async fn start_sessions(&mut self, members: Vec<Member>, stop: &Stop) -> Result<()> {
        let mut begun = Vec::with_capacity(members.len());
        for member in members {
            begun.push(Session::begin(self.shared.clone(), member, stop.clone()).await?);
        }
        // Nobody works before all have begun: if one cannot, no child has to end for it.
        for session in begun {
            self.sessions.spawn(session.serve());
        }
        Ok(())
    }

    fn start_loops(&mut self, stop: &Stop) {
        self.loops.spawn(health::serve(self.shared.clone(), stop.clone()));
        self.loops.spawn(janitor::serve(self.shared.clone(), stop.clone()));
        let rests = Arc::<Rests>::default();
        for _ in 0..CHECKERS {
            self.loops.spawn(checker::serve(self.shared.clone(), rests.clone(), stop.clone()));
        }
    }

    /// Returns the node's id.
    pub fn id(&self) -> i64 {
        self.shared.node_id
    }

    /// Returns the end that stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the next notice: a trouble that is not in the log.
    pub async fn notice(&mut self) -> Option<String> {
        self.notices.recv().await
    }

    /// Waits until it was told to stop and everything has ended in order.
    pub async fn wait(self) {
        self.wait_and_hear(drop).await;
    }

    /// The same, and passes on the notices that come until then.
    pub async fn wait_and_hear(self, mut hear: impl FnMut(String)) {
        let Node { shared, mut sessions, mut loops, loops_stopper, mut notices, .. } = self;
        let end = async {
            while sessions.join_next().await.is_some() {}
            loops_stopper.stop(Level::Now);
            while loops.join_next().await.is_some() {}
            // Leases end by themselves if the ledger cannot be told.
            let _ = tokio::time::timeout(LAST_WORDS, shared.store.write(End { id: shared.node_id })).await;
            shared.store.close().await;
        };
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                Some(notice) = notices.recv() => hear(notice),
                () = &mut end => break,
            }
        }
        while let Ok(notice) = notices.try_recv() {
            hear(notice);
        }
    }
}

async fn share(store: Store, options: NodeOptions, notices: mpsc::Sender<String>) -> Result<Shared> {
    let host = quorate_process::host()?;
    let (pid, pid_started) = orphans::own_process()?;
    let lease_ms = options.config.health.lease_ms;
    let folder = options.folder.display().to_string();
    let begin = Begin { kind: options.kind, host: host.clone(), pid, pid_started, folder, lease_ms };
    let node_id = store.write(begin).await?;
    let lease = millis(lease_ms);
    let renewer = Renewer::start(
        &store,
        RenewerOptions { url: options.url.clone(), node: node_id.to_string(), lease },
    )?;
    Ok(Shared {
        store,
        agents_url: options.agents_url,
        config: options.config,
        folder: options.folder,
        state: options.state,
        node_id,
        node: node_id.to_string(),
        host,
        run: options.run,
        door: options.door,
        embedder: options.embedder,
        renewer,
        git: Git::default(),
        // Where the system does not tell, the PATH does.
        program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("quorate")),
        notices,
    })
}
