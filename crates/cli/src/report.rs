//! The report of a run: what a person keeps.
//!
//! Here lives its Markdown and JSON, made from the ledger alone, and written under `.quorate/runs/ID/`. The same
//! ledger always gives the same report.

use crate::print::table::{Table, cell, coloured};
use crate::print::{self, style};
use quorate_model::goal::REPORT_KEY;
use quorate_model::{Error, Result, TaskState};
use quorate_service::task::Task;
use quorate_service::time::rfc3339;
use quorate_service::usage::Sum;
use quorate_service::view::{Attempt, RunStory};
use quorate_service::wire;
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Results longer than this are left to the JSON.
const RESULT_SHOWN: usize = 400;

/// Writes `report.md` and `report.json`; answers with their folder.
pub(crate) fn write(state: &Path, story: &RunStory) -> Result<PathBuf> {
    let folder = state.join("runs").join(story.run.id.to_string());
    quorate_store::private_folder(&folder).map_err(|e| cannot(&folder, &e))?;
    let json = serde_json::to_string_pretty(&as_json(story)).unwrap_or_default();
    for (name, text) in [("report.md", markdown(story)), ("report.json", json)] {
        let (file, begun) = (folder.join(name), folder.join(format!(".{name}")));
        // Whoever reads it meanwhile sees the old one or the new one, never a part.
        let written = std::fs::write(&begun, text).and_then(|()| std::fs::rename(&begun, &file));
        written.map_err(|e| cannot(&file, &e))?;
    }
    Ok(folder)
}

fn cannot(path: &Path, e: &std::io::Error) -> Error {
    Error::failed(format!("cannot write {}: {e}", path.display()))
        .hint("the run itself is in the ledger: quorate runs show")
}

/// Returns the run with tasks and attempts as JSON.
pub(crate) fn as_json(story: &RunStory) -> Value {
    let mut value = wire::value(wire::RunStory::from(story));
    value["verdict"] = verdict(story).into();
    value
}

fn verdict(story: &RunStory) -> &'static str {
    match story.run.state.as_str() {
        "completed" => "completed",
        "running" => "unfinished",
        "cancelled" => "cancelled",
        _ => "failed",
    }
}

/// Returns the report as Markdown.
pub(crate) fn markdown(story: &RunStory) -> String {
    compose(story, table(story))
}

/// Returns the report for standard output: on a terminal the tasks stand in an aligned table.
pub(crate) fn shown(story: &RunStory) -> String {
    if !print::is_terminal() {
        return markdown(story);
    }
    // Items are broken between words; the table fits as it is, and what is quoted stays so.
    let item = |line: &str| if line.starts_with("- ") { print::folded(line, 2) } else { line.to_owned() };
    compose(story, aligned(story)).lines().map(|line| item(line) + "\n").collect()
}

fn compose(story: &RunStory, table: String) -> String {
    let mut text = String::new();
    heading(&mut text, story);
    if let Some(answer) = answer(story) {
        let _ = writeln!(text, "{}\n", print::lines(answer.trim_end()));
    }
    text.push_str(&table);
    text.push('\n');
    for task in
        story.tasks.iter().filter(|task| matches!(task.state, TaskState::Failed | TaskState::Cancelled))
    {
        trouble(&mut text, task, story);
    }
    results(&mut text, story);
    retried(&mut text, story);
    used(&mut text, story);
    text
}

fn heading(text: &mut String, story: &RunStory) {
    let run = &story.run;
    let took = run.finished_at.unwrap_or(story.now) - run.created_at;
    let _ = writeln!(text, "# {}\n", print::one_line(&run.goal));
    let _ = writeln!(
        text,
        "**{}** · run {} · {} · {}\n",
        verdict(story),
        run.id,
        rfc3339(run.created_at),
        seconds(took)
    );
    if let Some(reason) = &run.reason {
        let _ = writeln!(text, "{}\n", print::one_line(reason));
    }
}

/// What the agent wrote that put the results of a planned run together.
fn answer(story: &RunStory) -> Option<String> {
    match serde_json::from_str(written(story)?.result.as_deref()?) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// The task that put the results of a planned run together.
fn written(story: &RunStory) -> Option<&Task> {
    let is_planned = story.tasks.iter().any(crate::goal::is_planning);
    let is_report = |task: &&Task| {
        let key = task.key.as_deref().unwrap_or_default();
        task.state == TaskState::Completed && key.split('-').next() == Some(REPORT_KEY)
    };
    story.tasks.iter().rev().find(is_report).filter(|_| is_planned)
}

/// Tells what was used of models, if anything was.
fn used(text: &mut String, story: &RunStory) {
    if story.usage.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Used: {}\n", print::cost::spent(story.counted.ever));
    for line in print::cost::by_model(&story.usage) {
        let _ = writeln!(text, "- {}", print::one_line(&line));
    }
    let tasks = Sum::by(&story.usage, |entry| entry.task);
    for (id, sum) in tasks {
        let name = story.tasks.iter().find(|task| task.id == id).map(Task::named).unwrap_or_default();
        let _ = writeln!(text, "- task {name}: {}", print::cost::spent(sum.spent()));
    }
    text.push('\n');
}

fn table(story: &RunStory) -> String {
    let mut text =
        String::from("| task | outcome | time | attempts | agent | proof |\n|---|---|---:|---:|---|---|\n");
    for task in &story.tasks {
        let [title, outcome, time, attempts, agent, proof] = row(story, task).map(|cell| escaped(&cell));
        let _ = writeln!(text, "| {title} | {outcome} | {time} | {attempts} | {agent} | {proof} |");
    }
    text
}

fn aligned(story: &RunStory) -> String {
    let mut table = Table::new(&["~TASK", "OUTCOME", ">TIME", ">TRIES", "AGENT", "PROOF"]);
    for task in &story.tasks {
        let [title, outcome, time, attempts, agent, proof] = row(story, task);
        let outcome = coloured(style::of_state(task.state.as_str()), outcome);
        table.row([cell(title), outcome, cell(time), cell(attempts), cell(agent), cell(proof)]);
    }
    table.shown()
}

fn row(story: &RunStory, task: &Task) -> [String; 6] {
    let latest = attempts(story, task).last();
    let time = latest.and_then(|a| Some(seconds(a.ended_at? - a.started_at))).unwrap_or_default();
    let proof = latest.and_then(|a| a.evidence.clone()).unwrap_or_default();
    let agent = task.owner.clone().unwrap_or_default();
    [task.title.clone(), outcome(task), time, task.attempt.to_string(), agent, proof]
}

fn attempts<'a>(story: &'a RunStory, task: &Task) -> impl DoubleEndedIterator<Item = &'a Attempt> + use<'a> {
    let id = task.id;
    story.attempts.iter().filter(move |attempt| attempt.task == id)
}

/// A completed task whose result says `{"skipped": "why"}` did its work by finding that there was none to do.
fn outcome(task: &Task) -> String {
    match skipped(task) {
        Some(_) => "skipped".into(),
        None => task.state.to_string(),
    }
}

fn skipped(task: &Task) -> Option<String> {
    if task.state != TaskState::Completed {
        return None;
    }
    let value: Value = serde_json::from_str(task.result.as_deref()?).ok()?;
    Some(value.get("skipped")?.as_str()?.to_owned())
}

fn trouble(text: &mut String, task: &Task, story: &RunStory) {
    let _ = writeln!(text, "## {}: {}\n", task.state, print::one_line(&task.title));
    if let Some(reason) = &task.reason {
        let _ = writeln!(text, "{}\n", print::one_line(reason));
    }
    let Some(last) = attempts(story, task).last() else { return };
    if let Some(tail) = last.tail.as_deref().filter(|tail| !tail.trim().is_empty()) {
        let _ = writeln!(text, "```text\n{}\n```\n", print::lines(tail.trim_end()).replace("```", "'''"));
    }
    let _ = writeln!(text, "All of its output: `quorate logs {}`\n", task.id);
}

fn results(text: &mut String, story: &RunStory) {
    let skipped: Vec<(&Task, String)> = story.tasks.iter().filter_map(|t| Some((t, skipped(t)?))).collect();
    if !skipped.is_empty() {
        let _ = writeln!(text, "## Skipped\n");
        for (task, why) in &skipped {
            let _ = writeln!(text, "- **{}**: {}", name(task), print::one_line(why));
        }
        text.push('\n');
    }
    // What was planned is seen by the tasks, and the report stands at the top.
    let is_shown =
        |task: &&Task| crate::goal::is_planning(task) || written(story).is_some_and(|w| w.id == task.id);
    let with_result: Vec<(&Task, String)> = story
        .tasks
        .iter()
        .filter(|task| !is_shown(task))
        .filter(|task| !skipped.iter().any(|(other, _)| other.id == task.id))
        .filter_map(|task| Some((task, result(task)?)))
        .collect();
    if with_result.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Results\n");
    for (task, shown) in with_result {
        let _ = writeln!(text, "- **{}**: {shown}", name(task));
    }
    text.push('\n');
}

fn name(task: &Task) -> String {
    print::one_line(task.key.as_deref().unwrap_or(&task.title))
}

/// A result in one line: its `summary` if it has one, else the JSON if it is short.
fn result(task: &Task) -> Option<String> {
    let text = task.result.as_deref()?;
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    match value.get("summary").and_then(Value::as_str) {
        Some(summary) => Some(print::one_line(summary)),
        None if text.len() > RESULT_SHOWN => Some("see report.json".into()),
        None => Some(format!("`{}`", print::one_line(text).replace('`', "'"))),
    }
}

/// Tells of attempts that did not succeed where a later one was made; a single failure is told with its task.
fn retried(text: &mut String, story: &RunStory) {
    let lost = |a: &&Attempt| a.outcome.as_deref().is_some_and(|outcome| outcome != "completed");
    let again = |a: &&Attempt| story.tasks.iter().any(|task| task.id == a.task && task.attempt > 1);
    let failed: Vec<&Attempt> = story.attempts.iter().filter(lost).filter(again).collect();
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(text, "## Attempts that did not succeed\n");
    for attempt in failed {
        let name =
            story.tasks.iter().find(|task| task.id == attempt.task).map(Task::named).unwrap_or_default();
        let reason = print::one_line(attempt.reason.as_deref().unwrap_or(""));
        let outcome = attempt.outcome.as_deref().unwrap_or_default().replace('_', " ");
        let _ = writeln!(
            text,
            "- task {name}, attempt {} by {}: {outcome}: {reason}",
            attempt.number, attempt.agent
        );
    }
    text.push('\n');
}

fn seconds(ms: i64) -> String {
    match ms {
        ms if ms < 60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        ms => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
    }
}

fn escaped(text: &str) -> String {
    print::one_line(text).replace('|', "\\|")
}
