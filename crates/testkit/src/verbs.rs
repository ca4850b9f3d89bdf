//! What a test says a ledger does: short verbs for the operations that most tests need.
//!
//! Here live methods of [`TestLedger`] that fill in a request's usual values. What they ask for lives in `service`.

use crate::ledger::TestLedger;
use quorate_model::config::Limits;
use quorate_model::resource::Mode;
use quorate_model::{Result, RunId, TaskId, TaskState};
use quorate_service::claim::{self, Claim, Grant};
use quorate_service::task::{Add, Done, DoneAnswer, Fail, Kinds, NewTask, Outcome, Take, Taken, Work};
use quorate_service::view::{Claims, Story, TaskStory};
use quorate_service::{agent, health, run};

/// The lease of whatever a test takes, in milliseconds.
pub const LEASE_MS: i64 = 60_000;

/// Returns a task with a command.
pub fn command(title: &str) -> NewTask {
    NewTask { work: Some(Work::Run("true".into())), ..NewTask::new(title) }
}

/// Returns a task with a command that takes `claims` with it.
pub fn claiming(title: &str, claims: &[&str]) -> NewTask {
    NewTask { claims: texts(claims), ..command(title) }
}

/// Returns the request of `agent` for its next task.
pub fn next_of(agent: &str) -> Take {
    Take {
        agent: agent.into(),
        capabilities: None,
        kinds: Kinds::Any,
        run: None,
        lease_ms: LEASE_MS,
        node: None,
        resume: false,
        limits: Limits::default(),
    }
}

/// Returns the beginning of a session of `name` in `node`.
pub fn begin(name: &str, node: &str) -> agent::Begin {
    agent::Begin {
        name: name.into(),
        driver: "command".into(),
        capabilities: texts(&["*"]),
        takes: Kinds::Any,
        node: node.into(),
        host: "here".into(),
        pid: 7,
        lease_ms: LEASE_MS,
        token: None,
    }
}

/// Returns the request of `agent` to have all of `resources` alone for a lease.
pub fn want(agent: &str, resources: &[&str]) -> claim::Take {
    claim::Take {
        agent: agent.into(),
        resources: texts(resources),
        mode: Mode::Exclusive,
        ttl_ms: LEASE_MS,
        task: None,
        wait_ms: None,
        place: None,
    }
}

/// Returns the word of an owner that its task failed.
pub fn failure(taken: &Taken, error: &str) -> Fail {
    Fail {
        id: taken.task.id,
        term: taken.task.term,
        error: error.into(),
        is_final: false,
        outcome: Outcome::Failed,
        tail: None,
        retry_after_ms: 1_000,
    }
}

/// Returns owned texts.
pub fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

impl TestLedger {
    /// Adds one task.
    pub async fn add(&self, task: NewTask) -> Result<TaskId> {
        Ok(self.store.write(Add { run: None, tasks: vec![task], by: None }).await?[0])
    }

    /// Begins a run.
    pub async fn start(&self, tasks: Vec<NewTask>) -> Result<(RunId, Vec<TaskId>)> {
        self.store.write(run::Start { goal: "a goal".into(), source: None, detached: false, tasks }).await
    }

    /// Takes the next task for `agent`, which can do everything.
    pub async fn take(&self, agent: &str) -> Result<Option<Taken>> {
        Ok(self.store.write(next_of(agent)).await?.task())
    }

    /// Takes the next task for `agent`.
    ///
    /// # Panics
    /// When there is none.
    pub async fn must_take(&self, agent: &str) -> Result<Taken> {
        Ok(self.take(agent).await?.expect("there is a task to take"))
    }

    /// Says done.
    pub async fn done(&self, taken: &Taken) -> Result<DoneAnswer> {
        self.store.write(Done { id: taken.task.id, term: taken.task.term, result: None, tail: None }).await
    }

    /// Says that an attempt failed.
    pub async fn fail(&self, taken: &Taken, error: &str) -> Result<TaskState> {
        self.store.write(failure(taken, error)).await
    }

    /// Runs one health check.
    pub async fn check(&self) -> Result<health::Checked> {
        self.store.write(health::Check { stuck_after_ms: 300_000, judge: true }).await
    }

    /// Tells everything about a task.
    pub async fn story(&self, id: TaskId) -> Result<TaskStory> {
        self.store.read(Story { id }).await
    }

    /// Returns the state of a task.
    pub async fn state(&self, id: TaskId) -> Result<TaskState> {
        Ok(self.story(id).await?.task.state)
    }

    /// Claims resources for `agent` alone.
    ///
    /// # Panics
    /// When the wish was made to wait, which it did not ask for.
    pub async fn claim(&self, agent: &str, resources: &[&str]) -> Result<Vec<Claim>> {
        match self.store.write(want(agent, resources)).await? {
            Grant::Taken(claims) => Ok(claims),
            Grant::Waits { why, .. } => panic!("{why}"),
        }
    }

    /// Returns the live claims as `agent:resource`, the oldest first.
    pub async fn held(&self) -> Result<Vec<String>> {
        let claims = self.store.read(Claims::default()).await?;
        Ok(claims.into_iter().map(|claim| format!("{}:{}", claim.agent, claim.resource)).collect())
    }

    /// Makes an agent known.
    pub async fn join(&self, name: &str) -> Result<()> {
        self.store.write(agent::Seen { name: name.into(), strict: false }).await.map(drop)
    }

    /// Returns the kinds of all events, in order.
    pub async fn kinds(&self) -> Vec<String> {
        self.events().await.into_iter().map(|event| event.kind).collect()
    }
}
