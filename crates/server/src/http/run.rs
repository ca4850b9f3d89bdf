//! Runs: a goal and the tasks that serve it.

use super::{Id, words_of};
use crate::ask::Ask;
use crate::caller::Caller;
use crate::desk::Desk;
use axum::http::Method;
use quorate_model::goal::{self, PlanCheck};
use quorate_model::plan::Plan;
use quorate_model::{Error, Result, RunId};
use quorate_service::goal::Approve;
use quorate_service::run::{Cancel, Resume, Start};
use quorate_service::task::NewTask;
use quorate_service::view;
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What a plan that came over the network is called in errors.
const PLAN_NAME: &str = "plan.json";

/// Lists runs
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunList {}

impl Ask for RunList {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/runs";
    const NAME: &'static str = "listRuns";
    const ABOUT: &'static str = "Lists runs with their tasks";
    type Answer = Vec<wire::RunListed>;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<Vec<wire::RunListed>> {
        let runs = desk.store().read(view::Runs::default()).await?;
        let tasks = desk.store().read(view::Tasks::default()).await?;
        Ok(wire::RunListed::all(&runs, &tasks))
    }
}

/// Begins a run
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunStart {
    /// A plan as in a plan file: `goal`, and `task`, a list of tasks …
    plan: Option<Value>,
    /// … or a goal in words, which an agent plans if there is one that does
    goal: Option<String>,
    /// With a goal: its plan waits until a person approves it; always where an agent begins the run and plans may hold commands
    #[serde(default)]
    approve: bool,
}

impl Ask for RunStart {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/runs";
    const NAME: &'static str = "startRun";
    const ABOUT: &'static str = "Stores a run; a node works at it";
    type Answer = Id;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<Id> {
        let plan = match (self.plan, self.goal) {
            (Some(plan), None) => {
                let base = desk.folder().to_string_lossy();
                let plan = Plan::parse_in(Some(&base), PLAN_NAME, plan.to_string().as_bytes())?;
                // Also the check that reads a result as a plan: what it then lets begin may hold commands.
                if plan.tasks.iter().any(|task| task.run.is_some() || task.verify.is_some()) {
                    by.must_be_person("have a node run commands of its own")?;
                }
                plan
            }
            (None, Some(goal)) => {
                // An agent that plans its own goal would let its own commands begin.
                let is_asked = self.approve || (*by != Caller::Person && goal::may_command(desk.config()));
                let check = if is_asked { PlanCheck::Approve } else { PlanCheck::Run };
                goal::begin(&goal, desk.config(), check)?
            }
            _ => return Err(Error::invalid("a run begins with a `plan` or with a `goal`")),
        };
        let tasks = plan.tasks.iter().map(|task| NewTask::planned(task, desk.config())).collect();
        let (id, _) =
            desk.store().write(Start { goal: plan.goal, source: None, detached: true, tasks }).await?;
        Ok(Id { id: id.0 })
    }
}

/// Shows one run
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunShow {
    /// The run's id
    id: i64,
}

impl Ask for RunShow {
    const METHOD: Method = Method::GET;
    const PATH: &'static str = "/runs/{id}";
    const NAME: &'static str = "showRun";
    const ABOUT: &'static str = "Shows one run: its tasks, their attempts, and which needs which";
    type Answer = wire::RunStory;

    async fn answer(self, desk: &Desk, _: &Caller) -> Result<wire::RunStory> {
        story(desk, RunId(self.id)).await
    }
}

async fn story(desk: &Desk, id: RunId) -> Result<wire::RunStory> {
    Ok((&desk.store().read(view::RunShow { id }).await?).into())
}

/// Calls a run off
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunCancel {
    /// The run's id
    id: i64,
    /// Why, for the log
    reason: Option<String>,
}

impl Ask for RunCancel {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/runs/{id}/cancel";
    const NAME: &'static str = "cancelRun";
    const ABOUT: &'static str = "Calls a run off, with all its tasks";
    type Answer = wire::RunStory;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::RunStory> {
        by.must_be_person("cancel runs")?;
        let reason = words_of("reason", self.reason.unwrap_or_else(|| "a person cancelled it".into()))?;
        Ok((&desk.cancel_run(Cancel { id: RunId(self.id), reason }).await?).into())
    }
}

/// Approves a plan
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunApprove {
    /// The run's id
    id: i64,
}

impl Ask for RunApprove {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/runs/{id}/approve";
    const NAME: &'static str = "approveRun";
    const ABOUT: &'static str = "Lets the tasks of a plan begin that waits for a person's word";
    type Answer = wire::RunStory;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::RunStory> {
        by.must_be_person("approve plans")?;
        let id = RunId(self.id);
        desk.store().write(Approve { id }).await?;
        story(desk, id).await
    }
}

/// Lets a run go on
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunResume {
    /// The run's id
    id: i64,
}

impl Ask for RunResume {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/runs/{id}/resume";
    const NAME: &'static str = "resumeRun";
    const ABOUT: &'static str =
        "Lets a run go on: what failed or was cancelled is tried anew, by a node; a budget is granted again";
    type Answer = wire::RunStory;

    async fn answer(self, desk: &Desk, by: &Caller) -> Result<wire::RunStory> {
        by.must_be_person("resume runs")?;
        let id = RunId(self.id);
        desk.store().write(Resume { id }).await?;
        story(desk, id).await
    }
}
