//! What every door does with a request, whoever brings it.
//!
//! Here live the steps that the network and the command line share: a name that is first seen joins the team, time is let
//! catch up before a task is looked for, a run is settled after its last task, and waiting. What is decided, `service`
//! decides; how a request is read and an answer shown is the door's business.

mod memory;
mod usage;

pub use memory::{Consolidating, Recalled};
pub use usage::ModelUsage;

use quorate_drivers::api::embeddings::Embedder;
use quorate_model::config::{Config, Driver, millis};
use quorate_model::diagnostic::quote;
use quorate_model::resource::Resource;
use quorate_model::{AgentState, Error, Kind, Result, TaskState, nearest};
use quorate_service::claim::{self, Claim, Grant, Leave};
use quorate_service::health::Check;
use quorate_service::message::{Fetch, INBOX_MAX, Message};
use quorate_service::run::{self, Settle};
use quorate_service::task::{Cancel, Done, DoneAnswer, Fail, Has, Take, TakeAnswer, Taken};
use quorate_service::token::{self, Token};
use quorate_service::usage::is_budget;
use quorate_service::view::{AgentView, Agents, Attempt, RunShow, RunStory};
use quorate_service::{agent, log, wire};
use quorate_store::{Boxed, Changes, Store};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest pause between two looks at a ledger in which something is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest: hints that lead to nothing must not keep anyone busy.
const LOOK_LEAST: Duration = Duration::from_millis(50);
/// How often an agent that waits for a task is noted as alive.
const SEEN_EVERY: Duration = Duration::from_secs(20);

/// How long a claim is held, in milliseconds, if its holder does not say.
pub const CLAIM_MS: i64 = 15 * 60 * 1000;

/// A ledger with the rules of its team.
#[derive(Debug, Clone)]
pub struct Desk {
    store: Store,
    config: Arc<Config>,
    folder: Arc<PathBuf>,
    /// This host, and the folder of what attempts left here.
    shelf: Option<Arc<(String, PathBuf)>>,
    /// The model that finds memories by their meaning.
    embedder: Option<Arc<Embedder>>,
    doctor: Option<Arc<dyn Doctor>>,
}

/// Who looks what is wrong around a ledger: at its configuration, its machine, the programs and keys of its agents.
pub trait Doctor: std::fmt::Debug + Send + Sync {
    /// Looks, and changes nothing.
    fn look<'a>(&'a self, store: &'a Store) -> Boxed<'a, wire::Diagnosis>;
}

/// How a wait for a change of the ledger ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Look again.
    Over,
    /// The time to wait is used up.
    TooLate,
    /// It was interrupted.
    Interrupted,
}

/// Someone who looks again and again until a time, or until he is interrupted.
pub struct Watch {
    changes: Changes,
    deadline: Option<Instant>,
    interrupted: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Watch {
    /// Begins to watch; `wait_ms` from now it is too late, or never.
    pub fn new(store: &Store, wait_ms: Option<i64>) -> Watch {
        Watch::until(store, wait_ms, std::future::pending())
    }

    /// The same, but it also ends when `interrupted` does. Only the pause can be interrupted, never a write.
    pub fn until(
        store: &Store,
        wait_ms: Option<i64>,
        interrupted: impl Future<Output = ()> + Send + 'static,
    ) -> Watch {
        let deadline = wait_ms.and_then(|ms| Instant::now().checked_add(millis(ms)));
        Watch { changes: store.changes(), deadline, interrupted: Box::pin(interrupted) }
    }

    /// Pauses until a look may pay: a hint came, or `due_ms` have passed, or a second. Not to be called again after an
    /// interruption.
    pub async fn pause(&mut self, due_ms: Option<i64>) -> Pause {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Pause::TooLate;
        }
        let due = due_ms.map_or(LOOK_EVERY, millis);
        let earlier = |at: Instant| self.deadline.map_or(at, |deadline| at.min(deadline));
        let (least, most) = (earlier(now + LOOK_LEAST), earlier(now + due.clamp(LOOK_LEAST, LOOK_EVERY)));
        let hint = async {
            tokio::time::sleep_until(least).await;
            self.changes.wait(most.saturating_duration_since(Instant::now())).await;
        };
        tokio::select! {
            () = hint => Pause::Over,
            () = &mut self.interrupted => Pause::Interrupted,
        }
    }
}

impl Desk {
    /// Makes the desk of a ledger: with the team's configuration, and the folder that resource names are relative to.
    pub fn new(store: Store, config: Arc<Config>, folder: PathBuf) -> Desk {
        Desk { store, config, folder: Arc::new(folder), shelf: None, embedder: None, doctor: None }
    }

    /// Says on which host it stands, and in which folder the output of that host's attempts is.
    pub fn with_shelf(self, host: String, logs: PathBuf) -> Desk {
        Desk { shelf: Some(Arc::new((host, logs))), ..self }
    }

    /// Says which model finds memories by their meaning.
    pub fn with_embedder(self, embedder: Option<Arc<Embedder>>) -> Desk {
        Desk { embedder, ..self }
    }

    /// Says who looks what is wrong.
    pub fn with_doctor(self, doctor: Arc<dyn Doctor>) -> Desk {
        Desk { doctor: Some(doctor), ..self }
    }

    /// Says what is wrong, and what mends it.
    ///
    /// # Errors
    /// `Unavailable` where nobody looks; those of the ledger.
    pub async fn diagnosis(&self) -> Result<wire::Diagnosis> {
        match &self.doctor {
            Some(doctor) => doctor.look(&self.store).await,
            None => Err(Error::unavailable("nobody looks what is wrong here").hint("run `quorate doctor`")),
        }
    }

    /// Returns the file with an attempt's output, if it is on this host.
    ///
    /// Only its name is taken from the ledger, never its folder: who can write there must not choose what is read here.
    pub fn output_file(&self, attempt: &Attempt) -> Option<PathBuf> {
        let (host, logs) = &**self.shelf.as_ref()?;
        let name = Path::new(attempt.log.as_ref()?).file_name()?;
        (attempt.host.as_ref() == Some(host)).then(|| logs.join(name))
    }

    /// Returns the ledger.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the project's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the team's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Notes a sign of life of an agent that speaks for itself. A name first seen joins the team, unless only those of
    /// `quorate.toml` may.
    ///
    /// # Errors
    /// `Refused` for a stranger where only configured agents may join.
    pub async fn seen(&self, name: &str) -> Result<agent::Agent> {
        let is_configured = self.add_configured(name).await?;
        let strict = self.config.strict_agents && !is_configured;
        self.store.write(agent::Seen { name: name.to_owned(), strict }).await
    }

    /// Adds an agent that stands in `quorate.toml`: it belongs to the team before it was ever started.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn add_configured(&self, name: &str) -> Result<bool> {
        let members = self.config.agents();
        let Some((_, config)) = members.into_iter().find(|(member, _)| member == name) else {
            return Ok(false);
        };
        let (driver, capabilities) =
            (Some(config.driver.as_str().to_owned()), Some(config.capabilities.clone()));
        self.store.write(agent::Add { name: name.to_owned(), driver, capabilities }).await?;
        Ok(true)
    }

    /// Gives an agent a person's word; one that stands in `quorate.toml` need not have been started. A run whose last open task
    /// fails by it ends.
    ///
    /// # Errors
    /// Those of [`agent::Tell`].
    pub async fn tell(&self, name: &str, word: agent::Word) -> Result<Vec<agent::Stopped>> {
        self.add_configured(name).await?;
        let stopped = self.store.write(agent::Tell { name: name.to_owned(), word }).await?;
        if stopped.iter().any(|task| task.state == TaskState::Failed) {
            self.check().await?;
        }
        Ok(stopped)
    }

    /// Finds an agent.
    ///
    /// # Errors
    /// `NotFound`, with the nearest name.
    pub async fn agent(&self, name: &str) -> Result<AgentView> {
        if let Some(view) = self.store.read(Agents { name: Some(name.to_owned()) }).await?.pop() {
            return Ok(view);
        }
        let team = self.store.read(Agents::default()).await?;
        let near = nearest(name, team.iter().map(|view| view.agent.name.as_str()));
        let configured = self.config.agents().into_iter().find(|(member, _)| member == name);
        let hint = match (configured.map(|(_, table)| table.driver), near) {
            (Some(Driver::External | Driver::Human), _) => format!(
                "it stands in quorate.toml and joins when it takes its work: quorate task next --agent {name}"
            ),
            (Some(_), _) => "it stands in quorate.toml and joins when it is started: quorate up".into(),
            (None, Some(near)) => format!("did you mean `{near}`? `quorate agent list` shows the team"),
            (None, None) => {
                format!("add it with `quorate agent add {name}`; `quorate agent list` shows the team")
            }
        };
        Err(Error::not_found(format!("no agent {}", quote(name))).hint(hint))
    }

    /// Says why an agent that asked for a task in vain takes none, whatever is ready: it has reached its budget, is paused, or
    /// has failed too often.
    ///
    /// # Errors
    /// `NotFound` for a stranger.
    pub async fn takes_nothing(&self, name: &str) -> Result<Option<Error>> {
        // Asked again: it may have been paused while it waited.
        let agent = self.agent(name).await?.agent;
        if let Some(reason) = agent.reason.as_ref().filter(|why| agent.paused && is_budget(why)) {
            let error = Error::new(Kind::Refused, format!("{name} takes nothing more: {reason}"));
            return Ok(Some(error.hint(format!(
                "`quorate agent resume {name}` grants the same again; its `budget` in quorate.toml changes it"
            ))));
        }
        if !agent.paused && agent.state != "failed" {
            return Ok(None);
        }
        let why = if agent.paused { "is paused" } else { "has failed too often" };
        let error = Error::new(Kind::Nothing, format!("{name} {why}: it takes nothing more"));
        Ok(Some(error.hint(format!("let it go on with `quorate agent resume {name}`"))))
    }

    /// Takes a task for an agent that pulls its work. One whom a node gives its tasks is shown that which it has, and no
    /// other: nobody would watch over it.
    ///
    /// # Errors
    /// As [`take`](Desk::take); `Refused` for who has a node and no task.
    pub async fn pull(
        &self,
        known: &agent::Agent,
        take: Take,
        watch: Option<Watch>,
    ) -> Result<Option<Taken>> {
        let is_given = known.node.is_some() && self.agent(&known.name).await?.state != AgentState::Stale;
        if !is_given {
            return self.take(take, watch).await;
        }
        match self.store.read(Has { agent: known.name.clone() }).await? {
            Some(taken) => Ok(Some(taken)),
            None => {
                let message =
                    format!("a node gives {} its tasks, one at a time; this one is over", known.name);
                Err(Error::new(Kind::Refused, message)
                    .hint("end here: the next task begins in a new session"))
            }
        }
    }

    /// Gives an agent a token that lasts until it is revoked.
    ///
    /// # Errors
    /// `NotFound` for a stranger, `Refused` when it has as many as it may have.
    pub async fn give_token(&self, agent: &str) -> Result<Token> {
        self.add_configured(agent).await?;
        let token = Token::fresh()?;
        self.store.write(token::Give { agent: agent.to_owned(), digest: token.digest() }).await?;
        Ok(token)
    }

    /// Does what time alone brings about, so that lapsed leases and due tasks are seen where no node runs; answers with
    /// the milliseconds until something comes due.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn check(&self) -> Result<Option<i64>> {
        let check = Check { stuck_after_ms: self.config.health.stuck_after_ms, judge: true };
        Ok(self.store.write(check).await?.next_in_ms)
    }

    /// Takes a task, or what its agent has already, within the team's budgets; without one, waits as long as `watch` does.
    ///
    /// # Errors
    /// Those of the ledger; `Interrupted`; `Refused` for who is removed from the team while he waits. `None` is no error.
    pub async fn take(&self, take: Take, mut watch: Option<Watch>) -> Result<Option<Taken>> {
        let take = Take { limits: self.config.limits(&take.agent), ..take };
        let mut seen_at = Instant::now();
        loop {
            if seen_at.elapsed() >= SEEN_EVERY {
                self.still_there(&take.agent).await?;
                seen_at = Instant::now();
            }
            let due_ms = self.check().await?;
            let again_ms = match self.store.write(take.clone()).await? {
                TakeAnswer::Task(taken) => return Ok(Some(*taken)),
                TakeAnswer::Nothing { again_in_ms } => again_in_ms,
            };
            let Some(watch) = &mut watch else { return Ok(None) };
            match watch.pause(due_ms.into_iter().chain(again_ms).min()).await {
                Pause::Over => {}
                Pause::TooLate => return Ok(None),
                Pause::Interrupted => return Err(interrupted()),
            }
        }
    }

    /// Notes that an agent still waits. Whom a person has removed meanwhile does not come back by that.
    async fn still_there(&self, name: &str) -> Result<()> {
        // It joined at the door; here it is no stranger, or it was removed.
        let beat = agent::Seen { name: name.to_owned(), strict: true };
        match self.store.write(beat).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Refused => {
                let message = format!("{name} was removed from the team while it waited");
                Err(Error::new(Kind::Refused, message)
                    .hint(format!("`quorate agent add {name}` has it back")))
            }
            Err(error) => Err(error),
        }
    }

    /// Says that a task is done, and ends its run if it was the last.
    ///
    /// # Errors
    /// `Stale` for a term that is over; `Invalid` for a result that is too large.
    pub async fn done(&self, done: Done) -> Result<DoneAnswer> {
        let answer = self.store.write(done).await?;
        if let DoneAnswer::Completed { run: Some(run) } = answer {
            self.store.write(Settle { id: run }).await?;
        }
        Ok(answer)
    }

    /// Calls a task off, and ends the runs whose last open tasks were called off with it: those that need it may be of others.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn cancel(&self, cancel: Cancel) -> Result<()> {
        self.store.write(cancel).await?;
        self.check().await.map(drop)
    }

    /// Calls a run off, and ends others as [`cancel`](Desk::cancel) does; tells the run as it is then.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn cancel_run(&self, cancel: run::Cancel) -> Result<RunStory> {
        let id = self.store.write(cancel).await?.id;
        self.check().await?;
        self.store.read(RunShow { id }).await
    }

    /// Takes all unread messages of an agent, however many there are.
    ///
    /// # Errors
    /// Those of the ledger.
    pub async fn fetch(&self, agent: &str) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let page = self.store.write(Fetch { agent: agent.to_owned(), bytes: i64::MAX }).await?;
            let is_last = (page.len() as i64) < INBOX_MAX;
            messages.extend(page);
            if is_last {
                return Ok(messages);
            }
        }
    }

    /// Says that an attempt failed, and ends its run if that was its last open task.
    ///
    /// # Errors
    /// `Stale` for a term that is over.
    pub async fn fail(&self, fail: Fail) -> Result<TaskState> {
        let state = self.store.write(fail).await?;
        if state == TaskState::Failed {
            self.check().await?;
        }
        Ok(state)
    }

    /// Takes claims, all or none, waiting in the queue as long as `watch` does; `take.wait_ms` says the same to the queue.
    ///
    /// # Errors
    /// `Conflict`, naming who holds what; `Interrupted`.
    pub async fn claim(&self, mut take: claim::Take, watch: Option<Watch>) -> Result<Vec<Claim>> {
        let Some(mut watch) = watch else { return granted(self.store.write(take).await?) };
        loop {
            match self.store.write(take.clone()).await? {
                Grant::Taken(claims) => return Ok(claims),
                Grant::Waits { place, .. } => take.place = Some(place),
            }
            match watch.pause(None).await {
                Pause::Over => {}
                Pause::TooLate => {
                    // The last look says who stands in the way.
                    take.wait_ms = None;
                    let last = self.store.write(take.clone()).await;
                    self.leave_queue(&take).await;
                    return granted(last?);
                }
                Pause::Interrupted => {
                    self.leave_queue(&take).await;
                    return Err(interrupted());
                }
            }
        }
    }

    /// Gives up the place; if that cannot be said, those behind wait until it is forgotten.
    async fn leave_queue(&self, take: &claim::Take) {
        if let Some(place) = take.place {
            let _ = self.store.write(Leave { agent: take.agent.clone(), place }).await;
        }
    }

    /// Writes a line of an agent's own; who is asked for help joins the team if it stands in `quorate.toml`.
    ///
    /// # Errors
    /// Those of what the line does.
    pub async fn log(&self, line: log::Line) -> Result<()> {
        if line.action == "help" {
            for helper in helpers(line.metadata.as_ref()) {
                self.add_configured(helper).await?;
            }
        }
        let may_end_a_run = line.action == "complete";
        self.store.write(line).await?;
        if may_end_a_run {
            self.check().await?;
        }
        Ok(())
    }
}

/// Returns whom a call for help names: one agent or several. What is no name, the line itself refuses.
fn helpers(metadata: Option<&Value>) -> impl Iterator<Item = &str> {
    let named = metadata.and_then(|facts| facts.get("help_needed_from"));
    let list = match named {
        Some(Value::Array(names)) => names.as_slice(),
        one => one.map(std::slice::from_ref).unwrap_or_default(),
    };
    list.iter().filter_map(Value::as_str)
}

/// What a wait that was interrupted comes to.
fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "interrupted while waiting").hint("nothing was taken")
}

/// Reads the name of a resource, relative to the project's folder, into its canonical form.
///
/// # Errors
/// `Invalid` for what is no name, or leads out of the folder.
pub fn resource(text: &str, folder: &Path) -> Result<String> {
    Resource::parse(text, folder.to_str()).map(|resource| resource.as_str().to_owned())
}

/// Reads names of resources; a name given twice counts once.
///
/// # Errors
/// As [`resource`].
pub fn resources(texts: &[String], folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        let name = resource(text, folder)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Reads the names of what is claimed or released with one request.
///
/// # Errors
/// As [`resource`]; also `Invalid` for too many.
pub fn claimable(texts: &[String], folder: &Path) -> Result<Vec<String>> {
    if texts.len() > claim::RESOURCES_MAX {
        let message =
            format!("{} resources at once; at most {} are allowed", texts.len(), claim::RESOURCES_MAX);
        return Err(Error::invalid(message).hint("claim the folder that holds them"));
    }
    resources(texts, folder)
}

fn granted(grant: Grant) -> Result<Vec<Claim>> {
    match grant {
        Grant::Taken(claims) => Ok(claims),
        Grant::Waits { .. } => {
            Err(Error::new(Kind::Failed, "a claim that may not wait was told to wait (this is a bug)"))
        }
    }
}
