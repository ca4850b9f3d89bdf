//! How things stand: the whole in a few lines, or one task.

use super::task::{cut, shown};
use super::tool::{Tool, Turn};
use quorate_model::{Result, TaskId};
use quorate_service::view;
use quorate_service::wire;
use schemars::JsonSchema;
use serde::Deserialize;

/// Lines of one kind that are shown; more are counted.
const LINES_MAX: usize = 20;
/// Of a title, a reason or a message, so many characters are shown.
const WORDS_MAX: usize = 80;
/// Of a prompt or a result, so many characters are shown.
const TEXT_MAX: usize = 20_000;

/// How things stand
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    /// Only this task, with its attempts and its whole result
    task_id: Option<i64>,
}

impl Tool for Status {
    const NAME: &'static str = "status";
    const ABOUT: &'static str = "Shows how things stand: tasks by state, who works at what, open runs. With `task_id`: that task, why it \
is where it is, its attempts and its result.";
    const READS: bool = true;

    async fn call(self, turn: &Turn) -> Result<String> {
        match self.task_id {
            Some(id) => {
                let story = turn.desk.store().read(view::Story { id: TaskId(id) }).await?;
                Ok(task(&wire::Story::from(&story)))
            }
            None => {
                turn.desk.check().await?;
                Ok(overview(&turn.desk.store().read(view::Status).await?))
            }
        }
    }
}

fn overview(status: &view::Overview) -> String {
    let counts: Vec<String> =
        status.counts.iter().filter(|(_, n)| *n > 0).map(|(state, n)| format!("{n} {state}")).collect();
    let mut lines =
        vec![if counts.is_empty() { "no tasks".into() } else { format!("tasks: {}", counts.join(", ")) }];
    let runs = status.runs.iter().filter(|view| view.run.state == "running");
    push(&mut lines, runs.map(|view| format!("run {}: {}", view.run.id, cut(&view.run.goal, WORDS_MAX))));
    let agents = status.agents.iter().map(|view| {
        let task = view.task.map_or_else(String::new, |task| format!(" at task {task}"));
        let why =
            view.agent.reason.as_ref().map_or_else(String::new, |why| format!(": {}", cut(why, WORDS_MAX)));
        format!("{} {}{task}{why}", view.agent.name, view.state.as_str())
    });
    push(&mut lines, agents);
    lines.join("\n")
}

/// Adds lines, and how many there are more.
fn push(lines: &mut Vec<String>, more: impl Iterator<Item = String>) {
    let more: Vec<String> = more.collect();
    let left = more.len().saturating_sub(LINES_MAX);
    lines.extend(more.into_iter().take(LINES_MAX));
    if left > 0 {
        lines.push(format!("… and {left} more"));
    }
}

fn task(story: &wire::Story) -> String {
    let task = &story.task;
    let key = task.key.as_ref().map_or_else(String::new, |key| format!(" ({key})"));
    let mut lines = vec![format!("task {}{key}: {}, {}", task.id, task.title, task.state)];
    let mut say = |what: &str, words: Option<&str>| {
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            lines.push(format!("{what}: {}", cut(words, TEXT_MAX)));
        }
    };
    say("why", story.why.as_deref());
    say("owner", task.agent.as_deref());
    say("command", story.run.as_deref());
    say("what to do", story.prompt.as_deref());
    say("progress", task.message.as_deref());
    if !task.result.is_null() {
        say("result", Some(&shown(&task.result)));
    }
    let attempts = story.attempts.iter().map(|attempt| {
        let why = attempt.reason.as_deref().unwrap_or("");
        let outcome = attempt.outcome.as_deref().unwrap_or("running");
        format!("attempt {} by {}: {outcome} {}", attempt.attempt, attempt.agent, cut(why, WORDS_MAX))
    });
    push(&mut lines, attempts);
    let needs = story.needs.iter().map(|need| format!("needs {} ({}): {}", need.id, need.key, need.state));
    push(&mut lines, needs);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_counted() {
        let mut lines = Vec::new();
        push(&mut lines, (0..LINES_MAX + 3).map(|n| n.to_string()));
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES_MAX + 1, Some("… and 3 more")));
    }
}
