//! Why a task is not being worked on, in one sentence.
//!
//! Here lives the reading of a [`TaskStory`]: pure, no question to the ledger.

use crate::task::CHECK_GIVEN_BACK;
use crate::view::{AgentView, TaskStory};
use quorate_model::{AgentState, TaskState};

/// Says why the task is where it is and what would move it; `None` when it needs no explanation.
pub fn why(story: &TaskStory) -> Option<String> {
    let task = &story.task;
    match task.state {
        TaskState::Waiting => Some(waiting(story)),
        TaskState::Ready => Some(ready(story)),
        TaskState::Running if task.stuck => {
            Some("no sign of life for a while; it is only a warning, a timeout would stop it".into())
        }
        TaskState::Running if task.lease_until.is_some_and(|until| until < story.now) => {
            Some("its owner's lease has lapsed; the next health check gives it to another".into())
        }
        TaskState::Verifying if task.lease_until.is_none() => {
            Some("said to be done; waits for a node to run its check (start one with `quorate up`)".into())
        }
        TaskState::Parked => Some(parked(story)),
        TaskState::Failed | TaskState::Cancelled => task.reason.clone(),
        // A node has it. One that gave it back may have taken it again, and waits for the same as before.
        TaskState::Verifying => task.reason.clone().filter(|why| why.starts_with(CHECK_GIVEN_BACK)),
        TaskState::Running | TaskState::Completed => None,
    }
}

fn waiting(story: &TaskStory) -> String {
    let unmet: Vec<String> = story
        .needs
        .iter()
        .filter(|(_, state)| state != "completed")
        .map(|(need, state)| format!("{} ({state})", need.key))
        .collect();
    if !unmet.is_empty() {
        return format!("needs {}", unmet.join(", "));
    }
    match (story.task.due_at, &story.task.reason) {
        (Some(due), Some(reason)) if due > story.now => {
            format!("tried again at {} after: {reason}", crate::time::rfc3339(due))
        }
        (Some(due), _) if due > story.now => format!("not due before {}", crate::time::rfc3339(due)),
        _ => "due; the next health check makes it ready".into(),
    }
}

fn parked(story: &TaskStory) -> String {
    let reason = story.task.reason.as_deref().unwrap_or("a person parked it");
    match story.task.due_at {
        Some(until) => format!("parked until {}: {reason}", crate::time::rfc3339(until)),
        None => format!("parked: {reason} ({})", crate::goal::moves(&story.task)),
    }
}

fn ready(story: &TaskStory) -> String {
    let task = &story.task;
    if let Some(reason) = task.reason.as_ref().filter(|reason| reason.starts_with("waits for ")) {
        return reason.clone();
    }
    let able: Vec<&AgentView> = story.team.iter().filter(|view| could_take(view, story)).collect();
    let wanted = match (&task.agent, &task.capability) {
        (Some(agent), _) => format!("agent `{agent}`"),
        (None, Some(capability)) => format!("an agent with capability `{capability}`"),
        (None, None) if task.run.is_none() => "an agent that takes words, not only commands".into(),
        (None, None) => "an agent".into(),
    };
    if able.is_empty() {
        if let Some(what) = story.team.iter().find(|view| is_named(view, story)).map(takes_only) {
            return format!("nobody can take it: it is for {wanted}, which takes only {what}");
        }
        return format!("nobody can take it: it wants {wanted}, and the team has none");
    }
    let live: Vec<&&AgentView> = able.iter().filter(|view| is_live(view.state)).collect();
    if live.is_empty() {
        return format!(
            "no agent that could take it is running: {} ({wanted} is wanted; start one with `quorate up`)",
            states(&able)
        );
    }
    if live.iter().all(|view| view.state == AgentState::Paused) {
        return format!("all who can take it are paused: {}", names(&live));
    }
    format!("waits for its turn: {} can take it", names(&live))
}

fn could_take(view: &AgentView, story: &TaskStory) -> bool {
    let (agent, task) = (&view.agent, &story.task);
    let fits = match agent.takes.as_str() {
        "run" => task.run.is_some(),
        "prompt" => task.run.is_none(),
        _ => true,
    };
    let can = |capability: &String| agent.abilities().is_none_or(|own| own.contains(capability));
    match task.agent {
        Some(_) => fits && is_named(view, story),
        None => fits && task.capability.as_ref().is_none_or(can),
    }
}

/// Whether the task is for this agent alone.
fn is_named(view: &AgentView, story: &TaskStory) -> bool {
    story.task.agent.as_ref() == Some(&view.agent.name)
}

fn takes_only(view: &AgentView) -> &'static str {
    if view.agent.takes == "run" { "commands" } else { "words" }
}

fn is_live(state: AgentState) -> bool {
    !matches!(state, AgentState::Idle | AgentState::Stale | AgentState::Failed)
}

/// Names shown in a sentence at most.
const NAMES_SHOWN: usize = 4;

fn names(views: &[&&AgentView]) -> String {
    let mut names: Vec<&str> = views.iter().take(NAMES_SHOWN).map(|view| view.agent.name.as_str()).collect();
    if views.len() > NAMES_SHOWN {
        names.push("…");
    }
    names.join(", ")
}

fn states(views: &[&AgentView]) -> String {
    let shown: Vec<String> = views
        .iter()
        .take(NAMES_SHOWN)
        .map(|view| format!("{} is {}", view.agent.name, view.state.as_str()))
        .collect();
    shown.join(", ")
}
