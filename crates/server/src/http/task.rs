//! Tasks: what an agent that pulls its work and a person do with them.

use super::{Id, agent_of, duration_of, field, lease_of, name_of, texts_of, title_of, wait_of, words_of};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::{Desk, ModelUsage, Watch, claimable};
use crate::grammar::one_of;
use axum::http::Method;
use quorate_model::agent::abilities;
use quorate_model::at::At;
use quorate_model::budget::{Budget, micros};
use quorate_model::config::{Driver, Limits};
use quorate_model::name::check_key;
use quorate_model::plan::{ATTEMPTS_MAX, check_task_budget};
use quorate_model::priority::Priority;
use quorate_model::{Error, Kind, Result, RunId, TaskId, TaskState, Term};
use quorate_service::task as service;
use quorate_service::task::{DoneAnswer, Kinds, NewTask, Outcome, Work};
use quorate_service::view::{self, TaskStory};
use quorate_service::wire::{self, shapes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;

/// How long an agent has a task without a sign of life, in milliseconds, if it does not say.
pub(crate) const LEASE_MS: i64 = 15 * 60 * 1000;

/// Lists tasks
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskList {
    /// Only of this run
    run_id: Option<i64>,
    /// Only in this state
    #[schemars(extend("pattern" = one_of(TaskState::ALL.map(TaskState::as_str))))]
    state: Option<String>,
    /// Only those an agent has, had last, or alone may take
    agent: Option<String>,
}

impl Ask for TaskList {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/tasks";
    const NAME: &'static str = "listTasks";
    const ABOUT: &'static str = "Lists tasks, of all runs and in all states";
    type Answer = Vec<wire::Task>;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<Vec<wire::Task>> {
        let state = self.state.map(|state| field("state", state.parse::<TaskState>())).transpose()?;
        let state = state.map(|state| state.as_str().to_owned());
        let tasks = view::Tasks { run: self.run_id.map(RunId), state, agent: self.agent };
        Ok(shapes(&desk.store().read(tasks).await?))
    }
}

/// Shows one task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskShow {
    /// The task's id
    id: i64,
}

impl Ask for TaskShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/tasks/{id}";
    const NAME: &'static str = "showTask";
    const ABOUT: &'static str = "Shows one task: why it is where it is, its attempts, needs and claims";
    type Answer = wire::Story;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<wire::Story> {
        Ok((&story(desk, self.id).await?).into())
    }
}

async fn story(desk: &Desk, id: i64) -> Result<TaskStory> {
    desk.store().read(view::Story { id: TaskId(id) }).await
}

/// A new task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskAdd {
    /// What it is about, in one line
    pub(crate) title: String,
    /// The run that it serves
    pub(crate) run_id: Option<i64>,
    /// Its name within the run
    pub(crate) key: Option<String>,
    /// The work is a command (sh -c in the folder of quorate.toml) …
    pub(crate) run: Option<String>,
    /// … or is told in words, for an AI agent or a person
    pub(crate) prompt: Option<String>,
    /// Ids of tasks that must be completed before it
    #[serde(default)]
    pub(crate) needs: Vec<i64>,
    /// Only an agent that can do this may take it
    pub(crate) capability: Option<String>,
    /// Only this agent may take it
    pub(crate) agent: Option<String>,
    /// high, medium or low
    pub(crate) priority: Option<String>,
    /// Resources that are claimed together with it
    #[serde(default)]
    pub(crate) claims: Vec<String>,
    /// A command that checks the work after the agent says done
    pub(crate) verify: Option<String>,
    /// Files it is to leave
    #[serde(default)]
    pub(crate) outputs: Vec<String>,
    /// How long an attempt may take, such as 10m
    pub(crate) timeout: Option<String>,
    /// How often it is tried at most
    pub(crate) attempts: Option<i64>,
    /// Not before this time, or not before so long from now
    pub(crate) at: Option<String>,
    /// How much it may use, over all its attempts
    pub(crate) budget: Option<TaskBudget>,
}

/// How much a task may use
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskBudget {
    /// Dollars
    usd: Option<f64>,
    /// Tokens but those from a cache
    tokens: Option<i64>,
}

impl TaskBudget {
    fn read(self) -> Result<Budget> {
        if self.tokens.is_some_and(|tokens| tokens < 0) {
            return Err(Error::invalid("`budget.tokens` is below 0"));
        }
        let usd_micros = self.usd.map(|usd| field("budget.usd", micros(usd))).transpose()?;
        let budget = Budget { usd_micros, tokens: self.tokens };
        check_task_budget(budget)?;
        Ok(budget)
    }
}

impl Ask for TaskAdd {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks";
    const NAME: &'static str = "addTask";
    const ABOUT: &'static str = "Adds a task";
    type Answer = Id;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Id> {
        if self.run.is_some() || self.verify.is_some() {
            by.must_be_person("have a node run a command of its own")?;
        }
        let run = self.run_id.map(RunId);
        let task = self.read(desk)?;
        if let Some(agent) = &task.agent {
            desk.add_configured(agent).await?;
        }
        let added = desk.store().write(service::Add { run, tasks: vec![task], by: by.name() }).await?;
        Ok(Id { id: added[0].0 })
    }
}

impl TaskAdd {
    /// A task of which nothing but its title is known.
    pub(crate) fn new(title: String) -> TaskAdd {
        TaskAdd {
            title,
            run_id: None,
            key: None,
            run: None,
            prompt: None,
            needs: Vec::new(),
            capability: None,
            agent: None,
            priority: None,
            claims: Vec::new(),
            verify: None,
            outputs: Vec::new(),
            timeout: None,
            attempts: None,
            at: None,
            budget: None,
        }
    }

    /// Reads it into what the ledger takes.
    pub(crate) fn read(self, desk: &Desk) -> Result<NewTask> {
        let work = match (self.run, self.prompt) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("a task has a command (`run`) or words (`prompt`), not both"));
            }
            (Some(run), None) => Some(Work::Run(words_of("run", run)?)),
            (None, Some(prompt)) => Some(Work::Prompt(words_of("prompt", prompt)?)),
            (None, None) => None,
        };
        if self.capability.is_some() && self.agent.is_some() {
            return Err(Error::invalid("a task is for a `capability` or for one `agent`, not both"));
        }
        let (due_at, due_in_ms) = match self.at.map(|at| field("at", At::parse(&at))).transpose()? {
            Some(At::Time(ms)) => (Some(ms), None),
            Some(At::After(ms)) => (None, Some(ms)),
            None => (None, None),
        };
        let attempts = self.attempts.unwrap_or(desk.config().health.max_attempts);
        if !(1..=ATTEMPTS_MAX).contains(&attempts) {
            return Err(Error::invalid(format!("`attempts` is {attempts}, not from 1 to {ATTEMPTS_MAX}")));
        }
        let mut needs: Vec<TaskId> = self.needs.into_iter().map(TaskId).collect();
        needs.sort_unstable();
        needs.dedup();
        let priority = self.priority.map(|word| field("priority", word.parse::<Priority>())).transpose()?;
        Ok(NewTask {
            key: self.key.map(|key| field("key", check_key(&key).map(|()| key))).transpose()?,
            work,
            priority: priority.unwrap_or_default().number(),
            capability: self.capability.map(|name| name_of("capability", name)).transpose()?,
            agent: self.agent.map(|name| agent_of("agent", name)).transpose()?,
            verify: self.verify.map(|check| words_of("verify", check)).transpose()?,
            claims: field("claims", claimable(&self.claims, desk.folder()))?,
            outputs: texts_of("outputs", self.outputs)?,
            timeout_ms: self.timeout.map(|text| duration_of("timeout", &text)).transpose()?,
            max_attempts: attempts,
            due_at,
            due_in_ms,
            needs,
            budget: self.budget.map(TaskBudget::read).transpose()?.unwrap_or_default(),
            ..NewTask::new(title_of(&self.title)?)
        })
    }
}

/// Takes the next task
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskNext {
    /// Who takes it; a name first seen joins the team. An agent's own token says it by itself
    pub(crate) agent: Option<String>,
    /// What it can do; else what the agent is known to be able to do
    #[serde(default)]
    pub(crate) capability: Vec<String>,
    /// Only tasks of this run
    pub(crate) run_id: Option<i64>,
    /// How long it has the task without a sign of life; 15m if not said
    pub(crate) lease: Option<String>,
    /// How long to wait for one; at most 1h, then null is answered
    pub(crate) wait: Option<String>,
}

impl Ask for TaskNext {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/next";
    const NAME: &'static str = "nextTask";
    const ABOUT: &'static str =
        "Takes the next task for an agent; one that has a task gets it again; null when none is ready";
    type Answer = Option<wire::Taken>;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Option<wire::Taken>> {
        self.take(desk, by, |wait| Watch::new(desk.store(), Some(wait))).await
    }
}

impl TaskNext {
    /// Takes it; who waits does so by a watch of his door.
    pub(crate) async fn take(
        self,
        desk: &Desk,
        by: &Caller,
        watch: impl FnOnce(i64) -> Watch,
    ) -> Result<Option<wire::Taken>> {
        let lease_ms = self.lease.map_or(Ok(LEASE_MS), |text| lease_of("lease", &text))?;
        let wait = self.wait.map(|text| wait_of("wait", &text)).transpose()?;
        for name in self.capability.iter().filter(|name| *name != "*") {
            name_of("capability", name.clone())?;
        }
        let agent = by.acts_as(self.agent)?;
        let known = desk.seen(&agent).await?;
        let take = service::Take {
            agent,
            capabilities: match self.capability.as_slice() {
                [] => known.abilities(),
                some => abilities(some),
            },
            kinds: Kinds::Any,
            run: self.run_id.map(RunId),
            lease_ms,
            node: None,
            resume: true,
            // The desk knows the budgets.
            limits: Limits::default(),
        };
        Ok(desk.pull(&known, take, wait.map(watch)).await?.as_ref().map(wire::Taken::from))
    }
}

/// Reports progress
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskProgress {
    /// The task's id
    pub(crate) id: i64,
    /// The term under which it was taken
    pub(crate) term: i64,
    /// 0 to 100
    pub(crate) percent: Option<i64>,
    /// A word for people
    pub(crate) message: Option<String>,
    /// What the attempt has used until now, by model; a budget that it reaches parks the task; the agent's own gives it to
    /// others, and the report is refused
    #[serde(default)]
    pub(crate) usage: Vec<ModelUsage>,
}

impl Ask for TaskProgress {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/progress";
    const NAME: &'static str = "reportProgress";
    const ABOUT: &'static str =
        "Reports progress of a task and renews its lease; parked is a task whose budget is reached";
    type Answer = wire::Task;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        self.report(desk, by).await
    }
}

impl TaskProgress {
    /// Reports it.
    pub(crate) async fn report(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        if self.percent.is_some_and(|percent| !(0..=100).contains(&percent)) {
            return Err(Error::invalid("`percent` is a number from 0 to 100"));
        }
        own(desk, by, self.id, self.term).await?;
        let (id, term) = (TaskId(self.id), Term(self.term));
        let reached = desk.spend(by, (id, term), &self.usage, false).await?;
        let report = service::Progress { id, term, percent: self.percent, message: self.message };
        Ok((&desk.progress(report, reached).await?).into())
    }
}

/// Refuses an agent that reports on another's task. Who has it under that term cannot change; if the term is over, the
/// write itself says so. One that is still to come is not written under: by then it may be another's.
pub(crate) async fn own(desk: &Desk, by: &Caller, id: i64, term: i64) -> Result<()> {
    owned(desk, by, id, term).await.map(drop)
}

/// As [`own`]; answers with an agent's task as it is under that term, if the term is not over.
async fn owned(desk: &Desk, by: &Caller, id: i64, term: i64) -> Result<Option<service::Task>> {
    if *by == Caller::Person {
        return Ok(None);
    }
    let task = story(desk, id).await?.task;
    match term.cmp(&task.term.0) {
        Ordering::Less => Ok(None),
        Ordering::Equal => by.must_own(&task).map(|()| Some(task)),
        Ordering::Greater => {
            let message =
                format!("task {} has not had the term {term}: it is at {}", task.named(), task.term);
            Err(Error::new(Kind::Stale, message).hint("`next_task` gives you a task, with its term"))
        }
    }
}

/// Returns the driver of an agent that speaks of the end of an attempt which a node watches over. Such an attempt ends
/// with its process: its word alone would complete the task while its work lies in a worktree and it still writes.
///
/// # Errors
/// As [`own`].
pub(crate) async fn watched(desk: &Desk, by: &Caller, id: i64, term: i64) -> Result<Option<Driver>> {
    let Some(task) = owned(desk, by, id, term).await? else { return Ok(None) };
    let (TaskState::Running, Some(owner), Some(_)) = (task.state, task.owner, task.node) else {
        return Ok(None);
    };
    desk.agent(&owner).await?.agent.driver.parse().map(Some)
}

/// Refuses the word of an agent whose attempt ends with its process.
async fn must_end_by_word(desk: &Desk, by: &Caller, id: i64, term: i64) -> Result<()> {
    match watched(desk, by, id, term).await? {
        None => Ok(()),
        Some(driver) => {
            let message = format!("a node watches over this attempt at task {id}: it ends with your process");
            let hint = match driver.is_driven() {
                true => "say your result in your last message and end",
                false => {
                    "print {\"quorate\":\"result\",\"value\":…} and exit with 0, or with 1 if it cannot be done"
                }
            };
            Err(Error::new(Kind::Refused, message).hint(hint))
        }
    }
}

/// Says that a task is done
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskDone {
    /// The task's id
    pub(crate) id: i64,
    /// The term under which it was taken
    pub(crate) term: i64,
    /// What it came to: any JSON
    pub(crate) result: Option<Value>,
    /// What the attempt has used in all, by model
    #[serde(default)]
    pub(crate) usage: Vec<ModelUsage>,
}

/// What became of a task
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ended {
    /// The task's id
    id: i64,
    /// Its state now
    state: &'static str,
    /// The budget that is reached by now, if one is: nothing more is begun under it
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<String>,
}

impl Ask for TaskDone {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/done";
    const NAME: &'static str = "finishTask";
    const ABOUT: &'static str =
        "Says that a task is done; if it has a check, a node runs it before the task is completed";
    type Answer = Ended;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Ended> {
        let id = self.id;
        let (state, budget) = self.report(desk, by).await?;
        Ok(Ended { id, state: state.as_str(), budget })
    }
}

impl TaskDone {
    /// Says it; answers with the task's state now, and the budget that is reached.
    pub(crate) async fn report(self, desk: &Desk, by: &Caller) -> Result<(TaskState, Option<String>)> {
        must_end_by_word(desk, by, self.id, self.term).await?;
        let (id, term) = (TaskId(self.id), Term(self.term));
        let reached = desk.spend(by, (id, term), &self.usage, true).await?;
        let result = self.result.map(|result| result.to_string());
        let state = match desk.done(service::Done { id, term, result, tail: None }).await? {
            DoneAnswer::Verifying => TaskState::Verifying,
            DoneAnswer::Completed { .. } => TaskState::Completed,
        };
        Ok((state, reached.map(|reached| reached.reason)))
    }
}

/// Says that an attempt failed
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskFail {
    /// The task's id
    pub(crate) id: i64,
    /// The term under which it was taken
    pub(crate) term: i64,
    /// Why; the next owner is shown it
    pub(crate) error: String,
    /// Trying again is of no use
    #[serde(default)]
    pub(crate) r#final: bool,
    /// What the attempt has used in all, by model
    #[serde(default)]
    pub(crate) usage: Vec<ModelUsage>,
}

impl Ask for TaskFail {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/fail";
    const NAME: &'static str = "failTask";
    const ABOUT: &'static str =
        "Says that an attempt at a task failed; it is tried again unless its attempts are used up";
    type Answer = Ended;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Ended> {
        let id = self.id;
        let (state, budget) = self.report(desk, by).await?;
        Ok(Ended { id, state: state.as_str(), budget })
    }
}

impl TaskFail {
    /// Says it; answers with the task's state now, and the budget that is reached.
    pub(crate) async fn report(self, desk: &Desk, by: &Caller) -> Result<(TaskState, Option<String>)> {
        let error = words_of("error", self.error)?;
        must_end_by_word(desk, by, self.id, self.term).await?;
        let (id, term) = (TaskId(self.id), Term(self.term));
        let reached = desk.spend(by, (id, term), &self.usage, true).await?;
        let fail = service::Fail {
            id,
            term,
            error,
            is_final: self.r#final,
            outcome: Outcome::Failed,
            tail: None,
            retry_after_ms: desk.config().health.retry_after_ms,
        };
        Ok((desk.fail(fail).await?, reached.map(|reached| reached.reason)))
    }
}

/// Calls a task off
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskCancel {
    /// The task's id
    id: i64,
    /// Why, for the log
    reason: Option<String>,
}

impl Ask for TaskCancel {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/cancel";
    const NAME: &'static str = "cancelTask";
    const ABOUT: &'static str = "Calls a task off, with those that need it; a running child is stopped";
    type Answer = wire::Task;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        by.must_be_person("cancel tasks")?;
        let reason = words_of("reason", self.reason.unwrap_or_else(|| "a person cancelled it".into()))?;
        desk.cancel(service::Cancel { id: TaskId(self.id), reason }).await?;
        changed(desk, self.id).await
    }
}

/// Lets a task be tried anew
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskRetry {
    /// The task's id
    id: i64,
}

impl Ask for TaskRetry {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/retry";
    const NAME: &'static str = "retryTask";
    const ABOUT: &'static str =
        "Lets a failed or cancelled task be tried anew, with those that were cancelled because of it";
    type Answer = wire::Task;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        by.must_be_person("have ended tasks tried anew")?;
        desk.store().write(service::Retry { id: TaskId(self.id) }).await?;
        changed(desk, self.id).await
    }
}

/// Takes a task from its owner
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskReassign {
    /// The task's id
    id: i64,
    /// The only agent that may take it from now on
    to: Option<String>,
    /// Why, for the log
    reason: Option<String>,
}

impl Ask for TaskReassign {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/reassign";
    const NAME: &'static str = "reassignTask";
    const ABOUT: &'static str = "Takes a task from its owner and, with `to`, keeps it for another";
    type Answer = wire::Task;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        by.must_be_person("take tasks from others")?;
        let reason = words_of("reason", self.reason.unwrap_or_else(|| "a person reassigned it".into()))?;
        let to = self.to.map(|to| agent_of("to", to)).transpose()?;
        if let Some(to) = &to {
            desk.add_configured(to).await?;
        }
        desk.store().write(service::Reassign { id: TaskId(self.id), to, reason }).await?;
        changed(desk, self.id).await
    }
}

/// Lets a parked task go on
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskUnpark {
    /// The task's id
    id: i64,
}

impl Ask for TaskUnpark {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/tasks/{id}/unpark";
    const NAME: &'static str = "unparkTask";
    const ABOUT: &'static str = "Lets a parked task go on: approves what it waits for, or ends its wait";
    type Answer = wire::Task;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::Task> {
        by.must_be_person("approve what waits for a person")?;
        desk.store().write(service::Unpark { id: TaskId(self.id) }).await?;
        changed(desk, self.id).await
    }
}

/// Shows the task as it is after a person's wish.
async fn changed(desk: &Desk, id: i64) -> Result<wire::Task> {
    Ok((&story(desk, id).await?.task).into())
}

/// Shows the output of an attempt
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskOutput {
    /// The task's id
    id: i64,
    /// The attempt's number; the latest if not said
    attempt: Option<i64>,
}

/// An attempt with its output
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    /// The attempt; `output` is as much as can be had here
    #[serde(flatten)]
    attempt: wire::Attempt,
    /// Whether that is all; else it is the end, and the rest is on the host that ran it
    whole: bool,
}

impl Ask for TaskOutput {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/tasks/{id}/output";
    const NAME: &'static str = "showOutput";
    const ABOUT: &'static str = "Shows the kept output of an attempt";
    type Answer = Output;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<Output> {
        let story = story(desk, self.id).await?;
        let count = story.attempts.len();
        let wanted = |attempt: &view::Attempt| self.attempt.is_none_or(|number| attempt.number == number);
        let Some(attempt) = story.attempts.into_iter().rfind(wanted) else {
            let message = format!("task {} has no such attempt; it has {count} so far", self.id);
            return Err(Error::not_found(message).hint("leave out `attempt` for the latest"));
        };
        let whole = match desk.output_file(&attempt) {
            // A file is at most as large as a log may be.
            Some(file) => {
                tokio::task::spawn_blocking(move || std::fs::read(file)).await.ok().and_then(|read| read.ok())
            }
            None => None,
        };
        let mut shown = wire::Attempt::from(&attempt);
        let is_whole = whole.is_some();
        if let Some(bytes) = whole {
            shown.output = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(Output { attempt: shown, whole: is_whole })
    }
}
