//! `quorate run "a goal"`: who plans it, how the plan is shown, and a person's word before it is run.
//!
//! Here lives only what the command line adds: the question to the planner and the reading of its answer are `model::goal`'s,
//! and the run is one like any other (`run`).

use crate::args;
use crate::print;
use crate::print::table::{Table, cell};
use crate::signals::Signals;
use quorate_model::at::At;
use quorate_model::budget::Budget;
use quorate_model::config::Config;
use quorate_model::goal::{self, Mate, PlanCheck};
use quorate_model::plan::{Plan, PlanTask};
use quorate_model::usage::MICROS;
use quorate_model::{Error, Result, RunId};
use quorate_service::goal::{APPROVAL, Approve};
use quorate_service::task::Task;
use quorate_service::time::rfc3339;
use quorate_service::view::{RunShow, RunStory};
use quorate_service::wire;
use quorate_store::Store;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::Path;

/// Returns the plan by which a goal is begun.
///
/// # Errors
/// As [`goal::begin`].
pub(crate) fn begin(words: &str, args: &args::Run, config: &Config) -> Result<Plan> {
    goal::begin(words, config, check(args))
}

/// The same for the work of a task that is to be decomposed.
///
/// # Errors
/// As [`goal::begin_planned`].
pub(crate) fn begin_planned(words: &str, args: &args::Run, config: &Config) -> Result<Plan> {
    goal::begin_planned(words, config, check(args))
}

fn check(args: &args::Run) -> PlanCheck {
    match (args.plan_only, args.approve) {
        (true, _) => PlanCheck::Only,
        (false, true) => PlanCheck::Approve,
        (false, false) => PlanCheck::Run,
    }
}

/// Shows the plan that a run with `--plan-only` made.
///
/// # Errors
/// `Failed` when the run made none.
pub(crate) fn show(story: &RunStory, config: &Config, folder: &Path, json: bool) -> Result<()> {
    let made = story.tasks.iter().rev().find(|task| is_planning(task));
    let Some(answer) = made.and_then(|task| task.result.as_deref()) else {
        return Err(Error::failed("the run has ended without a plan")
            .hint(format!("`quorate runs show {}` tells why", story.run.id)));
    };
    let base = folder.to_string_lossy();
    let plan = goal::read(answer, &Mate::of(config), config.orchestrator.commands, Some(&base))?;
    print_plan(&Plan { goal: story.run.goal.clone(), ..plan }, json);
    Ok(())
}

/// Tells whether a task makes a plan.
pub(crate) fn is_planning(task: &Task) -> bool {
    task.verify.as_deref().and_then(PlanCheck::of).is_some()
}

/// Prints a plan: as JSON in the form of a plan file, or as a table.
pub(crate) fn print_plan(plan: &Plan, json: bool) {
    print::answer(json, || as_json(plan), || table(plan));
}

fn as_json(plan: &Plan) -> Value {
    let key = |place: &usize| plan.tasks[*place].key.clone();
    let task = |task: &PlanTask| {
        let all = json!({
            "key": task.key, "title": task.title, "needs": task.needs.iter().map(key).collect::<Vec<_>>(),
            "capability": task.capability, "agent": task.agent, "run": task.run, "prompt": task.prompt, "verify": task.verify,
            "claims": task.claims.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "priority": wire::priority(task.priority.number()), "attempts": task.attempts,
            "timeout": task.timeout_ms.map(|ms| format!("{ms}ms")), "outputs": task.outputs,
            "at": task.at.map(at), "budget": task.budget.is_set().then(|| budget(task.budget)),
        });
        said(all, |value| value.as_array().is_none_or(|list| !list.is_empty()))
    };
    json!({ "goal": plan.goal, "tasks": plan.tasks.iter().map(task).collect::<Vec<_>>() })
}

fn at(at: At) -> String {
    match at {
        At::Time(ms) => rfc3339(ms),
        At::After(ms) => format!("{ms}ms"),
    }
}

fn budget(budget: Budget) -> Value {
    let usd = budget.usd_micros.map(|micros| micros as f64 / MICROS);
    said(json!({ "usd": usd, "tokens": budget.tokens }), |_| true)
}

/// Leaves out of an object what is null, and what is not wanted.
fn said(mut object: Value, is_wanted: impl Fn(&Value) -> bool) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null() && is_wanted(value));
    }
    object
}

fn table(plan: &Plan) -> String {
    let mut table = Table::new(&["KEY", "NEEDS", "FOR", "~TITLE"]);
    for task in &plan.tasks {
        let needs: Vec<&str> = task.needs.iter().map(|place| plan.tasks[*place].key.as_str()).collect();
        let who = task.agent.as_ref().or(task.capability.as_ref()).map_or("anyone", String::as_str);
        table.row([cell(&task.key), cell(needs.join(",")), cell(who), cell(&task.title)]);
    }
    table.shown()
}

/// Asks the person at the terminal whether the plan is to be run; without one the answer is no.
///
/// # Errors
/// Those of the ledger.
pub(crate) async fn is_approved(store: &Store, id: RunId, signals: &mut Signals, json: bool) -> Result<bool> {
    let story = store.read(RunShow { id }).await?;
    if !story.tasks.iter().any(waits_for_approval) {
        return Ok(false);
    }
    if json || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print::text(&format!("\nThe plan:\n{}", waiting(&story)));
    print::note("Run it? [y/N]");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = answer => line.ok().and_then(|line| line.ok()).unwrap_or_default(),
        _ = signals.next() => return Ok(false),
    };
    if !matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(false);
    }
    store.write(Approve { id }).await?;
    Ok(true)
}

/// Tells whether a task waits until a person approves its plan.
pub(crate) fn waits_for_approval(task: &Task) -> bool {
    task.reason.as_deref() == Some(APPROVAL)
}

fn waiting(story: &RunStory) -> String {
    let mut table = Table::new(&[">ID", "KEY", "FOR", "~TITLE"]);
    for task in story.tasks.iter().filter(|task| !task.state.is_over()) {
        let who = task.agent.as_ref().or(task.capability.as_ref()).map_or("anyone", String::as_str);
        table.row([cell(task.id), cell(task.key.as_deref().unwrap_or("")), cell(who), cell(&task.title)]);
    }
    table.shown()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_printed_is_the_same_plan() {
        let text = r#"{"goal": "all", "tasks": [
            {"key": "a", "title": "A", "run": "true", "capability": "work", "priority": "high", "timeout": "90s", "attempts": 2,
             "claims": ["src/**", "port:8080"], "outputs": ["a.md"], "verify": "test -s a.md", "at": "2026-01-31T07:00:00.5+01:00",
             "budget": {"usd": 0.1, "tokens": 5000}},
            {"key": "b", "prompt": "x", "needs": ["a"], "agent": "ann", "priority": "low", "at": "1h30m", "budget": {"usd": 20}},
            {"key": "c", "prompt": "y", "budget": {"tokens": 1}}]}"#;
        let plan = Plan::parse("plan.json", text.as_bytes()).expect("a plan");
        let printed = as_json(&plan);
        let again =
            Plan::parse("plan.json", printed.to_string().as_bytes()).expect("what is printed is a plan");
        assert_eq!(again, plan, "{printed}");
    }
}
