//! `quorate task show`: everything a person asks about one task.

use crate::print::style::{self, Colour, paint};
use crate::print::{self, cost, time};
use crate::task::titled;
use quorate_model::{TaskState, duration};
use quorate_service::view::{Attempt, TaskStory};
use quorate_service::why::why;
use quorate_service::wire;

/// Lines of an attempt's last output that are shown.
const TAIL_LINES: usize = 12;

/// Returns the story in words.
pub(crate) fn words(story: &TaskStory) -> String {
    let task = &story.task;
    let state = task.state.as_str();
    let mut text = format!(
        "task {}  {}  {}\n",
        task.id,
        paint(style::of_state(state), state),
        print::one_line(&titled(task))
    );
    facts(story).into_iter().for_each(|(what, fact)| text.push_str(&format!("  {what:<9} {fact}\n")));
    for (what, words) in [("run", &task.run), ("prompt", &task.prompt), ("check", &task.verify)] {
        if let Some(words) = words {
            text.push_str(&format!("  {what}\n{}", print::indent(&print::lines(words), 4)));
        }
    }
    text.push_str(&needs(story));
    text.push_str(&attempts(story));
    text
}

fn facts(story: &TaskStory) -> Vec<(&'static str, String)> {
    let task = &story.task;
    let mut facts = Vec::new();
    let mut say = |what, fact: Option<String>| facts.extend(fact.map(|fact| (what, print::one_line(&fact))));
    say("why", why(story));
    let has_it = matches!(task.state, TaskState::Running | TaskState::Verifying | TaskState::Completed);
    say(
        if has_it { "owner" } else { "last owner" },
        task.owner.as_ref().map(|owner| {
            format!("{owner}, attempt {} of {}, term {}", task.attempt, task.max_attempts, task.term)
        }),
    );
    let lease = |until| {
        format!("{} {}", if until < story.now { "ended" } else { "ends" }, time::ago(story.now, until))
    };
    say("lease", task.lease_until.map(lease));
    let word = task.message.as_deref().unwrap_or("");
    say("progress", (task.progress > 0 || !word.is_empty()).then(|| format!("{} % {word}", task.progress)));
    say("run id", task.run_id.map(|run| format!("{run} (quorate runs show {run})")));
    say("for", task.agent.clone().map(|agent| format!("agent {agent} only")));
    say("wants", task.capability.clone());
    say("priority", (task.priority != 1).then(|| wire::priority(task.priority).to_owned()));
    say("timeout", task.timeout_ms.map(duration::short));
    say("claims", (!task.claims.is_empty()).then(|| task.claims.join(", ")));
    let holds: Vec<&str> = story.claims.iter().map(|claim| claim.resource.as_str()).collect();
    say("holds", (!holds.is_empty()).then(|| holds.join(", ")));
    say("outputs", (!task.outputs.is_empty()).then(|| task.outputs.join(", ")));
    let dependents: Vec<String> = story.dependents.iter().map(ToString::to_string).collect();
    say("needed by", (!dependents.is_empty()).then(|| dependents.join(", ")));
    say(
        "used",
        Some(cost::of_budget(story.counted.spent, story.counted.budget)).filter(|used| !used.is_empty()),
    );
    say("added", Some(time::ago(story.now, task.created_at)));
    say("ended", task.finished_at.map(|at| time::ago(story.now, at)));
    say("result", task.result.clone());
    facts
}

fn needs(story: &TaskStory) -> String {
    let line = |(need, state): &(quorate_service::task::NeedResult, String)| {
        let result =
            need.result.as_ref().map_or_else(String::new, |result| format!("  {}", print::one_line(result)));
        let key = if need.key == need.id.to_string() { String::new() } else { format!(" ({})", need.key) };
        format!("    {}{key}  {}{result}\n", need.id, paint(style::of_state(state), state))
    };
    let lines: String = story.needs.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("  needs\n{lines}") }
}

fn attempts(story: &TaskStory) -> String {
    let mut text = String::new();
    for attempt in &story.attempts {
        text.push_str(&attempt_line(attempt, story.now));
        let own: Vec<_> =
            story.usage.iter().filter(|entry| entry.attempt == attempt.number).cloned().collect();
        for line in cost::by_model(&own) {
            text.push_str(&format!("       {}\n", print::one_line(&line)));
        }
    }
    if let Some(tail) =
        story.attempts.last().and_then(|last| last.tail.as_deref()).filter(|tail| !tail.trim().is_empty())
    {
        let lines: Vec<&str> = tail.trim_end().lines().collect();
        let shown = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        let heading = paint(Colour::Dim, &format!("last output (all of it: quorate logs {})", story.task.id));
        text.push_str(&format!("  {heading}\n{}", print::indent(&print::lines(&shown), 4)));
    }
    if text.is_empty() { text } else { format!("  attempts\n{text}") }
}

fn attempt_line(attempt: &Attempt, now: i64) -> String {
    let outcome = attempt.outcome.as_deref().unwrap_or("running");
    let took = match attempt.ended_at {
        Some(at) => format!("took {}", time::rough(at - attempt.started_at)),
        None => format!("began {}", time::ago(now, attempt.started_at)),
    };
    let evidence = attempt.evidence.as_ref().map_or_else(String::new, |evidence| format!(" ({evidence})"));
    let reason =
        attempt.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", print::one_line(reason)));
    let outcome = paint(style::of_state(outcome), outcome);
    format!(
        "    {}  {}  {outcome}{evidence}, {took}{reason}\n",
        attempt.number,
        print::one_line(&attempt.agent)
    )
}
